//! `fcam run`: the station, until it is told to stop.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{EXIT_CLEAN, EXIT_FAULTS};
use crate::config::{Overrides, Setup};
use crate::station::{RunState, Stop};

/// Run the station: judge parts and tell the line, until SIGTERM or Ctrl-C.
///
/// The first signal drains: what was captured is judged and told. A second one stops at once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The station file; board/station.example.toml explains every key [default: the demo camera on the embedded
    /// bundle's samples]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The bundle, in place of bundle.path
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Stop after so many frames
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
    /// Append one JSON line a part to this file, `-` for standard output, in place of sinks.json
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let Args { config, bundle, frames, json } = args;
    let overrides = Overrides { bundle: bundle.clone(), json: json.clone(), frames: *frames };
    let setup = Setup::load(config.as_deref(), overrides)?;
    let stop = Stop::default();
    listen(stop.clone()).context("cannot listen for signals")?;
    let report = setup.station()?.run(&stop)?;
    log::info!("stopped: {report}");
    log::info!("where the time of a part went:\n{}", report.stages);
    if !report.counts.balanced() {
        log::error!("the books do not balance, parts went unjudged: please report this");
    }
    Ok(if report.clean() { EXIT_CLEAN } else { EXIT_FAULTS })
}

/// How long a second signal waits for the outputs to reach their safe state before the process ends regardless.
const GRACE: Duration = Duration::from_secs(2);

fn listen(stop: Stop) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in &mut signals {
            match stop.press() {
                RunState::Halt => {
                    log::warn!("stopping at once");
                    std::thread::sleep(GRACE);
                    super::log::flush();
                    std::process::exit(EXIT_FAULTS.into());
                }
                _ => log::info!("stopping: parts that were captured are judged; once more stops at once"),
            }
        }
    })?;
    Ok(())
}
