//! `fcam bundle`: a bundle as one signed file, from the workstation to the camera: pack, sign, verify, install, activate, roll back.
//!
//! Prints what was done, as a table or as JSON. Exit code 0 if it was done, 2 if it was refused.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::CLEAN;
use crate::bundle::{Keys, Parcel, Release, machine};
use crate::store::{self, Entry, Installed, Room, Store};

mod activate;
mod sign;

/// Pack, sign, verify and install bundles, and choose the one that runs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Keygen(sign::KeygenArgs),
    Pack(sign::PackArgs),
    Sign(sign::SignArgs),
    /// Say what a file is, who it is for, and whether a trusted key has signed it
    Verify {
        /// The file, `-` for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// Verify a file and take it in; what runs goes on running
    Install {
        /// The file, `-` for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        place: PlaceArgs,
        /// Releases to keep of each name, 2 at least; the active one and the one before it stay in any case
        #[arg(long, value_name = "N", default_value_t = Room::default().keep, value_parser = keep)]
        keep: usize,
        /// Mebibytes that stay free on the disk
        #[arg(long, value_name = "MIB", default_value_t = Room::default().free_mb)]
        free_mb: u64,
    },
    /// Show what is installed, each file verified anew
    List {
        #[command(flatten)]
        place: PlaceArgs,
    },
    Activate(activate::ActivateArgs),
    Rollback(activate::RollbackArgs),
}

/// Whom to trust.
#[derive(Debug, Clone, clap::Args)]
struct TrustArgs {
    /// Folder of the public keys (*.pub) that are trusted
    #[arg(long, value_name = "DIR", default_value = store::KEYS)]
    keys: PathBuf,
    /// Allow this convolution of an int8 network in float; may be given several times
    #[arg(long = "float-layer", value_name = "NODE")]
    float_layers: Vec<String>,
}

/// Where bundles are installed.
#[derive(Debug, Clone, clap::Args)]
struct PlaceArgs {
    /// Folder of the installed bundles
    #[arg(long, value_name = "DIR", default_value = store::DIR)]
    store: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
}

impl PlaceArgs {
    fn store(&self) -> Store {
        Store::new(&self.store, &self.trust.keys)
    }
}

fn keep(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|keep| (2..=1000).contains(keep)).ok_or_else(|| format!("`{text}` is not from 2 to 1000"))
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let words = match &args.verb {
        Verb::Keygen(keygen) => sign::keygen(keygen, args.json)?,
        Verb::Pack(pack) => sign::pack(pack, args.json)?,
        Verb::Sign(sign) => sign::sign(sign, args.json)?,
        Verb::Verify { file, trust } => verify(&Parcel::read(file)?, trust, args.json)?,
        Verb::Install { file, place, keep, free_mb } => {
            let room = Room { keep: *keep, free_mb: *free_mb };
            let installed = place.store().install(&Parcel::read(file)?, &place.trust.float_layers, room)?;
            told(&installed, args.json)
        }
        Verb::List { place } => table(&place.store().list(&place.trust.float_layers)?, args.json),
        Verb::Activate(activate) => activate::activate(activate, args.json)?,
        Verb::Rollback(rollback) => activate::rollback(rollback, args.json)?,
    };
    std::io::stdout().write_all(words.as_bytes())?;
    Ok(CLEAN)
}

fn verify(parcel: &Parcel, trust: &TrustArgs, as_json: bool) -> anyhow::Result<String> {
    let release = parcel.open_signed(&Keys::read(&trust.keys)?, &trust.float_layers)?.release;
    let here = release.check_target(&machine());
    if as_json {
        return Ok(format!("{}\n", json!({ "release": release, "runs_here": here.is_ok() })));
    }
    let Release { name, version, counter, targets } = release;
    let note = here.err().map_or(String::new(), |reason| format!("\nnote     {reason}"));
    Ok(format!(
        "bundle   {name}.{counter}\nversion  {version}\ntargets  {}\nsigned   by a trusted key{note}\n",
        targets.join(", ")
    ))
}

fn told(installed: &Installed, as_json: bool) -> String {
    if as_json {
        return format!("{}\n", json!(installed));
    }
    let Installed { bundle, again, removed } = installed;
    let mut words = match again {
        true => format!("{bundle} is installed already\n"),
        false => format!("{bundle} is installed; `fcam bundle activate {bundle}` has it run\n"),
    };
    words.extend(removed.iter().map(|id| format!("{id} was removed: it is old\n")));
    words
}

fn table(entries: &[Entry], as_json: bool) -> String {
    if as_json {
        return format!("{}\n", json!(entries));
    }
    if entries.is_empty() {
        return "no bundle is installed\n".into();
    }
    let names: Vec<String> = entries.iter().map(|entry| entry.bundle.to_string()).collect();
    let versions: Vec<&str> = entries.iter().map(|entry| entry.version.as_deref().unwrap_or("?")).collect();
    let wide = names.iter().map(String::len).max().unwrap_or(0).max("bundle".len());
    let broad = versions.iter().map(|version| version.chars().count()).max().unwrap_or(0).max("version".len());
    let mut words = format!("{:wide$}  {:broad$}  {:>9}  {}\n", "bundle", "version", "KiB", "state");
    for ((entry, name), version) in entries.iter().zip(&names).zip(versions) {
        words += &format!("{name:wide$}  {version:broad$}  {:>9}  {}\n", entry.bytes.div_ceil(1024), state(entry));
    }
    words
}

fn state(entry: &Entry) -> String {
    let mut words = vec![];
    words.extend(entry.active.then(|| "active".to_owned()));
    words.extend(entry.trial.then(|| "on trial".to_owned()));
    words.extend(entry.previous.then(|| "previous".to_owned()));
    words.extend(entry.withdrawn.as_ref().map(|reason| format!("given up: {reason}")));
    words.extend(entry.problem.as_ref().map(|problem| format!("cannot be used: {}", problem.replace("\n  ", " "))));
    words.join(", ")
}
