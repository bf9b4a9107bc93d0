//! Parts that do not lie where the training's did: the verb `locate`, and bundles with a template, through the binary.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use fcam::bundle::Bundle;
use fcam::camera::{Frame, Geometry, Picture, PixelFormat};
use fcam::engine::{Engine, Settings};
use fcam::locate::{Reach, Template};
use fcam::pipeline::{Pipeline, PipelineOptions};
use fcam::preprocess::Tensor;
use fcam::verdict::{Fault, Verdict};
use image::{GrayImage, ImageBuffer, Luma, RgbImage};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::common;

const SIDE: u32 = 64;

/// Blocks at fixed places of another kind of part, shifted; bright, as good parts of the tiny bundle are.
fn part(right: i32, down: i32, kind: u32) -> RgbImage {
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let (x, y) = (x as i32 - right, y as i32 - down);
        let inside = |number: u32| {
            let place = number.wrapping_mul(2_654_435_761);
            let (left, top) = ((place % 53) as i32 + 2, (place / 977 % 50) as i32 + 2);
            (left..left + 4 + (place % 9) as i32).contains(&x) && (top..top + 5 + (place / 7 % 6) as i32).contains(&y)
        };
        let level = (kind..kind + 14).filter(|number| inside(*number)).count() as u8;
        image::Rgb([235 - 45 * level.min(3); 3])
    })
}

/// The tiny bundle with a template: the part where it lies, whose proof is the part itself.
struct Placed {
    directory: TempDir,
}

impl Placed {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        common::copy_tiny(directory.path());
        let placed = Self { directory };
        let picture = part(0, 0, 0);
        let tiny = common::tiny_bundle();
        let mut engine = Engine::load(tiny.onnx(), tiny.shape(), Settings::default()).unwrap();
        let values: Vec<i8> = picture.as_raw().iter().map(|pixel| (pixel ^ 0x80) as i8).collect();
        let tensor = Tensor { width: SIDE as usize, height: SIDE as usize, values: &values };
        let told = engine.run(&tensor).unwrap();
        assert!(told.scores[tiny.ok_class()] > 0.9, "the part is good");
        let map: Vec<u16> = told.map.iter().map(|value| (value * 65535.0).round() as u16).collect();
        let logits = told.logits.iter().map(|logit| f64::from(*logit).into()).collect::<Vec<toml::Value>>();
        for name in common::files(placed.path()).iter().filter(|name| name.starts_with("golden")) {
            fs::remove_file(placed.path().join(name)).unwrap();
        }
        picture.save(placed.path().join("golden/000.png")).unwrap();
        picture.save(placed.path().join("golden/000.input.png")).unwrap();
        let map: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_raw(SIDE, SIDE, map).unwrap();
        map.save(placed.path().join("golden/000.map.png")).unwrap();
        picture.save(placed.path().join("template.png")).unwrap();
        let mut manifest = placed.manifest();
        manifest.insert("format".into(), 2.into());
        let golden = [
            ("picture", toml::Value::from("golden/000.png")),
            ("input", "golden/000.input.png".into()),
            ("map", "golden/000.map.png".into()),
            ("logits", logits.into()),
            ("verdict", "pass".into()),
        ];
        let golden: toml::Table = golden.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        manifest.insert("golden".into(), vec![toml::Value::Table(golden)].into());
        let locate = "template = \"template.png\"\nshift = 0.1\nturn = 5.0\nagreement = 0.5\n";
        manifest.insert("locate".into(), toml::Value::Table(toml::from_str(locate).unwrap()));
        placed.write(manifest);
        placed
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn manifest(&self) -> toml::Table {
        toml::from_str(&fs::read_to_string(self.path().join("manifest.toml")).unwrap()).unwrap()
    }

    /// Writes the manifest with the hashes of what is there.
    fn write(&self, mut manifest: toml::Table) {
        let hash = |name: &String| {
            let bytes = fs::read(self.path().join(name)).unwrap();
            Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let names = common::files(self.path()).into_iter().filter(|name| name != "manifest.toml");
        let files: toml::Table = names.map(|name| (name.clone(), hash(&name).into())).collect();
        manifest.insert("files".into(), toml::Value::Table(files));
        fs::write(self.path().join("manifest.toml"), toml::to_string(&manifest).unwrap()).unwrap();
    }

    /// Changes one number or word of `[locate]`.
    fn set(&self, key: &str, value: impl Into<toml::Value>) {
        let mut manifest = self.manifest();
        manifest["locate"].as_table_mut().unwrap().insert(key.into(), value.into());
        self.write(manifest);
    }

    fn judge(&self, picture: &RgbImage, more: &[&str]) -> (Value, String) {
        let file = self.path().with_extension("part.png");
        picture.save(&file).unwrap();
        let bundle = self.path().to_str().unwrap();
        let done = common::fcam(&[&["replay", "--json", "--bundle", bundle, file.to_str().unwrap()], more].concat());
        let line = String::from_utf8(done.stdout).unwrap();
        (serde_json::from_str(&line).unwrap_or_default(), String::from_utf8(done.stderr).unwrap())
    }

    fn refusal(&self) -> String {
        Bundle::open(self.path()).unwrap_err().to_string()
    }
}

#[test]
fn a_part_is_judged_where_it_lies_and_an_absent_one_is_ng() {
    let placed = Placed::new();
    let checked = common::fcam(&["check", placed.path().to_str().unwrap()]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    for (right, down) in [(0, 0), (4, -3), (-5, 5)] {
        let (line, said) = placed.judge(&part(right, down, 0), &[]);
        assert_eq!(line["verdict"], "pass", "{line} {said}");
        assert!(line["ms"]["locate"].as_f64().unwrap() > 0.0, "{line}");
        assert!((line["pose"]["right"].as_f64().unwrap() - f64::from(right)).abs() < 0.5, "{line}");
    }
    for other in [part(0, 0, 500), RgbImage::from_pixel(SIDE, SIDE, image::Rgb([230; 3]))] {
        let (line, said) = placed.judge(&other, &[]);
        assert_eq!(line["verdict"], "fault", "{line}");
        assert_eq!(line["reason"], "not_found", "{line}");
        assert!(line["pose"]["agreement"].as_f64().unwrap() < 0.5, "{line}");
        assert!(said.contains("not found: nothing agrees with the bundle's template by more than"), "{said}");
    }
}

#[test]
fn several_tiles_have_no_place_of_their_own() {
    let placed = Placed::new();
    let (_, said) = placed.judge(&part(0, 0, 0), &["--tiles", "2x2"]);
    assert!(said.contains("4 tiles are asked for: take one inspect.roi and no inspect.tiles"), "{said}");
}

#[test]
fn a_template_that_cannot_be_found_is_refused() {
    let placed = Placed::new();
    for (key, value, problem) in [
        ("shift", 0.3, "locate.shift = 0.3 is not from 0 to 0.25"),
        ("shift", 1e30, "is not from 0 to 0.25"),
        ("turn", 1e30, "is not from 0 to 45"),
        ("turn", f64::NAN, "locate.turn = NaN is not from 0 to 45"),
        ("agreement", -0.1, "locate.agreement = -0.1 is not from 0 to 1"),
    ] {
        let before = placed.manifest()["locate"][key].clone();
        placed.set(key, value);
        assert!(placed.refusal().contains(problem), "{}", placed.refusal());
        placed.set(key, before);
    }
    placed.set("template", "nowhere.png");
    assert!(placed.refusal().contains("locate.template nowhere.png is not in [files]"), "{}", placed.refusal());
    placed.set("template", "template.png");
    let pictures: BTreeMap<&str, image::DynamicImage> = BTreeMap::from([
        ("is 32 x 64 pixels, not 64 x 64", RgbImage::new(32, 64).into()),
        ("is too plain or too small to be found again", GrayImage::from_pixel(SIDE, SIDE, Luma([90])).into()),
    ]);
    for (problem, picture) in pictures {
        picture.save(placed.path().join("template.png")).unwrap();
        placed.write(placed.manifest());
        assert!(placed.refusal().contains(problem), "{}", placed.refusal());
    }
    let mut manifest = placed.manifest();
    part(0, 0, 0).save(placed.path().join("template.png")).unwrap();
    manifest.insert("format".into(), 1.into());
    placed.write(manifest);
    assert!(placed.refusal().contains("[locate] needs `format = 2`"), "{}", placed.refusal());
}

#[test]
fn the_verb_teaches_finds_and_moves() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("good")).unwrap();
    for (index, (right, down)) in [(0, 0), (1, -1), (-1, 1), (1, 1), (0, 1), (-1, 0)].into_iter().enumerate() {
        part(right, down, 0).save(path(&format!("good/{index}.png"))).unwrap();
    }
    let ok = |words: &[&str]| {
        let done = common::fcam(&[&["locate"], words].concat());
        (done.status.code(), String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap())
    };
    let (template, good) = (path("template.png"), path("good"));
    let (code, said) = ok(&["--teach", &template, "--size", "64x64", &good]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("of 6 pictures, half agree with it by 0.9"), "{said}");
    assert_eq!(image::open(&template).unwrap().color(), image::ColorType::Rgb8);

    part(4, 2, 0).save(path("moved.png")).unwrap();
    let (code, said) = ok(&["--template", &template, "--json", "--out", &path("out"), &path("moved.png")]);
    assert_eq!(code, Some(0), "{said}");
    let line: Value = serde_json::from_str(&said).unwrap();
    assert!((line["right"].as_f64().unwrap() - 4.0).abs() < 0.5, "{line}");
    assert!((line["down"].as_f64().unwrap() - 1.7).abs() < 0.5, "{line}");
    let still = image::open(line["input"].as_str().unwrap()).unwrap().into_rgb8();
    let apart = |a: &RgbImage, b: &RgbImage| -> f64 {
        a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.as_raw().len() as f64
    };
    assert!(apart(&still, &part(0, 0, 0)) < 0.4 * apart(&part(4, 2, 0), &part(0, 0, 0)));

    part(0, 0, 500).save(path("other.png")).unwrap();
    fs::write(path("broken.png"), "no picture").unwrap();
    let (code, said) = ok(&["--template", &template, "--agreement", "0.6", &path("other.png"), &path("broken.png")]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("other.png: not found: best is"), "{said}");
    assert!(said.contains("cannot decode") && said.contains("broken.png"), "{said}");

    for (words, problem) in [
        (vec!["--teach", "t.png", &good], "--teach needs --size"),
        (vec!["--bundle", "tests/common/tiny", &good], "has no [locate]"),
        (vec!["--template", &template, "--shift", "0.4", &good], "is not a number from 0 to 0.25"),
        (vec![good.as_str()], "required"),
    ] {
        let (code, said) = ok(&words);
        assert!(code == Some(2) && said.contains(problem), "{words:?}: {said}");
    }
}

#[test]
fn a_station_may_bring_the_template() {
    let frame_of = |picture: &RgbImage| Picture {
        geometry: Geometry::packed(picture.width(), picture.height(), PixelFormat::Rgb8).unwrap(),
        bytes: picture.as_raw().clone(),
    };
    let reach = Reach { shift: 0.1, turn: 5.0, agreement: 0.6 };
    let with = |picture: &RgbImage| PipelineOptions {
        locate: Some(Template { picture: frame_of(picture), reach }),
        ..PipelineOptions::default()
    };
    let geometry = frame_of(&part(0, 0, 0)).geometry;
    let mut pipeline = Pipeline::new(&common::tiny_bundle(), geometry, with(&part(0, 0, 0))).unwrap();
    let mut judge = |picture: &RgbImage| {
        let Picture { geometry, bytes } = frame_of(picture);
        let inspection = pipeline.inspect(&Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap());
        (inspection.outcome.verdict, inspection.pose.unwrap())
    };
    let (verdict, pose) = judge(&part(4, -3, 0));
    assert_eq!(verdict, Verdict::Pass);
    assert!((pose.right - 4.0).abs() < 0.5 && (pose.down + 3.0).abs() < 0.5, "{pose:?}");
    assert_eq!(judge(&part(0, 0, 500)).0, Verdict::Fault(Fault::NotFound));
    // The warm-up's gray picture shows no part, and goes the whole way all the same.
    let gray = vec![128; geometry.frame_bytes()];
    let times = pipeline.inspect_unwatched(&Frame::new(0, Duration::ZERO, geometry, &gray).unwrap());
    assert!([times.preprocess, times.locate, times.engine, times.mask].iter().all(|time| !time.is_zero()), "{times:?}");
    // Of another size: the network's input decides.
    let large = image::imageops::resize(&part(0, 0, 0), 128, 128, image::imageops::FilterType::Triangle);
    assert!(Pipeline::new(&common::tiny_bundle(), geometry, with(&large)).is_ok());

    let refused = |bundle: &Bundle, options| Pipeline::new(bundle, geometry, options).err().unwrap().to_string();
    let plain = RgbImage::from_pixel(SIDE, SIDE, image::Rgb([90; 3]));
    assert!(refused(&common::tiny_bundle(), with(&plain)).contains("too plain or too small"));
    let placed = Bundle::open(Placed::new().path()).unwrap();
    assert!(refused(&placed, with(&part(0, 0, 0))).contains("leave out [locate]"));

    // The station's file alone tells what does not fit together.
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("station.toml");
    let own = Placed::new();
    let own = own.path().to_str().unwrap();
    part(0, 0, 0).save(folder.path().join("part.png")).unwrap();
    let template = format!("[locate]\ntemplate = {:?}\n", folder.path().join("part.png"));
    let tiny = common::tiny();
    for (text, problem) in [
        (format!("[bundle]\npath = {own:?}\n{template}"), "leave out [locate]"),
        (
            format!("[bundle]\npath = {own:?}\n[inspect]\ntiles = {{ columns = 2, rows = 2 }}\n"),
            "4 tiles are asked for",
        ),
        (
            format!("[bundle]\npath = {tiny:?}\n[inspect]\ntiles = {{ columns = 3, rows = 1 }}\n{template}"),
            "3 tiles are asked for",
        ),
        (format!("[bundle]\npath = {tiny:?}\n{template}"), ""),
    ] {
        fs::write(&file, text).unwrap();
        let checked = common::fcam(&["check", file.to_str().unwrap()]);
        let said = String::from_utf8(checked.stdout).unwrap();
        assert_eq!(checked.status.code(), Some(if problem.is_empty() { 0 } else { 2 }), "{said}");
        assert!(said.contains(problem), "{said}");
    }
    fs::write(&file, "[locate]\ntemplate = \"nowhere.png\"\nshift = 0.5\nturn = -1.0\n").unwrap();
    let checked = common::fcam(&["check", file.to_str().unwrap()]);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(2), "{said}");
    for problem in
        ["locate.shift = 0.5 is outside 0..=0.25", "locate.turn = -1 is outside 0..=45", "cannot read nowhere.png"]
    {
        assert!(said.contains(problem), "{said}");
    }
}
