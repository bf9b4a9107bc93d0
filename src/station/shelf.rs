//! Other bundles for a station that is running. In: requests of the operator and of the PLC, and the store. Out: proven pipelines for the inspect
//! thread, which takes one between two parts.
//!
//! A bundle is read, verified and proven on a thread of its own, at the lowest priority, while the one that runs goes on. It refuses to hand over
//! what is not proven on this machine, and to keep what fails at its first parts. What comes of each change is in the log, in the store's state, and
//! told to whoever asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::control::{Asker, ROLLED_BACK, Reply, Request, Socket};
use super::warm;
use crate::bundle::Bundle;
use crate::camera::Geometry;
use crate::line::Line;
use crate::pipeline::{Options, Pipeline};
use crate::proof;
use crate::store::{Id, Reference, State, Store};

/// Requests and events are looked at this often.
const TICK: Duration = Duration::from_millis(50);

/// The lowest priority that a thread can have (setpriority(2)).
const LOWEST: i32 = 19;

/// Where other bundles come from, and who may ask for them.
pub struct Shelf {
    /// What is installed.
    pub store: Store,
    /// Where the operator asks.
    pub socket: Option<Socket>,
    /// The installed bundle that the station starts with; none if it is another one.
    pub running: Option<Id>,
    /// Bundles to start with instead, if that one is not proven here.
    pub spare: Vec<Id>,
    /// The first parts of the bundle that the station starts with are watched.
    pub trial: bool,
    /// The bundle of each job that the PLC may ask for.
    pub jobs: BTreeMap<u16, Reference>,
    /// How a new bundle is watched.
    pub watch: Watch,
}

/// How the first parts of a bundle are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// So many.
    pub parts: u64,
    /// So many of them may be late, find no place to wait or be of another size; one more, or any failure of the engine, and it is given up.
    pub faults: u64,
}

impl Shelf {
    /// The job that a bundle is for; 0 if there is none.
    pub fn job_of(&self, id: Option<&Id>) -> u16 {
        let Some(id) = id else { return 0 };
        let find = |counter| self.jobs.iter().find(|(_, job)| job.name == id.name && job.counter == counter);
        find(Some(id.counter)).or_else(|| find(None)).map_or(0, |(job, _)| *job)
    }

    /// The next best bundle for the start; says of each why it is not.
    pub(super) fn next_spare(&mut self, float_layers: &[String]) -> Option<Bundle> {
        while !self.spare.is_empty() {
            let id = self.spare.remove(0);
            match self.store.load(&id, float_layers) {
                Ok(signed) => {
                    log::error!("{id} runs instead");
                    (self.running, self.trial) = (Some(id), false);
                    return Some(signed.bundle);
                }
                Err(error) => log::error!("{id} cannot be used either: {error}"),
            }
        }
        None
    }
}

/// A proven bundle on its way to the inspect thread.
pub(super) struct Candidate {
    pub(super) id: Id,
    pub(super) bundle: Arc<Bundle>,
    pub(super) pipeline: Pipeline,
    /// Its first parts are watched.
    pub(super) trial: bool,
    /// The job that it is for; 0 if there is none.
    pub(super) job: u16,
    /// The PLC asked for it.
    pub(super) asked: bool,
}

/// A bundle that judges, with its id if it is an installed one.
pub(super) type Judging = (Option<Id>, Arc<Bundle>);

/// What the inspect thread says.
pub(super) enum Event {
    /// The PLC asks for a job, and no part is under way.
    Job(u16),
    /// Frames are like that.
    Fitted(Geometry),
    /// A candidate judges now; `replaced` was on trial until then. `asked`: the PLC wanted it.
    Running { id: Id, bundle: Arc<Bundle>, trial: bool, asked: bool, replaced: Option<Id> },
    /// Its first parts are through.
    Passed(Id),
    /// A candidate is for another job than the one in force.
    Waiting { id: Id, job: u16 },
    /// It was given up, and what is in `back` judges; if that is none, what ran before is not in memory, and this one still judges.
    Failed { id: Id, reason: String, back: Option<Judging> },
    /// Something that is needed no more. It is dropped here: freeing takes time.
    Retired(Box<Pipeline>),
}

/// The thread that has bundles ready.
pub(super) struct Attend {
    pub(super) shelf: Shelf,
    pub(super) options: Options,
    pub(super) geometry: Geometry,
    pub(super) line: Line,
    pub(super) candidates: Sender<Candidate>,
    pub(super) events: Receiver<Event>,
    /// Who asked last, and for which bundle: he hears of no other.
    pub(super) asker: Option<(Id, Asker)>,
    /// First parts of the bundle that runs are watched.
    pub(super) watched: bool,
    /// What was handed over last.
    pub(super) handed: Option<Id>,
}

impl Attend {
    /// Until the inspect thread is gone.
    pub(super) fn run(mut self) {
        loop {
            let asked = self.shelf.socket.as_ref().and_then(|socket| socket.next(TICK));
            if let Some((request, asker)) = asked {
                self.ask(&request, asker);
            }
            let patience = if self.shelf.socket.is_some() { Duration::ZERO } else { TICK };
            loop {
                match self.events.recv_timeout(patience) {
                    Ok(event) => self.hear(event),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    fn ask(&mut self, request: &Request, mut asker: Asker) {
        let wanted = match request {
            Request::Activate(id) if self.is_settled(id) => return asker.tell(&Reply::Passed { bundle: id.clone() }),
            Request::Activate(id) if self.is_watched(id) => return self.attach(id, asker),
            Request::Activate(id) => Ok(id.clone()),
            Request::Rollback => self.previous(),
        };
        let id = match wanted {
            Ok(id) => id,
            Err(reason) => return asker.tell(&Reply::Refused { reason }),
        };
        log::info!("{id} is asked for: it is proven while the bundle that runs goes on");
        asker.tell(&Reply::Proving { bundle: id.clone() });
        self.asker = Some((id.clone(), asker));
        if let Err(reason) = self.change(&id, request) {
            log::error!("{id} is refused, and the bundle that runs goes on: {reason}");
            self.tell(&id, &Reply::Failed { bundle: id.clone(), reason });
        }
    }

    fn tell(&mut self, id: &Id, reply: &Reply) {
        if let Some((_, asker)) = self.asker.as_mut().filter(|(asked, _)| asked == id) {
            asker.tell(reply);
        }
    }

    /// True for the bundle that runs, is active, and through its first parts.
    fn is_settled(&self, id: &Id) -> bool {
        let settled = |state: State| state.active() == Some(id) && !state.trials.contains_key(id);
        self.shelf.running.as_ref() == Some(id) && self.shelf.store.state().is_ok_and(settled)
    }

    /// True for the bundle that runs, while its first parts are watched.
    fn is_watched(&self, id: &Id) -> bool {
        self.watched && self.shelf.running.as_ref() == Some(id)
    }

    /// It is asked for again: whoever asks hears the rest.
    fn attach(&mut self, id: &Id, asker: Asker) {
        self.write(|state| state.ensure_active(id));
        self.asker = Some((id.clone(), asker));
        self.tell(id, &Reply::Running { bundle: id.clone(), watched: self.shelf.watch.parts });
    }

    /// What takes the place of the active bundle.
    fn previous(&self) -> Result<Id, String> {
        let state = self.shelf.store.state().map_err(|error| error.to_string())?;
        let active = state.active().cloned().ok_or("no bundle is active")?;
        self.before(&active, state).ok_or_else(|| "there is nothing to go back to".into())
    }

    /// What was active before a bundle: while the PLC's job is its own the release before it, because others are for other parts.
    fn before(&self, id: &Id, mut state: State) -> Option<Id> {
        state.history.retain(|other| other != id);
        let job = self.shelf.job_of(Some(id));
        if job == 0 || job != self.line.status().job {
            return state.active().cloned();
        }
        let fits = |other: &&Id| other.name == id.name && [0, job].contains(&self.shelf.job_of(Some(other)));
        state.history.iter().rfind(fits).cloned()
    }

    /// What is asked for is proven, then written down, then handed over: a start in between has it too.
    pub(super) fn change(&mut self, id: &Id, request: &Request) -> Result<(), String> {
        let trial = matches!(request, Request::Activate(_));
        let candidate = self.prove(id, trial, false)?;
        let written = self.shelf.store.update(|state| {
            let before = state.clone();
            match (trial, state.active().cloned()) {
                (true, _) | (_, None) => state.activate(id),
                (false, Some(active)) => {
                    log::warn!("{active} is given up: {ROLLED_BACK}");
                    state.withdraw(&active, ROLLED_BACK);
                }
            }
            before
        });
        let before = written.map_err(|error| error.to_string())?;
        self.hand_over(candidate).inspect_err(|_| self.write(|state| *state = before))
    }

    fn hand_over(&mut self, candidate: Candidate) -> Result<(), String> {
        self.handed = Some(candidate.id.clone());
        self.candidates.send(candidate).map_err(|_| "the station is about to end".into())
    }

    /// Loads a bundle and replays its proof on this machine.
    fn prove(&self, id: &Id, trial: bool, asked: bool) -> Result<Candidate, String> {
        let Self { shelf, options, geometry, .. } = self;
        // The threads of an engine have the priority of the thread that made them, so that it is proven on one. What it computes is the same on
        // any number.
        let alone =
            Options { engine: crate::engine::Settings { threads: 1, ..options.engine.clone() }, ..options.clone() };
        let prove = || -> Result<(Bundle, Pipeline), String> {
            if let Err(error) = rustix::process::setpriority_process(None, LOWEST) {
                log::debug!("the thread that proves {id} has the usual priority: {error}");
            }
            let bundle = shelf.store.load(id, &options.engine.float_layers).map_err(|error| error.to_string())?.bundle;
            let mut pipeline = proof::require(&bundle, *geometry, alone).map_err(|error| error.to_string())?;
            warm(&mut pipeline);
            Ok((bundle, pipeline))
        };
        let proven = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("prove".into()).spawn_scoped(scope, prove);
            let thread = thread.map_err(|error| format!("cannot start a thread to prove it: {error}"))?;
            thread.join().unwrap_or_else(|_| Err("the engine panicked in its proof".to_owned()))
        });
        let (bundle, mut pipeline) = proven?;
        // On what it was proven: with "auto" that is the CPU where TensorRT was refused. A GPU has no use for the threads.
        if options.engine.threads > 1 && !pipeline.is_tensorrt() {
            let proven = pipeline.options().engine.clone();
            let engine = crate::engine::Settings { threads: options.engine.threads, ..proven };
            let options = Options { engine, ..options.clone() };
            pipeline = Pipeline::new(&bundle, *geometry, options).map_err(|error| error.to_string())?;
            warm(&mut pipeline);
        }
        let job = shelf.job_of(Some(id));
        Ok(Candidate { id: id.clone(), bundle: Arc::new(bundle), pipeline, trial, job, asked })
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Job(job) => self.job(job),
            Event::Fitted(geometry) => self.geometry = geometry,
            Event::Running { id, trial, asked, replaced, .. } => {
                self.replaced(replaced, &id, asked);
                self.running(id, trial, asked);
            }
            Event::Passed(id) => {
                log::info!("{id} is through its first parts");
                self.watched = false;
                self.write(|state| state.pass(&id));
                self.tell(&id, &Reply::Passed { bundle: id.clone() });
            }
            Event::Waiting { id, job } => {
                log::info!("{id} judges when the PLC asks for job {job}: another job is in force");
                self.handed = self.shelf.running.clone();
                self.tell(&id, &Reply::Waiting { bundle: id.clone(), job });
                self.asker.take_if(|(asked, _)| *asked == id); // its trial may be far away
            }
            Event::Failed { id, reason, back } => self.failed(&id, reason, back),
            Event::Retired(pipeline) => drop(pipeline),
        }
    }

    /// The state is for the next start: what cannot be written is said, and the station goes on.
    fn write(&self, change: impl FnOnce(&mut State)) {
        if let Err(error) = self.shelf.store.update(change) {
            log::error!("the next start may have another bundle than the one that runs: {error}");
        }
    }

    fn running(&mut self, id: Id, trial: bool, asked: bool) {
        log::info!("{id} runs{}", if trial { ", and its first parts are watched" } else { "" });
        let reply = match trial {
            true => Reply::Running { bundle: id.clone(), watched: self.shelf.watch.parts },
            false => Reply::Passed { bundle: id.clone() },
        };
        if !asked {
            self.tell(&id, &reply); // who wants what the PLC just got hears of his own request
        }
        (self.shelf.running, self.watched) = (Some(id), trial);
    }

    /// A bundle that was on trial and does not judge any more. One that the PLC's job took the parts from is tried again when they come; another
    /// one that the operator wanted in its place makes it nothing to start with, or to go back to, if there is one that is through.
    fn replaced(&self, unproven: Option<Id>, by: &Id, asked: bool) {
        let Some(unproven) = unproven.filter(|unproven| unproven != by) else { return };
        let same = self.shelf.job_of(Some(&unproven)) == self.shelf.job_of(Some(by));
        self.write(|state| {
            state.pause(&unproven);
            let given_up = !state.trials.contains_key(&unproven); // rolled back
            if !asked && same && !given_up && self.is_spare(&unproven, by, state) {
                log::warn!("{unproven} is given up: its first parts were not through");
                state.withdraw(&unproven, &format!("{by} took its place before its first parts were through"));
            }
        });
    }

    /// Its parts have others that were active, besides it and one more.
    fn is_spare(&self, id: &Id, and: &Id, state: &State) -> bool {
        let job = self.shelf.job_of(Some(id));
        state.history.iter().any(|other| ![id, and].contains(&other) && self.shelf.job_of(Some(other)) == job)
    }

    /// `back` is what goes on, if something does.
    fn failed(&mut self, id: &Id, mut reason: String, back: Option<Judging>) {
        log::error!("{id} is given up: {reason}");
        self.watched = false;
        if let Some((running, _)) = back {
            self.write(|state| state.withdraw(id, &reason));
            let name = running.as_ref().map_or("the bundle before it".into(), Id::to_string);
            log::warn!("{name} judges again");
            self.handed = running.clone();
            self.shelf.running = running;
        } else if self.handed.as_ref().is_some_and(|handed| handed != id) {
            // Another one is on its way already, or judges.
            self.write(|state| match self.is_spare(id, id, state) {
                true => state.withdraw(id, &reason),
                false => state.pass(id),
            });
        } else if let Err(kept) = self.go_back(id, &reason) {
            log::error!("{id} judges on: {kept}");
            self.write(|state| state.pass(id));
            reason = format!("{reason}; but it judges on: {kept}");
        }
        self.tell(id, &Reply::Failed { bundle: id.clone(), reason });
    }

    /// The bundle before one that failed is not in memory: it failed right after a start, or after the PLC's change to its job. It is given up only
    /// for another one that is proven: one that knows other parts would be worse.
    fn go_back(&mut self, failed: &Id, reason: &str) -> Result<(), String> {
        let state = self.shelf.store.state().map_err(|error| error.to_string())?;
        let id = self.before(failed, state).ok_or("no other bundle was active before it")?;
        let proven = self.prove(&id, false, false);
        let candidate = proven.map_err(|error| format!("{id} cannot take its place: {error}"))?;
        self.write(|state| state.withdraw(failed, reason));
        self.hand_over(candidate)
    }

    fn job(&mut self, job: u16) {
        if let Err(reason) = self.change_job(job) {
            log::warn!("job {job} is refused, and the job before it goes on: {reason}");
            self.line.update(|handshake| handshake.job_done(false));
        }
    }

    fn change_job(&mut self, job: u16) -> Result<(), String> {
        let Some(reference) = self.shelf.jobs.get(&job) else {
            return Err("bundle.jobs in the station file does not have it".into());
        };
        let state = self.shelf.store.state().map_err(|error| error.to_string())?;
        let installed = self.shelf.store.installed().map_err(|error| error.to_string())?;
        let id = state.release(reference, &installed).ok_or_else(|| format!("{reference} is not installed"))?;
        if self.shelf.running.as_ref() == Some(&id) {
            self.line.update(|handshake| handshake.job_done(true));
            return Ok(());
        }
        let mut candidate = self.prove(&id, false, true)?;
        candidate.job = job;
        candidate.trial = self.shelf.store.state().is_ok_and(|state| state.trials.contains_key(&id));
        self.hand_over(candidate)
    }
}
