//! Trials once more, and differently: nothing is ever under way. Each event is carried to its end at once, in the words
//! of board/bundles.md.

use std::collections::{BTreeMap, BTreeSet};

use fcam::store::{Id, Reference};
use fcam::trial::Jobs;

use super::world::{INSTALLED, WATCH, fits, id, is_proven};

#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    jobs: Jobs,
    pub judging: Option<Id>,
    /// Parts and faults of a trial.
    pub trial: Option<(u64, u64)>,
    /// What goes on if it fails, and the job that was in force then.
    pub behind: Option<(Option<Id>, u16)>,
    /// It was given up while it stood by.
    behind_spoilt: bool,
    pub job: u16,
    /// Bundles that were active, the active one last.
    pub history: Vec<Id>,
    /// Those that are not through.
    pub unproven: BTreeSet<Id>,
    pub given_up: BTreeSet<Id>,
    /// What judges was given up while it did.
    spoilt: bool,
}

impl Model {
    pub fn new(jobs: Jobs, start: &str, trial: bool) -> Self {
        let start = id(start);
        let mut new = Self {
            jobs,
            judging: Some(start.clone()),
            trial: trial.then_some((0, 0)),
            behind: None,
            behind_spoilt: false,
            job: 0,
            history: vec![start.clone()],
            unproven: trial.then(|| start.clone()).into_iter().collect(),
            given_up: BTreeSet::new(),
            spoilt: false,
        };
        new.job = new.job_of(&start);
        new
    }

    fn job_of(&self, id: &Id) -> u16 {
        let by: BTreeMap<String, u16> = self.jobs.iter().map(|(job, bundle)| (bundle.to_string(), *job)).collect();
        by.get(&id.to_string()).or(by.get(&id.name)).copied().unwrap_or(0)
    }

    pub fn activate(&mut self, id: &Id) {
        let settled = self.history.last() == Some(id) && !self.unproven.contains(id);
        if self.judging.as_ref() == Some(id) && (settled || self.trial.is_some()) {
            if self.history.last() != Some(id) {
                self.make_active(id);
            }
            return;
        }
        if is_proven(id) {
            self.make_active(id);
            self.take(id, true);
        }
    }

    fn make_active(&mut self, id: &Id) {
        self.history.retain(|other| other != id);
        self.history.push(id.clone());
        self.unproven.insert(id.clone());
        self.given_up.remove(id);
    }

    fn give_up(&mut self, id: &Id) {
        self.history.retain(|other| other != id);
        self.unproven.remove(id);
        self.given_up.insert(id.clone());
        self.spoilt |= self.judging.as_ref() == Some(id);
        self.behind_spoilt |= self.behind.as_ref().is_some_and(|behind| behind.0.as_ref() == Some(id));
    }

    pub fn roll_back(&mut self) {
        let Some(active) = self.history.last().cloned() else { return };
        let Some(before) = self.before(&active).filter(is_proven) else { return };
        self.give_up(&active);
        self.take(&before, false);
    }

    /// While a bundle's job is in force the release before it, else what was active before it.
    fn before(&self, id: &Id) -> Option<Id> {
        let others: Vec<&Id> = self.history.iter().filter(|other| *other != id).collect();
        let job = self.job_of(id);
        let fits = |other: &&&Id| other.name == id.name && [0, job].contains(&self.job_of(other));
        let found = if job != 0 && job == self.job { others.iter().rfind(fits) } else { others.last() };
        found.map(|id| (*id).clone())
    }

    /// Proven and active: it judges now, if its parts come.
    fn take(&mut self, id: &Id, trial: bool) {
        let own = self.job_of(id);
        if own != 0 && self.job != 0 && own != self.job {
            return;
        }
        if !fits(id) {
            self.give_up(id);
            if self.behind.as_ref().is_some_and(|behind| behind.0.as_ref() == Some(id)) {
                self.behind = None;
            }
            return;
        }
        let before = match (&self.trial, self.spoilt) {
            (Some(_), _) => self.behind.take().filter(|_| !self.behind_spoilt),
            (None, true) => None,
            (None, false) => {
                self.behind_spoilt = false;
                Some((self.judging.clone(), self.job))
            }
        };
        self.behind = before.filter(|before| trial && before.0.as_ref() != Some(id));
        self.replace_by(id, false);
        (self.judging, self.spoilt) = (Some(id.clone()), false);
        (self.trial, self.job) = (trial.then_some((0, 0)), own);
    }

    /// What is on trial does not judge any more: given up, if its parts have another one that is through.
    fn replace_by(&mut self, id: &Id, plc: bool) {
        let Some(unproven) = self.judging.clone().filter(|other| self.trial.is_some() && other != id) else { return };
        let job = self.job_of(&unproven);
        let others = |other: &&Id| **other != unproven && *other != id && self.job_of(other) == job;
        let spare = self.history.iter().any(|other| others(&other));
        if !plc && self.unproven.contains(&unproven) && self.job_of(id) == job && spare {
            self.give_up(&unproven);
        }
    }

    pub fn ask_job(&mut self, job: u16) {
        let Some(id) = self.jobs.get(&job).and_then(|bundle| self.release(bundle)).filter(|_| job != self.job) else {
            return;
        };
        if self.judging.as_ref() == Some(&id) {
            self.job = job;
            return;
        }
        if !is_proven(&id) {
            return;
        }
        if !fits(&id) {
            return self.give_up(&id);
        }
        let trial = self.unproven.contains(&id);
        self.replace_by(&id, true);
        self.behind = None;
        (self.judging, self.spoilt) = (Some(id), false);
        (self.trial, self.job) = (trial.then_some((0, 0)), job);
    }

    /// The release that is named, or that was activated last, or the newest that was not given up.
    fn release(&self, bundle: &Reference) -> Option<Id> {
        if let Some(counter) = bundle.counter {
            return INSTALLED.iter().map(|text| id(text)).find(|id| id.name == bundle.name && id.counter == counter);
        }
        let last = self.history.iter().rfind(|id| id.name == bundle.name).cloned();
        let known = INSTALLED.iter().map(|text| id(text)).filter(|id| id.name == bundle.name);
        last.or_else(|| known.filter(|id| !self.given_up.contains(id)).max())
    }

    pub fn parts(&mut self, good: u64, late: u64) {
        self.trial = self.trial.map(|(parts, faults)| (parts + good + late, faults + late));
        self.judge();
    }

    /// How the first parts stand.
    pub fn judge(&mut self) {
        let Some((parts, faults)) = self.trial else { return };
        if faults > WATCH.faults {
            self.fail();
        } else if parts >= WATCH.parts {
            (self.trial, self.behind) = (None, None);
            if let Some(id) = &self.judging {
                self.unproven.remove(id);
            }
        }
    }

    /// What judges fails at a part.
    pub fn fail(&mut self) {
        let Some(failed) = self.trial.take().and(self.judging.clone()) else { return };
        if let Some((before, _)) = self.behind.take().filter(|(_, job)| *job == self.job && !self.behind_spoilt) {
            self.give_up(&failed);
            (self.judging, self.spoilt) = (before, false);
            return;
        }
        match self.before(&failed).filter(is_proven) {
            Some(before) => {
                self.give_up(&failed);
                self.take(&before, false);
            }
            None => drop(self.unproven.remove(&failed)),
        }
    }
}
