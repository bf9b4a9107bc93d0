//! The line's thread: verdicts at once, everything else when the line is free, and the device opened again when it comes back.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serial2::SerialPort;

use super::picture::Picture;
use super::{Options, Post, Profile, Shared, port};
use crate::clock::{self, Timestamp};
use crate::mask::Stored;
use crate::telegram::message::NO_TEMPERATURE;
use crate::telegram::receive::GAP_MS;
use crate::telegram::{self, Abort, Malformed, Message, Received, State, ascii, encode};

/// A quiet line is told so often that the station lives.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// Between two tries to open the device.
const RETRY: Duration = Duration::from_millis(500);
/// How often the PLC is listened to.
const LISTEN: Duration = Duration::from_millis(20);

/// Everything that the thread owns.
pub(super) struct Writer {
    options: Options,
    inbox: Receiver<Post>,
    empty: Sender<Stored>,
    shared: Arc<Shared>,
    port: Option<SerialPort>,
    receiver: telegram::Receiver,
    heard: Timestamp,
    sequence: u16,
    picture: Picture,
    began: Timestamp,
    /// When what was written has left the wire, by its rate.
    free: Timestamp,
    retry: Timestamp,
    lost: bool,
    told: u64,
    acknowledged: u64,
}

impl Writer {
    pub(super) fn new(options: Options, inbox: Receiver<Post>, empty: Sender<Stored>, shared: Arc<Shared>) -> Self {
        let began = clock::now();
        Self {
            options,
            inbox,
            empty,
            shared,
            port: None,
            receiver: telegram::Receiver::default(),
            heard: began,
            sequence: 0,
            picture: Picture::default(),
            began,
            free: began,
            retry: began,
            lost: false,
            told: 0,
            acknowledged: 0,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.inbox.recv_timeout(self.wait()) {
                Ok(Post::Verdict { telegram, captured }) => self.tell(telegram, captured),
                Ok(Post::Mask { result_id, mask }) => {
                    let room = self.picture.begin(result_id, mask);
                    let _ = self.empty.try_send(room); // there is room for each
                }
                Ok(Post::NoMask { result_id }) => self.abort(result_id, Abort::Overrun),
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => return self.close(),
            }
            self.listen();
        }
    }

    /// Until the line is free for the rest of a picture; otherwise until it is time to look around.
    fn wait(&self) -> Duration {
        let rest = self.free.saturating_sub(clock::now());
        if self.port.is_some() && self.picture.pending() { rest.min(LISTEN) } else { LISTEN }
    }

    fn idle(&mut self) {
        self.connect();
        let now = clock::now();
        if now < self.free {
            return;
        }
        let lines = self.options.profile == Profile::Ascii;
        if let Some(message) = self.picture.next(&self.options.line, lines) {
            if matches!(message, Message::MaskAbort { .. }) {
                self.shared.masks_lost.fetch_add(1, Relaxed);
            }
            self.send(&message);
        } else if now >= self.free + HEARTBEAT {
            self.heartbeat(State::Ready);
        }
    }

    fn tell(&mut self, mut telegram: telegram::Verdict, captured: Timestamp) {
        let age = clock::now().saturating_sub(captured).as_micros() / 100;
        telegram.latency = age.try_into().unwrap_or(u16::MAX);
        if self.send(&Message::Verdict(telegram)) {
            self.told += 1;
        } else {
            self.shared.missed.fetch_add(1, Relaxed);
        }
        if self.picture.stop() {
            self.abort(self.picture.result_id, Abort::Superseded);
        }
    }

    fn abort(&mut self, result_id: u32, reason: Abort) {
        self.shared.masks_lost.fetch_add(1, Relaxed);
        self.send(&Message::MaskAbort { result_id, reason });
    }

    fn heartbeat(&mut self, state: State) {
        let number = |value: u64| value.try_into().unwrap_or(u32::MAX);
        self.send(&Message::Heartbeat {
            state,
            uptime_s: number(clock::now().saturating_sub(self.began).as_secs()),
            temperature: NO_TEMPERATURE,
            missed: number(self.shared.missed.load(Relaxed)),
            masks_lost: number(self.shared.masks_lost.load(Relaxed)),
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
                self.port = Some(port);
                let Options { line, config, .. } = self.options;
                let (minor, caps, frame_bytes) = (0, u8::from(line.masks), line.frame_bytes as u16);
                if self.send(&Message::Hello { minor, caps, frame_bytes, config }) {
                    self.shared.up.store(true, Relaxed);
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
        self.shared.up.store(false, Relaxed);
        self.retry = clock::now() + RETRY;
        if self.picture.stop() {
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
        match port.write_all(bytes) {
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

    /// Takes what the PLC has sent, and answers.
    fn listen(&mut self) {
        let Some(port) = self.port.as_ref() else { return };
        let mut bytes = [0; 256];
        let mut found: heapless::Vec<Received, 8> = heapless::Vec::new();
        let now = clock::now();
        match port.read(&mut bytes) {
            Ok(count) => {
                self.heard = now;
                for byte in bytes.iter().take(count) {
                    self.receiver.push(*byte, |frame| drop(found.push(frame))); // more than 8 at once are a flood
                }
            }
            Err(_) if now > self.heard + Duration::from_millis(GAP_MS) => {
                self.receiver.gap(|frame| drop(found.push(frame)));
            }
            Err(_) => {} // a device that is gone is noticed at the next write
        }
        found.iter().for_each(|frame| self.answer(frame));
    }

    fn answer(&mut self, frame: &Received) {
        if frame.version != telegram::VERSION || self.options.profile == Profile::Ascii {
            return;
        }
        let code = match Message::parse(frame.kind, &frame.payload) {
            Ok(Message::Trigger { .. } | Message::Job { .. }) => 1,
            Ok(Message::Ack { .. }) => {
                self.acknowledged += 1;
                return;
            }
            // Its own telegrams come back on two-wire lines, and a NAK is never answered.
            Ok(_) => return,
            Err(Malformed::Short(_) | Malformed::Contradiction(_)) => 2,
            Err(Malformed::Unknown(_)) => 3,
        };
        self.send(&Message::Nak { sequence: frame.sequence, code });
    }

    fn close(&mut self) {
        if self.picture.stop() {
            self.abort(self.picture.result_id, Abort::Stopping);
        }
        self.heartbeat(State::Stopping);
        let [missed, masks] = [&self.shared.missed, &self.shared.masks_lost].map(|counter| counter.load(Relaxed));
        log::info!(
            "{}: {} verdicts told, {missed} missed, {masks} masks lost, {} acknowledged",
            self.options.port.display(),
            self.told,
            self.acknowledged
        );
    }
}
