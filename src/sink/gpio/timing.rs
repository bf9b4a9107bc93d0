//! When each line has which level. In: parts with their due times, the station's state, flashes, and the time. Out: one
//! set of levels after the other, and when to ask again.
//!
//! Pure: it reads no clock and drives nothing. [`Timing::step`] is asked until it has no more to say, each of its
//! answers is written before it is asked again, and the time that it is given is always the time now. What it holds,
//! however late it is asked:
//!
//! - OK, NG and zones stand for [`SETUP`] before VALID rises, and never change while VALID is high. Zones in two bytes
//!   never change while their strobe is high.
//! - Every part has one pulse of VALID, in order, and none is shorter than [`SETUP`].
//! - OK and NG are never high together, except when an output fails.
//! - A part with a due time is OK within [`LATE`] of it, or it is NG. One that must come too late is NG from the start;
//!   only a caller that asks too late takes back an OK, and VALID was not high with it.

use std::time::Duration;

use heapless::Deque;

use super::level::{Levels, Role};
use crate::clock::Timestamp;
use crate::handshake::{Condition, Glance};
use crate::outcome::Outcome;
use crate::signal::{Output, SETUP};

/// Parts that may wait for their times.
pub const PARTS: usize = 64;
/// Flashes that may wait for theirs.
const FLASHES: usize = 16;
/// An OK that reaches its line later does not count: the part may be elsewhere by then.
pub const LATE: Duration = Duration::from_millis(5);

/// What a station fixes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GpioOptions {
    /// The zones are sixteen, and come in two bytes with a strobe each.
    pub two_bytes: bool,
    /// From the trigger's edge to the flash.
    pub flash_delay: Duration,
    /// How long the lamp is on.
    pub flash_width: Duration,
}

/// One part as the lines show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The part's number at this station.
    pub sequence: u64,
    /// The part is good.
    pub ok: bool,
    /// Zones with a defect.
    pub zones: u16,
    /// When OK, NG and zones are due.
    pub data: Timestamp,
    /// When VALID is due.
    pub due: Timestamp,
    /// How long VALID is high.
    pub hold: Duration,
    /// False: it is due as soon as it can be, and never late.
    pub timed: bool,
}

impl Part {
    /// What the outcome of a part means for the lines.
    pub fn new(outcome: &Outcome) -> Self {
        let find = |output| outcome.outputs.iter().find(|signal| signal.output == output);
        let (valid, ok) = (find(Output::Valid), find(Output::Ok));
        let due = valid.map_or(outcome.due(), |valid| valid.due);
        Self {
            sequence: outcome.sequence,
            ok: outcome.plc.ok,
            zones: outcome.zones,
            data: ok.map_or(due, |ok| ok.due),
            due,
            hold: valid.map_or(Duration::ZERO, |valid| valid.hold),
            timed: outcome.is_timed(),
        }
    }
}

/// What the lines show of the station itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// READY.
    pub ready: bool,
    /// BUSY.
    pub busy: bool,
    /// HEALTHY, which toggles.
    pub healthy: bool,
    /// FAULT.
    pub fault: bool,
    /// DRIFT.
    pub drift: bool,
    /// Parts are taken. Otherwise NG stands between parts.
    pub run: bool,
    /// OK is for parts on a line: pictures of others never drive it.
    pub simulated: bool,
}

impl Shown {
    /// A station that does not run.
    pub const STOPPED: Self =
        Self { ready: false, busy: false, healthy: false, fault: true, drift: false, run: false, simulated: false };

    /// What a status looks like. A station that was asked to be offline is as healthy as one that is ready.
    pub fn new(status: &Glance) -> Self {
        let fit = status.run || status.code == Condition::Offline.code();
        Self {
            ready: status.ready,
            busy: status.busy,
            healthy: fit && status.heartbeat,
            fault: status.fault,
            drift: status.drift,
            run: status.run,
            simulated: status.simulated,
        }
    }
}

/// Where a part's presentation stands. A phase that is entered is written out before the next is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// OK, NG and zones change.
    Data,
    /// They stand, and VALID waits.
    Setup { until: Timestamp },
    /// VALID rises.
    Rise,
    /// VALID is high; `marks` of the zones' marks have passed, the last at `since`.
    Valid { rose: Timestamp, marks: usize, since: Timestamp },
    /// VALID falls; OK, NG and zones, whose second byte it may be, stand for one more step.
    Fall { marks: usize },
}

/// What happens to the zone lines while VALID is high and the zones come in two bytes, in eighths of the hold time: the
/// strobe falls, the second byte comes, the strobe rises, and falls.
const MARKS: [u32; 4] = [2, 3, 4, 6];

/// The state machine.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::sink::gpio::timing::{Part, Timing};
/// use fcam::sink::gpio::{GpioOptions, Role};
///
/// let ms = Duration::from_millis;
/// let mut timing = Timing::new(GpioOptions::default());
/// timing.part(Part { sequence: 0, ok: true, zones: 0, data: ms(97), due: ms(100), hold: ms(50), timed: true });
/// assert_eq!(timing.step(ms(96)), None); // not yet
/// assert_eq!(timing.step(ms(97)).map(|levels| levels.get(Role::Ok)), Some(true)); // OK stands before VALID rises
/// assert_eq!((timing.step(ms(97)), timing.next()), (None, Some(ms(100))));
/// assert_eq!(timing.step(ms(100)).map(|levels| levels.get(Role::Valid)), Some(true));
/// ```
#[derive(Debug)]
pub struct Timing {
    options: GpioOptions,
    shown: Shown,
    parts: Deque<Part, PARTS>,
    standing: Option<(Part, Phase)>,
    flashes: Deque<Timestamp, FLASHES>,
    lit_until: Option<Timestamp>,
    broken: bool,
    levels: Levels,
    cut: u64,
    late: u64,
}

impl Timing {
    /// Lines at rest: [`Levels::SAFE`].
    pub fn new(options: GpioOptions) -> Self {
        Self {
            options,
            shown: Shown::STOPPED,
            parts: Deque::new(),
            standing: None,
            flashes: Deque::new(),
            lit_until: None,
            broken: false,
            levels: Levels::SAFE,
            cut: 0,
            late: 0,
        }
    }

    /// A part to show, behind those that wait; false if there is no room.
    pub fn part(&mut self, part: Part) -> bool {
        self.parts.push_back(part).is_ok()
    }

    /// True if one more part may come.
    pub fn has_room(&self) -> bool {
        !self.parts.is_full()
    }

    /// The station's state from now on.
    pub fn show(&mut self, shown: Shown) {
        self.shown = shown;
    }

    /// A trigger's edge was seen: the lamp is to flash.
    pub fn flash(&mut self, edge: Timestamp) {
        let _ = self.flashes.push_back(edge + self.options.flash_delay); // the lamp cannot flash that often
    }

    /// An output cannot be driven: what is left of the pair says so, and no part is valid.
    pub fn fail(&mut self) {
        self.broken = true;
    }

    /// The outputs can be driven again, from their safe levels on. What was on its way is gone, because half a
    /// pulse does not count; returns how many parts that were.
    pub fn recover(&mut self) -> usize {
        let gone = self.waiting();
        (self.broken, self.standing, self.levels) = (false, None, Levels::SAFE);
        self.parts.clear();
        gone
    }

    /// Parts that are shown or wait.
    pub fn waiting(&self) -> usize {
        self.parts.len() + usize::from(self.standing.is_some())
    }

    /// Parts whose levels the next part cut short.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// OKs that were too late to be shown.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// The next levels to write, if some are due now.
    pub fn step(&mut self, now: Timestamp) -> Option<Levels> {
        self.light(now);
        loop {
            let before = self.standing;
            self.standing = self.advance(now);
            let levels = self.compose();
            if levels != self.levels {
                self.levels = levels;
                return Some(levels);
            }
            if self.standing == before {
                return None;
            }
        }
    }

    /// When to ask again, if nothing new comes.
    pub fn next(&self) -> Option<Timestamp> {
        let front = self.parts.front().map(|part| part.data);
        let part = match self.standing {
            None => front,
            Some((_, Phase::Setup { until })) => Some(until),
            Some((part, Phase::Valid { rose, marks, since })) => {
                let cut = front.map(|data| data.max(rose + SETUP));
                [cut, Some(self.turn(&part, rose, marks, since))].into_iter().flatten().min()
            }
            Some(_) => Some(Timestamp::ZERO),
        };
        [part, self.lit_until, self.flashes.front().copied()].into_iter().flatten().min()
    }

    fn light(&mut self, now: Timestamp) {
        if self.lit_until.is_some_and(|until| until <= now) {
            self.lit_until = None;
        }
        while let Some(at) = self.flashes.front().copied().filter(|at| *at <= now) {
            self.flashes.pop_front();
            self.lit_until = Some(now.max(at) + self.options.flash_width);
        }
    }

    /// The next phase, if its time has come.
    fn advance(&mut self, now: Timestamp) -> Option<(Part, Phase)> {
        let Some((part, phase)) = self.standing else { return self.begin(now) };
        let next = match phase {
            Phase::Data => Phase::Setup { until: part.due.max(now + SETUP) },
            Phase::Setup { until } if now < until => phase,
            Phase::Setup { .. } if is_late(&part, now) => return Some((self.spoil(part), Phase::Data)),
            Phase::Setup { .. } => Phase::Rise,
            Phase::Rise => Phase::Valid { rose: now, marks: 0, since: now },
            Phase::Valid { rose, marks, since } => self.stand(&part, rose, marks, since, now),
            Phase::Fall { .. } => return self.begin(now),
        };
        Some((part, next))
    }

    fn begin(&mut self, now: Timestamp) -> Option<(Part, Phase)> {
        let due = self.parts.front().is_some_and(|part| part.data <= now);
        let mut part = due.then(|| self.parts.pop_front()).flatten()?;
        part.ok &= !self.shown.simulated;
        let part = if is_late(&part, now + SETUP) { self.spoil(part) } else { part }; // VALID cannot rise earlier
        Some((part, Phase::Data))
    }

    /// VALID stays until its time is over, or the next part needs the lines.
    fn stand(&mut self, part: &Part, rose: Timestamp, marks: usize, since: Timestamp, now: Timestamp) -> Phase {
        if self.parts.front().is_some_and(|next| next.data <= now) && now >= rose + SETUP {
            self.cut += u64::from(now < rose + part.hold);
            return Phase::Fall { marks };
        }
        match now < self.turn(part, rose, marks, since) {
            true => Phase::Valid { rose, marks, since },
            false if self.options.two_bytes && marks < MARKS.len() => {
                Phase::Valid { rose, marks: marks + 1, since: now }
            }
            false => Phase::Fall { marks },
        }
    }

    /// When the next mark of the zones comes, or else VALID falls. Marks keep a distance however late they are.
    fn turn(&self, part: &Part, rose: Timestamp, marks: usize, since: Timestamp) -> Timestamp {
        match MARKS.get(marks).filter(|_| self.options.two_bytes) {
            Some(eighths) => (rose + part.hold / 8 * *eighths).max(since + SETUP),
            None if self.options.two_bytes => (rose + part.hold).max(since + SETUP),
            None => rose + part.hold,
        }
    }

    fn spoil(&mut self, part: Part) -> Part {
        self.late += 1;
        Part { ok: false, zones: 0, ..part }
    }

    fn compose(&self) -> Levels {
        let Shown { ready, busy, healthy, fault, drift, .. } = self.shown;
        let fit = !self.broken;
        let levels = Levels::default()
            .with(Role::Ready, ready && fit)
            .with(Role::Busy, busy)
            .with(Role::Healthy, healthy && fit)
            .with(Role::Fault, fault || self.broken)
            .with(Role::Drift, drift)
            .with(Role::Strobe, self.lit_until.is_some());
        match self.standing {
            _ if self.broken => levels.with(Role::Ok, true).with(Role::Ng, true),
            None => levels.with(Role::Ng, !self.shown.run),
            Some((part, phase)) => self.present(levels, &part, phase),
        }
    }

    fn present(&self, levels: Levels, part: &Part, phase: Phase) -> Levels {
        let (valid, marks) = match phase {
            Phase::Data | Phase::Setup { .. } => (false, 0),
            Phase::Rise => (true, 0),
            Phase::Valid { marks, .. } => (true, marks),
            Phase::Fall { marks } => (false, marks),
        };
        let [low, high] = part.zones.to_le_bytes();
        levels
            .with(Role::Ok, part.ok)
            .with(Role::Ng, !part.ok)
            .with(Role::Valid, valid)
            .with(Role::ZoneStrobe, self.options.two_bytes && valid && matches!(marks, 0 | 3))
            .with_zones(if marks >= 2 { high } else { low })
    }
}

/// An OK whose VALID would rise then becomes NG.
fn is_late(part: &Part, rise: Timestamp) -> bool {
    part.timed && part.ok && rise > part.due + LATE
}
