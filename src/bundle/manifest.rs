//! In: the text of `manifest.toml`. Out: a [`Manifest`], or everything in it that models/README.md does not allow.
//!
//! A key or a type that is wrong ends the reading at once, because what follows cannot be understood; values that are
//! out of range are all collected.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::drift;
use crate::locate::{MAX_SHIFT, MAX_TURN};

/// The manifest, as written by the host tool; models/README.md is its reference.
///
/// ```
/// use fcam::bundle::{Bundle, Manifest, Precision};
///
/// let bundle = Bundle::embedded()?;
/// let manifest = bundle.manifest();
/// assert!(Manifest::FORMATS.contains(&manifest.format) && manifest.precision == Precision::Int8);
/// assert!(manifest.files.contains_key("model.onnx")); // with its SHA-256
/// assert!(Manifest::is_name("lid-2") && !Manifest::is_name("Lid 2"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of the bundle, one of [`Manifest::FORMATS`].
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
    /// Where parts lie in the training's pictures; none if they lie anywhere. Format 2.
    #[serde(default)]
    pub locate: Option<Locate>,
    /// What good parts look like, to tell when pictures change; none if nobody taught it. Format 3.
    #[serde(default)]
    pub drift: Option<drift::Reference>,
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
    /// The formats this runtime reads; the second one has `[locate]`, the third one `[drift]`.
    pub const FORMATS: RangeInclusive<u32> = 1..=3;

    /// True for what may be the name of a bundle.
    pub fn is_name(text: &str) -> bool {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    }
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

/// Where parts lie, for a network that knows what is normal at each place.
///
/// ```
/// use fcam::bundle::Locate;
///
/// // As it stands in a manifest; no key may be missing.
/// let locate: Locate = toml::from_str("template = 'template.png'\nshift = 0.03\nturn = 3.0\nagreement = 0.4")?;
/// assert_eq!((locate.shift, locate.turn), (0.03, 3.0));
/// assert!(toml::from_str::<Locate>("template = 'template.png'").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locate {
    /// Path of the template: what good parts look like in the network's input, 8-bit gray.
    pub template: String,
    /// Share of the input's sides that a part may be shifted by, 0..=[`crate::locate::MAX_SHIFT`].
    pub shift: f32,
    /// Degrees that it may be turned by, 0..=[`crate::locate::MAX_TURN`].
    pub turn: f32,
    /// Agreement with the template below which there is no part, 0..1.
    pub agreement: f32,
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
///
/// ```
/// use fcam::bundle::{Bundle, GoldenVerdict};
///
/// let bundle = Bundle::embedded()?;
/// let threshold = bundle.manifest().thresholds.score;
/// for golden in &bundle.manifest().golden {
///     let rejected = golden.score(bundle.ok_class()) >= threshold;
///     assert_eq!(rejected, golden.verdict == GoldenVerdict::Reject);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

/// Reads the text; the error is one problem, in words.
pub(super) fn parse(bytes: &[u8]) -> Result<Manifest, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "manifest.toml is not UTF-8 text".to_owned())?;
    // The format comes first: a manifest of another format may have any other key.
    let table: toml::Table = toml::from_str(text).map_err(|error| in_words(text, &error))?;
    let (oldest, newest) = Manifest::FORMATS.into_inner();
    match table.get("format").and_then(toml::Value::as_integer) {
        Some(format) if (i64::from(oldest)..=i64::from(newest)).contains(&format) => {}
        Some(format) if format > i64::from(newest) => {
            return Err(format!("format {format} needs a newer fcam: this one reads {oldest} to {newest}"));
        }
        Some(format) => return Err(format!("there is no format {format}: this fcam reads {oldest} to {newest}")),
        None => return Err(format!("manifest.toml has no `format = {oldest}`")),
    }
    toml::from_str(text).map_err(|error| in_words(text, &error))
}

fn in_words(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!("manifest.toml line {line}: {}", error.message().replace('\n', ", "))
}

impl Manifest {
    /// Every value that the contract does not allow.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut must = |holds: bool, problem: String| {
            if !holds {
                found.push(problem);
            }
        };
        must(Manifest::is_name(&self.name), format!("name `{}` is not [a-z0-9-]{{1,64}}", self.name.escape_debug()));
        must(is_label(&self.version), "version is empty, too long or not printable".into());
        for (side, pixels) in [("width", self.input.width), ("height", self.input.height)] {
            let fits = pixels.is_multiple_of(16) && (32..=2048).contains(&pixels);
            must(fits, format!("input.{side} = {pixels} is not a multiple of 16 from 32 to 2048"));
        }
        let Thresholds { score, map, map_low, min_area_px } = self.thresholds;
        let Tolerance { score: score_tolerance, iou } = self.tolerance;
        let parts = [
            ("thresholds.score", score),
            ("thresholds.map", map),
            ("thresholds.map_low", map_low),
            ("tolerance.score", score_tolerance),
            ("tolerance.iou", iou),
        ];
        for (name, value) in parts {
            must((0.0..=1.0).contains(&value), format!("{name} = {value} is not from 0 to 1"));
        }
        must(
            map_low <= map || !map_low.is_finite() || !map.is_finite(),
            format!("thresholds.map_low = {map_low} is above thresholds.map = {map}"),
        );
        let pixels = u64::from(self.input.width) * u64::from(self.input.height);
        must(
            u64::from(min_area_px) <= pixels,
            format!("thresholds.min_area_px = {min_area_px} is more than a picture has"),
        );
        found.extend(self.locate.iter().flat_map(|locate| self.locate_problems(locate)));
        found.extend(self.drift_problems());
        found.extend(self.class_problems());
        found.extend(self.file_problems());
        found.extend(self.golden_problems());
        found
    }

    fn locate_problems(&self, locate: &Locate) -> Vec<String> {
        let mut found = Vec::new();
        if self.format < 2 {
            found.push("[locate] needs `format = 2`".into());
        }
        if !self.files.contains_key(&locate.template) {
            found.push(format!("locate.template {} is not in [files]", locate.template.escape_debug()));
        }
        let limits =
            [("shift", locate.shift, MAX_SHIFT), ("turn", locate.turn, MAX_TURN), ("agreement", locate.agreement, 1.0)];
        for (name, value, most) in limits {
            if !(0.0..=most).contains(&value) {
                found.push(format!("locate.{name} = {value} is not from 0 to {most}"));
            }
        }
        found
    }

    fn drift_problems(&self) -> Vec<String> {
        let Some(reference) = &self.drift else { return vec![] };
        let old = (self.format < 3).then(|| "[drift] needs `format = 3`".to_owned());
        old.into_iter().chain(reference.problems()).collect()
    }

    fn class_problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !(2..=64).contains(&self.classes.len()) {
            found.push(format!("{} classes: there must be 2 to 64", self.classes.len()));
        }
        let good: Vec<&str> = self.classes.iter().filter(|class| class.ok).map(|class| class.name.as_str()).collect();
        if good.len() != 1 {
            found.push(format!("{} classes have ok = true ({}): exactly one must", good.len(), good.join(", ")));
        }
        let mut seen = BTreeSet::new();
        for Class { name, .. } in &self.classes {
            if !is_label(name) {
                found.push(format!("class name `{}` is empty, too long or not printable", name.escape_debug()));
            }
            if !seen.insert(name) {
                found.push(format!("class `{name}` is there twice"));
            }
        }
        found
    }

    fn file_problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !self.files.contains_key("model.onnx") {
            found.push("model.onnx is not in [files]".into());
        }
        for (path, hash) in &self.files {
            if let Err(why) = check_listed(path) {
                found.push(format!("[files] path `{}` {why}", path.escape_debug()));
            }
            if hash.len() != 64 || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                found.push(format!("the SHA-256 of {} is not 64 hex digits", path.escape_debug()));
            }
        }
        found
    }

    fn golden_problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.golden.is_empty() {
            found.push("there is no [[golden]]: a bundle without proof may not judge".into());
        }
        for golden in &self.golden {
            for path in [&golden.picture, &golden.input, &golden.map] {
                if !self.files.contains_key(path) {
                    found.push(format!("golden file {} is not in [files]", path.escape_debug()));
                }
            }
            found.extend(self.logit_problem(golden).map(|problem| format!("golden {}: {problem}", golden.picture)));
        }
        found
    }

    fn logit_problem(&self, golden: &Golden) -> Option<String> {
        let Golden { logits, verdict, .. } = golden;
        if logits.len() != self.classes.len() {
            return Some(format!("{} logits for {} classes", logits.len(), self.classes.len()));
        }
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Some("logits are not finite numbers".into());
        }
        let (score, threshold) = (golden.score(self.ok_class()), self.thresholds.score);
        let implied = if score >= threshold { GoldenVerdict::Reject } else { GoldenVerdict::Pass };
        (implied != *verdict).then(|| {
            format!("verdict {} contradicts its logits: score {score:.4}, threshold {threshold}", verdict.word())
        })
    }

    /// Position of the OK class among the logits.
    pub(super) fn ok_class(&self) -> usize {
        self.classes.iter().position(|class| class.ok).unwrap_or(0)
    }
}

impl Golden {
    /// Defect score that the logits stand for: 1 - softmax(logits)\[ok\], 0..1.
    pub fn score(&self, ok: usize) -> f32 {
        let top = self.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: &f32| f64::from(logit - top).exp();
        let sum: f64 = self.logits.iter().map(weight).sum();
        (1.0 - self.logits.get(ok).map_or(0.0, weight) / sum) as f32
    }
}

impl GoldenVerdict {
    /// As the manifest writes it, and as [`crate::verdict::Verdict::word`].
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Reject => "reject",
        }
    }
}

/// A path of another file than the manifest.
fn check_listed(path: &str) -> Result<(), &'static str> {
    if path == "manifest.toml" {
        return Err("cannot hash the file that it is written in");
    }
    check_path(path)
}

/// A path that stays inside the bundle on any system: names of visible characters, joined by single slashes.
pub(super) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > 255 || path.chars().any(char::is_control) {
        return Err("is too long or has control characters");
    }
    if path.contains('\\') || path.contains(':') {
        return Err("has a backslash or a colon: write it with slashes");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("is absolute, leaves the bundle or has an empty part");
    }
    Ok(())
}

fn is_label(text: &str) -> bool {
    (1..=64).contains(&text.len()) && !text.chars().any(char::is_control)
}
