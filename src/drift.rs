//! In: the network's input of each part, and the scores of good ones. Out: that pictures have changed against a
//! reference, what of them, since when, by how much, and what to do about it; and that the camera sees nothing.
//!
//! A lamp ages, a lens gets dirty, a screw at the focus comes loose: the network goes on judging, and its rejects, or its
//! escapes, become more. The [`Guard`] looks at [`Measure`]s of the picture itself, with a chart on each (see
//! `drift/chart.rs` for the method), before that shows. What it tells is a warning and changes no verdict. A part of which
//! the camera can see nothing ([`Guard::is_blind`]) is a fault.
//!
//! It reads the tensor that the network reads anyway, some runs of pixels of it, and allocates nothing.

mod chart;
mod measure;
mod reference;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::preprocess::Tensor;

use chart::{Chart, Mark};
pub use measure::{Measure, Measures, Meter};
pub use reference::{LEAST_PARTS, Reference, Teacher, Usual};

/// Share of the least spread of levels that good parts had, below which there is nothing to see.
const BLIND_SPREAD: f32 = 0.35;
/// The same of their sharpness, in its own numbers: less than half of the least sharp one.
const BLIND_SHARPNESS: f32 = -std::f32::consts::LN_2;

/// What a station says about the guard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DriftOptions {
    /// Make the reference of the first so many good parts; 0: the bundle's.
    pub learn: u32,
    /// One false alarm in so many parts.
    pub parts_per_alarm: f64,
    /// A part of which the camera sees nothing is a fault.
    pub blind: bool,
}

impl Default for DriftOptions {
    /// The bundle's reference, one false alarm in a million parts, blindness is a fault.
    fn default() -> Self {
        Self { learn: 0, parts_per_alarm: 1e6, blind: true }
    }
}

/// What has changed.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::drift::{Drift, Measure};
///
/// let drift = Drift { what: Measure::Brightness, by: -0.18, part: 412, since: Duration::from_secs(60), all: 1 };
/// assert_eq!(drift.to_string(), "darker by 18 % since part 412: lamp or exposure");
/// assert!(drift.has(Measure::Brightness) && !drift.has(Measure::Noise));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Drift {
    /// What was told first.
    pub what: Measure,
    /// By which share of what is usual it is more or less now; of [`Measure::Clipped`], the share of the picture.
    pub by: f32,
    /// The part with which it began.
    pub part: u64,
    /// When that was there (monotonic).
    pub since: Timestamp,
    /// All that changed, a bit each ([`Measure::bit`]).
    pub all: u8,
}

impl Drift {
    /// True if this one changed too.
    pub fn has(&self, measure: Measure) -> bool {
        self.all >> measure.bit() & 1 == 1
    }

    /// In words: "darker by 18 %".
    pub fn words(&self) -> String {
        let (more, less) = match self.what {
            Measure::Brightness => ("brighter", "darker"),
            Measure::Contrast => ("more contrast,", "less contrast,"),
            Measure::Sharpness => ("sharper", "less sharp"),
            Measure::Warmth => ("redder", "bluer"),
            Measure::Tint => ("greener", "less green"),
            Measure::Noise => ("noisier", "less noisy"),
            Measure::Clipped => ("more of the picture is black or white,", "less of the picture is black or white,"),
            Measure::Score => ("good parts score higher,", "good parts score lower,"),
        };
        let percent = (self.by.abs() * 100.0).round();
        format!("{} by {percent} %", if self.by < 0.0 { less } else { more })
    }

    /// Where to look first.
    pub fn cure(&self) -> &'static str {
        match (self.what, self.by < 0.0) {
            (Measure::Brightness, true) => "lamp or exposure",
            (Measure::Brightness, false) => "exposure, gain, or light from elsewhere",
            (Measure::Contrast, true) => "a dirty lens, haze, or light from elsewhere",
            (Measure::Contrast, false) => "the direction of the light, or exposure",
            (Measure::Sharpness, true) => "focus, a dirty lens, or parts that move",
            (Measure::Sharpness, false) => "focus, or the camera's own sharpening",
            (Measure::Warmth | Measure::Tint, _) => "the lamp's colour, light from elsewhere, or white balance",
            (Measure::Noise, _) => "gain, or a lamp too weak for it",
            (Measure::Clipped, _) => "exposure, gain, or a reflection",
            (Measure::Score, _) => "the parts themselves: look at some, and teach those that are good",
        }
    }
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} since part {}: {}", self.words(), self.part, self.cure())
    }
}

/// Watches parts against a reference.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::drift::{DriftOptions, Guard, Measure};
/// use fcam::preprocess::Tensor;
///
/// // A reference of its own: the first thirty good parts.
/// let options = DriftOptions { learn: 30, blind: false, ..DriftOptions::default() };
/// let mut guard = Guard::new(options, None, 1).ok_or("no reference")?;
/// let mut told = None;
/// for part in 0..200 {
///     let lamp = if part < 100 { 0 } else { -12 };
///     let values: Vec<i8> = (0..64 * 64 * 3).map(|at| (at % 7) as i8 * 10 + (part % 3) as i8 + lamp).collect();
///     guard.begin();
///     guard.look(&Tensor { width: 64, height: 64, values: &values });
///     told = told.or(guard.part(part, Duration::from_secs(part), Some(0.1)));
/// }
/// let drift = told.ok_or("nothing changed")?;
/// assert_eq!((drift.what, drift.part), (Measure::Brightness, 100));
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug)]
pub struct Guard {
    options: DriftOptions,
    /// The bundle's, where it is used.
    given: Option<Reference>,
    meter: Meter,
    /// Of the part that was looked at.
    measured: Option<Measures>,
    teacher: Teacher,
    /// None until there is a reference.
    watch: Option<Watch>,
}

/// With a reference.
#[derive(Debug)]
struct Watch {
    least_spread: f32,
    least_sharpness: f32,
    charts: [Option<Chart>; Measure::COUNT],
    told: [Option<Drift>; Measure::COUNT],
    first: Option<Measure>,
}

impl Guard {
    /// None where there is neither a reference, nor one to learn. `tiles` is how many inputs a part has.
    pub fn new(options: DriftOptions, reference: Option<&Reference>, tiles: usize) -> Option<Self> {
        let given = reference.filter(|_| options.learn == 0).cloned();
        (given.is_some() || options.learn > 0).then(|| {
            let watch = given.as_ref().map(|reference| Watch::new(reference, &options));
            let (meter, teacher) = (Meter::new(tiles), Teacher::default());
            Self { options, given, meter, measured: None, teacher, watch }
        })
    }

    /// Begins anew: another bundle, or other pictures. What it learnt is forgotten.
    pub fn restart(&mut self) {
        self.teacher = Teacher::default();
        self.measured = None;
        self.watch = self.given.as_ref().map(|reference| Watch::new(reference, &self.options));
    }

    /// The operator has seen it: what was told is forgotten, and told again if it is still so. What is usual stays.
    pub fn clear(&mut self) {
        let learnt = || self.teacher.reference();
        let usual = if self.watch.is_some() { self.given.clone().or_else(learnt) } else { None };
        self.watch = usual.map(|reference| Watch::new(&reference, &self.options));
    }

    /// The next part.
    pub fn begin(&mut self) {
        self.meter.begin();
        self.measured = None;
    }

    /// An input of it, as the network has it.
    pub fn look(&mut self, tensor: &Tensor) {
        self.meter.add(tensor);
        self.measured = None;
    }

    /// What was measured of the part.
    pub fn measures(&mut self) -> Measures {
        *self.measured.get_or_insert_with(|| self.meter.measures())
    }

    /// True if the camera sees nothing of the part: the lens is covered, there is no light, or far too much, or the
    /// focus is farther off than good parts ever had it.
    pub fn is_blind(&mut self) -> bool {
        let measures = self.measures();
        let Some(watch) = self.watch.as_ref().filter(|_| self.options.blind) else { return false };
        let soft = measures.get(Measure::Sharpness).is_some_and(|it| it < watch.least_sharpness + BLIND_SHARPNESS);
        soft || measures.spread < watch.least_spread * BLIND_SPREAD
    }

    /// The part is through; `score` is the defect score of one that is good. Returns what has changed so far.
    pub fn part(&mut self, part: u64, at: Timestamp, score: Option<f32>) -> Option<Drift> {
        let measures = self.measures();
        let measures = score.map_or(measures, |score| measures.scored(score));
        match &mut self.watch {
            Some(watch) => watch.part(&measures, Mark { part, at }),
            None => self.learn(&measures, score.is_some()),
        }
        self.drift()
    }

    fn learn(&mut self, measures: &Measures, good: bool) {
        if !good {
            return;
        }
        self.teacher.add(measures);
        if self.teacher.parts() < self.options.learn.max(LEAST_PARTS) {
            return;
        }
        if let Some(reference) = self.teacher.reference() {
            log::info!("drift: {} good parts are the reference from now on", reference.parts);
            self.watch = Some(Watch::new(&reference, &self.options));
        }
    }

    /// What has changed, the first to be told first; none if nothing has.
    pub fn drift(&self) -> Option<Drift> {
        let watch = self.watch.as_ref()?;
        watch.first.and_then(|first| watch.of(first))
    }

    /// The same of one measure.
    pub fn drift_of(&self, measure: Measure) -> Option<Drift> {
        self.watch.as_ref()?.of(measure)
    }
}

impl Watch {
    fn new(reference: &Reference, options: &DriftOptions) -> Self {
        let sides = Measure::ALL.iter().map(|measure| if measure.only_up() { 1.0 } else { 2.0 }).sum::<f64>();
        let each = options.parts_per_alarm.max(1.0) * sides; // any of them would be a false alarm
        let chart = |measure: Measure| Some(Chart::new(measure, reference.usual(measure)?, reference.parts, each));
        Self {
            least_spread: reference.least_spread,
            least_sharpness: reference.least_sharpness,
            charts: Measure::ALL.map(chart),
            told: [None; Measure::COUNT],
            first: None,
        }
    }

    fn part(&mut self, measures: &Measures, mark: Mark) {
        for ((measure, chart), told) in Measure::ALL.into_iter().zip(&mut self.charts).zip(&mut self.told) {
            let Some((chart, value)) = chart.as_mut().zip(measures.get(measure)) else { continue };
            let change = chart.add(value, mark);
            match (told, change) {
                (Some(drift), _) => drift.by = measure.share(chart.now()),
                (told @ None, Some(change)) => {
                    let (part, since, by) = (change.began.part, change.began.at, measure.share(change.by));
                    *told = Some(Drift { what: measure, by, part, since, all: 0 });
                    self.first.get_or_insert(measure);
                }
                (None, None) => {}
            }
        }
    }

    fn of(&self, measure: Measure) -> Option<Drift> {
        let found = self.told.get(measure.bit()).copied().flatten()?;
        let bits = self.told.iter().enumerate().map(|(bit, told)| u8::from(told.is_some()) << bit);
        Some(Drift { all: bits.fold(0, |all, bit| all | bit), ..found })
    }
}

#[cfg(test)]
mod tests;
