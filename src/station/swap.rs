//! One bundle takes the place of another, between two parts. In: a proven pipeline. Out: the one that ran before, kept until the first parts of the
//! new one are through.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::count::Counters;
use super::inspect::{Inspect, Trusted};
use super::shelf::{Candidate, Event, Watch};
use super::stop::Stage;
use crate::bundle::Bundle;
use crate::pipeline::Pipeline;
use crate::store::Id;
use crate::verdict::Fault;

/// What the inspect thread knows of other bundles.
pub(super) struct Swap {
    pub(super) candidates: Receiver<Candidate>,
    pub(super) events: Sender<Event>,
    /// How first parts are watched.
    pub(super) watch: Watch,
    /// The installed bundle that judges; none if it is another one.
    pub(super) running: Option<Id>,
    /// Its first parts.
    pub(super) trial: Option<Trial>,
    /// Verdicts that were handed on since the start.
    pub(super) told: u64,
    /// The job that was asked for, so that it is asked for once.
    pub(super) asked: Option<u16>,
}

/// The first parts of a bundle.
pub(super) struct Trial {
    /// Verdicts of bundles before it.
    from: u64,
    /// Faults that were told when the last of those was; none before.
    faults: Option<u64>,
    /// What judged before; none after a start.
    before: Option<Before>,
}

/// A bundle that can go on at once.
struct Before {
    id: Option<Id>,
    bundle: Arc<Bundle>,
    pipeline: Pipeline,
    job: u16,
}

impl Trial {
    /// Of the bundle that the station starts with.
    pub(super) fn at_start() -> Self {
        Self { from: 0, faults: None, before: None }
    }

    /// What there is to say, if anything: it is through, or why not. Counts what was told, so that parts before it do not count.
    fn judge(&mut self, watch: Watch, counters: &Counters) -> Option<Result<(), String>> {
        let counts = counters.read();
        let told = counts.verdicts();
        if told < self.from {
            return None;
        }
        // What a bundle can bring about that is too slow, or of another size than the frames allow.
        let faults: u64 =
            [Fault::Late, Fault::Overflow, Fault::Geometry].into_iter().map(|fault| counts.fault(fault)).sum();
        let found = faults - *self.faults.get_or_insert(faults);
        let parts = told - self.from;
        if found > watch.faults {
            return Some(Err(format!(
                "{found} of its first {parts} parts were late, found no place to wait or had another size, and {} may",
                watch.faults
            )));
        }
        (parts >= watch.parts).then_some(Ok(()))
    }
}

impl Inspect<'_> {
    /// Between two parts: jobs that are asked for, bundles that are ready, and how the new one does.
    pub(super) fn change(&mut self) {
        self.pass_job();
        let Some(swap) = &mut self.swap else { return };
        if let Ok(candidate) = swap.candidates.try_recv() {
            self.take(candidate);
        } else if let Some(verdict) = swap.trial.as_mut().and_then(|trial| trial.judge(swap.watch, self.counters)) {
            match verdict {
                Ok(()) => self.pass(),
                Err(reason) => {
                    self.fall_back(&reason);
                }
            }
        }
    }

    /// A job that is asked for. Without other bundles it is refused, and the PLC is told so.
    fn pass_job(&mut self) {
        let asked = self.line.job_asked();
        match &mut self.swap {
            None => {
                if let Some(job) = asked {
                    log::warn!("job {job} was asked for and refused: this station has one bundle");
                    self.line.update(|handshake| handshake.job_done(false));
                }
            }
            Some(swap) if swap.asked != asked => {
                swap.asked = asked;
                if let Some(job) = asked {
                    self.say(Event::Job(job));
                }
            }
            Some(_) => {}
        }
    }

    pub(super) fn say(&self, event: Event) {
        if let Some(swap) = &self.swap
            && swap.events.send(event).is_err()
        {
            self.stop.ask(Stage::Drain); // that thread panicked: the service starts the station again
        }
    }

    /// The candidate judges from the next part on, if it fits the frames.
    fn take(&mut self, candidate: Candidate) {
        let Candidate { id, bundle, mut pipeline, trial, job, asked } = candidate;
        let geometry = self.trusted.pipeline.geometry();
        if pipeline.geometry() != geometry
            && let Err(error) = pipeline.refit(geometry)
        {
            let running = self.swap.as_ref().and_then(|swap| swap.running.clone());
            self.say(Event::Failed { id, reason: error.to_string(), gone: true, running });
            if asked {
                self.line.update(|handshake| handshake.job_done(false));
            }
            return;
        }
        let trusted = Trusted::new(pipeline, self.trusted.settled);
        let pipeline = std::mem::replace(&mut self.trusted, trusted).pipeline;
        let before = std::mem::replace(&mut self.bundle, bundle.clone());
        let Some(swap) = &mut self.swap else { return };
        let before =
            Before { id: swap.running.replace(id.clone()), bundle: before, pipeline, job: self.line.status().job };
        let given_up = swap.trial.take();
        if trial {
            swap.trial = Some(Trial { from: swap.told, faults: None, before: Some(before) });
        } else {
            self.say(Event::Retired(Box::new(before.pipeline)));
        }
        if let Some(before) = given_up.and_then(|trial| trial.before) {
            self.say(Event::Retired(Box::new(before.pipeline)));
        }
        self.line.update(|handshake| {
            handshake.run_release(id.release());
            if asked { handshake.job_done(true) } else { handshake.run_job(job) }
        });
        self.say(Event::Running { id, bundle, trial });
    }

    fn pass(&mut self) {
        let Some(swap) = &mut self.swap else { return };
        let before = swap.trial.take().and_then(|trial| trial.before);
        let running = swap.running.clone();
        if let Some(before) = before {
            self.say(Event::Retired(Box::new(before.pipeline)));
        }
        if let Some(id) = running {
            self.say(Event::Passed(id));
        }
    }

    /// What judged before judges again, if there is something that is on trial. True if it does.
    pub(super) fn fall_back(&mut self, reason: &str) -> bool {
        let Some(swap) = &mut self.swap else { return false };
        let Some(trial) = swap.trial.take() else { return false };
        let Some(failed) = swap.running.clone() else { return false };
        let Some(Before { id, bundle, mut pipeline, job }) = trial.before else {
            self.say(Event::Failed { id: failed, reason: reason.into(), gone: false, running: None });
            return false;
        };
        let geometry = self.trusted.pipeline.geometry();
        if pipeline.geometry() != geometry
            && let Err(error) = pipeline.refit(geometry)
        {
            log::error!("the bundle before does not fit these frames: {error}");
        }
        swap.running = id.clone();
        self.bundle = bundle;
        let trusted = Trusted::new(pipeline, self.trusted.settled);
        let pipeline = std::mem::replace(&mut self.trusted, trusted).pipeline;
        self.say(Event::Retired(Box::new(pipeline)));
        self.line.update(|handshake| {
            handshake.run_job(job);
            handshake.run_release(id.as_ref().map_or(0, Id::release));
        });
        self.say(Event::Failed { id: failed, reason: reason.into(), gone: true, running: id });
        true
    }
}
