//! The transform with NEON: what [`super::portable`] computes, to the bit.
//!
//! A register holds a row of eight columns; LD2 takes the pairs apart that [`super::place`] makes. Sums of products are
//! 32 bits wide, four columns in each of two registers.

use std::arch::aarch64::*;

use super::{Block, EVEN, FACTOR_BITS, ODD_53, ODD_71, PASS_BITS, Steps};

/// Writes the samples of a block; nothing if `out` has no room for them. False if a coefficient is too large.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn run(block: &Block, steps: &Steps, out: &mut [u8], stride: usize) -> bool {
    let Some(out) = out.get_mut(..7 * stride + 8) else { return true };
    let (rows, excess) = multiply(block, steps);
    const FIRST: i32 = (FACTOR_BITS - PASS_BITS) as i32;
    let [a, b, c, d, e, f, g, h] = pass(rows, 0);
    let columns = transpose([
        narrow::<FIRST>(a),
        narrow::<FIRST>(b),
        narrow::<FIRST>(c),
        narrow::<FIRST>(d),
        narrow::<FIRST>(e),
        narrow::<FIRST>(f),
        narrow::<FIRST>(g),
        narrow::<FIRST>(h),
    ]);
    let [a, b, c, d, e, f, g, h] = columns;
    const LAST: u32 = FACTOR_BITS + PASS_BITS + 3;
    let [a, b, c, d, e, f, g, h] = pass([a, e, c, g, h, b, f, d], (128 << LAST) + (1 << (LAST - 1)));
    let columns = uint8x16x4_t(bytes(a, b), bytes(c, d), bytes(e, f), bytes(g, h));
    // Byte `row` of each column, for two rows.
    let order: [u8; 16] = std::array::from_fn(|at| (at % 8 * 8 + at / 8) as u8);
    // SAFETY: the array has the 16 bytes.
    let order = unsafe { vld1q_u8(order.as_ptr()) };
    for row in [0, 2, 4, 6] {
        let two = vqtbl4q_u8(columns, vaddq_u8(order, vdupq_n_u8(row)));
        // SAFETY: both rows end within the 7 strides and 8 bytes that `out` has.
        unsafe {
            let to = out.as_mut_ptr().add(usize::from(row) * stride);
            vst1_u8(to, vget_low_u8(two));
            vst1_u8(to.add(stride), vget_high_u8(two));
        }
    }
    vmaxvq_u16(excess) == 0
}

/// The coefficients times their steps, in the order in which they are placed; and which of them are too large.
#[inline]
#[target_feature(enable = "neon")]
fn multiply(block: &Block, steps: &Steps) -> ([int16x8_t; 8], uint16x8_t) {
    let mut rows = [vdupq_n_s16(0); 8];
    let mut excess = vdupq_n_u16(0);
    let pairs =
        block.as_chunks::<16>().0.iter().zip(steps.steps.as_chunks::<16>().0).zip(steps.most.as_chunks::<16>().0);
    for (rows, ((values, factors), most)) in rows.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
        // SAFETY: the arrays have the 32 bytes.
        let (values, factors, most) =
            unsafe { (vld2q_s16(values.as_ptr()), vld2q_s16(factors.as_ptr()), vld2q_s16(most.as_ptr())) };
        excess = vorrq_u16(excess, vcgtq_s16(vabsq_s16(values.0), most.0));
        excess = vorrq_u16(excess, vcgtq_s16(vabsq_s16(values.1), most.1));
        *rows = [vmulq_s16(values.0, factors.0), vmulq_s16(values.1, factors.1)];
    }
    (rows, excess)
}

type Wide = [int32x4_t; 2];

/// One dimension, of coefficients 0 and 4, 2 and 6, 7 and 1, 5 and 3. `half` is added to all sums.
#[inline]
#[target_feature(enable = "neon")]
fn pass([c0, c4, c2, c6, c7, c1, c5, c3]: [int16x8_t; 8], half: i32) -> [Wide; 8] {
    let half = vdupq_n_s32(half);
    const BITS: i32 = FACTOR_BITS as i32;
    let sum = [vaddl_s16(vget_low_s16(c0), vget_low_s16(c4)), vaddl_high_s16(c0, c4)];
    let difference = [vsubl_s16(vget_low_s16(c0), vget_low_s16(c4)), vsubl_high_s16(c0, c4)];
    let scale =
        |[low, high]: Wide| [vaddq_s32(vshlq_n_s32::<BITS>(low), half), vaddq_s32(vshlq_n_s32::<BITS>(high), half)];
    let (sum, difference) = (scale(sum), scale(difference));
    let (minus, plus) = (dot(c2, c6, EVEN[0]), dot(c2, c6, EVEN[1]));
    let (a, b, c, d) = (add(sum, plus), add(difference, minus), sub(difference, minus), sub(sum, plus));
    let ([k, l, m, n], [w, x, y, z]) = (ODD_71, ODD_53);
    let e = also(dot(c7, c1, k), c5, c3, w);
    let f = also(dot(c7, c1, l), c5, c3, x);
    let g = also(dot(c7, c1, m), c5, c3, y);
    let h = also(dot(c7, c1, n), c5, c3, z);
    [add(a, h), add(b, g), add(c, f), add(d, e), sub(d, e), sub(c, f), sub(b, g), sub(a, h)]
}

/// Two products, added.
#[inline]
#[target_feature(enable = "neon")]
fn dot(a: int16x8_t, b: int16x8_t, [f, g]: [i16; 2]) -> Wide {
    let first = [vmull_n_s16(vget_low_s16(a), f), vmull_high_n_s16(a, f)];
    [vmlal_n_s16(first[0], vget_low_s16(b), g), vmlal_high_n_s16(first[1], b, g)]
}

/// Two products, added to sums.
#[inline]
#[target_feature(enable = "neon")]
fn also([low, high]: Wide, a: int16x8_t, b: int16x8_t, [f, g]: [i16; 2]) -> Wide {
    let low = vmlal_n_s16(low, vget_low_s16(a), f);
    let high = vmlal_high_n_s16(high, a, f);
    [vmlal_n_s16(low, vget_low_s16(b), g), vmlal_high_n_s16(high, b, g)]
}

#[inline]
#[target_feature(enable = "neon")]
fn add(a: Wide, b: Wide) -> Wide {
    [vaddq_s32(a[0], b[0]), vaddq_s32(a[1], b[1])]
}

#[inline]
#[target_feature(enable = "neon")]
fn sub(a: Wide, b: Wide) -> Wide {
    [vsubq_s32(a[0], b[0]), vsubq_s32(a[1], b[1])]
}

/// Sums without `BITS` fractional bits, rounded and clipped to 16.
#[inline]
#[target_feature(enable = "neon")]
fn narrow<const BITS: i32>([low, high]: Wide) -> int16x8_t {
    vqrshrn_high_n_s32::<BITS>(vqrshrn_n_s32::<BITS>(low), high)
}

/// Sums of two columns without their 18 fractional bits, clipped to bytes: 16 of them first, because no narrowing shift
/// takes more.
#[inline]
#[target_feature(enable = "neon")]
fn bytes(a: Wide, b: Wide) -> uint8x16_t {
    let a = vshrn_high_n_s32::<16>(vshrn_n_s32::<16>(a[0]), a[1]);
    let b = vshrn_high_n_s32::<16>(vshrn_n_s32::<16>(b[0]), b[1]);
    vqshrun_high_n_s16::<2>(vqshrun_n_s16::<2>(a), b)
}

#[inline]
#[target_feature(enable = "neon")]
fn transpose([a, b, c, d, e, f, g, h]: [int16x8_t; 8]) -> [int16x8_t; 8] {
    let (ab0, ab1) = (vtrn1q_s16(a, b), vtrn2q_s16(a, b));
    let (cd0, cd1) = (vtrn1q_s16(c, d), vtrn2q_s16(c, d));
    let (ef0, ef1) = (vtrn1q_s16(e, f), vtrn2q_s16(e, f));
    let (gh0, gh1) = (vtrn1q_s16(g, h), vtrn2q_s16(g, h));
    let (abcd0, abcd2) = fours(ab0, cd0);
    let (abcd1, abcd3) = fours(ab1, cd1);
    let (efgh0, efgh2) = fours(ef0, gh0);
    let (efgh1, efgh3) = fours(ef1, gh1);
    let ((r0, r4), (r1, r5)) = (eights(abcd0, efgh0), eights(abcd1, efgh1));
    let ((r2, r6), (r3, r7)) = (eights(abcd2, efgh2), eights(abcd3, efgh3));
    [r0, r1, r2, r3, r4, r5, r6, r7]
}

#[inline]
#[target_feature(enable = "neon")]
fn fours(a: int16x8_t, b: int16x8_t) -> (int16x8_t, int16x8_t) {
    let (a, b) = (vreinterpretq_s32_s16(a), vreinterpretq_s32_s16(b));
    (vreinterpretq_s16_s32(vtrn1q_s32(a, b)), vreinterpretq_s16_s32(vtrn2q_s32(a, b)))
}

#[inline]
#[target_feature(enable = "neon")]
fn eights(a: int16x8_t, b: int16x8_t) -> (int16x8_t, int16x8_t) {
    let (a, b) = (vreinterpretq_s64_s16(a), vreinterpretq_s64_s16(b));
    (vreinterpretq_s16_s64(vtrn1q_s64(a, b)), vreinterpretq_s16_s64(vtrn2q_s64(a, b)))
}
