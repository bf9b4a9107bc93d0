//! Where the time of a part goes, from its trigger to its outputs: a histogram a stage.

use std::fmt;

use super::latency::Latency;
use crate::clock::Timestamp;
use crate::outcome::Outcome;

/// The stages by name, in the order of a part's way; the last is all of it.
pub const STAGES: [&str; 10] = [
    "wait",
    "preprocess",
    "locate",
    "drift",
    "engine",
    "mask",
    "verdict",
    "outputs",
    "all but engine",
    "part to outputs",
];

/// A histogram for each of [`STAGES`]; parts that were not judged are in the last alone.
#[derive(Debug, Clone, Default)]
pub struct StageTimes([Latency; STAGES.len()]);

impl StageTimes {
    /// A part that was judged at `judged`, its outputs `due` and set at `told`. Waiting for the due time is no stage.
    pub(super) fn add(&mut self, outcome: &Outcome, judged: Timestamp, due: Timestamp, told: Timestamp) {
        let (seen, timings) = (outcome.captured, outcome.timings);
        let total = told.saturating_sub(seen);
        let Self([wait, preprocess, locate, drift, engine, mask, verdict, outputs, rest, all]) = self;
        all.add(total);
        let inspected = timings.total();
        if inspected.is_zero() {
            return;
        }
        let waited = judged.saturating_sub(seen).saturating_sub(inspected);
        let telling = told.saturating_sub(judged.max(due));
        wait.add(waited);
        preprocess.add(timings.preprocess);
        locate.add(timings.locate);
        drift.add(timings.drift);
        engine.add(timings.engine);
        mask.add(timings.mask);
        verdict.add(timings.verdict + timings.signal);
        outputs.add(telling);
        rest.add(waited + inspected.saturating_sub(timings.engine) + telling);
    }

    /// The stages with their histograms.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Latency)> {
        STAGES.into_iter().zip(&self.0)
    }
}

impl fmt::Display for StageTimes {
    /// A table in milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:16}{:>9}{:>9}{:>9}{:>9}  ms", "stage", "p50", "p99", "p99.9", "max")?;
        self.iter().try_for_each(|(name, latency)| {
            let ms = |q| latency.quantile(q).as_secs_f64() * 1e3;
            let max = latency.max().as_secs_f64() * 1e3;
            write!(f, "\n{name:16}{:>9.3}{:>9.3}{:>9.3}{max:>9.3}", ms(0.5), ms(0.99), ms(0.999))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::outcome::{Opened, Timings};
    use crate::signal::Signaller;
    use crate::verdict::Fault;

    fn outcome(at: Timestamp, timings: Timings) -> Outcome {
        let signaller = Signaller { delay: Duration::ZERO, hold: Duration::ZERO };
        let part = Opened { sequence: 0, part_id: 0, at };
        Outcome { timings, ..Outcome::fault(part, Fault::Late, &signaller, &Arc::default()) }
    }

    #[test]
    fn stages_add_up_to_the_whole() {
        let ms = Duration::from_millis;
        let (locate, drift) = (ms(3), ms(4));
        let timings = Timings { preprocess: ms(2), locate, drift, engine: ms(5), mask: ms(1), ..Timings::default() };
        let mut stages = StageTimes::default();
        stages.add(&outcome(ms(100), timings), ms(118), ms(130), ms(131));
        let found: Vec<u128> = stages.iter().map(|(_, latency)| latency.max().as_millis()).collect();
        assert_eq!(found, [3, 2, 3, 4, 5, 1, 0, 1, 14, 31]);
        stages.add(&outcome(ms(200), Timings::default()), ms(201), ms(201), ms(202));
        let counts: Vec<u64> = stages.iter().map(|(_, latency)| latency.count()).collect();
        assert_eq!(counts, [1, 1, 1, 1, 1, 1, 1, 1, 1, 2]);
    }
}
