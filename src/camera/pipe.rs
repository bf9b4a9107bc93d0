//! Frames from a child process: rpicam-vid, gst-launch, ffmpeg or anything that writes video to its standard output.
//!
//! In: a command as a list of words (no shell is involved), and what it writes: raw frames of one geometry without
//! anything between them, or Motion JPEG. Out: frames, stamped when their last byte arrived. A frame that is not
//! complete is never delivered. When the child ends while frames are expected, that is an error, and it is started
//! again when the next frame is asked for, after a pause that doubles from 0.1 s to 5 s for as long as no frame comes.

use super::backoff::Backoff;
use super::jpeg::Decoder;
use super::picture::Picture;
use super::{Camera, Error, Frame, Geometry};
use crate::clock::{self, Timestamp};

mod child;
mod mjpeg;

use child::{Child, Got, Status};
use mjpeg::{Cut, Splitter};

/// Bytes of Motion JPEG that are read at once.
const CHUNK_BYTES: usize = 1 << 16;

/// What the child writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Frames of this geometry, one after the other.
    Raw(Geometry),
    /// JPEG pictures, one after the other; decoded here, to the planes that they have.
    Mjpeg,
}

/// A camera that is a child process.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::camera::{Camera, Error, Geometry, Pipe, PixelFormat, pipe::Stream};
/// use fcam::clock;
///
/// let geometry = Geometry::packed(4, 2, PixelFormat::Rgb8)?;
/// let command = ["head", "-c", "40", "/dev/zero"].map(String::from).to_vec();
/// let mut camera = Pipe::new(command, Stream::Raw(geometry), false);
/// let deadline = clock::now() + Duration::from_secs(10);
/// assert_eq!(camera.next(deadline)?.bytes(), [0; 24]);
/// assert!(matches!(camera.next(deadline), Err(Error::ChildEnded { frames: 1, .. }))); // 16 bytes are no frame
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pipe {
    command: Vec<String>,
    stream: Stream,
    restart: bool,
    child: Option<Child>,
    /// Frames that the running child has delivered.
    delivered: u64,
    sequence: u64,
    backoff: Backoff,
    ended: bool,
    /// Width and height that each picture of Motion JPEG must have.
    size: Option<(u32, u32)>,
    frame: Picture,
    decoder: Decoder,
    /// Bytes of a raw frame that have arrived.
    filled: usize,
    /// A piece of Motion JPEG, on its way to the splitter.
    chunk: Vec<u8>,
    splitter: Splitter,
}

impl Pipe {
    /// Prepares to run `command` (program, then arguments) when the first frame is asked for. With `restart`, a child
    /// that ends without an error is started again too; without, that is the end of the pictures.
    pub fn new(command: Vec<String>, stream: Stream, restart: bool) -> Self {
        let (frame, chunk) = match stream {
            Stream::Raw(geometry) => (Picture { geometry, bytes: vec![0; geometry.frame_bytes()] }, vec![]),
            Stream::Mjpeg => (Picture::EMPTY, vec![0; CHUNK_BYTES]),
        };
        Self {
            command,
            stream,
            restart,
            child: None,
            delivered: 0,
            sequence: 0,
            backoff: Backoff::default(),
            ended: false,
            size: None,
            frame,
            decoder: Decoder::default(),
            filled: 0,
            chunk,
            splitter: Splitter::default(),
        }
    }

    /// Refuses pictures of Motion JPEG that have another width and height; without a size, any is taken. Raw frames
    /// have one anyway.
    pub fn sized(mut self, size: Option<(u32, u32)>) -> Self {
        self.size = size;
        self
    }

    /// Starts the child if none runs; false if its pause lasts beyond the deadline.
    fn start(&mut self, deadline: Timestamp) -> Result<bool, Error> {
        if self.child.is_some() {
            return Ok(true);
        }
        if !self.backoff.wait(deadline) {
            return Ok(false);
        }
        self.filled = 0;
        self.delivered = 0;
        self.splitter.reset();
        match Child::spawn(&self.command) {
            Ok(child) => self.child = Some(child),
            Err(source) => {
                self.backoff.failed(clock::now());
                return Err(Error::Spawn { command: self.command.join(" "), source });
            }
        }
        Ok(true)
    }

    /// Brings the next frame into `self.frame` and says when it arrived; none if the deadline came first.
    fn receive(&mut self, deadline: Timestamp) -> Result<Option<Timestamp>, Error> {
        if !self.start(deadline)? {
            return Ok(None);
        }
        match self.stream {
            Stream::Raw(_) => self.receive_raw(deadline),
            Stream::Mjpeg => self.receive_picture(deadline),
        }
    }

    /// What has arrived of a frame by the deadline is kept for the next call.
    fn receive_raw(&mut self, deadline: Timestamp) -> Result<Option<Timestamp>, Error> {
        while self.filled < self.frame.bytes.len() {
            match self.read(deadline)? {
                0 => return Ok(None),
                count => self.filled += count,
            }
        }
        self.filled = 0;
        Ok(Some(clock::now()))
    }

    fn receive_picture(&mut self, deadline: Timestamp) -> Result<Option<Timestamp>, Error> {
        let mut late = false; // a stream of anything but pictures must not keep us
        loop {
            let what = || format!("picture {} of `{}`", self.sequence, self.command.join(" "));
            match self.splitter.cut() {
                Cut::Picture(jpeg) => {
                    let captured = clock::now();
                    let decoded = self.decoder.decode(jpeg, &mut self.frame);
                    decoded.map_err(|error| Error::Decode { what: what(), reason: error.to_string() })?;
                    let Geometry { width, height, .. } = self.frame.geometry;
                    return match self.size.filter(|set| *set != (width, height)) {
                        Some(set) => Err(Error::OtherSize { what: what(), has: (width, height), set }),
                        None => Ok(Some(captured)),
                    };
                }
                Cut::Broken(reason) => return Err(Error::Decode { what: what(), reason: reason.into() }),
                Cut::Nothing if late => return Ok(None),
                Cut::Nothing => {}
            }
            match self.read(deadline)? {
                0 => return Ok(None),
                count => self.splitter.push(self.chunk.get(..count).unwrap_or_default()),
            }
            late = clock::now() >= deadline;
        }
    }

    /// Reads on, into the frame or the chunk; 0 bytes are a missed deadline.
    fn read(&mut self, deadline: Timestamp) -> Result<usize, Error> {
        let into = match self.stream {
            Stream::Raw(_) => self.frame.bytes.get_mut(self.filled..),
            Stream::Mjpeg => self.chunk.get_mut(..),
        };
        let (Some(child), Some(into)) = (&mut self.child, into) else { return Ok(0) };
        match child.read(into, deadline) {
            Ok(Got::Bytes(count)) => Ok(count),
            Ok(Got::Nothing) => Ok(0),
            Ok(Got::End(status)) => Err(self.child_ended(&status)),
            Err(source) => {
                self.child = None;
                self.backoff.failed(clock::now());
                Err(Error::Read { camera: self.describe(), source })
            }
        }
    }

    fn child_ended(&mut self, status: &Status) -> Error {
        let stderr = self.child.take().map_or_else(String::new, |child| child.last_words());
        let partial = self.filled > 0 || self.splitter.is_partial();
        if status.clean && !partial && !self.restart {
            self.ended = true;
            return Error::Ended;
        }
        self.backoff.failed(clock::now());
        let place = if partial { ", in the middle of a frame" } else { "" };
        let status = format!("{}{place}", status.last_line);
        Error::ChildEnded { command: self.command.join(" "), status, frames: self.delivered, stderr }
    }
}

impl Camera for Pipe {
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, Error> {
        if self.ended {
            return Err(Error::Ended);
        }
        let asked = clock::now();
        let Some(captured) = self.receive(deadline)? else {
            return Err(Error::Timeout { camera: self.describe(), waited: clock::now().saturating_sub(asked) });
        };
        let sequence = self.sequence;
        self.sequence += 1;
        self.delivered += 1;
        self.backoff.reset();
        Frame::new(sequence, captured, self.frame.geometry, &self.frame.bytes)
    }

    fn describe(&self) -> String {
        let stream = match self.stream {
            Stream::Raw(Geometry { width, height, format, .. }) => format!("{width} x {height} {format:?}"),
            Stream::Mjpeg => "Motion JPEG".into(),
        };
        format!("pipe `{}` ({stream})", self.command.join(" "))
    }
}
