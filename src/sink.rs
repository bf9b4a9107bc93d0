//! Where signals go. In: [`Signals`]. Out: the log and JSON lines now; GPIO, serial telegrams and Modbus to come.

use crate::signal::Signals;

pub mod json;
pub mod log;

pub use json::JsonLines;
pub use log::Log;

/// A receiver of signals, chosen at run time.
pub trait Sink: Send {
    /// Tells the line about one part. An error here is counted and logged; the next part is told all the same.
    fn apply(&mut self, signals: &Signals) -> Result<(), Error>;

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
}
