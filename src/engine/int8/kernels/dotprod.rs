//! 64-bit ARM with dot products (Cortex-A76: Raspberry Pi 5; Cortex-A78AE: Jetson Orin): SDOT multiplies four by four signed bytes into
//! each 32-bit lane. The compiler does not offer it yet, so it is written in assembly.
//!
//! Dense: a tile is 6 pixels by 16 channels, 24 accumulators; 16 bytes of each pixel stay in a register for four steps, two vectors of
//! weights pass through: that is all 32 registers, and 14 loads for 96 dot products.
//!
//! Depthwise: four bytes of a 32-bit lane are four rows of one column of one channel. A column of 8 channels is interleaved once (4 ZIPs)
//! and used by every output pixel whose window has it; the weights stay in registers along a row. The fifth row of a 5 x 5 window is
//! multiplied and widened.

use std::arch::aarch64::*;
use std::arch::asm;

use super::neon::{Walk, for_each_sum, load2, round, store};
use super::{Block, DEPTH, Dense, Depthwise, Isa, Kernels, LANES, Single, Strip, float, lanes};

pub const KERNELS: Kernels = Kernels {
    isa: Isa::Dotprod,
    flip: 0,
    widths: &[1],
    order: |_, accumulator| accumulator,
    depthwise_order: |_, accumulator| accumulator,
    depthwise_widths: &[4, 2, 1],
    column: 4,
    dense,
    depthwise,
    single: Some(single),
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

// --- dense ------------------------------------------------------------------------------------------------------------

#[target_feature(enable = "neon,dotprod")]
unsafe fn dense(layer: &Dense, strip: &Strip) {
    for block in &layer.blocks {
        // SAFETY: the caller's; every tile's pixels are the strip's.
        unsafe {
            let mut walk = Walk::new(strip);
            while walk.left() >= 6 {
                let (input, output) = walk.take::<6>();
                store::<6>(layer, block, sums_6(layer, block, input), output);
            }
            macro_rules! rest {
                ($m:literal, $sums:ident) => {{
                    let (input, output) = walk.take::<$m>();
                    store::<$m>(layer, block, $sums(layer, block, input), output);
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

/// The sums of 16 channels of M pixels. For each pixel: its index, its pointer, what holds its bytes, its four accumulators.
macro_rules! sums {
    ($name:ident, $m:literal, $($i:literal $p:ident $x:ident $a:ident $b:ident $c:ident $d:ident),*) => {
        #[inline]
        #[target_feature(enable = "neon,dotprod")]
        unsafe fn $name(layer: &Dense, block: &Block, input: [*const u8; $m]) -> [[int32x4_t; 4]; $m] {
            // SAFETY: the caller's: every tap of these pixels is readable for `depth` steps; weights follow each other by tap, step and
            // channel; bias has 16 values for each block (`widths` is 1). The assembly reads just that and writes its operands.
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
unsafe fn single(layer: &Single, strip: &Strip) {
    // SAFETY: the caller's; `sdot` is called on a CPU that has it.
    unsafe { for_each_sum(layer, strip, |sum, x, w| sdot(sum, x, w)) }
}

// --- depthwise --------------------------------------------------------------------------------------------------------

#[target_feature(enable = "neon,dotprod")]
unsafe fn depthwise(layer: &Depthwise, strip: &Strip) {
    for block in &layer.blocks {
        for lane in (0..block.width * LANES).step_by(HALF) {
            for y in strip.rows.clone() {
                // SAFETY: y is a row of the strip, and the lanes are the block's; all that follows stays in its pixels.
                unsafe {
                    let input = strip.input.add(y * strip.in_row + block.lane + lane);
                    let output = strip.output.add(y * strip.out_row + block.lane + lane);
                    let numbers = Lanes::new(layer, block, lane);
                    match (layer.rows, layer.columns, layer.stride, layer.extreme) {
                        (3, 3, 1, _) => row::<3, 3, 1, 8>(layer, &numbers, strip, input, output),
                        (3, 3, 2, _) => row::<3, 3, 2, 8>(layer, &numbers, strip, input, output),
                        (5, 5, 1, false) => row::<5, 5, 1, 4>(layer, &numbers, strip, input, output),
                        (5, 5, 2, false) => row::<5, 5, 2, 4>(layer, &numbers, strip, input, output),
                        _ => any(layer, &numbers, strip, input, output),
                    }
                }
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
    unsafe fn finish(&self, sums: [[int32x4_t; 2]; 2], to: [*mut u8; 2]) {
        // SAFETY: the caller's; every aarch64 CPU has NEON.
        unsafe {
            let [[a, b], [c, d]] = sums;
            let [first, second] = load2(self.rest);
            let (a, b) = (round(a, self.scale[0], first), round(b, self.scale[1], second));
            let [first, second] = load2(self.rest);
            let (c, d) = (round(c, self.scale[0], first), round(d, self.scale[1], second));
            let ab = vqmovn_high_s32(vqmovn_s32(a), b);
            let cd = vqmovn_high_s32(vqmovn_s32(c), d);
            let bytes = vqmovn_high_s16(vqmovn_s16(ab), cd);
            let bytes = vreinterpretq_s64_s8(vmaxq_s8(vminq_s8(bytes, self.high), self.low));
            vst1q_lane_s64::<1>(to[1].cast(), bytes);
            vst1q_lane_s64::<0>(to[0].cast(), bytes);
        }
    }
}

/// One output row, `T` pixels at a time and then four; the last overlap those before them.
#[target_feature(enable = "neon,dotprod")]
unsafe fn row<const R: usize, const C: usize, const S: usize, const T: usize>(
    layer: &Depthwise,
    numbers: &Lanes,
    strip: &Strip,
    input: *const u8,
    output: *mut u8,
) {
    // SAFETY: pixels x..x + T are the strip's.
    unsafe {
        let mut x = 0;
        while x < strip.width {
            let at = |x: usize| (input.add(x * strip.in_pixel), output.add(x * strip.out_pixel));
            if strip.width >= T && strip.width - x > T / 2 {
                x = x.min(strip.width - T);
                let (from, to) = at(x);
                pixels::<R, C, S, T>(layer, numbers, from, to, strip.out_pixel);
                x += T;
            } else if strip.width >= 4 {
                x = x.min(strip.width - 4);
                let (from, to) = at(x);
                pixels::<R, C, S, 4>(layer, numbers, from, to, strip.out_pixel);
                x += 4;
            } else {
                let (from, to) = at(x);
                pixels::<R, C, S, 1>(layer, numbers, from, to, strip.out_pixel);
                x += 1;
            }
        }
    }
}

/// Up to four rows of one column of 8 lanes, interleaved: four bytes of each 32-bit lane are the rows of one channel. Rows that are not
/// there are copies of others, which meet weights of zero. One piece of assembly: the compiler would load all columns first and run out
/// of registers.
#[inline(always)]
unsafe fn column<const N: usize>(at: *const u8, row: usize) -> [int8x16_t; 2] {
    let (first, second);
    // Where the third and fourth row are; rows that are not there stand where others do.
    let (b, c, d) = match N {
        1 => (0, 0, 0),
        2 => (row, 0, row),
        3 => (row, 2 * row, 2 * row),
        _ => (row, 2 * row, 3 * row),
    };
    // SAFETY: the caller's: N rows of 8 lanes are readable.
    unsafe {
        if N == 3 {
            asm!(
                "ldr {a:d}, [{at}]", "ldr {b:d}, [{at}, {row}]", "ldr {c:d}, [{at}, {row2}]",
                "zip1 {a:v}.16b, {a:v}.16b, {b:v}.16b", "zip1 {c:v}.16b, {c:v}.16b, {c:v}.16b",
                "zip2 {b:v}.8h, {a:v}.8h, {c:v}.8h", "zip1 {a:v}.8h, {a:v}.8h, {c:v}.8h",
                at = in(reg) at, row = in(reg) b, row2 = in(reg) c,
                a = out(vreg) first, b = out(vreg) second, c = out(vreg) _,
                options(readonly, nostack, preserves_flags)
            );
        } else {
            asm!(
                "ldr {a:d}, [{at}]", "ldr {b:d}, [{at}, {row}]", "ldr {c:d}, [{at}, {row2}]", "ldr {d:d}, [{at}, {row3}]",
                "zip1 {a:v}.16b, {a:v}.16b, {b:v}.16b", "zip1 {c:v}.16b, {c:v}.16b, {d:v}.16b",
                "zip2 {b:v}.8h, {a:v}.8h, {c:v}.8h", "zip1 {a:v}.8h, {a:v}.8h, {c:v}.8h",
                at = in(reg) at, row = in(reg) b, row2 = in(reg) c, row3 = in(reg) d,
                a = out(vreg) first, b = out(vreg) second, c = out(vreg) _, d = out(vreg) _,
                options(readonly, nostack, preserves_flags)
            );
        }
    }
    [first, second]
}

/// Products of 8 lanes: of two taps, or where P is 2 of the first alone. In assembly, because the compiler would widen the weights once for
/// all pixels, and then the pixels each time.
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
unsafe fn pixels<const R: usize, const C: usize, const S: usize, const T: usize>(
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
        unroll!(K in [0 1 2 3 4] {
            if K < C {
                w[K % C] = numbers.column(K);
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
                numbers.finish([sums[I % T], sums[other % T]], [output.add(I * out_pixel), output.add(other * out_pixel)]);
            }
        });
    }
}

/// Any window, one pixel at a time.
#[target_feature(enable = "neon,dotprod")]
unsafe fn any(layer: &Depthwise, numbers: &Lanes, strip: &Strip, input: *const u8, output: *mut u8) {
    // SAFETY: as in `pixels`.
    unsafe {
        for x in 0..strip.width {
            let mut sums = load2(numbers.bias);
            let mut index = 0;
            for group in (0..layer.rows).step_by(DEPTH) {
                for step in 0..layer.columns {
                    let at = input.add(x * strip.in_pixel + group * layer.row + step * layer.column);
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
            let to = output.add(x * strip.out_pixel);
            numbers.finish([sums, sums], [to, to]);
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
