//! The handshake once more, and differently: nothing but the list of what happened is kept, and every answer is
//! computed from the whole list. Written from board/plc/handshake.md.

use std::time::Duration;

use fcam::handshake::{
    Condition, Controls, Counts, HEARTBEAT, HandshakeOptions, MAX_OPEN, MAX_RESULTS, OVERDUE, Status, Told,
};
use fcam::outcome::Outcome;
use fcam::verdict::{Fault, Verdict};
use fcam::watchdog::Trouble;

/// Something that happened.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a test's list")]
enum Fact {
    Wrote(Controls, Duration),
    /// A number was given; `taken`: to a trigger that will be judged.
    Numbered {
        id: u64,
        trigger: bool,
        taken: bool,
        at: Duration,
    },
    Missed,
    Judged(u64),
    Told(Box<Told>, Verdict),
    TooLate,
    /// VALID rose for this number.
    Shown(u64),
    /// VALID fell.
    Hidden,
    Waits(u64),
    /// A newer one took its place before VALID rose, without buffering.
    Replaced(u64),
    /// Given up: OVERRUN.
    Lost(u64),
    JobBegan(u16),
    JobRefused,
    JobSame,
    JobEnded(bool),
    Cleared,
    Holds(Condition, bool),
    Beat(Duration),
    Ticked(Duration, Trouble),
    Heat(Option<i16>),
    Promised(Duration),
}

/// The list.
#[derive(Debug, Clone)]
pub struct Model {
    options: HandshakeOptions,
    facts: Vec<Fact>,
}

impl Model {
    pub fn new(options: HandshakeOptions) -> Self {
        Self { options, facts: vec![Fact::Holds(Condition::Starting, true)] }
    }

    fn note(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// What came after the last fact that `is`; everything if there was none.
    fn since(&self, is: impl Fn(&Fact) -> bool) -> &[Fact] {
        let at = self.facts.iter().rposition(is).map_or(0, |at| at + 1);
        &self.facts[at..]
    }

    fn controls(&self) -> Controls {
        let wrote = self.facts.iter().rev().find_map(|fact| match fact {
            Fact::Wrote(controls, _) => Some(*controls),
            _ => None,
        });
        wrote.unwrap_or_default()
    }

    fn ids(&self, of: impl Fn(&Fact) -> Option<u64>) -> Vec<u64> {
        self.facts.iter().filter_map(of).collect()
    }

    fn taken(&self) -> Vec<u64> {
        self.ids(|fact| match fact {
            Fact::Numbered { id, taken: true, .. } => Some(*id),
            _ => None,
        })
    }

    pub fn told(&self) -> Vec<u64> {
        self.ids(|fact| match fact {
            Fact::Told(told, _) => Some(told.outcome.sequence),
            _ => None,
        })
    }

    /// Numbers without a result, oldest first; with them whether they were taken.
    pub fn open(&self) -> Vec<(u64, bool)> {
        let told = self.told();
        let numbered = self.facts.iter().filter_map(|fact| match fact {
            Fact::Numbered { id, taken, .. } => Some((*id, *taken)),
            _ => None,
        });
        numbered.filter(|(id, _)| !told.contains(id)).collect()
    }

    fn underway(&self) -> usize {
        self.open().iter().filter(|(_, taken)| *taken).count()
    }

    /// The parts that were taken, and neither judged nor told.
    pub fn unjudged(&self) -> Vec<u64> {
        let told = self.told();
        let judged = self.ids(|fact| if let Fact::Judged(id) = fact { Some(*id) } else { None });
        self.taken().into_iter().filter(|id| !told.contains(id) && !judged.contains(id)).collect()
    }

    fn waits(&self) -> Vec<u64> {
        let waits = self.ids(|fact| if let Fact::Waits(id) = fact { Some(*id) } else { None });
        let over = self.ids(|fact| match fact {
            Fact::Shown(id) | Fact::Replaced(id) | Fact::Lost(id) => Some(*id),
            _ => None,
        });
        waits.into_iter().filter(|id| !over.contains(id)).collect()
    }

    fn valid(&self) -> bool {
        let last = self.facts.iter().rev().find(|fact| matches!(fact, Fact::Shown(_) | Fact::Hidden));
        matches!(last, Some(Fact::Shown(_)))
    }

    fn waiting(&self) -> usize {
        self.waits().len() + usize::from(self.valid())
    }

    fn changing(&self) -> Option<u16> {
        self.since(|fact| matches!(fact, Fact::JobEnded(_))).iter().find_map(|fact| match fact {
            Fact::JobBegan(job) => Some(*job),
            _ => None,
        })
    }

    fn job(&self) -> u16 {
        let (mut job, mut asked) = (self.options.job, 0);
        for fact in &self.facts {
            match fact {
                Fact::JobBegan(other) => asked = *other,
                Fact::JobEnded(true) => job = asked,
                _ => {}
            }
        }
        job
    }

    fn job_failed(&self) -> bool {
        let over = |fact: &Fact| matches!(fact, Fact::JobBegan(_) | Fact::JobSame | Fact::Cleared);
        let end = self.facts.iter().rposition(|fact| matches!(fact, Fact::JobEnded(_)));
        let Some(end) = end.filter(|end| !self.facts[*end..].iter().any(over)) else { return false };
        let began = self.facts[..end].iter().rposition(|fact| matches!(fact, Fact::JobBegan(_))).unwrap();
        let refused = self.facts[began..end].iter().any(|fact| matches!(fact, Fact::JobRefused));
        refused || matches!(self.facts[end], Fact::JobEnded(false))
    }

    fn holds(&self, condition: Condition) -> bool {
        match condition {
            Condition::Offline => self.controls().set_offline,
            Condition::PlcLost => self.plc_lost(),
            Condition::Hung => self.at_the_last_look(|trouble, overdue| trouble.hung || overdue),
            Condition::Channel => self.at_the_last_look(|trouble, _| trouble.down),
            Condition::Overheated => self.overheated(),
            _ => {
                let set = self.facts.iter().rev().find_map(|fact| match fact {
                    Fact::Holds(other, holds) if *other == condition => Some(*holds),
                    _ => None,
                });
                set.unwrap_or(false)
            }
        }
    }

    fn condition(&self) -> Option<Condition> {
        Condition::ALL.into_iter().find(|condition| self.holds(*condition))
    }

    /// A look at the clock found the last change, or the first look, too long ago; and no change came since.
    fn plc_lost(&self) -> bool {
        let (mut before, mut heard, mut lost) = (Controls::default(), None, false);
        for fact in &self.facts {
            match fact {
                Fact::Wrote(controls, now) => {
                    if controls.heartbeat != before.heartbeat {
                        (heard, lost) = (Some(*now), false);
                    }
                    before = *controls;
                }
                Fact::Ticked(now, _) => {
                    let since = *heard.get_or_insert(*now);
                    lost |= !self.options.plc_timeout.is_zero() && *now - since > self.options.plc_timeout;
                }
                _ => {}
            }
        }
        lost
    }

    /// Beats that changed HEARTBEAT.
    fn beats(facts: &[Fact]) -> usize {
        let (mut last, mut count) = (None, 0);
        for fact in facts {
            match fact {
                Fact::Beat(now) if last.is_none_or(|last| *now - last >= HEARTBEAT) => {
                    (last, count) = (Some(*now), count + 1);
                }
                _ => {}
            }
        }
        count
    }

    /// What the last look at the clock found: the threads' trouble, and whether the oldest result was overdue.
    fn at_the_last_look(&self, wrong: impl Fn(Trouble, bool) -> bool) -> bool {
        let Some(at) = self.facts.iter().rposition(|fact| matches!(fact, Fact::Ticked(..))) else { return false };
        let Fact::Ticked(now, trouble) = self.facts[at] else { return false };
        let before = Self { options: self.options, facts: self.facts[..=at].to_vec() };
        !before.holds(Condition::Stopping) && wrong(trouble, before.overdue(now))
    }

    fn overdue(&self, now: Duration) -> bool {
        let promised = self.facts.iter().rev().find_map(|fact| match fact {
            Fact::Promised(within) => Some(*within),
            _ => None,
        });
        let oldest = self.open().first().and_then(|(open, _)| {
            self.facts.iter().find_map(|fact| match fact {
                Fact::Numbered { id, trigger: true, at, .. } if id == open => Some(*at),
                _ => None,
            })
        });
        oldest.zip(promised).is_some_and(|(at, within)| now > at + within + OVERDUE)
    }

    /// It was above the limit, and never five degrees below it since.
    fn overheated(&self) -> bool {
        let Some(limit) = self.options.limit else { return false };
        let heats = self.facts.iter().filter_map(|fact| match fact {
            Fact::Heat(heat) => *heat,
            _ => None,
        });
        let heats: Vec<i16> = heats.collect();
        let hot = heats.iter().rposition(|heat| *heat > limit);
        hot.is_some_and(|hot| heats[hot..].iter().all(|heat| *heat > limit - 50))
    }

    fn ready(&self) -> bool {
        let room = !self.controls().buffer_results || self.underway() + self.waiting() < MAX_RESULTS;
        let free = self.unjudged().len() < self.options.queue;
        self.condition().is_none() && self.changing().is_none() && free && room
    }

    /// The number, if it gets one, and whether it will be judged.
    pub fn trigger(&mut self, enabled: bool, now: Duration) -> Option<(u64, bool)> {
        let ends = self.holds(Condition::Stopping) || self.holds(Condition::Panic);
        let numbered = self.options.external && !ends && self.open().len() < MAX_OPEN;
        let taken = numbered && enabled && self.ready();
        if !taken {
            self.note(Fact::Missed);
        }
        numbered.then(|| (self.number(true, taken, now), taken))
    }

    pub fn number(&mut self, trigger: bool, taken: bool, at: Duration) -> u64 {
        let id = self.facts.iter().filter(|fact| matches!(fact, Fact::Numbered { .. })).count() as u64;
        self.note(Fact::Numbered { id, trigger, taken, at });
        id
    }

    pub fn judged(&mut self, id: u64) {
        self.note(Fact::Judged(id));
    }

    pub fn tell(&mut self, outcome: &Outcome, now: Duration) {
        let latency = (now - outcome.captured).as_micros() / 100;
        let told = Told { outcome: outcome.clone(), latency: latency.try_into().unwrap_or(u16::MAX) };
        let id = outcome.sequence;
        self.note(Fact::Told(Box::new(told), outcome.verdict.clone()));
        let controls = self.controls();
        if !controls.buffer_results {
            self.waits().into_iter().for_each(|id| self.note(Fact::Replaced(id)));
        }
        if !(controls.result_ack || controls.buffer_results && self.valid()) {
            self.note(Fact::Shown(id));
        } else if self.waiting() < MAX_RESULTS {
            self.note(Fact::Waits(id));
        } else {
            self.note(Fact::Lost(id));
        }
    }

    /// The trigger's number, if it rose and got one.
    pub fn write(&mut self, controls: Controls, now: Duration) -> Option<(u64, bool)> {
        let before = self.controls();
        self.note(Fact::Wrote(controls, now));
        if controls.clear_fault && !before.clear_fault {
            self.note(Fact::Cleared);
        }
        if !controls.buffer_results && before.buffer_results {
            self.waits().into_iter().for_each(|id| self.note(Fact::Lost(id)));
        }
        match (before.result_ack, controls.result_ack) {
            (false, true) => self.note(Fact::Hidden),
            (true, false) => self.next(),
            _ => {}
        }
        if controls.job_execute && !before.job_execute {
            self.ask(controls.job);
        }
        if controls.trigger && !before.trigger { self.trigger(controls.trigger_enable, now) } else { None }
    }

    /// Shows the oldest result that waits.
    fn next(&mut self) {
        if let Some(id) = self.waits().first().filter(|_| !self.valid()) {
            self.note(Fact::Shown(*id));
        }
    }

    /// A telegram or a pulse.
    pub fn watchdog(&mut self) {
        self.note(Fact::Hidden);
        if !self.controls().result_ack {
            self.next();
        }
    }

    pub fn ask(&mut self, job: u16) -> bool {
        match self.changing() {
            Some(other) if other == job => true,
            Some(_) => {
                self.note(Fact::JobRefused);
                false
            }
            None => {
                self.note(if job == self.job() { Fact::JobSame } else { Fact::JobBegan(job) });
                true
            }
        }
    }

    /// The job that may be changed to now.
    pub fn asked(&self) -> Option<u16> {
        self.changing().filter(|_| self.underway() == 0)
    }

    pub fn job_done(&mut self, changed: bool) {
        if self.changing().is_some() {
            self.note(Fact::JobEnded(changed));
        }
    }

    pub fn clear(&mut self) {
        self.note(Fact::Cleared);
    }

    pub fn set(&mut self, condition: Condition, holds: bool) {
        self.note(Fact::Holds(condition, holds));
    }

    pub fn turn_heartbeat(&mut self, now: Duration) {
        self.note(Fact::Beat(now));
    }

    pub fn tick(&mut self, now: Duration, trouble: Trouble) {
        self.note(Fact::Ticked(now, trouble));
    }

    pub fn heat(&mut self, heat: Option<i16>) {
        self.note(Fact::Heat(heat));
    }

    pub fn promise(&mut self, within: Duration) {
        self.note(Fact::Promised(within));
    }

    pub fn told_late(&mut self) {
        self.note(Fact::TooLate);
    }

    pub fn status(&self) -> Status {
        let latched = self.since(|fact| matches!(fact, Fact::Cleared));
        let fault = latched.iter().rev().find_map(|fact| match fact {
            Fact::Told(_, Verdict::Fault(fault)) => Some(fault.code()),
            _ => None,
        });
        let late = |fact: &Fact| matches!(fact, Fact::TooLate | Fact::Told(_, Verdict::Fault(Fault::Late)));
        let condition = self.condition();
        let temperature = self.facts.iter().rev().find_map(|fact| match fact {
            Fact::Heat(heat) => Some(*heat),
            _ => None,
        });
        let shown = self.ids(|fact| if let Fact::Shown(id) = fact { Some(*id) } else { None });
        let trigger_id = self.ids(|fact| match fact {
            Fact::Numbered { id, trigger: true, .. } => Some(*id),
            _ => None,
        });
        let count = |is: &dyn Fn(&Fact) -> bool| self.facts.iter().filter(|fact| is(fact)).count() as u32;
        let ok = count(&|fact| matches!(fact, Fact::Told(_, Verdict::Pass)));
        let ng = self.told().len() as u32 - ok;
        let missed = count(&|fact| matches!(fact, Fact::Missed));
        Status {
            ready: self.ready(),
            busy: self.underway() > 0,
            valid: self.valid(),
            toggle: shown.len() % 2 == 1,
            trigger_ack: self.controls().trigger,
            missed: latched.iter().any(|fact| matches!(fact, Fact::Missed)),
            overrun: latched.iter().any(|fact| matches!(fact, Fact::Lost(_))),
            late: latched.iter().any(late),
            fault: condition.is_some_and(Condition::is_fault) || fault.is_some(),
            run: condition.is_none(),
            simulated: self.options.simulated,
            job_busy: self.changing().is_some(),
            job_failed: self.job_failed(),
            heartbeat: Self::beats(&self.facts) % 2 == 1,
            code: condition.map_or(fault.unwrap_or(0), Condition::code),
            trigger_id: trigger_id.last().copied(),
            job: self.job(),
            release: 0,
            temperature: temperature.flatten(),
            drift: None,
            result: shown.last().map(|id| self.result(*id)),
            waiting: self.waiting() as u8,
            counts: Counts { ok, ng, missed },
        }
    }

    fn result(&self, id: u64) -> Told {
        let told = self.facts.iter().find_map(|fact| match fact {
            Fact::Told(told, _) if told.outcome.sequence == id => Some(told.clone()),
            _ => None,
        });
        *told.unwrap()
    }
}
