//! Modbus on a serial line. In: frames, told apart by silence. Out: answers to those for this unit; a broadcast is
//! followed and not answered.
//!
//! What is damaged or for another unit is dropped without an answer, as the line's other units need it. A device that
//! is away is opened again when it comes back.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serial2::SerialPort;

use super::super::serial::port;
use super::Rtu;
use super::registers::{Registers, Window};
use crate::clock::{self, Timestamp};
use crate::modbus;
use crate::modbus::adu::{BROADCAST, Dropped, MAX_RTU, rtu, rtu_answer, rtu_goes_on, silence};
use crate::modbus::pdu::is_write;
use crate::watchdog::{SILENCE, Watchdog};

/// How often a thread that waits looks whether the station stops.
const SLICE: Duration = Duration::from_millis(50);
/// Between two tries to open the device.
const RETRY: Duration = Duration::from_millis(500);
/// How long a request to this unit is waited for that by its own length goes on: USB adapters deliver in pieces, up to
/// 16 ms apart.
const PIECES: Duration = Duration::from_millis(20);

/// One unit on one line.
pub(super) struct Unit {
    options: Rtu,
    registers: Arc<Registers>,
    port: Option<SerialPort>,
    window: Window,
    frame: heapless::Vec<u8, MAX_RTU>,
    /// More came without a silence than a frame can have.
    flooded: bool,
    /// When the first and the last byte of the frame came.
    first: Timestamp,
    last: Timestamp,
    sent: heapless::Vec<u8, MAX_RTU>,
    /// When the answer has left the wire, by its rate.
    free: Timestamp,
    retry: Timestamp,
    lost: bool,
    asked: bool,
}

impl Unit {
    pub(super) fn new(options: Rtu, registers: Arc<Registers>) -> Self {
        let now = clock::now();
        Self {
            options,
            registers,
            port: None,
            window: Window::default(),
            frame: heapless::Vec::new(),
            flooded: false,
            first: now,
            last: now,
            sent: heapless::Vec::new(),
            free: now,
            retry: now,
            lost: false,
            asked: false,
        }
    }

    pub(super) fn run(mut self, watchdog: &Watchdog) {
        while !self.registers.is_closed() {
            watchdog.feed(clock::now(), SILENCE);
            watchdog.set_down(self.port.is_none());
            match self.listen() {
                Ok(true) => {}
                Ok(false) if self.frame.is_empty() && !self.flooded => {}
                Ok(false) => self.end(),
                Err(error) => self.lose(&error),
            }
            self.connect();
        }
    }

    /// Takes what comes; false after the silence that ends a frame, or a slice of waiting for its beginning.
    fn listen(&mut self) -> std::io::Result<bool> {
        let patience = self.patience();
        let Some(port) = &self.port else {
            std::thread::sleep(SLICE);
            return Ok(false);
        };
        let patience = Timespec { tv_sec: 0, tv_nsec: i64::from(patience.subsec_nanos()) };
        match poll(&mut [PollFd::new(port, PollFlags::IN)], Some(&patience)) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0; MAX_RTU];
        let came = match port.read(&mut bytes) {
            Ok(0) => return Err(ErrorKind::NotConnected.into()),
            Ok(count) => bytes.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(true),
            Err(error) => return Err(error),
        };
        self.last = clock::now();
        if self.frame.is_empty() {
            self.first = self.last;
        }
        self.flooded |= self.frame.extend_from_slice(came).is_err();
        Ok(true)
    }

    fn patience(&self) -> Duration {
        if self.frame.is_empty() && !self.flooded {
            return SLICE;
        }
        let whole = self.flooded || !rtu_goes_on(&self.frame, self.options.unit);
        let silence = silence(self.options.baud);
        let needed = if whole { silence } else { silence.max(PIECES) };
        needed.saturating_sub(clock::now().saturating_sub(self.last))
    }

    /// The frame is over: it is answered, followed, or dropped.
    fn end(&mut self) {
        let flooded = std::mem::take(&mut self.flooded);
        let unit = self.options.unit;
        match rtu(&self.frame, unit) {
            _ if flooded => self.damaged(),
            _ if self.is_echo() => {}
            Ok(_) => self.follow(),
            Err(Dropped::Damaged) => self.damaged(),
            Err(Dropped::Other) => {}
        }
        self.frame.clear();
    }

    fn damaged(&self) {
        self.registers.counters.damaged.fetch_add(1, Relaxed);
    }

    /// Two-wire transceivers may hear themselves, and the answer to a write of one register looks like its request.
    fn is_echo(&self) -> bool {
        self.frame == self.sent && self.first <= self.free
    }

    fn follow(&mut self) {
        let Self { options, registers, window, frame, last, .. } = self;
        let (Some(&to), Ok(pdu)) = (frame.first(), rtu(frame, options.unit)) else { return };
        if to == BROADCAST && !is_write(pdu) {
            return;
        }
        // The part was there when the frame was, not when the silence after it was over.
        let answer = modbus::answer(pdu, |access| registers.serve(access, window, true, *last));
        registers.count(&answer);
        rtu_answer(options.unit, &answer, &mut self.sent);
        if !std::mem::replace(&mut self.asked, true) {
            self.registers.masters.fetch_add(1, Relaxed);
        }
        if to == BROADCAST {
            self.sent.clear();
        } else {
            self.send();
        }
    }

    fn send(&mut self) {
        let Some(port) = &self.port else { return };
        let bits = self.options.parity.bits() * self.sent.len() as u32;
        match port::write(port, &self.sent) {
            Ok(()) => {
                let taken = Duration::from_micros(u64::from(bits) * 1_000_000 / u64::from(self.options.baud.max(1)));
                self.free = clock::now() + taken + silence(self.options.baud);
            }
            Err(error) => self.lose(&error),
        }
    }

    /// Opens the device if it is not.
    pub(super) fn connect(&mut self) {
        if self.port.is_some() || clock::now() < self.retry {
            return;
        }
        self.retry = clock::now() + RETRY;
        let Rtu { port, baud, parity, rs485, unit } = &self.options;
        match port::configure(port, *baud, *parity, rs485.then_some("modbus.rtu.rs485")) {
            Ok(opened) => {
                self.port = Some(opened);
                self.frame.clear();
                self.registers.set_line(true);
                let again = if std::mem::take(&mut self.lost) { " again" } else { "" };
                log::info!("{}: open{again}, Modbus unit {unit}, {baud} baud", port.display());
            }
            Err(error) => self.lose(&error),
        }
    }

    /// The device is gone, or takes nothing: told once, tried again and again.
    fn lose(&mut self, error: &std::io::Error) {
        self.port = None;
        self.registers.set_line(false);
        self.retry = clock::now() + RETRY;
        if !std::mem::replace(&mut self.lost, true) {
            log::warn!("{}: {error}; its master gets no answers until it is back", self.options.port.display());
        }
    }
}
