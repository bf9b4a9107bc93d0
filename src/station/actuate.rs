//! The line's edge. In: outcomes, in the order of their parts. Out: each to the [`PlcLink`] and to every channel, once,
//! at its time.
//!
//! It refuses to tell a verdict late: past its due time a part is a fault, whatever the engine said. It waits for
//! nothing but time: each channel has an outbox of its own.

use std::collections::VecDeque;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::count::Counters;
use super::latency::Latency;
use super::stage_times::StageTimes;
use super::stop::{RunState, Stop};
use crate::clock::{self, Timestamp};
use crate::mask::Stored;
use crate::outcome::Outcome;
use crate::plc_link::PlcLink;
use crate::signal::Signaller;
use crate::sink::Sink;
use crate::verdict::{Fault, Verdict};
use crate::watchdog::{SILENCE, Watchdog};

/// A stop is noticed this often.
const TICK: Duration = Duration::from_millis(50);

/// A judged part on its way to the outputs.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) outcome: Outcome,
    pub(super) at: Timestamp,
    /// The mask of a rejected part.
    pub(super) mask: Option<Stored>,
}

impl Judged {
    /// A part that cannot be judged.
    pub(super) fn fault(outcome: Outcome) -> Self {
        Self { outcome, at: clock::now(), mask: None }
    }
}

/// The sinks; whatever ends them leaves the outputs in the safe state.
pub(super) struct Outputs(pub(super) Vec<Box<dyn Sink>>);

impl Drop for Outputs {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|sink| sink.fail_safe());
    }
}

/// What the actuate thread measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// From capture to verdict.
    pub(super) latency: Latency,
    /// From the part to its outputs, stage by stage.
    pub(super) stages: StageTimes,
}

/// The actuate thread.
pub(super) struct Actuate<'a> {
    pub(super) inbox: Receiver<Judged>,
    pub(super) plc_link: PlcLink,
    /// Where the room of a mask goes back to.
    pub(super) drawn: Sender<Stored>,
    pub(super) outputs: Outputs,
    pub(super) signaller: Signaller,
    pub(super) counters: &'a Counters,
    pub(super) stop: Stop,
    pub(super) summary: Duration,
    pub(super) watchdog: Watchdog,
    pub(super) books: Books,
}

/// What the actuate thread remembers.
pub(super) struct Books {
    /// Parts whose outputs are not due yet.
    waiting: VecDeque<Judged>,
    /// Which sinks failed at the last part: the first error of a row is logged, the others are counted.
    failing: Vec<bool>,
    last: Option<u64>,
    measured: Measured,
    period: Period,
}

impl Books {
    /// Of a station that starts, with room for the parts that may wait, and its sinks.
    pub(super) fn new(parts: usize, sinks: usize) -> Self {
        Self {
            waiting: VecDeque::with_capacity(parts),
            failing: vec![false; sinks],
            last: None,
            measured: Measured::default(),
            period: Period { start: clock::now(), latency: Latency::default() },
        }
    }
}

/// What the next summary line is about.
struct Period {
    start: Timestamp,
    latency: Latency,
}

impl Actuate<'_> {
    pub(super) fn run(mut self) -> Measured {
        let mut open = true;
        while open || !self.books.waiting.is_empty() {
            self.watchdog.feed(clock::now(), SILENCE);
            self.tell_due();
            self.summarise();
            let wait = self.wait();
            if !open {
                std::thread::sleep(wait); // only the clock is waited for
                continue;
            }
            match self.inbox.recv_timeout(wait) {
                Ok(judged) => self.accept(judged),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
        }
        self.watchdog.suspend();
        for sink in &mut self.outputs.0 {
            sink.fail_safe();
            self.counters.sink_errors.add(sink.untold());
        }
        self.books.measured
    }

    /// Until the next output is due, at most a tick.
    fn wait(&self) -> Duration {
        let due = self.books.waiting.front().map(|judged| judged.outcome.first_due());
        due.map_or(TICK, |due| due.saturating_sub(clock::now()).min(TICK))
    }

    fn accept(&mut self, judged: Judged) {
        let latency = judged.at.saturating_sub(judged.outcome.captured);
        self.books.measured.latency.add(latency);
        self.books.period.latency.add(latency);
        self.books.waiting.push_back(judged);
    }

    fn tell_due(&mut self) {
        let at_once = self.stop.state() == RunState::Halt;
        while let Some(judged) = self.books.waiting.front()
            && (at_once || judged.outcome.first_due() <= clock::now())
        {
            if let Some(judged) = self.books.waiting.pop_front() {
                self.run_once(judged);
            }
        }
    }

    fn run_once(&mut self, judged: Judged) {
        let Judged { mut outcome, at, mask } = judged;
        let due = outcome.first_due();
        let now = clock::now();
        let late = self.signaller.is_late(outcome.captured, now);
        self.counters.late.add(u64::from(late));
        if let Some(fault) = spoiled(late, now < due)
            && !matches!(outcome.verdict, Verdict::Fault(_))
        {
            outcome = outcome.spoiled(fault, &self.signaller);
        }
        self.book(&outcome);
        self.tell(&outcome);
        self.books.measured.stages.add(&outcome, at, due, clock::now());
        self.draw(&outcome, mask);
    }

    fn book(&mut self, outcome: &Outcome) {
        let last = self.books.last.replace(outcome.sequence);
        if last.is_some_and(|last| outcome.sequence <= last) {
            self.counters.disorder.add(1);
            log::error!("part {} came after part {last:?}: please report this", outcome.sequence);
        }
        self.counters.verdict(&outcome.verdict);
    }

    fn tell(&mut self, outcome: &Outcome) {
        self.plc_link.update(|handshake| handshake.told(outcome, clock::now()));
        for (sink, failing) in self.outputs.0.iter_mut().zip(&mut self.books.failing) {
            let told = sink.apply(outcome);
            match &told {
                Ok(()) if *failing => log::warn!("part {}: a channel takes results again", outcome.sequence),
                Ok(()) => {}
                Err(error) if *failing => log::debug!("part {}: {error}", outcome.sequence),
                Err(error) => log::error!("part {}: {error}; more are only counted", outcome.sequence),
            }
            *failing = told.is_err();
            self.counters.sink_errors.add(u64::from(*failing) + sink.untold());
        }
    }

    /// A part that became a fault on its way has no mask to show.
    fn draw(&mut self, outcome: &Outcome, mask: Option<Stored>) {
        if matches!(outcome.verdict, Verdict::Reject(_)) {
            let view = mask.as_ref().map(Stored::view);
            self.outputs.0.iter_mut().for_each(|sink| sink.draw(outcome, view.as_ref()));
        }
        if let Some(mask) = mask {
            let _ = self.drawn.try_send(mask); // inspect may be gone
        }
    }

    fn summarise(&mut self) {
        let elapsed = clock::now().saturating_sub(self.books.period.start);
        if elapsed >= self.summary {
            log::info!("{}", line(&self.counters.read().to_string(), &self.books.period.latency, elapsed));
            self.books.period = Period { start: clock::now(), latency: Latency::default() };
        }
    }
}

/// A summary: the counts so far, then the latency and the rate of the time it is about.
pub(super) fn line(counts: &str, latency: &Latency, elapsed: Duration) -> String {
    let [p50, p99] = [0.5, 0.99].map(|q| latency.quantile(q));
    let rate = latency.count() as f64 / elapsed.as_secs_f64().max(1e-9);
    format!("{counts}; capture to verdict p50 {p50:.1?}, p99 {p99:.1?}; {rate:.1} parts/s")
}

/// A verdict at the wrong time would be taken for another part's. It is too early where a stop ended the wait for its
/// time.
fn spoiled(late: bool, early: bool) -> Option<Fault> {
    match (late, early) {
        (true, _) => Some(Fault::Late),
        (_, true) => Some(Fault::Stopped),
        _ => None,
    }
}
