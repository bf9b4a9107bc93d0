//! Parts and the sensor that sees them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use fcam::camera::{Camera, Error, Frame, Geometry, PixelFormat};
use fcam::clock::{self, Timestamp};
use fcam::handshake::Ticket;
use fcam::plc_link::PlcLink;

use crate::SPACING;
use crate::plc::Plc;
use crate::random::Random;

/// From the trigger to the end of the exposure.
const EXPOSURE: Duration = Duration::from_micros(300);

/// What goes wrong at the sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The picture is lost.
    Lost,
    /// It is silent for so long, and forgets what fired it in that time.
    Stall(Duration),
    /// It reports an error, and the picture is lost.
    Error,
}

/// An edge at the sensor's trigger input.
#[derive(Debug, Clone, Copy)]
pub struct Fire {
    pub at: Timestamp,
    pub good: bool,
    pub trouble: Option<Trouble>,
}

/// A part and what is true of it.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub ticket: Ticket,
    pub good: bool,
    pub trouble: Option<Trouble>,
}

/// A sensor that takes a picture for each edge: bright for a good part, dark for a bad one.
pub struct Sensor {
    fired: Receiver<Fire>,
    bytes: Vec<u8>,
    sequence: u64,
    silent: Timestamp,
}

impl Sensor {
    pub fn new(fired: Receiver<Fire>) -> Self {
        Self { fired, bytes: vec![], sequence: 0, silent: Timestamp::ZERO }
    }

    pub fn geometry(&self) -> Geometry {
        Geometry::packed(64, 64, PixelFormat::Rgb8).unwrap()
    }

    fn timeout(&self) -> Error {
        Error::Timeout { camera: self.describe(), waited: Duration::ZERO }
    }

    fn wait(&self, deadline: Timestamp) -> Result<Fire, Error> {
        let left = deadline.saturating_sub(clock::now());
        self.fired.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => self.timeout(),
            RecvTimeoutError::Disconnected => Error::Ended,
        })
    }
}

impl Camera for Sensor {
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, Error> {
        let fire = loop {
            let fire = self.wait(deadline)?;
            match fire.trouble {
                _ if fire.at < self.silent => {}
                Some(Trouble::Lost) => {}
                Some(Trouble::Error) => {
                    return Err(Error::Read { camera: self.describe(), source: std::io::Error::other("scripted") });
                }
                Some(Trouble::Stall(time)) => self.silent = fire.at + time,
                None => break fire,
            }
        };
        let captured = fire.at + EXPOSURE;
        std::thread::sleep(captured.saturating_sub(clock::now()));
        let geometry = self.geometry();
        self.bytes.clear();
        self.bytes.resize(geometry.frame_bytes(), if fire.good { 200 } else { 50 });
        self.sequence += 1;
        Frame::new(self.sequence, captured, geometry, &self.bytes)
    }

    fn describe(&self) -> String {
        "a simulated sensor".into()
    }
}

/// Brings parts at the claimed rate, in bursts now and then.
pub struct Conveyor<'a> {
    pub plc_link: &'a PlcLink,
    pub fire: Sender<Fire>,
    pub plc: &'a Plc,
    pub chance: Random,
}

impl Conveyor<'_> {
    pub fn run(mut self, triggers: u64) -> Vec<Part> {
        let mut due = clock::now();
        let mut burst = 0;
        (0..triggers)
            .map(|index| {
                if self.chance.once_in(700) {
                    burst = 12; // more at once than may be under way
                }
                burst = u32::saturating_sub(burst, 1);
                due += if burst > 0 { SPACING / 20 } else { SPACING };
                std::thread::sleep(due.saturating_sub(clock::now()));
                self.part(index as u32 + 1)
            })
            .collect()
    }

    fn part(&mut self, part_id: u32) -> Part {
        let (good, trouble) = (self.chance.below(10) < 7, self.trouble());
        // A link that is cut for a while, and one that is noisy all the time, are the PLC's.
        let at = clock::now();
        self.plc.expect(at);
        let ticket = self.plc_link.trigger(at, part_id).unwrap();
        self.fire.send(Fire { at, good, trouble }).unwrap();
        Part { ticket, good, trouble }
    }

    fn trouble(&mut self) -> Option<Trouble> {
        if self.chance.once_in(300) {
            return Some(Trouble::Lost);
        }
        if self.chance.once_in(900) {
            return Some(Trouble::Error);
        }
        let stall = Duration::from_millis(20 + self.chance.below(100) as u64);
        self.chance.once_in(1100).then_some(Trouble::Stall(stall))
    }
}
