//! The users of the page. In: a file of names, roles and passwords' hashes. Out: who somebody is, and what they may do.
//!
//! Passwords are kept as Argon2id hashes. There is no user but those in the file, and no default password. The file is
//! read again when it has changed: a user who is removed is out with the next request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use serde::{Deserialize, Serialize};

use super::random;
use crate::durable;

/// The file in the page's folder.
pub const FILE: &str = "users.toml";

/// Memory of a hash, in KiB, and passes over it: OWASP's second recommendation of 2024 for Argon2id, because it is the
/// one with the least memory.
const COST: (u32, u32) = (7168, 5);

/// The shortest and the longest password.
pub const PASSWORD: std::ops::RangeInclusive<usize> = 10..=128;

/// Letters of a name at most.
const NAME: usize = 32;

/// Users at most.
const USERS: usize = 100;

/// The hash that is looked at for a name that there is not: it costs what the others cost.
const NOBODY: &str = "$argon2id$v=19$m=7168,t=5,p=1$bm9ib2R5bm9ib2R5bm9i$bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm8";

/// What a user may do; each role may do what those before it may.
///
/// ```
/// use fcam::page::users::Role;
///
/// assert!(Role::Setup > Role::Label);
/// assert_eq!("administer".parse(), Ok(Role::Administer));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything.
    See,
    /// Say what is right.
    Label,
    /// Change the station.
    Setup,
    /// Read the audit trail.
    Administer,
}

impl Role {
    /// All, the least first.
    pub const ALL: [Self; 4] = [Self::See, Self::Label, Self::Setup, Self::Administer];

    /// Its name in the file and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::See => "see",
            Self::Label => "label",
            Self::Setup => "setup",
            Self::Administer => "administer",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| format!("{text:?} is no role: there are see, label, setup and administer"))
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// What the user may do.
    pub role: Role,
    /// The hash of the password, with its salt and cost.
    pub password: String,
}

/// What is wrong with users.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; may this user read it?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not what [`Users::save`] writes.
    #[error("{} is no users file: {problem}; move it away and make the users anew with `fcam page user`", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A name that cannot be one.
    #[error("{0:?} is no name: 1 to {NAME} letters, digits, dots, dashes and underscores")]
    Name(String),
    /// Too short or too long.
    #[error("a password has {} to {} characters", PASSWORD.start(), PASSWORD.end())]
    Password,
    /// Too many.
    #[error("{USERS} users are enough: remove one with `fcam page remove`")]
    Full,
    /// The hash cannot be computed.
    #[error("cannot hash the password: {0}")]
    Hash(String),
}

/// The users file.
///
/// ```
/// use fcam::page::users::{Role, Users};
///
/// let folder = tempfile::tempdir()?;
/// let mut users = Users::load(folder.path())?; // there is no file yet, and nobody can log in
/// users.set("anna", Role::Setup, "correct horse")?;
/// users.save(folder.path())?;
/// let users = Users::load(folder.path())?;
/// assert_eq!(users.check("anna", "correct horse").map(|user| user.role), Some(Role::Setup));
/// assert!(users.check("anna", "battery staple").is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Users(BTreeMap<String, User>);

impl Users {
    /// The users of a page's folder; none without a file.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(Error::Read { path, source }),
        };
        let users: Self = match toml::from_str(&text) {
            Ok(users) => users,
            Err(error) => return Err(Error::Invalid { path, problem: error.message().to_owned() }),
        };
        match users.problem() {
            Some(problem) => Err(Error::Invalid { path, problem }),
            None => Ok(users),
        }
    }

    fn problem(&self) -> Option<String> {
        let wrong = |(name, user): (&String, &User)| match PasswordHash::new(&user.password) {
            _ if !is_name(name) => Some(Error::Name(name.clone()).to_string()),
            Err(error) => Some(format!("the password of {name} is no hash: {error}")),
            Ok(_) => None,
        };
        self.0.iter().find_map(wrong)
    }

    /// Writes the file, which its owner's group may read and nobody else. Whoever owns the folder owns it: the station
    /// reads what root has written.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let path = dir.join(FILE);
        let write = || {
            let text = toml::to_string(self).map_err(std::io::Error::other)?;
            durable::write_private(&path, &[text.as_bytes()])?;
            let (folder, file) = (std::fs::metadata(dir)?, std::fs::metadata(&path)?);
            if (folder.uid(), folder.gid()) != (file.uid(), file.gid()) {
                chown(&path, Some(folder.uid()), Some(folder.gid()))?;
            }
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        };
        write().map_err(|source| Error::Write { path: path.clone(), source })
    }

    /// Adds a user, or changes role and password of one.
    pub fn set(&mut self, name: &str, role: Role, password: &str) -> Result<(), Error> {
        if !is_name(name) {
            return Err(Error::Name(name.into()));
        }
        if !PASSWORD.contains(&password.chars().count()) {
            return Err(Error::Password);
        }
        if self.0.len() >= USERS && !self.0.contains_key(name) {
            return Err(Error::Full);
        }
        let salt: [u8; 16] = random::bytes().map_err(|error| Error::Hash(error.to_string()))?;
        let hash: PasswordHash = hasher()
            .and_then(|hasher| hasher.hash_password_with_salt(password.as_bytes(), &salt))
            .map_err(|error| Error::Hash(error.to_string()))?;
        self.0.insert(name.into(), User { role, password: hash.to_string() });
        Ok(())
    }

    /// Removes a user; false if there is none of this name.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// The user of this name and password. It takes as long for a name that there is not.
    pub fn check(&self, name: &str, password: &str) -> Option<&User> {
        let user = self.0.get(name);
        let hash = user.map_or(NOBODY, |user| user.password.as_str());
        let right = PasswordHash::new(hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
        user.filter(|_| right)
    }

    /// The user of this name.
    pub fn get(&self, name: &str) -> Option<&User> {
        self.0.get(name)
    }

    /// Names and users, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &User)> {
        self.0.iter().map(|(name, user)| (name.as_str(), user))
    }

    /// True if nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn hasher() -> Result<Argon2<'static>, argon2::password_hash::Error> {
    let (memory, passes) = COST;
    let params = Params::new(memory, passes, 1, None).map_err(|_| argon2::password_hash::Error::Crypto)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn is_name(name: &str) -> bool {
    let is_plain = |character: char| character.is_alphanumeric() || "._-".contains(character);
    (1..=NAME).contains(&name.chars().count()) && name.chars().all(is_plain)
}

/// The users as the file has them now.
#[derive(Debug)]
pub(super) struct Known {
    dir: PathBuf,
    read: Option<SystemTime>,
    users: Users,
}

impl Known {
    pub(super) fn new(dir: PathBuf) -> Result<Self, Error> {
        let users = Users::load(&dir)?;
        let mut known = Self { dir, read: None, users };
        known.read = known.written();
        Ok(known)
    }

    fn written(&self) -> Option<SystemTime> {
        std::fs::metadata(self.dir.join(FILE)).and_then(|file| file.modified()).ok()
    }

    /// Read again if the file has changed. One that cannot be read lets nobody in.
    pub(super) fn now(&mut self) -> &Users {
        let written = self.written();
        if written != self.read {
            self.read = written;
            self.users = Users::load(&self.dir).unwrap_or_else(|error| {
                log::error!("{error}; nobody can log in to the page");
                Users::default()
            });
        }
        &self.users
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_have_limits() {
        let mut users = Users::default();
        for name in ["", "a b", "a/b", "=", &"x".repeat(33)] {
            assert!(matches!(users.set(name, Role::See, "long enough"), Err(Error::Name(_))), "{name}");
        }
        for password in ["too short", &"x".repeat(129)] {
            assert!(matches!(users.set("anna", Role::See, password), Err(Error::Password)), "{password}");
        }
        assert!(users.is_empty() && users.check("anna", "").is_none());
    }

    #[test]
    fn a_name_that_there_is_not_costs_as_much() {
        let mut users = Users::default();
        users.set("anna", Role::See, "correct horse").unwrap();
        let of = |hash: &str| hash.split('$').take(4).collect::<Vec<_>>().join("$");
        assert!(PasswordHash::new(NOBODY).is_ok());
        assert_eq!(of(NOBODY), of(&users.get("anna").unwrap().password));
    }

    #[test]
    fn who_is_removed_from_the_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut users = Users::default();
        users.set("anna", Role::See, "correct horse").unwrap();
        users.save(dir.path()).unwrap();
        let mut known = Known::new(dir.path().into()).unwrap();
        assert!(known.now().get("anna").is_some());
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(known.now().is_empty());
    }

    #[test]
    fn what_is_no_users_file_is_refused_with_a_way_out() {
        let dir = tempfile::tempdir().unwrap();
        for (text, word) in [
            ("[anna]\nrole = \"see\"\npassword = \"secret\"", "no hash"),
            ("[anna]\nrole = \"king\"\npassword = \"\"", "unknown variant"),
            ("anna", "users.toml"),
        ] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let error = Users::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("fcam page user"), "{error}");
        }
    }

    #[test]
    fn the_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Users::default().save(dir.path()).unwrap();
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
