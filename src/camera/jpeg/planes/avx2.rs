//! Chroma filter and colours with AVX2: what the portable functions compute, to the byte, of as many pixels as fill
//! registers. Nothing is handed to functions like `map`: they would have to be compiled for AVX2 too.

use std::arch::x86_64::*;

/// Two pixels of each sample but the first and the last of `row`, which are beside the others: chroma at half
/// resolution across. 32 samples at once, in bytes: with VPAVGB's (a + b + 1) >> 1, the mean of a and the mean of a and
/// b is a quarter of 3 a + b.
#[target_feature(enable = "avx2")]
pub(super) fn spread_halves(row: &[u8], out: &mut [u8]) -> usize {
    let mut done = 0;
    for out in out.as_chunks_mut::<64>().0 {
        let Some(window) = row.get(done..).and_then(<[u8]>::first_chunk::<34>) else { break };
        let (left, middle, right) = (load(window, 0), load(window, 1), load(window, 2));
        // Rounded down, the mean is one less where the sum is odd.
        let ones = _mm256_set1_epi8(1);
        let odd = |a, b| _mm256_and_si256(_mm256_xor_si256(a, b), ones);
        let down = |a, b| _mm256_sub_epi8(_mm256_avg_epu8(a, b), odd(a, b));
        let even = down(middle, _mm256_avg_epu8(middle, left));
        let odd = _mm256_avg_epu8(middle, down(middle, right));
        let (low, high) = (_mm256_unpacklo_epi8(even, odd), _mm256_unpackhi_epi8(even, odd));
        let (first, second) = out.split_at_mut(32);
        put(first, _mm256_permute2x128_si256::<0x20>(low, high));
        put(second, _mm256_permute2x128_si256::<0x31>(low, high));
        done += 32;
    }
    done
}

/// Two pixels of each sum of three of `near` and one of `far` but the first and the last, 16 at once; returns how many.
#[target_feature(enable = "avx2")]
pub(super) fn spread_quarters(near: &[u8], far: &[u8], out: &mut [u8]) -> usize {
    let (left_bias, right_bias) = (_mm256_set1_epi16(8), _mm256_set1_epi16(7));
    let mut done = 0;
    for out in out.as_chunks_mut::<32>().0 {
        let near = near.get(done..).and_then(<[u8]>::first_chunk::<18>);
        let far = far.get(done..).and_then(<[u8]>::first_chunk::<18>);
        let (Some(near), Some(far)) = (near, far) else { break };
        let sum = |at: usize| {
            let (near, far) = (widen(near, at), widen(far, at));
            _mm256_add_epi16(thrice(near), far)
        };
        let (left, middle, right) = (sum(0), thrice(sum(1)), sum(2));
        let even = _mm256_srli_epi16::<4>(_mm256_add_epi16(_mm256_add_epi16(middle, left), left_bias));
        let odd = _mm256_srli_epi16::<4>(_mm256_add_epi16(_mm256_add_epi16(middle, right), right_bias));
        put(out, _mm256_or_si256(even, _mm256_slli_epi16::<8>(odd)));
        done += 16;
    }
    done
}

#[inline]
#[target_feature(enable = "avx2")]
fn thrice(values: __m256i) -> __m256i {
    _mm256_add_epi16(_mm256_add_epi16(values, values), values)
}

/// 16 bytes of 18 from `at` on, which is 2 at most, as 16-bit values.
#[inline]
#[target_feature(enable = "avx2")]
fn widen(bytes: &[u8; 18], at: usize) -> __m256i {
    // SAFETY: the array has 16 bytes behind the second; the load needs no alignment.
    _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().add(at.min(2)).cast()) })
}

/// 32 bytes of 34 from `at` on, which is 2 at most.
#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 34], at: usize) -> __m256i {
    // SAFETY: the array has 32 bytes behind the second; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().add(at.min(2)).cast()) }
}

/// Stores 32 bytes, if there is room for them.
#[inline]
#[target_feature(enable = "avx2")]
fn put(out: &mut [u8], bytes: __m256i) {
    if let Some(out) = out.first_chunk_mut::<32>() {
        // SAFETY: the array has the 32 bytes; the store needs no alignment.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), bytes) };
    }
}

/// Luma and chroma to RGB, 32 pixels at once; returns how many.
#[target_feature(enable = "avx2")]
pub(super) fn colors(y: &[u8], u: &[u8], v: &[u8], out: &mut [u8]) -> usize {
    let (y, u, v) = (y.as_chunks::<32>().0, u.as_chunks::<32>().0, v.as_chunks::<32>().0);
    let mut done = 0;
    for (((y, u), v), out) in y.iter().zip(u).zip(v).zip(out.as_chunks_mut::<96>().0) {
        // SAFETY: the arrays have 32 bytes; the loads need no alignment.
        let (y, u, v) = unsafe {
            (
                _mm256_loadu_si256(y.as_ptr().cast()),
                _mm256_loadu_si256(u.as_ptr().cast()),
                _mm256_loadu_si256(v.as_ptr().cast()),
            )
        };
        let zero = _mm256_setzero_si256();
        let low = rgb(_mm256_unpacklo_epi8(y, zero), _mm256_unpacklo_epi8(u, zero), _mm256_unpacklo_epi8(v, zero));
        let high = rgb(_mm256_unpackhi_epi8(y, zero), _mm256_unpackhi_epi8(u, zero), _mm256_unpackhi_epi8(v, zero));
        let ([r0, g0, b0], [r1, g1, b1]) = (low, high);
        store(out, _mm256_packus_epi16(r0, r1), _mm256_packus_epi16(g0, g1), _mm256_packus_epi16(b0, b1));
        done += 32;
    }
    done
}

/// Red, green and blue of 16 pixels, in 16 bits each, not clipped.
///
/// VPMULHRSW is (a b + 16384) >> 15. The fractions of 1.402 = 1 + 26345 / 65536 and 1.772 = 2 - 14942 / 65536 fit it:
/// half of the former, rounded down, gives the same for each of the 256 values of chroma, which a test goes through.
/// Green is -22554 u - 46802 v, of which the latter is 18734 v - 65536 v.
#[inline]
#[target_feature(enable = "avx2")]
fn rgb(y: __m256i, u: __m256i, v: __m256i) -> [__m256i; 3] {
    let center = _mm256_set1_epi16(128);
    let (u, v) = (_mm256_sub_epi16(u, center), _mm256_sub_epi16(v, center));
    let red = _mm256_add_epi16(_mm256_add_epi16(y, v), _mm256_mulhrs_epi16(v, _mm256_set1_epi16(13_172)));
    let twice = _mm256_add_epi16(u, u);
    let blue = _mm256_add_epi16(_mm256_add_epi16(y, twice), _mm256_mulhrs_epi16(u, _mm256_set1_epi16(-7471)));
    let factors = _mm256_set1_epi32((-22_554 & 0xFFFF) | 18_734 << 16);
    let half = _mm256_set1_epi32(1 << 15);
    let sum = |pairs| _mm256_srai_epi32::<16>(_mm256_add_epi32(_mm256_madd_epi16(pairs, factors), half));
    let green = _mm256_packs_epi32(sum(_mm256_unpacklo_epi16(u, v)), sum(_mm256_unpackhi_epi16(u, v)));
    [red, _mm256_add_epi16(_mm256_sub_epi16(y, v), green), blue]
}

/// Puts three colours together, pixel by pixel.
#[inline]
#[target_feature(enable = "avx2")]
fn store(out: &mut [u8; 96], red: __m256i, green: __m256i, blue: __m256i) {
    // Byte i of 48 is of pixel i / 3, its colours in turn.
    let order = |third: i8, colour: i8| {
        let lane = |at: i8| {
            let byte = third * 16 + at;
            if byte % 3 == colour { byte / 3 } else { -1 }
        };
        #[rustfmt::skip]
        let order = _mm_setr_epi8(
            lane(0), lane(1), lane(2), lane(3), lane(4), lane(5), lane(6), lane(7),
            lane(8), lane(9), lane(10), lane(11), lane(12), lane(13), lane(14), lane(15),
        );
        _mm256_broadcastsi128_si256(order)
    };
    let part = |third| {
        let (red, green) = (_mm256_shuffle_epi8(red, order(third, 0)), _mm256_shuffle_epi8(green, order(third, 1)));
        _mm256_or_si256(_mm256_or_si256(red, green), _mm256_shuffle_epi8(blue, order(third, 2)))
    };
    // The lower halves are the first 16 pixels, the upper ones the others.
    let (a, b, c) = (part(0), part(1), part(2));
    let (first, rest) = out.split_at_mut(32);
    let (second, third) = rest.split_at_mut(32);
    put(first, _mm256_permute2x128_si256::<0x20>(a, b));
    put(second, _mm256_blend_epi32::<0xF0>(c, a));
    put(third, _mm256_permute2x128_si256::<0x31>(b, c));
}
