//! The dialogue with the line's PLC as one state machine. In: triggers, told parts, the PLC's control bits, the
//! station's conditions. Out: a number for each trigger, and the [`Status`] that every output shows: GPIO, serial,
//! Modbus.
//!
//! Pure: time comes in as a value, nothing is stored elsewhere, and nothing fails. Its table is in
//! board/plc/handshake.md. What it refuses:
//! - A trigger while READY is low is no part to judge. It still takes a number and ends in a fault, so that the PLC's
//!   shift register does not slip by one. It takes none only where nothing would close it: see [`Handshake::trigger`].
//! - No output ever needs an edge of BUSY to be seen: every result has a number, and TOGGLE changes with each.
//! - VALID never rises while RESULT_ACK is high: a PLC that acknowledged one result cannot take the next one for it.
//! - A result that waits for its acknowledgement is never overwritten while results are buffered; one that finds no
//!   room is told (OVERRUN).

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::drift::Drift;
use crate::outcome::{Opened, Outcome};
use crate::verdict::{Fault, Verdict};
use crate::watchdog::Trouble;

mod status;
mod told;

pub use status::{Counts, Glance, Status};
pub use told::Told;

/// Results that wait for the PLC's acknowledgement at most.
pub const MAX_RESULTS: usize = 8;

/// Regions of a result that the PLC can read.
pub const MAX_REGIONS: usize = 8;

/// Triggers that have a number and no result yet, at most. No real line brings more.
pub const MAX_OPEN: usize = 1024;

/// HEARTBEAT changes this often while every thread that judges or tells is alive.
pub const HEARTBEAT: Duration = Duration::from_millis(250);

/// A result that is overdue by this much shows that results do not come, whatever holds them up.
pub const OVERDUE: Duration = Duration::from_millis(500);

/// A processor that was too hot counts as cool again this far below its limit, 0.1 degrees Celsius.
const COOLED: i16 = 50;

/// Why a station accepts no parts. Several may hold at once; the first of this list is shown.
///
/// ```
/// use fcam::handshake::{Condition, Handshake, HandshakeOptions};
///
/// let mut handshake = Handshake::new(HandshakeOptions::default()); // it is Starting
/// handshake.set(Condition::Camera, true);
/// assert_eq!(handshake.condition(), Some(Condition::Camera)); // the graver one is shown
/// assert_eq!((Condition::Camera.code(), Condition::Starting.code()), (2, 30));
/// assert!(!Condition::Starting.is_fault());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// A thread of the station panicked.
    Panic,
    /// The engine was given up.
    Engine,
    /// A thread that judges or tells hangs, or results do not come.
    Hung,
    /// A GPIO output cannot be driven.
    Outputs,
    /// A GPIO input cannot be read.
    Inputs,
    /// A channel that tells the PLC is cut, full or hung.
    Channel,
    /// The camera is gone or delivers errors.
    Camera,
    /// No frame came in time.
    Stalled,
    /// The camera sends pictures of another size than the station was set up for.
    Geometry,
    /// The camera sends the same picture again and again.
    Frozen,
    /// The processor is too hot to go on.
    Overheated,
    /// The PLC's heartbeat stopped.
    PlcLost,
    /// The bundle is not proven yet.
    Starting,
    /// It is about to end.
    Stopping,
    /// The PLC asked for it.
    Offline,
}

impl Condition {
    /// All, the gravest first.
    pub const ALL: [Self; 15] = [
        Self::Panic,
        Self::Engine,
        Self::Hung,
        Self::Outputs,
        Self::Inputs,
        Self::Channel,
        Self::Camera,
        Self::Stalled,
        Self::Geometry,
        Self::Frozen,
        Self::Overheated,
        Self::PlcLost,
        Self::Starting,
        Self::Stopping,
        Self::Offline,
    ];

    /// The number that the PLC is shown; board/faults.md has the cures. Parts' own reasons ([`Fault::code`]) share the
    /// numbers below 20.
    pub fn code(self) -> u8 {
        match self {
            Self::Camera => Fault::Camera.code(),
            Self::Stalled => Fault::Stalled.code(),
            Self::Geometry => Fault::Geometry.code(),
            Self::Frozen => Fault::Frozen.code(),
            Self::Engine => Fault::Engine.code(),
            Self::Panic => 20,
            Self::Overheated => 21,
            Self::PlcLost => 22,
            Self::Hung => 23,
            Self::Outputs => 24,
            Self::Inputs => 25,
            Self::Channel => 26,
            Self::Starting => 30,
            Self::Stopping => 31,
            Self::Offline => 32,
        }
    }

    /// True for what a person must mend; the others pass by themselves or were asked for.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::Starting | Self::Stopping | Self::Offline)
    }
}

/// The PLC's control bits and words, as it last wrote them. With all of them low, the PLC asks for nothing.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::handshake::{Condition, Controls, Handshake, HandshakeOptions};
///
/// let mut handshake = Handshake::new(HandshakeOptions::default());
/// handshake.set(Condition::Starting, false);
/// let part = Controls { trigger_enable: true, trigger: true, part_id: 4711, ..Controls::default() };
/// let at = Duration::from_secs(1);
/// assert_eq!(handshake.control(part, at).map(|ticket| ticket.part_id), Some(4711));
/// assert_eq!(handshake.control(part, at), None); // the bit is still high: no edge, no part
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Controls {
    /// Triggers are taken from the PLC's own bit; a rising [`Self::trigger`] without it is a missed one.
    pub trigger_enable: bool,
    /// A part is there, on its rising edge.
    pub trigger: bool,
    /// The result was read, on its rising edge.
    pub result_ack: bool,
    /// Results wait for their acknowledgement, up to [`MAX_RESULTS`].
    pub buffer_results: bool,
    /// Change to [`Self::job`], on its rising edge.
    pub job_execute: bool,
    /// Forget what was latched, on its rising edge.
    pub clear_fault: bool,
    /// Accept no parts while high.
    pub set_offline: bool,
    /// The job to change to.
    pub job: u16,
    /// The PLC's number of the next part.
    pub part_id: u32,
    /// Changes while the PLC is alive.
    pub heartbeat: u16,
}

/// A trigger's place in the order of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ticket {
    /// The part's number at this station, counted from 0.
    pub sequence: u64,
    /// The PLC's number; 0 if it gave none.
    pub part_id: u32,
    /// When the part was there (monotonic).
    pub at: Timestamp,
    /// False: the station was not ready, and the part ends in [`Fault::Missed`].
    pub taken: bool,
}

impl From<Ticket> for Opened {
    fn from(ticket: Ticket) -> Self {
        Self { sequence: ticket.sequence, part_id: ticket.part_id, at: ticket.at }
    }
}

/// What a station fixes once.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::handshake::{Condition, Handshake, HandshakeOptions};
///
/// let mut handshake = Handshake::new(HandshakeOptions { queue: 2, ..HandshakeOptions::default() });
/// handshake.set(Condition::Starting, false);
/// let parts = [1, 2, 3].map(|s| handshake.trigger(Duration::from_secs(s), 0));
/// let taken = parts.map(|ticket| ticket.map(|ticket| ticket.taken));
/// assert_eq!(taken, [Some(true), Some(true), Some(false)]); // the third has a number, and is missed
/// assert!(!handshake.ready());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakeOptions {
    /// Triggers make the parts. Without, the camera does, and a trigger is only counted as missed.
    pub external: bool,
    /// Parts that may wait to be judged, at least 1; with as many, READY is low.
    pub queue: usize,
    /// A PLC whose heartbeat does not change for this long is lost, from the start on; zero for a PLC without one.
    pub plc_timeout: Duration,
    /// The pictures are not of parts on a line.
    pub simulated: bool,
    /// The job that runs.
    pub job: u16,
    /// The highest temperature of the processor, 0.1 degrees Celsius; none: no limit.
    pub limit: Option<i16>,
}

impl Default for HandshakeOptions {
    fn default() -> Self {
        Self { external: true, queue: 1, plc_timeout: Duration::ZERO, simulated: false, job: 0, limit: None }
    }
}

/// A job change that the PLC asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Settled,
    /// `taken`: a thread carries it out. `refused`: another one was asked for meanwhile, and refused.
    Changing {
        job: u16,
        taken: bool,
        refused: bool,
    },
    Failed,
}

/// The state machine.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::handshake::{Condition, Handshake, HandshakeOptions};
///
/// let at = Duration::from_secs(1);
/// let mut handshake = Handshake::new(HandshakeOptions { external: true, ..Default::default() });
/// assert!(!handshake.ready());
/// handshake.set(Condition::Starting, false);
/// assert!(handshake.ready());
/// // A trigger takes a number, whether it can be judged or not.
/// let ticket = handshake.trigger(at, 4711).unwrap();
/// assert_eq!(handshake.status().trigger_id, Some(ticket.sequence));
/// ```
#[derive(Debug, Clone)]
pub struct Handshake {
    options: HandshakeOptions,
    /// By the position in [`Condition::ALL`].
    conditions: [bool; Condition::ALL.len()],
    controls: Controls,
    next: u64,
    /// Triggers with a number that were not told.
    open: usize,
    /// Those of them that were taken.
    underway: usize,
    /// Those of them that were not judged.
    queued: usize,
    /// When those with a number were there, the oldest first.
    since: VecDeque<Timestamp>,
    /// From a trigger to its result at most, as long as nothing is wrong; none: it is not known yet.
    promised: Option<Duration>,
    trigger_id: Option<u64>,
    results: heapless::Deque<Told, MAX_RESULTS>,
    /// The result that the PLC sees now; it stays to be read after its acknowledgement.
    shown: Option<Told>,
    valid: bool,
    toggle: bool,
    missed: bool,
    overrun: bool,
    late: bool,
    /// The last part's reason that was not judged.
    latched: u8,
    counts: Counts,
    /// Triggers that were missed because the parts before them were not judged yet, and for no other reason.
    crowded: u64,
    job: u16,
    release: u32,
    change: Job,
    heartbeat: bool,
    /// When HEARTBEAT changed.
    beaten: Option<Timestamp>,
    /// When the PLC showed a sign of life; at first when it was looked for.
    plc_heard: Option<Timestamp>,
    temperature: Option<i16>,
    drift: Option<Drift>,
    /// The operator cleared it, and whoever watches does not know yet.
    drift_cleared: bool,
}

impl Handshake {
    /// A station that starts: not ready, nothing valid.
    pub fn new(options: HandshakeOptions) -> Self {
        let mut new = Self {
            options,
            conditions: [false; Condition::ALL.len()],
            controls: Controls::default(),
            next: 0,
            open: 0,
            underway: 0,
            queued: 0,
            since: VecDeque::with_capacity(MAX_OPEN),
            promised: None,
            trigger_id: None,
            results: heapless::Deque::new(),
            shown: None,
            valid: false,
            toggle: false,
            missed: false,
            overrun: false,
            late: false,
            latched: 0,
            counts: Counts::default(),
            crowded: 0,
            job: options.job,
            release: 0,
            change: Job::Settled,
            heartbeat: false,
            beaten: None,
            plc_heard: None,
            temperature: None,
            drift: None,
            drift_cleared: false,
        };
        new.set(Condition::Starting, true);
        new
    }

    /// A condition begins or ends.
    pub fn set(&mut self, condition: Condition, holds: bool) {
        let at = Condition::ALL.iter().position(|known| *known == condition);
        if let Some(slot) = at.and_then(|at| self.conditions.get_mut(at)) {
            *slot = holds;
        }
    }

    /// True while a condition holds.
    pub fn holds(&self, condition: Condition) -> bool {
        Condition::ALL.iter().zip(self.conditions).any(|(known, holds)| *known == condition && holds)
    }

    /// The gravest condition that holds.
    pub fn condition(&self) -> Option<Condition> {
        Condition::ALL.into_iter().zip(self.conditions).find_map(|(condition, holds)| holds.then_some(condition))
    }

    /// True if a trigger would be judged.
    pub fn ready(&self) -> bool {
        self.is_willing() && !self.is_crowded()
    }

    /// Nothing but the queue is in the way of a part.
    fn is_willing(&self) -> bool {
        let room = !self.controls.buffer_results || self.underway + self.waiting() < MAX_RESULTS;
        let settled = !matches!(self.change, Job::Changing { .. });
        self.condition().is_none() && settled && room
    }

    fn is_crowded(&self) -> bool {
        self.queued >= self.options.queue.max(1)
    }

    /// Results that the PLC has not acknowledged, the valid one included.
    fn waiting(&self) -> usize {
        self.results.len() + usize::from(self.valid)
    }

    /// A part is there. It takes the next number, whether it can be judged or not. None where no result will ever close
    /// it: the camera makes the parts, the station ends, or [`MAX_OPEN`] are open; then it is only counted as missed.
    pub fn trigger(&mut self, at: Timestamp, part_id: u32) -> Option<Ticket> {
        self.open(at, part_id, true)
    }

    /// A part of which only the loss is known: its trigger came, and was not kept. It takes a number and is missed.
    pub fn lost(&mut self, at: Timestamp) -> Option<Ticket> {
        self.open(at, 0, false)
    }

    /// Triggers that were missed because the parts before them took too long to judge, and for no other reason, since
    /// the start.
    pub fn crowded(&self) -> u64 {
        self.crowded
    }

    /// The next number for a part that the camera itself brings.
    pub fn number(&mut self) -> u64 {
        let sequence = self.next;
        self.next += 1;
        sequence
    }

    fn open(&mut self, at: Timestamp, part_id: u32, enabled: bool) -> Option<Ticket> {
        let closed = self.holds(Condition::Stopping) || self.holds(Condition::Panic);
        let numbered = self.options.external && !closed && self.open < MAX_OPEN;
        let taken = numbered && enabled && self.ready();
        if !taken {
            self.crowded += u64::from(numbered && enabled && self.is_willing());
            self.missed = true;
            self.counts.missed = self.counts.missed.wrapping_add(1);
        }
        numbered.then(|| {
            let sequence = self.number();
            self.trigger_id = Some(sequence);
            self.open += 1;
            self.underway += usize::from(taken);
            self.queued += usize::from(taken);
            self.since.push_back(at);
            Ticket { sequence, part_id, at, taken }
        })
    }

    /// A part has its verdict, and room for another one is free; it is told when it is due. A missed trigger took none.
    pub fn judged(&mut self, verdict: &Verdict) {
        if *verdict != Verdict::Fault(Fault::Missed) {
            self.queued = self.queued.saturating_sub(1);
        }
    }

    /// A part's result, at the moment at which the line is told.
    pub fn told(&mut self, outcome: &Outcome, now: Timestamp) {
        if let Verdict::Fault(fault) = outcome.verdict {
            self.latched = fault.code();
            self.late |= fault == Fault::Late;
        }
        self.open = self.open.saturating_sub(1);
        self.since.pop_front();
        if outcome.verdict != Verdict::Fault(Fault::Missed) {
            self.underway = self.underway.saturating_sub(1);
            self.queued = self.queued.min(self.underway); // whoever does not say `judged`
        }
        let counter = if outcome.plc.ok { &mut self.counts.ok } else { &mut self.counts.ng };
        *counter = counter.wrapping_add(1);
        self.post(Told::new(outcome, now));
    }

    /// A channel told a part too late, and as NG, whose result was in time when the others were told.
    pub fn told_late(&mut self) {
        self.late = true;
    }

    /// Results come at most this long after their triggers. What takes [`OVERDUE`] longer does not come.
    pub fn promise(&mut self, within: Duration) {
        self.promised = Some(within);
    }

    /// Shows a result, or lets it wait: for the acknowledgement of those before it if they are buffered, and for
    /// RESULT_ACK to fall in any case.
    fn post(&mut self, told: Told) {
        if !self.controls.buffer_results {
            self.results.clear();
        }
        let free = !self.valid || !self.controls.buffer_results;
        if free && !self.controls.result_ack {
            self.show(told);
        } else if self.waiting() >= MAX_RESULTS || self.results.push_back(told).is_err() {
            self.overrun = true;
        }
    }

    fn show(&mut self, told: Told) {
        self.shown = Some(told);
        self.valid = true;
        self.toggle = !self.toggle;
    }

    /// The PLC's controls as they stand now. What acts on an edge acts on the change from the last call; a rising
    /// trigger gives a ticket.
    pub fn control(&mut self, controls: Controls, now: Timestamp) -> Option<Ticket> {
        let before = std::mem::replace(&mut self.controls, controls);
        let rises = |bit: fn(&Controls) -> bool| bit(&controls) && !bit(&before);
        self.hear(controls.heartbeat != before.heartbeat, now);
        self.set(Condition::Offline, controls.set_offline);
        if rises(|controls| controls.clear_fault) {
            self.clear();
        }
        if before.buffer_results && !controls.buffer_results {
            self.unbuffer();
        }
        if controls.result_ack != before.result_ack {
            self.acknowledge(controls.result_ack);
        }
        if rises(|controls| controls.job_execute) {
            self.ask_job(controls.job);
        }
        let triggered = rises(|controls| controls.trigger);
        triggered.then(|| self.open(now, controls.part_id, controls.trigger_enable)).flatten()
    }

    fn hear(&mut self, beats: bool, now: Timestamp) {
        if beats {
            self.plc_heard = Some(now);
            self.set(Condition::PlcLost, false);
        }
    }

    /// Results that wait for an acknowledgement are not waited for any more.
    fn unbuffer(&mut self) {
        self.overrun |= !self.results.is_empty();
        self.results.clear();
    }

    /// A result was read, without a level to lower again: telegrams and pulses.
    pub fn acknowledged(&mut self) {
        self.acknowledge(true);
        if !self.controls.result_ack {
            self.acknowledge(false);
        }
    }

    /// Rising: VALID falls. Falling: the next result is shown, if one waits.
    fn acknowledge(&mut self, high: bool) {
        if high {
            self.valid = false;
        } else if !self.valid
            && let Some(next) = self.results.pop_front()
        {
            self.show(next);
        }
    }

    /// Forgets what was latched; what still holds is still shown.
    pub fn clear(&mut self) {
        (self.missed, self.overrun, self.late, self.latched) = (false, false, false, 0);
        (self.drift, self.drift_cleared) = (None, true);
        if self.change == Job::Failed {
            self.change = Job::Settled;
        }
    }

    /// A job change is asked for; READY is low until it is [`Self::job_done`]. The job that runs is done at once. False
    /// if another change is under way: this one is refused, which JOB_FAIL tells at the end of the other.
    pub fn ask_job(&mut self, job: u16) -> bool {
        match &mut self.change {
            Job::Changing { job: other, refused, .. } => {
                *refused |= *other != job;
                *other == job
            }
            change => {
                let changing = Job::Changing { job, taken: false, refused: false };
                *change = if job == self.job { Job::Settled } else { changing };
                true
            }
        }
    }

    /// The job to change to, once nothing is under way that the old one must judge.
    pub fn job_asked(&self) -> Option<u16> {
        match self.change {
            Job::Changing { job, .. } if self.underway == 0 => Some(job),
            _ => None,
        }
    }

    /// The same for the thread that carries it out: each change is given out once.
    pub fn take_job(&mut self) -> Option<u16> {
        let asked = self.job_asked()?;
        let Job::Changing { taken, .. } = &mut self.change else { return None };
        (!std::mem::replace(taken, true)).then_some(asked)
    }

    /// The change is over. One that failed keeps the old job, and says so until it is cleared or the next change.
    pub fn job_done(&mut self, changed: bool) {
        if let Job::Changing { job, refused, .. } = self.change {
            self.job = if changed { job } else { self.job };
            self.change = if changed && !refused { Job::Settled } else { Job::Failed };
        }
    }

    /// Another job runs, which the PLC did not ask for: the operator chose another bundle.
    pub fn run_job(&mut self, job: u16) {
        self.job = job;
    }

    /// Another release of a signed bundle judges from now on; 0 for a bundle that is no signed release.
    pub fn run_release(&mut self, release: u32) {
        self.release = release;
    }

    /// Time passes: what did not show a sign of life for too long is lost. `trouble` is what the watchdogs say. Whoever
    /// asks for the status says this first, so that no thread is needed that may hang itself.
    pub fn tick(&mut self, now: Timestamp, trouble: Trouble) {
        let heard = *self.plc_heard.get_or_insert(now);
        let timeout = self.options.plc_timeout;
        if !timeout.is_zero() && now.saturating_sub(heard) > timeout {
            self.set(Condition::PlcLost, true);
        }
        // Threads that were told to end feed no watchdog.
        let running = !self.holds(Condition::Stopping);
        self.set(Condition::Hung, running && (trouble.hung || self.is_overdue(now)));
        self.set(Condition::Channel, running && trouble.down);
    }

    /// True if the result of the oldest part should have been told long ago.
    fn is_overdue(&self, now: Timestamp) -> bool {
        let due = self.since.front().zip(self.promised).map(|(at, within)| *at + within + OVERDUE);
        due.is_some_and(|due| now > due)
    }

    /// The processor's temperature, 0.1 degrees Celsius; none without a sensor. Hysteresis keeps READY from flickering
    /// at the limit. A sensor that is gone has not cooled down.
    pub fn set_temperature(&mut self, temperature: Option<i16>) {
        self.temperature = temperature;
        let back = if self.holds(Condition::Overheated) { COOLED } else { 0 };
        if let Some((now, limit)) = temperature.zip(self.options.limit) {
            self.set(Condition::Overheated, now > limit.saturating_sub(back));
        }
    }

    /// What has changed in the pictures, as whoever watches them says with each part. False if it was cleared since the
    /// part before: then it is not shown, and whoever watches begins anew.
    pub fn watched(&mut self, drift: Option<Drift>) -> bool {
        let cleared = std::mem::take(&mut self.drift_cleared);
        self.drift = drift.filter(|_| !cleared);
        !cleared
    }

    /// Every thread that judges or tells is alive. True if HEARTBEAT changed.
    pub fn turn_heartbeat(&mut self, now: Timestamp) -> bool {
        if self.beaten.is_some_and(|beaten| now.saturating_sub(beaten) < HEARTBEAT) {
            return false;
        }
        (self.beaten, self.heartbeat) = (Some(now), !self.heartbeat);
        true
    }

    /// What the PLC's bits and words were last.
    pub fn controls(&self) -> Controls {
        self.controls
    }

    /// What the outputs show.
    pub fn status(&self) -> Status {
        let Glance { ready, busy, fault, run, simulated, heartbeat, code, .. } = self.glance();
        Status {
            ready,
            busy,
            valid: self.valid,
            toggle: self.toggle,
            trigger_ack: self.controls.trigger,
            missed: self.missed,
            overrun: self.overrun,
            late: self.late,
            fault,
            run,
            simulated,
            job_busy: matches!(self.change, Job::Changing { .. }),
            job_failed: self.change == Job::Failed,
            heartbeat,
            code,
            trigger_id: self.trigger_id,
            job: self.job,
            release: self.release,
            temperature: self.temperature,
            drift: self.drift,
            result: self.shown.clone(),
            waiting: self.waiting() as u8,
            counts: self.counts,
        }
    }

    /// The part of the status that lines and lamps show.
    pub fn glance(&self) -> Glance {
        let condition = self.condition();
        let active = condition.map_or(0, Condition::code);
        Glance {
            ready: self.ready(),
            busy: self.underway > 0,
            fault: condition.is_some_and(Condition::is_fault) || self.latched != 0,
            drift: self.drift.is_some(),
            run: condition.is_none(),
            simulated: self.options.simulated,
            heartbeat: self.heartbeat,
            code: if active == 0 { self.latched } else { active },
        }
    }
}

/// A number as the PLC counts it in 16 bits: 1 to 65535 and again 1, never 0, so that 0 is no part.
pub fn short_id(sequence: u64) -> u16 {
    (sequence % u64::from(u16::MAX)) as u16 + 1
}
