//! Which frame shows the part of a trigger. Pure: times in, an answer out.

use std::time::Duration;

use crate::clock::Timestamp;

/// How frames belong to triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The camera runs free: the frame captured nearest to the moment at which the part is in view.
    Nearest,
    /// The trigger fires the sensor: the first frame captured after it.
    Next,
}

/// The rule and its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matching {
    /// How frames belong to triggers.
    pub rule: Rule,
    /// From the trigger to the moment at which the part is in view.
    pub delay: Duration,
    /// So far from that moment a frame may have been captured.
    pub window: Duration,
}

/// What becomes of a ticket when a frame has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Its frame is still to come.
    Wait,
    /// The frame that came before this one.
    Previous,
    /// This frame.
    This,
    /// No frame shows the part.
    None,
}

/// Capture times of the frames that no part has been given yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unused {
    pub(super) previous: Option<Timestamp>,
    pub(super) this: Option<Timestamp>,
}

impl Matching {
    /// The moment at which the part of a trigger is in view.
    pub(super) fn target(&self, trigger: Timestamp) -> Timestamp {
        trigger + self.delay
    }

    /// The frame for a trigger, when one captured at `now` has come. A frame is given to one part only, and never to a part when the trigger
    /// after it, `following`, has the better claim: a lost frame costs its own part and no other.
    pub(super) fn choose(
        &self,
        trigger: Timestamp,
        following: Option<Timestamp>,
        now: Timestamp,
        unused: Unused,
    ) -> Choice {
        let target = self.target(trigger);
        if now < target {
            return Choice::Wait;
        }
        let claimed = following.is_some_and(|next| self.claims(self.target(next), target, now));
        let near = |time: Option<Timestamp>| time.map(|time| time.abs_diff(target)).filter(|far| *far <= self.window);
        let previous = near(unused.previous.filter(|_| self.rule == Rule::Nearest));
        match (previous, near(unused.this.filter(|_| !claimed))) {
            (Some(before), Some(after)) if before < after => Choice::Previous,
            (_, Some(_)) => Choice::This,
            (Some(_), None) => Choice::Previous,
            (None, None) => Choice::None,
        }
    }

    /// True if a frame captured at `now` shows the part in view at `next` rather than the one in view at `target`.
    fn claims(&self, next: Timestamp, target: Timestamp, now: Timestamp) -> bool {
        match self.rule {
            Rule::Nearest => now.abs_diff(next) < now.abs_diff(target),
            Rule::Next => next <= now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn choose(rule: Rule, trigger: u64, previous: Option<u64>, this: Option<u64>, now: u64) -> Choice {
        let matching = Matching { rule, delay: ms(5), window: ms(20) };
        matching.choose(ms(trigger), None, ms(now), Unused { previous: previous.map(ms), this: this.map(ms) })
    }

    #[test]
    fn the_nearest_frame_within_the_window() {
        for (trigger, previous, this, now, expected) in [
            (100, Some(90), Some(104), 104, Choice::Wait), // in view at 105: a later frame may be nearer
            (100, Some(100), Some(133), 133, Choice::Previous),
            (100, Some(90), Some(110), 110, Choice::This),
            (100, Some(80), Some(130), 130, Choice::None),
            (100, None, Some(110), 110, Choice::This),
            (100, Some(100), None, 133, Choice::Previous), // this one shows another part
            (100, None, None, 110, Choice::None),
        ] {
            assert_eq!(
                choose(Rule::Nearest, trigger, previous, this, now),
                expected,
                "{trigger} {previous:?} {this:?}"
            );
        }
    }

    #[test]
    fn a_fired_sensor_answers_after_its_trigger() {
        assert_eq!(choose(Rule::Next, 100, Some(104), Some(120), 120), Choice::This);
        assert_eq!(choose(Rule::Next, 100, Some(104), Some(140), 140), Choice::None);
        assert_eq!(choose(Rule::Next, 100, Some(90), Some(104), 104), Choice::Wait);
    }

    #[test]
    fn a_lost_frame_costs_its_own_part_and_no_other() {
        let unused = Unused { previous: None, this: Some(ms(116)) };
        for (rule, following, expected) in [
            (Rule::Next, 110, Choice::None), // in view at 115: the frame is that part's
            (Rule::Next, 112, Choice::This),
            (Rule::Nearest, 110, Choice::None),
            (Rule::Nearest, 130, Choice::This), // in view at 135: 116 is nearer to 105
        ] {
            let matching = Matching { rule, delay: ms(5), window: ms(20) };
            assert_eq!(
                matching.choose(ms(100), Some(ms(following)), ms(116), unused),
                expected,
                "{rule:?} {following}"
            );
        }
    }
}
