//! In: what a driver says of a buffer. Out: a frame's number and capture time, as the rest of fcam wants them: numbers
//! that only grow, with a gap for each lost frame, and times of the monotonic clock that are never in the future.

use crate::clock::Timestamp;

/// Frame numbers over all restarts of the stream, from the driver's 32-bit sequence numbers.
///
/// The driver's start at 0 with each start of the stream, and wrap. Some drivers take them from the time and, under
/// jitter, give one number twice and skip the next; that is no loss.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    /// The driver's last number of this stream.
    last: Option<u32>,
    /// The number to give at least.
    next: u64,
    /// Frames that came under a number seen before, and whose own number is still to be skipped.
    repeated: u64,
}

impl Numbering {
    /// A stream starts: whatever its first number is, nothing was lost.
    pub(super) fn restart(&mut self) {
        (self.last, self.repeated) = (None, 0);
    }

    /// The number of the frame that the driver calls `sequence`.
    pub(super) fn number(&mut self, sequence: u32) -> u64 {
        // Half of the range forward is forward, the other half is backward, as for any number that wraps.
        let step = self.last.map_or(1, |last| sequence.wrapping_sub(last).cast_signed());
        self.last = Some(sequence);
        let skipped = u64::from(step.saturating_sub(1).max(0).unsigned_abs());
        match step {
            0 => self.repeated += 1,
            ..0 => self.repeated = 0, // the driver began to count anew
            _ => {}
        }
        let explained = self.repeated.min(skipped);
        self.repeated -= explained;
        let number = self.next + skipped - explained;
        self.next = number + 1;
        number
    }
}

/// When a frame was captured: the driver's time if it is of the monotonic clock and possible, else `now`.
pub(super) fn captured(driver: Option<Timestamp>, now: Timestamp) -> Timestamp {
    driver.filter(|time| !time.is_zero() && *time <= now).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(sequences: &[u32]) -> Vec<u64> {
        let mut numbering = Numbering::default();
        sequences.iter().map(|sequence| numbering.number(*sequence)).collect()
    }

    #[test]
    fn gaps_stay_gaps() {
        assert_eq!(numbers(&[0, 1, 2, 5, 6]), [0, 1, 2, 5, 6]);
        assert_eq!(numbers(&[7, 8, 10]), [0, 1, 3], "what came before the first frame is not lost");
        assert_eq!(numbers(&[u32::MAX - 1, u32::MAX, 0, 2]), [0, 1, 2, 4], "32 bits wrap");
    }

    #[test]
    fn a_number_given_twice_is_no_loss_and_never_underflows() {
        assert_eq!(numbers(&[3, 4, 4, 6, 7]), [0, 1, 2, 3, 4], "skipped in exchange");
        assert_eq!(numbers(&[3, 4, 4, 5, 6]), [0, 1, 2, 3, 4], "never skipped");
        assert_eq!(numbers(&[3, 3, 3, 7]), [0, 1, 2, 4], "two numbers are accounted for, one is lost");
    }

    #[test]
    fn a_driver_that_counts_anew_loses_nothing() {
        assert_eq!(numbers(&[100, 101, 0, 1, 3]), [0, 1, 2, 3, 5]);
        let mut numbering = Numbering::default();
        assert_eq!(numbering.number(40), 0);
        numbering.restart();
        assert_eq!((numbering.number(50), numbering.number(51)), (1, 2));
    }

    #[test]
    fn times_are_the_drivers_unless_they_cannot_be() {
        let second = Timestamp::from_secs;
        assert_eq!(captured(Some(second(5)), second(6)), second(5));
        for impossible in [None, Some(second(0)), Some(second(7))] {
            assert_eq!(captured(impossible, second(6)), second(6), "{impossible:?}");
        }
    }
}
