//! Other bundles for a station that is running. In: requests of the operator and of the PLC, and the store. Out: proven
//! pipelines for the inspect thread, which takes one between two parts.
//!
//! [`Trials`] says what is to be done and when; here it is done. A bundle is read, verified and proven on a thread of
//! its own, at the lowest priority, while the one that runs goes on and others ask. What comes of each change is in the
//! log, in the store's state, and told to whoever asked.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::Scope;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};

use super::control::{Connection, Reception, Request, Socket};
use super::swap::{Desk, Ready, Swap};
use super::warm;
use crate::bundle::Bundle;
use crate::camera::Geometry;
use crate::clock;
use crate::handshake::Condition;
use crate::pipeline::{Pipeline, PipelineOptions};
use crate::plc_link::PlcLink;
use crate::priority;
use crate::proof;
use crate::store::{Id, Reference, State, Store};
use crate::trial::{self, Action, Asker, Book, Entry, Jobs, Reply, TrialLimits, Trials};
use crate::watchdog::{Duty, SLOW};

/// How often the thread looks whether the station ends.
const TICK: Duration = Duration::from_millis(50);

/// Requests that were heard and are not looked at yet.
const REQUESTS: usize = 4;

/// Where other bundles come from, and who may ask for them.
pub struct Releases {
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
    pub limits: TrialLimits,
}

impl Releases {
    /// The job that a bundle is for; 0 if there is none.
    pub fn job_of(&self, id: Option<&Id>) -> u16 {
        trial::job_of(&self.jobs, id)
    }

    /// The two ends between the inspect thread and the one that has bundles ready. `options` and `geometry` are those
    /// of what judges.
    pub(super) fn attend(self, options: &PipelineOptions, geometry: Geometry, plc_link: &PlcLink) -> (Swap, Attend) {
        let trials = Trials::new(self.jobs.clone(), self.limits, self.running.clone(), self.trial);
        let desk = Desk::new(trials);
        let swap = Swap::new(Arc::clone(&desk));
        let (options, plc_link) = (options.clone(), plc_link.clone());
        (swap, Attend { releases: self, options, geometry, plc_link, desk, askers: BTreeMap::new(), next: 0 })
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

/// The thread that has bundles ready.
pub(super) struct Attend {
    releases: Releases,
    options: PipelineOptions,
    geometry: Geometry,
    plc_link: PlcLink,
    desk: Arc<Desk>,
    /// Who asked, and listens.
    askers: BTreeMap<Asker, Connection>,
    next: Asker,
}

/// The result of a proof.
type Proven = Result<Ready, String>;

impl Attend {
    /// Until the inspect thread is gone.
    pub(super) fn run(mut self) {
        let socket = self.releases.socket.take();
        let desk = Arc::clone(&self.desk);
        std::thread::scope(|scope| {
            let requests = socket.as_ref().map_or_else(never, |socket| self.listen(scope, socket, &desk));
            self.serve(scope, requests);
        });
    }

    /// The thread that hears the operator.
    fn listen<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        socket: &'scope Socket,
        desk: &'scope Desk,
    ) -> Receiver<(Request, Connection)> {
        let (heard, requests) = bounded(REQUESTS);
        let plc_link = self.plc_link.clone();
        let hear = move || {
            let reception = Reception::new(socket, heard);
            let heard = catch_unwind(AssertUnwindSafe(|| reception.run(|| desk.lock().inspects)));
            if heard.is_err() {
                log::error!("the control thread panicked: please report this");
                plc_link.update(|handshake| handshake.set(Condition::Panic, true));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("control".into()).spawn_scoped(scope, hear) {
            log::error!("the operator cannot be heard: no thread for it: {error}");
        }
        requests
    }

    fn serve<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, mut requests: Receiver<(Request, Connection)>) {
        let (finished, proofs) = bounded(1);
        let desk = Arc::clone(&self.desk);
        let watchdog = self.plc_link.watchdog("bundles", Duty::Guest);
        while self.look() {
            watchdog.feed(clock::now(), SLOW);
            self.work(scope, &finished);
            select! {
                recv(requests) -> request => match request {
                    Ok((request, connection)) => self.ask(request, connection),
                    Err(_) => requests = never(), // nobody listens any more
                },
                recv(proofs) -> proven => {
                    if let Ok(proven) = proven {
                        self.take(proven);
                    }
                }
                recv(desk.bell()) -> _ => {}
                default(TICK) => {}
            }
        }
        self.desk.lock().trials.end();
        self.act(scope, &finished);
    }

    /// Takes away what the inspect thread left; false once that is gone.
    fn look(&mut self) -> bool {
        let mut papers = self.desk.lock();
        let retired = std::mem::take(&mut papers.retired);
        self.geometry = papers.fitted.take().unwrap_or(self.geometry);
        let inspects = papers.inspects;
        drop(papers);
        drop(retired);
        inspects
    }

    fn ask(&mut self, request: Request, connection: Connection) {
        let gone: Vec<(Asker, Connection)> =
            self.askers.extract_if(.., |_, connection| !connection.is_there()).collect();
        self.next += 1;
        self.askers.insert(self.next, connection);
        let mut papers = self.desk.lock();
        gone.iter().for_each(|(asker, _)| papers.trials.leave(*asker));
        papers.trials.ask(self.next, request);
    }

    /// A proof is over.
    fn take(&mut self, proven: Proven) {
        let mut papers = self.desk.lock();
        let (candidate, proven) = match proven {
            Ok(ready) => (Some(ready), Ok(())),
            Err(reason) => (None, Err(reason)),
        };
        papers.candidate = candidate;
        papers.trials.proven(proven);
    }

    /// Does what is to be done, and begins what waits, until there is nothing more.
    fn work<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, finished: &Sender<Proven>) {
        self.act(scope, finished);
        while self.desk.lock().trials.is_waiting() {
            let book = self.book();
            let in_force = self.plc_link.status().job;
            self.desk.lock().trials.begin(&book, in_force);
            self.act(scope, finished);
        }
    }

    fn book(&self) -> Book {
        let store = &self.releases.store;
        let said = |error: crate::store::Error| error.to_string();
        Book { state: store.state().map_err(said), installed: store.installed().map_err(said) }
    }

    fn act<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, finished: &Sender<Proven>) {
        loop {
            let action = self.desk.lock().trials.next_action();
            match action {
                Some(Action::Prove(id)) => self.begin_proof(scope, id, finished.clone()),
                Some(Action::Commit(entry)) => self.commit(&entry),
                Some(Action::Enter(entry)) => self.write(|jobs, state| entry.apply(jobs, state)),
                Some(Action::Undo(entry, before)) => self.write(|_, state| entry.undo(&before, state)),
                Some(Action::Tell(asker, reply)) => self.tell(asker, &reply),
                Some(Action::Job(changed)) => self.plc_link.update(|handshake| handshake.job_done(changed)),
                Some(Action::Say(level, words)) => log::log!(level, "{words}"),
                None => return,
            }
        }
    }

    fn commit(&mut self, entry: &Entry) {
        let jobs = &self.releases.jobs;
        let written = self.releases.store.update(|state| {
            let before = state.clone();
            entry.apply(jobs, state);
            before
        });
        let mut papers = self.desk.lock();
        if written.is_err() {
            let candidate = papers.candidate.take();
            papers.retired.extend(candidate);
        }
        papers.trials.written(written.map_err(|error| error.to_string()));
    }

    /// The state is for the next start: what cannot be written is said, and the station goes on.
    fn write(&self, change: impl FnOnce(&Jobs, &mut State)) {
        if let Err(error) = self.releases.store.update(|state| change(&self.releases.jobs, state)) {
            log::error!("the next start may have another bundle than the one that runs: {error}");
        }
    }

    fn tell(&mut self, asker: Asker, reply: &Reply) {
        let Some(connection) = self.askers.get(&asker) else { return };
        if !connection.tell(reply) || reply.is_final() {
            self.askers.remove(&asker);
            self.desk.lock().trials.leave(asker);
        }
    }

    /// Loads a bundle and replays its proof on this machine, on a thread of its own.
    fn begin_proof<'scope>(&self, scope: &'scope Scope<'scope, '_>, id: Id, finished: Sender<Proven>) {
        let (store, options, geometry) = (self.releases.store.clone(), self.options.clone(), self.geometry);
        let failed = finished.clone();
        let prove = move || {
            let proven = catch_unwind(AssertUnwindSafe(|| prove(&store, &options, geometry, &id)));
            let proven = proven.unwrap_or_else(|_| Err("the engine panicked in its proof".to_owned()));
            let _ = finished.send(proven); // there is room: one proof at a time
        };
        if let Err(error) = std::thread::Builder::new().name("prove".into()).spawn_scoped(scope, prove) {
            let _ = failed.send(Err(format!("cannot start a thread to prove it: {error}"))); // room as above
        }
    }
}

/// Tells the inspect thread that this thread is gone.
impl Drop for Attend {
    fn drop(&mut self) {
        self.desk.lock().attends = false;
    }
}

/// The bundle and its pipeline, proven at the lowest priority.
fn prove(store: &Store, options: &PipelineOptions, geometry: Geometry, id: &Id) -> Proven {
    // The threads of an engine have the priority of the thread that made them, so that it is proven on one. What it
    // computes is the same on any number.
    let alone =
        PipelineOptions { engine: crate::engine::Settings { threads: 1, ..options.engine.clone() }, ..options.clone() };
    let prove = || -> Result<(Bundle, Pipeline), String> {
        priority::lower(&format!("the thread that proves {id}"));
        let bundle = store.load(id, &options.engine.float_layers).map_err(|error| error.to_string())?.bundle;
        let mut pipeline = proof::require(&bundle, geometry, alone).map_err(|error| error.to_string())?;
        warm(&mut pipeline);
        Ok((bundle, pipeline))
    };
    let proven = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("proof".into()).spawn_scoped(scope, prove);
        let thread = thread.map_err(|error| format!("cannot start a thread to prove it: {error}"))?;
        thread.join().unwrap_or_else(|_| Err("the engine panicked in its proof".to_owned()))
    });
    let (bundle, mut pipeline) = proven?;
    // On what it was proven: with "auto" that is the CPU where TensorRT was refused. A GPU has no use for the threads.
    if options.engine.threads > 1 && !pipeline.is_tensorrt() {
        let proven = pipeline.options().engine.clone();
        let engine = crate::engine::Settings { threads: options.engine.threads, ..proven };
        let options = PipelineOptions { engine, ..options.clone() };
        pipeline = Pipeline::new(&bundle, geometry, options).map_err(|error| error.to_string())?;
        warm(&mut pipeline);
    }
    Ok(Ready { bundle: Arc::new(bundle), pipeline })
}
