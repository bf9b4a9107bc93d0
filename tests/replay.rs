//! `fcam replay` as a user sees it: lines, exit codes, overlays and maps.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use fcam::camera::picture::{self, Picture};
use fcam::camera::{Frame, Geometry};
use fcam::engine::Settings;
use fcam::pipeline::{Pipeline, PipelineOptions};
use fcam::signal::Signaller;
use image::{GrayImage, Luma, Rgb, RgbImage};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use serde_json::Value;

use crate::common;

fn replay(args: &[&str]) -> Output {
    let tiny = common::tiny();
    common::fcam(&[&["replay", "--bundle", tiny.to_str().unwrap(), "--threads", "1"], args].concat())
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn last_words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

/// Two folders with pictures of one name, of several sizes and formats: good ones are bright, bad ones dark.
fn pictures(root: &Path) {
    for folder in ["good", "bad/deep"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    RgbImage::from_pixel(96, 80, Rgb([200; 3])).save(root.join("good/000.png")).unwrap();
    GrayImage::from_pixel(200, 120, Luma([200])).save(root.join("good/001.png")).unwrap();
    let part = |x: u32, y: u32| if (60..120).contains(&x) && (20..50).contains(&y) { 5 } else { 60 };
    RgbImage::from_fn(160, 120, |x, y| Rgb([part(x, y); 3])).save(root.join("bad/deep/000.png")).unwrap();
}

/// Whoever asks for threads gets them, or hears why not: an engine that is slower than it should be would be late, in
/// silence.
#[test]
fn threads_that_the_system_does_not_give_are_an_error() {
    let mut fcam = std::process::Command::new(env!("CARGO_BIN_EXE_fcam"));
    fcam.args(["replay", "--bundle", common::tiny().to_str().unwrap(), "--threads", "2"]);
    // No address space has such a stack.
    let output = fcam.env("RUST_MIN_STACK", (1u64 << 60).to_string()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = last_words(&output);
    assert!(said.contains("cannot start the 2 threads of engine.threads") && said.contains("use fewer"), "{said}");
}

#[test]
fn threads_have_a_limit() {
    for threads in ["0", "33", "many"] {
        let output = common::fcam(&["replay", "--threads", threads]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("1 to 32"), "{said}");
    }
}

#[test]
fn one_line_a_picture() {
    let root = tempfile::tempdir().unwrap();
    pictures(root.path());
    let output = replay(&[root.path().to_str().unwrap(), "--runs"]);
    let lines = lines(&output);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let verdicts: Vec<_> = lines.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["reject", "pass", "pass"]);
    let (bad, good) = (&lines[0], &lines[1]);
    assert!(bad["picture"].as_str().unwrap().ends_with("bad/deep/000.png"));
    assert_eq!(bad["class"], "dark");
    assert!(bad["score"].as_f64().unwrap() > 0.5 && good["score"].as_f64().unwrap() < 0.5);
    assert_eq!(good["class"], Value::Null);
    for line in &lines {
        let scores: Vec<_> =
            line["scores"].as_object().unwrap().values().map(|score| score.as_f64().unwrap()).collect();
        assert!(scores.len() == 2 && (scores.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{line}");
        assert_eq!(line["map_size"], serde_json::json!([64, 64]));
        let runs: Vec<_> = line["run_lengths"].as_array().unwrap().iter().map(|run| run.as_u64().unwrap()).collect();
        assert_eq!(runs.iter().sum::<u64>(), 64 * 64);
        assert_eq!(runs.iter().skip(1).step_by(2).sum::<u64>(), line["area_px"].as_u64().unwrap());
        let [findings, below] = ["regions", "below_score"].map(|key| line[key].as_array().unwrap().len() as u64);
        assert_eq!(findings + below, line["region_count"].as_u64().unwrap());
        assert_eq!(if line["verdict"] == "pass" { findings } else { below }, 0, "{line}");
        for step in ["preprocess", "engine", "mask", "total"] {
            assert!(line["ms"][step].as_f64().unwrap() >= 0.0);
        }
    }
    let words = last_words(&output);
    assert!(words.starts_with("3 pictures: 2 pass, 1 reject, 0 fault; mean "), "{words}");
    let plain = replay(&[root.path().to_str().unwrap()]);
    assert!(plain.stdout.windows(11).all(|window| window != b"run_lengths"));
}

#[test]
fn unreadable_pictures_are_faults_and_the_rest_is_judged() {
    let root = tempfile::tempdir().unwrap();
    pictures(root.path());
    std::fs::write(root.path().join("bad/broken.png"), b"not a picture").unwrap();
    let output = replay(&[root.path().to_str().unwrap()]);
    let lines = lines(&output);
    assert_eq!(output.status.code(), Some(1));
    let verdicts: Vec<_> = lines.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["fault", "reject", "pass", "pass"]);
    assert!(lines[0]["reason"].as_str().unwrap().contains("cannot decode"), "{}", lines[0]);
    assert!(last_words(&output).starts_with("4 pictures: 2 pass, 1 reject, 1 fault"));
}

/// Each picture of tests/common/jpeg has its right value: judged, and the dent rejected, or a fault where bytes of it
/// are missing.
#[test]
fn jpeg_pictures_are_judged_whole_or_not_at_all() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/jpeg");
    let output = common::fcam(&["replay", "--json", "--threads", "1", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let verdicts: Vec<(String, String)> = lines(&output)
        .iter()
        .map(|line| {
            let name = Path::new(line["picture"].as_str().unwrap()).file_stem().unwrap().to_str().unwrap().to_owned();
            (name, line["verdict"].as_str().unwrap().to_owned())
        })
        .collect();
    let faults: Vec<&str> =
        verdicts.iter().filter(|(_, verdict)| verdict == "fault").map(|(name, _)| name.as_str()).collect();
    assert_eq!(faults, ["dent_quarter", "empty_scan", "lost_mid_1k", "lost_tail_half", "rst_lost_rows"]);
    assert_eq!(verdicts.len(), 11);
    let verdict = |wanted: &str| &verdicts.iter().find(|(name, _)| name == wanted).unwrap().1;
    assert_eq!(verdict("dent_whole"), "reject");
    let lines = lines(&output);
    let scores = |wanted: &str| {
        let line = lines.iter().find(|line| line["picture"].as_str().unwrap().ends_with(wanted)).unwrap();
        (line["verdict"].clone(), line["scores"].clone())
    };
    assert_eq!(scores("/separate_scans_420.jpg"), scores("/one_scan_420.jpg"));
    assert_eq!(scores("/no_huffman_tables.jpg"), scores("/whole.jpg"));
}

#[test]
fn a_region_of_interest_that_does_not_fit_is_a_fault_of_that_picture() {
    let root = tempfile::tempdir().unwrap();
    pictures(root.path());
    let output = replay(&[root.path().to_str().unwrap(), "--roi", "50,10,80,60"]);
    let lines = lines(&output);
    assert_eq!(output.status.code(), Some(1));
    let verdicts: Vec<_> = lines.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["reject", "fault", "pass"]);
    assert!(lines[1]["reason"].as_str().unwrap().contains("does not lie inside"), "{}", lines[1]);
    let region = &lines[0]["regions"][0];
    assert!(region["x"].as_u64().unwrap() >= 50 && region["y"].as_u64().unwrap() >= 10, "{region}");
}

#[test]
fn the_threshold_can_be_moved() {
    let root = tempfile::tempdir().unwrap();
    pictures(root.path());
    let verdicts = |score: &str| -> Vec<String> {
        let lines = lines(&replay(&[root.path().to_str().unwrap(), "--score", score]));
        lines.iter().map(|line| line["verdict"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(verdicts("0"), ["reject"; 3]);
    assert_eq!(verdicts("1")[1..], ["pass"; 2]);
}

#[test]
fn what_cannot_start_says_so() {
    let root = tempfile::tempdir().unwrap();
    let empty = root.path().to_str().unwrap();
    let picture = common::tiny().join("golden/000.png");
    let picture = picture.to_str().unwrap();
    for (args, words) in [
        (&[empty][..], "no pictures"),
        (&["no/such/path"], "cannot open no/such/path"),
        (&[picture, "--roi", "1,2,3"], "X,Y,W,H"),
        (&[picture, "--score", "1.5"], "0 to 1"),
        (&[picture, "--backend", "tpu"], "unknown backend"),
        (&[picture, "--maps", "/proc/no-directory"], "cannot make"),
    ] {
        let output = replay(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(words) && output.stdout.is_empty(), "{args:?}: {stderr}");
    }
    let output = common::fcam(&["replay", picture, "--bundle", empty]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_bundle_that_breaks_its_proof_may_not_judge() {
    let root = tempfile::tempdir().unwrap();
    let bundle = root.path().join("bundle");
    common::copy_tiny(&bundle);
    let manifest = bundle.join("manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let swapped = text.replace("\"pass\"", "\"?\"").replace("\"reject\"", "\"pass\"").replace("\"?\"", "\"reject\"");
    std::fs::write(&manifest, swapped).unwrap();
    let picture = bundle.join("golden/000.png");
    let args = ["replay", picture.to_str().unwrap(), "--bundle", bundle.to_str().unwrap()];
    let output = common::fcam(&args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty());
    // What the bundle itself refuses is refused with the proof or without; all else may be judged if one insists.
    let insisted = common::fcam(&[&args[..], &["--no-proof"]].concat());
    if stderr.contains("may not judge") {
        assert_eq!(insisted.status.code(), Some(0), "{}", String::from_utf8_lossy(&insisted.stderr));
    }
}

/// Without a path and without a bundle, from a folder where neither is.
#[test]
fn the_embedded_bundle_judges_its_own_samples_anywhere() {
    let root = tempfile::tempdir().unwrap();
    let output = common::fcam_in(root.path(), &["replay", "--out", "drawn"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("replay with embedded synth-lite0 "), "{stderr}");
    let lines = lines(&output);
    let samples = common::files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default/samples"));
    let judged: Vec<_> = lines.iter().map(|line| line["picture"].as_str().unwrap()).collect();
    assert_eq!(judged, samples.iter().map(|sample| format!("samples/{sample}")).collect::<Vec<_>>());
    assert_eq!(common::files(&root.path().join("drawn")), [samples, vec!["contact-sheet.jpg".into()]].concat());
}

/// The map and the verdict of the pipeline itself.
fn inspect(path: &Path) -> (Vec<f32>, Geometry) {
    let Picture { geometry, bytes } = picture::decode(&std::fs::read(path).unwrap(), "it").unwrap();
    let signaller = Signaller { delay: Duration::ZERO, hold: Duration::ZERO };
    let options = PipelineOptions {
        engine: Settings::default(),
        layout: Default::default(),
        score_threshold: None,
        locate: None,
        vote: None,
        drift: None,
        zones: Default::default(),
        signaller,
    };
    let mut pipeline = Pipeline::new(&common::tiny_bundle(), geometry, options).unwrap();
    let frame = Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap();
    (pipeline.inspect(&frame).prediction.unwrap().map.to_vec(), geometry)
}

#[test]
fn overlays_and_maps_are_written_beside_each_other() {
    let root = tempfile::tempdir().unwrap();
    let (parts, out, maps) = (root.path().join("parts"), root.path().join("out"), root.path().join("maps"));
    pictures(&parts);
    let [out_arg, maps_arg] = [&out, &maps].map(|path| path.to_str().unwrap());
    let output = replay(&[parts.to_str().unwrap(), "--out", out_arg, "--maps", maps_arg]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["good/000", "good/001", "bad/deep/000"] {
        let (expected, geometry) = inspect(&parts.join(name).with_extension("png"));
        let overlay = image::open(out.join(name).with_extension("jpg")).unwrap().to_rgb8();
        assert_eq!(overlay.dimensions(), (geometry.width, geometry.height));
        let [red, green, _] = overlay.get_pixel(geometry.width / 2, geometry.height - 1).0;
        assert_eq!(red > green, name.starts_with("bad"), "the border of {name} says its verdict");
        let map = image::open(maps.join(name).with_extension("png")).unwrap();
        let image::DynamicImage::ImageLuma16(map) = map else { panic!("{name} is not 16-bit gray") };
        assert_eq!((map.dimensions(), map.len()), ((64, 64), expected.len()));
        for (value, expected) in map.iter().zip(&expected) {
            assert!((f32::from(*value) / 65535.0 - expected).abs() <= 1.0 / 65535.0, "{name}");
        }
    }
    assert_eq!(common::files(&out), ["bad/deep/000.jpg", "contact-sheet.jpg", "good/000.jpg", "good/001.jpg"]);
    let [good, bad] = ["good", "bad/deep"].map(|folder| parts.join(folder));
    let again = root.path().join("again");
    let args = [good.to_str().unwrap(), bad.to_str().unwrap(), "--maps", again.to_str().unwrap()];
    assert_eq!(replay(&args).status.code(), Some(0));
    assert_eq!(common::files(&again), common::files(&maps));
}

#[test]
fn pictures_are_never_overwritten() {
    let root = tempfile::tempdir().unwrap();
    pictures(root.path());
    let picture = root.path().join("good/000.png");
    let before = std::fs::read(&picture).unwrap();
    let output = replay(&[root.path().to_str().unwrap(), "--maps", root.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(last_words(&output).contains("would be overwritten"));
    assert_eq!(std::fs::read(&picture).unwrap(), before);
}

/// `fcam pictures`: what the host tool asks before it trains.
#[test]
fn pictures_are_told_by_size_or_by_what_is_wrong() {
    let root = tempfile::tempdir().unwrap();
    pictures(root.path());
    let whole = common::fcam(&["pictures", root.path().to_str().unwrap()]);
    let text = String::from_utf8(whole.stdout).unwrap();
    let path = |name: &str| root.path().join(name).display().to_string();
    let expected =
        [("bad/deep/000.png", "160 x 120 rgb"), ("good/000.png", "96 x 80 rgb"), ("good/001.png", "200 x 120 gray")];
    let expected: String = expected.map(|(name, size)| format!("{}: {size}\n", path(name))).concat();
    assert_eq!((text, whole.status.code()), (expected, Some(0)));

    let bytes = std::fs::read(path("good/000.png")).unwrap();
    std::fs::write(path("cut.png"), &bytes[..bytes.len() / 2]).unwrap();
    let files = [path("good/001.png"), path("cut.png"), path("nowhere.png"), path("good/000.png")];
    let output =
        common::fcam(&[&["pictures", "--json", "--"], files.each_ref().map(String::as_str).as_slice()].concat());
    let lines = lines(&output);
    assert_eq!((output.status.code(), lines.len()), (Some(1), 4), "each file has its line, in their order");
    for (line, file) in lines.iter().zip(&files) {
        assert_eq!(line["picture"], **file);
        let problem = line["problem"].as_str();
        assert_eq!(problem.is_some(), line["width"].is_null() && line["height"].is_null() && line["color"].is_null());
        assert!(problem.is_none_or(|problem| problem.contains(file.as_str())), "{line}");
    }
    let problems: Vec<bool> = lines.iter().map(|line| line["problem"].is_string()).collect();
    assert_eq!(problems, [false, true, true, false]);
    assert_eq!((&lines[0]["color"], &lines[3]["color"]), (&Value::from("gray"), &Value::from("rgb")));
}

/// What a person sees: standard output is a pseudo-terminal, 1 in 2 of the pictures a reject, and one no picture at
/// all.
#[test]
fn a_table_on_a_terminal_and_json_where_it_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    pictures(root.path());
    std::fs::write(root.path().join("good/002.png"), b"no picture").unwrap();
    let on_terminal = |more: &[&str], environment: (&str, &str)| {
        let (terminal, user) = pseudo_terminal();
        let mut fcam = std::process::Command::new(env!("CARGO_BIN_EXE_fcam"));
        fcam.args(["replay", "--bundle", common::tiny().to_str().unwrap(), root.path().to_str().unwrap()]).args(more);
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            fcam.env_remove(name);
        }
        let mut child = fcam.env("TERM", "xterm").env(environment.0, environment.1).stdout(terminal).spawn().unwrap();
        drop(fcam); // and with it the terminal's end that it holds
        let mut text = vec![];
        // A terminal whose other end is closed reads as an error on Linux.
        let _ = std::io::Read::read_to_end(&mut std::fs::File::from(user), &mut text);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        String::from_utf8(text).unwrap()
    };
    let colored = on_terminal(&[], ("LANG", "C"));
    assert!(colored.contains("\x1b[1m\x1b[31mreject") || colored.contains("\x1b[1;31mreject"), "{colored:?}");
    let plain = on_terminal(&[], ("NO_COLOR", "1"));
    let rows: Vec<Vec<&str>> = plain.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["picture", "verdict", "class", "score", "regions", "ms"], "{plain:?}");
    let verdicts: Vec<_> = rows[1..].iter().map(|row| (row[1], row[2])).collect();
    assert_eq!(verdicts, [("reject", "dark"), ("pass", "-"), ("pass", "-"), ("fault", "-")], "{plain}");
    assert!(rows[1][0].ends_with("bad/deep/000.png") && rows[1][3].parse::<f32>().unwrap() > 0.5, "{plain}");
    assert!(rows[4].len() > 6, "a fault without its reason: {plain}");
    let json = on_terminal(&["--json"], ("LANG", "C"));
    assert!(json.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{json}");
}

/// The end for a program, and the end for whoever sits before it.
fn pseudo_terminal() -> (OwnedFd, OwnedFd) {
    let user = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&user).unwrap();
    rustix::pty::unlockpt(&user).unwrap();
    let name = rustix::pty::ptsname(&user, vec![]).unwrap();
    let terminal = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (terminal, user)
}

#[test]
fn overlays_have_a_contact_sheet() {
    let root = tempfile::tempdir().unwrap();
    pictures(&root.path().join("parts"));
    let drawn = root.path().join("drawn");
    let output = replay(&[root.path().join("parts").to_str().unwrap(), "--out", drawn.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let sheet = drawn.join("contact-sheet.jpg");
    let said = last_words(&output);
    assert!(
        said.starts_with(&format!("contact sheet: {}", sheet.display())) && said.contains("all 3 pictures"),
        "{said}"
    );
    // Two columns of the widest picture, 200 pixels, two rows.
    let (width, height) = image::image_dimensions(sheet).unwrap();
    assert!((400..450).contains(&width) && height > 2 * 120, "{width} x {height}");
}
