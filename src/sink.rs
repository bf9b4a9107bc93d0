//! Where signals go. In: [`Signals`]. Out: the log, JSON lines, serial telegrams, Modbus registers and GPIO lines.

use crate::handshake::Status;
use crate::mask::Mask;
use crate::signal::Signals;

pub mod gpio;
pub mod json;
pub mod log;
pub mod modbus;
pub mod serial;

pub use gpio::Gpio;
pub use json::JsonLines;
pub use log::Log;
pub use modbus::Modbus;
pub use serial::Serial;

/// A receiver of signals, chosen at run time.
pub trait Sink: Send {
    /// Tells the line about one part. An error here is counted and logged; the next part is told all the same.
    fn apply(&mut self, signals: &Signals) -> Result<(), Error>;

    /// Shows the mask of the rejected part that every sink was just told about; none where the station had no room to keep it. It may be
    /// dropped, and never makes a verdict wait.
    fn draw(&mut self, _signals: &Signals, _mask: Option<&Mask>) {}

    /// Shows the state of the station, READY and HEARTBEAT among it; called whenever it may have changed, four times a second at least.
    fn show(&mut self, _status: &Status) {}

    /// Puts every output where a dead camera leaves it: not OK, not ready. Cannot fail, and may be called twice.
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
