//! In: entropy-coded bytes without stuffing. Out: their bits, the first bit of a byte being its highest.
//!
//! Reading past the end gives zeros, so that the loops above need no check for each code: they ask [`Bits::overrun`]
//! once for each MCU.

/// Zeros that must follow the bytes of a segment in its buffer.
pub(super) const SLACK: usize = 8;

/// The bits of one segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits<'a> {
    /// With [`SLACK`] behind them.
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest on; what lies behind the first `count` is either zero or already the right bit.
    window: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// `bytes` ends with [`SLACK`] zeros.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, window: 0, count: 0 }
    }

    /// Makes at least 56 bits available.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let next =
            self.bytes.get(self.at..).and_then(<[u8]>::first_chunk).map_or(0, |chunk| u64::from_be_bytes(*chunk));
        self.window |= next >> self.count;
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
    }

    /// The same if fewer than 32 are left.
    #[inline(always)]
    pub(super) fn top_up(&mut self) {
        if self.count < 32 {
            self.refill();
        }
    }

    /// The next `count` bits, 1 to 32; they stay.
    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> u32 {
        (self.window >> (64 - count)) as u32
    }

    /// Leaves `count` bits behind, at most as many as are available.
    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.window <<= count;
        self.count = self.count.wrapping_sub(count);
    }

    /// The next `count` bits, 0 to 16, as a number.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        let value = (self.window >> 32 >> (32 - count)) as u32;
        self.skip(count);
        value
    }

    /// The next `size` bits, 0 to 16, as a signed value (T.81, F.2.2.1: EXTEND of RECEIVE).
    #[inline(always)]
    pub(super) fn value(&mut self, size: u32) -> i32 {
        // A first bit of 1 says that the value is positive.
        let negative = !((self.window as i64) >> 63) as i32;
        let bits = self.take(size) as i32;
        bits + (negative & (1 - (1 << size)))
    }

    /// Bits that were left behind.
    fn used(&self) -> usize {
        self.at * 8 - self.count as usize
    }

    fn length(&self) -> usize {
        self.bytes.len().saturating_sub(SLACK) * 8
    }

    /// True if bits were used that the segment does not have.
    #[inline(always)]
    pub(super) fn overrun(&self) -> bool {
        self.used() > self.length()
    }

    /// The bits from here to the end of the byte are all 1, as T.81, F.1.2.3 has the last byte of a segment filled up;
    /// and the bytes after it.
    pub(super) fn rest(&self) -> (bool, &'a [u8]) {
        let used = self.used();
        let whole = used.div_ceil(8);
        let last = self.bytes.get(whole.wrapping_sub(1)).copied().unwrap_or(0xFF);
        let padding = (1u32 << (whole * 8 - used)) - 1;
        let end = self.bytes.len().saturating_sub(SLACK);
        (u32::from(last) & padding == padding, self.bytes.get(whole..end).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(bytes: &[u8]) -> Vec<u8> {
        [bytes, &[0; SLACK]].concat()
    }

    #[test]
    fn bits_come_from_the_highest_on() {
        let bytes = padded(&[0b1010_0110, 0b1100_0000, 0xFF, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let mut bits = Bits::new(&bytes);
        bits.refill();
        assert_eq!((bits.take(3), bits.take(5), bits.take(0), bits.take(2)), (0b101, 0b110, 0, 0b11));
        assert_eq!(bits.peek(14), 0xFF);
        bits.skip(14);
        for value in 1..=9 {
            bits.top_up();
            assert_eq!(bits.take(8), value);
        }
        assert!(!bits.overrun());
        bits.refill();
        assert_eq!((bits.take(1), bits.overrun()), (0, true));
    }

    #[test]
    fn values_are_extended() {
        // Table F.1 of T.81: of size 3 are -7..-4 and 4..7.
        for (bits, value) in [(0b000, -7), (0b011, -4), (0b100, 4), (0b111, 7)] {
            let bytes = padded(&[bits << 5]);
            let mut bits = Bits::new(&bytes);
            bits.refill();
            assert_eq!((bits.value(0), bits.value(3)), (0, value));
        }
    }

    #[test]
    fn the_rest_is_padding_and_stray_bytes() {
        for (bytes, used, ones, stray) in [
            (&[0b1010_0111, 9, 8][..], 5, true, &[9u8, 8][..]),
            (&[0b1010_0101], 5, false, &[]),
            (&[0b1010_0101], 8, true, &[]),
            (&[], 0, true, &[]),
            (&[7], 0, true, &[7]),
        ] {
            let bytes = padded(bytes);
            let mut bits = Bits::new(&bytes);
            bits.refill();
            bits.take(used);
            assert_eq!(bits.rest(), (ones, stray), "{bytes:?}");
        }
    }
}
