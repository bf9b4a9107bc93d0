//! Keeps pictures that cost nothing to fetch to a frame rate, as a real camera would.

use std::time::Duration;

use crate::clock::{self, Timestamp};

/// The rhythm of a camera that has none of its own.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    due: Option<Timestamp>,
}

impl Pace {
    /// A rate that is missing or not positive is no pace: every frame is due at once.
    pub(super) fn new(frames_per_second: Option<f64>) -> Self {
        let seconds = frames_per_second.filter(|rate| *rate > 0.0).map_or(0.0, |rate| 1.0 / rate);
        Self { interval: Duration::try_from_secs_f64(seconds).unwrap_or_default(), due: None }
    }

    /// Sleeps until the next frame is due; false if the deadline comes first, and then the frame stays due.
    pub(super) fn wait(&mut self, deadline: Timestamp) -> bool {
        if self.interval.is_zero() {
            return true;
        }
        let now = clock::now();
        let due = self.due.unwrap_or(now);
        std::thread::sleep(due.min(deadline).saturating_sub(now));
        if due > deadline {
            return false;
        }
        // A caller that asks late starts a new rhythm and gets no burst.
        self.due = Some(due.saturating_add(self.interval).max(now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rate_is_no_pace() {
        for rate in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(1e-300)] {
            let mut pace = Pace::new(rate);
            assert!(pace.wait(Timestamp::ZERO) && pace.wait(Timestamp::ZERO), "{rate:?}");
        }
    }

    #[test]
    fn keeps_the_rate_and_the_deadline() {
        let mut pace = Pace::new(Some(50.0));
        let start = clock::now();
        let far = start + Duration::from_secs(60);
        assert!((0..4).all(|_| pace.wait(far)));
        assert!(clock::now() - start >= Duration::from_millis(60));
        assert!(!pace.wait(clock::now() + Duration::from_millis(1)));
        assert!(pace.wait(far));
    }
}
