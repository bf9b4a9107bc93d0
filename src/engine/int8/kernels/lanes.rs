//! The steps that work lane by lane: written once in plain Rust, compiled once for each instruction set.
//!
//! The compiler vectorises them; every set gives the same bits, because the arithmetic is that of f32 without
//! contraction and rounding is an addition (`round`).

/// 1.5 * 2^23: adding it leaves a number's nearest integer, half to even, in the low bits (for |x| < 2^22).
const ROUND: f32 = 12_582_912.0;

/// A step over `n` contiguous lanes: `to` from `a` and `b` (`a` again where there is one operand).
///
/// # Safety
/// All pointers are good for `n` bytes, and `to` overlaps neither of the others unless it is one of them.
pub type Step = unsafe fn(numbers: &Numbers, to: *mut u8, a: *const u8, b: *const u8, n: usize);

/// The largest of the values under a window, for `n` contiguous lanes of one pixel stored with `flip`; -128 where the
/// window is empty.
///
/// # Safety
/// `n` bytes are readable behind each tap of the window and writable at `to`, which overlaps none of them.
pub type Pool = unsafe fn(flip: u8, to: *mut u8, taps: &Taps, n: usize);

/// Where the taps of a window lie.
#[derive(Debug, Clone, Copy)]
pub struct Taps {
    /// The first.
    pub first: *const u8,
    /// Rows and columns.
    pub size: [usize; 2],
    /// Bytes from row to row and from column to column.
    pub step: [usize; 2],
}

/// The numbers of a lane step.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    /// Multiplier of the first operand.
    pub scale_a: f32,
    /// Multiplier of the second operand.
    pub scale_b: f32,
    /// Clamp bounds.
    pub low: f32,
    /// Clamp bounds.
    pub high: f32,
    /// How values are stored.
    pub flip: u8,
}

/// The lane steps of one instruction set.
pub struct Table {
    /// round(clamp(a * scale_a + b * scale_b)).
    pub add: Step,
    /// round(clamp(a * scale_a)).
    pub requantize: Step,
    /// The largest value of each lane under a window.
    pub max: Pool,
}

/// round, half to even, of a value within the bounds of int8; stored.
#[inline(always)]
fn store(value: f32, low: f32, high: f32, flip: u8) -> u8 {
    // Bounds are whole numbers, so clamping first is clamping after.
    let value = if value < low { low } else { value };
    let value = if value > high { high } else { value };
    ((value + ROUND).to_bits() as u8) ^ flip
}

#[inline(always)]
fn load(stored: u8, flip: u8) -> f32 {
    f32::from((stored ^ flip) as i8)
}

/// `f` of each pair of bytes. Whole pieces are copied into registers first: a compiler that had to fear that `to` is
/// `a` would go byte by byte.
#[inline(always)]
unsafe fn each(to: *mut u8, a: *const u8, b: *const u8, n: usize, f: impl Fn(u8, u8) -> u8) {
    let mut i = 0;
    // SAFETY: the caller vouches for n bytes behind each pointer.
    unsafe {
        while i + 64 <= n {
            piece::<64>(to.add(i), a.add(i), b.add(i), &f);
            i += 64;
        }
        while i + 16 <= n {
            piece::<16>(to.add(i), a.add(i), b.add(i), &f);
            i += 16;
        }
        while i < n {
            piece::<1>(to.add(i), a.add(i), b.add(i), &f);
            i += 1;
        }
    }
}

#[inline(always)]
unsafe fn piece<const N: usize>(to: *mut u8, a: *const u8, b: *const u8, f: &impl Fn(u8, u8) -> u8) {
    // SAFETY: the caller's: N bytes behind each pointer. Bytes have no alignment.
    let (a, b) = unsafe { (a.cast::<[u8; N]>().read(), b.cast::<[u8; N]>().read()) };
    let mut bytes = [0; N];
    for (byte, (a, b)) in bytes.iter_mut().zip(a.into_iter().zip(b)) {
        *byte = f(a, b);
    }
    // SAFETY: as above.
    unsafe { to.cast::<[u8; N]>().write(bytes) };
}

#[inline(always)]
unsafe fn add(numbers: &Numbers, to: *mut u8, a: *const u8, b: *const u8, n: usize) {
    let Numbers { scale_a, scale_b, low, high, flip } = *numbers;
    let sum = |a, b| store(load(a, flip) * scale_a + load(b, flip) * scale_b, low, high, flip);
    // SAFETY: the caller's.
    unsafe { each(to, a, b, n, sum) };
}

#[inline(always)]
unsafe fn requantize(numbers: &Numbers, to: *mut u8, a: *const u8, _: *const u8, n: usize) {
    let Numbers { scale_a, low, high, flip, .. } = *numbers;
    // SAFETY: the caller's.
    unsafe { each(to, a, a, n, |a, _| store(load(a, flip) * scale_a, low, high, flip)) };
}

#[inline(always)]
unsafe fn max(flip: u8, to: *mut u8, taps: &Taps, n: usize) {
    let mut i = 0;
    // SAFETY: the caller's.
    unsafe {
        while i + 64 <= n {
            largest::<64>(flip, to.add(i), taps, i);
            i += 64;
        }
        while i + 16 <= n {
            largest::<16>(flip, to.add(i), taps, i);
            i += 16;
        }
        while i < n {
            largest::<1>(flip, to.add(i), taps, i);
            i += 1;
        }
    }
}

#[inline(always)]
unsafe fn largest<const N: usize>(flip: u8, to: *mut u8, taps: &Taps, lane: usize) {
    let mut found = [i8::MIN; N];
    for row in 0..taps.size[0] {
        for column in 0..taps.size[1] {
            let offset = row * taps.step[0] + column * taps.step[1] + lane;
            // SAFETY: the caller's: N bytes are readable behind each tap. Bytes have no alignment.
            let values = unsafe { taps.first.add(offset).cast::<[u8; N]>().read() };
            for (found, value) in found.iter_mut().zip(values) {
                *found = (*found).max((value ^ flip) as i8);
            }
        }
    }
    // SAFETY: as above.
    unsafe { to.cast::<[u8; N]>().write(found.map(|value| value as u8 ^ flip)) };
}

/// The lane steps compiled for the build's own instruction set.
pub const PORTABLE: Table = Table { add, requantize, max };

/// The same three compiled with more features enabled.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled_with {
    ($table:ident, $module:ident, $features:literal) => {
        mod $module {
            use super::{Numbers, Taps};

            #[target_feature(enable = $features)]
            pub unsafe fn add(numbers: &Numbers, to: *mut u8, a: *const u8, b: *const u8, n: usize) {
                // SAFETY: the caller's.
                unsafe { super::add(numbers, to, a, b, n) }
            }

            #[target_feature(enable = $features)]
            pub unsafe fn requantize(numbers: &Numbers, to: *mut u8, a: *const u8, b: *const u8, n: usize) {
                // SAFETY: the caller's.
                unsafe { super::requantize(numbers, to, a, b, n) }
            }

            #[target_feature(enable = $features)]
            pub unsafe fn max(flip: u8, to: *mut u8, taps: &Taps, n: usize) {
                // SAFETY: the caller's.
                unsafe { super::max(flip, to, taps, n) }
            }
        }

        /// The lane steps compiled for these features.
        pub const $table: Table = Table { add: $module::add, requantize: $module::requantize, max: $module::max };
    };
}

#[cfg(target_arch = "x86_64")]
compiled_with!(AVX2, avx2, "avx2");
#[cfg(target_arch = "x86_64")]
compiled_with!(AVX512, avx512, "avx512f,avx512bw,avx512vl,avx512dq");

/// The same steps, 16 lanes at a time with NEON; flip is 0. What is left of a run goes the portable way, which gives
/// the same bits.
#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    use super::Numbers;

    const VECTOR: usize = 16;

    /// 16 values times a scale.
    #[inline(always)]
    unsafe fn scaled(from: *const u8, scale: float32x4_t) -> [float32x4_t; 4] {
        // SAFETY: the caller's: 16 bytes are readable. Every aarch64 CPU has NEON.
        unsafe {
            let bytes = vld1q_s8(from.cast());
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            [
                vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), scale),
                vmulq_f32(vcvtq_f32_s32(vmovl_high_s16(low)), scale),
                vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), scale),
                vmulq_f32(vcvtq_f32_s32(vmovl_high_s16(high)), scale),
            ]
        }
    }

    /// round, half to even, clamped (bounds are whole numbers, so clamping after is clamping before), stored.
    #[inline(always)]
    unsafe fn store(values: [float32x4_t; 4], low: int8x16_t, high: int8x16_t, to: *mut u8) {
        // SAFETY: the caller's: 16 bytes are writable. Every aarch64 CPU has NEON.
        unsafe {
            let [a, b, c, d] = values.map(|value| vcvtnq_s32_f32(value));
            let ab = vqmovn_high_s32(vqmovn_s32(a), b);
            let cd = vqmovn_high_s32(vqmovn_s32(c), d);
            let bytes = vqmovn_high_s16(vqmovn_s16(ab), cd);
            vst1q_s8(to.cast(), vmaxq_s8(vminq_s8(bytes, high), low));
        }
    }

    pub unsafe fn add(numbers: &Numbers, to: *mut u8, a: *const u8, b: *const u8, n: usize) {
        let whole = n / VECTOR * VECTOR;
        // SAFETY: the caller's: n bytes behind each pointer. Every aarch64 CPU has NEON.
        unsafe {
            let (low, high) = (vdupq_n_s8(numbers.low as i8), vdupq_n_s8(numbers.high as i8));
            let (scale_a, scale_b) = (vdupq_n_f32(numbers.scale_a), vdupq_n_f32(numbers.scale_b));
            for i in (0..whole).step_by(VECTOR) {
                let [a0, a1, a2, a3] = scaled(a.add(i), scale_a);
                let [b0, b1, b2, b3] = scaled(b.add(i), scale_b);
                let sums = [vaddq_f32(a0, b0), vaddq_f32(a1, b1), vaddq_f32(a2, b2), vaddq_f32(a3, b3)];
                store(sums, low, high, to.add(i));
            }
            super::add(numbers, to.add(whole), a.add(whole), b.add(whole), n - whole);
        }
    }

    pub unsafe fn requantize(numbers: &Numbers, to: *mut u8, a: *const u8, _: *const u8, n: usize) {
        let whole = n / VECTOR * VECTOR;
        // SAFETY: as above.
        unsafe {
            let (low, high) = (vdupq_n_s8(numbers.low as i8), vdupq_n_s8(numbers.high as i8));
            let scale = vdupq_n_f32(numbers.scale_a);
            for i in (0..whole).step_by(VECTOR) {
                store(scaled(a.add(i), scale), low, high, to.add(i));
            }
            super::requantize(numbers, to.add(whole), a.add(whole), a.add(whole), n - whole);
        }
    }
}

/// The lane steps of every ARM kernel.
#[cfg(target_arch = "aarch64")]
pub const NEON: Table = Table { add: neon::add, requantize: neon::requantize, max };
