//! The int8 engine: a QDQ network computed in integers, from the camera's tensor to the scores and the map.
//!
//! # Arithmetic
//! This is the definition that every kernel obeys to the bit ([`kernels::portable`] is it as code):
//! - A tensor of scale s holds int8 values q, each worth q * s; the zero point is 0. Weights likewise, one scale an output channel.
//! - A convolution sums int8 * int8 in int32, from a start of round(bias / (s_in * s_w)). No sum can leave int32: weights of absurd
//!   scale next to a bias are made coarser at load.
//! - The sum becomes f32 (half to even); one fused multiply-add takes it times s_in * s_w / s_out (computed in f64, rounded to f32) plus
//!   what rounding the bias has left (in steps of s_out; without it one value in 500 of the first layer is a step off); the
//!   result is rounded to the nearest integer, half to even, and clamped: to int8, and to a ReLU, ReLU6 or Clip in steps of s_out.
//! - Add is round(clamp(a * (s_a / s_out) + b * (s_b / s_out))), in f32, each operation rounded. Requantisation is Add with one operand.
//! - AveragePool sums in int32 and multiplies once by s_in / s_out / count. MaxPool, nearest Resize and Concat move bytes.
//! - The float tail (after the last int8 layer) is f32: [`kernels::float`].
//! - A float convolution that the station file allows by name reads and writes float tensors: each output starts at its bias, then adds
//!   x * w for the taps inside of its input, row by row, column by column, channel by channel, then is clamped; product and sum are each
//!   rounded to f32. A QuantizeLinear after it is round(x / s), half to even, clamped to int8; a DequantizeLinear before it is q * s.
//!
//! # Shape
//! `layer_graph` reads the file's graph into layers, `plan` lays them out in one `arena` with weights that `pack` has arranged for the
//! chosen kernel, and a run walks the plan's steps on the threads of a `pool`. Nothing is allocated in a run.

use self::kernels::{Isa, Kernels};
use self::layer_graph::{LayerGraph, Unsupported};
use self::plan::Plan;
use self::pool::Pool;
use super::onnx::ModelProto;
use super::{Error, Settings, Shape, caught};
use crate::preprocess::Tensor;

mod arena;
#[cfg(fenced)]
mod fence;
pub mod kernels;
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

/// So many threads a network may have.
pub const MAX_THREADS: usize = pool::MAX_PARTS;

/// The scale of the network's input: the camera's tensor is (pixel - 128) / 128.
const INPUT_SCALE: f32 = 1.0 / 128.0;

/// A QDQ network as a plan of integer steps.
pub(super) struct Network {
    pool: Pool,
}

impl Network {
    /// Plans a checked network for the instruction set and the threads of `settings`, its float layers in float.
    pub(super) fn load(model: &ModelProto, shape: Shape, settings: &Settings) -> Result<Self, Error> {
        let kernels = kernels(settings.isa)?;
        let input = [shape.height, shape.width, 3];
        let graph = LayerGraph::read(model, input, &["logits", "map"], &settings.float_layers).map_err(refused)?;
        let wanted = [[1, 1, shape.classes], [shape.height, shape.width, 1]];
        for (index, wanted) in wanted.into_iter().enumerate() {
            let found = graph.output_shape(index).unwrap_or_default();
            if found != wanted {
                return Err(Error::Shape(format!("an output has the shape {found:?}, the manifest says {wanted:?}")));
            }
        }
        let threads = settings.threads.clamp(1, MAX_THREADS);
        let plan = caught("the planner", || Plan::new(&graph, kernels, Pool::parts(threads))).map_err(Error::Load)?;
        let pool = Pool::new(plan, threads).map_err(|source| Error::Threads { threads, source })?;
        Ok(Self { pool })
    }

    pub(super) fn describe(&self) -> String {
        let (plan, threads) = (self.pool.plan(), self.pool.threads());
        let isa = plan.kernels().isa.name();
        let floats = plan.steps().iter().filter(|step| step.label == layer_graph::FLOAT_CONV).count();
        let floats = if floats > 0 { format!(", {floats} in float") } else { String::new() };
        format!("cpu (int8, {isa}, {threads} thread{}{floats})", if threads == 1 { "" } else { "s" })
    }

    /// Fills `logits` and `map`, whose lengths are those of the shape given at load. Panics where a step did, on whichever thread.
    pub(super) fn run(&mut self, input: &Tensor, logits: &mut [f32], map: &mut [f32]) {
        self.pool.run(input.values);
        for (index, into) in [logits, map].into_iter().enumerate() {
            into.copy_from_slice(self.pool.output(index));
        }
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
                // SAFETY: the plan's own arena, one part, in order; the pool is borrowed mutably, so that its threads wait for a run.
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

/// The most multiply-adds a second that this core reaches with these kernels' instruction, in registers: the best of ten tries.
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
