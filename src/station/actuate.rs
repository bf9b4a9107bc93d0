//! The line's edge. In: signals, in the order of their parts, and changes of the station's status. Out: each to every sink, once, at its time.
//!
//! It refuses to tell a verdict late: past its due time a part is a fault, whatever the engine said.

use std::collections::VecDeque;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};

use super::count::Counters;
use super::heat::Heat;
use super::inbox::Opened;
use super::latency::Latency;
use super::stage::Stages;
use super::stop::{Stage, Stop};
use crate::clock::{self, Timestamp};
use crate::handshake::Status;
use crate::line::Line;
use crate::mask::Stored;
use crate::pipeline::Timings;
use crate::signal::{Signaller, Signals};
use crate::sink::Sink;
use crate::verdict::{Fault, Verdict};

/// The outputs are shown the status this often when nothing changes, and a stop is noticed.
const TICK: Duration = Duration::from_millis(50);

/// Signs of life and the temperature are looked at this often.
const CHECK: Duration = Duration::from_millis(100);

/// A judged part on its way to the outputs.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) signals: Signals,
    pub(super) at: Timestamp,
    pub(super) timings: Timings,
    /// The mask of a rejected part.
    pub(super) mask: Option<Stored>,
}

impl Judged {
    /// A part that cannot be judged.
    pub(super) fn fault(signaller: &Signaller, opened: Opened, fault: Fault) -> Self {
        let signals = unjudged(signaller, opened, fault);
        Self { signals, at: clock::now(), timings: Timings::default(), mask: None }
    }
}

/// The signals of a part that cannot be judged.
pub(super) fn unjudged(signaller: &Signaller, opened: Opened, fault: Fault) -> Signals {
    let signals = signaller.run(opened.sequence, opened.at, None, Verdict::Fault(fault));
    Signals { part_id: opened.part_id, ..signals }
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

/// What the actuate thread measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// From capture to verdict.
    pub(super) latency: Latency,
    /// From the part to its outputs, stage by stage.
    pub(super) stages: Stages,
}

/// The actuate thread.
pub(super) struct Actuate<'a> {
    inbox: Receiver<Judged>,
    line: Line,
    /// Parts whose outputs are not due yet.
    waiting: VecDeque<Judged>,
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
    measured: Measured,
    period: Period,
    shown: Option<Status>,
    checked: Timestamp,
    heat: Heat,
}

/// What the next summary line is about.
struct Period {
    start: Timestamp,
    latency: Latency,
}

impl<'a> Actuate<'a> {
    #[expect(clippy::too_many_arguments, reason = "its own state is no business of the station")]
    pub(super) fn new(
        inbox: Receiver<Judged>,
        line: Line,
        drawn: Sender<Stored>,
        outputs: Outputs,
        signaller: Signaller,
        counters: &'a Counters,
        stop: Stop,
        summary: Duration,
    ) -> Self {
        Self {
            waiting: VecDeque::with_capacity(inbox.capacity().unwrap_or(0)),
            inbox,
            line,
            drawn,
            failing: vec![false; outputs.0.len()],
            outputs,
            signaller,
            counters,
            stop,
            summary,
            last: None,
            measured: Measured::default(),
            period: Period { start: clock::now(), latency: Latency::default() },
            shown: None,
            checked: clock::now(),
            heat: Heat::default(),
        }
    }

    pub(super) fn run(mut self) -> Measured {
        let bell = self.line.bell().clone();
        let mut open = true;
        while open || !self.waiting.is_empty() {
            self.tell_due();
            self.check();
            self.show();
            let wait = self.wait();
            // With the inbox closed only the clock is waited for, and a bell that may ring.
            let inbox = if open { &self.inbox } else { &crossbeam_channel::never() };
            select! {
                recv(inbox) -> judged => match judged {
                    Ok(judged) => self.accept(judged),
                    Err(_) => open = false,
                },
                recv(bell) -> _ => {}
                default(wait) => {}
            }
        }
        self.measured
    }

    /// Until the next output is due, at most a tick.
    fn wait(&self) -> Duration {
        let due = self.waiting.front().map(|judged| first_due(&judged.signals));
        due.map_or(TICK, |due| due.saturating_sub(clock::now()).min(TICK))
    }

    fn accept(&mut self, judged: Judged) {
        let latency = judged.at.saturating_sub(judged.signals.captured);
        self.measured.latency.add(latency);
        self.period.latency.add(latency);
        self.waiting.push_back(judged);
    }

    fn tell_due(&mut self) {
        let at_once = self.stop.stage() == Stage::Now;
        while let Some(judged) = self.waiting.front()
            && (at_once || first_due(&judged.signals) <= clock::now())
        {
            if let Some(judged) = self.waiting.pop_front() {
                self.run_once(judged);
            }
        }
    }

    fn run_once(&mut self, judged: Judged) {
        let Judged { mut signals, at, timings, mask } = judged;
        let due = first_due(&signals);
        let now = clock::now();
        let late = is_late(&self.signaller, signals.captured, now);
        self.counters.late.add(u64::from(late));
        if let Some(fault) = spoiled(late, now < due)
            && !matches!(signals.verdict, Verdict::Fault(_))
        {
            let Signals { sequence, part_id, captured, .. } = signals;
            signals = unjudged(&self.signaller, Opened { sequence, part_id, at: captured }, fault);
        }
        self.book(&signals);
        self.tell(&signals);
        self.measured.stages.add(signals.captured, at, &timings, due, clock::now());
        self.draw(&signals, mask);
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
        let latency = clock::now().saturating_sub(signals.captured);
        self.line.update(|handshake| handshake.told(signals, signals.zones, latency));
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

    /// The status, where it is another than the outputs show.
    fn show(&mut self) {
        let status = self.line.status();
        if self.shown.as_ref() != Some(&status) {
            self.outputs.0.iter_mut().for_each(|sink| sink.show(&status));
            self.shown = Some(status);
        }
    }

    fn check(&mut self) {
        let now = clock::now();
        if now >= self.period.start + self.summary {
            self.summarise();
        }
        if now >= self.checked + CHECK {
            self.checked = now;
            let temperature = self.heat.read();
            self.line.update(|handshake| handshake.tick(now, temperature));
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
