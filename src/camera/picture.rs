//! In: the bytes of a compressed picture (PNG, JPEG, BMP or TIFF, told by its first bytes). Out: its pixels, gray or
//! RGB.
//!
//! The bytes may come from anywhere: sizes are read from the header and checked before anything is allocated for them,
//! and a truncated or broken file is an error and not a half-gray picture. Alpha is dropped and 16 bits are scaled down
//! to 8. The EXIF orientation is not applied: a station's camera does not turn, and its ROI is in the pixels of the
//! sensor.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::tiff::TiffDecoder;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, Limits};

pub use super::Picture;
use super::jpeg::{self, planes::Planes};
use super::{Error, Geometry, PixelFormat};

/// A decoded picture needs at most this much memory, in bytes.
const MAX_ALLOC: u64 = 512 << 20;

/// A decoded 16-bit gray picture.
///
/// ```
/// use fcam::camera::picture;
///
/// let path = "models/default/golden/000.map.png"; // of a bundle's proof
/// let map = picture::decode_gray16(&std::fs::read(path)?, path)?;
/// assert_eq!(map.values.len(), (map.width * map.height) as usize);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gray16 {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// `height * width` values, row by row.
    pub values: Vec<u16>,
}

impl Picture {
    /// Gray and RGB as they are, everything else as RGB; without padding between rows.
    fn into_packed(self) -> Result<Self, Error> {
        let Geometry { width, height, stride, format, .. } = self.geometry;
        let format = if format == PixelFormat::Gray8 { format } else { PixelFormat::Rgb8 };
        let geometry = Geometry::packed(width, height, format)?;
        if geometry == self.geometry {
            return Ok(self);
        }
        let mut bytes = vec![0; geometry.frame_bytes()];
        let planes = Planes::of(&self.bytes, &self.geometry);
        let rows = self.bytes.chunks(stride.max(1));
        for (index, (out, row)) in bytes.chunks_exact_mut(geometry.stride).zip(rows).enumerate() {
            match &planes {
                Some(planes) => planes.rgb(0, index, out),
                None => out.copy_from_slice(row.get(..geometry.stride).unwrap_or_default()),
            }
        }
        Ok(Self { geometry, bytes })
    }
}

/// The pixels of a picture: gray if the file is gray, else RGB. `what` names it in errors, such as its path.
///
/// ```
/// use fcam::camera::{PixelFormat, picture};
///
/// let path = "models/default/golden/000.png";
/// let picture = picture::decode(&std::fs::read(path)?, path)?;
/// assert_eq!(picture.geometry.format, PixelFormat::Rgb8);
/// let error = picture::decode(b"GIF89a", "part.gif").unwrap_err();
/// assert_eq!(error.to_string(), "cannot decode part.gif: it is not a PNG, JPEG, BMP or TIFF picture");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn decode(bytes: &[u8], what: &str) -> Result<Picture, Error> {
    if is_jpeg(bytes) {
        let mut picture = Picture::EMPTY;
        jpeg::Decoder::default().decode(bytes, &mut picture).map_err(|error| failed(what, error))?;
        return picture.into_packed();
    }
    let image = decode_any(bytes, what)?;
    let (width, height) = (image.width(), image.height());
    let (format, bytes) = if image.color().has_color() {
        (PixelFormat::Rgb8, image.into_rgb8().into_raw())
    } else {
        (PixelFormat::Gray8, image.into_luma8().into_raw())
    };
    Ok(Picture { geometry: Geometry::packed(width, height, format)?, bytes })
}

/// The values of a 16-bit gray picture; refuses any other kind.
pub fn decode_gray16(bytes: &[u8], what: &str) -> Result<Gray16, Error> {
    if is_jpeg(bytes) {
        return Err(failed(what, "it is not 16-bit gray but JPEG"));
    }
    match decode_any(bytes, what)? {
        DynamicImage::ImageLuma16(image) => {
            Ok(Gray16 { width: image.width(), height: image.height(), values: image.into_raw() })
        }
        other => Err(failed(what, format!("it is not 16-bit gray but {:?}", other.color()))),
    }
}

/// By the first marker and the FF of the next.
fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xFF, 0xD8, 0xFF])
}

/// Every format but JPEG.
fn decode_any(bytes: &[u8], what: &str) -> Result<DynamicImage, Error> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => decode_with(PngDecoder::new(Cursor::new(bytes)), what),
        Ok(ImageFormat::Bmp) => decode_with(BmpDecoder::new(Cursor::new(bytes)), what),
        Ok(ImageFormat::Tiff) => decode_with(TiffDecoder::new(Cursor::new(bytes)), what),
        _ => Err(failed(what, "it is not a PNG, JPEG, BMP or TIFF picture")),
    }
}

fn decode_with(decoder: Result<impl ImageDecoder, ImageError>, what: &str) -> Result<DynamicImage, Error> {
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(Geometry::MAX_SIDE);
    limits.max_image_height = Some(Geometry::MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOC);
    let mut decoder = decoder.map_err(|error| failed(what, error))?;
    check_size(&decoder, what)?;
    // The decoders count their own buffers against the limit; the pixels themselves are counted here.
    limits.reserve(decoder.total_bytes()).map_err(|error| failed(what, error))?;
    decoder.set_limits(limits).map_err(|error| failed(what, error))?;
    DynamicImage::from_decoder(decoder).map_err(|error| failed(what, error))
}

fn check_size(decoder: &impl ImageDecoder, what: &str) -> Result<(), Error> {
    let (width, height) = decoder.dimensions();
    if decoder.total_bytes() > MAX_ALLOC {
        let mib = decoder.total_bytes() >> 20;
        return Err(failed(what, format!("{width} x {height} pixels need {mib} MiB, over the limit of 512 MiB")));
    }
    Ok(())
}

fn failed(what: &str, reason: impl ToString) -> Error {
    Error::Decode { what: what.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageBuffer, Luma, LumaA, Rgb, RgbImage, Rgba};

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.into().write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]))
    }

    /// A PNG's signature and header, of any size and without pixels.
    fn png_header(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = encode(GrayImage::new(1, 1), ImageFormat::Png);
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
    }

    #[test]
    fn lossless_formats_keep_every_pixel() {
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff] {
            let picture = decode(&encode(gradient(37, 11), format), "it").unwrap();
            assert_eq!(picture.geometry, Geometry::packed(37, 11, PixelFormat::Rgb8).unwrap());
            assert_eq!(picture.bytes, gradient(37, 11).into_raw(), "{format:?}");
        }
    }

    #[test]
    fn gray_stays_gray_alpha_goes_and_16_bits_become_8() {
        let of = |image: DynamicImage| {
            let picture = decode(&encode(image, ImageFormat::Png), "it").unwrap();
            (picture.geometry.format, picture.bytes)
        };
        let gray = (PixelFormat::Gray8, vec![200, 200]);
        assert_eq!(of(GrayImage::from_pixel(2, 1, Luma([200])).into()), gray);
        assert_eq!(of(ImageBuffer::from_pixel(2, 1, LumaA([200u8, 9])).into()), gray);
        assert_eq!(of(ImageBuffer::from_pixel(2, 1, Luma([200u16 * 257])).into()), gray);
        let rgb = (PixelFormat::Rgb8, vec![1, 2, 3]);
        assert_eq!(of(ImageBuffer::from_pixel(1, 1, Rgba([1u8, 2, 3, 4])).into()), rgb);
        assert_eq!(of(ImageBuffer::from_pixel(1, 1, Rgb([257u16, 2 * 257, 3 * 257])).into()), rgb);
    }

    #[test]
    fn only_16_bit_gray_is_a_map() {
        let map = ImageBuffer::from_fn(5, 3, |x, y| Luma([(x * 10_000 + y) as u16]));
        let decoded = decode_gray16(&encode(map.clone(), ImageFormat::Png), "map").unwrap();
        assert_eq!((decoded.width, decoded.height, decoded.values), (5, 3, map.into_raw()));
        let error = decode_gray16(&encode(gradient(5, 3), ImageFormat::Png), "m.png").unwrap_err().to_string();
        assert_eq!(error, "cannot decode m.png: it is not 16-bit gray but Rgb8");
    }

    #[test]
    fn sizes_are_refused_by_the_header_alone() {
        for (width, height, words) in [(60_000, 60_000, "limit"), (16_384, 1 << 20, "limit"), (0, 1, "m.png")] {
            let error = decode(&png_header(width, height), "m.png").unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let mut wide = png_header(16_384, 16_384);
        wide[25] = 2; // RGB: three bytes a pixel are over the limit, one is not
        let crc = crc32(&wide[12..29]);
        wide[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = decode(&wide, "m.png").unwrap_err().to_string();
        assert!(error.contains("over the limit of 512 MiB"), "{error}");
    }

    #[test]
    fn every_truncation_is_an_error() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Tiff] {
            let whole = encode(gradient(40, 30), format);
            assert!(decode(&whole, "whole").is_ok(), "{format:?}");
            // A PNG is whole before its last chunk, which holds nothing; others end with their pixels or their end
            // marker.
            let last = if format == ImageFormat::Png { whole.len() - 12 } else { whole.len() };
            for length in (0..last).step_by(7).chain([last - 1]) {
                assert!(decode(&whole[..length], "part").is_err(), "{format:?} cut to {length} of {}", whole.len());
            }
        }
    }

    #[test]
    fn bytes_after_a_jpeg_are_ignored() {
        let mut padded = encode(gradient(16, 16), ImageFormat::Jpeg);
        padded.extend([0; 100]); // as some cameras do
        assert!(decode(&padded, "padded").is_ok());
    }
}
