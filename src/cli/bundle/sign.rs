//! The workstation's side: keys, one file of a bundle's directory, and its signature.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::json;

use crate::bundle::{Parcel, Release, SigningKey, generate};
use crate::durable;

/// Make a pair of keys: the secret one signs, the public one goes to every camera that is to trust it
#[derive(Debug, clap::Args)]
pub(super) struct KeygenArgs {
    /// Where the secret key goes; keep it off the cameras
    #[arg(long, value_name = "FILE", default_value = "fcam.key")]
    secret: PathBuf,
    /// Where the public key goes
    #[arg(long, value_name = "FILE", default_value = "fcam.pub")]
    public: PathBuf,
    /// Leave the secret key without a password: whoever reads the file can sign
    #[arg(long)]
    no_password: bool,
    /// Take the password from the first line of a file, in place of the terminal
    #[arg(long, value_name = "FILE", conflicts_with = "no_password")]
    password_file: Option<PathBuf>,
}

/// Make one file of a bundle's directory; the same bytes each time
#[derive(Debug, clap::Args)]
pub(super) struct PackArgs {
    /// The directory
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// Where the file goes [default: NAME-VERSION.fcam in this folder]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Allow this convolution of an int8 network in float; may be given several times
    #[arg(long = "float-layer", value_name = "NODE")]
    float_layers: Vec<String>,
}

/// Sign a packed file as a release
#[derive(Debug, clap::Args)]
pub(super) struct SignArgs {
    /// The file, which is signed in place
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The secret key, of `fcam bundle keygen`, or of `minisign -G` with a password
    #[arg(long, value_name = "FILE", default_value = "fcam.key")]
    key: PathBuf,
    /// Take its password from the first line of a file, in place of the terminal
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Counts the releases of this name: cameras take a higher one only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    counter: u64,
    /// Where it may run: any, aarch64, x86_64, or what a board calls itself in /proc/device-tree/compatible; may be
    /// given several times
    #[arg(long = "target", value_name = "TARGET", default_value = "any")]
    targets: Vec<String>,
    /// Where the signed file goes, in place of over the unsigned one
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Allow this convolution of an int8 network in float; may be given several times
    #[arg(long = "float-layer", value_name = "NODE")]
    float_layers: Vec<String>,
}

pub(super) fn keygen(args: &KeygenArgs, as_json: bool) -> anyhow::Result<String> {
    let KeygenArgs { secret, public, no_password, password_file } = args;
    for path in [secret, public] {
        ensure!(!path.exists(), "{} is there already: keys are not overwritten", path.display());
    }
    let (public_text, secret_text) = generate(!no_password, password(password_file.as_deref())?)?;
    let written = |path: &Path| format!("cannot write {}", path.display());
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(secret);
    file.and_then(|mut file| file.write_all(secret_text.as_bytes())).with_context(|| written(secret))?;
    fs::write(public, public_text).with_context(|| written(public))?;
    if as_json {
        return Ok(format!("{}\n", json!({ "secret": secret, "public": public })));
    }
    let (secret, public) = (secret.display(), public.display());
    Ok(format!(
        "{secret} signs: keep it safe, and off the cameras\n{public} goes to {} of every camera\n",
        crate::store::KEYS
    ))
}

pub(super) fn pack(args: &PackArgs, as_json: bool) -> anyhow::Result<String> {
    let parcel = Parcel::pack(&args.bundle, &args.float_layers)?;
    let bundle = parcel.open(&args.float_layers)?;
    let manifest = bundle.manifest();
    let plain =
        |character: char| if character.is_ascii_alphanumeric() || "._+-".contains(character) { character } else { '_' };
    let name = || format!("{}-{}.fcam", manifest.name, manifest.version.chars().map(plain).collect::<String>());
    let out = args.out.clone().unwrap_or_else(|| name().into());
    let bytes = parcel.to_bytes()?;
    replace(&out, &bytes)?;
    if as_json {
        let of = json!({ "file": out, "name": manifest.name, "version": manifest.version, "bytes": bytes.len() });
        return Ok(format!("{of}\n"));
    }
    Ok(format!(
        "{}: {} {}, {} KiB, not signed yet\n",
        out.display(),
        manifest.name,
        manifest.version,
        bytes.len().div_ceil(1024)
    ))
}

pub(super) fn sign(args: &SignArgs, as_json: bool) -> anyhow::Result<String> {
    let mut parcel = Parcel::read(&args.file)?;
    let bundle = parcel.open(&args.float_layers)?;
    let manifest = bundle.manifest();
    let text =
        fs::read_to_string(&args.key).with_context(|| format!("cannot read the secret key {}", args.key.display()))?;
    let key = SigningKey::parse(&text, password(args.password_file.as_deref())?)
        .with_context(|| format!("{} cannot sign", args.key.display()))?;
    let (name, version) = (manifest.name.clone(), manifest.version.clone());
    let release = Release { name, version, counter: args.counter, targets: args.targets.clone() };
    parcel.sign(&key, &release)?;
    let out = args.out.as_ref().unwrap_or(&args.file);
    replace(out, &parcel.to_bytes()?)?;
    if as_json {
        return Ok(format!("{}\n", json!({ "file": out, "release": release })));
    }
    let Release { name, counter, targets, .. } = &release;
    Ok(format!("{}: signed as {name}.{counter} for {}\n", out.display(), targets.join(", ")))
}

/// The first line of a file.
fn password(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(path) = file else { return Ok(None) };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the password file {}", path.display()))?;
    Ok(Some(text.lines().next().unwrap_or("").to_owned()))
}

/// The file is replaced as a whole: one that is signed in place is never half of itself.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    durable::write(path, &[bytes]).with_context(|| format!("cannot write {}", path.display()))
}
