//! The transform with AVX2: what [`super::portable`] computes, to the bit.
//!
//! A register holds pairs of coefficients of all eight columns, as [`super::place`] has them, so that VPMADDWD gives a
//! sum of two products for each column. Nothing here is handed to a function like `map`: that would have to be compiled
//! for AVX2 too. Between the passes pairs are put together again, and rows come to stand in the order 0 2 4 6 1 3 5 7
//! until they are stored.

use std::arch::x86_64::*;

use super::{Block, EVEN, FACTOR_BITS, ODD_53, ODD_71, PASS_BITS, Steps};

/// Writes the samples of a block; nothing if `out` has no room for them. False if a coefficient is too large.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn run(block: &Block, steps: &Steps, out: &mut [u8], stride: usize) -> bool {
    let Some(out) = out.get_mut(..7 * stride + 8) else { return true };
    let ([a, b, c, d], [e, f, g, h], [k, l, m, n]) = (load(block), load(&steps.steps), load(&steps.most));
    let excess = |values, most| _mm256_cmpgt_epi16(_mm256_abs_epi16(values), most);
    let excess =
        _mm256_or_si256(_mm256_or_si256(excess(a, k), excess(b, l)), _mm256_or_si256(excess(c, m), excess(d, n)));
    let products =
        [_mm256_mullo_epi16(a, e), _mm256_mullo_epi16(b, f), _mm256_mullo_epi16(c, g), _mm256_mullo_epi16(d, h)];
    let columns = pass(products, 1 << (FACTOR_BITS - PASS_BITS - 1));
    const LAST: u32 = FACTOR_BITS + PASS_BITS + 3;
    let rows = pass(pairs(shift::<{ (FACTOR_BITS - PASS_BITS) as i32 }>(columns)), (128 << LAST) + (1 << (LAST - 1)));
    let [a, b, c, d, e, f, g, h] = shift::<{ LAST as i32 }>(rows);
    let left = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    let right = _mm256_packus_epi16(_mm256_packs_epi32(e, f), _mm256_packs_epi32(g, h));
    // Four bytes of each row together.
    let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    let (left, right) = (_mm256_shuffle_epi8(left, order), _mm256_shuffle_epi8(right, order));
    let (upper, lower) = (_mm256_unpacklo_epi32(left, right), _mm256_unpackhi_epi32(left, right));
    for (first, two) in [
        (0, _mm256_castsi256_si128(upper)),
        (1, _mm256_extracti128_si256::<1>(upper)),
        (4, _mm256_castsi256_si128(lower)),
        (5, _mm256_extracti128_si256::<1>(lower)),
    ] {
        // SAFETY: `first` is 5 at most, so that both rows end within the 7 strides and 8 bytes that `out` has. The
        // stores need no alignment.
        unsafe {
            let to = out.as_mut_ptr().add(first * stride);
            _mm_storel_epi64(to.cast(), two);
            _mm_storel_epi64(to.add(2 * stride).cast(), _mm_unpackhi_epi64(two, two));
        }
    }
    _mm256_testz_si256(excess, excess) == 1
}

/// One dimension. `half` is added to all sums.
#[inline]
#[target_feature(enable = "avx2")]
fn pass([both, even, odd_71, odd_53]: [__m256i; 4], half: i32) -> [__m256i; 8] {
    let dot = |pairs, [a, b]: [i16; 2]| {
        _mm256_madd_epi16(pairs, _mm256_set1_epi32(i32::from(a) & 0xFFFF | i32::from(b) << 16))
    };
    let (one, half) = (1 << FACTOR_BITS, _mm256_set1_epi32(half));
    let sum = _mm256_add_epi32(dot(both, [one, one]), half);
    let difference = _mm256_add_epi32(dot(both, [one, -one]), half);
    let (minus, plus) = (dot(even, EVEN[0]), dot(even, EVEN[1]));
    let [a, d] = [_mm256_add_epi32(sum, plus), _mm256_sub_epi32(sum, plus)];
    let [b, c] = [_mm256_add_epi32(difference, minus), _mm256_sub_epi32(difference, minus)];
    let odd = |of_71, of_53| _mm256_add_epi32(dot(odd_71, of_71), dot(odd_53, of_53));
    let ([k, l, m, n], [w, x, y, z]) = (ODD_71, ODD_53);
    let [e, f, g, h] = [odd(k, w), odd(l, x), odd(m, y), odd(n, z)];
    [
        _mm256_add_epi32(a, h),
        _mm256_add_epi32(b, g),
        _mm256_add_epi32(c, f),
        _mm256_add_epi32(d, e),
        _mm256_sub_epi32(d, e),
        _mm256_sub_epi32(c, f),
        _mm256_sub_epi32(b, g),
        _mm256_sub_epi32(a, h),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn shift<const BITS: i32>([a, b, c, d, e, f, g, h]: [__m256i; 8]) -> [__m256i; 8] {
    [
        _mm256_srai_epi32::<BITS>(a),
        _mm256_srai_epi32::<BITS>(b),
        _mm256_srai_epi32::<BITS>(c),
        _mm256_srai_epi32::<BITS>(d),
        _mm256_srai_epi32::<BITS>(e),
        _mm256_srai_epi32::<BITS>(f),
        _mm256_srai_epi32::<BITS>(g),
        _mm256_srai_epi32::<BITS>(h),
    ]
}

/// From rows of columns to pairs of columns, row by row.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs([a, b, c, d, e, f, g, h]: [__m256i; 8]) -> [__m256i; 4] {
    // Of the 16-bit columns of a row: 0 4, 2 6, 7 1, 5 3.
    let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 8, 9, 4, 5, 12, 13, 14, 15, 2, 3, 10, 11, 6, 7));
    let two = |first, second| {
        let halves = _mm256_packs_epi32(first, second);
        _mm256_shuffle_epi8(_mm256_permute4x64_epi64::<0b11_01_10_00>(halves), order)
    };
    let [ab, cd, ef, gh] = [two(a, b), two(c, d), two(e, f), two(g, h)];
    let (low, high) = (_mm256_unpacklo_epi32(ab, cd), _mm256_unpackhi_epi32(ab, cd));
    let (low_after, high_after) = (_mm256_unpacklo_epi32(ef, gh), _mm256_unpackhi_epi32(ef, gh));
    [
        _mm256_unpacklo_epi64(low, low_after),
        _mm256_unpackhi_epi64(low, low_after),
        _mm256_unpacklo_epi64(high, high_after),
        _mm256_unpackhi_epi64(high, high_after),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(values: &[i16; 64]) -> [__m256i; 4] {
    let at = values.as_ptr();
    // SAFETY: the array has four times 32 bytes; the loads need no alignment.
    unsafe {
        [
            _mm256_loadu_si256(at.cast()),
            _mm256_loadu_si256(at.add(16).cast()),
            _mm256_loadu_si256(at.add(32).cast()),
            _mm256_loadu_si256(at.add(48).cast()),
        ]
    }
}
