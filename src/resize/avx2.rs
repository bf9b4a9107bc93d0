//! The two passes with AVX2: what [`super::portable`] computes, to the byte.
//!
//! The work is done by vpmaddwd, which multiplies 16 pairs of 16-bit values and adds each pair of products: two source
//! rows, or two neighbouring pixels, at once. All loads and stores go through arrays of the right length.

use std::arch::x86_64::*;

use super::weights::{GROUP, Span, Weights};
use super::{BLOCK, Rows, blocks, portable};

/// One target row from source rows, as many as there are weights.
#[target_feature(enable = "avx2")]
pub(super) fn vertical(rows: Rows, weights: &[i16], bits: u32, out: &mut [u8]) {
    let half = _mm256_set1_epi32(1 << (bits - 1));
    let shift = _mm_cvtsi32_si128(bits as i32);
    for at in blocks(out.len()) {
        let mut sums = [[half; 4]; BLOCK / 32];
        for (index, pair) in weights.chunks(2).enumerate() {
            // An odd row out is taken with itself, and with no weight.
            let (second, weights) = match *pair {
                [first, second] => (1, [first, second]),
                [first] => (0, [first, 0]),
                _ => continue,
            };
            let weights = _mm256_set1_epi32(join(weights));
            let (above, below) = (rows.block(index * 2, at), rows.block(index * 2 + second, at));
            for ((sums, above), below) in sums.iter_mut().zip(above.as_chunks().0).zip(below.as_chunks().0) {
                add_rows(sums, load32(above), load32(below), weights);
            }
        }
        let Some(block) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<BLOCK>) else { return };
        for (out, sums) in block.as_chunks_mut().0.iter_mut().zip(sums) {
            let [a, b, c, d] = sums.map(|sum| _mm256_sra_epi32(sum, shift));
            store32(out, _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)));
        }
    }
    if out.len() < BLOCK {
        portable::narrow(rows, weights, bits, out);
    }
}

/// Two rows of 32 pixels, weighted. The unpacking leaves the sums in the order that the packing at the end undoes.
#[inline]
#[target_feature(enable = "avx2")]
fn add_rows(sums: &mut [__m256i; 4], above: __m256i, below: __m256i, weights: __m256i) {
    let zero = _mm256_setzero_si256();
    let (low, high) = (_mm256_unpacklo_epi8(above, below), _mm256_unpackhi_epi8(above, below));
    let pairs = [
        _mm256_unpacklo_epi8(low, zero),
        _mm256_unpackhi_epi8(low, zero),
        _mm256_unpacklo_epi8(high, zero),
        _mm256_unpackhi_epi8(high, zero),
    ];
    for (sum, pair) in sums.iter_mut().zip(pairs) {
        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pair, weights));
    }
}

/// One target row of RGB pixels from a source row: four source pixels at once, two in each half of a register.
#[target_feature(enable = "avx2")]
pub(super) fn horizontal_rgb(row: &[u8], weights: &Weights, out: &mut [u8]) {
    let half = 1 << (weights.bits - 1);
    let half = _mm256_setr_epi32(half, half, half, 0, 0, 0, 0, 0);
    let shift = _mm_cvtsi32_si128(weights.bits as i32);
    // R R, G G, B B of neighbouring pixels, as 16-bit values; their weights are there three times.
    #[rustfmt::skip]
    let spread = _mm256_setr_epi8(
        0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1,
    );
    for (index, (span, weights)) in weights.tripled().enumerate() {
        let mut sum = half;
        for (four, weights) in weights.iter().enumerate().take(span.taps.div_ceil(4)) {
            let Some(pixels) = row.get((span.start + four * 4) * 3..).and_then(<[u8]>::first_chunk) else { return };
            let pixels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load16(pixels)), spread);
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pixels, load_tripled(weights)));
        }
        let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let sum = _mm_sra_epi32(sum, shift);
        let sum = _mm_packs_epi32(sum, sum);
        let Some(out) = out.get_mut(index * 3..).and_then(<[u8]>::first_chunk_mut) else { return };
        *out = _mm_cvtsi128_si32(_mm_packus_epi16(sum, sum)).to_le_bytes();
    }
}

/// One target row of gray pixels from a source row.
#[target_feature(enable = "avx2")]
pub(super) fn horizontal_gray(row: &[u8], weights: &Weights, out: &mut [u8]) {
    match weights.stride {
        8 => gray::<8>(row, weights, out),
        16 => gray::<16>(row, weights, out),
        24 => gray::<24>(row, weights, out),
        _ => gray_wide(row, weights, out),
    }
}

/// Any number of taps, one target pixel after the other.
#[target_feature(enable = "avx2")]
fn gray_wide(row: &[u8], weights: &Weights, out: &mut [u8]) {
    let half = _mm_setr_epi32(1 << (weights.bits - 1), 0, 0, 0);
    let bits = weights.bits;
    for ((span, weights), out) in weights.padded().zip(out) {
        let mut sum = half;
        for (group, weights) in weights.as_chunks::<GROUP>().0.iter().enumerate().take(span.taps.div_ceil(GROUP)) {
            let Some(pixels) = row.get(span.start + group * GROUP..).and_then(<[u8]>::first_chunk) else { return };
            let pixels = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(i64::from_le_bytes(*pixels)));
            sum = _mm_add_epi32(sum, _mm_madd_epi16(pixels, load_weights(weights)));
        }
        let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b01_00_11_10>(sum));
        let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum));
        *out = (_mm_cvtsi128_si32(sum) >> bits).clamp(0, 255) as u8;
    }
}

/// Eight source pixels at once, and the sums of four target pixels together.
#[inline]
#[target_feature(enable = "avx2")]
fn gray<const TAPS: usize>(row: &[u8], weights: &Weights, out: &mut [u8]) {
    let half = _mm_set1_epi32(1 << (weights.bits - 1));
    let shift = _mm_cvtsi32_si128(weights.bits as i32);
    let (fours, rest) = out.as_chunks_mut();
    for (out, four) in fours.iter_mut().zip(weights.fours::<TAPS>()) {
        let [a, b, c, d] = four;
        let [a, b, c, d] = [gray_sum(row, a), gray_sum(row, b), gray_sum(row, c), gray_sum(row, d)];
        let sums = _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d));
        let sums = _mm_sra_epi32(_mm_add_epi32(sums, half), shift);
        let sums = _mm_packs_epi32(sums, sums);
        *out = _mm_cvtsi128_si32(_mm_packus_epi16(sums, sums)).to_le_bytes();
    }
    portable::last_gray(row, weights, fours.len() * 4, rest);
}

/// Four parts of the weighted sum of some pixels.
#[inline]
#[target_feature(enable = "avx2")]
fn gray_sum<const TAPS: usize>(row: &[u8], (span, weights): (Span, &[i16; TAPS])) -> __m128i {
    let pixels = row.get(span.start..).and_then(<[u8]>::first_chunk::<TAPS>).unwrap_or(&[0; TAPS]);
    let mut sum = _mm_setzero_si128();
    for (pixels, weights) in pixels.as_chunks().0.iter().zip(weights.as_chunks().0) {
        let pixels = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(i64::from_le_bytes(*pixels)));
        sum = _mm_add_epi32(sum, _mm_madd_epi16(pixels, load_weights(weights)));
    }
    sum
}

/// Two 16-bit values as one of 32 bits, the first in the low half.
fn join([low, high]: [i16; 2]) -> i32 {
    i32::from(low) & 0xffff | i32::from(high) << 16
}

#[inline]
#[target_feature(enable = "avx2")]
fn load16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the array has the 16 bytes; the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_weights(weights: &[i16; GROUP]) -> __m128i {
    // SAFETY: the array has the 16 bytes; the load needs no alignment.
    unsafe { _mm_loadu_si128(weights.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_tripled(weights: &[i16; 16]) -> __m256i {
    // SAFETY: the array has the 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(weights.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the array has the 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store32(bytes: &mut [u8; 32], value: __m256i) {
    // SAFETY: the array has the 32 bytes; the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}
