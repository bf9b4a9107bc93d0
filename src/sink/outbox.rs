//! An outbox for whoever is not a PLC: scripts, logs. In: outcomes. Out: the same, one after the other, on a thread
//! that may hang.
//!
//! It refuses to make a verdict wait: a queue that is full drops, which is counted and said once. At the end what was
//! taken is written, unless the other side takes nothing for [`PATIENCE`]: then the thread is left behind, and what it
//! had is counted as untold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::{Error, Sink};
use crate::clock;
use crate::outcome::Outcome;
use crate::plc_link::PlcLink;
use crate::watchdog::{Duty, SLOW, Watchdog};

/// Outcomes that may wait.
const QUEUE: usize = 256;

/// How long the other side may take nothing at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// State shared by the thread and the station.
#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    failed: AtomicU64,
}

/// A queue with a thread behind it.
///
/// ```
/// use std::{sync::{Arc, mpsc}, time::Duration};
///
/// use fcam::outcome::{Opened, Outcome};
/// use fcam::plc_link::PlcLink;
/// use fcam::signal::Signaller;
/// use fcam::sink::{Outbox, Sink};
/// use fcam::verdict::Fault;
///
/// let (tell, told) = mpsc::channel(); // in place of a reader that may hang
/// let mut outbox = Outbox::start("broker", "the broker", &PlcLink::default(), move |outcome| {
///     tell.send(outcome.sequence).map_err(std::io::Error::other)
/// })?;
/// let signaller = Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) };
/// let part = Opened { sequence: 7, ..Opened::default() };
/// outbox.apply(&Outcome::fault(part, Fault::Camera, &signaller, &Arc::default()))?;
/// outbox.fail_safe(); // what was taken is written before it ends
/// assert_eq!((told.recv(), outbox.untold()), (Ok(7), 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Outbox {
    name: String,
    posts: Option<Sender<Outcome>>,
    shared: Arc<Shared>,
    /// Hangs up when the thread ends.
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
    taken: u64,
    /// Of the thread's failures, those that were counted.
    counted: u64,
}

impl Outbox {
    /// Starts the thread. `name` is that of the thread and its watchdog; `what` is used in messages, such as "standard
    /// output". `write` may take any time.
    pub fn start(
        name: &'static str,
        what: impl Into<String>,
        plc_link: &PlcLink,
        write: impl FnMut(&Outcome) -> std::io::Result<()> + Send + 'static,
    ) -> std::io::Result<Self> {
        let what = what.into();
        let (posts, inbox) = bounded(QUEUE);
        let (end, ended) = bounded(0);
        let shared = Arc::new(Shared::default());
        let watchdog = plc_link.watchdog(name, Duty::Guest);
        let writer = Writer { what: what.clone(), inbox, shared: shared.clone(), watchdog, write, failing: false };
        let run = move || {
            let _end: Sender<()> = end; // dropped with the thread, by a panic too
            writer.run();
        };
        let thread = Some(std::thread::Builder::new().name(name.into()).spawn(run)?);
        Ok(Self { name: what, posts: Some(posts), shared, ended, thread, taken: 0, counted: 0 })
    }

    /// Waits until everything is written, or nothing more is taken.
    fn finish(&mut self) {
        self.posts = None;
        let Some(thread) = self.thread.take() else { return };
        let mut before = self.done();
        while let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(PATIENCE) {
            let done = self.done();
            if done == std::mem::replace(&mut before, done) {
                let left = self.taken.saturating_sub(done);
                log::error!("{} takes nothing: {left} results were not written", self.name);
                self.shared.failed.fetch_add(left, Relaxed);
                return; // it ends with the process
            }
        }
        if thread.join().is_err() {
            log::error!("the thread of {} panicked: please report this", self.name);
            self.shared.failed.fetch_add(self.taken.saturating_sub(self.done()), Relaxed);
        }
    }

    fn done(&self) -> u64 {
        self.shared.written.load(Relaxed) + self.shared.failed.load(Relaxed)
    }
}

impl Sink for Outbox {
    fn apply(&mut self, outcome: &Outcome) -> Result<(), Error> {
        let full = || Error::Full { sink: self.name.clone() };
        let posts = self.posts.as_ref().ok_or_else(full)?;
        posts.try_send(outcome.clone()).map_err(|_| full())?;
        self.taken += 1;
        Ok(())
    }

    fn untold(&mut self) -> u64 {
        let failed = self.shared.failed.load(Relaxed);
        failed - std::mem::replace(&mut self.counted, failed)
    }

    fn fail_safe(&mut self) {
        self.finish();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Everything that the thread owns.
struct Writer<W> {
    what: String,
    inbox: Receiver<Outcome>,
    shared: Arc<Shared>,
    watchdog: Watchdog,
    write: W,
    failing: bool,
}

impl<W: FnMut(&Outcome) -> std::io::Result<()>> Writer<W> {
    fn run(mut self) {
        loop {
            self.watchdog.suspend();
            let Ok(outcome) = self.inbox.recv() else { return };
            self.watchdog.feed(clock::now(), SLOW);
            self.write(&outcome);
        }
    }

    /// The first error of a row is said, the others are counted.
    fn write(&mut self, outcome: &Outcome) {
        let written = (self.write)(outcome);
        match &written {
            Ok(()) if self.failing => log::warn!("part {}: {} takes results again", outcome.sequence, self.what),
            Ok(()) => {}
            Err(error) if self.failing => log::debug!("part {}: {}: {error}", outcome.sequence, self.what),
            Err(error) => {
                log::error!("part {}: cannot write to {}: {error}; more are only counted", outcome.sequence, self.what);
            }
        }
        self.failing = written.is_err();
        let counter = if self.failing { &self.shared.failed } else { &self.shared.written };
        counter.fetch_add(1, Relaxed);
    }
}
