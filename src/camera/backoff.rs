//! The pause before a camera is tried again: 0.1 s, doubled each time up to 5 s, until a frame comes.

use std::time::Duration;

use crate::clock::{self, Timestamp};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// When the next try is due.
#[derive(Debug)]
pub(super) struct Backoff {
    pause: Duration,
    due: Timestamp,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pause: FIRST, due: Timestamp::ZERO }
    }
}

impl Backoff {
    /// A try has failed at `now`.
    pub(super) fn failed(&mut self, now: Timestamp) {
        self.due = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST);
    }

    /// All is well: the next pause is the shortest again.
    pub(super) fn reset(&mut self) {
        self.pause = FIRST;
    }

    /// Sleeps until the next try is due; false if the deadline comes first.
    pub(super) fn wait(&self, deadline: Timestamp) -> bool {
        std::thread::sleep(self.due.min(deadline).saturating_sub(clock::now()));
        self.due <= deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_five_seconds_and_start_anew() {
        let mut backoff = Backoff::default();
        let mut pauses = vec![];
        for _ in 0..8 {
            backoff.failed(Timestamp::from_secs(9));
            pauses.push((backoff.due - Timestamp::from_secs(9)).as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        backoff.failed(Timestamp::ZERO);
        assert_eq!(backoff.due, FIRST);
    }

    #[test]
    fn waits_no_longer_than_the_deadline() {
        let mut backoff = Backoff::default();
        assert!(backoff.wait(Timestamp::ZERO));
        let start = clock::now();
        backoff.failed(start);
        assert!(!backoff.wait(start + Duration::from_millis(5)) && clock::now() - start < FIRST);
        assert!(backoff.wait(start + 2 * FIRST) && clock::now() - start >= FIRST);
    }
}
