//! What of a trial is written down, for the next start. In: an entry, and the state as it stands. Out: the state after
//! it.
//!
//! An entry says what happened, not what the state is to be: others write it too (`fcam bundle install`), and what they
//! wrote stays.

use std::collections::BTreeMap;

use super::ROLLED_BACK;
use crate::store::{Id, Reference, State};

/// A bundle on trial with which the station started this often, without judging all of its first parts, is given up.
pub const MAX_STARTS: u32 = 3;

/// The bundle of each job that the PLC may ask for.
pub type Jobs = BTreeMap<u16, Reference>;

/// The job that a bundle is for; 0 if there is none. A job that names its very release counts before one that names the
/// bundle.
///
/// ```
/// use fcam::store::Id;
/// use fcam::trial::{Jobs, job_of};
///
/// let jobs = Jobs::from([(1, "lid".parse()?), (2, "lid.7".parse()?)]);
/// let job = |counter| job_of(&jobs, Some(&Id { name: "lid".into(), counter }));
/// assert_eq!((job(6), job(7)), (1, 2)); // the release that is named before the name
/// # Ok::<(), String>(())
/// ```
pub fn job_of(jobs: &Jobs, id: Option<&Id>) -> u16 {
    let Some(id) = id else { return 0 };
    let find = |counter| jobs.iter().find(|(_, job)| job.name == id.name && job.counter == counter);
    find(Some(id.counter)).or_else(|| find(None)).map_or(0, |(job, _)| *job)
}

/// The station starts. Returns a bundle that was given up now: it was on trial, and the station ended again and again.
pub fn start(state: &mut State) -> Option<(Id, String)> {
    let id = state.active()?.clone();
    let starts = state.trials.get_mut(&id)?;
    if *starts < MAX_STARTS {
        *starts += 1;
        return None;
    }
    let starts = *starts;
    state.previous()?; // without another one this is still the best there is
    let reason = format!("the station started {starts} times with it and never got through its first parts");
    state.withdraw(&id, &reason);
    Some((id, reason))
}

/// Something that the next start must know.
///
/// ```
/// use fcam::store::{Id, State};
/// use fcam::trial::{Entry, Jobs};
///
/// let [old, new] = [6, 7].map(|counter| Id { name: "lid".into(), counter });
/// let mut state = State::default();
/// state.activate(&old);
/// state.activate(&new);
/// Entry::RollBack { from: new.clone(), to: old.clone() }.apply(&Jobs::new(), &mut state);
/// assert_eq!(state.active(), Some(&old));
/// assert_eq!(state.withdrawn[&new], "rolled back by the operator");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The operator wants it, and it is proven.
    Activate(Id),
    /// The operator wants what judges already, on trial.
    Keep(Id),
    /// The operator gives `from` up and wants what was before it.
    RollBack {
        /// What was active.
        from: Id,
        /// What takes its place.
        to: Id,
    },
    /// Its first parts are through, or there is nothing better.
    Pass(Id),
    /// It failed, and another one judges.
    Withdraw {
        /// The bundle that failed.
        id: Id,
        /// Why.
        reason: String,
    },
    /// The same, but only if its parts have another bundle that was active besides it.
    Spare {
        /// The bundle that failed.
        id: Id,
        /// Why.
        reason: String,
    },
    /// Another one took the place of a bundle on trial.
    Replace {
        /// What was on trial.
        unproven: Id,
        /// What judges now.
        by: Id,
        /// The PLC wanted that: the trial goes on when its parts come again.
        asked: bool,
    },
}

impl Entry {
    /// Writes it into the state.
    pub fn apply(&self, jobs: &Jobs, state: &mut State) {
        match self {
            Self::Activate(id) => state.activate(id),
            Self::Keep(id) => state.ensure_active(id),
            Self::RollBack { from, to } => roll_back(state, from, to),
            Self::Pass(id) => state.pass(id),
            Self::Withdraw { id, reason } => state.withdraw(id, reason),
            Self::Spare { id, reason } => match is_spare(jobs, id, id, state) {
                true => state.withdraw(id, reason),
                false => state.pass(id),
            },
            Self::Replace { unproven, by, asked } => replace(jobs, state, unproven, by, *asked),
        }
    }
}

impl Entry {
    /// Takes back what a commit changed: what it was about is as it was `before`. Whatever else changed since stays.
    pub fn undo(&self, before: &State, state: &mut State) {
        match self {
            Self::Activate(id) => restore(id, before, state),
            Self::RollBack { from, to } => [from, to].into_iter().for_each(|id| restore(id, before, state)),
            _ => {} // never committed
        }
    }
}

/// A bundle's place in the history, its trial, and why it was given up; what failed since stays given up.
fn restore(id: &Id, before: &State, state: &mut State) {
    if state.withdrawn.get(id).is_some_and(|reason| reason != ROLLED_BACK) {
        return;
    }
    state.history.retain(|other| other != id);
    state.trials.remove(id);
    state.withdrawn.remove(id);
    if let Some(place) = before.history.iter().position(|other| other == id) {
        let earlier = before.history.get(..place).unwrap_or_default();
        let after = state.history.iter().rposition(|other| earlier.contains(other));
        state.history.insert(after.map_or(0, |after| after + 1), id.clone());
    }
    state.trials.extend(before.trials.get_key_value(id).map(|(id, starts)| (id.clone(), *starts)));
    state.withdrawn.extend(before.withdrawn.get_key_value(id).map(|(id, reason)| (id.clone(), reason.clone())));
}

/// What failed while the other one was proven has its own reason, and is not given up again.
fn roll_back(state: &mut State, from: &Id, to: &Id) {
    if state.history.contains(from) {
        state.withdraw(from, ROLLED_BACK);
    }
    if state.active().is_none() {
        state.activate(to);
    }
}

/// A bundle that was on trial and does not judge any more. One that the PLC's job took the parts from is tried again
/// when they come; another one that the operator wanted in its place makes it nothing to start with, or to go back to,
/// if there is one that is through.
fn replace(jobs: &Jobs, state: &mut State, unproven: &Id, by: &Id, asked: bool) {
    state.pause(unproven);
    let given_up = !state.trials.contains_key(unproven); // rolled back
    let same = job_of(jobs, Some(unproven)) == job_of(jobs, Some(by));
    if !asked && same && !given_up && is_spare(jobs, unproven, by, state) {
        state.withdraw(unproven, &took_its_place(by));
    }
}

/// Why a bundle on trial is given up for another one.
pub(super) fn took_its_place(by: &Id) -> String {
    format!("{by} took its place before its first parts were through")
}

/// Its parts have others that were active, besides it and one more.
fn is_spare(jobs: &Jobs, id: &Id, and: &Id, state: &State) -> bool {
    let job = job_of(jobs, Some(id));
    state.history.iter().any(|other| ![id, and].contains(&other) && job_of(jobs, Some(other)) == job)
}

/// What was active before a bundle: while the PLC's job is its own the release before it, because others are for other
/// parts.
pub(super) fn before(jobs: &Jobs, id: &Id, state: &State, in_force: u16) -> Option<Id> {
    let mut others = state.history.iter().filter(|other| *other != id);
    let job = job_of(jobs, Some(id));
    if job == 0 || job != in_force {
        return others.next_back().cloned();
    }
    let fits = |other: &&Id| other.name == id.name && [0, job].contains(&job_of(jobs, Some(other)));
    others.rfind(fits).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(counter: u64) -> Id {
        Id { name: "a".into(), counter }
    }

    #[test]
    fn a_bundle_on_trial_has_three_starts() {
        let mut state = State::default();
        state.activate(&id(1));
        state.activate(&id(2));
        (0..MAX_STARTS).for_each(|_| assert_eq!(start(&mut state), None));
        let (given_up, reason) = start(&mut state).unwrap();
        assert_eq!((given_up, state.active()), (id(2), Some(&id(1))));
        assert!(reason.contains("3 times"), "{reason}");
        assert_eq!(start(&mut state), None);

        state.activate(&id(2));
        (0..10).for_each(|_| {
            assert_eq!(start(&mut state), None);
            state.pause(&id(2)); // the PLC changes to another job
        });
        state.pause(&id(1));
        assert_eq!(state.trials.keys().collect::<Vec<_>>(), [&id(1), &id(2)]);

        let mut only = State::default();
        only.activate(&id(1));
        assert!((0..10).all(|_| start(&mut only).is_none()));
        assert_eq!(only.active(), Some(&id(1)));
    }
}
