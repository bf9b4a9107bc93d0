//! In: the bytes of a compressed picture. Out: its pixels, gray or RGB. (Stand-in.)

use super::{Error, Geometry, PixelFormat};

/// A decoded picture.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Size and format; no padding between rows.
    pub geometry: Geometry,
    /// The pixels.
    pub bytes: Vec<u8>,
}

impl Picture {
    /// The same picture as RGB.
    pub fn into_rgb(self) -> Self {
        if self.geometry.format == PixelFormat::Rgb8 {
            return self;
        }
        let Geometry { width, height, .. } = self.geometry;
        let geometry = Geometry { width, height, stride: width as usize * 3, format: PixelFormat::Rgb8 };
        Self { geometry, bytes: self.bytes.iter().flat_map(|&gray| [gray; 3]).collect() }
    }
}

/// Decodes a picture; `what` names it in errors.
pub fn decode(bytes: &[u8], what: &str) -> Result<Picture, Error> {
    let failed = |error: image::ImageError| Error::Decode { what: what.into(), reason: error.to_string() };
    let decoded = image::load_from_memory(bytes).map_err(failed)?;
    let (width, height) = (decoded.width(), decoded.height());
    let (format, bytes) = match decoded {
        image::DynamicImage::ImageLuma8(gray) => (PixelFormat::Gray8, gray.into_raw()),
        other => (PixelFormat::Rgb8, other.into_rgb8().into_raw()),
    };
    Ok(Picture { geometry: Geometry::packed(width, height, format)?, bytes })
}
