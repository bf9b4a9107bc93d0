//! A camera of the kernel: USB cameras, frame grabbers, and whatever else is a /dev/video node. In: which camera, size,
//! rate, and the values of its controls. Out: frames in the driver's own memory, with the driver's time and number.
//!
//! The cheapest format that has size and rate is taken. JPEG is decoded here; everything else is not touched. What the
//! driver does not do exactly as it was asked is an error that says what it offers. A camera that is gone is looked
//! for, after a pause that doubles from 0.1 s to 5 s; one that is silent has its stream started again, and is then
//! opened anew. A picture that the driver calls damaged is an error, and never a frame.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::backoff::Backoff;
use super::jpeg::Decoder;
use super::picture::Picture;
use super::setting::Setting;
use super::{Camera, Error, Frame, Geometry, PixelFormat};
use crate::clock::{self, Timestamp};

mod control;
mod device;
mod format;
mod frame_clock;
mod node;
mod stream;

pub use control::{Control, Kind};
pub use format::{Extent, Fourcc, Interval, Layout, Offer, Rates, Wanted};
pub use node::Card;

use format::Candidate;
use frame_clock::Numbering;
use node::{Node, Pixels};
use stream::{Filled, Stream};

/// Which camera, and how it is to be set.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use fcam::camera::v4l2::{V4l2, V4l2Options, Wanted};
///
/// let wanted = Wanted { width: 640, height: 480, layout: None, colors: None, fps: 30.0 }; // the cheapest format
/// let options = V4l2Options { device: "/dev/null".into(), wanted, controls: BTreeMap::new(), stall: None };
/// let error = V4l2::open(options).err().ok_or("a camera at /dev/null")?;
/// assert_eq!(error.to_string(), "/dev/null is no camera at all: `fcam cameras` lists what delivers pictures");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct V4l2Options {
    /// A path, or the camera's name or socket as [`list`] gives them.
    pub device: String,
    /// Size, format and rate.
    pub wanted: Wanted,
    /// Controls by name, and their values.
    pub controls: BTreeMap<String, Setting>,
    /// A camera that delivers nothing for this long is started again; none if silence is nothing to worry about.
    pub stall: Option<Duration>,
}

/// A camera of the kernel.
#[derive(Debug)]
pub struct V4l2 {
    options: V4l2Options,
    /// The camera that was found first: no other is taken for it.
    card: Card,
    mode: Mode,
    state: State,
    backoff: Backoff,
    numbering: Numbering,
    /// When the last frame came, or the stream was started.
    heard: Timestamp,
    /// True if the stream was started again since the last frame.
    restarted: bool,
    /// True once it was said that the driver's times cannot be used.
    said: bool,
    decoder: Decoder,
    /// The last picture of Motion JPEG.
    picture: Picture,
}

/// What the driver agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    layout: Layout,
    /// Of the frames; with Motion JPEG only the size counts.
    geometry: Geometry,
}

#[derive(Debug)]
enum State {
    /// Set, and not streaming yet: frames of the time before the first is asked for would be old.
    Ready(Node),
    Streaming(Stream),
    Away,
}

impl V4l2 {
    /// Opens the camera and sets everything; it streams from the first frame that is asked for.
    pub fn open(options: V4l2Options) -> Result<Self, Error> {
        let node = device::find(&options.device, None)?;
        let mode = set(&node, &options)?;
        Ok(Self {
            options,
            card: node.card().clone(),
            mode,
            state: State::Ready(node),
            backoff: Backoff::default(),
            numbering: Numbering::default(),
            heard: Timestamp::ZERO,
            restarted: false,
            said: false,
            decoder: Decoder::default(),
            picture: Picture::EMPTY,
        })
    }

    /// Size, stride and format of the frames; none of Motion JPEG, which tells its format with the first picture.
    pub fn geometry(&self) -> Option<Geometry> {
        (self.mode.layout != Layout::Mjpeg).then_some(self.mode.geometry)
    }

    /// Starts to stream if it does not, and looks for the camera if it is away; false if the deadline comes before the
    /// next try.
    fn start(&mut self, deadline: Timestamp) -> Result<bool, Error> {
        let node = match std::mem::replace(&mut self.state, State::Away) {
            State::Streaming(stream) => {
                self.state = State::Streaming(stream);
                return Ok(true);
            }
            State::Ready(node) => node,
            State::Away if !self.backoff.wait(deadline) => return Ok(false),
            State::Away => self.reopen().inspect_err(|_| self.backoff.failed(clock::now()))?,
        };
        match Stream::start(node) {
            Ok(stream) => self.state = State::Streaming(stream),
            Err(source) => {
                self.backoff.failed(clock::now());
                return Err(self.failed("start to stream", source));
            }
        }
        self.numbering.restart();
        self.heard = clock::now();
        Ok(true)
    }

    /// The same camera with the same settings. Only the stride may be another one.
    fn reopen(&mut self) -> Result<Node, Error> {
        let node = device::find(&self.options.device, Some(&self.card))?;
        let mut options = self.options.clone();
        options.wanted.layout = Some(self.mode.layout);
        self.mode = set(&node, &options)?;
        self.card = node.card().clone(); // the socket may be another one
        log::info!("{} was opened again", node.path().display());
        Ok(node)
    }

    /// The next filled buffer; none if the deadline comes first.
    fn receive(&mut self, deadline: Timestamp) -> Result<Option<Filled>, Error> {
        if !self.start(deadline)? {
            return Ok(None);
        }
        let State::Streaming(stream) = &mut self.state else { return Ok(None) };
        match stream.take(deadline) {
            Ok(None) => self.silent()?,
            Ok(filled) => return Ok(filled),
            Err(source) => {
                self.leave();
                return Err(self.failed("deliver", source));
            }
        }
        Ok(None)
    }

    /// Starts the stream again if it is silent for too long, and leaves the device if that was done before.
    fn silent(&mut self) -> Result<(), Error> {
        let now = clock::now();
        if self.options.stall.is_none_or(|stall| now.saturating_sub(self.heard) < stall) {
            return Ok(());
        }
        let State::Streaming(stream) = &mut self.state else { return Ok(()) };
        if self.restarted {
            log::warn!("{} stays silent: it is opened anew", self.card);
            self.leave();
            return Ok(());
        }
        log::warn!("{} is silent: its stream is started again", self.card);
        (self.restarted, self.heard) = (true, now);
        self.numbering.restart();
        stream.restart().map_err(|source| {
            self.leave();
            self.failed("start to stream again", source)
        })
    }

    fn leave(&mut self) {
        self.state = State::Away;
        self.restarted = false;
        self.backoff.failed(clock::now());
    }

    fn failed(&self, action: &'static str, source: io::Error) -> Error {
        Error::Request { camera: self.card.to_string(), action, source }
    }

    fn captured(&mut self, filled: &Filled) -> Timestamp {
        if filled.time.is_none() && !self.said {
            self.said = true;
            log::warn!("the times of {} are not of the monotonic clock: frames are stamped on arrival", self.card);
        }
        frame_clock::captured(filled.time, clock::now())
    }

    /// The frame in a buffer.
    fn frame(&mut self, filled: &Filled) -> Result<Frame<'_>, Error> {
        let captured = self.captured(filled);
        let sequence = self.numbering.number(filled.sequence);
        (self.heard, self.restarted) = (clock::now(), false);
        if !filled.sound {
            return Err(Error::Damaged { camera: self.card.to_string(), sequence });
        }
        self.backoff.reset();
        let State::Streaming(stream) = &self.state else { return Err(Error::Ended) }; // a buffer was filled: it streams
        let bytes = stream.bytes(filled);
        let geometry = self.mode.geometry;
        match self.mode.layout {
            Layout::Raw(_) => Frame::new(sequence, captured, geometry, bytes),
            Layout::Mjpeg => {
                decode(&mut self.decoder, bytes, sequence, geometry, &mut self.picture)?;
                Frame::new(sequence, captured, self.picture.geometry, &self.picture.bytes)
            }
        }
    }
}

impl Camera for V4l2 {
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, Error> {
        let asked = clock::now();
        match self.receive(deadline)? {
            Some(filled) => self.frame(&filled),
            None => Err(Error::Timeout { camera: self.describe(), waited: clock::now().saturating_sub(asked) }),
        }
    }

    fn describe(&self) -> String {
        let Geometry { width, height, .. } = self.mode.geometry;
        let format = match self.mode.layout {
            Layout::Raw(format) if format.needs_even_size() => format!("{format:?} {:?}", self.mode.geometry.colors),
            Layout::Raw(format) => format!("{format:?}"),
            Layout::Mjpeg => "Motion JPEG".into(),
        };
        format!("v4l2 {} ({width} x {height} {format})", self.card)
    }
}

/// Sets format, rate and controls, in this order: each can change what the next may be.
fn set(node: &Node, options: &V4l2Options) -> Result<Mode, Error> {
    let refused = |why| Error::Refused { camera: node.card().to_string(), why };
    let Wanted { width, height, .. } = options.wanted;
    let offers = node.offers(Some((width, height)));
    let candidates = format::negotiate(&offers, &options.wanted).map_err(refused)?;
    let (candidate, mode) = set_format(node, &options.wanted, &candidates)?;
    if let Some(interval) = candidate.interval {
        set_rate(node, interval, options.wanted.fps)?;
    }
    set_controls(node, &options.controls)?;
    Ok(mode)
}

/// The first candidate that the driver takes as it is.
fn set_format(node: &Node, wanted: &Wanted, candidates: &[Candidate]) -> Result<(Candidate, Mode), Error> {
    let mut reasons = vec![];
    for candidate in candidates {
        match node.set_format(candidate.fourcc, wanted.width, wanted.height) {
            Ok(pixels) => match mode(candidate, wanted, &pixels) {
                Ok(mode) => return Ok((*candidate, mode)),
                Err(why) => reasons.push(format!("{}: {why}", candidate.fourcc)),
            },
            Err(source) if source.kind() == io::ErrorKind::InvalidInput => {
                reasons.push(format!("{}: {source}", candidate.fourcc));
            }
            Err(source) => {
                let busy = source.kind() == io::ErrorKind::ResourceBusy;
                let action =
                    if busy { "take a format, perhaps because another program uses it" } else { "take a format" };
                return Err(Error::Request { camera: node.card().to_string(), action, source });
            }
        }
    }
    let why = format!("does not take {} x {} pixels: {}", wanted.width, wanted.height, reasons.join("; "));
    Err(Error::Refused { camera: node.card().to_string(), why })
}

/// What frames are like if this is what the driver set, or why that cannot be used.
fn mode(candidate: &Candidate, wanted: &Wanted, pixels: &Pixels) -> Result<Mode, String> {
    let Pixels { fourcc, width, height, stride, .. } = *pixels;
    if (fourcc, width, height) != (candidate.fourcc, wanted.width, wanted.height) {
        return Err(format!("it becomes {width} x {height} {fourcc}"));
    }
    if !pixels.progressive {
        return Err("frames come as two fields, which cannot be put together for a part that moves".into());
    }
    if pixels.planes != 1 {
        return Err(format!("a frame is in {} buffers, which only the pipe camera can bring together", pixels.planes));
    }
    let (format, stride) = match candidate.layout {
        Layout::Raw(format) if stride > 0 => (format, stride as usize),
        Layout::Raw(format) => (format, format.row_bytes(width)),
        Layout::Mjpeg => (PixelFormat::Rgb8, PixelFormat::Rgb8.row_bytes(width)),
    };
    let geometry = Geometry::new(width, height, stride, format).map_err(|error| error.to_string())?;
    let geometry = geometry.with_colors(wanted.colors.unwrap_or(pixels.colors));
    Ok(Mode { layout: candidate.layout, geometry })
}

fn set_rate(node: &Node, interval: Interval, fps: f64) -> Result<(), Error> {
    let refused = |why: String| Error::Refused { camera: node.card().to_string(), why };
    match node.set_interval(interval) {
        Ok(set) if set.is(fps) => Ok(()),
        Ok(set) => Err(refused(format!("does not run at {fps} fps but at {:.2} (0 leaves the rate to it)", set.fps()))),
        Err(source) => Err(refused(format!("has no rate that can be set ({source}): 0 fps leaves it to the driver"))),
    }
}

/// Writes all, then reads all: one can change another.
fn set_controls(node: &Node, wanted: &BTreeMap<String, Setting>) -> Result<(), Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    let refused = |why| Error::Refused { camera: node.card().to_string(), why };
    let controls = node.controls();
    let values = control::resolve(&controls, wanted).map_err(refused)?;
    let mut problems = vec![];
    for (control, value) in &values {
        if let Err(error) = node.set_value(control, *value) {
            problems.push(format!("{} = {}: {error}", control.key(), control.setting(*value)));
        }
    }
    if problems.is_empty() {
        problems.extend(values.iter().filter_map(|(control, value)| check(node, control, *value)));
    }
    if problems.is_empty() { Ok(()) } else { Err(refused(problems.join("; "))) }
}

/// What is wrong with a control after everything was set.
fn check(node: &Node, control: &Control, wanted: i64) -> Option<String> {
    if !control.is_readable() {
        return None;
    }
    match node.control(control.id).and_then(|now| Ok((node.value(control)?, now))) {
        Ok((got, now)) => control::difference(&Control { items: control.items.clone(), ..now }, wanted, got),
        Err(error) => Some(format!("{} cannot be read back: {error}", control.key())),
    }
}

/// Decodes a picture, which must have the size of `wanted`.
fn decode(
    decoder: &mut Decoder,
    jpeg: &[u8],
    sequence: u64,
    wanted: Geometry,
    picture: &mut Picture,
) -> Result<(), Error> {
    let failed = |reason| Error::Decode { what: format!("frame {sequence}"), reason };
    decoder.decode(jpeg, picture).map_err(|error| failed(error.to_string()))?;
    let Geometry { width, height, .. } = picture.geometry;
    match (width, height) == (wanted.width, wanted.height) {
        true => Ok(()),
        false => Err(Error::OtherSize {
            what: format!("frame {sequence}"),
            has: (width, height),
            set: (wanted.width, wanted.height),
        }),
    }
}

/// A camera of this system.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its node now.
    pub path: PathBuf,
    /// Links to it that stay the same.
    pub stable_paths: Vec<PathBuf>,
    /// What it says of itself.
    pub card: Card,
    /// True if it is used through the multi-planar API.
    pub multiplanar: bool,
    /// Formats with sizes and rates.
    pub formats: Vec<Offer>,
    /// Controls with their values, where the driver gives them.
    pub controls: Vec<(Control, Option<i64>)>,
}

/// Every camera of this system, and every node that cannot be opened or is no camera.
pub fn list() -> (Vec<Listed>, Vec<Error>) {
    let (mut cameras, mut errors) = (vec![], vec![]);
    for path in device::nodes() {
        match device::open(&path) {
            Ok(node) => cameras.push(listed(path, &node)),
            Err(error) => errors.push(error),
        }
    }
    (cameras, errors)
}

fn listed(path: PathBuf, node: &Node) -> Listed {
    let value = |control: &Control| if control.is_readable() { node.value(control).ok() } else { None };
    let controls = node.controls().into_iter().map(|control| (value(&control), control));
    Listed {
        stable_paths: device::stable_paths(&path),
        path,
        card: node.card().clone(),
        multiplanar: node.is_multiplanar(),
        formats: node.offers(None),
        controls: controls.map(|(value, control)| (control, value)).collect(),
    }
}

#[cfg(test)]
mod tests;
