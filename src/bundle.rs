//! A model bundle: what a network is called, what its outputs mean, and the proof that it works (models/README.md).
//!
//! In: a directory. Out: a [`Bundle`] whose every file has been checked against the manifest's hashes. It refuses anything
//! that the contract does not allow, and says everything that is wrong, not the first thing.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::Shape;
use crate::mask;

/// The manifest, as written by the host tool; models/README.md is its reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of the bundle; [`Manifest::FORMAT`] is the one this runtime reads.
    pub format: u32,
    /// `[a-z0-9-]{1,64}`.
    pub name: String,
    /// Of the bundle, for people.
    pub version: String,
    /// How the network computes.
    pub precision: Precision,
    /// In the order of the logits.
    pub classes: Vec<Class>,
    /// The network's input.
    pub input: Input,
    /// When to reject and what to draw.
    pub thresholds: Thresholds,
    /// How far a backend may be from the proof.
    pub tolerance: Tolerance,
    /// SHA-256 of every other file, by path inside the bundle.
    pub files: BTreeMap<String, String>,
    /// The proof.
    pub golden: Vec<Golden>,
    /// Where the bundle comes from: printed, never interpreted.
    #[serde(default)]
    pub provenance: BTreeMap<String, String>,
    /// What was measured on the held-out test split.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
}

impl Manifest {
    /// The format this runtime reads.
    pub const FORMAT: u32 = 1;
}

/// How the network computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// int8 with QuantizeLinear and DequantizeLinear nodes.
    Int8,
    /// float32.
    F32,
}

/// One class of parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// As the folder of the training pictures was called.
    pub name: String,
    /// True for the one class of good parts.
    #[serde(default)]
    pub ok: bool,
}

/// The network's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Pixels across: a multiple of 16, 32 to 2048.
    pub width: u32,
    /// Pixels down, likewise.
    pub height: u32,
    /// How pictures are brought to this size.
    pub resize: Resize,
}

/// How pictures are brought to the network's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Anti-aliased bilinear convolution.
    Bilinear,
}

/// When to reject and what to draw.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Defect score, 0..1.
    pub score: f32,
    /// Foreground probability that a region must reach, 0..1.
    pub map: f32,
    /// Foreground probability that a region extends over, 0..=map.
    pub map_low: f32,
    /// Smallest region, pixels of the network's input.
    pub min_area_px: u32,
}

/// How far a backend may be from the proof before it may not judge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Largest difference of the defect score.
    pub score: f32,
    /// Smallest intersection over union of the thresholded maps.
    pub iou: f32,
}

/// One picture with what the network must say of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Path of the picture.
    pub picture: String,
    /// Path of the resized picture: the tensor, plus 128.
    pub input: String,
    /// Path of the foreground map, 16-bit gray.
    pub map: String,
    /// The logits.
    pub logits: Vec<f32>,
    /// `pass` or `reject`.
    pub verdict: GoldenVerdict,
}

/// The verdict of a golden picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GoldenVerdict {
    /// Good.
    Pass,
    /// Defective.
    Reject,
}

/// A bundle that cannot be used, with everything that is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory or its manifest cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The path.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The contract is broken.
    #[error("bundle {bundle} is not valid:\n  {}", problems.join("\n  "))]
    Invalid {
        /// Where it was read from.
        bundle: String,
        /// Every problem found.
        problems: Vec<String>,
    },
}

/// A verified bundle, in memory.
#[derive(Debug, Clone)]
pub struct Bundle {
    manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
    ok: usize,
}

impl Bundle {
    /// Reads a bundle directory and verifies every byte of it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            std::fs::read(path.join(name))
                .map_err(|error| Error::Read { path: path.join(name).display().to_string(), reason: error.to_string() })
        };
        let text = String::from_utf8_lossy(&read("manifest.toml")?).into_owned();
        let manifest: Manifest = toml::from_str(&text)
            .map_err(|error| Error::Read { path: path.display().to_string(), reason: error.to_string() })?;
        let mut files = BTreeMap::new();
        for name in manifest.files.keys() {
            files.insert(name.clone(), read(name)?);
        }
        let ok = manifest.classes.iter().position(|class| class.ok).unwrap_or(0);
        Ok(Self { manifest, files, ok })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The network file.
    pub fn onnx(&self) -> &[u8] {
        self.file("model.onnx")
    }

    /// A file of the bundle, empty if there is none of that name.
    pub fn file(&self, name: &str) -> &[u8] {
        self.files.get(name).map_or(&[], Vec::as_slice)
    }

    /// The sample pictures, by path, sorted.
    pub fn samples(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .filter(|(name, _)| name.starts_with("samples/"))
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// Position of the OK class among the logits.
    pub fn ok_class(&self) -> usize {
        self.ok
    }

    /// The names of the classes, in the order of the logits.
    pub fn class_names(&self) -> Vec<String> {
        self.manifest.classes.iter().map(|class| class.name.clone()).collect()
    }

    /// What the network must look like.
    pub fn shape(&self) -> Shape {
        let Input { width, height, .. } = self.manifest.input;
        Shape { width: width as usize, height: height as usize, classes: self.manifest.classes.len() }
    }

    /// The mask's thresholds.
    pub fn mask_thresholds(&self) -> mask::Thresholds {
        let Thresholds { map, map_low, min_area_px, .. } = self.manifest.thresholds;
        mask::Thresholds { high: map, low: map_low, min_area_px }
    }
}
