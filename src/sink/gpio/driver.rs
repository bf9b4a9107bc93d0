//! The thread of the outputs. In: parts, the station's status, flashes. Out: levels, each at its time, whatever the
//! station's other threads do.
//!
//! Lines that cannot be driven are told once and opened again twice a second; until then no part is valid and READY is
//! low.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver, never, select};

use super::level::Levels;
use super::timing::{Part, Shown, Timing};
use super::{Open, Shared, Write};
use crate::chip::Error;
use crate::clock::{self, Timestamp};
use crate::handshake::Condition;
use crate::plc_link::PlcLink;
use crate::watchdog::{LOOK, SILENCE, Watchdog};

/// Between two tries to open the lines.
const RETRY: Duration = Duration::from_millis(500);
/// How long the last parts may take to be shown when the station ends: one pulse and what leads to it.
const DRAIN: Duration = Duration::from_millis(1100);

/// What the thread owns.
pub(super) struct Driver {
    pub(super) posts: Receiver<Part>,
    pub(super) flashes: Receiver<Timestamp>,
    /// Hangs up when the sink ends, which a queue that is full would hide.
    pub(super) end: Receiver<()>,
    pub(super) shared: Arc<Shared>,
    /// Rings when the status has changed.
    pub(super) bell: Receiver<()>,
    pub(super) plc_link: PlcLink,
    pub(super) timing: Timing,
    pub(super) open: Open,
    /// None while they cannot be driven.
    pub(super) write: Option<Write>,
    pub(super) retry: Timestamp,
    pub(super) told: (u64, u64),
}

impl Driver {
    /// Runs until the sink ends and everything it was told is shown.
    pub(super) fn run(&mut self, watchdog: Watchdog) {
        let mut end = None;
        while !end.is_some_and(|end| self.timing.waiting() == 0 || clock::now() > end) {
            watchdog.feed(clock::now(), SILENCE);
            if self.posts.is_empty() {
                watchdog.set_down(false); // what filled the queue is shown
            }
            let shown = if end.is_some() { Shown::STOPPED } else { Shown::new(&self.plc_link.glance()) };
            self.timing.show(shown);
            self.write_due();
            self.reopen();
            if self.wait(end.is_some()) {
                end = Some(clock::now() + DRAIN);
            }
        }
        self.timing.show(Shown::STOPPED);
        self.write_due();
        let unheard = self.posts.try_iter().count();
        self.shared.missed.fetch_add((unheard + self.timing.waiting()) as u64, Relaxed);
    }

    /// Everything that is due by now.
    fn write_due(&mut self) {
        while let Some(levels) = self.timing.step(clock::now()) {
            self.write(levels);
        }
        let told = (self.timing.cut(), self.timing.late());
        if told.1 > self.told.1 {
            log::error!(
                "{} OK came too late at the outputs and were shown as NG: is the processor overloaded?",
                told.1
            );
            self.plc_link.update(|handshake| handshake.told_late());
        }
        if told.0 > self.told.0 && self.told.0 == 0 {
            log::warn!("a part came while the last one's levels stood: signals.hold_ms is too long for this line");
        }
        self.told = told;
    }

    fn write(&mut self, levels: Levels) {
        let Some(write) = &mut self.write else { return };
        if let Err(error) = write(levels) {
            self.lose(&error);
        }
    }

    /// Lines that can still be driven show that something is wrong; then all are released.
    fn lose(&mut self, error: &Error) {
        log::error!("{error}; no part is told by GPIO until the outputs are back");
        self.timing.fail();
        if let Some(mut write) = self.write.take() {
            while let Some(levels) = self.timing.step(clock::now()) {
                let _ = write(levels); // some of it may arrive
            }
        }
        self.shared.up.store(false, Relaxed);
        self.retry = clock::now() + RETRY;
        self.plc_link.update(|handshake| handshake.set(Condition::Outputs, true));
    }

    fn reopen(&mut self) {
        if self.write.is_some() || clock::now() < self.retry {
            return;
        }
        self.retry = clock::now() + RETRY;
        match (self.open)() {
            Ok(write) => {
                self.write = Some(write);
                let gone = self.timing.recover() as u64;
                self.shared.missed.fetch_add(gone, Relaxed);
                self.shared.up.store(true, Relaxed);
                self.plc_link.update(|handshake| handshake.set(Condition::Outputs, false));
                log::warn!("the GPIO outputs are back");
                self.write_due();
            }
            Err(error) => log::debug!("{error}"),
        }
    }

    /// Takes what comes until something is due; true once nothing more will come.
    fn wait(&mut self, ended: bool) -> bool {
        let due = self.timing.next().unwrap_or(Timestamp::MAX);
        let due = if self.write.is_some() { due } else { due.min(self.retry) };
        let due = due.saturating_sub(clock::now()).min(LOOK);
        let (no_posts, no_flashes, no_end) = (never(), never(), never());
        let full = !self.timing.has_room();
        let posts = if ended || full { &no_posts } else { &self.posts };
        let flashes = if ended { &no_flashes } else { &self.flashes };
        let end = if ended || !full { &no_end } else { &self.end };
        select! {
            recv(posts) -> part => match part {
                Ok(part) => self.accept(part),
                Err(_) => return true,
            },
            recv(self.bell) -> _ => {}
            recv(flashes) -> edge => edge.into_iter().for_each(|edge| self.timing.flash(edge)),
            recv(end) -> _ => return true,
            default(due) => {}
        }
        false
    }

    fn accept(&mut self, part: Part) {
        if !self.timing.part(part) {
            self.shared.missed.fetch_add(1, Relaxed);
        }
    }
}
