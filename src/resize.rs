//! In: a gray or RGB picture. Out: its rows at another size, by anti-aliased bilinear convolution, as Pillow's BILINEAR
//! does it (never more than one grey level apart: tests/preprocess.rs).
//!
//! Everything is computed and allocated when the resizer is built; a picture costs no allocation. A target row is made
//! from the source rows that count (vertical pass, into one row of bytes), then from that row's pixels (horizontal
//! pass). Vertical first, because that pass runs over contiguous bytes, and only the target's rows are left for the
//! other one.
//!
//! What every kernel computes is `definition` in the tests, to the byte.

use weights::Weights;

pub use weights::Samples;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod weights;

/// Columns that a vertical kernel sums at once.
const BLOCK: usize = 64;
/// Bytes behind the last pixel that a horizontal kernel may load; their coefficients are zero.
const LOAD_SLACK: usize = 16;
/// Bytes behind the last pixel that a horizontal kernel may store.
const STORE_SLACK: usize = 1;

/// Width and height in pixels, at least 1 each.
pub type Size = (u32, u32);

/// Brings pictures of one size to another.
///
/// ```
/// use fcam::resize::Resizer;
///
/// let mut resizer = Resizer::new((4, 2), (2, 1), true); // gray, halved
/// let mut out = vec![];
/// resizer.run(&[10, 10, 20, 20, 10, 10, 20, 20], 4, |row| out.extend_from_slice(row));
/// assert_eq!(out, [11, 19]); // a triangle of twice the width: neighbours count a little
/// ```
#[derive(Debug)]
pub struct Resizer {
    kernel: Kernel,
    channels: usize,
    vertical: Weights,
    horizontal: Weights,
    /// A row of the source's width, between the passes; behind it zeros.
    between: Vec<u8>,
    row_bytes: usize,
    height: usize,
    out: Vec<u8>,
    out_bytes: usize,
}

impl Resizer {
    /// `gray` pictures have one byte a pixel, all others three.
    pub fn new(source: Size, target: Size, gray: bool) -> Self {
        Self::with_kernel(Kernel::detect(), source, target, gray)
    }

    /// For a plane of one byte a sample, of which several pixels may share one: its pixels across and down. The first
    /// byte given to [`Resizer::run`] or [`Resizer::row`] is the first of [`Samples::needed`].
    pub fn of_samples([across, down]: [&Samples; 2], target: Size) -> Self {
        let [width, height] = [target.0, target.1].map(|side| side.max(1) as usize);
        let horizontal = Weights::of_samples(across, width);
        let (vertical, sides) = (Weights::of_samples(down, height), (across.needed().len(), down.needed().len()));
        Self::of_weights(Kernel::detect(), [horizontal, vertical], sides, 1)
    }

    fn with_kernel(kernel: Kernel, source: Size, target: Size, gray: bool) -> Self {
        let [width, height, across, down] = [source.0, source.1, target.0, target.1].map(|side| side.max(1) as usize);
        let horizontal = Weights::bilinear(width, across);
        let axes = [if gray { horizontal } else { horizontal.triple() }, Weights::bilinear(height, down)];
        Self::of_weights(kernel, axes, (width, height), if gray { 1 } else { 3 })
    }

    fn of_weights(
        kernel: Kernel,
        [horizontal, vertical]: [Weights; 2],
        (width, height): (usize, usize),
        channels: usize,
    ) -> Self {
        let out_bytes = horizontal.count() * channels;
        Self {
            kernel,
            channels,
            between: vec![0; (width + horizontal.stride) * channels + LOAD_SLACK],
            vertical,
            horizontal,
            row_bytes: width * channels,
            height,
            out: vec![0; out_bytes + STORE_SLACK],
            out_bytes,
        }
    }

    /// Gives the target's rows to `each`, from the top. `bytes` starts with the first pixel and has `stride` bytes from
    /// row to row; the last row may end with its last pixel.
    pub fn run(&mut self, bytes: &[u8], stride: usize, mut each: impl FnMut(&[u8])) {
        for index in 0..self.vertical.count() {
            each(self.row(index, bytes, stride));
        }
    }

    /// One row of the target; empty below the last.
    pub fn row(&mut self, index: usize, bytes: &[u8], stride: usize) -> &[u8] {
        let Some((span, _)) = self.vertical.get(index) else { return &[] };
        self.row_of(index, Rows { bytes: bytes.get(span.start * stride..).unwrap_or_default(), stride })
    }

    /// One row of the target from the source rows that count.
    fn row_of(&mut self, index: usize, rows: Rows) -> &[u8] {
        let Self { kernel, channels, vertical, horizontal, between, row_bytes, out, out_bytes, .. } = self;
        let Some((_, weights)) = vertical.get(index) else { return &[] };
        kernel.vertical(rows, weights, vertical.bits, between.get_mut(..*row_bytes).unwrap_or_default());
        match channels {
            1 => kernel.horizontal_gray(between, horizontal, out.get_mut(..*out_bytes).unwrap_or_default()),
            _ => kernel.horizontal_rgb(between, horizontal, out),
        }
        out.get(..*out_bytes).unwrap_or_default()
    }
}

/// Rows that [`Resizer::run_made`] asks for at once.
const MADE: usize = 16;

impl Resizer {
    /// Bytes of the window that [`Resizer::run_made`] needs.
    pub fn window_bytes(&self) -> usize {
        (self.vertical.most_taps() + MADE) * self.row_bytes
    }

    /// The same for a picture whose rows are made when they are needed, so that they are still in the cache: `make` is
    /// given the number of the first row, and where some rows go, one after the other. `window` has
    /// [`Resizer::window_bytes`]; each row is made once, from the top.
    pub fn run_made(&mut self, window: &mut [u8], mut make: impl FnMut(usize, &mut [u8]), mut each: impl FnMut(&[u8])) {
        let stride = self.row_bytes;
        // The window holds the rows from `first` to `end`.
        let (mut first, mut end) = (0, 0);
        for index in 0..self.vertical.count() {
            let Some((span, _)) = self.vertical.get(index) else { return };
            while end < span.start + span.taps {
                let kept = end.saturating_sub(span.start);
                window.copy_within((end - first - kept) * stride..(end - first) * stride, 0);
                first = end - kept;
                let count = MADE.min(self.height - end);
                make(end, window.get_mut(kept * stride..(kept + count) * stride).unwrap_or_default());
                end += count;
            }
            let bytes = window.get((span.start - first) * stride..).unwrap_or_default();
            each(self.row_of(index, Rows { bytes, stride }));
        }
    }
}

/// Rows of a picture, from the first that counts.
#[derive(Debug, Clone, Copy)]
struct Rows<'a> {
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Columns of one row; black where the picture has none, which [`Resizer::run`]'s callers rule out.
    #[inline(always)]
    fn block(&self, row: usize, column: usize) -> &'a [u8; BLOCK] {
        self.bytes.get(row * self.stride + column..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; BLOCK])
    }

    fn pixel(&self, row: usize, column: usize) -> u8 {
        self.bytes.get(row * self.stride + column).copied().unwrap_or(0)
    }
}

/// Where the blocks of a row start: the last ends with the row, over the one before if need be. None if the row is
/// shorter.
#[inline(always)]
fn blocks(columns: usize) -> impl Iterator<Item = usize> {
    let last = columns.checked_sub(BLOCK);
    last.into_iter().flat_map(|last| (0..last).step_by(BLOCK).chain([last]))
}

/// Which instructions do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
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
    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            return Self::Avx2;
        }
        #[cfg(target_arch = "aarch64")]
        return Self::Neon;
        #[cfg(not(target_arch = "aarch64"))]
        Self::Portable
    }

    fn vertical(self, rows: Rows, weights: &[i16], bits: u32, out: &mut [u8]) {
        match self {
            Self::Portable => portable::vertical(rows, weights, bits, out),
            // SAFETY: every 64-bit ARM has NEON.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon::vertical(rows, weights, bits, out) },
            // SAFETY: this kernel is only made where the processor has AVX2.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::vertical(rows, weights, bits, out) },
        }
    }

    fn horizontal_rgb(self, row: &[u8], weights: &Weights, out: &mut [u8]) {
        match self {
            Self::Portable => portable::horizontal_rgb(row, weights, out),
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon::horizontal_rgb(row, weights, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::horizontal_rgb(row, weights, out) },
        }
    }

    fn horizontal_gray(self, row: &[u8], weights: &Weights, out: &mut [u8]) {
        match self {
            Self::Portable => portable::horizontal_gray(row, weights, out),
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon::horizontal_gray(row, weights, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::horizontal_gray(row, weights, out) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A pixel from others: what every kernel must give.
    fn weigh(pixels: impl Iterator<Item = u8>, weights: &[i16], bits: u32) -> u8 {
        let sum: i32 = pixels.zip(weights).map(|(pixel, &weight)| i32::from(pixel) * i32::from(weight)).sum();
        ((sum + (1 << (bits - 1))) >> bits).clamp(0, 255) as u8
    }

    /// The whole resize, one pixel after the other.
    fn definition(bytes: &[u8], stride: usize, source: Size, target: Size, channels: usize) -> Vec<u8> {
        let columns = source.0 as usize * channels;
        let vertical = Weights::bilinear(source.1 as usize, target.1 as usize);
        let horizontal = Weights::bilinear(source.0 as usize, target.0 as usize);
        let mut out = vec![];
        for (rows, weights) in vertical.iter() {
            let column = |x: usize| (rows.start..).map(move |y| bytes[y * stride + x]).take(weights.len());
            let row: Vec<u8> = (0..columns).map(|x| weigh(column(x), weights, vertical.bits)).collect();
            for (pixels, weights) in horizontal.iter() {
                let pixel = |c: usize| row[c..].iter().step_by(channels).skip(pixels.start).copied();
                out.extend((0..channels).map(|c| weigh(pixel(c), weights, horizontal.bits)));
            }
        }
        out
    }

    fn run(kernel: Kernel, bytes: &[u8], stride: usize, source: Size, target: Size, gray: bool) -> Vec<u8> {
        let mut resizer = Resizer::with_kernel(kernel, source, target, gray);
        let mut out = vec![];
        // Twice, because nothing may be left over from the picture before.
        for bytes in [&vec![255; bytes.len()], bytes] {
            out.clear();
            resizer.run(bytes, stride, |row| out.extend_from_slice(row));
        }
        out
    }

    proptest! {
        #[test]
        fn every_kernel_computes_the_definition(
            source in (1u32..200, 1u32..90), target in (1u32..120, 1u32..60), padding in 0usize..40, gray: bool,
            extremes: bool, seed: u32,
        ) {
            let channels = if gray { 1 } else { 3 };
            let stride = source.0 as usize * channels + padding;
            let mut state = seed;
            let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if extremes { (state as i32 >> 31) as u8 } else { (state >> 24) as u8 }
            }).take(stride * source.1 as usize).collect();
            bytes.truncate(bytes.len() - padding);
            let expected = definition(&bytes, stride, source, target, channels);
            for kernel in [Kernel::Portable, Kernel::detect()] {
                prop_assert_eq!(&run(kernel, &bytes, stride, source, target, gray), &expected, "{:?}", kernel);
            }
            let mut resizer = Resizer::new(source, target, gray);
            let (mut window, mut out, mut next) = (vec![9; resizer.window_bytes()], vec![], 0);
            let make = |row: usize, to: &mut [u8]| {
                assert_eq!(row, next, "each row once");
                for (to, from) in to.chunks_exact_mut(source.0 as usize * channels).zip(bytes.chunks(stride).skip(row)) {
                    to.copy_from_slice(&from[..source.0 as usize * channels]);
                    next += 1;
                }
            };
            resizer.run_made(&mut window, make, |row| out.extend_from_slice(row));
            prop_assert_eq!(&out, &expected);
        }
    }

    #[test]
    fn an_even_picture_stays_even() {
        for (source, target) in [((1000, 3), (7, 9)), ((16384, 1), (1, 16)), ((2, 700), (300, 300)), ((5, 5), (5, 5))] {
            for level in [0, 1, 127, 254, 255] {
                let bytes = vec![level; source.0 as usize * source.1 as usize];
                let out = run(Kernel::detect(), &bytes, source.0 as usize, source, target, true);
                assert!(out.iter().all(|&pixel| pixel == level), "{source:?} to {target:?} at {level}");
            }
        }
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let bytes: Vec<u8> = (0..60 * 7).map(|i| (i * 37 % 256) as u8).collect();
        assert_eq!(run(Kernel::detect(), &bytes, 60, (20, 7), (20, 7), false), bytes);
    }
}
