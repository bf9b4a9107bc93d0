//! x86 with 256-bit vectors: AVX2 alone, and with AVX-VNNI.
//!
//! The same kernels twice; they differ in the dot product of four bytes. AVX-VNNI has `vpdpbusd` and flips activations
//! as AVX-512 does (see [`super::avx512`]). AVX2 keeps them signed: `vpmaddubsw` wants one unsigned operand and adds
//! two products into 16 bits, which |x| * (w with the sign of x) keeps within 2 * 128 * 127; `vpmaddwd` by ones adds
//! the pairs. A weight of -128 has no opposite: layers that have one take a slower, exact way.
//!
//! Dense: an M x 16 tile of accumulators, two vectors a pixel, stays in the sixteen registers. Depthwise: see
//! [`super::x86`].

#![expect(clippy::indexing_slicing, reason = "arrays are sets of registers, indexed by constants once unrolled")]

use std::arch::x86_64::*;

use super::x86::{depthwise, depthwise_order, opaque};
use super::{Block, DEPTH, Dense, Depthwise, Isa, Kernels, LANES, Output, RowSpan, float, lanes};

/// True if this CPU and its operating system have all that the plain kernels use.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// True if they have AVX-VNNI too.
pub fn has_vnni() -> bool {
    is_available() && is_x86_feature_detected!("avxvnni")
}

/// Accumulator to channel: `packs` of two vectors takes four from each in turn.
fn order(_: usize, accumulator: usize) -> usize {
    let (vector, lane) = (accumulator / 8, accumulator % 8);
    8 * (lane / 4) + 4 * vector + lane % 4
}

/// sum + a . w in each 32-bit lane; no weight is -128.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_by_sign_256(sum: __m256i, a: __m256i, w: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(w, a));
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// As [`dot_by_sign_256`], of half the width.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_by_sign_128(sum: __m128i, a: __m128i, w: __m128i) -> __m128i {
    let pairs = _mm_maddubs_epi16(_mm_abs_epi8(a), _mm_sign_epi8(w, a));
    _mm_add_epi32(sum, _mm_madd_epi16(pairs, _mm_set1_epi16(1)))
}

/// sum + a . w in each 32-bit lane, for any weights.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_wide_256(sum: __m256i, a: __m256i, w: __m256i) -> __m256i {
    let half = |a, w| _mm256_madd_epi16(_mm256_cvtepi8_epi16(a), _mm256_cvtepi8_epi16(w));
    let low = half(_mm256_castsi256_si128(a), _mm256_castsi256_si128(w));
    let high = half(_mm256_extracti128_si256::<1>(a), _mm256_extracti128_si256::<1>(w));
    // The horizontal addition works within 128-bit lanes.
    _mm256_add_epi32(sum, _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(low, high)))
}

/// As [`dot_wide_256`], of half the width.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_wide_128(sum: __m128i, a: __m128i, w: __m128i) -> __m128i {
    let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(a), _mm256_cvtepi8_epi16(w));
    let (low, high) = (_mm256_castsi256_si128(products), _mm256_extracti128_si256::<1>(products));
    _mm_add_epi32(sum, _mm_hadd_epi32(low, high))
}

/// The kernels of one instruction set, for its dot products and those for layers with a weight of -128.
macro_rules! kernels {
    (
        $module:ident, $isa:expr, $features:literal, $flip:literal, $tile:literal,
        $dot256:ident, $dot128:ident, $wide256:ident, $wide128:ident
    ) => {
        pub mod $module {
            use super::*;

            pub const KERNELS: Kernels = Kernels {
                isa: $isa,
                flip: i8::cast_unsigned($flip),
                widths: &[1],
                order,
                depthwise_order,
                depthwise_widths: &[2, 1],
                column: 4,
                int16_sums: false,
                dense,
                depthwise,
                one_channel: None,
                lanes: lanes::AVX2,
                float: float::AVX2,
                peak,
            };

            /// Pixels of a tile.
            const M: usize = $tile;

            #[target_feature(enable = $features)]
            unsafe fn dense(layer: &Dense, span: &RowSpan) {
                for block in &layer.blocks {
                    // SAFETY: the caller's; each tile's pixels are the span's.
                    unsafe { tiles(layer, block, span) };
                }
            }

            /// All pixels of a span, M at a time across row ends; the last tile repeats its last pixel.
            #[target_feature(enable = $features)]
            unsafe fn tiles(layer: &Dense, block: &Block, span: &RowSpan) {
                let pixels = span.rows.len() * span.width;
                let mut pixel = 0;
                let (mut y, mut x) = (span.rows.start, 0);
                while pixel < pixels {
                    let (mut input, mut output) = ([span.input; M], [span.output; M]);
                    for m in 0..M {
                        input[m] = span.input.wrapping_add(y * span.in_row + x * span.in_pixel + block.input);
                        output[m] = span.output.wrapping_add(y * span.out_row + x * span.out_pixel);
                        pixel += 1;
                        if pixel < pixels {
                            x += 1;
                            if x == span.width {
                                (x, y) = (0, y + 1);
                            }
                        }
                    }
                    // SAFETY: the pointers are those of pixels of the span.
                    unsafe {
                        if layer.extreme {
                            tile::<true>(layer, block, &input, &output);
                        } else {
                            tile::<false>(layer, block, &input, &output);
                        }
                    }
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn tile<const EXTREME: bool>(
                layer: &Dense,
                block: &Block,
                input: &[*const u8; M],
                output: &[*mut u8; M],
            ) {
                // SAFETY: weights, bias and scale hold what the layer's shape says; every tap of these pixels is
                // readable.
                unsafe {
                    let start: *const __m256i = layer.bias.as_ptr().add(block.lane).cast();
                    let mut sums = [[_mm256_loadu_si256(start), _mm256_loadu_si256(start.add(1))]; M];
                    let mut weights: *const __m256i = layer.weights.as_ptr().add(block.weights).cast();
                    for tap in &layer.taps {
                        for step in 0..layer.depth {
                            let at = tap + step * DEPTH;
                            let w = [_mm256_load_si256(weights), _mm256_load_si256(weights.add(1))];
                            weights = weights.add(2);
                            for m in 0..M {
                                let pixel = _mm256_set1_epi32(input[m].add(at).cast::<i32>().read_unaligned());
                                for v in 0..2 {
                                    let dot = if EXTREME { $wide256 } else { $dot256 };
                                    sums[m][v] = dot(sums[m][v], pixel, w[v]);
                                }
                            }
                        }
                    }
                    let (scale, rest) = (layer.scale.as_ptr().add(block.lane), layer.rest.as_ptr().add(block.lane));
                    let (scale, rest) = (
                        [_mm256_loadu_ps(scale), _mm256_loadu_ps(scale.add(8))],
                        [_mm256_loadu_ps(rest), _mm256_loadu_ps(rest.add(8))],
                    );
                    for m in 0..M {
                        let value = [0, 1].map(|v| _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[m][v]), scale[v], rest[v]));
                        match layer.output {
                            Output::Int8 { low, high } => {
                                store_int8(value, layer.wide, low as i8, high as i8, output[m].add(block.lane));
                            }
                            Output::Float { low, high, channels } => {
                                store_float(value, low, high, channels, block.lane, output[m].cast());
                            }
                        }
                    }
                }
            }

            /// Rounded, half to even (MXCSR's default), and clamped; out of range becomes the least integer, so `wide`
            /// layers clamp above first.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn store_int8(value: [__m256; 2], wide: bool, low: i8, high: i8, to: *mut u8) {
                let round = |value| {
                    let value = if wide { _mm256_min_ps(value, _mm256_set1_ps(256.0)) } else { value };
                    _mm256_cvtps_epi32(value)
                };
                let words = _mm256_packs_epi32(round(value[0]), round(value[1]));
                let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                let bytes = _mm_max_epi8(_mm_min_epi8(bytes, _mm_set1_epi8(high)), _mm_set1_epi8(low));
                // SAFETY: the caller's: a block's lanes are writable.
                unsafe { _mm_storeu_si128(to.cast(), _mm_xor_si128(bytes, _mm_set1_epi8($flip))) };
            }

            /// Through memory, since the accumulators are not in the order of the channels: float layers are few and
            /// narrow.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn store_float(value: [__m256; 2], low: f32, high: f32, channels: usize, lane: usize, to: *mut f32) {
                let mut values = [0.0f32; LANES];
                for v in 0..2 {
                    let value = _mm256_min_ps(_mm256_max_ps(value[v], _mm256_set1_ps(low)), _mm256_set1_ps(high));
                    // SAFETY: the array has 16 values.
                    unsafe { _mm256_storeu_ps(values.as_mut_ptr().add(v * 8), value) };
                }
                for (i, value) in values.into_iter().enumerate() {
                    let channel = lane + order(1, i);
                    if channel < channels {
                        // SAFETY: the caller's: `channels` floats are writable.
                        unsafe { to.add(channel).write(value) };
                    }
                }
            }

            #[target_feature(enable = $features)]
            unsafe fn depthwise(layer: &Depthwise, span: &RowSpan) {
                for block in &layer.blocks {
                    // SAFETY: the caller's.
                    unsafe {
                        match (block.width, layer.extreme) {
                            (2, false) => ymm::rows(layer, block, span),
                            (_, false) => xmm::rows(layer, block, span),
                            (2, true) => ymm_wide::rows(layer, block, span),
                            (_, true) => xmm_wide::rows(layer, block, span),
                        }
                    }
                }
            }

            /// Eight chains of 32 multiply-adds, the weights from the first cache.
            #[target_feature(enable = $features)]
            unsafe fn peak(rounds: u64) -> u64 {
                let mut sums = [_mm256_setzero_si256(); 8];
                let weights = std::hint::black_box([_mm256_set1_epi8(1); 8]);
                for _ in 0..rounds {
                    // Opaque, or it would be computed once.
                    let pixel = std::hint::black_box(_mm256_set1_epi8(1));
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = $dot256(*sum, pixel, weight);
                    }
                }
                std::hint::black_box(sums);
                8 * 32
            }

            depthwise!(256, ymm, $features, $flip, $dot256);
            depthwise!(256, ymm_wide, $features, $flip, $wide256);
            depthwise!(128, xmm, $features, $flip, $dot128);
            depthwise!(128, xmm_wide, $features, $flip, $wide128);
        }
    };
}

kernels!(plain, Isa::Avx2, "avx2,fma", 0, 4, dot_by_sign_256, dot_by_sign_128, dot_wide_256, dot_wide_128);
kernels!(
    vnni,
    Isa::Avxvnni,
    "avx2,fma,avxvnni",
    -128,
    6,
    _mm256_dpbusd_avx_epi32,
    _mm_dpbusd_avx_epi32,
    _mm256_dpbusd_avx_epi32,
    _mm_dpbusd_avx_epi32
);

/// Those kernels, if this CPU can execute them.
#[cfg(test)]
pub fn reencoded() -> Option<&'static Kernels> {
    (is_available() && is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl"))
        .then_some(&reencoded::vnni::KERNELS)
}

/// The AVX-VNNI kernels with the same instructions in their AVX-512 encoding: what lets a CPU without AVX-VNNI test
/// them.
#[cfg(test)]
mod reencoded {
    use super::*;

    kernels!(
        vnni,
        Isa::Avxvnni,
        "avx2,fma,avx512vnni,avx512vl",
        -128,
        6,
        _mm256_dpbusd_epi32,
        _mm_dpbusd_epi32,
        _mm256_dpbusd_epi32,
        _mm_dpbusd_epi32
    );
}
