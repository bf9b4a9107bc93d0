//! `fcam io`: what is wired where. Lists the kernel's chips and lines, reads levels, and forces an output while the
//! station is off.
//!
//! It never takes a line from anybody, drives only lines that the station file names unless chip and line are given,
//! and lets go of them inactive.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use gpiocdev::Request;
use gpiocdev::line::{Direction, Info, Value};
use serde_json::{Value as Json, json};

use super::EXIT_CLEAN;
use crate::chip::{self, Drive, Found, Listed, Pin};
use crate::clock;
use crate::config::{Named, Side, named_lines};

/// Show the GPIO lines, read them, or force one while the station is off.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Chips and their lines, with who uses them (the default)
    List,
    /// Levels of the lines of a station file, by their keys (ok, trigger ...), or of one line
    Get {
        /// Keys of the station file; all of its lines if there are none
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Force an output for a while, then leave it inactive
    #[command(allow_missing_positional = true)]
    Set {
        /// A key of the station file (ok, ng, valid ...); left out with --chip and --line
        #[arg(value_name = "KEY")]
        key: Option<String>,
        /// 1 active, 0 inactive
        #[arg(value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=1))]
        level: u8,
        /// For how long, such as 500ms or 2s; a minute at most
        #[arg(long = "for", value_name = "TIME", default_value = "1s", value_parser = time)]
        time: Duration,
        #[command(flatten)]
        place: Place,
    },
}

/// Where lines are named.
#[derive(Debug, Clone, clap::Args)]
struct Place {
    /// The station file that names them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Instead: the chip, by name, label or path
    #[arg(long, requires = "line")]
    chip: Option<String>,
    /// And its line, by name or number
    #[arg(long, requires = "chip", conflicts_with = "config")]
    line: Option<String>,
}

/// A line to read or to drive.
struct Target {
    key: String,
    found: Found,
    pin: Pin,
    side: Option<Side>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let output = match &args.verb {
        None | Some(Verb::List) => list(&chip::list()?, args.json),
        Some(Verb::Get { keys, place }) => get(&place.targets()?, keys, args.json)?,
        Some(Verb::Set { key, level, time, place }) => set(&place.targets()?, key.as_deref(), *level == 1, *time)?,
    };
    std::io::stdout().write_all(output.as_bytes())?;
    Ok(EXIT_CLEAN)
}

fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time from 1ms to 60s: write 500ms or 2s");
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 1000),
        _ => return Err(wrong()),
    };
    let ms =
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|ms| (1..=60_000).contains(ms));
    ms.map(Duration::from_millis).ok_or_else(wrong)
}

fn list(chips: &[Listed], as_json: bool) -> String {
    let line = |info: &Info| {
        json!({
            "line": info.offset,
            "name": info.name,
            "direction": direction(info),
            "active_low": info.active_low,
            "used_by": info.used.then_some(&info.consumer),
        })
    };
    if as_json {
        let chip = |chip: &Listed| {
            let lines: Vec<Json> = chip.lines.iter().map(line).collect();
            json!({ "chip": chip.name, "path": chip.path, "label": chip.label, "lines": lines })
        };
        return format!("{}\n", Json::from(chips.iter().map(chip).collect::<Vec<_>>()));
    }
    let mut output = String::new();
    for chip in chips {
        output += &format!("{} ({}), {} lines\n", chip.name, chip.label, chip.lines.len());
        for info in &chip.lines {
            let name = if info.name.is_empty() { "-" } else { &info.name };
            let used = if info.used { format!("  used by \"{}\"", info.consumer) } else { String::new() };
            output += &format!("  {:>4}  {name:<24}  {}{used}\n", info.offset, direction(info));
        }
    }
    output
}

fn direction(info: &Info) -> &'static str {
    if info.direction == Direction::Output { "output" } else { "input" }
}

impl Place {
    /// The lines of the station file, or the one that is named.
    fn targets(&self) -> anyhow::Result<Vec<Target>> {
        if let (Some(chip), Some(line)) = (&self.chip, &self.line) {
            let found = chip::find_or_number(chip, line)?;
            return Ok(vec![Target { key: line.clone(), found, pin: Pin::from(line.as_str()), side: None }]);
        }
        let path = self.config.as_ref().context("say which lines: --config FILE, or --chip CHIP --line LINE")?;
        let (chip, lines) = named_lines(path)?;
        ensure!(!lines.is_empty(), "{} names no GPIO lines: see [gpio.lines]", path.display());
        let target = |Named { key, pin, side }: Named| {
            Ok(Target { key, found: chip::find(&chip, &pin.name)?, pin, side: Some(side) })
        };
        lines.into_iter().map(target).collect()
    }
}

/// One of the targets, by its key or the name of its line.
fn choose<'a>(targets: &'a [Target], key: &str) -> anyhow::Result<&'a Target> {
    let known = || targets.iter().map(|target| target.key.as_str()).collect::<Vec<_>>().join(", ");
    let target = targets.iter().find(|target| target.key == key || target.pin.name == key);
    target.with_context(|| {
        format!("the station file names no line {key}: it has {} (another line needs --chip and --line)", known())
    })
}

fn get(targets: &[Target], keys: &[String], as_json: bool) -> anyhow::Result<String> {
    let wanted: Vec<&Target> = match keys {
        [] => targets.iter().collect(),
        keys => keys.iter().map(|key| choose(targets, key)).collect::<Result<_, _>>()?,
    };
    let mut output = String::new();
    for Target { key, found, pin, .. } in wanted {
        // As it is: asking for an input would switch an output off.
        let mut builder = Request::builder();
        builder.on_chip(&found.path).with_consumer("fcam io").with_line(found.offset).as_is();
        if pin.active_low {
            builder.as_active_low();
        }
        let request = builder.request().map_err(|error| chip::refused(found, error))?;
        let value = request.value(found.offset);
        let value = value.map_err(|source| chip::Error::Line { action: "read", name: found.name.clone(), source })?;
        let level = u8::from(value == Value::Active);
        output += &match as_json {
            true => format!("{}\n", json!({ "key": key, "line": found.name, "level": level })),
            false => format!("{key} ({}) {level}\n", found.name),
        };
    }
    Ok(output)
}

fn set(targets: &[Target], key: Option<&str>, active: bool, time: Duration) -> anyhow::Result<String> {
    let target = match (key, targets) {
        (Some(key), targets) => choose(targets, key)?,
        (None, [only]) if only.side.is_none() => only,
        (None, _) => bail!("say which line: a key of the station file, or --chip and --line"),
    };
    ensure!(
        target.side != Some(Side::Input),
        "{} is an input of the station: its level is the PLC's to set",
        target.key
    );
    refuse_running(targets)?;
    let Target { found, pin, .. } = target;
    let value = |active| if active { Value::Active } else { Value::Inactive };
    let mut builder = Request::builder();
    builder.on_chip(&found.path).with_consumer("fcam io").with_line(found.offset).as_output(value(active));
    if pin.drive == Drive::OpenDrain {
        builder.with_drive(gpiocdev::line::Drive::OpenDrain);
    }
    if pin.active_low {
        builder.as_active_low();
    }
    let request = builder.request().map_err(|error| chip::refused(found, error))?;
    wait(time)?;
    let failed = |source| chip::Error::Line { action: "let go of", name: found.name.clone(), source };
    request.set_value(found.offset, Value::Inactive).map_err(failed)?;
    Ok(format!("{} ({}) was {} for {time:?}, and is inactive\n", target.key, found.name, u8::from(active)))
}

/// The station holds its lines while it runs; a line beside them is not to be forced then either.
fn refuse_running(targets: &[Target]) -> anyhow::Result<()> {
    for chip in chip::list()? {
        let ours = targets.iter().filter(|target| target.found.path == chip.path);
        let infos = ours.filter_map(|target| chip.lines.iter().find(|info| info.offset == target.found.offset));
        if let Some(info) = infos.into_iter().find(|info| info.used && info.consumer == chip::CONSUMER) {
            bail!(
                "the station runs (it holds line {}): stop it first; outputs are forced only while it is off",
                info.name
            );
        }
    }
    Ok(())
}

/// Sleeps, until Ctrl-C or SIGTERM at most.
fn wait(time: Duration) -> std::io::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let end = clock::now() + time;
    while clock::now() < end && !stop.load(Relaxed) {
        std::thread::sleep(end.saturating_sub(clock::now()).min(Duration::from_millis(20)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(time("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["2", "0s", "61s", "-1s", "ms", "99999999999999999999s", "18446744073709551615s"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    fn chips() -> [Listed; 1] {
        let info = |offset, name: &str, consumer: &str| Info {
            offset,
            name: name.into(),
            consumer: consumer.into(),
            used: !consumer.is_empty(),
            ..Info::default()
        };
        let lines = vec![info(0, "", ""), info(1, "GPIO17", "fcam")];
        [Listed { path: "/dev/gpiochip0".into(), name: "gpiochip0".into(), label: "pinctrl-x".into(), lines }]
    }

    #[test]
    fn a_list_names_lines_and_their_owners() {
        let text = list(&chips(), false);
        assert!(text.starts_with("gpiochip0 (pinctrl-x), 2 lines\n     0  - "), "{text}");
        assert!(text.ends_with("input  used by \"fcam\"\n"), "{text}");
        let json: Json = serde_json::from_str(&list(&chips(), true)).unwrap();
        assert_eq!(json[0]["lines"][1]["name"], "GPIO17");
        assert_eq!((&json[0]["lines"][1]["used_by"], &json[0]["lines"][0]["used_by"]), (&json!("fcam"), &Json::Null));
    }

    #[test]
    fn a_key_that_the_file_does_not_have_is_refused() {
        let found = Found { path: "/dev/gpiochip0".into(), offset: 1, name: "GPIO17".into() };
        let targets = [Target { key: "ok".into(), found, pin: "GPIO17".into(), side: Some(Side::Output) }];
        assert!(choose(&targets, "ok").is_ok() && choose(&targets, "GPIO17").is_ok());
        let error = choose(&targets, "ng").err().unwrap().to_string();
        assert!(error.contains("names no line ng: it has ok"), "{error}");
    }
}
