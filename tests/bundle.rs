//! What `fcam check` says of bundles, good and damaged, through the binary: exit code 0 or 2, the broken thing by its
//! name, every problem and not the first, never a panic, and soon.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fcam::bundle::Bundle;
use fcam::camera::Frame;
use fcam::engine::{Engine, Settings, Shape, qdq};
use fcam::pipeline::{Pipeline, PipelineOptions};
use fcam::proof;
use fcam::signal::Signaller;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::common;

const SHAPE: Shape = Shape { width: 64, height: 64, classes: 2 };

/// An idle machine says no within a tenth of a second; this leaves room for one that is busy with other tests.
const SOON: Duration = Duration::from_secs(10);

/// A copy of the tiny bundle, to damage.
struct Copy {
    directory: TempDir,
}

impl Copy {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        common::copy_tiny(directory.path());
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Changes the manifest's text; the place must be there.
    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("manifest.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(self.path("manifest.toml"), text.replacen(from, to, 1)).unwrap();
    }

    /// Writes a file and its right hash.
    fn put(&self, name: &str, bytes: &[u8]) {
        let old = sha256(&fs::read(self.path(name)).unwrap());
        fs::write(self.path(name), bytes).unwrap();
        self.edit(&old, &sha256(bytes));
    }

    /// What `fcam check` prints, which must be a refusal.
    fn refusal(&self) -> String {
        refusal(self.directory.path())
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn refusal(path: &Path) -> String {
    let start = Instant::now();
    let output = common::fcam(&["check", path.to_str().unwrap()]);
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(2), "{stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(stdout.contains("problem: "), "{stdout}{stderr}");
    assert!(start.elapsed() < SOON, "{:?}: {stdout}", start.elapsed());
    stdout
}

fn options() -> PipelineOptions {
    let signaller = Signaller { delay: Duration::from_millis(100), hold: Duration::from_millis(50) };
    PipelineOptions {
        engine: Settings::default(),
        layout: Default::default(),
        score_threshold: None,
        locate: None,
        vote: None,
        drift: None,
        zones: Default::default(),
        signaller,
    }
}

fn bad(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/common/bad/{name}.onnx"))).unwrap()
}

/// Every byte of it, so that no file is forgotten and none is stale.
#[test]
fn the_embedded_bundle_is_the_default_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
    let embedded = Bundle::embedded().unwrap();
    let names = common::files(&root);
    assert!(names.len() > 20, "{names:?}");
    for name in names.iter().filter(|name| *name != "manifest.toml") {
        assert!(embedded.file(name) == fs::read(root.join(name)).unwrap(), "{name}");
    }
    assert_eq!(embedded.manifest(), Bundle::open(&root).unwrap().manifest());
    assert_eq!(embedded.describe(), format!("embedded synth-lite0 {}", embedded.manifest().version));
}

/// Its golden replay included, and from a folder where there is no bundle.
#[test]
fn the_embedded_bundle_is_fit_to_run_anywhere() {
    let elsewhere = TempDir::new().unwrap();
    let output = common::fcam_in(elsewhere.path(), &["check"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("embedded\n") && text.ends_with("  ok\n") && text.contains("golden/000.png"), "{text}");

    let output = common::fcam_in(elsewhere.path(), &["run", "--frames", "2", "--json", "-"]);
    let (text, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), text.lines().count()), (Some(0), 2), "{log}");
    assert!(log.contains("embedded synth-lite0"), "{log}");

    let output = common::fcam_in(elsewhere.path(), &["bench", "--frames", "1"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("embedded synth-lite0 "), "{output:?}");
}

#[test]
fn the_tiny_bundle_passes_bright_and_rejects_dark() {
    let mut pipeline = Pipeline::new(&common::tiny_bundle(), common::geometry(), options()).unwrap();
    for (level, verdict, regions) in [(200, "pass", 0), (50, "reject", 0), (10, "reject", 1)] {
        let bytes = common::plain(level);
        let frame = Frame::new(0, Duration::ZERO, common::geometry(), &bytes).unwrap();
        let inspection = pipeline.inspect(&frame);
        assert_eq!(inspection.outcome.verdict.word(), verdict, "level {level}");
        assert_eq!(inspection.mask.regions.len(), regions, "level {level}");
    }
}

#[test]
fn a_sound_bundle_is_described_and_passes() {
    let output = common::fcam(&["check", common::tiny().to_str().unwrap()]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    for words in ["tiny 1.0.0", "good (ok), dark", "score 0.5", "int8, ", "golden/001.png", "reject", "  ok\n"] {
        assert!(stdout.contains(words), "{words} is not in {stdout}");
    }
}

#[test]
fn json_says_the_same() {
    let manifest = common::tiny().join("manifest.toml");
    let missing = Path::new("no/such/bundle");
    let output = common::fcam(&["check", "--json", manifest.to_str().unwrap(), missing.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    let (good, bad) = (&lines[0], &lines[1]);
    assert_eq!((&good["passed"], &good["name"], &good["version"]), (&true.into(), &"tiny".into(), &"1.0.0".into()));
    assert_eq!(good["problems"].as_array().unwrap().len(), 0);
    let golden = good["golden"].as_array().unwrap();
    assert_eq!(golden.len(), 2);
    assert_eq!((&golden[1]["verdict"], &golden[1]["passed"]), (&"reject".into(), &true.into()));
    assert!(golden[1]["score"].as_f64().unwrap() > 0.9 && golden[1]["iou"].as_f64().unwrap() > 0.95);
    assert!(golden[1]["tensor_diff"].as_u64().unwrap() <= 1);
    assert_eq!(bad["passed"], false);
    assert!(bad["problems"][0].as_str().unwrap().contains("no/such/bundle"));
}

#[test]
fn one_flipped_bit_in_any_file_is_noticed_and_named() {
    let names = common::files(&common::tiny());
    assert!(names.len() >= 10);
    for name in names.iter().filter(|name| *name != "manifest.toml") {
        let copy = Copy::new();
        let mut bytes = fs::read(copy.path(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(copy.path(name), bytes).unwrap();
        let said = copy.refusal();
        assert!(said.contains(&format!("{name} is not the file that was exported")), "{said}");
    }
}

#[test]
fn one_flipped_bit_anywhere_in_the_manifest_never_panics() {
    let files = common::files(&common::tiny());
    let read = |name: &String| (name.clone(), fs::read(common::tiny().join(name)).unwrap());
    let files: BTreeMap<String, Vec<u8>> = files.iter().map(read).collect();
    for bit in (0..files["manifest.toml"].len() * 8).step_by(11) {
        let mut files = files.clone();
        files.get_mut("manifest.toml").unwrap()[bit / 8] ^= 1 << (bit % 8);
        let _ = Bundle::from_files("flipped", files); // some bits are in names and comments, and may be anything
    }
}

#[test]
fn a_file_that_is_missing_is_named() {
    for name in common::files(&common::tiny()) {
        let copy = Copy::new();
        fs::remove_file(copy.path(&name)).unwrap();
        let said = copy.refusal();
        assert!(said.contains(&name), "{said}");
    }
}

#[test]
fn manifests_that_break_the_contract_are_refused() {
    let golden = "logits = [4.094488, -4.094488]";
    for (from, to, words) in [
        ("format = 1", "format = 4", "format 4 needs a newer fcam"),
        ("format = 1", "format = 0", "there is no format 0"),
        ("format = 1", "", "no `format = 1`"),
        ("format = 1", "format = 1\nspeed = 3", "unknown field `speed`"),
        ("width = 64", "width = 64\ndepth = 3", "unknown field `depth`"),
        ("format = 1", "format = = 1", "line 1"),
        ("name = \"tiny\"", "name = \"Tiny/..\"", "name `Tiny/..`"),
        ("version = \"1.0.0\"", "version = \"\"", "version is empty"),
        ("precision = \"int8\"", "precision = \"int4\"", "unknown variant `int4`"),
        ("width = 64", "width = 72", "input.width = 72"),
        ("height = 64", "height = 4096", "input.height = 4096"),
        ("height = 64", "height = 80", "is float32 [1, 3, 64, 64], and must be float32 [1, 3, 80, 64]"),
        ("resize = \"bilinear\"", "resize = \"nearest\"", "unknown variant `nearest`"),
        ("score = 0.5", "score = nan", "thresholds.score = NaN"),
        ("score = 0.5", "score = -0.1", "thresholds.score = -0.1"),
        ("map = 0.5", "map = inf", "thresholds.map = inf"),
        ("map_low = 0.3", "map_low = 0.6", "map_low = 0.6 is above"),
        ("min_area_px = 6", "min_area_px = 5000", "min_area_px = 5000"),
        ("iou = 0.95", "iou = 1.5", "tolerance.iou = 1.5"),
        ("name = \"dark\"", "name = \"dark\"\nok = true", "2 classes have ok = true (good, dark)"),
        ("ok = true", "", "0 classes have ok = true"),
        ("name = \"dark\"", "name = \"good\"", "class `good` is there twice"),
        ("name = \"dark\"", "name = \"dark\"\n[[classes]]\nname = \"more\"", "2 logits for 3 classes"),
        ("\"model.onnx\" =", "\"../model.onnx\" =", "path `../model.onnx` is absolute, leaves the bundle"),
        ("\"model.onnx\" =", "\"/etc/passwd\" =", "path `/etc/passwd` is absolute"),
        ("\"golden/000.png\" =", "\"golden\\\\000.png\" =", "has a backslash"),
        ("\"golden/000.png\" =", "\"golden//000.png\" =", "empty part"),
        ("\"samples/dark.jpg\" =", "\"model.onnx\" =", "duplicate key"),
        ("\"samples/dark.jpg\" =", "\"samples/other.jpg\" =", "samples/dark.jpg is in the bundle and not in [files]"),
        (
            "picture = \"golden/000.png\"",
            "picture = \"golden/009.png\"",
            "golden file golden/009.png is not in [files]",
        ),
        (golden, "logits = [4.0]", "1 logits for 2 classes"),
        (golden, "logits = [nan, 0.0]", "logits are not finite"),
        (golden, "logits = [-4.0, 4.0]", "verdict pass contradicts its logits"),
        (golden, "logits = [1.0, -1.0]", "golden/000.png: score 0.0003, the proof has 0.1192"),
    ] {
        let copy = Copy::new();
        copy.edit(from, to);
        let said = copy.refusal();
        assert!(said.contains(words), "{to}: `{words}` is not in {said}");
    }
}

#[test]
fn a_bundle_without_proof_is_refused() {
    let copy = Copy::new();
    let text = fs::read_to_string(copy.path("manifest.toml")).unwrap();
    let start = text.find("[[golden]]").unwrap();
    let end = text.find("[provenance]").unwrap();
    fs::write(copy.path("manifest.toml"), format!("golden = []\n{}{}", &text[..start], &text[end..])).unwrap();
    assert!(copy.refusal().contains("a bundle without proof may not judge"));
}

#[test]
fn every_problem_is_said_and_not_the_first() {
    let copy = Copy::new();
    copy.edit("map_low = 0.3", "map_low = 7.0");
    copy.edit("name = \"dark\"", "name = \"good\"");
    fs::remove_file(copy.path("samples/dark.jpg")).unwrap();
    fs::write(copy.path("notes.txt"), "hello").unwrap();
    copy.put("model.onnx", &bad("rule7_norm"));
    let said = copy.refusal();
    for words in
        ["map_low = 7", "class `good`", "samples/dark.jpg is in [files]", "notes.txt is in the", "rule 7: norm"]
    {
        assert!(said.contains(words), "`{words}` is not in {said}");
    }
}

#[test]
fn networks_that_break_the_contract_are_refused() {
    for (name, words) in [
        ("rule1_two_inputs", "rule 1: DequantizeLinear_8: DequantizeLinear has 2 inputs, not 3"),
        ("rule1_zero_point", "zero point is not all int8 zeros"),
        ("rule1_negative_scale", "scale is not a finite float32 above zero"),
        ("rule2_activation_per_channel", "an activation has 4 scales, not one"),
        ("rule2_weight_axis", "have scales along axis 1"),
        ("rule3_stored_integers", "weights are stored as integers"),
        ("rule4_integer_bias", "rule 4: bias.dq: dequantises an int32"),
        ("rule5_float_layer", "weights do not come from DequantizeLinear"),
        ("rule6_dynamic", "rule 6: dynamic: DynamicQuantizeLinear is not QDQ"),
        ("rule7_norm", "rule 7: norm: is not folded"),
        ("rule8_cut_relu", "rule 8: cut.q: stands between"),
        ("input_scale", "quantises the input with a scale that is not 1/128"),
        ("input_name", "has no input `input`"),
        ("input_integer", "input: is of type 2 [1, 3, 64, 64], and must be float32"),
        ("input_symbolic", "input: is float32 [1, 3, height, 64]"),
        ("output_missing", "has no output `map`"),
        ("output_extra", "up.out.dq: is an output that the contract does not have"),
        ("output_unmade", "logits: is an output that no node makes"),
        ("output_shape", "logits: is float32 [1, 3], and must be float32 [1, 2]"),
        ("opset_old", "opset 12 is not one of 13 to 17"),
        ("opset_new", "opset 18 is not one of 13 to 17"),
        ("domain", "imports the operator domain com.example"),
        ("external", "mix.weight: keeps its values outside of the file"),
        ("control_flow", "choice: If is control flow"),
        ("nan_weights", "mix.weight: holds values that are not finite numbers"),
        ("huge_tensor", "mix.weight: claims the impossible size"),
        ("short_tensor", "mix.weight: holds 144 values and claims 36000000"),
        ("huge_inside", "the limit is"),
        ("huge_pad", "pad: Pad asks for a tensor of absurd size"),
        ("unknown_operator", "cannot load the network"),
        ("cycle", "cannot load the network"),
        ("worse", "golden golden/000.png: score"),
        ("other", "has no input `input`"),
    ] {
        let copy = Copy::new();
        copy.put("model.onnx", &bad(name));
        let said = copy.refusal();
        assert!(said.contains(words), "{name}: `{words}` is not in {said}");
    }
}

/// A float layer between int8 ones: refused with what to write where, and computed once that is written.
#[test]
fn a_float_layer_is_allowed_by_name() {
    let copy = Copy::new();
    copy.put("model.onnx", &bad("rule5_float_layer"));
    let said = copy.refusal();
    let name = said.split("rule 5: ").nth(1).unwrap().split(':').next().unwrap();
    assert!(said.contains(&format!("float_layers = [\"{name}\"]")), "{said}");

    let path = copy.directory.path().to_str().unwrap();
    for verb in [&["check", "--layers", path][..], &["bench", "--layers", "--frames", "2", "--bundle", path]] {
        let output = common::fcam(&[verb, &["--float-layer", name]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("1 in float)"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("float conv ") && line.ends_with(name)), "{text}");
    }

    for (names, clean) in [(format!("[{name:?}]"), true), ("[]".into(), false), ("[\"Conv_99\"]".into(), false)] {
        let text = format!("[bundle]\npath = {path:?}\n[engine]\nfloat_layers = {names}\n");
        let elsewhere = TempDir::new().unwrap();
        fs::write(elsewhere.path().join("station.toml"), text).unwrap();
        let station = elsewhere.path().join("station.toml");
        let output = common::fcam(&["check", station.to_str().unwrap()]);
        assert_eq!(output.status.success(), clean, "{names}: {}", String::from_utf8_lossy(&output.stdout));
    }

    // A name too many is told even where the bundle itself is sound.
    let output = common::fcam(&["check", common::tiny().to_str().unwrap(), "--float-layer", "Conv_99"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("engine.float_layers names `Conv_99`, and the network has no such node"), "{text}");
}

#[cfg(feature = "tract")]
#[test]
fn bench_says_what_float_costs() {
    let tiny = common::tiny();
    let bench = |more: &[&str]| {
        let output = common::fcam(&[&["bench", "--frames", "2", "--bundle", tiny.to_str().unwrap()], more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = bench(&[]);
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("stock tract in float: ") || last.starts_with("float is cheaper on this core: "),
        "{text}"
    );
    let json = |more: &[&str]| serde_json::from_str::<serde_json::Value>(&bench(more)).unwrap();
    assert!(json(&["--json"])["float_us"].as_f64().unwrap() > 0.0);
    assert!(json(&["--json", "--no-float"])["float_us"].is_null());
    assert!(json(&["--json", "--backend", "tract"])["float_us"].is_null());
}

#[test]
fn bytes_that_are_no_network_are_refused() {
    let model = fs::read(common::tiny().join("model.onnx")).unwrap();
    let noise: Vec<u8> = (0..5000u32).map(|x| (x.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let cases = [b"GIF89a".as_slice(), &noise, &model[..model.len() / 2], &[0xFF; 100], b"\x3a\xff\xff\xff\xff\x0f"];
    for bytes in cases {
        let copy = Copy::new();
        copy.put("model.onnx", bytes);
        assert!(copy.refusal().contains("model.onnx: "));
    }
}

/// A PNG whose header claims `side` x `side` pixels.
fn bomb(side: u32) -> Vec<u8> {
    let mut bytes = fs::read(common::tiny().join("golden/000.png")).unwrap();
    bytes[16..20].copy_from_slice(&side.to_be_bytes());
    bytes[20..24].copy_from_slice(&side.to_be_bytes());
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    let crc = !bytes[12..29].iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step));
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn pictures_that_cannot_be_trusted_are_refused() {
    let whole = fs::read(common::tiny().join("golden/000.png")).unwrap();
    let other_size = fs::read(common::tiny().join("golden/001.png")).unwrap();
    for (name, bytes) in [
        ("golden/000.png", bomb(60_000)),
        ("golden/000.input.png", bomb(16_384)),
        ("golden/000.map.png", bomb(16_000)),
        ("golden/000.png", whole[..whole.len() / 2].to_vec()),
        ("golden/001.png", b"not a picture".to_vec()),
        ("golden/000.input.png", whole.clone()),
        ("golden/000.input.png", other_size),
        ("golden/001.map.png", whole.clone()),
        ("samples/dark.jpg", b"\xFF\xD8\xFF".to_vec()),
    ] {
        let copy = Copy::new();
        copy.put(name, &bytes);
        let said = copy.refusal();
        assert!(said.contains(&format!("cannot decode {name}")) || said.contains(&format!("{name} is ")), "{said}");
    }
}

#[test]
fn pictures_of_another_proof_are_refused() {
    let copy = Copy::new();
    copy.put("golden/000.map.png", &fs::read(common::tiny().join("golden/001.map.png")).unwrap());
    assert!(copy.refusal().contains("golden/000.png: map IoU 0.0000, the proof tolerates 0.95"));
    let copy = Copy::new();
    copy.put("golden/000.png", &fs::read(common::tiny().join("golden/001.png")).unwrap());
    let said = copy.refusal();
    assert!(said.contains("grey levels from the proof's input; verdict reject, the proof says pass"), "{said}");
}

#[test]
fn files_that_are_not_files_are_refused() {
    let copy = Copy::new();
    fs::remove_file(copy.path("model.onnx")).unwrap();
    std::os::unix::fs::symlink(common::tiny().join("model.onnx"), copy.path("model.onnx")).unwrap();
    assert!(copy.refusal().contains("model.onnx is a symlink"));

    let copy = Copy::new();
    std::os::unix::fs::symlink("/", copy.path("golden/all")).unwrap();
    assert!(copy.refusal().contains("golden/all is a symlink"));

    let copy = Copy::new();
    let _socket = std::os::unix::net::UnixListener::bind(copy.path("socket")).unwrap();
    assert!(copy.refusal().contains("socket is not a regular file"));
}

#[test]
fn sizes_are_refused_before_anything_is_read() {
    // Sparse files: they take no room, and reading them would take seconds.
    let grow = |copy: &Copy, name: &str, size| fs::File::create(copy.path(name)).unwrap().set_len(size).unwrap();
    let copy = Copy::new();
    grow(&copy, "model.onnx", (256 << 20) + 1);
    assert!(copy.refusal().contains("model.onnx has 268435457 bytes, more than 256 MiB"));
    let copy = Copy::new();
    grow(&copy, "manifest.toml", 1 << 40);
    grow(&copy, "extra", 1 << 40);
    let said = copy.refusal();
    assert!(said.contains("manifest.toml has 1099511627776 bytes, more than 1 MiB"), "{said}");
    assert!(said.contains("more than 512 MiB"), "{said}");
}

#[test]
fn a_path_that_is_no_bundle_is_refused() {
    let empty = TempDir::new().unwrap();
    assert!(refusal(empty.path()).contains("the directory is empty"));
    assert!(refusal(&common::tiny().join("model.onnx")).contains("cannot read"));
    assert!(refusal(&common::tiny().join("nowhere")).contains("No such file"));
}

#[test]
fn a_station_gets_a_pipeline_only_from_a_proven_bundle() {
    let pipeline = proof::require(&common::tiny_bundle(), common::geometry(), options()).unwrap();
    assert_eq!(pipeline.geometry(), common::geometry());

    let copy = Copy::new();
    copy.put("model.onnx", &bad("worse"));
    let bundle = Bundle::open(copy.directory.path()).unwrap(); // nothing wrong that can be read off the file
    let error = proof::require(&bundle, common::geometry(), options()).err().unwrap().to_string();
    let words = " tiny 1.0.0 may not judge on this machine:\n  golden golden/000.png: score";
    assert!(error.starts_with("bundle ") && error.contains(words), "{error}");
}

#[test]
fn the_proof_ignores_a_stations_own_threshold_and_roi() {
    let roi = fcam::preprocess::Roi { x: 90, y: 70, width: 2, height: 2 };
    let options = PipelineOptions { layout: roi.into(), score_threshold: Some(0.0), ..options() };
    let mut pipeline = proof::require(&common::tiny_bundle(), common::geometry(), options).unwrap();
    let bytes = common::plain(200);
    let frame = Frame::new(0, Duration::ZERO, common::geometry(), &bytes).unwrap();
    let inspection = pipeline.inspect(&frame);
    assert_eq!(inspection.outcome.verdict.word(), "reject", "the station's threshold holds again after the proof");
    assert_eq!(inspection.mask.roi, roi);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_manifests_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut text = fs::read(common::tiny().join("manifest.toml")).unwrap();
        for (at, byte) in edits {
            let at = at.index(text.len());
            text[at] = byte;
        }
        prop_assert!(Bundle::from_files("mutated", BTreeMap::from([("manifest.toml".into(), text)])).is_err());
    }

    #[test]
    fn mutated_networks_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        whole in prop::bool::weighted(0.8),
    ) {
        let mut onnx = fs::read(common::tiny().join("model.onnx")).unwrap();
        for (at, byte) in edits {
            let at = at.index(onnx.len());
            onnx[at] = byte;
        }
        if !whole {
            onnx.truncate(cut.index(onnx.len()));
        }
        let problems = qdq::problems(&onnx, SHAPE, true);
        if problems.is_empty() {
            // What the rules let through meets the loader, whose own panics become errors.
            let _ = Engine::load(&onnx, SHAPE, Settings::default());
        }
    }

    #[test]
    fn noise_is_never_a_network(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(!qdq::problems(&bytes, SHAPE, true).is_empty());
    }
}

#[test]
fn check_tells_who_computes_each_layer() {
    let bundle = common::tiny();
    let bundle = bundle.to_str().unwrap();
    let done = common::fcam(&["check", "--layers", "--json", bundle]);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let layers = report["layers"].as_array().unwrap();
    let convolutions = layers.iter().filter(|layer| layer["macs"].as_u64() > Some(0)).count();
    assert!(convolutions > 0 && convolutions < layers.len(), "{report}");
    assert!(
        layers.iter().all(|layer| layer["executor"].as_str().is_some_and(|executor| !executor.is_empty())),
        "{report}"
    );
    assert!(report["peak_gmacs"].as_f64() > Some(0.0), "{report}");
}

/// Stock tract does not tell, and the check says no less for it.
#[cfg(feature = "tract")]
#[test]
fn check_of_layers_goes_on_without_them() {
    let tiny = common::tiny();
    let done = common::fcam(&["check", "--layers", "--json", "--backend", "tract", tiny.to_str().unwrap()]);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(report["layers"].is_null() && report["passed"] == true, "{report}");
}
