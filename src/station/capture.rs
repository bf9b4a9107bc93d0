//! The camera's edge. In: frames and errors, and tickets of the line where triggers make the parts. Out: numbered
//! parts, and one fault for each trouble of the camera.
//!
//! A camera in trouble is asked again and again: it comes back by itself, at the pace it is asked. With triggers, its
//! trouble takes no number: a number is a part, and the PLC counts along. A frame that came and may not be judged
//! (another size, the same again and again) is trouble too; where frames make the parts, each of them is one, and a
//! fault.

use std::time::Duration;

use super::count::Counters;
use super::inbox::{Buffer, Inbox, Offer, Trigger};
use super::matching::{Choice, Matching, Neighbours, Unused};
use super::stop::{RunState, Stop};
use crate::camera::{self, Camera, Frame, Geometry};
use crate::clock::{self, Timestamp};
use crate::handshake::{Condition, Ticket};
use crate::outcome::Opened;
use crate::plc_link::PlcLink;
use crate::verdict::Fault;
use crate::watchdog::{SILENCE, Watchdog};

/// How long the camera may keep this thread before it looks whether the station stops.
const SLICE: Duration = Duration::from_millis(100);

/// The same with triggers, which may end without a frame.
const TRIGGERED_SLICE: Duration = Duration::from_millis(5);

/// A pause after an error, on top of the camera's own, so that one that fails at once does not fill a core.
const PAUSE: Duration = Duration::from_millis(20);

/// From the capture of a frame to its delivery; one that takes longer is not waited for.
const DELIVERY: Duration = Duration::from_millis(100);

/// A camera that is opened, for the first time or again, may hold this thread up for this long; READY is low until its
/// first frame in any case.
const OPENING: Duration = Duration::from_secs(20);

/// Before a part's outputs are due it must be known that no frame shows it.
const MARGIN: Duration = Duration::from_millis(5);

/// The capture thread.
pub(super) struct Capture<'a> {
    pub(super) camera: Box<dyn Camera>,
    pub(super) intake: Intake<'a>,
    /// A camera that says nothing for this long is stalled.
    pub(super) timeout: Duration,
    /// Frames to take; then the station drains.
    pub(super) frames: u64,
    pub(super) stop: Stop,
    pub(super) watchdog: Watchdog,
}

impl Capture<'_> {
    pub(super) fn run(mut self) {
        let slice = if self.intake.matching.is_some() { TRIGGERED_SLICE } else { SLICE };
        while self.stop.state() == RunState::Run && self.intake.frames < self.frames && !self.intake.closed {
            let now = clock::now();
            self.watchdog.feed(now, if self.intake.sees() { SILENCE } else { OPENING });
            let deadline = now + slice;
            match self.run_once(deadline) {
                Ok(()) => {}
                Err(camera::Error::Ended) => {
                    log::info!("{} has ended", self.camera.describe());
                    break;
                }
                Err(error) => self.recover(&error, deadline),
            }
            self.intake.expire(clock::now());
        }
    }

    fn run_once(&mut self, deadline: Timestamp) -> Result<(), camera::Error> {
        let frame = self.camera.next(deadline)?;
        self.intake.frame(&frame);
        Ok(())
    }

    fn recover(&mut self, error: &camera::Error, deadline: Timestamp) {
        let now = clock::now();
        match error {
            camera::Error::Timeout { .. } => {
                let silent = now.saturating_sub(self.intake.heard);
                // A sensor that is fired is silent while no part comes.
                if silent >= self.timeout && !self.intake.trigger.fires() {
                    let reason = format!("no frame from {} for {silent:.1?}", self.camera.describe());
                    self.intake.trouble(Fault::Stalled, now, &reason);
                }
                // No pause after a wait: a frame that comes now should be stamped now.
                self.stop.sleep(deadline, RunState::Drain);
            }
            camera::Error::OtherSize { .. } => self.intake.unusable(Fault::Geometry, now, &error.to_string()),
            camera::Error::Frozen { captured, .. } => {
                self.intake.unusable(Fault::Frozen, *captured, &error.to_string());
            }
            _ => {
                self.intake.counters.camera_errors.add(1);
                self.intake.trouble(Fault::Camera, now, &error.to_string());
                self.stop.sleep(now + PAUSE, RunState::Drain);
            }
        }
    }
}

/// What a camera can be in.
const TROUBLES: [(Fault, Condition); 4] = [
    (Fault::Camera, Condition::Camera),
    (Fault::Stalled, Condition::Stalled),
    (Fault::Geometry, Condition::Geometry),
    (Fault::Frozen, Condition::Frozen),
];

/// True for the trouble of a camera whose frames come.
fn is_of_a_frame(trouble: Fault) -> bool {
    matches!(trouble, Fault::Geometry | Fault::Frozen)
}

/// The frame before the newest, for triggers whose part it shows best.
#[derive(Debug, Default)]
struct Previous {
    captured: Option<Timestamp>,
    geometry: Option<Geometry>,
    buffer: Buffer,
}

impl Previous {
    fn frame(&self) -> Option<Frame<'_>> {
        self.buffer.frame(0, self.captured?, self.geometry?)
    }

    fn set(&mut self, frame: &Frame, unused: bool) {
        self.captured = unused.then_some(frame.captured());
        if unused {
            self.geometry = Some(frame.geometry());
            self.buffer.fill(frame);
        }
    }
}

/// Numbers everything that will end in a verdict, and hands it on. When it goes, by a panic too, what waits ends in
/// faults and the inbox is closed.
pub(super) struct Intake<'a> {
    inbox: &'a Inbox,
    counters: &'a Counters,
    plc_link: PlcLink,
    trigger: Trigger,
    /// Only where triggers make the parts.
    matching: Option<Matching>,
    /// From a trigger to its outputs; zero if they come as soon as they are known.
    due: Duration,
    previous: Previous,
    /// The triggers before the next one.
    past: Neighbours,
    /// A part that has its number and is not in the inbox yet.
    open: Option<Opened>,
    frames: u64,
    /// The camera's number of the next frame, if the last thing that came was a frame.
    expected: Option<u64>,
    /// When the last frame came.
    heard: Timestamp,
    /// Since when the camera is in trouble, and which.
    trouble: Option<(Timestamp, Fault)>,
    closed: bool,
}

impl<'a> Intake<'a> {
    pub(super) fn new(
        inbox: &'a Inbox,
        counters: &'a Counters,
        plc_link: PlcLink,
        trigger: Trigger,
        due: Duration,
    ) -> Self {
        let heard = clock::now();
        let matching = match trigger {
            Trigger::External { matching, .. } => Some(matching),
            Trigger::FreeRun | Trigger::EveryFrame { .. } => None,
        };
        Self {
            inbox,
            counters,
            plc_link,
            trigger,
            matching,
            due,
            previous: Previous::default(),
            past: Neighbours::default(),
            open: None,
            frames: 0,
            expected: None,
            heard,
            trouble: None,
            closed: false,
        }
    }

    /// True if frames come.
    fn sees(&self) -> bool {
        self.frames > 0 && self.trouble.is_none()
    }

    fn frame(&mut self, frame: &Frame) {
        self.heard = clock::now();
        if let Some((since, _)) = self.trouble.take() {
            self.counters.camera_restarts.add(1);
            log::warn!("the camera is back after {:.1?}", self.heard.saturating_sub(since));
            self.show(None);
        }
        if self.frames == 0 {
            self.plc_link.update(|handshake| handshake.set(Condition::Starting, false));
        }
        self.gap(frame);
        self.frames += 1;
        match self.matching {
            Some(matching) => self.matched(matching, frame),
            None => {
                let opened = self.number(frame.captured());
                self.offer(opened, frame);
            }
        }
    }

    /// A part that the camera itself brings.
    fn number(&mut self, at: Timestamp) -> Opened {
        let opened = Opened { sequence: self.plc_link.number(), part_id: 0, at };
        self.open = Some(opened);
        opened
    }

    fn offer(&mut self, opened: Opened, frame: &Frame) {
        let offer = self.inbox.offer(opened, frame);
        self.open = None;
        match offer {
            Offer::Taken | Offer::Overflowed => self.counters.frames.add(1),
            Offer::Replaced => {
                self.counters.frames.add(1);
                self.counters.dropped.add(1);
            }
            Offer::Closed => self.closed = true,
        }
    }

    /// Gives the newest frame, and the one before it, to the triggers that they belong to.
    fn matched(&mut self, matching: Matching, frame: &Frame) {
        let now = frame.captured();
        let mut unused = Unused { previous: self.previous.captured, this: Some(now) };
        while let Some((ticket, choice)) = self.next(|ticket, around| matching.choose(ticket.at, around, now, unused)) {
            let opened = Opened::from(ticket);
            match choice {
                Choice::This => {
                    unused.this = None;
                    self.offer(opened, frame);
                }
                Choice::Previous => {
                    unused.previous = None;
                    self.offer_previous(opened);
                }
                Choice::Doubtful => {
                    unused.this = None;
                    self.fault(opened, Fault::NoFrame);
                }
                Choice::None | Choice::Wait => self.fault(opened, Fault::NoFrame),
            }
        }
        self.previous.set(frame, unused.this.is_some());
    }

    fn offer_previous(&mut self, opened: Opened) {
        let previous = std::mem::take(&mut self.previous);
        match previous.frame() {
            Some(frame) => self.offer(opened, &frame),
            None => self.fault(opened, Fault::NoFrame),
        }
        self.previous = Previous { captured: None, ..previous };
    }

    /// The next ticket that can be judged now, and how; those that were missed become faults on the way, in their
    /// place.
    fn next(&mut self, choose: impl Fn(&Ticket, Neighbours) -> Choice) -> Option<(Ticket, Choice)> {
        loop {
            let past = self.past;
            let turn = |ticket: &Ticket, after| {
                let choice = if ticket.taken { choose(ticket, Neighbours { after, ..past }) } else { Choice::None };
                (choice != Choice::Wait).then_some(choice)
            };
            let (ticket, choice) = self.plc_link.next_ticket(turn)?;
            self.open = Some(ticket.into());
            self.past.before = Some(ticket.at);
            if !matches!(choice, Choice::This | Choice::Previous) {
                self.past.unserved = Some(ticket.at);
            }
            if ticket.taken {
                return Some((ticket, choice));
            }
            self.fault(ticket.into(), Fault::Missed);
        }
    }

    /// Triggers whose frame will not come, and those that were missed.
    fn expire(&mut self, now: Timestamp) {
        let Some(matching) = self.matching else { return };
        let (due, trouble) = (self.due, self.trouble);
        let fault = trouble.map_or(Fault::NoFrame, |(_, fault)| fault);
        let over = |ticket: &Ticket| {
            let last = matching.target(ticket.at) + matching.window + DELIVERY;
            let told = if due.is_zero() { last } else { (ticket.at + due).saturating_sub(MARGIN) };
            trouble.is_some() || now >= last.min(told)
        };
        while let Some((ticket, _)) = self.next(|ticket, _| if over(ticket) { Choice::None } else { Choice::Wait }) {
            self.fault(ticket.into(), fault);
        }
    }

    /// No frame will come any more: what waits ends in a fault.
    fn finish(&mut self) {
        self.plc_link.update(|handshake| handshake.set(Condition::Stopping, true));
        if let Some(opened) = self.open {
            self.fault(opened, Fault::Stopped);
        }
        if self.matching.is_some() {
            while let Some((ticket, _)) = self.next(|_, _| Choice::None) {
                self.fault(ticket.into(), Fault::Stopped);
            }
        }
    }

    /// Frames that the camera itself lost: parts went by unseen if every frame is one.
    fn gap(&mut self, frame: &Frame) {
        let lost = self.expected.map_or(0, |expected| frame.sequence().saturating_sub(expected));
        self.expected = Some(frame.sequence().saturating_add(1));
        if lost > 0 {
            if self.counters.lost.get() == 0 {
                log::error!("the camera lost {lost} frames before frame {}; more are only counted", frame.sequence());
            }
            self.counters.lost.add(lost);
            if matches!(self.trigger, Trigger::EveryFrame { .. }) {
                self.incident(Fault::Camera, frame.captured());
            }
        }
    }

    /// One fault for the whole trouble, at its beginning; what follows until the next frame is only counted.
    fn trouble(&mut self, fault: Fault, now: Timestamp, reason: &str) {
        self.expected = None;
        // A camera whose frames came, and come no more, is in another trouble than before.
        if self.trouble.is_some_and(|(_, known)| !is_of_a_frame(known)) {
            return log::debug!("camera: {reason}");
        }
        self.begin(fault, now, reason);
        if self.matching.is_none() {
            self.incident(fault, now);
        }
    }

    /// A frame came, and may not be judged: it ends a silence nevertheless, and where it would have been a part, it is
    /// a fault.
    fn unusable(&mut self, fault: Fault, captured: Timestamp, reason: &str) {
        self.heard = clock::now();
        self.expected = None;
        if self.trouble.is_none_or(|(_, known)| known != fault) {
            self.begin(fault, self.heard, reason);
        }
        self.frames += 1;
        if self.matching.is_none() {
            let opened = self.number(captured);
            self.counters.frames.add(1);
            self.closed |= !self.inbox.fault(opened, fault);
            self.open = None;
        }
    }

    /// Another trouble than before, or the first.
    fn begin(&mut self, fault: Fault, now: Timestamp, reason: &str) {
        log::error!("camera: {reason}");
        self.trouble = Some((self.trouble.map_or(now, |(since, _)| since), fault));
        self.show(Some(fault));
    }

    /// Which trouble the camera is in, to the PLC. A sensor that is fired sends its next frame, which may end the
    /// trouble of the last, at the next trigger alone: READY stays for it.
    fn show(&self, trouble: Option<Fault>) {
        let shown = trouble.filter(|fault| !(self.trigger.fires() && is_of_a_frame(*fault)));
        self.plc_link.update(|handshake| {
            for (fault, condition) in TROUBLES {
                handshake.set(condition, shown == Some(fault));
            }
            if trouble.is_some_and(is_of_a_frame) {
                handshake.set(Condition::Starting, false);
            }
        });
    }

    fn incident(&mut self, fault: Fault, at: Timestamp) {
        let opened = self.number(at);
        self.fault(opened, fault);
    }

    fn fault(&mut self, opened: Opened, fault: Fault) {
        let heard = self.inbox.fault(opened, fault);
        self.open = None;
        if heard {
            self.counters.incidents.add(1);
        } else {
            self.closed = true;
        }
    }
}

impl Drop for Intake<'_> {
    fn drop(&mut self) {
        self.finish();
        self.inbox.close();
    }
}
