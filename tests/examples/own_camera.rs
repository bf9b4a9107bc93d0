//! Another camera and another channel around the same pipeline: `cargo run --example own_camera`.
//!
//! [`Camera`] and [`Sink`] are the two edges that a maker of another device writes. A whole station, with threads,
//! queues, a handshake with the PLC and signs of life, is [`fcam::station`]; this is the loop in its middle.

use std::error::Error;
use std::time::Duration;

use fcam::bundle::Bundle;
use fcam::camera::{self, Camera, Frame, Geometry, PixelFormat};
use fcam::clock::{self, Timestamp};
use fcam::outcome::Outcome;
use fcam::pipeline::{Pipeline, PipelineOptions};
use fcam::sink::{self, Sink};
use fcam::verdict::Verdict;

/// A camera that sees a gray sheet, with a dark mark on every third one.
pub struct Sheets {
    geometry: Geometry,
    bytes: Vec<u8>,
    sequence: u64,
    last: u64,
}

impl Sheets {
    /// So many sheets of 320 x 240 pixels.
    pub fn new(count: u64) -> Result<Self, camera::Error> {
        let geometry = Geometry::packed(320, 240, PixelFormat::Gray8)?;
        Ok(Self { geometry, bytes: vec![0; geometry.frame_bytes()], sequence: 0, last: count })
    }
}

impl Camera for Sheets {
    fn next(&mut self, _deadline: Timestamp) -> Result<Frame<'_>, camera::Error> {
        if self.sequence == self.last {
            return Err(camera::Error::Ended);
        }
        self.bytes.fill(170);
        if self.sequence % 3 == 2 {
            for row in self.bytes.chunks_mut(self.geometry.stride).skip(100).take(30) {
                row.iter_mut().skip(140).take(40).for_each(|pixel| *pixel = 20);
            }
        }
        self.sequence += 1;
        // A real camera gives the time at which the sensor was exposed, on CLOCK_MONOTONIC.
        Frame::new(self.sequence - 1, clock::now(), self.geometry, &self.bytes)
    }

    fn describe(&self) -> String {
        "sheets that were made up".into()
    }
}

/// A channel that counts; one that talks to a device has a queue and a thread of its own, because no call here may
/// wait.
#[derive(Default)]
pub struct Count {
    /// Parts that passed.
    pub passed: u64,
    /// Parts that did not: rejects, and parts that could not be judged.
    pub rejected: u64,
    /// The outputs are where a dead camera leaves them.
    pub is_safe: bool,
}

impl Sink for Count {
    fn apply(&mut self, outcome: &Outcome) -> Result<(), sink::Error> {
        match outcome.verdict {
            Verdict::Pass => self.passed += 1,
            // A fault is no pass: what was not judged must not reach a customer.
            Verdict::Reject(_) | Verdict::Fault(_) => self.rejected += 1,
        }
        Ok(())
    }

    fn fail_safe(&mut self) {
        self.is_safe = true;
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let count = inspect(Sheets::new(9)?, &Bundle::embedded()?)?;
    println!("{} passed, {} rejected", count.passed, count.rejected);
    Ok(())
}

/// Judges until the camera has no more, and leaves the outputs safe whatever ended it.
pub fn inspect(mut camera: impl Camera, bundle: &Bundle) -> Result<Count, Box<dyn Error>> {
    let mut count = Count::default();
    let mut pipeline: Option<Pipeline> = None;
    let ended = loop {
        let frame = match camera.next(clock::now() + Duration::from_secs(1)) {
            Ok(frame) => frame,
            Err(error) => break error,
        };
        let pipeline = match &mut pipeline {
            Some(pipeline) => pipeline,
            None => pipeline.insert(Pipeline::new(bundle, frame.geometry(), PipelineOptions::default())?),
        };
        let inspection = pipeline.inspect(&frame);
        count.apply(&inspection.outcome)?;
        count.draw(&inspection.outcome, Some(&inspection.mask));
    };
    count.fail_safe();
    match ended {
        camera::Error::Ended => Ok(count),
        error => Err(error.into()),
    }
}
