//! Signs of life. In: beats of the station's threads. Out: which of them stand still, and which channels cannot tell the PLC.
//!
//! A thread that hangs tells nobody. So each thread says beforehand for how long it may be silent ([`Pulse::beat`]), and whoever still lives finds
//! out from these words: every reader of the station's status does, on its own thread. A beat is one atomic store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// Threads that judge or tell look around at least so often while nothing happens.
pub const LOOK: Duration = Duration::from_millis(100);

/// One that was silent for so long stands still. Nine times [`LOOK`]: less than the second within which READY must be low.
pub const SILENCE: Duration = Duration::from_millis(900);

/// A guest that is at one thing for so long stands still: disks and readers may be slow.
pub const SLOW: Duration = Duration::from_secs(10);

/// What is lost with a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Parts are not judged, or the PLC is not told: READY must be low while it stands still.
    Vital,
    /// Something is not kept or shown: it is said and counted, and parts go on.
    Guest,
}

/// Expired by any clock.
const DEAD: u64 = 0;
/// Never expires.
const RESTING: u64 = u64::MAX;

#[derive(Debug)]
struct Beat {
    name: &'static str,
    duty: Duty,
    /// When the thread is taken for hung, nanoseconds of the monotonic clock.
    until: AtomicU64,
    /// A channel that cannot tell the PLC at the moment.
    down: AtomicBool,
}

/// A thread's own sign of life. It goes with the thread; one that panics leaves it behind, expired.
#[derive(Debug)]
pub struct Pulse {
    beat: Arc<Beat>,
    all: Pulses,
}

impl Pulse {
    /// Lives now, and will say so again within `patience`.
    pub fn beat(&self, now: Timestamp, patience: Duration) {
        self.beat.until.store(nanos(now + patience), Relaxed);
    }

    /// Waits for work, for however long that takes: it cannot hang now.
    pub fn rest(&self) {
        self.beat.until.store(RESTING, Relaxed);
    }

    /// Whether this channel cannot tell the PLC. Whoever feeds it may say so too: see [`Pulse::mark`].
    pub fn set_down(&self, down: bool) {
        self.beat.down.store(down, Relaxed);
    }

    /// A second hold of the channel's mark, for another thread.
    pub fn mark(&self) -> Mark {
        Mark(self.beat.clone())
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.beat.until.store(DEAD, Relaxed);
            return;
        }
        self.all.lock().retain(|beat| !Arc::ptr_eq(beat, &self.beat));
    }
}

/// Says from outside whether a channel can tell the PLC.
#[derive(Debug, Clone)]
pub struct Mark(Arc<Beat>);

impl Mark {
    /// See [`Pulse::set_down`].
    pub fn set_down(&self, down: bool) {
        self.0.down.store(down, Relaxed);
    }
}

/// What is wrong at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trouble {
    /// A vital thread stands still.
    pub hung: bool,
    /// A channel cannot tell the PLC.
    pub down: bool,
}

/// The pulses of a station.
#[derive(Debug, Clone, Default)]
pub struct Pulses(Arc<Mutex<Vec<Arc<Beat>>>>);

impl Pulses {
    /// A thread that begins, alive for [`SILENCE`] from now on.
    pub fn add(&self, name: &'static str, duty: Duty, now: Timestamp) -> Pulse {
        let until = AtomicU64::new(nanos(now + SILENCE));
        let beat = Arc::new(Beat { name, duty, until, down: AtomicBool::new(false) });
        self.lock().push(beat.clone());
        Pulse { beat, all: self.clone() }
    }

    /// What is wrong now.
    pub fn trouble(&self, now: Timestamp) -> Trouble {
        let now = nanos(now);
        self.lock().iter().fold(Trouble::default(), |trouble, beat| Trouble {
            hung: trouble.hung || (beat.duty == Duty::Vital && beat.until.load(Relaxed) < now),
            down: trouble.down || beat.down.load(Relaxed),
        })
    }

    /// The threads that stand still, by name.
    pub fn hung(&self, now: Timestamp) -> Vec<&'static str> {
        let now = nanos(now);
        self.lock().iter().filter(|beat| beat.until.load(Relaxed) < now).map(|beat| beat.name).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Beat>>> {
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
    fn who_is_silent_for_too_long_stands_still() {
        let pulses = Pulses::default();
        let (judge, guest) = (pulses.add("inspect", Duty::Vital, NOW), pulses.add("record", Duty::Guest, NOW));
        let later = NOW + SILENCE;
        assert_eq!(pulses.trouble(later), Trouble::default());
        let after = later + Duration::from_millis(1);
        assert_eq!((pulses.trouble(after).hung, pulses.hung(after)), (true, vec!["inspect", "record"]));
        judge.beat(after, LOOK);
        assert_eq!((pulses.trouble(after).hung, pulses.hung(after)), (false, vec!["record"]));
        drop(guest);
        assert_eq!(pulses.hung(after), Vec::<&str>::new());
    }

    #[test]
    fn a_channel_is_down_until_it_says_otherwise() {
        let pulses = Pulses::default();
        let serial = pulses.add("serial", Duty::Vital, NOW);
        serial.mark().set_down(true);
        assert_eq!(pulses.trouble(NOW), Trouble { hung: false, down: true });
        serial.set_down(false);
        assert_eq!(pulses.trouble(NOW), Trouble::default());
        serial.set_down(true);
        drop(serial);
        assert_eq!(pulses.trouble(NOW), Trouble::default());
    }

    #[test]
    fn a_thread_that_panics_never_beats_again() {
        let pulses = Pulses::default();
        let pulse = pulses.add("serial", Duty::Vital, NOW);
        let died = std::thread::spawn(move || {
            let _pulse = pulse;
            panic!("as it is meant to");
        });
        assert!(died.join().is_err());
        assert_eq!((pulses.trouble(NOW).hung, pulses.hung(NOW)), (true, vec!["serial"]));
    }
}
