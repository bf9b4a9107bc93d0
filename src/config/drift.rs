//! In: the [drift] section. Out: every problem in it, and how parts are watched.

use super::raw::{Drift, Mode, Raw};
use crate::bundle::Bundle;
use crate::drift::{DriftOptions, LEAST_PARTS};

/// The most parts that a station learns from.
const MOST_PARTS: u32 = 100_000;

pub(super) fn validate(raw: &Raw, problems: &mut Vec<String>) {
    let Drift { watch, learn, parts_per_alarm, .. } = raw.drift;
    if learn != 0 && !(LEAST_PARTS..=MOST_PARTS).contains(&learn) {
        problems.push(format!("drift.learn = {learn} is outside {LEAST_PARTS}..={MOST_PARTS} (0 learns nothing)"));
    }
    if !(1000..=1_000_000_000).contains(&parts_per_alarm) {
        problems.push(format!("drift.parts_per_alarm = {parts_per_alarm} is outside 1000..=1000000000"));
    }
    if watch == Some(false) && raw.gpio.lines.drift.is_set() {
        problems.push("gpio.lines.drift would never rise: drift.watch is false".into());
    }
}

/// Why parts cannot be watched with this bundle, where that is asked for.
pub(super) fn misfit(raw: &Raw, bundle: &Bundle) -> Option<String> {
    let Drift { watch, learn, .. } = raw.drift;
    let nothing = learn == 0 && bundle.manifest().drift.is_none();
    let asked = watch == Some(true) || (watch.is_none() && raw.gpio.lines.drift.is_set());
    (asked && nothing).then(|| {
        "drift.watch: this bundle has no [drift], so that nothing is known to have changed: set drift.learn to the number of \
         good parts that this station learns from, or export the bundle again (`fcam drift --teach` is what the host tool asks)"
            .into()
    })
}

/// How parts are watched; none if they are not to be.
pub(super) fn options(raw: &Raw) -> Option<DriftOptions> {
    let Drift { watch, learn, parts_per_alarm, blind } = raw.drift;
    // An empty belt is as plain as a covered lens.
    let blind = blind.unwrap_or(raw.trigger.mode != Mode::FreeRun);
    (watch != Some(false)).then_some(DriftOptions { learn, parts_per_alarm: parts_per_alarm as f64, blind })
}
