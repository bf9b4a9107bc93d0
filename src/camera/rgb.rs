//! Decoded pictures as RGB, for cameras whose frames must all have one format.

use super::picture::Picture;
use super::{Geometry, PixelFormat};

impl Picture {
    /// The same picture as RGB.
    pub(super) fn into_rgb(self) -> Self {
        if self.geometry.format == PixelFormat::Rgb8 {
            return self;
        }
        let geometry =
            Geometry { stride: self.geometry.width as usize * 3, format: PixelFormat::Rgb8, ..self.geometry };
        Self { geometry, bytes: self.bytes.iter().flat_map(|&gray| [gray; 3]).collect() }
    }
}
