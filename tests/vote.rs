//! N of M against a model that keeps the whole history and counts from its definition.

use fcam::verdict::{Fault, Findings, Verdict};
use fcam::vote::{Ballot, MAX_FRAMES, Vote};
use proptest::prelude::*;

fn reject(class: usize) -> Verdict {
    Verdict::Reject(Findings { class, score: 0.9, regions: Default::default() })
}

/// P: passes, R: rejects, F: a fault.
fn told(vote: Vote, frames: &str) -> String {
    let mut ballot = Ballot::new(vote);
    let word = |frame| {
        let verdict = match frame {
            'P' => Verdict::Pass,
            'R' => reject(1),
            _ => Verdict::Fault(Fault::Stalled),
        };
        match ballot.run(verdict, 0.5) {
            Verdict::Pass => 'P',
            Verdict::Reject(_) => 'R',
            Verdict::Fault(_) => 'F',
        }
    };
    frames.chars().map(word).collect()
}

#[test]
fn by_hand() {
    let three_of_five = Vote { of: 5, need: 3 };
    for (frames, expected) in [
        ("PPPPPRPPPP", "PPPPPPPPPP"),   // a glint
        ("PPPPPRRRPPP", "PPPPPPPRRRP"), // three in a row, told until they are fewer than three of the last five
        ("RRPPPR", "RRPPPP"),           // nothing outvotes the first frames; five frames later two are not three
        ("PR", "PR"),                   // one good frame does not outvote either
        ("PPPR", "PPPP"),               // three do: at most two of five could reject
        ("PPPPPRFRP", "PPPPPPFRP"),     // a fault stands, and what was before is forgotten
        ("RRRRRFP", "RRRRRFP"),
    ] {
        assert_eq!(told(three_of_five, frames), expected, "{frames}");
    }
    assert_eq!(told(Vote { of: 1, need: 1 }, "PRFRP"), "PRFRP");
    assert_eq!(told(Vote { of: 3, need: 1 }, "PPPRPPP"), "PPPRRRP");
}

#[test]
fn a_reject_told_for_a_frame_that_passes_shows_no_place() {
    let mut ballot = Ballot::new(Vote { of: 3, need: 2 });
    let mut findings = Findings { class: 2, score: 0.9, regions: Default::default() };
    let region = fcam::mask::Region { x: 1, y: 1, width: 2, height: 2, area_px: 4.0, centroid: [2.0; 2], peak: 0.8 };
    findings.regions.push(region).unwrap();
    let rejected = Verdict::Reject(findings);
    assert_eq!(ballot.run(rejected.clone(), 0.9), rejected);
    assert_eq!(ballot.run(rejected.clone(), 0.9), rejected, "a frame that rejects keeps its findings");
    let Verdict::Reject(findings) = ballot.run(Verdict::Pass, 0.1) else { panic!("two of three reject") };
    assert_eq!((findings.class, findings.score, findings.regions.len()), (2, 0.1, 0));
}

#[test]
fn votes_out_of_range_are_problems() {
    for (of, need, wrong) in [(0, 1, "of = 0"), (65, 1, "of = 65"), (5, 0, "need = 0"), (5, 6, "need = 6")] {
        assert!(Vote { of, need }.problem().unwrap().starts_with(wrong), "{need} of {of}");
    }
    assert_eq!(Vote { of: 64, need: 64 }.problem(), None);
}

/// The definition: all verdicts since the last fault, `Some` class of a reject.
struct Model {
    vote: Vote,
    history: Vec<Option<usize>>,
}

impl Model {
    fn told(&mut self, verdict: &Verdict) -> Option<Option<usize>> {
        let vote = match verdict {
            Verdict::Fault(_) => {
                self.history.clear();
                return None;
            }
            Verdict::Pass => None,
            Verdict::Reject(findings) => Some(findings.class),
        };
        self.history.push(vote);
        let (of, need) = (self.vote.of as usize, self.vote.need as usize);
        let last = &self.history[self.history.len().saturating_sub(of)..];
        let rejects = last.iter().flatten().count();
        let passes = last.len() - rejects;
        // A frame that rejects is told unless so many pass that no other frames could make it `need`; one that passes
        // is told to pass unless `need` reject.
        let reject = if vote.is_some() { of - passes >= need } else { rejects >= need };
        Some(last.iter().flatten().next_back().copied().filter(|_| reject))
    }
}

proptest! {
    #[test]
    fn the_ballot_is_its_definition(
        of in 1..=MAX_FRAMES, share in 0f64..1.0,
        frames in prop::collection::vec((0u32..20, 0usize..8), 1..300), likely in 1u32..19,
    ) {
        let vote = Vote { of, need: 1 + (share * f64::from(of - 1)).round() as u32 };
        let (mut ballot, mut model) = (Ballot::new(vote), Model { vote, history: vec![] });
        for (dice, class) in frames {
            let verdict = match dice {
                0 => Verdict::Fault(Fault::Late),
                dice if dice < likely => reject(class),
                _ => Verdict::Pass,
            };
            let expected = model.told(&verdict);
            let fault = matches!(verdict, Verdict::Fault(_));
            let found = match ballot.run(verdict.clone(), 0.5) {
                Verdict::Pass => Some(None),
                Verdict::Reject(findings) => Some(Some(findings.class)),
                Verdict::Fault(told) => {
                    prop_assert_eq!(Verdict::Fault(told), verdict);
                    None
                }
            };
            prop_assert_eq!(found, expected);
            prop_assert_eq!(found.is_none(), fault, "a fault is never outvoted, and nothing else becomes one");
        }
    }
}
