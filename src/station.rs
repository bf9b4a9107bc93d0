//! In: a camera, a bundle and sinks. Out: one outcome for every part, in order and in time, until told to stop.
//!
//! ```text
//! capture ──────→ inspect ──────→ actuate    never drops; past its due time a verdict is a fault
//!    │               └──────────→ record     drops first, and counts
//!    ├ every-frame: queue N, one more is a fault for that part; free-run: keeps the newest, counts the dropped
//!    └ external: READY is low while N wait; a trigger that comes anyway is a fault for that part
//! actuate ─→ line, and an outbox a channel ([`crate::sink`])
//! supervise ─ looks at the watchdogs of all
//! ```
//!
//! Rule D is kept here: the line gives every part a sequence number, and each number is closed by exactly one outcome
//! ([`Counts::balanced`]). One more thread has other bundles ready, where there is a [`Releases`]. These threads live
//! here alone; a sink or a trigger that waits for its own device has one of its own.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::bundle::Bundle;
use crate::camera::{Camera, Colors, Frame, Geometry};
use crate::clock;
use crate::engine::{self, Building};
use crate::handshake::Condition;
use crate::mask::Stored;
use crate::pipeline::{self, Pipeline};
use crate::plc_link::PlcLink;
use crate::proof;
use crate::record::Recorder;
use crate::sink::Sink;
use crate::store::Id;
use crate::watchdog::Duty;
use crate::window::Window;

mod actuate;
mod capture;
pub mod control;
mod count;
mod inbox;
mod inspect;
mod latency;
mod matching;
mod record;
mod releases;
mod stage_times;
mod stop;
mod supervise;
mod swap;
mod temperature;
mod trusted;
mod watched;

pub use count::{Counts, FAULT_NAMES};
pub use inbox::Trigger;
pub use latency::Latency;
pub use matching::{Matching, Rule};
pub use releases::Releases;
pub use stage_times::{STAGES, StageTimes};
pub use stop::{RunState, Stop};

pub use crate::trial::TrialLimits;

use actuate::{Actuate, Books, Measured, Outputs};
use capture::{Capture, Intake};
use count::Counters;
use inbox::Inbox;
use inspect::Inspect;
use supervise::{Supervise, notify};
use trusted::Trusted;
use watched::Watched;

/// Verdicts that may wait for their due times; with more, inspect waits too.
const JUDGED: usize = 1024;

/// Masks that may wait for the due times of their parts.
const MASKS: usize = 64;

/// Everything a station is made of.
///
/// ```
/// use fcam::config::{Overrides, Setup};
/// use fcam::station::Stop;
///
/// // No file, so that the bundle's samples are judged; whoever fills the fields needs no station file at all.
/// let overrides = Overrides { frames: Some(2), ..Overrides::default() };
/// let report = Setup::load(None, overrides)?.station()?.run(&Stop::default())?;
/// assert_eq!((report.counts.frames, report.panicked.len()), (2, 0));
/// assert!(report.counts.balanced()); // each part has exactly one verdict
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Station {
    /// The model.
    pub bundle: Bundle,
    /// Where frames come from.
    pub camera: Box<dyn Camera>,
    /// What frames are like, if the camera is known to keep to it.
    pub geometry: Option<Geometry>,
    /// Engine, ROI, threshold and the timing of the outputs.
    pub options: pipeline::PipelineOptions,
    /// What makes a part.
    pub trigger: Trigger,
    /// A camera that says nothing for this long is stalled.
    pub timeout: Duration,
    /// Frames to take, then the station drains; forever if none.
    pub frames: Option<u64>,
    /// Where the PLC's inputs and the station meet.
    pub plc_link: PlcLink,
    /// Who is told, after the line itself.
    pub sinks: Vec<Box<dyn Sink>>,
    /// Who keeps pictures.
    pub recorder: Option<Recorder>,
    /// Time between two summary lines.
    pub summary: Duration,
    /// Bundles that may take the place of the first one.
    pub releases: Option<Releases>,
    /// Through which people look at parts.
    pub window: Option<Window>,
}

/// What a station did.
#[derive(Debug, Clone)]
pub struct Report {
    /// The counts.
    pub counts: Counts,
    /// From capture to verdict, of every part.
    pub latency: Latency,
    /// From the part to its outputs, stage by stage.
    pub stages: StageTimes,
    /// How long it ran.
    pub elapsed: Duration,
    /// Threads that panicked, by name.
    pub panicked: Vec<&'static str>,
}

impl Report {
    /// True if every part was judged and told, and nothing broke.
    pub fn clean(&self) -> bool {
        self.panicked.is_empty() && self.counts.clean()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&actuate::line(&self.counts.to_string(), &self.latency, self.elapsed))
    }
}

/// A station that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle is not proven here, or does not go together with the frames.
    #[error(transparent)]
    Proof(#[from] proof::Error),
    /// Every part would be late.
    #[error(
        "signals.delay_ms is {delay:?}, but one inspection takes {inspection:.1?} here: every part would be late; raise it, \
         use a smaller roi, fewer tiles or a faster engine"
    )]
    Delay {
        /// `signals.delay_ms`.
        delay: Duration,
        /// The fastest of a few tries.
        inspection: Duration,
    },
    /// The system gives no thread.
    #[error("cannot start the {name} thread: {source}")]
    Thread {
        /// The thread's name.
        name: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Station {
    /// The pipeline of the first bundle that is proven here, the station's own before the others.
    fn prove(&mut self, stop: &Stop) -> Result<Pipeline, proof::Error> {
        let mut tell = engine::log_building();
        let mut progress = |building: &Building| starting(&mut tell, building, stop);
        loop {
            let start = self.geometry.unwrap_or_else(|| placeholder(&self.bundle, &self.options));
            let proven = proof::require_watched(&self.bundle, start, self.options.clone(), &mut progress);
            let Err(error @ proof::Error::Failed { .. }) = &proven else { return proven };
            let spare = self.releases.as_mut().filter(|releases| !releases.spare.is_empty());
            let Some(releases) = spare else { return proven };
            log::error!("{error}");
            match releases.next_spare(&self.options.engine.float_layers) {
                Some(bundle) => self.bundle = bundle,
                None => return proven,
            }
        }
    }

    /// Proves the bundle, then runs until the camera ends, enough frames were taken, or `stop` is asked for; everything
    /// captured by then is judged and told. The sinks are in their safe state when this returns, however it returns.
    pub fn run(mut self, stop: &Stop) -> Result<Report, Error> {
        let outputs = Outputs(std::mem::take(&mut self.sinks));
        let mut pipeline = self.prove(stop)?;
        let inspection = warm_up(&mut pipeline, self.options.signaller.delay)?;
        log::info!("ready: {}, {}", pipeline.describe(), self.camera.describe());
        let plc_link = self.plc_link;
        plc_link.update(|handshake| handshake.promise(promise(self.options.signaller.delay, self.trigger, inspection)));
        if let Some(releases) = &self.releases {
            let running = releases.running.as_ref();
            plc_link.update(|handshake| {
                handshake.run_job(releases.job_of(running));
                handshake.run_release(running.map_or(0, Id::release));
            });
        }
        // A camera that runs free shows with its first frame that it is there; a sensor that triggers fire cannot.
        if self.trigger.fires() {
            plc_link.update(|handshake| handshake.set(Condition::Starting, false));
        }
        notify(sd_notify::NotifyState::Ready);

        let began = clock::now();
        let counters = Arc::new(Counters::default());
        let inbox = Inbox::new(self.trigger);
        let (judged, to_actuate) = bounded(JUDGED);
        let (archive, record) = record::start(self.recorder, &plc_link, &counters)?;
        let (drawn, masks) = bounded(MASKS);
        (0..MASKS).for_each(|_| drop(drawn.try_send(Stored::default()))); // there is room for each
        let (swap, attend) =
            self.releases.map(|releases| releases.attend(&self.options, pipeline.geometry(), &plc_link)).unzip();
        let signaller = self.options.signaller;
        let vital = |name| plc_link.watchdog(name, Duty::Vital);
        let actuate = Actuate {
            inbox: to_actuate,
            plc_link: plc_link.clone(),
            drawn,
            signaller,
            counters: &counters,
            stop: stop.clone(),
            summary: self.summary,
            watchdog: vital("actuate"),
            books: Books::new(JUDGED, outputs.0.len()),
            outputs,
        };
        let inspect = Inspect {
            inbox: &inbox,
            counters: &counters,
            judged,
            archive,
            masks,
            plc_link: plc_link.clone(),
            watchdog: vital("inspect"),
            inspection,
            stop: stop.clone(),
            bundle: Arc::new(self.bundle),
            trusted: Trusted::new(pipeline, self.geometry.is_some()),
            open: None,
            swap,
            watched: Watched::default(),
            window: self.window,
        };
        let capture = Capture {
            camera: self.camera,
            intake: Intake::new(&inbox, &counters, plc_link.clone(), self.trigger, signaller.delay),
            timeout: self.timeout,
            frames: self.frames.unwrap_or(u64::MAX),
            stop: stop.clone(),
            watchdog: vital("capture"),
        };
        let supervise = Supervise::new(plc_link.clone(), vital("supervise"));
        let (over, told) = bounded::<()>(0);

        // Should a thread not start, its closure is dropped, and with it the hop that the others wait for: all end.
        std::thread::scope(|scope| {
            let over = over; // hangs up when this scope ends
            spawn(scope, &plc_link, "supervise", move || supervise.run(&told))?;
            let actuate = spawn(scope, &plc_link, "actuate", || actuate.run())?;
            let attend = attend.map(|attend| spawn(scope, &plc_link, "bundles", || attend.run())).transpose()?;
            let inspect = spawn(scope, &plc_link, "inspect", || inspect.run())?;
            let capture = spawn(scope, &plc_link, "capture", || capture.run())?;
            let mut panicked = vec![];
            note(&mut panicked, "capture", capture.join());
            note(&mut panicked, "inspect", inspect.join());
            let Measured { latency, stages } = note(&mut panicked, "actuate", actuate.join()).unwrap_or_default();
            if let Some(attend) = attend {
                note(&mut panicked, "bundles", attend.join());
            }
            notify(sd_notify::NotifyState::Stopping);
            if record.finish() {
                panicked.push("record");
            }
            drop(over);
            let elapsed = clock::now().saturating_sub(began);
            Ok(Report { counts: counters.read(), latency, stages, elapsed, panicked })
        })
    }
}

/// How long systemd waits for the next word of a station that builds its engine, microseconds.
const PATIENCE: u32 = 60_000_000;

/// While an engine is built READY and HEALTHY are low and NG is high; systemd is told to wait, and a stop is heard.
fn starting(tell: &mut impl FnMut(&Building) -> ControlFlow<()>, building: &Building, stop: &Stop) -> ControlFlow<()> {
    notify(sd_notify::NotifyState::ExtendTimeoutUsec(PATIENCE));
    tell(building)?;
    if stop.state() == RunState::Run { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// Starts a thread; when it panics, READY falls at once. The hops that end with it end the others.
fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    plc_link: &'scope PlcLink,
    name: &'static str,
    run: impl FnOnce() -> T + Send + 'scope,
) -> Result<std::thread::ScopedJoinHandle<'scope, T>, Error> {
    let guarded = || {
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            plc_link.update(|handshake| handshake.set(Condition::Panic, true));
            resume_unwind(panic)
        })
    };
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn_scoped(scope, guarded).map_err(|source| Error::Thread { name, source })
}

fn note<T>(panicked: &mut Vec<&'static str>, name: &'static str, joined: std::thread::Result<T>) -> Option<T> {
    if joined.is_err() {
        log::error!("the {name} thread panicked: please report this");
        panicked.push(name);
    }
    joined.ok()
}

/// A geometry to build the pipeline with before the first frame has told the true one: it holds the ROIs.
fn placeholder(bundle: &Bundle, options: &pipeline::PipelineOptions) -> Geometry {
    let shape = bundle.shape();
    let (right, bottom) = options.layout.extent();
    let (width, height) = (right.max(shape.width as u32), bottom.max(shape.height as u32));
    let format = crate::camera::PixelFormat::Rgb8;
    Geometry { width, height, stride: format.row_bytes(width), format, colors: Colors::default() }
}

/// Tries in the warm-up; the first one pays for pages and caches.
const TRIES: u32 = 3;

/// From a trigger to its result at most, while nothing is wrong: the outputs' delay, or what the parts in the queue
/// need on a busy machine.
fn promise(delay: Duration, trigger: Trigger, inspection: Duration) -> Duration {
    let parts = 2 + trigger.room() as u32;
    delay.max(4 * parts * inspection)
}

/// Inspects a gray picture, so that the first part finds everything in place; it is not watched, because it would be
/// taken for a covered lens, and the engine be left cold. Returns the fastest of a few tries.
fn warm(pipeline: &mut Pipeline) -> Duration {
    let geometry = pipeline.geometry();
    let bytes = vec![128; geometry.frame_bytes()];
    let Ok(frame) = Frame::new(0, clock::now(), geometry, &bytes) else { return Duration::ZERO };
    let times = (0..TRIES).map(|_| pipeline.inspect_unwatched(&frame).total());
    let inspection = times.min().unwrap_or_default();
    pipeline.forget(); // gray pictures have no vote
    inspection
}

/// Refuses a delay that cannot be kept. Returns the time of one inspection.
fn warm_up(pipeline: &mut Pipeline, delay: Duration) -> Result<Duration, Error> {
    let inspection = warm(pipeline);
    if !delay.is_zero() && inspection > delay {
        return Err(Error::Delay { delay, inspection });
    }
    Ok(inspection)
}
