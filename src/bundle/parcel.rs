//! A bundle as one file, `NAME.fcam`: an archive with the bundle's archive in it, `bundle.tar`, and its signature,
//! `bundle.tar.minisig`.
//!
//! `tar -xf NAME.fcam` takes both out for `minisign -V`. Nothing of the bundle itself is looked at before the signature
//! holds.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use minisign::{KeyPair, SecretKeyBox};

use super::archive::{self, Files, OVERHEAD};
use super::directory::{self, MAX_ENTRIES};
use super::{Bundle, Error, Keys, MAX_TOTAL, Release};

const ARCHIVE: &str = "bundle.tar";
const SIGNATURE: &str = "bundle.tar.minisig";

/// The largest file: the largest bundle and its headers.
pub const MAX_PARCEL: u64 = MAX_TOTAL + (MAX_ENTRIES as u64 + 4) * OVERHEAD;

/// The largest signature, bytes.
const MAX_SIGNATURE: usize = 4096;

/// A bundle as one file, in memory. Nothing of what it says is trusted before [`Parcel::verify`].
///
/// ```
/// use fcam::bundle::Parcel;
///
/// let parcel = Parcel::pack("models/default".as_ref(), &[])?;
/// let copy = Parcel::parse("from the net", &parcel.to_bytes()?)?;
/// assert!(copy.same_bundle(&parcel));
/// assert!(copy.open(&[]).is_ok()); // whoever signed it, and this one nobody did
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Where it was read from.
    source: String,
    archive: Vec<u8>,
    signature: Option<String>,
}

/// A bundle with the release that a trusted key has signed it as.
///
/// ```
/// use fcam::bundle::{Keys, Parcel, Release, SigningKey, generate};
///
/// let keys = tempfile::tempdir()?;
/// let (public, secret) = generate(false, None)?;
/// std::fs::write(keys.path().join("line-1.pub"), public)?;
///
/// let mut parcel = Parcel::pack("models/default".as_ref(), &[])?;
/// let (name, version) = (parcel.open(&[])?.manifest().name.clone(), parcel.open(&[])?.manifest().version.clone());
/// let release = Release { name, version, counter: 7, targets: vec!["any".into()] };
/// parcel.sign(&SigningKey::parse(&secret, None)?, &release)?;
///
/// let signed = parcel.open_signed(&Keys::read(keys.path())?, &[])?;
/// assert_eq!((&signed.release, signed.bundle.judged_by().counter), (&release, 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Signed {
    /// What it was signed as.
    pub release: Release,
    /// The bundle.
    pub bundle: Bundle,
}

impl Parcel {
    /// Of a bundle's directory, which must be fit for a station; unsigned.
    pub fn pack(directory: &Path, float_layers: &[String]) -> Result<Self, Error> {
        Bundle::load(Some(directory), float_layers)?;
        let invalid = |problems| Error { bundle: directory.display().to_string(), problems };
        let directory::Contents { files, problems } = directory::read(directory);
        if !problems.is_empty() {
            return Err(invalid(problems));
        }
        let archive = archive::pack(&files).map_err(|problem| invalid(vec![problem]))?;
        let parcel = Self { source: directory.display().to_string(), archive, signature: None };
        parcel.open(float_layers)?; // a file that changed between the two readings has another hash
        Ok(parcel)
    }

    /// Reads a file, or standard input if the path is `-`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let source = path.display().to_string();
        let failed = |problem: String| Error { bundle: source.clone(), problems: vec![problem] };
        let mut bytes = vec![];
        let read = match path.as_os_str() == "-" {
            true => std::io::stdin().lock().take(MAX_PARCEL + 1).read_to_end(&mut bytes),
            false => File::open(path).and_then(|file| file.take(MAX_PARCEL + 1).read_to_end(&mut bytes)),
        };
        read.map_err(|error| failed(format!("cannot read it: {error}")))?;
        Self::parse(&source, &bytes)
    }

    /// The same from memory; `source` says where it is from.
    pub fn parse(source: &str, bytes: &[u8]) -> Result<Self, Error> {
        let failed = |problem: String| Error { bundle: source.to_owned(), problems: vec![problem] };
        if bytes.len() as u64 > MAX_PARCEL {
            return Err(failed(format!("it has more than {} MiB", MAX_PARCEL >> 20)));
        }
        let mut members = archive::unpack(bytes).map_err(failed)?;
        let archive = members
            .remove(ARCHIVE)
            .ok_or_else(|| failed(format!("there is no {ARCHIVE} in it: is this an fcam file?")))?;
        let signature = members.remove(SIGNATURE).map(signature_text).transpose().map_err(failed)?;
        match members.keys().next() {
            Some(other) => Err(failed(format!("there is something else in it: {}", other.escape_debug()))),
            None => Ok(Self { source: source.to_owned(), archive, signature }),
        }
    }

    /// The bytes of the file: the same for the same bundle and signature.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let signature = self.signature.iter().map(|text| (SIGNATURE.to_owned(), text.clone().into_bytes()));
        let members: Files = signature.chain([(ARCHIVE.to_owned(), self.archive.clone())]).collect();
        archive::pack(&members).map_err(|problem| self.refused(problem))
    }

    /// True if the other one has the same bundle in it, byte for byte; each may be signed in its own way.
    pub fn same_bundle(&self, other: &Self) -> bool {
        self.archive == other.archive
    }

    /// The bundle, whatever signed it: for packing and signing.
    pub fn open(&self, float_layers: &[String]) -> Result<Bundle, Error> {
        let files = archive::unpack(&self.archive).map_err(|problem| self.refused(problem))?;
        Bundle::verify(&self.source, super::owned(files), float_layers)
    }

    /// Signs it, or signs it anew. The name and version of the release are the bundle's own.
    pub fn sign(&mut self, key: &SigningKey, release: &Release) -> Result<(), Error> {
        if let Some(problem) = release.problem() {
            return Err(self.refused(problem));
        }
        let comment = release.to_string();
        let signed = minisign::sign(
            None,
            &key.0,
            Cursor::new(&self.archive),
            Some(&comment),
            Some("signature of an fcam bundle"),
        );
        self.signature = Some(signed.map_err(|error| self.refused(format!("cannot sign it: {error}")))?.into_string());
        Ok(())
    }

    /// What a trusted key has signed it as. Not yet whether it is for this machine.
    pub fn verify(&self, keys: &Keys) -> Result<Release, Error> {
        let Some(signature) = &self.signature else {
            return Err(self.refused("it is not signed: `fcam bundle sign` does".into()));
        };
        keys.verify(&self.archive, signature).map_err(|problem| self.refused(problem))
    }

    /// The bundle, if a trusted key has signed it.
    pub fn open_signed(&self, keys: &Keys, float_layers: &[String]) -> Result<Signed, Error> {
        let release = self.verify(keys)?;
        let bundle = self.open(float_layers)?;
        let manifest = bundle.manifest();
        if (&release.name, &release.version) != (&manifest.name, &manifest.version) {
            let Release { name, version, .. } = &release;
            return Err(
                self.refused(format!("it is signed as {name} {version} and is {} {}", manifest.name, manifest.version))
            );
        }
        let bundle = bundle.signed_as(release.counter);
        Ok(Signed { release, bundle })
    }

    fn refused(&self, problem: String) -> Error {
        Error { bundle: self.source.clone(), problems: vec![problem] }
    }
}

fn signature_text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() > MAX_SIGNATURE {
        return Err(format!("{SIGNATURE} has {} bytes: it is no signature", bytes.len()));
    }
    String::from_utf8(bytes).map_err(|_| format!("{SIGNATURE} is not UTF-8"))
}

/// A secret key that can sign.
///
/// ```
/// use fcam::bundle::{SigningKey, generate};
///
/// let (public, secret) = generate(false, None)?; // the texts of both files
/// assert!(SigningKey::parse(&secret, None).is_ok());
/// assert!(SigningKey::parse(&public, None).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SigningKey(minisign::SecretKey);

/// A secret key that cannot be used, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SigningKeyError(String);

impl SigningKey {
    /// From the text of a key file of `fcam bundle keygen`, or of `minisign -G` with a password. A key with a password
    /// asks for it on the terminal if none is given.
    pub fn parse(text: &str, password: Option<String>) -> Result<Self, SigningKeyError> {
        let failed = |error: minisign::PError| SigningKeyError(error.to_string());
        let locked = |password| SecretKeyBox::from_string(text).and_then(|locked| locked.into_secret_key(password));
        match SecretKeyBox::from_string(text).and_then(SecretKeyBox::into_unencrypted_secret_key) {
            Ok(key) => Ok(Self(key)),
            Err(error) if error.to_string().contains("might be encrypted") => {
                locked(asked(password)?).map(Self).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// The password as it was given; none if there is a terminal that can be asked for it.
fn asked(password: Option<String>) -> Result<Option<String>, SigningKeyError> {
    if password.is_none() && std::fs::File::open("/dev/tty").is_err() {
        let advice = "there is no terminal to ask for the key's password: give it with --password-file FILE";
        return Err(SigningKeyError(advice.into()));
    }
    Ok(password)
}

/// A new pair of keys as the texts of their files, the public one first. With `protect` the secret one has a password,
/// which is asked for on the terminal if none is given.
pub fn generate(protect: bool, password: Option<String>) -> Result<(String, String), SigningKeyError> {
    let pair = match protect {
        true => KeyPair::generate_encrypted_keypair(asked(password)?),
        false => KeyPair::generate_unencrypted_keypair(),
    };
    let texts = pair.and_then(|pair| {
        Ok((pair.pk.to_box()?.into_string(), pair.sk.to_box(Some("fcam signing key"))?.into_string()))
    });
    texts.map_err(|error| SigningKeyError(error.to_string()))
}

/// True if the path is that of a file and not of a bundle's directory.
pub fn is_parcel(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "fcam") && !path.is_dir()
}
