//! What stands around the state machine in a station, without threads: a disk, a PLC, proofs, pipelines, and whoever
//! asks. It does what it is told, as the two threads do, and asserts after each step what must hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fcam::store::{Id, State};
use fcam::trial::{
    Action, Asker, Behind, Book, Entry, Installed, Jobs, Move, Reply, Request, Seen, TrialLimits, Trials, job_of,
};

pub const WATCH: TrialLimits = TrialLimits { parts: 3, faults: 1 };

pub fn id(text: &str) -> Id {
    Id::try_from(text.to_owned()).unwrap()
}

/// `1=a 2=b.2`.
pub fn jobs(text: &str) -> Jobs {
    let job = |pair: &str| pair.split_once('=').map(|(job, bundle)| (job.parse().unwrap(), bundle.parse().unwrap()));
    text.split_whitespace().map(|pair| job(pair).unwrap()).collect()
}

/// Installed on every camera here. What is in `UNPROVEN` fails its proof, what is in `MISFITS` fits no frames.
pub const INSTALLED: [&str; 9] = ["a.1", "a.2", "a.3", "a.9", "b.1", "b.2", "b.0", "c.1", "c.2"];
const UNPROVEN: [&str; 1] = ["a.9"];
const MISFITS: [&str; 1] = ["b.0"];

pub fn is_proven(id: &Id) -> bool {
    !UNPROVEN.contains(&id.to_string().as_str())
}

pub fn fits(id: &Id) -> bool {
    !MISFITS.contains(&id.to_string().as_str())
}

/// A bundle in memory; none: not an installed one.
type Pipeline = Option<Id>;

pub struct World {
    pub trials: Trials,
    jobs: Jobs,
    pub state: State,
    /// False: nothing can be written.
    pub disk: bool,
    /// Everything that was to be written so far was.
    whole: bool,
    proving: Option<Id>,
    /// Bundles that were proven and are on their way.
    candidate: Option<Id>,
    /// What was written down before the candidate was, and nothing else was written since.
    pub committed: Option<State>,
    gone: Vec<Asker>,
    /// Bundles that the PLC named, given up or not.
    chosen: BTreeSet<Id>,
    pub judging: Pipeline,
    pub standby: Option<Pipeline>,
    /// The job in force when what stands by judged.
    standby_job: u16,
    /// The PLC's job in force, and the release that it is shown.
    pub job: u16,
    pub release: u32,
    job_asked: VecDeque<u16>,
    pub job_done: Vec<bool>,
    pub seen: Seen,
    pub asked: BTreeMap<Asker, Request>,
    pub answers: BTreeMap<Asker, Vec<Reply>>,
    pub ended: bool,
}

impl World {
    /// A station that starts with an installed bundle, which is active.
    pub fn new(jobs: Jobs, start: &str, trial: bool) -> Self {
        let mut state = State::default();
        state.activate(&id(start));
        if !trial {
            state.pass(&id(start));
        }
        let job = job_of(&jobs, Some(&id(start)));
        Self {
            trials: Trials::new(jobs.clone(), WATCH, Some(id(start)), trial),
            jobs,
            state,
            disk: true,
            whole: true,
            proving: None,
            candidate: None,
            committed: None,
            gone: vec![],
            chosen: BTreeSet::new(),
            judging: Some(id(start)),
            standby: None,
            standby_job: 0,
            job,
            release: id(start).release(),
            job_asked: VecDeque::new(),
            job_done: vec![],
            seen: Seen { job, ..Seen::default() },
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            ended: false,
        }
    }

    pub fn ask(&mut self, request: Request) -> Asker {
        let asker = self.asked.len() as Asker + 1;
        self.asked.insert(asker, request.clone());
        self.answers.insert(asker, vec![]);
        self.trials.ask(asker, request);
        self.work();
        asker
    }

    pub fn activate(&mut self, bundle: &str) -> Asker {
        self.ask(Request::Activate(id(bundle)))
    }

    /// The PLC asks, if it does not wait already; the job that runs is done at once.
    pub fn ask_job(&mut self, job: u16) {
        if self.job_asked.is_empty() && job != self.job {
            self.job_asked.push_back(job);
            self.trials.ask_job(job);
            self.work();
        }
    }

    /// The proof that is under way ends.
    pub fn prove(&mut self) {
        let Some(id) = self.proving.take() else { return };
        let proven = if is_proven(&id) { Ok(()) } else { Err("its proof failed".to_owned()) };
        assert_eq!(self.candidate, None, "two candidates");
        self.candidate = proven.is_ok().then_some(id);
        self.trials.proven(proven);
        self.work();
    }

    /// Parts go by: `late` of them are late. All of them are told.
    pub fn parts(&mut self, good: u64, late: u64) {
        self.seen.judged += good + late;
        self.seen.told.verdicts += good + late;
        self.seen.told.parts += good + late;
        self.seen.told.faults += late;
    }

    /// Parts are judged that wait for their due times.
    pub fn judge(&mut self, parts: u64) {
        self.seen.judged += parts;
    }

    /// The inspect thread between two parts.
    pub fn turn(&mut self) {
        self.seen.job = self.job;
        match self.trials.turn(&self.seen) {
            Move::Install => self.install(),
            step => self.follow(step),
        }
        self.work();
    }

    /// The engine fails at a part.
    pub fn engine_fails(&mut self) {
        let step = self.trials.fail("the engine failed at a part", self.job);
        self.follow(step);
        self.work();
    }

    fn install(&mut self) {
        self.committed = None;
        let next = self.candidate.take().expect("what is to be installed was proven");
        if !fits(&next) {
            let step = self.trials.misfit("other frames".into());
            return self.follow(step);
        }
        let Installed { behind, release, job } = self.trials.installed(&self.seen).expect("it was ready");
        let (own, in_force) = (job_of(&self.jobs, Some(&next)), self.job);
        let comes = job.is_none() || own == 0 || in_force == 0 || own == in_force;
        assert!(comes, "{next} is for job {own}, and {in_force} is in force");
        let before = self.judging.replace(next.clone());
        match behind {
            Behind::Judged => (self.standby, self.standby_job) = (Some(before), self.job),
            Behind::Kept => assert!(self.standby.is_some(), "nothing stood by"),
            Behind::Nothing => self.standby = None,
        }
        self.release = release;
        match job {
            Some(job) => self.job = job,
            None => {
                self.chosen.insert(next.clone());
                self.answer_job(true);
            }
        }
        assert!(self.standby.as_ref() != Some(&self.judging), "{next} falls back to itself");
        let given_up = self.standby.iter().flatten().find(|id| self.is_given_up(id));
        assert!(given_up.is_none(), "{given_up:?} was given up, and stands by");
    }

    fn follow(&mut self, step: Move) {
        match step {
            Move::Stay => {}
            Move::Install => panic!("only a turn installs"),
            Move::Decline => {
                self.committed = None;
                assert!(self.candidate.take().is_some(), "nothing to decline");
            }
            Move::Release => assert!(self.standby.take().is_some(), "nothing stood by"),
            Move::Back(release) => {
                let before = self.standby.take().expect("something stands by");
                assert_ne!(before, self.judging, "it falls back to itself");
                assert_eq!(self.standby_job, self.job, "it falls back to another job's");
                let given_up = before.as_ref().is_some_and(|id| self.is_given_up(id));
                assert!(!given_up, "it falls back to {before:?}, which was given up");
                (self.judging, self.release) = (before, release);
            }
        }
    }

    fn is_given_up(&self, id: &Id) -> bool {
        self.whole && self.state.withdrawn.contains_key(id) && !self.chosen.contains(id)
    }

    fn answer_job(&mut self, changed: bool) {
        let job = self.job_asked.pop_front().expect("one answer for each job that was asked for");
        self.job_done.push(changed);
        if changed {
            self.job = job;
        }
    }

    /// The other thread: does what is to be done, and begins what waits.
    fn work(&mut self) {
        self.act();
        while !self.ended && self.trials.is_waiting() {
            let installed = INSTALLED.iter().map(|text| id(text)).collect();
            let book = Book { state: Ok(self.state.clone()), installed: Ok(installed) };
            self.trials.begin(&book, self.job);
            self.act();
        }
        self.check();
    }

    fn act(&mut self) {
        while let Some(action) = self.trials.next_action() {
            match action {
                Action::Prove(id) => assert_eq!(self.proving.replace(id), None, "two proofs at once"),
                Action::Commit(entry) => self.commit(&entry),
                Action::Enter(entry) => self.enter(|jobs, state| entry.apply(jobs, state)),
                Action::Undo(entry, before) => self.enter(|_, state| entry.undo(&before, state)),
                Action::Tell(asker, reply) => self.hear(asker, reply),
                Action::Job(changed) => self.answer_job(changed),
                Action::Say(_, words) => assert!(!words.is_empty() && !words.ends_with('.'), "{words}"),
            }
        }
    }

    fn commit(&mut self, entry: &Entry) {
        let before = self.state.clone();
        self.enter(|jobs, state| entry.apply(jobs, state));
        self.committed = self.disk.then(|| before.clone());
        if !self.disk {
            self.candidate = None;
        }
        self.trials.written(if self.disk { Ok(before) } else { Err("the disk is full".into()) });
    }

    fn enter(&mut self, change: impl FnOnce(&Jobs, &mut State)) {
        self.whole &= self.disk;
        self.committed = None;
        if self.disk {
            let before = self.state.withdrawn.clone();
            change(&self.jobs, &mut self.state);
            self.chosen.retain(|id| self.state.withdrawn.get(id) == before.get(id));
        }
    }

    fn hear(&mut self, asker: Asker, reply: Reply) {
        let said = self.answers.get_mut(&asker).expect("somebody asked");
        assert!(!said.iter().any(Reply::is_final), "{asker} was answered: {said:?}, then {reply:?}");
        said.push(reply);
    }

    fn check(&self) {
        assert_eq!(self.trials.running(), self.judging.as_ref(), "what judges");
        assert_eq!(self.trials.standby(), self.standby.as_ref().map(Option::as_ref), "what stands by");
        assert!(self.standby.is_none() || self.trials.is_on_trial(), "something stands by, and nothing is on trial");
        assert_eq!(self.release, self.judging.as_ref().map_or(0, Id::release), "the PLC is told of another release");
        assert!(self.proving.is_none() || self.candidate.is_none(), "two changes at once");
        // What judges was written down before, unless the PLC chose it.
        let known = self
            .judging
            .as_ref()
            .is_none_or(|id| self.state.history.contains(id) || self.state.withdrawn.contains_key(id));
        assert!(!self.whole || known || !self.job_done.is_empty(), "{:?} judges, and no start knows it", self.judging);
    }

    /// Everything that is under way comes to its end, without another part.
    pub fn settle(&mut self) {
        for _ in 0..100 {
            if self.proving.is_none() && self.candidate.is_none() && !self.trials.is_waiting() {
                break;
            }
            self.prove();
            self.turn();
        }
        assert!(self.proving.is_none() && self.candidate.is_none() && !self.trials.is_waiting(), "it never settles");
        assert!(self.job_asked.is_empty(), "a job without an answer");
        let open: Vec<_> = self.open().collect();
        assert!(open.is_empty() || self.trials.is_on_trial(), "without an answer: {open:?}");
    }

    /// Good parts come until no trial is left.
    pub fn finish(&mut self) {
        self.settle();
        self.seen.told.verdicts = self.seen.judged;
        for _ in 0..10 {
            self.turn(); // a part before the trial may have been told just now
            self.parts(WATCH.parts, 0);
            self.turn();
            self.settle();
        }
        assert!(!self.trials.is_on_trial(), "a trial without an end");
        assert_eq!(self.open().collect::<Vec<_>>(), Vec::<Asker>::new(), "without an answer");
    }

    pub fn end(&mut self) {
        self.ended = true;
        self.trials.end();
        self.act();
        assert!(self.job_asked.is_empty(), "a job without an answer");
    }

    pub fn leave(&mut self, asker: Asker) {
        self.trials.leave(asker);
        self.gone.push(asker);
    }

    /// Whoever listens and has no last word yet.
    pub fn open(&self) -> impl Iterator<Item = Asker> {
        let open =
            self.answers.iter().filter(|(asker, said)| !self.gone.contains(asker) && !said.iter().any(Reply::is_final));
        open.map(|(asker, _)| *asker)
    }

    /// The steps that somebody was told, by their names.
    pub fn said(&self, asker: Asker) -> Vec<String> {
        let word = |reply: &Reply| serde_json::to_value(reply).unwrap()["event"].as_str().unwrap().to_owned();
        self.answers[&asker].iter().map(word).collect()
    }

    /// The last word to somebody.
    pub fn last(&self, asker: Asker) -> &Reply {
        self.answers[&asker].last().unwrap()
    }
}
