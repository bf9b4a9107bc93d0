//! The ROI of a frame as packed gray or RGB rows.
//!
//! YUV is converted in integers with 8 fractional bits, as ITU-R BT.601 gives them; chroma is taken from the nearest
//! sample. All formats become pairs of pixels that share their chroma, Y0 U Y1 V, for one kernel; what every kernel
//! computes is [`Matrix::rgb`], to the byte.
//!
//! Cost, as counted before it was written: the plain loop needs some 20 instructions a pixel, the kernel 45 for 16
//! pixels; a frame of 640 x 480 pixels then costs under a million. Measured on one core of an AMD EPYC VM (AVX2): 77 us
//! for YUYV and 140 us for NV12 and I420, where the plain loops took 2.7 ms and more; resizing that frame to 256 x 256
//! takes 320 us.

use crate::camera::jpeg::planes::Planes;
use crate::camera::{Colors, Frame, PixelFormat};

use super::Roi;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;

/// Pairs of pixels that planes are put together to at once.
const BLOCK: usize = 64;

/// Two pixels: Y0 U Y1 V.
type Pair = [u8; 4];
/// The same: R G B, R G B.
type Rgb2 = [u8; 6];

/// Writes the ROI's pixels into `out`: one byte a pixel for gray, three for everything else.
pub(crate) fn extract(frame: &Frame, roi: Roi, out: &mut [u8]) {
    let geometry = frame.geometry();
    let matrix = Matrix::of(geometry.colors);
    let (stride, x, width) = (geometry.stride, roi.x as usize, roi.width as usize);
    let luma_rows = frame.bytes().chunks(stride).skip(roi.y as usize).take(roi.height as usize);
    let chroma = frame.bytes().get(stride * geometry.height as usize..).unwrap_or_default();
    match geometry.format {
        PixelFormat::Gray8 => copy_rows(luma_rows, x, width, out),
        PixelFormat::Rgb8 => copy_rows(luma_rows, x * 3, width * 3, out),
        PixelFormat::Yuyv => {
            for (row, out) in luma_rows.zip(out.chunks_exact_mut(width * 3)) {
                let pairs = row.as_chunks().0.get(x / 2..).unwrap_or_default();
                convert(&matrix, pairs, x % 2 == 1, out);
            }
        }
        PixelFormat::Nv12 => {
            for (index, (luma, out)) in luma_rows.zip(out.chunks_exact_mut(width * 3)).enumerate() {
                let start = (roi.y as usize + index) / 2 * stride;
                let pairs = chroma.get(start..).unwrap_or_default().as_chunks::<2>().0;
                planar(&matrix, luma, |at| from(pairs, at).iter().copied(), x, out);
            }
        }
        PixelFormat::Yuvj420 | PixelFormat::Yuvj422 | PixelFormat::Yuvj440 | PixelFormat::Yuvj444 => {
            let Some(planes) = Planes::of(frame.bytes(), &geometry) else { return };
            for (row, out) in out.chunks_exact_mut(width * 3).enumerate().take(roi.height as usize) {
                planes.rgb(x, roi.y as usize + row, out);
            }
        }
        PixelFormat::I420 => {
            let half = stride / 2;
            let (us, vs) = chroma.split_at(half * (geometry.height as usize / 2));
            for (index, (luma, out)) in luma_rows.zip(out.chunks_exact_mut(width * 3)).enumerate() {
                let start = (roi.y as usize + index) / 2 * half;
                let pairs = |at| from(us, start + at).iter().zip(from(vs, start + at)).map(|(&u, &v)| [u, v]);
                planar(&matrix, luma, pairs, x, out);
            }
        }
    }
}

fn from<T>(values: &[T], at: usize) -> &[T] {
    values.get(at..).unwrap_or_default()
}

fn copy_rows<'a>(rows: impl Iterator<Item = &'a [u8]>, start: usize, length: usize, out: &mut [u8]) {
    for (row, out) in rows.zip(out.chunks_exact_mut(length)) {
        out.copy_from_slice(row.get(start..start + length).unwrap_or_default());
    }
}

/// Planes of luma and chroma as pairs, block by block; `chroma` gives U and V from a pair on.
fn planar<I: Iterator<Item = [u8; 2]>>(
    matrix: &Matrix,
    luma: &[u8],
    chroma: impl Fn(usize) -> I,
    x: usize,
    out: &mut [u8],
) {
    let mut block = [Pair::default(); BLOCK];
    let (mut at, mut odd, mut out) = (x / 2, x % 2, out);
    while !out.is_empty() {
        let luma = from(luma.as_chunks::<2>().0, at).iter();
        for (pair, (&luma, chroma)) in block.iter_mut().zip(luma.zip(chroma(at))) {
            *pair = weave(luma, chroma);
        }
        let room = (BLOCK * 2 - odd) * 3;
        let (now, later) = out.split_at_mut(room.min(out.len()));
        convert(matrix, &block, odd == 1, now);
        (at, odd, out) = (at + BLOCK, 0, later);
    }
}

/// Y0 U Y1 V, written so that the compiler makes vector instructions of it.
#[inline(always)]
fn weave(luma: [u8; 2], chroma: [u8; 2]) -> Pair {
    let [luma, chroma] = [luma, chroma].map(|two| u32::from(u16::from_le_bytes(two)));
    let spread = |two: u32| (two | two << 8) & 0x00ff_00ff;
    (spread(luma) | spread(chroma) << 8).to_le_bytes()
}

/// A row from the pair on that holds its first pixel; an odd one begins with that pair's second.
fn convert(matrix: &Matrix, pairs: &[Pair], odd: bool, out: &mut [u8]) {
    let (pairs, out) = match odd {
        true => {
            let Some((&[_, u, y, v], rest)) = pairs.split_first() else { return };
            let Some((pixel, others)) = out.split_first_chunk_mut() else { return };
            *pixel = matrix.rgb(y, u, v);
            (rest, others)
        }
        false => (pairs, out),
    };
    let (whole, last) = out.as_chunks_mut();
    let (pairs, rest) = pairs.split_at(whole.len().min(pairs.len()));
    convert_pairs(matrix, pairs, whole);
    if let (Some(&[y, u, _, v]), Some(pixel)) = (rest.first(), last.first_chunk_mut()) {
        *pixel = matrix.rgb(y, u, v);
    }
}

fn convert_pairs(matrix: &Matrix, pairs: &[Pair], out: &mut [Rgb2]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::convert(matrix, pairs, out) };
    }
    #[cfg(target_arch = "aarch64")]
    return neon::convert(matrix, pairs, out);
    #[cfg(not(target_arch = "aarch64"))]
    portable(matrix, pairs, out);
}

fn portable(matrix: &Matrix, pairs: &[Pair], out: &mut [Rgb2]) {
    for (&[y0, u, y1, v], out) in pairs.iter().zip(out) {
        let ([r0, g0, b0], [r1, g1, b1]) = (matrix.rgb(y0, u, v), matrix.rgb(y1, u, v));
        *out = [r0, g0, b0, r1, g1, b1];
    }
}

/// How Y, U and V make R, G and B, in 1/256.
#[derive(Debug, Clone, Copy)]
struct Matrix {
    /// Of luma, in all three.
    luma: i16,
    /// Luma of black.
    black: i16,
    /// Of V in red, of U and V in green, of U in blue.
    red_v: i16,
    green_u: i16,
    green_v: i16,
    blue_u: i16,
}

impl Matrix {
    /// The coefficients of ITU-R BT.601-7 and BT.709-6; limited range is 16..235 luma and 16..240 chroma.
    const fn of(colors: Colors) -> Self {
        let (black, [luma, red_v, green_u, green_v, blue_u]) = match colors {
            Colors::Bt601 => (16, [298, 409, -100, -208, 516]),
            Colors::Bt601Full => (0, [256, 359, -88, -183, 454]),
            Colors::Bt709 => (16, [298, 459, -55, -136, 541]),
            Colors::Bt709Full => (0, [256, 403, -48, -120, 475]),
        };
        Self { luma, black, red_v, green_u, green_v, blue_u }
    }

    /// What is added to the products of Y, U and V for red, green and blue: the zeros of each, and half of what the
    /// shift cuts.
    fn offsets(&self) -> [i32; 3] {
        let chroma = [self.red_v, self.green_u + self.green_v, self.blue_u];
        chroma.map(|chroma| 128 - i32::from(self.luma) * i32::from(self.black) - 128 * i32::from(chroma))
    }

    #[inline(always)]
    fn rgb(&self, y: u8, u: u8, v: u8) -> [u8; 3] {
        let [y, u, v] = [y, u, v].map(i32::from);
        let [red, green, blue] = self.offsets();
        let luma = i32::from(self.luma) * y;
        let sums = [
            red + luma + i32::from(self.red_v) * v,
            green + luma + i32::from(self.green_u) * u + i32::from(self.green_v) * v,
            blue + luma + i32::from(self.blue_u) * u,
        ];
        sums.map(|sum| (sum >> 8).clamp(0, 255) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::Geometry;

    #[test]
    fn colors_of_bt601() {
        let limited = Matrix::of(Colors::Bt601);
        assert_eq!(limited.rgb(16, 128, 128), [0, 0, 0]);
        assert_eq!(limited.rgb(235, 128, 128), [255, 255, 255]);
        // 100 % red is Y 81, Cb 90, Cr 240 (ITU-R BT.601-7, table 1, rounded).
        let [r, g, b] = limited.rgb(81, 90, 240);
        assert!(r >= 254 && g <= 1 && b <= 1, "{r} {g} {b}");
    }

    /// From the definitions: luma is a weighted sum of the colours, chroma the scaled distance of blue and red from it.
    #[test]
    fn every_matrix_undoes_the_definition() {
        for (colors, [red, blue], full) in [
            (Colors::Bt601, [0.299, 0.114], false),
            (Colors::Bt601Full, [0.299, 0.114], true),
            (Colors::Bt709, [0.2126, 0.0722], false),
            (Colors::Bt709Full, [0.2126, 0.0722], true),
        ] {
            let (black, luma, chroma) = if full { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
            for rgb in
                [[0u8, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 160, 30], [200, 180, 190]]
            {
                let [r, g, b] = rgb.map(|value| f64::from(value) / 255.0);
                let y = red * r + (1.0 - red - blue) * g + blue * b;
                let u = (b - y) / (2.0 * (1.0 - blue));
                let v = (r - y) / (2.0 * (1.0 - red));
                let [y, u, v] =
                    [black + luma * y, 128.0 + chroma * u, 128.0 + chroma * v].map(|value| value.round() as u8);
                let back = Matrix::of(colors).rgb(y, u, v);
                // Half a step of chroma is a step of blue.
                let apart = rgb.iter().zip(back).map(|(a, b)| a.abs_diff(b)).max().unwrap();
                assert!(apart <= 2, "{colors:?} {rgb:?} {back:?}");
            }
        }
    }

    #[test]
    fn the_kernel_computes_the_definition() {
        let mut state = 1u32;
        let mut byte = |extremes: bool| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if extremes { (state as i32 >> 31) as u8 } else { (state >> 24) as u8 }
        };
        for colors in [Colors::Bt601, Colors::Bt601Full, Colors::Bt709, Colors::Bt709Full] {
            let matrix = Matrix::of(colors);
            for length in (0..40).chain([1000]) {
                let pairs: Vec<Pair> = (0..length).map(|_| [(); 4].map(|()| byte(length % 2 == 1))).collect();
                let [mut found, mut expected] = [(); 2].map(|()| vec![[7; 6]; length]);
                convert_pairs(&matrix, &pairs, &mut found);
                portable(&matrix, &pairs, &mut expected);
                assert_eq!(found, expected, "{colors:?} {length}");
            }
        }
    }

    /// The same picture in three layouts, cropped at odd and even offsets, gives the same pixels.
    #[test]
    fn layouts_agree() {
        let (width, height) = (300usize, 4usize);
        let luma: Vec<u8> = (0..width * height).map(|i| (i * 7 % 251) as u8).collect();
        let [u, v] =
            [13, 29].map(|step| (0..width / 2 * height / 2).map(|i| (i * step % 241) as u8).collect::<Vec<u8>>());
        let mut i420 = luma.clone();
        i420.extend(&u);
        i420.extend(&v);
        let mut nv12 = luma.clone();
        nv12.extend(u.iter().zip(&v).flat_map(|(u, v)| [*u, *v]));
        let mut yuyv = vec![];
        for (row, luma) in luma.chunks(width).enumerate() {
            for (pair, luma) in luma.chunks(2).enumerate() {
                let chroma = row / 2 * (width / 2) + pair;
                yuyv.extend([luma[0], u[chroma], luma[1], v[chroma]]);
            }
        }
        for (x, y, across, down) in
            [(0, 0, 300, 4), (1, 1, 298, 3), (3, 2, 1, 1), (7, 0, 292, 4), (2, 1, 131, 2), (299, 3, 1, 1)]
        {
            let roi = Roi { x, y, width: across, height: down };
            let matrix = Matrix::of(Colors::Bt709);
            let expected: Vec<u8> = (y..y + down)
                .flat_map(|y| (x..x + across).map(move |x| (x as usize, y as usize)))
                .flat_map(|(x, y)| {
                    let chroma = y / 2 * (width / 2) + x / 2;
                    matrix.rgb(luma[y * width + x], u[chroma], v[chroma])
                })
                .collect();
            for (format, bytes) in [(PixelFormat::I420, &i420), (PixelFormat::Nv12, &nv12), (PixelFormat::Yuyv, &yuyv)]
            {
                let geometry =
                    Geometry::packed(width as u32, height as u32, format).unwrap().with_colors(Colors::Bt709);
                let frame = Frame::new(0, Default::default(), geometry, bytes).unwrap();
                let mut out = vec![0; (across * down * 3) as usize];
                extract(&frame, roi, &mut out);
                assert!(out == expected, "{format:?} {roi:?}");
            }
        }
    }
}
