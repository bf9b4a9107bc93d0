//! Value by value: activations that clamp, sums and differences of int8 tensors, and the functions of the float tail.

use std::rc::Rc;

use super::quantization::Quantized;
use super::{Clamp, Constant, Fact, Function, Id, Op, Reader, Reason, Value, clamp_of, fits};
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
        if matches!(&*node.op_type, "Add" | "Sub")
            && let Some(inputs) = self.int8_pair(node)?
        {
            return self.sum(node, inputs);
        }
        let (at, constant) = match (self.scalar(node, 1), self.scalar(node, 0)) {
            (Ok(Some(constant)), _) => (0, constant),
            (_, Ok(Some(constant))) if matches!(&*node.op_type, "Add" | "Mul") => (1, constant),
            _ => {
                return Err("is neither a sum or difference of int8 tensors nor a float tensor with one number".into());
            }
        };
        let function = match node.op_type.as_str() {
            "Add" => Function::Affine { factor: 1.0, term: constant },
            "Sub" => Function::Affine { factor: 1.0, term: -constant },
            "Mul" => Function::Affine { factor: constant, term: 0.0 },
            _ => Function::Affine { factor: 1.0 / constant, term: 0.0 },
        };
        self.map_of(node, input(node, at), function)
    }

    /// The int8 tensors that a node reads, if both its inputs are: two views, or a view and a constant map.
    fn int8_pair(&mut self, node: &'a NodeProto) -> Reason<Option<[Id; 2]>> {
        match (self.value(node, 0)?, self.value(node, 1)?) {
            (Value::View(a), Value::View(b)) => Ok(Some([*a, *b])),
            (Value::View(view), Value::Weights(map)) => {
                let (view, map) = (*view, Rc::clone(map));
                Ok(Some([view, self.constant_map(input(node, 1), &map)?]))
            }
            (Value::Weights(map), Value::View(view)) => {
                let (view, map) = (*view, Rc::clone(map));
                Ok(Some([self.constant_map(input(node, 0), &map)?, view]))
            }
            _ => Ok(None),
        }
    }

    /// A quantised constant as a tensor: one, however many nodes read it.
    fn constant_map(&mut self, name: &'a str, map: &Quantized) -> Reason<Id> {
        if let Some(id) = self.maps.get(name) {
            return Ok(*id);
        }
        let (&[1, channels, height, width], &[scale]) = (map.dims.as_slice(), map.scales.as_slice()) else {
            return Err("its constant is not a map [1, C, H, W] with one scale".into());
        };
        // ONNX would stretch it where the other tensor is flat.
        if (height, width) == (1, 1) {
            return Err("its constant is a single pixel, not a map".into());
        }
        fits(height, width, channels)?;
        let mut values = vec![0; map.values.len()];
        for (channel, plane) in map.values.chunks_exact(height * width).enumerate() {
            for (to, value) in values.iter_mut().skip(channel).step_by(channels).zip(plane) {
                *to = *value;
            }
        }
        let id = self.facts.len();
        self.facts.push(Fact { height, width, channels, scale: Some(scale) });
        self.constants.push(Constant { id, values });
        self.maps.insert(name, id);
        Ok(id)
    }

    fn sum(&self, node: &'a NodeProto, [a, b]: [Id; 2]) -> Reason<Value<'a>> {
        let (one, other) = (self.fact(a)?, self.fact(b)?);
        let subtract = node.op_type == "Sub";
        if (one.height, one.width, one.channels) != (other.height, other.width, other.channels) {
            return Err(format!("{} tensors of different shapes", if subtract { "subtracts" } else { "adds" }));
        }
        let op = Op::Add { inputs: [a, b], subtract, clamp: Clamp::NONE };
        Ok(self.open(node, op, (one.height, one.width), one.channels))
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
