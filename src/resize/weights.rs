//! The coefficients of one axis: how much of which source pixels makes each target pixel.
//!
//! The filter is Pillow's BILINEAR: a triangle that reaches one target pixel to each side, at least one source pixel,
//! sampled at the centres of the source pixels and normalised (Pillow handbook, Concepts, Filters). Pillow rounds
//! coefficients to 22 fractional bits; here they have as many as fit 16 bits, 14 to 22, because that doubles what a
//! multiplication does.

use std::ops::Range;

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
    /// What `tripled` gives, after `triple`.
    #[cfg(target_arch = "x86_64")]
    tripled: Vec<[i16; 16]>,
    /// A multiple of [`GROUP`].
    pub stride: usize,
    /// Fractional bits of the coefficients.
    pub bits: u32,
}

/// Coefficients that kernels take at once; some take half as many.
pub(super) const GROUP: usize = 8;

/// Keeps sums below 2^31: 8 bits of pixel, 22 of coefficient, one to spare (Pillow's PRECISION_BITS).
const MAX_BITS: u32 = 22;

impl Weights {
    /// From `source` to `target` pixels, both at least 1.
    pub(super) fn bilinear(source: usize, target: usize) -> Self {
        Self::fixed(&(0..target).map(|index| triangle(source, target, index)).collect::<Vec<_>>())
    }

    /// From the samples of some pixels to `target` pixels, at least 1; sample 0 is the first of [`Samples::needed`].
    pub(super) fn of_samples(samples: &Samples, target: usize) -> Self {
        let of_target = |index| {
            let (start, values) = triangle(samples.pixels, target, index);
            samples.gather(samples.first + start, &values)
        };
        Self::fixed(&(0..target).map(of_target).collect::<Vec<_>>())
    }

    /// From the first pixel that counts and the coefficients from there on, for each target pixel.
    fn fixed(exact: &[(usize, Vec<f64>)]) -> Self {
        let largest = exact.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
        let fixed = |value: f64, bits: u32| (value * f64::from(1u32 << bits)).round();
        let fits = |bits: &u32| fixed(largest, *bits) <= f64::from(i16::MAX);
        let bits = (1..=MAX_BITS).rev().find(fits).unwrap_or(1);
        let stride = exact.iter().map(|(_, values)| values.len()).max().unwrap_or(1).next_multiple_of(GROUP);
        let mut values = Vec::with_capacity(exact.len() * stride);
        for (_, exact) in exact {
            values.extend(exact.iter().map(|&value| fixed(value, bits) as i16));
            values.resize(values.len().next_multiple_of(stride), 0);
        }
        let spans = exact.iter().map(|(start, values)| Span { start: *start, taps: values.len() }).collect();
        Self {
            spans,
            values,
            #[cfg(target_arch = "x86_64")]
            tripled: vec![],
            stride,
            bits,
        }
    }

    /// Makes what `tripled` gives.
    pub(super) fn triple(self) -> Self {
        #[cfg(target_arch = "x86_64")]
        let triple = |&[a, b, c, d]: &[i16; 4]| [a, b, a, b, a, b, 0, 0, c, d, c, d, c, d, 0, 0];
        Self {
            #[cfg(target_arch = "x86_64")]
            tripled: self.values.as_chunks().0.iter().map(triple).collect(),
            ..self
        }
    }

    /// A target pixel's source pixels, and as many coefficients.
    pub(super) fn get(&self, index: usize) -> Option<(Span, &[i16])> {
        let span = *self.spans.get(index)?;
        Some((span, self.values.get(index * self.stride..)?.get(..span.taps)?))
    }

    /// How many target pixels there are.
    pub(super) fn count(&self) -> usize {
        self.spans.len()
    }

    /// Each target pixel's source pixels, and as many coefficients.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Span, &[i16])> {
        self.padded().map(|(span, values)| (span, values.get(..span.taps).unwrap_or_default()))
    }

    /// The most source pixels that make a target pixel.
    pub(super) fn most_taps(&self) -> usize {
        self.spans.iter().map(|span| span.taps).max().unwrap_or(1)
    }

    /// For each target pixel its source pixels, and its coefficients as AVX2 takes them for RGB: of each four, both of
    /// the first two three times, and the same of the others.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn tripled(&self) -> impl Iterator<Item = (Span, &[[i16; 16]])> {
        self.spans.iter().copied().zip(self.tripled.chunks_exact(self.stride / 4))
    }

    /// Of four target pixels at once, but of those that are left over, their source pixels and coefficients with the
    /// zeros that fill the last group; `TAPS` is the stride.
    #[inline(always)]
    pub(super) fn fours<const TAPS: usize>(&self) -> impl Iterator<Item = [(Span, &[i16; TAPS]); 4]> {
        let spans = self.spans.as_chunks::<4>().0.iter();
        let values = self.values.as_chunks::<TAPS>().0.as_chunks::<4>().0.iter();
        spans.zip(values).map(|(&[a, b, c, d], [p, q, r, s])| [(a, p), (b, q), (c, r), (d, s)])
    }

    /// Each target pixel's source pixels and coefficients, with the zeros that fill the last group.
    #[inline(always)]
    pub(super) fn padded(&self) -> impl Iterator<Item = (Span, &[i16])> {
        self.spans.iter().copied().zip(self.values.chunks_exact(self.stride))
    }
}

/// Neighbouring pixels of an axis, and the samples that they are made of.
///
/// ```
/// use fcam::resize::Samples;
///
/// // The last 8 of 16 pixels; two pixels share a sample, and each takes a quarter of the one beside it.
/// let chroma = Samples { first: 8, pixels: 8, count: 8, factor: 2, smooth: true };
/// assert_eq!(chroma.needed(), 3..8);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Samples {
    /// The first pixel.
    pub first: usize,
    /// How many pixels, at least 1; all lie in the picture.
    pub pixels: usize,
    /// How many samples the picture has along this axis, at least 1.
    pub count: usize,
    /// How many pixels share a sample: 1, 2 or 4.
    pub factor: usize,
    /// Of two pixels that share a sample, each takes a quarter of the sample beside it, where there is one (libjpeg's
    /// triangle filter).
    pub smooth: bool,
}

impl Samples {
    /// The samples that count, of those of the picture.
    pub fn needed(&self) -> Range<usize> {
        let [first, last] =
            [self.first, self.first + self.pixels - 1].map(|pixel| self.of(pixel).map(|(sample, _)| sample));
        first.into_iter().fold(usize::MAX, usize::min)..last.into_iter().fold(0, usize::max) + 1
    }

    /// The samples of a pixel and their shares, which sum to 1.
    fn of(&self, pixel: usize) -> [(usize, f64); 2] {
        let last = self.count - 1;
        let nearest = pixel / self.factor;
        let beside = if pixel.is_multiple_of(2) { nearest.saturating_sub(1) } else { nearest + 1 };
        let share = if self.smooth && self.factor == 2 { 0.25 } else { 0.0 };
        let beside = if share > 0.0 { beside } else { nearest };
        [(nearest.min(last), 1.0 - share), (beside.min(last), share)]
    }

    /// The coefficients of pixels from `start` on as those of samples.
    fn gather(&self, start: usize, values: &[f64]) -> (usize, Vec<f64>) {
        let needed = Self { first: start, pixels: values.len(), ..*self }.needed();
        let mut gathered = vec![0.0; needed.len()];
        for (pixel, value) in (start..).zip(values) {
            for (sample, share) in self.of(pixel) {
                if let Some(sum) = gathered.get_mut(sample - needed.start) {
                    *sum += share * value;
                }
            }
        }
        (needed.start - self.needed().start, gathered)
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
