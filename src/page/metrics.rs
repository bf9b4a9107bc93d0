//! The station's numbers for Prometheus. In: outcomes, the status. Out: the OpenMetrics text of `/metrics`.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::clock::Timestamp;
use crate::handshake::Status;
use crate::outcome::Outcome;
use crate::verdict::Verdict;

type Labels = [(&'static str, String); 1];

/// Upper ends of the buckets of times, in seconds.
const TIMES: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0];

#[derive(Debug, Clone)]
struct Times;

impl MetricConstructor<Histogram> for Times {
    fn new_metric(&self) -> Histogram {
        Histogram::new(TIMES)
    }
}

/// The content type of what [`Metrics::text`] gives.
pub(super) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) struct Metrics {
    parts: Family<Labels, Counter>,
    rejects: Family<Labels, Counter>,
    faults: Family<Labels, Counter>,
    stages: Family<Labels, Histogram, Times>,
    told: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let parts = Family::<Labels, Counter>::default();
        for word in ["pass", "reject", "fault"] {
            drop(parts.get_or_create(&[("verdict", word.into())])); // shown from the start, as 0
        }
        Self {
            parts,
            rejects: Family::default(),
            faults: Family::default(),
            stages: Family::new_with_constructor(Times),
            told: Histogram::new(TIMES),
        }
    }
}

impl Metrics {
    /// A part was told at `now`.
    pub(super) fn count(&self, outcome: &Outcome, now: Timestamp) {
        self.parts.get_or_create(&[("verdict", outcome.verdict.word().into())]).inc();
        match &outcome.verdict {
            Verdict::Pass => {}
            Verdict::Reject(_) => {
                let class = outcome.class_name().unwrap_or("?").into();
                self.rejects.get_or_create(&[("class", class)]).inc();
            }
            Verdict::Fault(fault) => {
                self.faults.get_or_create(&[("code", fault.code().to_string())]).inc();
            }
        }
        if outcome.timings.total().is_zero() {
            return; // it was not judged
        }
        for (stage, time) in outcome.timings.stages() {
            self.stages.get_or_create(&[("stage", stage.into())]).observe(time.as_secs_f64());
        }
        self.told.observe(now.saturating_sub(outcome.captured).as_secs_f64());
    }

    /// Everything, with the status of this moment.
    pub(super) fn text(&self, status: &Status, viewers: usize) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("fcam");
        registry.register("parts", "Parts that were told to the line", self.parts.clone());
        registry.register("rejects", "Rejected parts by class", self.rejects.clone());
        registry.register("faults", "Parts that were not judged, by the code of the fault", self.faults.clone());
        registry.register("stage_seconds", "Time that a stage took of a judged part", self.stages.clone());
        registry.register("told_seconds", "From the part to the telling, of judged parts", self.told.clone());
        let mut counter = |name: &str, help: &str, value: u64| registry.register(name, help, ConstCounter::new(value));
        counter("missed_triggers", "Triggers that were not taken", status.counts.missed.into());
        let mut gauge = |name: &str, help: &str, value: i64| registry.register(name, help, ConstGauge::new(value));
        gauge("ready", "READY: a trigger would be judged", status.ready.into());
        gauge("fault", "FAULT: something is wrong", status.fault.into());
        gauge("fault_code", "The number of what is wrong, 0 is nothing", status.code.into());
        let drift = status.drift.map_or(0, |drift| drift.all);
        gauge("drift", "What has changed in the pictures, a bit each (board/drift.md), 0 is nothing", drift.into());
        gauge("simulated", "The pictures are not of parts on a line", status.simulated.into());
        gauge("release", "The counter of the signed release that judges, 0 is none", status.release.into());
        gauge("page_viewers", "Browsers that show the live page", viewers as i64);
        if let Some(temperature) = status.temperature {
            let celsius = ConstGauge::new(f64::from(temperature) / 10.0);
            registry.register("temperature_celsius", "Temperature of the processor", celsius);
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::drift::{Drift, Measure};
    use crate::outcome::Opened;
    use crate::signal::Signaller;
    use crate::verdict::Fault;

    #[test]
    fn the_text_has_the_parts_and_the_status() {
        let metrics = Metrics::default();
        let signaller = Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) };
        let outcome = Outcome::fault(Opened::default(), Fault::Late, &signaller, &Arc::default());
        metrics.count(&outcome, Timestamp::from_secs(1));
        let since = Timestamp::from_secs(1);
        let drift = Drift { what: Measure::Contrast, by: -0.2, part: 7, since, all: 0b110 };
        let status = Status { ready: true, code: 7, temperature: Some(415), drift: Some(drift), ..Status::default() };
        let text = metrics.text(&status, 2).unwrap();
        for line in [
            "fcam_parts_total{verdict=\"fault\"} 1",
            "fcam_parts_total{verdict=\"pass\"} 0",
            "fcam_faults_total{code=\"7\"} 1",
            "fcam_ready 1",
            "fcam_fault_code 7",
            "fcam_drift 6",
            "fcam_temperature_celsius 41.5",
            "fcam_page_viewers 2",
            "fcam_told_seconds_count 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
