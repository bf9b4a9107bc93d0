//! What the pipeline says of drift, told to the log once for each thing that changed.

use jiff::{Timestamp, Unit};

use crate::clock;
use crate::drift::{Drift, Measure};
use crate::pipeline::Pipeline;

/// What the log was told.
#[derive(Debug, Default)]
pub(super) struct Watched {
    told: u8,
}

impl Watched {
    /// What has changed so far; what is new is told.
    pub(super) fn run(&mut self, pipeline: &Pipeline) -> Option<Drift> {
        let drift = pipeline.drift();
        let all = drift.map_or(0, |drift| drift.all);
        let new = all & !std::mem::replace(&mut self.told, all);
        for measure in Measure::ALL.into_iter().filter(|measure| new >> measure.bit() & 1 == 1) {
            pipeline.drift_of(measure).iter().for_each(warn);
        }
        drift
    }
}

fn warn(drift: &Drift) {
    let ago = clock::now().saturating_sub(drift.since);
    let since = Timestamp::now().checked_sub(ago).and_then(|since| since.round(Unit::Second)).unwrap_or_default();
    log::warn!("drift: {} since {since} (part {}): {}", drift.words(), drift.part, drift.cure());
}
