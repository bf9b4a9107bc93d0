//! Chroma filter and colours with NEON, which every 64-bit ARM has: what the portable functions compute, to the byte,
//! of as many pixels as fill registers.

use std::arch::aarch64::*;

/// Two pixels of each sample but the first and the last of `row`, 16 samples at once; returns how many. A halving add
/// rounds down, a rounding one up: the mean of a and the mean of a and b is a quarter of 3 a + b.
pub(super) fn spread_halves(row: &[u8], out: &mut [u8]) -> usize {
    let mut done = 0;
    for out in out.as_chunks_mut::<32>().0 {
        let Some(window) = row.get(done..).and_then(<[u8]>::first_chunk::<18>) else { break };
        // SAFETY: every 64-bit ARM has NEON; the window has 16 bytes behind the second, and `out` 32.
        unsafe {
            let (left, middle, right) =
                (vld1q_u8(window.as_ptr()), vld1q_u8(window.as_ptr().add(1)), vld1q_u8(window.as_ptr().add(2)));
            let even = vhaddq_u8(middle, vrhaddq_u8(middle, left));
            let odd = vrhaddq_u8(middle, vhaddq_u8(middle, right));
            vst2q_u8(out.as_mut_ptr(), uint8x16x2_t(even, odd));
        }
        done += 16;
    }
    done
}

/// The same where two rows share samples, 8 at once.
pub(super) fn spread_quarters(near: &[u8], far: &[u8], out: &mut [u8]) -> usize {
    let mut done = 0;
    for out in out.as_chunks_mut::<16>().0 {
        let near = near.get(done..).and_then(<[u8]>::first_chunk::<10>);
        let far = far.get(done..).and_then(<[u8]>::first_chunk::<10>);
        let (Some(near), Some(far)) = (near, far) else { break };
        // SAFETY: every 64-bit ARM has NEON; the windows have 8 bytes behind the second, and `out` has 16.
        unsafe {
            let three = vdup_n_u8(3);
            let sum =
                |at: usize| vmlal_u8(vmovl_u8(vld1_u8(far.as_ptr().add(at))), vld1_u8(near.as_ptr().add(at)), three);
            let (left, middle, right) = (sum(0), sum(1), sum(2));
            let even = vrshrn_n_u16::<4>(vmlaq_n_u16(left, middle, 3));
            let odd = vshrn_n_u16::<4>(vaddq_u16(vmlaq_n_u16(right, middle, 3), vdupq_n_u16(7)));
            vst2_u8(out.as_mut_ptr(), uint8x8x2_t(even, odd));
        }
        done += 8;
    }
    done
}

/// Luma and chroma to RGB, 16 pixels at once; returns how many.
pub(super) fn colors(y: &[u8], u: &[u8], v: &[u8], out: &mut [u8]) -> usize {
    let (y, u, v) = (y.as_chunks::<16>().0, u.as_chunks::<16>().0, v.as_chunks::<16>().0);
    let mut done = 0;
    for (((y, u), v), out) in y.iter().zip(u).zip(v).zip(out.as_chunks_mut::<48>().0) {
        // SAFETY: every 64-bit ARM has NEON.
        unsafe { block(y, u, v, out) };
        done += 16;
    }
    done
}

#[inline]
#[target_feature(enable = "neon")]
fn block(y: &[u8; 16], u: &[u8; 16], v: &[u8; 16], out: &mut [u8; 48]) {
    // SAFETY: the arrays have the 16 bytes.
    let (y, u, v) = unsafe { (vld1q_u8(y.as_ptr()), vld1q_u8(u.as_ptr()), vld1q_u8(v.as_ptr())) };
    let center = vdup_n_u8(128);
    let [r0, g0, b0] = colours(
        vget_low_u8(y),
        vreinterpretq_s16_u16(vsubl_u8(vget_low_u8(u), center)),
        vreinterpretq_s16_u16(vsubl_u8(vget_low_u8(v), center)),
    );
    let [r1, g1, b1] = colours(
        vget_high_u8(y),
        vreinterpretq_s16_u16(vsubl_u8(vget_high_u8(u), center)),
        vreinterpretq_s16_u16(vsubl_u8(vget_high_u8(v), center)),
    );
    let pixels = uint8x16x3_t(vcombine_u8(r0, r1), vcombine_u8(g0, g1), vcombine_u8(b0, b1));
    // SAFETY: the array has the 48 bytes.
    unsafe { vst3q_u8(out.as_mut_ptr(), pixels) }
}

/// Red, green and blue of 8 pixels.
///
/// VQRDMULH is (2 a b + 32768) >> 16. The fractions of 1.402 = 1 + 26345 / 65536 and 1.772 = 2 - 14942 / 65536 fit it:
/// half of the former, rounded down, gives the same for each of the 256 values of chroma, which a test goes through.
/// Green is -22554 u - 46802 v, of which the latter is 18734 v - 65536 v.
#[inline]
#[target_feature(enable = "neon")]
fn colours(y: uint8x8_t, u: int16x8_t, v: int16x8_t) -> [uint8x8_t; 3] {
    let y = vreinterpretq_s16_u16(vmovl_u8(y));
    let red = vaddq_s16(vaddq_s16(y, v), vqrdmulhq_n_s16(v, 13_172));
    let blue = vaddq_s16(vaddq_s16(y, vaddq_s16(u, u)), vqrdmulhq_n_s16(u, -7471));
    let low = vmlal_n_s16(vmull_n_s16(vget_low_s16(u), -22_554), vget_low_s16(v), 18_734);
    let high = vmlal_high_n_s16(vmull_high_n_s16(u, -22_554), v, 18_734);
    let green = vrshrn_high_n_s32::<16>(vrshrn_n_s32::<16>(low), high);
    let green = vaddq_s16(vsubq_s16(y, v), green);
    [vqmovun_s16(red), vqmovun_s16(green), vqmovun_s16(blue)]
}
