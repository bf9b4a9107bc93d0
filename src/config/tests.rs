//! The manual is held to the defaults, and every problem of a file is told.

use super::*;
use crate::camera::PixelFormat;
use crate::preprocess::Roi;
use crate::vote::Vote;

const MANUAL: &str = include_str!("../../board/station.example.toml");

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/tiny")
}

fn parse(text: &str) -> (Raw, Vec<String>) {
    let mut problems = vec![];
    let raw = read::read(text, &mut problems);
    validate(&raw, &mut problems);
    (raw, problems)
}

#[test]
fn the_manual_is_the_defaults() {
    let (raw, problems) = parse(MANUAL);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(raw, Raw::default());
}

#[test]
fn the_manual_has_every_key_in_its_section() {
    let serde_json::Value::Object(sections) = serde_json::to_value(Raw::default()).unwrap() else { panic!() };
    sections.iter().for_each(|(section, keys)| has_every_key(section, keys));
}

fn has_every_key(section: &str, keys: &serde_json::Value) {
    let text = MANUAL.split(&format!("\n[{section}]\n")).nth(1).unwrap_or_else(|| panic!("no [{section}]"));
    let text = text.split("\n[").next().unwrap();
    for (key, default) in keys.as_object().unwrap() {
        // A section of its own, or a table that is written in one line.
        if MANUAL.contains(&format!("\n[{section}.{key}]\n")) {
            has_every_key(&format!("{section}.{key}"), default);
            continue;
        }
        let line = if default.is_null() { format!("# {key} = ") } else { format!("{key} = ") };
        assert!(text.lines().any(|found| found.starts_with(&line)), "no `{line}` in [{section}]");
    }
}

#[test]
fn the_manuals_examples_of_optional_keys_are_valid() {
    let optional =
        ["# path = ", "# width = ", "# height = ", "# stride = ", "# roi = ", "# score = ", "# vote = ", "# blind = "];
    let text: String = MANUAL
        .lines()
        .map(|line| if optional.iter().any(|key| line.starts_with(key)) { &line[2..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    let (raw, problems) = parse(&text);
    assert_eq!(problems, Vec::<String>::new());
    assert!(raw.camera.width.is_some() && raw.inspect.roi.is_some());
    assert!(raw.inspect.score.is_some() && raw.inspect.vote.is_some());
}

#[test]
fn every_problem_is_told() {
    let (_, problems) = parse(
        "[camera]\nkind = \"pipe\"\nfps = -1\nwidth = 5\n[inspect]\nscore = 2.0\nroi = { x = 1, y = 1, width = 0, height = 1 }\n\
         [engine]\nthreads = 0\n[trigger]\nqueue = 0\nmdoe = 1\n[signals]\nhold_ms = 0\ndelay_ms = 99999\n\
         [record]\nkeep = \"all\"\ndir = \"\"\nmax_files = 0\n[log]\nsummary_s = 0\n[serial]\nbaud = 300\n\
         [modbus]\nword_order = \"middle\"\n[modbus.tcp]\nlisten = \"502\"\nconnections = 0\nidle_s = 0\nmasters = [\"plc\"]\n\
         [modbus.rtu]\nunit = 248\nbaud = 1\nparty = 1\n",
    );
    let expected = [
        "unknown key `mdoe`",
        "unknown key `party` in [modbus.rtu]: did you mean `parity`?",
        "modbus.tcp.masters: ",
        "modbus.word_order: ",
        "camera.fps",
        "camera.width and camera.height go together",
        "camera.command is empty",
        "inspect.score",
        "inspect.roi has no pixels",
        "engine.threads",
        "trigger.queue",
        "signals.delay_ms",
        "signals.hold_ms",
        "record.max_files",
        "log.summary_s",
        "record.dir is empty",
        "serial.baud = 300 is outside",
        "modbus.tcp.connections = 0 is outside",
        "modbus.tcp.idle_s = 0 is outside",
        "modbus.rtu.baud = 1 is outside",
        "modbus.rtu.unit = 248 is outside",
        "modbus.tcp.listen = \"502\" is no address with a port",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(expected) {
        assert!(problem.starts_with(start), "{problem:?} is not about {start}");
    }
}

#[test]
fn combinations_that_cannot_work() {
    let cases = [
        ("[camera]\nfps = 0.1", "camera.timeout_ms = 2000 is no longer than the time between two frames"),
        ("[camera]\nformat = \"nv12\"", "camera.format is \"rgb8\" for the pattern camera"),
        ("[camera]\nkind = \"folder\"", "camera.paths is empty"),
        ("[camera]\nfrozen_frames = 30", "camera.frozen_frames is for a \"v4l2\" or a \"pipe\" camera"),
        (
            "[camera]\nkind = \"folder\"\npaths = [\"x\"]\nfrozen_frames = 3",
            "camera.frozen_frames is for a \"v4l2\" or a \"pipe\" camera",
        ),
        (
            "[camera]\nkind = \"pipe\"\ncommand = [\"x\"]\nformat = \"mjpeg\"\nfrozen_frames = 2",
            "camera.frozen_frames = 2 is outside 3..=1000000 (0 lets any number be equal)",
        ),
        (
            "[camera]\nkind = \"pipe\"\ncommand = [\"x\"]\nformat = \"mjpeg\"\nwidth = 0\nheight = 48",
            "camera: a 0 x 48 Gray8 frame has no pixels",
        ),
        (
            "[camera]\nkind = \"pipe\"\ncommand = [\"x\"]\nformat = \"mjpeg\"\nwidth = 64",
            "camera.width and camera.height go together",
        ),
        ("[camera]\nkind = \"pipe\"\ncommand = [\"x\"]", "camera.format must say how the command writes pixels"),
        ("[camera]\nkind = \"pipe\"\ncommand = [\"x\"]\nformat = \"rgb8\"", "camera.width and camera.height must say"),
        (
            "[camera]\nkind = \"pipe\"\ncommand = [\"x\"]\nformat = \"gray8\"\nwidth = 64\nheight = 48\nstride = 63",
            "camera: a 64 x 48 Gray8 frame has a stride shorter than a row",
        ),
        (
            "[camera]\nkind = \"pipe\"\ncommand = [\"x\"]\nformat = \"i420\"\nwidth = 5\nheight = 4",
            "camera: a 5 x 4 I420 frame needs an even",
        ),
        (
            "[camera]\nwidth = 64\nheight = 48\n[inspect]\nroi = { x = 60, y = 0, width = 5, height = 48 }",
            "inspect.roi 5x48 at (60, 0) does not lie inside the 64x48 frame",
        ),
        ("[serial]\nport = \"x\"\nparts_per_minute = 1200\n[plc]\nsimulated = true", "serial: a part takes "),
        (
            "[serial]\nport = \"x\"\nbaud = 9600\nparts_per_minute = 1\n[plc]\nsimulated = true",
            "serial: a verdict may wait 10 ms, but the smallest",
        ),
        ("[serial]\nport = \"x\"\nprofile = \"ascii\"\n[plc]\nsimulated = true", "serial.masks = true needs"),
        (
            "[modbus.tcp]\nlisten = \"0.0.0.0:502\"\n[plc]\nsimulated = true",
            "modbus.tcp.listen = \"0.0.0.0:502\" is every network",
        ),
        ("[modbus.tcp]\nwrite = true", "modbus.tcp.write = true needs modbus.tcp.listen"),
        ("[modbus.rtu]\nport = \"x\"", "plc.simulated must be true"),
        ("[trigger]\nmode = \"external\"", "trigger.mode = \"external\", but nothing can trigger"),
        (
            "[trigger]\nmode = \"external\"\n[modbus.tcp]\nlisten = \"127.0.0.1:502\"\n[plc]\nsimulated = true",
            "trigger.mode = \"external\", but nothing can trigger",
        ),
        ("modbus = 5", "[modbus] is a section"),
        ("[modbus]\ntcp = 5", "[modbus.tcp] is a section"),
        (
            "[inspect]\nroi = { x = 4294967295, y = 0, width = 5, height = 48 }",
            "inspect.roi 5x48 at (4294967295, 0) does not lie inside the 16384x16384 frame",
        ),
    ];
    for (text, start) in cases {
        let (_, problems) = parse(text);
        assert!(problems.len() == 1 && problems[0].starts_with(start), "{text}: {problems:#?}");
    }
    assert_eq!(parse("[camera]\nkind = \"pipe\"\ncommand = [\"x\"]\nformat = \"mjpeg\"").1, Vec::<String>::new());
}

/// What a [camera] section of the kernel's camera has wrong.
#[cfg(feature = "v4l2")]
fn device(keys: &str) -> Vec<String> {
    parse(&format!("[camera]\nkind = \"v4l2\"\n{keys}")).1
}

#[cfg(feature = "v4l2")]
#[test]
fn a_device_needs_a_size_and_a_name() {
    let good = "width = 640\nheight = 480\ndevice = \"HD Pro Webcam C920\"\nformat = \"nv12\"\nfps = 29.97\n\
                controls = { brightness = 5, exposure_auto = \"Manual Mode\", \"Gain, Automatic\" = false }";
    assert_eq!(device(good), Vec::<String>::new());
    assert_eq!(
        device("width = 5\nheight = 7"),
        Vec::<String>::new(),
        "whether the format can be odd is for the camera to say"
    );
    for (keys, start) in [
        ("", "camera.width and camera.height must say how large the frames are"),
        ("width = 5", "camera.width and camera.height go together"),
        ("width = 5\nheight = 7\nformat = \"yuyv\"", "camera: a 5 x 7 Yuyv frame needs an even"),
        ("width = 20000\nheight = 7", "camera: a 20000 x 7 Gray8 frame is larger"),
        ("width = 4\nheight = 4\ndevice = \"\"", "camera.device is empty"),
        (
            "width = 4\nheight = 4\ncontrols = { gain = 1.5 }",
            "camera.controls: expected true, false, a whole number or",
        ),
        ("width = 4\nheight = 4\ncontrols = 7", "camera.controls: invalid type"),
    ] {
        let problems = device(keys);
        assert!(problems.len() == 1 && problems[0].starts_with(start), "{keys}: {problems:#?}");
    }
    assert_eq!(device("fps = -1\ndevice = \"\"\nheight = 0\nwidth = 1").len(), 3, "every problem is told");
}

#[cfg(not(feature = "v4l2"))]
#[test]
fn a_device_needs_its_feature() {
    let (_, problems) = parse("[camera]\nkind = \"v4l2\"\nwidth = 4\nheight = 4");
    assert_eq!(problems, ["camera.kind = \"v4l2\" needs an fcam that was built with its feature v4l2"]);
}

#[test]
fn every_problem_of_rois_tiles_and_votes_is_told() {
    let (_, problems) = parse(
        "[camera]\nwidth = 640\nheight = 480\n[trigger]\nmode = \"every-frame\"\n[inspect]\nvote = { of = 3, need = 4 }\n\
         roi = { x = 0, y = 0, width = 0, height = 4 }\ntiles = { columns = 20, rows = 1, overlap = 0.0 }\nrois = [\n\
         { x = 600, y = 0, width = 41, height = 480 },\n\
         { x = 0, y = 0, width = 100, height = 100, tiles = { columns = 9, rows = 8 } },\n\
         { x = 0, y = 0, width = 640, height = 480, tiles = { columns = 2, rows = 2, overlap = 0.6 } },\n]\n",
    );
    let expected = [
        "inspect.roi and inspect.rois are both set",
        "inspect.roi has no pixels",
        "inspect.rois[0] 41x480 at (600, 0) does not lie inside the 640x480 frame",
        "inspect.rois[1].tiles: 9 x 8 tiles are none, or more than 64",
        "inspect.rois[2].tiles: an overlap of 0.6 is outside 0..=0.5",
        "inspect.tiles: 20 x 1 tiles of 0x4 pixels have 1x4 each, at least 8x8",
        "inspect.vote: need = 4 is outside 1..=3",
        "inspect.vote needs trigger.mode = \"free-run\"",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(expected) {
        assert!(problem.starts_with(start), "{problem:?} is not about {start}");
    }
    let whole = "[camera]\nwidth = 640\nheight = 480\n[inspect]\ntiles = { columns = 64, rows = 2 }";
    assert!(parse(whole).1[0].starts_with("inspect.tiles: 64 x 2 tiles are none, or more than 64"));
    let many = "[inspect]\ntiles = { columns = 8, rows = 4 }\nrois = [{ x = 0, y = 0, width = 99, height = 99 }, { x = 9, y = 9, width = 99, \
                height = 99 }, { x = 9, y = 9, width = 1, height = 1, tiles = { columns = 1, rows = 1 } }]";
    assert_eq!(parse(many).1, ["inspect.rois have 65 tiles, 64 are possible: each costs a run of the network"]);
}

#[test]
fn rois_and_tiles_reach_the_pipeline() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("station.toml");
    let text = "[inspect]\nrois = [{ x = 1, y = 2, width = 30, height = 40 }, { x = 9, y = 9, width = 50, height = 50, tiles = { columns = 3, \
                rows = 1, overlap = 0.25 } }]\ntiles = { columns = 2, rows = 2 }\nvote = { of = 5, need = 2 }\n";
    std::fs::write(&file, text).unwrap();
    let overrides = Overrides { bundle: Some(tiny()), ..Overrides::default() };
    let options = Setup::load(Some(&file), overrides).unwrap().options();
    let geometry = Geometry::packed(64, 64, PixelFormat::Gray8).unwrap();
    let plan = options.layout.plan(&geometry).unwrap();
    assert_eq!(plan.len(), 7);
    assert_eq!(plan[0].roi, Roi { x: 1, y: 2, width: 16, height: 22 });
    assert_eq!(plan[6].roi, Roi { x: 39, y: 9, width: 20, height: 50 });
    assert_eq!(options.vote, Some(Vote { of: 5, need: 2 }));
}

#[test]
fn check_tells_of_the_bundle_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("station.toml");
    std::fs::write(&file, "[bundle]\npath = \"/nowhere\"\n[signals]\nhold = 1").unwrap();
    let problems = check(&file);
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].ends_with("did you mean `hold_ms`?"), "{problems:#?}");
    assert!(problems[1].starts_with("bundle.path: cannot read /nowhere"), "{problems:#?}");

    std::fs::write(&file, format!("[bundle]\npath = {:?}", tiny())).unwrap();
    assert_eq!(check(&file), Vec::<String>::new());
    assert!(check(&dir.path().join("none.toml"))[0].starts_with("cannot read "));
}

#[test]
fn flags_override_the_file() {
    let json = tempfile::tempdir().unwrap().path().join("none").join("out.jsonl").display().to_string();
    let overrides = Overrides { bundle: Some(tiny()), json: Some(json), frames: Some(3) };
    let setup = Setup::load(None, overrides).unwrap();
    assert_eq!(setup.bundle().manifest().name, "tiny");
    assert!(matches!(setup.station(), Err(Error::Json { .. })));
}

/// Lines of a station that is complete; a test breaks one thing each.
const WIRED: &str = "[camera]\nkind = \"pipe\"\ncommand = [\"x\"]\nformat = \"gray8\"\nwidth = 64\nheight = 48\n[trigger]\nmode = \"external\"\n[gpio.lines]\nok = \"A\"\n\
    ng = { name = \"B\", active_low = true }\nvalid = \"C\"\n[gpio.trigger]\nline = \"D\"\n";

#[test]
fn lines_that_go_together() {
    let (raw, problems) = parse(WIRED);
    assert_eq!(problems, Vec::<String>::new());
    assert!(raw.gpio.lines.ng.active_low && raw.gpio.trigger.line.is_set());
    let zones =
        |zones: &str, lines: &str| format!("[zones]\n{zones}\n[gpio.lines]\n{lines}\n[plc]\nsimulated = true\n");
    let eight = "[\"0\", \"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\"]";
    let cases = [
        (WIRED.replace("\"C\"", "\"A\""), "gpio: line A is both ok and valid"),
        (WIRED.replace("valid = \"C\"\n", ""), "gpio.lines.ok needs gpio.lines.ng and gpio.lines.valid"),
        (WIRED.replace("external", "free-run"), "gpio.trigger.line would trigger parts, but trigger.mode is not"),
        (WIRED.replace("line = \"D\"", ""), "trigger.mode = \"external\", but nothing can trigger"),
        (
            WIRED.replace("line = \"D\"", "line = \"D\"\ndebounce_us = 2000000"),
            "gpio.trigger.debounce_us = 2000000 is outside",
        ),
        (format!("{WIRED}debounce_us = 9000\n[signals]\ndelay_ms = 9"), "gpio.trigger.debounce_us is no shorter than"),
        ("[gpio.lines]\nng = \"A\"".into(), "plc.simulated must be true"),
        ("[gpio.strobe]\nline = \"A\"\n[plc]\nsimulated = true".into(), "gpio.strobe needs gpio.trigger.line"),
        (format!("{WIRED}[gpio.strobe]\nline = \"E\"\nwidth_us = 0"), "gpio.strobe.width_us = 0 is outside"),
        (zones("kind = \"grid\"\ncolumns = 17\nrows = 1", ""), "zones.columns x zones.rows = 17 x 1"),
        (zones("kind = \"polygons\"", ""), "zones.polygons has 0 zones"),
        (zones("kind = \"polygons\"\npolygons = [[[1, 1], [2, 2]]]", ""), "zones.polygons: zone 0 has 2 corners"),
        (
            zones("kind = \"polygons\"\npolygons = [[[9, 9], [9, 9], [1, 1], [5, 5]]]", ""),
            "zones.polygons: zone 0 has no area",
        ),
        (zones("kind = \"grid\"", "zones = [\"0\"]"), "gpio.lines.zones has 1 lines, but there are 8 zones"),
        (
            zones("kind = \"grid\"", &format!("zones = {eight}\nzone_strobe = \"S\"")),
            "gpio.lines.zone_strobe is for more",
        ),
        (
            zones("kind = \"grid\"\nrows = 4", &format!("zones = {eight}")),
            "gpio.lines.zones has 8 lines, but there are 16",
        ),
        (
            zones(
                "kind = \"grid\"\nrows = 4\n[signals]\nhold_ms = 15",
                &format!("zones = {eight}\nzone_strobe = \"S\""),
            ),
            "signals.hold_ms = 15 is too short for two bytes",
        ),
    ];
    for (text, start) in cases {
        let (_, problems) = parse(&text);
        assert!(problems.len() == 1 && problems[0].starts_with(start), "{text}: {problems:#?}");
    }
    for good in [
        zones("kind = \"grid\"", &format!("zones = {eight}")),
        zones("kind = \"grid\"\nrows = 4", &format!("zones = {eight}\nzone_strobe = \"S\"")),
    ] {
        assert_eq!(parse(&good).1, Vec::<String>::new(), "{good}");
    }
}

#[test]
fn a_corner_outside_the_frame() {
    let text = "[camera]\nkind = \"pipe\"\ncommand = [\"x\"]\nformat = \"gray8\"\nwidth = 64\nheight = 48\n[zones]\nkind = \"polygons\"\npolygons = [[[1, 1], [64, 48], [2, 49]]]";
    assert_eq!(parse(text).1, ["zones.polygons: zone 0 has a corner at (2, 49), outside the 64x48 frame"]);
}

#[test]
fn jobs_are_bundles_of_the_store() {
    let jobs = "jobs = [{ job = 1, bundle = \"housing\" }, { job = 2, bundle = \"lid.3\" }]\n";
    assert_eq!(parse(&format!("[bundle]\nstore = \"x\"\n{jobs}")).1, Vec::<String>::new());
    let (_, problems) = parse(&format!("[bundle]\n{jobs}"));
    assert!(problems.len() == 1 && problems[0].contains("bundle.jobs needs bundle.store"), "{problems:?}");
    let twice = "[bundle]\nstore = \"x\"\njobs = [{ job = 1, bundle = \"a\" }, { job = 1, bundle = \"a\" }]";
    let (_, problems) = parse(twice);
    assert_eq!(problems.len(), 2, "{problems:?}");
    let (_, problems) = parse("[bundle]\nstore = \"x\"\njobs = [{ job = 1, bundle = \"../a\" }]");
    assert!(problems.len() == 1 && problems[0].contains("names no bundle"), "{problems:?}");
}
