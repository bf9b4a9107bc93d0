//! In: the bits of the scans of a progressive picture (T.81, annex G). Out: its coefficients, and from them the
//! samples.
//!
//! Refuses scans that do not follow from those before them, and a picture whose scans leave a coefficient without its
//! last bit.

use super::bits::Bits;
use super::error::{Error, Flaw};
use super::frame::{COMPONENTS, Component, Frame, Process, Scan};
use super::huffman::Table;

/// No scan had the coefficient yet.
const NONE: u8 = u8::MAX;

/// How far each coefficient of each component has come: the lowest bit that is known.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    bits: [[u8; 64]; COMPONENTS],
    scans: u32,
}

/// Encoders make some ten scans. Each is a walk over all blocks however few bytes it has, so that more would only keep
/// the station busy.
const MOST_SCANS: u32 = 200;

impl Progress {
    pub(super) fn new() -> Self {
        Self { bits: [[NONE; 64]; COMPONENTS], scans: 0 }
    }

    /// Takes note of a scan.
    pub(super) fn scan(&mut self, scan: &Scan) -> Result<(), Error> {
        self.scans += 1;
        if self.scans > MOST_SCANS {
            return Err(Error::Scans("are more than 200"));
        }
        let before = if scan.high == 0 { NONE } else { scan.high };
        for member in &scan.members {
            let component = self.bits.get_mut(member.index).and_then(|bits| bits.get_mut(scan.first..=scan.last));
            for bit in component.unwrap_or_default() {
                if std::mem::replace(bit, scan.low) != before {
                    return Err(Error::Scans("code the same coefficients twice, or leave out bits in between"));
                }
            }
        }
        Ok(())
    }

    /// Every coefficient of the frame must have its last bit.
    pub(super) fn complete(&self, frame: &Frame) -> Result<(), Error> {
        let bits = self.bits.iter().take(frame.components.len()).flatten();
        match (bits.copied().max(), frame.process) {
            (Some(0), _) => Ok(()),
            (_, Process::Sequential) => Err(Error::Scans("leave out a component")),
            (_, Process::Progressive) => Err(Error::Scans("leave out coefficients or their last bits")),
        }
    }
}

/// A component, as a scan decodes it.
pub(super) struct Unit<'a> {
    pub(super) component: &'a Component,
    pub(super) dc: &'a Table,
    pub(super) ac: &'a Table,
    /// 64 coefficients a block, in zigzag order.
    pub(super) coefficients: &'a mut [i16],
    pub(super) mean: i32,
}

/// Decodes MCUs; says which one failed, and why.
pub(super) fn decode(
    scan: &Scan,
    units: &mut [Unit],
    bits: &mut Bits,
    mcus: std::ops::Range<usize>,
) -> Result<(), (usize, Flaw)> {
    units.iter_mut().for_each(|unit| unit.mean = 0);
    // Blocks to come that have no more coefficients in this band.
    let mut run = 0;
    let last = mcus.end.wrapping_sub(1);
    for mcu in mcus {
        let (row, column) = (mcu / scan.across, mcu % scan.across);
        for unit in &mut *units {
            let (across, down) = scan.blocks(unit.component);
            for y in 0..down {
                for x in 0..across {
                    let index = (row * down + y) * unit.component.blocks_across + column * across + x;
                    block(scan, unit, bits, index, &mut run).map_err(|flaw| (mcu, flaw))?;
                }
            }
        }
        if bits.overrun() {
            return Err((mcu, Flaw::End));
        }
    }
    if run > 0 { Err((last, Flaw::Count)) } else { Ok(()) }
}

fn block(scan: &Scan, unit: &mut Unit, bits: &mut Bits, index: usize, run: &mut u32) -> Result<(), Flaw> {
    let Some(block) = unit.coefficients.get_mut(index * 64..).and_then(<[i16]>::first_chunk_mut) else { return Ok(()) };
    bits.refill();
    match (scan.first, scan.high) {
        (0, 0) => {
            let (_, size) = unit.dc.run_and_size(bits)?;
            unit.mean += bits.value(size);
            block[0] = in_range(unit.mean << scan.low)?;
            Ok(())
        }
        (0, _) => {
            block[0] |= (bits.take(1) << scan.low) as i16;
            Ok(())
        }
        (_, 0) => first(scan, unit.ac, bits, block, run),
        _ => refine(scan, unit.ac, bits, block, run),
    }
}

/// Coefficients of 8-bit samples have 11 bits and a sign at most.
fn in_range(value: i32) -> Result<i16, Flaw> {
    if value.unsigned_abs() <= 1 << 11 { Ok(value as i16) } else { Err(Flaw::Range) }
}

/// The end of the band in this block and `run` more (T.81, G.1.2.2: EOBn).
fn end_of_band(bits: &mut Bits, size: u32) -> u32 {
    bits.top_up();
    (1 << size) + bits.take(size) - 1
}

/// The first bits of a band.
fn first(scan: &Scan, table: &Table, bits: &mut Bits, block: &mut [i16; 64], run: &mut u32) -> Result<(), Flaw> {
    if *run > 0 {
        *run -= 1;
        return Ok(());
    }
    let mut at = scan.first;
    while at <= scan.last {
        bits.top_up();
        let (zeros, size) = table.run_and_size(bits)?;
        match (zeros, size) {
            (15, 0) => at += 16,
            (_, 0) => {
                *run = end_of_band(bits, zeros);
                return Ok(());
            }
            _ => {
                at += zeros as usize;
                let value = in_range(bits.value(size) << scan.low)?;
                if let Some(to) = block.get_mut(at).filter(|_| at <= scan.last) {
                    *to = value;
                }
                at += 1;
            }
        }
    }
    if at > scan.last + 1 { Err(Flaw::Count) } else { Ok(()) }
}

/// One more bit of a band (T.81, G.1.2.3): coefficients that are not 0 have a bit each, whatever the code beside them
/// says.
fn refine(scan: &Scan, table: &Table, bits: &mut Bits, block: &mut [i16; 64], run: &mut u32) -> Result<(), Flaw> {
    let one = 1i16 << scan.low;
    let Some(band) = block.get_mut(scan.first..=scan.last) else { return Ok(()) };
    let mut coefficients = band.iter_mut();
    if *run == 0 {
        loop {
            if coefficients.as_slice().is_empty() {
                return Ok(());
            }
            bits.top_up();
            let (mut zeros, size) = table.run_and_size(bits)?;
            let new = match (zeros, size) {
                (15, 0) => 0,
                (_, 0) => {
                    *run = end_of_band(bits, zeros) + 1;
                    break;
                }
                (_, 1) if bits.take(1) == 1 => one,
                (_, 1) => -one,
                _ => return Err(Flaw::Size),
            };
            loop {
                let coefficient = coefficients.next().ok_or(Flaw::Count)?;
                if *coefficient != 0 {
                    correct(bits, coefficient, one);
                } else if zeros == 0 {
                    *coefficient = new;
                    break;
                } else {
                    zeros -= 1;
                }
            }
        }
    }
    *run -= 1;
    coefficients.filter(|coefficient| **coefficient != 0).for_each(|coefficient| correct(bits, coefficient, one));
    Ok(())
}

/// The next bit of a coefficient that is not 0.
fn correct(bits: &mut Bits, coefficient: &mut i16, one: i16) {
    bits.top_up();
    if bits.take(1) == 1 && *coefficient & one == 0 {
        *coefficient += if *coefficient > 0 { one } else { -one };
    }
}
