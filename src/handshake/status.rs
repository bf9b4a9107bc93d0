//! What every output shows of a station: one picture of one moment.

use serde::Serialize;

use super::{Condition, Told};
use crate::drift::Drift;

/// Results since the start; they wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// OK.
    pub ok: u32,
    /// NG, parts that were not judged included.
    pub ng: u32,
    /// Triggers that were not taken.
    pub missed: u32,
}

/// The state of a station, by the names of PLC programmers.
///
/// ```
/// use fcam::handshake::{Condition, Handshake, HandshakeOptions};
///
/// let status = Handshake::new(HandshakeOptions::default()).status();
/// assert_eq!((status.ready, status.condition()), (false, Some(Condition::Starting)));
/// assert!(!status.ok() && !status.ng()); // both low: there is no result
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Status {
    /// A trigger would be judged.
    pub ready: bool,
    /// A part is under way. Never wait for its edge: it may be too short to be seen.
    pub busy: bool,
    /// There is a result that was not acknowledged.
    pub valid: bool,
    /// Changes with every result.
    pub toggle: bool,
    /// Follows the PLC's trigger bit.
    pub trigger_ack: bool,
    /// A trigger was not taken; latched.
    pub missed: bool,
    /// A result found no room, or was given up; latched.
    pub overrun: bool,
    /// A verdict was not told in time; latched.
    pub late: bool,
    /// Something is wrong: [`Self::code`] says what.
    pub fault: bool,
    /// Parts are taken: no condition holds.
    pub run: bool,
    /// The pictures are not of parts on a line.
    pub simulated: bool,
    /// A job change is under way.
    pub job_busy: bool,
    /// The job that was last asked for does not run.
    pub job_failed: bool,
    /// Changes every [`super::HEARTBEAT`] while every thread that judges or tells is alive.
    pub heartbeat: bool,
    /// What holds now, else the last part's reason that was not judged, until it is cleared; 0 none.
    pub code: u8,
    /// The number of the last trigger.
    pub trigger_id: Option<u64>,
    /// The job that runs.
    pub job: u16,
    /// The counter of the signed release that judges; 0: the bundle is no such release.
    pub release: u32,
    /// Of the processor, 0.1 degrees Celsius; none without a sensor.
    pub temperature: Option<i16>,
    /// What has changed in the pictures, until it is cleared; none if nothing has.
    pub drift: Option<Drift>,
    /// The result that may be read: the newest, or with buffered results the oldest that was not acknowledged.
    pub result: Option<Told>,
    /// Results that were not acknowledged.
    pub waiting: u8,
    /// Results so far.
    pub counts: Counts,
}

impl Status {
    /// OK: a valid result says so, and it is of a part on the line.
    pub fn ok(&self) -> bool {
        self.valid && !self.simulated && self.result.as_ref().is_some_and(|result| result.outcome.plc.ok)
    }

    /// NG: a valid result that is not OK.
    pub fn ng(&self) -> bool {
        self.valid && !self.ok()
    }

    /// What keeps the station from taking parts; none while it runs.
    pub fn condition(&self) -> Option<Condition> {
        let holds = |condition: &Condition| !self.run && condition.code() == self.code;
        Condition::ALL.into_iter().find(holds)
    }
}

/// What lines and lamps show of a [`Status`]: enough to know whether anything has changed for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Glance {
    /// See [`Status::ready`].
    pub ready: bool,
    /// See [`Status::busy`].
    pub busy: bool,
    /// See [`Status::fault`].
    pub fault: bool,
    /// True if there is a [`Status::drift`].
    pub drift: bool,
    /// See [`Status::run`].
    pub run: bool,
    /// See [`Status::simulated`].
    pub simulated: bool,
    /// See [`Status::heartbeat`].
    pub heartbeat: bool,
    /// See [`Status::code`].
    pub code: u8,
}
