//! The one clock: CLOCK_MONOTONIC, the clock that V4L2 buffers and GPIO edges are stamped with.
//!
//! Only edges and the pipeline's own stopwatch read it; everything between carries times as values.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time: the span since the monotonic clock's zero (boot, on Linux).
pub type Timestamp = Duration;

/// The time now. Never goes back; stops while the machine is suspended.
///
/// ```
/// let before = fcam::clock::now();
/// assert!(fcam::clock::now() >= before);
/// ```
pub fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Monotonic);
    // Both fields are non-negative for this clock, and nanoseconds stay below 10^9 (clock_gettime(2)).
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
