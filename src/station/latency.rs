//! In: durations. Out: their quantiles, in fixed memory: sixteen buckets to each power of two of microseconds, so that a
//! quantile is at most 7 % above the truth, from 1 microsecond to more than an hour.

use std::time::Duration;

/// log2 of the buckets to a power of two.
const FINE: u32 = 4;
const BUCKETS: usize = ((32 - FINE + 1) << FINE) as usize;

/// A histogram of latencies.
#[derive(Debug, Clone)]
pub struct Latency {
    buckets: [u64; BUCKETS],
    count: u64,
    max: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], count: 0, max: Duration::ZERO }
    }
}

impl Latency {
    /// Counts one; longer ones than can be told apart count as the longest.
    pub fn add(&mut self, latency: Duration) {
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(micros)) {
            *bucket += 1;
            self.count += 1;
        }
        self.max = self.max.max(latency);
    }

    /// The longest, exactly.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The latency that the share `q` (0..1) does not exceed, rounded up to its bucket's end; zero if none were counted.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.buckets.iter().position(|bucket| {
            seen += bucket;
            seen >= rank
        });
        reached.map_or(Duration::ZERO, |bucket| Duration::from_micros(end_of(bucket)))
    }
}

/// Values below 2^FINE have a bucket each; above, the leading bit and the FINE bits after it choose.
fn bucket_of(micros: u32) -> usize {
    let shift = micros.checked_ilog2().unwrap_or(0).saturating_sub(FINE);
    ((shift << FINE) + (micros >> shift)) as usize
}

/// The largest value that falls into a bucket.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> FINE).saturating_sub(1);
    (((bucket - (shift << FINE)) + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        for bits in 0..32 {
            for micros in [(1u32 << bits).saturating_sub(1), 1 << bits, (1 << bits) + 1, (1 << bits) / 3 * 4] {
                let end = end_of(bucket_of(micros));
                assert!(end >= u64::from(micros) && end as f64 <= f64::from(micros) * 1.07 + 1e-9, "{micros} {end}");
            }
        }
        assert!((0..BUCKETS - 1).all(|bucket| bucket_of(end_of(bucket) as u32) == bucket));
        assert_eq!(bucket_of(u32::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        (1..=100).for_each(|ms| latency.add(Duration::from_millis(ms)));
        for (q, ms) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = latency.quantile(q).as_secs_f64() * 1e3;
            assert!(found >= ms && found <= ms * 1.07, "{q}: {found}");
        }
        assert_eq!(latency.count(), 100);
    }
}
