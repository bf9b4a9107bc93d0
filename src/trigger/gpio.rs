//! GPIO inputs. In: edges of the trigger's line and of the PLC's acknowledgement, with the kernel's time and its own
//! debouncing. Out: parts and acknowledgements at the [`PlcLink`].
//!
//! A thread of its own waits for edges, so that a trigger has its number and its time whatever the camera and the
//! engine do. A chip that vanishes is told once and tried again; until it is back, READY is low
//! ([`Condition::Inputs`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use gpiocdev::Request;
use gpiocdev::line::{Bias, EdgeDetection, EventClock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::Edges;
use crate::chip::{self, Error, Found, Pin};
use crate::clock::{self, Timestamp};
use crate::handshake::Condition;
use crate::plc_link::PlcLink;
use crate::watchdog::{Duty, SILENCE, Watchdog};

/// Edges that the kernel keeps until they are read.
const KEPT: u32 = 1024;
/// Edges read at once.
const READ: usize = 16;
/// A stop is noticed this often.
const TICK: Duration = Duration::from_millis(50);
/// Between two tries to open the lines.
const RETRY: Duration = Duration::from_millis(500);

/// Which change of the input is a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Edge {
    /// It becomes active.
    #[default]
    Rising,
    /// It becomes inactive.
    Falling,
}

/// A resistor of the chip at an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    /// As the board set it up.
    #[default]
    AsIs,
    /// To the high level.
    Up,
    /// To the low level.
    Down,
    /// None.
    Off,
}

impl Pull {
    fn bias(self) -> Option<Bias> {
        match self {
            Self::AsIs => None,
            Self::Up => Some(Bias::PullUp),
            Self::Down => Some(Bias::PullDown),
            Self::Off => Some(Bias::Disabled),
        }
    }
}

/// The inputs of a station.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::plc_link::PlcLink;
/// use fcam::trigger::gpio::{Edge, Gpio, TriggerOptions};
///
/// let options = TriggerOptions {
///     trigger: "GPIO17".into(),
///     edge: Edge::Falling,
///     debounce: Duration::from_millis(1),
///     chip: "no such chip".into(),
///     ..TriggerOptions::default()
/// };
/// assert!(Gpio::start(options, PlcLink::default(), None).is_err()); // and never a station without its trigger
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TriggerOptions {
    /// The chip, by name, label or path; empty: whichever has the lines.
    pub chip: String,
    /// A part is there; not used without a name.
    pub trigger: Pin,
    /// On which edge.
    pub edge: Edge,
    /// A level counts once it stood this long; the kernel does it.
    pub debounce: Duration,
    /// The PLC has read a result, on the rising edge; not used without a name.
    pub ack: Pin,
    /// At both.
    pub pull: Pull,
}

/// The thread that waits for edges; dropping it stops it.
#[derive(Debug)]
pub struct Gpio {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Gpio {
    /// Opens the lines and waits for edges from now on.
    pub fn start(options: TriggerOptions, plc_link: PlcLink, flash: Option<Sender<Timestamp>>) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let edges = Edges::new(plc_link.clone(), options.debounce, flash);
        let watchdog = plc_link.watchdog("gpio inputs", Duty::Vital);
        let mut inputs = Inputs { lines: Some(Lines::open(&options)?), options, plc_link, edges, stop: stop.clone() };
        let run = move || {
            if catch_unwind(AssertUnwindSafe(|| inputs.run(&watchdog))).is_err() {
                log::error!("the thread of the GPIO inputs panicked: please report this");
                inputs.plc_link.update(|handshake| handshake.set(Condition::Panic, true));
            }
        };
        let thread = std::thread::Builder::new().name("gpio inputs".into()).spawn(run);
        let thread = thread.map_err(|error| Error::Line {
            action: "start a thread for",
            name: "inputs".into(),
            source: error.into(),
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Gpio {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic was told where it happened
        }
    }
}

/// What the thread owns.
struct Inputs {
    options: TriggerOptions,
    plc_link: PlcLink,
    edges: Edges,
    stop: Arc<AtomicBool>,
    lines: Option<Lines>,
}

impl Inputs {
    fn run(&mut self, watchdog: &Watchdog) {
        while !self.stop.load(Relaxed) {
            watchdog.feed(clock::now(), SILENCE);
            if let Err(error) = self.run_once() {
                self.lose(&error);
            }
        }
        if self.edges.lost() > 0 {
            log::warn!("{} triggers were lost between the kernel and the station", self.edges.lost());
        }
    }

    /// What comes within a tick.
    fn run_once(&mut self) -> Result<(), Error> {
        let Some(lines) = &self.lines else {
            std::thread::sleep(RETRY);
            self.lines = Some(Lines::open(&self.options)?);
            self.edges.restart();
            self.plc_link.update(|handshake| handshake.set(Condition::Inputs, false));
            log::warn!("the GPIO inputs are back");
            return Ok(());
        };
        let [trigger, ack] = lines.wait()?;
        if trigger {
            lines.trigger.each(|at, number| self.edges.edge(at, number))?;
        }
        if ack {
            lines.ack.each(|_, _| self.plc_link.update(|handshake| handshake.acknowledged()))?;
        }
        Ok(())
    }

    fn lose(&mut self, error: &Error) {
        if self.lines.take().is_some() {
            self.plc_link.update(|handshake| handshake.set(Condition::Inputs, true));
            log::error!("{error}; no trigger is seen until the GPIO inputs are back");
        }
    }
}

/// One input, if the station has it.
struct Input(Option<(Request, Found)>);

/// The opened lines.
struct Lines {
    trigger: Input,
    ack: Input,
}

impl Lines {
    fn open(options: &TriggerOptions) -> Result<Self, Error> {
        let TriggerOptions { trigger, ack, edge, .. } = options;
        let trigger = Input::open(options, trigger, *edge)?;
        Ok(Self { trigger, ack: Input::open(options, ack, Edge::Rising)? })
    }

    /// Which of the two have something to read, after a tick at most.
    fn wait(&self) -> Result<[bool; 2], Error> {
        let inputs = [&self.trigger, &self.ack];
        let mut fds: heapless::Vec<PollFd, 2> = inputs
            .iter()
            .filter_map(|input| input.0.as_ref())
            .map(|(request, _)| PollFd::new(request, PollFlags::IN))
            .collect();
        let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
        match poll(&mut fds, Some(&tick)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(self.trigger.failed("wait for", std::io::Error::from(error).into())),
        }
        // A device that vanished is ready to be read too: reading says what is wrong with it.
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(inputs.map(|input| input.0.is_some() && ready.next().unwrap_or(false)))
    }
}

impl Input {
    fn open(options: &TriggerOptions, pin: &Pin, edge: Edge) -> Result<Self, Error> {
        if !pin.is_set() {
            return Ok(Self(None));
        }
        let found = chip::find(&options.chip, &pin.name)?;
        let mut builder = Request::builder();
        builder.on_chip(&found.path).with_consumer(chip::CONSUMER).with_kernel_event_buffer_size(KEPT);
        builder.with_line(found.offset).with_edge_detection(match edge {
            Edge::Rising => EdgeDetection::RisingEdge,
            Edge::Falling => EdgeDetection::FallingEdge,
        });
        builder.with_event_clock(EventClock::Monotonic).with_bias(options.pull.bias());
        if !options.debounce.is_zero() {
            builder.with_debounce_period(options.debounce);
        }
        if pin.active_low {
            builder.as_active_low();
        }
        match builder.request() {
            Ok(request) => Ok(Self(Some((request, found)))),
            Err(error) => Err(chip::refused(&found, error)),
        }
    }

    /// Everything there is to read: each edge's time and its number.
    fn each(&self, mut edge: impl FnMut(Timestamp, u32)) -> Result<(), Error> {
        let Some((request, _)) = &self.0 else { return Ok(()) };
        // `Request::read_edge_event` reads several and returns the first alone (gpiocdev 0.8.0).
        let size = request.edge_event_u64_size();
        let mut buffer = [0; 6 * READ];
        let failed = |source| self.failed("read", source);
        let words = request.read_edge_events_into_slice(&mut buffer).map_err(failed)?;
        for event in buffer.get(..words).unwrap_or_default().chunks_exact(size.max(1)) {
            let event = request.edge_event_from_slice(event).map_err(failed)?;
            edge(Duration::from_nanos(event.timestamp_ns), event.line_seqno);
        }
        Ok(())
    }

    fn failed(&self, action: &'static str, source: gpiocdev::Error) -> Error {
        let name = self.0.as_ref().map_or("of the acknowledgement", |(_, found)| found.name.as_str());
        Error::Line { action, name: name.into(), source }
    }
}
