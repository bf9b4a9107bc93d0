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

use super::{Block, DEPTH, Dense, Depthwise, Isa, Kernels, LANES, Output, Strip, lanes, portable};

pub const KERNELS: Kernels = Kernels {
    isa: Isa::Neon,
    flip: 0,
    widths: &[1],
    order: |_, accumulator| accumulator,
    depthwise_order: |_, accumulator| accumulator,
    column: 1,
    dense,
    depthwise,
    lanes: lanes::NEON,
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
                tile::<2>(layer, block, &start, input, output);
            }
            if walk.left() == 1 {
                let (input, output) = walk.take::<1>();
                tile::<1>(layer, block, &start, input, output);
            }
        }
    }
}

/// Products of `P` steps (1 or 2) of one vector of weights, 4 channels, added to a pixel's accumulators.
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

#[inline(always)]
unsafe fn tile<const M: usize>(
    layer: &Dense,
    block: &Block,
    start: &[int32x4_t; 8],
    input: [*const u8; M],
    output: [*mut u8; M],
) {
    // SAFETY: the caller's: every tap of these pixels is readable for `depth` steps; weights follow each other by tap, step and channel.
    unsafe {
        let zero = vdupq_n_s32(0);
        // By pixel, then by vector of 4 channels, then by half of it.
        let mut sums = [[[zero; 2]; 4]; M];
        for m in 0..M {
            for v in 0..4 {
                sums[m][v] = load2(start.as_ptr().add(2 * v));
            }
        }
        let mut weights: *const i8 = layer.weights.as_ptr().add(block.weights).cast();
        for tap in &layer.taps {
            let mut at = *tap;
            for _ in 0..layer.depth / 4 {
                let x = input.map(|input| vld4q_dup_s32(input.add(at).cast()));
                let x = x.map(|x| {
                    [
                        vreinterpretq_s8_s32(x.0),
                        vreinterpretq_s8_s32(x.1),
                        vreinterpretq_s8_s32(x.2),
                        vreinterpretq_s8_s32(x.3),
                    ]
                });
                for k in [0, 2] {
                    for v in 0..4 {
                        let w0 = vld1q_s8(weights.add((4 * k + v) * 16));
                        let w1 = vld1q_s8(weights.add((4 * k + 4 + v) * 16));
                        for m in 0..M {
                            products!(sums[m][v], x[m][k], w0, x[m][k + 1], w1);
                        }
                    }
                }
                weights = weights.add(256);
                at += 4 * DEPTH;
            }
            for _ in 0..layer.depth % 4 {
                for v in 0..4 {
                    let w = vld1q_s8(weights.add(v * 16));
                    for m in 0..M {
                        let x = vreinterpretq_s8_s32(vld1q_dup_s32(input[m].add(at).cast()));
                        products!(sums[m][v], x, w);
                    }
                }
                weights = weights.add(64);
                at += DEPTH;
            }
        }
        let sums = sums.map(|sums| sums.map(|[a, b]| vpaddq_s32(a, b)));
        store::<M>(layer, block, sums, output);
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
        let rows: [*const i8; R] = std::array::from_fn(|r| input.add(r * layer.row).cast());
        unroll!(P in [0 1 2 3 4 5 6 7 8 9 10 11 12] {
            let (a, b) = (2 * P, 2 * P + 1);
            if a < R * C {
                let wa = vld1q_s8(numbers.weights.add(a * numbers.tap));
                let wb = vld1q_s8(numbers.weights.add(b.min(R * C - 1) * numbers.tap));
                unroll!(I in [0 1 2 3] {
                    if I < T {
                        let xa = vld1q_s8(rows[a / C % R].add((a % C + I * S) * layer.column));
                        let mut low = vmull_s8(vget_low_s8(xa), vget_low_s8(wa));
                        let mut high = vmull_high_s8(xa, wa);
                        if b < R * C {
                            let xb = vld1q_s8(rows[b / C % R].add((b % C + I * S) * layer.column));
                            low = vmlal_s8(low, vget_low_s8(xb), vget_low_s8(wb));
                            high = vmlal_high_s8(high, xb, wb);
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
