//! In: the network's int8 input. Out: one score a class and the foreground map. May fail; never falls back in silence.
//!
//! The engine is a closed set of backends behind one enum: the int8 engine and tract on the CPU, TensorRT on a Jetson.
//! This folder is the only one that knows tract and TensorRT.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::preprocess::Tensor;

pub use int8::StepTime;
pub use int8::kernels::Isa;

pub mod int8;
mod onnx;
pub mod qdq;
pub mod tensorrt;
#[cfg_attr(not(feature = "tract"), path = "engine/no_tract.rs")]
mod tract;

/// Threads that an engine may have at most: more than any board has cores.
pub const MAX_THREADS: usize = int8::MAX_THREADS;

/// Which backend the configuration asks for.
///
/// ```
/// use fcam::engine::Backend;
///
/// assert_eq!("cpu".parse(), Ok(Backend::Cpu));
/// let error = "gpu".parse::<Backend>().unwrap_err();
/// assert_eq!(error, "unknown backend `gpu`: use auto, cpu, tract or tensorrt");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The fastest one that this machine has; the choice is logged.
    #[default]
    Auto,
    /// The CPU: int8 networks by the int8 engine, float ones by tract.
    Cpu,
    /// Stock tract in float, whatever the network: slow with int8, for comparison.
    Tract,
    /// TensorRT, on a Jetson.
    Tensorrt,
}

impl std::str::FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "tract" => Ok(Self::Tract),
            "tensorrt" => Ok(Self::Tensorrt),
            _ => Err(format!("unknown backend `{text}`: use auto, cpu, tract or tensorrt")),
        }
    }
}

/// How a network is to be run.
///
/// ```
/// use fcam::engine::{Isa, Settings};
///
/// let settings: Settings = toml::from_str("threads = 4")?; // as in [engine] of a station file
/// assert_eq!((settings.threads, settings.isa), (4, Isa::Auto));
/// assert!(toml::from_str::<Settings>("threats = 4").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Which backend.
    pub backend: Backend,
    /// Threads that compute it, the caller's among them: 1 to [`MAX_THREADS`].
    pub threads: usize,
    /// The instruction set of the int8 kernels.
    pub isa: Isa,
    /// Names of the convolutions that an int8 network may have in float. Any other is refused.
    pub float_layers: Vec<String>,
    /// Where TensorRT's shim and engines are.
    pub tensorrt: tensorrt::TensorRtOptions,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            threads: 1,
            isa: Isa::Auto,
            float_layers: Vec::new(),
            tensorrt: tensorrt::TensorRtOptions::default(),
        }
    }
}

/// How far the building of an engine is, which takes minutes.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::engine::Building;
///
/// let building = Building { phase: "Building".into(), step: 3, steps: 8, elapsed: Duration::from_secs(42) };
/// let words = "building the TensorRT engine, which takes minutes: 42 s, Building 3 of 8";
/// assert_eq!(building.to_string(), words);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Building {
    /// What is done, in the builder's own words; empty if it does not tell.
    pub phase: String,
    /// Steps of it that are done.
    pub step: i32,
    /// Steps that it has; 0 if unknown.
    pub steps: i32,
    /// Time since the start.
    pub elapsed: Duration,
}

/// Who is told while an engine is built, about once a second. `Break` gives the building up.
pub type BuildProgress<'a> = dyn FnMut(&Building) -> ControlFlow<()> + 'a;

/// Tells the log that an engine is being built, at once and then every ten seconds.
pub fn log_building() -> impl FnMut(&Building) -> ControlFlow<()> {
    let mut next = Duration::ZERO;
    move |building| {
        if building.elapsed >= next {
            log::info!("{building}");
            next = building.elapsed + Duration::from_secs(10);
        }
        ControlFlow::Continue(())
    }
}

impl std::fmt::Display for Building {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { phase, step, steps, elapsed } = self;
        write!(f, "building the TensorRT engine, which takes minutes: {} s", elapsed.as_secs())?;
        match (phase.is_empty(), *steps) {
            (true, _) => Ok(()),
            (false, 0) => write!(f, ", {phase}"),
            (false, steps) => write!(f, ", {phase} {step} of {steps}"),
        }
    }
}

/// What a network must look like, from the bundle's manifest.
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::engine::{Engine, Error, Settings, Shape};
///
/// let bundle = Bundle::embedded()?;
/// let shape = Shape { classes: 3, ..bundle.shape() }; // it has more
/// let engine = Engine::load(bundle.onnx(), shape, Settings::default());
/// assert!(matches!(engine, Err(Error::Shape(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Input and map width, pixels.
    pub width: usize,
    /// Input and map height, pixels.
    pub height: usize,
    /// Length of the logits, at least 2.
    pub classes: usize,
}

/// What the network says of one picture.
///
/// ```
/// use fcam::engine::Prediction;
/// use fcam::verdict::Judge;
///
/// // Made by hand, as for a test of what comes after the network: a picture of 2 x 2 pixels, the first class is good.
/// let map = [0.0, 0.0, 0.9, 0.0];
/// let prediction = Prediction { logits: &[0.0, 1.1], scores: &[0.25, 0.75], map: &map, width: 2, height: 2 };
/// assert_eq!(Judge::new(0, 0.5).score(&prediction), 0.75);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Prediction<'a> {
    /// Logits, one a class, finite.
    pub logits: &'a [f32],
    /// Softmax of the logits: one score a class, 0..1, in the order of the manifest.
    pub scores: &'a [f32],
    /// Foreground probability, 0..1, `height * width` values row by row, at the network's input resolution.
    pub map: &'a [f32],
    /// Pixels across the map.
    pub width: usize,
    /// Pixels down the map.
    pub height: usize,
}

/// What goes wrong with a network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not an ONNX network that tract can read.
    #[error("cannot load the network: {0}")]
    Load(String),
    /// Inputs or outputs are not those of the contract.
    #[error("the network is not an fcam network: {0}")]
    Shape(String),
    /// The wanted backend is not in this build or not on this machine.
    #[error("engine.backend = \"{backend}\" cannot run here: {reason}")]
    Unavailable {
        /// The backend asked for.
        backend: &'static str,
        /// Why not, and what to do.
        reason: String,
    },
    /// The system gives no more threads.
    #[error(
        "cannot start the {threads} threads of engine.threads: {source}; use fewer, or allow more tasks (TasksMax= of the service, \
         ulimit -u) and more memory"
    )]
    Threads {
        /// How many were asked for, the caller's own among them.
        threads: usize,
        /// What the system says.
        source: std::io::Error,
    },
    /// TensorRT cannot make an engine of the network.
    #[error("no TensorRT engine: {0}")]
    Build(String),
    /// Building was given up because that was asked for.
    #[error("the TensorRT engine was not built: stopped")]
    Stopped,
    /// A name in `engine.float_layers` that allows nothing.
    #[error("engine.float_layers names `{node}`, {reason}: take it off the list")]
    FloatLayer {
        /// The name.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The backend failed on a picture.
    #[error("the network failed on a picture: {0}")]
    Run(String),
    /// NaN or infinity came out.
    #[error("the network's {output} is not a finite number: the bundle is broken, deploy another")]
    NotFinite {
        /// `logits` or `map`.
        output: &'static str,
    },
}

/// A loaded network.
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::engine::{Backend, Engine, Settings, Shape};
/// use fcam::preprocess::Tensor;
///
/// let bundle = Bundle::embedded()?;
/// let settings = Settings { backend: Backend::Cpu, ..Settings::default() };
/// let mut engine = Engine::load(bundle.onnx(), bundle.shape(), settings)?;
/// let Shape { width, height, classes } = engine.shape();
/// let prediction = engine.run(&Tensor { width, height, values: &vec![0; width * height * 3] })?;
/// assert_eq!((prediction.scores.len(), prediction.map.len()), (classes, width * height));
/// assert!((prediction.scores.iter().sum::<f32>() - 1.0).abs() < 1e-5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    backend: Loaded,
    shape: Shape,
    logits: Vec<f32>,
    scores: Vec<f32>,
    map: Vec<f32>,
}

enum Loaded {
    Int8(Box<int8::Network>),
    Tract(Box<tract::Network>),
    Tensorrt(Box<tensorrt::Network>),
}

impl Engine {
    /// Loads a network once, and plans how it is run. Where an engine must be built first, the log is told how far it
    /// is.
    pub fn load(onnx: &[u8], shape: Shape, settings: Settings) -> Result<Self, Error> {
        Self::load_watched(onnx, shape, settings, &mut log_building())
    }

    /// The same; `progress` is told how far it is, where an engine must be built first.
    pub fn load_watched(
        onnx: &[u8],
        shape: Shape,
        settings: Settings,
        progress: &mut BuildProgress,
    ) -> Result<Self, Error> {
        let loaded = Self::read(onnx, shape, settings, progress);
        give_back();
        loaded
    }

    fn read(onnx: &[u8], shape: Shape, settings: Settings, progress: &mut BuildProgress) -> Result<Self, Error> {
        let proto = qdq::parse(onnx)?;
        let order = qdq::check_interface(&proto, shape)?;
        let Settings { backend, threads, .. } = settings;
        if backend != Backend::Tract {
            qdq::check_float_layers(&proto, &settings.float_layers)?;
        }
        let quantised = qdq::is_quantised(&proto);
        let on_tensorrt = match backend {
            Backend::Auto => automatic(onnx, quantised, shape, &settings, progress)?,
            Backend::Tensorrt => Some(required(onnx, quantised, shape, &settings, progress)?),
            Backend::Cpu | Backend::Tract => None,
        };
        let backend = match on_tensorrt {
            Some(network) => Loaded::Tensorrt(Box::new(network)),
            None if quantised && backend != Backend::Tract => {
                Loaded::Int8(Box::new(planned(&proto, shape, &settings)?))
            }
            None => Loaded::Tract(Box::new(tract::Network::load(onnx, quantised, order, shape, threads)?)),
        };
        Ok(Self {
            backend,
            shape,
            logits: vec![0.0; shape.classes],
            scores: vec![0.0; shape.classes],
            map: vec![0.0; shape.width * shape.height],
        })
    }

    /// The shape this was loaded with.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What runs, in words, for logs and reports; names the backend and how it computes.
    pub fn describe(&self) -> String {
        match &self.backend {
            Loaded::Int8(network) => network.describe(),
            Loaded::Tract(network) => network.describe(),
            Loaded::Tensorrt(network) => network.describe(),
        }
    }

    /// True if TensorRT computes it.
    pub fn is_tensorrt(&self) -> bool {
        matches!(self.backend, Loaded::Tensorrt(_))
    }

    /// True if the int8 engine computes it.
    pub fn is_int8(&self) -> bool {
        matches!(self.backend, Loaded::Int8(_))
    }

    /// How long each step of an int8 network takes on one thread, medians of `runs`; none for other networks.
    pub fn profile(&mut self, tensor: &Tensor, runs: usize) -> Option<Vec<StepTime>> {
        match &mut self.backend {
            Loaded::Int8(network) => Some(network.profile(tensor, runs)),
            Loaded::Tract(_) | Loaded::Tensorrt(_) => None,
        }
    }

    /// The most int8 multiply-adds a second that this core can do with the chosen kernels, measured; none without such
    /// kernels.
    pub fn peak(&self) -> Option<f64> {
        match &self.backend {
            Loaded::Int8(network) => Some(network.peak()),
            Loaded::Tract(_) | Loaded::Tensorrt(_) => None,
        }
    }

    /// Runs the network on one tensor of the loaded shape.
    pub fn run(&mut self, tensor: &Tensor) -> Result<Prediction<'_>, Error> {
        if (tensor.width, tensor.height) != (self.shape.width, self.shape.height) {
            let (width, height) = (tensor.width, tensor.height);
            return Err(Error::Shape(format!("its input is not {width} x {height}")));
        }
        match &mut self.backend {
            Loaded::Int8(network) => {
                network.run(tensor)?;
                self.logits.copy_from_slice(network.output(0));
                self.map.copy_from_slice(network.output(1));
            }
            Loaded::Tract(network) => network.run(tensor, &mut self.logits, &mut self.map)?,
            Loaded::Tensorrt(network) => network.run(tensor, &mut self.logits, &mut self.map)?,
        }
        if !self.logits.iter().all(|value| value.is_finite()) {
            return Err(Error::NotFinite { output: "logits" });
        }
        if !self.map.iter().all(|value| value.is_finite()) {
            return Err(Error::NotFinite { output: "map" });
        }
        softmax(&self.logits, &mut self.scores);
        let Shape { width, height, .. } = self.shape;
        Ok(Prediction { logits: &self.logits, scores: &self.scores, map: &self.map, width, height })
    }
}

/// An int8 network with the contract's outputs, of the shape that the manifest says.
fn planned(proto: &onnx::ModelProto, shape: Shape, settings: &Settings) -> Result<int8::Network, Error> {
    let Shape { width, height, classes } = shape;
    let network = int8::Network::plan(proto, [height, width], &["logits", "map"], settings)?;
    let wanted = [[1, 1, classes], [height, width, 1]];
    for (output, wanted) in network.outputs().iter().zip(wanted) {
        let found = [output.height, output.width, output.channels];
        if found != wanted {
            return Err(Error::Shape(format!("an output has the shape {found:?}, the manifest says {wanted:?}")));
        }
    }
    Ok(network)
}

/// Gives free memory back to the system: loading a network takes twice as much as it keeps.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and locks the heaps that it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Runs code that reads bytes from elsewhere: it may panic on what it did not foresee, and a camera must outlive that.
/// The panic has been printed by then.
fn caught<T>(who: &str, work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let words = payload.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        format!("{who} panicked: {words}")
    })
}

/// `backend = "auto"`: TensorRT where it can be used. What stands in its way is told, as a warning where somebody has
/// installed the shim.
fn automatic(
    onnx: &[u8],
    quantised: bool,
    shape: Shape,
    settings: &Settings,
    progress: &mut BuildProgress,
) -> Result<Option<tensorrt::Network>, Error> {
    let here = tensorrt::Here::look(&settings.tensorrt);
    let machine = match here {
        tensorrt::Here::Usable(machine) => machine,
        tensorrt::Here::Absent { .. } => {
            log::info!("engine.backend = \"auto\" takes the CPU: {}", here.problem().unwrap_or_default());
            return Ok(None);
        }
        tensorrt::Here::Broken { .. } => {
            log::warn!("engine.backend = \"auto\" takes the CPU: {}", here.problem().unwrap_or_default());
            return Ok(None);
        }
    };
    match tensorrt::Network::load(onnx, quantised, shape, &machine, &settings.tensorrt, progress) {
        Ok(network) => {
            log::info!(
                "engine.backend = \"auto\" takes TensorRT: {} finds {}",
                machine.shim().display(),
                machine.facts.gpu
            );
            Ok(Some(network))
        }
        Err(Error::Stopped) => Err(Error::Stopped),
        Err(error) => {
            log::warn!("engine.backend = \"auto\" takes the CPU, which is slower: {error}");
            Ok(None)
        }
    }
}

/// `backend = "tensorrt"`: that or an error.
fn required(
    onnx: &[u8],
    quantised: bool,
    shape: Shape,
    settings: &Settings,
    progress: &mut BuildProgress,
) -> Result<tensorrt::Network, Error> {
    let here = tensorrt::Here::look(&settings.tensorrt);
    match (here.problem(), here) {
        (None, tensorrt::Here::Usable(machine)) => {
            tensorrt::Network::load(onnx, quantised, shape, &machine, &settings.tensorrt, progress)
        }
        (reason, _) => {
            let reason = format!("{}; engine.backend = \"cpu\" computes without it", reason.unwrap_or_default());
            Err(Error::Unavailable { backend: "tensorrt", reason })
        }
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

/// exp(x - max) / sum: the shift keeps exp finite for any finite logits.
fn softmax(logits: &[f32], scores: &mut [f32]) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (score, logit) in scores.iter_mut().zip(logits) {
        *score = (logit - top).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_loader_is_an_error() {
        let error = caught::<()>("tract", || panic!("index {} out of range", 7)).unwrap_err();
        assert_eq!(error, "tract panicked: index 7 out of range");
        assert_eq!(caught("tract", || 3), Ok(3));
    }

    #[cfg(not(feature = "tract"))]
    #[test]
    fn without_tract_it_says_what_to_do() {
        let shape = Shape { width: 64, height: 64, classes: 2 };
        for (quantised, cure) in [(true, "engine.backend = \"auto\""), (false, "export an int8 bundle")] {
            let error = tract::Network::load(&[], quantised, [0, 1], shape, 1).err().unwrap().to_string();
            assert!(error.contains("built without tract") && error.contains(cure), "{error}");
        }
    }

    #[test]
    fn planes_are_exact_and_in_order() {
        let mut planes = [0.0; 6];
        to_planes(&[-128, 0, 127, 1, 2, 3], &mut planes);
        assert_eq!(planes, [-1.0, 1.0 / 128.0, 0.0, 2.0 / 128.0, 127.0 / 128.0, 3.0 / 128.0]);
    }

    #[test]
    fn softmax_is_shift_invariant_and_finite() {
        let (mut near, mut far) = ([0.0; 3], [0.0; 3]);
        softmax(&[1.0, 2.0, 3.0], &mut near);
        softmax(&[1001.0, 1002.0, 1003.0], &mut far);
        for (near, far) in near.iter().zip(&far) {
            assert!((near - far).abs() < 1e-6);
        }
        assert!((near.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((near[2] - 0.665_241).abs() < 1e-5); // e^0 / (e^0 + e^-1 + e^-2)
    }
}
