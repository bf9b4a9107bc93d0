//! In: durations. Out: their quantiles, from a histogram in fixed memory: two significant digits from 1 microsecond to
//! an hour, so that a quantile is at most 1 % above the truth.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Microseconds; longer ones count as this long.
const LONGEST: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 2;

/// A histogram of latencies.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::station::Latency;
///
/// let mut latency = Latency::default();
/// for ms in [10, 11, 12, 90] {
///     latency.add(Duration::from_millis(ms));
/// }
/// assert_eq!((latency.count(), latency.max()), (4, Duration::from_millis(90)));
/// let median = latency.quantile(0.5).as_secs_f64();
/// assert!((0.011..=0.011 * 1.01).contains(&median)); // never below the truth, and 1 % above it at most
/// ```
#[derive(Debug, Clone)]
pub struct Latency {
    micros: Histogram<u64>,
    max: Duration,
}

impl Default for Latency {
    #[expect(clippy::expect_used, reason = "only other constants could be refused")]
    fn default() -> Self {
        let micros = Histogram::new_with_max(LONGEST, SIGNIFICANT_DIGITS).expect("two digits of an hour");
        Self { micros, max: Duration::ZERO }
    }
}

impl Latency {
    /// Counts one. It allocates nothing.
    pub fn add(&mut self, latency: Duration) {
        self.micros.saturating_record(latency.as_micros().try_into().unwrap_or(LONGEST));
        self.max = self.max.max(latency);
    }

    /// The longest, exactly.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.micros.len()
    }

    /// The latency that the share `q` (0..1) does not exceed, rounded up; zero if none were counted.
    pub fn quantile(&self, q: f64) -> Duration {
        Duration::from_micros(self.micros.value_at_quantile(q))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_known_set() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        (1..=100).for_each(|ms| latency.add(Duration::from_millis(ms)));
        for (q, ms) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = latency.quantile(q).as_secs_f64() * 1e3;
            assert!(found >= ms && found <= ms * 1.01, "{q}: {found}");
        }
        assert_eq!(latency.count(), 100);
    }

    #[test]
    fn none_is_too_short_or_too_long_to_count() {
        let mut latency = Latency::default();
        [Duration::ZERO, Duration::MAX].into_iter().for_each(|one| latency.add(one));
        assert_eq!((latency.count(), latency.quantile(0.5), latency.max()), (2, Duration::ZERO, Duration::MAX));
        assert!(latency.quantile(1.0) >= Duration::from_secs(3600));
    }
}
