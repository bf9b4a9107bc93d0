//! In: the prediction and its mask. Out: what is true of the part: pass, reject with findings, or fault with a reason.

use serde::Serialize;

use crate::engine::Prediction;
use crate::mask::{MAX_REGIONS, Mask, Region};

/// The judgement of one part. Every trigger ends in exactly one.
///
/// ```
/// use fcam::verdict::{Fault, Findings, Verdict};
///
/// let reject = Verdict::Reject(Findings { class: 1, score: 0.75, regions: Default::default() });
/// let words = [Verdict::Pass, reject, Verdict::Fault(Fault::Camera)].map(|verdict| verdict.word());
/// assert_eq!(words, ["pass", "reject", "fault"]); // two of them drive NG
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::large_enum_variant)] // a box would be a heap allocation for each rejected part
pub enum Verdict {
    /// Good.
    Pass,
    /// Defective: why, and where.
    Reject(Findings),
    /// Not judged. Drives the safe outcome, as a reject does.
    Fault(Fault),
}

impl Verdict {
    /// One word for logs and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Reject(_) => "reject",
            Self::Fault(_) => "fault",
        }
    }
}

/// What is wrong with a part.
///
/// ```
/// use fcam::engine::Prediction;
/// use fcam::mask::Mask;
/// use fcam::preprocess::Roi;
/// use fcam::verdict::{Judge, Verdict};
///
/// // The map shows no place, and the classes are sure: a reject without a region.
/// let scores = [0.1, 0.2, 0.7];
/// let prediction = Prediction { logits: &[], scores: &scores, map: &[], width: 0, height: 0 };
/// let mask = Mask::empty(Roi { x: 0, y: 0, width: 8, height: 8 });
/// let Verdict::Reject(findings) = Judge::new(0, 0.5).run(&prediction, &mask) else { return Err("good") };
/// assert_eq!((findings.class, findings.score, findings.regions.len()), (2, 0.9, 0));
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Findings {
    /// The most probable defect class, by its position in the manifest.
    pub class: usize,
    /// Defect score, 1 - score of the OK class, 0..1.
    pub score: f32,
    /// Where, in frame pixels, largest first; empty when the classifier rejects and the map shows no place.
    pub regions: heapless::Vec<Region, MAX_REGIONS>,
}

/// Why a part could not be judged.
///
/// ```
/// use fcam::verdict::Fault;
///
/// assert_eq!(Fault::Camera.code(), 2); // 0 and 1 are pass and reject
/// assert_eq!(serde_json::to_string(&Fault::NoFrame)?, "\"no_frame\"");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The camera is gone or delivers errors.
    Camera,
    /// No frame came in time.
    Stalled,
    /// A frame of another size or format than the station was set up for.
    Geometry,
    /// More parts than the station can hold.
    Overflow,
    /// The engine failed.
    Engine,
    /// The verdict came after its due time.
    Late,
    /// The station was stopped at once, before the part was judged.
    Stopped,
    /// The trigger came while the station was not ready.
    Missed,
    /// No frame was captured near enough to the trigger.
    NoFrame,
    /// The camera sends the same picture again and again.
    Frozen,
    /// The part does not lie where the network needs it, or there is none.
    NotFound,
    /// The camera sees nothing of the part: a covered lens, no light, far out of focus.
    Blind,
}

impl Fault {
    /// The number that the line is told, the same on every output; board/faults.md has the cures. 0 is pass, 1 is
    /// reject.
    pub fn code(self) -> u8 {
        match self {
            Self::Camera => 2,
            Self::Stalled => 3,
            Self::Geometry => 4,
            Self::Overflow => 5,
            Self::Engine => 6,
            Self::Late => 7,
            Self::Stopped => 8,
            Self::Missed => 9,
            Self::NoFrame => 10,
            Self::Frozen => 11,
            Self::NotFound => 12,
            Self::Blind => 13,
        }
    }
}

/// Decides. Built from the bundle's classes and threshold.
///
/// ```
/// use fcam::verdict::Judge;
///
/// let judge = Judge::new(0, 0.5);
/// assert!(judge.rejects(0.5) && !judge.rejects(0.49));
/// assert!(judge.rejects(f32::NAN)); // what is no number is never good
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Judge {
    ok: usize,
    threshold: f32,
}

impl Judge {
    /// `ok` is the OK class's position; parts whose defect score reaches `threshold` are rejected.
    pub fn new(ok: usize, threshold: f32) -> Self {
        Self { ok, threshold }
    }

    /// Defect score of a prediction: 1 - score of the OK class, 0..1.
    pub fn score(&self, prediction: &Prediction) -> f32 {
        1.0 - prediction.scores.get(self.ok).copied().unwrap_or(0.0)
    }

    /// True if a defect score rejects; one that is not a number does.
    pub fn rejects(&self, score: f32) -> bool {
        !matches!(score.partial_cmp(&self.threshold), Some(std::cmp::Ordering::Less))
    }

    /// The verdict. The classifier gates the map: a map alone rejects nothing, because an image label taught the
    /// classifier what a reject is, and nobody taught the map.
    pub fn run(&self, prediction: &Prediction, mask: &Mask) -> Verdict {
        let score = self.score(prediction);
        if !self.rejects(score) {
            return Verdict::Pass;
        }
        let regions = heapless::Vec::from_slice(mask.regions).unwrap_or_default();
        Verdict::Reject(Findings { class: self.worst_class(prediction), score, regions })
    }

    fn worst_class(&self, prediction: &Prediction) -> usize {
        let defects = prediction.scores.iter().enumerate().filter(|(class, _)| *class != self.ok);
        defects.max_by(|a, b| a.1.total_cmp(b.1)).map_or(self.ok, |(class, _)| class)
    }
}
