//! In: the 64 coefficients of a block and their quantisation steps. Out: its 8 x 8 samples.
//!
//! Refuses coefficients that no samples of 8 bits make.
//!
//! The inverse DCT of Loeffler, Ligtenberg and Moschytz ("Practical fast 1-D DCT algorithms with 11 multiplications",
//! ICASSP 1989) in integers with 13 fractional bits, columns first and two bits more between the passes: what libjpeg
//! calls its accurate integer method, to the bit, and so what Pillow decodes to. Its products are multiplied out to
//! sums of two: integer sums have no order, and two products at once is what vector units do (VPMADDWD). Every kernel
//! computes what `portable` does.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;

/// Coefficients of a block as they are coded, in the order of [`place`]; never -32768, which has no positive
/// counterpart.
pub(super) type Block = [i16; 64];

/// What the coefficients of a component are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    /// In the order of [`place`], as is the next.
    steps: [i16; 64],
    /// How large each coefficient may be before it is multiplied.
    most: [i16; 64],
}

/// The largest mean and the largest of the other coefficients, apart from what quantisation adds. Samples of 8 bits
/// make 1024 at most; encoders that let samples overshoot, to keep edges clean, make a quarter more beside the mean.
/// What is larger was never encoded: most often, bytes are missing before it.
const LARGEST_MEAN: u16 = 1024;
const LARGEST: u16 = 1280;

impl Steps {
    /// From steps in zigzag order, at least 1 each.
    pub(super) fn new(zigzag: &[u16; 64]) -> Self {
        let mut new = Self { steps: [0; 64], most: [0; 64] };
        for (index, (&step, &place)) in zigzag.iter().zip(&ZIGZAG).enumerate() {
            let largest = if index == 0 { LARGEST_MEAN } else { LARGEST };
            // A coefficient of 1 was half a step at least.
            let most = if step > 2 * largest { 0 } else { (largest + step) / step.max(1) };
            if let (Some(to_step), Some(to_most)) =
                (new.steps.get_mut(usize::from(place)), new.most.get_mut(usize::from(place)))
            {
                *to_step = if most == 0 { 0 } else { step.cast_signed() };
                *to_most = most.cast_signed();
            }
        }
        new
    }
}

/// Where a coefficient is put: those of two rows that are multiplied together stand side by side. The rows are 0 and 4,
/// 2 and 6, 7 and 1, 5 and 3; for each column there is one of each.
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

/// Where coefficients in zigzag order (T.81, figure A.6) are put.
#[allow(clippy::indexing_slicing)] // at compile time, where a slip is an error of the compiler's
pub(super) const ZIGZAG: [u8; 64] = {
    let mut places = [0; 64];
    let (mut row, mut column, mut index) = (0, 0, 0);
    while index < 64 {
        places[index] = place(row, column) as u8;
        // Up and right on even diagonals, down and left on odd ones; along the edge where there is one.
        match (row + column) % 2 {
            0 if column == 7 => row += 1,
            0 if row == 0 => column += 1,
            0 => (row, column) = (row - 1, column + 1),
            _ if row == 7 => column += 1,
            _ if column == 0 => row += 1,
            _ => (row, column) = (row + 1, column - 1),
        }
        index += 1;
    }
    places
};

/// Fractional bits of the factors.
const FACTOR_BITS: u32 = 13;
/// Fractional bits between the passes.
const PASS_BITS: u32 = 2;

/// Of coefficients 2 and 6, and then of 7 and 1, and of 5 and 3, for each of the sums that they make. They are sums of
/// the paper's factors in 1/8192: 0.541196100 = 4433, 0.765366865 = 6270, 1.847759065 = 15137, 1.175875602 = 9633,
/// 0.298631336 = 2446, 2.053119869 = 16819, 3.072711026 = 25172, 1.501321110 = 12299, 0.899976223 = 7373, 2.562915447 =
/// 20995, 1.961570560 = 16069, 0.390180644 = 3196.
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
    /// What the others compute; the tests' reference where it is not the fallback.
    #[cfg_attr(target_arch = "aarch64", allow(dead_code))]
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

    /// Writes the samples of a block, with `stride` bytes from row to row; nothing if `out` has no room for them. False
    /// if a coefficient is too large.
    #[inline(always)]
    pub(super) fn run(self, block: &Block, steps: &Steps, out: &mut [u8], stride: usize) -> bool {
        match self {
            Self::Portable => portable(block, steps, out, stride),
            // SAFETY: this kernel is only made where the processor has AVX2.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::run(block, steps, out, stride) },
            // SAFETY: every 64-bit ARM has NEON.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon::run(block, steps, out, stride) },
        }
    }
}

/// The samples of a block that has a mean alone. False if it is too large.
#[inline(always)]
pub(super) fn flat(mean: i16, steps: &Steps, out: &mut [u8], stride: usize) -> bool {
    let sample = (((i32::from(mean) * i32::from(steps.steps[0]) + 4) >> 3) + 128).clamp(0, 255) as u8;
    for row in out.chunks_mut(stride.max(8)).take(8) {
        if let Some(row) = row.first_chunk_mut() {
            *row = [sample; 8];
        }
    }
    mean.unsigned_abs() <= steps.most[0].unsigned_abs()
}

fn portable(block: &Block, steps: &Steps, out: &mut [u8], stride: usize) -> bool {
    let mut fits = true;
    let mut block = *block;
    for ((value, step), most) in block.iter_mut().zip(&steps.steps).zip(&steps.most) {
        fits &= value.unsigned_abs() <= most.unsigned_abs();
        *value = value.wrapping_mul(*step);
    }
    transform(&block, out, stride);
    fits
}

fn transform(block: &Block, out: &mut [u8], stride: usize) {
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
    (sum + (1 << (bits - 1))) >> bits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples, and if the coefficients fit, by steps of which those of other coefficients are `step`.
    fn samples(kernel: Kernel, block: &Block, steps: &Steps, stride: usize) -> (Vec<u8>, bool) {
        let mut out = vec![7; 7 * stride + 8];
        let fits = kernel.run(block, steps, &mut out, stride);
        (out, fits)
    }

    fn random(seed: u64) -> impl FnMut() -> u32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        }
    }

    #[test]
    fn every_kernel_computes_the_definition() {
        let mut next = random(1);
        let mut fit = 0;
        for round in 0..20_000 {
            let mut block = [0i16; 64];
            let (count, shift) = (next() as usize % 64 + 1, 16 + round % 16);
            for _ in 0..count {
                block[next() as usize % 64] = match round % 5 {
                    1 | 2 => (next() % 5) as i16 - 2,
                    0 if next().is_multiple_of(2) => -i16::MAX,
                    0 => i16::MAX,
                    _ => (((next() << 1) as i32 >> shift) as i16).max(-i16::MAX),
                };
            }
            let least = if round % 2 == 0 { 15 } else { 22 };
            let steps = Steps::new(&std::array::from_fn(|_| (next() >> (least + next() % 9)) as u16 | 1));
            let stride = 8 + round as usize % 9;
            let found = samples(Kernel::detect(), &block, &steps, stride);
            assert_eq!(found, samples(Kernel::Portable, &block, &steps, stride), "{block:?} {steps:?}");
            fit += u32::from(found.1);
        }
        assert!((2000..18_000).contains(&fit), "both kinds were tried: {fit}");
    }

    #[test]
    fn a_mean_alone_is_flat() {
        for step in [1, 2, 16, 255, 1000, 2048, 2049, 65535] {
            let steps = Steps::new(&[step; 64]);
            for mean in -i16::MAX..=i16::MAX {
                let mut block = [0; 64];
                block[place(0, 0)] = mean;
                let mut out = vec![0; 64];
                let fits = flat(mean, &steps, &mut out, 8);
                assert_eq!(
                    fits,
                    i32::from(mean).abs() * i32::from(step) <= 1024 + i32::from(step) && (step <= 2048 || mean == 0)
                );
                if fits {
                    assert_eq!((out, fits), samples(Kernel::Portable, &block, &steps, 8));
                }
            }
        }
    }

    /// From the definition, T.81, A.3.3, in floating point: the integers are never more than one level from it.
    #[test]
    fn it_is_the_inverse_cosine_transform() {
        let mut next = random(2);
        for _ in 0..200 {
            let coefficients: [[i16; 8]; 8] = std::array::from_fn(|_| std::array::from_fn(|_| (next() as i8).into()));
            let mut block = [0; 64];
            for (row, values) in coefficients.iter().enumerate() {
                for (column, value) in values.iter().enumerate() {
                    block[place(row, column)] = *value;
                }
            }
            let (found, fits) = samples(Kernel::detect(), &block, &Steps::new(&[1; 64]), 8);
            assert!(fits);
            for (y, x) in (0..8).flat_map(|y| (0..8).map(move |x| (y, x))) {
                let cosine = |at: usize, k: usize| {
                    let scale = if k == 0 { 0.5f64.sqrt() } else { 1.0 };
                    scale * ((2 * at + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos()
                };
                let terms =
                    (0..64).map(|i| f64::from(coefficients[i / 8][i % 8]) * cosine(y, i / 8) * cosine(x, i % 8));
                let exact = (terms.sum::<f64>() / 4.0 + 128.0).clamp(0.0, 255.0);
                assert!((f64::from(found[y * 8 + x]) - exact).abs() <= 1.0);
            }
        }
    }

    #[test]
    fn the_zigzag_is_that_of_the_standard() {
        // T.81, figure A.6, its first, third and last row.
        for (row, indices) in [
            (0, [0, 1, 5, 6, 14, 15, 27, 28]),
            (2, [3, 8, 12, 17, 25, 30, 41, 43]),
            (7, [35, 36, 48, 49, 57, 58, 62, 63]),
        ] {
            for (column, index) in indices.into_iter().enumerate() {
                assert_eq!(usize::from(ZIGZAG[index]), place(row, column), "{row} {column}");
            }
        }
    }
}
