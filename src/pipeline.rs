//! In: a frame. Out: everything known about the part: verdict, mask, signals, and how long each step took.
//!
//! [`Pipeline::inspect`] composes the five middle steps. The station, replay, bench and the proof of a bundle all call it.

use std::time::Duration;

use crate::bundle::Bundle;
use crate::camera::{Frame, Geometry};
use crate::clock;
use crate::engine::{self, Engine, Prediction, Settings, StepTime};
use crate::mask::{Mask, Masker, Thresholds};
use crate::preprocess::{self, Preprocessor, Roi, Tensor};
use crate::signal::{Signaller, Signals};
use crate::verdict::{Fault, Judge, Verdict};

/// What the station file may set about the pipeline.
#[derive(Debug, Clone)]
pub struct Options {
    /// How the network is run.
    pub engine: Settings,
    /// The inspected rectangle; the whole frame if none.
    pub roi: Option<Roi>,
    /// Instead of the bundle's score threshold.
    pub score_threshold: Option<f32>,
    /// Timing of the outputs.
    pub signaller: Signaller,
}

/// How long each step of one inspection took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Crop, convert, resize.
    pub preprocess: Duration,
    /// The network.
    pub engine: Duration,
    /// Threshold and regions.
    pub mask: Duration,
    /// Verdict.
    pub verdict: Duration,
    /// Signals.
    pub signal: Duration,
}

impl Timings {
    /// The steps by name, in the order of the flow.
    pub fn stages(&self) -> [(&'static str, Duration); 5] {
        [
            ("preprocess", self.preprocess),
            ("engine", self.engine),
            ("mask", self.mask),
            ("verdict", self.verdict),
            ("signal", self.signal),
        ]
    }

    /// All steps together.
    pub fn total(&self) -> Duration {
        self.stages().iter().map(|(_, time)| *time).sum()
    }
}

/// Everything known about one part.
#[derive(Debug)]
pub struct Inspection<'a> {
    /// The network's answer; none after a fault.
    pub prediction: Option<Prediction<'a>>,
    /// The mask; empty after a fault.
    pub mask: Mask<'a>,
    /// What the line is told, with the verdict in it.
    pub signals: Signals,
    /// How long it took.
    pub timings: Timings,
}

/// A pipeline that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The ROI or a size.
    #[error(transparent)]
    Preprocess(#[from] preprocess::Error),
}

/// The middle of the flow, from frame to signals, for frames of one geometry.
pub struct Pipeline {
    preprocessor: Preprocessor,
    engine: Engine,
    masker: Masker,
    judge: Judge,
    options: Options,
    thresholds: Thresholds,
}

impl Pipeline {
    /// Loads the bundle's network and checks everything that could go wrong later.
    pub fn new(bundle: &Bundle, geometry: Geometry, options: Options) -> Result<Self, Error> {
        let engine = Engine::load(bundle.onnx(), bundle.shape(), options.engine.clone())?;
        Self::with_engine(engine, bundle, geometry, options)
    }

    /// The same around the bundle's network when it is loaded already.
    pub fn with_engine(engine: Engine, bundle: &Bundle, geometry: Geometry, options: Options) -> Result<Self, Error> {
        let score = options.score_threshold.unwrap_or(bundle.manifest().thresholds.score);
        let judge = Judge::new(bundle.ok_class(), score);
        let thresholds = bundle.mask_thresholds();
        let (preprocessor, masker) = fit(&engine, geometry, options.roi, thresholds)?;
        Ok(Self { preprocessor, engine, masker, judge, options, thresholds })
    }

    /// Fits the pipeline to frames of another geometry; the network stays loaded.
    pub fn refit(&mut self, geometry: Geometry) -> Result<(), Error> {
        (self.preprocessor, self.masker) = fit(&self.engine, geometry, self.options.roi, self.thresholds)?;
        Ok(())
    }

    /// The geometry frames must have.
    pub fn geometry(&self) -> Geometry {
        self.preprocessor.geometry()
    }

    /// The backend that runs, in words.
    pub fn describe(&self) -> String {
        self.engine.describe()
    }

    /// True if the int8 engine computes the network.
    pub fn is_int8(&self) -> bool {
        self.engine.is_int8()
    }

    /// The first step alone, for the proof of a bundle. The frame must have the pipeline's geometry.
    pub fn preprocess(&mut self, frame: &Frame) -> Tensor<'_> {
        self.preprocessor.run(frame)
    }

    /// The second step alone, on a tensor from elsewhere.
    pub fn predict(&mut self, tensor: &Tensor) -> Result<Prediction<'_>, engine::Error> {
        self.engine.run(tensor)
    }

    /// How long each step of the network takes on a frame; none where the backend does not tell. See [`Engine::profile`].
    pub fn profile(&mut self, frame: &Frame, runs: usize) -> Option<(Vec<StepTime>, f64)> {
        let peak = self.engine.peak()?;
        let tensor = self.preprocessor.run(frame);
        Some((self.engine.profile(&tensor, runs)?, peak))
    }

    /// The loaded network, to go on with in another pipeline.
    pub fn into_engine(self) -> Engine {
        self.engine
    }

    /// Judges one part. Always ends in a verdict: whatever fails becomes a fault.
    pub fn inspect(&mut self, frame: &Frame) -> Inspection<'_> {
        if frame.geometry() != self.preprocessor.geometry() {
            return self.fault(frame, Fault::Geometry);
        }
        let mut timings = Timings::default();
        let mut lap = Lap::start();
        let tensor = self.preprocessor.run(frame);
        timings.preprocess = lap.time();
        let prediction = match self.engine.run(&tensor) {
            Ok(prediction) => prediction,
            Err(error) => {
                log::error!("part {}: {error}", frame.sequence());
                return Self::unjudged(&self.options, self.preprocessor.roi(), frame, Fault::Engine);
            }
        };
        timings.engine = lap.time();
        let mask = self.masker.run(&prediction);
        timings.mask = lap.time();
        let score = self.judge.score(&prediction);
        let verdict = self.judge.run(&prediction, &mask);
        timings.verdict = lap.time();
        let signals = self.options.signaller.run(frame.sequence(), frame.captured(), Some(score), verdict);
        timings.signal = lap.time();
        Inspection { prediction: Some(prediction), mask, signals, timings }
    }

    /// The inspection of a part that cannot be judged.
    pub fn fault(&self, frame: &Frame, fault: Fault) -> Inspection<'static> {
        Self::unjudged(&self.options, self.preprocessor.roi(), frame, fault)
    }

    fn unjudged(options: &Options, roi: Roi, frame: &Frame, fault: Fault) -> Inspection<'static> {
        let verdict = Verdict::Fault(fault);
        let signals = options.signaller.run(frame.sequence(), frame.captured(), None, verdict);
        Inspection { prediction: None, mask: Mask::empty(roi), signals, timings: Timings::default() }
    }
}

fn fit(
    engine: &Engine,
    geometry: Geometry,
    roi: Option<Roi>,
    thresholds: Thresholds,
) -> Result<(Preprocessor, Masker), Error> {
    let roi = roi.unwrap_or_else(|| Roi::whole(&geometry));
    let shape = engine.shape();
    let preprocessor = Preprocessor::new(geometry, roi, shape.width as u32, shape.height as u32)?;
    Ok((preprocessor, Masker::new(thresholds, roi, shape.width, shape.height)))
}

/// A stopwatch that gives the time since the last lap.
struct Lap(clock::Timestamp);

impl Lap {
    fn start() -> Self {
        Self(clock::now())
    }

    fn time(&mut self) -> Duration {
        let now = clock::now();
        now.saturating_sub(std::mem::replace(&mut self.0, now))
    }
}
