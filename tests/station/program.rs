//! From outside: the program, a child process as its camera, and the JSON lines it writes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::common;
use crate::skip::skip;

/// A folder with a station file and the output that comes of it.
struct Bench {
    dir: TempDir,
}

struct Ended {
    code: Option<i32>,
    log: String,
}

impl Bench {
    /// `text` is the station file, without its bundle.
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("station.toml"), format!("[bundle]\npath = {:?}\n{text}", common::tiny()))
            .unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fcam"));
        command.args(["run", "--config", "station.toml", "--json", "out.jsonl"]).args(args);
        command.current_dir(self.dir.path()).env("RUST_LOG", "info").stdout(Stdio::null()).stderr(log);
        command
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    /// Waits for the end, which must come within a minute.
    fn end(&self, mut child: Child) -> Ended {
        let start = Instant::now();
        let code = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code();
            }
            if start.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                panic!("the station hangs: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Ended { code, log: self.log() }
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.end(self.start(args))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// The parts told so far.
    fn parts(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("out.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn wait_for_parts(&self, count: usize) {
        let start = Instant::now();
        while self.lines() < count {
            assert!(start.elapsed() < Duration::from_secs(60), "no parts: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn lines(&self) -> usize {
        std::fs::read_to_string(self.path("out.jsonl")).unwrap_or_default().matches('\n').count()
    }

    /// Writes a shell script into the folder, to be the camera.
    fn script(&self, text: &str) {
        std::fs::write(self.path("camera.sh"), text).unwrap();
    }
}

fn sequences(parts: &[Value]) -> Vec<u64> {
    parts.iter().map(|part| part["sequence"].as_u64().unwrap()).collect()
}

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

/// RESULT_ID as a Modbus master reads it, and STATUS.
fn result(master: &mut TcpStream) -> (u16, u16) {
    master.write_all(&[0, 1, 0, 0, 0, 6, 255, 4, 0, 0, 0, 3]).unwrap();
    let mut answer = [0; 15];
    master.read_exact(&mut answer).unwrap();
    (u16::from_be_bytes([answer[13], answer[14]]), u16::from_be_bytes([answer[9], answer[10]]))
}

/// Results reach the PLC, however long nobody reads standard output or the log.
#[test]
fn a_reader_that_hangs_costs_the_plc_nothing() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bench = Bench::new(&format!(
        "[camera]\nkind = \"pattern\"\nfps = 500\nrepeat = true\n[trigger]\nmode = \"every-frame\"\nqueue = 256\n\
         [sinks]\njson = \"-\"\n[plc]\nsimulated = true\n[modbus.tcp]\nlisten = \"{address}\"\n"
    ));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fcam"));
    command.args(["run", "--config", "station.toml"]).current_dir(bench.dir.path()).env("RUST_LOG", "debug");
    let mut station = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    let mut master = loop {
        match TcpStream::connect(address) {
            Ok(master) => break master,
            Err(_) => assert!(begun.elapsed() < Duration::from_secs(60), "it does not serve"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    // Sixteen times what the pipes and the queues hold: before, the 117th part was the last one.
    let mut last = 0;
    while last < 6000 {
        let (id, status) = result(&mut master);
        assert!(id >= last && begun.elapsed() < Duration::from_secs(120), "after part {last} no result comes");
        last = id;
        assert!(id == 0 || status & 1 == 1, "READY is high: {status:016b}");
        std::thread::sleep(Duration::from_millis(5));
    }
    terminate(&station);
    // Nobody reads to the end: it ends all the same, and in its exit code says what was not told.
    let patience = Instant::now();
    let code = loop {
        if let Some(status) = station.try_wait().unwrap() {
            break status.code();
        }
        assert!(patience.elapsed() < Duration::from_secs(20), "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(code, Some(1));
}

/// Each line says which release judged, and names the class.
#[test]
fn a_line_says_what_judged() {
    let bench = Bench::new("[camera]\nkind = \"pattern\"\nfps = 200\n");
    let ended = bench.run(&["--frames", "20"]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    for part in bench.parts() {
        assert_eq!((&part["release"]["name"], &part["release"]["counter"]), (&"tiny".into(), &0.into()), "{part}");
        let rejected = part["verdict"]["reject"].is_object();
        assert_eq!(part["class"].is_string(), rejected, "{part}");
        assert!(part["timings_us"]["engine"].is_u64(), "{part}");
    }
}

/// Frames of 16 x 16 gray pixels, which may all be the same.
const SCRIPTED: &str = "[camera]\nkind = \"pipe\"\ncommand = [\"sh\", \"camera.sh\"]\nwidth = 16\nheight = 16\nformat = \"gray8\"\nfrozen_frames = 0\n";
/// A hundred a second.
const ENDLESS: &str = "while head -c 256 /dev/zero; do sleep 0.01; done\n";

#[test]
fn a_thousand_frames_of_video_are_a_thousand_verdicts() {
    let source = "testsrc2=size=160x120:rate=125";
    let bench = Bench::new(&format!(
        "[camera]\nkind = \"pipe\"\nwidth = 160\nheight = 120\nformat = \"rgb8\"\n\
         command = [\"ffmpeg\", \"-v\", \"error\", \"-nostdin\", \"-re\", \"-f\", \"lavfi\", \"-i\", \"{source}\", \
         \"-pix_fmt\", \"rgb24\", \"-f\", \"rawvideo\", \"-\"]\n\
         [trigger]\nmode = \"every-frame\"\nqueue = 256\n"
    ));
    let ended = bench.run(&["--frames", "1000"]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let parts = bench.parts();
    assert_eq!(sequences(&parts), (0..1000).collect::<Vec<_>>());
    assert!(parts.iter().all(|part| part["verdict"]["fault"].is_null()));
    assert!(ended.log.contains("stopped: 1000 frames, "), "{}", ended.log);
}

#[test]
fn a_camera_that_dies_is_a_fault_and_comes_back() {
    let bench = Bench::new(&format!("{SCRIPTED}[trigger]\nmode = \"every-frame\"\nqueue = 256\n"));
    bench.script(&format!(
        "if [ -e died ]; then {ENDLESS}\nfi\n\
         for i in $(seq 50); do head -c 256 /dev/zero; sleep 0.01; done\n\
         touch died\necho the lens fell off >&2\nexit 3\n"
    ));
    let ended = bench.run(&["--frames", "100"]);
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    let parts = bench.parts();
    assert_eq!(sequences(&parts), (0..=100).collect::<Vec<_>>());
    let faults: Vec<&Value> = parts.iter().filter(|part| !part["verdict"]["fault"].is_null()).collect();
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0]["sequence"].as_u64(), faults[0]["verdict"]["fault"].as_str()), (Some(50), Some("camera")));
    for words in ["the lens fell off", "the camera is back after", "1 camera errors, 1 camera restarts"] {
        assert!(ended.log.contains(words), "no `{words}`: {}", ended.log);
    }
}

fn faults(parts: &[Value]) -> Vec<Option<&str>> {
    parts.iter().map(|part| part["verdict"]["fault"].as_str()).collect()
}

#[test]
fn a_camera_that_freezes_is_a_fault_for_each_part_until_it_moves_again() {
    let station = format!("{SCRIPTED}[trigger]\nmode = \"every-frame\"\nqueue = 256\n");
    let bench = Bench::new(&station.replace("frozen_frames = 0\n", ""));
    bench.script(
        "show() { head -c 256 /dev/zero | tr '\\0' $1; }\n\
         for i in $(seq 5); do show a; show b; done\n\
         for i in $(seq 40); do show c; done\n\
         while show a && show b; do sleep 0.01; done\n",
    );
    let ended = bench.run(&["--frames", "60"]);
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    let parts = bench.parts();
    assert_eq!(sequences(&parts), (0..60).collect::<Vec<_>>());
    let expected: Vec<_> = (0..60).map(|at| (39..50).contains(&at).then_some("frozen")).collect();
    assert_eq!(faults(&parts), expected, "the first 29 of equal frames may be judged");
    for words in ["the same picture came 30 times in a row", "the camera is back after", "11 fault (frozen 11)"] {
        assert!(ended.log.contains(words), "no `{words}`: {}", ended.log);
    }
    assert_eq!(ended.log.matches("in a row").count(), 1, "{}", ended.log);
}

/// Motion JPEG of two pictures in turn.
fn jpegs(bench: &Bench, width: u32, height: u32) {
    for (name, level) in [("a.jpg", 200), ("b.jpg", 100)] {
        image::GrayImage::from_pixel(width, height, image::Luma([level])).save(bench.path(name)).unwrap();
    }
    bench.script("while cat a.jpg b.jpg; do sleep 0.01; done\n");
}

#[test]
fn motion_jpeg_of_another_size_than_the_station_file_says_is_never_judged() {
    let every = "[trigger]\nmode = \"every-frame\"\nqueue = 256\n";
    let mjpeg = format!("{}{every}", SCRIPTED.replace("gray8", "mjpeg"));
    let bench = Bench::new(&mjpeg);
    jpegs(&bench, 24, 16);
    let ended = bench.run(&["--frames", "10"]);
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    let parts = bench.parts();
    assert_eq!((sequences(&parts), faults(&parts)), ((0..10).collect(), vec![Some("geometry"); 10]));
    let words = "has 24 x 16 pixels, and camera.width and camera.height say 16 x 16: set both to what the camera sends";
    assert_eq!(ended.log.matches(words).count(), 1, "{}", ended.log);

    // The right size is judged, and so is any where the station file says none.
    let any = mjpeg.replace("width = 16\nheight = 16\n", "");
    for (station, width) in [(&mjpeg, 16), (&any, 24)] {
        let bench = Bench::new(station);
        jpegs(&bench, width, 16);
        let ended = bench.run(&["--frames", "10"]);
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert_eq!(bench.lines(), 10);
    }
}

#[test]
fn sigterm_drains() {
    let bench =
        Bench::new(&format!("{SCRIPTED}[trigger]\nmode = \"every-frame\"\nqueue = 256\n[signals]\ndelay_ms = 3000\n"));
    bench.script(ENDLESS);
    let child = bench.start(&[]);
    bench.wait_for_parts(5);
    terminate(&child);
    let told_by_then = bench.lines();
    let ended = bench.end(child);
    // A busy machine may wake the outputs more than the millisecond of set-up too late: a counted Fault, but no part is
    // lost.
    let only_late = ended.code == Some(1) && ended.log.contains(" fault (late ");
    assert!(ended.code == Some(0) || only_late, "{}", ended.log);
    let parts = bench.parts();
    assert!(parts.len() > told_by_then, "three seconds of parts were on their way");
    assert_eq!(sequences(&parts), (0..parts.len() as u64).collect::<Vec<_>>());
    assert!(ended.log.contains(&format!("stopped: {} frames, ", parts.len())), "{}", ended.log);
}

#[test]
fn a_second_signal_stops_at_once_and_still_closes_every_part() {
    let bench =
        Bench::new(&format!("{SCRIPTED}[trigger]\nmode = \"every-frame\"\nqueue = 256\n[signals]\ndelay_ms = 30000\n"));
    bench.script(ENDLESS);
    let child = bench.start(&[]);
    let start = Instant::now();
    while !bench.log().contains("ready: ") {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", bench.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    terminate(&child);
    while !bench.log().contains("stopping: ") {
        std::thread::sleep(Duration::from_millis(10));
    }
    terminate(&child);
    let ended = bench.end(child);
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    let parts = bench.parts();
    assert!(!parts.is_empty() && parts.iter().all(|part| part["verdict"]["fault"] == "stopped"), "{parts:?}");
    assert_eq!(sequences(&parts), (0..parts.len() as u64).collect::<Vec<_>>());
}

#[test]
fn the_demo_needs_no_file() {
    let bench = Bench::new("");
    let bundle = common::tiny();
    let log = Command::new(env!("CARGO_BIN_EXE_fcam"))
        .args(["run", "--bundle", bundle.to_str().unwrap(), "--frames", "5", "--json", "-"])
        .current_dir(bench.dir.path())
        .output()
        .unwrap();
    assert_eq!(log.status.code(), Some(0), "{}", String::from_utf8_lossy(&log.stderr));
    // In free-run a machine that is busy elsewhere may drop a frame.
    assert!((1..=5).contains(&String::from_utf8(log.stdout).unwrap().lines().count()));
}

#[test]
fn a_full_card_is_counted() {
    let bench = Bench::new("[camera]\nfps = 50\n[record]\nkeep = \"all\"\ndir = \"station.toml\"\n");
    let ended = bench.run(&["--frames", "20"]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("record drops"), "{}", ended.log);
    assert_eq!(ended.log.matches("are not recorded").count(), 1, "{}", ended.log);
}

/// The files of the recorded parts.
fn recorded(bench: &Bench) -> Vec<String> {
    let dir = bench.path("record");
    if dir.is_dir() { common::files(&dir) } else { vec![] }
}

/// Each JSON line has its picture, each picture its JSON line, and all of them can be read.
fn all_whole(bench: &Bench) -> usize {
    let files = recorded(bench);
    let of =
        |ending: &str| files.iter().filter_map(|name| name.strip_suffix(ending)).map(String::from).collect::<Vec<_>>();
    let (lines, masks) = (of(".json"), of(".mask.png"));
    let pictures: Vec<String> = of(".png").into_iter().filter(|name| !name.ends_with(".mask")).collect();
    assert_eq!(lines, pictures);
    assert_eq!(files.len(), lines.len() + pictures.len() + masks.len(), "{files:?}");
    assert!(masks.iter().all(|mask| lines.contains(mask)), "{files:?}");
    for name in &files {
        let path = bench.path("record").join(name);
        if name.ends_with(".json") {
            let text = std::fs::read_to_string(path).unwrap();
            let line: Value = serde_json::from_str(&text).unwrap();
            assert!(line["release"]["name"] == "tiny" && line["verdict"] != Value::Null, "{text}");
        } else {
            assert!(image::open(&path).is_ok(), "{name}");
        }
    }
    lines.len()
}

#[test]
fn a_kill_leaves_whole_parts_and_the_next_start_goes_on_after_them() {
    let bench = Bench::new("[camera]\nfps = 200\n[record]\nkeep = \"all\"\nfree_mb = 0\n");
    let mut before = 0;
    for _ in 0..4 {
        let mut child = bench.start(&[]);
        let start = Instant::now();
        while recorded(&bench).len() < before + 20 {
            assert!(start.elapsed() < Duration::from_secs(60), "nothing is recorded: {}", bench.log());
            std::thread::sleep(Duration::from_millis(3));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        before = recorded(&bench).len();
    }
    let ended = bench.run(&["--frames", "5"]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(all_whole(&bench) > 4 * 5);
}

/// A card that is full, and one that cannot be written any more: where this user may mount one.
#[test]
fn a_full_or_dying_card_costs_no_part() {
    let all =
        "[camera]\nfps = 20\n[trigger]\nmode = \"every-frame\"\nqueue = 256\n[record]\nkeep = \"all\"\nfree_mb = 0\n";
    for (options, some) in [("size=100k", true), ("ro,size=100k", false)] {
        let bench = Bench::new(all);
        std::fs::create_dir(bench.path("record")).unwrap();
        std::fs::create_dir(bench.path("kept")).unwrap();
        let script = format!(
            "mount -t tmpfs -o {options} none record || exit 77\n\
             \"$0\" run --config station.toml --json out.jsonl --frames 40; code=$?\n\
             cp -r record/. kept/; exit $code"
        );
        let program = env!("CARGO_BIN_EXE_fcam");
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &script, program]).current_dir(bench.dir.path());
        let output = command.output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        if !log.contains("ready: ") {
            return skip(&format!("a full record folder (no file system may be mounted here: {})", log.trim()));
        }
        assert_eq!(output.status.code(), Some(0), "{log}");
        assert!(log.contains("stopped: 40 frames, ") && log.contains(" record drops"), "{log}");
        assert_eq!(log.matches("are not recorded").count(), 1, "{log}");
        std::fs::remove_dir(bench.path("record")).unwrap();
        std::fs::rename(bench.path("kept"), bench.path("record")).unwrap();
        assert_eq!(all_whole(&bench) > 0, some, "{log}");
    }
}

#[test]
fn what_cannot_start_says_why() {
    let file = Path::new("station.toml").join("out.jsonl").display().to_string();
    let cases = [
        ("", vec!["--json", &file], "cannot write sinks.json"),
        ("", vec!["--bundle", "nowhere"], "bundle.path: cannot read nowhere"),
        (
            "",
            vec!["--config", "none.toml"],
            "cannot read none.toml: No such file or directory (os error 2): is the path right?",
        ),
        ("[signals]\nhodl_ms = 1\n[camra]\n", vec![], "did you mean `hold_ms`?"),
        ("[camera]\nkind = \"folder\"\npaths = [\"nowhere\"]", vec![], "cannot open the camera"),
        ("[inspect]\nroi = { x = 9000, y = 0, width = 9, height = 9 }", vec![], "does not lie inside the"),
    ];
    for (text, args, words) in cases {
        let bench = Bench::new(text);
        let all = [&["run", "--config", "station.toml"][..], &args].concat();
        let repeated = args.contains(&"--config");
        let all = if repeated { [&["run"][..], &args].concat() } else { all };
        let output = Command::new(env!("CARGO_BIN_EXE_fcam")).args(all).current_dir(bench.dir.path()).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text} {args:?}: {log}");
        assert!(log.contains(words), "no `{words}`: {log}");
        // A cause is told once, however many errors have passed it on.
        assert!(log.matches("(os error").count() <= 1, "{log}");
    }
}

#[test]
fn a_bundle_without_its_proof_may_not_judge() {
    let bench = Bench::new("");
    let bundle = bench.path("bundle");
    common::copy_tiny(&bundle);
    let manifest = bundle.join("manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    // The same verdict, another score.
    let damaged = text.replace("logits = [-2.456693, 2.456693]", "logits = [-0.5, 0.5]");
    assert_ne!(text, damaged);
    std::fs::write(&manifest, damaged).unwrap();
    let ended = bench.run(&["--bundle", "bundle"]);
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(ended.log.contains("may not judge on this machine"), "{}", ended.log);
    assert_eq!(bench.lines(), 0);
}

#[test]
fn check_reads_station_files_too() {
    let bench = Bench::new("[signals]\nhodl_ms = 1\nhold_ms = 0\n");
    let file = bench.path("station.toml").display().to_string();
    let output = common::fcam(&["check", &file]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("did you mean `hold_ms`?") && text.contains("signals.hold_ms = 0 is outside"), "{text}");
}

/// What a service tells systemd (sd_notify(3)).
#[test]
fn the_inspection_loop_feeds_the_watchdog() {
    let bench = Bench::new("[camera]\nfps = 50\n");
    let socket = std::os::unix::net::UnixDatagram::bind(bench.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = bench.command(&["--frames", "50"]);
    command.env("NOTIFY_SOCKET", bench.path("notify")).env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
    let child = command.spawn().unwrap();
    let mut told = vec![];
    let mut bytes = [0; 256];
    while !told.iter().any(|line: &String| line.contains("STOPPING=1")) {
        let count = socket.recv(&mut bytes).unwrap();
        told.push(String::from_utf8_lossy(&bytes[..count]).into_owned());
    }
    let ended = bench.end(child);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(told[0].contains("READY=1"), "{told:?}");
    // A second of parts, fed twice in each time that systemd allows.
    let fed = told.iter().filter(|line| line.contains("WATCHDOG=1")).count();
    assert!((5..30).contains(&fed), "{told:?}");
}
