//! Where frames come from. In: a device, a child process or files. Out: [`Frame`]s, stamped at this edge.
//!
//! Compressed pictures are decoded here, because decoding can fail and nothing to the right of the engine may.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

mod backoff;
mod encode;
mod folder;
pub mod jpeg;
mod live;
mod pace;
mod pattern;
pub mod picture;
pub mod pipe;
mod rgb;
mod setting;
#[cfg(feature = "v4l2")]
pub mod v4l2;

pub use folder::Folder;
pub use live::Live;
pub use pattern::Pattern;
pub use pipe::Pipe;
pub use setting::Setting;
#[cfg(feature = "v4l2")]
pub use v4l2::V4l2;

/// How a frame's bytes make pixels. The names are those of V4L2 and ffmpeg.
///
/// ```
/// use fcam::camera::PixelFormat;
///
/// assert_eq!(PixelFormat::Rgb8.row_bytes(100), 300);
/// assert_eq!(PixelFormat::Nv12.row_bytes(100), 100); // of the first plane
/// assert!(PixelFormat::Yuyv.needs_even_size()); // two pixels share their chroma
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelFormat {
    /// One byte a pixel, luminance.
    Gray8,
    /// Three bytes a pixel: R, G, B.
    Rgb8,
    /// Packed 4:2:2, Y0 U Y1 V.
    Yuyv,
    /// A plane of Y, then one of interleaved U and V at half resolution.
    Nv12,
    /// Planes of Y, U and V, the latter two at half resolution.
    I420,
    /// As a JPEG picture has them, BT.601 in full range: planes of Y, U and V, the latter two at half resolution. Here
    /// and in the next three, what is odd is rounded up: the last sample of chroma is then of one pixel.
    Yuvj420,
    /// The same with chroma at half resolution across.
    Yuvj422,
    /// The same with chroma at half resolution down.
    Yuvj440,
    /// The same with chroma at full resolution.
    Yuvj444,
}

impl PixelFormat {
    /// Bytes in one row of the first plane, without padding.
    pub fn row_bytes(self, width: u32) -> usize {
        let width = width as usize;
        match self {
            Self::Gray8 | Self::Nv12 | Self::I420 | Self::Yuvj440 | Self::Yuvj444 => width,
            Self::Yuvj420 | Self::Yuvj422 => width.next_multiple_of(2),
            Self::Rgb8 => width * 3,
            Self::Yuyv => width * 2,
        }
    }

    /// True if width and height must be even (chroma is shared by neighbours).
    pub fn needs_even_size(self) -> bool {
        matches!(self, Self::Yuyv | Self::Nv12 | Self::I420)
    }
}

/// Which colours Y, U and V mean: the matrix (ITU-R BT.601-7 or BT.709-6), and limited range (luma 16..235) or full
/// (0..255, as in JPEG).
///
/// ```
/// use fcam::camera::{Colors, Geometry, PixelFormat};
///
/// let hd = Geometry::packed(1280, 720, PixelFormat::Nv12)?.with_colors(Colors::Bt709);
/// assert_eq!(hd.colors, Colors::Bt709);
/// let gray = Geometry::packed(1280, 720, PixelFormat::Gray8)?.with_colors(Colors::Bt709);
/// assert_eq!(gray.colors, Colors::default()); // gray has none
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colors {
    /// BT.601, limited range: what most cameras deliver.
    #[default]
    Bt601,
    /// BT.601, full range.
    #[serde(rename = "bt601-full")]
    Bt601Full,
    /// BT.709, limited range.
    Bt709,
    /// BT.709, full range.
    #[serde(rename = "bt709-full")]
    Bt709Full,
}

/// What stays the same from frame to frame while a camera streams.
///
/// ```
/// use fcam::camera::{Geometry, PixelFormat};
///
/// let padded = Geometry::new(640, 480, 704, PixelFormat::Gray8)?; // 64 bytes that are no pixels behind each row
/// assert_eq!(padded.frame_bytes(), 704 * 480);
/// let error = Geometry::packed(641, 480, PixelFormat::Yuyv).unwrap_err();
/// assert_eq!(error.to_string(), "a 641 x 480 Yuyv frame needs an even width and height");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Pixels across, 1 to 16384.
    pub width: u32,
    /// Pixels down, 1 to 16384.
    pub height: u32,
    /// Bytes from one row of the first plane to the next. Planes of I420's chroma have half of it.
    pub stride: usize,
    /// Layout of the bytes.
    pub format: PixelFormat,
    /// What the values of YUV formats mean; of no account to the others, which have the default.
    pub colors: Colors,
}

impl Geometry {
    /// The largest width and height accepted, in pixels: no sensor here has more, and a broken header easily does.
    pub const MAX_SIDE: u32 = 16_384;

    /// A geometry without padding between rows; refuses sizes that the format or this runtime cannot hold.
    pub fn packed(width: u32, height: u32, format: PixelFormat) -> Result<Self, Error> {
        Self::new(width, height, format.row_bytes(width), format)
    }

    /// A geometry with `stride` bytes from row to row.
    pub fn new(width: u32, height: u32, stride: usize, format: PixelFormat) -> Result<Self, Error> {
        let bad = |why| Err(Error::Geometry { width, height, format, why });
        if width == 0 || height == 0 {
            return bad("has no pixels");
        }
        if width > Self::MAX_SIDE || height > Self::MAX_SIDE {
            return bad("is larger than 16384 pixels a side");
        }
        if format.needs_even_size() && !(width.is_multiple_of(2) && height.is_multiple_of(2)) {
            return bad("needs an even width and height");
        }
        if stride < format.row_bytes(width) || stride > 64 * Self::MAX_SIDE as usize {
            return bad("has a stride shorter than a row, or absurdly long");
        }
        Ok(Self { width, height, stride, format, colors: Colors::default() })
    }

    /// The same with other colours, if the format has such.
    pub fn with_colors(self, colors: Colors) -> Self {
        let colors = if self.format.needs_even_size() { colors } else { Colors::default() };
        Self { colors, ..self }
    }

    /// Bytes that a frame has at least.
    pub fn frame_bytes(&self) -> usize {
        let rows = self.height as usize;
        match self.format {
            PixelFormat::Gray8 | PixelFormat::Rgb8 | PixelFormat::Yuyv => self.stride * rows,
            PixelFormat::Nv12 => self.stride * rows + self.stride * (rows / 2),
            PixelFormat::I420 => self.stride * rows + 2 * ((self.stride / 2) * (rows / 2)),
            PixelFormat::Yuvj420 => self.stride * rows + 2 * ((self.stride / 2) * rows.div_ceil(2)),
            PixelFormat::Yuvj422 => self.stride * rows + 2 * ((self.stride / 2) * rows),
            PixelFormat::Yuvj440 => self.stride * rows + 2 * (self.stride * rows.div_ceil(2)),
            PixelFormat::Yuvj444 => self.stride * rows * 3,
        }
    }
}

/// One picture, with its bytes borrowed from the camera until the next is asked for.
///
/// ```
/// use fcam::camera::{Frame, Geometry, PixelFormat};
///
/// let geometry = Geometry::packed(4, 2, PixelFormat::Rgb8)?;
/// let bytes = [0; 24];
/// assert!(Frame::new(0, fcam::clock::now(), geometry, &bytes).is_ok());
/// let short = Frame::new(1, fcam::clock::now(), geometry, &bytes[..23]);
/// assert_eq!(short.unwrap_err().to_string(), "frame 1 has 23 bytes of 24");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    sequence: u64,
    captured: Timestamp,
    geometry: Geometry,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// A frame; refuses fewer bytes than the geometry needs, so that nothing after this can read past the end.
    pub fn new(sequence: u64, captured: Timestamp, geometry: Geometry, bytes: &'a [u8]) -> Result<Self, Error> {
        let needed = geometry.frame_bytes();
        match bytes.get(..needed) {
            Some(bytes) => Ok(Self { sequence, captured, geometry, bytes }),
            None => Err(Error::ShortFrame { sequence, got: bytes.len(), needed }),
        }
    }

    /// Counts up from 0 at the camera; a gap is a dropped frame.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it was exposed, by the driver where it tells (most mean the end of the exposure, USB cameras its start),
    /// else when the last byte arrived.
    pub fn captured(&self) -> Timestamp {
        self.captured
    }

    /// Size, stride and format.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Exactly [`Geometry::frame_bytes`] bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its size and format.
    pub geometry: Geometry,
    /// Exactly [`Geometry::frame_bytes`] bytes.
    pub bytes: Vec<u8>,
}

impl Picture {
    /// Without pixels, to be decoded into.
    pub const EMPTY: Self = Self {
        geometry: Geometry { width: 0, height: 0, stride: 0, format: PixelFormat::Gray8, colors: Colors::Bt601 },
        bytes: vec![],
    };
}

/// A source of frames, chosen at run time.
///
/// ```
/// use fcam::camera::{Camera, Error, Frame, Geometry};
/// use fcam::clock::{self, Timestamp};
///
/// /// The same gray sheet again and again; a real camera waits for its sensor, until the deadline.
/// struct Sheet(Geometry, Vec<u8>, u64);
///
/// impl Camera for Sheet {
///     fn next(&mut self, _deadline: Timestamp) -> Result<Frame<'_>, Error> {
///         self.2 += 1;
///         Frame::new(self.2 - 1, clock::now(), self.0, &self.1)
///     }
///
///     fn describe(&self) -> String {
///         "a sheet".into()
///     }
/// }
/// # let geometry = Geometry::packed(8, 4, fcam::camera::PixelFormat::Gray8)?;
/// # let mut camera = Sheet(geometry, vec![128; geometry.frame_bytes()], 0);
/// # camera.next(clock::now())?;
/// # assert_eq!(camera.next(clock::now())?.sequence(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Camera: Send {
    /// Waits for the next frame until `deadline` (monotonic). After an error other than [`Error::Ended`] the camera may
    /// be asked again: it tries to come back by itself, at the pace it is asked.
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, Error>;

    /// One line for logs: kind and source.
    fn describe(&self) -> String;
}

/// What goes wrong at a camera, one variant for each physical event.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing more to come: the folder or the child's stream is finished.
    #[error("the camera has no more pictures")]
    Ended,
    /// No complete frame before the deadline.
    #[error("no frame from {camera} within {waited:?}: is the camera connected and the trigger firing?")]
    Timeout {
        /// Which camera.
        camera: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The child process could not be started.
    #[error(
        "cannot start camera command `{command}`: {source}; is the program installed, and on the PATH of the service?"
    )]
    Spawn {
        /// The command line.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The child process ended while frames were expected.
    #[error(
        "camera command `{command}` ended ({status}) after {frames} frames; last words: {stderr}; run it by hand to see what it says"
    )]
    ChildEnded {
        /// The command line.
        command: String,
        /// Its exit status, in words.
        status: String,
        /// Frames it had delivered.
        frames: u64,
        /// The last line of its standard error.
        stderr: String,
    },
    /// Reading from the camera failed.
    #[error("cannot read from {camera}: {source}; is it connected, and has it power?")]
    Read {
        /// Which camera.
        camera: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A device that cannot be opened.
    #[error("cannot open camera {path}: {source}{hint}", path = path.display())]
    Device {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// A path to something that delivers no pictures.
    #[error("{path} is {is}: `fcam cameras` lists what delivers pictures", path = path.display())]
    NoCapture {
        /// Which path.
        path: PathBuf,
        /// What it is in place of a camera.
        is: String,
    },
    /// No camera, or more than one, goes by a name.
    #[error("no camera named {wanted:?}: {found}")]
    NoCamera {
        /// The name.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// Another camera is where the first one was.
    #[error("{path} is {found} now, and not {known}: name the camera by its link in /dev/v4l/by-id", path = path.display())]
    OtherCamera {
        /// The path.
        path: PathBuf,
        /// The camera that was there.
        known: String,
        /// The camera that is there.
        found: String,
    },
    /// The camera does not offer what it is asked for.
    #[error("{camera} {why}")]
    Refused {
        /// Which camera.
        camera: String,
        /// What it does not do, and what it does.
        why: String,
    },
    /// The driver fails.
    #[error("{camera} does not {action}: {source}")]
    Request {
        /// Which camera.
        camera: String,
        /// What it was asked to do.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The driver says that a picture is not whole.
    #[error("frame {sequence} of {camera} is damaged: is the cable good, and the bus not overloaded?")]
    Damaged {
        /// Which camera.
        camera: String,
        /// Which frame.
        sequence: u64,
    },
    /// A compressed picture could not be decoded.
    #[error("cannot decode {what}: {reason}")]
    Decode {
        /// The file, or the frame of a stream.
        what: String,
        /// What the decoder said.
        reason: String,
    },
    /// A compressed picture of another size than the camera is set to.
    #[error("{what} has {} x {} pixels, and camera.width and camera.height say {} x {}: set both to what the camera sends", .has.0, .has.1, .set.0, .set.1)]
    OtherSize {
        /// The frame of a stream.
        what: String,
        /// Its width and height.
        has: (u32, u32),
        /// The width and height that the station was set up for.
        set: (u32, u32),
    },
    /// The same bytes again and again, which no live sensor sends.
    #[error(
        "the same picture came {frames} times in a row: does the camera hang, or what feeds it? (camera.frozen_frames sets the limit, 0 is none)"
    )]
    Frozen {
        /// Frames in a row, the first of them included.
        frames: u64,
        /// When the last of them was captured.
        captured: Timestamp,
    },
    /// A path that cannot be listed or opened.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Paths without a single picture in them.
    #[error("no pictures (png, jpg, bmp, tiff) in {0}: name a folder that has some, or the pictures themselves")]
    NoPictures(String),
    /// A size or stride that is not possible.
    #[error("a {width} x {height} {format:?} frame {why}")]
    Geometry {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Layout.
        format: PixelFormat,
        /// What is wrong.
        why: &'static str,
    },
    /// Fewer bytes than the geometry needs.
    #[error("frame {sequence} has {got} bytes of {needed}")]
    ShortFrame {
        /// Which frame.
        sequence: u64,
        /// Bytes there are.
        got: usize,
        /// Bytes needed.
        needed: usize,
    },
}
