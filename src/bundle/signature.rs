//! Who vouches for a bundle, in minisign's format: Ed25519 over the BLAKE2b hash of the archive, and over a trusted
//! comment that says which release it is. In: keys, an archive, a signature. Out: the [`Release`] that a trusted key
//! has signed, or why there is none.

use std::fmt;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};
use serde::Serialize;

/// What a bundle is released as; the trusted comment of its signature.
///
/// ```
/// use fcam::bundle::Release;
///
/// let targets = vec!["raspberrypi,4-model-b".into(), "raspberrypi,5-model-b".into()];
/// let release = Release { name: "lid".into(), version: "2.0".into(), counter: 7, targets };
/// let machine = ["aarch64", "raspberrypi,5-model-b", "brcm,bcm2712"].map(String::from);
/// assert_eq!(release.check_target(&machine), Ok(()));
/// assert!(release.check_target(&["x86_64".into()]).unwrap_err().ends_with("this machine is x86_64"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Release {
    /// The bundle's own name.
    pub name: String,
    /// The bundle's own version.
    pub version: String,
    /// Counts the releases of this name: one that is installed is replaced by a higher one only.
    pub counter: u64,
    /// Where it may run: `any`, an architecture (`aarch64`), or what a board calls itself in its device tree
    /// (`raspberrypi,5-model-b`).
    pub targets: Vec<String>,
}

/// How a trusted comment begins; the number is that of its format.
const FORMAT: &str = "fcam bundle 1:";
const ANY_FORMAT: &str = "fcam bundle ";

/// Longest target.
const MAX_TARGET: usize = 64;

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORMAT} name={} counter={}", self.name, self.counter)?;
        self.targets.iter().try_for_each(|target| write!(f, " target={target}"))?;
        write!(f, " version={}", self.version) // last, for it may have spaces
    }
}

impl Release {
    /// What would make the written comment unreadable; none if nothing does.
    pub(super) fn problem(&self) -> Option<String> {
        let odd = |target: &&String| {
            let wide = !(1..=MAX_TARGET).contains(&target.len());
            wide || !target.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if let Some(target) = self.targets.iter().find(odd) {
            return Some(format!("target `{}` is empty, too long or has a space", target.escape_debug()));
        }
        if self.targets.is_empty() {
            return Some("there is no target: name one, or `any`".into());
        }
        (self.counter == 0).then(|| "counter 0 is none: releases are counted from 1".into())
    }

    fn parse(comment: &str) -> Result<Self, String> {
        let Some(rest) = comment.strip_prefix(FORMAT) else {
            return Err(match comment.strip_prefix(ANY_FORMAT).and_then(|rest| rest.split_once(':')) {
                Some((format, _)) => format!(
                    "it is signed in format {}, this fcam reads format 1: update fcam, or sign it with `fcam bundle sign` of this version",
                    format.escape_debug()
                ),
                None => {
                    format!("its signature is not of `fcam bundle sign`: trusted comment `{}`", comment.escape_debug())
                }
            });
        };
        Self::fields(rest).ok_or_else(|| format!("its trusted comment cannot be read: `{}`", comment.escape_debug()))
    }

    fn fields(text: &str) -> Option<Self> {
        let (fields, version) = text.strip_prefix(' ')?.split_once(" version=")?;
        let mut fields = fields.split(' ');
        let name = fields.next()?.strip_prefix("name=")?.to_owned();
        let counter = fields.next()?.strip_prefix("counter=")?.parse().ok()?;
        let targets: Option<Vec<String>> =
            fields.map(|field| field.strip_prefix("target=").map(str::to_owned)).collect();
        let release = Self { name, version: version.to_owned(), counter, targets: targets? };
        release.problem().is_none().then_some(release)
    }

    /// Refuses a machine that it is not for. `machine` is what this one calls itself, see [`machine`].
    pub fn check_target(&self, machine: &[String]) -> Result<(), String> {
        let fits = |target: &String| target == "any" || machine.contains(target);
        match self.targets.iter().any(fits) {
            true => Ok(()),
            false => Err(format!("it is for {}, and this machine is {}", self.targets.join(", "), machine.join(", "))),
        }
    }
}

/// What this machine calls itself: its architecture, then its device tree's names from the board to the chip.
pub fn machine() -> Vec<String> {
    let tree = std::fs::read("/proc/device-tree/compatible").unwrap_or_default();
    let names = tree.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let names = names.map(|name| String::from_utf8_lossy(name).into_owned());
    std::iter::once(std::env::consts::ARCH.to_owned()).chain(names).collect()
}

/// The keys that a camera trusts: the `.pub` files of a folder.
///
/// ```
/// use fcam::bundle::{KeyError, Keys, generate};
///
/// let folder = tempfile::tempdir()?;
/// assert!(matches!(Keys::read(folder.path()), Err(KeyError::None { .. }))); // trusting nobody is a mistake
/// let (public, _) = generate(false, None)?;
/// std::fs::write(folder.path().join("line-1.pub"), public)?;
/// assert!(Keys::read(folder.path()).is_ok());
/// std::fs::write(folder.path().join("line-2.pub"), "damaged")?;
/// assert!(matches!(Keys::read(folder.path()), Err(KeyError::Format { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Keys {
    dir: PathBuf,
    keys: Vec<PublicKey>,
}

/// Keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The folder or a file in it.
    #[error("cannot read {}: {source}; it holds the public keys (*.pub) of whoever may sign bundles for this machine", path.display())]
    Read {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a key.
    #[error("{} is no minisign public key: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no key in the folder.
    #[error("there is no key (*.pub) in {}: copy the public key there that `fcam bundle keygen` wrote", dir.display())]
    None {
        /// The folder of the keys.
        dir: PathBuf,
    },
}

impl Keys {
    /// Every `.pub` file of the folder; one that is no key is an error and no reason to go on with fewer.
    pub fn read(dir: &Path) -> Result<Self, KeyError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyError::Read { path, source }
        };
        let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed(dir))?;
        let mut paths: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "pub"));
        paths.sort();
        let key = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
            PublicKey::decode(&text).map_err(|error| KeyError::Format { path, reason: error.to_string() })
        };
        let keys = paths.into_iter().map(key).collect::<Result<Vec<_>, _>>()?;
        match keys.is_empty() {
            true => Err(KeyError::None { dir: dir.into() }),
            false => Ok(Self { dir: dir.into(), keys }),
        }
    }

    /// What a trusted key has signed this archive as.
    pub(super) fn verify(&self, archive: &[u8], signature: &str) -> Result<Release, String> {
        let signature = Signature::decode(signature).map_err(|error| format!("its signature is damaged: {error}"))?;
        let mut known = false;
        for key in &self.keys {
            match key.verify(archive, &signature, false) {
                Ok(()) => return Release::parse(signature.trusted_comment()),
                Err(minisign_verify::Error::UnexpectedKeyId) => {}
                Err(_) => known = true,
            }
        }
        Err(match known {
            true => "its signature does not fit: it was changed after it was signed".into(),
            false => format!(
                "it is signed by a key that is not in {}: if you trust whoever signed it, copy their public key (*.pub) there",
                self.dir.display()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Release {
        let targets = vec!["aarch64".into(), "raspberrypi,5-model-b".into()];
        Release { name: "synth-lite0".into(), version: "1.0 of May".into(), counter: 7, targets }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let comment = release().to_string();
        assert_eq!(
            comment,
            "fcam bundle 1: name=synth-lite0 counter=7 target=aarch64 target=raspberrypi,5-model-b version=1.0 of May"
        );
        assert_eq!(Release::parse(&comment), Ok(release()));
    }

    #[test]
    fn other_comments_are_refused() {
        let cases = [
            ("timestamp:1", "not of `fcam bundle sign`"),
            ("fcam bundle 2: name=a", "format 2"),
            ("fcam bundle 1: name=a counter=0 target=any version=1", "cannot be read"),
            ("fcam bundle 1: name=a counter=-1 target=any version=1", "cannot be read"),
            ("fcam bundle 1: name=a counter=1 version=1", "cannot be read"),
            ("fcam bundle 1: name=a counter=1 target= version=1", "cannot be read"),
            ("fcam bundle 1: counter=1 name=a target=any version=1", "cannot be read"),
            ("fcam bundle 1: name=a counter=1 target=any", "cannot be read"),
        ];
        for (comment, words) in cases {
            let refusal = Release::parse(comment).unwrap_err();
            assert!(refusal.contains(words), "{comment}: {refusal}");
        }
    }

    #[test]
    fn a_release_runs_where_it_is_for() {
        let here = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(release().check_target(&here(&["aarch64", "raspberrypi,4-model-b"])).is_ok());
        assert!(release().check_target(&here(&["x86_64"])).unwrap_err().contains("this machine is x86_64"));
        let any = Release { targets: vec!["any".into()], ..release() };
        assert!(any.check_target(&here(&["riscv64"])).is_ok());
        assert_eq!(machine()[0], std::env::consts::ARCH);
    }
}
