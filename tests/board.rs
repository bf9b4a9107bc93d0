//! The camera sections of board/, through `fcam run`. Stand-ins for the vendors' programs (tests/common/board) refuse
//! words that the real ones do not know, and write bytes in their layout. No sensor and no image processor is tested by
//! this.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::RgbImage;

use crate::common;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn section(board: &str) -> String {
    std::fs::read_to_string(root("board").join(board).join("camera.toml")).unwrap()
}

/// Programs are looked for among the stand-ins first.
fn path() -> OsString {
    let others = std::env::var_os("PATH").unwrap();
    std::env::join_paths(std::iter::once(root("tests/common/board")).chain(std::env::split_paths(&others))).unwrap()
}

/// Three frames of a camera section, each recorded.
fn run(folder: &Path, camera: &str) -> Output {
    let station = format!(
        "{camera}\ntimeout_ms = 30000\n[bundle]\npath = {:?}\n[trigger]\nmode = \"every-frame\"\nqueue = 64\n[record]\nkeep = \"all\"\n",
        common::tiny()
    );
    std::fs::write(folder.join("station.toml"), station).unwrap();
    Command::new(env!("CARGO_BIN_EXE_fcam"))
        .args(["run", "--config", "station.toml", "--frames", "3"])
        .current_dir(folder)
        .env("PATH", path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap()
}

/// The recorded pictures of a run that must end well.
fn pictures(camera: &str) -> Vec<RgbImage> {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), camera);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains("stopped: 3 frames"), "{log}");
    let day = std::fs::read_dir(folder.path().join("record")).unwrap().next().unwrap().unwrap().path();
    let files = std::fs::read_dir(day).unwrap().map(|entry| entry.unwrap().path());
    let ends = |path: &PathBuf, ending: &str| path.to_str().unwrap().ends_with(ending);
    let pictures = files.filter(|path| ends(path, ".png") && !ends(path, ".mask.png"));
    pictures.map(|path| image::open(path).unwrap().into_rgb8()).collect()
}

/// The weights of red and blue in luma.
const BT601: [f64; 2] = [0.299, 0.114];
const BT709: [f64; 2] = [0.2126, 0.0722];

/// Limited range, straight from its definition.
fn rgb([red, blue]: [f64; 2], y: f64, u: f64, v: f64) -> [f64; 3] {
    let (y, u, v) = ((y - 16.0) * 255.0 / 219.0, (u - 128.0) * 255.0 / 224.0, (v - 128.0) * 255.0 / 224.0);
    let (r, b) = (y + 2.0 * (1.0 - red) * v, y + 2.0 * (1.0 - blue) * u);
    [r, (y - red * r - blue * b) / (1.0 - red - blue), b]
}

/// Left half and right half, up to the last pixel of the last row: a wrong stride shears, and lets the padding in.
fn check(camera: &str, width: u32, height: u32, colors: [f64; 2]) {
    let (left, right) = (rgb(colors, 60.0, 150.0, 110.0), rgb(colors, 180.0, 110.0, 150.0));
    let pictures = pictures(camera);
    assert_eq!(pictures.len(), 3);
    for picture in pictures {
        assert_eq!(picture.dimensions(), (width, height));
        for (x, y, pixel) in picture.enumerate_pixels() {
            let expected = if x < width / 2 { left } else { right };
            let near = pixel.0.iter().zip(expected).all(|(got, expected)| (f64::from(*got) - expected).abs() <= 3.0);
            assert!(near, "({x}, {y}) is {pixel:?} and not {expected:?}");
        }
    }
}

#[test]
fn raspberry_pi() {
    check(&section("rpi"), 1280, 720, BT709);
}

#[test]
fn raspberry_pi_with_padded_rows() {
    let padded = section("rpi")
        .replace("\"1280\"", "\"1296\"")
        .replace("\"720\"", "\"972\"")
        .replace("width = 1280\nheight = 720", "width = 1296\nheight = 972")
        .replace("stride = 1280", "stride = 1344");
    check(&padded, 1296, 972, BT709);
}

#[test]
fn jetson() {
    check(&section("jetson"), 1280, 720, BT601);
}

/// The station files of the Jetsons: sound, each with the camera section that runs above, and each other line on a pin
/// of its own.
#[test]
fn jetson_stations() {
    let camera: toml::Table = section("jetson").parse().unwrap();
    for board in ["jetson-orin-nano", "jetson-agx-orin", "jetson-xavier"] {
        let file = root("board").join(format!("{board}.toml"));
        assert_eq!(fcam::config::check(&file), Vec::<String>::new(), "{board}");
        let text = std::fs::read_to_string(&file).unwrap();
        let station: toml::Table = text.parse().unwrap();
        assert_eq!(station["camera"], camera["camera"], "{board}");
        assert_eq!(station["engine"]["backend"].as_str(), Some("tensorrt"), "{board}");
        let lines = station["gpio"]["lines"].as_table().unwrap().values().map(|line| line.as_str().unwrap());
        let trigger = station["gpio"]["trigger"]["line"]["name"].as_str().unwrap();
        let mut lines: Vec<&str> = lines.chain([trigger]).collect();
        lines.sort_unstable();
        let count = lines.len();
        lines.dedup();
        assert!(count == 7 && lines.len() == count, "{board}: {lines:?}");
        for words in ["never tried on hardware", "PINMUX", "jetson-io.py", "/dev/ttyTHS", "kind = \"v4l2\""] {
            assert!(text.contains(words), "{board}: {words}");
        }
    }
}

#[test]
fn stand_ins_refuse_what_the_programs_do_not_know() {
    let folder = tempfile::tempdir().unwrap();
    for (wrong, words) in [
        (section("rpi").replace("--shutter", "--shuter"), "unrecognized arguments"),
        (section("rpi").replace("cdn_off", "fast"), "invalid choice"),
        (section("jetson").replace("aelock", "ae-lock"), "KeyError: 'ae-lock'"),
        (section("jetson").replace("-q", "-v"), "tells its state"),
    ] {
        let log = complaint(folder.path(), &wrong);
        assert!(log.contains(words), "{log}");
    }
}

/// What the command of a camera section says when it is run by hand, and fails.
fn complaint(folder: &Path, camera: &str) -> String {
    let file = folder.join("camera.toml");
    std::fs::write(&file, camera).unwrap();
    assert_eq!(fcam::config::check(&file), Vec::<String>::new());
    let table: toml::Table = camera.parse().unwrap();
    let words: Vec<&str> =
        table["camera"]["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let output = Command::new(words[0]).args(&words[1..]).env("PATH", path()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into()
}
