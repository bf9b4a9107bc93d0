//! One bundle takes the place of another, between two parts. In: a proven pipeline. Out: the one that ran before, kept until the first parts of the
//! new one are through.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::count::Counts;
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
}

/// The first parts of a bundle.
pub(super) struct Trial {
    /// Verdicts of bundles before it.
    from: u64,
    /// What was told when the last of those was; none before.
    since: Option<Tally>,
    /// Triggers that had found no place to wait before it.
    crowded: u64,
    /// What goes on if it fails; none after a start, and after the PLC's change to its job: what judged then is for other parts.
    before: Option<Before>,
}

/// What a bundle did.
#[derive(Debug, Clone, Copy)]
struct Tally {
    /// Parts that it was asked to judge. A part without a picture says nothing of a bundle.
    parts: u64,
    /// Parts that went wrong in a way that it can bring about: it is too slow, or for frames of another size.
    faults: u64,
}

impl Tally {
    fn new(counts: &Counts) -> Self {
        let faults = |all: &[Fault]| all.iter().map(|fault| counts.fault(*fault)).sum::<u64>();
        let slow = faults(&[Fault::Late, Fault::Overflow, Fault::Geometry]);
        Self { parts: counts.pass + counts.reject + slow + faults(&[Fault::Engine]), faults: slow }
    }
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
        Self { from: 0, since: None, crowded: 0, before: None }
    }

    /// What was told before it, once all of that is.
    fn since(&mut self, counts: &Counts) -> Option<Tally> {
        let over = counts.verdicts() >= self.from;
        over.then(|| *self.since.get_or_insert_with(|| Tally::new(counts)))
    }

    /// What there is to say, if anything: it is through, or why not. Counts what was told, so that parts before it do not count. `crowded` counts
    /// the triggers that found no place to wait.
    fn judge(&mut self, watch: Watch, counts: &Counts, crowded: u64) -> Option<Result<(), String>> {
        let (since, now) = (self.since(counts)?, Tally::new(counts));
        let (parts, faults) = (now.parts - since.parts, now.faults - since.faults + (crowded - self.crowded));
        if faults > watch.faults {
            return Some(Err(format!(
                "after {parts} parts {faults} were late, found no place to wait or had another size, and {} may",
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
        } else if let Some(trial) = &mut swap.trial {
            match trial.judge(swap.watch, &self.counters.read(), self.line.crowded()) {
                Some(Ok(())) => self.pass(),
                Some(Err(reason)) => {
                    self.fall_back(&reason);
                }
                None => {}
            }
        }
    }

    /// A job that is asked for. Without other bundles it is refused, and the PLC is told so.
    fn pass_job(&mut self) {
        let Some(job) = self.line.take_job() else { return };
        if self.swap.is_some() {
            return self.say(Event::Job(job));
        }
        log::warn!("job {job} was asked for and refused: this station has one bundle");
        self.line.update(|handshake| handshake.job_done(false));
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
        let in_force = self.line.status().job;
        if !asked && job != 0 && in_force != 0 && job != in_force {
            self.say(Event::Retired(Box::new(pipeline)));
            return self.say(Event::Waiting { id, job }); // the PLC says which parts come
        }
        let geometry = self.trusted.pipeline.geometry();
        if pipeline.geometry() != geometry
            && let Err(error) = pipeline.refit(geometry)
        {
            let running = self.swap.as_ref().and_then(|swap| swap.running.clone());
            let back = Some((running, Arc::clone(&self.bundle)));
            self.say(Event::Failed { id, reason: error.to_string(), back });
            if asked {
                self.line.update(|handshake| handshake.job_done(false));
            }
            return;
        }
        let trusted = Trusted::new(pipeline, self.trusted.settled);
        let pipeline = std::mem::replace(&mut self.trusted, trusted).pipeline;
        let before = std::mem::replace(&mut self.bundle, bundle.clone());
        let Some(swap) = &mut self.swap else { return };
        let judged = Before { id: swap.running.replace(id.clone()), bundle: before, pipeline, job: in_force };
        // What is on trial is nothing to fall back to: what judged before it is. Nor is the bundle itself, nor one that is for other parts.
        let (before, unproven) = match swap.trial.take() {
            Some(trial) => (trial.before, Some(judged)),
            None => (Some(judged), None),
        };
        let fits = |before: &Before| trial && !asked && before.id.as_ref() != Some(&id);
        let (before, needless) = if before.as_ref().is_some_and(fits) { (before, None) } else { (None, before) };
        let replaced = unproven.as_ref().and_then(|unproven| unproven.id.clone());
        swap.trial = trial.then(|| Trial { from: swap.told, since: None, crowded: self.line.crowded(), before });
        if let Some(trial) = &mut swap.trial {
            trial.since(&self.counters.read()); // mostly all is told already
        }
        for retired in [unproven, needless].into_iter().flatten() {
            self.say(Event::Retired(Box::new(retired.pipeline)));
        }
        self.line.update(|handshake| {
            handshake.run_release(id.release());
            if asked { handshake.job_done(true) } else { handshake.run_job(job) }
        });
        self.say(Event::Running { id, bundle, trial, asked, replaced });
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
        let in_force = self.line.status().job;
        let Before { id, bundle, mut pipeline, .. } = match trial.before {
            Some(before) if before.job == in_force => before,
            other => {
                self.say(Event::Failed { id: failed, reason: reason.into(), back: None });
                if let Some(before) = other {
                    self.say(Event::Retired(Box::new(before.pipeline))); // for another job: for other parts
                }
                return false;
            }
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
            handshake.run_release(id.as_ref().map_or(0, Id::release));
        });
        let back = Some((id, Arc::clone(&self.bundle)));
        self.say(Event::Failed { id: failed, reason: reason.into(), back });
        true
    }
}
