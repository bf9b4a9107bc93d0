//! x86 with AVX-512 VNNI: `vpdpbusd` multiplies four unsigned by four signed bytes into each 32-bit lane.
//!
//! Activations are stored with their top bit flipped (x + 128, unsigned); what that adds, 128 times the sum of the
//! weights, is taken back in the accumulator's start. The products fit: nothing saturates before the end.
//!
//! Dense: an M x (16 V) tile of accumulators stays in registers; a step loads V vectors of weights and broadcasts four
//! bytes of each of M pixels. M V = 24 keeps both dot-product ports of a core busy through their latency.
//!
//! Depthwise: see [`super::x86`].

#![expect(
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "arrays are sets of registers, indexed by constants once unrolled"
)]

use std::arch::x86_64::*;

use super::x86::{depthwise, depthwise_order, opaque};
use super::{Block, DEPTH, Dense, Depthwise, Isa, Kernels, OneChannel, Output, RowSpan, float, lanes};

pub const KERNELS: Kernels = Kernels {
    isa: Isa::Avx512vnni,
    flip: 0x80,
    widths: &[4, 3, 2, 1],
    order,
    depthwise_order,
    depthwise_widths: &[4, 2, 1],
    column: 4,
    int16_sums: false,
    dense,
    depthwise,
    one_channel: Some(one_channel),
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

// --- dense ----------------------------------------------------------------------------------------------------------

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn dense(layer: &Dense, span: &RowSpan) {
    for block in &layer.blocks {
        // SAFETY: the caller's; each tile's pixels are the span's.
        unsafe {
            match block.width {
                4 => tiles::<4, 6>(layer, block, span),
                3 => tiles::<3, 8>(layer, block, span),
                2 => tiles::<2, 12>(layer, block, span),
                _ => tiles::<1, 12>(layer, block, span),
            }
        }
    }
}

/// All pixels of a span, M at a time across row ends; the last tile repeats its last pixel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn tiles<const V: usize, const M: usize>(layer: &Dense, block: &Block, span: &RowSpan) {
    let mut left = span.rows.len() * span.width;
    if left == 0 {
        return;
    }
    // From the last pixel of a row to the first of the next.
    let (in_turn, out_turn) =
        (span.in_row.wrapping_sub(span.width * span.in_pixel), span.out_row.wrapping_sub(span.width * span.out_pixel));
    let mut from = span.input.wrapping_add(span.rows.start * span.in_row + block.input);
    let mut to = span.output.wrapping_add(span.rows.start * span.out_row);
    let mut x = span.width;
    while left > 0 {
        let mut input = [from; M];
        let mut output = [to; M];
        for m in 0..M {
            (input[m], output[m]) = (from, to);
            if left > 1 {
                left -= 1;
                (from, to) = (from.wrapping_add(span.in_pixel), to.wrapping_add(span.out_pixel));
                x -= 1;
                if x == 0 {
                    x = span.width;
                    (from, to) = (from.wrapping_add(in_turn), to.wrapping_add(out_turn));
                }
            } else if m == M - 1 {
                left = 0;
            }
        }
        // SAFETY: the pointers are those of pixels of the span.
        unsafe { tile::<V, M>(layer, block, &input, &output) };
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn tile<const V: usize, const M: usize>(
    layer: &Dense,
    block: &Block,
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

/// round(sum * scale + rest), half to even (MXCSR's default); out of range becomes the least integer, so `wide` layers
/// clamp above first.
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
    block: &Block,
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
    block: &Block,
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

/// Sixteen pixels at a time: each sums along its window into a vector of its own, and the sixteen vectors are added up
/// crosswise. The last tile of a row repeats pixels of the one before.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn one_channel(layer: &OneChannel, span: &RowSpan) {
    for y in span.rows.clone() {
        let mut x = 0;
        while x < span.width {
            // SAFETY: pixels x..x + n are the span's; a run is readable to the end of its last piece.
            unsafe {
                let n = (span.width - x).min(16);
                let input = span.input.add(y * span.in_row + x * span.in_pixel);
                let sums = window_sums(layer, input, span.in_pixel, n);
                let value = _mm512_cvtepi32_ps(_mm512_add_epi32(sums, _mm512_set1_epi32(layer.bias)));
                let value = _mm512_fmadd_ps(value, _mm512_set1_ps(layer.scale), _mm512_set1_ps(layer.rest));
                let value = _mm512_min_ps(_mm512_max_ps(value, _mm512_set1_ps(layer.low)), _mm512_set1_ps(layer.high));
                let output = span.output.add(y * span.out_row + x * span.out_pixel).cast::<f32>();
                _mm512_mask_storeu_ps(output, 0xffff >> (16 - n), value);
                x += n;
            }
        }
    }
}

/// The sums under the windows of `n` neighbouring pixels, at most 16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn window_sums(layer: &OneChannel, input: *const u8, pixel: usize, n: usize) -> __m512i {
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
unsafe fn depthwise(layer: &Depthwise, span: &RowSpan) {
    for block in &layer.blocks {
        // SAFETY: the caller's.
        unsafe {
            match block.width {
                4 => zmm::rows(layer, block, span),
                2 => ymm::rows(layer, block, span),
                _ => xmm::rows(layer, block, span),
            }
        }
    }
}

depthwise!(512, zmm, "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma", -128, _mm512_dpbusd_epi32);
depthwise!(256, ymm, "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma", -128, _mm256_dpbusd_epi32);
depthwise!(128, xmm, "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma", -128, _mm_dpbusd_epi32);

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
