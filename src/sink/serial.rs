//! Telegrams on a serial line. In: signals, and the masks of rejected parts. Out: frames for a PLC (board/plc/telegram.md).
//!
//! The line has a thread of its own, because it is slow and can be cut: telling it a verdict takes the station a queue's place and never a
//! wait. On the wire a verdict waits for nothing but the frame that is being sent; regions and masks go out when the line is free, in frames
//! short enough for that ([`Line::low_priority_frame`]). What cannot be told is counted, and the station sees it as an error of this sink.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use super::{Error, Sink};
use crate::clock::Timestamp;
use crate::mask::{Mask, Stored};
use crate::signal::Signals;
use crate::telegram::{self, budget::Line};

mod picture;
pub(super) mod port;
mod words;
mod writer;

/// Verdicts and masks that may wait for the line's thread.
const QUEUE: usize = 64;
/// Masks that may be on their way to the line.
const MASKS: usize = 4;

/// How bytes are checked on the wire.
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
#[derive(Debug, Clone)]
pub struct Options {
    /// The device, by a path that stays the same when it comes back: /dev/serial/by-id/...
    pub port: PathBuf,
    /// What it can carry and what is asked of it.
    pub line: Line,
    /// How bytes are checked.
    pub parity: Parity,
    /// The kernel switches the transmitter of an RS-485 transceiver.
    pub rs485: bool,
    /// What the telegrams look like.
    pub profile: Profile,
    /// CRC-32 of the station's configuration, for HELLO.
    pub config: u32,
}

/// What the line's thread and the station know of each other.
#[derive(Debug, Default)]
struct Shared {
    up: AtomicBool,
    missed: AtomicU64,
    masks_lost: AtomicU64,
}

/// Something for the line.
#[expect(
    clippy::large_enum_variant,
    reason = "it moves through a queue of fixed size: a box would be an allocation a part"
)]
enum Post {
    Verdict { telegram: telegram::Verdict, captured: Timestamp },
    Mask { result_id: u32, mask: Stored },
    NoMask { result_id: u32 },
}

/// The sink; dropping it stops its thread.
pub struct Serial {
    name: String,
    masks: bool,
    posts: Option<Sender<Post>>,
    /// Room for masks, and where it comes back from.
    spare: Vec<Stored>,
    emptied: Receiver<Stored>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Serial {
    /// Starts the line's thread, which opens the device, and opens it again whenever it comes back.
    pub fn start(options: Options) -> Result<Self, Error> {
        let name = format!("the serial line {}", options.port.display());
        let failed = |source| Error::Write { sink: name.clone(), source };
        let (posts, inbox) = bounded(QUEUE);
        let (empty, emptied) = bounded(MASKS);
        let spare = vec![Stored::default(); MASKS];
        let (shared, masks) = (Arc::new(Shared::default()), options.line.masks);
        let mut writer = writer::Writer::new(options, inbox, empty, shared.clone());
        // The first parts would be missed if the line were opened in their time only.
        writer.connect();
        let thread = std::thread::Builder::new().name("serial".into()).spawn(move || writer.run()).map_err(failed)?;
        Ok(Self { name, masks, posts: Some(posts), spare, emptied, shared, thread: Some(thread) })
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
    fn apply(&mut self, signals: &Signals) -> Result<(), Error> {
        let post = Post::Verdict { telegram: words::verdict(signals), captured: signals.captured };
        let missed = self.post(post);
        missed.map_err(|(kind, _)| {
            self.shared.missed.fetch_add(1, Relaxed);
            Error::Write { sink: self.name.clone(), source: kind.into() }
        })
    }

    fn draw(&mut self, signals: &Signals, mask: Option<&Mask>) {
        if !self.masks {
            return;
        }
        let result_id = signals.sequence as u32;
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

    fn fail_safe(&mut self) {
        // What was told is sent, then the thread says that the station stops, and ends.
        self.posts = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("{}: its thread panicked: please report this", self.name);
        }
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.fail_safe();
    }
}
