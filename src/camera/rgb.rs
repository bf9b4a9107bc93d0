//! Decoded pictures as RGB, for cameras whose frames must all have one format.

use super::picture::Picture;
use super::{Colors, Geometry, PixelFormat};

impl Picture {
    /// The same picture as RGB.
    pub(super) fn into_rgb(self) -> Self {
        if self.geometry.format == PixelFormat::Rgb8 {
            return self;
        }
        let Geometry { width, height, .. } = self.geometry;
        let format = PixelFormat::Rgb8;
        let geometry = Geometry { width, height, stride: width as usize * 3, format, colors: Colors::default() };
        Self { geometry, bytes: self.bytes.iter().flat_map(|&gray| [gray; 3]).collect() }
    }
}
