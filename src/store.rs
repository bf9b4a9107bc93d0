//! The bundles that are installed on a machine, and which of them is active. In: signed files. Out: verified bundles.
//!
//! A bundle is one file here too, `NAME.COUNTER.fcam`, and is verified each time it is read. Whatever happens, a power
//! cut at any moment included, each is there as a whole or not at all, and so is `state.json`, which says what is
//! active: both are written aside, synced and renamed.
//!
//! It refuses what no trusted key has signed, what is for another machine, a release that is not newer than those of
//! its name that were installed before, and to fill the disk.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::bundle::{self, KeyError, Keys, Manifest, Parcel, Signed, machine};

mod disk;
mod state;

use disk::Lock;
pub use state::State;

/// Where bundles are installed on a camera.
pub const DIR: &str = "/var/lib/fcam/bundles";
/// Where a camera has the keys that it trusts.
pub const KEYS: &str = "/etc/fcam/keys";

const ENDING: &str = "fcam";
const STATE: &str = "state.json";

/// An installed bundle: its name and the counter of its release. Written `NAME.COUNTER`.
///
/// ```
/// use fcam::store::Id;
///
/// let id = Id::try_from("lid.7".to_owned())?;
/// assert_eq!((id.name.as_str(), id.counter), ("lid", 7));
/// assert_eq!(Id::try_from("lid".to_owned()).unwrap_err(), "`lid` has no counter: NAME.COUNTER");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id {
    /// Of the bundle.
    pub name: String,
    /// Of its release.
    pub counter: u64,
}

impl Id {
    /// The release as a PLC is told of it: one beyond 32 bits is the highest there.
    pub fn release(&self) -> u32 {
        u32::try_from(self.counter).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.counter)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse()? {
            Reference { name, counter: Some(counter) } => Ok(Self { name, counter }),
            Reference { .. } => Err(format!("`{text}` has no counter: NAME.COUNTER")),
        }
    }
}

/// How people and station files name an installed bundle: `NAME`, its newest release that was not withdrawn, or
/// `NAME.COUNTER`.
///
/// ```
/// use fcam::store::Reference;
///
/// assert_eq!("lid".parse(), Ok(Reference { name: "lid".into(), counter: None })); // the newest
/// assert_eq!("lid.7".parse::<Reference>()?.to_string(), "lid.7");
/// assert!("lid.07".parse::<Reference>().is_err()); // there is one way to write it
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// Of the bundle.
    pub name: String,
    /// Of its release; the newest that was not withdrawn if none.
    pub counter: Option<u64>,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.counter.map_or(Ok(()), |counter| write!(f, ".{counter}"))
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl TryFrom<String> for Reference {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` names no bundle: NAME or NAME.COUNTER, as `fcam bundle list` writes them",
                text.escape_debug()
            )
        };
        let (name, counter) = text.split_once('.').map_or((text, None), |(name, counter)| (name, Some(counter)));
        let counter = counter.map(|digits| number(digits).ok_or_else(wrong)).transpose()?;
        if !Manifest::is_name(name) {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), counter })
    }
}

/// Digits only, without a zero before them: one way to write a number, so that an id has one file name.
fn number(digits: &str) -> Option<u64> {
    let number = digits.parse::<u64>().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// What goes wrong with installed bundles.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file, or the bundle in it.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The trusted keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The disk refuses.
    #[error("cannot {action} {}: {source}{}", path.display(), disk::advice(.source))]
    Disk {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The disk would be too full.
    #[error("{} has {free} MiB free, and {bundle} needs {needed} with {keep} kept free: clear the disk, or keep fewer bundles", dir.display())]
    Full {
        /// The folder.
        dir: PathBuf,
        /// The bundle.
        bundle: Id,
        /// Mebibytes free.
        free: u64,
        /// Mebibytes that it takes.
        needed: u64,
        /// Mebibytes that stay free.
        keep: u64,
    },
    /// It is for other machines.
    #[error("{bundle} may not run here: {reason}")]
    Target {
        /// The bundle that was to be installed.
        bundle: Id,
        /// Why not.
        reason: String,
    },
    /// A newer one, or another of the same number, was installed before.
    #[error("{bundle} is refused: {reason}")]
    Counter {
        /// The bundle that was to be installed.
        bundle: Id,
        /// Why.
        reason: String,
    },
    /// The state file cannot be read.
    #[error("{} is damaged ({reason}): remove it, then say with `fcam bundle activate` which bundle is to run", path.display())]
    State {
        /// The state file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No such bundle.
    #[error("{wanted} is not installed in {}: there is {}", dir.display(), names(.installed))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// The store's folder.
        dir: PathBuf,
        /// What there is.
        installed: Vec<Id>,
    },
    /// Nothing ran before.
    #[error("there is nothing to go back to: no bundle was active before {0}")]
    NoPrevious(String),
    /// The file is not what its name says.
    #[error("{} is {found}: it was renamed, install it again", path.display())]
    Renamed {
        /// The bundle's file.
        path: PathBuf,
        /// What it is.
        found: Id,
    },
}

fn names(ids: &[Id]) -> String {
    let names: Vec<String> = ids.iter().map(Id::to_string).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// How much room bundles may take.
///
/// ```
/// use fcam::store::Room;
///
/// assert_eq!(Room::default(), Room { keep: 3, free_mb: 64 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Releases that are kept of a name, at least 2; the active one and the one before it always are.
    pub keep: usize,
    /// Mebibytes that stay free on the disk.
    pub free_mb: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { keep: 3, free_mb: 64 }
    }
}

/// A folder of installed bundles.
///
/// ```
/// use fcam::store::Store;
///
/// let dir = tempfile::tempdir()?;
/// let store = Store::new(dir.path(), dir.path().join("keys"));
/// assert!(store.installed()?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    keys: PathBuf,
}

/// An installed bundle, as `list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Name and counter.
    pub bundle: Id,
    /// Of the bundle, for people; none if it cannot be read.
    pub version: Option<String>,
    /// Size of its file.
    pub bytes: u64,
    /// It runs, or will with the next start.
    pub active: bool,
    /// `rollback` goes back to it.
    pub previous: bool,
    /// Parts of it are still watched.
    pub trial: bool,
    /// Why it was given up, if it was.
    pub withdrawn: Option<String>,
    /// Why it cannot be used, if it cannot.
    pub problem: Option<String>,
}

/// What became of a file that was to be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// Which it is.
    pub bundle: Id,
    /// It was there before, byte for byte.
    pub again: bool,
    /// Older releases that were removed for it.
    pub removed: Vec<Id>,
}

impl Store {
    /// Bundles in `dir`, signed by keys of the folder `keys`. Nothing is read or made yet.
    pub fn new(dir: impl Into<PathBuf>, keys: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), keys: keys.into() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Verifies a file and takes it in. What is active stays so.
    pub fn install(&self, parcel: &Parcel, float_layers: &[String], room: Room) -> Result<Installed, Error> {
        let Signed { release, .. } = parcel.open_signed(&Keys::read(&self.keys)?, float_layers)?;
        let bundle = Id { name: release.name.clone(), counter: release.counter };
        let target = |reason| Error::Target { bundle: bundle.clone(), reason };
        release.check_target(&machine()).map_err(target)?;
        let bytes = parcel.to_bytes()?;
        let lock = Lock::new(&self.dir)?;
        let (installed, state) = (self.installed()?, self.state()?);
        if self.is_there(&bundle, &installed, parcel, float_layers)? {
            return Ok(Installed { bundle, again: true, removed: vec![] });
        }
        let (keep, needed) = (room.keep.max(2), bytes.len() as u64);
        let mut removed = vec![];
        if self.check_room(&bundle, needed, 0, room).is_err() {
            let others = keep - usize::from(!installed.contains(&bundle));
            removed = self.surplus(&state, &bundle.name, others)?;
            let gain = removed.iter().map(|id| self.size(id)).sum();
            self.check_room(&bundle, needed, gain, room)?; // what would not be enough stays
            self.remove(&lock, &removed)?;
        }
        lock.write(&self.path(&bundle), &bytes)?;
        let old = self.surplus(&state, &bundle.name, keep)?;
        self.remove(&lock, &old)?;
        removed.extend(old);
        Ok(Installed { bundle, again: false, removed })
    }

    /// True if exactly this one is installed and can be used; an error if it is older than what was, or another one of
    /// the same number. One that cannot be used any more, because its file is damaged or its key is not trusted now, is
    /// as good as none.
    fn is_there(&self, bundle: &Id, installed: &[Id], parcel: &Parcel, float_layers: &[String]) -> Result<bool, Error> {
        let refused = |reason: String| Error::Counter { bundle: bundle.clone(), reason };
        if installed.contains(bundle) {
            if self.load(bundle, float_layers).is_err() {
                return Ok(false);
            }
            let same = Parcel::read(&self.path(bundle)).is_ok_and(|there| there.same_bundle(parcel));
            let advice = "another bundle with this counter is installed: sign it with a higher counter";
            return if same { Ok(true) } else { Err(refused(advice.into())) };
        }
        let newest = installed.iter().filter(|other| other.name == bundle.name).max();
        match newest.filter(|newest| *newest > bundle) {
            Some(newest) => {
                let advice =
                    "an older release is not installed again; `fcam bundle rollback` goes back to the one before";
                Err(refused(format!("{newest} was installed already, and {advice}")))
            }
            None => Ok(false),
        }
    }

    /// `gain`: bytes that would be free besides.
    fn check_room(&self, bundle: &Id, bytes: u64, gain: u64, room: Room) -> Result<(), Error> {
        let free = disk::free(&self.dir)?;
        if free.saturating_add(gain) < bytes.saturating_add(room.free_mb << 20) {
            let needed = bytes.div_ceil(1 << 20);
            let (dir, bundle, free, keep) = (self.dir.clone(), bundle.clone(), free >> 20, room.free_mb);
            return Err(Error::Full { dir, bundle, free, needed, keep });
        }
        Ok(())
    }

    /// The oldest releases of a name beyond those to keep. The newest stays, so that its counter is known; what is
    /// active or was before it stays too, and what the PLC may ask for with what was active before that.
    fn surplus(&self, state: &State, name: &str, keep: usize) -> Result<Vec<Id>, Error> {
        let mut releases = self.installed()?;
        let mut spared: Vec<Id> = state.jobs.iter().filter_map(|job| state.release(job, &releases)).collect();
        releases.retain(|id| id.name == name);
        spared.extend([state.active(), state.previous(), releases.last()].into_iter().flatten().cloned());
        if state.jobs.iter().any(|job| job.name == name) {
            spared.extend(state.history.iter().rev().filter(|id| id.name == name).take(2).cloned());
        }
        let surplus = releases.len().saturating_sub(keep);
        releases.retain(|id| !spared.contains(id));
        releases.truncate(surplus);
        Ok(releases)
    }

    fn remove(&self, lock: &Lock, ids: &[Id]) -> Result<(), Error> {
        ids.iter().try_for_each(|id| lock.remove(&self.path(id)))
    }

    /// The ids of what is installed, sorted; whether each can be used is not looked at.
    pub fn installed(&self) -> Result<Vec<Id>, Error> {
        let failed = |source| Error::Disk { action: "list", path: self.dir.clone(), source };
        let mut found = vec![];
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let stem =
                Path::new(&name).extension().filter(|ending| *ending == ENDING).and(Path::new(&name).file_stem());
            found.extend(stem.and_then(|stem| Id::try_from(stem.to_str()?.to_owned()).ok()));
        }
        found.sort();
        Ok(found)
    }

    /// Everything that is installed, each read and verified.
    pub fn list(&self, float_layers: &[String]) -> Result<Vec<Entry>, Error> {
        let state = self.state()?;
        let entry = |bundle: Id| {
            let loaded = self.load(&bundle, float_layers);
            Entry {
                version: loaded.as_ref().ok().map(|signed| signed.release.version.clone()),
                bytes: self.size(&bundle),
                active: state.active() == Some(&bundle),
                previous: state.previous() == Some(&bundle),
                trial: state.trials.contains_key(&bundle),
                withdrawn: state.withdrawn.get(&bundle).cloned(),
                problem: loaded.err().map(|error| error.to_string()),
                bundle,
            }
        };
        Ok(self.installed()?.into_iter().map(entry).collect())
    }

    /// The installed bundle that is meant.
    pub fn resolve(&self, reference: &Reference) -> Result<Id, Error> {
        let (installed, state) = (self.installed()?, self.state()?);
        let fits = |id: &&Id| match reference.counter {
            Some(counter) => id.counter == counter,
            None => !state.withdrawn.contains_key(*id),
        };
        let found = installed.iter().filter(|id| id.name == reference.name).rfind(fits).cloned();
        found.ok_or_else(|| Error::Unknown { wanted: reference.to_string(), dir: self.dir.clone(), installed })
    }

    /// An installed bundle, verified anew.
    pub fn load(&self, id: &Id, float_layers: &[String]) -> Result<Signed, Error> {
        let path = self.path(id);
        let signed = Parcel::read(&path)?.open_signed(&Keys::read(&self.keys)?, float_layers)?;
        let found = Id { name: signed.release.name.clone(), counter: signed.release.counter };
        if found != *id {
            return Err(Error::Renamed { path, found });
        }
        let target = |reason| Error::Target { bundle: found, reason };
        signed.release.check_target(&machine()).map_err(target)?;
        Ok(signed)
    }

    /// What is active, on trial and withdrawn.
    pub fn state(&self) -> Result<State, Error> {
        State::read(&self.dir.join(STATE))
    }

    /// Changes the state as one step.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, Error> {
        let lock = Lock::new(&self.dir)?;
        let mut state = self.state()?;
        let before = state.clone();
        let changed = change(&mut state);
        state.forget(&self.installed()?);
        if state != before {
            lock.write(&self.dir.join(STATE), state.text().as_bytes())?;
        }
        Ok(changed)
    }

    fn size(&self, id: &Id) -> u64 {
        std::fs::metadata(self.path(id)).map_or(0, |file| file.len())
    }

    fn path(&self, id: &Id) -> PathBuf {
        self.dir.join(format!("{id}.{ENDING}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_named_in_one_way() {
        let reference = |text: &str| text.parse::<Reference>();
        assert_eq!(reference("synth-lite0").unwrap().counter, None);
        assert_eq!(reference("synth-lite0.7").unwrap().counter, Some(7));
        for wrong in ["", ".7", "a.", "a.07", "a.+7", "a.7.8", "A.7", "../a.7", "a/b", "a.99999999999999999999999"] {
            assert!(reference(wrong).unwrap_err().contains("names no bundle"), "{wrong}");
        }
        assert!(Id::try_from("a".to_owned()).is_err());
        assert_eq!(Id::try_from("a.7".to_owned()).unwrap().to_string(), "a.7");
    }
}
