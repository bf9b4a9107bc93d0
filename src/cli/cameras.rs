//! `fcam cameras`: the cameras that the kernel has, with what a station file can say of them. Nothing is changed.
//!
//! Exit code 2 if there is none, with the reason.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::bail;
use serde_json::{Value, json};

use super::EXIT_CLEAN;
use crate::camera::v4l2::{self, Control, Extent, Interval, Kind, Listed, Offer, Rates};

/// List the kernel's cameras: paths, formats with sizes and rates, controls with their ranges
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object a line for each
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let (cameras, errors) = v4l2::list();
    for camera in &cameras {
        let output = if args.json { format!("{}\n", json_of(camera)) } else { text(camera) };
        std::io::stdout().write_all(output.as_bytes())?;
    }
    for error in &errors {
        log::warn!("{error}");
    }
    match (cameras.is_empty(), errors.is_empty()) {
        (false, _) => Ok(EXIT_CLEAN),
        (true, true) => bail!("no cameras: there is no /dev/video*; is one plugged in, and its driver loaded?"),
        (true, false) => bail!("no cameras: none of the nodes of /dev/video* could be used (see above)"),
    }
}

fn text(camera: &Listed) -> String {
    let Listed { path, stable_paths, card, multiplanar, formats, controls } = camera;
    let mut out = format!("{}\n", path.display());
    let api = if *multiplanar { ", multi-planar" } else { "" };
    line(&mut out, "name", &format!("{:?}", card.card));
    line(&mut out, "socket", &format!("{:?} (driver {}{api})", card.bus, card.driver));
    for path in stable_paths {
        line(&mut out, "path", &path.display().to_string());
    }
    for offer in formats {
        line(&mut out, "format", &format!("{} ({})", offer.fourcc, offer.description));
        for (extent, rates) in &offer.sizes {
            line(&mut out, "", &format!("  {extent}: {rates}"));
        }
    }
    for (control, value) in controls {
        line(&mut out, "control", &setting(control, *value));
    }
    out
}

/// A control as it can be copied into a station file, and what it may be.
fn setting(control: &Control, value: Option<i64>) -> String {
    let mut output = control.key();
    if let Some(value) = value {
        let _ = write!(output, " = {}", control.setting(value)); // a String takes everything
    }
    match control.obstacle() {
        Some(obstacle) => format!("{output} ({obstacle})"),
        None if control.is_inactive() => format!("{output} ({}; inactive now)", control.allowed()),
        None => format!("{output} ({})", control.allowed()),
    }
}

fn line(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "  {name:<8}{text}"); // a String takes everything
}

fn json_of(camera: &Listed) -> Value {
    let Listed { path, stable_paths, card, multiplanar, formats, controls } = camera;
    json!({
        "path": path, "stable_paths": stable_paths, "name": card.card, "socket": card.bus, "driver": card.driver,
        "multiplanar": multiplanar,
        "formats": formats.iter().map(format_json).collect::<Vec<_>>(),
        "controls": controls.iter().map(|(control, value)| control_json(control, *value)).collect::<Vec<_>>(),
    })
}

fn format_json(offer: &Offer) -> Value {
    let size = |(extent, rates): &(Extent, Rates)| {
        let (min, max, step) = match *extent {
            Extent::Exact(width, height) => ((width, height), (width, height), (0, 0)),
            Extent::Range(min, max, step) => (min, max, step),
        };
        let fps = |interval: &Interval| interval.fps();
        let (each, between) = match rates {
            Rates::Unknown => (vec![], None),
            Rates::Each(intervals) => (intervals.iter().map(fps).collect(), None),
            Rates::Between(shortest, longest) => (vec![], Some([fps(longest), fps(shortest)])),
        };
        json!({ "min": min, "max": max, "step": step, "fps": each, "fps_between": between })
    };
    let sizes: Vec<Value> = offer.sizes.iter().map(size).collect();
    json!({ "fourcc": offer.fourcc.to_string(), "description": offer.description, "sizes": sizes })
}

fn control_json(control: &Control, value: Option<i64>) -> Value {
    let kind = match control.kind {
        Kind::Integer | Kind::Integer64 => "number",
        Kind::Boolean => "switch",
        Kind::Menu | Kind::IntegerMenu => "menu",
        Kind::Button => "button",
        Kind::Bitmask => "bits",
        Kind::Other => "other",
    };
    let items: Vec<&str> = control.items.iter().map(|(_, name)| name.as_str()).collect();
    json!({
        "key": control.key(), "name": control.name, "kind": kind, "value": value.map(|value| control.setting(value)),
        "default": control.setting(control.default), "min": control.min, "max": control.max, "step": control.step, "items": items,
        "inactive": control.is_inactive(), "obstacle": control.obstacle(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::camera::v4l2::{Card, Fourcc};

    fn camera() -> Listed {
        let interval = |denominator| Interval { numerator: 1, denominator };
        let gain = Control {
            id: 1,
            name: "Gain".into(),
            kind: Kind::Integer,
            min: 0,
            max: 100,
            step: 5,
            default: 50,
            flags: 0,
            items: vec![],
        };
        let items = vec![(0, "Off".into()), (3, "On".into())];
        let menu = Control { name: "Exposure, Auto".into(), kind: Kind::Menu, max: 3, step: 1, items, ..gain.clone() };
        let inactive = Control { name: "Focus".into(), flags: 0x10, ..gain.clone() };
        Listed {
            path: PathBuf::from("/dev/video2"),
            stable_paths: vec![PathBuf::from("/dev/v4l/by-id/usb-1")],
            card: Card { driver: "uvcvideo".into(), card: "C920".into(), bus: "usb-1".into() },
            multiplanar: false,
            formats: vec![Offer {
                fourcc: Fourcc(u32::from_le_bytes(*b"YUYV")),
                description: "YUYV 4:2:2".into(),
                sizes: vec![
                    (Extent::Exact(640, 480), Rates::Each(vec![interval(30), interval(15)])),
                    (Extent::Range((2, 2), (8, 8), (2, 2)), Rates::Between(interval(60), interval(5))),
                ],
            }],
            controls: vec![(gain, Some(20)), (menu, Some(3)), (inactive, None)],
        }
    }

    #[test]
    fn text_can_be_copied_into_a_station_file() {
        let expected = "/dev/video2\n  name    \"C920\"\n  socket  \"usb-1\" (driver uvcvideo)\n  path    /dev/v4l/by-id/usb-1\n  \
                        format  YUYV (YUYV 4:2:2)\n            640x480: 30, 15 fps\n            2x2 to 8x8 in steps of 2x2: 5 to 60 fps\n  \
                        control gain = 20 (0 to 100 in steps of 5)\n  control exposure_auto = \"On\" (\"Off\", \"On\")\n  \
                        control focus (0 to 100 in steps of 5; inactive now)\n";
        assert_eq!(text(&camera()), expected);
    }

    #[test]
    fn json_has_all_of_it() {
        let json = json_of(&camera());
        assert_eq!(json["formats"][0]["sizes"][0]["fps"], json!([30.0, 15.0]));
        assert_eq!(json["formats"][0]["sizes"][1]["fps_between"], json!([5.0, 60.0]));
        assert_eq!(json["formats"][0]["sizes"][1]["max"], json!([8, 8]));
        assert_eq!(json["controls"][1]["value"], "On");
        assert_eq!(json["controls"][0]["step"], 5);
        assert_eq!((&json["name"], &json["path"]), (&json!("C920"), &json!("/dev/video2")));
    }
}
