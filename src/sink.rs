//! The channels that outcomes are told through. In: [`Outcome`]s. Out: GPIO lines, serial telegrams, Modbus registers,
//! JSON lines, the log.
//!
//! Each channel has an outbox of its own: a bounded queue with a thread behind it, which alone waits for the device,
//! the reader or the disk. What happens when the queue is full depends on who is told:
//!
//! | channel | full or hung means |
//! |---|---|
//! | GPIO, serial, Modbus RTU | the PLC is not told: a fault code, READY low ([`crate::handshake::Condition::Channel`]) |
//! | JSON, log | outcomes are dropped, counted, and it is said once ([`Outbox`]) |

use crate::mask::Mask;
use crate::outcome::Outcome;

pub mod gpio;
mod json;
mod log;
pub mod modbus;
mod outbox;
pub mod serial;

pub use gpio::Gpio;
pub use json::JsonLines;
pub use log::Log;
pub use modbus::Modbus;
pub use outbox::Outbox;
pub use serial::Serial;

/// A channel, chosen at run time. None of its calls waits for a device, a reader or a disk, but for
/// [`Sink::fail_safe`].
///
/// ```
/// use fcam::outcome::Outcome;
/// use fcam::sink::{Error, Sink};
///
/// /// Counts what must not be shipped. One that talks to a device has a queue and a thread of its own: see [`Outbox`].
/// struct Scrap(u64);
///
/// impl Sink for Scrap {
///     fn apply(&mut self, outcome: &Outcome) -> Result<(), Error> {
///         self.0 += u64::from(!outcome.plc.ok); // a part that was not judged, too
///         Ok(())
///     }
///
///     fn fail_safe(&mut self) {} // it has no outputs
/// }
/// ```
pub trait Sink: Send {
    /// Takes the outcome of one part into the channel's outbox. An error here is counted and logged; the next part is
    /// told anyway.
    fn apply(&mut self, outcome: &Outcome) -> Result<(), Error>;

    /// Shows the mask of the rejected part that every channel was just told about; none where the station had no room
    /// to keep it. It may be dropped, and never makes a verdict wait.
    fn draw(&mut self, _outcome: &Outcome, _mask: Option<&Mask>) {}

    /// Outcomes that were taken and then could not be told after all, since this was last asked.
    fn untold(&mut self) -> u64 {
        0
    }

    /// Tells what was taken, then puts every output where a dead camera leaves it: not OK, not ready. Takes a second or
    /// two at most, cannot fail, and may be called twice.
    fn fail_safe(&mut self);
}

/// What goes wrong at a sink.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side does not take what we write.
    #[error("cannot write to {sink}: {source}")]
    Write {
        /// Which sink.
        sink: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The other side takes less than there is to tell.
    #[error("{sink} takes nothing: its queue is full; does its reader live, and is the cable in?")]
    Full {
        /// Which sink.
        sink: String,
    },
    /// A place where the other side would ask cannot be had.
    #[error("cannot serve {sink}: {source}{}", port_advice(.source))]
    Serve {
        /// Which sink.
        sink: String,
        /// What the system said.
        source: std::io::Error,
    },
}

fn port_advice(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "; a port below 1024 needs CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities)"
        }
        std::io::ErrorKind::AddrInUse => "; does another program serve there?",
        _ => "",
    }
}
