//! Which bundle judges, and how another one takes its place: one state machine. In: what the operator and the PLC ask
//! for, what was proven, how first parts go. Out: what the two threads around it are to do. The inspect thread gets a
//! [`Move`] between two parts; the thread that has bundles ready gets a list of [`Action`]s: prove, write down, answer.
//!
//! Pure: no clock, no disk, no pipeline, and no thread waits for another in it. What it refuses:
//! - Two changes at once. What is asked for meanwhile waits, the PLC before the operator.
//! - To let a bundle judge that was not proven here, or that is for another job than the PLC's.
//! - To fall back to the bundle that failed, to one that was given up, or to one that is for other parts. Where nothing
//!   else is left it judges on.
//! - To leave a request without an answer: each ends in exactly one that [`Reply::is_final`], however its bundle ends;
//!   only a trial that the end of the station cuts has none.

use std::collections::VecDeque;

use crate::store::{Id, State};

mod action;
mod answer;
mod entry;
mod first;

pub use action::{Action, Asker, Behind, Book, Installed, Move};
pub use answer::{Reply, Request};
pub use entry::{Entry, Jobs, MAX_STARTS, job_of, start};
pub use first::{ITS_OWN, Seen, Told, TrialLimits};

use entry::{before, took_its_place};
use first::First;

/// Why a bundle is given up that was rolled back.
pub const ROLLED_BACK: &str = "rolled back by the operator";

/// Requests that wait for those before them at most, and whoever waits for the end of one trial.
pub const MAX_WAITING: usize = 16;

/// Why nothing more is begun.
const ENDS: &str = "the station is about to end";

/// A bundle that can go on at once; no id: not an installed one.
#[derive(Debug, Clone)]
struct Standby {
    id: Option<Id>,
    /// The job that was in force when it judged.
    job: u16,
    /// It was rolled back meanwhile.
    given_up: bool,
}

/// A change that is under way: there is one at most.
#[derive(Debug, Clone)]
struct Change {
    id: Id,
    /// Its first parts will be watched.
    trial: bool,
    /// The job that it is for; 0 if there is none.
    job: u16,
    why: Why,
    step: Step,
    /// It failed while it was proven anew: why it does not judge.
    void: Option<String>,
}

/// Who wants a change.
#[derive(Debug, Clone)]
enum Why {
    /// The operator; the entry is committed before it judges.
    Asked(Asker, Entry),
    /// The PLC.
    Job,
    /// The bundle that judges failed, and nothing stood by.
    Failed(Id, String),
}

#[derive(Debug, Clone)]
enum Step {
    Proving,
    Writing,
    /// It may judge from the next part on; with what was written down before it was committed, if it was.
    Ready(Option<Box<State>>),
}

/// The state machine.
///
/// ```
/// use fcam::store::{Id, State};
/// use fcam::trial::{Action, Book, Jobs, Move, Reply, Request, Seen, TrialLimits, Trials};
///
/// let [old, new] = [6, 7].map(|counter| Id { name: "lid".into(), counter });
/// let limits = TrialLimits { parts: 50, faults: 2 };
/// let mut trials = Trials::new(Jobs::new(), limits, Some(old.clone()), false);
/// trials.ask(1, Request::Activate(new.clone()));
/// let book = Book { state: Ok(State::default()), installed: Ok(vec![old, new.clone()]) };
/// trials.begin(&book, 0);
/// let mut actions = std::iter::from_fn(|| trials.next_action()).filter(|action| !matches!(action, Action::Say(..)));
/// assert_eq!(actions.next(), Some(Action::Tell(1, Reply::Proving { bundle: new.clone() })));
/// assert_eq!(actions.next(), Some(Action::Prove(new)));
/// drop(actions);
/// assert_eq!(trials.turn(&Seen::default()), Move::Stay); // it is not proven: the old one judges on
/// ```
#[derive(Debug, Clone)]
pub struct Trials {
    jobs: Jobs,
    limits: TrialLimits,
    /// The installed bundle that judges; none if it is another one.
    running: Option<Id>,
    /// Its first parts, while they are watched.
    first: Option<First>,
    /// What goes on if it fails; none unless it is watched.
    standby: Option<Standby>,
    /// Why it is to be given up, while it judges on until another one is proven.
    failed: Option<String>,
    /// It is given up and judges nevertheless: nothing took its place.
    given_up: bool,
    change: Option<Change>,
    /// The job that the PLC asks for.
    job: Option<u16>,
    requests: VecDeque<(Asker, Request)>,
    /// Who waits for the end of the trial of what judges.
    askers: Vec<Asker>,
    actions: VecDeque<Action>,
}

impl Trials {
    /// A station that starts with a bundle; `trial`: its first parts are watched.
    pub fn new(jobs: Jobs, limits: TrialLimits, running: Option<Id>, trial: bool) -> Self {
        Self {
            jobs,
            limits,
            first: (trial && running.is_some()).then(|| First::new(&Seen::default())),
            running,
            standby: None,
            failed: None,
            given_up: false,
            change: None,
            job: None,
            requests: VecDeque::new(),
            askers: vec![],
            actions: VecDeque::new(),
        }
    }

    /// The installed bundle that judges; none if it is another one.
    pub fn running(&self) -> Option<&Id> {
        self.running.as_ref()
    }

    /// True while the first parts of the bundle that judges are watched.
    pub fn is_on_trial(&self) -> bool {
        self.first.is_some()
    }

    /// The bundle that would judge at once if the one on trial failed now; within, none if it is not an installed one.
    pub fn standby(&self) -> Option<Option<&Id>> {
        self.standby.as_ref().map(|standby| standby.id.as_ref())
    }

    /// The next thing for the thread that has bundles ready.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The operator asks.
    pub fn ask(&mut self, asker: Asker, request: Request) {
        if self.requests.len() >= MAX_WAITING {
            let reason = format!("{MAX_WAITING} requests wait already: ask again when they are answered");
            return self.tell(asker, Reply::Refused { reason });
        }
        self.requests.push_back((asker, request));
    }

    /// The client that asked is gone; what it asked for goes on.
    pub fn leave(&mut self, asker: Asker) {
        self.askers.retain(|other| *other != asker);
    }

    /// The PLC asks for a job, and no part is under way.
    pub fn ask_job(&mut self, job: u16) {
        self.job = Some(job);
    }

    /// True if a change waits and none is under way: [`Trials::begin`] is next.
    pub fn is_waiting(&self) -> bool {
        self.change.is_none() && (self.failed.is_some() || self.job.is_some() || !self.requests.is_empty())
    }

    /// Begins the next change: away from what failed, then what the PLC asks for, then what the operator does.
    /// `in_force`: the PLC's job.
    pub fn begin(&mut self, book: &Book, in_force: u16) {
        if self.change.is_some() {
            return;
        }
        if let Some((failed, reason)) = self.running.clone().zip(self.failed.clone()) {
            self.go_back(&failed, reason, book, in_force);
        } else if let Some(job) = self.job.take() {
            self.begin_job(job, book);
        } else if let Some((asker, request)) = self.requests.pop_front() {
            self.begin_request(asker, &request, book, in_force);
        }
    }

    /// The bundle before one that failed is not in memory: it failed right after a start, or after the PLC's change to
    /// its job. It is given up only for another one that is proven: one that knows other parts would be worse.
    fn go_back(&mut self, failed: &Id, reason: String, book: &Book, in_force: u16) {
        let state = book.state.as_ref().map_err(String::clone);
        let other = |state| before(&self.jobs, failed, state, in_force);
        match state.map(other) {
            Ok(Some(id)) => self.prove(id, false, Why::Failed(failed.clone(), reason)),
            Ok(None) => self.judge_on(failed, &reason, "no other bundle was active before it"),
            Err(error) => self.judge_on(failed, &reason, &error),
        }
    }

    fn judge_on(&mut self, failed: &Id, reason: &str, kept: &str) {
        self.failed = None;
        self.say(log::Level::Error, format!("{failed} judges on: {kept}"));
        self.enter(Entry::Pass(failed.clone()));
        self.answer(&Reply::Failed { bundle: failed.clone(), reason: format!("{reason}; but it judges on: {kept}") });
    }

    fn begin_job(&mut self, job: u16, book: &Book) {
        match self.bundle_of(job, book) {
            Ok((id, _)) if self.running.as_ref() == Some(&id) => self.act(Action::Job(true)),
            Ok((id, trial)) => self.prove_for(id, trial, job, Why::Job),
            Err(reason) => self.refuse_job(job, &reason),
        }
    }

    /// The release of a job, and whether its first parts are to be watched.
    fn bundle_of(&self, job: u16, book: &Book) -> Result<(Id, bool), String> {
        let reference = self.jobs.get(&job).ok_or("bundle.jobs in the station file does not have it")?;
        let (state, installed) =
            (book.state.as_ref().map_err(String::clone)?, book.installed.as_ref().map_err(String::clone)?);
        let id = state.release(reference, installed).ok_or_else(|| format!("{reference} is not installed"))?;
        let trial = state.trials.contains_key(&id);
        Ok((id, trial))
    }

    fn refuse_job(&mut self, job: u16, reason: &str) {
        self.say(log::Level::Warn, format!("job {job} is refused, and the job before it goes on: {reason}"));
        self.act(Action::Job(false));
    }

    fn begin_request(&mut self, asker: Asker, request: &Request, book: &Book, in_force: u16) {
        let begun = match request {
            Request::Activate(id) if self.is_settled(id, book) => {
                return self.tell(asker, Reply::Passed { bundle: id.clone() });
            }
            Request::Activate(id) if self.is_on_trial() && self.running.as_ref() == Some(id) => {
                return self.attach(asker, id);
            }
            Request::Activate(id) => Ok((id.clone(), Entry::Activate(id.clone()))),
            Request::Rollback => self.previous(book, in_force),
        };
        let (id, entry) = match begun {
            Ok(begun) => begun,
            Err(reason) => return self.tell(asker, Reply::Refused { reason }),
        };
        self.say(log::Level::Info, format!("{id} is asked for: it is proven while the bundle that runs goes on"));
        self.tell(asker, Reply::Proving { bundle: id.clone() });
        self.prove(id, matches!(entry, Entry::Activate(_)), Why::Asked(asker, entry));
    }

    /// True for the bundle that judges, is active, and through its first parts.
    fn is_settled(&self, id: &Id, book: &Book) -> bool {
        let settled = |state: &State| state.active() == Some(id) && !state.trials.contains_key(id);
        self.running.as_ref() == Some(id) && book.state.as_ref().is_ok_and(settled)
    }

    /// What judges on trial is asked for again: whoever asks hears the rest.
    fn attach(&mut self, asker: Asker, id: &Id) {
        if self.askers.len() >= MAX_WAITING {
            let reason = format!("{MAX_WAITING} wait for the end of this trial already");
            return self.tell(asker, Reply::Refused { reason });
        }
        self.enter(Entry::Keep(id.clone()));
        self.tell(asker, Reply::Running { bundle: id.clone(), watched: self.limits.parts });
        self.askers.push(asker);
    }

    /// What takes the place of the active bundle.
    fn previous(&self, book: &Book, in_force: u16) -> Result<(Id, Entry), String> {
        let state = book.state.as_ref().map_err(String::clone)?;
        let from = state.active().cloned().ok_or("no bundle is active")?;
        let to = before(&self.jobs, &from, state, in_force).ok_or("there is nothing to go back to")?;
        Ok((to.clone(), Entry::RollBack { from, to }))
    }

    fn prove(&mut self, id: Id, trial: bool, why: Why) {
        let job = job_of(&self.jobs, Some(&id));
        self.prove_for(id, trial, job, why);
    }

    fn prove_for(&mut self, id: Id, trial: bool, job: u16, why: Why) {
        self.act(Action::Prove(id.clone()));
        self.change = Some(Change { id, trial, job, why, step: Step::Proving, void: None });
    }

    /// What is under way was proven on this machine, or why it was not.
    pub fn proven(&mut self, proven: Result<(), String>) {
        let Some(mut change) = self.change.take_if(|change| matches!(change.step, Step::Proving)) else { return };
        if let Err(reason) = proven {
            return self.refuse(change, reason);
        }
        change.step = Step::Ready(None);
        match &change.why {
            _ if change.void.is_some() => {}
            Why::Asked(_, entry) => {
                self.act(Action::Commit(entry.clone()));
                change.step = Step::Writing;
            }
            Why::Job => {}
            Why::Failed(failed, reason) => {
                self.given_up = true;
                self.enter(Entry::Withdraw { id: failed.clone(), reason: reason.clone() });
                self.answer(&Reply::Failed { bundle: failed.clone(), reason: reason.clone() });
            }
        }
        self.change = Some(change);
    }

    /// What was to be committed is written down, with what stood there before; or why it is not.
    pub fn written(&mut self, written: Result<State, String>) {
        let Some(mut change) = self.change.take_if(|change| matches!(change.step, Step::Writing)) else { return };
        match written {
            Ok(before) => {
                if let Why::Asked(_, Entry::RollBack { from, .. }) = &change.why {
                    self.roll_back(from);
                }
                change.step = Step::Ready(Some(Box::new(before)));
                self.change = Some(change);
            }
            Err(reason) => self.refuse(change, reason),
        }
    }

    /// What is given up is nothing to fall back to, should it judge or stand by.
    fn roll_back(&mut self, from: &Id) {
        self.say(log::Level::Warn, format!("{from} is given up: {ROLLED_BACK}"));
        self.given_up |= self.running.as_ref() == Some(from);
        let standby = self.standby.as_mut().filter(|standby| standby.id.as_ref() == Some(from));
        standby.into_iter().for_each(|standby| standby.given_up = true);
    }

    /// Nothing comes of a change, and what judges goes on.
    fn refuse(&mut self, change: Change, reason: String) {
        let Change { id, job, why, .. } = change;
        match why {
            Why::Asked(asker, _) => {
                self.say(log::Level::Error, format!("{id} is refused, and the bundle that runs goes on: {reason}"));
                self.tell(asker, Reply::Failed { bundle: id, reason });
            }
            Why::Job => self.refuse_job(job, &reason),
            Why::Failed(failed, why) => self.judge_on(&failed, &why, &format!("{id} cannot take its place: {reason}")),
        }
    }

    /// True if there may be a [`Move`]: the counts need not be read otherwise.
    pub fn is_moving(&self) -> bool {
        self.is_ready() || self.first.is_some()
    }

    fn is_ready(&self) -> bool {
        self.change.as_ref().is_some_and(|change| matches!(change.step, Step::Ready(_)))
    }

    /// Between two parts: what is ready judges from the next one on, else the first parts of what judges are looked at.
    pub fn turn(&mut self, seen: &Seen) -> Move {
        let ready = self.change.take_if(|change| matches!(change.step, Step::Ready(_)));
        if let Some(change) = ready {
            if change.void.is_some() || change.is_for_other_parts(seen.job) {
                return self.decline(change);
            }
            self.change = Some(change);
            return Move::Install;
        }
        let limits = self.limits;
        match self.first.as_mut().and_then(|first| first.judge(limits, seen)) {
            Some(Ok(())) => self.pass(),
            Some(Err(reason)) => self.fail(&reason, seen.job),
            None => Move::Stay,
        }
    }

    /// It failed meanwhile, or it is for other parts: the PLC says which come.
    fn decline(&mut self, mut change: Change) -> Move {
        if let Some(reason) = change.void.take() {
            self.undo(&mut change);
            self.refuse(change, reason);
            return Move::Decline;
        }
        let Change { id, job, why, .. } = change;
        self.say(log::Level::Info, format!("{id} judges when the PLC asks for job {job}: another job is in force"));
        match why {
            Why::Asked(asker, _) => self.tell(asker, Reply::Waiting { bundle: id, job }),
            Why::Job => self.act(Action::Job(false)), // a job is never for other parts than its own
            Why::Failed(..) => self.failed = None,
        }
        Move::Decline
    }

    /// The candidate judges from the next part on.
    pub fn installed(&mut self, seen: &Seen) -> Option<Installed> {
        let change = self.change.take_if(|change| matches!(change.step, Step::Ready(_)))?;
        let by_plc = matches!(change.why, Why::Job);
        let old = self.running.replace(change.id.clone());
        let behind = self.stand_by(&change, old.as_ref(), seen.job);
        let was_on_trial = self.first.take().is_some();
        self.first = change.trial.then(|| First::new(seen));
        if let Some(old) = old.filter(|old| *old != change.id) {
            if was_on_trial {
                self.replace(old, &change);
            } else if let Some(reason) = self.failed.take() {
                self.spare(old, reason, &change.why);
            }
        }
        self.given_up = false;
        self.run(&change);
        let job = (!by_plc).then_some(change.job);
        Some(Installed { behind, release: change.id.release(), job })
    }

    /// What is on trial is nothing to fall back to: what judged before it is. Nor is what was given up, nor the bundle
    /// itself, nor one that is for other parts.
    fn stand_by(&mut self, change: &Change, old: Option<&Id>, job: u16) -> Behind {
        let useless = self.failed.is_some() || self.given_up;
        let (before, behind) = match self.standby.take() {
            kept if self.first.is_some() => (kept, Behind::Kept),
            _ if useless => (None, Behind::Nothing),
            _ => (Some(Standby { id: old.cloned(), job, given_up: false }), Behind::Judged),
        };
        let by_plc = matches!(change.why, Why::Job);
        let fits =
            |before: &Standby| change.trial && !by_plc && !before.given_up && before.id.as_ref() != Some(&change.id);
        self.standby = before.filter(fits);
        if self.standby.is_some() { behind } else { Behind::Nothing }
    }

    /// What was on trial does not judge any more.
    fn replace(&mut self, unproven: Id, change: &Change) {
        let by = change.id.clone();
        let by_plc = matches!(change.why, Why::Job);
        let job = job_of(&self.jobs, Some(&unproven));
        let bundle = unproven.clone();
        let reply = match &change.why {
            Why::Job if job != 0 => Reply::Waiting { bundle, job },
            Why::Job => {
                let reason = "the PLC changed to another job before its first parts were through: it is tried again at the next start";
                Reply::Failed { bundle, reason: reason.into() }
            }
            Why::Asked(_, Entry::RollBack { from, .. }) if *from == unproven => {
                Reply::Failed { bundle, reason: ROLLED_BACK.into() }
            }
            _ => Reply::Failed { bundle, reason: took_its_place(&by) },
        };
        let level = if by_plc { log::Level::Info } else { log::Level::Warn };
        self.say(level, format!("{by} takes the place of {unproven}, whose first parts were not through"));
        self.enter(Entry::Replace { unproven, by, asked: by_plc });
        self.answer(&reply);
    }

    /// What failed does not judge any more, because of another change that was under way already; or because it failed,
    /// which is written down.
    fn spare(&mut self, failed: Id, reason: String, why: &Why) {
        if matches!(why, Why::Failed(..)) {
            return;
        }
        self.enter(Entry::Spare { id: failed.clone(), reason: reason.clone() });
        self.answer(&Reply::Failed { bundle: failed, reason });
    }

    fn run(&mut self, change: &Change) {
        let Change { id, trial, why, .. } = change;
        self.say(
            log::Level::Info,
            format!("{id} runs{}", if *trial { ", and its first parts are watched" } else { "" }),
        );
        if let Why::Asked(asker, _) = why {
            self.askers.push(*asker);
        }
        self.answer(&match trial {
            true => Reply::Running { bundle: id.clone(), watched: self.limits.parts },
            false => Reply::Passed { bundle: id.clone() },
        });
    }

    /// The candidate does not fit the frames, and what judges goes on. What stands by does not fit either, if it is the
    /// same.
    pub fn misfit(&mut self, reason: String) -> Move {
        let Some(change) = self.change.take_if(|change| matches!(change.step, Step::Ready(_))) else {
            return Move::Stay;
        };
        let bundle = change.id;
        let same = self.standby.take_if(|standby| standby.id.as_ref() == Some(&bundle));
        self.say(log::Level::Error, format!("{bundle} is given up: {reason}"));
        self.enter(Entry::Withdraw { id: bundle.clone(), reason: reason.clone() });
        match change.why {
            Why::Asked(asker, _) => self.tell(asker, Reply::Failed { bundle, reason }),
            Why::Job => self.act(Action::Job(false)),
            Why::Failed(..) => self.failed = None,
        }
        if same.is_some() { Move::Release } else { Move::Stay }
    }

    fn pass(&mut self) -> Move {
        self.first = None;
        if let Some(bundle) = self.running.clone() {
            self.say(log::Level::Info, format!("{bundle} is through its first parts"));
            self.enter(Entry::Pass(bundle.clone()));
            self.answer(&Reply::Passed { bundle });
        }
        if self.standby.take().is_some() { Move::Release } else { Move::Stay }
    }

    /// What judges failed. If it is on trial, what stands by judges again, unless that is for the parts of another job
    /// than the one in force; then another one is looked for, and it judges until that is proven.
    pub fn fail(&mut self, reason: &str, in_force: u16) -> Move {
        let Some(failed) = self.first.take().and(self.running.clone()) else { return Move::Stay };
        self.say(log::Level::Error, format!("{failed} is given up: {reason}"));
        let again = self.change.as_mut().filter(|change| change.id == failed);
        again.into_iter().for_each(|change| change.void = Some(reason.to_owned()));
        match self.standby.take() {
            Some(Standby { id, job, given_up: false }) if job == in_force => self.fall_back(failed, reason, id),
            needless => {
                self.failed = Some(reason.to_owned());
                if needless.is_some() { Move::Release } else { Move::Stay }
            }
        }
    }

    fn fall_back(&mut self, failed: Id, reason: &str, to: Option<Id>) -> Move {
        let name = to.as_ref().map_or("the bundle before it".into(), Id::to_string);
        self.say(log::Level::Warn, format!("{name} judges again"));
        self.enter(Entry::Withdraw { id: failed.clone(), reason: reason.into() });
        self.answer(&Reply::Failed { bundle: failed, reason: reason.into() });
        let release = to.as_ref().map_or(0, Id::release);
        self.running = to;
        self.given_up = false;
        Move::Back(release)
    }

    /// The station ends: nothing is begun any more, and what was committed and never judged is taken back.
    pub fn end(&mut self) {
        let reason = || ENDS.to_owned();
        if let Some(mut change) = self.change.take() {
            self.undo(&mut change);
            match change.why {
                Why::Asked(asker, _) => self.tell(asker, Reply::Failed { bundle: change.id, reason: reason() }),
                Why::Job => self.act(Action::Job(false)),
                Why::Failed(..) => {}
            }
        }
        if self.job.take().is_some() {
            self.act(Action::Job(false));
        }
        for (asker, request) in std::mem::take(&mut self.requests) {
            self.tell(
                asker,
                match request {
                    Request::Activate(bundle) => Reply::Failed { bundle, reason: reason() },
                    Request::Rollback => Reply::Refused { reason: reason() },
                },
            );
        }
    }

    /// What was committed is taken back.
    fn undo(&mut self, change: &mut Change) {
        if let (Why::Asked(_, entry), Step::Ready(before)) = (&change.why, &mut change.step)
            && let Some(before) = before.take()
        {
            let entry = entry.clone();
            self.act(Action::Undo(entry, before));
        }
    }

    /// To whoever waits for the end of what judges.
    fn answer(&mut self, reply: &Reply) {
        let tell = |asker: &Asker| Action::Tell(*asker, reply.clone());
        self.actions.extend(self.askers.iter().map(tell));
        if reply.is_final() {
            self.askers.clear();
        }
    }

    fn tell(&mut self, asker: Asker, reply: Reply) {
        self.act(Action::Tell(asker, reply));
    }

    fn enter(&mut self, entry: Entry) {
        self.act(Action::Enter(entry));
    }

    fn say(&mut self, level: log::Level, words: String) {
        self.act(Action::Say(level, words));
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }
}

impl Change {
    /// It is for another job than the PLC's. What the PLC asks for never is.
    fn is_for_other_parts(&self, in_force: u16) -> bool {
        !matches!(self.why, Why::Job) && self.job != 0 && in_force != 0 && self.job != in_force
    }
}
