//! In: whether a part is good. Out: what the outputs do, and when: plain values, so that they can be printed, recorded
//! and replayed.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;

/// The outputs of a station, by the names that PLC programmers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Output {
    /// The part is good.
    Ok,
    /// The part is not good, or was not judged.
    Ng,
    /// OK and NG may be read.
    Valid,
}

/// One output set to a level at a time, and let go after a while.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::signal::Signaller;
///
/// let signaller = Signaller { delay: Duration::from_millis(100), hold: Duration::from_millis(50) };
/// let outputs = signaller.run(Duration::from_secs(7), true);
/// let ends: Vec<Duration> = outputs.iter().map(|signal| signal.due + signal.hold).collect();
/// assert_eq!(ends, [Duration::from_millis(7150); 3]); // all return to inactive together
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Signal {
    /// Which output.
    pub output: Output,
    /// Its level: true is the active one.
    pub level: bool,
    /// When to set it (monotonic).
    pub due: Timestamp,
    /// How long to hold it before it returns to inactive.
    pub hold: Duration,
}

/// The outputs of one part.
pub type Outputs = heapless::Vec<Signal, 4>;

/// Timing of the outputs.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::signal::{LEAD, Output, Signaller};
///
/// let signaller = Signaller { delay: Duration::from_millis(100), hold: Duration::from_millis(50) };
/// let captured = Duration::from_secs(7);
/// let [ok, ng, valid] = signaller.run(captured, false).into_array().unwrap();
/// assert_eq!((ok.output, ok.level, ng.output, ng.level), (Output::Ok, false, Output::Ng, true));
/// assert_eq!((valid.due, ng.due), (captured + signaller.delay, captured + signaller.delay - LEAD));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signaller {
    /// From the capture to the edge of VALID. OK and NG are set up `LEAD` earlier.
    pub delay: Duration,
    /// How long the outputs hold their levels.
    pub hold: Duration,
}

/// OK and NG stand for this long before VALID rises, so that a PLC that reads on VALID reads settled levels.
pub const SETUP: Duration = Duration::from_millis(1);

/// How long before VALID OK and NG are due: what they must stand, and what the threads of a busy machine need to wake
/// up, so that VALID itself is never late for want of a settled level.
pub const LEAD: Duration = Duration::from_millis(3);

impl Signaller {
    /// What the outputs do for one part. OK and NG are a pair: never both, and both low is no result.
    pub fn run(&self, captured: Timestamp, ok: bool) -> Outputs {
        let due = captured + self.delay;
        let early = due.saturating_sub(LEAD);
        // All return to inactive together.
        let signal = |output, level, at| Signal { output, level, due: at, hold: self.hold + (due - at) };
        let outputs = [signal(Output::Ok, ok, early), signal(Output::Ng, !ok, early), signal(Output::Valid, true, due)];
        heapless::Vec::from_iter(outputs)
    }

    /// True once the outputs of a part should have been set. Without a delay they are due as soon as they are known.
    pub fn is_late(&self, captured: Timestamp, now: Timestamp) -> bool {
        !self.delay.is_zero() && now > captured + self.delay
    }
}
