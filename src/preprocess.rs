//! In: a frame. Out: the network's input as an int8 tensor, value = pixel - 128.
//!
//! Crop to the ROI, convert to RGB, resize by anti-aliased bilinear convolution (as Pillow's BILINEAR: never more than one
//! grey level apart, see tests/preprocess.rs). Everything is allocated when the preprocessor is built.
//!
//! Cost (see `fcam bench`): the resize reads every pixel of the ROI once and dominates; RGB and gray frames that fill their
//! rows are resized in place, without a copy.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use fast_image_resize::{ImageView, PixelTrait};
use serde::{Deserialize, Serialize};

use crate::camera::{Frame, Geometry, PixelFormat};

mod color;

/// A rectangle of the frame that is inspected, in frame pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roi {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Pixels across, at least 1.
    pub width: u32,
    /// Pixels down, at least 1.
    pub height: u32,
}

impl Roi {
    /// The whole frame.
    pub fn whole(geometry: &Geometry) -> Self {
        Self { x: 0, y: 0, width: geometry.width, height: geometry.height }
    }

    fn fits(&self, geometry: &Geometry) -> bool {
        let right = self.x.checked_add(self.width);
        let bottom = self.y.checked_add(self.height);
        self.width > 0
            && self.height > 0
            && right.is_some_and(|right| right <= geometry.width)
            && bottom.is_some_and(|bottom| bottom <= geometry.height)
    }
}

/// The network's input: int8 NHWC, one picture of three channels, value = pixel - 128 (scale 1/128, zero point 0).
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// `height * width * 3` values, R G B interleaved.
    pub values: &'a [i8],
}

/// A ROI that does not lie in the frame, or an input size of zero.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ROI sticks out of the frame.
    #[error(
        "roi {}x{} at ({}, {}) does not lie inside the {}x{} frame", roi.width, roi.height, roi.x, roi.y,
        geometry.width, geometry.height
    )]
    Roi {
        /// The ROI as configured.
        roi: Roi,
        /// The frame it should lie in.
        geometry: Geometry,
    },
    /// The network's input size cannot be used.
    #[error("a network input of {width} x {height} pixels cannot be resized to")]
    Size {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
}

/// Turns frames of one geometry into tensors of one size.
pub struct Preprocessor {
    geometry: Geometry,
    roi: Roi,
    resizer: Resizer,
    options: ResizeOptions,
    /// The ROI in a form the resizer takes, when the frame itself is not one.
    staging: Vec<u8>,
    gray: TypedImage<'static, U8>,
    rgb: TypedImage<'static, U8x3>,
    tensor: Vec<i8>,
}

impl Preprocessor {
    /// Checks the ROI and allocates; `width` x `height` is the network's input in pixels.
    pub fn new(geometry: Geometry, roi: Roi, width: u32, height: u32) -> Result<Self, Error> {
        if !roi.fits(&geometry) {
            return Err(Error::Roi { roi, geometry });
        }
        if width == 0 || height == 0 || width > Geometry::MAX_SIDE || height > Geometry::MAX_SIDE {
            return Err(Error::Size { width, height });
        }
        let pixels = roi.width as usize * roi.height as usize;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        let mut new = Self {
            geometry,
            roi,
            resizer: Resizer::new(),
            options,
            staging: vec![0; pixels * channels(geometry.format)],
            gray: TypedImage::new(width, height),
            rgb: TypedImage::new(width, height),
            tensor: vec![0; width as usize * height as usize * 3],
        };
        new.resize_staging(); // lets the resizer allocate its own buffers and tables now
        Ok(new)
    }

    /// The geometry this was built for.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The ROI this was built for.
    pub fn roi(&self) -> Roi {
        self.roi
    }

    /// The tensor of a frame. The frame must have the geometry this was built for: the pipeline checks it once a frame.
    pub fn run(&mut self, frame: &Frame) -> Tensor<'_> {
        debug_assert_eq!(frame.geometry(), self.geometry);
        if self.fills_rows() {
            self.resize_in_place(frame.bytes());
        } else {
            color::stage(frame, self.roi, &mut self.staging);
            self.resize_staging();
        }
        match self.geometry.format {
            PixelFormat::Gray8 => spread_gray(self.gray.pixels(), &mut self.tensor),
            _ => center_rgb(self.rgb.pixels(), &mut self.tensor),
        }
        Tensor { width: self.rgb.width() as usize, height: self.rgb.height() as usize, values: &self.tensor }
    }

    /// True if the frame's bytes are already the ROI's pixels, gray or RGB, row after row.
    fn fills_rows(&self) -> bool {
        let Geometry { width, stride, format, .. } = self.geometry;
        matches!(format, PixelFormat::Gray8 | PixelFormat::Rgb8)
            && self.roi == Roi::whole(&self.geometry)
            && stride == format.row_bytes(width)
    }

    fn resize_in_place(&mut self, bytes: &[u8]) {
        let size = (self.roi.width, self.roi.height);
        match self.geometry.format {
            PixelFormat::Gray8 => resize(&mut self.resizer, &self.options, bytes, size, &mut self.gray),
            _ => resize(&mut self.resizer, &self.options, bytes, size, &mut self.rgb),
        }
    }

    fn resize_staging(&mut self) {
        let staging = std::mem::take(&mut self.staging);
        self.resize_in_place(&staging);
        self.staging = staging;
    }
}

/// The pixels of a whole frame, row after row: one byte a pixel for gray frames, R G B for all others.
pub fn unpack(frame: &Frame, out: &mut Vec<u8>) {
    let geometry = frame.geometry();
    out.resize(geometry.width as usize * geometry.height as usize * channels(geometry.format), 0);
    color::stage(frame, Roi::whole(&geometry), out);
}

fn channels(format: PixelFormat) -> usize {
    if format == PixelFormat::Gray8 { 1 } else { 3 }
}

fn resize<P: PixelTrait>(
    resizer: &mut Resizer,
    options: &ResizeOptions,
    bytes: &[u8],
    (width, height): (u32, u32),
    into: &mut TypedImage<'static, P>,
) {
    // Neither step can fail: the bytes were counted when the frame was made, u8 pixels need no alignment, and the only
    // errors of a typed resize are about crop boxes, of which there is none.
    let done = TypedImageRef::<P>::from_buffer(width, height, bytes)
        .map(|source| resizer.resize_typed(&source, into, options).is_ok());
    debug_assert!(matches!(done, Ok(true)));
}

/// pixel - 128 in one instruction: flipping the top bit of an unsigned byte makes the signed one.
fn center(pixel: u8) -> i8 {
    (pixel ^ 0x80) as i8
}

fn center_rgb(pixels: &[U8x3], tensor: &mut [i8]) {
    for (out, pixel) in tensor.chunks_exact_mut(3).zip(pixels) {
        for (out, &value) in out.iter_mut().zip(&pixel.0) {
            *out = center(value);
        }
    }
}

fn spread_gray(pixels: &[U8], tensor: &mut [i8]) {
    for (out, pixel) in tensor.chunks_exact_mut(3).zip(pixels) {
        out.fill(center(pixel.0));
    }
}
