//! In: a part, what was judged of it, and by which release. Out: its outcome, finished: every channel tells this and
//! nothing else.
//!
//! An outcome is made once and never patched. What a PLC reads as whole numbers ([`PlcValues`]) is encoded here, so
//! that GPIO, telegrams, registers and records cannot differ. A part whose moment has passed gets a new outcome, a
//! fault ([`Outcome::spoiled`]).

use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::camera::Frame;
use crate::clock::Timestamp;
use crate::drift::Drift;
use crate::mask::Region;
use crate::signal::{Outputs, Signaller};
use crate::verdict::{Fault, Findings, Verdict};

/// A part that has its number, and so will end in exactly one outcome.
///
/// ```
/// use fcam::camera::{Frame, Geometry, PixelFormat};
/// use fcam::outcome::Opened;
///
/// let geometry = Geometry::packed(2, 2, PixelFormat::Gray8)?;
/// let frame = Frame::new(6, fcam::clock::now(), geometry, &[0; 4])?;
/// assert_eq!(Opened::of(&frame), Opened { sequence: 6, part_id: 0, at: frame.captured() });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opened {
    /// The part's number at this station.
    pub sequence: u64,
    /// The PLC's number of the part; 0 if it gave none.
    pub part_id: u32,
    /// When the part was there (monotonic): its trigger's edge, else the capture of its frame. Outputs are due from
    /// here on.
    pub at: Timestamp,
}

impl Opened {
    /// The part that a frame alone tells of.
    pub fn of(frame: &Frame) -> Self {
        Self { sequence: frame.sequence(), part_id: 0, at: frame.captured() }
    }
}

/// What judged a part.
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::outcome::JudgedBy;
///
/// assert_eq!(Bundle::embedded()?.judged_by().counter, 0); // no signed release
/// let judged_by = JudgedBy { counter: 1 << 40, ..JudgedBy::default() };
/// assert_eq!(judged_by.number(), u32::MAX);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct JudgedBy {
    /// The bundle's name.
    pub name: String,
    /// Its version, as its manifest has it.
    pub version: String,
    /// The counter of the signed release; 0: the bundle is no signed release.
    pub counter: u64,
    /// The names of the classes, in the order of the logits.
    #[serde(skip)]
    pub classes: Vec<String>,
    /// The score from which on a part is rejected, 1/10000.
    #[serde(skip)]
    pub threshold: u16,
}

impl JudgedBy {
    /// The counter as a PLC reads it: one beyond 32 bits is the highest there.
    pub fn number(&self) -> u32 {
        u32::try_from(self.counter).unwrap_or(u32::MAX)
    }
}

/// How long each step of one inspection took; of several tiles, all of them together.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::outcome::Timings;
///
/// let ms = Duration::from_millis;
/// let timings = Timings { preprocess: ms(2), engine: ms(9), ..Timings::default() };
/// assert_eq!(timings.total(), ms(11));
/// assert_eq!(timings.stages()[3], ("engine", ms(9)));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Crop, convert, resize.
    pub preprocess: Duration,
    /// Finding the part and moving it where the network needs it; zero where the bundle asks for neither.
    pub locate: Duration,
    /// Watching for drift; zero where nothing is watched.
    pub drift: Duration,
    /// The network.
    pub engine: Duration,
    /// Putting tiles together, threshold, regions and zones.
    pub mask: Duration,
    /// Verdict and vote.
    pub verdict: Duration,
    /// Signals.
    pub signal: Duration,
}

impl Timings {
    /// The steps by name, in the order of the flow.
    pub fn stages(&self) -> [(&'static str, Duration); 7] {
        [
            ("preprocess", self.preprocess),
            ("locate", self.locate),
            ("drift", self.drift),
            ("engine", self.engine),
            ("mask", self.mask),
            ("verdict", self.verdict),
            ("signal", self.signal),
        ]
    }

    /// All steps together.
    pub fn total(&self) -> Duration {
        self.stages().iter().map(|(_, time)| *time).sum()
    }
}

impl Serialize for Timings {
    /// Microseconds by name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.stages().map(|(name, time)| (name, time.as_micros() as u64)))
    }
}

/// An outcome in the whole numbers of PLCs.
///
/// ```
/// use fcam::outcome::{PlcValues, share};
///
/// // What a reject of class 3 with a score of 0.75 tells on every channel.
/// let told = PlcValues { ok: false, reason: 1, class: Some(3), score: share(0.75) };
/// assert_eq!(told.score, 7500);
/// assert_eq!((share(-1.0), share(2.0), share(f32::NAN)), (0, 10_000, 0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlcValues {
    /// The part is good; everything else is NG.
    pub ok: bool,
    /// 0 pass, 1 reject, from 2 on why it was not judged ([`Fault::code`]).
    pub reason: u8,
    /// The defect class by its position in the manifest; none unless rejected.
    pub class: Option<u8>,
    /// Defect score, 1/10000; 0 after a fault.
    pub score: u16,
}

impl PlcValues {
    fn new(verdict: &Verdict, score: Option<f32>) -> Self {
        let (reason, class) = match verdict {
            Verdict::Pass => (0, None),
            Verdict::Reject(findings) => (1, findings.class.try_into().ok()),
            Verdict::Fault(fault) => (fault.code(), None),
        };
        Self { ok: reason == 0, reason, class, score: share(score.unwrap_or(0.0)) }
    }
}

/// 0..1 as ten-thousandths.
pub fn share(value: f32) -> u16 {
    (value.clamp(0.0, 1.0) * 10_000.0).round() as u16
}

/// Everything that is told about one part.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use fcam::outcome::{JudgedBy, Opened, Outcome};
/// use fcam::signal::Signaller;
/// use fcam::verdict::Fault;
///
/// let part = Opened { sequence: 7, part_id: 4711, at: Duration::from_secs(1) };
/// let signaller = Signaller { delay: Duration::from_millis(100), hold: Duration::from_millis(50) };
/// let outcome = Outcome::fault(part, Fault::Stalled, &signaller, &Arc::new(JudgedBy::default()));
/// assert_eq!((outcome.plc.ok, outcome.plc.reason), (false, 3)); // a part that was not judged is never good
/// assert_eq!(outcome.due(), Duration::from_millis(1100));
/// let line = serde_json::to_value(outcome.entry())?;
/// assert_eq!((&line["part_id"], &line["verdict"]["fault"]), (&4711.into(), &"stalled".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
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
    /// What has changed in the pictures against the reference; a warning, which the verdict knows nothing of.
    pub drift: Option<Drift>,
    /// What the outputs do, and when.
    pub outputs: Outputs,
    /// What judged it, or would have.
    #[serde(rename = "release", serialize_with = "shared")]
    pub judged_by: Arc<JudgedBy>,
    /// How long the steps took; zero where none was taken.
    #[serde(rename = "timings_us")]
    pub timings: Timings,
    /// The same in the whole numbers of PLCs.
    #[serde(skip)]
    pub plc: PlcValues,
}

/// What is behind the counter, not the counter.
fn shared<S: Serializer>(judged_by: &Arc<JudgedBy>, serializer: S) -> Result<S::Ok, S::Error> {
    judged_by.as_ref().serialize(serializer)
}

/// What was judged of a part.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use fcam::outcome::{Judged, JudgedBy, Opened, Outcome, Timings};
/// use fcam::signal::Signaller;
/// use fcam::verdict::{Findings, Verdict};
///
/// let findings = Findings { class: 1, score: 0.75, regions: Default::default() };
/// let judged = Judged { verdict: Verdict::Reject(findings), score: Some(0.75), zones: 0b101, drift: None };
/// let judged_by = Arc::new(JudgedBy { classes: vec!["good".into(), "dent".into()], ..JudgedBy::default() });
/// let outputs = Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) }.run(Duration::ZERO, false);
/// let outcome = Outcome::new(Opened::default(), judged, outputs, &judged_by, Timings::default());
/// assert_eq!((outcome.class_name(), outcome.plc.score), (Some("dent"), 7500));
/// assert!(!outcome.is_timed()); // without a delay it is told as soon as it is known
/// ```
#[derive(Debug, Clone)]
pub struct Judged {
    /// The judgement.
    pub verdict: Verdict,
    /// Defect score, 0..1; none after a fault.
    pub score: Option<f32>,
    /// See [`Outcome::zones`].
    pub zones: u16,
    /// See [`Outcome::drift`].
    pub drift: Option<Drift>,
}

impl Outcome {
    /// The outcome of a judged part.
    pub fn new(part: Opened, judged: Judged, outputs: Outputs, judged_by: &Arc<JudgedBy>, timings: Timings) -> Self {
        let Opened { sequence, part_id, at: captured } = part;
        let Judged { verdict, score, zones, drift } = judged;
        let plc = PlcValues::new(&verdict, score);
        let judged_by = Arc::clone(judged_by);
        Self { sequence, part_id, captured, score, verdict, zones, drift, outputs, judged_by, timings, plc }
    }

    /// The outcome of a part that cannot be judged.
    pub fn fault(part: Opened, fault: Fault, signaller: &Signaller, judged_by: &Arc<JudgedBy>) -> Self {
        let judged = Judged { verdict: Verdict::Fault(fault), score: None, zones: 0, drift: None };
        Self::new(part, judged, signaller.run(part.at, false), judged_by, Timings::default())
    }

    /// The outcome of the same part once its moment has passed: a fault, under the same number and release.
    pub fn spoiled(&self, fault: Fault, signaller: &Signaller) -> Self {
        Self { timings: self.timings, ..Self::fault(self.part(), fault, signaller, &self.judged_by) }
    }

    /// Which part it is of.
    pub fn part(&self) -> Opened {
        Opened { sequence: self.sequence, part_id: self.part_id, at: self.captured }
    }

    /// The time by which all outputs must have been set.
    pub fn due(&self) -> Timestamp {
        self.outputs.iter().map(|signal| signal.due).max().unwrap_or(self.captured)
    }

    /// The time at which the first output is to be set.
    pub fn first_due(&self) -> Timestamp {
        self.outputs.iter().map(|signal| signal.due).min().unwrap_or(self.captured)
    }

    /// True if its outputs have a time, and are not told as soon as they are known.
    pub fn is_timed(&self) -> bool {
        self.due() > self.captured
    }

    /// What was found; none unless rejected.
    pub fn findings(&self) -> Option<&Findings> {
        match &self.verdict {
            Verdict::Reject(findings) => Some(findings),
            Verdict::Pass | Verdict::Fault(_) => None,
        }
    }

    /// Where the defects are, in frame pixels, largest first; empty unless rejected.
    pub fn regions(&self) -> &[Region] {
        self.findings().map_or(&[], |findings| &findings.regions)
    }

    /// The same for JSON: what scripts, records and brokers get.
    pub fn entry(&self) -> Entry<'_> {
        Entry { outcome: self, class: self.class_name() }
    }

    /// The name of the defect class; none unless rejected.
    pub fn class_name(&self) -> Option<&str> {
        let findings = self.findings()?;
        Some(self.judged_by.classes.get(findings.class).map_or("?", String::as_str))
    }
}

/// An outcome as JSON has it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Entry<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    /// The name of the defect class; null unless rejected.
    class: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNALLER: Signaller = Signaller { delay: Duration::from_millis(20), hold: Duration::from_millis(5) };

    fn rejected() -> Outcome {
        let judged_by = JudgedBy { classes: vec!["ok".into(), "dent".into()], ..JudgedBy::default() };
        let findings = Findings { class: 1, score: 0.75, regions: heapless::Vec::new() };
        let judged = Judged { verdict: Verdict::Reject(findings), score: Some(0.75), zones: 5, drift: None };
        let part = Opened { sequence: 7, part_id: 9, at: Timestamp::from_millis(100) };
        Outcome::new(part, judged, SIGNALLER.run(part.at, false), &Arc::new(judged_by), Timings::default())
    }

    #[test]
    fn the_words_say_what_the_verdict_says() {
        let outcome = rejected();
        assert_eq!(outcome.plc, PlcValues { ok: false, reason: 1, class: Some(1), score: 7500 });
        assert_eq!((outcome.class_name(), outcome.due()), (Some("dent"), Timestamp::from_millis(120)));
        assert!(outcome.is_timed());
    }

    #[test]
    fn a_spoiled_part_is_a_fault_of_the_same_part_and_release() {
        let outcome = rejected();
        let spoiled = outcome.spoiled(Fault::Late, &SIGNALLER);
        assert_eq!((spoiled.part(), &spoiled.judged_by), (outcome.part(), &outcome.judged_by));
        assert_eq!(spoiled.plc, PlcValues { ok: false, reason: Fault::Late.code(), class: None, score: 0 });
        assert_eq!((spoiled.zones, spoiled.score, spoiled.regions()), (0, None, &[][..]));
    }
}
