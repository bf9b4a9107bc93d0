//! Stock tract on the CPU, for float networks and for comparison: tract loads the ONNX, types, declutters and optimises
//! it once; the plan's state is kept.
//!
//! Stock tract computes a QDQ network in float: it dequantises before each convolution. That is said in `describe`, and
//! the results are those of the quantised network, because every Q/DQ pair still rounds.

use tract_core::internal::bail;
use tract_core::plan::SimpleState;
use tract_onnx::prelude::*;

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
    /// A checked file; `order` is that of its outputs.
    pub(super) fn load(
        onnx: &[u8],
        quantised: bool,
        order: [usize; 2],
        shape: Shape,
        threads: usize,
    ) -> Result<Self, Error> {
        let input = Tensor::zero::<f32>(&[1, 3, shape.height, shape.width]).map_err(load)?;
        let spawn = || {
            let model = tract_onnx::onnx().model_for_read(&mut &*onnx)?;
            let model = model.with_input_fact(0, f32::fact(input.shape()).into())?.into_typed()?;
            check_sizes(&model)?;
            model.into_optimized()?.into_runnable()?.spawn()
        };
        let state = caught(spawn).map_err(Error::Load)?;
        Ok(Self { state, input, threads, quantised, order })
    }

    pub(super) fn describe(&self) -> String {
        let arithmetic = if self.quantised { "int8 network computed in float" } else { "float" };
        format!("cpu (tract 0.23.9, {arithmetic}, {} thread)", self.threads.min(1))
    }

    /// Fills `logits` and `map`, whose lengths are those of the shape given at load.
    pub(super) fn run(&mut self, input: &Input, logits: &mut [f32], map: &mut [f32]) -> Result<(), Error> {
        let mut planes = self.input.try_as_plain_ram_mut().map_err(run)?;
        super::to_planes(input.values, planes.as_slice_mut::<f32>().map_err(run)?);
        let Self { state, input, .. } = self;
        let outputs = caught(|| state.run(tvec!(input.clone().into_tvalue()))).map_err(Error::Run)?;
        for (index, into) in self.order.into_iter().zip([logits, map]) {
            let output = outputs.get(index).ok_or_else(|| Error::Run("an output is missing".into()))?;
            copy(output, into)?;
        }
        Ok(())
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

/// The largest tensor inside a network, in values: sixteen float planes of the largest input that a bundle may have.
const MAX_VALUES: i64 = 16 * 2048 * 2048;

/// A few bytes of a broken or hostile file can ask for a tensor of any size, and running out of memory ends the
/// process.
fn check_sizes(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes() {
        for output in &node.outputs {
            let values = output.fact.shape.volume().to_i64()?;
            if !(0..=MAX_VALUES).contains(&values) {
                bail!("`{}` makes a tensor of {values} values, the limit is {MAX_VALUES}", node.name);
            }
        }
    }
    Ok(())
}

/// A loader of someone else's may panic on what it did not foresee, and a camera must outlive that. What the panic
/// broke is thrown away at load, and at run is what tract overwrites on the next picture.
fn caught<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    super::caught("tract", work)?.map_err(|error| format!("{error:#}"))
}

fn load(error: TractError) -> Error {
    Error::Load(format!("{error:#}"))
}

fn run(error: TractError) -> Error {
    Error::Run(format!("{error:#}"))
}
