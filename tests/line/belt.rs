//! A camera that runs free over the belt. An empty belt looks like a good part, which is the worst that it can look
//! like: a trigger that is given another moment's frame passes a bad part.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fcam::camera::{Camera, Error, Frame, Geometry, PixelFormat};
use fcam::clock::{self, Timestamp};

use crate::random::Random;

/// Between two frames.
pub const INTERVAL: Duration = Duration::from_millis(4);
/// From the trigger to the middle of the view.
pub const VIEW: Duration = Duration::from_millis(6);
/// A part is seen so long before and after that.
const SEEN: Duration = Duration::from_micros(2500);

/// Bad parts by the moment at which they are in the middle of the view; the camera ends when `open` is false.
#[derive(Debug, Default)]
pub struct Belt {
    pub bad: Vec<Timestamp>,
    pub ended: bool,
}

/// The camera over a belt.
pub struct Above {
    belt: Arc<Mutex<Belt>>,
    next: Timestamp,
    sequence: u64,
    bytes: Vec<u8>,
    chance: Random,
}

impl Above {
    pub fn new(belt: Arc<Mutex<Belt>>) -> Self {
        Self { belt, next: clock::now(), sequence: 0, bytes: vec![], chance: Random(5) }
    }

    fn level(&self, captured: Timestamp) -> Option<u8> {
        let belt = self.belt.lock().unwrap();
        let bad = belt.bad.iter().rev().take(20).any(|middle| middle.abs_diff(captured) <= SEEN);
        (!belt.ended).then_some(if bad { 50 } else { 200 })
    }
}

impl Camera for Above {
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, Error> {
        let waited = deadline.saturating_sub(clock::now());
        if self.next > deadline {
            std::thread::sleep(waited);
            return Err(Error::Timeout { camera: self.describe(), waited });
        }
        std::thread::sleep(self.next.saturating_sub(clock::now()));
        let captured = self.next;
        // Now and then frames are lost.
        let lost = if self.chance.once_in(100) { 1 + self.chance.below(10) as u64 } else { 0 };
        self.next += INTERVAL * (1 + lost as u32);
        self.sequence += 1 + lost;
        let level = self.level(captured).ok_or(Error::Ended)?;
        let geometry = Geometry::packed(64, 64, PixelFormat::Rgb8)?;
        self.bytes.clear();
        self.bytes.resize(geometry.frame_bytes(), level);
        Frame::new(self.sequence, captured, geometry, &self.bytes)
    }

    fn describe(&self) -> String {
        "a simulated camera".into()
    }
}
