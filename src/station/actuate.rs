//! The line's edge. In: signals, in the order of their parts. Out: each to every sink, once, at its time.
//!
//! It refuses to tell a verdict late: past its due time a part is a fault, whatever the engine said.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::count::Counters;
use super::latency::Latency;
use super::stop::{Stage, Stop};
use crate::clock::{self, Timestamp};
use crate::mask::Stored;
use crate::signal::{Signaller, Signals};
use crate::sink::Sink;
use crate::verdict::{Fault, Verdict};

/// A judged part on its way to the outputs.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) signals: Signals,
    pub(super) at: Timestamp,
    /// The mask of a rejected part.
    pub(super) mask: Option<Stored>,
}

/// The signals of a part that cannot be judged.
pub(super) fn unjudged(signaller: &Signaller, sequence: u64, captured: Timestamp, fault: Fault) -> Signals {
    signaller.run(sequence, captured, None, Verdict::Fault(fault))
}

/// True once the outputs of a part should have been set. Without a delay they are due as soon as they are known.
pub(super) fn is_late(signaller: &Signaller, captured: Timestamp, now: Timestamp) -> bool {
    !signaller.delay.is_zero() && now > captured + signaller.delay
}

/// The sinks; whatever ends them leaves the outputs in the safe state.
pub(super) struct Outputs(pub(super) Vec<Box<dyn Sink>>);

impl Drop for Outputs {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|sink| sink.fail_safe());
    }
}

/// The actuate thread.
pub(super) struct Actuate<'a> {
    inbox: Receiver<Judged>,
    /// Where the room of a mask goes back to.
    drawn: Sender<Stored>,
    outputs: Outputs,
    /// Which sinks failed at the last part: the first error of a row is logged, the others are counted.
    failing: Vec<bool>,
    signaller: Signaller,
    counters: &'a Counters,
    stop: Stop,
    summary: Duration,
    last: Option<u64>,
    latency: Latency,
    period: Period,
}

/// What the next summary line is about.
struct Period {
    start: Timestamp,
    latency: Latency,
}

impl<'a> Actuate<'a> {
    pub(super) fn new(
        inbox: Receiver<Judged>,
        drawn: Sender<Stored>,
        outputs: Outputs,
        signaller: Signaller,
        counters: &'a Counters,
        stop: Stop,
        summary: Duration,
    ) -> Self {
        let failing = vec![false; outputs.0.len()];
        let period = Period { start: clock::now(), latency: Latency::default() };
        let latency = Latency::default();
        Self { inbox, drawn, outputs, failing, signaller, counters, stop, summary, last: None, latency, period }
    }

    /// Returns the latencies of the whole run, from capture to verdict.
    pub(super) fn run(mut self) -> Latency {
        loop {
            let rest = (self.period.start + self.summary).saturating_sub(clock::now());
            match self.inbox.recv_timeout(rest) {
                Ok(judged) => self.run_once(judged),
                Err(RecvTimeoutError::Timeout) => self.summarise(),
                Err(RecvTimeoutError::Disconnected) => return self.latency,
            }
        }
    }

    fn run_once(&mut self, judged: Judged) {
        let Judged { mut signals, at, mask } = judged;
        self.measure(at.saturating_sub(signals.captured));
        let due = first_due(&signals);
        self.stop.sleep(due, Stage::Now);
        let now = clock::now();
        let late = is_late(&self.signaller, signals.captured, now);
        self.counters.late.add(u64::from(late));
        if let Some(fault) = spoiled(late, now < due)
            && !matches!(signals.verdict, Verdict::Fault(_))
        {
            signals = unjudged(&self.signaller, signals.sequence, signals.captured, fault);
        }
        self.book(&signals);
        self.tell(&signals);
        self.draw(&signals, mask);
    }

    fn measure(&mut self, latency: Duration) {
        self.latency.add(latency);
        self.period.latency.add(latency);
        if clock::now() >= self.period.start + self.summary {
            self.summarise();
        }
    }

    fn book(&mut self, signals: &Signals) {
        if self.last.is_some_and(|last| signals.sequence <= last) {
            self.counters.disorder.add(1);
            log::error!("part {} came after part {:?}: please report this", signals.sequence, self.last);
        }
        self.last = Some(signals.sequence);
        self.counters.verdict(&signals.verdict);
    }

    fn tell(&mut self, signals: &Signals) {
        for (sink, failing) in self.outputs.0.iter_mut().zip(&mut self.failing) {
            let told = sink.apply(signals);
            match &told {
                Ok(()) if *failing => log::warn!("part {}: a sink takes verdicts again", signals.sequence),
                Ok(()) => {}
                Err(error) if *failing => log::debug!("part {}: {error}", signals.sequence),
                Err(error) => log::error!("part {}: {error}; the line may not know", signals.sequence),
            }
            *failing = told.is_err();
            self.counters.sink_errors.add(u64::from(*failing));
        }
    }

    /// A part that became a fault on its way has no mask to show.
    fn draw(&mut self, signals: &Signals, mask: Option<Stored>) {
        if matches!(signals.verdict, Verdict::Reject(_)) {
            let view = mask.as_ref().map(Stored::view);
            self.outputs.0.iter_mut().for_each(|sink| sink.draw(signals, view.as_ref()));
        }
        if let Some(mask) = mask {
            let _ = self.drawn.try_send(mask); // inspect may be gone
        }
    }

    fn summarise(&mut self) {
        let elapsed = clock::now().saturating_sub(self.period.start);
        log::info!("{}", line(&self.counters.read().to_string(), &self.period.latency, elapsed));
        self.period = Period { start: clock::now(), latency: Latency::default() };
    }
}

/// A summary: the counts so far, then the latency and the rate of the time it is about.
pub(super) fn line(counts: &str, latency: &Latency, elapsed: Duration) -> String {
    let [p50, p99] = [0.5, 0.99].map(|q| latency.quantile(q));
    let rate = latency.count() as f64 / elapsed.as_secs_f64().max(1e-9);
    format!("{counts}; capture to verdict p50 {p50:.1?}, p99 {p99:.1?}; {rate:.1} parts/s")
}

/// A verdict at the wrong time would be taken for another part's. Too early is one that a stop did not let wait.
fn spoiled(late: bool, early: bool) -> Option<Fault> {
    match (late, early) {
        (true, _) => Some(Fault::Late),
        (_, true) => Some(Fault::Stopped),
        _ => None,
    }
}

fn first_due(signals: &Signals) -> Timestamp {
    signals.outputs.iter().map(|signal| signal.due).min().unwrap_or(signals.captured)
}
