//! Why bytes are no JPEG picture, or not a whole one.

/// What is wrong with the bits of a data unit (a block of 8 x 8 samples).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// No code of the table begins like this.
    #[error("a code that is not in its Huffman table")]
    Code,
    /// A symbol that pictures of 8 bits do not have.
    #[error("a coefficient longer than any of 8-bit samples")]
    Size,
    /// More coefficients than a block has.
    #[error("more than 64 coefficients in a block")]
    Count,
    /// A coefficient that no samples of 8 bits make.
    #[error("a coefficient too large for 8-bit samples")]
    Range,
    /// The bits end first.
    #[error("too few bytes")]
    End,
}

/// Why a picture is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first two bytes say so.
    #[error("it is not a JPEG picture")]
    NotJpeg,
    /// The bytes end before the end marker.
    #[error("the file is truncated: its end marker is missing")]
    Truncated,
    /// Neither a segment nor the end.
    #[error("there is no marker at byte {0}, where one must be")]
    NoMarker(usize),
    /// A second picture begins before the first one has ended.
    #[error("it is cut short: another picture begins at byte {0}, before its end")]
    Restarted(usize),
    /// A segment whose content is not what its kind must have.
    #[error("its segment {name} {why}")]
    Segment {
        /// The segment's name in T.81.
        name: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A kind of JPEG that is not decoded here.
    #[error(
        "it is {0}, which is not read: baseline, extended sequential and progressive Huffman pictures of 8 bits are, so convert it to RGB"
    )]
    Kind(&'static str),
    /// A size beyond the limits.
    #[error("{width} x {height} pixels: {why}")]
    Size {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// The limit.
        why: &'static str,
    },
    /// Components that cannot be put together.
    #[error("its components {0}")]
    Components(&'static str),
    /// A table that a scan needs and nobody defined.
    #[error("{0} is not defined")]
    NoTable(&'static str),
    /// Data that is not what the scan must have.
    #[error("MCU {mcu} of {count} has {flaw}")]
    Data {
        /// From 0.
        mcu: usize,
        /// MCUs of the scan.
        count: usize,
        /// What is wrong.
        flaw: Flaw,
    },
    /// Data after the last MCU of a scan or of a restart interval.
    #[error("{bytes} bytes too many after MCU {mcu} of {count}")]
    Excess {
        /// How many.
        bytes: usize,
        /// MCUs up to there.
        mcu: usize,
        /// MCUs of the scan.
        count: usize,
    },
    /// The sequence of restart markers is broken.
    #[error("at MCU {mcu} of {count} comes {found}, and not restart marker {expected}")]
    Restart {
        /// MCUs up to there.
        mcu: usize,
        /// MCUs of the scan.
        count: usize,
        /// The marker that is there.
        found: Marker,
        /// The number of the one that must be there, 0 to 7.
        expected: u8,
    },
    /// A restart marker where the scan has none.
    #[error("there is a restart marker after MCU {mcu} of {count}, where the scan has none")]
    StrayRestart {
        /// MCUs up to there.
        mcu: usize,
        /// MCUs of the scan.
        count: usize,
    },
    /// Scans that do not follow from each other.
    #[error("its scans {0}")]
    Scans(&'static str),
}

/// A marker in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker(pub u8);

impl std::fmt::Display for Marker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0xD0..=0xD7 => write!(f, "restart marker {}", self.0 & 7),
            0xD8 => write!(f, "the start of another picture"),
            0xD9 => write!(f, "the end marker"),
            code => write!(f, "marker FF {code:02X}"),
        }
    }
}
