//! What the page knows of the parts. In: outcomes. Out: the last parts, and counts since the start and over a shift.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::outcome::{Outcome, Timings};
use crate::verdict::Verdict;

/// Parts that are remembered, for the strip.
pub(super) const LAST: usize = 48;

/// Outcomes that wait for their pictures.
const OUTCOMES: usize = 64;

/// A shift is the last eight hours, in slices.
const SLICE: Duration = Duration::from_secs(600);
const SLICES: usize = 48;

/// A part as the page shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Line {
    pub(super) sequence: u64,
    part_id: u32,
    /// When it was told: milliseconds since 1970.
    at: i64,
    verdict: &'static str,
    class: Option<String>,
    score: Option<f32>,
    threshold: f32,
    zones: u16,
    /// 0 pass, 1 reject, from 2 on why it was not judged (board/faults.md).
    reason: u8,
    regions: usize,
    timings_us: Timings,
    /// From the part to the telling.
    told_us: u64,
    release: String,
}

/// Parts by what became of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(super) struct Totals {
    pass: u64,
    reject: u64,
    fault: u64,
    /// Rejects by class.
    classes: BTreeMap<String, u64>,
    /// Faults by their code.
    faults: BTreeMap<u8, u64>,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        match &outcome.verdict {
            Verdict::Pass => self.pass += 1,
            Verdict::Reject(_) => {
                self.reject += 1;
                let class = outcome.class_name().unwrap_or("?");
                match self.classes.get_mut(class) {
                    Some(count) => *count += 1,
                    None => drop(self.classes.insert(class.into(), 1)),
                }
            }
            Verdict::Fault(fault) => {
                self.fault += 1;
                *self.faults.entry(fault.code()).or_default() += 1;
            }
        }
    }

    fn join(&mut self, other: &Self) {
        self.pass += other.pass;
        self.reject += other.reject;
        self.fault += other.fault;
        other.classes.iter().for_each(|(class, count)| *self.classes.entry(class.clone()).or_default() += count);
        other.faults.iter().for_each(|(code, count)| *self.faults.entry(*code).or_default() += count);
    }
}

#[derive(Debug, Default)]
pub(super) struct Books {
    last: VecDeque<Line>,
    /// Of parts whose pictures may come, while somebody looks.
    outcomes: VecDeque<Outcome>,
    totals: Totals,
    /// When each slice began, and what was in it.
    shift: VecDeque<(Timestamp, Totals)>,
}

impl Books {
    /// A part was told at `now`; while somebody looks its picture may come.
    pub(super) fn add(&mut self, outcome: &Outcome, now: Timestamp, watched: bool) {
        self.totals.add(outcome);
        self.turn(now);
        if let Some((_, slice)) = self.shift.back_mut() {
            slice.add(outcome);
        }
        push(&mut self.last, line(outcome, now), LAST);
        match watched {
            true => push(&mut self.outcomes, outcome.clone(), OUTCOMES),
            false => self.outcomes = VecDeque::new(),
        }
    }

    /// Begins a new slice when it is time, and forgets what is older than a shift.
    fn turn(&mut self, now: Timestamp) {
        if self.shift.back().is_none_or(|(began, _)| now.saturating_sub(*began) >= SLICE) {
            self.shift.push_back((now, Totals::default()));
        }
        let old = |began: &Timestamp| now.saturating_sub(*began) >= SLICE * SLICES as u32;
        while self.shift.front().is_some_and(|(began, _)| old(began)) {
            self.shift.pop_front();
        }
    }

    /// The outcome of a part, if it was told.
    pub(super) fn outcome(&self, sequence: u64) -> Option<&Outcome> {
        self.outcomes.iter().rev().find(|outcome| outcome.sequence == sequence)
    }

    /// The number of the last part.
    pub(super) fn newest(&self) -> Option<u64> {
        self.last.back().map(|line| line.sequence)
    }

    /// True if a later part was told.
    pub(super) fn is_past(&self, sequence: u64) -> bool {
        self.last.back().is_some_and(|line| line.sequence > sequence)
    }

    /// The last parts after this one, the oldest first; all if none is given.
    pub(super) fn after(&self, sequence: Option<u64>) -> Vec<Line> {
        let new = |line: &&Line| sequence.is_none_or(|sequence| line.sequence > sequence);
        self.last.iter().filter(new).cloned().collect()
    }

    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The last eight hours.
    pub(super) fn shift(&mut self, now: Timestamp) -> Totals {
        self.turn(now);
        self.shift.iter().fold(Totals::default(), |mut all, (_, slice)| {
            all.join(slice);
            all
        })
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

fn line(outcome: &Outcome, now: Timestamp) -> Line {
    let by = &outcome.judged_by;
    Line {
        sequence: outcome.sequence,
        part_id: outcome.part_id,
        at: jiff::Timestamp::now().as_millisecond(),
        verdict: outcome.verdict.word(),
        class: outcome.class_name().map(String::from),
        score: outcome.score,
        threshold: f32::from(by.threshold) / 10_000.0,
        zones: outcome.zones,
        reason: outcome.plc.reason,
        regions: outcome.regions().len(),
        timings_us: outcome.timings,
        told_us: now.saturating_sub(outcome.captured).as_micros() as u64,
        release: format!("{} {}.{}", by.name, by.version, by.counter),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outcome::{Judged, JudgedBy, Opened};
    use crate::signal::Signaller;
    use crate::verdict::{Fault, Findings};

    const SIGNALLER: Signaller = Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) };
    const NOW: Timestamp = Timestamp::from_secs(100_000);

    fn outcome(sequence: u64, verdict: Verdict) -> Outcome {
        let classes = vec!["good".into(), "dent".into()];
        let judged_by = JudgedBy { classes, threshold: 4000, ..JudgedBy::default() };
        let part = Opened { sequence, part_id: 9, at: NOW };
        let judged = Judged { verdict, score: Some(0.75), zones: 5, drift: None };
        Outcome::new(part, judged, SIGNALLER.run(part.at, false), &Arc::new(judged_by), Timings::default())
    }

    fn reject(sequence: u64) -> Outcome {
        outcome(sequence, Verdict::Reject(Findings { class: 1, score: 0.75, regions: Default::default() }))
    }

    #[test]
    fn parts_are_counted_by_class_and_code() {
        let mut books = Books::default();
        books.add(&outcome(0, Verdict::Pass), NOW, true);
        books.add(&reject(1), NOW, true);
        books.add(&outcome(2, Verdict::Fault(Fault::Late)), NOW + Duration::from_millis(7), false);
        let totals = books.totals().clone();
        assert_eq!((totals.pass, totals.reject, totals.fault), (1, 1, 1));
        assert_eq!((totals.classes["dent"], totals.faults[&7]), (1, 1));
        assert_eq!(books.shift(NOW), totals);
        let lines = books.after(Some(0));
        assert_eq!(lines.iter().map(|line| line.sequence).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((lines[0].class.as_deref(), lines[0].threshold, lines[1].told_us), (Some("dent"), 0.4, 7000));
        assert!(books.outcome(1).is_none(), "nobody looks any more");
    }

    #[test]
    fn a_shift_is_eight_hours() {
        let mut books = Books::default();
        for hour in 0..24 {
            books.add(&reject(hour), NOW + Duration::from_secs(3600 * hour), false);
        }
        let end = NOW + Duration::from_secs(3600 * 23);
        assert_eq!((books.totals().reject, books.shift(end).reject), (24, 8));
        assert_eq!(books.shift(end + Duration::from_secs(8 * 3600)), Totals::default());
        assert!(books.shift.len() <= SLICES + 1);
    }

    #[test]
    fn so_many_parts_are_remembered() {
        let mut books = Books::default();
        (0..1000).for_each(|sequence| books.add(&reject(sequence), NOW, true));
        assert_eq!((books.after(None).len(), books.outcomes.len()), (LAST, OUTCOMES));
        assert_eq!(books.outcome(999).map(|outcome| outcome.sequence), Some(999));
    }
}
