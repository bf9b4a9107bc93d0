//! What the x86 kernels share: the depthwise kernel, written once for vectors of each width and compiled for each
//! instruction set.
//!
//! Four bytes of a 32-bit lane are four rows of one column of one channel. A column is interleaved once (unpack, 8
//! shuffles for four vectors) and used by every output pixel whose window has it. Unpack and pack work within 128-bit
//! lanes, so one undoes the order of the other.

/// Four vectors of `4 * width` accumulators, each with four channels of each 128-bit lane.
pub fn depthwise_order(width: usize, accumulator: usize) -> usize {
    let (vector, lane) = (accumulator / (4 * width), accumulator % (4 * width));
    16 * (lane / 4) + 4 * vector + lane % 4
}

/// The same pointer, of which the compiler knows nothing: else it keeps an address for every tap from pixel to pixel,
/// in memory.
#[inline(always)]
pub fn opaque(pointer: *mut u8) -> *mut u8 {
    let mut address = pointer.addr();
    // SAFETY: no instruction.
    unsafe { std::arch::asm!("/* {0} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags)) };
    pointer.with_addr(address)
}

/// The depthwise kernel for vectors of one width: a module of that name, for these features, values stored with their
/// bits flipped by `flip`, and this dot product of four bytes.
macro_rules! depthwise {
    (512, $module:ident, $features:literal, $flip:literal, $dot:ident) => {
        depthwise!(
            $module, $features, $flip, __m512i, 64, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_set1_epi8, _mm512_unpacklo_epi8,
            _mm512_unpackhi_epi8, _mm512_unpacklo_epi16, _mm512_unpackhi_epi16, $dot, _mm512_cvtepi32_ps,
            _mm512_fmadd_ps, _mm512_min_ps, _mm512_set1_ps, _mm512_cvtps_epi32, _mm512_packs_epi32, _mm512_packs_epi16,
            _mm512_max_epi8, _mm512_min_epi8, _mm512_xor_si512, _mm512_loadu_ps, _mm512_load_si512, __m512
        );
    };
    (256, $module:ident, $features:literal, $flip:literal, $dot:ident) => {
        depthwise!(
            $module, $features, $flip, __m256i, 32, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_set1_epi8, _mm256_unpacklo_epi8,
            _mm256_unpackhi_epi8, _mm256_unpacklo_epi16, _mm256_unpackhi_epi16, $dot, _mm256_cvtepi32_ps,
            _mm256_fmadd_ps, _mm256_min_ps, _mm256_set1_ps, _mm256_cvtps_epi32, _mm256_packs_epi32, _mm256_packs_epi16,
            _mm256_max_epi8, _mm256_min_epi8, _mm256_xor_si256, _mm256_loadu_ps, _mm256_load_si256, __m256
        );
    };
    (128, $module:ident, $features:literal, $flip:literal, $dot:ident) => {
        depthwise!(
            $module, $features, $flip, __m128i, 16, _mm_loadu_si128, _mm_storeu_si128, _mm_set1_epi8, _mm_unpacklo_epi8, _mm_unpackhi_epi8,
            _mm_unpacklo_epi16, _mm_unpackhi_epi16, $dot, _mm_cvtepi32_ps, _mm_fmadd_ps, _mm_min_ps, _mm_set1_ps,
            _mm_cvtps_epi32, _mm_packs_epi32, _mm_packs_epi16, _mm_max_epi8, _mm_min_epi8, _mm_xor_si128, _mm_loadu_ps,
            _mm_load_si128, __m128
        );
    };
    (
        $module:ident, $features:literal, $flip:literal, $vector:ty, $bytes:literal, $load:ident, $store:ident, $set8:ident, $lo8:ident, $hi8:ident, $lo16:ident, $hi16:ident,
        $dot:ident, $float:ident, $muladd:ident, $min:ident, $set:ident, $round:ident, $pack32:ident, $pack16:ident, $max8:ident, $min8:ident,
        $xor:ident, $loadf:ident, $aligned:ident, $floats:ty
    ) => {
        mod $module {
            use super::*;

            /// Bytes of the weights of one column of one group of rows.
            const COLUMN: usize = 4 * $bytes;

            #[target_feature(enable = $features)]
            pub unsafe fn rows(layer: &Depthwise, block: &Block, span: &RowSpan) {
                for y in span.rows.clone() {
                    // SAFETY: y is a row of the span; all that follows stays in its pixels.
                    unsafe {
                        let input = span.input.add(y * span.in_row + block.lane);
                        let output = span.output.add(y * span.out_row + block.lane);
                        match (layer.rows, layer.columns, layer.stride) {
                            (3, 3, 1) => row_of_three::<1>(layer, block, span, input, output),
                            (3, 3, 2) => row_of_three::<2>(layer, block, span, input, output),
                            (5, 5, 1) => row_of_five::<1>(layer, block, span, input, output),
                            (5, 5, 2) => row_of_five::<2>(layer, block, span, input, output),
                            _ => any(layer, block, span, input, output),
                        }
                    }
                }
            }

            /// One output row, four pixels at a time. Not inlined: each window has registers enough for itself alone.
            #[inline(never)]
            #[target_feature(enable = $features)]
            unsafe fn row_of_three<const S: usize>(
                layer: &Depthwise, block: &Block, span: &RowSpan, input: *const u8, output: *mut u8,
            ) {
                const T: usize = 4;
                let mut x = 0;
                // SAFETY: pixels x..x + T are the span's.
                unsafe {
                    while x + T <= span.width {
                        let (from, to) = (input.add(x * span.in_pixel), output.add(x * span.out_pixel));
                        three::<S, T>(layer, block, from, to, span.out_pixel);
                        x += T;
                    }
                    while x < span.width {
                        let (from, to) = (input.add(x * span.in_pixel), output.add(x * span.out_pixel));
                        three::<S, 1>(layer, block, from, to, span.out_pixel);
                        x += 1;
                    }
                }
            }

            /// T neighbouring output pixels under 3 x 3: each column is interleaved once, and all is in registers.
            #[inline]
            #[target_feature(enable = $features)]
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
            #[target_feature(enable = $features)]
            unsafe fn row_of_five<const S: usize>(
                layer: &Depthwise, block: &Block, span: &RowSpan, input: *const u8, output: *mut u8,
            ) {
                let mut x = 0;
                // SAFETY: each call's pixels are the span's.
                unsafe {
                    while x < span.width {
                        let (from, to) = (input.add(x * span.in_pixel), output.add(x * span.out_pixel));
                        x += match span.width - x {
                            8.. => five::<S, 8>(layer, block, from, to, span.out_pixel),
                            4.. => five::<S, 4>(layer, block, from, to, span.out_pixel),
                            _ => five::<S, 1>(layer, block, from, to, span.out_pixel),
                        };
                    }
                }
            }

            /// T neighbouring output pixels under 5 x 5; says how many. The columns do not fit into registers, nor do
            /// the weights: the columns are interleaved into memory that stays in the first cache, and a quarter of the
            /// channels at a time has its ten weights and T sums in registers.
            #[inline(never)]
            #[target_feature(enable = $features)]
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
            #[target_feature(enable = $features)]
            unsafe fn any(layer: &Depthwise, block: &Block, span: &RowSpan, input: *const u8, output: *mut u8) {
                // SAFETY: as above.
                unsafe {
                    for x in 0..span.width {
                        let mut weights = layer.weights.as_ptr().add(block.weights);
                        let mut sums = start(layer, block);
                        for group in (0..layer.rows).step_by(4) {
                            for step in 0..layer.columns {
                                let at = input.add(x * span.in_pixel + group * layer.row + step * layer.column);
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
                        finish(layer, block, sums, output.add(x * span.out_pixel));
                    }
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn start(layer: &Depthwise, block: &Block) -> [$vector; 4] {
                // SAFETY: the bias has one value for each accumulator.
                unsafe {
                    let bias = layer.bias.as_ptr().add(block.lane);
                    [0, 1, 2, 3].map(|j| $load(bias.add(j * $bytes / 4).cast()))
                }
            }

            /// Up to four rows of one column, interleaved: four bytes of each 32-bit lane are the rows of one channel.
            /// Rows that are not there are copies of others, which meet weights of zero.
            #[inline]
            #[target_feature(enable = $features)]
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
            #[target_feature(enable = $features)]
            unsafe fn accumulate(sums: &mut [$vector; 4], taps: &[$vector; 4], weights: *const u8) {
                // SAFETY: the caller's: a column's weights follow.
                unsafe {
                    for j in 0..4 {
                        sums[j] = $dot(sums[j], taps[j], $load(weights.add(j * $bytes).cast()));
                    }
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
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
            #[target_feature(enable = $features)]
            fn round(layer: &Depthwise, sum: $vector, scale: $floats, rest: $floats) -> $vector {
                let mut value = $muladd($float(sum), scale, rest);
                if layer.wide {
                    value = $min(value, $set(256.0));
                }
                $round(value)
            }

            /// The four vectors of a pixel as bytes in the order of the channels, clamped and stored.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn pack(layer: &Depthwise, q: [$vector; 4], to: *mut u8) {
                let bytes = $pack16($pack32(q[0], q[1]), $pack32(q[2], q[3]));
                let bytes = $max8($min8(bytes, $set8(layer.high as i8)), $set8(layer.low as i8));
                // SAFETY: the block's lanes are writable at `to`.
                unsafe { $store(to.cast(), $xor(bytes, $set8($flip))) };
            }
        }
    };
}

pub(super) use depthwise;
