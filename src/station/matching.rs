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
///
/// ```
/// use std::time::Duration;
///
/// use fcam::station::{Matching, Rule, Trigger};
///
/// // The camera runs free, and a part is in view 40 ms after its light barrier, for 15 ms either way.
/// let ms = Duration::from_millis;
/// let matching = Matching { rule: Rule::Nearest, delay: ms(40), window: ms(15) };
/// let trigger = Trigger::External { queue: 2, matching }; // two parts may wait to be judged
/// assert_ne!(trigger, Trigger::FreeRun);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matching {
    /// How frames belong to triggers.
    pub rule: Rule,
    /// From the trigger to the moment at which the part is in view.
    pub delay: Duration,
    /// How far from that moment a frame may have been captured.
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
    /// This frame may show the part or another one: it is given to neither.
    Doubtful,
}

/// Capture times of the frames that no part has been given yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unused {
    pub(super) previous: Option<Timestamp>,
    pub(super) this: Option<Timestamp>,
}

/// The triggers around one: their parts may be in its frames too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Neighbours {
    /// The last one before it.
    pub(super) before: Option<Timestamp>,
    /// The last one before it that was given no frame, and whose frame may still come.
    pub(super) unserved: Option<Timestamp>,
    /// The next one after it, if there is one already.
    pub(super) after: Option<Timestamp>,
}

impl Matching {
    /// The moment at which the part of a trigger is in view.
    pub(super) fn target(&self, trigger: Timestamp) -> Timestamp {
        trigger + self.delay
    }

    /// The frame for a trigger, when one captured at `now` has come. A frame is given to one part only, and to none
    /// where another trigger, one that was missed included, has as good a claim: a lost frame costs its own part and no
    /// other.
    pub(super) fn choose(&self, trigger: Timestamp, neighbours: Neighbours, now: Timestamp, unused: Unused) -> Choice {
        if now < self.target(trigger) {
            return Choice::Wait;
        }
        match self.rule {
            Rule::Nearest => self.nearest(trigger, neighbours, unused),
            Rule::Next => self.next(trigger, neighbours, unused),
        }
    }

    /// A frame shows the part that is nearest to the middle of the view.
    fn nearest(&self, trigger: Timestamp, neighbours: Neighbours, unused: Unused) -> Choice {
        let far = |trigger: Timestamp, frame: Timestamp| self.target(trigger).abs_diff(frame);
        let near = |frame: Option<Timestamp>| {
            let frame = frame?;
            let mine = far(trigger, frame);
            let rivals = [neighbours.before, neighbours.after];
            let rivalled = rivals.into_iter().flatten().any(|rival| far(rival, frame) <= mine);
            (mine <= self.window && !rivalled).then_some(mine)
        };
        match (near(unused.previous), near(unused.this)) {
            (Some(before), Some(after)) if before < after => Choice::Previous,
            (_, Some(_)) => Choice::This,
            (Some(_), None) => Choice::Previous,
            (None, None) => Choice::None,
        }
    }

    /// A frame shows the part of the only trigger that can have fired it.
    fn next(&self, trigger: Timestamp, neighbours: Neighbours, unused: Unused) -> Choice {
        let Some(frame) = unused.this else { return Choice::None };
        let fired = |trigger| {
            let target = self.target(trigger);
            (target..=target + self.window).contains(&frame)
        };
        let rivals = [neighbours.unserved, neighbours.after];
        match (fired(trigger), rivals.into_iter().flatten().any(fired)) {
            (true, false) => Choice::This,
            (true, true) => Choice::Doubtful,
            (false, _) => Choice::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const ALONE: Neighbours = Neighbours { before: None, unserved: None, after: None };

    fn choose(rule: Rule, neighbours: Neighbours, previous: Option<u64>, this: Option<u64>, now: u64) -> Choice {
        let matching = Matching { rule, delay: ms(5), window: ms(20) };
        matching.choose(ms(100), neighbours, ms(now), Unused { previous: previous.map(ms), this: this.map(ms) })
    }

    #[test]
    fn the_nearest_frame_within_the_window() {
        for (previous, this, now, expected) in [
            (Some(90), Some(104), 104, Choice::Wait), // in view at 105: a later frame may be nearer
            (Some(100), Some(133), 133, Choice::Previous),
            (Some(90), Some(110), 110, Choice::This),
            (Some(80), Some(130), 130, Choice::None),
            (None, Some(110), 110, Choice::This),
            (Some(100), None, 133, Choice::Previous), // this one shows another part
            (None, None, 110, Choice::None),
        ] {
            assert_eq!(choose(Rule::Nearest, ALONE, previous, this, now), expected, "{previous:?} {this:?}");
        }
    }

    #[test]
    fn a_frame_nearer_to_another_part_is_that_parts() {
        // In view at 105; the frames at 116 and 96.
        for (before, after, expected) in [
            (None, Some(115), Choice::Previous), // 120 is nearer to 116
            (None, Some(122), Choice::Previous), // 127 is just as near
            (None, Some(130), Choice::Previous), // and 96 is nearer to 105 anyhow
            (Some(85), None, Choice::This),      // 90 is nearer to 96
            (Some(85), Some(115), Choice::None),
        ] {
            let neighbours = Neighbours { before: before.map(ms), unserved: None, after: after.map(ms) };
            assert_eq!(choose(Rule::Nearest, neighbours, Some(96), Some(116), 116), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_fired_sensor_answers_after_its_trigger() {
        assert_eq!(choose(Rule::Next, ALONE, Some(104), Some(120), 120), Choice::This);
        assert_eq!(choose(Rule::Next, ALONE, Some(104), Some(140), 140), Choice::None);
        assert_eq!(choose(Rule::Next, ALONE, Some(90), Some(104), 104), Choice::Wait);
    }

    #[test]
    fn a_frame_that_two_triggers_may_have_fired_is_nobodys() {
        // In view from 105 to 125; the frame at 116.
        for (before, unserved, after, expected) in [
            (None, None, Some(111), Choice::Doubtful),
            (None, None, Some(112), Choice::This), // from 117 on
            (Some(95), None, None, Choice::This),  // that one has its frame
            (Some(95), Some(95), None, Choice::Doubtful),
            (Some(85), Some(85), None, Choice::This), // until 110
        ] {
            let neighbours = Neighbours { before: before.map(ms), unserved: unserved.map(ms), after: after.map(ms) };
            assert_eq!(choose(Rule::Next, neighbours, None, Some(116), 116), expected, "{neighbours:?}");
        }
    }
}
