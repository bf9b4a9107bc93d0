//! In: the entropy-coded bytes of a scan. Out: calls of a decoder of MCUs, restart interval by restart interval.
//!
//! Holds a scan to exactly its MCUs and its restart markers in their order (T.81, E.1.4 and E.2): missing and
//! additional ones are errors. Between the last MCU of an interval and its restart marker a few bytes may stand that
//! are no data, because some cameras put them there. Before the marker that ends the scan there may be none: there
//! nothing else would tell a picture with data too many.

use super::bits::{Bits, SLACK};
use super::error::{Error, Flaw, Marker};
use super::frame::Scan;

/// Bytes other than zeros that may stand before a restart marker; longer ones are data.
const STRAY: usize = 16;

/// Walks one scan.
pub(super) struct Walk<'a> {
    /// The whole picture.
    pub(super) bytes: &'a [u8],
    /// Where the entropy-coded bytes begin.
    pub(super) at: usize,
    /// MCUs from one restart marker to the next; 0 if there are none.
    pub(super) restart: usize,
}

impl Walk<'_> {
    /// Hands the bits of each interval, with the MCUs that it must have, to `decode`; that returns the one that failed
    /// and why. Returns where the marker stands that ends the scan. `data` is scratch.
    pub(super) fn run(
        self,
        scan: &Scan,
        data: &mut Vec<u8>,
        mut decode: impl FnMut(&mut Bits, std::ops::Range<usize>) -> Result<(), (usize, Flaw)>,
    ) -> Result<usize, Error> {
        let count = scan.across * scan.down;
        let every = if self.restart == 0 { count } else { self.restart };
        let (mut at, mut first, mut number) = (self.at, 0, 0u8);
        loop {
            let (marker, code) = unstuff(self.bytes, at, data)?;
            let mut bits = Bits::new(data);
            let mcu = (first + every).min(count);
            decode(&mut bits, first..mcu).map_err(|(mcu, flaw)| match (bits.overrun(), code) {
                (true, 0xD8) => Error::Restarted(marker),
                (true, _) => Error::Data { mcu, count, flaw: Flaw::End },
                (false, _) => Error::Data { mcu, count, flaw },
            })?;
            let ends = mcu == count;
            let expected = 0xD0 | number & 7;
            let (filled, rest) = bits.rest();
            let stray = filled && (rest.len() <= STRAY || rest.iter().all(|&byte| byte == 0));
            let accepted = rest.is_empty() || (stray && code == expected);
            if !accepted {
                return Err(Error::Excess { bytes: rest.len(), mcu, count });
            }
            match (ends, code == expected) {
                (true, false) if matches!(code, 0xD0..=0xD7) => return Err(Error::StrayRestart { mcu, count }),
                (true, false) => return Ok(marker),
                (true, true) => return self.last(marker, data, mcu, count),
                (false, true) => {}
                (false, false) => {
                    return Err(Error::Restart { mcu, count, found: Marker(code), expected: number & 7 });
                }
            }
            (at, first, number) = (marker + 2, mcu, number.wrapping_add(1));
        }
    }

    /// Some encoders write a restart marker after the last MCU too: it does not count if nothing follows it.
    fn last(&self, marker: usize, data: &mut Vec<u8>, mcu: usize, count: usize) -> Result<usize, Error> {
        let (end, code) = unstuff(self.bytes, marker + 2, data)?;
        let nothing = data.len() == SLACK && !matches!(code, 0xD0..=0xD7);
        if nothing && self.restart > 0 { Ok(end) } else { Err(Error::StrayRestart { mcu, count }) }
    }
}

/// Copies entropy-coded bytes up to the next marker, and zeros behind them; returns where the marker stands, and its
/// code. FF is data if 00 follows it (T.81, B.1.1.5), and fills up if a marker does.
fn unstuff(bytes: &[u8], mut at: usize, into: &mut Vec<u8>) -> Result<(usize, u8), Error> {
    into.clear();
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let run = before_ff(rest);
        into.extend_from_slice(rest.get(..run).unwrap_or_default());
        let fill = rest.iter().skip(run).take_while(|&&byte| byte == 0xFF).count();
        at += run + fill;
        match bytes.get(at) {
            Some(0) => into.push(0xFF),
            Some(&code) => {
                into.extend_from_slice(&[0; SLACK]);
                return Ok((at - 1, code));
            }
            None => return Err(Error::Truncated),
        }
        at += 1;
    }
}

/// Bytes before the first FF.
fn before_ff(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks::<32>();
    let whole = chunks.iter().take_while(|chunk| chunk.iter().fold(true, |none, &byte| none & (byte != 0xFF))).count();
    let chunk = chunks.get(whole).map_or(rest, |chunk| chunk);
    whole * 32 + chunk.iter().take_while(|&&byte| byte != 0xFF).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_ends_at_its_marker() {
        for (bytes, data, marker) in [
            (&[1, 0xFF, 0, 2, 0xFF, 0xD9][..], &[1, 0xFF, 2][..], Some((4, 0xD9))),
            (&[0xFF, 0xD0], &[], Some((0, 0xD0))),
            (&[1, 0xFF, 0xFF, 0xFF, 0xC4, 0], &[1], Some((3, 0xC4))),
            (&[1, 0xFF], &[], None),
            (&[1, 0xFF, 0xFF], &[], None),
            (&[], &[], None),
            (&[0xFF, 0], &[], None),
        ] {
            let mut into = vec![9];
            let found = unstuff(bytes, 0, &mut into).ok();
            assert_eq!(found, marker, "{bytes:?}");
            if found.is_some() {
                assert_eq!(into, [data, &[0; SLACK]].concat(), "{bytes:?}");
            }
        }
    }

    #[test]
    fn every_ff_is_found() {
        for length in 0..100 {
            for at in 0..length {
                let mut bytes = vec![0xFE; length];
                assert_eq!(before_ff(&bytes), length);
                bytes[at] = 0xFF;
                assert_eq!(before_ff(&bytes), at);
            }
        }
    }
}
