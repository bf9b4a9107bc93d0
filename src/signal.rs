//! In: a verdict. Out: what to tell the line, and when: plain values, so that they can be printed, recorded and replayed.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::verdict::Verdict;

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

/// Everything the line is told about one part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Signals {
    /// The part's number at this station.
    pub sequence: u64,
    /// The PLC's number of the part; 0 if it gave none.
    pub part_id: u32,
    /// When the part was there (monotonic): its trigger's edge, else the capture of its frame.
    pub captured: Timestamp,
    /// Defect score, 0..1; none after a fault.
    pub score: Option<f32>,
    /// The judgement.
    pub verdict: Verdict,
    /// Zones of the frame with a mask pixel in them, one bit each ([`crate::zone`]); 0 unless rejected.
    pub zones: u16,
    /// What the outputs do.
    pub outputs: heapless::Vec<Signal, 4>,
}

impl Signals {
    /// The time by which all outputs must have been set.
    pub fn due(&self) -> Timestamp {
        self.outputs.iter().map(|signal| signal.due).max().unwrap_or(self.captured)
    }
}

/// Timing of the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signaller {
    /// From the capture to the edge of VALID. OK and NG are set up `LEAD` earlier.
    pub delay: Duration,
    /// How long the outputs hold their levels.
    pub hold: Duration,
}

/// OK and NG stand for this long before VALID rises, so that a PLC that reads on VALID reads settled levels.
pub const SETUP: Duration = Duration::from_millis(1);

/// OK and NG are due so long before VALID: what they must stand, and what the threads of a busy machine need to wake up, so that VALID itself
/// is never late for want of a settled level.
pub const LEAD: Duration = Duration::from_millis(3);

impl Signaller {
    /// The signals of one judged part. OK and NG are a pair: never both, and both low is no result.
    pub fn run(&self, sequence: u64, captured: Timestamp, score: Option<f32>, verdict: Verdict) -> Signals {
        let ok = verdict == Verdict::Pass;
        let due = captured + self.delay;
        let early = due.saturating_sub(LEAD);
        // All return to inactive together.
        let signal = |output, level, at| Signal { output, level, due: at, hold: self.hold + (due - at) };
        let outputs = [signal(Output::Ok, ok, early), signal(Output::Ng, !ok, early), signal(Output::Valid, true, due)];
        Signals { sequence, part_id: 0, captured, score, verdict, zones: 0, outputs: heapless::Vec::from_iter(outputs) }
    }
}
