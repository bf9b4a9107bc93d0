//! In: one measure, part by part. Out: that its mean has changed, since when, and by how much.
//!
//! Page's CUSUM (E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954) on each side of the usual mean: what
//! parts are off beyond a slack is summed up, and never falls below zero; the last moment at which it was zero is when
//! the change began. The limit is that of Kim, Alexopoulos, Tsui and Wilson ("A distribution-free tabular CUSUM chart for
//! autocorrelated data", IIE Transactions 39, 2007), who put the variance of sums of dependent parts into Siegmund's
//! approximation of the parts between two false alarms (D. Siegmund, "Sequential analysis", 1985). A part counts so
//! much at most (Lucas and Crosier's robust CUSUM, Commun. Stat. 11, 1982): a hand in the picture is no drift.

use super::measure::Measure;
use super::reference::Usual;
use crate::clock::Timestamp;

/// Correlation of neighbours that is taken for granted: pictures that teach are in no order of time.
const CORRELATION: std::ops::RangeInclusive<f64> = 0.3..=0.9;
/// What a part may add at most, in standard deviations.
const MOST: f32 = 4.0;
/// The limit, in the same, is more than two parts can add.
const LEAST_LIMIT: f64 = 8.0;
/// Standard errors of the usual mean and spread that are allowed for.
const DOUBT: f64 = 1.5;
/// Parts whose mean says by how much something changed.
const RECENT: usize = 16;

/// A part, and when it was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) part: u64,
    pub(super) at: Timestamp,
}

/// Watches one measure.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    mean: f32,
    /// Standard deviation of a part.
    deviation: f32,
    /// In standard deviations, as all that follows.
    slack: f32,
    limit: f32,
    sides: [Side; 2],
    recent: [f32; RECENT],
    seen: usize,
}

/// Above or below the mean.
#[derive(Debug, Clone, Copy)]
struct Side {
    sign: f32,
    watched: bool,
    sum: f32,
    began: Option<Mark>,
    /// Parts since then.
    parts: usize,
}

/// A change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    pub(super) began: Mark,
    /// From the mean, in the measure's own numbers.
    pub(super) by: f32,
}

impl Chart {
    /// Of what a reference of so many parts says of a measure. With everything as usual, it is wrong once in
    /// `parts_per_alarm` parts on each of its sides.
    pub(super) fn new(measure: Measure, usual: Usual, parts: u32, parts_per_alarm: f64) -> Self {
        let Usual { mean, spread, correlation } = usual;
        let least = f64::from(measure.least());
        let correlation = f64::from(correlation).clamp(*CORRELATION.start(), *CORRELATION.end());
        let dependence = (1.0 + correlation) / (1.0 - correlation);
        let independent = (f64::from(parts) / dependence).max(2.0); // as good as so many parts
        let spread = f64::from(spread) * (1.0 + DOUBT / (2.0 * independent).sqrt());
        let deviation = spread.max(least / 4.0);
        let slack = (least / 2.0 / deviation).max(0.5) + DOUBT * spread / deviation / independent.sqrt();
        let limit = limit(slack, dependence, parts_per_alarm).max(LEAST_LIMIT);
        let side = |sign, watched| Side { sign, watched, sum: 0.0, began: None, parts: 0 };
        Self {
            mean,
            deviation: deviation as f32,
            slack: slack as f32,
            limit: limit as f32,
            sides: [side(1.0, true), side(-1.0, !measure.only_up())],
            recent: [0.0; RECENT],
            seen: 0,
        }
    }

    /// One more part; the change, once it is sure.
    pub(super) fn add(&mut self, value: f32, mark: Mark) -> Option<Change> {
        let off = value - self.mean;
        if let Some(slot) = self.recent.get_mut(self.seen % RECENT) {
            *slot = off;
        }
        self.seen += 1;
        let (slack, limit, scaled) = (self.slack, self.limit, off / self.deviation);
        for side in self.sides.iter_mut().filter(|side| side.watched) {
            side.add(scaled * side.sign, slack, mark);
        }
        let over = self.sides.iter().find(|side| side.sum > limit)?;
        over.began.map(|began| Change { began, by: self.by(over.parts) })
    }

    /// The mean of the last `parts` parts less the usual one, or of as many as are kept.
    fn by(&self, parts: usize) -> f32 {
        let count = parts.clamp(1, RECENT).min(self.seen.max(1));
        let last = (1..=count).filter_map(|back| self.recent.get((self.seen + RECENT - back) % RECENT));
        last.sum::<f32>() / count as f32
    }

    /// What it is now of the change that was told.
    pub(super) fn now(&self) -> f32 {
        self.by(RECENT)
    }
}

impl Side {
    fn add(&mut self, off: f32, slack: f32, mark: Mark) {
        self.sum = (self.sum + (off - slack).min(MOST)).max(0.0);
        if self.sum == 0.0 {
            (self.began, self.parts) = (None, 0);
        } else {
            self.began.get_or_insert(mark);
            self.parts += 1;
        }
    }
}

/// The sum, in standard deviations, that is reached once in `parts` parts while nothing changes; `variance` is that of
/// sums, as multiple of what independent parts would have.
fn limit(slack: f64, variance: f64, parts: f64) -> f64 {
    let overshoot = 1.166 * variance.sqrt();
    let between = |limit: f64| {
        let height = 2.0 * slack * (limit + overshoot) / variance;
        variance / (2.0 * slack * slack) * (height.exp() - 1.0 - height)
    };
    let (mut low, mut high) = (0.0, 1.0);
    while between(high) < parts {
        high *= 2.0;
    }
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        if between(middle) < parts { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn mark(part: u64) -> Mark {
        Mark { part, at: Duration::from_secs(part) }
    }

    fn chart(spread: f32, correlation: f32) -> Chart {
        Chart::new(Measure::Brightness, Usual { mean: 5.0, spread, correlation }, 1_000_000, 1e6)
    }

    /// Between neighbours, as in `measure`.
    fn normal(seed: &mut u64) -> f32 {
        let mut uniform = || {
            *seed ^= *seed >> 12;
            *seed ^= *seed << 25;
            *seed ^= *seed >> 27;
            (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1 << 24) as f32
        };
        (0..12).map(|_| uniform()).sum::<f32>() - 6.0
    }

    /// Montgomery's textbook: slack 1/2 and limit 4 on independent normal parts have 336 parts between two alarms of one
    /// side, limit 5 has 930.
    #[test]
    fn limits_are_those_of_the_textbook() {
        assert!((limit(0.5, 1.0, 336.0) - 4.0).abs() < 0.05);
        assert!((limit(0.5, 1.0, 930.0) - 5.0).abs() < 0.05);
        assert!(limit(0.5, 1.0, 1e6) < limit(0.5, 1.0, 1e7));
        assert!(limit(0.5, 2.0, 1e6) > limit(0.5, 1.0, 1e6)); // dependent parts wander further
    }

    /// Parts as usual, of the correlation that is allowed for: the alarms are as rare as was asked for.
    #[test]
    fn false_alarms_are_as_rare_as_asked_for() {
        for correlation in [0.0, 0.3, 0.7] {
            let (parts, per_alarm) = (400_000, 20_000.0);
            let usual = Usual { mean: 5.0, spread: 0.1, correlation };
            let fresh = Chart::new(Measure::Brightness, usual, 1_000_000, per_alarm);
            let (mut chart, mut alarms, mut seed, mut off) = (fresh.clone(), 0, 0x9876_5432_1fed_cba9, 0.0);
            for part in 0..parts {
                off = correlation * off + (1.0 - correlation * correlation).sqrt() * normal(&mut seed);
                if chart.add(5.0 + 0.1 * off, mark(part)).is_some() {
                    alarms += 1;
                    chart = fresh.clone();
                }
            }
            let allowed = 2.0 * parts as f64 / per_alarm;
            assert!(
                f64::from(alarms) <= 1.3 * allowed,
                "correlation {correlation}: {alarms}, and {allowed} are allowed"
            );
        }
    }

    #[test]
    fn a_change_has_its_beginning_and_its_size() {
        let (mut chart, mut seed) = (chart(0.03, 0.0), 0x1111_2222_3333_4445);
        let mut told = None;
        for part in 0..2100 {
            let change = if part >= 2000 { -0.08 } else { 0.0 };
            let found = chart.add(5.0 + change + 0.03 * normal(&mut seed), mark(part));
            told = told.or(found.map(|change| (part, change)));
        }
        let (part, Change { began, by }) = told.unwrap();
        assert!((2002..2030).contains(&part), "{part}");
        assert!((1995..2004).contains(&began.part) && began.at == Duration::from_secs(began.part), "{began:?}");
        assert!((by + 0.08).abs() < 0.02 && (chart.now() + 0.08).abs() < 0.03, "{by}");
    }

    /// What is smaller than half of what matters is never told, however long it lasts; one or two odd parts are nothing.
    #[test]
    fn odd_parts_and_trifles_are_no_drift() {
        let mut chart = chart(0.0, 0.0);
        assert!((0..100_000).all(|part| chart.add(5.019, mark(part)).is_none()));
        for round in 0..1000_u64 {
            let odd = [9.0, 1.0, 1.0, 9.0, 9.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0];
            for (at, value) in odd.into_iter().enumerate() {
                assert_eq!(chart.add(value, mark(round * 12 + at as u64)), None);
            }
        }
        let mut noise = Chart::new(Measure::Noise, Usual { mean: 0.0, spread: 0.1, correlation: 0.0 }, 1000, 1e6);
        assert!((0..1000).all(|part| noise.add(-3.0, mark(part)).is_none())); // less noise is no harm
        assert!((0..1000).any(|part| noise.add(3.0, mark(part)).is_some()));
    }
}
