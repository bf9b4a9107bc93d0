//! How a station is told to stop: once to drain, twice to leave everything where it is. Sleeps that must notice it go
//! through here.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::clock::{self, Timestamp};

/// How far a stop has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunState {
    /// Not asked for.
    Run,
    /// No new parts; those captured are judged, told and recorded.
    Drain,
    /// Parts that are not judged yet become faults; nothing waits for its due time.
    Halt,
}

/// A request to stop, shared between the station, its threads and whoever hears the signals.
///
/// ```
/// use fcam::station::{RunState, Stop};
///
/// let stop = Stop::default();
/// let heard = stop.clone(); // of the thread that hears the signals
/// assert_eq!(heard.press(), RunState::Drain); // what was captured is judged and told
/// heard.ask(RunState::Run);
/// assert_eq!(stop.state(), RunState::Drain); // a stop never goes back
/// ```
#[derive(Debug, Clone)]
pub struct Stop(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<RunState>,
    changed: Condvar,
}

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(Shared { state: Mutex::new(RunState::Run), changed: Condvar::new() }))
    }
}

impl Stop {
    /// Asks for a state; a stop never goes back.
    pub fn ask(&self, state: RunState) {
        let mut current = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        *current = (*current).max(state);
        self.0.changed.notify_all();
    }

    /// One more press: drain first, then at once.
    pub fn press(&self) -> RunState {
        self.ask(if self.state() == RunState::Run { RunState::Drain } else { RunState::Halt });
        self.state()
    }

    /// How far it has gone.
    pub fn state(&self) -> RunState {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until `until` (monotonic), or until the stop reaches `state`.
    pub(super) fn sleep(&self, until: Timestamp, state: RunState) {
        let mut current = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        while *current < state {
            let left = until.saturating_sub(clock::now());
            if left.is_zero() {
                return;
            }
            current = self.0.changed.wait_timeout(current, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_second_press_is_the_last_stage_and_wakes_sleepers() {
        let stop = Stop::default();
        let far = clock::now() + Duration::from_secs(60);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| stop.sleep(far, RunState::Halt));
            assert_eq!(stop.press(), RunState::Drain);
            stop.sleep(far, RunState::Drain);
            assert_eq!(stop.press(), RunState::Halt);
            sleeper.join().unwrap();
        });
        stop.ask(RunState::Drain);
        assert_eq!(stop.state(), RunState::Halt);
        assert!(clock::now() < far);
    }
}
