//! What came of a run, checked part by part and counted.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use fcam::verdict::{Fault, Verdict};

use crate::Told;
use crate::conveyor::Part;
use crate::plc::Decision;

/// A result belongs to its trigger, and is true of its part.
pub fn check(index: u64, part: &Part, told: &Told) {
    let outcome = &told.outcome;
    assert_eq!((part.ticket.sequence, outcome.sequence), (index, index), "numbers follow the triggers");
    assert_eq!(outcome.part_id, part.ticket.part_id, "part {index}");
    assert_eq!(outcome.captured, part.ticket.at, "part {index} is timed from its trigger");
    match &outcome.verdict {
        Verdict::Pass => assert!(part.good, "part {index} is bad and passed"),
        Verdict::Reject(_) => assert!(!part.good, "part {index} is good and was rejected as another"),
        Verdict::Fault(fault) => assert_eq!(*fault == Fault::Missed, !part.ticket.taken, "part {index}: {fault:?}"),
    }
    if part.trouble.is_some() || !part.ticket.taken {
        assert!(matches!(outcome.verdict, Verdict::Fault(_)), "part {index} was not seen: {:?}", outcome.verdict);
    }
}

/// The PLC passes only what was judged good.
pub fn check_passed(index: usize, parts: &[Part], told: &[Told], decision: &Decision) {
    assert!(decision.telegrams <= 1, "part {index} was told {} times", decision.telegrams);
    if decision.passed {
        assert!(parts[index].good && told[index].outcome.verdict == Verdict::Pass, "part {index}");
    }
}

/// The tables of a run.
pub struct Table {
    rows: BTreeMap<String, usize>,
    passed: usize,
    unheard: usize,
    too_late: usize,
    overdue: Vec<Duration>,
}

impl Table {
    pub fn new(parts: &[Part], told: &[Told], decisions: &[Decision], delay: Duration) -> Self {
        let mut rows = BTreeMap::new();
        for (part, told) in parts.iter().zip(told) {
            let truth = if part.good { "good" } else { "bad" };
            let word = match &told.outcome.verdict {
                Verdict::Fault(fault) => format!("fault {fault:?}"),
                judged => judged.word().to_string(),
            };
            *rows.entry(format!("{truth:5} {word}")).or_default() += 1;
        }
        let judged = told.iter().filter(|told| !matches!(told.outcome.verdict, Verdict::Fault(_)));
        let overdue =
            judged.map(|told| told.at.saturating_sub(told.outcome.captured + delay)).filter(|late| !late.is_zero());
        Self {
            rows,
            passed: decisions.iter().filter(|decision| decision.passed).count(),
            unheard: decisions.iter().filter(|decision| decision.telegrams == 0).count(),
            too_late: decisions.iter().filter(|decision| decision.late).count(),
            overdue: overdue.collect(),
        }
    }

    pub fn judged(&self) -> usize {
        self.rows.iter().filter(|(word, _)| !word.contains("fault")).map(|(_, count)| count).sum()
    }

    pub fn passed(&self) -> usize {
        self.passed
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "truth verdict            parts")?;
        self.rows.iter().try_for_each(|(word, count)| writeln!(f, "{word:22} {count:7}"))?;
        let Self { passed, unheard, too_late, overdue, .. } = self;
        let worst = overdue.iter().max().copied().unwrap_or_default();
        writeln!(
            f,
            "the PLC passed {passed}; {unheard} telegrams were lost on the wire, {too_late} came too late to be believed"
        )?;
        write!(f, "{} verdicts were told after their due time, by {worst:.1?} at most", overdue.len())
    }
}
