//! The int8 engine: a QDQ network computed in integers, from the camera's tensor to the scores and the map.
//!
//! # Arithmetic
//! This is the definition that every kernel obeys to the bit (`kernels::portable` is it as code):
//! - A tensor of scale s holds int8 values q, each worth q * s; the zero point is 0. Weights likewise, one scale an
//!   output channel.
//! - A convolution sums int8 * int8 in int32, from a start of round(bias / (s_in * s_w)). No sum can leave int32:
//!   weights of absurd scale next to a bias are made coarser at load.
//! - The sum becomes f32 (half to even); one fused multiply-add takes it times s_in * s_w / s_out (computed in f64,
//!   rounded to f32) plus what rounding the bias has left (in steps of s_out; without it one value in 500 of the first
//!   layer is a step off); the result is rounded to the nearest integer, half to even, and clamped: to int8, and to a
//!   ReLU, ReLU6 or Clip in steps of s_out.
//! - Add is round(clamp(a * (s_a / s_out) + b * (s_b / s_out))), in f32, each operation rounded. Sub is Add with -s_b,
//!   requantisation is Add with one operand.
//! - AveragePool sums in int32 and multiplies once by s_in / s_out / count. MaxPool, nearest Resize and Concat move
//!   bytes.
//! - The float tail (after the last int8 layer) is f32: `kernels::float`.
//! - A float convolution that the station file allows by name reads and writes float tensors: each output starts at its
//!   bias, then adds x * w for the taps inside of its input, row by row, column by column, channel by channel, then is
//!   clamped; product and sum are each rounded to f32. A QuantizeLinear after it is round(x / s), half to even, clamped
//!   to int8; a DequantizeLinear before it is q * s.
//!
//! # Shape
//! `layer_graph` reads the file's graph into layers, `plan` lays them out in one `arena` with weights that `pack` has
//! arranged for the chosen kernel, and a run walks the plan's steps on the threads of a `pool`. Nothing is allocated in
//! a run.

use self::kernels::{Isa, Kernels};
use self::layer_graph::{LayerGraph, Unsupported};
use self::plan::Plan;
use self::pool::Pool;
use super::onnx::ModelProto;
use super::{Error, Settings, caught, qdq};
use crate::preprocess::Tensor;

mod arena;
#[cfg(fenced)]
mod fence;
pub(crate) mod kernels;
mod layer_graph;
mod pack;
mod plan;
mod pool;
#[cfg(fenced)]
mod shadow;
mod step;
#[cfg(test)]
pub(crate) use pool::tests as sabotage;
#[cfg(test)]
mod tests;

/// Threads that a network may have at most.
pub const MAX_THREADS: usize = pool::MAX_PARTS;

/// The scale of the network's input: the camera's tensor is (pixel - 128) / 128.
const INPUT_SCALE: f32 = 1.0 / 128.0;

/// A QDQ network as a plan of integer steps. A bundle's is run by [`super::Engine`]; anybody's can be, too:
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::engine::{Settings, int8::Network};
/// use fcam::preprocess::Tensor;
///
/// let bundle = Bundle::embedded()?;
/// let mut network = Network::load(bundle.onnx(), &Settings::default())?;
/// let [height, width] = network.input();
/// network.run(&Tensor { width, height, values: &vec![0; width * height * 3] })?;
/// for (index, output) in network.outputs().iter().enumerate() {
///     let values = network.output(index);
///     assert_eq!(values.len(), output.height * output.width * output.channels);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Network {
    pool: Pool,
    input: [usize; 2],
    outputs: Vec<Output>,
}

/// An output of a network: `height * width * channels` values, row by row, the channels of a pixel side by side (ONNX
/// has them in planes). What has no rows and pixels in the file, such as logits, is one pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name in the file.
    pub name: String,
    /// Rows.
    pub height: usize,
    /// Pixels a row.
    pub width: usize,
    /// Values a pixel.
    pub channels: usize,
}

impl Network {
    /// Loads an ONNX file with QuantizeLinear and DequantizeLinear nodes, whatever its outputs mean. Its only input is
    /// float32 [1, 3, H, W], quantised with scale 1/128 and zero point 0; all its outputs are computed. Of `settings`,
    /// threads, instruction set and float layers count.
    ///
    /// # Errors
    /// [`Error::Load`] names the node that the int8 engine does not know, [`Error::Shape`] what is wrong with the file,
    /// [`Error::Threads`] is of the system.
    pub fn load(onnx: &[u8], settings: &Settings) -> Result<Self, Error> {
        let model = qdq::parse(onnx)?;
        let (input, outputs) = qdq::interface(&model)?;
        if !qdq::is_quantised(&model) {
            return Err(Error::Load("it has no QuantizeLinear: export an int8 network, or use tract".into()));
        }
        qdq::check_float_layers(&model, &settings.float_layers)?;
        Self::plan(&model, input, &outputs, settings)
    }

    /// Plans a checked network; `input` is its height and width, `outputs` the names of what is wanted of it.
    pub(super) fn plan(
        model: &ModelProto,
        input: [usize; 2],
        outputs: &[&str],
        settings: &Settings,
    ) -> Result<Self, Error> {
        let kernels = kernels(settings.isa)?;
        let [height, width] = input;
        let graph = LayerGraph::read(model, [height, width, 3], outputs, &settings.float_layers).map_err(refused)?;
        let shapes = outputs.iter().enumerate().map(|(index, name)| {
            let [height, width, channels] = graph.output_shape(index).unwrap_or_default();
            Output { name: (*name).to_owned(), height, width, channels }
        });
        let outputs = shapes.collect();
        let threads = settings.threads.clamp(1, MAX_THREADS);
        let plan = caught("the planner", || Plan::new(&graph, kernels, Pool::parts(threads))).map_err(Error::Load)?;
        let pool = Pool::new(plan, threads).map_err(|source| Error::Threads { threads, source })?;
        Ok(Self { pool, input, outputs })
    }

    /// Height and width of the input, pixels.
    pub fn input(&self) -> [usize; 2] {
        self.input
    }

    /// What it computes, in the order of the file.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Computes all outputs of a picture, without allocating.
    ///
    /// # Errors
    /// [`Error::Shape`] where the tensor has another size than the input.
    ///
    /// # Panics
    /// Where a step did, on whichever thread.
    pub fn run(&mut self, input: &Tensor) -> Result<(), Error> {
        let [height, width] = self.input;
        if (input.height, input.width, input.values.len()) != (height, width, height * width * 3) {
            return Err(Error::Shape(format!("its input is {width} x {height} pixels of three values")));
        }
        self.pool.run(input.values);
        Ok(())
    }

    /// The values of an output after a run, by its place among [`Self::outputs`]: empty of one that there is not.
    pub fn output(&self, index: usize) -> &[f32] {
        if index < self.outputs.len() { self.pool.output(index) } else { &[] }
    }

    /// What runs, in words: instruction set, threads, layers in float.
    pub fn describe(&self) -> String {
        let (plan, threads) = (self.pool.plan(), self.pool.threads());
        let isa = plan.kernels().isa.name();
        let floats = plan.steps().iter().filter(|step| step.label == layer_graph::FLOAT_CONV).count();
        let floats = if floats > 0 { format!(", {floats} in float") } else { String::new() };
        format!("cpu (int8, {isa}, {threads} thread{}{floats})", if threads == 1 { "" } else { "s" })
    }

    /// What the core can do at most with the chosen kernels, multiply-adds a second.
    pub(super) fn peak(&self) -> f64 {
        peak(self.pool.plan().kernels())
    }

    /// Runs `runs` times on one thread and gives each step's median time in nanoseconds.
    pub(super) fn profile(&mut self, input: &Tensor, runs: usize) -> Vec<StepTime> {
        let plan = self.pool.plan();
        let mut times: Vec<Vec<u64>> = vec![Vec::with_capacity(runs); plan.steps().len()];
        for _ in 0..runs.max(1) {
            for (step, times) in plan.steps().iter().zip(&mut times) {
                plan.fence(step, 0, 1);
                let start = std::time::Instant::now();
                // SAFETY: the plan's own arena, one part, in order; the pool is borrowed mutably, so that its threads
                // wait for a run.
                unsafe { step.run(plan.kernels(), plan.base(), input.values, 0, 1) };
                times.push(start.elapsed().as_nanos() as u64);
            }
        }
        plan.unfence();
        let median = |mut times: Vec<u64>| {
            times.sort_unstable();
            times.get(times.len() / 2).copied().unwrap_or(0)
        };
        let named = plan.steps().iter().zip(times);
        named
            .map(|(step, times)| StepTime {
                name: step.name.clone(),
                label: step.label,
                macs: step.macs,
                nanos: median(times),
            })
            .collect()
    }
}

/// The most multiply-adds a second that this core reaches with these kernels' instruction, in registers: the best of
/// ten tries.
fn peak(kernels: &Kernels) -> f64 {
    let rounds = 200_000;
    let once = || {
        let start = std::time::Instant::now();
        // SAFETY: only kernels that this CPU can execute are handed out.
        let macs = unsafe { (kernels.peak)(rounds) };
        (macs * rounds) as f64 / start.elapsed().as_secs_f64()
    };
    (0..10).map(|_| once()).fold(0.0, f64::max)
}

/// How long one step takes.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StepTime {
    /// The layer's name in the file.
    pub name: String,
    /// What it is.
    pub label: &'static str,
    /// Multiply-adds.
    pub macs: u64,
    /// Median time, nanoseconds.
    pub nanos: u64,
}

fn kernels(isa: Isa) -> Result<&'static Kernels, Error> {
    isa.kernels().ok_or_else(|| Error::Unavailable {
        backend: isa.name(),
        reason: "this CPU does not have that instruction set; use engine.isa = \"auto\"".into(),
    })
}

fn refused(error: Unsupported) -> Error {
    Error::Load(format!(
        "the int8 engine cannot compute {error}; engine.backend = \"tract\" computes all in float, slowly"
    ))
}
