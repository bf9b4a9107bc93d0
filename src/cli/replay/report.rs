//! What a replay says: a line a picture (`table` writes it), a bar while it runs, a summary at the end.

use std::borrow::Cow;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::locate::Pose;
use crate::mask::Region;
use crate::outcome::Timings;
use crate::pipeline::Inspection;
use crate::verdict::Verdict;

/// One picture's line. All keys are always there but `reason` (faults) and `run_lengths` (when asked for).
///
/// `regions` are findings: a part that passes has none, as nothing is drawn on it. What the map shows there all the
/// same is `below_score`, for whoever tunes the threshold. `region_count`, `area_px` and `run_lengths` are of the mask,
/// whatever the verdict.
#[derive(Serialize)]
pub(super) struct ReplayRow<'a> {
    pub(super) picture: Cow<'a, str>,
    pub(super) verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// The defect class of a reject.
    pub(super) class: Option<&'a str>,
    /// Defect score.
    pub(super) score: Option<f32>,
    scores: Scores<'a>,
    pub(super) regions: &'a [Region],
    below_score: &'a [Region],
    region_count: usize,
    /// Foreground, in pixels of the map.
    area_px: u32,
    map_size: [u32; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    run_lengths: Option<Vec<u32>>,
    /// Where the part lies against the bundle's template: pixels of the network's input, degrees.
    pose: Option<Pose>,
    pub(super) ms: Option<Milliseconds>,
}

impl<'a> ReplayRow<'a> {
    pub(super) fn of(picture: &'a Path, inspection: &Inspection<'a>, classes: &'a [String], runs: bool) -> Self {
        let Inspection { prediction, mask, pose, outcome } = inspection;
        let class = match &outcome.verdict {
            Verdict::Reject(findings) => classes.get(findings.class).map(String::as_str),
            _ => None,
        };
        let reason = match &outcome.verdict {
            Verdict::Fault(fault) => serde_json::to_value(fault).ok().and_then(|name| name.as_str().map(str::to_owned)),
            _ => None,
        };
        let (regions, below_score): (&[_], &[_]) = match outcome.verdict {
            Verdict::Pass => (&[], mask.regions),
            _ => (mask.regions, &[]),
        };
        Self {
            picture: picture.to_string_lossy(),
            verdict: outcome.verdict.word(),
            reason,
            class,
            score: outcome.score,
            scores: Scores { classes, values: prediction.map_or(&[], |prediction| prediction.scores) },
            regions,
            below_score,
            region_count: mask.region_count,
            area_px: mask.area(),
            map_size: [mask.width, mask.height],
            run_lengths: runs.then(|| mask.run_lengths().collect()),
            pose: *pose,
            ms: Some(Milliseconds::of(&outcome.timings)),
        }
    }

    /// The line of a picture that never became a frame, or that the pipeline does not take.
    pub(super) fn fault(picture: &'a Path, reason: String) -> Self {
        Self {
            picture: picture.to_string_lossy(),
            verdict: "fault",
            reason: Some(reason),
            class: None,
            score: None,
            scores: Scores { classes: &[], values: &[] },
            regions: &[],
            below_score: &[],
            region_count: 0,
            area_px: 0,
            map_size: [0, 0],
            run_lengths: None,
            pose: None,
            ms: None,
        }
    }
}

/// One score a class, by name, in the order of the manifest.
struct Scores<'a> {
    classes: &'a [String],
    values: &'a [f32],
}

impl Serialize for Scores<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.classes.iter().zip(self.values))
    }
}

#[derive(Serialize)]
pub(super) struct Milliseconds {
    preprocess: f64,
    locate: f64,
    engine: f64,
    mask: f64,
    pub(super) total: f64,
}

impl Milliseconds {
    fn of(timings: &Timings) -> Self {
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        Self {
            preprocess: ms(timings.preprocess),
            locate: ms(timings.locate),
            engine: ms(timings.engine),
            mask: ms(timings.mask),
            total: ms(timings.total()),
        }
    }
}

/// Counts of verdicts, and the time they took.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pass: u64,
    reject: u64,
    pub(super) fault: u64,
    time: Duration,
}

impl Tally {
    pub(super) fn count(&mut self, inspection: &Inspection) {
        match inspection.outcome.verdict {
            Verdict::Pass => self.pass += 1,
            Verdict::Reject(_) => self.reject += 1,
            Verdict::Fault(_) => self.fault += 1,
        }
        self.time += inspection.outcome.timings.total();
    }

    pub(super) fn pictures(&self) -> u64 {
        self.pass + self.reject + self.fault
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { pass, reject, fault, time } = self;
        let mean = time.as_secs_f64() * 1e3 / (pass + reject).max(1) as f64;
        write!(f, "{} pictures: {pass} pass, {reject} reject, {fault} fault; mean {mean:.2} ms", self.pictures())
    }
}

/// A bar on standard error, if a person looks there and the lines go elsewhere.
pub(super) struct Progress {
    total: usize,
    visible: bool,
}

impl Progress {
    const WIDTH: usize = 32;

    pub(super) fn new(total: usize) -> Self {
        Self { total, visible: std::io::stderr().is_terminal() && !std::io::stdout().is_terminal() }
    }

    pub(super) fn show(&self, done: u64) {
        if self.visible {
            let filled = done as usize * Self::WIDTH / self.total.max(1);
            let (filled, empty) = ("#".repeat(filled), "-".repeat(Self::WIDTH.saturating_sub(filled)));
            self.print(&format!("\r[{filled}{empty}] {done}/{}", self.total));
        }
    }

    /// Takes the bar away, so that something else can be printed.
    pub(super) fn clear(&self) {
        if self.visible {
            self.print("\r\x1b[K");
        }
    }

    fn print(&self, text: &str) {
        let _ = std::io::stderr().write_all(text.as_bytes()); // a bar that cannot be drawn is no reason to stop
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mask::Mask;
    use crate::outcome::{Opened, Outcome};
    use crate::preprocess::Roi;
    use crate::signal::Signaller;
    use crate::verdict::{Fault, Findings};

    /// The numbers of regions that a line gives as findings and below the score.
    fn counts(verdict: Verdict) -> (usize, usize) {
        let signaller = Signaller { delay: Duration::ZERO, hold: Duration::ZERO };
        let regions = [Region { x: 1, y: 2, width: 3, height: 4, area_px: 12.0, centroid: [2.0, 3.5], peak: 0.9 }];
        let roi = Roi { x: 0, y: 0, width: 8, height: 8 };
        let mask = Mask { width: 8, height: 8, roi, runs: &[], regions: &regions, region_count: 1 };
        let outcome = Outcome::fault(Opened::default(), Fault::Late, &signaller, &Arc::default());
        let outcome = Outcome { score: Some(0.4), verdict, ..outcome };
        let inspection = Inspection { prediction: None, mask, pose: None, outcome };
        let line = serde_json::to_value(ReplayRow::of(Path::new("x.png"), &inspection, &[], false)).unwrap();
        let count = |key: &str| line[key].as_array().unwrap().len();
        assert_eq!(line["region_count"], 1);
        (count("regions"), count("below_score"))
    }

    #[test]
    fn a_part_that_passes_has_no_findings() {
        assert_eq!(counts(Verdict::Pass), (0, 1));
        assert_eq!(counts(Verdict::Reject(Findings { class: 1, score: 0.9, regions: Default::default() })), (1, 0));
        assert_eq!(counts(Verdict::Fault(Fault::Late)), (1, 0));
    }
}
