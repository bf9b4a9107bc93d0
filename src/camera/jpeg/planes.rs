//! In: the planes of a JPEG picture. Out: rows of RGB pixels, or parts of them.
//!
//! Chroma at half resolution is brought to that of luma by a triangle filter, three quarters of the nearer sample and
//! one of the farther, with the roundings of libjpeg; other factors repeat samples. Colours are those of JFIF (ITU-T
//! T.871: BT.601, full range) in 16 fractional bits. All of it is to the bit what libjpeg-turbo gives, up to the edges,
//! where the last true sample stands for those beyond.

use crate::camera::{Geometry, PixelFormat};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;

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

impl Planes<'static> {
    /// How the planes of a format lie, without samples: luma and both chromas; none if it is not a planar one of JPEG.
    pub(crate) fn layout(geometry: &Geometry) -> Option<[Plane<'static>; 3]> {
        let sampling = Sampling::of(geometry.format)?;
        let (width, height) = (geometry.width as usize, geometry.height as usize);
        let one = Sampling { across: 1, down: 1 };
        let luma = Plane { samples: &[], stride: geometry.stride, width, height, sampling: one };
        let (width, height) = (width.div_ceil(sampling.across), height.div_ceil(sampling.down));
        let chroma = Plane { samples: &[], stride: geometry.stride / sampling.across, width, height, sampling };
        Some([luma, chroma, chroma])
    }
}

impl<'a> Planes<'a> {
    /// Those of a frame; none if its format is not a planar one of JPEG.
    pub(crate) fn of(bytes: &'a [u8], geometry: &Geometry) -> Option<Self> {
        let mut parts: [Plane<'a>; 3] = Planes::layout(geometry)?;
        let mut rest = bytes;
        for plane in &mut parts {
            (plane.samples, rest) = rest.split_at_checked(plane.stride * plane.height)?;
        }
        Some(Self { parts, luma: true })
    }

    /// Pixels of a row from column `x` on, as many as fit `out`, three bytes each.
    pub(crate) fn rgb(&self, x: usize, row: usize, out: &mut [u8]) {
        let mut scratch = [[0; BLOCK]; 3];
        let mut from = x;
        let mut out = out;
        while out.len() >= 3 {
            // Blocks begin with a sample of chroma.
            let skip = from % 2;
            let count = (out.len() / 3).min(BLOCK - skip);
            let (now, later) = out.split_at_mut(count * 3);
            let (first, block) = (from - skip, skip..skip + count);
            let [a, b, c] = &mut scratch;
            let [p, q, r] = &self.parts;
            let a = p.row(first, row, block.end, a).get(block.clone()).unwrap_or_default();
            let b = q.row(first, row, block.end, b).get(block.clone()).unwrap_or_default();
            let c = r.row(first, row, block.end, c).get(block).unwrap_or_default();
            if self.luma {
                colors(a, b, c, now)
            } else {
                interleave(a, b, c, now)
            }
            (from, out) = (from + count, later);
        }
    }
}

impl<'a> Plane<'a> {
    /// True if pixels that share a sample also take part of the one beside it; libjpeg repeats the samples of rows of
    /// one or two.
    pub(crate) fn is_smooth(&self) -> bool {
        self.sampling.across == 1 || self.width > 2
    }

    /// Values of `count` pixels of a row from column `x` on, which is even: in `scratch`, unless they are the samples
    /// themselves.
    fn row<'b>(&self, x: usize, row: usize, count: usize, scratch: &'b mut [u8; BLOCK]) -> &'b [u8]
    where
        'a: 'b,
    {
        let Sampling { across, down } = self.sampling;
        let near = self.samples(row / down);
        let far = || self.samples(if row.is_multiple_of(2) { (row / 2).saturating_sub(1) } else { row / 2 + 1 });
        let out = scratch.get_mut(..count.next_multiple_of(2)).unwrap_or_default();
        match (across, down) {
            (1, 1) => return near.get(x..).unwrap_or_default(),
            (1, 2) => {
                let bias = if row.is_multiple_of(2) { 1 } else { 2 };
                blend(near.get(x..).unwrap_or_default(), far().get(x..).unwrap_or_default(), bias, out);
            }
            (2, 1) if self.is_smooth() => triangle(near, None, x / 2, out),
            (2, 2) if self.is_smooth() => triangle(near, Some(far()), x / 2, out),
            _ => repeat(near, x, across, out),
        }
        out
    }

    /// The true samples of a row; of the last one, if that is beyond it.
    fn samples(&self, row: usize) -> &'a [u8] {
        let start = row.min(self.height.saturating_sub(1)) * self.stride;
        self.samples.get(start..start + self.width).unwrap_or_default()
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
        *out = ((weighed(near, far) + bias) >> 2) as u8;
    }
}

/// Two pixels of each sample from `first` on: of the nearer and the farther row where two rows share samples, of one
/// row alone where not.
fn triangle(near: &[u8], far: Option<&[u8]>, first: usize, out: &mut [u8]) {
    let last = near.len().saturating_sub(1);
    let end = (first + out.len() / 2).min(near.len());
    // Both ends may lie at the edge, where the sample stands for the one that is missing.
    for at in [first, end.saturating_sub(1)] {
        let beside = [at.saturating_sub(1), at, (at + 1).min(last)];
        let of = |row: &[u8]| beside.map(|at| row.get(at).copied().unwrap_or(0));
        let pixels = match far {
            Some(far) => quarters(of(near), of(far)),
            None => halves(of(near)),
        };
        if let Some(out) = out.get_mut((at - first.min(at)) * 2..).and_then(<[u8]>::first_chunk_mut) {
            *out = pixels;
        }
    }
    let start = first.max(1);
    let inner = out.get_mut((start - first) * 2..).unwrap_or_default();
    let window = |row| <[u8]>::get(row, start - 1..(end + 1).min(last + 1)).unwrap_or_default();
    match far {
        Some(far) => spread_quarters(window(near), window(far), inner),
        None => spread_halves(window(near), inner),
    }
}

/// The two pixels of the middle one of three samples.
#[inline(always)]
fn halves([left, middle, right]: [u8; 3]) -> [u8; 2] {
    [weighed(middle, left) + 1, weighed(middle, right) + 2].map(|sum| (sum >> 2) as u8)
}

/// The same where two rows share samples.
#[inline(always)]
fn quarters(near: [u8; 3], far: [u8; 3]) -> [u8; 2] {
    let ([a, b, c], [d, e, f]) = (near, far);
    let (left, middle, right) = (weighed(a, d), weighed(b, e), weighed(c, f));
    [3 * middle + left + 8, 3 * middle + right + 7].map(|sum| (sum >> 4) as u8)
}

/// Two pixels of each sample but the first and the last.
fn spread_halves(row: &[u8], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    let done = match is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        true => unsafe { avx2::spread_halves(row, out) },
        false => 0,
    };
    #[cfg(target_arch = "aarch64")]
    let done = neon::spread_halves(row, out);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let done = 0;
    let row = row.get(done..).unwrap_or_default();
    for (out, &window) in out.as_chunks_mut().0.iter_mut().skip(done).zip(row.array_windows()) {
        *out = halves(window);
    }
}

/// The same where two rows share samples.
fn spread_quarters(near: &[u8], far: &[u8], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    let done = match is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        true => unsafe { avx2::spread_quarters(near, far, out) },
        false => 0,
    };
    #[cfg(target_arch = "aarch64")]
    let done = neon::spread_quarters(near, far, out);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let done = 0;
    let (near, far) = (near.get(done..).unwrap_or_default(), far.get(done..).unwrap_or_default());
    for ((out, &near), &far) in
        out.as_chunks_mut().0.iter_mut().skip(done).zip(near.array_windows()).zip(far.array_windows())
    {
        *out = quarters(near, far);
    }
}

/// Three of the nearer sample and one of the farther.
#[inline(always)]
fn weighed(near: u8, far: u8) -> u16 {
    3 * u16::from(near) + u16::from(far)
}

fn interleave(red: &[u8], green: &[u8], blue: &[u8], out: &mut [u8]) {
    for (((out, &red), &green), &blue) in out.as_chunks_mut().0.iter_mut().zip(red).zip(green).zip(blue) {
        *out = [red, green, blue];
    }
}

/// Luma and chroma to RGB, three bytes a pixel.
pub(crate) fn colors(y: &[u8], u: &[u8], v: &[u8], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    let done = match is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        true => unsafe { avx2::colors(y, u, v, out) },
        false => 0,
    };
    #[cfg(target_arch = "aarch64")]
    let done = neon::colors(y, u, v, out);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let done = 0;
    let rest = y.iter().zip(u).zip(v).skip(done);
    for (out, ((&y, &u), &v)) in out.as_chunks_mut().0.iter_mut().skip(done).zip(rest) {
        *out = rgb(y, u, v);
    }
}

/// T.871: 1.402, 0.344136, 0.714136 and 1.772, of which libjpeg takes five digits, in 1/65536.
#[inline(always)]
fn rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (y, u, v) = (i32::from(y), i32::from(u) - 128, i32::from(v) - 128);
    let half = 1 << 15;
    let red = y + ((91_881 * v + half) >> 16);
    let green = y + ((-22_554 * u - 46_802 * v + half) >> 16);
    let blue = y + ((116_130 * u + half) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if seed.is_multiple_of(3) { (state as i32 >> 31) as u8 } else { (state >> 24) as u8 }
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn every_luma_and_chroma_is_the_definitions_colour() {
        for u in 0..=255u8 {
            for v in 0..=255u8 {
                let y: Vec<u8> = (0..67).map(|i| (i * 4 + usize::from(u ^ v)) as u8).collect();
                let mut found = vec![7; 67 * 3];
                colors(&y, &[u; 67], &[v; 67], &mut found);
                let expected: Vec<u8> = y.iter().flat_map(|&y| rgb(y, u, v)).collect();
                assert_eq!(found, expected, "{u} {v}");
            }
        }
        // JFIF's primaries, T.871: red is 76 85 255, and the rounding is a level at most.
        for (yuv, expected) in [([76, 85, 255], [254, 0, 0]), ([128, 128, 128], [128; 3]), ([255, 128, 128], [255; 3])]
        {
            assert_eq!(rgb(yuv[0], yuv[1], yuv[2]), expected);
        }
    }

    #[test]
    fn kernels_compute_the_definitions_at_every_length() {
        for length in 2..150 {
            for seed in 1..4 {
                let [near, far] = [1, 2].map(|k| bytes(length, (length * 7 + seed * 5 + k) as u32));
                let windows = || near.array_windows().zip(far.array_windows());
                let mut found = vec![7; (length - 2) * 2];
                spread_halves(&near, &mut found);
                assert_eq!(found, windows().flat_map(|(&near, _)| halves(near)).collect::<Vec<u8>>(), "{length}");
                spread_quarters(&near, &far, &mut found);
                assert_eq!(
                    found,
                    windows().flat_map(|(&near, &far)| quarters(near, far)).collect::<Vec<u8>>(),
                    "{length}"
                );
            }
        }
    }

    #[test]
    fn every_pair_of_samples_is_weighed_as_defined() {
        for a in 0..=255 {
            let row: Vec<u8> = (0..=255).flat_map(|b| [a, b, a]).collect();
            let mut found = vec![0; (row.len() - 2) * 2];
            spread_halves(&row, &mut found);
            assert_eq!(found, row.array_windows().flat_map(|&window| halves(window)).collect::<Vec<u8>>());
        }
    }

    /// Parts of a row are the row's, wherever they begin and end.
    #[test]
    fn a_part_of_a_row_is_the_rows() {
        for (format, width, height) in [
            (PixelFormat::Yuvj420, 613, 5),
            (PixelFormat::Yuvj422, 300, 3),
            (PixelFormat::Yuvj440, 77, 4),
            (PixelFormat::Yuvj444, 5, 2),
            (PixelFormat::Yuvj420, 3, 3),
        ] {
            let geometry = Geometry::packed(width, height, format).unwrap();
            let bytes = bytes(geometry.frame_bytes(), width);
            let planes = Planes::of(&bytes, &geometry).unwrap();
            for row in 0..height as usize {
                let mut whole = vec![0; width as usize * 3];
                planes.rgb(0, row, &mut whole);
                for x in (0..width as usize).step_by(7) {
                    for count in [1, 2, 31, 257, width as usize - x].map(|count| count.min(width as usize - x)) {
                        let mut part = vec![0; count * 3];
                        planes.rgb(x, row, &mut part);
                        assert_eq!(part, whole[x * 3..(x + count) * 3], "{format:?} {row} {x} {count}");
                    }
                }
            }
        }
    }
}
