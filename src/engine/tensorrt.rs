//! TensorRT, on a Jetson. In: an ONNX file. Out: its answers, computed by an engine that TensorRT has built for this
//! very machine.
//!
//! Nothing of NVIDIA's is in the program: a shim (board/jetson/trt_shim.cc), compiled on the device, is opened at run
//! time from one of a few places. TensorRT is not touched before the shim's probe has found a driver, a device, and the
//! major version that it was compiled for. Building an engine takes minutes, and says so; engines are kept in a folder
//! (`cache`). Whether one computes what the bundle's proof says is for [`crate::proof`] to find out, as with every
//! backend.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{BuildProgress, Building, Error, Shape};
use crate::preprocess::Tensor;

mod cache;
#[cfg_attr(not(feature = "tensorrt"), path = "tensorrt/no_shim.rs")]
mod shim;
#[cfg_attr(not(feature = "tensorrt"), allow(dead_code))]
mod told;

use cache::Cache;
pub use cache::{Entry, Key};
use shim::{Session, Shim};
pub use told::Facts;
use told::{Kind, Progress, Refusal};

/// Where shims are looked for unless the station file names one; beside the program is the last.
const PLACES: [&str; 2] = ["/usr/lib/fcam/libfcam_trt.so", "/usr/local/lib/fcam/libfcam_trt.so"];
const FILE: &str = "libfcam_trt.so";

/// Time between two looks at a build.
const TICK: Duration = Duration::from_secs(1);

/// TensorRT's parser calls itself for each level of a graph.
const STACK: usize = 16 << 20;

/// The section `[engine.tensorrt]` of the station file.
///
/// ```
/// use fcam::engine::tensorrt::{Here, TensorRtOptions, engines};
///
/// let folder = tempfile::tempdir()?;
/// let options = TensorRtOptions { shim: folder.path().join("shim.so"), cache: folder.path().into(), keep: 2 };
/// let problem = Here::look(&options).problem().ok_or("a shim")?;
/// assert!(problem.ends_with("board/jetson/install.sh compiles it on a Jetson"), "{problem}");
/// assert!(engines(&options).is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TensorRtOptions {
    /// The shim; looked for in the usual places if empty.
    pub shim: PathBuf,
    /// The folder of engines.
    pub cache: PathBuf,
    /// Engines in it at most.
    pub keep: usize,
}

impl Default for TensorRtOptions {
    fn default() -> Self {
        Self { shim: PathBuf::new(), cache: "/var/cache/fcam/engines".into(), keep: 8 }
    }
}

/// What there is of TensorRT on this machine.
#[derive(Debug)]
pub enum Here {
    /// No shim in any of the places.
    Absent {
        /// Where it was looked for.
        places: Vec<PathBuf>,
    },
    /// A shim, and something is wrong with it or with what it needs.
    Broken {
        /// The shim.
        shim: PathBuf,
        /// What was found out anyway.
        facts: Facts,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// TensorRT can be used.
    Usable(Machine),
}

/// A machine on which TensorRT can be used.
#[derive(Debug)]
pub struct Machine {
    shim: &'static Shim,
    /// What it has.
    pub facts: Facts,
}

impl Machine {
    /// The shim.
    pub fn shim(&self) -> &Path {
        self.shim.path()
    }
}

impl Here {
    /// Looks for a shim and asks it. Nothing but the probe runs.
    pub fn look(options: &TensorRtOptions) -> Self {
        let places = places(&options.shim);
        let Some(path) = places.iter().find(|path| path.exists()) else { return Self::Absent { places } };
        let broken = |facts, reason| Self::Broken { shim: path.clone(), facts, reason };
        match Shim::open(path) {
            Err(reason) => broken(Facts::default(), reason),
            Ok(shim) => match shim.probe() {
                (facts, Ok(())) => Self::Usable(Machine { shim, facts }),
                (facts, Err(refusal)) => broken(facts, with_advice(&refusal)),
            },
        }
    }

    /// Why TensorRT cannot be used here; none if it can.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Usable(_) => None,
            Self::Absent { places } => {
                let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
                Some(format!(
                    "there is no shim at {}; board/jetson/install.sh compiles it on a Jetson",
                    places.join(", ")
                ))
            }
            Self::Broken { shim, reason, .. } => Some(format!("{}: {reason}", shim.display())),
        }
    }
}

fn places(configured: &Path) -> Vec<PathBuf> {
    if !configured.as_os_str().is_empty() {
        return vec![configured.to_owned()];
    }
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join(FILE)));
    PLACES.iter().map(PathBuf::from).chain(beside).collect()
}

fn with_advice(refusal: &Refusal) -> String {
    let advice = match refusal.kind {
        Kind::Device => {
            "does `cat /proc/driver/nvidia/version` or `tegrastats` answer, and is the user in group video?"
        }
        Kind::Library => "install TensorRT (nvidia-tensorrt, libnvonnxparsers) and run board/jetson/install.sh again",
        Kind::Cancelled | Kind::Other => return refusal.message.clone(),
    };
    format!("{}; {advice}", refusal.message)
}

/// The engines in the folder of `options`, the one used last first.
pub fn engines(options: &TensorRtOptions) -> Vec<Entry> {
    Cache::new(&options.cache, options.keep).list()
}

/// Where the engine of a network is kept, and whether it is there and sound.
pub fn kept(onnx: &[u8], int8: bool, machine: &Machine, options: &TensorRtOptions) -> (PathBuf, bool) {
    let (cache, key) = (Cache::new(&options.cache, options.keep), Key::new(onnx, &machine.facts, int8));
    (cache.path(&key), matches!(cache.read(&key), Ok(Some(_))))
}

/// Removes the engine of a network from the folder, so that it is built anew.
pub fn forget(onnx: &[u8], int8: bool, machine: &Machine, options: &TensorRtOptions) -> std::io::Result<()> {
    let key = Key::new(onnx, &machine.facts, int8);
    match std::fs::remove_file(Cache::new(&options.cache, options.keep).path(&key)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A network as a loaded engine.
pub(super) struct Network {
    session: Session,
    described: String,
}

impl Network {
    /// Takes the engine from the cache, or builds it and keeps it there. `int8` says that the network is a QDQ one.
    pub(super) fn load(
        onnx: &[u8],
        int8: bool,
        shape: Shape,
        machine: &Machine,
        options: &TensorRtOptions,
        progress: &mut BuildProgress,
    ) -> Result<Self, Error> {
        let Machine { shim, facts } = machine;
        let (cache, key) = (Cache::new(&options.cache, options.keep), Key::new(onnx, facts, int8));
        let path = cache.path(&key);
        let cached = cache.read(&key).and_then(|plan| match plan {
            Some(plan) => shim.load(&plan, shape).map(Some).map_err(|refusal| refusal.message),
            None => Ok(None),
        });
        let session = match cached {
            Ok(Some(session)) => {
                log::info!("TensorRT engine {}", path.display());
                session
            }
            Ok(None) => build(shim, onnx, int8, shape, &cache, &key, progress)?,
            Err(why) => {
                log::warn!("the TensorRT engine {} is built again: {why}", path.display());
                build(shim, onnx, int8, shape, &cache, &key, progress)?
            }
        };
        let how = [(session.zero_copy(), ", zero-copy"), (session.graph(), ", CUDA graph")];
        let how: String = how.iter().filter(|(yes, _)| *yes).map(|(_, words)| *words).collect();
        let Facts { tensorrt, gpu, capability, .. } = facts;
        let described = format!("tensorrt ({tensorrt}, {gpu} {capability}, {}{how})", key.flags);
        Ok(Self { session, described })
    }

    pub(super) fn describe(&self) -> String {
        self.described.clone()
    }

    /// Fills `logits` and `map`, whose lengths are those of the shape given at load.
    pub(super) fn run(&mut self, input: &Tensor, logits: &mut [f32], map: &mut [f32]) -> Result<(), Error> {
        super::to_planes(input.values, self.session.input());
        self.session.run().map_err(|refusal| Error::Run(format!("TensorRT: {}", refusal.message)))?;
        logits.copy_from_slice(self.session.logits());
        map.copy_from_slice(self.session.map());
        Ok(())
    }
}

/// Builds an engine, loads it, and keeps it if it could be loaded.
fn build(
    shim: &'static Shim,
    onnx: &[u8],
    int8: bool,
    shape: Shape,
    cache: &Cache,
    key: &Key,
    progress: &mut BuildProgress,
) -> Result<Session, Error> {
    let plan = build_watched(shim, onnx, int8, progress)?;
    let session = shim.load(&plan, shape).map_err(|refusal| Error::Build(refusal.message))?;
    let path = cache.path(key);
    match cache.write(key, &plan) {
        Ok(()) => log::info!("TensorRT engine built and kept: {}, {} KiB", path.display(), plan.len() >> 10),
        Err(error) => log::warn!(
            "the TensorRT engine cannot be kept in {}, and is built again at the next start: {error}; engine.tensorrt.cache names the folder",
            path.display()
        ),
    }
    Ok(session)
}

/// Builds in a thread of its own, so that whoever waits hears how far it is although TensorRT says nothing for minutes.
fn build_watched(shim: &Shim, onnx: &[u8], int8: bool, progress: &mut BuildProgress) -> Result<Vec<u8>, Error> {
    let start = Instant::now();
    let told = Progress::default();
    let built = std::thread::scope(|scope| {
        let (done, wait) = channel();
        let told = &told;
        let work = move || {
            let built = shim.build(onnx, int8, told);
            let _ = done.send(()); // the other side waits
            built
        };
        let thread = std::thread::Builder::new().name("build".into()).stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::Build(format!("the system gives no thread: {error}")))?;
        loop {
            let (phase, step, steps) = told.read();
            if progress(&Building { phase, step, steps, elapsed: start.elapsed() }).is_break() {
                told.cancel();
            }
            if wait.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        thread.join().map_err(|_| Error::Build("the building thread panicked: please report this".into()))
    })?;
    built.map_err(|refusal| match refusal.kind {
        Kind::Cancelled => Error::Stopped,
        _ => Error::Build(with_advice(&refusal)),
    })
}
