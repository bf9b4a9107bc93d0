//! Telegrams on a serial line. In: outcomes, and the masks of rejected parts; what the PLC says. Out: frames for a PLC
//! (board/plc/telegram.md); triggers, jobs and acknowledgements for the station.
//!
//! The line has a thread of its own, because it is slow and can be cut: telling it a verdict takes the station a
//! queue's place and never a wait. On the wire a verdict waits for nothing but the frame that is being sent; regions
//! and masks go out when the line is free, in frames short enough for that ([`SerialLine::low_priority_frame`]),
//! answers to the PLC before them. What cannot be told is counted, and while the line is cut, full or stuck READY is
//! low. An OK that leaves too late is told as NG. A second thread hears the PLC, so that a trigger's time is its own.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};
use serial2::SerialPort;

use super::{Error, Sink};
use crate::mask::{Mask, Stored};
use crate::outcome::Outcome;
use crate::plc_link::PlcLink;
use crate::telegram::budget::SerialLine;
use crate::watchdog::{Duty, Mark};

mod dialogue;
mod mask_frames;
pub(super) mod port;
mod reader;
mod telegrams;
mod writer;

/// Verdicts and masks that may wait for the line's thread.
const QUEUE: usize = 256;
/// Masks that may be on their way to the line.
const MASKS: usize = 4;
/// Answers to the PLC that may wait for the line.
const ANSWERS: usize = 32;
/// No VERDICT was sent yet.
const NO_VERDICT: u32 = u32::MAX;

/// How bytes are checked on the wire.
///
/// ```
/// use fcam::sink::serial::Parity;
///
/// assert_eq!((Parity::None.bits(), Parity::Even.bits()), (10, 11)); // start and stop bit included
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// 8N1.
    None,
    /// 8E1.
    Even,
    /// 8O1.
    Odd,
}

impl Parity {
    /// Bits of a byte on the wire, start and stop included.
    pub fn bits(self) -> u32 {
        if self == Self::None { 10 } else { 11 }
    }
}

/// What the telegrams look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Frames with verdict, regions and mask.
    Binary,
    /// Lines with verdict and regions.
    Ascii,
}

/// A serial line.
///
/// ```no_run
/// use std::time::Duration;
///
/// use fcam::plc_link::PlcLink;
/// use fcam::sink::Serial;
/// use fcam::sink::serial::{Parity, Profile, SerialOptions};
/// use fcam::telegram::budget::SerialLine;
///
/// let options = SerialOptions {
///     port: "/dev/serial/by-id/usb-FTDI_USB-RS485-if00-port0".into(),
///     line: SerialLine {
///         baud: 115_200, bits: Parity::Even.bits(), parts_per_minute: 300, head_of_line_ms: 10, frame_bytes: 240, masks: true,
///     },
///     parity: Parity::Even,
///     rs485: true,
///     profile: Profile::Binary,
///     config: 0,
///     external: true,
///     delay: Duration::from_millis(120),
/// };
/// let sink = Serial::start(options, PlcLink::default())?; // a device that is not there yet is waited for
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SerialOptions {
    /// The device, by a path that stays the same when it comes back: /dev/serial/by-id/...
    pub port: PathBuf,
    /// What it can carry and what is asked of it.
    pub line: SerialLine,
    /// How bytes are checked.
    pub parity: Parity,
    /// The kernel switches the transmitter of an RS-485 transceiver.
    pub rs485: bool,
    /// What the telegrams look like.
    pub profile: Profile,
    /// CRC-32 of the station's configuration, for HELLO.
    pub config: u32,
    /// Triggers make the parts: TRIGGER is followed.
    pub external: bool,
    /// From a part to its outputs; zero: as soon as its result is known.
    pub delay: Duration,
}

/// State shared by the line's threads and the station.
#[derive(Debug)]
struct Shared {
    up: AtomicBool,
    stop: AtomicBool,
    /// The device, while it is there.
    port: Mutex<Option<Arc<SerialPort>>>,
    /// SEQ of the newest VERDICT.
    verdict: AtomicU32,
    acknowledged: AtomicU64,
    unanswered: AtomicU64,
    missed: AtomicU64,
    masks_lost: AtomicU64,
}

impl Shared {
    fn new() -> Self {
        let [missed, masks_lost, acknowledged, unanswered] = std::array::from_fn(|_| AtomicU64::new(0));
        let (up, stop, port) = (AtomicBool::new(false), AtomicBool::new(false), Mutex::new(None));
        Self { up, stop, port, verdict: AtomicU32::new(NO_VERDICT), acknowledged, unanswered, missed, masks_lost }
    }

    fn port(&self) -> Option<Arc<SerialPort>> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_port(&self, port: Option<Arc<SerialPort>>) {
        *self.port.lock().unwrap_or_else(PoisonError::into_inner) = port;
    }
}

/// Something for the line's thread to send.
#[expect(
    clippy::large_enum_variant,
    reason = "it moves through a queue of fixed size: a box would be an allocation a part"
)]
enum Post {
    Verdict(Outcome),
    Mask { result_id: u32, mask: Stored },
    NoMask { result_id: u32 },
}

/// The sink; dropping it stops its threads.
pub struct Serial {
    name: String,
    masks: bool,
    posts: Option<Sender<Post>>,
    /// Room for masks, and where it comes back from.
    spare: Vec<Stored>,
    emptied: Receiver<Stored>,
    shared: Arc<Shared>,
    /// Set when the queue is full; the line's thread takes it back.
    mark: Mark,
    /// Of the verdicts that the line missed, those that were counted.
    counted: u64,
    writer: Option<JoinHandle<()>>,
    reader: Option<JoinHandle<()>>,
}

impl Serial {
    /// Starts the line's threads, which open the device, and open it again whenever it comes back. `plc_link`
    /// takes what the PLC asks for.
    pub fn start(options: SerialOptions, plc_link: PlcLink) -> Result<Self, Error> {
        let name = format!("the serial line {}", options.port.display());
        let failed = |source| Error::Write { sink: name.clone(), source };
        let (posts, inbox) = bounded(QUEUE);
        let (empty, emptied) = bounded(MASKS);
        let spare = vec![Stored::default(); MASKS];
        let (shared, masks) = (Arc::new(Shared::new()), options.line.masks);
        let [watchdog, hears] = ["serial", "serial-in"].map(|thread| plc_link.watchdog(thread, Duty::Vital));
        let mark = watchdog.mark();
        let (say, answers) = bounded(ANSWERS);
        let dialogue = dialogue::Dialogue::new(plc_link.clone(), shared.clone(), options.external);
        let reader = reader::Reader::new(options.profile, shared.clone(), dialogue, say.clone());
        let mut writer = writer::Writer::new(options, plc_link, inbox, (say, answers), empty, shared.clone(), watchdog);
        // The first parts would be missed if the line were opened in their time only.
        writer.connect();
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        let (posts, writer) = (Some(posts), Some(thread("serial").spawn(move || writer.run()).map_err(failed)?));
        let mut serial = Self { name, masks, posts, spare, emptied, shared, mark, counted: 0, writer, reader: None };
        let reader = thread("serial-in").spawn(move || reader.run(&hears));
        let failed = |source| Error::Write { sink: serial.name.clone(), source };
        serial.reader = Some(reader.map_err(failed)?);
        Ok(serial)
    }

    #[expect(clippy::result_large_err, reason = "what cannot be posted goes back to its owner, who keeps its room")]
    fn post(&mut self, post: Post) -> Result<(), (ErrorKind, Post)> {
        self.spare.extend(self.emptied.try_iter());
        match &self.posts {
            Some(posts) if self.shared.up.load(Relaxed) => {
                posts.try_send(post).map_err(|error| (ErrorKind::WouldBlock, error.into_inner()))
            }
            _ => Err((ErrorKind::NotConnected, post)),
        }
    }
}

impl Sink for Serial {
    fn apply(&mut self, outcome: &Outcome) -> Result<(), Error> {
        let missed = self.post(Post::Verdict(outcome.clone()));
        missed.map_err(|(kind, _)| {
            if kind == ErrorKind::WouldBlock {
                self.mark.set_down(true);
            }
            self.shared.missed.fetch_add(1, Relaxed);
            self.counted += 1; // by whoever gets the error
            Error::Write { sink: self.name.clone(), source: kind.into() }
        })
    }

    fn draw(&mut self, outcome: &Outcome, mask: Option<&Mask>) {
        if !self.masks {
            return;
        }
        let result_id = outcome.sequence as u32;
        let post = match mask.and_then(|mask| Some((mask, self.spare.pop()?))) {
            Some((mask, mut stored)) => {
                stored.set(mask);
                Post::Mask { result_id, mask: stored }
            }
            None => Post::NoMask { result_id },
        };
        if let Err((_, post)) = self.post(post) {
            self.shared.masks_lost.fetch_add(1, Relaxed);
            if let Post::Mask { mask, .. } = post {
                self.spare.push(mask);
            }
        }
    }

    fn untold(&mut self) -> u64 {
        let missed = self.shared.missed.load(Relaxed);
        missed.saturating_sub(std::mem::replace(&mut self.counted, missed))
    }

    fn fail_safe(&mut self) {
        // What was told is sent, then the line's thread says that the station stops, and ends.
        self.posts = None;
        let written = self.writer.take().map(JoinHandle::join);
        self.shared.stop.store(true, Relaxed);
        let heard = self.reader.take().map(JoinHandle::join);
        if written.into_iter().chain(heard).any(|joined| joined.is_err()) {
            log::error!("{}: a thread of it panicked: please report this", self.name);
        }
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.fail_safe();
    }
}
