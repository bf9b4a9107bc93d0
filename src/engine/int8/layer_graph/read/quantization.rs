//! QuantizeLinear and DequantizeLinear: how a tensor is int8 in the file. In: their scales and zero points. Out: int8
//! tensors, views of them, and quantised weights.

use std::rc::Rc;

use super::{Clamp, Fact, Op, Reader, Reason, Value};
use crate::engine::onnx::{NodeProto, TensorProto};
use crate::engine::qdq::tensor;
use crate::engine::qdq::wiring::{axis, input, name};

#[derive(Debug, Clone)]
pub(super) struct Quantized {
    pub(super) values: Vec<i8>,
    pub(super) scales: Vec<f32>,
    pub(super) dims: Vec<usize>,
}

impl Quantized {
    /// The real numbers: DequantizeLinear of ONNX.
    pub(super) fn floats(&self) -> Reason<Vec<f32>> {
        let rows = self.dims.first().copied().unwrap_or(0).max(1);
        let scales = spread(&self.scales, rows)?;
        let rows = self.values.chunks((self.values.len() / rows).max(1)).zip(scales);
        Ok(rows.flat_map(|(row, scale)| row.iter().map(move |value| f32::from(*value) * scale)).collect())
    }
}

impl<'a> Reader<'a> {
    /// The scales of a Q or DQ node, whose zero points must be as many int8 zeros.
    pub(super) fn scales(&self, node: &'a NodeProto) -> Reason<Vec<f32>> {
        let scales = self.floats(node, 1)?;
        match tensor::int8_zeros(self.constant(node, 2)?) {
            Some(zeros) if zeros == scales.len() => Ok(scales),
            _ => Err("its zero point is not one int8 zero a scale".into()),
        }
    }

    pub(super) fn quantize(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let scales = self.scales(node)?;
        if !scales.iter().all(|scale| scale.is_finite() && *scale > 0.0) {
            return Err("a scale is not a finite number above zero".into());
        }
        if let Value::Constant(tensor) = self.value(node, 0)? {
            let axis = axis(node, 1, tensor.dims.len());
            return quantize_constant(tensor, scales, axis).map(|w| Value::Weights(Rc::new(w)));
        }
        let [scale] = scales.as_slice() else { return Err("an activation has more than one scale".into()) };
        let scale = *scale;
        match self.value(node, 0)? {
            Value::View(id) if self.fact(*id)?.scale == Some(scale) => Ok(Value::Int8(*id)),
            Value::View(id) => {
                let (input, fact) = (*id, Fact { scale: Some(scale), ..self.fact(*id)?.clone() });
                self.push(name(node), Op::Requantize { input, clamp: Clamp::NONE }, fact).map(Value::Int8)
            }
            Value::Open(pending) if !matches!(pending.op, Op::FloatConv(_)) => {
                self.write(input(node, 0), Some(scale)).map(Value::Int8)
            }
            Value::Open(_) | Value::Float(_) => {
                let id = self.float_id(input(node, 0))?;
                let fact = Fact { scale: Some(scale), ..self.fact(id)?.clone() };
                self.push(name(node), Op::Quantize { input: id }, fact).map(Value::Int8)
            }
            Value::Int8(_) | Value::Weights(_) | Value::Constant(_) => Err("quantises what is not real".into()),
        }
    }

    pub(super) fn dequantize(&self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let scales = self.scales(node)?;
        match self.value(node, 0)? {
            Value::Int8(id) if Some(scales.as_slice()) == self.fact(*id)?.scale.as_ref().map(std::slice::from_ref) => {
                Ok(Value::View(*id))
            }
            Value::Weights(weights) if scales.len() != 1 && axis(node, 1, weights.dims.len()) != 0 => {
                Err("its axis is not that of its QuantizeLinear".into())
            }
            Value::Weights(weights) if weights.scales == scales => Ok(Value::Weights(Rc::clone(weights))),
            _ => Err("its scale is not that of its QuantizeLinear".into()),
        }
    }
}

/// The dimensions of a stored tensor.
pub(super) fn lengths(tensor: &TensorProto) -> Vec<usize> {
    tensor.dims.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect()
}

/// round(value / scale), half to even, clamped: QuantizeLinear of ONNX.
pub fn quantize(value: f32, scale: f32) -> i8 {
    (value / scale).round_ties_even().clamp(-128.0, 127.0) as i8
}

/// Weights by their scales: one for all, or one for each row of the first axis.
fn quantize_constant(tensor: &TensorProto, scales: Vec<f32>, axis: i64) -> Reason<Quantized> {
    let values: Vec<f32> = tensor::floats(tensor).ok_or("its weights are not float32")?.collect();
    let dims = lengths(tensor);
    let rows = *dims.first().ok_or("quantises a single number")?;
    if values.is_empty() || values.len() != dims.iter().product::<usize>() {
        return Err("its weights are empty".into());
    }
    if scales.len() != 1 && (axis != 0 || scales.len() != rows) {
        return Err("has scales that are not along the output channels".into());
    }
    let each = spread(&scales, rows)?;
    let rows = values.chunks(values.len() / rows).zip(&each);
    let values = rows.flat_map(|(row, scale)| row.iter().map(|value| quantize(*value, *scale))).collect();
    Ok(Quantized { values, scales, dims })
}

pub(super) fn spread(scales: &[f32], channels: usize) -> Reason<Vec<f32>> {
    match scales {
        [scale] => Ok(vec![*scale; channels]),
        _ if scales.len() == channels => Ok(scales.to_vec()),
        _ => Err(format!("{} scales for {channels} channels", scales.len())),
    }
}
