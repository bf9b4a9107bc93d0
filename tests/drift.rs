//! Pictures that change: how soon it is told, how rarely it is told for nothing, and who hears of it.
//!
//! The same on pictures of your own is a test that runs when it is asked to.

#[path = "drift/line.rs"]
mod line;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use fcam::drift::{Drift, Measure};
use fcam::handshake::{Controls, Handshake, HandshakeOptions, Status};
use fcam::modbus::{Image, MaskPages, Moment, WordOrder};
use image::RgbImage;
use serde_json::Value;

use crate::common;
use crate::random::Random;
use line::{Light, Pool, USUAL, Watched, kelvin, reference};

/// What is to be found, within so many parts, and by which measures it may show first.
fn changes() -> [(&'static str, Light, usize, &'static [Measure]); 4] {
    use Measure::{Brightness, Contrast, Sharpness, Tint, Warmth};
    [
        ("lamp down 15 %", Light { lamp: 0.85, ..USUAL }, 50, &[Brightness]),
        ("lamp up 15 %", Light { lamp: 1.15, ..USUAL }, 50, &[Brightness]),
        ("focus off, blur of 0.8 pixels", Light { blur: 0.8, ..USUAL }, 100, &[Sharpness, Contrast]),
        ("4500 K for 5000 K", kelvin(4500.0), 100, &[Warmth, Tint]),
    ]
}

/// The most parts until each change was told, over some trials on parts that the reference has not seen.
fn told_after(known: &Pool, others: &Pool, trials: u64) -> Vec<(&'static str, usize)> {
    let usual = reference(known);
    let slowest = changes().map(|(name, light, within, first)| {
        let worst = (0..trials).map(|seed| {
            let mut watched = Watched::new(others, &usual, 1000 + seed);
            for _ in 0..40 {
                assert_eq!(watched.step(USUAL), None, "{name}, {seed}");
            }
            let (parts, drift) = watched.told_after(others, light);
            assert!(first.contains(&drift.what), "{name}: {drift}");
            assert!(parts <= within, "{name} is told after {parts} parts");
            parts
        });
        (name, worst.max().unwrap_or(0))
    });
    slowest.into()
}

/// False alarms of so many parts.
fn false_alarms(known: &Pool, others: &Pool, parts: u64) -> Vec<Drift> {
    let mut watched = Watched::new(others, &reference(known), 99);
    let mut alarms = vec![];
    for _ in 0..parts {
        if let Some(drift) = watched.step(USUAL) {
            alarms.push(drift);
            watched.guard.clear();
        }
    }
    alarms
}

#[test]
fn light_focus_and_colour_are_told_in_time_and_nothing_else_is() {
    let (known, others) = Pool::drawn(90).split(60);
    for (name, parts) in told_after(&known, &others, 3) {
        println!("{name}: told after {parts} parts at most");
    }
    assert_eq!(false_alarms(&known, &others, 5_000), vec![]);
}

/// Each of `FCAM_DRIFT_SETS` (with a colon between) has good parts in train/good, which the reference is made of, and in
/// test/good, which pass the camera, so many (`FCAM_DRIFT_PARTS`) unless something changes.
#[test]
#[ignore = "minutes: FCAM_DRIFT_SETS=DIR:DIR FCAM_DRIFT_PARTS=100000 cargo test --test suite drift -- --ignored --nocapture"]
fn the_same_on_pictures_of_others() {
    let sets = std::env::var("FCAM_DRIFT_SETS").expect("FCAM_DRIFT_SETS names folders");
    let parts = std::env::var("FCAM_DRIFT_PARTS").map_or(100_000, |parts| parts.parse().unwrap());
    for set in sets.split(':').map(PathBuf::from) {
        let [known, others] = ["train/good", "test/good"].map(|part| Pool::read(&set.join(part)));
        let alarms = false_alarms(&known, &others, parts);
        println!("{}: {} false alarms in {parts} parts {alarms:?}", set.display(), alarms.len());
        for (name, parts) in told_after(&known, &others, 20) {
            println!("{}: {name}: told after {parts} parts at most", set.display());
        }
        assert!(alarms.len() as u64 <= parts.div_ceil(100_000), "{}: {} false alarms", set.display(), alarms.len());
    }
}

/// A good part of the tiny bundle: bright, with some texture and its own noise.
fn part(number: u64, level: f32) -> RgbImage {
    let mut random = Random(number);
    let own = 1.0 + 0.01 * random.normal();
    RgbImage::from_fn(96, 80, |x, y| {
        let texture = 20.0 * ((x as f32 / 5.0).sin() + (y as f32 / 7.0).cos());
        let shade = (200.0 + texture) * own * level + 2.0 * random.normal();
        image::Rgb([shade.round().clamp(0.0, 255.0) as u8; 3])
    })
}

/// So many parts in a folder, at a share of the usual level.
fn parts(folder: &Path, count: u64, level: f32) -> String {
    fs::create_dir_all(folder).unwrap();
    (0..count).for_each(|number| part(number, level).save(folder.join(format!("{number:04}.png"))).unwrap());
    folder.display().to_string()
}

/// The tiny bundle, taught what those parts look like by the program itself.
fn taught(root: &Path, good: &str) -> String {
    let bundle = root.join("bundle");
    common::copy_tiny(&bundle);
    let out = common::fcam(&["drift", "--teach", "--bundle", bundle.to_str().unwrap(), good]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let manifest = fs::read_to_string(bundle.join("manifest.toml")).unwrap().replace("format = 1", "format = 3");
    let reference = String::from_utf8(out.stdout).unwrap();
    fs::write(bundle.join("manifest.toml"), format!("{manifest}\n{reference}")).unwrap();
    bundle.display().to_string()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Runs a station on folders of pictures; its parts, and what it said.
fn station(root: &Path, bundle: &str, folders: &[&str], more: &str) -> (Vec<Value>, String) {
    let (file, json) = (root.join("station.toml"), root.join("parts.json"));
    let _ = fs::remove_file(&json);
    let text = format!(
        "[bundle]\npath = {bundle:?}\n[camera]\nkind = \"folder\"\npaths = {folders:?}\nfps = 0\n[trigger]\nmode = \"every-frame\"\nqueue = 256\n\
         [sinks]\njson = {json:?}\n{more}"
    );
    fs::write(&file, text).unwrap();
    let out = common::fcam(&["run", "--config", file.to_str().unwrap()]);
    assert!(out.status.code().is_some_and(|code| code < 2), "{}", said(&out));
    let lines = fs::read_to_string(json).unwrap();
    (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), said(&out))
}

/// The first part that was told with a drift, and the drift.
fn first(parts: &[Value]) -> Option<(usize, &Value)> {
    parts.iter().enumerate().find_map(|(at, part)| (!part["drift"].is_null()).then_some((at, &part["drift"])))
}

#[test]
fn a_station_tells_what_its_bundle_was_taught() {
    let root = tempfile::tempdir().unwrap();
    let folder = |name: &str, count, level| parts(&root.path().join(name), count, level);
    let (good, dim) = (folder("good", 60, 1.0), folder("dim", 60, 0.93));
    let bundle = taught(root.path(), &good);

    let (parts, log) = station(root.path(), &bundle, &[&good, &dim], "");
    let (at, drift) = first(&parts).expect(&log);
    assert!((62..110).contains(&at) && drift["what"] == "brightness", "{at} {drift}");
    assert!((drift["by"].as_f64().unwrap() + 0.07).abs() < 0.02, "{drift}");
    assert!((58..=62).contains(&drift["part"].as_u64().unwrap()), "{drift}");
    assert!(log.contains("drift: darker by ") && log.contains("): lamp or exposure"), "{log}");
    assert!(!log.contains("sees nothing"), "the warm-up's gray picture is not watched: {log}");
    assert_eq!(log.matches("drift: darker").count(), 1, "{log}");
    assert!(parts.iter().all(|part| part["verdict"] == "pass"), "a warning changes no verdict");

    let (parts, log) = station(root.path(), &bundle, &[&good, &dim], "[drift]\nwatch = false\n");
    assert!(first(&parts).is_none() && !log.contains("drift: "), "{log}");

    // A covered lens: told as such, and settable.
    let dark = folder("dark", 3, 0.01);
    let faults = |more: &str| {
        let (parts, _) = station(root.path(), &bundle, &[&good, &dark], more);
        parts[60..]
            .iter()
            .map(|part| part["verdict"]["fault"].as_str().unwrap_or("judged").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(faults(""), ["blind"; 3]);
    assert_eq!(faults("[drift]\nblind = false\n"), ["judged"; 3]);
}

/// A bundle that nobody taught: off, unless the station learns.
#[test]
fn a_station_learns_where_its_bundle_was_not_taught() {
    let root = tempfile::tempdir().unwrap();
    let folder = |name: &str, count, level| parts(&root.path().join(name), count, level);
    let (good, dim) = (folder("good", 60, 1.0), folder("dim", 60, 0.93));
    let tiny = common::tiny().display().to_string();
    let (parts, _) = station(root.path(), &tiny, &[&good, &dim], "");
    assert!(first(&parts).is_none());
    let (parts, log) = station(root.path(), &tiny, &[&good, &dim], "[drift]\nlearn = 40\n");
    let (at, drift) = first(&parts).expect(&log);
    assert!((62..110).contains(&at) && drift["what"] == "brightness", "{at} {drift}");
    assert!(log.contains("40 good parts are the reference"), "{log}");
}

#[test]
fn what_does_not_go_together_is_told_beforehand() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("station.toml");
    let problems = |text: &str| {
        fs::write(&file, format!("[bundle]\npath = {:?}\n{text}", common::tiny())).unwrap();
        fcam::config::check(&file).join("\n")
    };
    assert_eq!(problems("[drift]\nlearn = 50\nwatch = true"), "");
    assert!(problems("[drift]\nwatch = true").contains("this bundle has no [drift]"));
    assert!(problems("[drift]\nlearn = 5").contains("drift.learn = 5 is outside 20..=100000"));
    assert!(problems("[drift]\nparts_per_alarm = 5").contains("drift.parts_per_alarm = 5 is outside"));
    let line = "[plc]\nsimulated = true\n[gpio.lines]\ndrift = \"GPIO5\"\n[drift]\n";
    assert!(problems(&format!("{line}watch = false")).contains("gpio.lines.drift would never rise"));
    assert!(problems(line).contains("this bundle has no [drift]"));

    let bundle = root.path().join("bundle");
    common::copy_tiny(&bundle);
    let manifest = fs::read_to_string(bundle.join("manifest.toml")).unwrap();
    let reference = fcam::drift::Reference::clone(&reference(&Pool::drawn(20)));
    let said = |format: u32, reference: &str| {
        let text = manifest.replace("format = 1", &format!("format = {format}"));
        fs::write(bundle.join("manifest.toml"), format!("{text}\n{reference}")).unwrap();
        fcam::bundle::Bundle::open(&bundle).map(drop).map_err(|error| error.to_string())
    };
    let text = format!("[drift]\n{}", toml::to_string(&reference).unwrap().replace("\n[", "\n[drift."));
    assert_eq!(said(3, &text), Ok(()));
    assert!(said(2, &text).unwrap_err().contains("[drift] needs `format = 3`"));
    assert!(said(3, &text.replace("parts = 20", "parts = 3")).unwrap_err().contains("drift.parts = 3 is less than 20"));
}

/// The verb compares folders by hand, too.
#[test]
fn pictures_are_compared_by_hand() {
    let root = tempfile::tempdir().unwrap();
    let folder = |name: &str, count, level| parts(&root.path().join(name), count, level);
    let (good, dim) = (folder("good", 40, 1.0), folder("dim", 40, 0.9));
    let bundle = taught(root.path(), &good);
    let drift = |more: &[&str]| common::fcam(&[&["drift", "--bundle", &bundle], more].concat());
    assert_eq!(drift(&[&good]).status.code(), Some(0));
    let out = drift(&[&good, &dim]);
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.lines().last().unwrap().contains("pass; darker by 10 % since part 4"), "{text}");
    let out = drift(&["--json", "--learn", "30", &good, &dim]);
    let lines = String::from_utf8(out.stdout).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((&last["drift"]["what"], last["measures"].as_object().unwrap().len()), (&"brightness".into(), 8));
    let few = parts(&root.path().join("few"), 3, 1.0);
    let out = drift(&["--teach", &few]);
    assert!(
        out.status.code() == Some(2) && said(&out).contains("3 pictures of good parts are too few"),
        "{}",
        said(&out)
    );
}

/// Modbus shows it until CLEAR_FAULT; whoever watches hears of that with the next part, and begins anew.
#[test]
fn the_plc_sees_it_until_it_clears_it() {
    let drift = Drift { what: Measure::Sharpness, by: -0.25, part: 99, since: Default::default(), all: 0b101 };
    let mut handshake = Handshake::new(HandshakeOptions::default());
    let registers = |status: &Status| {
        let moment = Moment { status, mask: &MaskPages::default(), page: 0, deadline: 0, config: 0 };
        Image::new(&moment, WordOrder::Big).get(230, 3).unwrap().to_vec()
    };
    assert_eq!(registers(&handshake.status()), [0, 0, 0]);
    assert!(handshake.watched(Some(drift)) && handshake.glance().drift);
    assert_eq!(registers(&handshake.status()), [5, -250_i16 as u16, 100]);
    assert!(handshake.watched(Some(drift)), "it stays");
    handshake.control(Controls { clear_fault: true, ..Controls::default() }, Default::default());
    assert!(!handshake.glance().drift);
    assert!(!handshake.watched(Some(drift)), "the part that was under way does not bring it back");
    assert!(!handshake.glance().drift);
    assert!(handshake.watched(None) && handshake.watched(Some(drift)) && handshake.glance().drift);
}
