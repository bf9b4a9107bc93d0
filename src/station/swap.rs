//! One bundle takes the place of another, between two parts. In: what [`Trials`] says, and a proven pipeline. Out: the
//! one that ran before, kept until the first parts of the new one are through.
//!
//! The inspect thread has a [`Swap`], the thread that has bundles ready an `Attend` (`releases`). They meet at a
//! [`Desk`]: one lock, held for a few field accesses, so that neither waits for what the other does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::count::{Counters, Counts};
use super::trusted::Trusted;
use crate::bundle::Bundle;
use crate::camera::Geometry;
use crate::pipeline::Pipeline;
use crate::plc_link::PlcLink;
use crate::trial::{Behind, ITS_OWN, Installed, Move, Seen, Told, Trials};
use crate::verdict::Fault;

/// A bundle that judges, or could.
pub(super) struct Ready {
    pub(super) bundle: Arc<Bundle>,
    pub(super) pipeline: Pipeline,
}

/// What judges now.
pub(super) struct Judging<'a> {
    pub(super) trusted: &'a mut Trusted,
    pub(super) bundle: &'a mut Arc<Bundle>,
}

impl Judging<'_> {
    fn replace(&mut self, next: Ready) -> Ready {
        let pipeline = self.trusted.replace(next.pipeline);
        Ready { bundle: std::mem::replace(self.bundle, next.bundle), pipeline }
    }
}

/// Where the inspect thread and the one that has bundles ready meet.
pub(super) struct Desk {
    papers: Mutex<Papers>,
    bell: (Sender<()>, Receiver<()>),
}

/// What lies there. No list of it grows: what comes from the inspect thread is at most what one change brings, and the
/// next change begins only when all of it was taken away.
pub(super) struct Papers {
    pub(super) trials: Trials,
    /// What is proven.
    pub(super) candidate: Option<Ready>,
    /// What is needed no more. It is dropped on the other thread: freeing takes time.
    pub(super) retired: Vec<Ready>,
    /// What frames are like now, if that changed.
    pub(super) fitted: Option<Geometry>,
    /// The inspect thread is there.
    pub(super) inspects: bool,
    /// The thread that has bundles ready is there.
    pub(super) attends: bool,
}

impl Desk {
    pub(super) fn new(trials: Trials) -> Arc<Self> {
        let papers = Papers { trials, candidate: None, retired: vec![], fitted: None, inspects: true, attends: true };
        Arc::new(Self { papers: Mutex::new(papers), bell: bounded(1) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings when there is something for the thread that has bundles ready.
    pub(super) fn bell(&self) -> &Receiver<()> {
        &self.bell.1
    }

    fn ring(&self) {
        let _ = self.bell.0.try_send(()); // it rings already
    }
}

/// What the inspect thread knows of other bundles.
pub(super) struct Swap {
    desk: Arc<Desk>,
    /// What goes on if the bundle on trial fails.
    standby: Option<Ready>,
    /// Verdicts that were handed on since the start.
    judged: u64,
}

impl Swap {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self { desk, standby: None, judged: 0 }
    }

    /// False if the other thread panicked.
    pub(super) fn is_attended(&self) -> bool {
        self.desk.lock().attends
    }

    /// A verdict is handed on.
    pub(super) fn count(&mut self) {
        self.judged += 1;
    }

    /// The PLC asks for a job, and no part is under way.
    pub(super) fn ask_job(&self, job: u16) {
        self.desk.lock().trials.ask_job(job);
        self.desk.ring();
    }

    /// Frames are like that.
    pub(super) fn fit(&self, geometry: Geometry) {
        self.desk.lock().fitted = Some(geometry);
        self.desk.ring();
    }

    /// Between two parts: a bundle that is ready takes its place, or the first parts of the new one are looked at.
    pub(super) fn turn(&mut self, judging: &mut Judging, plc_link: &PlcLink, counters: &Counters) {
        if !self.desk.lock().trials.is_moving() {
            return;
        }
        let told = told(&counters.read());
        let seen = Seen { judged: self.judged, told, crowded: plc_link.crowded(), job: plc_link.status().job };
        let step = self.desk.lock().trials.turn(&seen);
        match step {
            Move::Install => self.install(judging, plc_link, &seen),
            step => drop(self.follow(step, judging, plc_link)),
        }
    }

    /// What judges failed. True if what stood by judges again.
    pub(super) fn fail(&mut self, judging: &mut Judging, plc_link: &PlcLink, reason: &str) -> bool {
        let in_force = plc_link.status().job;
        let step = self.desk.lock().trials.fail(reason, in_force);
        self.follow(step, judging, plc_link)
    }

    /// True if another pipeline judges.
    fn follow(&mut self, step: Move, judging: &mut Judging, plc_link: &PlcLink) -> bool {
        match step {
            Move::Stay | Move::Install => return false,
            Move::Decline => {
                let mut papers = self.desk.lock();
                let declined = papers.candidate.take();
                papers.retired.extend(declined);
            }
            Move::Release => self.retire(None),
            Move::Back(release) => self.go_back(judging, plc_link, release),
        }
        self.desk.ring();
        matches!(step, Move::Back(_))
    }

    /// The candidate judges from the next part on, if it fits the frames.
    fn install(&mut self, judging: &mut Judging, plc_link: &PlcLink, seen: &Seen) {
        let Some(mut next) = self.desk.lock().candidate.take() else { return };
        if let Err(error) = fit(&mut next, judging.trusted.pipeline.geometry()) {
            let mut papers = self.desk.lock();
            let step = papers.trials.misfit(error);
            papers.retired.push(next);
            drop(papers);
            self.follow(step, judging, plc_link);
            return self.desk.ring();
        }
        let installed = self.desk.lock().trials.installed(seen);
        let Some(Installed { behind, release, job }) = installed else { return self.desk.lock().retired.push(next) };
        let before = judging.replace(next);
        match behind {
            Behind::Judged => self.standby = Some(before),
            Behind::Kept => self.desk.lock().retired.push(before),
            Behind::Nothing => self.retire(Some(before)),
        }
        plc_link.update(|handshake| {
            handshake.watched(None); // what changed was of other parts
            handshake.run_release(release);
            match job {
                Some(job) => handshake.run_job(job),
                None => handshake.job_done(true),
            }
        });
        self.desk.ring();
    }

    fn go_back(&mut self, judging: &mut Judging, plc_link: &PlcLink, release: u32) {
        let Some(mut before) = self.standby.take() else { return };
        if let Err(error) = fit(&mut before, judging.trusted.pipeline.geometry()) {
            log::error!("the bundle before does not fit these frames: {error}");
        }
        let failed = judging.replace(before);
        plc_link.update(|handshake| {
            handshake.watched(None);
            handshake.run_release(release);
        });
        let mut papers = self.desk.lock();
        papers.retired.push(failed);
    }

    /// Hands over what stands by, and this, to be dropped.
    fn retire(&mut self, other: Option<Ready>) {
        self.desk.lock().retired.extend(self.standby.take().into_iter().chain(other));
    }
}

/// The other thread takes back what never judged.
impl Drop for Swap {
    fn drop(&mut self) {
        self.desk.lock().inspects = false;
        self.desk.ring();
    }
}

fn fit(ready: &mut Ready, geometry: Geometry) -> Result<(), String> {
    if ready.pipeline.geometry() == geometry {
        return Ok(());
    }
    ready.pipeline.refit(geometry).map_err(|error| error.to_string())
}

fn told(counts: &Counts) -> Told {
    let faults = ITS_OWN.iter().map(|fault| counts.fault(*fault)).sum::<u64>();
    let parts = counts.pass + counts.reject + faults + counts.fault(Fault::Engine);
    Told { verdicts: counts.verdicts(), parts, faults }
}
