//! In: the 64 coefficients of a block, multiplied by their quantisation steps. Out: its 8 x 8 samples.
//!
//! The inverse DCT of Loeffler, Ligtenberg and Moschytz ("Practical fast 1-D DCT algorithms with 11 multiplications", ICASSP 1989) in integers
//! with 13 fractional bits, columns first and two bits more between the passes: what libjpeg calls its accurate integer method, to the bit, and
//! so what Pillow decodes to. Its products are multiplied out to sums of two: integer sums have no order, and two products at once is what
//! vector units do (VPMADDWD). Every kernel computes what [`portable`] does for any 16-bit coefficients.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;

/// Coefficients of a block, in the order of [`place`].
pub(super) type Block = [i16; 64];

/// Where a coefficient is put: those of two rows that are multiplied together stand side by side. The rows are 0 and 4, 2 and 6, 7 and 1,
/// 5 and 3; for each column there is one of each.
pub(super) const fn place(row: usize, column: usize) -> usize {
    let (pair, second) = match row {
        0 => (0, 0),
        4 => (0, 1),
        2 => (1, 0),
        6 => (1, 1),
        7 => (2, 0),
        1 => (2, 1),
        5 => (3, 0),
        _ => (3, 1),
    };
    pair * 16 + column * 2 + second
}

/// Fractional bits of the factors.
const FACTOR_BITS: u32 = 13;
/// Fractional bits between the passes.
const PASS_BITS: u32 = 2;

/// Of coefficients 2 and 6, and then of 7 and 1, and of 5 and 3, for each of the sums that they make. They are sums of the paper's factors in
/// 1/8192: 0.541196100 = 4433, 0.765366865 = 6270, 1.847759065 = 15137, 1.175875602 = 9633, 0.298631336 = 2446, 2.053119869 = 16819,
/// 3.072711026 = 25172, 1.501321110 = 12299, 0.899976223 = 7373, 2.562915447 = 20995, 1.961570560 = 16069, 0.390180644 = 3196.
const EVEN: [[i16; 2]; 2] = [[4433, 4433 - 15137], [4433 + 6270, 4433]];
const ODD_71: [[i16; 2]; 4] = [
    [9633 - 16069 - 7373 + 2446, 9633 - 7373],
    [9633, 9633 - 3196],
    [9633 - 16069, 9633],
    [9633 - 7373, 9633 - 3196 - 7373 + 12299],
];
const ODD_53: [[i16; 2]; 4] = [
    [9633, 9633 - 16069],
    [9633 - 3196 - 20995 + 16819, 9633 - 20995],
    [9633 - 20995, 9633 - 16069 - 20995 + 25172],
    [9633 - 3196, 9633],
];

/// Which instructions do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Portable,
    /// Made by [`Kernel::detect`] alone.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Kernel {
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2") {
            return Self::Avx2;
        }
        #[cfg(target_arch = "aarch64")]
        return Self::Neon;
        #[cfg(not(target_arch = "aarch64"))]
        Self::Portable
    }

    /// Writes the samples of a block, with `stride` bytes from row to row; nothing if `out` has no room for them.
    #[inline(always)]
    pub(super) fn run(self, block: &Block, out: &mut [u8], stride: usize) {
        match self {
            Self::Portable => portable(block, out, stride),
            // SAFETY: this kernel is only made where the processor has AVX2.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::run(block, out, stride) },
            // SAFETY: every 64-bit ARM has NEON.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon::run(block, out, stride) },
        }
    }
}

/// The samples of a block that has a mean alone.
#[inline(always)]
pub(super) fn flat(mean: i16, out: &mut [u8], stride: usize) {
    let sample = ((i32::from(mean) + 4 >> 3) + 128).clamp(0, 255) as u8;
    for row in out.chunks_mut(stride.max(8)).take(8) {
        if let Some(row) = row.first_chunk_mut() {
            *row = [sample; 8];
        }
    }
}

fn portable(block: &Block, out: &mut [u8], stride: usize) {
    let &[a, b, c, d] = block.as_chunks::<16>().0 else { return };
    let [a, b, c, d] = [&a, &b, &c, &d].map(|pairs| pairs.as_chunks::<2>().0.iter());
    let mut columns = [[0i16; 8]; 8];
    for (column, (((a, b), c), d)) in columns.iter_mut().zip(a.zip(b).zip(c).zip(d)) {
        *column = pass([*a, *b, *c, *d]).map(|sum| descale(sum, FACTOR_BITS - PASS_BITS).clamp(-32768, 32767) as i16);
    }
    for (index, out) in out.chunks_mut(stride.max(8)).take(8).enumerate() {
        let [a, b, c, d, e, f, g, h] = columns.each_ref().map(|column| column.get(index).copied().unwrap_or_default());
        let sums = pass([[a, e], [c, g], [h, b], [f, d]]);
        if let Some(out) = out.first_chunk_mut() {
            *out = sums.map(|sum| (descale(sum, FACTOR_BITS + PASS_BITS + 3) + 128).clamp(0, 255) as u8);
        }
    }
}

/// One dimension: coefficients 0 and 4, 2 and 6, 7 and 1, 5 and 3. The sums stay below 2^31 for any of 16 bits.
fn pass([both, even, odd_71, odd_53]: [[i16; 2]; 4]) -> [i32; 8] {
    let dot = |[a, b]: [i16; 2], [f, g]: [i16; 2]| i32::from(a) * i32::from(f) + i32::from(b) * i32::from(g);
    let one = 1 << FACTOR_BITS;
    let [sum, difference] = [dot(both, [one, one]), dot(both, [one, -one])];
    let [minus, plus] = EVEN.map(|factors| dot(even, factors));
    let evens = [sum + plus, difference + minus, difference - minus, sum - plus];
    let ([k, l, m, n], [w, x, y, z]) = (ODD_71, ODD_53);
    let odd = |of_71, of_53| dot(odd_71, of_71) + dot(odd_53, of_53);
    let odds = [odd(k, w), odd(l, x), odd(m, y), odd(n, z)];
    butterfly(evens, odds)
}

fn butterfly([a, b, c, d]: [i32; 4], [e, f, g, h]: [i32; 4]) -> [i32; 8] {
    [a + h, b + g, c + f, d + e, d - e, c - f, b - g, a - h]
}

fn descale(sum: i32, bits: u32) -> i32 {
    sum + (1 << (bits - 1)) >> bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(kernel: Kernel, block: &Block, stride: usize) -> Vec<u8> {
        let mut out = vec![7; 7 * stride + 8];
        kernel.run(block, &mut out, stride);
        out
    }

    #[test]
    fn every_kernel_computes_the_definition() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        for round in 0..20_000 {
            let mut block = [0i16; 64];
            let (count, shift) = (next() as usize % 64 + 1, 16 + round % 16);
            for _ in 0..count {
                block[next() as usize % 64] = match round % 5 {
                    0 if next() % 2 == 0 => i16::MIN,
                    0 => i16::MAX,
                    _ => ((next() << 1) as i32 >> shift) as i16,
                };
            }
            let stride = 8 + round as usize % 9;
            assert_eq!(samples(Kernel::detect(), &block, stride), samples(Kernel::Portable, &block, stride), "{block:?}");
        }
    }

    #[test]
    fn a_mean_alone_is_flat() {
        for mean in i16::MIN..=i16::MAX {
            let mut block = [0; 64];
            block[place(0, 0)] = mean;
            let mut out = [0; 64];
            flat(mean, &mut out, 8);
            assert_eq!(out.as_slice(), samples(Kernel::Portable, &block, 8));
        }
    }

    /// From the definition, T.81, A.3.3, in floating point: the integers are never more than one level from it.
    #[test]
    fn it_is_the_inverse_cosine_transform() {
        let mut state = 1u32;
        for _ in 0..200 {
            let mut coefficients = [[0i16; 8]; 8];
            for value in coefficients.iter_mut().flatten() {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *value = (state as i32 >> 24) as i16;
            }
            let mut block = [0; 64];
            for (row, values) in coefficients.iter().enumerate() {
                for (column, value) in values.iter().enumerate() {
                    block[place(row, column)] = *value;
                }
            }
            let found = samples(Kernel::detect(), &block, 8);
            for (y, x) in (0..8).flat_map(|y| (0..8).map(move |x| (y, x))) {
                let cosine = |at: usize, k: usize| {
                    let scale = if k == 0 { 0.5f64.sqrt() } else { 1.0 };
                    scale * ((2 * at + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos()
                };
                let terms = (0..64).map(|i| f64::from(coefficients[i / 8][i % 8]) * cosine(y, i / 8) * cosine(x, i % 8));
                let exact = (terms.sum::<f64>() / 4.0 + 128.0).clamp(0.0, 255.0);
                assert!((f64::from(found[y * 8 + x]) - exact).abs() <= 1.0);
            }
        }
    }
}
