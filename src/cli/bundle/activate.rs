//! Which installed bundle runs: in a station that is running, between two parts; else with its next start.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};
use serde_json::json;

use super::{Place, PlaceArgs};
use crate::engine::Settings;
use crate::pipeline::PipelineOptions;
use crate::proof;
use crate::signal::Signaller;
use crate::station::control::{self, Client, Reply, Request};
use crate::store::{Error, Id, Reference, State};
use crate::trial;

/// Have an installed bundle run, once it is proven on this machine
#[derive(Debug, clap::Args)]
pub(super) struct ActivateArgs {
    /// Which: NAME, its newest release, or NAME.COUNTER
    #[arg(value_name = "BUNDLE")]
    bundle: Reference,
    #[command(flatten)]
    how: How,
}

/// Give the active bundle up, and go back to the one before it
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct How {
    #[command(flatten)]
    place: PlaceArgs,
    /// Where a running station is told [default: the station's, or /run/fcam/control.sock]
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Wait so many seconds for the first parts of the bundle; without parts it stays on trial
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

pub(super) fn activate(args: &ActivateArgs, as_json: bool) -> anyhow::Result<String> {
    let place = args.how.place()?;
    let id = place.store.resolve(&args.bundle)?;
    if let Some(client) = place.station()? {
        return args.how.follow(client, &Request::Activate(id), as_json);
    }
    prove(&place, &id)?;
    place.store.update(|state| state.ensure_active(&id))?;
    Ok(next_start(&id, &place, as_json))
}

pub(super) fn rollback(args: &RollbackArgs, as_json: bool) -> anyhow::Result<String> {
    let place = args.how.place()?;
    if let Some(client) = place.station()? {
        return args.how.follow(client, &Request::Rollback, as_json);
    }
    let State { history, .. } = place.store.state()?;
    let [.., previous, active] = history.as_slice() else {
        return Err(Error::NoPrevious(history.last().map_or("now".into(), Id::to_string)).into());
    };
    prove(&place, previous)?;
    place.store.update(|state| state.withdraw(active, trial::ROLLED_BACK))?;
    Ok(next_start(previous, &place, as_json))
}

fn next_start(id: &Id, place: &Place, as_json: bool) -> String {
    if as_json {
        return format!("{}\n", json!({ "bundle": id, "event": "next_start", "asked": place.control }));
    }
    match &place.control {
        Some(path) => format!(
            "{id} is active: no station answers at {}, its next start has it. If one runs with another bundle.control, say --config STATION.toml\n",
            path.display()
        ),
        None => {
            format!("{id} is active: the station listens nowhere (bundle.control is empty), its next start has it\n")
        }
    }
}

/// What a running station would do, at the engine's own settings.
fn prove(place: &Place, id: &Id) -> anyhow::Result<()> {
    let float_layers = place.float_layers.clone();
    let signed = place.store.load(id, &float_layers)?;
    let engine = Settings { float_layers, ..Settings::default() };
    let signaller = Signaller { delay: Duration::ZERO, hold: Duration::ZERO };
    let options = PipelineOptions {
        engine,
        layout: Default::default(),
        score_threshold: None,
        locate: None,
        vote: None,
        drift: None,
        zones: Default::default(),
        signaller,
    };
    let report = proof::replay(&signed.bundle, &options);
    ensure!(report.passed(), "{id} may not judge on this machine:\n  {}", report.problems.join("\n  "));
    Ok(())
}

impl Place {
    /// The running station; none if none answers.
    fn station(&self) -> anyhow::Result<Option<Client>> {
        Ok(self.control.as_deref().map(Client::connect).transpose()?.flatten())
    }
}

impl How {
    fn place(&self) -> anyhow::Result<Place> {
        let place = self.place.place()?;
        Ok(Place { control: self.control.clone().or(place.control), ..place })
    }

    /// Tells the station, and follows what comes of it.
    fn follow(&self, mut client: Client, request: &Request, as_json: bool) -> anyhow::Result<String> {
        client.ask(request)?;
        let mut last = None;
        loop {
            // Proving is bounded by the machine, the first parts by nothing.
            let patience = if matches!(last, Some(Reply::Running { .. })) { self.wait } else { control::PROVING_S };
            match client.next(Duration::from_secs(patience))? {
                Some(Reply::Refused { reason }) => bail!("the station refuses: {reason}"),
                Some(Reply::Failed { bundle, reason }) => {
                    bail!("{bundle} was given up, and what ran before goes on: {reason}")
                }
                // Not the answer yet: beside it for people, a line before it for programs.
                Some(reply @ Reply::Proving { .. }) if as_json => {
                    std::io::stdout().write_all(reply.text(true).as_bytes())?;
                }
                Some(reply @ Reply::Proving { .. }) => eprint!("{}", reply.text(false)),
                Some(reply @ (Reply::Passed { .. } | Reply::Waiting { .. })) => return Ok(reply.text(as_json)),
                Some(reply) => last = Some(reply),
                None => break,
            }
        }
        match last {
            Some(reply @ Reply::Running { .. }) => Ok(reply.text(as_json)),
            _ => bail!("the station does not answer: look at its log"),
        }
    }
}
