//! The conversion with NEON, which every 64-bit ARM has, 16 pixels at once: LD4 takes the pairs apart, ST3 puts the
//! colours together.

use std::arch::aarch64::*;

use super::{Matrix, Pair, Rgb2, portable};

/// Pairs in a register.
const PAIRS: usize = 8;

/// What [`portable`] computes.
pub(super) fn convert(matrix: &Matrix, pairs: &[Pair], out: &mut [Rgb2]) {
    let length = pairs.len().min(out.len());
    let (pairs, rest) = pairs.split_at(length).0.as_chunks::<PAIRS>();
    let (out, out_rest) = out.split_at_mut(length).0.as_chunks_mut::<PAIRS>();
    for (pairs, out) in pairs.iter().zip(out) {
        // SAFETY: every 64-bit ARM has NEON.
        unsafe { block(matrix, pairs, out) }
    }
    portable(matrix, rest, out_rest);
}

#[inline]
#[target_feature(enable = "neon")]
fn block(matrix: &Matrix, pairs: &[Pair; PAIRS], out: &mut [Rgb2; PAIRS]) {
    // SAFETY: the array has the 32 bytes.
    let uint8x8x4_t(y0, u, y1, v) = unsafe { vld4_u8(pairs.as_ptr().cast()) };
    let [y0, y1, u, v] = [y0, y1, u, v].map(|bytes| vreinterpretq_s16_u16(vmovl_u8(bytes)));
    let [red, green, blue] = matrix.offsets().map(|offset| [vdupq_n_s32(offset); 2]);
    let red = add(red, v, matrix.red_v);
    let green = add(add(green, u, matrix.green_u), v, matrix.green_v);
    let blue = add(blue, u, matrix.blue_u);
    let both = |chroma| {
        let [even, odd] = [y0, y1].map(|luma| narrow(add(chroma, luma, matrix.luma)));
        vcombine_u8(vzip1_u8(even, odd), vzip2_u8(even, odd))
    };
    let colors = uint8x16x3_t(both(red), both(green), both(blue));
    // SAFETY: the array has the 48 bytes.
    unsafe { vst3q_u8(out.as_mut_ptr().cast(), colors) }
}

/// Products added to 8 sums.
#[inline]
#[target_feature(enable = "neon")]
fn add([low, high]: [int32x4_t; 2], values: int16x8_t, weight: i16) -> [int32x4_t; 2] {
    [vmlal_n_s16(low, vget_low_s16(values), weight), vmlal_n_s16(high, vget_high_s16(values), weight)]
}

/// 8 sums without their fractions, clipped to bytes.
#[inline]
#[target_feature(enable = "neon")]
fn narrow([low, high]: [int32x4_t; 2]) -> uint8x8_t {
    vqmovn_u16(vcombine_u16(vqshrun_n_s32::<8>(low), vqshrun_n_s32::<8>(high)))
}
