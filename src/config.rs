//! In: a station file and command-line flags. Out: a [`Setup`] that builds everything, or every problem there is.
//!
//! Two stages: plain data as it was typed, then a validated whole. After that nothing reads configuration again, and
//! nothing can be half configured. This is the only reader of TOML for the station.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;

use crate::bundle::Bundle;
use crate::camera::pipe::Stream;
use crate::camera::{self, Camera, Folder, Geometry, Live, Pattern, Pipe, PixelFormat};
use crate::handshake;
use crate::locate::Template;
use crate::pipeline;
use crate::plc_link::PlcLink;
use crate::record::{self, Keep, Recorder};
use crate::signal::Signaller;
use crate::sink::{JsonLines, Log, Modbus, Serial, Sink, modbus, serial};
use crate::station::{Station, Trigger};
use crate::telegram::{self, budget};
use crate::window::Window;
#[cfg(feature = "page")]
use crate::{page::Page, window};

mod bundle;
#[cfg(feature = "v4l2")]
mod device;
mod drift;
mod gpio;
mod inspect;
mod locate;
mod page;
mod raw;
mod read;
mod zones;

pub use gpio::{Named, Side, named_lines};
pub use page::page_dir;
use raw::{Kind, Mode, Raw};

/// What the command line sets in place of the file.
///
/// ```
/// use fcam::config::{Overrides, Setup};
///
/// let overrides = Overrides { bundle: Some("models/default".into()), ..Overrides::default() };
/// let setup = Setup::load(None, overrides)?; // without a file everything else has its default
/// assert_eq!(setup.bundle().source(), "models/default");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    #[error("cannot read {path}: {source}{}", read_advice(.source), path = path.display())]
    Read {
        /// The station file.
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
    /// The store of bundles.
    #[error("bundle.store: {0}")]
    Store(#[from] crate::store::Error),
    /// The socket of the running station cannot be made.
    #[error("cannot listen at bundle.control = {}: {source}{}", path.display(), bundle::control_advice(.source))]
    Control {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The JSON sink cannot be opened.
    #[error("cannot write sinks.json = \"{path}\": {source}")]
    Json {
        /// Path of the file or pipe.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The GPIO lines cannot be taken.
    #[error("cannot start gpio: {0}")]
    Gpio(#[from] crate::chip::Error),
    /// The serial sink cannot start.
    #[error("cannot start serial: {0}")]
    Serial(crate::sink::Error),
    /// The Modbus sink cannot start.
    #[error("cannot start modbus: {0}")]
    Modbus(crate::sink::Error),
    /// The page cannot start.
    #[cfg(feature = "page")]
    #[error("cannot start the page: {0}")]
    Page(#[from] crate::page::Error),
}

/// What to do about a station file that cannot be read.
fn read_advice(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::NotFound => {
            ": is the path right? board/station.example.toml (on a camera in /usr/share/fcam) is the manual, and a file to begin with"
        }
        std::io::ErrorKind::PermissionDenied => ": may this user read it?",
        _ => "",
    }
}

fn count(problems: usize) -> String {
    if problems == 1 { "1 problem".into() } else { format!("{problems} problems") }
}

/// A validated configuration, with its bundle.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::config::{Overrides, Setup};
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("station.toml");
/// std::fs::write(&file, "[signals]\ndelay_ms = 120\n[inspect]\nscore = 0.5")?;
/// let options = Setup::load(Some(&file), Overrides::default())?.options();
/// assert_eq!(options.signaller.delay, Duration::from_millis(120));
/// assert_eq!(options.score_threshold, Some(0.5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Setup {
    raw: Raw,
    bundle: Bundle,
    /// Where it and others are installed; none if there is no such place.
    installed: Option<bundle::Installed>,
    geometry: Option<Geometry>,
    /// The part to look for.
    template: Option<Template>,
    frames: Option<u64>,
}

/// Every problem of a station file, its bundle's included; none if a station can start from it.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("station.toml");
/// std::fs::write(&file, "[signals]\ndely_ms = 120\nhold_ms = 0")?;
/// let problems = fcam::config::check(&file);
/// assert_eq!(problems[0], "unknown key `dely_ms` in [signals]: did you mean `delay_ms`?");
/// assert_eq!(problems[1..], ["signals.hold_ms = 0 is outside 1..=1000"]); // all of them, not the first
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
        let template = locate::read(&raw.locate, &mut problems);
        match bundle::choose(&raw.bundle, &raw.engine.float_layers, &mut problems) {
            Some((bundle, installed)) if problems.is_empty() => {
                let misfit = locate::misfit(template.as_ref(), &bundle, &raw.inspect.layout());
                match misfit.or_else(|| drift::misfit(&raw, &bundle)) {
                    Some(problem) => Err(Error::Invalid { name, problems: vec![problem] }),
                    None => Ok(Self { raw, bundle, installed, geometry, template, frames }),
                }
            }
            _ => Err(Error::Invalid { name, problems }),
        }
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Engine, ROI, threshold and the timing of the outputs.
    pub fn options(&self) -> pipeline::PipelineOptions {
        let Raw { inspect, engine, signals, .. } = &self.raw;
        let delay = Duration::from_millis(signals.delay_ms);
        pipeline::PipelineOptions {
            engine: engine.clone(),
            layout: inspect.layout(),
            score_threshold: inspect.score,
            locate: self.template.clone(),
            vote: inspect.vote,
            drift: drift::options(&self.raw),
            zones: zones::build(&self.raw.zones),
            signaller: Signaller { delay, hold: Duration::from_millis(signals.hold_ms) },
        }
    }

    /// Opens the camera and the sinks, and puts the station together.
    pub fn station(mut self) -> Result<Station, Error> {
        let (camera, geometry) = self.camera()?;
        let plc_link = PlcLink::new(self.handshake());
        let mut sinks = self.sinks(&plc_link)?;
        let window = self.page(&plc_link, camera.describe(), &mut sinks)?;
        let options = self.options();
        let releases = self.installed.take().map(|installed| installed.releases(&self.raw.bundle)).transpose()?;
        let raw = self.raw;
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
            trigger,
            timeout: Duration::from_millis(raw.camera.timeout_ms),
            frames: self.frames,
            plc_link,
            sinks,
            recorder: recorder(raw.record),
            summary: Duration::from_secs(raw.log.summary_s),
            releases,
            window,
        })
    }

    /// Starts the page where there is one, the last of the channels: nobody waits for it at the end.
    #[cfg(feature = "page")]
    fn page(
        &self,
        plc_link: &PlcLink,
        camera: String,
        sinks: &mut Vec<Box<dyn Sink>>,
    ) -> Result<Option<Window>, Error> {
        let Some(options) = page::options(&self.raw, camera) else { return Ok(None) };
        let (window, viewer) = window::window();
        sinks.push(Box::new(Page::start(options, plc_link, viewer)?));
        Ok(Some(window))
    }

    #[cfg(not(feature = "page"))]
    fn page(&self, _: &PlcLink, _: String, _: &mut [Box<dyn Sink>]) -> Result<Option<Window>, Error> {
        Ok(None)
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
                let pipe =
                    Pipe::new(camera.command.clone(), stream, camera.restart).sized(camera.width.zip(camera.height));
                Ok((Box::new(Live::new(Box::new(pipe), camera.frozen())), self.geometry))
            }
            #[cfg(feature = "v4l2")]
            Kind::V4l2 => {
                let fired = self.raw.trigger.mode == Mode::External && self.raw.trigger.frame == raw::Frame::Next;
                let device = device::open(camera, fired)?;
                let geometry = device.geometry();
                Ok((Box::new(Live::new(Box::new(device), camera.frozen())), geometry))
            }
            #[cfg(not(feature = "v4l2"))]
            Kind::V4l2 => Err(camera::Error::Ended), // refused by `validate_device`
        }
    }

    fn handshake(&self) -> handshake::HandshakeOptions {
        let raw::Plc { heartbeat_ms, simulated, max_celsius } = self.raw.plc;
        handshake::HandshakeOptions {
            external: self.raw.trigger.mode == Mode::External,
            queue: self.raw.trigger.queue,
            plc_timeout: Duration::from_millis(heartbeat_ms),
            simulated,
            job: 0,
            limit: max_celsius.map(|limit| i16::from(limit) * 10),
        }
    }

    fn sinks(&self, plc_link: &PlcLink) -> Result<Vec<Box<dyn Sink>>, Error> {
        let mut sinks: Vec<Box<dyn Sink>> = vec![];
        if let Some(gpio) = gpio::start(&self.raw, plc_link)? {
            sinks.push(Box::new(gpio));
        }
        if let Some(options) = self.serial() {
            sinks.push(Box::new(Serial::start(options, plc_link.clone()).map_err(Error::Serial)?));
        }
        if let Some(options) = self.modbus() {
            sinks.push(Box::new(Modbus::start(options, plc_link.clone()).map_err(Error::Modbus)?));
        }
        match self.raw.sinks.json.as_str() {
            "" => {}
            "-" => {
                let lines = JsonLines::start("standard output", std::io::stdout(), plc_link);
                let failed = |source| Error::Json { path: "-".into(), source };
                sinks.push(Box::new(lines.map_err(failed)?));
            }
            path => {
                let lines = json_file(path).and_then(|file| JsonLines::start(path, file, plc_link));
                sinks.push(Box::new(lines.map_err(|source| Error::Json { path: path.into(), source })?));
            }
        }
        if self.raw.sinks.log {
            sinks.push(Box::new(Log));
        }
        Ok(sinks)
    }
}

/// A pipe without a reader is an error at once: otherwise opening it would wait for one forever.
fn json_file(path: &str) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path);
    let file = file.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => std::io::Error::new(error.kind(), "nobody reads this pipe: start its reader first"),
        _ => error,
    })?;
    fcntl_setfl(&file, OFlags::APPEND)?; // the outbox waits for the reader, and nobody else does
    Ok(file)
}

impl Setup {
    /// The serial line, if there is one.
    fn serial(&self) -> Option<serial::SerialOptions> {
        let raw::Serial { port, profile, parity, rs485, .. } = self.raw.serial.clone();
        let (line, config) = (self.raw.serial.line(), self.fingerprint());
        let external = self.raw.trigger.mode == Mode::External;
        let delay = Duration::from_millis(self.raw.signals.delay_ms);
        let options = serial::SerialOptions { port, line, parity, rs485, profile, config, external, delay };
        (!options.port.as_os_str().is_empty()).then_some(options)
    }

    /// Modbus, where a master may ask.
    fn modbus(&self) -> Option<modbus::ModbusOptions> {
        let raw::Modbus { word_order: order, tcp, rtu } = &self.raw.modbus;
        let raw::ModbusTcp { listen, write, masters, connections, idle_s } = tcp.clone();
        // It was validated.
        let tcp = listen.parse().ok().map(|listen| modbus::Tcp {
            listen,
            write,
            masters,
            connections,
            idle: Duration::from_secs(idle_s),
        });
        let raw::ModbusRtu { port, baud, parity, rs485, unit } = rtu.clone();
        let rtu = (!port.as_os_str().is_empty()).then_some(modbus::Rtu { port, baud, parity, rs485, unit });
        let delay = Duration::from_millis(self.raw.signals.delay_ms);
        (tcp.is_some() || rtu.is_some()).then(|| modbus::ModbusOptions {
            tcp,
            rtu,
            order: *order,
            delay,
            config: self.fingerprint(),
        })
    }

    /// CRC-32 of the configuration, by which a PLC notices that it is another one.
    fn fingerprint(&self) -> u32 {
        serde_json::to_vec(&self.raw).map_or(0, |bytes| telegram::crc32(&bytes))
    }
}

/// Where a station file says that bundles are installed, whom it trusts, and where its station is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The folder of the installed bundles; none if the file names none.
    pub store: Option<PathBuf>,
    /// The folder of the public keys.
    pub keys: PathBuf,
    /// The socket of the running station; none if it listens nowhere.
    pub control: Option<PathBuf>,
    /// Convolutions of an int8 network that may be in float.
    pub float_layers: Vec<String>,
}

/// The places of a station file, of which the spelling and the types alone are looked at: its camera may be elsewhere.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("station.toml");
/// std::fs::write(&file, "[bundle]\nstore = '/var/lib/fcam/bundles'")?;
/// let places = fcam::config::places(&file)?;
/// assert_eq!(places.store, Some("/var/lib/fcam/bundles".into()));
/// assert_eq!(places.keys, std::path::PathBuf::from(fcam::store::KEYS)); // unless the file says
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn places(path: &Path) -> Result<Places, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let mut problems = vec![];
    let Raw { bundle, engine, .. } = read::read(&text, &mut problems);
    if !problems.is_empty() {
        return Err(Error::Invalid { name: path.display().to_string(), problems });
    }
    let named = |path: PathBuf| (!path.as_os_str().is_empty()).then_some(path);
    let (store, control) = (named(bundle.store), named(bundle.control));
    Ok(Places { store, keys: bundle.keys, control, float_layers: engine.float_layers })
}

/// The serial line of a station file and the bytes of its usual mask, for the budget; the rest of the file is not
/// looked at.
pub fn serial_line(path: &Path) -> Result<(budget::SerialLine, usize), Error> {
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
    let raw::Record { dir, keep, picture, max_files, max_mb, free_mb } = raw;
    (keep != Keep::None)
        .then(|| Recorder::open(record::RecorderOptions { dir, keep, picture, max_files, max_mb, free_mb }))
}

fn apply(raw: &mut Raw, overrides: Overrides) {
    let Overrides { bundle, json, frames: _ } = overrides;
    raw.bundle.path = bundle.or(raw.bundle.path.take());
    raw.sinks.json = json.unwrap_or(std::mem::take(&mut raw.sinks.json));
}

/// Ranges and combinations. Returns what frames will be like, where the file alone tells.
fn validate(raw: &Raw, problems: &mut Vec<String>) -> Option<Geometry> {
    let geometry = validate_camera(&raw.camera, problems);
    inspect::validate(&raw.inspect, &raw.camera, raw.trigger.mode, problems);
    let mut range = |key, value, low, high| {
        if !(low..=high).contains(&value) {
            problems.push(format!("{key} = {value} is outside {low}..={high}"));
        }
    };
    range("engine.threads", raw.engine.threads as u64, 1, crate::engine::MAX_THREADS as u64);
    range("engine.tensorrt.keep", raw.engine.tensorrt.keep as u64, 1, 64);
    range("trigger.view_ms", raw.trigger.view_ms, 0, 60_000);
    range("trigger.window_ms", raw.trigger.window_ms, 1, 10_000);
    range("plc.heartbeat_ms", raw.plc.heartbeat_ms, 0, 60_000);
    range("trigger.queue", raw.trigger.queue as u64, 1, 256);
    range("signals.delay_ms", raw.signals.delay_ms, 0, 60_000);
    range("signals.hold_ms", raw.signals.hold_ms, 1, 1000);
    range("camera.timeout_ms", raw.camera.timeout_ms, 10, 3_600_000);
    range("record.max_files", raw.record.max_files as u64, 1, 10_000_000);
    range("record.max_mb", raw.record.max_mb, 1, 100_000_000);
    range("log.summary_s", raw.log.summary_s, 1, 86_400);
    if raw.engine.tensorrt.cache.as_os_str().is_empty() {
        problems.push("engine.tensorrt.cache is empty: name a folder for the engines".into());
    }
    if raw.record.keep != Keep::None && raw.record.dir.as_os_str().is_empty() {
        problems.push("record.dir is empty: say where parts are to be kept, or set record.keep = \"none\"".into());
    }
    drift::validate(raw, problems);
    bundle::validate(&raw.bundle, problems);
    validate_serial(&raw.serial, problems);
    zones::validate(&raw.zones, geometry, problems);
    gpio::validate(raw, problems);
    validate_modbus(&raw.modbus, problems);
    page::validate(&raw.page, problems);
    validate_plc(raw, problems);
    geometry
}

fn validate_modbus(modbus: &raw::Modbus, problems: &mut Vec<String>) {
    let raw::Modbus { tcp, rtu, .. } = modbus;
    let mut range = |key, value: u64, low, high| {
        if !(low..=high).contains(&value) {
            problems.push(format!("{key} = {value} is outside {low}..={high}"));
        }
    };
    range("modbus.tcp.connections", tcp.connections as u64, 1, 16);
    range("modbus.tcp.idle_s", tcp.idle_s, 1, 3600);
    range("modbus.rtu.baud", rtu.baud.into(), 1200, 4_000_000);
    range("modbus.rtu.unit", rtu.unit.into(), 1, 247);
    match tcp.listen.parse::<SocketAddr>() {
        _ if tcp.listen.is_empty() => {}
        Err(_) => problems.push(format!(
            "modbus.tcp.listen = {:?} is no address with a port: \"192.168.1.10:502\", say, or \"[fd00::10]:502\"",
            tcp.listen
        )),
        Ok(address) if address.ip().is_unspecified() => problems.push(format!(
            "modbus.tcp.listen = {:?} is every network of this machine: name the address of the one that the PLC is in",
            tcp.listen
        )),
        Ok(_) => {}
    }
    if tcp.listen.is_empty() && tcp.write {
        problems.push("modbus.tcp.write = true needs modbus.tcp.listen".into());
    }
}

/// Who tells parts, and who is told; each way to the PLC has its place in both lists.
fn validate_plc(raw: &Raw, problems: &mut Vec<String>) {
    let raw::Modbus { tcp, rtu, .. } = &raw.modbus;
    let (on_tcp, on_rtu) = (!tcp.listen.is_empty(), !rtu.port.as_os_str().is_empty());
    let on_serial = !raw.serial.port.as_os_str().is_empty();
    let triggers = [raw.gpio.trigger.line.is_set(), on_serial, on_rtu, on_tcp && tcp.write];
    let tells = [gpio::tells(raw), on_serial, on_rtu, on_tcp];
    if raw.trigger.mode == Mode::External && !triggers.contains(&true) {
        problems.push(
            "trigger.mode = \"external\", but nothing can trigger: set gpio.trigger.line, serial.port, modbus.rtu.port, or modbus.tcp.listen with \
             modbus.tcp.write = true"
                .into(),
        );
    }
    if !raw.camera.kind.is_live() && tells.contains(&true) && !raw.plc.simulated {
        problems.push(
            "plc.simulated must be true: the camera's pictures are not of parts on a line, and a PLC is told".into(),
        );
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

/// Two may be equal but for what was not looked at ([`Live`]).
const FROZEN_RANGE: std::ops::RangeInclusive<u64> = 3..=1_000_000;

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
    match camera.frozen_frames {
        Some(1..) if !camera.kind.is_live() => problems.push(
            "camera.frozen_frames is for a \"v4l2\" or a \"pipe\" camera: the others show the same pictures again on purpose".into(),
        ),
        Some(frames) if !(frames == 0 || FROZEN_RANGE.contains(&frames)) => {
            let (low, high) = (FROZEN_RANGE.start(), FROZEN_RANGE.end());
            problems.push(format!("camera.frozen_frames = {frames} is outside {low}..={high} (0 lets any number be equal)"));
        }
        _ => {}
    }
    match camera.kind {
        Kind::Pattern if !matches!(camera.format, raw::Format::Auto | raw::Format::Rgb8) => {
            problems.push("camera.format is \"rgb8\" for the pattern camera".into());
        }
        Kind::Folder if camera.paths.is_empty() => {
            problems.push("camera.paths is empty: name the folders or pictures to show".into());
        }
        Kind::Pipe if camera.command.first().is_none_or(String::is_empty) => {
            problems.push("camera.command is empty: name the program that writes video, and its arguments".into());
        }
        Kind::Pipe if camera.format == raw::Format::Auto => {
            problems
                .push("camera.format must say how the command writes pixels: a pipe has no other way to tell".into());
        }
        Kind::Pipe if camera.format == raw::Format::Mjpeg => validate_size(camera, problems),
        Kind::V4l2 => validate_device(camera, problems),
        _ => {}
    }
    let raw_pipe = camera.kind == Kind::Pipe && !matches!(camera.format, raw::Format::Auto | raw::Format::Mjpeg);
    if raw_pipe && camera.width.is_none() && camera.height.is_none() {
        problems
            .push("camera.width and camera.height must say how large the frames are that the command writes".into());
    }
    if matches!(camera.kind, Kind::Folder | Kind::V4l2) {
        return None;
    }
    let (width, height) = camera.width.zip(camera.height)?;
    let format = camera.format.pixels()?;
    let stride = camera.stride.filter(|_| camera.kind == Kind::Pipe).unwrap_or(format.row_bytes(width));
    let geometry = Geometry::new(width, height, stride, format);
    let geometry = geometry.map(|geometry| geometry.with_colors(camera.colors.unwrap_or_default()));
    geometry.map_err(|error| problems.push(format!("camera: {error}"))).ok()
}

/// What can be said of a device that is not here yet.
fn validate_device(camera: &raw::Camera, problems: &mut Vec<String>) {
    if !cfg!(feature = "v4l2") {
        problems.push("camera.kind = \"v4l2\" needs an fcam that was built with its feature v4l2".into());
    }
    if camera.device.is_empty() {
        problems.push("camera.device is empty: give a path or a name that `fcam cameras` lists".into());
    }
    validate_size(camera, problems);
    if camera.width.is_none() && camera.height.is_none() {
        problems.push(
            "camera.width and camera.height must say how large the frames are: `fcam cameras` lists sizes".into(),
        );
    }
}

/// Of frames whose layout the station file does not tell, or not yet.
fn validate_size(camera: &raw::Camera, problems: &mut Vec<String>) {
    if let Some((width, height)) = camera.width.zip(camera.height) {
        let format = camera.format.pixels().unwrap_or(PixelFormat::Gray8);
        problems.extend(Geometry::packed(width, height, format).err().map(|error| format!("camera: {error}")));
    }
}

#[cfg(test)]
mod tests;
