//! The GPIO lines of a station file: what is wrong with them, and the sink that drives them.

use std::path::Path;
use std::time::Duration;

use super::raw::{Mode, Raw};
use super::{Error, read, zones};
use crate::chip::{self, Pin};
use crate::plc_link::PlcLink;
use crate::sink::Gpio;
use crate::sink::gpio::{GpioOptions, Pulsed, Role, Wiring, ZONE_LINES};
use crate::trigger;

/// Zones in two bytes need eighths of the hold time that are longer than the setup time.
const TWO_BYTES_MS: u64 = 16;

/// Which side sets a line's level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// An input of the station.
    Input,
    /// An output of the station.
    Output,
}

/// A line that a station file names.
#[derive(Debug, Clone)]
pub struct Named {
    /// What it is for, as its key says: `ok`, `zones[2]`, `trigger`.
    pub key: String,
    /// The line.
    pub pin: Pin,
    /// Its direction.
    pub side: Side,
}

/// The chip and all lines of a station file that is valid so far; the rest of it is not looked at.
///
/// ```
/// use fcam::config::{Side, named_lines};
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("station.toml");
/// std::fs::write(&file, "[gpio.lines]\nok = 'GPIO17'\n[gpio.trigger]\nline = 'GPIO22'")?;
/// let (_, lines) = named_lines(&file)?;
/// let named: Vec<_> = lines.iter().map(|line| (line.key.as_str(), line.pin.name.as_str(), line.side)).collect();
/// assert_eq!(named, [("ok", "GPIO17", Side::Output), ("trigger", "GPIO22", Side::Input)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn named_lines(path: &Path) -> Result<(String, Vec<Named>), Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let mut problems = vec![];
    let raw = read::read(&text, &mut problems);
    match problems.is_empty() {
        true => Ok((raw.gpio.chip.clone(), all(&raw))),
        false => Err(Error::Invalid { name: path.display().to_string(), problems }),
    }
}

/// Lines that there is one of, with the keys that name them.
fn single(raw: &Raw) -> [(&'static str, Role, &Pin); 10] {
    let (lines, strobe) = (&raw.gpio.lines, &raw.gpio.strobe);
    [
        ("ready", Role::Ready, &lines.ready),
        ("busy", Role::Busy, &lines.busy),
        ("ok", Role::Ok, &lines.ok),
        ("ng", Role::Ng, &lines.ng),
        ("valid", Role::Valid, &lines.valid),
        ("healthy", Role::Healthy, &lines.healthy),
        ("fault", Role::Fault, &lines.fault),
        ("drift", Role::Drift, &lines.drift),
        ("strobe", Role::Strobe, &strobe.line),
        ("zone_strobe", Role::ZoneStrobe, &lines.zone_strobe),
    ]
}

/// Every line that has a name.
fn all(raw: &Raw) -> Vec<Named> {
    let named = |key: String, pin: &Pin, side| Named { key, pin: pin.clone(), side };
    let outputs = single(raw).map(|(key, _, pin)| named(key.into(), pin, Side::Output));
    let zones = raw.gpio.lines.zones.iter().enumerate();
    let zones = zones.map(|(zone, pin)| named(format!("zones[{zone}]"), pin, Side::Output));
    let trigger = &raw.gpio.trigger;
    let inputs = [("trigger", &trigger.line), ("ack", &trigger.ack)];
    let inputs = inputs.map(|(key, pin)| named(key.into(), pin, Side::Input));
    outputs.into_iter().chain(zones).chain(inputs).filter(|named| named.pin.is_set()).collect()
}

pub(super) fn validate(raw: &Raw, problems: &mut Vec<String>) {
    let named = all(raw);
    for (at, line) in named.iter().enumerate() {
        if let Some(other) = named.iter().skip(at + 1).find(|other| other.pin.name == line.pin.name) {
            problems.push(format!("gpio: line {} is both {} and {}", line.pin.name, line.key, other.key));
        }
    }
    validate_pair(raw, problems);
    validate_zones(raw, problems);
    validate_inputs(raw, problems);
    validate_strobe(raw, problems);
}

/// True if a PLC is told by lines.
pub(super) fn tells(raw: &Raw) -> bool {
    all(raw).iter().any(|line| line.side == Side::Output)
}

/// A level of OK means nothing without the others.
fn validate_pair(raw: &Raw, problems: &mut Vec<String>) {
    let lines = &raw.gpio.lines;
    if lines.ok.is_set() && !(lines.ng.is_set() && lines.valid.is_set()) {
        problems.push(
            "gpio.lines.ok needs gpio.lines.ng and gpio.lines.valid: a part is good when OK and VALID are high and NG is low".into(),
        );
    }
}

fn validate_zones(raw: &Raw, problems: &mut Vec<String>) {
    let lines = &raw.gpio.lines;
    let (wires, zones) = (lines.zones.len(), zones::build(&raw.zones).count());
    if lines.zones.iter().any(|pin| !pin.is_set()) {
        problems.push("gpio.lines.zones has a line without a name: leave the zone out, or name its line".into());
    }
    if wires > ZONE_LINES {
        problems.push(format!("gpio.lines.zones has {wires} lines: {ZONE_LINES} at most"));
    }
    match (wires, lines.zone_strobe.is_set()) {
        (0, false) => {}
        (ZONE_LINES, true) if zones > ZONE_LINES && raw.signals.hold_ms < TWO_BYTES_MS => problems.push(format!(
            "signals.hold_ms = {} is too short for two bytes of zones: {TWO_BYTES_MS} at least, eight cycles of the PLC for it to see them",
            raw.signals.hold_ms
        )),
        (ZONE_LINES, true) if zones > ZONE_LINES => {}
        (_, true) => problems.push(format!(
            "gpio.lines.zone_strobe is for more than {ZONE_LINES} zones on {ZONE_LINES} lines; there are {zones} zones on {wires}"
        )),
        (_, false) if wires != zones => problems.push(format!(
            "gpio.lines.zones has {wires} lines, but there are {zones} zones: name one for each (sixteen need eight and gpio.lines.zone_strobe)"
        )),
        _ => {}
    }
}

fn validate_inputs(raw: &Raw, problems: &mut Vec<String>) {
    let trigger = &raw.gpio.trigger;
    if trigger.line.is_set() && raw.trigger.mode != Mode::External {
        problems.push("gpio.trigger.line would trigger parts, but trigger.mode is not \"external\"".into());
    }
    if trigger.debounce_us > 1_000_000 {
        problems.push(format!("gpio.trigger.debounce_us = {} is outside 0..=1000000", trigger.debounce_us));
    }
    let debounce = Duration::from_micros(trigger.debounce_us);
    let delay = Duration::from_millis(raw.signals.delay_ms);
    if trigger.line.is_set() && !delay.is_zero() && debounce >= delay {
        problems.push("gpio.trigger.debounce_us is no shorter than signals.delay_ms: every part would be late".into());
    }
}

fn validate_strobe(raw: &Raw, problems: &mut Vec<String>) {
    let strobe = &raw.gpio.strobe;
    let lamp = strobe.line.is_set() || strobe.pwm_channel.is_some();
    if lamp && !(raw.gpio.trigger.line.is_set() && raw.trigger.mode == Mode::External) {
        problems.push("gpio.strobe needs gpio.trigger.line: the lamp flashes after the trigger's edge".into());
    }
    if strobe.line.is_set() && strobe.pwm_channel.is_some() {
        problems.push("gpio.strobe.line and gpio.strobe.pwm_channel exclude each other".into());
    }
    if strobe.pwm_channel.is_some() && !cfg!(feature = "rpi") {
        problems.push("gpio.strobe.pwm_channel needs a build with the feature \"rpi\"".into());
    }
    let mut range = |key, value: f64, low, high| {
        if !(low..=high).contains(&value) {
            problems.push(format!("gpio.strobe.{key} = {value} is outside {low}..={high}"));
        }
    };
    range("delay_us", strobe.delay_us as f64, 0.0, 1e6);
    range("width_us", strobe.width_us as f64, 1.0, 1e6);
    range("pwm_channel", strobe.pwm_channel.unwrap_or(0).into(), 0.0, 1.0);
    range("pwm_hz", strobe.pwm_hz.into(), 1.0, 1e6);
    range("pwm_duty", strobe.pwm_duty.into(), 0.0, 1.0);
}

/// The sink and its inputs; none where no line has a name.
pub(super) fn start(raw: &Raw, plc_link: &PlcLink) -> Result<Option<Gpio>, chip::Error> {
    let strobe = &raw.gpio.strobe;
    if all(raw).is_empty() && strobe.pwm_channel.is_none() {
        return Ok(None);
    }
    let lamp = strobe.pwm_channel.map(|channel| Pulsed { channel, hz: strobe.pwm_hz, duty: strobe.pwm_duty });
    let wiring = Wiring {
        chip: raw.gpio.chip.clone(),
        single: single(raw).map(|(_, role, pin)| (role, pin.clone())).into(),
        zones: raw.gpio.lines.zones.clone(),
        lamp,
    };
    let options = GpioOptions {
        two_bytes: raw.gpio.lines.zone_strobe.is_set(),
        flash_delay: Duration::from_micros(strobe.delay_us),
        flash_width: Duration::from_micros(strobe.width_us),
    };
    let gpio = Gpio::start(wiring, options, plc_link)?;
    let flash = (strobe.line.is_set() || lamp.is_some()).then(|| gpio.flash());
    let trigger = &raw.gpio.trigger;
    if !trigger.line.is_set() && !trigger.ack.is_set() {
        return Ok(Some(gpio));
    }
    let inputs = trigger::gpio::TriggerOptions {
        chip: raw.gpio.chip.clone(),
        trigger: trigger.line.clone(),
        edge: trigger.edge,
        debounce: Duration::from_micros(trigger.debounce_us),
        ack: trigger.ack.clone(),
        pull: trigger.pull,
    };
    Ok(Some(gpio.with_inputs(trigger::Gpio::start(inputs, plc_link.clone(), flash)?)))
}
