//! A mask as run lengths: row-major over the whole mask as one line, background first, each length as LEB128 (seven
//! bits a byte, low bits first, the top bit says that more follow). The lengths add up to width x height, so a decoder
//! knows when a mask is whole.

/// Bytes of the longest length.
pub const MAX_BYTES: usize = 5;

/// One length as LEB128.
///
/// ```
/// use fcam::telegram::runs;
///
/// assert_eq!(*runs::encode(127), [0x7f]);
/// assert_eq!(*runs::encode(300), [0xac, 0x02]); // low bits first
/// ```
pub fn encode(mut length: u32) -> heapless::Vec<u8, MAX_BYTES> {
    let mut bytes = heapless::Vec::new();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        let more = if length > 0 { 0x80 } else { 0 };
        let _ = bytes.push(low | more); // 32 bits are five times seven at most
        if length == 0 {
            return bytes;
        }
    }
}

/// Run lengths that are not those of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A length of more than 32 bits.
    Long,
    /// They end within a length.
    Cut,
    /// They add up to something other than the mask's pixels.
    Sum,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Long => "a run length has more than 32 bits",
            Self::Cut => "the run lengths end within one",
            Self::Sum => "the run lengths do not add up to the mask's pixels",
        })
    }
}

/// Calls `span(start, end)` for each foreground run of a mask of `pixels`, positions counted row by row. The bytes may
/// come in pieces.
///
/// ```
/// use fcam::telegram::runs;
///
/// let mut spans = vec![];
/// runs::decode(&[2, 3, 3], 8, |start, end| spans.push(start..end)).map_err(|error| error.to_string())?;
/// assert_eq!(spans, [2..5]);
/// assert_eq!(runs::decode(&[2, 3], 8, |_, _| {}), Err(runs::Error::Sum)); // a mask is whole or an error
/// # Ok::<(), String>(())
/// ```
pub fn decode(bytes: &[u8], pixels: u32, mut span: impl FnMut(u32, u32)) -> Result<(), Error> {
    let (mut at, mut foreground) = (0u32, false);
    let (mut length, mut shift) = (0u32, 0u32);
    for byte in bytes {
        let low = u32::from(byte & 0x7f);
        if shift > 28 || (shift == 28 && low > 0x0f) {
            return Err(Error::Long);
        }
        length |= low << shift;
        shift += 7;
        if byte & 0x80 != 0 {
            continue;
        }
        let end = at.checked_add(length).filter(|end| *end <= pixels).ok_or(Error::Sum)?;
        if foreground && end > at {
            span(at, end);
        }
        (at, foreground, length, shift) = (end, !foreground, 0, 0);
    }
    match (shift, at) {
        (1.., _) => Err(Error::Cut),
        (_, at) if at != pixels => Err(Error::Sum),
        _ => Ok(()),
    }
}
