//! The ROI of a frame as packed gray or RGB rows.
//!
//! YUV is BT.601 limited range (what UVC cameras, rpicam-vid and nvarguscamerasrc deliver unless told otherwise), in the
//! integer form of ITU-R BT.601 with 8 fractional bits. Chroma is taken from the nearest sample.

use crate::camera::{Frame, PixelFormat};

use super::Roi;

/// Writes the ROI's pixels into `out`: one byte a pixel for gray, three for everything else.
pub(crate) fn stage(frame: &Frame, roi: Roi, out: &mut [u8]) {
    let geometry = frame.geometry();
    let (stride, x, width) = (geometry.stride, roi.x as usize, roi.width as usize);
    let luma_rows = frame.bytes().chunks(stride).skip(roi.y as usize).take(roi.height as usize);
    match geometry.format {
        PixelFormat::Gray8 => copy_rows(luma_rows, x, width, out),
        PixelFormat::Rgb8 => copy_rows(luma_rows, x * 3, width * 3, out),
        PixelFormat::Yuyv => {
            for (row, out) in luma_rows.zip(out.chunks_exact_mut(width * 3)) {
                yuyv_row(row, x, out);
            }
        }
        PixelFormat::Nv12 => {
            let (_, chroma) = frame.bytes().split_at(stride * geometry.height as usize);
            for (index, (luma, out)) in luma_rows.zip(out.chunks_exact_mut(width * 3)).enumerate() {
                let start = (roi.y as usize + index) / 2 * stride;
                let pairs = chroma.get(start..).unwrap_or_default();
                let (us, vs) = (pairs, pairs.get(1..).unwrap_or_default());
                planar_row(luma, us, vs, 2, x, out);
            }
        }
        PixelFormat::I420 => {
            let (_, chroma) = frame.bytes().split_at(stride * geometry.height as usize);
            let half = stride / 2;
            let (us, vs) = chroma.split_at(half * (geometry.height as usize / 2));
            for (index, (luma, out)) in luma_rows.zip(out.chunks_exact_mut(width * 3)).enumerate() {
                let start = (roi.y as usize + index) / 2 * half;
                let (us, vs) = (us.get(start..).unwrap_or_default(), vs.get(start..).unwrap_or_default());
                planar_row(luma, us, vs, 1, x, out);
            }
        }
    }
}

fn copy_rows<'a>(rows: impl Iterator<Item = &'a [u8]>, start: usize, length: usize, out: &mut [u8]) {
    for (row, out) in rows.zip(out.chunks_exact_mut(length)) {
        out.copy_from_slice(row.get(start..start + length).unwrap_or_default());
    }
}

fn yuyv_row(row: &[u8], x: usize, out: &mut [u8]) {
    // Start at the pair that holds x; an odd x skips that pair's first pixel.
    let pairs = row.get(x / 2 * 4..).unwrap_or_default().chunks_exact(4);
    let mut pixels = out.chunks_exact_mut(3);
    let mut skip = x % 2 == 1;
    for pair in pairs {
        let &[y0, u, y1, v] = pair else { return };
        if !std::mem::take(&mut skip) {
            let Some(pixel) = pixels.next() else { return };
            pixel.copy_from_slice(&rgb(y0, u, v));
        }
        let Some(pixel) = pixels.next() else { return };
        pixel.copy_from_slice(&rgb(y1, u, v));
    }
}

/// `step` is the distance between neighbouring chroma samples: 2 where U and V alternate, 1 where they are planes.
fn planar_row(luma: &[u8], us: &[u8], vs: &[u8], step: usize, x: usize, out: &mut [u8]) {
    let mut chroma = us.iter().step_by(step).zip(vs.iter().step_by(step)).skip(x / 2);
    let mut lumas = luma.iter().skip(x);
    let mut pixels = out.chunks_exact_mut(3);
    if x % 2 == 1
        && let (Some(&y), Some((&u, &v)), Some(pixel)) = (lumas.next(), chroma.next(), pixels.next())
    {
        pixel.copy_from_slice(&rgb(y, u, v));
    }
    for (&u, &v) in chroma {
        for _ in 0..2 {
            let (Some(&y), Some(pixel)) = (lumas.next(), pixels.next()) else { return };
            pixel.copy_from_slice(&rgb(y, u, v));
        }
    }
}

/// BT.601, limited range: 16..235 luma and 16..240 chroma to 0..255 RGB.
#[inline(always)]
fn rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (c, d, e) = (i32::from(y) - 16, i32::from(u) - 128, i32::from(v) - 128);
    let clip = |value: i32| ((value + 128) >> 8).clamp(0, 255) as u8;
    [clip(298 * c + 409 * e), clip(298 * c - 100 * d - 208 * e), clip(298 * c + 516 * d)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::Geometry;

    #[test]
    fn colors_of_bt601() {
        assert_eq!(rgb(16, 128, 128), [0, 0, 0]);
        assert_eq!(rgb(235, 128, 128), [255, 255, 255]);
        // 100 % red is Y 81, Cb 90, Cr 240 (ITU-R BT.601-7, table 1, rounded).
        let [r, g, b] = rgb(81, 90, 240);
        assert!(r >= 254 && g <= 1 && b <= 1, "{r} {g} {b}");
    }

    /// The same 6 x 4 picture in three layouts, cropped at odd and even offsets, gives the same pixels.
    #[test]
    fn layouts_agree() {
        let (width, height) = (6usize, 4usize);
        let luma: Vec<u8> = (0..24).map(|i| 40 + i * 7).collect();
        let u = [90u8, 120, 150, 100, 130, 160];
        let v = [200u8, 128, 60, 190, 118, 50];
        let mut i420 = luma.clone();
        i420.extend(u);
        i420.extend(v);
        let mut nv12 = luma.clone();
        nv12.extend(u.iter().zip(&v).flat_map(|(u, v)| [*u, *v]));
        let mut yuyv = vec![];
        for row in 0..height {
            for pair in 0..width / 2 {
                let chroma = row / 2 * 3 + pair;
                yuyv.extend([luma[row * 6 + pair * 2], u[chroma], luma[row * 6 + pair * 2 + 1], v[chroma]]);
            }
        }
        for roi in [
            Roi { x: 0, y: 0, width: 6, height: 4 },
            Roi { x: 1, y: 1, width: 4, height: 3 },
            Roi { x: 3, y: 2, width: 1, height: 1 },
        ] {
            let staged: Vec<Vec<u8>> =
                [(PixelFormat::I420, &i420), (PixelFormat::Nv12, &nv12), (PixelFormat::Yuyv, &yuyv)]
                    .into_iter()
                    .map(|(format, bytes)| {
                        let geometry = Geometry::packed(6, 4, format).unwrap();
                        let frame = Frame::new(0, Default::default(), geometry, bytes).unwrap();
                        let mut out = vec![0; (roi.width * roi.height * 3) as usize];
                        stage(&frame, roi, &mut out);
                        out
                    })
                    .collect();
            assert_eq!(staged[0], staged[1], "{roi:?}");
            assert_eq!(staged[0], staged[2], "{roi:?}");
            let corner = (roi.y * 6 + roi.x) as usize;
            let chroma = (roi.y / 2 * 3 + roi.x / 2) as usize;
            assert_eq!(staged[0][..3], rgb(luma[corner], u[chroma], v[chroma]));
        }
    }
}
