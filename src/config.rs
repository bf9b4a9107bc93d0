//! In: a station file and command-line flags. Out: a [`Setup`] that builds everything, or every problem there is.
//!
//! Two stages: plain data as it was typed, then a validated whole. After that nothing reads configuration again, and nothing
//! can be half configured. This is the only reader of TOML for the station.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bundle::Bundle;
use crate::camera::pipe::Stream;
use crate::camera::{self, Camera, Folder, Geometry, Pattern, Pipe};
use crate::handshake;
use crate::line::Line;
use crate::pipeline;
use crate::preprocess::Roi;
use crate::record::{self, Keep, Recorder};
use crate::signal::Signaller;
use crate::sink::{JsonLines, Log, Serial, Sink, serial};
use crate::station::{Station, Trigger};
use crate::telegram::{self, budget};

mod gpio;
mod raw;
mod read;
mod zones;

pub use gpio::{Named, Side, named_lines};
use raw::{Kind, Mode, Raw};

/// What the command line sets in place of the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `bundle.path`.
    pub bundle: Option<PathBuf>,
    /// `sinks.json`.
    pub json: Option<String>,
    /// Frames to take, then the station drains.
    pub frames: Option<u64>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such file.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{name} has {} to fix:\n  {}", count(problems.len()), problems.join("\n  "))]
    Invalid {
        /// Which file, or what stands in for it.
        name: String,
        /// Everything that is wrong.
        problems: Vec<String>,
    },
    /// The camera cannot be opened.
    #[error("cannot open the camera: {0}")]
    Camera(#[from] camera::Error),
    /// The JSON sink cannot be opened.
    #[error("cannot write sinks.json = \"{path}\": {source}")]
    Json {
        /// Where to.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The GPIO lines cannot be had.
    #[error("cannot start gpio: {0}")]
    Gpio(#[from] crate::chip::Error),
    /// The serial sink cannot start.
    #[error("cannot start serial: {0}")]
    Serial(crate::sink::Error),
}

fn count(problems: usize) -> String {
    if problems == 1 { "1 problem".into() } else { format!("{problems} problems") }
}

/// A validated configuration, with its bundle.
#[derive(Debug)]
pub struct Setup {
    raw: Raw,
    bundle: Bundle,
    geometry: Option<Geometry>,
    frames: Option<u64>,
}

/// Every problem of a station file, its bundle's included; none if a station can start from it.
pub fn check(path: &Path) -> Vec<String> {
    match Setup::load(Some(path), Overrides::default()) {
        Ok(_) => vec![],
        Err(Error::Invalid { problems, .. }) => problems,
        Err(error) => vec![error.to_string()],
    }
}

impl Setup {
    /// Reads a file, or takes the defaults if there is none, and validates the whole.
    pub fn load(path: Option<&Path>, overrides: Overrides) -> Result<Self, Error> {
        let text = path.map_or(Ok(String::new()), std::fs::read_to_string);
        let text = text.map_err(|source| Error::Read { path: path.unwrap_or(Path::new("")).into(), source })?;
        let name = path.map_or("the command line".into(), |path| path.display().to_string());
        let mut problems = vec![];
        let mut raw = read::read(&text, &mut problems);
        let frames = overrides.frames;
        apply(&mut raw, overrides);
        let geometry = validate(&raw, &mut problems);
        let bundle = Bundle::load(raw.bundle.path.as_deref(), &raw.engine.float_layers);
        let bundle =
            bundle.map_err(|error| problems.extend(error.problems.iter().map(|one| format!("bundle.path: {one}"))));
        match bundle {
            Ok(bundle) if problems.is_empty() => Ok(Self { raw, bundle, geometry, frames }),
            _ => Err(Error::Invalid { name, problems }),
        }
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Engine, ROI, threshold and the timing of the outputs.
    pub fn options(&self) -> pipeline::Options {
        let Raw { inspect, engine, signals, .. } = &self.raw;
        let delay = Duration::from_millis(signals.delay_ms);
        pipeline::Options {
            engine: engine.clone(),
            roi: inspect.roi,
            score_threshold: inspect.score,
            signaller: Signaller { delay, hold: Duration::from_millis(signals.hold_ms) },
        }
    }

    /// Opens the camera and the sinks, and puts the station together.
    pub fn station(self) -> Result<Station, Error> {
        let (camera, geometry) = self.camera()?;
        let line = Line::new(self.handshake());
        let sinks = self.sinks(&line)?;
        let options = self.options();
        let raw = self.raw;
        let zones = zones::build(&raw.zones);
        let trigger = match raw.trigger.mode {
            Mode::FreeRun => Trigger::FreeRun,
            Mode::EveryFrame => Trigger::EveryFrame { queue: raw.trigger.queue },
            Mode::External => Trigger::External { queue: raw.trigger.queue, matching: raw.trigger.matching() },
        };
        Ok(Station {
            bundle: self.bundle,
            camera,
            geometry,
            options,
            zones,
            trigger,
            timeout: Duration::from_millis(raw.camera.timeout_ms),
            frames: self.frames,
            line,
            sinks,
            recorder: recorder(raw.record),
            summary: Duration::from_secs(raw.log.summary_s),
        })
    }

    fn camera(&self) -> Result<(Box<dyn Camera>, Option<Geometry>), camera::Error> {
        let camera = &self.raw.camera;
        match camera.kind {
            Kind::Pattern => {
                let pattern = Pattern::open(self.bundle.samples(), camera.width.zip(camera.height))?.pace(camera.fps);
                let geometry = pattern.geometry();
                Ok((Box::new(pattern), Some(geometry)))
            }
            Kind::Folder => {
                let folder = Folder::open(&camera.paths)?.repeat(camera.repeat).pace(camera.fps);
                Ok((Box::new(folder), None))
            }
            Kind::Pipe => {
                let stream = self.geometry.map_or(Stream::Mjpeg, Stream::Raw);
                Ok((Box::new(Pipe::new(camera.command.clone(), stream, camera.restart)), self.geometry))
            }
        }
    }

    fn handshake(&self) -> handshake::Options {
        let raw::Plc { heartbeat_ms, simulated, max_celsius } = self.raw.plc;
        handshake::Options {
            queue: self.raw.trigger.queue,
            plc_timeout: Duration::from_millis(heartbeat_ms),
            simulated,
            job: 0,
            limit: max_celsius.map(|limit| i16::from(limit) * 10),
        }
    }

    fn sinks(&self, line: &Line) -> Result<Vec<Box<dyn Sink>>, Error> {
        let mut sinks: Vec<Box<dyn Sink>> = vec![];
        if let Some(gpio) = gpio::start(&self.raw, line)? {
            sinks.push(Box::new(gpio));
        }
        if let Some(options) = self.serial() {
            sinks.push(Box::new(Serial::start(options).map_err(Error::Serial)?));
        }
        match self.raw.sinks.json.as_str() {
            "" => {}
            "-" => sinks.push(Box::new(JsonLines::new("standard output", std::io::stdout()))),
            path => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                let file = file.map_err(|source| Error::Json { path: path.into(), source })?;
                sinks.push(Box::new(JsonLines::new(path, file)));
            }
        }
        if self.raw.sinks.log {
            sinks.push(Box::new(Log::new(self.bundle.class_names())));
        }
        Ok(sinks)
    }
}

impl Setup {
    /// The serial line, if there is one.
    fn serial(&self) -> Option<serial::Options> {
        let raw::Serial { port, profile, parity, rs485, .. } = self.raw.serial.clone();
        let config = serde_json::to_vec(&self.raw).map_or(0, |bytes| telegram::crc32(&bytes));
        let line = self.raw.serial.line();
        let options = serial::Options { port, line, parity, rs485, profile, config };
        (!options.port.as_os_str().is_empty()).then_some(options)
    }
}

/// The serial line of a station file and the bytes of its usual mask, for the budget; the rest of the file is not looked at.
pub fn serial_line(path: &Path) -> Result<(budget::Line, usize), Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let mut problems = vec![];
    let raw = read::read(&text, &mut problems);
    validate_ranges(&raw.serial, &mut problems);
    match problems.is_empty() {
        true => Ok((raw.serial.line(), raw.serial.mask_bytes)),
        false => Err(Error::Invalid { name: path.display().to_string(), problems }),
    }
}

fn recorder(raw: raw::Record) -> Option<Recorder> {
    let raw::Record { dir, keep, picture, max_files, free_mb } = raw;
    (keep != Keep::None).then(|| Recorder::open(record::Options { dir, keep, picture, max_files, free_mb }))
}

fn apply(raw: &mut Raw, overrides: Overrides) {
    let Overrides { bundle, json, frames: _ } = overrides;
    raw.bundle.path = bundle.or(raw.bundle.path.take());
    raw.sinks.json = json.unwrap_or(std::mem::take(&mut raw.sinks.json));
}

/// Ranges and combinations. Returns what frames will be like, where the file alone tells.
fn validate(raw: &Raw, problems: &mut Vec<String>) -> Option<Geometry> {
    let geometry = validate_camera(&raw.camera, problems);
    validate_inspect(&raw.inspect, &raw.camera, problems);
    let mut range = |key, value, low, high| {
        if !(low..=high).contains(&value) {
            problems.push(format!("{key} = {value} is outside {low}..={high}"));
        }
    };
    range("engine.threads", raw.engine.threads as u64, 1, 64);
    range("trigger.view_ms", raw.trigger.view_ms, 0, 60_000);
    range("trigger.window_ms", raw.trigger.window_ms, 1, 10_000);
    range("plc.heartbeat_ms", raw.plc.heartbeat_ms, 0, 60_000);
    range("trigger.queue", raw.trigger.queue as u64, 1, 256);
    range("signals.delay_ms", raw.signals.delay_ms, 0, 60_000);
    range("signals.hold_ms", raw.signals.hold_ms, 1, 1000);
    range("camera.timeout_ms", raw.camera.timeout_ms, 10, 3_600_000);
    range("record.max_files", raw.record.max_files as u64, 1, 10_000_000);
    range("log.summary_s", raw.log.summary_s, 1, 86_400);
    if raw.record.keep != Keep::None && raw.record.dir.as_os_str().is_empty() {
        problems.push("record.dir is empty: say where parts are to be kept, or set record.keep = \"none\"".into());
    }
    validate_serial(&raw.serial, problems);
    zones::validate(&raw.zones, geometry, problems);
    gpio::validate(raw, problems);
    validate_sources(raw, problems);
    geometry
}

/// Who may say that a part is there, by the keys that name them.
fn trigger_sources(raw: &Raw) -> Vec<&'static str> {
    let sources = [(raw.gpio.trigger.line.is_set(), "gpio.trigger.line")];
    sources.into_iter().filter_map(|(set, key)| set.then_some(key)).collect()
}

fn validate_sources(raw: &Raw, problems: &mut Vec<String>) {
    let sources = trigger_sources(raw);
    match raw.trigger.mode {
        Mode::External if sources.is_empty() => problems.push(
            "trigger.mode = \"external\" needs somebody who says that a part is there: set gpio.trigger.line".into(),
        ),
        Mode::External => {}
        _ if !sources.is_empty() => problems
            .push(format!("{} would trigger parts, but trigger.mode is not \"external\"", sources.join(" and "))),
        _ => {}
    }
}

fn validate_serial(serial: &raw::Serial, problems: &mut Vec<String>) {
    let before = problems.len();
    validate_ranges(serial, problems);
    if serial.port.as_os_str().is_empty() || problems.len() > before {
        return;
    }
    if serial.profile == serial::Profile::Ascii && serial.masks {
        problems.push("serial.masks = true needs serial.profile = \"binary\": lines have no masks".into());
    }
    let mut line = serial.line();
    line.masks &= serial.profile == serial::Profile::Binary;
    if let Some(problem) = line.problem(serial.mask_bytes) {
        let ways = match problem {
            budget::Problem::HeadOfLine { .. } => {
                "raise serial.baud or serial.head_of_line_ms, or set serial.masks = false"
            }
            budget::Problem::Rate { .. } => {
                "raise serial.baud, lower serial.parts_per_minute or serial.mask_bytes, or set serial.masks = false"
            }
        };
        problems.push(format!("serial: {problem} at {} baud: {ways} (see `fcam plc budget`)", serial.baud));
    }
}

fn validate_ranges(serial: &raw::Serial, problems: &mut Vec<String>) {
    let mut range = |key, value: u64, low, high| {
        if !(low..=high).contains(&value) {
            problems.push(format!("{key} = {value} is outside {low}..={high}"));
        }
    };
    range("serial.baud", serial.baud.into(), 1200, 4_000_000);
    range("serial.parts_per_minute", serial.parts_per_minute.into(), 1, 60_000);
    range("serial.head_of_line_ms", serial.head_of_line_ms.into(), 1, 1000);
    range("serial.frame_bytes", serial.frame_bytes as u64, 64, telegram::MAX_FRAME as u64);
    range("serial.mask_bytes", serial.mask_bytes as u64, 3, 1_000_000);
}

fn validate_camera(camera: &raw::Camera, problems: &mut Vec<String>) -> Option<Geometry> {
    if !(0.0..=1000.0).contains(&camera.fps) {
        problems.push(format!("camera.fps = {} is outside 0..=1000 (0 is as fast as possible)", camera.fps));
    }
    let paced = camera.kind != Kind::Pipe && camera.fps > 0.0;
    if paced && 1000.0 / camera.fps >= camera.timeout_ms as f64 {
        problems.push(format!(
            "camera.timeout_ms = {} is no longer than the time between two frames at {} fps: every one would count as stalled",
            camera.timeout_ms, camera.fps
        ));
    }
    if camera.width.is_some() != camera.height.is_some() {
        problems.push("camera.width and camera.height go together: set both or none".into());
    }
    match camera.kind {
        Kind::Pattern if camera.format != raw::Format::Rgb8 => {
            problems.push("camera.format is \"rgb8\" for the pattern camera".into());
        }
        Kind::Folder if camera.paths.is_empty() => {
            problems.push("camera.paths is empty: name the folders or pictures to show".into());
        }
        Kind::Pipe if camera.command.first().is_none_or(String::is_empty) => {
            problems.push("camera.command is empty: name the program that writes video, and its arguments".into());
        }
        _ => {}
    }
    let raw_pipe = camera.kind == Kind::Pipe && camera.format != raw::Format::Mjpeg;
    if raw_pipe && camera.width.is_none() && camera.height.is_none() {
        problems
            .push("camera.width and camera.height must say how large the frames are that the command writes".into());
    }
    if camera.kind == Kind::Folder {
        return None;
    }
    let (width, height) = camera.width.zip(camera.height)?;
    let geometry = Geometry::packed(width, height, camera.format.pixels()?);
    geometry.map_err(|error| problems.push(format!("camera: {error}"))).ok()
}

fn validate_inspect(inspect: &raw::Inspect, camera: &raw::Camera, problems: &mut Vec<String>) {
    if let Some(score) = inspect.score
        && !(0.0..=1.0).contains(&score)
    {
        problems.push(format!("inspect.score = {score} is outside 0..=1"));
    }
    let Some(Roi { x, y, width, height }) = inspect.roi else { return };
    if width == 0 || height == 0 {
        problems.push("inspect.roi has no pixels: width and height are at least 1".into());
    }
    let known = camera.width.zip(camera.height).filter(|_| camera.kind != Kind::Folder);
    let (across, down) = known.unwrap_or((Geometry::MAX_SIDE, Geometry::MAX_SIDE));
    let sticks_out = |start: u32, length: u32, end| u64::from(start) + u64::from(length) > u64::from(end);
    if sticks_out(x, width, across) || sticks_out(y, height, down) {
        problems
            .push(format!("inspect.roi {width}x{height} at ({x}, {y}) does not lie inside the {across}x{down} frame"));
    }
}

#[cfg(test)]
mod tests;
