//! A model bundle: what a network is called, what its outputs mean, and the proof that it works (models/README.md).
//!
//! In: a directory, one file (`.fcam`), or its files in memory. Out: a [`Bundle`] whose every byte has been checked
//! against the manifest's hashes and whose network keeps the contract's rules. It refuses anything that the contract
//! does not allow, and says everything that is wrong, not the first thing. Whether the network computes what the proof
//! says is for [`crate::proof`] to find out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::camera::{Geometry, picture};
use crate::engine::{Shape, qdq};
use crate::locate::{Locator, Reach, Template};
use crate::mask;
use crate::outcome::{JudgedBy, share};

mod archive;
mod directory;
mod embedded;
mod manifest;
mod parcel;
mod signature;

pub use manifest::{Class, Golden, GoldenVerdict, Input, Locate, Manifest, Precision, Resize, Thresholds, Tolerance};
pub use parcel::{MAX_PARCEL, Parcel, Signed, SigningKey, SigningKeyError, generate, is_parcel};
pub use signature::{KeyError, Keys, Release, machine};

/// The largest network file, bytes.
pub const MAX_MODEL: u64 = 256 << 20;
/// The largest bundle, all files together, bytes.
pub const MAX_TOTAL: u64 = 512 << 20;
/// The largest manifest, bytes.
const MAX_MANIFEST: u64 = 1 << 20;

const MANIFEST: &str = "manifest.toml";
const MODEL: &str = "model.onnx";

/// A bundle that cannot be used, with everything that is wrong with it.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use fcam::bundle::Bundle;
///
/// let error = Bundle::from_files("from the net", BTreeMap::new()).unwrap_err();
/// assert_eq!(error.to_string(), "bundle from the net is not valid:\n  there is no manifest.toml");
/// ```
#[derive(Debug, thiserror::Error)]
#[error("bundle {bundle} is not valid:\n  {}", problems.join("\n  "))]
pub struct Error {
    /// Where it was read from.
    pub bundle: String,
    /// Every problem found.
    pub problems: Vec<String>,
}

/// A bundle's files by path; those that the program carries lie in the program.
type Contents = BTreeMap<String, Cow<'static, [u8]>>;

fn owned(files: BTreeMap<String, Vec<u8>>) -> Contents {
    files.into_iter().map(|(path, bytes)| (path, Cow::Owned(bytes))).collect()
}

/// A verified bundle, in memory.
///
/// ```
/// use fcam::bundle::Bundle;
///
/// let bundle = Bundle::embedded()?;
/// assert_eq!(bundle.class_names()[bundle.ok_class()], "good");
///
/// let error = Bundle::open("nowhere".as_ref()).unwrap_err();
/// assert!(!error.problems.is_empty()); // everything that is wrong, not the first thing
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bundle {
    source: String,
    manifest: Manifest,
    files: Contents,
    judged_by: Arc<JudgedBy>,
}

impl Bundle {
    /// The bundle in a directory or in one file, whoever signed that, or the embedded one if none is given. Its network
    /// may have those convolutions in float that `float_layers` names (`engine.float_layers`), and no others outside of
    /// its float tail.
    pub fn load(path: Option<&Path>, float_layers: &[String]) -> Result<Self, Error> {
        match path {
            Some(path) if is_parcel(path) => Parcel::read(path)?.open(float_layers),
            Some(path) => Self::read(path, float_layers),
            None => Self::verify(embedded::NAME, embedded::files(), float_layers),
        }
    }

    /// The default bundle, which the program carries; verified like any other.
    pub fn embedded() -> Result<Self, Error> {
        Self::load(None, &[])
    }

    /// Reads a bundle directory and verifies every byte of it. Sizes are checked before anything is read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::load(Some(path), &[])
    }

    fn read(path: &Path, float_layers: &[String]) -> Result<Self, Error> {
        let directory::Contents { files, mut problems } = directory::read(path);
        let bundle = path.display().to_string();
        if files.is_empty() {
            return Err(Error { bundle, problems });
        }
        match Self::verify(&bundle, owned(files), float_layers) {
            Ok(opened) if problems.is_empty() => Ok(opened),
            Ok(_) => Err(Error { bundle, problems }),
            Err(error) => {
                problems.extend(error.problems);
                Err(Error { bundle, problems })
            }
        }
    }

    /// Verifies a bundle whose files are in memory, `manifest.toml` among them, by path inside the bundle. `bundle`
    /// says where it is from.
    pub fn from_files(bundle: &str, files: BTreeMap<String, Vec<u8>>) -> Result<Self, Error> {
        Self::verify(bundle, owned(files), &[])
    }

    fn verify(bundle: &str, mut files: Contents, float_layers: &[String]) -> Result<Self, Error> {
        let invalid = |problems| Error { bundle: bundle.to_owned(), problems };
        let sizes = files.iter().map(|(path, bytes)| (path.as_str(), bytes.len() as u64));
        let mut problems = size_problems(sizes);
        if !problems.is_empty() {
            return Err(invalid(problems));
        }
        let text = files.remove(MANIFEST).ok_or_else(|| invalid(vec!["there is no manifest.toml".into()]))?;
        let manifest = manifest::parse(&text).map_err(|problem| invalid(vec![problem]))?;
        problems = manifest.problems();
        let sound = problems.is_empty();
        problems.extend(hash_problems(&manifest, &files));
        let judged_by = Arc::new(JudgedBy {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            counter: 0,
            classes: manifest.classes.iter().map(|class| class.name.clone()).collect(),
            threshold: share(manifest.thresholds.score),
        });
        let bundle = Self { source: bundle.to_owned(), manifest, files, judged_by };
        problems.extend(bundle.network_problems(float_layers));
        if sound {
            problems.extend(bundle.locator().err()); // a template is as large as a sound manifest allows
        }
        if problems.is_empty() { Ok(bundle) } else { Err(invalid(problems)) }
    }

    /// What finds parts, for a bundle that asks for it; the error says what is wrong with its template.
    pub fn locator(&self) -> Result<Option<Locator>, String> {
        let Some(locate) = &self.manifest.locate else { return Ok(None) };
        let path = &locate.template;
        let bytes = self.file(path);
        if bytes.is_empty() {
            return Ok(None); // missing: said with the files
        }
        let picture = picture::decode(bytes, path).map_err(|error| error.to_string())?;
        let Geometry { width, height, .. } = picture.geometry;
        let input = &self.manifest.input;
        if (width, height) != (input.width, input.height) {
            let wanted = format!("{} x {}", input.width, input.height);
            return Err(format!("locate.template {path} is {width} x {height} pixels, not {wanted}"));
        }
        let reach = Reach { shift: locate.shift, turn: locate.turn, agreement: locate.agreement };
        let found = Template { picture, reach }.locator(width as usize, height as usize);
        found.map(Some).map_err(|problem| format!("locate.template {path}: {problem}"))
    }

    fn network_problems(&self, float_layers: &[String]) -> Vec<String> {
        if self.onnx().is_empty() {
            return Vec::new(); // missing: said with the files
        }
        let int8 = self.manifest.precision == Precision::Int8;
        let found = qdq::problems(self.onnx(), self.shape(), int8);
        let allowed = |problem: &qdq::Problem| problem.rule == qdq::FLOAT_LAYER && float_layers.contains(&problem.node);
        found.into_iter().filter(|problem| !allowed(problem)).map(|problem| format!("{MODEL}: {problem}")).collect()
    }

    /// Where it is from, a path or `embedded`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where it is from, and its name and version, for people.
    pub fn describe(&self) -> String {
        format!("{} {} {}", self.source, self.manifest.name, self.manifest.version)
    }

    /// What its outcomes say of what judged.
    pub fn judged_by(&self) -> &Arc<JudgedBy> {
        &self.judged_by
    }

    /// The same bundle as the signed release with this counter.
    #[must_use]
    pub fn signed_as(mut self, counter: u64) -> Self {
        Arc::make_mut(&mut self.judged_by).counter = counter;
        self
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The network file.
    pub fn onnx(&self) -> &[u8] {
        self.file(MODEL)
    }

    /// A file of the bundle, empty if there is none of that name.
    pub fn file(&self, name: &str) -> &[u8] {
        self.files.get(name).map_or(&[], |bytes| bytes)
    }

    /// The sample pictures, by path, sorted.
    pub fn samples(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .filter(|(name, _)| name.starts_with("samples/"))
            .map(|(name, bytes)| (name.as_str(), &**bytes))
    }

    /// Position of the OK class among the logits.
    pub fn ok_class(&self) -> usize {
        self.manifest.ok_class()
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

/// What is too large. Takes sizes and not files, so that it can be asked before a byte is read.
fn size_problems<'a>(sizes: impl Iterator<Item = (&'a str, u64)>) -> Vec<String> {
    let (mut found, mut total) = (Vec::new(), 0u64);
    for (path, size) in sizes {
        total = total.saturating_add(size);
        let limit = match path {
            MANIFEST => MAX_MANIFEST,
            MODEL => MAX_MODEL,
            _ => MAX_TOTAL,
        };
        if size > limit {
            found.push(format!("{path} has {size} bytes, more than {} MiB", limit >> 20));
        }
    }
    if total > MAX_TOTAL {
        found.push(format!("all files together have {total} bytes, more than {} MiB", MAX_TOTAL >> 20));
    }
    found
}

/// Files that are missing, changed, or not in the manifest.
fn hash_problems(manifest: &Manifest, files: &Contents) -> Vec<String> {
    let mut found = Vec::new();
    for (path, hash) in &manifest.files {
        match files.get(path) {
            None => found.push(format!("{} is in [files] and not in the bundle", path.escape_debug())),
            Some(bytes) if sha256(bytes).eq_ignore_ascii_case(hash) => {}
            Some(_) => found.push(format!("{path} is not the file that was exported: its SHA-256 differs")),
        }
    }
    let unlisted = files.keys().filter(|path| !manifest.files.contains_key(*path));
    found.extend(unlisted.map(|path| format!("{} is in the bundle and not in [files]", path.escape_debug())));
    found
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
