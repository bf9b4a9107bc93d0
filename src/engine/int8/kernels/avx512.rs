//! x86 with AVX-512 VNNI: `vpdpbusd` multiplies four unsigned by four signed bytes into each 32-bit lane.
//!
//! Activations are stored with their top bit flipped (x + 128, unsigned); what that adds, 128 times the sum of the weights, is taken
//! back in the accumulator's start. The products fit: nothing saturates before the end.
//!
//! Dense: an M x (16 V) tile of accumulators stays in registers; a step loads V vectors of weights and broadcasts four bytes of each of
//! M pixels. M V = 24 keeps both dot-product ports of a core busy through their latency.
//!
//! Depthwise: four bytes of a 32-bit lane are four rows of one column of one channel. A column is interleaved once
//! (unpack, 8 shuffles for 64 channels) and used by every output pixel whose window has it. Unpack and pack work within
//! 128-bit lanes, so one undoes the order of the other.

#![expect(
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "arrays are sets of registers, indexed by constants once unrolled"
)]

use std::arch::x86_64::*;

use super::{DEPTH, Dense, Depthwise, Isa, Kernels, Output, Single, Strip, float, lanes};

pub const KERNELS: Kernels = Kernels {
    isa: Isa::Avx512vnni,
    flip: 0x80,
    widths: &[4, 3, 2, 1],
    order,
    depthwise_order,
    column: 4,
    dense,
    depthwise,
    single: Some(single),
    lanes: lanes::AVX512,
    float: float::AVX512,
    peak,
};

/// True if this CPU and its operating system have all that is used here.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("fma")
}

/// Accumulator to channel: `packs` of two or four vectors takes four from each in turn.
fn order(width: usize, accumulator: usize) -> usize {
    let (vector, lane) = (accumulator / 16, accumulator % 16);
    match (width, vector) {
        (4, _) => 16 * (lane / 4) + 4 * vector + lane % 4,
        (3, 2) => accumulator,
        (2 | 3, _) => 8 * (lane / 4) + 4 * vector + lane % 4,
        _ => accumulator,
    }
}

/// Four vectors of `4 * width` accumulators, each with four channels of each 128-bit lane.
fn depthwise_order(width: usize, accumulator: usize) -> usize {
    let (vector, lane) = (accumulator / (4 * width), accumulator % (4 * width));
    16 * (lane / 4) + 4 * vector + lane % 4
}

/// Repeats a block with a constant in place of a variable, so that arrays indexed by it live in registers.
macro_rules! unroll {
    ($i:ident in [$($value:literal)*] $body:block) => {
        $({
            const $i: usize = $value;
            $body
        })*
    };
}

// --- dense ----------------------------------------------------------------------------------------------------------

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn dense(layer: &Dense, strip: &Strip) {
    for block in &layer.blocks {
        // SAFETY: the caller's; each tile's pixels are the strip's.
        unsafe {
            match block.width {
                4 => tiles::<4, 6>(layer, block, strip),
                3 => tiles::<3, 8>(layer, block, strip),
                2 => tiles::<2, 12>(layer, block, strip),
                _ => tiles::<1, 12>(layer, block, strip),
            }
        }
    }
}

/// All pixels of a strip, M at a time across row ends; the last tile repeats its last pixel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn tiles<const V: usize, const M: usize>(layer: &Dense, block: &super::Block, strip: &Strip) {
    let mut left = strip.rows.len() * strip.width;
    if left == 0 {
        return;
    }
    // From the last pixel of a row to the first of the next.
    let (in_turn, out_turn) = (
        strip.in_row.wrapping_sub(strip.width * strip.in_pixel),
        strip.out_row.wrapping_sub(strip.width * strip.out_pixel),
    );
    let mut from = strip.input.wrapping_add(strip.rows.start * strip.in_row + block.input);
    let mut to = strip.output.wrapping_add(strip.rows.start * strip.out_row);
    let mut x = strip.width;
    while left > 0 {
        let mut input = [from; M];
        let mut output = [to; M];
        for m in 0..M {
            (input[m], output[m]) = (from, to);
            if left > 1 {
                left -= 1;
                (from, to) = (from.wrapping_add(strip.in_pixel), to.wrapping_add(strip.out_pixel));
                x -= 1;
                if x == 0 {
                    x = strip.width;
                    (from, to) = (from.wrapping_add(in_turn), to.wrapping_add(out_turn));
                }
            } else if m == M - 1 {
                left = 0;
            }
        }
        // SAFETY: the pointers are those of pixels of the strip.
        unsafe { tile::<V, M>(layer, block, &input, &output) };
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn tile<const V: usize, const M: usize>(
    layer: &Dense,
    block: &super::Block,
    input: &[*const u8; M],
    output: &[*mut u8; M],
) {
    // SAFETY: weights, bias and scale hold what the layer's shape says; every tap of these pixels is readable.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); V]; M];
        for v in 0..V {
            let start = _mm512_loadu_si512(layer.bias.as_ptr().add(block.lane + v * 16).cast());
            for sums in &mut sums {
                sums[v] = start;
            }
        }
        let mut weights = layer.weights.as_ptr().add(block.weights);
        for tap in &layer.taps {
            for step in 0..layer.depth {
                let at = tap + step * DEPTH;
                let mut w = [_mm512_setzero_si512(); V];
                for v in 0..V {
                    w[v] = _mm512_load_si512(weights.add(v * 64).cast());
                }
                weights = weights.add(V * 64);
                for m in 0..M {
                    let pixel = _mm512_set1_epi32(input[m].add(at).cast::<i32>().read_unaligned());
                    for v in 0..V {
                        sums[m][v] = _mm512_dpbusd_epi32(sums[m][v], pixel, w[v]);
                    }
                }
            }
        }
        match layer.output {
            Output::Int8 { low, high } if layer.wide => {
                store_int8::<V, M, true>(layer, block, sums, output, low as i8, high as i8);
            }
            Output::Int8 { low, high } => store_int8::<V, M, false>(layer, block, sums, output, low as i8, high as i8),
            Output::Float { low, high, channels } => {
                let sums = sums; // a copy in memory, so that those of the loop stay in registers
                store_float::<V, M>(layer, block, &sums, output, low, high, channels);
            }
        }
    }
}

/// round(sum * scale + rest), half to even (MXCSR's default); out of range becomes the least integer, so `wide` layers clamp above first.
#[inline]
#[target_feature(enable = "avx512f")]
fn requantize(sum: __m512i, scale: __m512, rest: __m512, wide: bool) -> __m512i {
    let mut value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, rest);
    if wide {
        value = _mm512_min_ps(value, _mm512_set1_ps(256.0));
    }
    _mm512_cvtps_epi32(value)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn store_int8<const V: usize, const M: usize, const WIDE: bool>(
    layer: &Dense,
    block: &super::Block,
    sums: [[__m512i; V]; M],
    output: &[*mut u8; M],
    low: i8,
    high: i8,
) {
    // SAFETY: the caller's: all lanes of the block are writable behind each output pointer.
    unsafe {
        let scale = layer.scale.as_ptr().add(block.lane);
        let rest = layer.rest.as_ptr().add(block.lane);
        let (mut scales, mut rests) = ([_mm512_setzero_ps(); V], [_mm512_setzero_ps(); V]);
        for v in 0..V {
            scales[v] = _mm512_loadu_ps(scale.add(v * 16));
            rests[v] = _mm512_loadu_ps(rest.add(v * 16));
        }
        unroll!(I in [0 1 2 3 4 5 6 7 8 9 10 11] {
            if I < M {
                let mut q = [_mm512_setzero_si512(); V];
                for v in 0..V {
                    q[v] = requantize(sums[I % M][v], scales[v], rests[v], WIDE);
                }
                let to = output[I % M].add(block.lane);
                if V == 4 {
                    let (a, b) = (_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
                    let bytes = _mm512_packs_epi16(a, b);
                    let bytes = _mm512_max_epi8(_mm512_min_epi8(bytes, _mm512_set1_epi8(high)), _mm512_set1_epi8(low));
                    _mm512_storeu_si512(to.cast(), _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)));
                }
                if V == 2 || V == 3 {
                    let bytes = _mm512_cvtsepi16_epi8(_mm512_packs_epi32(q[0], q[1]));
                    let bytes = _mm256_max_epi8(_mm256_min_epi8(bytes, _mm256_set1_epi8(high)), _mm256_set1_epi8(low));
                    _mm256_storeu_si256(to.cast(), _mm256_xor_si256(bytes, _mm256_set1_epi8(-128)));
                }
                if V == 1 || V == 3 {
                    let bytes = _mm512_cvtsepi32_epi8(q[V - 1]);
                    let bytes = _mm_max_epi8(_mm_min_epi8(bytes, _mm_set1_epi8(high)), _mm_set1_epi8(low));
                    _mm_storeu_si128(to.add((V - 1) * 16).cast(), _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
                }
            }
        });
    }
}

/// Through memory, since the accumulators are not in the order of the channels: float layers are few and narrow.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_float<const V: usize, const M: usize>(
    layer: &Dense,
    block: &super::Block,
    sums: &[[__m512i; V]; M],
    output: &[*mut u8; M],
    low: f32,
    high: f32,
    channels: usize,
) {
    for m in 0..M {
        for v in 0..V {
            let mut values = [0.0f32; 16];
            // SAFETY: the array has 16 values, `scale` one for each accumulator.
            unsafe {
                let scale = _mm512_loadu_ps(layer.scale.as_ptr().add(block.lane + v * 16));
                let rest = _mm512_loadu_ps(layer.rest.as_ptr().add(block.lane + v * 16));
                let value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[m][v]), scale, rest);
                let value = _mm512_min_ps(_mm512_max_ps(value, _mm512_set1_ps(low)), _mm512_set1_ps(high));
                _mm512_storeu_ps(values.as_mut_ptr(), value);
            }
            for (i, value) in values.into_iter().enumerate() {
                let channel = block.lane + order(V, v * 16 + i);
                if channel < channels {
                    // SAFETY: the caller's: `channels` floats are writable behind each output pointer.
                    unsafe { output[m].cast::<f32>().add(channel).write(value) };
                }
            }
        }
    }
}

// --- one output channel ---------------------------------------------------------------------------------------------

/// Sixteen pixels at a time: each sums along its window into a vector of its own, and the sixteen vectors are added up crosswise. The
/// last tile of a row repeats pixels of the one before.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn single(layer: &Single, strip: &Strip) {
    for y in strip.rows.clone() {
        let mut x = 0;
        while x < strip.width {
            // SAFETY: pixels x..x + n are the strip's; a run is readable to the end of its last piece.
            unsafe {
                let n = (strip.width - x).min(16);
                let input = strip.input.add(y * strip.in_row + x * strip.in_pixel);
                let sums = window_sums(layer, input, strip.in_pixel, n);
                let value = _mm512_cvtepi32_ps(_mm512_add_epi32(sums, _mm512_set1_epi32(layer.bias)));
                let value = _mm512_fmadd_ps(value, _mm512_set1_ps(layer.scale), _mm512_set1_ps(layer.rest));
                let value = _mm512_min_ps(_mm512_max_ps(value, _mm512_set1_ps(layer.low)), _mm512_set1_ps(layer.high));
                let output = strip.output.add(y * strip.out_row + x * strip.out_pixel).cast::<f32>();
                _mm512_mask_storeu_ps(output, 0xffff >> (16 - n), value);
                x += n;
            }
        }
    }
}

/// The sums under the windows of `n` neighbouring pixels, at most 16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn window_sums(layer: &Single, input: *const u8, pixel: usize, n: usize) -> __m512i {
    let at = |i: usize| input.wrapping_add(i.min(n - 1) * pixel);
    let mut sums = [_mm512_setzero_si512(); 16];
    let mut weights = layer.weights.as_ptr();
    for tap in &layer.taps {
        for piece in 0..layer.pieces {
            // SAFETY: the caller's.
            unsafe {
                let w = _mm512_load_si512(weights.cast());
                weights = weights.add(64);
                let offset = tap + piece * 64;
                unroll!(I in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
                    let bytes = _mm512_loadu_si512(at(I).add(offset).cast());
                    sums[I] = _mm512_dpbusd_epi32(sums[I], bytes, w);
                });
            }
        }
    }
    // Rows of a 16 x 16 matrix, each to be summed: fold pairs of rows into one until one is left.
    let by_32 = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let by_64 = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let by_128 = |a, b| _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
    let four = |[a, b, c, d]: [__m512i; 4]| by_64(by_32(a, b), by_32(c, d));
    let [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, sa, sb, sc, sd, se, sf] = sums;
    by_128(
        by_128(four([s0, s1, s2, s3]), four([s4, s5, s6, s7])),
        by_128(four([s8, s9, sa, sb]), four([sc, sd, se, sf])),
    )
}

// --- depthwise ------------------------------------------------------------------------------------------------------

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn depthwise(layer: &Depthwise, strip: &Strip) {
    for block in &layer.blocks {
        // SAFETY: the caller's.
        unsafe {
            match block.width {
                4 => zmm::rows(layer, block, strip),
                2 => ymm::rows(layer, block, strip),
                _ => xmm::rows(layer, block, strip),
            }
        }
    }
}

/// The same pointer, of which the compiler knows nothing: else it keeps an address for every tap from pixel to pixel, in memory.
#[inline(always)]
fn opaque(pointer: *mut u8) -> *mut u8 {
    let mut address = pointer.addr();
    // SAFETY: no instruction.
    unsafe { std::arch::asm!("/* {0} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags)) };
    pointer.with_addr(address)
}

/// The depthwise kernel for vectors of one width.
macro_rules! depthwise {
    (
        $module:ident, $vector:ty, $bytes:literal, $load:ident, $store:ident, $set8:ident, $lo8:ident, $hi8:ident, $lo16:ident, $hi16:ident,
        $dot:ident, $float:ident, $muladd:ident, $min:ident, $set:ident, $round:ident, $pack32:ident, $pack16:ident, $max8:ident, $min8:ident,
        $xor:ident, $loadf:ident, $aligned:ident, $floats:ty
    ) => {
        mod $module {
            use super::*;
            use super::super::Block;

            /// Bytes of the weights of one column of one group of rows.
            const COLUMN: usize = 4 * $bytes;

            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
            pub unsafe fn rows(layer: &Depthwise, block: &Block, strip: &Strip) {
                for y in strip.rows.clone() {
                    // SAFETY: y is a row of the strip; all that follows stays in its pixels.
                    unsafe {
                        let input = strip.input.add(y * strip.in_row + block.lane);
                        let output = strip.output.add(y * strip.out_row + block.lane);
                        match (layer.rows, layer.columns, layer.stride) {
                            (3, 3, 1) => row_of_three::<1>(layer, block, strip, input, output),
                            (3, 3, 2) => row_of_three::<2>(layer, block, strip, input, output),
                            (5, 5, 1) => row_of_five::<1>(layer, block, strip, input, output),
                            (5, 5, 2) => row_of_five::<2>(layer, block, strip, input, output),
                            _ => any(layer, block, strip, input, output),
                        }
                    }
                }
            }

            /// One output row, four pixels at a time. Not inlined: each window has registers enough for itself alone.
            #[inline(never)]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
            unsafe fn row_of_three<const S: usize>(
                layer: &Depthwise, block: &Block, strip: &Strip, input: *const u8, output: *mut u8,
            ) {
                const T: usize = 4;
                let mut x = 0;
                // SAFETY: pixels x..x + T are the strip's.
                unsafe {
                    while x + T <= strip.width {
                        let (from, to) = (input.add(x * strip.in_pixel), output.add(x * strip.out_pixel));
                        three::<S, T>(layer, block, from, to, strip.out_pixel);
                        x += T;
                    }
                    while x < strip.width {
                        let (from, to) = (input.add(x * strip.in_pixel), output.add(x * strip.out_pixel));
                        three::<S, 1>(layer, block, from, to, strip.out_pixel);
                        x += 1;
                    }
                }
            }

            /// T neighbouring output pixels under 3 x 3: each column is interleaved once, and all is in registers.
            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
            unsafe fn three<const S: usize, const T: usize>(
                layer: &Depthwise, block: &Block, input: *const u8, output: *mut u8, out_pixel: usize,
            ) {
                // SAFETY: the caller's pixels; weights, bias and scale hold what the layer's shape says.
                unsafe {
                    let (input, output) = (opaque(input.cast_mut()).cast_const(), opaque(output));
                    let weights = layer.weights.as_ptr().add(block.weights);
                    let start = start(layer, block);
                    let mut sums = [start; T];
                    unroll!(COL in [0 1 2 3 4 5 6 7 8] {
                        if COL < (T - 1) * S + 3 {
                            let taps = column::<3>(input.add(COL * layer.column), layer.row);
                            unroll!(I in [0 1 2 3] {
                                if I < T && COL >= I * S && COL < I * S + 3 {
                                    accumulate(&mut sums[I % T], &taps, weights.add((COL - I * S) * COLUMN));
                                }
                            });
                        }
                    });
                    unroll!(I in [0 1 2 3] {
                        if I < T {
                            finish(layer, block, sums[I % T], output.add(I * out_pixel));
                        }
                    });
                }
            }

            /// One output row under 5 x 5.
            #[inline(never)]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
            unsafe fn row_of_five<const S: usize>(
                layer: &Depthwise, block: &Block, strip: &Strip, input: *const u8, output: *mut u8,
            ) {
                let mut x = 0;
                // SAFETY: each call's pixels are the strip's.
                unsafe {
                    while x < strip.width {
                        let (from, to) = (input.add(x * strip.in_pixel), output.add(x * strip.out_pixel));
                        x += match strip.width - x {
                            8.. => five::<S, 8>(layer, block, from, to, strip.out_pixel),
                            4.. => five::<S, 4>(layer, block, from, to, strip.out_pixel),
                            _ => five::<S, 1>(layer, block, from, to, strip.out_pixel),
                        };
                    }
                }
            }

            /// T neighbouring output pixels under 5 x 5; says how many. The columns do not fit into registers, nor do the weights: the
            /// columns are interleaved into memory that stays in the first cache, and a quarter of the channels at a time has its ten weights
            /// and T sums in registers.
            #[inline(never)]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
            unsafe fn five<const S: usize, const T: usize>(
                layer: &Depthwise, block: &Block, input: *const u8, output: *mut u8, out_pixel: usize,
            ) -> usize {
                // SAFETY: the caller's pixels; weights, bias and scale hold what the layer's shape says.
                unsafe {
                    let mut columns = [std::mem::MaybeUninit::<[[$vector; 4]; 2]>::uninit(); 19];
                    for (i, columns) in columns.iter_mut().enumerate().take((T - 1) * S + 5) {
                        let at = input.add(i * layer.column);
                        columns.write([column::<4>(at, layer.row), column::<1>(at.add(4 * layer.row), layer.row)]);
                    }
                    let columns = columns.as_ptr().cast::<$vector>();
                    let mut rounded = [std::mem::MaybeUninit::<[$vector; 4]>::uninit(); T];
                    let rounded = rounded.as_mut_ptr().cast::<$vector>();
                    for j in 0..4 {
                        let weights = layer.weights.as_ptr().add(block.weights + j * $bytes);
                        let w = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|k| $load(weights.add(k * COLUMN).cast()));
                        let at = block.lane + j * $bytes / 4;
                        let mut sums = [$load(layer.bias.as_ptr().add(at).cast()); T];
                        unroll!(COL in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18] {
                            if COL < (T - 1) * S + 5 {
                                let (four, one) = ($aligned(columns.add(COL * 8 + j)), $aligned(columns.add(COL * 8 + 4 + j)));
                                unroll!(I in [0 1 2 3 4 5 6 7] {
                                    if I < T && COL >= I * S && COL < I * S + 5 {
                                        sums[I % T] = $dot(sums[I % T], four, w[(COL - I * S) % 10]);
                                        sums[I % T] = $dot(sums[I % T], one, w[(5 + COL - I * S) % 10]);
                                    }
                                });
                            }
                        });
                        let (scale, rest) = ($loadf(layer.scale.as_ptr().add(at)), $loadf(layer.rest.as_ptr().add(at)));
                        unroll!(I in [0 1 2 3 4 5 6 7] {
                            if I < T {
                                rounded.add(I * 4 + j).write(round(layer, sums[I % T], scale, rest));
                            }
                        });
                    }
                    for i in 0..T {
                        let q = [0, 1, 2, 3].map(|j| $aligned(rounded.add(i * 4 + j)));
                        pack(layer, q, output.add(i * out_pixel));
                    }
                    T
                }
            }

            /// Any window, one pixel at a time.
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
            unsafe fn any(layer: &Depthwise, block: &Block, strip: &Strip, input: *const u8, output: *mut u8) {
                // SAFETY: as above.
                unsafe {
                    for x in 0..strip.width {
                        let mut weights = layer.weights.as_ptr().add(block.weights);
                        let mut sums = start(layer, block);
                        for group in (0..layer.rows).step_by(4) {
                            for step in 0..layer.columns {
                                let at = input.add(x * strip.in_pixel + group * layer.row + step * layer.column);
                                let taps = match layer.rows - group {
                                    1 => column::<1>(at, layer.row),
                                    2 => column::<2>(at, layer.row),
                                    3 => column::<3>(at, layer.row),
                                    _ => column::<4>(at, layer.row),
                                };
                                accumulate(&mut sums, &taps, weights);
                                weights = weights.add(COLUMN);
                            }
                        }
                        finish(layer, block, sums, output.add(x * strip.out_pixel));
                    }
                }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
            unsafe fn start(layer: &Depthwise, block: &Block) -> [$vector; 4] {
                // SAFETY: the bias has one value for each accumulator.
                unsafe {
                    let bias = layer.bias.as_ptr().add(block.lane);
                    [0, 1, 2, 3].map(|j| $load(bias.add(j * $bytes / 4).cast()))
                }
            }

            /// Up to four rows of one column, interleaved: four bytes of each 32-bit lane are the rows of one channel. Rows that
            /// are not there are copies of others, which meet weights of zero.
            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
            unsafe fn column<const N: usize>(at: *const u8, row: usize) -> [$vector; 4] {
                // SAFETY: the caller's: N rows of a block's lanes are readable.
                unsafe {
                    let a = $load(at.cast());
                    let b = if N > 1 { $load(at.add(row).cast()) } else { a };
                    let c = if N > 2 { $load(at.add(2 * row).cast()) } else { a };
                    let d = if N > 3 { $load(at.add(3 * row).cast()) } else { c };
                    let (ab, ab_high) = ($lo8(a, b), $hi8(a, b));
                    let (cd, cd_high) = if N == 1 { (ab, ab_high) } else { ($lo8(c, d), $hi8(c, d)) };
                    [$lo16(ab, cd), $hi16(ab, cd), $lo16(ab_high, cd_high), $hi16(ab_high, cd_high)]
                }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
            unsafe fn accumulate(sums: &mut [$vector; 4], taps: &[$vector; 4], weights: *const u8) {
                // SAFETY: the caller's: a column's weights follow.
                unsafe {
                    for j in 0..4 {
                        sums[j] = $dot(sums[j], taps[j], $load(weights.add(j * $bytes).cast()));
                    }
                }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
            unsafe fn finish(layer: &Depthwise, block: &Block, sums: [$vector; 4], to: *mut u8) {
                // SAFETY: the scale has one value for each accumulator; the block's lanes are writable at `to`.
                unsafe {
                    let (scale, rest) = (layer.scale.as_ptr().add(block.lane), layer.rest.as_ptr().add(block.lane));
                    let mut q = sums;
                    for j in 0..4 {
                        let (scale, rest) = ($loadf(scale.add(j * $bytes / 4)), $loadf(rest.add(j * $bytes / 4)));
                        q[j] = round(layer, sums[j], scale, rest);
                    }
                    pack(layer, q, to);
                }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
            fn round(layer: &Depthwise, sum: $vector, scale: $floats, rest: $floats) -> $vector {
                let mut value = $muladd($float(sum), scale, rest);
                if layer.wide {
                    value = $min(value, $set(256.0));
                }
                $round(value)
            }

            /// The four vectors of a pixel as bytes in the order of the channels, clamped and stored.
            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
            unsafe fn pack(layer: &Depthwise, q: [$vector; 4], to: *mut u8) {
                let bytes = $pack16($pack32(q[0], q[1]), $pack32(q[2], q[3]));
                let bytes = $max8($min8(bytes, $set8(layer.high as i8)), $set8(layer.low as i8));
                // SAFETY: the block's lanes are writable at `to`.
                unsafe { $store(to.cast(), $xor(bytes, $set8(-128))) };
            }
        }
    };
}

depthwise!(
    zmm,
    __m512i,
    64,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    _mm512_set1_epi8,
    _mm512_unpacklo_epi8,
    _mm512_unpackhi_epi8,
    _mm512_unpacklo_epi16,
    _mm512_unpackhi_epi16,
    _mm512_dpbusd_epi32,
    _mm512_cvtepi32_ps,
    _mm512_fmadd_ps,
    _mm512_min_ps,
    _mm512_set1_ps,
    _mm512_cvtps_epi32,
    _mm512_packs_epi32,
    _mm512_packs_epi16,
    _mm512_max_epi8,
    _mm512_min_epi8,
    _mm512_xor_si512,
    _mm512_loadu_ps,
    _mm512_load_si512,
    __m512
);
depthwise!(
    ymm,
    __m256i,
    32,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    _mm256_set1_epi8,
    _mm256_unpacklo_epi8,
    _mm256_unpackhi_epi8,
    _mm256_unpacklo_epi16,
    _mm256_unpackhi_epi16,
    _mm256_dpbusd_epi32,
    _mm256_cvtepi32_ps,
    _mm256_fmadd_ps,
    _mm256_min_ps,
    _mm256_set1_ps,
    _mm256_cvtps_epi32,
    _mm256_packs_epi32,
    _mm256_packs_epi16,
    _mm256_max_epi8,
    _mm256_min_epi8,
    _mm256_xor_si256,
    _mm256_loadu_ps,
    _mm256_load_si256,
    __m256
);
depthwise!(
    xmm,
    __m128i,
    16,
    _mm_loadu_si128,
    _mm_storeu_si128,
    _mm_set1_epi8,
    _mm_unpacklo_epi8,
    _mm_unpackhi_epi8,
    _mm_unpacklo_epi16,
    _mm_unpackhi_epi16,
    _mm_dpbusd_epi32,
    _mm_cvtepi32_ps,
    _mm_fmadd_ps,
    _mm_min_ps,
    _mm_set1_ps,
    _mm_cvtps_epi32,
    _mm_packs_epi32,
    _mm_packs_epi16,
    _mm_max_epi8,
    _mm_min_epi8,
    _mm_xor_si128,
    _mm_loadu_ps,
    _mm_load_si128,
    __m128
);

/// Sixteen chains of 64 multiply-adds.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn peak(rounds: u64) -> u64 {
    let mut sums = [_mm512_setzero_si512(); 16];
    let (pixel, weight) = std::hint::black_box((_mm512_set1_epi8(1), _mm512_set1_epi8(1)));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, pixel, weight);
        }
    }
    std::hint::black_box(sums);
    16 * 64
}
