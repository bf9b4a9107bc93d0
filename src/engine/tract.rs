//! The CPU backend: tract loads the ONNX, types, declutters and optimises it once; the plan's state is kept.
//!
//! Stock tract computes a QDQ network in float: it dequantises before each convolution. That is said in `describe`, and the
//! results are those of the quantised network, because every Q/DQ pair still rounds.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::SimpleState;

use super::{Error, Shape};
use crate::preprocess::Tensor as Input;

pub(super) struct Network {
    state: SimpleState<TypedFact, Box<dyn TypedOp>>,
    input: Tensor,
    threads: usize,
    quantised: bool,
    /// Which of the plan's outputs is `logits` and which is `map`.
    order: [usize; 2],
}

impl Network {
    pub(super) fn load(onnx: &[u8], shape: Shape, threads: usize) -> Result<Self, Error> {
        let proto = super::qdq::parse(onnx)?;
        let order = super::qdq::check_interface(&proto, shape)?;
        let quantised = super::qdq::is_quantised(&proto);
        let input = Tensor::zero::<f32>(&[1, 3, shape.height, shape.width]).map_err(load)?;
        let plan = tract_onnx::onnx()
            .model_for_proto_model(&proto)
            .and_then(|model| model.with_input_fact(0, f32::fact(input.shape()).into()))
            .and_then(|model| model.into_optimized())
            .and_then(|model| model.into_runnable())
            .map_err(load)?;
        let state = plan.spawn().map_err(load)?;
        Ok(Self { state, input, threads, quantised, order })
    }

    pub(super) fn describe(&self) -> String {
        let arithmetic = if self.quantised { "int8 network computed in float" } else { "float" };
        format!("cpu (tract 0.23.9, {arithmetic}, {} thread)", self.threads.min(1))
    }

    /// Fills `logits` and `map`, whose lengths are those of the shape given at load.
    pub(super) fn run(&mut self, input: &Input, logits: &mut [f32], map: &mut [f32]) -> Result<(), Error> {
        let mut planes = self.input.try_as_plain_ram_mut().map_err(run)?;
        to_planes(input.values, planes.as_slice_mut::<f32>().map_err(run)?);
        let outputs = self.state.run(tvec!(self.input.clone().into_tvalue())).map_err(run)?;
        for (index, into) in self.order.into_iter().zip([logits, map]) {
            let output = outputs.get(index).ok_or_else(|| Error::Run("an output is missing".into()))?;
            copy(output, into)?;
        }
        Ok(())
    }
}

/// int8 NHWC to float NCHW, value / 128: exactly what the network's first QuantizeLinear turns back into the int8.
fn to_planes(values: &[i8], planes: &mut [f32]) {
    let size = planes.len() / 3;
    for (channel, plane) in planes.chunks_exact_mut(size.max(1)).enumerate() {
        for (out, pixel) in plane.iter_mut().zip(values.chunks_exact(3)) {
            *out = f32::from(pixel.get(channel).copied().unwrap_or_default()) / 128.0;
        }
    }
}

fn copy(output: &TValue, into: &mut [f32]) -> Result<(), Error> {
    let view = output.try_as_plain_ram().map_err(run)?;
    let values = view.as_slice::<f32>().map_err(run)?;
    if values.len() != into.len() {
        return Err(Error::Shape(format!("an output has {} values, the manifest says {}", values.len(), into.len())));
    }
    into.copy_from_slice(values);
    Ok(())
}

fn load(error: TractError) -> Error {
    Error::Load(format!("{error:#}"))
}

fn run(error: TractError) -> Error {
    Error::Run(format!("{error:#}"))
}
