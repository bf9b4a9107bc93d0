//! Pictures from memory. In: a few compressed pictures, such as a bundle's samples. Out: frames of one size, in turn,
//! RGB unless asked otherwise.
//!
//! All decoding and resizing happens when the camera is opened, so that a frame costs nothing: what runs behind it can
//! be measured. Refuses an empty list and pictures that do not decode.

use super::encode::encode;
use super::pace::Pace;
use super::picture::{self, Picture};
use super::{Camera, Error, Frame, Geometry, PixelFormat};
use crate::clock::{self, Timestamp};
use crate::resize::Resizer;

/// A camera that shows a few pictures in turn.
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::camera::{Camera, Error, Pattern, PixelFormat};
/// use fcam::clock;
///
/// let bundle = Bundle::embedded()?;
/// let pattern = Pattern::open(bundle.samples().take(1), Some((320, 240)))?;
/// let mut camera = pattern.encode(PixelFormat::Nv12)?.limit(1);
/// assert_eq!(camera.next(clock::now())?.bytes().len(), 320 * 240 * 3 / 2);
/// assert!(matches!(camera.next(clock::now()), Err(Error::Ended)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pattern {
    geometry: Geometry,
    pictures: Vec<Vec<u8>>,
    pace: Pace,
    sequence: u64,
    /// Frames to deliver in all.
    limit: u64,
}

impl Pattern {
    /// Decodes `samples`, which are names and compressed pictures, and brings them to `size` (width, height), by
    /// default the size of the first. Frames come forever and as fast as they are asked for; see [`Pattern::pace`],
    /// [`Pattern::limit`].
    pub fn open<'a>(
        samples: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        size: Option<(u32, u32)>,
    ) -> Result<Self, Error> {
        let decode = |(name, bytes)| picture::decode(bytes, name).map(Picture::into_rgb);
        let decoded = samples.into_iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        let first = decoded.first().ok_or_else(|| Error::NoPictures("the bundle's samples".into()))?;
        let (width, height) = size.unwrap_or((first.geometry.width, first.geometry.height));
        let geometry = Geometry::packed(width, height, PixelFormat::Rgb8)?;
        let pictures = decoded.into_iter().map(|picture| resize(picture, geometry)).collect();
        Ok(Self { geometry, pictures, pace: Pace::new(None), sequence: 0, limit: u64::MAX })
    }

    /// Delivers at most this many frames a second; a rate that is not positive sets no limit.
    pub fn pace(mut self, frames_per_second: f64) -> Self {
        self.pace = Pace::new(Some(frames_per_second));
        self
    }

    /// Ends after this many frames.
    pub fn limit(mut self, frames: u64) -> Self {
        self.limit = frames;
        self
    }

    /// Frames in another format than RGB, as a camera would send them; refuses a size that the format does not have.
    pub fn encode(mut self, format: PixelFormat) -> Result<Self, Error> {
        self.geometry = Geometry::packed(self.geometry.width, self.geometry.height, format)?;
        for picture in &mut self.pictures {
            *picture = encode(picture, self.geometry);
        }
        Ok(self)
    }

    /// The size and format of all frames.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }
}

impl Camera for Pattern {
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, Error> {
        if self.sequence >= self.limit {
            return Err(Error::Ended);
        }
        let asked = clock::now();
        if !self.pace.wait(deadline) {
            return Err(Error::Timeout { camera: self.describe(), waited: clock::now().saturating_sub(asked) });
        }
        let sequence = self.sequence;
        self.sequence += 1;
        let index = sequence % (self.pictures.len() as u64).max(1);
        let bytes = self.pictures.get(index as usize).map_or(&[][..], Vec::as_slice);
        Frame::new(sequence, clock::now(), self.geometry, bytes)
    }

    fn describe(&self) -> String {
        let Geometry { width, height, format, .. } = self.geometry;
        format!("pattern of {} pictures ({width} x {height} {format:?})", self.pictures.len())
    }
}

fn resize(picture: Picture, into: Geometry) -> Vec<u8> {
    let Geometry { width, height, .. } = picture.geometry;
    if (width, height) == (into.width, into.height) {
        return picture.bytes;
    }
    let mut resized = Vec::with_capacity(into.frame_bytes());
    let stride = picture.geometry.stride;
    Resizer::new((width, height), (into.width, into.height), false)
        .run(&picture.bytes, stride, |row| resized.extend_from_slice(row));
    resized
}
