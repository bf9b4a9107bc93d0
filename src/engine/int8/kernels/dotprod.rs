//! 64-bit ARM with dot products (Cortex-A76: Raspberry Pi 5; Cortex-A78AE: Jetson Orin): SDOT multiplies four by four
//! signed bytes into each 32-bit lane. The compiler does not offer it yet, so it is written in assembly.
//!
//! Dense: a tile is 6 pixels by 16 channels, 24 accumulators; 16 bytes of each pixel stay in a register for four steps,
//! two vectors of weights pass through: that is all 32 registers, and 14 loads for 96 dot products.
//!
//! Depthwise: four bytes of a 32-bit lane are four rows of one column of one channel. A column of 8 channels is
//! interleaved once (4 ZIPs) and used by every output pixel whose window has it; the weights stay in registers along a
//! row. The fifth row of a 5 x 5 window is multiplied and widened.

#![expect(
    clippy::indexing_slicing,
    clippy::absurd_extreme_comparisons,
    reason = "arrays are sets of registers, indexed by constants once unrolled"
)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::neon::{ANY, FLOAT, RELU, SHORT, Walk, for_each_sum, load2, narrow, round, store};
use super::{Block, DEPTH, Dense, Depthwise, Isa, Kernels, LANES, Narrow, OneChannel, Output, RowSpan, float, lanes};

pub const KERNELS: Kernels = Kernels {
    isa: Isa::Dotprod,
    flip: 0,
    widths: &[1],
    order: |_, accumulator| accumulator,
    depthwise_order: |_, accumulator| accumulator,
    depthwise_widths: &[4, 2, 1],
    column: 4,
    int16_sums: false,
    dense,
    depthwise,
    one_channel: Some(one_channel),
    lanes: lanes::NEON,
    float: float::PORTABLE,
    peak,
};

/// True if this CPU has SDOT.
pub fn is_available() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

/// `sum` plus the products of four bytes in each lane.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(sum: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: the instruction touches its operands alone, and the function's features have it.
    unsafe {
        asm!("sdot {s:v}.4s, {x:v}.16b, {w:v}.16b", s = inout(vreg) sum, x = in(vreg) x, w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

// --- dense
// ------------------------------------------------------------------------------------------------------------

#[target_feature(enable = "neon,dotprod")]
unsafe fn dense(layer: &Dense, span: &RowSpan) {
    // SAFETY: the caller's.
    unsafe {
        match (layer.output, layer.narrow) {
            (Output::Float { .. }, _) => tiles::<FLOAT>(layer, span),
            (_, Narrow::Any) => tiles::<ANY>(layer, span),
            (_, Narrow::Short) => tiles::<SHORT>(layer, span),
            (_, Narrow::Relu) => tiles::<RELU>(layer, span),
        }
    }
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn tiles<const K: u8>(layer: &Dense, span: &RowSpan) {
    for block in &layer.blocks {
        // SAFETY: the caller's; every tile's pixels are the span's.
        unsafe {
            let mut walk = Walk::new(span);
            while walk.left() >= 6 {
                let (input, output) = walk.take::<6>();
                store::<K, 6>(layer, block, sums_6(layer, block, input), output);
            }
            macro_rules! rest {
                ($m:literal, $sums:ident) => {{
                    let (input, output) = walk.take::<$m>();
                    store::<K, $m>(layer, block, $sums(layer, block, input), output);
                }};
            }
            match walk.left() {
                1 => rest!(1, sums_1),
                2 => rest!(2, sums_2),
                3 => rest!(3, sums_3),
                4 => rest!(4, sums_4),
                5 => rest!(5, sums_5),
                _ => {}
            }
        }
    }
}

/// The steps of which a pixel's register holds the bytes, by index there: 16 channels of all pixels.
macro_rules! steps {
    ($k:literal, $($x:ident $a:ident $b:ident $c:ident $d:ident),*) => {
        concat!(
            ".irp k, ", $k, "\n",
            "ldp {w0:q}, {w1:q}, [{w}], #32\n",
            $("sdot {", stringify!($a), ":v}.4s, {w0:v}.16b, {", stringify!($x), ":v}.4b[\\k]\n",)*
            $("sdot {", stringify!($b), ":v}.4s, {w1:v}.16b, {", stringify!($x), ":v}.4b[\\k]\n",)*
            "ldp {w0:q}, {w1:q}, [{w}], #32\n",
            $("sdot {", stringify!($c), ":v}.4s, {w0:v}.16b, {", stringify!($x), ":v}.4b[\\k]\n",)*
            $("sdot {", stringify!($d), ":v}.4s, {w1:v}.16b, {", stringify!($x), ":v}.4b[\\k]\n",)*
            ".endr"
        )
    };
}

/// The sums of 16 channels of M pixels. For each pixel: its index, its pointer, what holds its bytes, its four
/// accumulators.
macro_rules! sums {
    ($name:ident, $m:literal, $($i:literal $p:ident $x:ident $a:ident $b:ident $c:ident $d:ident),*) => {
        #[inline]
        #[target_feature(enable = "neon,dotprod")]
        unsafe fn $name(layer: &Dense, block: &Block, input: [*const u8; $m]) -> [[int32x4_t; 4]; $m] {
            // SAFETY: the caller's: every tap of these pixels is readable for `depth` steps; weights follow each other
            // by tap, step and channel; bias has 16 values for each block (`widths` is 1). The assembly reads just that
            // and writes its operands.
            unsafe {
                $(let ($a, $b, $c, $d): (int32x4_t, int32x4_t, int32x4_t, int32x4_t);)*
                asm!(
                    $(
                        concat!("ldp {", stringify!($a), ":q}, {", stringify!($b), ":q}, [{bias}]"),
                        concat!("ldp {", stringify!($c), ":q}, {", stringify!($d), ":q}, [{bias}, #32]"),
                    )*
                    $($a = out(vreg) $a, $b = out(vreg) $b, $c = out(vreg) $c, $d = out(vreg) $d,)*
                    bias = in(reg) layer.bias.as_ptr().add(block.lane),
                    options(readonly, nostack, preserves_flags)
                );
                $(let (mut $a, mut $b, mut $c, mut $d) = ($a, $b, $c, $d);)*
                let mut weights = layer.weights.as_ptr().add(block.weights);
                let whole = layer.depth / 4 * 4 * DEPTH;
                for tap in &layer.taps {
                    let mut at = *tap + block.input;
                    /// Loads a pixel's bytes for some steps, and takes them.
                    macro_rules! run {
                        ($before:literal, $load:literal, $bytes:literal, $k:literal, $after:literal) => {
                            asm!(
                                $before,
                                $(concat!("ldr {", stringify!($x), ":", $load, "}, [{", stringify!($p), "}, {at}]"),)*
                                concat!("add {at}, {at}, #", $bytes),
                                steps!($k, $($x $a $b $c $d),*),
                                $after,
                                $($p = in(reg) input[$i], $x = out(vreg) _,)*
                                $($a = inout(vreg) $a, $b = inout(vreg) $b, $c = inout(vreg) $c, $d = inout(vreg) $d,)*
                                w = inout(reg) weights, w0 = out(vreg) _, w1 = out(vreg) _,
                                at = inout(reg) at, end = in(reg) tap + whole,
                                options(readonly, nostack)
                            )
                        };
                    }
                    if whole > 0 {
                        run!("2:", "q", "16", "0, 1, 2, 3", "cmp {at}, {end}\nb.lo 2b");
                    }
                    if layer.depth & 2 != 0 {
                        run!("", "d", "8", "0, 1", "/* {end} */");
                    }
                    if layer.depth & 1 != 0 {
                        run!("", "s", "4", "0", "/* {end} */");
                    }
                    let _ = at;
                }
                [$([$a, $b, $c, $d]),*]
            }
        }
    };
}

sums!(sums_1, 1, 0 p0 x0 a0 b0 c0 d0);
sums!(sums_2, 2, 0 p0 x0 a0 b0 c0 d0, 1 p1 x1 a1 b1 c1 d1);
sums!(sums_3, 3, 0 p0 x0 a0 b0 c0 d0, 1 p1 x1 a1 b1 c1 d1, 2 p2 x2 a2 b2 c2 d2);
sums!(sums_4, 4, 0 p0 x0 a0 b0 c0 d0, 1 p1 x1 a1 b1 c1 d1, 2 p2 x2 a2 b2 c2 d2, 3 p3 x3 a3 b3 c3 d3);
sums!(
    sums_5, 5, 0 p0 x0 a0 b0 c0 d0, 1 p1 x1 a1 b1 c1 d1, 2 p2 x2 a2 b2 c2 d2, 3 p3 x3 a3 b3 c3 d3, 4 p4 x4 a4 b4 c4 d4
);
sums!(
    sums_6, 6, 0 p0 x0 a0 b0 c0 d0, 1 p1 x1 a1 b1 c1 d1, 2 p2 x2 a2 b2 c2 d2, 3 p3 x3 a3 b3 c3 d3, 4 p4 x4 a4 b4 c4 d4,
    5 p5 x5 a5 b5 c5 d5
);

#[target_feature(enable = "neon,dotprod")]
unsafe fn one_channel(layer: &OneChannel, span: &RowSpan) {
    // SAFETY: the caller's; `sdot` is called on a CPU that has it.
    unsafe { for_each_sum(layer, span, |sum, x, w| sdot(sum, x, w)) }
}

// --- depthwise
// --------------------------------------------------------------------------------------------------------

#[target_feature(enable = "neon,dotprod")]
unsafe fn depthwise(layer: &Depthwise, span: &RowSpan) {
    match layer.narrow {
        // SAFETY: the caller's.
        Narrow::Any => unsafe { blocks::<ANY>(layer, span) },
        Narrow::Short => unsafe { blocks::<SHORT>(layer, span) },
        Narrow::Relu => unsafe { blocks::<RELU>(layer, span) },
    }
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn blocks<const K: u8>(layer: &Depthwise, span: &RowSpan) {
    for block in &layer.blocks {
        for lane in (0..block.width * LANES).step_by(HALF) {
            // SAFETY: the lanes are the block's.
            let numbers = unsafe { Lanes::new(layer, block, lane) };
            let shape = (layer.rows, layer.columns, layer.stride, layer.extreme);
            let mut y = span.rows.start;
            while y < span.rows.end {
                // SAFETY: y is a row of the span; all that follows stays in its pixels.
                unsafe {
                    let input = span.input.add(y * span.in_row + block.lane + lane);
                    let output = span.output.add(y * span.out_row + block.lane + lane);
                    match shape {
                        (3, 3, 1, _) => {
                            // The last of an odd number of rows is its own partner, as is one that shares no rows with
                            // the next.
                            let pair = y + 1 < span.rows.end && span.in_row == layer.row;
                            let second = if pair { output.add(span.out_row) } else { output };
                            let fourth = if pair { 3 * layer.row } else { 2 * layer.row };
                            two_rows::<K>(layer, &numbers, span, input, fourth, [output, second]);
                            y += usize::from(pair);
                        }
                        (3, 3, 2, _) if span.width > 1 => halved::<K>(layer, &numbers, span, input, output),
                        (5, 5, 1, false) => row::<K, 5, 5, 1, 4>(layer, &numbers, span, input, output),
                        (5, 5, 2, false) => row::<K, 5, 5, 2, 4>(layer, &numbers, span, input, output),
                        _ => any::<K>(layer, &numbers, span, input, output),
                    }
                }
                y += 1;
            }
        }
    }
}

/// Lanes that are computed together: two vectors of accumulators.
const HALF: usize = 8;

/// The numbers of 8 lanes of a block.
struct Lanes {
    weights: *const i8,
    /// Bytes from column to column.
    column: usize,
    bias: *const i32,
    scale: [float32x4_t; 2],
    rest: *const f32,
    low: int8x16_t,
    high: int8x16_t,
    /// The fifth row of a 5 x 5 window, and zeros.
    fifth: [int8x8_t; 6],
}

impl Lanes {
    /// # Safety
    /// The block is the layer's, and `lane` is one of its lanes.
    unsafe fn new(layer: &Depthwise, block: &Block, lane: usize) -> Self {
        let at = block.lane + lane;
        // SAFETY: one number for each accumulator, which are in the order of the lanes.
        unsafe {
            let scale = layer.scale.as_ptr().add(at);
            let mut new = Self {
                weights: layer.weights.as_ptr().add(block.weights + lane * DEPTH).cast(),
                column: block.width * LANES * DEPTH,
                bias: layer.bias.as_ptr().add(at),
                scale: [vld1q_f32(scale), vld1q_f32(scale.add(4))],
                rest: layer.rest.as_ptr().add(at),
                low: vdupq_n_s8(layer.low as i8),
                high: vdupq_n_s8(layer.high as i8),
                fifth: [vdup_n_s8(0); 6],
            };
            if (layer.rows, layer.columns) == (5, 5) {
                for column in 0..5 {
                    new.fifth[column] = new.first(5 + column);
                }
            }
            new
        }
    }

    /// The weights of one column of one group of four rows.
    ///
    /// # Safety
    /// The layer has it; it is the `index`th.
    #[inline(always)]
    unsafe fn column(&self, index: usize) -> [int8x16_t; 2] {
        // SAFETY: the caller's.
        unsafe {
            let at = self.weights.add(index * self.column);
            [vld1q_s8(at), vld1q_s8(at.add(16))]
        }
    }

    /// The weights of the first row of one column of a group, one a lane.
    ///
    /// # Safety
    /// As `column`.
    #[inline(always)]
    unsafe fn first(&self, index: usize) -> int8x8_t {
        // SAFETY: the caller's; every aarch64 CPU has NEON.
        unsafe {
            let [a, b] = self.column(index);
            let pairs = vuzp1q_s8(a, b); // bytes 0 and 2 of each lane
            vget_low_s8(vuzp1q_s8(pairs, pairs))
        }
    }

    /// Two pixels' accumulators to what is stored.
    ///
    /// # Safety
    /// There are 8 rests, and room for 8 lanes at both places.
    #[inline(always)]
    unsafe fn finish<const K: u8>(&self, sums: [[int32x4_t; 2]; 2], to: [*mut u8; 2]) {
        // SAFETY: the caller's; every aarch64 CPU has NEON.
        unsafe {
            let [[a, b], [c, d]] = sums;
            let [first, second] = load2(self.rest);
            let (a, b) = (round(a, self.scale[0], first), round(b, self.scale[1], second));
            let [first, second] = load2(self.rest);
            let (c, d) = (round(c, self.scale[0], first), round(d, self.scale[1], second));
            let bytes = vreinterpretq_s64_s8(narrow::<K>([a, b, c, d], self.low, self.high));
            vst1q_lane_s64::<1>(to[1].cast(), bytes);
            vst1q_lane_s64::<0>(to[0].cast(), bytes);
        }
    }
}

/// The rows of a column of 8 lanes, interleaved into x0 and x1; where there are three, the third is the fourth as well.
macro_rules! load_column {
    (three) => {
        load_column!("", "{x2:v}")
    };
    (four) => {
        load_column!("ldr {x3:d}, [{p}, {row3}]\n", "{x3:v}")
    };
    ($fourth:literal, $x3:literal) => {
        concat!(
            "ldr {x1:d}, [{p}, {row1}]\nldr {x2:d}, [{p}, {row2}]\n",
            $fourth,
            "ld1 {{{x0:v}.8b}}, [{p}], {column}\n",
            "zip1 {x0:v}.16b, {x0:v}.16b, {x1:v}.16b\nzip1 {x2:v}.16b, {x2:v}.16b, ",
            $x3,
            ".16b\n",
            "zip2 {x1:v}.8h, {x0:v}.8h, {x2:v}.8h\nzip1 {x0:v}.8h, {x0:v}.8h, {x2:v}.8h\n",
        )
    };
}

/// A pixel's sums, plus a column's products with the weights of one tap.
macro_rules! sdots {
    ($a0:ident $a1:ident $k0:ident $k1:ident) => {
        concat!(
            "sdot {",
            stringify!($a0),
            ":v}.4s, {x0:v}.16b, {",
            stringify!($k0),
            ":v}.16b\n",
            "sdot {",
            stringify!($a1),
            ":v}.4s, {x1:v}.16b, {",
            stringify!($k1),
            ":v}.16b\n",
        )
    };
}

/// x = round(sum * scale + x), half to even.
macro_rules! scaled {
    ($sum:ident $x:ident $scale:ident) => {
        concat!(
            "scvtf {",
            stringify!($sum),
            ":v}.4s, {",
            stringify!($sum),
            ":v}.4s\n",
            "fmla {",
            stringify!($x),
            ":v}.4s, {",
            stringify!($sum),
            ":v}.4s, {",
            stringify!($scale),
            ":v}.4s\n",
            "fcvtns {",
            stringify!($x),
            ":v}.4s, {",
            stringify!($x),
            ":v}.4s\n",
        )
    };
}

/// x0..x3 to the bytes of x0, as [`super::neon::narrow`].
macro_rules! narrowed {
    (short) => {
        concat!(
            "uzp1 {x0:v}.8h, {x0:v}.8h, {x1:v}.8h\nuzp1 {x2:v}.8h, {x2:v}.8h, {x3:v}.8h\n",
            "sqxtn {x0:v}.8b, {x0:v}.8h\nsqxtn2 {x0:v}.16b, {x2:v}.8h\n",
        )
    };
    (relu) => {
        concat!(
            "uzp1 {x0:v}.8h, {x0:v}.8h, {x1:v}.8h\nuzp1 {x2:v}.8h, {x2:v}.8h, {x3:v}.8h\n",
            "sqxtun {x0:v}.8b, {x0:v}.8h\nsqxtun2 {x0:v}.16b, {x2:v}.8h\n",
            "umin {x0:v}.16b, {x0:v}.16b, {high:v}.16b\n",
        )
    };
    (any) => {
        concat!(
            "sqxtn {x0:v}.4h, {x0:v}.4s\nsqxtn2 {x0:v}.8h, {x1:v}.4s\n",
            "sqxtn {x2:v}.4h, {x2:v}.4s\nsqxtn2 {x2:v}.8h, {x3:v}.4s\n",
            "sqxtn {x0:v}.8b, {x0:v}.8h\nsqxtn2 {x0:v}.16b, {x2:v}.8h\n",
            "smin {x0:v}.16b, {x0:v}.16b, {high:v}.16b\nsmax {x0:v}.16b, {x0:v}.16b, {low:v}.16b\n",
        )
    };
}

/// One column of [`two_rows`]: the accumulators of the pixel that ends, of the one in the middle and of the one that
/// begins.
macro_rules! rolled_step {
    (
        $narrow:tt,
        $a0:ident $a1:ident $a2:ident $a3:ident $b0:ident $b1:ident $b2:ident $b3:ident $c0:ident $c1:ident $c2:ident $c3:ident
    ) => {
        concat!(
            load_column!(four),
            sdots!($a0 $a1 k20 k21), sdots!($a2 $a3 l20 l21),
            sdots!($b0 $b1 k10 k11), sdots!($b2 $b3 l10 l11),
            sdots!($c0 $c1 k00 k01), sdots!($c2 $c3 l00 l01),
            "ldp {x0:q}, {x1:q}, [{rest}]\nldp {x2:q}, {x3:q}, [{rest}]\n",
            scaled!($a0 x0 s0), scaled!($a1 x1 s1), scaled!($a2 x2 s0), scaled!($a3 x3 s1),
            narrowed!($narrow),
            "ldp {", stringify!($a0), ":q}, {", stringify!($a1), ":q}, [{bias}]\n",
            "ldp {", stringify!($a2), ":q}, {", stringify!($a3), ":q}, [{bias}]\n",
            "st1 {{{x0:v}.d}}[1], [{o1}], {pixel}\nst1 {{{x0:v}.d}}[0], [{o0}], {pixel}\n",
        )
    };
}

/// One output row of a 3 x 3 window at stride 2, 8 lanes, two pixels at a time: the column between two pixels is loaded
/// and interleaved once. The last pixel of an odd row is computed with its neighbour again.
#[target_feature(enable = "neon,dotprod")]
unsafe fn halved<const K: u8>(layer: &Depthwise, numbers: &Lanes, span: &RowSpan, input: *const u8, output: *mut u8) {
    // SAFETY: the caller's: columns 0..2 * width + 1 of three rows are readable, 8 lanes of width pixels are writable;
    // bias and rest have 8 values. The assembly reads and writes just that.
    unsafe {
        let w = [numbers.column(0), numbers.column(1), numbers.column(2)];
        let pairs = |input: *const u8, output: *mut u8, n: usize| {
            macro_rules! halved {
                ($narrow:tt, $($bound:ident = $value:expr),*) => {
                    asm!(
                        "ldp {a0:q}, {a1:q}, [{bias}]",
                        load_column!(three),
                        sdots!(a0 a1 k00 k01),
                        "2:",
                        "ldp {b0:q}, {b1:q}, [{bias}]",
                        load_column!(three), sdots!(a0 a1 k10 k11),
                        load_column!(three), sdots!(a0 a1 k20 k21), sdots!(b0 b1 k00 k01),
                        load_column!(three), sdots!(b0 b1 k10 k11),
                        load_column!(three), sdots!(b0 b1 k20 k21),
                        "mov {y0:v}.16b, {x0:v}.16b", "mov {y1:v}.16b, {x1:v}.16b",
                        "ldp {x0:q}, {x1:q}, [{rest}]", "ldp {x2:q}, {x3:q}, [{rest}]",
                        scaled!(a0 x0 s0), scaled!(a1 x1 s1), scaled!(b0 x2 s0), scaled!(b1 x3 s1),
                        narrowed!($narrow),
                        "st1 {{{x0:v}.d}}[0], [{o}], {pixel}", "st1 {{{x0:v}.d}}[1], [{o}], {pixel}",
                        "ldp {a0:q}, {a1:q}, [{bias}]",
                        "sdot {a0:v}.4s, {y0:v}.16b, {k00:v}.16b", "sdot {a1:v}.4s, {y1:v}.16b, {k01:v}.16b",
                        "subs {n}, {n}, #1", "b.ne 2b",
                        a0 = out(vreg) _, a1 = out(vreg) _, b0 = out(vreg) _, b1 = out(vreg) _,
                        k00 = in(vreg) w[0][0], k01 = in(vreg) w[0][1], k10 = in(vreg) w[1][0], k11 = in(vreg) w[1][1],
                        k20 = in(vreg) w[2][0], k21 = in(vreg) w[2][1],
                        s0 = in(vreg) numbers.scale[0], s1 = in(vreg) numbers.scale[1],
                        x0 = out(vreg) _, x1 = out(vreg) _, x2 = out(vreg) _, x3 = out(vreg) _,
                        y0 = out(vreg) _, y1 = out(vreg) _,
                        $($bound = in(vreg) $value,)*
                        n = inout(reg) n => _, p = inout(reg) input => _, column = in(reg) layer.column,
                        row1 = in(reg) layer.row, row2 = in(reg) 2 * layer.row,
                        o = inout(reg) output => _, pixel = in(reg) span.out_pixel,
                        bias = in(reg) numbers.bias, rest = in(reg) numbers.rest,
                        options(nostack)
                    )
                };
            }
            match K {
                SHORT => halved!(short,),
                RELU => halved!(relu, high = numbers.high),
                _ => halved!(any, low = numbers.low, high = numbers.high),
            }
        };
        pairs(input, output, span.width / 2);
        if span.width % 2 == 1 {
            let x = span.width - 2;
            pairs(input.add(x * span.in_pixel), output.add(x * span.out_pixel), 1);
        }
    }
}

/// Two output rows of a 3 x 3 window of 8 lanes: four bytes of a 32-bit lane are the four rows that both windows cover
/// together, and the second row's weights are the first's moved by a byte. Three pixels of each row are under way, so
/// that a column is loaded and interleaved once: it ends the first pixel, is the middle of the second and begins the
/// third, and then the roles turn.
///
/// `fourth` is the offset of the last input row. The first output row is stored after the second, and may lie in the
/// same place.
#[target_feature(enable = "neon,dotprod")]
unsafe fn two_rows<const K: u8>(
    layer: &Depthwise,
    numbers: &Lanes,
    span: &RowSpan,
    input: *const u8,
    fourth: usize,
    output: [*mut u8; 2],
) {
    // SAFETY: the caller's: columns 0..width + 2 of the four rows are readable, 8 lanes of width pixels of both outputs
    // are writable; bias and rest have 8 values. The assembly reads and writes just that.
    unsafe {
        let w = [numbers.column(0), numbers.column(1), numbers.column(2)];
        let next =
            w.map(|column| column.map(|half| vreinterpretq_s8_s32(vshlq_n_s32::<8>(vreinterpretq_s32_s8(half)))));
        let start = load2(numbers.bias);
        let begin = |[x0, x1]: [int8x16_t; 2], sums: [int32x4_t; 4], tap: usize| {
            let (a, b) = (w[tap], next[tap]);
            [sdot(sums[0], x0, a[0]), sdot(sums[1], x1, a[1]), sdot(sums[2], x0, b[0]), sdot(sums[3], x1, b[1])]
        };
        let start = [start[0], start[1], start[0], start[1]];
        let rows = [layer.row, 2 * layer.row, fourth];
        let second = four_rows(input.add(layer.column), rows);
        let first = begin(second, begin(four_rows(input, rows), start, 0), 1);
        let second = begin(second, start, 0);
        // The loop is entered where its last pixel ends it.
        let entry = (3 - span.width % 3) % 3;
        let [a, b, c] = match entry {
            0 => [first, second, start],
            1 => [start, first, second],
            _ => [second, start, first],
        };
        /// The pixel that ends, the one in the middle, the one that begins; how sums become bytes; what that needs.
        macro_rules! rolled {
            ($narrow:tt, $($bound:ident = $value:expr),*) => {
                asm!(
                    "cmp {entry}, #1", "b.eq 3f", "b.hi 4f",
                    "2:", rolled_step!($narrow, a0 a1 a2 a3 b0 b1 b2 b3 c0 c1 c2 c3),
                    "3:", rolled_step!($narrow, b0 b1 b2 b3 c0 c1 c2 c3 a0 a1 a2 a3),
                    "4:", rolled_step!($narrow, c0 c1 c2 c3 a0 a1 a2 a3 b0 b1 b2 b3),
                    "subs {n}, {n}, #1", "b.ne 2b",
                    a0 = inout(vreg) a[0] => _, a1 = inout(vreg) a[1] => _, a2 = inout(vreg) a[2] => _, a3 = inout(vreg) a[3] => _,
                    b0 = inout(vreg) b[0] => _, b1 = inout(vreg) b[1] => _, b2 = inout(vreg) b[2] => _, b3 = inout(vreg) b[3] => _,
                    c0 = inout(vreg) c[0] => _, c1 = inout(vreg) c[1] => _, c2 = inout(vreg) c[2] => _, c3 = inout(vreg) c[3] => _,
                    k00 = in(vreg) w[0][0], k01 = in(vreg) w[0][1], k10 = in(vreg) w[1][0], k11 = in(vreg) w[1][1],
                    k20 = in(vreg) w[2][0], k21 = in(vreg) w[2][1], l00 = in(vreg) next[0][0], l01 = in(vreg) next[0][1],
                    l10 = in(vreg) next[1][0], l11 = in(vreg) next[1][1], l20 = in(vreg) next[2][0], l21 = in(vreg) next[2][1],
                    s0 = in(vreg) numbers.scale[0], s1 = in(vreg) numbers.scale[1],
                    x0 = out(vreg) _, x1 = out(vreg) _, x2 = out(vreg) _, x3 = out(vreg) _,
                    $($bound = in(vreg) $value,)*
                    entry = in(reg) entry, n = inout(reg) span.width.div_ceil(3) => _,
                    p = inout(reg) input.add(2 * layer.column) => _, column = in(reg) layer.column,
                    row1 = in(reg) rows[0], row2 = in(reg) rows[1], row3 = in(reg) rows[2],
                    o0 = inout(reg) output[0] => _, o1 = inout(reg) output[1] => _, pixel = in(reg) span.out_pixel,
                    bias = in(reg) numbers.bias, rest = in(reg) numbers.rest,
                    options(nostack)
                )
            };
        }
        match K {
            SHORT => rolled!(short,),
            RELU => rolled!(relu, high = numbers.high),
            _ => rolled!(any, low = numbers.low, high = numbers.high),
        }
    }
}

/// One output row, `T` pixels at a time and then four; the last overlap those before them.
#[target_feature(enable = "neon,dotprod")]
unsafe fn row<const K: u8, const R: usize, const C: usize, const S: usize, const T: usize>(
    layer: &Depthwise,
    numbers: &Lanes,
    span: &RowSpan,
    input: *const u8,
    output: *mut u8,
) {
    // SAFETY: pixels x..x + T are the span's.
    unsafe {
        let mut x = 0;
        while x < span.width {
            let at = |x: usize| (input.add(x * span.in_pixel), output.add(x * span.out_pixel));
            if span.width >= T && span.width - x > T / 2 {
                x = x.min(span.width - T);
                let (from, to) = at(x);
                pixels::<K, R, C, S, T>(layer, numbers, from, to, span.out_pixel);
                x += T;
            } else if span.width >= 4 {
                x = x.min(span.width - 4);
                let (from, to) = at(x);
                pixels::<K, R, C, S, 4>(layer, numbers, from, to, span.out_pixel);
                x += 4;
            } else {
                let (from, to) = at(x);
                pixels::<K, R, C, S, 1>(layer, numbers, from, to, span.out_pixel);
                x += 1;
            }
        }
    }
}

/// Four rows of one column of 8 lanes, as [`column`]: the first and those at these offsets.
#[inline(always)]
unsafe fn four_rows(at: *const u8, rows: [usize; 3]) -> [int8x16_t; 2] {
    let (first, second);
    // SAFETY: the caller's: four rows of 8 lanes are readable.
    unsafe {
        asm!(
            "ldr {a:d}, [{at}]", "ldr {b:d}, [{at}, {row}]", "ldr {c:d}, [{at}, {row2}]", "ldr {d:d}, [{at}, {row3}]",
            "zip1 {a:v}.16b, {a:v}.16b, {b:v}.16b", "zip1 {c:v}.16b, {c:v}.16b, {d:v}.16b",
            "zip2 {b:v}.8h, {a:v}.8h, {c:v}.8h", "zip1 {a:v}.8h, {a:v}.8h, {c:v}.8h",
            at = in(reg) at, row = in(reg) rows[0], row2 = in(reg) rows[1], row3 = in(reg) rows[2],
            a = out(vreg) first, b = out(vreg) second, c = out(vreg) _, d = out(vreg) _,
            options(readonly, nostack, preserves_flags)
        );
    }
    [first, second]
}

/// Up to four rows of one column of 8 lanes, interleaved: four bytes of each 32-bit lane are the rows of one channel.
/// Rows that are not there are copies of others, which meet weights of zero. One piece of assembly: the compiler would
/// load all columns first and run out of registers.
#[inline(always)]
unsafe fn column<const N: usize>(at: *const u8, row: usize) -> [int8x16_t; 2] {
    // Rows that are not there stand where others do.
    match N {
        // SAFETY: the caller's: N rows of 8 lanes are readable.
        1 => unsafe { four_rows(at, [0; 3]) },
        // SAFETY: as above.
        2 => unsafe { four_rows(at, [row, 0, row]) },
        3 => {
            let (first, second);
            // SAFETY: as above.
            unsafe {
                asm!(
                    "ldr {a:d}, [{at}]", "ldr {b:d}, [{at}, {row}]", "ldr {c:d}, [{at}, {row2}]",
                    "zip1 {a:v}.16b, {a:v}.16b, {b:v}.16b", "zip1 {c:v}.16b, {c:v}.16b, {c:v}.16b",
                    "zip2 {b:v}.8h, {a:v}.8h, {c:v}.8h", "zip1 {a:v}.8h, {a:v}.8h, {c:v}.8h",
                    at = in(reg) at, row = in(reg) row, row2 = in(reg) 2 * row,
                    a = out(vreg) first, b = out(vreg) second, c = out(vreg) _,
                    options(readonly, nostack, preserves_flags)
                );
            }
            [first, second]
        }
        // SAFETY: as above.
        _ => unsafe { four_rows(at, [row, 2 * row, 3 * row]) },
    }
}

/// Products of 8 lanes: of two taps, or where P is 2 of the first alone. In assembly, because the compiler would widen
/// the weights once for all pixels, and then the pixels each time.
#[inline(always)]
fn two_products<const P: usize>(x0: int8x8_t, w0: int8x8_t, x1: int8x8_t, w1: int8x8_t) -> int16x8_t {
    let sum;
    // SAFETY: every aarch64 CPU has NEON; nothing but the output is written.
    unsafe {
        if P < 2 {
            asm!("smull {s:v}.8h, {x0:v}.8b, {w0:v}.8b", "smlal {s:v}.8h, {x1:v}.8b, {w1:v}.8b",
                s = out(vreg) sum, x0 = in(vreg) x0, w0 = in(vreg) w0, x1 = in(vreg) x1, w1 = in(vreg) w1,
                options(pure, nomem, nostack, preserves_flags));
        } else {
            asm!("smull {s:v}.8h, {x0:v}.8b, {w0:v}.8b", s = lateout(vreg) sum, x0 = in(vreg) x0, w0 = in(vreg) w0,
                options(pure, nomem, nostack, preserves_flags));
        }
    }
    sum
}

/// T neighbouring output pixels of 8 lanes: each column is interleaved once.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn pixels<const K: u8, const R: usize, const C: usize, const S: usize, const T: usize>(
    layer: &Depthwise,
    numbers: &Lanes,
    input: *const u8,
    output: *mut u8,
    out_pixel: usize,
) {
    // SAFETY: the caller's pixels; weights, bias, scale and rest hold what the layer's shape says.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); 2]; T];
        unroll!(I in [0 1 2 3 4 5 6 7] {
            if I < T {
                sums[I % T] = load2(numbers.bias);
            }
        });
        if R == 5 {
            // Before the rest, since it needs no interleaved columns.
            let mut row = input.add(4 * layer.row);
            unroll!(P in [0 1 2] {
                let mut at = row;
                let (w0, w1) = (numbers.fifth[2 * P], numbers.fifth[2 * P + 1]);
                unroll!(I in [0 1 2 3 4 5 6 7] {
                    if I < T {
                        let x1 = if P < 2 { vld1_s8(at.add(layer.column).cast()) } else { w0 };
                        let sum = two_products::<P>(vld1_s8(at.cast()), w0, x1, w1);
                        let sums = &mut sums[I % T];
                        *sums = [vaddw_s16(sums[0], vget_low_s16(sum)), vaddw_high_s16(sums[1], sum)];
                        at = at.wrapping_add(S * layer.column);
                    }
                });
                row = row.wrapping_add(2 * layer.column);
                let _ = (at, row);
            });
        }
        let mut w = [[vdupq_n_s8(0); 2]; C];
        unroll!(TAP in [0 1 2 3 4] {
            if TAP < C {
                w[TAP % C] = numbers.column(TAP);
            }
        });
        let mut at = input;
        unroll!(COL in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16] {
            if COL < (T - 1) * S + C {
                let taps = if R == 3 { column::<3>(at, layer.row) } else { column::<4>(at, layer.row) };
                at = at.wrapping_add(layer.column);
                let _ = at;
                unroll!(I in [0 1 2 3 4 5 6 7] {
                    if I < T && COL >= I * S && COL < I * S + C {
                        let w = w[(COL - I * S) % C];
                        let sums = &mut sums[I % T];
                        *sums = [sdot(sums[0], taps[0], w[0]), sdot(sums[1], taps[1], w[1])];
                    }
                });
            }
        });
        unroll!(I in [0 2 4 6] {
            if I < T {
                let other = if I + 1 < T { I + 1 } else { I };
                numbers.finish::<K>([sums[I % T], sums[other % T]], [output.add(I * out_pixel), output.add(other * out_pixel)]);
            }
        });
    }
}

/// Any window, one pixel at a time.
#[target_feature(enable = "neon,dotprod")]
unsafe fn any<const K: u8>(layer: &Depthwise, numbers: &Lanes, span: &RowSpan, input: *const u8, output: *mut u8) {
    // SAFETY: as in `pixels`.
    unsafe {
        for x in 0..span.width {
            let mut sums = load2(numbers.bias);
            let mut index = 0;
            for group in (0..layer.rows).step_by(DEPTH) {
                for step in 0..layer.columns {
                    let at = input.add(x * span.in_pixel + group * layer.row + step * layer.column);
                    let taps = match layer.rows - group {
                        1 => column::<1>(at, layer.row),
                        2 => column::<2>(at, layer.row),
                        3 => column::<3>(at, layer.row),
                        _ => column::<4>(at, layer.row),
                    };
                    let w = numbers.column(index);
                    sums = [sdot(sums[0], taps[0], w[0]), sdot(sums[1], taps[1], w[1])];
                    index += 1;
                }
            }
            let to = output.add(x * span.out_pixel);
            numbers.finish::<K>([sums, sums], [to, to]);
        }
    }
}

/// Sixteen chains of SDOT.
#[target_feature(enable = "neon,dotprod")]
unsafe fn peak(rounds: u64) -> u64 {
    let mut sums = [vdupq_n_s32(0); 16];
    let (x, w) = (vdupq_n_s8(3), vdupq_n_s8(5));
    for _ in 0..rounds {
        unroll!(I in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
            sums[I] = sdot(sums[I], x, w);
        });
    }
    std::hint::black_box(sums);
    16 * 16
}
