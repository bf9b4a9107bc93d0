//! In: a bundle and the backend that is to run it. Out: whether this machine computes what the host tool measured.
//!
//! For each golden picture: (a) resized here, it is the tensor of the proof within one grey level; (b) the network,
//! given exactly the proof's tensor, answers within the manifest's tolerance; (c) the whole pipeline, given the
//! picture, says the proof's verdict. [`require`] is the only way a station or a replay gets its pipeline: no bundle
//! judges unproven.

use std::time::Duration;

use serde::Serialize;

use crate::bundle::{Bundle, Golden};
use crate::camera::picture::{self, Gray16, Picture};
use crate::camera::{self, Colors, Frame, Geometry, PixelFormat};
use crate::engine::{self, Backend, BuildProgress};
use crate::pipeline::{self, Pipeline, PipelineOptions};
use crate::preprocess::{Layout, Tensor};

/// Grey levels that two correct resizers may differ by.
const MAX_TENSOR_DIFF: u8 = 1;
/// The same where the part is moved after that: a level here and there moves an edge by a hundredth of a pixel.
const MAX_MOVED_DIFF: u8 = 8;

/// What the replay of a bundle's proof found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What ran, in words; empty if the network could not be loaded.
    pub backend: String,
    /// One row a golden picture that was judged.
    pub golden: Vec<Row>,
    /// Every way in which this machine is not the proof; none if the bundle may judge.
    pub problems: Vec<String>,
}

impl Report {
    /// True if the bundle may judge.
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What this machine made of one golden picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its path in the bundle.
    pub picture: String,
    /// Defect score of the network on the proof's tensor, 0..1.
    pub score: f32,
    /// Defect score in the proof, 0..1.
    pub golden_score: f32,
    /// Intersection over union of the thresholded maps, here and in the proof, 0..1; two empty maps count as 1.
    pub iou: f64,
    /// Largest difference between the picture resized here and the proof's tensor, grey levels.
    pub tensor_diff: u8,
    /// What the whole pipeline says of the picture: pass, reject or fault.
    pub verdict: &'static str,
    /// What it must say.
    pub golden_verdict: &'static str,
    /// All of it within tolerance.
    pub passed: bool,
}

/// A bundle that may not judge on this machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline cannot be built for the station's frames.
    #[error(transparent)]
    Pipeline(#[from] pipeline::Error),
    /// The replay and the proof disagree.
    #[error("bundle {bundle} may not judge on this machine{backend}:\n  {}", problems.join("\n  "))]
    Failed {
        /// Name and version.
        bundle: String,
        /// Which backend it was, as the end of a sentence; empty for the CPU.
        backend: String,
        /// Every disagreement.
        problems: Vec<String>,
    },
}

/// Replays the proof at the bundle's own thresholds, on the backend and the threads of `options`.
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::pipeline::PipelineOptions;
/// use fcam::proof;
///
/// let bundle = Bundle::embedded()?;
/// let report = proof::replay(&bundle, &PipelineOptions::default());
/// assert!(report.passed(), "{:?}", report.problems);
/// assert_eq!(report.golden.len(), bundle.manifest().golden.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn replay(bundle: &Bundle, options: &PipelineOptions) -> Report {
    prove(bundle, options).0
}

/// Replays the proof and, if it holds, gives the pipeline for frames of `geometry`. The network is loaded once.
///
/// Where `engine.backend = "auto"` took TensorRT and the proof does not hold on it, the figures are told and the CPU
/// must hold it.
pub fn require(bundle: &Bundle, geometry: Geometry, options: PipelineOptions) -> Result<Pipeline, Error> {
    require_watched(bundle, geometry, options, &mut engine::log_building())
}

/// The same; `progress` is told how far the engine is, where one must be built first.
pub fn require_watched(
    bundle: &Bundle,
    geometry: Geometry,
    mut options: PipelineOptions,
    progress: &mut BuildProgress,
) -> Result<Pipeline, Error> {
    let (report, pipeline) = prove_watched(bundle, &options, progress);
    let on_tensorrt = pipeline.as_ref().is_some_and(Pipeline::is_tensorrt);
    if on_tensorrt && !report.passed() && options.engine.backend == Backend::Auto {
        let problems = report.problems.join("; ");
        log::error!("TensorRT is refused, and engine.backend = \"auto\" takes the CPU, which is slower: {problems}");
        options.engine.backend = Backend::Cpu;
        drop(pipeline);
        return require_watched(bundle, geometry, options, progress);
    }
    match pipeline {
        Some(pipeline) if report.passed() => {
            let (described, pictures) = (bundle.describe(), report.golden.len());
            log::info!("{described} proven on {pictures} golden pictures, {}", report.backend);
            Ok(Pipeline::with_engine(pipeline.into_engine(), bundle, geometry, options)?)
        }
        _ => {
            let backend = if on_tensorrt { format!(", by {}", report.backend) } else { String::new() };
            Err(Error::Failed { bundle: bundle.describe(), backend, problems: report.problems })
        }
    }
}

fn prove(bundle: &Bundle, options: &PipelineOptions) -> (Report, Option<Pipeline>) {
    prove_watched(bundle, options, &mut engine::log_building())
}

fn prove_watched(
    bundle: &Bundle,
    options: &PipelineOptions,
    progress: &mut BuildProgress,
) -> (Report, Option<Pipeline>) {
    let mut report = Report { backend: String::new(), golden: Vec::new(), problems: Vec::new() };
    let mut pipeline = match proof_pipeline(bundle, options, progress) {
        Ok(pipeline) => pipeline,
        Err(error) => {
            report.problems.push(error.to_string());
            return (report, None);
        }
    };
    report.backend = pipeline.describe();
    for golden in &bundle.manifest().golden {
        match judge(bundle, golden, &mut pipeline) {
            Ok(row) => {
                report.problems.extend(row.problem(bundle));
                report.golden.push(row);
            }
            Err(reason) => report.problems.push(format!("golden {}: {reason}", golden.picture)),
        }
    }
    (report, Some(pipeline))
}

/// Without the station's ROIs, threshold and vote: the proof was made without them.
fn proof_pipeline(
    bundle: &Bundle,
    options: &PipelineOptions,
    progress: &mut BuildProgress,
) -> Result<Pipeline, pipeline::Error> {
    let manifest = bundle.manifest();
    let plain = PipelineOptions { layout: Layout::default(), score_threshold: None, locate: None, ..options.clone() };
    let options = PipelineOptions { vote: None, drift: None, ..plain };
    // Stands until the first golden picture is known; a tensor-sized frame always fits.
    let geometry = Geometry {
        width: manifest.input.width,
        height: manifest.input.height,
        stride: PixelFormat::Rgb8.row_bytes(manifest.input.width),
        format: PixelFormat::Rgb8,
        colors: Colors::default(),
    };
    Pipeline::watched(bundle, geometry, options, progress)
}

/// The files of one golden picture, decoded.
struct Case {
    picture: Picture,
    /// The proof's tensor.
    input: Vec<i8>,
    /// The proof's map, 0..=65535.
    map: Gray16,
}

#[derive(Debug, thiserror::Error)]
enum Unjudged {
    #[error(transparent)]
    Decode(#[from] camera::Error),
    #[error("{path} is {width} x {height} {kind}, not of the network's input size")]
    Size { path: String, width: u32, height: u32, kind: &'static str },
    #[error(transparent)]
    Pipeline(#[from] pipeline::Error),
    #[error(transparent)]
    Engine(#[from] engine::Error),
}

fn judge(bundle: &Bundle, golden: &Golden, pipeline: &mut Pipeline) -> Result<Row, Unjudged> {
    let case = Case::read(bundle, golden)?;
    let threshold = bundle.manifest().thresholds.map;
    let size = bundle.shape();
    let tensor = Tensor { width: size.width, height: size.height, values: &case.input };
    let prediction = pipeline.predict(&tensor)?;
    let score = 1.0 - prediction.scores.get(bundle.ok_class()).copied().unwrap_or(0.0);
    let iou = iou(prediction.map, &case.map.values, threshold);

    pipeline.refit(case.picture.geometry)?;
    let frame = Frame::new(0, Duration::ZERO, case.picture.geometry, &case.picture.bytes)?;
    let tensor_diff = largest_difference(pipeline.preprocess(&frame).values, &case.input);
    let verdict = pipeline.inspect(&frame).outcome.verdict.word();
    let mut row = Row {
        picture: golden.picture.clone(),
        score,
        golden_score: golden.score(bundle.ok_class()),
        iou,
        tensor_diff,
        verdict,
        golden_verdict: golden.verdict.word(),
        passed: false,
    };
    row.passed = row.problem(bundle).is_none();
    Ok(row)
}

impl Row {
    /// Every disagreement in one line; none if the row is within tolerance.
    fn problem(&self, bundle: &Bundle) -> Option<String> {
        let tolerance = bundle.manifest().tolerance;
        let mut found = Vec::new();
        let apart = (self.score - self.golden_score).abs();
        // Written so that what is not a number does not pass.
        if !matches!(apart.partial_cmp(&tolerance.score), Some(order) if order.is_le()) {
            let (score, golden) = (self.score, self.golden_score);
            found.push(format!("score {score:.4}, the proof has {golden:.4} and tolerates {}", tolerance.score));
        }
        if self.iou < f64::from(tolerance.iou) {
            found.push(format!("map IoU {:.4}, the proof tolerates {}", self.iou, tolerance.iou));
        }
        let most = if bundle.manifest().locate.is_some() { MAX_MOVED_DIFF } else { MAX_TENSOR_DIFF };
        if self.tensor_diff > most {
            found.push(format!("resizes to something {} grey levels from the proof's input", self.tensor_diff));
        }
        if self.verdict != self.golden_verdict {
            found.push(format!("verdict {}, the proof says {}", self.verdict, self.golden_verdict));
        }
        (!found.is_empty()).then(|| format!("golden {}: {}", self.picture, found.join("; ")))
    }
}

impl Case {
    fn read(bundle: &Bundle, golden: &Golden) -> Result<Self, Unjudged> {
        let input = picture::decode(bundle.file(&golden.input), &golden.input)?;
        let map = picture::decode_gray16(bundle.file(&golden.map), &golden.map)?;
        let picture = picture::decode(bundle.file(&golden.picture), &golden.picture)?;
        let wanted = (bundle.manifest().input.width, bundle.manifest().input.height);
        let wrong = |path: &str, width, height, kind| Unjudged::Size { path: path.to_owned(), width, height, kind };
        let Geometry { width, height, format, .. } = input.geometry;
        if (width, height) != wanted || format != PixelFormat::Rgb8 {
            let kind = if format == PixelFormat::Rgb8 { "RGB" } else { "gray and not RGB" };
            return Err(wrong(&golden.input, width, height, kind));
        }
        if (map.width, map.height) != wanted {
            return Err(wrong(&golden.map, map.width, map.height, "16-bit gray"));
        }
        let input = input.bytes.iter().map(|pixel| (pixel ^ 0x80) as i8).collect(); // pixel - 128
        Ok(Self { picture, input, map })
    }
}

fn largest_difference(here: &[i8], proof: &[i8]) -> u8 {
    here.iter().zip(proof).map(|(here, proof)| here.abs_diff(*proof)).max().unwrap_or(u8::MAX)
}

/// Of the pixels that reach the threshold.
fn iou(here: &[f32], proof: &[u16], threshold: f32) -> f64 {
    let (mut both, mut either) = (0u32, 0u32);
    for (here, proof) in here.iter().zip(proof) {
        let (here, proof) = (*here >= threshold, f32::from(*proof) / 65535.0 >= threshold);
        both += u32::from(here && proof);
        either += u32::from(here || proof);
    }
    if either == 0 { 1.0 } else { f64::from(both) / f64::from(either) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_counts_thresholded_pixels() {
        let proof = [65535, 65535, 0, 0];
        assert_eq!(iou(&[1.0, 0.5, 0.0, 0.0], &proof, 0.5), 1.0);
        assert_eq!(iou(&[1.0, 0.4, 0.9, 0.0], &proof, 0.5), 1.0 / 3.0);
        assert_eq!(iou(&[0.1; 4], &[0; 4], 0.5), 1.0);
        assert_eq!(iou(&[0.9; 4], &[0; 4], 0.5), 0.0);
    }

    #[test]
    fn differences_are_over_the_whole_range() {
        assert_eq!(largest_difference(&[-128, 5], &[127, 5]), 255);
        assert_eq!(largest_difference(&[1, -1], &[1, 0]), 1);
    }
}
