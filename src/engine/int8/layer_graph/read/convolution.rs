//! Layers with weights: Conv, in int8 or in float, and Gemm, which is a 1 x 1 convolution here.

use std::rc::Rc;

use super::quantization::{Quantized, lengths, spread};
use super::window::window;
use super::{Clamp, Conv, Fact, FloatConv, Op, Reader, Reason, Value, Window, fits};
use crate::engine::onnx::NodeProto;
use crate::engine::qdq::rules::how_to_allow;
use crate::engine::qdq::wiring::{attribute, input, name};

impl<'a> Reader<'a> {
    pub(super) fn weights(&self, node: &'a NodeProto) -> Reason<Rc<Quantized>> {
        match self.value(node, 1)? {
            Value::Weights(weights) => Ok(Rc::clone(weights)),
            _ => Err("its weights are not int8".into()),
        }
    }

    pub(super) fn bias(&self, node: &'a NodeProto, channels: usize) -> Reason<Vec<f32>> {
        if input(node, 2).is_empty() {
            return Ok(vec![0.0; channels]);
        }
        let bias = self.floats(node, 2)?;
        if bias.len() == channels { Ok(bias) } else { Err(format!("{} biases for {channels} channels", bias.len())) }
    }

    pub(super) fn conv(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        if self.float_layers.iter().any(|listed| listed == name(node)) {
            return self.float_conv(node);
        }
        let id = self.view(node, 0).map_err(|_| not_listed(node, "its data is"))?;
        let weights = self.weights(node).map_err(|_| not_listed(node, "its weights are"))?;
        let (window, group, out, size) = convolved(node, self.fact(id)?, &weights.dims)?;
        let conv = Conv {
            input: id,
            weights: weights.values.clone(),
            scales: spread(&weights.scales, out)?,
            bias: self.bias(node, out)?,
            group,
            window,
            clamp: Clamp::NONE,
        };
        Ok(self.open(node, Op::Conv(conv), size, out))
    }

    /// One that the station file lists: data and weights are taken as the real numbers that they stand for.
    pub(super) fn float_conv(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let id = self.float_id(input(node, 0))?;
        let (weights, dims) = match self.value(node, 1)? {
            Value::Weights(quantised) => (quantised.floats()?, quantised.dims.clone()),
            _ => (self.floats(node, 1)?, lengths(self.constant(node, 1)?)),
        };
        let (window, group, out, size) = convolved(node, self.fact(id)?, &dims)?;
        if weights.len() != dims.iter().product::<usize>() {
            return Err("its weights are not as many as they claim".into());
        }
        let bias = self.bias(node, out)?;
        let conv = FloatConv { input: id, weights, bias, group, window, clamp: Clamp::NONE };
        Ok(self.open(node, Op::FloatConv(conv), size, out))
    }

    /// A Gemm over one pixel is a 1 x 1 convolution.
    pub(super) fn gemm(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let id = self.view(node, 0)?;
        let fact = self.fact(id)?.clone();
        let weights = self.weights(node)?;
        let &[out, each] = weights.dims.as_slice() else { return Err("its weights are no matrix".into()) };
        let float = |name: &str| node.attribute.iter().find(|a| a.name == name).map_or(1.0, |a| a.f);
        let plain = attribute(node, "transB", 0) == 1
            && attribute(node, "transA", 0) == 0
            && float("alpha") == 1.0
            && float("beta") == 1.0;
        if !plain || (fact.height, fact.width, fact.channels) != (1, 1, each) {
            return Err("is not one vector by a transposed matrix".into());
        }
        let window = Window { size: [1, 1], stride: [1, 1], dilation: [1, 1], pads: [0; 4] };
        let conv = Conv {
            input: id,
            weights: weights.values.clone(),
            scales: spread(&weights.scales, out)?,
            bias: self.bias(node, out)?,
            group: 1,
            window,
            clamp: Clamp::NONE,
        };
        Ok(self.open(node, Op::Conv(conv), (1, 1), out))
    }
}

/// Why a float convolution is refused, and what allows it.
fn not_listed(node: &NodeProto, what: &str) -> String {
    format!("{what} not int8; {}", how_to_allow(name(node)))
}

/// Window, groups, output channels, and height and width of what comes out of a Conv with weights of these dimensions.
fn convolved(node: &NodeProto, fact: &Fact, dims: &[usize]) -> Reason<(Window, usize, usize, (usize, usize))> {
    let &[out, each, rows, columns] = dims else { return Err("is not two-dimensional".into()) };
    let window = Window { size: [rows, columns], ..window(node)? };
    let group = usize::try_from(attribute(node, "group", 1)).map_err(|_| "has a negative group")?;
    if group == 0 || each.checked_mul(group) != Some(fact.channels) || !out.is_multiple_of(group) || out == 0 {
        return Err(format!("{group} groups do not fit {} channels in and {out} out", fact.channels));
    }
    let size = window.output(fact.height, fact.width).ok_or("its kernel is larger than its input")?;
    let [top, left, bottom, right] = window.pads;
    fits(fact.height + top + bottom, fact.width + left + right, fact.channels)?;
    // Groups that do not fit a kernel are computed as one, with zeros between them.
    fits(out.saturating_mul(fact.channels), rows, columns)?;
    Ok((window, group, out, size))
}
