//! Outcomes as log lines: one at debug level a part, for a person who watches.

use super::{Error, Sink};
use crate::outcome::Outcome;
use crate::verdict::Verdict;

/// Writes to the `log` facade, which has an outbox of its own (`cli/log.rs`).
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use fcam::outcome::{Opened, Outcome};
/// use fcam::signal::Signaller;
/// use fcam::sink::{Log, Sink};
/// use fcam::verdict::Fault;
///
/// let signaller = Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) };
/// let outcome = Outcome::fault(Opened::default(), Fault::Frozen, &signaller, &Arc::default());
/// Log.apply(&outcome)?; // at debug level: "part 0: fault, Frozen, by ..."
/// assert_eq!(Log.untold(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Log;

impl Sink for Log {
    fn apply(&mut self, outcome: &Outcome) -> Result<(), Error> {
        let Outcome { sequence, score, verdict, judged_by, .. } = outcome;
        let by = format_args!("{} {}.{}", judged_by.name, judged_by.version, judged_by.counter);
        match verdict {
            Verdict::Pass => log::debug!("part {sequence}: pass, score {:.3}, by {by}", score.unwrap_or(0.0)),
            Verdict::Reject(findings) => log::debug!(
                "part {sequence}: reject, {} {:.3}, {} regions, by {by}",
                outcome.class_name().unwrap_or("?"),
                findings.score,
                findings.regions.len()
            ),
            Verdict::Fault(fault) => log::debug!("part {sequence}: fault, {fault:?}, by {by}"),
        }
        Ok(())
    }

    fn fail_safe(&mut self) {
        log::debug!("outputs to the safe state");
    }
}
