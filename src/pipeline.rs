//! In: a frame. Out: everything known about the part: its mask, and its finished outcome.
//!
//! [`Pipeline::inspect`] composes the middle steps. The station, replay, bench and the proof of a bundle all call it.

use std::sync::Arc;
use std::time::Duration;

use crate::bundle::Bundle;
use crate::camera::{Frame, Geometry};
use crate::clock;
use crate::drift::{Drift, DriftOptions, Guard, Measure, Measures};
use crate::engine::{self, BuildProgress, Engine, Prediction, Settings, Shape, StepTime};
use crate::locate::{Locator, Pose, Template};
use crate::mask::{Mask, Masker, Mosaic, Thresholds};
use crate::outcome::{Judged, JudgedBy, Opened, Outcome, Timings, share};
use crate::preprocess::{self, Layout, Preprocessor, Roi, Tensor, tile};
use crate::signal::Signaller;
use crate::verdict::{Fault, Judge, Verdict};
use crate::vote::{Ballot, Vote};
use crate::zone::Zones;

/// What the station file may set about the pipeline.
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::camera::{Geometry, PixelFormat};
/// use fcam::pipeline::{Pipeline, PipelineOptions};
/// use fcam::preprocess::{Layout, Tiles};
///
/// let bundle = Bundle::embedded()?;
/// let geometry = Geometry::packed(1280, 720, PixelFormat::Nv12)?;
/// let tiles = Tiles { columns: 3, rows: 2, overlap: 0.1 };
/// let options = PipelineOptions { layout: Layout { areas: vec![], tiles }, ..PipelineOptions::default() };
/// let pipeline = Pipeline::new(&bundle, geometry, options)?;
/// assert_eq!(pipeline.tiles(), 6); // runs of the network a frame
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// How the network is run.
    pub engine: Settings,
    /// The inspected rectangles and their tiles.
    pub layout: Layout,
    /// Instead of the bundle's score threshold.
    pub score_threshold: Option<f32>,
    /// A part to look for, where the bundle has no template of its own.
    pub locate: Option<Template>,
    /// Frames that decide together; each alone if none.
    pub vote: Option<Vote>,
    /// How parts are watched for drift, where there is a reference; not at all if none.
    pub drift: Option<DriftOptions>,
    /// Where in the frame a defect is told to be.
    pub zones: Zones,
    /// Timing of the outputs.
    pub signaller: Signaller,
}

impl Default for PipelineOptions {
    /// Whole frames, the bundle's own threshold, every frame alone, outputs at once and for 50 ms.
    fn default() -> Self {
        Self {
            engine: Settings::default(),
            layout: Layout::default(),
            score_threshold: None,
            locate: None,
            vote: None,
            drift: None,
            zones: Zones::default(),
            signaller: Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) },
        }
    }
}

/// Everything known about one part.
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::camera::{Frame, Geometry, PixelFormat};
/// use fcam::pipeline::{Pipeline, PipelineOptions};
/// use fcam::verdict::{Fault, Verdict};
///
/// let bundle = Bundle::embedded()?;
/// let geometry = Geometry::packed(640, 480, PixelFormat::Gray8)?;
/// let mut pipeline = Pipeline::new(&bundle, geometry, PipelineOptions::default())?;
/// let other = Geometry::packed(320, 240, PixelFormat::Gray8)?; // the camera was set to another size
/// let bytes = vec![128; other.frame_bytes()];
/// let inspection = pipeline.inspect(&Frame::new(0, fcam::clock::now(), other, &bytes)?);
/// assert_eq!(inspection.outcome.verdict, Verdict::Fault(Fault::Geometry));
/// assert!(inspection.prediction.is_none() && inspection.mask.area() == 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Inspection<'a> {
    /// The network's answer, of several tiles put together ([`Mosaic`]); none after a fault.
    pub prediction: Option<Prediction<'a>>,
    /// The mask; empty after a fault.
    pub mask: Mask<'a>,
    /// Where the part lies against the bundle's template; none where the bundle has none, and where it failed before.
    pub pose: Option<Pose>,
    /// What every channel tells, with the verdict in it.
    pub outcome: Outcome,
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
    /// The station's template.
    #[error("locate.template: {problem}")]
    Template {
        /// What is wrong with it.
        problem: String,
    },
    /// A part to look for, and several ROIs or tiles.
    #[error(
        "a part is looked for in one ROI, and {tiles} tiles are asked for: take one inspect.roi and no inspect.tiles, \
         or no [locate] and a bundle without one"
    )]
    Places {
        /// Tiles of all ROIs.
        tiles: usize,
    },
}

/// The middle of the flow, from frame to outcome, for frames of one geometry.
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::camera::{Camera, Pattern};
/// use fcam::pipeline::{Pipeline, PipelineOptions};
///
/// let bundle = Bundle::embedded()?;
/// let mut samples = Pattern::open(bundle.samples(), None)?;
/// let frame = samples.next(fcam::clock::now())?;
/// let mut pipeline = Pipeline::new(&bundle, frame.geometry(), PipelineOptions::default())?;
/// let outcome = pipeline.inspect(&frame).outcome;
/// assert_eq!((outcome.sequence, &outcome.judged_by), (frame.sequence(), bundle.judged_by()));
/// let manifest = bundle.manifest();
/// assert_eq!(outcome.plc.ok, outcome.score.is_some_and(|score| score < manifest.thresholds.score));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pipeline {
    fitted: Fitted,
    /// Where parts lie anywhere, none.
    locator: Option<Locator>,
    engine: Engine,
    judge: Judge,
    ballot: Option<Ballot>,
    guard: Option<Guard>,
    options: PipelineOptions,
    thresholds: Thresholds,
    judged_by: Arc<JudgedBy>,
}

/// What is built for one geometry of frames.
struct Fitted {
    preprocessor: Preprocessor,
    /// Puts tiles together; none where there is one.
    mosaic: Option<Mosaic>,
    masker: Masker,
    /// What the mask covers, in frame pixels.
    roi: Roi,
    /// Its pixels, across and down.
    map: (usize, usize),
}

impl Pipeline {
    /// Loads the bundle's network and checks everything that could go wrong later.
    pub fn new(bundle: &Bundle, geometry: Geometry, options: PipelineOptions) -> Result<Self, Error> {
        Self::watched(bundle, geometry, options, &mut engine::log_building())
    }

    /// The same; `progress` is told how far the engine is, where one must be built first.
    pub fn watched(
        bundle: &Bundle,
        geometry: Geometry,
        options: PipelineOptions,
        progress: &mut BuildProgress,
    ) -> Result<Self, Error> {
        let engine = Engine::load_watched(bundle.onnx(), bundle.shape(), options.engine.clone(), progress)?;
        Self::with_engine(engine, bundle, geometry, options)
    }

    /// The same around the bundle's network when it is loaded already.
    pub fn with_engine(
        engine: Engine,
        bundle: &Bundle,
        geometry: Geometry,
        options: PipelineOptions,
    ) -> Result<Self, Error> {
        let score = options.score_threshold.unwrap_or(bundle.manifest().thresholds.score);
        let judge = Judge::new(bundle.ok_class(), score);
        let thresholds = bundle.mask_thresholds();
        let locator = locator(bundle, &options)?;
        let fitted = Fitted::new(&engine, geometry, &options.layout, thresholds)?;
        fitted.check(locator.as_ref())?;
        let ballot = options.vote.map(Ballot::new);
        let reference = bundle.manifest().drift.as_ref();
        let guard = options.drift.and_then(|drift| Guard::new(drift, reference, fitted.preprocessor.tiles()));
        let mut judged_by = Arc::clone(bundle.judged_by());
        if options.score_threshold.is_some() {
            Arc::make_mut(&mut judged_by).threshold = share(score);
        }
        Ok(Self { fitted, locator, engine, judge, ballot, guard, options, thresholds, judged_by })
    }

    /// Fits the pipeline to frames of another geometry; the network stays loaded.
    pub fn refit(&mut self, geometry: Geometry) -> Result<(), Error> {
        self.fitted = Fitted::new(&self.engine, geometry, &self.options.layout, self.thresholds)?;
        self.restart();
        Ok(())
    }

    /// The geometry frames must have.
    pub fn geometry(&self) -> Geometry {
        self.fitted.preprocessor.geometry()
    }

    /// How many times the network looks at a frame.
    pub fn tiles(&self) -> usize {
        self.fitted.preprocessor.tiles()
    }

    /// Pixels of the mask, across and down.
    pub fn map_size(&self) -> (usize, usize) {
        self.fitted.map
    }

    /// The backend that runs, in words.
    pub fn describe(&self) -> String {
        self.engine.describe()
    }

    /// True if the int8 engine computes the network.
    pub fn is_int8(&self) -> bool {
        self.engine.is_int8()
    }

    /// What it was built with; the backend is the CPU where TensorRT was refused.
    pub fn options(&self) -> &PipelineOptions {
        &self.options
    }

    /// True if TensorRT computes the network.
    pub fn is_tensorrt(&self) -> bool {
        self.engine.is_tensorrt()
    }

    /// The first steps alone, for the proof of a bundle: the first tile, with its part where the network needs it. The frame must have the pipeline's geometry.
    pub fn preprocess(&mut self, frame: &Frame) -> Tensor<'_> {
        let tensor = self.fitted.preprocessor.run(frame);
        match &mut self.locator {
            Some(locator) => {
                let pose = locator.find(&tensor);
                locator.moved(&tensor, pose)
            }
            None => tensor,
        }
    }

    /// The second step alone, on a tensor from elsewhere.
    pub fn predict(&mut self, tensor: &Tensor) -> Result<Prediction<'_>, engine::Error> {
        self.engine.run(tensor)
    }

    /// How long each step of the network takes on a frame; none where the backend does not tell. See
    /// [`Engine::profile`].
    pub fn profile(&mut self, frame: &Frame, runs: usize) -> Option<(Vec<StepTime>, f64)> {
        let peak = self.engine.peak()?;
        let tensor = self.fitted.preprocessor.run(frame);
        Some((self.engine.profile(&tensor, runs)?, peak))
    }

    /// The loaded network, to go on with in another pipeline.
    pub fn into_engine(self) -> Engine {
        self.engine
    }

    /// Judges a part of which the frame is all that is known. Always ends in a verdict: whatever fails becomes a fault.
    pub fn inspect(&mut self, frame: &Frame) -> Inspection<'_> {
        self.inspect_part(Opened::of(frame), frame)
    }

    /// The same for a part that has its number and its time from elsewhere.
    pub fn inspect_part(&mut self, part: Opened, frame: &Frame) -> Inspection<'_> {
        if frame.geometry() != self.geometry() {
            self.forget();
            return self.unjudged(part, Fault::Geometry);
        }
        let mut timings = Timings::default();
        let Self { fitted, locator, engine, judge, ballot, guard, options, judged_by, .. } = self;
        let roi = fitted.roi;
        let Seen { prediction, mut mask, pose } =
            match fitted.see(locator.as_mut(), engine, *judge, guard.as_mut(), frame, &mut timings) {
                Ok(seen) => seen,
                Err(unseen) => {
                    let fault = unseen.fault(part.sequence);
                    if fault == Fault::Blind {
                        guard.iter_mut().for_each(|guard| _ = guard.part(part.sequence, part.at, None));
                    }
                    ballot.iter_mut().for_each(Ballot::clear);
                    let outcome = Outcome::fault(part, fault, &options.signaller, judged_by);
                    return Inspection { prediction: None, mask: Mask::empty(roi), pose: unseen.pose(), outcome };
                }
            };
        let mut lap = Lap::start();
        let score = judge.score(&prediction);
        let mut verdict = judge.run(&prediction, &mask);
        if let Some(ballot) = ballot {
            let found = matches!(verdict, Verdict::Reject(_));
            verdict = ballot.run(verdict, score);
            if !found && verdict != Verdict::Pass {
                mask = mask.blank();
            }
        }
        timings.verdict = lap.time();
        let rejected = matches!(verdict, Verdict::Reject(_));
        let zones = if rejected { options.zones.run(&mask) } else { 0 };
        timings.mask += lap.time();
        let outputs = options.signaller.run(part.at, verdict == Verdict::Pass);
        timings.signal = lap.time();
        let good = (verdict == Verdict::Pass).then_some(score);
        let drift = guard.as_mut().and_then(|guard| guard.part(part.sequence, part.at, good));
        timings.drift += lap.time();
        let judged = Judged { verdict, score: Some(score), zones, drift };
        let outcome = Outcome::new(part, judged, outputs, judged_by, timings);
        Inspection { prediction: Some(prediction), mask, pose, outcome }
    }

    /// Judges a picture that is none of a part's: nothing is watched, and nothing learnt. Returns how long it took.
    pub fn inspect_unwatched(&mut self, frame: &Frame) -> Timings {
        let guard = self.guard.take();
        let timings = self.inspect(frame).outcome.timings;
        self.guard = guard;
        let fits = frame.geometry() == self.geometry();
        if fits && timings.engine.is_zero() { self.go_without_part(frame) } else { timings }
    }

    /// The whole way of a picture in which no part was found, as if one lay where the template does: else the engine would
    /// be cold for the first part, and the time of an inspection without it.
    fn go_without_part(&mut self, frame: &Frame) -> Timings {
        let (mut timings, mut lap) = (Timings::default(), Lap::start());
        let Self { fitted, locator: Some(locator), engine, .. } = self else { return timings };
        let tensor = fitted.preprocessor.run(frame);
        timings.preprocess = lap.time();
        locator.find(&tensor);
        let moved = locator.moved(&tensor, Pose::NONE);
        timings.locate = lap.time();
        let Ok(prediction) = engine.run(&moved) else { return timings };
        timings.engine = lap.time();
        let prediction = Prediction { map: locator.back(prediction.map, Pose::NONE), ..prediction };
        timings.locate += lap.time();
        fitted.masker.run(&prediction);
        timings.mask = lap.time();
        timings
    }

    /// The inspection of a part that cannot be judged.
    fn unjudged(&self, part: Opened, fault: Fault) -> Inspection<'static> {
        let outcome = self.fault(part, fault);
        Inspection { prediction: None, mask: Mask::empty(self.fitted.roi), pose: None, outcome }
    }

    /// The outcome of a part that this pipeline would have judged.
    pub fn fault(&self, part: Opened, fault: Fault) -> Outcome {
        Outcome::fault(part, fault, &self.options.signaller, &self.judged_by)
    }

    /// Begins anew: parts of another kind come, or after pictures that were no parts.
    pub fn restart(&mut self) {
        self.forget();
        self.guard.iter_mut().for_each(Guard::restart);
    }

    /// What has changed in the pictures, if they are watched and something has.
    pub fn drift(&self) -> Option<Drift> {
        self.guard.as_ref()?.drift()
    }

    /// The same of one measure.
    pub fn drift_of(&self, measure: Measure) -> Option<Drift> {
        self.guard.as_ref()?.drift_of(measure)
    }

    /// The operator has seen it.
    pub fn clear_drift(&mut self) {
        self.guard.iter_mut().for_each(Guard::clear);
    }

    /// What was measured of the last part; none where nothing is watched.
    pub fn measures(&mut self) -> Option<Measures> {
        self.guard.as_mut().map(Guard::measures)
    }

    /// Forgets the frames that would vote on the next one: after a fault that happened elsewhere.
    pub fn forget(&mut self) {
        self.ballot.iter_mut().for_each(Ballot::clear);
    }
}

/// What is wrong with a station's template beside a bundle's.
pub(crate) const TWO_TEMPLATES: &str = "this bundle brings one of its own, which its network needs: leave out [locate]";

/// The bundle's template, else the station's.
fn locator(bundle: &Bundle, options: &PipelineOptions) -> Result<Option<Locator>, Error> {
    let own = bundle.locator().unwrap_or_default(); // checked when the bundle was opened
    let Some(template) = &options.locate else { return Ok(own) };
    if own.is_some() {
        return Err(Error::Template { problem: TWO_TEMPLATES.into() });
    }
    let Shape { width, height, .. } = bundle.shape();
    template.locator(width, height).map(Some).map_err(|problem| Error::Template { problem })
}

/// What was seen of a part.
struct Seen<'a> {
    prediction: Prediction<'a>,
    mask: Mask<'a>,
    pose: Option<Pose>,
}

/// Why nothing was seen of a part.
enum Unseen {
    NotFound(Pose),
    Blind,
    Engine(engine::Error),
}

impl Unseen {
    fn pose(&self) -> Option<Pose> {
        match self {
            Self::NotFound(pose) => Some(*pose),
            Self::Engine(_) | Self::Blind => None,
        }
    }

    /// What the line is told; the log has more.
    fn fault(&self, part: u64) -> Fault {
        match self {
            Self::NotFound(Pose { agreement, .. }) => {
                log::warn!(
                    "part {part}: not found: nothing agrees with the bundle's template by more than {agreement:.2}"
                );
                Fault::NotFound
            }
            Self::Blind => {
                log::warn!("part {part}: the camera sees nothing: is the lens covered, the lamp off, the focus lost?");
                Fault::Blind
            }
            Self::Engine(error) => {
                log::error!("part {part}: {error}");
                Fault::Engine
            }
        }
    }
}

impl Fitted {
    fn new(engine: &Engine, geometry: Geometry, layout: &Layout, thresholds: Thresholds) -> Result<Self, Error> {
        let shape = engine.shape();
        let tiles = layout.plan(&geometry)?;
        let preprocessor = Preprocessor::tiled(geometry, &tiles, shape.width as u32, shape.height as u32)?;
        let mosaic = (tiles.len() > 1).then(|| Mosaic::new(&tiles, shape));
        let roi = tile::around(&tiles);
        let map = mosaic.as_ref().map_or((shape.width, shape.height), Mosaic::size);
        let thresholds = mosaic.as_ref().map_or(thresholds, |mosaic| mosaic.thresholds(thresholds));
        let masker = Masker::new(thresholds, roi, map.0, map.1);
        Ok(Self { preprocessor, mosaic, masker, roi, map })
    }

    /// Refuses several tiles where the network knows each place of one.
    fn check(&self, locator: Option<&Locator>) -> Result<(), Error> {
        let tiles = self.preprocessor.tiles();
        if tiles > 1 && locator.is_some() { Err(Error::Places { tiles }) } else { Ok(()) }
    }

    /// The steps from the frame to the mask.
    fn see<'a>(
        &'a mut self,
        locator: Option<&'a mut Locator>,
        engine: &'a mut Engine,
        judge: Judge,
        mut guard: Option<&mut Guard>,
        frame: &Frame,
        timings: &mut Timings,
    ) -> Result<Seen<'a>, Unseen> {
        let Self { preprocessor, mosaic, masker, .. } = self;
        guard.iter_mut().for_each(|guard| guard.begin());
        let mut lap = Lap::start();
        let Some(mosaic) = mosaic else {
            let tensor = preprocessor.run(frame);
            timings.preprocess = lap.time();
            let Some(locator) = locator else {
                look(guard, &tensor)?;
                timings.drift = lap.time();
                let prediction = engine.run(&tensor).map_err(Unseen::Engine)?;
                timings.engine = lap.time();
                let mask = masker.run(&prediction);
                timings.mask = lap.time();
                return Ok(Seen { prediction, mask, pose: None });
            };
            let pose = locator.find(&tensor);
            if !locator.is_there(pose) {
                look(guard, &tensor)?; // nothing is found in a picture of nothing
                return Err(Unseen::NotFound(pose));
            }
            let moved = locator.moved(&tensor, pose);
            timings.locate = lap.time();
            look(guard, &moved)?;
            timings.drift = lap.time();
            let prediction = engine.run(&moved).map_err(Unseen::Engine)?;
            timings.engine = lap.time();
            let prediction = Prediction { map: locator.back(prediction.map, pose), ..prediction };
            timings.locate += lap.time();
            let mask = masker.run(&prediction);
            timings.mask = lap.time();
            return Ok(Seen { prediction, mask, pose: Some(pose) });
        };
        mosaic.begin();
        timings.mask += lap.time();
        for index in 0..preprocessor.tiles() {
            let tensor = preprocessor.run_tile(frame, index);
            timings.preprocess += lap.time();
            guard.iter_mut().for_each(|guard| guard.look(&tensor));
            timings.drift += lap.time();
            let prediction = engine.run(&tensor).map_err(Unseen::Engine)?;
            timings.engine += lap.time();
            let score = judge.score(&prediction);
            mosaic.add(index, &prediction, score, judge.rejects(score));
            timings.mask += lap.time();
        }
        if guard.is_some_and(Guard::is_blind) {
            return Err(Unseen::Blind);
        }
        timings.drift += lap.time();
        let prediction = mosaic.prediction();
        let mask = masker.run_among(&prediction, mosaic.rejecting());
        timings.mask += lap.time();
        Ok(Seen { prediction, mask, pose: None })
    }
}

/// An error if the camera sees nothing of a part of one input.
fn look(guard: Option<&mut Guard>, tensor: &Tensor) -> Result<(), Unseen> {
    let Some(guard) = guard else { return Ok(()) };
    guard.look(tensor);
    if guard.is_blind() { Err(Unseen::Blind) } else { Ok(()) }
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
