//! Value by value: activations that clamp, sums of int8 tensors, and the functions of the float tail.

use super::{Clamp, Function, Op, Reader, Reason, Value, clamp_of};
use crate::engine::onnx::NodeProto;
use crate::engine::qdq::wiring::{input, name};

impl<'a> Reader<'a> {
    pub(super) fn clamp(&mut self, node: &'a NodeProto, clamp: Clamp) -> Reason<Value<'a>> {
        if clamp.low > clamp.high || clamp.low.is_nan() || clamp.high.is_nan() {
            return Err("its bounds are the wrong way round".into());
        }
        match self.value(node, 0)?.clone() {
            Value::Open(mut pending) => {
                pending.written.clear();
                let own = clamp_of(&mut pending.op).ok_or("stands behind a layer that takes no clamp")?;
                *own = own.then(clamp);
                Ok(Value::Open(pending))
            }
            Value::View(input) => {
                let fact = self.fact(input)?;
                let (size, channels) = ((fact.height, fact.width), fact.channels);
                Ok(self.open(node, Op::Requantize { input, clamp }, size, channels))
            }
            _ => self.map(node, Function::Clamp(clamp)),
        }
    }

    pub(super) fn binary(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        if let (Value::View(a), Value::View(b), "Add") = (self.value(node, 0)?, self.value(node, 1)?, &*node.op_type) {
            let (inputs, one, other) = ([*a, *b], self.fact(*a)?.clone(), self.fact(*b)?);
            if (one.height, one.width, one.channels) != (other.height, other.width, other.channels) {
                return Err("adds tensors of different shapes".into());
            }
            let op = Op::Add { inputs, clamp: Clamp::NONE };
            return Ok(self.open(node, op, (one.height, one.width), one.channels));
        }
        let (at, constant) = match (self.scalar(node, 1), self.scalar(node, 0)) {
            (Ok(Some(constant)), _) => (0, constant),
            (_, Ok(Some(constant))) if matches!(&*node.op_type, "Add" | "Mul") => (1, constant),
            _ => return Err("is neither a sum of int8 tensors nor a float tensor with one number".into()),
        };
        let function = match node.op_type.as_str() {
            "Add" => Function::Affine { factor: 1.0, term: constant },
            "Sub" => Function::Affine { factor: 1.0, term: -constant },
            "Mul" => Function::Affine { factor: constant, term: 0.0 },
            _ => Function::Affine { factor: 1.0 / constant, term: 0.0 },
        };
        self.map_of(node, input(node, at), function)
    }

    pub(super) fn map(&mut self, node: &'a NodeProto, function: Function) -> Reason<Value<'a>> {
        self.map_of(node, input(node, 0), function)
    }

    pub(super) fn map_of(&mut self, node: &'a NodeProto, source: &str, function: Function) -> Reason<Value<'a>> {
        let input = self.float_id(source)?;
        let fact = self.fact(input)?.clone();
        self.push(name(node), Op::Map { input, function }, fact).map(Value::Float)
    }
}
