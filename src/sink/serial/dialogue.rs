//! What the PLC says on the line. In: its telegrams or lines, and when they came. Out: triggers, jobs and
//! acknowledgements for the station, and one answer for each.
//!
//! A TRIGGER that is repeated because its answer was lost is the same part: SEQ and the part's number tell. It refuses
//! triggers where the camera itself makes the parts, and those that no result would follow.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Shared;
use crate::clock::Timestamp;
use crate::plc_link::PlcLink;
use crate::telegram::ascii::{self, Command};
use crate::telegram::spec::refusal;
use crate::telegram::{self, Malformed, Message, Received};

/// Triggers that may still be repeated.
const RECENT: usize = 16;
/// After this time the same SEQ and part are a new trigger: a PLC that was started again counts from 0.
const REPEAT: Duration = Duration::from_secs(2);

/// What was asked, for the answer to name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A telegram, named by its SEQ.
    Frame(u16),
    /// A line of text, named by its command; none if that was not understood.
    Line(Option<Command>),
}

/// ACK, or NAK with its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) asked: Asked,
    pub(super) refused: Option<u8>,
}

/// A trigger that has its number.
#[derive(Debug, Clone, Copy)]
struct Recent {
    sequence: u16,
    part_id: u32,
    at: Timestamp,
}

/// The PLC's side of the line.
pub(super) struct Dialogue {
    plc_link: PlcLink,
    shared: Arc<Shared>,
    /// Triggers make the parts.
    external: bool,
    recent: heapless::Deque<Recent, RECENT>,
    /// A job change under way, and the request that its end answers.
    job: Option<(Asked, u16)>,
}

impl Dialogue {
    pub(super) fn new(plc_link: PlcLink, shared: Arc<Shared>, external: bool) -> Self {
        Self { plc_link, shared, external, recent: heapless::Deque::new(), job: None }
    }

    /// A telegram. Its own come back on two-wire lines, and an answer is never answered.
    pub(super) fn frame(&mut self, frame: &Received, at: Timestamp) -> Option<Answer> {
        if frame.version != telegram::VERSION {
            return None;
        }
        let asked = Asked::Frame(frame.sequence);
        match Message::parse(frame.kind, &frame.payload) {
            Ok(Message::Trigger { part_id }) => Some(self.trigger(asked, part_id, at)),
            Ok(Message::Job { job }) => self.ask_job(asked, job),
            Ok(Message::Ack { sequence }) => {
                self.acknowledge(Some(sequence));
                None
            }
            Ok(_) => None,
            Err(Malformed::Short(_) | Malformed::Contradiction(_)) => Some(refuse(asked, refusal::MALFORMED)),
            Err(Malformed::Unknown(_)) => Some(refuse(asked, refusal::UNKNOWN)),
        }
    }

    /// A line, without its end.
    pub(super) fn line(&mut self, line: &[u8], at: Timestamp) -> Option<Answer> {
        match ascii::command(line)? {
            Ok(command) => {
                let asked = Asked::Line(Some(command));
                match command {
                    Command::Trigger(part_id) => Some(self.trigger(asked, part_id, at)),
                    Command::Job(job) => self.ask_job(asked, job),
                    Command::Read => {
                        self.acknowledge(None);
                        Some(done(asked))
                    }
                }
            }
            Err(code) => Some(refuse(Asked::Line(None), code)),
        }
    }

    fn trigger(&mut self, asked: Asked, part_id: u32, at: Timestamp) -> Answer {
        if !self.external {
            return refuse(asked, refusal::UNSUPPORTED);
        }
        if self.repeated(asked, part_id, at) {
            return done(asked);
        }
        match self.plc_link.trigger(at, part_id) {
            Some(_) => {
                self.remember(asked, part_id, at);
                done(asked)
            }
            None => refuse(asked, refusal::NO_NUMBER),
        }
    }

    /// Lines have no SEQ: each is a part.
    fn repeated(&self, asked: Asked, part_id: u32, at: Timestamp) -> bool {
        let same = |recent: &Recent| {
            asked == Asked::Frame(recent.sequence) && recent.part_id == part_id && at.saturating_sub(recent.at) < REPEAT
        };
        self.recent.iter().any(same)
    }

    fn remember(&mut self, asked: Asked, part_id: u32, at: Timestamp) {
        let Asked::Frame(sequence) = asked else { return };
        if self.recent.is_full() {
            self.recent.pop_front();
        }
        let _ = self.recent.push_back(Recent { sequence, part_id, at }); // there is room
    }

    /// Answered when it is done; at once if it is refused.
    fn ask_job(&mut self, asked: Asked, job: u16) -> Option<Answer> {
        match self.job {
            Some((before, same)) if before == asked && same == job => None, // repeated
            Some(_) => Some(refuse(asked, refusal::JOB_BUSY)),
            None if self.plc_link.update(|handshake| handshake.ask_job(job)) => {
                self.job = Some((asked, job));
                self.settle()
            }
            None => Some(refuse(asked, refusal::JOB_BUSY)),
        }
    }

    /// The answer to a job change, once it is over.
    pub(super) fn settle(&mut self) -> Option<Answer> {
        let (asked, job) = self.job?;
        let status = self.plc_link.status();
        if status.job_busy {
            return None;
        }
        self.job = None;
        Some(if status.job == job { done(asked) } else { refuse(asked, refusal::JOB) })
    }

    /// VALID falls for the result that was read, and for no newer one.
    fn acknowledge(&self, sequence: Option<u16>) {
        self.shared.acknowledged.fetch_add(1, Relaxed);
        let newest = self.shared.verdict.load(Relaxed);
        if sequence.is_none_or(|sequence| u32::from(sequence) == newest) {
            self.plc_link.update(|handshake| handshake.acknowledged());
        }
    }
}

fn done(asked: Asked) -> Answer {
    Answer { asked, refused: None }
}

fn refuse(asked: Asked, code: u8) -> Answer {
    Answer { asked, refused: Some(code) }
}
