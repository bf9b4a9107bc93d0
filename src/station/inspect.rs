//! The middle's thread. In: parts and faults from capture. Out: one verdict for each, in order, to actuate; kept parts
//! to record.
//!
//! Nothing that happens to a part here lets it go without a verdict: an engine that panics is built again, a part that
//! is already too late is not judged at all, and a stop at once turns what waits into faults. Another bundle takes its
//! place between two parts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::actuate::Judged;
use super::count::Counters;
use super::inbox::{Buffer, Inbox, Item, Next, Part};
use super::stop::{RunState, Stop};
use super::swap::{Judging, Swap};
use super::trusted::Trusted;
use super::watched::Watched;
use crate::bundle::Bundle;
use crate::camera::Geometry;
use crate::clock;
use crate::handshake::Condition;
use crate::mask::Stored;
use crate::outcome::{Opened, Outcome};
use crate::pipeline::{Inspection, Pipeline};
use crate::plc_link::PlcLink;
use crate::record::Keep;
use crate::verdict::{Fault, Verdict};
use crate::watchdog::{SILENCE, Watchdog};
use crate::window::Window;

/// How often this thread looks around when no part comes.
const PATIENCE: Duration = Duration::from_millis(50);

/// Panics in a row after which the engine is given up.
const PANICS: u32 = 3;

/// Pictures in a row that the engine fails on before it counts as a panic: a GPU that failed once fails until its
/// engine is loaded anew.
const FAILURES: u32 = 3;

/// A part on its way to the recorder.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) part: Part,
    pub(super) outcome: Outcome,
    pub(super) mask: Stored,
    /// False: the part has none.
    pub(super) drawn: bool,
}

/// Room for a part that is to be recorded.
#[derive(Debug, Default)]
pub(super) struct Empty {
    pub(super) buffer: Buffer,
    pub(super) mask: Stored,
}

/// The hop to the recorder. It drops first: a part is kept only in exchange for an empty buffer, so that a slow disk
/// never takes one from capture.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) keep: Keep,
    pub(super) parts: Sender<Kept>,
    pub(super) empty: Receiver<Empty>,
}

/// The inspect thread.
pub(super) struct Inspect<'a> {
    pub(super) inbox: &'a Inbox,
    pub(super) counters: &'a Counters,
    pub(super) judged: Sender<Judged>,
    pub(super) archive: Archive,
    /// Room for the masks of rejected parts that wait for their due times; without it a part goes without its mask.
    pub(super) masks: Receiver<Stored>,
    pub(super) plc_link: PlcLink,
    pub(super) watchdog: Watchdog,
    /// How long one inspection takes.
    pub(super) inspection: Duration,
    pub(super) stop: Stop,
    pub(super) bundle: Arc<Bundle>,
    pub(super) trusted: Trusted,
    /// The part that is being judged.
    pub(super) open: Option<Opened>,
    /// Where other bundles come from; none if the station has one.
    pub(super) swap: Option<Swap>,
    pub(super) watched: Watched,
    /// Through which people look; none if nobody can.
    pub(super) window: Option<Window>,
}

impl Inspect<'_> {
    pub(super) fn run(mut self) {
        loop {
            // A busy machine takes several times as long for a part as a quiet one.
            self.watchdog.feed(clock::now(), SILENCE + 4 * self.inspection);
            self.change();
            match self.inbox.take(PATIENCE) {
                Next::Item(item) => self.run_once(item),
                Next::Idle => {}
                Next::Closed => return,
            }
        }
    }

    /// Between two parts: jobs that are asked for, bundles that are ready, and how the new one does.
    fn change(&mut self) {
        let job = self.plc_link.take_job();
        let Some(swap) = &mut self.swap else { return self.refuse_job(job) };
        if !swap.is_attended() {
            self.stop.ask(RunState::Drain); // that thread panicked: the service starts the station again
        }
        job.into_iter().for_each(|job| swap.ask_job(job));
        let mut judging = Judging { trusted: &mut self.trusted, bundle: &mut self.bundle };
        swap.turn(&mut judging, &self.plc_link, self.counters);
    }

    /// Without other bundles a job is refused, and the PLC is told so.
    fn refuse_job(&self, job: Option<u16>) {
        let Some(job) = job else { return };
        log::warn!("job {job} was asked for and refused: this station has one bundle");
        self.plc_link.update(|handshake| handshake.job_done(false));
    }

    /// What judged before judges again, if there is something that is on trial. True if it does.
    fn fall_back(&mut self, reason: &str) -> bool {
        let Some(swap) = &mut self.swap else { return false };
        swap.fail(&mut Judging { trusted: &mut self.trusted, bundle: &mut self.bundle }, &self.plc_link, reason)
    }

    fn run_once(&mut self, item: Item) {
        match item {
            Item::Part(part) => {
                self.open = Some(part.opened);
                let (outcome, mask) = self.judge(&part);
                #[cfg(test)]
                tests::wreck(part.opened.sequence);
                let at = clock::now();
                let part = self.show(part, &outcome, mask.as_ref());
                let buffer = self.keep(part, &outcome, mask.as_ref());
                self.tell(Judged { outcome, at, mask });
                self.inbox.give_back(buffer);
            }
            Item::Fault { opened, fault } => {
                self.trusted.pipeline.forget();
                self.tell_fault(opened, fault);
            }
        }
    }

    /// A part that nobody can judge any more.
    fn tell_fault(&mut self, opened: Opened, fault: Fault) {
        self.tell(Judged::fault(self.trusted.pipeline.fault(opened, fault)));
    }

    /// Waits if the outputs are that far behind: a verdict is never dropped.
    fn tell(&mut self, judged: Judged) {
        self.open = None;
        if let Some(swap) = &mut self.swap {
            swap.count();
        }
        let drift = self.watched.run(&self.trusted.pipeline);
        let seen = self.plc_link.update(|handshake| {
            handshake.judged(&judged.outcome.verdict);
            handshake.watched(drift)
        });
        if !seen {
            self.trusted.pipeline.clear_drift();
        }
        if self.judged.send(judged).is_err() {
            // Nobody drives the outputs any more, and they are in their safe state.
            self.stop.ask(RunState::Halt);
        }
    }

    fn judge(&mut self, part: &Part) -> (Outcome, Option<Stored>) {
        let fault = match self.obstacle(part) {
            Some(fault) => fault,
            None => match self.inspect(part) {
                Ok(done) => {
                    if done.0.verdict == Verdict::Fault(Fault::Engine) {
                        self.fall_back("the engine failed at a part");
                    }
                    return done;
                }
                Err(fault) => fault,
            },
        };
        self.trusted.pipeline.forget();
        (self.trusted.pipeline.fault(part.opened, fault), None)
    }

    /// Why a part need not be looked at, if there is a reason.
    fn obstacle(&mut self, part: &Part) -> Option<Fault> {
        if self.stop.state() == RunState::Halt {
            return Some(Fault::Stopped);
        }
        if self.trusted.panics >= PANICS {
            return Some(Fault::Engine);
        }
        if self.trusted.pipeline.options().signaller.is_late(part.opened.at, clock::now()) {
            return Some(Fault::Late);
        }
        if part.geometry != self.trusted.pipeline.geometry() {
            return self.refit(part.geometry).err();
        }
        None
    }

    /// Fits the pipeline to frames of another geometry. The part that brought the change is a fault, because nobody has
    /// said that the camera still sees the same place; the first frame of a camera that could not tell before is none.
    fn refit(&mut self, geometry: Geometry) -> Result<(), Fault> {
        let first = !std::mem::replace(&mut self.trusted.settled, true);
        if self.trusted.refused == Some(geometry) {
            return Err(Fault::Geometry);
        }
        let Geometry { width, height, format, .. } = geometry;
        if let Err(error) = self.trusted.pipeline.refit(geometry) {
            self.trusted.refused = Some(geometry);
            log::error!("frames of {width} x {height} {format:?} are faults from now on: {error}");
            return Err(Fault::Geometry);
        }
        self.trusted.refused = None;
        self.swap.iter().for_each(|swap| swap.fit(geometry));
        if first {
            log::info!("frames are {width} x {height} {format:?}");
            return Ok(());
        }
        log::warn!(
            "the camera changed to {width} x {height} {format:?}; the parts after this one are judged at that size"
        );
        Err(Fault::Geometry)
    }

    fn inspect(&mut self, part: &Part) -> Result<(Outcome, Option<Stored>), Fault> {
        let frame = part.frame().map_err(|_| Fault::Camera)?;
        let (pipeline, masks) = (&mut self.trusted.pipeline, &self.masks);
        let inspected = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            tests::sabotage(frame.sequence());
            let inspection = pipeline.inspect_part(part.opened, &frame);
            let mask = keep_mask(masks, &inspection);
            (inspection.outcome, mask)
        }));
        match inspected {
            Ok(done) => {
                self.count_failure(&done.0.verdict, part.geometry);
                Ok(done)
            }
            Err(_) => {
                log::error!("part {}: the engine panicked", part.opened.sequence);
                self.rebuild(part.geometry);
                Err(Fault::Engine)
            }
        }
    }

    /// Several failures in a row are worth a panic; a part that was judged ends both counts.
    fn count_failure(&mut self, verdict: &Verdict, geometry: Geometry) {
        if *verdict != Verdict::Fault(Fault::Engine) {
            self.trusted.panics = 0;
            self.trusted.failures = 0;
            return;
        }
        self.trusted.failures += 1;
        if self.trusted.failures >= FAILURES {
            self.trusted.failures = 0;
            log::error!("the engine failed on {FAILURES} parts in a row");
            self.rebuild(geometry);
        }
    }

    /// After a panic nothing in the pipeline is trusted. A pipeline that cannot be had again, or that panics again and
    /// again, ends the station: what still waits becomes faults.
    fn rebuild(&mut self, geometry: Geometry) {
        self.counters.panics.add(1);
        if self.fall_back("the engine panicked at a part") {
            return;
        }
        self.trusted.panics += 1;
        if self.trusted.panics < PANICS {
            match Pipeline::new(&self.bundle, geometry, self.trusted.pipeline.options().clone()) {
                Ok(pipeline) => {
                    self.trusted.pipeline = pipeline;
                    return log::warn!("the engine was built again");
                }
                Err(error) => log::error!("the engine cannot be built again: {error}"),
            }
        }
        self.trusted.panics = PANICS;
        self.plc_link.update(|handshake| handshake.set(Condition::Engine, true));
        log::error!("the engine is given up and the station stops: deploy another bundle, and please report this");
        self.stop.ask(RunState::Drain);
    }

    /// Shows a part to whoever looks. Its buffer goes there, and an empty one takes its place, unless the recorder wants
    /// it: then it is copied.
    fn show(&self, mut part: Part, outcome: &Outcome, drawn: Option<&Stored>) -> Part {
        let Some((window, mut seen)) = self.window.as_ref().and_then(|window| Some((window, window.room()?))) else {
            return part;
        };
        seen.set(part.opened, part.geometry, drawn);
        match self.archive.keep.wants(&outcome.verdict) {
            true => part.buffer.copy_to(&mut seen.bytes),
            false => part.buffer.swap(&mut seen.bytes),
        }
        window.show(seen);
        part
    }

    /// Hands a part to the recorder if it is one to keep; returns the buffer that capture gets in its place.
    fn keep(&self, part: Part, outcome: &Outcome, drawn: Option<&Stored>) -> Buffer {
        if !self.archive.keep.wants(&outcome.verdict) {
            return part.buffer;
        }
        let Ok(Empty { buffer, mut mask }) = self.archive.empty.try_recv() else {
            self.counters.record_drops.add(1);
            return part.buffer;
        };
        if let Some(drawn) = drawn {
            mask.set(&drawn.view());
        }
        let (outcome, drawn) = (outcome.clone(), drawn.is_some());
        // There are no more buffers than places, so this cannot fail while the recorder lives.
        if self.archive.parts.try_send(Kept { part, outcome, mask, drawn }).is_err() {
            self.counters.record_drops.add(1);
        }
        buffer
    }
}

/// A copy of a rejected part's mask, if there is room for one.
fn keep_mask(masks: &Receiver<Stored>, inspection: &Inspection) -> Option<Stored> {
    let rejected = matches!(inspection.outcome.verdict, Verdict::Reject(_));
    let mut stored = rejected.then(|| masks.try_recv().ok()).flatten()?;
    stored.set(&inspection.mask);
    Some(stored)
}

/// After a panic, what waits and what still comes until capture has stopped ends in a fault: no number goes without its
/// result.
impl Drop for Inspect<'_> {
    fn drop(&mut self) {
        let patience = if std::thread::panicking() {
            self.plc_link.update(|handshake| handshake.set(Condition::Panic, true));
            self.stop.ask(RunState::Drain);
            PATIENCE
        } else {
            self.inbox.close(); // the thread did not start: nobody else may wait for it
            Duration::ZERO
        };
        if let Some(opened) = self.open {
            self.tell_fault(opened, Fault::Engine);
        }
        loop {
            let (opened, fault) = match self.inbox.take(patience) {
                Next::Item(Item::Part(part)) => (part.opened, Fault::Engine),
                Next::Item(Item::Fault { opened, fault }) => (opened, fault),
                Next::Idle => continue,
                Next::Closed => return,
            };
            self.tell_fault(opened, fault);
        }
    }
}

#[cfg(test)]
mod tests;
