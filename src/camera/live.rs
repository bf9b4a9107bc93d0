//! In: the frames of a camera with a live sensor. Out: the same frames; an error in place of each that has the very
//! bytes of those before it.
//!
//! No two exposures have the same noise: a camera, driver or program that sends one picture again and again hangs, and
//! every part would get the verdict of the one in the picture. A few hundred bytes tell almost any two frames apart, so
//! that only those are kept of a frame; a whole one is copied and compared only where all of them are equal.

use super::{Camera, Error, Frame, Geometry};
use crate::clock::Timestamp;

/// Bytes of a frame that are looked at first, spread over all of it.
const SAMPLES: usize = 256;

/// A camera that may not send the same picture forever.
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::camera::{Camera, Error, Live, Pattern};
/// use fcam::clock;
///
/// let bundle = Bundle::embedded()?;
/// let hung = Pattern::open(bundle.samples().take(1), Some((64, 48)))?; // one picture, again and again
/// let mut camera = Live::new(Box::new(hung), 3);
/// assert!(camera.next(clock::now()).is_ok() && camera.next(clock::now()).is_ok());
/// assert!(matches!(camera.next(clock::now()), Err(Error::Frozen { frames: 3, .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Live {
    camera: Box<dyn Camera>,
    limit: u64,
    row: Row,
}

impl Live {
    /// From the frame on that is number `limit` of equal ones in a row, each is [`Error::Frozen`]; with a limit of 0
    /// none is.
    pub fn new(camera: Box<dyn Camera>, limit: u64) -> Self {
        Self { camera, limit, row: Row::default() }
    }
}

impl Camera for Live {
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, Error> {
        let frame = self.camera.next(deadline)?;
        if self.limit == 0 {
            return Ok(frame);
        }
        match self.row.count(&frame) {
            frames if frames >= self.limit => Err(Error::Frozen { frames, captured: frame.captured() }),
            _ => Ok(frame),
        }
    }

    fn describe(&self) -> String {
        self.camera.describe()
    }
}

/// Equal frames, one after the other.
#[derive(Debug, Default)]
struct Row {
    geometry: Option<Geometry>,
    samples: Vec<u8>,
    /// The second frame of the row; empty while there is none.
    whole: Vec<u8>,
    length: u64,
}

impl Row {
    /// How many frames in a row are equal, with this one: 1 if it differs from the one before. Of the first frame the
    /// samples alone are known: it counts as equal if they are.
    fn count(&mut self, frame: &Frame) -> u64 {
        let bytes = frame.bytes();
        if !self.goes_on(frame) {
            self.geometry = Some(frame.geometry());
            self.samples.clear();
            self.samples.extend(samples(bytes));
            self.whole.clear();
            self.length = 0;
        } else if self.whole.is_empty() {
            self.whole.extend_from_slice(bytes);
        }
        self.length += 1;
        self.length
    }

    fn goes_on(&self, frame: &Frame) -> bool {
        self.geometry == Some(frame.geometry())
            && self.samples.iter().copied().eq(samples(frame.bytes()))
            && (self.whole.is_empty() || self.whole == frame.bytes())
    }
}

fn samples(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().step_by(bytes.len().div_ceil(SAMPLES).max(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::PixelFormat;

    fn lengths(frames: &[Vec<u8>]) -> Vec<u64> {
        let mut row = Row::default();
        let count = |bytes: &Vec<u8>| {
            let geometry = Geometry::packed(100, bytes.len() as u32 / 100, PixelFormat::Gray8).unwrap();
            row.count(&Frame::new(0, Timestamp::ZERO, geometry, bytes).unwrap())
        };
        frames.iter().map(count).collect()
    }

    /// A picture of 100 x 80 with one bright pixel.
    fn dot(at: usize) -> Vec<u8> {
        let mut bytes = vec![7; 8000];
        bytes[at] = 255;
        bytes
    }

    #[test]
    fn rows_of_equal_frames() {
        let (a, b) = (dot(0), dot(32)); // both in the samples
        assert_eq!(lengths(&[a.clone(), a.clone(), a.clone(), b.clone(), a.clone(), a.clone()]), [1, 2, 3, 1, 1, 2]);
        assert_eq!(lengths(&[a.clone(), b.clone(), a, b]), [1, 1, 1, 1]);
    }

    #[test]
    fn a_difference_between_the_samples_ends_a_row() {
        let (a, b) = (dot(1), dot(2));
        assert_eq!(lengths(&[a.clone(), a.clone(), a.clone(), b.clone(), b.clone(), b]), [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn another_size_ends_a_row() {
        assert_eq!(
            lengths(&[vec![0; 8000], vec![0; 8000], vec![0; 7000], vec![0; 7000], vec![0; 8000]]),
            [1, 2, 1, 2, 1]
        );
    }

    #[test]
    fn small_frames_are_sampled_whole() {
        assert_eq!(samples(&[1, 2, 3]).collect::<Vec<_>>(), [1, 2, 3]);
        for length in [SAMPLES, SAMPLES + 1, 921_600] {
            assert!((SAMPLES / 2..=SAMPLES).contains(&samples(&vec![0; length]).count()), "{length}");
        }
    }
}
