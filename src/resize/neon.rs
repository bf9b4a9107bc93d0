//! Both passes with NEON: what [`super::portable`] computes, to the byte.

use std::arch::aarch64::*;

use super::weights::{GROUP, Span, Weights};
use super::{Rows, blocks, portable};

/// One target row from source rows, as many as there are weights: 64 columns at once, in 16 registers of four sums.
#[target_feature(enable = "neon")]
pub(super) fn vertical(rows: Rows, weights: &[i16], bits: u32, out: &mut [u8]) {
    let half = vdupq_n_s32(1 << (bits - 1));
    let shift = vdupq_n_s32(-(bits as i32));
    for at in blocks(out.len()) {
        let mut sums = [[half; 4]; 4];
        for (row, &weight) in weights.iter().enumerate() {
            for (sums, pixels) in sums.iter_mut().zip(rows.block(row, at).as_chunks::<16>().0) {
                // SAFETY: the array has the 16 bytes.
                let pixels = unsafe { vld1q_u8(pixels.as_ptr()) };
                let low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(pixels)));
                let high = vreinterpretq_s16_u16(vmovl_high_u8(pixels));
                let [a, b, c, d] = *sums;
                *sums = [
                    vmlal_n_s16(a, vget_low_s16(low), weight),
                    vmlal_high_n_s16(b, low, weight),
                    vmlal_n_s16(c, vget_low_s16(high), weight),
                    vmlal_high_n_s16(d, high, weight),
                ];
            }
        }
        let columns = out.get_mut(at..).unwrap_or_default().as_chunks_mut::<16>().0;
        for (out, [a, b, c, d]) in columns.iter_mut().zip(sums) {
            let low = vqmovun_high_s32(vqmovun_s32(vshlq_s32(a, shift)), vshlq_s32(b, shift));
            let high = vqmovun_high_s32(vqmovun_s32(vshlq_s32(c, shift)), vshlq_s32(d, shift));
            // SAFETY: the array has the 16 bytes.
            unsafe { vst1q_u8(out.as_mut_ptr(), vqmovn_high_u16(vqmovn_u16(low), high)) };
        }
    }
    if out.len() < super::BLOCK {
        portable::narrow(rows, weights, bits, out);
    }
}

/// One target row of RGB pixels from a source row, eight source pixels at once: LD3 takes their colours apart.
#[target_feature(enable = "neon")]
pub(super) fn horizontal_rgb(row: &[u8], weights: &Weights, out: &mut [u8]) {
    let half = vdupq_n_s32(1 << (weights.bits - 1));
    let shift = vdupq_n_s32(-(weights.bits as i32));
    for (index, (span, weights)) in weights.padded().enumerate() {
        let zero = vdupq_n_s32(0);
        let (mut red, mut green, mut blue) = (zero, zero, zero);
        for (group, weights) in weights.as_chunks::<GROUP>().0.iter().enumerate().take(span.taps.div_ceil(GROUP)) {
            let start = (span.start + group * GROUP) * 3;
            let Some(pixels) = row.get(start..).and_then(<[u8]>::first_chunk::<{ GROUP * 3 }>) else { return };
            // SAFETY: the arrays have 24 and 16 bytes.
            let (uint8x8x3_t(r, g, b), weights) = unsafe { (vld3_u8(pixels.as_ptr()), vld1q_s16(weights.as_ptr())) };
            red = add(red, r, weights);
            green = add(green, g, weights);
            blue = add(blue, b, weights);
        }
        let sums = vpaddq_s32(vpaddq_s32(red, green), vpaddq_s32(blue, blue));
        let levels = vqmovun_s32(vshlq_s32(vaddq_s32(sums, half), shift));
        let bytes = vqmovn_u16(vcombine_u16(levels, levels));
        let Some(out) = out.get_mut(index * 3..).and_then(<[u8]>::first_chunk_mut) else { return };
        *out = vget_lane_u32::<0>(vreinterpret_u32_u8(bytes)).to_le_bytes();
    }
}

/// One target row of gray pixels from a source row.
#[target_feature(enable = "neon")]
pub(super) fn horizontal_gray(row: &[u8], weights: &Weights, out: &mut [u8]) {
    match weights.stride {
        8 => gray::<8>(row, weights, out),
        16 => gray::<16>(row, weights, out),
        24 => gray::<24>(row, weights, out),
        _ => portable::horizontal_gray(row, weights, out),
    }
}

/// Eight source pixels at once, and the sums of four target pixels together.
#[inline]
#[target_feature(enable = "neon")]
fn gray<const TAPS: usize>(row: &[u8], weights: &Weights, out: &mut [u8]) {
    let half = vdupq_n_s32(1 << (weights.bits - 1));
    let shift = vdupq_n_s32(-(weights.bits as i32));
    let (fours, rest) = out.as_chunks_mut();
    for (out, four) in fours.iter_mut().zip(weights.fours::<TAPS>()) {
        let [a, b, c, d] = four;
        let [a, b, c, d] = [gray_sum(row, a), gray_sum(row, b), gray_sum(row, c), gray_sum(row, d)];
        let sums = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
        let levels = vqmovun_s32(vshlq_s32(vaddq_s32(sums, half), shift));
        let bytes = vqmovn_u16(vcombine_u16(levels, levels));
        *out = vget_lane_u32::<0>(vreinterpret_u32_u8(bytes)).to_le_bytes();
    }
    portable::last_gray(row, weights, fours.len() * 4, rest);
}

/// Four parts of the weighted sum of some pixels.
#[inline]
#[target_feature(enable = "neon")]
fn gray_sum<const TAPS: usize>(row: &[u8], (span, weights): (Span, &[i16; TAPS])) -> int32x4_t {
    let pixels = row.get(span.start..).and_then(<[u8]>::first_chunk::<TAPS>).unwrap_or(&[0; TAPS]);
    let mut sum = vdupq_n_s32(0);
    for (pixels, weights) in pixels.as_chunks::<GROUP>().0.iter().zip(weights.as_chunks::<GROUP>().0) {
        // SAFETY: the arrays have 8 and 16 bytes.
        let (pixels, weights) = unsafe { (vld1_u8(pixels.as_ptr()), vld1q_s16(weights.as_ptr())) };
        sum = add(sum, pixels, weights);
    }
    sum
}

/// Products of eight pixels, added to four sums.
#[inline]
#[target_feature(enable = "neon")]
fn add(sum: int32x4_t, pixels: uint8x8_t, weights: int16x8_t) -> int32x4_t {
    let pixels = vreinterpretq_s16_u16(vmovl_u8(pixels));
    let sum = vmlal_s16(sum, vget_low_s16(pixels), vget_low_s16(weights));
    vmlal_high_s16(sum, pixels, weights)
}
