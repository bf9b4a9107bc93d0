//! The camera's edge. In: frames and errors. Out: numbered parts, and one fault for each trouble of the camera.
//!
//! A camera in trouble is asked again and again: it comes back by itself, at the pace it is asked.

use std::time::Duration;

use super::count::Counters;
use super::inbox::{Inbox, Offer, Trigger};
use super::stop::{Stage, Stop};
use crate::camera::{self, Camera, Frame};
use crate::clock::{self, Timestamp};
use crate::verdict::Fault;

/// How long the camera may keep this thread before it looks whether the station stops.
const SLICE: Duration = Duration::from_millis(100);

/// A pause after an error, on top of the camera's own, so that one that fails at once does not fill a core.
const PAUSE: Duration = Duration::from_millis(20);

/// The capture thread.
pub(super) struct Capture<'a> {
    pub(super) camera: Box<dyn Camera>,
    pub(super) intake: Intake<'a>,
    /// A camera that says nothing for this long is stalled.
    pub(super) timeout: Duration,
    /// Frames to take; then the station drains.
    pub(super) frames: u64,
    pub(super) stop: Stop,
}

impl Capture<'_> {
    pub(super) fn run(mut self) {
        while self.stop.stage() == Stage::Run && self.intake.frames < self.frames && !self.intake.closed {
            let deadline = clock::now() + SLICE;
            match self.run_once(deadline) {
                Ok(()) => {}
                Err(camera::Error::Ended) => {
                    log::info!("{} has ended", self.camera.describe());
                    break;
                }
                Err(error) => self.recover(&error, deadline),
            }
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
                if silent >= self.timeout {
                    let reason = format!("no frame from {} for {silent:.1?}", self.camera.describe());
                    self.intake.trouble(Fault::Stalled, now, &reason);
                }
                // No pause after a wait: a frame that comes now should be stamped now.
                self.stop.sleep(deadline, Stage::Drain);
            }
            _ => {
                self.intake.counters.camera_errors.add(1);
                self.intake.trouble(Fault::Camera, now, &error.to_string());
                self.stop.sleep(now + PAUSE, Stage::Drain);
            }
        }
    }
}

/// Numbers everything that will end in a verdict, and hands it on. Closes the inbox when it goes, by a panic too.
pub(super) struct Intake<'a> {
    inbox: &'a Inbox,
    counters: &'a Counters,
    trigger: Trigger,
    sequence: u64,
    frames: u64,
    /// The camera's number of the next frame, if the last thing that came was a frame.
    expected: Option<u64>,
    /// When the last frame came.
    heard: Timestamp,
    /// Since when the camera is in trouble.
    trouble: Option<Timestamp>,
    closed: bool,
}

impl<'a> Intake<'a> {
    pub(super) fn new(inbox: &'a Inbox, counters: &'a Counters, trigger: Trigger) -> Self {
        let heard = clock::now();
        let (expected, trouble) = (None, None);
        Self { inbox, counters, trigger, sequence: 0, frames: 0, expected, heard, trouble, closed: false }
    }

    fn frame(&mut self, frame: &Frame) {
        self.heard = clock::now();
        if let Some(since) = self.trouble.take() {
            self.counters.camera_restarts.add(1);
            log::warn!("the camera is back after {:.1?}", self.heard.saturating_sub(since));
        }
        self.gap(frame);
        self.frames += 1;
        let sequence = self.number();
        match self.inbox.offer(sequence, frame) {
            Offer::Taken | Offer::Overflowed => self.counters.frames.add(1),
            Offer::Replaced => {
                self.counters.frames.add(1);
                self.counters.dropped.add(1);
            }
            Offer::Closed => self.closed = true,
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
        if self.trouble.is_some() {
            return log::debug!("camera: {reason}");
        }
        log::error!("camera: {reason}");
        self.trouble = Some(now);
        self.incident(fault, now);
    }

    fn incident(&mut self, fault: Fault, at: Timestamp) {
        let sequence = self.number();
        if self.inbox.fault(sequence, at, fault) {
            self.counters.incidents.add(1);
        } else {
            self.closed = true;
        }
    }

    fn number(&mut self) -> u64 {
        let sequence = self.sequence;
        self.sequence += 1;
        sequence
    }
}

impl Drop for Intake<'_> {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
