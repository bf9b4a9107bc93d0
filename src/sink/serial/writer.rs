//! The line's thread: verdicts at once, everything else when the line is free, and the device opened again when it
//! comes back.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, never, select};
use serial2::SerialPort;

use super::dialogue::{Answer, Asked};
use super::mask_frames::MaskFrames;
use super::{ANSWERS, Post, Profile, SerialOptions, Shared, port, telegrams};
use crate::clock::{self, Timestamp};
use crate::handshake::{Condition, Status};
use crate::mask::Stored;
use crate::outcome::Outcome;
use crate::plc_link::PlcLink;
use crate::signal::Signaller;
use crate::telegram::message::{MINOR, NO_TEMPERATURE};
use crate::telegram::{Abort, Message, State, ascii, encode};
use crate::verdict::Fault;
use crate::watchdog::{SILENCE, Watchdog};

/// How often a quiet line is told that the station lives.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// Between two tries to open the device.
const RETRY: Duration = Duration::from_millis(500);
/// How often a quiet line looks around.
const LOOK: Duration = Duration::from_millis(20);

/// Everything that the thread owns.
pub(super) struct Writer {
    options: SerialOptions,
    plc_link: PlcLink,
    inbox: Receiver<Post>,
    /// The reader's answers; its sender is kept, so that they never end.
    answers: (Sender<Answer>, Receiver<Answer>),
    owed: heapless::Deque<Answer, ANSWERS>,
    empty: Sender<Stored>,
    shared: Arc<Shared>,
    port: Option<Arc<SerialPort>>,
    sequence: u16,
    mask_frames: MaskFrames,
    began: Timestamp,
    /// When what was written has left the wire, by its rate.
    free: Timestamp,
    retry: Timestamp,
    lost: bool,
    told: u64,
    /// Verdicts that left too late to be OK.
    late: u64,
    watchdog: Watchdog,
    /// Pictures are not of parts: nothing is OK.
    simulated: bool,
    /// Whether the last HEARTBEAT told of a station that needs help, and its code.
    state: Option<(bool, u8, u16)>,
}

impl Writer {
    pub(super) fn new(
        options: SerialOptions,
        plc_link: PlcLink,
        inbox: Receiver<Post>,
        answers: (Sender<Answer>, Receiver<Answer>),
        empty: Sender<Stored>,
        shared: Arc<Shared>,
        watchdog: Watchdog,
    ) -> Self {
        let began = clock::now();
        let simulated = plc_link.glance().simulated;
        Self {
            options,
            plc_link,
            inbox,
            answers,
            owed: heapless::Deque::new(),
            empty,
            shared,
            port: None,
            sequence: 0,
            mask_frames: MaskFrames::default(),
            began,
            free: began,
            retry: began,
            lost: false,
            told: 0,
            late: 0,
            watchdog,
            simulated,
            state: None,
        }
    }

    pub(super) fn run(mut self) {
        let (inbox, said, nothing) = (self.inbox.clone(), self.answers.1.clone(), never());
        loop {
            self.watchdog.feed(clock::now(), SILENCE);
            if inbox.is_empty() {
                self.watchdog.set_down(self.port.is_none()); // what filled the queue was sent
            }
            let answers = if self.owed.is_full() { &nothing } else { &said };
            let wait = self.wait();
            select! {
                recv(inbox) -> post => match post {
                    Ok(post) => self.post(post),
                    Err(_) => return self.close(),
                },
                recv(answers) -> answer => self.owe(answer.ok()),
                default(wait) => self.idle(),
            }
        }
    }

    fn post(&mut self, post: Post) {
        match post {
            Post::Verdict(outcome) => self.tell(&outcome),
            Post::Mask { result_id, mask } => {
                let room = self.mask_frames.begin(result_id, mask);
                let _ = self.empty.try_send(room); // there is room for each
            }
            Post::NoMask { result_id } => self.abort(result_id, Abort::Overrun),
        }
    }

    /// An answer goes out when nothing else wants the line: no verdict waits behind it but for its own bytes.
    fn owe(&mut self, answer: Option<Answer>) {
        if let Some(answer) = answer {
            let _ = self.owed.push_back(answer); // there is room: see `run`
        }
    }

    /// Until the line is free for what waits; otherwise until it is time to look around.
    fn wait(&self) -> Duration {
        let rest = self.free.saturating_sub(clock::now());
        let waits = self.mask_frames.pending() || !self.owed.is_empty();
        if self.port.is_some() && waits { rest.min(LOOK) } else { LOOK }
    }

    fn idle(&mut self) {
        self.connect();
        let now = clock::now();
        if now < self.free || self.port.is_none() {
            return;
        }
        let status = self.plc_link.status();
        let lines = self.options.profile == Profile::Ascii;
        if let Some(answer) = self.owed.pop_front() {
            self.answer(answer);
        } else if self.state != Some(trouble(&status)) || now >= self.free + HEARTBEAT {
            self.heartbeat(state(&status), &status);
        } else if let Some(message) = self.mask_frames.next(&self.options.line, lines) {
            if matches!(message, Message::MaskAbort { .. }) {
                self.shared.masks_lost.fetch_add(1, Relaxed);
            }
            self.send(&message);
        }
    }

    fn answer(&mut self, answer: Answer) {
        match (answer.asked, answer.refused) {
            (Asked::Frame(sequence), None) => self.send(&Message::Ack { sequence }),
            (Asked::Frame(sequence), Some(code)) => self.send(&Message::Nak { sequence, code }),
            (Asked::Line(command), refused) => self.write(ascii::answer(command, refused).as_bytes()),
        };
    }

    /// Whatever held the verdict up: an OK that leaves too late becomes a fault.
    fn tell(&mut self, outcome: &Outcome) {
        let now = clock::now();
        let late = outcome.plc.ok && self.is_late(outcome, now);
        let mut telegram = match late {
            true => telegrams::verdict(&outcome.spoiled(Fault::Late, &self.signaller()), self.simulated),
            false => telegrams::verdict(outcome, self.simulated),
        };
        if late {
            self.say_late(outcome.sequence);
        }
        let age = now.saturating_sub(outcome.captured).as_micros() / 100;
        telegram.latency = age.try_into().unwrap_or(u16::MAX);
        self.shared.verdict.store(self.sequence.into(), Relaxed);
        if self.send(&Message::Verdict(telegram)) {
            self.told += 1;
        } else {
            self.shared.missed.fetch_add(1, Relaxed);
        }
        if self.mask_frames.stop() {
            self.abort(self.mask_frames.result_id, Abort::Superseded);
        }
    }

    /// True if the telegram would leave the station later than the line's own part of the promise allows: the due time,
    /// and what a verdict may wait for the frame on the wire
    /// ([`crate::telegram::budget::SerialLine::head_of_line_ms`]).
    fn is_late(&self, outcome: &Outcome, now: Timestamp) -> bool {
        let wire = Duration::from_millis(self.options.line.head_of_line_ms.into());
        self.signaller().is_late(outcome.captured + wire, now.max(self.free))
    }

    fn signaller(&self) -> Signaller {
        Signaller { delay: self.options.delay, hold: Duration::ZERO }
    }

    fn say_late(&mut self, sequence: u64) {
        self.late += 1;
        if self.late == 1 {
            let port = self.options.port.display();
            log::error!("{port}: part {sequence} leaves too late to be OK and is told as NG; more are only counted");
        }
        self.plc_link.update(|handshake| handshake.told_late());
    }

    fn abort(&mut self, result_id: u32, reason: Abort) {
        self.shared.masks_lost.fetch_add(1, Relaxed);
        self.send(&Message::MaskAbort { result_id, reason });
    }

    fn heartbeat(&mut self, state: State, status: &Status) {
        self.state = Some(trouble(status));
        let number = |value: u64| value.try_into().unwrap_or(u32::MAX);
        self.send(&Message::Heartbeat {
            state,
            code: status.code,
            uptime_s: number(clock::now().saturating_sub(self.began).as_secs()),
            temperature: status.temperature.unwrap_or(NO_TEMPERATURE),
            missed: number(self.shared.missed.load(Relaxed)),
            masks_lost: number(self.shared.masks_lost.load(Relaxed)),
            drift: drift(status),
        });
    }

    /// Opens the device if it is not, and says hello.
    pub(super) fn connect(&mut self) {
        if self.port.is_some() || clock::now() < self.retry {
            return;
        }
        self.retry = clock::now() + RETRY;
        match port::open(&self.options) {
            Ok(port) => {
                let port = Arc::new(port);
                self.shared.set_port(Some(port.clone()));
                self.port = Some(port);
                self.state = None;
                let SerialOptions { line, config, external, .. } = self.options;
                let (caps, frame_bytes) = (u8::from(line.masks) | u8::from(external) << 1, line.frame_bytes as u16);
                if self.send(&Message::Hello { minor: MINOR, caps, frame_bytes, config }) {
                    self.shared.up.store(true, Relaxed);
                    self.watchdog.set_down(false);
                    let again = if std::mem::take(&mut self.lost) { " again" } else { "" };
                    log::info!("{}: open{again}, {} baud", self.options.port.display(), line.baud);
                }
            }
            Err(error) => self.lose(&error),
        }
    }

    /// The device is gone, or takes nothing: told once, tried again and again.
    fn lose(&mut self, error: &std::io::Error) {
        self.port = None;
        self.owed.clear();
        self.shared.set_port(None);
        self.shared.up.store(false, Relaxed);
        self.watchdog.set_down(true);
        self.retry = clock::now() + RETRY;
        if self.mask_frames.stop() {
            self.shared.masks_lost.fetch_add(1, Relaxed);
        }
        if !std::mem::replace(&mut self.lost, true) {
            log::warn!("{}: {error}; verdicts do not reach the PLC until it is back", self.options.port.display());
        }
    }

    /// False if it did not leave.
    fn send(&mut self, message: &Message) -> bool {
        match self.options.profile {
            Profile::Binary => {
                let frame = encode(self.sequence, message);
                self.sequence = self.sequence.wrapping_add(1);
                self.write(&frame)
            }
            Profile::Ascii => {
                let mut sent = true;
                ascii::lines(message, |line| sent = sent && self.write(line.as_bytes()));
                sent
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        let Some(port) = &self.port else { return false };
        match port::write(port, bytes) {
            Ok(()) => {
                let taken = Duration::from_micros(self.options.line.time_us(bytes.len()));
                self.free = self.free.max(clock::now()) + taken;
                true
            }
            Err(error) => {
                self.lose(&error);
                false
            }
        }
    }

    fn close(&mut self) {
        if self.mask_frames.stop() {
            self.abort(self.mask_frames.result_id, Abort::Stopping);
        }
        let status = self.plc_link.status();
        self.heartbeat(State::Stopping, &status);
        let Shared { missed, masks_lost, acknowledged, unanswered, .. } = &*self.shared;
        let [missed, masks, acknowledged, unanswered] =
            [missed, masks_lost, acknowledged, unanswered].map(|counter| counter.load(Relaxed));
        log::info!(
            "{}: {} verdicts told, {} of them too late to be OK, {missed} missed, {masks} masks lost, {acknowledged} acknowledged, \
             {unanswered} answers without room",
            self.options.port.display(),
            self.told,
            self.late,
        );
    }
}

/// How a station is, for HEARTBEAT.
fn state(status: &Status) -> State {
    match status.condition() {
        Some(Condition::Stopping) => State::Stopping,
        Some(condition) if condition.is_fault() => State::Fault,
        _ if status.ready => State::Ready,
        _ => State::NotReady,
    }
}

/// What is told at once when it changes; READY alone changes with every part.
fn trouble(status: &Status) -> (bool, u8, u16) {
    (matches!(state(status), State::Fault | State::Stopping), status.code, drift(status))
}

fn drift(status: &Status) -> u16 {
    status.drift.map_or(0, |drift| drift.all.into())
}
