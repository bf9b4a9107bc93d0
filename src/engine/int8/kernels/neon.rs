//! 64-bit ARM without dot products (Cortex-A72: Raspberry Pi 4), and what all ARM kernels share.
//!
//! Dense: two bytes of a pixel stand repeated in each of 4 registers (LD4R). SMULL and SMLAL make 16-bit sums of their
//! products with 4 steps of weights where the layer's weights let them fit (known at load, for each 8 bytes under the
//! window), else of 2, which always fit; a layer with a weight of -128 goes the portable way. SADALP adds neighbouring
//! pairs of sums to the channels' 32-bit accumulators. A tile is 3 pixels by 16 channels: 12 accumulators, 12 registers
//! of pixels, 4 of weights, 4 of sums.
//!
//! Depthwise: 16 channels of 4 neighbouring pixels, which share the columns they both see; the products of the whole
//! window, of a row or of two taps, whichever fit, meet in a 16-bit sum before they are widened.
//!
//! What would be loaded once and copied for each pixel (the start of accumulators, the rest) is loaded in pairs again
//! and again: one instruction in place of two, and on pipes that have nothing else to do then.

#![expect(clippy::indexing_slicing, reason = "arrays are sets of registers, indexed by constants once unrolled")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::{
    Block, Dense, Depthwise, Isa, Kernels, LANES, Narrow, OneChannel, Output, RowSpan, Together, float, lanes, portable,
};

pub const KERNELS: Kernels = Kernels {
    isa: Isa::Neon,
    flip: 0,
    widths: &[1],
    order: |_, accumulator| accumulator,
    depthwise_order: |_, accumulator| accumulator,
    depthwise_widths: &[4, 2, 1],
    column: 1,
    int16_sums: true,
    dense,
    depthwise,
    one_channel: Some(one_channel),
    lanes: lanes::NEON,
    float: float::PORTABLE,
    peak,
};

// --- shared
// -----------------------------------------------------------------------------------------------------------

/// A span's pixels in order, across row ends.
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
    /// The span is sound, see [`RowSpan`].
    #[inline]
    pub unsafe fn new(span: &RowSpan) -> Self {
        let RowSpan { in_row, in_pixel, out_row, out_pixel, width, ref rows, .. } = *span;
        let total = width * rows.len();
        let in_gap = in_row as isize - (width * in_pixel) as isize;
        let out_gap = out_row as isize - (width * out_pixel) as isize;
        // Rows without gaps are one row.
        let width = if in_gap == 0 && out_gap == 0 { total } else { width };
        // SAFETY: the caller's: the span's rows lie there.
        let (input, output) = unsafe { (span.input.add(rows.start * in_row), span.output.add(rows.start * out_row)) };
        Self { input, output, left: width, total, width, in_pixel, out_pixel, in_gap, out_gap }
    }

    /// How many pixels are left.
    #[expect(clippy::misnamed_getters, reason = "`left` counts those of a row")]
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

/// How a kernel stores: [`Narrow`] as a constant, and floats.
pub const ANY: u8 = 0;
/// [`Narrow::Short`].
pub const SHORT: u8 = 1;
/// [`Narrow::Relu`].
pub const RELU: u8 = 2;
/// Not as bytes at all.
pub const FLOAT: u8 = 3;

/// 16 rounded values, clamped: six instructions to narrow them and two to clamp, or four and none, or four and one; see
/// [`Narrow`].
#[inline(always)]
pub fn narrow<const K: u8>([a, b, c, d]: [int32x4_t; 4], low: int8x16_t, high: int8x16_t) -> int8x16_t {
    // SAFETY: every aarch64 CPU has NEON.
    unsafe {
        if K == ANY {
            let ab = vqmovn_high_s32(vqmovn_s32(a), b);
            let cd = vqmovn_high_s32(vqmovn_s32(c), d);
            return vmaxq_s8(vminq_s8(vqmovn_high_s16(vqmovn_s16(ab), cd), high), low);
        }
        let ab = vuzp1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
        let cd = vuzp1q_s16(vreinterpretq_s16_s32(c), vreinterpretq_s16_s32(d));
        if K == SHORT {
            return vqmovn_high_s16(vqmovn_s16(ab), cd);
        }
        let bytes = vqmovun_high_s16(vqmovun_s16(ab), cd);
        vreinterpretq_s8_u8(vminq_u8(bytes, vreinterpretq_u8_s8(high)))
    }
}

/// 16 accumulators of a pixel to what is stored.
///
/// # Safety
/// `rest` has 16 values.
#[inline(always)]
pub unsafe fn finish<const K: u8>(
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
        narrow::<K>([a, b, c, d], low, high)
    }
}

/// Stores the 16 accumulators of a dense block for each of M pixels.
///
/// # Safety
/// The span's soundness: the block's lanes of each output pixel are writable.
#[inline(always)]
pub unsafe fn store<const K: u8, const M: usize>(
    layer: &Dense,
    block: &Block,
    sums: [[int32x4_t; 4]; M],
    output: [*mut u8; M],
) {
    // SAFETY: the caller's; scale and rest have one value for each accumulator.
    unsafe {
        let scale = scales(layer.scale.as_ptr().add(block.lane));
        let rest = layer.rest.as_ptr().add(block.lane);
        match layer.output {
            Output::Int8 { low, high } if K != FLOAT => {
                let (low, high) = (vdupq_n_s8(low as i8), vdupq_n_s8(high as i8));
                unroll!(I in [0 1 2 3 4 5] {
                    if I < M {
                        let bytes = finish::<K>(sums[I % M], scale, rest, low, high);
                        vst1q_s8(output[I % M].add(block.lane).cast(), bytes);
                    }
                });
            }
            Output::Float { low, high, channels } if K == FLOAT => {
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
            _ => {}
        }
    }
}

// --- dense
// ------------------------------------------------------------------------------------------------------------

unsafe fn dense(layer: &Dense, span: &RowSpan) {
    // SAFETY: the caller's; of an extreme layer the weights lie as the portable kernel wants them.
    unsafe {
        match (layer.output, layer.narrow) {
            _ if layer.extreme => (portable::KERNELS.dense)(layer, span),
            (Output::Float { .. }, _) => tiles::<FLOAT>(layer, span),
            (_, Narrow::Any) => tiles::<ANY>(layer, span),
            (_, Narrow::Short) => tiles::<SHORT>(layer, span),
            (_, Narrow::Relu) => tiles::<RELU>(layer, span),
        }
    }
}

unsafe fn tiles<const K: u8>(layer: &Dense, span: &RowSpan) {
    for block in &layer.blocks {
        // SAFETY: the caller's; every tile's pixels are the span's.
        unsafe {
            let mut walk = Walk::new(span);
            while walk.left() >= 3 {
                let (input, output) = walk.take::<3>();
                tile_3::<K>(layer, block, input, output);
            }
            if walk.left() == 2 {
                let (input, output) = walk.take::<2>();
                tile_2::<K>(layer, block, input, output);
            }
            if walk.left() == 1 {
                let (input, output) = walk.take::<1>();
                tile_1::<K>(layer, block, input, output);
            }
        }
    }
}

/// Four steps of the weights of 8 channels, for all pixels: what joins 16-bit sums, the registers of a pixel's bytes,
/// its accumulators.
macro_rules! four_steps {
    ($products:ident, $($x0:literal $x1:literal $x2:literal $x3:literal $t0:ident $t1:ident $a:ident $b:ident),*) => {
        concat!(
            "ldp {w0:q}, {w1:q}, [{w}], #32\nldp {w2:q}, {w3:q}, [{w}], #32\n",
            $($products!($x0 $x1 $x2 $x3 $t0 $t1 $a $b),)*
        )
    };
}

/// One 16-bit sum of four products.
macro_rules! by_four {
    ($x0:literal $x1:literal $x2:literal $x3:literal $t0:ident $t1:ident $a:ident $b:ident) => {
        concat!(
            two_products!("smull", $x0, "w0", $t0 $t1), two_products!("smlal", $x1, "w1", $t0 $t1),
            two_products!("smlal", $x2, "w2", $t0 $t1), two_products!("smlal", $x3, "w3", $t0 $t1),
            sadalp!($a $b $t0 $t1)
        )
    };
}

/// Two 16-bit sums of two products.
macro_rules! by_two {
    ($x0:literal $x1:literal $x2:literal $x3:literal $t0:ident $t1:ident $a:ident $b:ident) => {
        concat!(
            two_products!("smull", $x0, "w0", $t0 $t1), two_products!("smlal", $x1, "w1", $t0 $t1), sadalp!($a $b $t0 $t1),
            two_products!("smull", $x2, "w2", $t0 $t1), two_products!("smlal", $x3, "w3", $t0 $t1), sadalp!($a $b $t0 $t1)
        )
    };
}

macro_rules! two_products {
    ($multiply:literal, $x:literal, $w:literal, $t0:ident $t1:ident) => {
        concat!(
            $multiply,
            " {",
            stringify!($t0),
            ":v}.8h, ",
            $x,
            ".8b, {",
            $w,
            ":v}.8b\n",
            $multiply,
            "2 {",
            stringify!($t1),
            ":v}.8h, ",
            $x,
            ".16b, {",
            $w,
            ":v}.16b\n",
        )
    };
}

macro_rules! sadalp {
    ($a:ident $b:ident $t0:ident $t1:ident) => {
        concat!(
            "sadalp {",
            stringify!($a),
            ":v}.4s, {",
            stringify!($t0),
            ":v}.8h\n",
            "sadalp {",
            stringify!($b),
            ":v}.4s, {",
            stringify!($t1),
            ":v}.8h\n",
        )
    };
}

/// 16 channels of M pixels. For each pixel: its index, its pointer, the registers of four steps, those of sums, its
/// accumulators.
macro_rules! tile {
    (
        $name:ident, $m:literal,
        $($i:literal $p:ident $x0:tt $x1:tt $x2:tt $x3:tt $t0:ident $t1:ident $a:ident $b:ident $c:ident $d:ident),*
    ) => {
        #[inline(always)]
        unsafe fn $name<const K: u8>(layer: &Dense, block: &Block, input: [*const u8; $m], output: [*mut u8; $m]) {
            /// All runs of 8 bytes whose products meet in the same way: those of the first 8 channels, those of the
            /// last 8.
            macro_rules! runs {
                ($n:literal $loop:literal $next:literal $first:ident $last:ident) => {
                    concat!(
                        "cbz {", $n, "}, ", $next, "f\n", $loop, ":\n",
                        "ldrsw {move_}, [{moves}], #4\n",
                        $("ld4r {{", $x0, ".8h, ", $x1, ".8h, ", $x2, ".8h, ", $x3, ".8h}}, [{", stringify!($p), "}], {move_}\n",)*
                        four_steps!($first, $($x0 $x1 $x2 $x3 $t0 $t1 $a $b),*),
                        four_steps!($last, $($x0 $x1 $x2 $x3 $t0 $t1 $c $d),*),
                        "subs {", $n, "}, {", $n, "}, #1\nb.ne ", $loop, "b\n", $next, ":\n",
                    )
                };
            }
            // SAFETY: the caller's: every tap of these pixels is readable for `depth` steps and one more; weights and
            // moves are there for as many runs of 8 bytes as the block has, bias has 16 values for each block (`widths`
            // is 1). The assembly reads just that, and writes registers alone.
            unsafe {
                let bias = layer.bias.as_ptr().add(block.lane);
                $(let [mut $a, mut $b, mut $c, mut $d] = load4(bias);)*
                let moves = layer.moves.as_ptr().add(block.moves);
                let [both, first, last, none] = block.by_four;
                asm!(
                    "/* one pixel has no use for {t2:v} and {t3:v} */",
                    runs!("both" "2" "3" by_four by_four), runs!("first" "4" "5" by_four by_two),
                    runs!("last" "6" "7" by_two by_four), runs!("none" "8" "9" by_two by_two),
                    $(
                        $p = inout(reg) input[$i].offset(*moves as isize) => _,
                        $a = inout(vreg) $a, $b = inout(vreg) $b, $c = inout(vreg) $c, $d = inout(vreg) $d,
                        out($x0) _, out($x1) _, out($x2) _, out($x3) _,
                    )*
                    w = inout(reg) layer.weights.as_ptr().add(block.weights) => _, moves = inout(reg) moves.add(1) => _,
                    move_ = out(reg) _, both = inout(reg) both => _, first = inout(reg) first => _, last = inout(reg) last => _,
                    none = inout(reg) none => _,
                    w0 = out(vreg) _, w1 = out(vreg) _, w2 = out(vreg) _, w3 = out(vreg) _,
                    t0 = out(vreg) _, t1 = out(vreg) _, t2 = out(vreg) _, t3 = out(vreg) _,
                    options(readonly, nostack)
                );
                store::<K, $m>(layer, block, [$([$a, $b, $c, $d]),*], output);
            }
        }
    };
}

tile!(tile_1, 1, 0 p0 "v0" "v1" "v2" "v3" t0 t1 a0 b0 c0 d0);
tile!(tile_2, 2, 0 p0 "v0" "v1" "v2" "v3" t0 t1 a0 b0 c0 d0, 1 p1 "v4" "v5" "v6" "v7" t2 t3 a1 b1 c1 d1);
tile!(
    tile_3, 3, 0 p0 "v0" "v1" "v2" "v3" t0 t1 a0 b0 c0 d0, 1 p1 "v4" "v5" "v6" "v7" t2 t3 a1 b1 c1 d1,
    2 p2 "v8" "v9" "v10" "v11" t0 t1 a2 b2 c2 d2
);

unsafe fn one_channel(layer: &OneChannel, span: &RowSpan) {
    // SAFETY: the caller's. Every aarch64 CPU has NEON.
    unsafe {
        for_each_sum(layer, span, |sum, x, w| {
            let sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(x), vget_low_s8(w)));
            vpadalq_s16(sum, vmull_high_s8(x, w))
        });
    }
}

/// A convolution of one output channel, given how to add the products of 16 bytes: four pixels at a time, whose sums
/// meet at the end.
///
/// # Safety
/// As for [`Kernels::one_channel`].
#[inline(always)]
pub unsafe fn for_each_sum(
    layer: &OneChannel,
    span: &RowSpan,
    add: impl Fn(int32x4_t, int8x16_t, int8x16_t) -> int32x4_t + Copy,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut walk = Walk::new(span);
        while walk.left() >= 4 {
            let (input, output) = walk.take::<4>();
            one_channel_pixels(layer, input, output, add);
        }
        while walk.left() > 0 {
            let (input, output) = walk.take::<1>();
            one_channel_pixels(layer, input, output, add);
        }
    }
}

/// M (1 or 4) of these pixels.
#[inline(always)]
unsafe fn one_channel_pixels<const M: usize>(
    layer: &OneChannel,
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

// --- depthwise
// --------------------------------------------------------------------------------------------------------

unsafe fn depthwise(layer: &Depthwise, span: &RowSpan) {
    if layer.extreme {
        // SAFETY: the caller's; the layouts are the same.
        return unsafe { (portable::KERNELS.depthwise)(layer, span) };
    }
    for block in &layer.blocks {
        for lane in (0..block.width * LANES).step_by(LANES) {
            // SAFETY: the lanes are the block's.
            let numbers = unsafe { Lanes::new(layer, block, lane) };
            for y in span.rows.clone() {
                // SAFETY: y is a row of the span; all that follows stays in its pixels.
                unsafe {
                    let input = span.input.add(y * span.in_row + block.lane + lane);
                    let output = span.output.add(y * span.out_row + block.lane + lane);
                    match (layer.rows, layer.columns, layer.stride) {
                        (3, 3, 1) if span.width >= 4 => row::<3, 3, 1>(layer, &numbers, span, input, output),
                        (3, 3, 2) if span.width >= 4 => row::<3, 3, 2>(layer, &numbers, span, input, output),
                        (5, 5, 1) if span.width >= 4 => row::<5, 5, 1>(layer, &numbers, span, input, output),
                        (5, 5, 2) if span.width >= 4 => row::<5, 5, 2>(layer, &numbers, span, input, output),
                        _ => any(layer, &numbers, span, input, output),
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
    narrow: Narrow,
    low: int8x16_t,
    high: int8x16_t,
    /// What meets in a 16-bit sum.
    together: Together,
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
                narrow: layer.narrow,
                low: vdupq_n_s8(layer.low as i8),
                high: vdupq_n_s8(layer.high as i8),
                together: layer.together.get(at / LANES).copied().unwrap_or(Together::Rows(0)),
            }
        }
    }

    /// Stores T neighbouring pixels.
    ///
    /// # Safety
    /// Their 16 lanes are writable.
    #[inline(always)]
    unsafe fn store<const T: usize>(&self, sums: [[int32x4_t; 4]; T], output: *mut u8, pixel: usize) {
        macro_rules! store {
            ($k:ident) => {{
                unroll!(I in [0 1 2 3] {
                    if I < T {
                        // SAFETY: the caller's; 16 scales and rests.
                        unsafe {
                            let bytes = finish::<$k>(sums[I % T], scales(self.scale), self.rest, self.low, self.high);
                            vst1q_s8(output.add(I * pixel).cast(), bytes);
                        }
                    }
                });
            }};
        }
        match self.narrow {
            Narrow::Any => store!(ANY),
            Narrow::Short => store!(SHORT),
            Narrow::Relu => store!(RELU),
        }
    }
}

/// One output row of at least four pixels, four at a time; the last four overlap those before them.
unsafe fn row<const R: usize, const C: usize, const S: usize>(
    layer: &Depthwise,
    numbers: &Lanes,
    span: &RowSpan,
    input: *const u8,
    output: *mut u8,
) {
    let mut x = 0;
    while x < span.width {
        x = x.min(span.width - 4);
        // SAFETY: pixels x..x + 4 are the span's.
        unsafe {
            let (from, to) = (input.add(x * span.in_pixel), output.add(x * span.out_pixel));
            match numbers.together {
                Together::All => all_together::<R, C, S>(layer, numbers, from, to, span.out_pixel),
                Together::Rows(rows) => by_row::<R, C, S>(layer, numbers, rows, from, to, span.out_pixel),
            }
        }
        x += 4;
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

/// The product of the column in x and tap k of pixel i's window, and what becomes of the sum that it joins: `keep` adds
/// to one that is there already; `row` widens after C taps, `two` after two.
macro_rules! tap {
    (keep $c:tt $i:tt $k:tt) => { multiplied!("smlal" $i $k) };
    (row $c:tt $i:tt 0) => { multiplied!("smull" $i 0) };
    (row 3 $i:tt 2) => { concat!(multiplied!("smlal" $i 2), widened!($i)) };
    (row 5 $i:tt 4) => { concat!(multiplied!("smlal" $i 4), widened!($i)) };
    (row $c:tt $i:tt $k:tt) => { multiplied!("smlal" $i $k) };
    (two 3 $i:tt 2) => { concat!(multiplied!("smull" $i 2), widened!($i)) };
    (two 5 $i:tt 4) => { concat!(multiplied!("smull" $i 4), widened!($i)) };
    (two $c:tt $i:tt 0) => { multiplied!("smull" $i 0) };
    (two $c:tt $i:tt 2) => { multiplied!("smull" $i 2) };
    (two $c:tt $i:tt $k:tt) => { concat!(multiplied!("smlal" $i $k), widened!($i)) };
}

macro_rules! multiplied {
    ($multiply:tt $i:tt $k:tt) => {
        concat!(
            $multiply,
            " {l",
            $i,
            ":v}.8h, {x:v}.8b, {w",
            $k,
            ":v}.8b\n",
            $multiply,
            "2 {h",
            $i,
            ":v}.8h, {x:v}.16b, {w",
            $k,
            ":v}.16b\n",
        )
    };
}

macro_rules! widened {
    ($i:tt) => {
        concat!(
            "saddw {a",
            $i,
            ":v}.4s, {a",
            $i,
            ":v}.4s, {l",
            $i,
            ":v}.4h\nsaddw2 {b",
            $i,
            ":v}.4s, {b",
            $i,
            ":v}.4s, {l",
            $i,
            ":v}.8h\n",
            "saddw {c",
            $i,
            ":v}.4s, {c",
            $i,
            ":v}.4s, {h",
            $i,
            ":v}.4h\nsaddw2 {d",
            $i,
            ":v}.4s, {d",
            $i,
            ":v}.4s, {h",
            $i,
            ":v}.8h\n",
        )
    };
}

/// A row of the windows of four pixels: the weights of its taps, then each column, with the pixels and taps (`i k`)
/// that see it.
macro_rules! window_row {
    (3 1 $mode:ident) => {
        window_row!($mode 3 [0 1 2]; 0 0; 0 1, 1 0; 0 2, 1 1, 2 0; 1 2, 2 1, 3 0; 2 2, 3 1; 3 2)
    };
    (3 2 $mode:ident) => {
        window_row!($mode 3 [0 1 2]; 0 0; 0 1; 0 2, 1 0; 1 1; 1 2, 2 0; 2 1; 2 2, 3 0; 3 1; 3 2)
    };
    (5 1 $mode:ident) => {
        window_row!($mode 5 [0 1 2 3 4]; 0 0; 0 1, 1 0; 0 2, 1 1, 2 0; 0 3, 1 2, 2 1, 3 0; 0 4, 1 3, 2 2, 3 1; 1 4, 2 3, 3 2; 2 4, 3 3; 3 4)
    };
    (5 2 $mode:ident) => {
        window_row!($mode 5 [0 1 2 3 4];
            0 0; 0 1; 0 2, 1 0; 0 3, 1 1; 0 4, 1 2, 2 0; 1 3, 2 1; 1 4, 2 2, 3 0; 2 3, 3 1; 2 4, 3 2; 3 3; 3 4)
    };
    ($mode:ident $c:tt [$($w:tt)*]; $($($i:tt $k:tt),*);*) => {
        concat!(
            $("ld1 {{{w", $w, ":v}.16b}}, [{w}], {tap}\n",)*
            $("ld1 {{{x:v}.16b}}, [{p}], {column}\n", $(tap!($mode $c $i $k),)*)*
        )
    };
}

/// One row of windows in assembly: the compiler would load all taps first and run out of registers. `$sums` are the
/// 16-bit sums, which `keep` needs.
macro_rules! asm_row {
    ($shape:tt $stride:tt $mode:ident, $weights:ident, $numbers:ident, $layer:ident, $from:expr, $($operands:tt)*) => {
        asm!(
            window_row!($shape $stride $mode),
            w = inout(reg) $weights, tap = in(reg) $numbers.tap, p = inout(reg) $from => _, column = in(reg) $layer.column,
            x = out(vreg) _, w0 = out(vreg) _, w1 = out(vreg) _, w2 = out(vreg) _,
            $($operands)*
            options(readonly, nostack, preserves_flags)
        )
    };
}

/// Four neighbouring pixels whose products all meet in one 16-bit sum.
#[inline(always)]
unsafe fn all_together<const R: usize, const C: usize, const S: usize>(
    layer: &Depthwise,
    numbers: &Lanes,
    input: *const u8,
    output: *mut u8,
    out_pixel: usize,
) {
    // SAFETY: the caller's pixels; weights and bias hold what the layer's shape says, and the assembly reads just that.
    unsafe {
        let mut products = [[vdupq_n_s16(0); 2]; 4];
        let mut weights = numbers.weights;
        for row in 0..R {
            let [[l0, h0], [l1, h1], [l2, h2], [l3, h3]] = &mut products;
            let from = input.add(row * layer.row);
            macro_rules! keep {
                ($shape:tt $stride:tt, $($more:tt)*) => {
                    asm_row!($shape $stride keep, weights, numbers, layer, from,
                        l0 = inout(vreg) *l0, h0 = inout(vreg) *h0, l1 = inout(vreg) *l1, h1 = inout(vreg) *h1,
                        l2 = inout(vreg) *l2, h2 = inout(vreg) *h2, l3 = inout(vreg) *l3, h3 = inout(vreg) *h3, $($more)*)
                };
            }
            match (C, S) {
                (3, 1) => keep!(3 1,),
                (3, _) => keep!(3 2,),
                (_, 1) => keep!(5 1, w3 = out(vreg) _, w4 = out(vreg) _,),
                _ => keep!(5 2, w3 = out(vreg) _, w4 = out(vreg) _,),
            }
        }
        let sums = products.map(|[low, high]| {
            let mut sums = load4(numbers.bias);
            widen(&mut sums, low, high);
            sums
        });
        numbers.store(sums, output, out_pixel);
    }
}

/// Four neighbouring pixels: the products of each of these rows of the window (bit by bit) meet in a 16-bit sum, in
/// others those of two taps.
#[inline(always)]
unsafe fn by_row<const R: usize, const C: usize, const S: usize>(
    layer: &Depthwise,
    numbers: &Lanes,
    rows: u32,
    input: *const u8,
    output: *mut u8,
    out_pixel: usize,
) {
    // SAFETY: as in `all_together`.
    unsafe {
        let bias = numbers.bias;
        let mut sums = [load4(bias), load4(bias), load4(bias), load4(bias)];
        let mut weights = numbers.weights;
        for row in 0..R {
            let [[a0, b0, c0, d0], [a1, b1, c1, d1], [a2, b2, c2, d2], [a3, b3, c3, d3]] = &mut sums;
            let from = input.add(row * layer.row);
            macro_rules! widen {
                ($shape:tt $stride:tt $mode:ident, $($more:tt)*) => {
                    asm_row!($shape $stride $mode, weights, numbers, layer, from,
                        l0 = out(vreg) _, h0 = out(vreg) _, l1 = out(vreg) _, h1 = out(vreg) _,
                        l2 = out(vreg) _, h2 = out(vreg) _, l3 = out(vreg) _, h3 = out(vreg) _,
                        a0 = inout(vreg) *a0, b0 = inout(vreg) *b0, c0 = inout(vreg) *c0, d0 = inout(vreg) *d0,
                        a1 = inout(vreg) *a1, b1 = inout(vreg) *b1, c1 = inout(vreg) *c1, d1 = inout(vreg) *d1,
                        a2 = inout(vreg) *a2, b2 = inout(vreg) *b2, c2 = inout(vreg) *c2, d2 = inout(vreg) *d2,
                        a3 = inout(vreg) *a3, b3 = inout(vreg) *b3, c3 = inout(vreg) *c3, d3 = inout(vreg) *d3, $($more)*)
                };
            }
            match (C, S, rows >> row & 1 == 1) {
                (3, 1, true) => widen!(3 1 row,),
                (3, _, true) => widen!(3 2 row,),
                (_, 1, true) => widen!(5 1 row, w3 = out(vreg) _, w4 = out(vreg) _,),
                (_, _, true) => widen!(5 2 row, w3 = out(vreg) _, w4 = out(vreg) _,),
                (3, 1, false) => widen!(3 1 two,),
                (3, _, false) => widen!(3 2 two,),
                (_, 1, false) => widen!(5 1 two, w3 = out(vreg) _, w4 = out(vreg) _,),
                (_, _, false) => widen!(5 2 two, w3 = out(vreg) _, w4 = out(vreg) _,),
            }
        }
        numbers.store(sums, output, out_pixel);
    }
}

/// Any window, one pixel and one tap at a time.
unsafe fn any(layer: &Depthwise, numbers: &Lanes, span: &RowSpan, input: *const u8, output: *mut u8) {
    // SAFETY: as in `pixels`.
    unsafe {
        for x in 0..span.width {
            let mut sums = load4(numbers.bias);
            let mut weights = numbers.weights;
            for row in 0..layer.rows {
                for column in 0..layer.columns {
                    let at = input.add(x * span.in_pixel + row * layer.row + column * layer.column);
                    let (value, weight) = (vld1q_s8(at.cast()), vld1q_s8(weights));
                    let low = vmull_s8(vget_low_s8(value), vget_low_s8(weight));
                    widen(&mut sums, low, vmull_high_s8(value, weight));
                    weights = weights.add(numbers.tap);
                }
            }
            numbers.store::<1>([sums], output.add(x * span.out_pixel), 0);
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
