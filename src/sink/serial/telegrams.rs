//! Outcomes and regions as telegrams: whole, bounded, saturating.

use crate::mask;
use crate::outcome::{Outcome, share};
use crate::telegram::message::{NO_CLASS, SIMULATED};
use crate::telegram::{Verdict, WireRegion};

/// The telegram of a part; the latency is filled in when it is sent. Pictures that are not of parts are never OK.
pub(super) fn verdict(outcome: &Outcome, simulated: bool) -> Verdict {
    let words = outcome.plc;
    Verdict {
        result_id: outcome.sequence as u32,
        ok: words.ok && !simulated,
        reason: if words.ok && simulated { SIMULATED } else { words.reason },
        class: words.class.unwrap_or(NO_CLASS),
        score: words.score,
        latency: 0,
        regions: small(outcome.regions().len()),
        part_id: outcome.part_id,
        release: outcome.judged_by.number(),
    }
}

pub(super) fn region(region: &mask::Region) -> WireRegion {
    let [x, y] = region.centroid;
    WireRegion {
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

pub(super) fn side(value: u32) -> u16 {
    value.try_into().unwrap_or(u16::MAX)
}

pub(super) fn small(value: usize) -> u8 {
    value.try_into().unwrap_or(u8::MAX)
}
