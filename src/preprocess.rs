//! In: a frame. Out: the network's input as an int8 tensor, value = pixel - 128.
//!
//! Crop to the ROI, or to one of its tiles after the other, convert to RGB, resize by anti-aliased bilinear convolution
//! (see [`crate::resize`]). Everything is allocated when the preprocessor is built.
//!
//! Cost (see `fcam bench --format`): resizing dominates; converting YUV adds a quarter to a half, and gray and RGB
//! frames are read where they are, without a copy. Rows are converted just before they are resized, while they are in
//! the cache. The planes of JPEG are resized apart.

use serde::{Deserialize, Serialize};

use crate::camera::{Frame, Geometry, PixelFormat};
use crate::resize::Resizer;

mod apart;
mod color;
pub mod tile;

use apart::Apart;
pub use tile::{Area, Layout, Tile, Tiles};

/// A rectangle of the frame that is inspected, in frame pixels.
///
/// ```
/// use fcam::camera::{Geometry, PixelFormat};
/// use fcam::preprocess::{Preprocessor, Roi};
///
/// let geometry = Geometry::packed(64, 48, PixelFormat::Gray8)?;
/// assert_eq!(Roi::whole(&geometry), Roi { x: 0, y: 0, width: 64, height: 48 });
/// let outside = Preprocessor::new(geometry, Roi { x: 40, y: 0, width: 32, height: 32 }, 8, 8);
/// let error = outside.err().ok_or("it fits")?;
/// assert_eq!(error.to_string(), "roi 32x32 at (40, 0) does not lie inside the 64x48 frame");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use fcam::preprocess::Tensor;
///
/// let black_and_white = [0_u8, 0, 0, 255, 255, 255].map(|level| (level ^ 0x80) as i8); // less 128
/// let tensor = Tensor { width: 2, height: 1, values: &black_and_white };
/// assert_eq!(tensor.values, [-128, -128, -128, 127, 127, 127]);
/// ```
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
    /// A ROI cannot be cut like this.
    #[error("{problem}")]
    Tiles {
        /// Why, with the numbers.
        problem: String,
    },
    /// Each tile costs a run of the network.
    #[error("the rois have {count} tiles, {} are possible: make inspect.tiles coarser", tile::MAX_TILES)]
    TooMany {
        /// Tiles there would be.
        count: usize,
    },
}

/// Turns frames of one geometry into tensors of one size, a tensor for each tile.
///
/// ```
/// use fcam::camera::{Frame, Geometry, PixelFormat};
/// use fcam::preprocess::{Preprocessor, Roi};
///
/// let geometry = Geometry::packed(64, 48, PixelFormat::Gray8)?;
/// let roi = Roi { x: 16, y: 8, width: 32, height: 32 };
/// let mut preprocessor = Preprocessor::new(geometry, roi, 8, 8)?;
/// let bytes = vec![200; geometry.frame_bytes()];
/// let tensor = preprocessor.run(&Frame::new(0, fcam::clock::now(), geometry, &bytes)?);
/// assert_eq!(tensor.values, [200 - 128; 8 * 8 * 3].map(|value: i32| value as i8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Preprocessor {
    geometry: Geometry,
    /// Each tile, and the resizer that brings its size to the network's.
    tiles: Vec<(Roi, usize)>,
    /// One for each size of tile; none for the planes of JPEG.
    resizers: Vec<Resizer>,
    /// One for each tile, for the planes of JPEG; none otherwise.
    apart: Vec<Apart>,
    /// Some rows of a tile as packed RGB, when the frame is packed or planar YUV; empty otherwise.
    staging: Vec<u8>,
    width: usize,
    height: usize,
    tensor: Vec<i8>,
}

impl Preprocessor {
    /// Checks the ROI and allocates; `width` x `height` is the network's input in pixels.
    pub fn new(geometry: Geometry, roi: Roi, width: u32, height: u32) -> Result<Self, Error> {
        Self::tiled(geometry, &[roi.into()], width, height)
    }

    /// The same for tiles, which must lie in the frame.
    pub fn tiled(geometry: Geometry, tiles: &[Tile], width: u32, height: u32) -> Result<Self, Error> {
        if let Some(Tile { roi, .. }) = tiles.iter().find(|tile| !tile.roi.fits(&geometry)) {
            return Err(Error::Roi { roi: *roi, geometry });
        }
        if width == 0 || height == 0 || width > Geometry::MAX_SIDE || height > Geometry::MAX_SIDE {
            return Err(Error::Size { width, height });
        }
        let apart: Vec<Apart> =
            tiles.iter().filter_map(|tile| Apart::new(&geometry, tile.roi, (width, height))).collect();
        let converted = if apart.is_empty() { tiles } else { &[] };
        let mut sizes: Vec<(u32, u32)> = converted.iter().map(|tile| (tile.roi.width, tile.roi.height)).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let resizer = |roi: Roi| sizes.binary_search(&(roi.width, roi.height)).unwrap_or(0);
        let tiles = tiles.iter().map(|tile| (tile.roi, resizer(tile.roi))).collect();
        let gray = geometry.format == PixelFormat::Gray8;
        let resizers: Vec<_> = sizes.iter().map(|&size| Resizer::new(size, (width, height), gray)).collect();
        let most = resizers.iter().map(Resizer::window_bytes).max().unwrap_or(0);
        Ok(Self {
            geometry,
            tiles,
            resizers,
            apart,
            staging: vec![0; if in_place(geometry.format) { 0 } else { most }],
            width: width as usize,
            height: height as usize,
            tensor: vec![0; width as usize * height as usize * 3],
        })
    }

    /// The geometry this was built for.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// How many tensors a frame makes.
    pub fn tiles(&self) -> usize {
        self.tiles.len()
    }

    /// The tensor of a frame, or of its first tile. The frame must have the geometry this was built for: the pipeline
    /// checks it once a frame.
    pub fn run(&mut self, frame: &Frame) -> Tensor<'_> {
        self.run_tile(frame, 0)
    }

    /// The tensor of one tile of a frame; `tile` is below [`Preprocessor::tiles`].
    pub fn run_tile(&mut self, frame: &Frame, tile: usize) -> Tensor<'_> {
        debug_assert_eq!(frame.geometry(), self.geometry);
        debug_assert!(tile < self.tiles.len());
        let Self { tiles, resizers, apart, staging, tensor, width, height, .. } = self;
        let Geometry { stride, format, .. } = self.geometry;
        let mut rows = tensor.chunks_exact_mut(*width * 3);
        if let Some(apart) = apart.get_mut(tile) {
            apart.run(frame, |row| center_rgb(row, rows.next().unwrap_or_default()));
        } else if let Some(&(roi, size)) = tiles.get(tile)
            && let Some(resizer) = resizers.get_mut(size)
        {
            let each = |row: &[u8]| match format {
                PixelFormat::Gray8 => spread_gray(row, rows.next().unwrap_or_default()),
                _ => center_rgb(row, rows.next().unwrap_or_default()),
            };
            if in_place(format) {
                let start = roi.y as usize * stride + format.row_bytes(roi.x);
                resizer.run(frame.bytes().get(start..).unwrap_or_default(), stride, each);
            } else {
                let make = |row, out: &mut [u8]| {
                    let height = (out.len() / (roi.width as usize * 3)) as u32;
                    color::extract(frame, Roi { y: roi.y + row as u32, height, ..roi }, out);
                };
                resizer.run_made(staging, make, each);
            }
        }
        Tensor { width: *width, height: *height, values: tensor }
    }
}

/// True if the frame's own bytes are what is resized.
fn in_place(format: PixelFormat) -> bool {
    matches!(format, PixelFormat::Gray8 | PixelFormat::Rgb8)
}

/// The pixels of a whole frame, row after row: one byte a pixel for gray frames, R G B for all others.
///
/// ```
/// use fcam::camera::{Frame, Geometry, PixelFormat};
///
/// let geometry = Geometry::packed(2, 2, PixelFormat::Yuyv)?;
/// let bytes = [16, 128, 235, 128].repeat(2);
/// let frame = Frame::new(0, fcam::clock::now(), geometry, &bytes)?;
/// let mut rgb = vec![];
/// fcam::preprocess::unpack(&frame, &mut rgb);
/// assert_eq!(rgb[..6], [0, 0, 0, 255, 255, 255]); // limited range: 16 is black, 235 is white
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn unpack(frame: &Frame, out: &mut Vec<u8>) {
    let geometry = frame.geometry();
    out.resize(geometry.width as usize * geometry.height as usize * channels(geometry.format), 0);
    color::extract(frame, Roi::whole(&geometry), out);
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
