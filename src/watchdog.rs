//! Watchdogs of the station's threads. In: signs of life. Out: which threads hang, and which channels cannot tell the
//! PLC.
//!
//! A thread that hangs reports nothing. So each thread says in advance how long it may be silent ([`Watchdog::feed`]),
//! and whoever reads the station's status checks those deadlines on its own thread. Feeding is one atomic store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// How often a thread that judges or tells feeds its watchdog while nothing happens, at least.
pub const LOOK: Duration = Duration::from_millis(100);

/// A thread that is silent for longer counts as hung. Nine times [`LOOK`], and less than the second within which READY
/// must be low.
pub const SILENCE: Duration = Duration::from_millis(900);

/// The same for a guest that is busy with a disk or a reader, which may be slow.
pub const SLOW: Duration = Duration::from_secs(10);

/// What is lost with a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Parts are not judged, or the PLC is not told: READY must be low while it hangs.
    Vital,
    /// Something is not kept or shown: that is logged and counted, and parts go on.
    Guest,
}

/// Expired by any clock.
const DEAD: u64 = 0;
/// Never expires.
const SUSPENDED: u64 = u64::MAX;

#[derive(Debug)]
struct Timer {
    name: &'static str,
    duty: Duty,
    /// When the thread is taken for hung, nanoseconds of the monotonic clock.
    until: AtomicU64,
    /// A channel that cannot tell the PLC at the moment.
    down: AtomicBool,
}

/// One thread's watchdog. It is dropped with the thread; a thread that panics leaves it behind, expired.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::watchdog::{Duty, SILENCE, Watchdogs};
///
/// let (all, start) = (Watchdogs::default(), Duration::from_secs(100));
/// let watchdog = all.add("engine", Duty::Vital, start);
/// let late = start + SILENCE + Duration::from_millis(1);
/// assert_eq!(all.hung(late), ["engine"]);
/// watchdog.feed(late, SILENCE);
/// assert!(!all.trouble(late).hung);
/// drop(watchdog); // the thread has ended, which is no trouble
/// assert!(all.hung(late + SILENCE * 2).is_empty());
/// ```
#[derive(Debug)]
pub struct Watchdog {
    timer: Arc<Timer>,
    all: Watchdogs,
}

impl Watchdog {
    /// The thread lives, and feeds again within `patience`.
    pub fn feed(&self, now: Timestamp, patience: Duration) {
        self.timer.until.store(nanos(now + patience), Relaxed);
    }

    /// The thread waits for work, however long that takes: it cannot hang now.
    pub fn suspend(&self) {
        self.timer.until.store(SUSPENDED, Relaxed);
    }

    /// Whether this channel cannot tell the PLC. Whoever feeds it may say so too: see [`Watchdog::mark`].
    pub fn set_down(&self, down: bool) {
        self.timer.down.store(down, Relaxed);
    }

    /// A second hold of the channel's mark, for another thread.
    pub fn mark(&self) -> Mark {
        Mark(self.timer.clone())
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.timer.until.store(DEAD, Relaxed);
            return;
        }
        self.all.lock().retain(|timer| !Arc::ptr_eq(timer, &self.timer));
    }
}

/// Says from outside whether a channel can tell the PLC.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::watchdog::{Duty, Watchdogs};
///
/// let (all, now) = (Watchdogs::default(), Duration::from_secs(100));
/// let watchdog = all.add("serial", Duty::Vital, now);
/// let mark = watchdog.mark(); // whoever fills the channel's queue has it
/// mark.set_down(true);
/// assert!(all.trouble(now).down);
/// ```
#[derive(Debug, Clone)]
pub struct Mark(Arc<Timer>);

impl Mark {
    /// See [`Watchdog::set_down`].
    pub fn set_down(&self, down: bool) {
        self.0.down.store(down, Relaxed);
    }
}

/// What is wrong at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trouble {
    /// A vital thread hangs.
    pub hung: bool,
    /// A channel cannot tell the PLC.
    pub down: bool,
}

/// The watchdogs of a station.
#[derive(Debug, Clone, Default)]
pub struct Watchdogs(Arc<Mutex<Vec<Arc<Timer>>>>);

impl Watchdogs {
    /// A thread that begins, alive for [`SILENCE`] from now on.
    pub fn add(&self, name: &'static str, duty: Duty, now: Timestamp) -> Watchdog {
        let until = AtomicU64::new(nanos(now + SILENCE));
        let timer = Arc::new(Timer { name, duty, until, down: AtomicBool::new(false) });
        self.lock().push(timer.clone());
        Watchdog { timer, all: self.clone() }
    }

    /// What is wrong now.
    pub fn trouble(&self, now: Timestamp) -> Trouble {
        let now = nanos(now);
        self.lock().iter().fold(Trouble::default(), |trouble, timer| Trouble {
            hung: trouble.hung || (timer.duty == Duty::Vital && timer.until.load(Relaxed) < now),
            down: trouble.down || timer.down.load(Relaxed),
        })
    }

    /// The threads that hang, by name.
    pub fn hung(&self, now: Timestamp) -> Vec<&'static str> {
        let now = nanos(now);
        self.lock().iter().filter(|timer| timer.until.load(Relaxed) < now).map(|timer| timer.name).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Timer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(at: Timestamp) -> u64 {
    at.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(100);

    #[test]
    fn a_thread_that_is_silent_for_too_long_hangs() {
        let watchdogs = Watchdogs::default();
        let (judge, guest) = (watchdogs.add("inspect", Duty::Vital, NOW), watchdogs.add("record", Duty::Guest, NOW));
        let later = NOW + SILENCE;
        assert_eq!(watchdogs.trouble(later), Trouble::default());
        let after = later + Duration::from_millis(1);
        assert_eq!((watchdogs.trouble(after).hung, watchdogs.hung(after)), (true, vec!["inspect", "record"]));
        judge.feed(after, LOOK);
        assert_eq!((watchdogs.trouble(after).hung, watchdogs.hung(after)), (false, vec!["record"]));
        drop(guest);
        assert_eq!(watchdogs.hung(after), Vec::<&str>::new());
    }

    #[test]
    fn a_channel_is_down_until_it_says_otherwise() {
        let watchdogs = Watchdogs::default();
        let serial = watchdogs.add("serial", Duty::Vital, NOW);
        serial.mark().set_down(true);
        assert_eq!(watchdogs.trouble(NOW), Trouble { hung: false, down: true });
        serial.set_down(false);
        assert_eq!(watchdogs.trouble(NOW), Trouble::default());
        serial.set_down(true);
        drop(serial);
        assert_eq!(watchdogs.trouble(NOW), Trouble::default());
    }

    #[test]
    fn a_thread_that_panics_stays_hung() {
        let watchdogs = Watchdogs::default();
        let watchdog = watchdogs.add("serial", Duty::Vital, NOW);
        let died = std::thread::spawn(move || {
            let _watchdog = watchdog;
            panic!("as it is meant to");
        });
        assert!(died.join().is_err());
        assert_eq!((watchdogs.trouble(NOW).hung, watchdogs.hung(NOW)), (true, vec!["serial"]));
    }
}
