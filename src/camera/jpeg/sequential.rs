//! In: the bits of a baseline or extended sequential scan. Out: samples in the planes of its components.
//!
//! Blocks are transformed as they are decoded, while they are in the cache. Each coefficient is held to what samples of 8 bits can make.

use super::bits::Bits;
use super::error::Flaw;
use super::frame::{Component, Scan, Steps};
use super::huffman::Table;
use super::idct::{self, Block, Kernel, place};

/// A component, as a scan decodes it.
pub(super) struct Unit<'a> {
    pub(super) component: &'a Component,
    pub(super) dc: &'a Table,
    pub(super) ac: &'a Table,
    pub(super) steps: &'a Steps,
    /// Its samples.
    pub(super) plane: &'a mut [u8],
    /// The mean of the block before.
    pub(super) mean: i32,
}

/// Writes a block of which the coefficients up to `last` may be other than 0, at a row and a column of blocks.
#[inline(always)]
pub(super) fn store(
    kernel: Kernel,
    component: &Component,
    plane: &mut [u8],
    block: &Block,
    last: usize,
    (row, column): (usize, usize),
) {
    let (stride, top) = (component.stride(), row * 8);
    let out = plane.get_mut(top * stride + column * 8..).unwrap_or_default();
    let rows = component.height.saturating_sub(top);
    if rows >= 8 {
        return samples(kernel, block, last, out, stride);
    }
    let mut whole = [0; 64];
    samples(kernel, block, last, &mut whole, 8);
    for (out, row) in out.chunks_mut(stride).zip(whole.as_chunks::<8>().0).take(rows) {
        if let Some(out) = out.first_chunk_mut() {
            *out = *row;
        }
    }
}

#[inline(always)]
fn samples(kernel: Kernel, block: &Block, last: usize, out: &mut [u8], stride: usize) {
    match last {
        0 => idct::flat(block[0], out, stride),
        _ => kernel.run(block, out, stride),
    }
}

/// Decodes MCUs; says which one failed, and why.
pub(super) fn decode(
    kernel: Kernel,
    scan: &Scan,
    units: &mut [Unit],
    bits: &mut Bits,
    mcus: std::ops::Range<usize>,
) -> Result<(), (usize, Flaw)> {
    match kernel {
        // SAFETY: this kernel is only made where the processor has these.
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => unsafe { decode_avx2(scan, units, bits, mcus) },
        other => run(other, scan, units, bits, mcus),
    }
}

/// The same with shifts by any number in one instruction.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn decode_avx2(
    scan: &Scan,
    units: &mut [Unit],
    bits: &mut Bits,
    mcus: std::ops::Range<usize>,
) -> Result<(), (usize, Flaw)> {
    run(Kernel::Avx2, scan, units, bits, mcus)
}

#[inline(always)]
fn run(
    kernel: Kernel,
    scan: &Scan,
    units: &mut [Unit],
    bits: &mut Bits,
    mcus: std::ops::Range<usize>,
) -> Result<(), (usize, Flaw)> {
    units.iter_mut().for_each(|unit| unit.mean = 0);
    for mcu in mcus {
        let (row, column) = (mcu / scan.across, mcu % scan.across);
        for unit in &mut *units {
            let (across, down) = scan.blocks(unit.component);
            for y in 0..down {
                for x in 0..across {
                    let mut block = [0; 64];
                    let last = coefficients(bits, unit, &mut block).map_err(|flaw| (mcu, flaw))?;
                    let at = (row * down + y, column * across + x);
                    store(kernel, unit.component, unit.plane, &block, last, at);
                }
            }
        }
        if bits.overrun() {
            return Err((mcu, Flaw::End));
        }
    }
    Ok(())
}

/// The coefficients of a block, times their steps (T.81, F.2.2); returns the last one that is not 0.
#[inline(always)]
fn coefficients(bits: &mut Bits, unit: &mut Unit, block: &mut Block) -> Result<usize, Flaw> {
    bits.refill();
    let (value, _, used) = unit.dc.fast(bits);
    unit.mean += if used > 0 {
        bits.skip(used);
        value
    } else {
        let (_, size) = unit.dc.run_and_size(bits)?;
        bits.value(size)
    };
    let mut excess = put(block, unit.steps, 0, unit.mean);
    let mut last = 0;
    while last < 63 {
        bits.top_up();
        let (value, distance, used) = unit.ac.fast(bits);
        let value = if used > 0 {
            bits.skip(used);
            last += distance;
            value
        } else {
            let (run, size) = unit.ac.run_and_size(bits)?;
            match (run, size) {
                (0, 0) => break,
                (15, 0) => {
                    last += 16;
                    continue;
                }
                (_, 0) => return Err(Flaw::Code),
                _ => {}
            }
            last += run as usize + 1;
            bits.value(size)
        };
        excess = excess.max(put(block, unit.steps, last, value));
    }
    match (last, excess) {
        (64.., _) => Err(Flaw::Count),
        (_, 1..) => Err(Flaw::Range),
        _ => Ok(last),
    }
}

/// The largest mean and the largest of the others, apart from what quantisation adds. Samples of 8 bits make 1024 at most; encoders that let samples
/// overshoot, to keep edges clean, make a quarter more beside the mean. What is larger was never encoded: most often, bytes are missing before it.
const LARGEST_MEAN: i32 = 1024;
const LARGEST: i32 = 1280;

/// Puts a coefficient, in zigzag order, times its step; returns how much it is too large.
#[inline(always)]
pub(super) fn put(block: &mut Block, steps: &Steps, index: usize, value: i32) -> i32 {
    let step = i32::from(steps.get(index & 63).copied().unwrap_or(1));
    let value = value * step;
    let at = ZIGZAG.get(index & 63).copied().unwrap_or(0);
    if let Some(to) = block.get_mut(usize::from(at) & 63) {
        *to = value as i16;
    }
    value.abs() - step - if index == 0 { LARGEST_MEAN } else { LARGEST }
}

/// Where coefficients in zigzag order (T.81, figure A.6) are put.
const ZIGZAG: [u8; 64] = {
    let mut places = [0; 64];
    let (mut row, mut column, mut index) = (0, 0, 0);
    while index < 64 {
        places[index] = place(row, column) as u8;
        // Up and right on even diagonals, down and left on odd ones; along the edge where there is one.
        match (row + column) % 2 {
            0 if column == 7 => row += 1,
            0 if row == 0 => column += 1,
            0 => (row, column) = (row - 1, column + 1),
            _ if row == 7 => column += 1,
            _ if column == 0 => row += 1,
            _ => (row, column) = (row + 1, column - 1),
        }
        index += 1;
    }
    places
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zigzag_is_that_of_the_standard() {
        // T.81, figure A.6, its first, third and last row.
        for (row, indices) in [
            (0, [0, 1, 5, 6, 14, 15, 27, 28]),
            (2, [3, 8, 12, 17, 25, 30, 41, 43]),
            (7, [35, 36, 48, 49, 57, 58, 62, 63]),
        ] {
            for (column, index) in indices.into_iter().enumerate() {
                assert_eq!(usize::from(ZIGZAG[index]), place(row, column), "{row} {column}");
            }
        }
    }
}
