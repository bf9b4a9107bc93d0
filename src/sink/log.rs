//! Signals as log lines: one at debug level a part, for a person who watches.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Error, Sink};
use crate::signal::Signals;
use crate::verdict::Verdict;

/// The names of the classes of the bundle that judges; another one may take its place.
#[derive(Debug, Clone, Default)]
pub struct Classes(Arc<Mutex<Vec<String>>>);

impl Classes {
    /// Another bundle judges.
    pub fn set(&self, names: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn name(&self, class: usize) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(class).cloned().unwrap_or_else(|| "?".into())
    }
}

/// Writes to the `log` facade.
#[derive(Debug, Default)]
pub struct Log {
    classes: Classes,
}

impl Log {
    /// `classes` are the manifest's names, to say what was found.
    pub fn new(classes: Classes) -> Self {
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
                self.classes.name(findings.class),
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
