//! Verdicts and regions as the PLC's numbers: whole, bounded, saturating.

use crate::mask;
use crate::signal::Signals;
use crate::telegram::message::{NO_CLASS, SIMULATED};
use crate::telegram::{Region, Verdict};
use crate::verdict;

/// The telegram of a part; the latency is filled in when it is sent. Pictures that are not of parts are never OK.
pub(super) fn verdict(signals: &Signals, simulated: bool) -> Verdict {
    let (reason, class, regions) = match &signals.verdict {
        verdict::Verdict::Pass if simulated => (SIMULATED, NO_CLASS, 0),
        verdict::Verdict::Pass => (0, NO_CLASS, 0),
        verdict::Verdict::Reject(findings) => (1, small(findings.class), small(findings.regions.len())),
        verdict::Verdict::Fault(fault) => (fault.code(), NO_CLASS, 0),
    };
    let score = share(signals.score.unwrap_or(0.0));
    let (result_id, part_id) = (signals.sequence as u32, signals.part_id);
    Verdict { result_id, ok: reason == 0, reason, class, score, latency: 0, regions, part_id }
}

pub(super) fn region(region: &mask::Region) -> Region {
    let [x, y] = region.centroid;
    Region {
        x: side(region.x),
        y: side(region.y),
        width: side(region.width),
        height: side(region.height),
        center_x: x as u16, // float to integer saturates
        center_y: y as u16,
        area: region.area_px.round() as u32,
        peak: share(region.peak),
    }
}

/// 0..1 as ten-thousandths.
fn share(value: f32) -> u16 {
    (value.clamp(0.0, 1.0) * 10_000.0).round() as u16
}

pub(super) fn side(value: u32) -> u16 {
    value.try_into().unwrap_or(u16::MAX)
}

pub(super) fn small(value: usize) -> u8 {
    value.try_into().unwrap_or(u8::MAX)
}
