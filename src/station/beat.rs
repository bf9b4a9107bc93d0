//! Signs of life, given by the inspection loop itself: a loop that hangs gives none. HEARTBEAT on every output, and systemd's watchdog
//! (sd_watchdog_enabled(3)), which ends a process that does not feed it.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::line::Line;

/// The inspection loop wakes this often when no part comes.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);

/// What is fed.
pub(super) struct Beat {
    line: Line,
    /// Half of the time after which systemd takes the process for dead; none if it does not watch.
    watchdog: Option<Duration>,
    fed: Timestamp,
}

impl Beat {
    pub(super) fn new(line: Line) -> Self {
        Self { line, watchdog: sd_notify::watchdog_enabled().map(|limit| limit / 2), fed: Timestamp::ZERO }
    }

    /// Once a turn of the loop.
    pub(super) fn run(&mut self, now: Timestamp) {
        self.line.beat(now);
        if self.watchdog.is_some_and(|interval| now.saturating_sub(self.fed) >= interval) {
            self.fed = now;
            notify(sd_notify::NotifyState::Watchdog);
        }
    }
}

/// Tells systemd, if it listens.
pub(super) fn notify(state: sd_notify::NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::debug!("systemd was not told: {error}");
    }
}
