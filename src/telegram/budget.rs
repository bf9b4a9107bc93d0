//! What telegrams cost on a line: bytes, time, and the share of the time between two parts. One arithmetic for the
//! station file's checks, for the sink that chooses a mask's scale, and for `fcam plc budget`.

use super::OVERHEAD;
use super::message::{CHUNK_CRC, CHUNK_HEADER, MAX_DATA, MAX_REGIONS, REGION, REGIONS_HEADER};

/// Bytes of a VERDICT frame.
pub const VERDICT: usize = OVERHEAD + 30;
/// Bytes of a HEARTBEAT frame.
pub const HEARTBEAT: usize = OVERHEAD + 18;
/// Bytes of a HELLO frame.
pub const HELLO: usize = OVERHEAD + 8;
/// Bytes of a MASK_ABORT frame.
pub const ABORT: usize = OVERHEAD + 6;
/// The smallest piece of a mask that is worth a frame, bytes of run lengths.
pub const MIN_DATA: usize = 16;
/// Bytes of a chunk's frame beside its data, the CRC-32 of a last one included.
pub const CHUNK: usize = OVERHEAD + CHUNK_HEADER + CHUNK_CRC;
/// Of the time between two parts, what telegrams may take: the rest is for heartbeats, jitter of the parts and slow
/// clocks.
pub const SHARE_PERCENT: u64 = 90;

/// A line and what is asked of it.
///
/// ```
/// use fcam::telegram::budget::SerialLine;
///
/// let line = SerialLine {
///     baud: 115_200, bits: 10, parts_per_minute: 300, head_of_line_ms: 10, frame_bytes: 240, masks: true,
/// };
/// assert_eq!(line.time_us(40), 3473); // a VERDICT
/// assert_eq!(line.problem(800), None); // a usual mask has 800 bytes of run lengths
/// let slow = SerialLine { baud: 19_200, parts_per_minute: 60, head_of_line_ms: 50, ..line };
/// let problem = slow.problem(2000).ok_or("it fits")?.to_string();
/// assert!(problem.starts_with("a part takes "), "{problem}");
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SerialLine {
    /// Bits a second.
    pub baud: u32,
    /// Bits of a byte on the wire: 10 without parity, 11 with.
    pub bits: u32,
    /// Parts a minute at most.
    pub parts_per_minute: u32,
    /// Milliseconds that a verdict waits at most for what is being sent.
    pub head_of_line_ms: u32,
    /// Bytes that the PLC takes as one frame at most.
    pub frame_bytes: usize,
    /// Whether regions and masks are sent.
    pub masks: bool,
}

impl SerialLine {
    /// Microseconds that this many bytes take, rounded up.
    pub fn time_us(&self, bytes: usize) -> u64 {
        (bytes as u64 * u64::from(self.bits) * 1_000_000).div_ceil(u64::from(self.baud.max(1)))
    }

    /// Microseconds between two parts.
    pub fn part_us(&self) -> u64 {
        60_000_000 / u64::from(self.parts_per_minute.max(1))
    }

    /// Bytes that fit between two parts, all in all.
    pub fn capacity(&self) -> usize {
        self.bytes_in(self.part_us())
    }

    fn bytes_in(&self, us: u64) -> usize {
        (us * u64::from(self.baud) / u64::from(self.bits.max(1)) / 1_000_000) as usize
    }

    /// Bytes of a REGIONS or MASK_CHUNK frame at most, so that a verdict behind it waits no longer than it may.
    pub fn low_priority_frame(&self) -> usize {
        self.bytes_in(u64::from(self.head_of_line_ms) * 1000).min(self.frame_bytes)
    }

    /// Bytes of run lengths in a chunk.
    pub fn chunk_data(&self) -> usize {
        self.low_priority_frame().saturating_sub(CHUNK).clamp(MIN_DATA, MAX_DATA)
    }

    /// Regions in one telegram.
    pub fn regions_each(&self) -> usize {
        let room = self.low_priority_frame().saturating_sub(OVERHEAD + REGIONS_HEADER);
        (room / REGION).clamp(1, MAX_REGIONS)
    }

    /// Bytes of all REGIONS frames of a part with this many regions.
    pub fn regions(&self, count: usize) -> usize {
        let telegrams = count.div_ceil(self.regions_each()).max(1);
        telegrams * (OVERHEAD + REGIONS_HEADER) + count * REGION
    }

    /// Bytes of all MASK_CHUNK frames of a mask with this many bytes of run lengths.
    pub fn mask(&self, total: usize) -> usize {
        let chunks = total.div_ceil(self.chunk_data()).max(1);
        total + chunks * (OVERHEAD + CHUNK_HEADER) + CHUNK_CRC
    }

    /// Bytes that a mask's frames may take in all: what verdict and regions leave.
    pub fn mask_budget(&self) -> usize {
        self.usable().saturating_sub(VERDICT + self.regions(MAX_REGIONS))
    }

    /// Bytes that telegrams may take between two parts.
    pub fn usable(&self) -> usize {
        (self.capacity() as u64 * SHARE_PERCENT / 100) as usize
    }

    /// Bytes that a part costs at most when its mask has this many bytes of run lengths.
    pub fn part(&self, mask: usize) -> usize {
        VERDICT + if self.masks { self.regions(MAX_REGIONS) + self.mask(mask) } else { 0 }
    }

    /// Why this cannot work; none if it can. `mask` is what a usual mask takes, bytes of run lengths.
    pub fn problem(&self, mask: usize) -> Option<Problem> {
        let smallest = CHUNK + MIN_DATA;
        if self.masks && self.low_priority_frame() < smallest {
            let (bytes, us) = (smallest, self.time_us(smallest));
            return Some(Problem::HeadOfLine { bytes, us, allowed_ms: self.head_of_line_ms });
        }
        let (needed, usable) = (self.part(mask), self.usable());
        (needed > usable).then_some(Problem::Rate { needed, usable, parts_per_minute: self.parts_per_minute })
    }
}

/// Why a line cannot do what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Even the smallest chunk of a mask holds a verdict up for too long.
    HeadOfLine {
        /// The smallest chunk.
        bytes: usize,
        /// What it takes, microseconds.
        us: u64,
        /// What is allowed, milliseconds.
        allowed_ms: u32,
    },
    /// More bytes a part than there is time for.
    Rate {
        /// Bytes a part.
        needed: usize,
        /// Bytes that fit.
        usable: usize,
        /// At this rate.
        parts_per_minute: u32,
    },
}

impl core::fmt::Display for Problem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::HeadOfLine { bytes, us, allowed_ms } => write!(
                f,
                "a verdict may wait {allowed_ms} ms, but the smallest piece of a mask ({bytes} bytes) takes {:.1} ms",
                *us as f64 / 1e3
            ),
            Self::Rate { needed, usable, parts_per_minute } => write!(
                f,
                "a part takes {needed} bytes, but only {usable} fit between two parts at {parts_per_minute} a minute"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: SerialLine = SerialLine {
        baud: 115_200,
        bits: 10,
        parts_per_minute: 600,
        head_of_line_ms: 10,
        frame_bytes: 240,
        masks: true,
    };

    #[test]
    fn times_and_sizes() {
        assert_eq!(LINE.time_us(32), 2778);
        assert_eq!((LINE.part_us(), LINE.capacity(), LINE.usable()), (100_000, 1152, 1036));
        assert_eq!((LINE.low_priority_frame(), LINE.chunk_data(), LINE.regions_each()), (115, 82, 4));
        assert_eq!((LINE.regions(0), LINE.regions(4), LINE.regions(5)), (26, 98, 142));
        assert_eq!((LINE.mask(3), LINE.mask(82), LINE.mask(83)), (36, 115, 145));
        assert!(LINE.time_us(LINE.low_priority_frame()) <= 10_000);
    }

    #[test]
    fn what_cannot_work_says_so() {
        assert_eq!(LINE.problem(500), None);
        assert!(matches!(LINE.problem(2000), Some(Problem::Rate { usable: 1036, .. })));
        let slow = SerialLine { baud: 9600, ..LINE };
        assert!(matches!(slow.problem(3), Some(Problem::HeadOfLine { bytes: 49, .. })));
        assert_eq!(SerialLine { masks: false, ..slow }.problem(2000), None);
        assert!(SerialLine { masks: false, baud: 1200, ..slow }.problem(0).is_some());
    }
}
