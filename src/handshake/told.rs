//! A part's result as the PLC reads it: the outcome, and how long it took until it was told.

use serde::Serialize;

use super::{MAX_REGIONS, short_id};
use crate::clock::Timestamp;
use crate::mask::Region;
use crate::outcome::Outcome;

/// A result that was told.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use fcam::handshake::Told;
/// use fcam::outcome::{Opened, Outcome};
/// use fcam::signal::Signaller;
/// use fcam::verdict::Fault;
///
/// let part = Opened { sequence: 65_535, part_id: 0, at: Duration::from_secs(1) };
/// let signaller = Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) };
/// let outcome = Outcome::fault(part, Fault::Late, &signaller, &Arc::default());
/// let told = Told::new(&outcome, part.at + Duration::from_millis(12));
/// assert_eq!((told.id(), told.latency), (1, 120)); // after 65535 comes 1 again; 0.1 ms
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    /// What was told.
    pub outcome: Outcome,
    /// From the trigger to the telling, 0.1 ms; 65535 is that or more.
    pub latency: u16,
}

impl Told {
    /// Told at `now`.
    pub fn new(outcome: &Outcome, now: Timestamp) -> Self {
        let taken = now.saturating_sub(outcome.captured).as_micros() / 100;
        Self { outcome: outcome.clone(), latency: taken.try_into().unwrap_or(u16::MAX) }
    }

    /// The part's number in 16 bits.
    pub fn id(&self) -> u16 {
        short_id(self.outcome.sequence)
    }

    /// The regions that a PLC can read, largest first.
    pub fn regions(&self) -> &[Region] {
        let regions = self.outcome.regions();
        regions.get(..MAX_REGIONS).unwrap_or(regions)
    }
}
