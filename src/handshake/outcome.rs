//! A part's result as the PLC reads it: whole numbers, bounded, nothing borrowed.

use std::time::Duration;

use serde::Serialize;

use super::{Regions, short_id};
use crate::signal::Signals;
use crate::verdict::Verdict;

/// A result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The part's number at this station.
    pub sequence: u64,
    /// The PLC's number; 0 if it gave none.
    pub part_id: u32,
    /// The part is good; everything else is NG.
    pub ok: bool,
    /// 0 pass, 1 reject, from 2 on why it was not judged ([`crate::verdict::Fault::code`]).
    pub reason: u8,
    /// The defect class by its position in the manifest; none unless rejected.
    pub class: Option<u8>,
    /// Defect score, 1/10000.
    pub score: u16,
    /// From the trigger to the telling, 0.1 ms; 65535 is that or more.
    pub latency: u16,
    /// Zones of the frame with a mask pixel in them, one bit each.
    pub zones: u16,
    /// Regions, largest first.
    pub regions: Regions,
}

impl Outcome {
    /// The result of a told part.
    pub fn new(signals: &Signals, zones: u16, latency: Duration) -> Self {
        let score = (signals.score.unwrap_or(0.0).clamp(0.0, 1.0) * 10_000.0).round() as u16;
        let (reason, class, found) = match &signals.verdict {
            Verdict::Pass => (0, None, &[][..]),
            Verdict::Reject(findings) => (1, findings.class.try_into().ok(), findings.regions.as_slice()),
            Verdict::Fault(fault) => (fault.code(), None, &[][..]),
        };
        Self {
            sequence: signals.sequence,
            part_id: signals.part_id,
            ok: reason == 0,
            reason,
            class,
            score,
            latency: (latency.as_micros() / 100).try_into().unwrap_or(u16::MAX),
            zones,
            regions: found.iter().take(super::MAX_REGIONS).copied().collect(),
        }
    }

    /// The number in 16 bits.
    pub fn id(&self) -> u16 {
        short_id(self.sequence)
    }
}
