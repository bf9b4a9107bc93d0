//! The station's books: what was opened, what became of it, and what went wrong. One number for each physical event.
//!
//! Every sequence number that capture gives out is opened here, and is closed by exactly one verdict, or by being
//! dropped in free-run. [`Counts::balanced`] is rule D as an equation.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::verdict::{Fault, Verdict};

/// A number that several threads count up.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The reasons for faults, in the order of [`Counts::faults`].
pub const FAULT_NAMES: [(Fault, &str); 12] = [
    (Fault::Camera, "camera"),
    (Fault::Stalled, "stalled"),
    (Fault::Geometry, "geometry"),
    (Fault::Overflow, "overflow"),
    (Fault::Engine, "engine"),
    (Fault::Late, "late"),
    (Fault::Stopped, "stopped"),
    (Fault::Missed, "missed"),
    (Fault::NoFrame, "no frame"),
    (Fault::Frozen, "frozen"),
    (Fault::NotFound, "not found"),
    (Fault::Blind, "blind"),
];

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The live counters; see [`Counts`].
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
            faults: [Counter; FAULT_NAMES.len()],
        }

        /// What a station has counted since its start.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
            /// Fault verdicts by reason, in the order of [`FAULT_NAMES`].
            pub faults: [u64; FAULT_NAMES.len()],
        }

        impl Counters {
            /// The numbers now.
            pub(super) fn read(&self) -> Counts {
                Counts {
                    $($name: self.$name.get(),)*
                    faults: self.faults.each_ref().map(Counter::get),
                }
            }
        }
    };
}

counters! {
    /// Frames that the camera delivered.
    frames,
    /// Troubles of the camera: each is one fault verdict, however long it lasts.
    incidents,
    /// Frames that free-run replaced by newer ones before they were judged.
    dropped,
    /// Frames that are missing in the camera's own numbering.
    lost,
    /// Pass verdicts.
    pass,
    /// Reject verdicts.
    reject,
    /// Verdicts that reached the outputs after their due time; those that were pass or reject became faults.
    late,
    /// Verdicts that came out of order: always 0.
    disorder,
    /// Errors that the camera reported.
    camera_errors,
    /// Times that the camera came back.
    camera_restarts,
    /// Parts at which the engine panicked.
    panics,
    /// Parts written to disk.
    recorded,
    /// Parts that were to be recorded and were not.
    record_drops,
    /// Verdicts that a sink could not tell.
    sink_errors,
}

impl Counters {
    /// Closes a part.
    pub(super) fn verdict(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Pass => self.pass.add(1),
            Verdict::Reject(_) => self.reject.add(1),
            Verdict::Fault(fault) => {
                let counters = FAULT_NAMES.iter().zip(&self.faults);
                counters.filter(|((known, _), _)| known == fault).for_each(|(_, counter)| counter.add(1));
            }
        }
    }
}

impl Counts {
    /// Fault verdicts of one reason.
    pub fn fault(&self, fault: Fault) -> u64 {
        FAULT_NAMES.iter().zip(&self.faults).find(|((known, _), _)| *known == fault).map_or(0, |(_, count)| *count)
    }

    /// All fault verdicts.
    pub fn all_faults(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// All verdicts.
    pub fn verdicts(&self) -> u64 {
        self.pass + self.reject + self.all_faults()
    }

    /// Rule D: whatever was opened was closed exactly once, in order. True when the station has drained.
    pub fn balanced(&self) -> bool {
        self.frames + self.incidents == self.verdicts() + self.dropped && self.disorder == 0
    }

    /// No part went unjudged, and everybody was told.
    pub fn clean(&self) -> bool {
        self.balanced() && self.all_faults() == 0 && self.sink_errors == 0
    }
}

impl fmt::Display for Counts {
    /// The three verdicts always; everything else only if it happened.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, pass, reject, .. } = self;
        write!(f, "{frames} frames, {pass} pass, {reject} reject, {} fault", self.all_faults())?;
        let mut reasons = FAULT_NAMES.iter().zip(&self.faults).filter(|(_, count)| **count > 0).peekable();
        if reasons.peek().is_some() {
            let words: Vec<String> = reasons.map(|((_, name), count)| format!("{name} {count}")).collect();
            write!(f, " ({})", words.join(", "))?;
        }
        let rest = [
            ("dropped", self.dropped),
            ("lost by the camera", self.lost),
            ("late", self.late),
            ("camera errors", self.camera_errors),
            ("camera restarts", self.camera_restarts),
            ("engine panics", self.panics),
            ("recorded", self.recorded),
            ("record drops", self.record_drops),
            ("sink errors", self.sink_errors),
        ];
        rest.iter().filter(|(_, count)| *count > 0).try_for_each(|(name, count)| write!(f, ", {count} {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_balance_only_when_every_part_is_closed_once() {
        let counters = Counters::default();
        counters.frames.add(3);
        counters.incidents.add(1);
        counters.dropped.add(1);
        counters.verdict(&Verdict::Pass);
        counters.verdict(&Verdict::Fault(Fault::Stalled));
        assert!(!counters.read().balanced());
        counters.verdict(&Verdict::Fault(Fault::Engine));
        let counts = counters.read();
        assert!(counts.balanced() && !counts.clean());
        assert_eq!(counts.to_string(), "3 frames, 1 pass, 0 reject, 2 fault (stalled 1, engine 1), 1 dropped");
        counters.verdict(&Verdict::Pass);
        assert!(!counters.read().balanced());
    }

    #[test]
    fn every_reason_has_a_number() {
        for (fault, _) in FAULT_NAMES {
            let counters = Counters::default();
            counters.verdict(&Verdict::Fault(fault));
            assert_eq!((counters.read().fault(fault), counters.read().all_faults()), (1, 1), "{fault:?}");
        }
    }
}
