//! In: a frame. Out: the network's input as an int8 tensor, value = pixel - 128.
//!
//! Crop to the ROI, convert to RGB, resize by anti-aliased bilinear convolution (see [`crate::resize`]). Everything is allocated
//! when the preprocessor is built.
//!
//! Cost (see `fcam bench`): reading every pixel of the ROI once dominates; gray and RGB frames are read where they are, without
//! a copy.

use serde::{Deserialize, Serialize};

use crate::camera::{Frame, Geometry, PixelFormat};
use crate::resize::Resizer;

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
    /// The ROI as packed RGB, when the frame is not RGB or gray itself; empty otherwise.
    staging: Vec<u8>,
    width: usize,
    height: usize,
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
        let staged = if in_place(geometry.format) { 0 } else { roi.width as usize * roi.height as usize * 3 };
        let resizer = Resizer::new((roi.width, roi.height), (width, height), geometry.format == PixelFormat::Gray8);
        let (width, height) = (width as usize, height as usize);
        Ok(Self {
            geometry,
            roi,
            resizer,
            staging: vec![0; staged],
            width,
            height,
            tensor: vec![0; width * height * 3],
        })
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
        let Self { roi, resizer, staging, tensor, width, height, .. } = self;
        let Geometry { stride, format, .. } = self.geometry;
        let (bytes, stride) = if in_place(format) {
            let start = roi.y as usize * stride + format.row_bytes(roi.x);
            (frame.bytes().get(start..).unwrap_or_default(), stride)
        } else {
            color::stage(frame, *roi, staging);
            (staging.as_slice(), roi.width as usize * 3)
        };
        let mut rows = tensor.chunks_exact_mut(*width * 3);
        resizer.run(bytes, stride, |row| match format {
            PixelFormat::Gray8 => spread_gray(row, rows.next().unwrap_or_default()),
            _ => center_rgb(row, rows.next().unwrap_or_default()),
        });
        Tensor { width: *width, height: *height, values: tensor }
    }
}

/// True if the frame's own bytes are what is resized.
fn in_place(format: PixelFormat) -> bool {
    matches!(format, PixelFormat::Gray8 | PixelFormat::Rgb8)
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

/// pixel - 128 in one instruction: flipping the top bit of an unsigned byte makes the signed one.
fn center(pixel: u8) -> i8 {
    (pixel ^ 0x80) as i8
}

fn center_rgb(row: &[u8], tensor: &mut [i8]) {
    for (out, &value) in tensor.iter_mut().zip(row) {
        *out = center(value);
    }
}

fn spread_gray(row: &[u8], tensor: &mut [i8]) {
    for (out, &value) in tensor.as_chunks_mut::<3>().0.iter_mut().zip(row) {
        *out = [center(value); 3];
    }
}
