//! A scripted camera, sinks that remember, and a station of them that may not hang.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use fcam::camera::{Camera, Error, Frame, Geometry, PixelFormat};
use fcam::clock::{self, Timestamp};
use fcam::outcome::Outcome;
use fcam::pipeline::PipelineOptions;
use fcam::signal::Signaller;
use fcam::sink::{self, Sink};
use fcam::station::{self, Report, Station, Stop, Trigger};

use crate::common;

/// What the camera does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// An even picture of this size: bright ones pass, dark ones are rejects.
    Frame { level: u8, side: u32 },
    /// So many frames are lost.
    Gap(u64),
    /// It reports an error at once.
    Error,
    /// It is silent until the deadline.
    Stall,
    /// It is silent for longer than it was given.
    Hang(Duration),
    /// It has a bug.
    Panic,
}

/// A frame of the usual size.
pub fn frame(level: u8) -> Step {
    Step::Frame { level, side: 64 }
}

/// Bright and dark in turn.
pub fn alternating(count: usize) -> Vec<Step> {
    (0..count).map(|index| frame(if index % 2 == 0 { BRIGHT } else { DARK })).collect()
}

pub const BRIGHT: u8 = 200;
pub const DARK: u8 = 50;

pub struct Fake {
    steps: std::vec::IntoIter<Step>,
    /// Between two frames.
    pub interval: Duration,
    /// How long ago a frame was captured when it comes out.
    pub age: Duration,
    sequence: u64,
    bytes: Vec<u8>,
}

impl Fake {
    pub fn new(steps: Vec<Step>, interval: Duration) -> Self {
        Self { steps: steps.into_iter(), interval, age: Duration::ZERO, sequence: 0, bytes: vec![] }
    }
}

impl Camera for Fake {
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, Error> {
        let camera = self.describe();
        match self.steps.next() {
            None => Err(Error::Ended),
            Some(Step::Error) => Err(Error::Read { camera, source: std::io::Error::other("scripted") }),
            Some(Step::Panic) => panic!("scripted"),
            Some(Step::Hang(time)) => {
                std::thread::sleep(time);
                self.next(deadline)
            }
            Some(Step::Stall) => {
                let asked = clock::now();
                std::thread::sleep(deadline.saturating_sub(asked));
                Err(Error::Timeout { camera, waited: clock::now() - asked })
            }
            Some(Step::Gap(lost)) => {
                self.sequence += lost;
                self.next(deadline)
            }
            Some(Step::Frame { level, side }) => {
                std::thread::sleep(self.interval);
                let geometry = Geometry::packed(side, side, PixelFormat::Rgb8)?;
                self.bytes.clear();
                self.bytes.resize(geometry.frame_bytes(), level);
                self.sequence += 1;
                Frame::new(self.sequence - 1, clock::now() - self.age, geometry, &self.bytes)
            }
        }
    }

    fn describe(&self) -> String {
        "a scripted camera".into()
    }
}

/// What a sink was told, and when.
#[derive(Debug, Clone)]
pub enum Told {
    Part(Box<Outcome>, Timestamp),
    Safe,
}

/// Remembers; may be slow.
pub struct Memory {
    pub told: Sender<Told>,
    pub takes: Duration,
}

impl Sink for Memory {
    fn apply(&mut self, outcome: &Outcome) -> Result<(), sink::Error> {
        self.told.send(Told::Part(Box::new(outcome.clone()), clock::now())).unwrap();
        std::thread::sleep(self.takes);
        Ok(())
    }

    fn fail_safe(&mut self) {
        self.told.send(Told::Safe).unwrap();
    }
}

pub struct Ran {
    pub report: Report,
    pub parts: Vec<(Outcome, Timestamp)>,
    /// Told to go to the safe state, after the last part.
    pub safe: bool,
}

/// A station with a camera and one sink that remembers.
pub fn station(camera: Fake, trigger: Trigger) -> (Station, Receiver<Told>) {
    let (sender, told) = channel();
    let signaller = Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) };
    let station = Station {
        bundle: common::tiny_bundle(),
        camera: Box::new(camera),
        geometry: Some(Geometry::packed(64, 64, PixelFormat::Rgb8).unwrap()),
        options: PipelineOptions {
            engine: Default::default(),
            layout: Default::default(),
            score_threshold: None,
            locate: None,
            vote: None,
            drift: None,
            zones: Default::default(),
            signaller,
        },
        trigger,
        timeout: Duration::from_millis(30),
        frames: None,
        plc_link: Default::default(),
        sinks: vec![Box::new(Memory { told: sender, takes: Duration::ZERO })],
        recorder: None,
        summary: Duration::from_secs(60),
        releases: None,
        window: None,
    };
    (station, told)
}

/// Runs it to its end, which must come within a minute.
pub fn run(station: Station, told: &Receiver<Told>) -> Ran {
    let report = try_run(station).unwrap();
    let told: Vec<Told> = told.try_iter().collect();
    let safe = matches!(told.last(), Some(Told::Safe));
    let parts: Vec<_> = told
        .into_iter()
        .filter_map(|told| match told {
            Told::Part(outcome, at) => Some((*outcome, at)),
            Told::Safe => None,
        })
        .collect();
    assert!(parts.windows(2).all(|pair| pair[0].0.sequence < pair[1].0.sequence), "sequences increase strictly");
    Ran { report, parts, safe }
}

pub fn try_run(station: Station) -> Result<Report, station::Error> {
    let (done, finished) = channel();
    std::thread::spawn(move || done.send(station.run(&Stop::default())).unwrap());
    finished.recv_timeout(Duration::from_secs(60)).expect("the station hangs")
}
