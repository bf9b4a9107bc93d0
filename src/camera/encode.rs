//! In: an RGB picture. Out: the same in the layout of a camera, BT.601, so that what a format costs can be measured
//! without one.

use super::{Geometry, PixelFormat};

/// The bytes of a packed frame of `geometry` that shows `rgb`, which has its size.
pub(super) fn encode(rgb: &[u8], geometry: Geometry) -> Vec<u8> {
    let width = geometry.width as usize;
    let pixels: Vec<[u8; 3]> = rgb.as_chunks().0.iter().map(|&pixel| yuv(pixel)).collect();
    let luma = || pixels.iter().map(|[y, ..]| *y);
    // Chroma of the upper left one of each four.
    let fourth = || pixels.chunks(2 * width).flat_map(move |rows| rows.iter().take(width).step_by(2));
    match geometry.format {
        PixelFormat::Rgb8 => rgb.to_vec(),
        PixelFormat::Gray8 => rgb.as_chunks().0.iter().map(|pixel| gray(*pixel)).collect(),
        PixelFormat::Yuyv => {
            let pairs = pixels.as_chunks::<2>().0.iter();
            pairs.flat_map(|[[y0, u, v], [y1, ..]]| [*y0, *u, *y1, *v]).collect()
        }
        PixelFormat::Nv12 => luma().chain(fourth().flat_map(|[_, u, v]| [*u, *v])).collect(),
        PixelFormat::I420 => luma().chain(fourth().map(|[_, u, _]| *u)).chain(fourth().map(|[.., v]| *v)).collect(),
        PixelFormat::Yuvj420 | PixelFormat::Yuvj422 | PixelFormat::Yuvj440 | PixelFormat::Yuvj444 => {
            planes(rgb.as_chunks().0, geometry)
        }
    }
}

/// Planes as a JPEG picture has them, in full range; the chroma of the upper left pixel of each group.
fn planes(pixels: &[[u8; 3]], geometry: Geometry) -> Vec<u8> {
    let (across, down) = match geometry.format {
        PixelFormat::Yuvj420 => (2, 2),
        PixelFormat::Yuvj422 => (2, 1),
        PixelFormat::Yuvj440 => (1, 2),
        _ => (1, 1),
    };
    let rows = || pixels.chunks(geometry.width as usize);
    let mut bytes = Vec::with_capacity(geometry.frame_bytes());
    for row in rows() {
        bytes.extend(row.iter().map(|pixel| gray(*pixel)));
        bytes.resize(bytes.len().next_multiple_of(geometry.stride), 0);
    }
    for weights in [[-43, -85, 128], [128, -107, -21]] {
        for row in rows().step_by(down) {
            bytes.extend(row.iter().step_by(across).map(|pixel| chroma(*pixel, weights)));
        }
    }
    bytes
}

/// ITU-T T.871, 7: blue or red less luma, in 1/256.
fn chroma(rgb: [u8; 3], weights: [i32; 3]) -> u8 {
    let sum: i32 = rgb.into_iter().zip(weights).map(|(value, weight)| i32::from(value) * weight).sum();
    (((sum + 128) >> 8) + 128).min(255) as u8
}

/// ITU-R BT.601-7, 2.5.1 and 2.5.2, with 8 fractional bits.
fn yuv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = [r, g, b].map(i32::from);
    let sums = [66 * r + 129 * g + 25 * b, -38 * r - 74 * g + 112 * b, 112 * r - 94 * g - 18 * b];
    let [y, u, v] = sums.map(|sum| (sum + 128) >> 8);
    [y + 16, u + 128, v + 128].map(|value| value.clamp(0, 255) as u8)
}

fn gray([r, g, b]: [u8; 3]) -> u8 {
    let [r, g, b] = [r, g, b].map(u32::from);
    ((77 * r + 150 * g + 29 * b + 128) >> 8) as u8
}
