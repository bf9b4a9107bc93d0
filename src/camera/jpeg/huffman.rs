//! In: a Huffman table as a DHT segment gives it. Out: for the next bits, their symbol; for short codes with their
//! value at once.
//!
//! Refuses tables with more codes than there are (T.81, annex C). A symbol that no picture of 8 bits can have is
//! refused when it occurs.
//!
//! Most codes and their extra bits fit 10 bits together, often two of them: one look-up then gives the coefficients,
//! how many are zero before each, and if the block ends behind them. Everything else takes a second, slower way.

use super::bits::Bits;
use super::error::Flaw;

/// Bits that are looked up at once.
const LOOKUP: u32 = 10;
const ENTRIES: usize = 1 << LOOKUP;

/// Which coefficients a table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Differences of the mean.
    Dc,
    /// All others.
    Ac,
}

/// The counts of codes of each length from 1 to 16, and the symbols in the order of their codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) counts: [u8; 16],
    pub(super) symbols: [u8; 256],
}

impl Spec {
    /// No codes at all.
    const EMPTY: Self = Self { counts: [0; 16], symbols: [0; 256] };

    /// `counts`, and as many symbols as they sum up to, 256 at most.
    pub(super) fn new(counts: [u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut spec = Self { counts, ..Self::EMPTY };
        spec.symbols.get_mut(..symbols.len())?.copy_from_slice(symbols);
        (spec.total() == symbols.len()).then_some(spec)
    }

    /// The symbols that have a code.
    pub(super) fn used(&self) -> &[u8] {
        self.symbols.get(..self.total()).unwrap_or_default()
    }

    /// Code and length of a symbol (T.81, C.2).
    pub(super) fn code(&self, symbol: u8) -> Option<(u32, u32)> {
        let (mut code, mut symbols) = (0, self.used().iter());
        for (length, &count) in (1..=16).zip(&self.counts) {
            for _ in 0..count {
                if *symbols.next()? == symbol {
                    return Some((code, length));
                }
                code += 1;
            }
            code <<= 1;
        }
        None
    }

    fn total(&self) -> usize {
        self.counts.iter().map(|&count| usize::from(count)).sum()
    }
}

/// What short codes stand for, packed: one coefficient or two, or the end of a block, or both.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fast(u64);

impl Fast {
    /// Of coefficients by value and distance from the one before; where there is one, it is there twice, the second
    /// time at no distance.
    fn new([first, second]: [(i32, u32); 2], used: u32, ends: bool) -> Self {
        let values = u64::from(first.0 as u16) << 48 | u64::from(second.0 as u16) << 32;
        Self(values | u64::from(first.1) << 24 | u64::from(second.1) << 16 | u64::from(ends) << 8 | u64::from(used))
    }

    #[inline(always)]
    pub(super) fn first(self) -> i16 {
        (self.0 >> 48) as i16
    }

    #[inline(always)]
    pub(super) fn second(self) -> i16 {
        (self.0 >> 32) as i16
    }

    /// How far the first coefficient is from the one before it; 0 if there is none.
    #[inline(always)]
    pub(super) fn distance(self) -> usize {
        (self.0 >> 24 & 0xFF) as usize
    }

    /// How far the second is from the first; 0 if it is the first.
    #[inline(always)]
    pub(super) fn further(self) -> usize {
        (self.0 >> 16 & 0xFF) as usize
    }

    /// True if the block ends behind them.
    #[inline(always)]
    pub(super) fn ends(self) -> bool {
        self.0 & 0x100 != 0
    }

    /// Bits that all of it takes; 0 if the first code is not short.
    #[inline(always)]
    pub(super) fn used(self) -> u32 {
        (self.0 & 0xFF) as u32
    }
}

/// A table, ready to decode.
#[derive(Debug, Clone)]
pub(super) struct Table {
    spec: Spec,
    class: Class,
    /// By the next [`LOOKUP`] bits.
    fast: [Fast; ENTRIES],
    /// The same: the symbol in the upper byte, the length of its code in the lower; 0 if that is longer.
    short: [u16; ENTRIES],
    /// Codes of each length and all shorter ones are below this, filled up with zeros to 16 bits.
    limits: [u32; 17],
    /// What makes the index of a symbol of a code of each length.
    offsets: [i32; 17],
}

impl Table {
    /// Without a code.
    pub(super) fn new(class: Class) -> Self {
        let (fast, short) = ([Fast::default(); ENTRIES], [0; ENTRIES]);
        Self { spec: Spec::EMPTY, class, fast, short, limits: [0; 17], offsets: [0; 17] }
    }

    /// Takes over a table; at no cost if it is the one that is there. False if it has more codes than there are.
    pub(super) fn set(&mut self, spec: &Spec) -> bool {
        if self.spec == *spec {
            return true;
        }
        let (mut code, mut first) = (0u32, 0);
        for (length, &count) in (1u32..=16).zip(&spec.counts) {
            let next = code + u32::from(count);
            if next > 1 << length {
                *self = Self::new(self.class);
                return false;
            }
            if let (Some(limit), Some(offset)) =
                (self.limits.get_mut(length as usize), self.offsets.get_mut(length as usize))
            {
                *limit = next << (16 - length);
                *offset = first - code as i32;
            }
            first += i32::from(count);
            code = next << 1;
        }
        self.spec = *spec;
        self.fill();
        true
    }

    fn fill(&mut self) {
        for bits in 0..ENTRIES as u32 {
            let (symbol, length) =
                self.search(bits << (16 - LOOKUP)).filter(|(_, length)| *length <= LOOKUP).unwrap_or_default();
            let fast = self.fast_of(bits);
            if let (Some(to_fast), Some(short)) = (self.fast.get_mut(bits as usize), self.short.get_mut(bits as usize))
            {
                *to_fast = fast;
                *short = u16::from(symbol) << 8 | length as u16;
            }
        }
    }

    /// The entry for `bits`.
    fn fast_of(&self, bits: u32) -> Fast {
        let (mut found, mut used, mut ends) = (heapless::Vec::<_, 2>::new(), 0, false);
        while let Some((value, distance, length)) = self.short_of(bits << used & (ENTRIES as u32 - 1), LOOKUP - used) {
            let mean = self.class == Class::Dc;
            ends = value == 0 && !mean;
            if !ends && found.push((value, distance)).is_err() {
                break;
            }
            used += length;
            if ends || mean {
                break;
            }
        }
        match *found.as_slice() {
            [first, second] => Fast::new([first, second], used, ends),
            [one] => Fast::new([one, (one.0, 0)], used, ends),
            _ => Fast::new([(0, 0); 2], used, ends),
        }
    }

    /// Value and distance of a coefficient of which code and value are within the first `known` of [`LOOKUP`] bits, and
    /// how many of them it takes; of the end of a block the value is 0.
    fn short_of(&self, bits: u32, known: u32) -> Option<(i32, u32, u32)> {
        let (symbol, length) = self.search(bits << (16 - LOOKUP))?;
        let (run, size) = split(self.class, symbol)?;
        let used = length + size;
        if used > known || (self.class == Class::Ac && size == 0 && run > 0) {
            return None;
        }
        let extra = (bits >> (LOOKUP - used)) & ((1 << size) - 1);
        let negative = size > 0 && extra >> (size - 1) == 0;
        let value = extra as i32 + if negative { 1 - (1 << size) } else { 0 };
        Some((value, run + 1, used))
    }

    /// Symbol and length of the code that 16 bits begin with.
    fn search(&self, bits: u32) -> Option<(u8, u32)> {
        let length = (1..=16).find(|&length| self.limits.get(length).is_some_and(|&limit| bits < limit))?;
        let index = self.offsets.get(length)? + (bits >> (16 - length)) as i32;
        let symbol = self.spec.symbols.get(usize::try_from(index).ok()?)?;
        Some((*symbol, length as u32))
    }

    /// What the next bits hold.
    #[inline(always)]
    pub(super) fn fast(&self, bits: &Bits) -> Fast {
        self.fast.get(bits.peek(LOOKUP) as usize % ENTRIES).copied().unwrap_or_default()
    }

    /// The next symbol; 16 bits must be available.
    #[inline(always)]
    pub(super) fn symbol(&self, bits: &mut Bits) -> Result<u8, Flaw> {
        let entry = self.short.get(bits.peek(LOOKUP) as usize % ENTRIES).copied().unwrap_or(0);
        if entry != 0 {
            bits.skip(u32::from(entry & 0xFF));
            return Ok((entry >> 8) as u8);
        }
        let (symbol, length) = self.search(bits.peek(16)).ok_or(Flaw::Code)?;
        bits.skip(length);
        Ok(symbol)
    }

    /// The next symbol as run and size.
    #[inline(always)]
    pub(super) fn run_and_size(&self, bits: &mut Bits) -> Result<(u32, u32), Flaw> {
        split(self.class, self.symbol(bits)?).ok_or(Flaw::Size)
    }
}

/// Coefficients that are zero before the one that a symbol stands for, and the bits of that; none for what 8-bit
/// pictures cannot have (T.81, tables F.1 and F.2).
fn split(class: Class, symbol: u8) -> Option<(u32, u32)> {
    let (run, size, most) = match class {
        Class::Dc => (0, symbol, 11),
        Class::Ac => (symbol >> 4, symbol & 15, 10),
    };
    (size <= most).then_some((run.into(), size.into()))
}

/// The tables of T.81, K.3.3, which Motion JPEG leaves out: for luminance (0) and chrominance (1).
pub(super) fn standard(class: Class, number: usize) -> Option<Spec> {
    match (class, number) {
        (Class::Dc, 0) => Spec::new([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &DC_SYMBOLS),
        (Class::Dc, 1) => Spec::new([0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &DC_SYMBOLS),
        (Class::Ac, 0) => Spec::new([0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D], &LUMINANCE_SYMBOLS),
        (Class::Ac, 1) => Spec::new([0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], &CHROMINANCE_SYMBOLS),
        _ => None,
    }
}

const DC_SYMBOLS: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

#[rustfmt::skip]
const LUMINANCE_SYMBOLS: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xA1, 0x08,
    0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28,
    0x29, 0x2A, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
    0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
    0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6,
    0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2,
    0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
];

#[rustfmt::skip]
const CHROMINANCE_SYMBOLS: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91,
    0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0, 0x15, 0x62, 0x72, 0xD1, 0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26,
    0x27, 0x28, 0x29, 0x2A, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
    0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4,
    0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA,
    0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
];

#[cfg(test)]
mod tests {
    use super::super::bits::SLACK;
    use super::*;

    fn table(class: Class, number: usize) -> Table {
        let mut table = Table::new(class);
        assert!(table.set(&standard(class, number).unwrap()));
        table
    }

    #[test]
    fn every_code_of_the_standard_tables_is_its_symbol() {
        for (class, number) in [(Class::Dc, 0), (Class::Dc, 1), (Class::Ac, 0), (Class::Ac, 1)] {
            let table = table(class, number);
            for &symbol in table.spec.used() {
                let (code, length) = table.spec.code(symbol).unwrap();
                for extra in [0u32, 0x5A5A, 0xFFFF] {
                    let word = (code << 16 | extra) << (16 - length);
                    let bytes = [&word.to_be_bytes()[..], &[0; SLACK]].concat();
                    let mut bits = Bits::new(&bytes);
                    bits.refill();
                    let fast = table.fast(&bits);
                    assert_eq!(table.symbol(&mut bits).unwrap(), symbol);
                    let (run, size) = split(class, symbol).unwrap();
                    let expected = bits.value(size);
                    let ends = class == Class::Ac && symbol == 0;
                    match (length + size <= LOOKUP && symbol != 0xF0, ends) {
                        (true, true) => assert_eq!((fast.distance(), fast.ends(), fast.used()), (0, true, length)),
                        (true, false) => {
                            assert_eq!((i32::from(fast.first()), fast.distance()), (expected, run as usize + 1));
                            assert!(fast.used() >= length + size);
                        }
                        (false, _) => assert_eq!(fast.used(), 0, "{class:?} {symbol}"),
                    }
                }
            }
        }
    }

    #[test]
    #[allow(clippy::unusual_byte_groupings)] // code by code
    fn two_coefficients_and_the_end_come_together() {
        // In the table for luminance 1 is 00 and its value's bit, the end is 1010.
        for (word, values, distances, used, ends) in [
            (0b001_1010_0000_0000_0u32, [1, 1], [1, 0], 7, true),
            (0b000_001_1010_0000_00, [-1, 1], [1, 1], 10, true),
            (0b001_001_001_0000_000, [1, 1], [1, 1], 6, false),
            (0b1010_0010_1010_1010, [0, 0], [0, 0], 4, true),
        ] {
            let bytes = [&(word as u16).to_be_bytes()[..], &[0; SLACK]].concat();
            let mut bits = Bits::new(&bytes);
            bits.refill();
            let fast = table(Class::Ac, 0).fast(&bits);
            assert_eq!(
                ([fast.first(), fast.second()], [fast.distance(), fast.further()]),
                (values, distances),
                "{word:b}"
            );
            assert_eq!((fast.used(), fast.ends()), (used, ends), "{word:b}");
            let fast = table(Class::Dc, 0).fast(&bits);
            assert_eq!((fast.further(), fast.ends()), (0, false), "means are alone");
        }
    }

    #[test]
    fn unused_codes_and_impossible_sizes_are_refused() {
        let bytes = [[0xFF; 16], [0; 16]].concat();
        let mut bits = Bits::new(&bytes);
        bits.refill();
        for class in [Class::Dc, Class::Ac] {
            assert_eq!(table(class, 0).symbol(&mut bits).unwrap_err(), Flaw::Code);
        }
        let mut counts = [0; 16];
        counts[0] = 1;
        let zeros = [0; 16];
        for (class, symbol) in [(Class::Dc, 12), (Class::Ac, 0x0B)] {
            let mut table = Table::new(class);
            assert!(table.set(&Spec::new(counts, &[symbol]).unwrap()));
            let mut bits = Bits::new(&zeros);
            bits.refill();
            assert_eq!((table.fast(&bits).used(), table.run_and_size(&mut bits).unwrap_err()), (0, Flaw::Size));
        }
    }

    #[test]
    fn tables_with_too_many_codes_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        let mut table = Table::new(Class::Ac);
        assert!(!table.set(&Spec::new(counts, &[1, 2, 3]).unwrap()));
        assert_eq!(Spec::new(counts, &[1, 2]), None);
        assert_eq!(Spec::new([255; 16], &[0; 256]), None);
        counts = [0; 16];
        counts[15] = 255;
        assert!(table.set(&Spec::new(counts, &[7; 255]).unwrap()), "a table may leave codes unused");
    }
}
