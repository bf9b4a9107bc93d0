//! 64-bit ARM without dot products (Cortex-A72: Raspberry Pi 4), and what all ARM kernels share.
//!
//! Dense: SMULL and SMLAL make 16-bit sums of two products (127 * 128 * 2 fits; a layer with a weight of -128 goes the portable way), SADALP adds neighbouring pairs of
//! them to 32-bit accumulators, two for each channel, which meet at the end. A tile is 2 pixels by 16 channels: 16 accumulators, four
//! bytes of a pixel repeated in each of 4 registers (LD4R), and weights passing through.
//!
//! Depthwise: 16 channels of 4 neighbouring pixels; two taps meet in a 16-bit sum before they are widened.
//!
//! What would be loaded once and copied for each pixel (the start of accumulators, the rest) is loaded in pairs again and again: one
//! instruction in place of two, and on pipes that have nothing else to do then.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Block, DEPTH, Dense, Depthwise, Isa, Kernels, LANES, Output, Single, Strip, float, lanes, portable};

pub const KERNELS: Kernels = Kernels {
    isa: Isa::Neon,
    flip: 0,
    widths: &[1],
    order: |_, accumulator| accumulator,
    depthwise_order: |_, accumulator| accumulator,
    depthwise_widths: &[4, 2, 1],
    column: 1,
    dense,
    depthwise,
    single: Some(single),
    lanes: lanes::NEON,
    float: float::PORTABLE,
    peak,
};

// --- shared -----------------------------------------------------------------------------------------------------------

/// A strip's pixels in order, across row ends.
pub struct Walk {
    input: *const u8,
    output: *mut u8,
    /// Pixels left in this row, and in all.
    left: usize,
    total: usize,
    width: usize,
    in_pixel: usize,
    out_pixel: usize,
    /// From the end of a row to the start of the next.
    in_gap: isize,
    out_gap: isize,
}

impl Walk {
    /// From the first pixel.
    ///
    /// # Safety
    /// The strip is sound, see [`Strip`].
    #[inline]
    pub unsafe fn new(strip: &Strip) -> Self {
        let Strip { in_row, in_pixel, out_row, out_pixel, width, ref rows, .. } = *strip;
        let total = width * rows.len();
        let in_gap = in_row as isize - (width * in_pixel) as isize;
        let out_gap = out_row as isize - (width * out_pixel) as isize;
        // Rows without gaps are one row.
        let width = if in_gap == 0 && out_gap == 0 { total } else { width };
        // SAFETY: the caller's: the strip's rows lie there.
        let (input, output) = unsafe { (strip.input.add(rows.start * in_row), strip.output.add(rows.start * out_row)) };
        Self { input, output, left: width, total, width, in_pixel, out_pixel, in_gap, out_gap }
    }

    /// How many pixels are left.
    #[inline(always)]
    pub fn left(&self) -> usize {
        self.total
    }

    /// The next M pixels.
    ///
    /// # Safety
    /// At least M are left.
    #[inline(always)]
    pub unsafe fn take<const M: usize>(&mut self) -> ([*const u8; M], [*mut u8; M]) {
        let (mut input, mut output) = ([self.input; M], [self.output; M]);
        self.total -= M;
        if self.left > M {
            for m in 1..M {
                input[m] = input[m - 1].wrapping_add(self.in_pixel);
                output[m] = output[m - 1].wrapping_add(self.out_pixel);
            }
            self.input = input[M - 1].wrapping_add(self.in_pixel);
            self.output = output[M - 1].wrapping_add(self.out_pixel);
            self.left -= M;
            return (input, output);
        }
        for m in 0..M {
            (input[m], output[m]) = (self.input, self.output);
            self.input = self.input.wrapping_add(self.in_pixel);
            self.output = self.output.wrapping_add(self.out_pixel);
            self.left -= 1;
            if self.left == 0 {
                self.input = self.input.wrapping_offset(self.in_gap);
                self.output = self.output.wrapping_offset(self.out_gap);
                self.left = self.width;
            }
        }
        (input, output)
    }
}

/// Four vectors that follow each other, by two instructions that the compiler does not replace by copies.
///
/// # Safety
/// 64 bytes are readable.
#[inline(always)]
pub unsafe fn load4<T>(from: *const T) -> [int32x4_t; 4] {
    let (a, b, c, d);
    // SAFETY: the caller's; only the outputs are written.
    unsafe {
        asm!("ldp {a:q}, {b:q}, [{p}]", "ldp {c:q}, {d:q}, [{p}, #32]",
            a = out(vreg) a, b = out(vreg) b, c = out(vreg) c, d = out(vreg) d, p = in(reg) from,
            options(readonly, nostack, preserves_flags));
    }
    [a, b, c, d]
}

/// Two vectors, as [`load4`].
///
/// # Safety
/// 32 bytes are readable.
#[inline(always)]
pub unsafe fn load2<T>(from: *const T) -> [int32x4_t; 2] {
    let (a, b);
    // SAFETY: the caller's; only the outputs are written.
    unsafe {
        asm!("ldp {a:q}, {b:q}, [{p}]", a = out(vreg) a, b = out(vreg) b, p = in(reg) from,
            options(readonly, nostack, preserves_flags));
    }
    [a, b]
}

/// round(sum * scale + rest), half to even, clamped to int32 (which the narrowing after it clamps on).
#[inline(always)]
pub fn round(sum: int32x4_t, scale: float32x4_t, rest: int32x4_t) -> int32x4_t {
    // SAFETY: every aarch64 CPU has NEON.
    unsafe { vcvtnq_s32_f32(vfmaq_f32(vreinterpretq_f32_s32(rest), vcvtq_f32_s32(sum), scale)) }
}

/// The multipliers of 16 accumulators.
///
/// # Safety
/// There are 16.
#[inline(always)]
pub unsafe fn scales(scale: *const f32) -> [float32x4_t; 4] {
    // SAFETY: the caller's.
    unsafe { [vld1q_f32(scale), vld1q_f32(scale.add(4)), vld1q_f32(scale.add(8)), vld1q_f32(scale.add(12))] }
}

/// 16 accumulators of a pixel to what is stored.
///
/// # Safety
/// `rest` has 16 values.
#[inline(always)]
pub unsafe fn finish(
    sums: [int32x4_t; 4],
    scale: [float32x4_t; 4],
    rest: *const f32,
    low: int8x16_t,
    high: int8x16_t,
) -> int8x16_t {
    // SAFETY: the caller's; every aarch64 CPU has NEON.
    unsafe {
        let rest = load4(rest);
        let a = round(sums[0], scale[0], rest[0]);
        let b = round(sums[1], scale[1], rest[1]);
        let c = round(sums[2], scale[2], rest[2]);
        let d = round(sums[3], scale[3], rest[3]);
        let ab = vqmovn_high_s32(vqmovn_s32(a), b);
        let cd = vqmovn_high_s32(vqmovn_s32(c), d);
        vmaxq_s8(vminq_s8(vqmovn_high_s16(vqmovn_s16(ab), cd), high), low)
    }
}

/// Stores the 16 accumulators of a dense block for each of M pixels.
///
/// # Safety
/// The strip's soundness: the block's lanes of each output pixel are writable.
#[inline(always)]
pub unsafe fn store<const M: usize>(layer: &Dense, block: &Block, sums: [[int32x4_t; 4]; M], output: [*mut u8; M]) {
    // SAFETY: the caller's; scale and rest have one value for each accumulator.
    unsafe {
        let scale = scales(layer.scale.as_ptr().add(block.lane));
        let rest = layer.rest.as_ptr().add(block.lane);
        match layer.output {
            Output::Int8 { low, high } => {
                let (low, high) = (vdupq_n_s8(low as i8), vdupq_n_s8(high as i8));
                unroll!(I in [0 1 2 3 4 5] {
                    if I < M {
                        let bytes = finish(sums[I % M], scale, rest, low, high);
                        vst1q_s8(output[I % M].add(block.lane).cast(), bytes);
                    }
                });
            }
            Output::Float { low, high, channels } => {
                let channels = channels.saturating_sub(block.lane).min(LANES);
                for (sums, output) in sums.into_iter().zip(output) {
                    let mut values = [0.0f32; LANES];
                    for (v, sum) in sums.into_iter().enumerate() {
                        let value = vfmaq_f32(vld1q_f32(rest.add(4 * v)), vcvtq_f32_s32(sum), scale[v]);
                        let value = vminnmq_f32(vmaxnmq_f32(value, vdupq_n_f32(low)), vdupq_n_f32(high));
                        vst1q_f32(values.as_mut_ptr().add(4 * v), value);
                    }
                    let to = output.cast::<f32>().add(block.lane);
                    std::ptr::copy_nonoverlapping(values.as_ptr(), to, channels);
                }
            }
        }
    }
}

// --- dense ------------------------------------------------------------------------------------------------------------

unsafe fn dense(layer: &Dense, strip: &Strip) {
    if layer.extreme {
        // SAFETY: the caller's; the layouts are the same.
        return unsafe { (portable::KERNELS.dense)(layer, strip) };
    }
    for block in &layer.blocks {
        // SAFETY: the caller's; bias has 16 values for each block (`widths` is 1), and every tile's pixels are the strip's.
        unsafe {
            let bias = layer.bias.as_ptr().add(block.lane);
            let zero = vdupq_n_s32(0);
            let mut start = [zero; 8]; // two accumulators for each channel: the second starts at zero
            for v in 0..4 {
                let four = vld1q_s32(bias.add(4 * v));
                start[2 * v] = vzip1q_s32(four, zero);
                start[2 * v + 1] = vzip2q_s32(four, zero);
            }
            let mut walk = Walk::new(strip);
            while walk.left() >= 2 {
                let (input, output) = walk.take::<2>();
                tile_2(layer, block, &start, input, output);
            }
            if walk.left() == 1 {
                let (input, output) = walk.take::<1>();
                tile_1(layer, block, &start, input, output);
            }
        }
    }
}

/// Products of one step, or of two, of 4 channels, added to a pixel's accumulators.
macro_rules! products {
    ($sums:expr, $x:expr, $w:expr) => {{
        let low = vmull_s8(vget_low_s8($x), vget_low_s8($w));
        let high = vmull_high_s8($x, $w);
        $sums[0] = vpadalq_s16($sums[0], low);
        $sums[1] = vpadalq_s16($sums[1], high);
    }};
    ($sums:expr, $x0:expr, $w0:expr, $x1:expr, $w1:expr) => {{
        let low = vmlal_s8(vmull_s8(vget_low_s8($x0), vget_low_s8($w0)), vget_low_s8($x1), vget_low_s8($w1));
        let high = vmlal_high_s8(vmull_high_s8($x0, $w0), $x1, $w1);
        $sums[0] = vpadalq_s16($sums[0], low);
        $sums[1] = vpadalq_s16($sums[1], high);
    }};
}

/// Two steps of two vectors of weights in assembly, for all pixels: the registers of the steps' bytes, the accumulators.
macro_rules! two_steps {
    ($at:literal, $next:literal, $($x0:literal $x1:literal $a:ident $b:ident $c:ident $d:ident),*) => {
        concat!(
            "ldp {w0:q}, {w1:q}, [{w}, #", $at, "]\n",
            "ldp {w2:q}, {w3:q}, [{w}, #", $next, "]\n",
            $(
                "smull {t0:v}.8h, v", $x0, ".8b, {w0:v}.8b\n",
                "smull2 {t1:v}.8h, v", $x0, ".16b, {w0:v}.16b\n",
                "smull {t2:v}.8h, v", $x0, ".8b, {w1:v}.8b\n",
                "smull2 {t3:v}.8h, v", $x0, ".16b, {w1:v}.16b\n",
                "smlal {t0:v}.8h, v", $x1, ".8b, {w2:v}.8b\n",
                "smlal2 {t1:v}.8h, v", $x1, ".16b, {w2:v}.16b\n",
                "smlal {t2:v}.8h, v", $x1, ".8b, {w3:v}.8b\n",
                "smlal2 {t3:v}.8h, v", $x1, ".16b, {w3:v}.16b\n",
                "sadalp {", stringify!($a), ":v}.4s, {t0:v}.8h\n",
                "sadalp {", stringify!($b), ":v}.4s, {t1:v}.8h\n",
                "sadalp {", stringify!($c), ":v}.4s, {t2:v}.8h\n",
                "sadalp {", stringify!($d), ":v}.4s, {t3:v}.8h\n",
            )*
        )
    };
}

/// 16 channels of M pixels. For each pixel: its index, its pointer, the registers of four steps, its eight accumulators.
macro_rules! tile {
    (
        $name:ident, $m:literal,
        $($i:literal $p:ident $x0:literal $x1:literal $x2:literal $x3:literal $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident),*
    ) => {
        #[inline(always)]
        unsafe fn $name(layer: &Dense, block: &Block, start: &[int32x4_t; 8], input: [*const u8; $m], output: [*mut u8; $m]) {
            // SAFETY: the caller's: every tap of these pixels is readable for `depth` steps; weights follow each other by tap, step and
            // channel. The assembly reads just that, and writes registers alone.
            unsafe {
                $(
                    let [mut $a, mut $b, mut $c, mut $d] = load4(start.as_ptr());
                    let [mut $e, mut $f, mut $g, mut $h] = load4(start.as_ptr().add(4));
                )*
                let mut weights: *const i8 = layer.weights.as_ptr().add(block.weights).cast();
                for tap in &layer.taps {
                    let mut at = *tap + block.input;
                    if layer.depth >= 4 {
                        let steps = layer.depth / 4;
                        asm!(
                            "2:",
                            $(concat!("ld4r {{v", $x0, ".4s, v", $x1, ".4s, v", $x2, ".4s, v", $x3, ".4s}}, [{", stringify!($p), "}], #16"),)*
                            two_steps!("0", "64", $($x0 $x1 $a $b $c $d),*),
                            two_steps!("32", "96", $($x0 $x1 $e $f $g $h),*),
                            two_steps!("128", "192", $($x2 $x3 $a $b $c $d),*),
                            two_steps!("160", "224", $($x2 $x3 $e $f $g $h),*),
                            "add {w}, {w}, #256",
                            "subs {n}, {n}, #1",
                            "b.ne 2b",
                            $($p = inout(reg) input[$i].add(at) => _,)*
                            $($a = inout(vreg) $a, $b = inout(vreg) $b, $c = inout(vreg) $c, $d = inout(vreg) $d,)*
                            $($e = inout(vreg) $e, $f = inout(vreg) $f, $g = inout(vreg) $g, $h = inout(vreg) $h,)*
                            w = inout(reg) weights, n = inout(reg) steps => _,
                            w0 = out(vreg) _, w1 = out(vreg) _, w2 = out(vreg) _, w3 = out(vreg) _,
                            t0 = out(vreg) _, t1 = out(vreg) _, t2 = out(vreg) _, t3 = out(vreg) _,
                            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                            options(readonly, nostack)
                        );
                        at += steps * 4 * DEPTH;
                    }
                    let mut sums = [$([[$a, $b], [$c, $d], [$e, $f], [$g, $h]]),*];
                    if layer.depth & 2 != 0 {
                        let x: [[int8x16_t; 2]; $m] = input.map(|input| [repeat(input.add(at)), repeat(input.add(at + DEPTH))]);
                        unroll!(V in [0 1 2 3] {
                            let (w0, w1) = (vld1q_s8(weights.add(V * 16)), vld1q_s8(weights.add(64 + V * 16)));
                            $(products!(sums[$i][V], x[$i][0], w0, x[$i][1], w1);)*
                        });
                        weights = weights.add(128);
                        at += 2 * DEPTH;
                    }
                    if layer.depth & 1 != 0 {
                        let x: [int8x16_t; $m] = input.map(|input| repeat(input.add(at)));
                        unroll!(V in [0 1 2 3] {
                            let w = vld1q_s8(weights.add(V * 16));
                            $(products!(sums[$i][V], x[$i], w);)*
                        });
                        weights = weights.add(64);
                    }
                    $([[$a, $b], [$c, $d], [$e, $f], [$g, $h]] = sums[$i];)*
                }
                let sums = [$([vpaddq_s32($a, $b), vpaddq_s32($c, $d), vpaddq_s32($e, $f), vpaddq_s32($g, $h)]),*];
                store::<$m>(layer, block, sums, output);
            }
        }
    };
}

tile!(tile_1, 1, 0 p0 "0" "1" "2" "3" a0 b0 c0 d0 e0 f0 g0 h0);
tile!(tile_2, 2, 0 p0 "0" "1" "2" "3" a0 b0 c0 d0 e0 f0 g0 h0, 1 p1 "4" "5" "6" "7" a1 b1 c1 d1 e1 f1 g1 h1);

/// Four bytes, four times.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn repeat(from: *const u8) -> int8x16_t {
    // SAFETY: the caller's.
    unsafe { vreinterpretq_s8_s32(vld1q_dup_s32(from.cast())) }
}

unsafe fn single(layer: &Single, strip: &Strip) {
    // SAFETY: the caller's. Every aarch64 CPU has NEON.
    unsafe {
        for_each_sum(layer, strip, |sum, x, w| {
            let sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(x), vget_low_s8(w)));
            vpadalq_s16(sum, vmull_high_s8(x, w))
        });
    }
}

/// A convolution of one output channel, given how to add the products of 16 bytes: four pixels at a time, whose sums meet at the end.
///
/// # Safety
/// As for [`Kernels::single`].
#[inline(always)]
pub unsafe fn for_each_sum(
    layer: &Single,
    strip: &Strip,
    add: impl Fn(int32x4_t, int8x16_t, int8x16_t) -> int32x4_t + Copy,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut walk = Walk::new(strip);
        while walk.left() >= 4 {
            let (input, output) = walk.take::<4>();
            single_pixels(layer, input, output, add);
        }
        while walk.left() > 0 {
            let (input, output) = walk.take::<1>();
            single_pixels(layer, input, output, add);
        }
    }
}

/// M (1 or 4) of these pixels.
#[inline(always)]
unsafe fn single_pixels<const M: usize>(
    layer: &Single,
    input: [*const u8; M],
    output: [*mut u8; M],
    add: impl Fn(int32x4_t, int8x16_t, int8x16_t) -> int32x4_t,
) {
    // SAFETY: the caller's: 64 bytes of weights and of each pixel for every piece, a float behind each output pixel.
    unsafe {
        let mut sums = [vdupq_n_s32(0); M];
        let mut weights: *const i8 = layer.weights.as_ptr().cast();
        for tap in &layer.taps {
            for piece in 0..layer.pieces {
                unroll!(I in [0 1 2 3] {
                    let w = vld1q_s8(weights.add(I * 16));
                    for m in 0..M {
                        sums[m] = add(sums[m], vld1q_s8(input[m].add(tap + piece * 64 + I * 16).cast()), w);
                    }
                });
                weights = weights.add(64);
            }
        }
        let ab = vpaddq_s32(sums[0], sums[1 % M]);
        let cd = vpaddq_s32(sums[2 % M], sums[3 % M]);
        let sum = vaddq_s32(vpaddq_s32(ab, cd), vdupq_n_s32(layer.bias));
        let value = vfmaq_f32(vdupq_n_f32(layer.rest), vcvtq_f32_s32(sum), vdupq_n_f32(layer.scale));
        let value = vminnmq_f32(vmaxnmq_f32(value, vdupq_n_f32(layer.low)), vdupq_n_f32(layer.high));
        let mut values = [0.0f32; 4];
        vst1q_f32(values.as_mut_ptr(), value);
        for m in 0..M {
            output[m].cast::<f32>().write(values[m % 4]);
        }
    }
}

// --- depthwise --------------------------------------------------------------------------------------------------------

unsafe fn depthwise(layer: &Depthwise, strip: &Strip) {
    if layer.extreme {
        // SAFETY: the caller's; the layouts are the same.
        return unsafe { (portable::KERNELS.depthwise)(layer, strip) };
    }
    for block in &layer.blocks {
        for lane in (0..block.width * LANES).step_by(LANES) {
            for y in strip.rows.clone() {
                // SAFETY: y is a row of the strip, and the lanes are the block's; all that follows stays in its pixels.
                unsafe {
                    let input = strip.input.add(y * strip.in_row + block.lane + lane);
                    let output = strip.output.add(y * strip.out_row + block.lane + lane);
                    let numbers = Lanes::new(layer, block, lane);
                    match (layer.rows, layer.columns, layer.stride) {
                        (3, 3, 1) => row::<3, 3, 1>(layer, &numbers, strip, input, output),
                        (3, 3, 2) => row::<3, 3, 2>(layer, &numbers, strip, input, output),
                        (5, 5, 1) => row::<5, 5, 1>(layer, &numbers, strip, input, output),
                        (5, 5, 2) => row::<5, 5, 2>(layer, &numbers, strip, input, output),
                        _ => any(layer, &numbers, strip, input, output),
                    }
                }
            }
        }
    }
}

/// The numbers of 16 lanes of a block.
struct Lanes {
    weights: *const i8,
    /// Bytes from tap to tap.
    tap: usize,
    bias: *const i32,
    scale: *const f32,
    rest: *const f32,
    low: int8x16_t,
    high: int8x16_t,
}

impl Lanes {
    /// # Safety
    /// The block is the layer's, and `lane` is one of its lanes.
    unsafe fn new(layer: &Depthwise, block: &Block, lane: usize) -> Self {
        let at = block.lane + lane;
        // SAFETY: one number for each accumulator, which are in the order of the lanes.
        unsafe {
            Self {
                weights: layer.weights.as_ptr().add(block.weights + lane).cast(),
                tap: block.width * LANES,
                bias: layer.bias.as_ptr().add(at),
                scale: layer.scale.as_ptr().add(at),
                rest: layer.rest.as_ptr().add(at),
                low: vdupq_n_s8(layer.low as i8),
                high: vdupq_n_s8(layer.high as i8),
            }
        }
    }
}

/// One output row, four pixels at a time; the last four overlap those before them.
unsafe fn row<const R: usize, const C: usize, const S: usize>(
    layer: &Depthwise,
    numbers: &Lanes,
    strip: &Strip,
    input: *const u8,
    output: *mut u8,
) {
    const T: usize = 4;
    // SAFETY: pixels x..x + T are the strip's.
    unsafe {
        let mut x = 0;
        while x < strip.width {
            if strip.width >= T {
                x = x.min(strip.width - T);
                let (from, to) = (input.add(x * strip.in_pixel), output.add(x * strip.out_pixel));
                pixels::<R, C, S, T>(layer, numbers, from, to, strip.out_pixel);
                x += T;
            } else {
                let (from, to) = (input.add(x * strip.in_pixel), output.add(x * strip.out_pixel));
                pixels::<R, C, S, 1>(layer, numbers, from, to, strip.out_pixel);
                x += 1;
            }
        }
    }
}

/// Adds a 16-bit sum of products of 16 lanes to accumulators.
#[inline(always)]
fn widen(sums: &mut [int32x4_t; 4], low: int16x8_t, high: int16x8_t) {
    // SAFETY: every aarch64 CPU has NEON.
    unsafe {
        sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
        sums[1] = vaddw_high_s16(sums[1], low);
        sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
        sums[3] = vaddw_high_s16(sums[3], high);
    }
}

/// Products of 16 lanes. In assembly, because the compiler would widen the weights once for all pixels, and then the pixels each time.
#[inline(always)]
fn multiply(x: int8x16_t, w: int8x16_t) -> (int16x8_t, int16x8_t) {
    let (low, high);
    // SAFETY: every aarch64 CPU has NEON; nothing but the outputs is written.
    unsafe {
        asm!("smull {l:v}.8h, {x:v}.8b, {w:v}.8b", "smull2 {h:v}.8h, {x:v}.16b, {w:v}.16b",
            l = out(vreg) low, h = lateout(vreg) high, x = in(vreg) x, w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags));
    }
    (low, high)
}

/// Adds products of 16 lanes, as [`multiply`].
#[inline(always)]
fn multiply_add(low: int16x8_t, high: int16x8_t, x: int8x16_t, w: int8x16_t) -> (int16x8_t, int16x8_t) {
    let (mut low, mut high) = (low, high);
    // SAFETY: as above.
    unsafe {
        asm!("smlal {l:v}.8h, {x:v}.8b, {w:v}.8b", "smlal2 {h:v}.8h, {x:v}.16b, {w:v}.16b",
            l = inout(vreg) low, h = inout(vreg) high, x = in(vreg) x, w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags));
    }
    (low, high)
}

/// Loads 16 lanes and moves on, in one instruction and in this order: the compiler would load all taps first and run out of registers.
#[inline(always)]
unsafe fn load_and_move(at: &mut *const u8, step: usize) -> int8x16_t {
    let mut from = *at;
    let lanes;
    // SAFETY: the caller's: 16 lanes are readable.
    unsafe {
        asm!("ld1 {{{x:v}.16b}}, [{p}], {step}", x = out(vreg) lanes, p = inout(reg) from, step = in(reg) step,
            options(readonly, nostack, preserves_flags));
    }
    *at = from;
    lanes
}

/// T neighbouring output pixels, two taps at a time.
#[inline(always)]
unsafe fn pixels<const R: usize, const C: usize, const S: usize, const T: usize>(
    layer: &Depthwise,
    numbers: &Lanes,
    input: *const u8,
    output: *mut u8,
    out_pixel: usize,
) {
    // SAFETY: the caller's pixels; weights, bias, scale and rest hold what the layer's shape says.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); 4]; T];
        unroll!(I in [0 1 2 3] {
            if I < T {
                sums[I % T] = load4(numbers.bias);
            }
        });
        let step = S * layer.column;
        unroll!(P in [0 1 2 3 4 5 6 7 8 9 10 11 12] {
            let (a, b) = (2 * P, 2 * P + 1);
            if a < R * C {
                let mut at_a = input.add(a / C * layer.row + a % C * layer.column);
                let mut at_b = input.wrapping_add(b / C * layer.row + b % C * layer.column); // may be past the last tap: then unused
                let wa = vld1q_s8(numbers.weights.add(a * numbers.tap));
                let wb = vld1q_s8(numbers.weights.add(b.min(R * C - 1) * numbers.tap));
                unroll!(I in [0 1 2 3] {
                    if I < T {
                        let xa = load_and_move(&mut at_a, step);
                        let (mut low, mut high) = multiply(xa, wa);
                        if b < R * C {
                            (low, high) = multiply_add(low, high, load_and_move(&mut at_b, step), wb);
                        }
                        widen(&mut sums[I % T], low, high);
                    }
                });
            }
        });
        let scale = scales(numbers.scale);
        unroll!(I in [0 1 2 3] {
            if I < T {
                let bytes = finish(sums[I % T], scale, numbers.rest, numbers.low, numbers.high);
                vst1q_s8(output.add(I * out_pixel).cast(), bytes);
            }
        });
    }
}

/// Any window, one pixel and one tap at a time.
unsafe fn any(layer: &Depthwise, numbers: &Lanes, strip: &Strip, input: *const u8, output: *mut u8) {
    // SAFETY: as in `pixels`.
    unsafe {
        let scale = scales(numbers.scale);
        for x in 0..strip.width {
            let mut sums = load4(numbers.bias);
            let mut weights = numbers.weights;
            for row in 0..layer.rows {
                for column in 0..layer.columns {
                    let at = input.add(x * strip.in_pixel + row * layer.row + column * layer.column);
                    let (value, weight) = (vld1q_s8(at.cast()), vld1q_s8(weights));
                    let low = vmull_s8(vget_low_s8(value), vget_low_s8(weight));
                    widen(&mut sums, low, vmull_high_s8(value, weight));
                    weights = weights.add(numbers.tap);
                }
            }
            let bytes = finish(sums, scale, numbers.rest, numbers.low, numbers.high);
            vst1q_s8(output.add(x * strip.out_pixel).cast(), bytes);
        }
    }
}

/// Eight chains of SMULL, SMLAL and SADALP.
unsafe fn peak(rounds: u64) -> u64 {
    // SAFETY: every aarch64 CPU has NEON; nothing but registers is touched.
    unsafe {
        let mut sums = [vdupq_n_s32(0); 8];
        let mut x = vdupq_n_s8(3);
        for _ in 0..rounds {
            asm!("/* {x:v} */", x = inout(vreg) x, options(nomem, nostack, preserves_flags)); // not to be computed once
            unroll!(I in [0 1 2 3 4 5 6 7] {
                let y = vget_low_s8(x);
                sums[I] = vpadalq_s16(sums[I], vmlal_high_s8(vmull_s8(y, y), x, x));
            });
        }
        std::hint::black_box(sums);
    }
    8 * 16
}
