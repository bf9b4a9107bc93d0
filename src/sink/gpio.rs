//! Outcomes on GPIO lines (board/gpio.md). In: outcomes, and the status at the [`PlcLink`]. Out: READY, BUSY, OK, NG,
//! VALID, HEALTHY, FAULT, zones and a lamp, each on a line that is found by its name.
//!
//! The lines have a thread of their own, so that levels change on time whatever the station does ([`timing`]). The
//! inputs, if the station has some, live and end with it. What cannot be shown is an error of this sink and counted.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use super::{Error, Sink};
use crate::chip::{self, Pin};
use crate::clock::{self, Timestamp};
use crate::handshake::Condition;
use crate::outcome::Outcome;
use crate::plc_link::PlcLink;
use crate::trigger;
use crate::watchdog::{Duty, Mark};

mod driver;
pub mod level;
mod lines;
#[cfg(feature = "rpi")]
mod rpi;
pub mod timing;

pub use level::{Levels, Role, ZONE_LINES};
pub use timing::{GpioOptions, Timing};

use driver::Driver;
use lines::Lines;
use timing::Part;

/// Parts that may wait for the thread.
const QUEUE: usize = 64;
/// Flashes that may wait for it.
const FLASHES: usize = 16;

/// A lamp on hardware PWM (feature `rpi`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pulsed {
    /// 0 or 1.
    pub channel: u8,
    /// Pulses a second.
    pub hz: f32,
    /// Share of the time that it is on, 0 to 1: the brightness.
    pub duty: f32,
}

/// The pin of each role; one without a name is not used.
///
/// ```
/// use fcam::sink::gpio::{Role, Wiring};
///
/// let single = vec![(Role::Ok, "GPIO17".into()), (Role::Ng, "GPIO27".into()), (Role::Busy, "".into())];
/// let wiring = Wiring { single, zones: vec!["GPIO5".into()], ..Wiring::default() };
/// let roles: Vec<Role> = wiring.pins().map(|(role, _)| role).collect();
/// assert_eq!(roles, [Role::Ok, Role::Ng, Role::Zone(0)]); // BUSY has no line
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Wiring {
    /// The chip, by name, label or path; empty: whichever has the lines.
    pub chip: String,
    /// The lines that there is one of.
    pub single: Vec<(Role, Pin)>,
    /// The zones' lines, the first zone first; at most [`ZONE_LINES`].
    pub zones: Vec<Pin>,
    /// The lamp, where it is no line.
    pub lamp: Option<Pulsed>,
}

impl Wiring {
    /// Every line that there is.
    pub fn pins(&self) -> impl Iterator<Item = (Role, &Pin)> {
        let zones = self.zones.iter().zip(0..ZONE_LINES as u8).map(|(pin, zone)| (Role::Zone(zone), pin));
        self.single.iter().map(|(role, pin)| (*role, pin)).chain(zones).filter(|(_, pin)| pin.is_set())
    }
}

/// Drives the lines; opened again by [`Open`] after it failed.
pub type Write = Box<dyn FnMut(Levels) -> Result<(), chip::Error> + Send>;

/// Opens the lines, at [`Levels::SAFE`].
pub type Open = Box<dyn FnMut() -> Result<Write, chip::Error> + Send>;

/// State shared by the thread and the station.
#[derive(Debug)]
struct Shared {
    up: AtomicBool,
    missed: AtomicU64,
}

/// The sink; dropping it stops its threads.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use fcam::plc_link::PlcLink;
/// use fcam::sink::gpio::{Gpio, GpioOptions, Levels, Role, Write};
///
/// // Outputs that are no lines of the kernel, such as those of an I/O module: levels change on time there too.
/// let shown = Arc::new(Mutex::new(Levels::default()));
/// let module = Arc::clone(&shown);
/// let open = move || {
///     let module = Arc::clone(&module);
///     Ok(Box::new(move |levels| Ok(*module.lock().unwrap() = levels)) as Write)
/// };
/// drop(Gpio::with_lines(Box::new(open), GpioOptions::default(), &PlcLink::default())?);
/// assert!(shown.lock().unwrap().get(Role::Ng)); // whatever ends it leaves NG behind
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Gpio {
    posts: Option<Sender<Part>>,
    end: Option<Sender<()>>,
    flash: Sender<Timestamp>,
    shared: Arc<Shared>,
    /// Set when the queue is full; the thread takes it back.
    mark: Mark,
    thread: Option<JoinHandle<()>>,
    inputs: Option<trigger::Gpio>,
}

impl Gpio {
    /// Takes the kernel's lines.
    pub fn start(wiring: Wiring, options: GpioOptions, plc_link: &PlcLink) -> Result<Self, chip::Error> {
        let open = move || {
            let mut lines = Lines::open(&wiring)?;
            Ok(Box::new(move |levels| lines.write(levels)) as Write)
        };
        Self::with_lines(Box::new(open), options, plc_link)
    }

    /// The same on lines that `open` gives.
    pub fn with_lines(mut open: Open, options: GpioOptions, plc_link: &PlcLink) -> Result<Self, chip::Error> {
        let write = Some(open()?);
        let (posts, inbox) = bounded(QUEUE);
        let (flash, flashes) = bounded(FLASHES);
        let (end, ended) = bounded(0);
        let shared = Arc::new(Shared { up: AtomicBool::new(true), missed: AtomicU64::new(0) });
        let watchdog = plc_link.watchdog("gpio", Duty::Vital);
        let mark = watchdog.mark();
        let mut driver = Driver {
            posts: inbox,
            flashes,
            end: ended,
            shared: shared.clone(),
            bell: plc_link.bell(),
            plc_link: plc_link.clone(),
            timing: Timing::new(options),
            open,
            write,
            retry: clock::now(),
            told: (0, 0),
        };
        let run = move || {
            if catch_unwind(AssertUnwindSafe(|| driver.run(watchdog))).is_err() {
                log::error!("the thread of the GPIO outputs panicked: please report this");
                driver.plc_link.update(|handshake| handshake.set(Condition::Panic, true));
                driver.shared.up.store(false, Relaxed);
            }
        };
        let thread = std::thread::Builder::new().name("gpio".into()).spawn(run);
        let thread = thread.map_err(|error| chip::Error::Line {
            action: "start a thread for",
            name: "outputs".into(),
            source: error.into(),
        })?;
        Ok(Self { posts: Some(posts), end: Some(end), flash, shared, mark, thread: Some(thread), inputs: None })
    }

    /// Takes the moments at which a trigger's edge was seen.
    pub fn flash(&self) -> Sender<Timestamp> {
        self.flash.clone()
    }

    /// Inputs that end with the outputs.
    #[must_use]
    pub fn with_inputs(mut self, inputs: trigger::Gpio) -> Self {
        self.inputs = Some(inputs);
        self
    }

    fn post(&self, part: Part) -> Result<(), ErrorKind> {
        match &self.posts {
            Some(posts) if self.shared.up.load(Relaxed) => posts.try_send(part).map_err(|_| {
                self.mark.set_down(true);
                ErrorKind::WouldBlock
            }),
            _ => Err(ErrorKind::NotConnected),
        }
    }
}

impl Sink for Gpio {
    fn apply(&mut self, outcome: &Outcome) -> Result<(), Error> {
        self.post(Part::new(outcome)).map_err(|kind| {
            self.shared.missed.fetch_add(1, Relaxed);
            Error::Write { sink: "the GPIO lines".into(), source: kind.into() }
        })
    }

    fn fail_safe(&mut self) {
        self.inputs = None;
        // What was told is shown, then the thread leaves the lines safe, and ends.
        (self.posts, self.end) = (None, None);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic was told where it happened
            let missed = self.shared.missed.load(Relaxed);
            if missed > 0 {
                log::error!("{missed} parts were not shown on the GPIO lines");
            }
        }
    }
}

impl Drop for Gpio {
    fn drop(&mut self) {
        self.fail_safe();
    }
}
