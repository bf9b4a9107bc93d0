//! The first parts of a bundle. In: what was told since the station started. Out: that they are through, or why the
//! bundle is given up.

use crate::verdict::Fault;

/// How long a new bundle is on trial, and what it may do wrong.
///
/// ```
/// use fcam::store::Id;
/// use fcam::trial::{Jobs, Seen, Told, TrialLimits, Trials};
///
/// let running = Id { name: "lid".into(), counter: 7 };
/// let mut trials = Trials::new(Jobs::new(), TrialLimits { parts: 50, faults: 2 }, Some(running), true);
/// let told = |parts, faults| Seen { told: Told { verdicts: parts, parts, faults }, ..Seen::default() };
/// trials.turn(&told(49, 2));
/// assert!(trials.is_on_trial());
/// trials.turn(&told(50, 2)); // two of fifty were late: as many as may
/// assert!(!trials.is_on_trial());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrialLimits {
    /// Parts that it is watched for.
    pub parts: u64,
    /// How many of them may be late, find no place to wait or be of another size; with one more, or any failure of the
    /// engine, it is given up.
    pub faults: u64,
}

/// Faults that a bundle can bring about: it is too slow, or for frames of another size.
pub const ITS_OWN: [Fault; 3] = [Fault::Late, Fault::Overflow, Fault::Geometry];

/// What a station did since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Verdicts that were told.
    pub verdicts: u64,
    /// Those of parts that a bundle was asked to judge. A part without a picture says nothing of a bundle.
    pub parts: u64,
    /// Those of them that ended in one of [`ITS_OWN`].
    pub faults: u64,
}

/// What the inspect thread sees between two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Verdicts that it handed on since the start; some of them may not be told yet.
    pub judged: u64,
    /// What was told.
    pub told: Told,
    /// Triggers that found no place to wait since the start.
    pub crowded: u64,
    /// The PLC's job in force; 0 if there is none.
    pub job: u16,
}

/// The first parts of one bundle.
#[derive(Debug, Clone)]
pub(super) struct First {
    /// Verdicts of bundles before it.
    from: u64,
    /// What was told when the last of those was; none before.
    since: Option<Told>,
    /// Triggers that had found no place to wait before it.
    crowded: u64,
}

impl First {
    /// Of a bundle that judges from here on. Those of one that the station starts with begin at nothing.
    pub(super) fn new(seen: &Seen) -> Self {
        let mut new = Self { from: seen.judged, since: None, crowded: seen.crowded };
        new.since(&seen.told); // mostly all is told already
        new
    }

    /// What was told before it, once all of that is.
    fn since(&mut self, told: &Told) -> Option<Told> {
        let over = told.verdicts >= self.from;
        over.then(|| *self.since.get_or_insert(*told))
    }

    /// What there is to say, if anything: it is through, or why not. Counts what was told, so that parts before it do
    /// not count.
    pub(super) fn judge(&mut self, limits: TrialLimits, seen: &Seen) -> Option<Result<(), String>> {
        let since = self.since(&seen.told)?;
        let parts = seen.told.parts.saturating_sub(since.parts);
        let own = seen.told.faults.saturating_sub(since.faults);
        let faults = own + seen.crowded.saturating_sub(self.crowded);
        if faults > limits.faults {
            return Some(Err(format!(
                "after {parts} parts {faults} were late, found no place to wait or had another size, and {} may",
                limits.faults
            )));
        }
        (parts >= limits.parts).then_some(Ok(()))
    }
}
