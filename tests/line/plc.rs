//! The PLC and the wire to it. The PLC believes nothing but a whole VERDICT under the number that it expects, in time.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fcam::clock::{self, Timestamp};
use fcam::telegram::{Message, Received, Receiver};
use serial2::SerialPort;

use crate::random::Random;

/// The PLC looks at its inputs this often.
const SCAN: Duration = Duration::from_millis(2);

/// A wire: a pseudo-terminal whose bytes come out no faster than the baud rate allows, some of them damaged, sometimes
/// none.
pub struct Link {
    port: SerialPort,
    path: PathBuf,
    byte: Duration,
    /// When the last byte that was let through has left the wire.
    free: Timestamp,
    waiting: Vec<u8>,
    chance: Random,
    cut: Timestamp,
    /// Takes nothing for three seconds out of five.
    hangs: bool,
    _other: SerialPort,
}

impl Link {
    pub fn new(baud: u32) -> Self {
        let (mut port, other) = SerialPort::pair().unwrap();
        let path = std::fs::read_link(format!("/proc/self/fd/{}", other.as_raw_fd())).unwrap();
        port.set_read_timeout(Duration::from_millis(1)).unwrap();
        let byte = Duration::from_secs(10) / baud;
        let (waiting, chance, never) = (vec![], Random(3), Timestamp::ZERO);
        Self { port, path, byte, free: never, waiting, chance, cut: never, hangs: false, _other: other }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same, which takes nothing for three seconds out of five.
    pub fn hanging(self) -> Self {
        Self { hangs: true, ..self }
    }

    /// The bytes that have arrived by now.
    fn take(&mut self) -> Vec<u8> {
        if self.hangs && clock::now().as_secs() % 5 >= 2 {
            return vec![];
        }
        let mut bytes = [0; 4096];
        if let Ok(count) = self.port.read(&mut bytes) {
            self.waiting.extend_from_slice(&bytes[..count]);
        }
        let now = clock::now();
        self.free = self.free.max(now.saturating_sub(SCAN));
        let room = (now.saturating_sub(self.free).as_nanos() / self.byte.as_nanos()) as usize;
        let count = room.min(self.waiting.len());
        self.free += self.byte * count as u32;
        let mut out: Vec<u8> = self.waiting.drain(..count).collect();
        if self.chance.once_in(2000) {
            self.cut = now + Duration::from_millis(self.chance.below(150) as u64);
        }
        if now < self.cut {
            return vec![];
        }
        for byte in &mut out {
            if self.chance.once_in(3000) {
                *byte ^= 1 << self.chance.below(8);
            }
        }
        out
    }
}

/// What the PLC made of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decision {
    /// The part goes on; everything else is kicked out.
    pub passed: bool,
    /// A telegram came too late to be believed.
    pub late: bool,
    /// Whole telegrams for it.
    pub telegrams: u32,
}

#[derive(Default)]
struct Tracking {
    /// When each part was triggered, by its number.
    triggered: Vec<Timestamp>,
    decisions: Vec<Decision>,
}

/// A PLC with a scan cycle and a shift register of parts.
pub struct Plc {
    tracking: Arc<Mutex<Tracking>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Plc {
    pub fn start(mut link: Link, deadline: Duration) -> Self {
        let tracking = Arc::new(Mutex::new(Tracking::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (tracking.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut receiver = Receiver::default();
            while !stopped.load(Ordering::Relaxed) {
                for byte in link.take() {
                    receiver.push(byte, |frame| shared.lock().unwrap().receive(&frame, deadline));
                }
                std::thread::sleep(SCAN);
            }
        });
        Self { tracking, stop, thread }
    }

    /// A part enters; its number is the count of those before it.
    pub fn expect(&self, at: Timestamp) {
        let mut tracking = self.tracking.lock().unwrap();
        tracking.triggered.push(at);
        tracking.decisions.push(Decision::default());
    }

    pub fn stop(self) -> Vec<Decision> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut self.tracking.lock().unwrap().decisions)
    }
}

impl Tracking {
    fn receive(&mut self, frame: &Received, deadline: Duration) {
        let Ok(Message::Verdict(verdict)) = Message::parse(frame.kind, &frame.payload) else { return };
        let index = verdict.result_id as usize;
        let (Some(at), Some(decision)) = (self.triggered.get(index), self.decisions.get_mut(index)) else { return };
        decision.telegrams += 1;
        decision.late |= clock::now() > *at + deadline;
        decision.passed |= verdict.ok && !decision.late;
    }
}
