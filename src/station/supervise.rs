//! The supervisor's thread. In: the watchdogs of all others. Out: HEARTBEAT on every output, systemd's watchdog
//! (sd_watchdog_enabled(3)), and a line in the log for each thread that hangs.
//!
//! It decides nothing that a reader of the status does not find out by itself ([`crate::watchdog`]): should it hang,
//! HEARTBEAT stops, and systemd ends the process. It feeds neither while a vital thread hangs.

use std::time::Duration;

use super::temperature::Sensor;
use crate::clock::{self, Timestamp};
use crate::plc_link::PlcLink;
use crate::watchdog::{LOOK, SILENCE, Watchdog};

/// The supervisor.
pub(super) struct Supervise {
    plc_link: PlcLink,
    sensor: Sensor,
    watchdog: Watchdog,
    /// Half of the time after which systemd takes the process for dead; none if it does not watch.
    systemd: Option<Duration>,
    fed: Timestamp,
    hung: Vec<&'static str>,
}

impl Supervise {
    pub(super) fn new(plc_link: PlcLink, watchdog: Watchdog) -> Self {
        let systemd = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Self { plc_link, sensor: Sensor::default(), watchdog, systemd, fed: Timestamp::ZERO, hung: vec![] }
    }

    /// Until `over`, which hangs up when the station has nothing more to tell.
    pub(super) fn run(mut self, over: &crossbeam_channel::Receiver<()>) {
        while let Err(crossbeam_channel::RecvTimeoutError::Timeout) = over.recv_timeout(LOOK / 2) {
            self.look(clock::now());
        }
    }

    fn look(&mut self, now: Timestamp) {
        self.watchdog.feed(now, SILENCE);
        let temperature = self.sensor.read();
        self.plc_link.update(|handshake| handshake.set_temperature(temperature));
        self.plc_link.glance(); // who waits for the bell alone sees what has changed with time
        self.say(now);
        if self.plc_link.watchdogs().trouble(now).hung {
            return;
        }
        self.plc_link.turn_heartbeat(now);
        if self.systemd.is_some_and(|interval| now.saturating_sub(self.fed) >= interval) {
            self.fed = now;
            notify(sd_notify::NotifyState::Watchdog);
        }
    }

    /// Logs each thread that hangs once, and once when it goes on.
    fn say(&mut self, now: Timestamp) {
        let hung = self.plc_link.watchdogs().hung(now);
        for name in hung.iter().filter(|name| !self.hung.contains(name)) {
            log::error!("the {name} thread stands still");
        }
        for name in self.hung.iter().filter(|name| !hung.contains(name)) {
            log::warn!("the {name} thread goes on");
        }
        self.hung = hung;
    }
}

/// Tells systemd, if it listens.
pub(super) fn notify(state: sd_notify::NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::debug!("systemd was not told: {error}");
    }
}
