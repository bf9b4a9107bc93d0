//! The thread that hears the PLC. In: bytes, taken as soon as they come, because a trigger's time is that of its last
//! byte. Out: answers for the line's thread to send when the line is free. It waits for nothing but the device.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::Sender;
use serial2::SerialPort;

use super::dialogue::{Answer, Dialogue};
use super::{Profile, Shared};
use crate::clock::{self, Timestamp};
use crate::telegram::{self, ascii, receive::GAP_MS};
use crate::watchdog::{SILENCE, Watchdog};

/// While there is no device.
const IDLE: Duration = Duration::from_millis(20);

/// Everything that the thread owns.
pub(super) struct Reader {
    profile: Profile,
    shared: Arc<Shared>,
    dialogue: Dialogue,
    answers: Sender<Answer>,
    receiver: telegram::Receiver,
    text: heapless::Vec<u8, { ascii::MAX_LINE }>,
    /// The rest of a line that was too long.
    skip: bool,
    heard: Timestamp,
}

impl Reader {
    pub(super) fn new(profile: Profile, shared: Arc<Shared>, dialogue: Dialogue, answers: Sender<Answer>) -> Self {
        let (receiver, text) = (telegram::Receiver::default(), heapless::Vec::new());
        Self { profile, shared, dialogue, answers, receiver, text, skip: false, heard: clock::now() }
    }

    pub(super) fn run(mut self, watchdog: &Watchdog) {
        while !self.shared.stop.load(Relaxed) {
            watchdog.feed(clock::now(), SILENCE);
            match self.shared.port() {
                Some(port) => self.listen(&port),
                None => std::thread::sleep(IDLE),
            }
            let settled = self.dialogue.settle();
            self.answer(settled);
        }
    }

    fn listen(&mut self, port: &SerialPort) {
        let mut bytes = [0; 256];
        match port.read(&mut bytes) {
            Ok(count @ 1..) => {
                self.heard = clock::now();
                bytes.iter().take(count).for_each(|byte| self.take(*byte));
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => self.silence(),
            _ => std::thread::sleep(IDLE), // gone: the next write notices
        }
    }

    fn take(&mut self, byte: u8) {
        match self.profile {
            Profile::Binary => self.frames(|receiver, take| receiver.push(byte, take)),
            Profile::Ascii => self.character(byte),
        }
    }

    fn silence(&mut self) {
        if clock::now() > self.heard + Duration::from_millis(GAP_MS) {
            self.frames(|receiver, take| receiver.gap(take));
        }
    }

    fn frames(&mut self, receive: impl FnOnce(&mut telegram::Receiver, &mut dyn FnMut(telegram::Received))) {
        let Self { receiver, dialogue, answers, shared, heard, .. } = self;
        receive(receiver, &mut |frame| {
            let answer = dialogue.frame(&frame, *heard);
            post(answers, shared, answer);
        });
    }

    fn character(&mut self, byte: u8) {
        match byte {
            b'\n' | b'\r' => {
                let answer = if self.skip { None } else { self.dialogue.line(&self.text, self.heard) };
                self.text.clear();
                self.skip = false;
                self.answer(answer);
            }
            _ => self.skip |= self.text.push(byte).is_err(),
        }
    }

    fn answer(&self, answer: Option<Answer>) {
        post(&self.answers, &self.shared, answer);
    }
}

/// An answer for which there is no room is not given: the PLC asks again, and is not taken twice.
fn post(answers: &Sender<Answer>, shared: &Shared, answer: Option<Answer>) {
    if let Some(answer) = answer
        && answers.try_send(answer).is_err()
    {
        shared.unanswered.fetch_add(1, Relaxed);
    }
}
