//! The conversion with AVX2, 16 pixels at once: vpmaddwd multiplies luma and one chroma of a pixel and adds the
//! products. Even and odd pixels are apart until they are packed, because both use the same chroma.

use std::arch::x86_64::*;

use super::{Matrix, Pair, Rgb2, portable};

/// Pairs in a register.
const PAIRS: usize = 8;

/// What [`portable`] computes.
#[target_feature(enable = "avx2")]
pub(super) fn convert(matrix: &Matrix, pairs: &[Pair], out: &mut [Rgb2]) {
    let length = pairs.len().min(out.len());
    let (pairs, rest) = pairs.split_at(length).0.as_chunks::<PAIRS>();
    let (out, out_rest) = out.split_at_mut(length).0.as_chunks_mut::<PAIRS>();
    let kernel = Kernel::new(matrix);
    for (pairs, out) in pairs.iter().zip(out) {
        kernel.block(pairs, out);
    }
    portable(matrix, rest, out_rest);
}

/// Coefficients, each in every 32-bit lane.
struct Kernel {
    /// Of Y and V.
    red: __m256i,
    /// Of Y and U; of V alone.
    green: __m256i,
    green_v: __m256i,
    /// Of Y and U.
    blue: __m256i,
    /// Red, green, blue.
    offsets: [__m256i; 3],
}

impl Kernel {
    #[target_feature(enable = "avx2")]
    fn new(matrix: &Matrix) -> Self {
        let both = |low: i16, high: i16| _mm256_set1_epi32(i32::from(low) & 0xffff | i32::from(high) << 16);
        Self {
            red: both(matrix.luma, matrix.red_v),
            green: both(matrix.luma, matrix.green_u),
            green_v: both(0, matrix.green_v),
            blue: both(matrix.luma, matrix.blue_u),
            offsets: matrix.offsets().map(|offset| _mm256_set1_epi32(offset)),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn block(&self, pairs: &[Pair; PAIRS], out: &mut [Rgb2; PAIRS]) {
        // SAFETY: the array has the 32 bytes; the load needs no alignment.
        let raw = unsafe { _mm256_loadu_si256(pairs.as_ptr().cast()) };
        let [red, green, blue] = self.offsets;
        // Two bytes of each pair as 16-bit values.
        let pick = |first: i8, second: i8| {
            let lane =
                |pair: i8| i32::from_le_bytes([first + 4 * pair, -1, second + 4 * pair, -1].map(i8::cast_unsigned));
            _mm256_shuffle_epi8(raw, _mm256_broadcastsi128_si256(_mm_setr_epi32(lane(0), lane(1), lane(2), lane(3))))
        };
        let weigh = |values, weights, offset| _mm256_add_epi32(_mm256_madd_epi16(values, weights), offset);
        let shift = |sum| _mm256_srai_epi32::<8>(sum);
        let (yv0, yv1, yu0, yu1) = (pick(0, 3), pick(2, 3), pick(0, 1), pick(2, 1));
        let green = weigh(yv0, self.green_v, green);
        let [r0, r1] = [yv0, yv1].map(|yv| shift(weigh(yv, self.red, red)));
        let [g0, g1] = [yu0, yu1].map(|yu| shift(weigh(yu, self.green, green)));
        let [b0, b1] = [yu0, yu1].map(|yu| shift(weigh(yu, self.blue, blue)));
        // In each half: 4 of r0, g0, b0, r1, and 4 of g1, b1.
        let first = _mm256_packus_epi16(_mm256_packs_epi32(r0, g0), _mm256_packs_epi32(b0, r1));
        let second = _mm256_packs_epi32(g1, b1);
        let second = _mm256_packus_epi16(second, second);
        let both = |first_order, second_order| {
            let (first_order, second_order) =
                (_mm256_broadcastsi128_si256(first_order), _mm256_broadcastsi128_si256(second_order));
            _mm256_or_si256(_mm256_shuffle_epi8(first, first_order), _mm256_shuffle_epi8(second, second_order))
        };
        let head = both(
            _mm_setr_epi8(0, 4, 8, 12, -1, -1, 1, 5, 9, 13, -1, -1, 2, 6, 10, 14),
            _mm_setr_epi8(-1, -1, -1, -1, 0, 4, -1, -1, -1, -1, 1, 5, -1, -1, -1, -1),
        );
        let tail = both(
            _mm_setr_epi8(-1, -1, 3, 7, 11, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
            _mm_setr_epi8(2, 6, -1, -1, -1, -1, 3, 7, -1, -1, -1, -1, -1, -1, -1, -1),
        );
        let out = out.as_mut_ptr().cast::<u8>();
        // SAFETY: the array has 48 bytes; 16 are stored at 0 and 24, and 8 at 16 and 40. The stores need no alignment.
        unsafe {
            _mm_storeu_si128(out.cast(), _mm256_castsi256_si128(head));
            _mm_storel_epi64(out.add(16).cast(), _mm256_castsi256_si128(tail));
            _mm_storeu_si128(out.add(24).cast(), _mm256_extracti128_si256::<1>(head));
            _mm_storel_epi64(out.add(40).cast(), _mm256_extracti128_si256::<1>(tail));
        }
    }
}
