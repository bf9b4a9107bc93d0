//! In: the planes of a JPEG picture. Out: rows of RGB pixels, or parts of them.
//!
//! Chroma at half resolution is brought to that of luma by a triangle filter, three quarters of the nearer sample and one of the farther, with
//! the roundings of libjpeg; other factors repeat samples. Colours are those of JFIF (ITU-T T.871: BT.601, full range) in 16 fractional bits. All of
//! it is to the bit what libjpeg-turbo gives, up to the edges, where the last true sample stands for those beyond.

use crate::camera::{Geometry, PixelFormat};

/// Pixels of a row that are made at once; even, so that each block begins with a sample of chroma.
const BLOCK: usize = 256;

/// How many pixels share a sample, across and down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sampling {
    pub(crate) across: usize,
    pub(crate) down: usize,
}

impl Sampling {
    /// Of the chroma of a planar JPEG format; none for other formats.
    pub(crate) fn of(format: PixelFormat) -> Option<Self> {
        let (across, down) = match format {
            PixelFormat::Yuvj420 => (2, 2),
            PixelFormat::Yuvj422 => (2, 1),
            PixelFormat::Yuvj440 => (1, 2),
            PixelFormat::Yuvj444 => (1, 1),
            _ => return None,
        };
        Some(Self { across, down })
    }
}

/// A plane of samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plane<'a> {
    pub(crate) samples: &'a [u8],
    /// Bytes from row to row.
    pub(crate) stride: usize,
    /// Samples across and down, without padding.
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) sampling: Sampling,
}

/// The planes of a picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planes<'a> {
    pub(crate) parts: [Plane<'a>; 3],
    /// True if they are luma and chroma, false if they are red, green and blue.
    pub(crate) luma: bool,
}

impl<'a> Planes<'a> {
    /// Those of a frame; none if its format is not a planar one of JPEG.
    pub(crate) fn of(bytes: &'a [u8], geometry: &Geometry) -> Option<Self> {
        let sampling = Sampling::of(geometry.format)?;
        let (width, height) = (geometry.width as usize, geometry.height as usize);
        let one = Sampling { across: 1, down: 1 };
        let (samples, chroma) = bytes.split_at_checked(geometry.stride * height)?;
        let luma = Plane { samples, stride: geometry.stride, width, height, sampling: one };
        let (width, height) = (width.div_ceil(sampling.across), height.div_ceil(sampling.down));
        let stride = geometry.stride / sampling.across;
        let (u, v) = chroma.split_at_checked(stride * height)?;
        let [u, v] = [u, v].map(|samples| Plane { samples, stride, width, height, sampling });
        Some(Self { parts: [luma, u, v], luma: true })
    }

    /// Pixels of a row from column `x` on, as many as fit `out`, three bytes each.
    pub(crate) fn rgb(&self, x: usize, row: usize, out: &mut [u8]) {
        let mut from = x;
        let mut out = out;
        while !out.is_empty() {
            let skip = from % 2;
            let count = (out.len() / 3).min(BLOCK - skip);
            let (now, later) = out.split_at_mut(count * 3);
            let mut blocks = [[0; BLOCK]; 3];
            for (block, plane) in blocks.iter_mut().zip(&self.parts) {
                plane.row(from - skip, row, block.get_mut(..(skip + count).next_multiple_of(2)).unwrap_or_default());
            }
            let [a, b, c] = blocks.each_ref().map(|block| block.get(skip..skip + count).unwrap_or_default());
            if self.luma { colors(a, b, c, now) } else { interleave(a, b, c, now) }
            (from, out) = (from + count, later);
            if count == 0 {
                return;
            }
        }
    }
}

impl Plane<'_> {
    /// Values of a row of pixels from column `x` on, which is even; so is the length of `out`.
    fn row(&self, x: usize, row: usize, out: &mut [u8]) {
        let Sampling { across, down } = self.sampling;
        let near = self.samples(row / down);
        match (across, down) {
            (1, 1) => copy(near, x, out),
            (1, 2) => {
                let (far, bias) = if row % 2 == 0 { (self.above(row / 2), 1) } else { (self.samples(row / 2 + 1), 2) };
                blend(near.get(x..).unwrap_or_default(), far.get(x..).unwrap_or_default(), bias, out);
            }
            (2, 1) if self.width > 2 => triangle(near, near, x / 2, [8 - 4, 8], out),
            (2, 2) if self.width > 2 => {
                let far = if row % 2 == 0 { self.above(row / 2) } else { self.samples(row / 2 + 1) };
                triangle(near, far, x / 2, [8, 7], out);
            }
            _ => repeat(near, x, across, out),
        }
    }

    /// The true samples of a row; of the last one, if that is beyond it.
    fn samples(&self, row: usize) -> &[u8] {
        let start = row.min(self.height.saturating_sub(1)) * self.stride;
        self.samples.get(start..start + self.width).unwrap_or_default()
    }

    fn above(&self, row: usize) -> &[u8] {
        self.samples(row.saturating_sub(1))
    }
}

fn copy(row: &[u8], x: usize, out: &mut [u8]) {
    let row = row.get(x..).unwrap_or_default();
    let count = row.len().min(out.len());
    if let (Some(out), Some(row)) = (out.get_mut(..count), row.get(..count)) {
        out.copy_from_slice(row);
    }
}

fn repeat(row: &[u8], x: usize, across: usize, out: &mut [u8]) {
    for (at, out) in out.iter_mut().enumerate() {
        *out = row.get((x + at) / across).copied().unwrap_or(0);
    }
}

/// Three quarters of the nearer row and one of the farther.
fn blend(near: &[u8], far: &[u8], bias: u16, out: &mut [u8]) {
    for ((out, &near), &far) in out.iter_mut().zip(near).zip(far) {
        *out = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
    }
}

/// Two pixels of each sample from `first` on, of the nearer and the farther row (the same one, where rows are not shared), in 16ths: `biases` round the
/// left one and the right one.
fn triangle(near: &[u8], far: &[u8], first: usize, biases: [u16; 2], out: &mut [u8]) {
    let mut sums = [0u16; BLOCK / 2 + 2];
    let count = out.len() / 2;
    let last = near.len().saturating_sub(1);
    let sum = |index: usize| {
        let index = index.min(last);
        let at = |row: &[u8]| u16::from(row.get(index).copied().unwrap_or(0));
        3 * at(near) + at(far)
    };
    let from = |row: &'_ [u8]| row.get(first..).unwrap_or_default().len().min(count);
    let true_ones = from(near);
    let (nears, fars) = (near.get(first..first + true_ones).unwrap_or_default(), far.get(first..first + true_ones).unwrap_or_default());
    for ((to, &near), &far) in sums.iter_mut().skip(1).zip(nears).zip(fars) {
        *to = 3 * u16::from(near) + u16::from(far);
    }
    sums[0] = sum(first.saturating_sub(1));
    if let Some(after) = sums.get_mut(true_ones + 1) {
        *after = sum(first + true_ones);
    }
    for (out, window) in out.as_chunks_mut::<2>().0.iter_mut().zip(sums.windows(3)) {
        if let &[left, middle, right] = window {
            *out = [(3 * middle + left + biases[0]) >> 4, (3 * middle + right + biases[1]) >> 4].map(|value| value as u8);
        }
    }
}

fn interleave(red: &[u8], green: &[u8], blue: &[u8], out: &mut [u8]) {
    for (((out, &red), &green), &blue) in out.as_chunks_mut().0.iter_mut().zip(red).zip(green).zip(blue) {
        *out = [red, green, blue];
    }
}

/// Luma and chroma to RGB.
fn colors(y: &[u8], u: &[u8], v: &[u8], out: &mut [u8]) {
    for (((out, &y), &u), &v) in out.as_chunks_mut().0.iter_mut().zip(y).zip(u).zip(v) {
        *out = rgb(y, u, v);
    }
}

/// T.871: 1.402, 0.344136, 0.714136 and 1.772, of which libjpeg takes five digits, in 1/65536.
#[inline(always)]
fn rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (y, u, v) = (i32::from(y), i32::from(u) - 128, i32::from(v) - 128);
    let half = 1 << 15;
    let red = y + (91_881 * v + half >> 16);
    let green = y + (-22_554 * u - 46_802 * v + half >> 16);
    let blue = y + (116_130 * u + half >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}
