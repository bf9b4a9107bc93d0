//! The station file as plain data: what may be written in it, of which type, and the defaults. Nothing is validated
//! here.
//!
//! board/station.example.toml is the reference for people; a test holds it to these structs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::camera::{Colors, PixelFormat, Setting};
use crate::chip::Pin;
use crate::engine::Settings;
use crate::modbus::WordOrder;
use crate::preprocess::{Area, Tiles};
use crate::record::{Keep, PictureFormat};
use crate::sink::serial::{Parity, Profile};
use crate::station::{Matching, Rule, control};
use crate::store::{self, Reference};
use crate::telegram::budget::SerialLine;
use crate::trigger::gpio::{Edge, Pull};
use crate::vote::Vote;
use crate::zone::Polygon;

/// Everything the file says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) bundle: Bundle,
    pub(super) camera: Camera,
    pub(super) inspect: Inspect,
    pub(super) locate: Locate,
    pub(super) drift: Drift,
    pub(super) engine: Settings,
    pub(super) trigger: Trigger,
    pub(super) signals: Signals,
    pub(super) zones: Zones,
    pub(super) sinks: Sinks,
    pub(super) serial: Serial,
    pub(super) modbus: Modbus,
    pub(super) gpio: Gpio,
    pub(super) record: Record,
    pub(super) page: Page,
    pub(super) log: Log,
    pub(super) plc: Plc,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Plc {
    pub(super) heartbeat_ms: u64,
    pub(super) simulated: bool,
    pub(super) max_celsius: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Bundle {
    pub(super) path: Option<PathBuf>,
    pub(super) store: PathBuf,
    pub(super) keys: PathBuf,
    pub(super) control: PathBuf,
    pub(super) watch_parts: u64,
    pub(super) watch_faults: u64,
    pub(super) jobs: Vec<Job>,
}

impl Default for Bundle {
    fn default() -> Self {
        Self {
            path: None,
            store: PathBuf::new(),
            keys: store::KEYS.into(),
            control: control::SOCKET.into(),
            watch_parts: 50,
            watch_faults: 2,
            jobs: vec![],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    pub(super) job: u16,
    pub(super) bundle: Reference,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Locate {
    pub(super) template: Option<PathBuf>,
    pub(super) shift: f32,
    pub(super) turn: f32,
    pub(super) agreement: f32,
}

impl Default for Locate {
    fn default() -> Self {
        Self { template: None, shift: 0.1, turn: 10.0, agreement: 0.4 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Drift {
    pub(super) watch: Option<bool>,
    pub(super) learn: u32,
    pub(super) parts_per_alarm: u64,
    pub(super) blind: Option<bool>,
}

impl Default for Drift {
    fn default() -> Self {
        Self { watch: None, learn: 0, parts_per_alarm: 1_000_000, blind: None }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Camera {
    pub(super) kind: Kind,
    pub(super) width: Option<u32>,
    pub(super) height: Option<u32>,
    pub(super) format: Format,
    pub(super) colors: Option<Colors>,
    pub(super) device: String,
    pub(super) controls: BTreeMap<String, Setting>,
    pub(super) stride: Option<usize>,
    pub(super) command: Vec<String>,
    pub(super) restart: bool,
    pub(super) paths: Vec<PathBuf>,
    pub(super) repeat: bool,
    pub(super) fps: f64,
    pub(super) timeout_ms: u64,
    pub(super) frozen_frames: Option<u64>,
}

impl Default for Camera {
    fn default() -> Self {
        Self {
            kind: Kind::Pattern,
            width: None,
            height: None,
            format: Format::Auto,
            colors: None,
            device: "/dev/video0".into(),
            controls: BTreeMap::new(),
            stride: None,
            command: vec![],
            restart: true,
            paths: vec![],
            repeat: false,
            fps: 10.0,
            timeout_ms: 2000,
            frozen_frames: None,
        }
    }
}

/// Equal frames in a row from which a live camera is taken for frozen, unless the file says.
const FROZEN_FRAMES: u64 = 30;

impl Camera {
    /// Equal frames in a row from which the camera is frozen; 0 where any number may be equal.
    pub(super) fn frozen(&self) -> u64 {
        let default = if self.kind.is_live() { FROZEN_FRAMES } else { 0 };
        self.frozen_frames.unwrap_or(default)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Pattern,
    Folder,
    Pipe,
    V4l2,
}

impl Kind {
    /// Pictures of a sensor, taken now; the others have the same ones again and again.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Pipe | Self::V4l2)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Auto,
    Gray8,
    Rgb8,
    Yuyv,
    Nv12,
    I420,
    Mjpeg,
}

impl Format {
    /// How the bytes make pixels; none if only the camera, or decoding, tells.
    pub(super) fn pixels(self) -> Option<PixelFormat> {
        match self {
            Self::Gray8 => Some(PixelFormat::Gray8),
            Self::Rgb8 => Some(PixelFormat::Rgb8),
            Self::Yuyv => Some(PixelFormat::Yuyv),
            Self::Nv12 => Some(PixelFormat::Nv12),
            Self::I420 => Some(PixelFormat::I420),
            Self::Auto | Self::Mjpeg => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Inspect {
    pub(super) roi: Option<Area>,
    pub(super) rois: Vec<Area>,
    pub(super) tiles: Tiles,
    pub(super) score: Option<f32>,
    pub(super) vote: Option<Vote>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Trigger {
    pub(super) mode: Mode,
    pub(super) queue: usize,
    pub(super) frame: Frame,
    pub(super) view_ms: u64,
    pub(super) window_ms: u64,
}

impl Default for Trigger {
    fn default() -> Self {
        Self { mode: Mode::FreeRun, queue: 4, frame: Frame::Nearest, view_ms: 0, window_ms: 20 }
    }
}

impl Trigger {
    pub(super) fn matching(&self) -> Matching {
        let rule = match self.frame {
            Frame::Nearest => Rule::Nearest,
            Frame::Next => Rule::Next,
        };
        let [delay, window] = [self.view_ms, self.window_ms].map(Duration::from_millis);
        Matching { rule, delay, window }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    FreeRun,
    EveryFrame,
    External,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Frame {
    Nearest,
    Next,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Signals {
    pub(super) delay_ms: u64,
    pub(super) hold_ms: u64,
}

impl Default for Signals {
    fn default() -> Self {
        Self { delay_ms: 0, hold_ms: 50 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sinks {
    pub(super) log: bool,
    pub(super) json: String,
}

impl Default for Sinks {
    fn default() -> Self {
        Self { log: true, json: String::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Serial {
    pub(super) port: PathBuf,
    pub(super) profile: Profile,
    pub(super) baud: u32,
    pub(super) parity: Parity,
    pub(super) rs485: bool,
    pub(super) masks: bool,
    pub(super) parts_per_minute: u32,
    pub(super) head_of_line_ms: u32,
    pub(super) frame_bytes: usize,
    pub(super) mask_bytes: usize,
}

impl Default for Serial {
    fn default() -> Self {
        Self {
            port: PathBuf::new(),
            profile: Profile::Binary,
            baud: 115_200,
            parity: Parity::None,
            rs485: false,
            masks: true,
            parts_per_minute: 300,
            head_of_line_ms: 10,
            frame_bytes: 240,
            mask_bytes: 700,
        }
    }
}

impl Serial {
    pub(super) fn line(&self) -> SerialLine {
        SerialLine {
            baud: self.baud,
            bits: self.parity.bits(),
            parts_per_minute: self.parts_per_minute,
            head_of_line_ms: self.head_of_line_ms,
            frame_bytes: self.frame_bytes,
            masks: self.masks,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Modbus {
    pub(super) word_order: WordOrder,
    pub(super) tcp: ModbusTcp,
    pub(super) rtu: ModbusRtu,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ModbusTcp {
    pub(super) listen: String,
    pub(super) write: bool,
    pub(super) masters: Vec<IpAddr>,
    pub(super) connections: usize,
    pub(super) idle_s: u64,
}

impl Default for ModbusTcp {
    fn default() -> Self {
        Self { listen: String::new(), write: false, masters: vec![], connections: 4, idle_s: 60 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ModbusRtu {
    pub(super) port: PathBuf,
    pub(super) baud: u32,
    pub(super) parity: Parity,
    pub(super) rs485: bool,
    pub(super) unit: u8,
}

impl Default for ModbusRtu {
    fn default() -> Self {
        Self { port: PathBuf::new(), baud: 19_200, parity: Parity::Even, rs485: false, unit: 1 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Page {
    pub(super) listen: String,
    pub(super) dir: PathBuf,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) scrapers: Vec<IpAddr>,
}

impl Default for Page {
    fn default() -> Self {
        Self { listen: String::new(), dir: "/var/lib/fcam/page".into(), certificate: None, key: None, scrapers: vec![] }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Zones {
    pub(super) kind: ZoneKind,
    pub(super) columns: u32,
    pub(super) rows: u32,
    pub(super) polygons: Vec<Polygon>,
}

impl Default for Zones {
    fn default() -> Self {
        Self { kind: ZoneKind::None, columns: 4, rows: 2, polygons: vec![] }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ZoneKind {
    None,
    Grid,
    Polygons,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Gpio {
    pub(super) chip: String,
    pub(super) lines: Lines,
    pub(super) trigger: Input,
    pub(super) strobe: Strobe,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Lines {
    pub(super) ready: Pin,
    pub(super) busy: Pin,
    pub(super) ok: Pin,
    pub(super) ng: Pin,
    pub(super) valid: Pin,
    pub(super) healthy: Pin,
    pub(super) fault: Pin,
    pub(super) drift: Pin,
    pub(super) zones: Vec<Pin>,
    pub(super) zone_strobe: Pin,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Input {
    pub(super) line: Pin,
    pub(super) edge: Edge,
    pub(super) debounce_us: u64,
    pub(super) pull: Pull,
    pub(super) ack: Pin,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Strobe {
    pub(super) line: Pin,
    pub(super) delay_us: u64,
    pub(super) width_us: u64,
    pub(super) pwm_channel: Option<u8>,
    pub(super) pwm_hz: f32,
    pub(super) pwm_duty: f32,
}

impl Default for Strobe {
    fn default() -> Self {
        Self { line: Pin::default(), delay_us: 0, width_us: 1000, pwm_channel: None, pwm_hz: 20_000.0, pwm_duty: 1.0 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Record {
    pub(super) keep: Keep,
    pub(super) dir: PathBuf,
    pub(super) picture: PictureFormat,
    pub(super) max_files: usize,
    pub(super) max_mb: u64,
    pub(super) free_mb: u64,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            keep: Keep::None,
            dir: "record".into(),
            picture: PictureFormat::Png,
            max_files: 10_000,
            max_mb: 4096,
            free_mb: 500,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub(super) summary_s: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self { summary_s: 60 }
    }
}
