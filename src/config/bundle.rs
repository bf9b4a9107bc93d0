//! In: the [bundle] section. Out: every problem in it, the bundle that the station starts with, and where others come
//! from.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};

use super::{Error, raw};
use crate::bundle::{Bundle, Keys, Parcel, is_parcel};
use crate::station::control::Socket;
use crate::station::{Releases, TrialLimits};
use crate::store::{self, Id, Store};
use crate::trial;

/// Where the station's bundle is installed.
#[derive(Debug)]
pub(super) struct Installed {
    store: Store,
    /// Which it is; none if the embedded one stands in.
    running: Option<Id>,
    /// Those to try after it.
    spare: Vec<Id>,
    trial: bool,
}

pub(super) fn validate(bundle: &raw::Bundle, problems: &mut Vec<String>) {
    let mut range = |key, value, low, high| {
        if !(low..=high).contains(&value) {
            problems.push(format!("{key} = {value} is outside {low}..={high}"));
        }
    };
    range("bundle.watch_parts", bundle.watch_parts, 0, 1_000_000);
    range("bundle.watch_faults", bundle.watch_faults, 0, 1_000_000);
    if !bundle.jobs.is_empty() && bundle.store.as_os_str().is_empty() {
        problems.push("bundle.jobs needs bundle.store: say where the bundles are installed".into());
    }
    if !bundle.store.as_os_str().is_empty() && bundle.path.is_some() && !bundle.jobs.is_empty() {
        problems.push(
            "bundle.jobs and bundle.path are both set: with bundle.path the station has that bundle alone".into(),
        );
    }
    let mut seen = BTreeSet::new();
    let twice = bundle.jobs.iter().filter(|job| !seen.insert(job.job));
    problems.extend(twice.map(|job| format!("bundle.jobs has job {} twice", job.job)));
    let mut seen = BTreeSet::new();
    let twice = bundle.jobs.iter().filter(|job| !seen.insert(job.bundle.to_string()));
    problems.extend(twice.map(|job| format!("bundle.jobs has the bundle {} twice: one job each", job.bundle)));
}

/// The bundle that is named, or the active one of the store, or the embedded one.
pub(super) fn choose(
    bundle: &raw::Bundle,
    float_layers: &[String],
    problems: &mut Vec<String>,
) -> Option<(Bundle, Option<Installed>)> {
    let mut failed =
        |key: &str, found: Vec<String>| problems.extend(found.into_iter().map(|one| format!("{key}: {one}")));
    match &bundle.path {
        Some(path) if is_parcel(path) => {
            let keys = Keys::read(&bundle.keys).map_err(|error| failed("bundle.keys", vec![error.to_string()])).ok()?;
            let signed = Parcel::read(path).and_then(|parcel| parcel.open_signed(&keys, float_layers));
            let signed = signed.map_err(|error| failed("bundle.path", error.problems)).ok()?;
            Some((signed.bundle, None))
        }
        None if !bundle.store.as_os_str().is_empty() => {
            let chosen = active(&Store::new(&bundle.store, &bundle.keys), float_layers);
            let (bundle, installed) = chosen.map_err(|found| failed("bundle.store", found)).ok()?;
            Some((bundle, Some(installed)))
        }
        path => {
            let loaded = Bundle::load(path.as_deref(), float_layers);
            Some((loaded.map_err(|error| failed("bundle.path", error.problems)).ok()?, None))
        }
    }
}

/// The active bundle; if it cannot be used, those that were before it, the latest first. The embedded one stands in
/// only where none was ever active: it knows other parts.
fn active(store: &Store, float_layers: &[String]) -> Result<(Bundle, Installed), Vec<String>> {
    let mut state = store.state().map_err(|error| vec![error.to_string()])?;
    trial::start(&mut state); // as it will be written down when the station starts
    let mut candidates: Vec<Id> = state.history.iter().rev().cloned().collect();
    if candidates.is_empty() {
        let bundle = Bundle::embedded().map_err(|error| error.problems)?;
        return Ok((bundle, Installed { store: store.clone(), running: None, spare: vec![], trial: false }));
    }
    let mut refusals = vec![];
    while !candidates.is_empty() {
        let id = candidates.remove(0);
        match store.load(&id, float_layers) {
            Ok(signed) => {
                for refusal in refusals {
                    log::error!("{refusal}; {id} takes its place");
                }
                let trial = state.trials.contains_key(&id);
                return Ok((
                    signed.bundle,
                    Installed { store: store.clone(), running: Some(id), spare: candidates, trial },
                ));
            }
            Err(error) => refusals.push(error.to_string()),
        }
    }
    Err(refusals)
}

impl Installed {
    /// Opens the place where the station is told, and writes down that it starts.
    pub(super) fn releases(self, bundle: &raw::Bundle) -> Result<Releases, Error> {
        let Self { store, running, spare, trial } = self;
        if let Some((id, reason)) = begin(&store, bundle)? {
            log::error!("{id} is given up: {reason}");
        }
        if running.is_none() {
            let dir = store.dir().display();
            log::warn!(
                "no bundle is active in {dir}: the embedded one judges, until `fcam bundle activate` names another"
            );
        }
        let path = &bundle.control;
        let open = || Socket::open(path).map_err(|source| Error::Control { path: path.clone(), source });
        let socket = (!path.as_os_str().is_empty()).then(open).transpose()?;
        let limits = TrialLimits { parts: bundle.watch_parts, faults: bundle.watch_faults };
        let jobs = bundle.jobs.iter().map(|job| (job.job, job.bundle.clone())).collect();
        Ok(Releases { store, socket, running, spare, trial, jobs, limits })
    }
}

/// A start of a bundle on trial is counted, and what the PLC may ask for is written down, so that no later release
/// pushes it out. A store that cannot be written has neither, and the station starts anyway.
fn begin(store: &Store, bundle: &raw::Bundle) -> Result<Option<(Id, String)>, store::Error> {
    let jobs: Vec<store::Reference> = bundle.jobs.iter().map(|job| job.bundle.clone()).collect();
    let state = store.state()?;
    if state.trials.is_empty() && state.jobs == jobs {
        return Ok(None);
    }
    let begun = store.update(|state| {
        state.jobs = jobs;
        trial::start(state)
    });
    begun.or_else(|error| {
        log::error!("this start is not counted, and a bundle of a job may be removed as an old one: {error}");
        Ok(None)
    })
}

pub(super) fn control_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::AddrInUse => "; does another station run here?",
        ErrorKind::NotFound => {
            "; its folder must be there (systemd: RuntimeDirectory=fcam), or set bundle.control = \"\""
        }
        ErrorKind::PermissionDenied => "; its folder must be the station's (systemd: RuntimeDirectory=fcam)",
        _ => "",
    }
}
