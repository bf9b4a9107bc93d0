//! Signals as log lines: one at debug level a part, for a person who watches.

use super::{Error, Sink};
use crate::signal::Signals;
use crate::verdict::Verdict;

/// Writes to the `log` facade.
#[derive(Debug, Default)]
pub struct Log {
    classes: Vec<String>,
}

impl Log {
    /// `classes` are the manifest's names, to say what was found.
    pub fn new(classes: Vec<String>) -> Self {
        Self { classes }
    }
}

impl Sink for Log {
    fn apply(&mut self, signals: &Signals) -> Result<(), Error> {
        match &signals.verdict {
            Verdict::Pass => log::debug!("part {}: pass, score {:.3}", signals.sequence, signals.score.unwrap_or(0.0)),
            Verdict::Reject(findings) => log::debug!(
                "part {}: reject, {} {:.3}, {} regions",
                signals.sequence,
                self.classes.get(findings.class).map_or("?", String::as_str),
                findings.score,
                findings.regions.len()
            ),
            Verdict::Fault(fault) => log::debug!("part {}: fault, {fault:?}", signals.sequence),
        }
        Ok(())
    }

    fn fail_safe(&mut self) {
        log::debug!("outputs to the safe state");
    }
}
