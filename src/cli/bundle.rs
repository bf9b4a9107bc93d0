//! `fcam bundle`: a bundle as one signed file, from the workstation to the camera: pack, sign, verify, install,
//! activate, roll back.
//!
//! Prints what was done, as a table or as JSON. Exit code 0 if it was done, 2 if it was refused.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use clap::Subcommand;
use serde_json::json;

use super::EXIT_CLEAN;
use crate::bundle::{Keys, Parcel, Release, machine};
use crate::config::{self, Places};
use crate::station::control;
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
    /// The station's file, which says where its bundles and keys are and where it is told; options given beside it go
    /// before it
    #[arg(long, value_name = "STATION.toml")]
    config: Option<PathBuf>,
    /// Folder of the public keys (*.pub) that are trusted [default: the station's, or /etc/fcam/keys]
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Allow this convolution of an int8 network in float; may be given several times
    #[arg(long = "float-layer", value_name = "NODE")]
    float_layers: Vec<String>,
}

impl TrustArgs {
    /// The places of the station's file, or a camera's own, with what is given beside them.
    fn places(&self) -> Result<Places, config::Error> {
        let own = || Places {
            store: Some(store::DIR.into()),
            keys: store::KEYS.into(),
            control: Some(control::SOCKET.into()),
            float_layers: vec![],
        };
        let mut places = self.config.as_deref().map_or_else(|| Ok(own()), config::places)?;
        places.keys = self.keys.clone().unwrap_or(places.keys);
        places.float_layers.extend(self.float_layers.iter().cloned());
        Ok(places)
    }
}

/// Where bundles are installed.
#[derive(Debug, Clone, clap::Args)]
struct PlaceArgs {
    /// Folder of the installed bundles [default: the station's, or /var/lib/fcam/bundles]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

/// What a verb works on.
struct Place {
    store: Store,
    control: Option<PathBuf>,
    float_layers: Vec<String>,
}

impl PlaceArgs {
    fn place(&self) -> anyhow::Result<Place> {
        let Places { store, keys, control, float_layers } = self.trust.places()?;
        let Some(dir) = self.store.clone().or(store) else {
            bail!(
                "the station's file names no bundle.store, so it installs none: set bundle.store in it, or give --store"
            )
        };
        Ok(Place { store: Store::new(dir, keys), control, float_layers })
    }
}

fn keep(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|keep| (2..=1000).contains(keep)).ok_or_else(|| format!("`{text}` is not from 2 to 1000"))
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let output = match &args.verb {
        Verb::Keygen(keygen) => sign::keygen(keygen, args.json)?,
        Verb::Pack(pack) => sign::pack(pack, args.json)?,
        Verb::Sign(sign) => sign::sign(sign, args.json)?,
        Verb::Verify { file, trust } => verify(&Parcel::read(file)?, trust, args.json)?,
        Verb::Install { file, place, keep, free_mb } => {
            let room = Room { keep: *keep, free_mb: *free_mb };
            let Place { store, float_layers, .. } = place.place()?;
            told(&store.install(&Parcel::read(file)?, &float_layers, room)?, args.json)
        }
        Verb::List { place } => {
            let Place { store, float_layers, .. } = place.place()?;
            table(&store.list(&float_layers)?, args.json)
        }
        Verb::Activate(activate) => activate::activate(activate, args.json)?,
        Verb::Rollback(rollback) => activate::rollback(rollback, args.json)?,
    };
    std::io::stdout().write_all(output.as_bytes())?;
    Ok(EXIT_CLEAN)
}

fn verify(parcel: &Parcel, trust: &TrustArgs, as_json: bool) -> anyhow::Result<String> {
    let Places { keys, float_layers, .. } = trust.places()?;
    let release = parcel.open_signed(&Keys::read(&keys)?, &float_layers)?.release;
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
    let mut output = match again {
        true => format!("{bundle} is installed already\n"),
        false => format!("{bundle} is installed; `fcam bundle activate {bundle}` has it run\n"),
    };
    output.extend(removed.iter().map(|id| format!("{id} was removed: it is old\n")));
    output
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
    let mut output = format!("{:wide$}  {:broad$}  {:>9}  {}\n", "bundle", "version", "KiB", "state");
    for ((entry, name), version) in entries.iter().zip(&names).zip(versions) {
        output += &format!("{name:wide$}  {version:broad$}  {:>9}  {}\n", entry.bytes.div_ceil(1024), state(entry));
    }
    output
}

fn state(entry: &Entry) -> String {
    let mut output = vec![];
    output.extend(entry.active.then(|| "active".to_owned()));
    output.extend(entry.trial.then(|| "on trial".to_owned()));
    output.extend(entry.previous.then(|| "previous".to_owned()));
    output.extend(entry.withdrawn.as_ref().map(|reason| format!("given up: {reason}")));
    output.extend(entry.problem.as_ref().map(|problem| format!("cannot be used: {}", problem.replace("\n  ", " "))));
    output.join(", ")
}
