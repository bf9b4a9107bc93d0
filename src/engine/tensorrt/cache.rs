//! Engines that were built, in a folder. In: a key, that is all an engine depends on. Out: the engine's bytes, or why
//! there are none.
//!
//! A file is a few lines of text, an empty line, and the engine. The text is the key and the SHA-256 of the engine:
//! what does not match is never given to TensorRT, which trusts its bytes. Files are whole under their name
//! (`durable`); the oldest beyond a number are removed.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::told::Facts;
use crate::durable;

const MAGIC: &str = "fcam-engine 1";
const EXTENSION: &str = "engine";

/// Bytes of a file at most.
const MAX_FILE: u64 = 1 << 30;
/// Bytes of its text at most.
const MAX_TEXT: usize = 4096;

/// All that an engine depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Key {
    /// SHA-256 of the ONNX file.
    pub onnx: String,
    /// Version of TensorRT, with its build number.
    pub tensorrt: String,
    /// Name of the GPU.
    pub gpu: String,
    /// Its compute capability.
    pub capability: String,
    /// How it was built.
    pub flags: String,
}

impl Key {
    pub(super) fn new(onnx: &[u8], facts: &Facts, int8: bool) -> Self {
        let flags = match (facts.typed, int8) {
            (true, _) => "typed",
            (false, true) => "int8 fp16",
            (false, false) => "fp16",
        };
        Self {
            onnx: hex(onnx),
            tensorrt: facts.tensorrt.clone(),
            gpu: facts.gpu.clone(),
            capability: facts.capability.clone(),
            flags: flags.into(),
        }
    }

    fn fields(&self) -> [(&'static str, &str); 5] {
        let Self { onnx, tensorrt, gpu, capability, flags } = self;
        [("onnx", onnx), ("tensorrt", tensorrt), ("gpu", gpu), ("capability", capability), ("flags", flags)]
    }

    fn text(&self) -> String {
        self.fields().iter().map(|(name, value)| format!("{name} {value}\n")).collect()
    }

    /// Its name in the folder.
    pub(super) fn file_name(&self) -> String {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        format!("{}-{}.{EXTENSION}", short(&self.onnx), short(&hex(self.text().as_bytes())))
    }
}

/// One file of the folder.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What it is for; none if that cannot be read.
    pub key: Option<Key>,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// When it was used last.
    #[serde(skip)]
    pub used: SystemTime,
}

/// A folder of engines.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    folder: PathBuf,
    keep: usize,
}

impl Cache {
    pub(super) fn new(folder: &Path, keep: usize) -> Self {
        Self { folder: folder.to_owned(), keep: keep.max(1) }
    }

    pub(super) fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(key.file_name())
    }

    /// The engine; none if there is no file. An error says what is wrong with the one there is.
    pub(super) fn read(&self, key: &Key) -> Result<Option<Vec<u8>>, String> {
        let path = self.path(key);
        let (found, plan) = match load(&path) {
            Ok(loaded) => loaded,
            Err(Unread::Missing) => return Ok(None),
            Err(Unread::Broken(why)) => return Err(why),
        };
        for ((name, found), (_, wanted)) in found.fields().iter().zip(key.fields()) {
            if *found != wanted {
                return Err(format!("it is foreign: its {name} is {} and not {wanted}", found.escape_debug()));
            }
        }
        // The age of a file is when it was used last. A folder that is read-only has no other ages then.
        let _ = File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Ok(Some(plan))
    }

    /// Keeps an engine, whole or not at all, and removes the oldest beyond the limit.
    pub(super) fn write(&self, key: &Key, plan: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.path(key);
        let text = format!("{MAGIC}\n{}bytes {}\nsha256 {}\n\n", key.text(), plan.len(), hex(plan));
        durable::write(&path, &[text.as_bytes(), plan])?;
        self.prune(&path);
        Ok(())
    }

    /// Every engine in the folder, the one used last first.
    pub(super) fn list(&self) -> Vec<Entry> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let engines = files.filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
        let mut found: Vec<Entry> = engines.filter_map(|path| entry(&path)).collect();
        found.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
        found
    }

    /// Removes what is older than the newest, all but `new`; files that are not engines of fcam are left alone.
    fn prune(&self, new: &Path) {
        let old = self.list().into_iter().filter(|entry| entry.path != new && is_engine(&entry.path));
        for entry in old.skip(self.keep - 1) {
            match fs::remove_file(&entry.path) {
                Ok(()) => log::info!("removed {}, the oldest of more than {} engines", entry.path.display(), self.keep),
                Err(error) => log::warn!("cannot remove {}: {error}", entry.path.display()),
            }
        }
    }
}

fn is_engine(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *MAGIC.as_bytes()
}

fn entry(path: &Path) -> Option<Entry> {
    let about = fs::metadata(path).ok()?;
    let (key, problem) = match load(path) {
        Ok((key, _)) => (Some(key), None),
        Err(Unread::Missing) => return None,
        Err(Unread::Broken(why)) => (None, Some(why)),
    };
    let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Some(Entry { path: path.to_owned(), bytes: about.len(), key, problem, used })
}

enum Unread {
    Missing,
    Broken(String),
}

/// Key and engine of a file whose every byte is what was written.
fn load(path: &Path) -> Result<(Key, Vec<u8>), Unread> {
    let broken = |why: String| Unread::Broken(format!("it is corrupt: {why}"));
    let unread = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Unread::Missing,
        _ => Unread::Broken(format!("it cannot be read: {error}")),
    };
    let file = File::open(path).map_err(unread)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(broken(format!("it has more than {} MiB", MAX_FILE >> 20)));
    }
    let end = bytes.windows(2).take(MAX_TEXT).position(|pair| pair == b"\n\n");
    let (text, plan) =
        end.and_then(|end| bytes.split_at_checked(end + 2)).ok_or_else(|| broken("it has no head".into()))?;
    let text = std::str::from_utf8(text).map_err(|_| broken("its head is not text".into()))?;
    let mut lines = text.lines();
    if lines.next() != Some(MAGIC) {
        return Err(broken(format!("its first line is not `{MAGIC}`")));
    }
    let mut field = |name: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(str::to_owned).ok_or_else(|| broken(format!("its head has no `{name}`")))
    };
    let key = Key {
        onnx: field("onnx")?,
        tensorrt: field("tensorrt")?,
        gpu: field("gpu")?,
        capability: field("capability")?,
        flags: field("flags")?,
    };
    let (length, hash) = (field("bytes")?, field("sha256")?);
    if length != plan.len().to_string() {
        return Err(broken(format!("it has {} bytes of an engine of {}", plan.len(), length.escape_debug())));
    }
    if hash != hex(plan) {
        return Err(broken("its SHA-256 differs".into()));
    }
    Ok((key, plan.to_vec()))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(onnx: &[u8]) -> Key {
        let facts =
            Facts { tensorrt: "10.3.0.26".into(), gpu: "Orin".into(), capability: "8.7".into(), ..Facts::default() };
        Key::new(onnx, &facts, true)
    }

    fn cache(folder: &tempfile::TempDir) -> Cache {
        Cache::new(&folder.path().join("engines"), 3)
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder);
        assert_eq!(cache.read(&key(b"a")), Ok(None));
        for plan in [&b"one"[..], b"\n\nanother, longer", b""] {
            cache.write(&key(b"a"), plan).unwrap();
            assert_eq!(cache.read(&key(b"a")), Ok(Some(plan.to_vec())));
        }
        assert_eq!(cache.read(&key(b"b")), Ok(None));
        let names: Vec<_> = fs::read_dir(cache.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn every_field_makes_another_key() {
        let one = key(b"a");
        let facts = |change: fn(&mut Facts)| {
            let mut facts = Facts {
                tensorrt: "10.3.0.26".into(),
                gpu: "Orin".into(),
                capability: "8.7".into(),
                ..Facts::default()
            };
            change(&mut facts);
            Key::new(b"a", &facts, true).file_name()
        };
        let mut names =
            vec![one.file_name(), key(b"b").file_name(), Key::new(b"a", &Facts::default(), false).file_name()];
        names.push(facts(|facts| facts.tensorrt = "10.3.0.27".into()));
        names.push(facts(|facts| facts.gpu = "Xavier".into()));
        names.push(facts(|facts| facts.capability = "7.2".into()));
        names.push(facts(|facts| facts.typed = true));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 7);
    }

    /// Each byte turned, and each length cut: nothing of it is taken for the engine.
    #[test]
    fn a_damaged_file_is_never_given_out() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder);
        cache.write(&key(b"a"), b"the engine").unwrap();
        let path = cache.path(&key(b"a"));
        let whole = fs::read(&path).unwrap();
        for index in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[index] ^= 4;
            fs::write(&path, damaged).unwrap();
            assert!(cache.read(&key(b"a")).is_err(), "byte {index}");
            fs::write(&path, &whole[..index]).unwrap();
            assert!(cache.read(&key(b"a")).is_err(), "length {index}");
        }
        fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert!(cache.read(&key(b"a")).unwrap_err().contains("11 bytes of an engine of 10"));
    }

    #[test]
    fn a_foreign_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder);
        let other = Key { gpu: "Xavier".into(), ..key(b"a") };
        cache.write(&other, b"plan").unwrap();
        fs::rename(cache.path(&other), cache.path(&key(b"a"))).unwrap();
        assert_eq!(cache.read(&key(b"a")).unwrap_err(), "it is foreign: its gpu is Xavier and not Orin");
    }

    #[test]
    fn the_oldest_go_and_strangers_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder);
        fs::create_dir_all(&cache.folder).unwrap();
        fs::write(cache.folder.join("mine.engine"), "not fcam's").unwrap();
        for (age, onnx) in [(40, b"a"), (30, b"b"), (20, b"c"), (10, b"d")] {
            cache.write(&key(onnx), b"plan").unwrap();
            let file = File::options().append(true).open(cache.path(&key(onnx))).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
        }
        assert_eq!(cache.read(&key(b"a")), Ok(None), "the fourth pushed the first out");
        assert!(cache.read(&key(b"b")).unwrap().is_some()); // used now
        cache.write(&key(b"e"), b"plan").unwrap();
        assert_eq!(cache.read(&key(b"c")), Ok(None));
        assert!(cache.read(&key(b"b")).unwrap().is_some());
        let list = cache.list();
        assert_eq!(list.len(), 4);
        let stranger = list.iter().find(|entry| entry.key.is_none()).unwrap();
        assert!(stranger.path.ends_with("mine.engine") && stranger.problem.is_some());
    }
}
