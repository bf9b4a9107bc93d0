//! In: the bits of a baseline or extended sequential scan. Out: samples in the planes of its components.
//!
//! Blocks are transformed as they are decoded, while they are in the cache.

use super::bits::Bits;
use super::error::Flaw;
use super::frame::{Component, MCU_BLOCKS, Scan};
use super::huffman::Table;
use super::idct::{self, Block, Kernel, Steps, ZIGZAG};

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

/// Writes a block of which the coefficients up to `last` may be other than 0, at a row and a column of blocks. False if
/// one is too large.
#[inline(always)]
pub(super) fn store(
    kernel: Kernel,
    component: &Component,
    steps: &Steps,
    plane: &mut [u8],
    (block, last): (&Block, usize),
    (row, column): (usize, usize),
) -> bool {
    let (stride, top) = (component.stride(), row * 8);
    let out = plane.get_mut(top * stride + column * 8..).unwrap_or_default();
    let samples = |out: &mut [u8], stride| match last {
        0 => idct::flat(block[0], steps, out, stride),
        _ => kernel.run(block, steps, out, stride),
    };
    let rows = component.height.saturating_sub(top);
    if rows >= 8 {
        return samples(out, stride);
    }
    let mut whole = [0; 64];
    let fits = samples(&mut whole, 8);
    for (out, row) in out.chunks_mut(stride).zip(whole.as_chunks::<8>().0).take(rows) {
        if let Some(out) = out.first_chunk_mut() {
            *out = *row;
        }
    }
    fits
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
    // An MCU is decoded as a whole before it is transformed: a vector that is loaded right after its parts were stored
    // would have to wait for them.
    let mut blocks = [[0; 64]; MCU_BLOCKS];
    let mut lasts = [0; MCU_BLOCKS];
    for mcu in mcus {
        let mut to = blocks.iter_mut().zip(&mut lasts);
        for unit in &mut *units {
            let (across, down) = scan.blocks(unit.component);
            for (block, last) in to.by_ref().take(across * down) {
                *last = coefficients(bits, unit, block).map_err(|flaw| (mcu, flaw))?;
            }
        }
        if bits.overrun() {
            return Err((mcu, Flaw::End));
        }
        let (row, column) = (mcu / scan.across, mcu % scan.across);
        let mut from = blocks.iter_mut().zip(&lasts);
        for unit in &mut *units {
            let (across, down) = scan.blocks(unit.component);
            for (y, x) in (0..down).flat_map(|y| (0..across).map(move |x| (y, x))) {
                let Some((block, &last)) = from.next() else { break };
                let at = (row * down + y, column * across + x);
                if !store(kernel, unit.component, unit.steps, unit.plane, (block, last), at) {
                    return Err((mcu, Flaw::Range));
                }
                if last > 0 {
                    *block = [0; 64];
                }
            }
        }
    }
    Ok(())
}

/// The coefficients of a block (T.81, F.2.2); returns the last one that is not 0.
#[inline(always)]
fn coefficients(bits: &mut Bits, unit: &mut Unit, block: &mut Block) -> Result<usize, Flaw> {
    let mut local = *bits; // stays in registers
    let result = decode_block(&mut local, unit, block);
    *bits = local;
    result
}

#[inline(always)]
fn decode_block(bits: &mut Bits, unit: &mut Unit, block: &mut Block) -> Result<usize, Flaw> {
    bits.refill();
    let fast = unit.dc.fast(bits);
    unit.mean += if fast.used() > 0 {
        bits.skip(fast.used());
        fast.first().into()
    } else {
        let (_, size) = unit.dc.run_and_size(bits)?;
        bits.value(size)
    };
    block[0] = unit.mean.clamp(-32767, 32767) as i16;
    let mut last = 0;
    while last < 63 {
        bits.top_up();
        let fast = unit.ac.fast(bits);
        let (first, second) = (last + fast.distance(), last + fast.distance() + fast.further());
        // Behind the 64th coefficient there is no end: what looks like one is the next block's.
        if fast.used() > 0 && second < 63 {
            bits.skip(fast.used());
            if fast.distance() == 0 {
                break;
            }
            put(block, first, fast.first());
            put(block, second, fast.second());
            last = second;
            if fast.ends() {
                break;
            }
            continue;
        }
        match unit.ac.run_and_size(bits)? {
            (0, 0) => break,
            (15, 0) => last += 16,
            (_, 0) => return Err(Flaw::Code),
            (run, size) => {
                last += run as usize + 1;
                put(block, last, bits.value(size) as i16);
            }
        }
    }
    if last < 64 { Ok(last) } else { Err(Flaw::Count) }
}

/// Puts a coefficient by its index in zigzag order.
#[inline(always)]
pub(super) fn put(block: &mut Block, index: usize, value: i16) {
    let place = ZIGZAG.get(index & 63).copied().unwrap_or(0);
    if let Some(to) = block.get_mut(usize::from(place) & 63) {
        *to = value;
    }
}
