//! Which installed bundle is active, which were before it, and which were given up. Plain data, `state.json`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, Id, Reference};

/// Bundles that were active, remembered at most: some for each of many jobs.
const MAX_HISTORY: usize = 64;

/// What is active, on trial and withdrawn.
///
/// ```
/// use fcam::store::{Id, State};
///
/// let [old, new] = [6, 7].map(|counter| Id { name: "lid".into(), counter });
/// let mut state = State::default();
/// state.activate(&old);
/// state.pass(&old);
/// state.activate(&new);
/// assert!(state.active() == Some(&new) && state.trials.contains_key(&new)); // its first parts are watched
/// state.withdraw(&new, "too slow");
/// assert_eq!((state.active(), state.withdrawn[&new].as_str()), (Some(&old), "too slow"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Bundles that were activated, the active one last.
    pub history: Vec<Id>,
    /// Those whose first parts are not through, and the starts of the station with each.
    pub trials: BTreeMap<Id, u32>,
    /// Bundles that were given up, and why.
    pub withdrawn: BTreeMap<Id, String>,
    /// Bundles that the PLC may ask for, as the station file of the last start names them.
    pub jobs: Vec<Reference>,
}

impl State {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let damaged = |reason: String| Error::State { path: path.into(), reason };
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Error::Disk { action: "read", path: path.into(), source }),
        }
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).map_or(String::new(), |text| text + "\n")
    }

    /// Forgets what is installed no more.
    pub(super) fn forget(&mut self, installed: &[Id]) {
        self.history.retain(|id| installed.contains(id));
        self.withdrawn.retain(|id, _| installed.contains(id));
        self.trials.retain(|id, _| self.history.contains(id));
    }

    /// The bundle that runs, or will with the next start.
    pub fn active(&self) -> Option<&Id> {
        self.history.last()
    }

    /// The one that ran before it.
    pub fn previous(&self) -> Option<&Id> {
        self.history.iter().nth_back(1)
    }

    /// The release that the PLC gets: the one that is named, or that was activated last, or the newest that was not
    /// given up.
    pub fn release(&self, reference: &Reference, installed: &[Id]) -> Option<Id> {
        let of_name = |id: &&Id| id.name == reference.name;
        let newest = || installed.iter().filter(of_name).filter(|id| !self.withdrawn.contains_key(id)).max();
        let found = match reference.counter {
            Some(counter) => installed.iter().filter(of_name).find(|id| id.counter == counter),
            None => self.history.iter().rfind(of_name).or_else(newest),
        };
        found.cloned()
    }

    /// A bundle becomes the active one, on trial.
    pub fn activate(&mut self, id: &Id) {
        self.withdrawn.remove(id);
        self.history.retain(|other| other != id);
        self.history.push(id.clone());
        let surplus = self.history.len().saturating_sub(MAX_HISTORY);
        for forgotten in self.history.drain(..surplus) {
            self.trials.remove(&forgotten);
        }
        self.trials.insert(id.clone(), 0);
    }

    /// The same, but one that is active already is not tried anew: what is known of its starts and its first parts
    /// stays.
    pub fn ensure_active(&mut self, id: &Id) {
        if self.active() != Some(id) {
            self.activate(id);
        }
    }

    /// It was stopped before its first parts were through, and not by a fault of it: its starts are forgotten.
    pub fn pause(&mut self, id: &Id) {
        if let Some(starts) = self.trials.get_mut(id) {
            *starts = 0;
        }
    }

    /// The first parts of a bundle are through.
    pub fn pass(&mut self, id: &Id) {
        self.trials.remove(id);
    }

    /// A bundle is given up; the one before it is active again.
    pub fn withdraw(&mut self, id: &Id, reason: &str) {
        self.history.retain(|other| other != id);
        self.withdrawn.insert(id.clone(), reason.to_owned());
        self.pass(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(counter: u64) -> Id {
        Id { name: "a".into(), counter }
    }

    #[test]
    fn activate_withdraw_and_go_back() {
        let mut state = State::default();
        (1..=99).for_each(|counter| state.activate(&id(counter)));
        assert_eq!(
            (state.active(), state.previous(), state.history.len()),
            (Some(&id(99)), Some(&id(98)), MAX_HISTORY)
        );
        state.withdraw(&id(99), "bad");
        assert_eq!(
            (state.active(), state.previous(), state.trials.len()),
            (Some(&id(98)), Some(&id(97)), MAX_HISTORY - 1)
        );
        state.activate(&id(99));
        assert!(state.withdrawn.is_empty());
        state.pass(&id(98));
        assert!(state.trials.contains_key(&id(99)), "another one");
        state.pass(&id(99));
        assert!(!state.trials.contains_key(&id(99)));
        state.forget(&[id(93), id(98)]);
        assert_eq!((&state.history[..], &state.trials), (&[id(93), id(98)][..], &[(id(93), 0)].into()));
        assert_eq!(serde_json::from_str::<State>(&state.text()).unwrap(), state);
    }

    #[test]
    fn a_job_has_the_release_that_was_activated_or_the_newest_good_one() {
        let lid = Id { name: "lid".into(), counter: 9 };
        let installed = [id(1), id(2), id(3), lid.clone()];
        let mut state = State::default();
        let release = |state: &State, reference: &str| state.release(&reference.parse().unwrap(), &installed);
        assert_eq!(
            (release(&state, "a"), release(&state, "a.2"), release(&state, "a.4")),
            (Some(id(3)), Some(id(2)), None)
        );
        state.withdraw(&id(3), "bad");
        assert_eq!((release(&state, "a"), release(&state, "a.3")), (Some(id(2)), Some(id(3))));
        state.activate(&id(1));
        state.activate(&lid);
        assert_eq!(
            (release(&state, "a"), release(&state, "lid"), release(&state, "b")),
            (Some(id(1)), Some(lid), None)
        );
    }
}
