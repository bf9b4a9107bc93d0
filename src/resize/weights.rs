//! The coefficients of one axis: how much of which source pixels makes each target pixel.
//!
//! The filter is Pillow's BILINEAR: a triangle that reaches one target pixel to each side, at least one source pixel, sampled
//! at the centres of the source pixels and normalised (Pillow handbook, Concepts, Filters). Pillow rounds coefficients to 22
//! fractional bits; here they have as many as fit 16 bits, 14 to 22, because that doubles what a multiplication does.

/// Source pixels that make a target pixel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// The first.
    pub start: usize,
    /// How many, at least 1.
    pub taps: usize,
}

/// The coefficients of all target pixels of one axis.
#[derive(Debug)]
pub(super) struct Weights {
    spans: Vec<Span>,
    /// `stride` coefficients a span: those of its taps, then zeros.
    values: Vec<i16>,
    /// What `tripled` gives.
    #[cfg(target_arch = "x86_64")]
    tripled: Vec<[i16; 16]>,
    /// A multiple of [`GROUP`].
    pub stride: usize,
    /// Fractional bits of the coefficients.
    pub bits: u32,
}

/// Kernels take so many coefficients at once, or half as many.
pub(super) const GROUP: usize = 8;

/// Keeps sums below 2^31: 8 bits of pixel, 22 of coefficient, one to spare (Pillow's PRECISION_BITS).
const MAX_BITS: u32 = 22;

impl Weights {
    /// From `source` to `target` pixels, both at least 1.
    pub(super) fn bilinear(source: usize, target: usize) -> Self {
        let exact: Vec<(usize, Vec<f64>)> = (0..target).map(|index| triangle(source, target, index)).collect();
        let largest = exact.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
        let fixed = |value: f64, bits: u32| (value * f64::from(1u32 << bits)).round();
        let fits = |bits: &u32| fixed(largest, *bits) <= f64::from(i16::MAX);
        let bits = (1..=MAX_BITS).rev().find(fits).unwrap_or(1);
        let stride = exact.iter().map(|(_, values)| values.len()).max().unwrap_or(1).next_multiple_of(GROUP);
        let mut values = Vec::with_capacity(target * stride);
        for (_, exact) in &exact {
            values.extend(exact.iter().map(|&value| fixed(value, bits) as i16));
            values.resize(values.len().next_multiple_of(stride), 0);
        }
        let spans = exact.iter().map(|(start, values)| Span { start: *start, taps: values.len() }).collect();
        #[cfg(target_arch = "x86_64")]
        let triple = |&[a, b, c, d]: &[i16; 4]| [a, b, a, b, a, b, 0, 0, c, d, c, d, c, d, 0, 0];
        #[cfg(target_arch = "x86_64")]
        let tripled = values.as_chunks().0.iter().map(triple).collect();
        Self {
            spans,
            values,
            #[cfg(target_arch = "x86_64")]
            tripled,
            stride,
            bits,
        }
    }

    /// Each target pixel's source pixels, and as many coefficients.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Span, &[i16])> {
        self.padded().map(|(span, values)| (span, values.get(..span.taps).unwrap_or_default()))
    }

    /// The most source pixels that make a target pixel.
    pub(super) fn most_taps(&self) -> usize {
        self.spans.iter().map(|span| span.taps).max().unwrap_or(1)
    }

    /// For each target pixel its source pixels, and its coefficients as AVX2 takes them for RGB: of each four, both of the first two three times,
    /// and the same of the others.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn tripled(&self) -> impl Iterator<Item = (Span, &[[i16; 16]])> {
        self.spans.iter().copied().zip(self.tripled.chunks_exact(self.stride / 4))
    }

    /// The same with the zeros that fill the last group.
    #[inline(always)]
    pub(super) fn padded(&self) -> impl Iterator<Item = (Span, &[i16])> {
        self.spans.iter().copied().zip(self.values.chunks_exact(self.stride))
    }
}

/// The first source pixel that counts for a target pixel, and the coefficients from there on, which sum to 1.
fn triangle(source: usize, target: usize, index: usize) -> (usize, Vec<f64>) {
    let scale = source as f64 / target as f64;
    let reach = scale.max(1.0);
    let center = (index as f64 + 0.5) * scale;
    let height = |pixel: usize| 1.0 - (pixel as f64 + 0.5 - center).abs() / reach;
    let start = (center - reach + 0.5).max(0.0) as usize;
    let end = ((center + reach + 0.5) as usize).min(source);
    let mut heights: Vec<f64> = (start..end).map(|pixel| height(pixel).max(0.0)).collect();
    heights.truncate(heights.iter().rposition(|&height| height > 0.0).map_or(1, |last| last + 1));
    let sum: f64 = heights.iter().sum();
    (start, heights.iter().map(|height| height / sum).collect())
}
