//! In: the verdict of each frame of a stream. Out: the verdict to tell: several of the last frames must reject before a
//! reject is told.
//!
//! For free-running streams, in which a part is seen several times and a single frame may be a glint. Exactly:
//!
//! - Of the last `of` frames, `need` must reject. Frames that were not seen yet vote as the newest does: right after a
//!   start nothing outvotes a reject, and nothing is held against a good part.
//! - A fault is told as it is, at once, and forgets all frames before it.
//! - A reject that is told for a frame which itself passes has the class of the latest frame that rejected, and no
//!   regions: on this frame nothing was found.
//!
//! It refuses to outvote a fault. A score is always the frame's own.

use serde::{Deserialize, Serialize};

use crate::verdict::{Findings, Verdict};

/// Frames that may vote at most.
pub const MAX_FRAMES: u32 = 64;

/// How many frames vote, and how many must reject.
///
/// ```
/// use fcam::vote::Vote;
///
/// assert_eq!(Vote { of: 5, need: 3 }.problem(), None);
/// assert_eq!(Vote { of: 5, need: 6 }.problem().as_deref(), Some("need = 6 is outside 1..=5"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// The last frames, 1 to [`MAX_FRAMES`].
    pub of: u32,
    /// How many of them must reject, 1..=of.
    pub need: u32,
}

impl Vote {
    /// What is wrong with it, if anything is.
    pub fn problem(&self) -> Option<String> {
        let Self { of, need } = *self;
        if !(1..=MAX_FRAMES).contains(&of) {
            return Some(format!("of = {of} is outside 1..={MAX_FRAMES}"));
        }
        (!(1..=of).contains(&need)).then(|| format!("need = {need} is outside 1..={of}"))
    }
}

/// Counts the votes of one stream.
///
/// ```
/// use fcam::verdict::{Fault, Findings, Verdict};
/// use fcam::vote::{Ballot, Vote};
///
/// let reject = || Verdict::Reject(Findings { class: 1, score: 0.9, regions: Default::default() });
/// let mut ballot = Ballot::new(Vote { of: 3, need: 2 });
/// for _ in 0..2 {
///     assert_eq!(ballot.run(Verdict::Pass, 0.1), Verdict::Pass);
/// }
/// assert_eq!(ballot.run(reject(), 0.9), Verdict::Pass); // one frame of three: a glint
/// assert!(matches!(ballot.run(reject(), 0.9), Verdict::Reject(_)));
/// assert_eq!(ballot.run(Verdict::Fault(Fault::Late), 0.0), Verdict::Fault(Fault::Late)); // never outvoted
/// ```
#[derive(Debug, Clone)]
pub struct Ballot {
    vote: Vote,
    /// The frames seen, the newest in the lowest bit: 1 rejects.
    rejects: u64,
    /// Frames seen, at most `of`.
    seen: u32,
    /// The class of the latest reject.
    class: usize,
}

impl Ballot {
    /// An empty ballot. What is out of range is brought into it.
    pub fn new(vote: Vote) -> Self {
        let of = vote.of.clamp(1, MAX_FRAMES);
        Self { vote: Vote { of, need: vote.need.clamp(1, of) }, rejects: 0, seen: 0, class: 0 }
    }

    /// Forgets every frame: what comes is another stream, or nobody knows what was missed.
    pub fn clear(&mut self) {
        (self.rejects, self.seen) = (0, 0);
    }

    /// The verdict to tell for a frame with this verdict and defect score.
    pub fn run(&mut self, verdict: Verdict, score: f32) -> Verdict {
        let rejected = match &verdict {
            Verdict::Fault(_) => {
                self.clear();
                return verdict;
            }
            Verdict::Pass => false,
            Verdict::Reject(findings) => {
                self.class = findings.class;
                true
            }
        };
        match (self.count(rejected) >= self.vote.need, verdict) {
            (true, Verdict::Pass) => {
                Verdict::Reject(Findings { class: self.class, score, regions: heapless::Vec::new() })
            }
            (false, _) => Verdict::Pass,
            (true, verdict) => verdict,
        }
    }

    /// Takes the vote of one frame and counts those that reject.
    fn count(&mut self, rejected: bool) -> u32 {
        let Vote { of, .. } = self.vote;
        self.seen = (self.seen + 1).min(of);
        self.rejects = (self.rejects << 1 | u64::from(rejected)) & (u64::MAX >> (MAX_FRAMES - of));
        self.rejects.count_ones() + if rejected { of - self.seen } else { 0 }
    }
}
