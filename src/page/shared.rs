//! What the page's threads and its requests share. Each lock is held for a few field accesses.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::body::Bytes;
use tokio::sync::{Semaphore, broadcast, watch};

use super::album::Album;
use super::audit::Audit;
use super::books::Books;
use super::metrics::Metrics;
use super::sessions::Sessions;
use super::throttle::Throttle;
use super::users::Known;
use super::{Error, PageOptions};
use crate::clock;
use crate::outcome::Outcome;
use crate::plc_link::PlcLink;

/// Events that a viewer may be behind; one that is further behind gets everything anew.
const EVENTS: usize = 8;

pub(super) struct Shared {
    pub(super) options: PageOptions,
    pub(super) plc_link: PlcLink,
    pub(super) books: Mutex<Books>,
    pub(super) album: Mutex<Album>,
    pub(super) users: Mutex<Known>,
    pub(super) sessions: Mutex<Sessions>,
    pub(super) throttle: Mutex<Throttle>,
    /// One password at a time is looked at: each takes some MiB for a moment.
    pub(super) hashing: Semaphore,
    pub(super) audit: Audit,
    pub(super) metrics: Metrics,
    pub(super) events: broadcast::Sender<Bytes>,
    viewers: AtomicUsize,
    /// Rings at each part, while somebody looks.
    told: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(options: PageOptions, plc_link: PlcLink) -> Result<Self, Error> {
        let dir = options.dir.clone();
        let failed = |source| Error::Dir { verb: "make", path: dir.clone(), source };
        make_dir(&dir).map_err(failed)?;
        Ok(Self {
            users: Mutex::new(Known::new(dir.clone())?),
            audit: Audit::new(dir),
            options,
            plc_link,
            books: Mutex::default(),
            album: Mutex::default(),
            sessions: Mutex::default(),
            throttle: Mutex::default(),
            hashing: Semaphore::new(1),
            metrics: Metrics::default(),
            events: broadcast::Sender::new(EVENTS),
            viewers: AtomicUsize::new(0),
            told: watch::Sender::new(0),
        })
    }

    /// A part was told to the line.
    pub(super) fn told(&self, outcome: &Outcome) {
        let now = clock::now();
        self.metrics.count(outcome, now);
        let watched = self.viewers() > 0;
        lock(&self.books).add(outcome, now, watched);
        if watched {
            self.told.send_replace(outcome.sequence);
        }
    }

    /// Rings at each part, while somebody looks.
    pub(super) fn bell(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    pub(super) fn viewers(&self) -> usize {
        self.viewers.load(Relaxed)
    }

    /// One more looks, or one less.
    pub(super) fn look(&self, comes: bool) {
        match comes {
            true => self.viewers.fetch_add(1, Relaxed),
            false => self.viewers.fetch_sub(1, Relaxed),
        };
        self.told.send_replace(0);
    }
}

/// What somebody left who panicked is still counted on: nothing is half done under these locks that matters.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody but its owner looks into it.
fn make_dir(dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
