//! The serial line from outside: the program on one end of a pseudo-terminal, and on the other a decoder that was
//! written in Python from the specification alone. A pseudo-terminal does not pace bytes; the station does, by the baud
//! rate that it was told.

#[path = "serial/dialogue.rs"]
mod dialogue;

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fcam::clock::Timestamp;
use fcam::outcome::{Opened, Outcome};
use fcam::plc_link::PlcLink;
use fcam::sink::serial::{Parity, Profile, SerialOptions};
use fcam::sink::{Serial, Sink};
use fcam::telegram::budget::SerialLine;
use fcam::telegram::{Message, Receiver, encode};
use fcam::verdict::Verdict;
use serde_json::Value;
use serial2::SerialPort;
use tempfile::TempDir;

use crate::{common, outcome};

/// Bytes, and when they came.
type Heard = (Instant, Vec<u8>);

/// The PLC's end of a line: everything that comes is kept.
struct Plc {
    port: Arc<SerialPort>,
    /// The camera's end, by the path it has.
    path: PathBuf,
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
    /// Takes nothing for a while.
    paused: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _other: SerialPort,
}

impl Plc {
    /// `deaf` never reads.
    fn new(deaf: bool) -> Self {
        let (mut port, other) = SerialPort::pair().unwrap();
        let path = std::fs::read_link(format!("/proc/self/fd/{}", other.as_raw_fd())).unwrap();
        port.set_read_timeout(Duration::from_millis(20)).unwrap();
        let (port, heard, stop) = (Arc::new(port), Arc::new(Mutex::new(vec![])), Arc::new(AtomicBool::new(false)));
        let paused = Arc::new(AtomicBool::new(false));
        let thread = (!deaf).then(|| {
            let (port, heard, stop, paused) = (port.clone(), heard.clone(), stop.clone(), paused.clone());
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while !stop.load(Ordering::Relaxed) {
                    if paused.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(5));
                    } else if let Ok(count) = port.read(&mut bytes) {
                        heard.lock().unwrap().push((Instant::now(), bytes[..count].to_vec()));
                    }
                }
            })
        });
        Self { port, path, heard, stop, paused, thread, _other: other }
    }

    fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    fn bytes(&self) -> Vec<u8> {
        self.heard.lock().unwrap().iter().flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}

impl Drop for Plc {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// A folder with a station file and what comes of it.
struct Bench(TempDir);

impl Bench {
    fn new(port: &Path, serial: &str, rest: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("[bundle]\npath = {:?}\n{rest}\n[serial]\nport = {port:?}\n{serial}\n", common::tiny());
        std::fs::write(dir.path().join("station.toml"), text).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn start(&self, frames: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fcam"));
        command.args(["run", "--config", "station.toml", "--json", "out.jsonl", "--frames", frames]);
        let log = std::fs::File::create(self.path("log")).unwrap();
        command.current_dir(self.0.path()).env("RUST_LOG", "info").stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn run(&self, frames: &str) -> Option<i32> {
        let code = self.start(frames).wait().unwrap().code();
        std::thread::sleep(Duration::from_millis(100)); // the last bytes are on their way
        code
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// The parts as the JSON sink told them.
    fn parts(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("out.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The Python decoder on bytes.
    fn python(&self, verb: &str, stream: &[u8]) -> Vec<Value> {
        std::fs::write(self.path("stream"), stream).unwrap();
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/telegram.py");
        let mut command = Command::new("python3");
        let done = command.arg(tool).arg(verb).arg(self.path("stream")).arg(self.path("noisy")).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn of<'a>(messages: &'a [Value], kind: &str) -> Vec<&'a Value> {
    messages.iter().filter(|message| message["type"] == kind).collect()
}

const FAST: &str = "baud = 4000000\nparts_per_minute = 15000";
/// A camera section whose frames may drive OK: those of the pattern camera are simulated, and never do.
fn camera(fps: u32) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/frames.py");
    let command = format!("[\"python3\", {script:?}, \"{fps}\"]");
    let frame = "format = \"gray8\"\nwidth = 64\nheight = 64\ntimeout_ms = 30000\n";
    format!("[camera]\nkind = \"pipe\"\ncommand = {command}\n{frame}")
}

/// Every frame a part.
fn every(fps: u32, queue: u32) -> String {
    format!("[trigger]\nmode = \"every-frame\"\nqueue = {queue}\n{}", camera(fps))
}

#[test]
fn five_thousand_frames_with_every_tenth_damaged() {
    let plc = Plc::new(false);
    let bench = Bench::new(&plc.path, FAST, &every(200, 256));
    assert_eq!(bench.run("2800"), Some(0), "{}", bench.log());
    let stream = plc.bytes();

    let decoded = bench.python("decode", &stream);
    assert_eq!(decoded[0]["type"], "HELLO");
    let sequences: Vec<u64> = decoded.iter().map(|message| message["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (0..decoded.len() as u64).collect::<Vec<_>>());
    let (verdicts, parts) = (of(&decoded, "VERDICT"), bench.parts());
    assert_eq!(verdicts.len(), parts.len());
    for (verdict, part) in verdicts.iter().zip(&parts) {
        assert_eq!(verdict["result_id"], part["sequence"]);
        assert_eq!(verdict["ok"], part["verdict"] == "pass");
        let score = part["score"].as_f64().unwrap();
        assert!((verdict["score"].as_f64().unwrap() / 1e4 - score).abs() < 1e-4);
    }
    masks_are_their_regions(&decoded);

    let proof = &bench.python("prove", &stream)[0];
    let number = |key: &str| proof[key].as_u64().unwrap();
    println!("Python: {proof}");
    assert!(number("frames") >= 5000, "{proof}");
    assert_eq!(number("corrupt_accepted"), 0);
    assert!(number("kept") * 100 >= number("clean") * 99);

    // The camera's own receiver, on the same bytes.
    let (mut receiver, mut kept) = (Receiver::default(), 0);
    let noisy = std::fs::read(bench.path("noisy")).unwrap();
    noisy.iter().for_each(|byte| {
        receiver.push(*byte, |frame| kept += u64::from(Message::parse(frame.kind, &frame.payload).is_ok()))
    });
    receiver.gap(|_| kept += 1);
    println!("Rust: {kept} kept, {} errors", receiver.errors);
    assert!(kept * 100 >= number("clean") * 99 && kept <= number("frames"));
}

/// Where all regions are listed and the mask is at full scale, their areas are the mask's.
fn masks_are_their_regions(decoded: &[Value]) {
    let mut compared = 0;
    for chunk in of(decoded, "MASK_CHUNK").into_iter().filter(|chunk| chunk["last"] == true && chunk["scale"] == 1) {
        let lists = of(decoded, "REGIONS").into_iter().filter(|regions| regions["result_id"] == chunk["result_id"]);
        let lists: Vec<&Value> = lists.collect();
        let regions: Vec<&Value> = lists.iter().flat_map(|list| list["regions"].as_array().unwrap()).collect();
        if regions.len() as u64 != lists[0]["found"].as_u64().unwrap() {
            continue;
        }
        let area: f64 = regions.iter().map(|region| region["area"].as_f64().unwrap()).sum();
        let roi: Vec<f64> = lists[0]["roi"].as_array().unwrap().iter().map(|side| side.as_f64().unwrap()).collect();
        let pixels = chunk["width"].as_f64().unwrap() * chunk["height"].as_f64().unwrap();
        let expected = chunk["area"].as_f64().unwrap() * roi[2] * roi[3] / pixels;
        assert!((area - expected).abs() <= regions.len() as f64, "{area} of regions, {expected} of mask");
        compared += 1;
    }
    println!("{compared} masks are their regions");
    assert!(compared > 100);
}

#[test]
fn a_cut_cable_delays_nothing_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let stable = dir.path().join("line");
    let first = Plc::new(false);
    std::os::unix::fs::symlink(&first.path, &stable).unwrap();
    let bench = Bench::new(&stable, "", &every(20, 4));
    let mut child = bench.start("120");
    let start = Instant::now();
    while first.bytes().len() < 200 {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", bench.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::remove_file(&stable).unwrap();
    drop(first);
    std::thread::sleep(Duration::from_secs(1));
    let second = Plc::new(false);
    std::os::unix::fs::symlink(&second.path, &stable).unwrap();
    let code = child.wait().unwrap().code();
    std::thread::sleep(Duration::from_millis(100)); // the last bytes are on their way
    let log = bench.log();
    assert_eq!(code, Some(1), "{log}"); // the sink's errors were counted
    assert_eq!(bench.parts().len(), 120, "{log}");
    assert!(bench.parts().iter().all(|part| part["verdict"]["fault"].is_null()), "nothing was late: {log}");
    assert!(log.contains("verdicts do not reach the PLC") && log.contains("open again"), "{log}");
    let decoded = bench.python("decode", &second.bytes());
    assert_eq!(decoded[0]["type"], "HELLO");
    let last = of(&decoded, "VERDICT").last().unwrap()["result_id"].as_u64();
    assert_eq!(last, bench.parts().last().unwrap()["sequence"].as_u64());
    println!("{}", log.lines().find(|line| line.contains("verdicts told")).unwrap());
}

#[test]
fn a_plc_that_takes_nothing_blocks_nothing() {
    let plc = Plc::new(true);
    let bench = Bench::new(&plc.path, FAST, &every(200, 256));
    let start = Instant::now();
    assert_eq!(bench.run("1000"), Some(1), "{}", bench.log());
    assert!(start.elapsed() < Duration::from_secs(30));
    let parts = bench.parts();
    assert_eq!(parts.len(), 1000);
    assert!(parts.iter().all(|part| part["verdict"]["fault"].is_null()), "{}", bench.log());
    assert!(bench.log().contains("sink errors"), "{}", bench.log());
}

/// At 38400 baud with 15 ms of patience: a verdict behind a mask is on the line within that, and the time its own bytes
/// take.
#[test]
fn a_mask_never_delays_a_verdict() {
    let plc = Plc::new(false);
    let serial = "baud = 38400\nhead_of_line_ms = 15\nparts_per_minute = 400\nmask_bytes = 3";
    let bench = Bench::new(&plc.path, serial, &every(30, 4));
    assert_eq!(bench.run("120"), Some(0), "{}", bench.log());
    // What the wire would do: each write ends when its bytes and those before them have gone.
    let (mut free, mut worst, mut longest) = (Instant::now() - Duration::from_secs(3600), Duration::ZERO, 0);
    let heard = plc.heard.lock().unwrap();
    for (at, bytes) in heard.iter() {
        let verdict = bytes.len() == 40 && bytes[5] == 3;
        if verdict {
            worst = worst.max(free.saturating_duration_since(*at));
        } else {
            longest = longest.max(bytes.len());
        }
        free = free.max(*at) + Duration::from_micros(bytes.len() as u64 * 10_000_000 / 38400);
    }
    println!("a verdict waited {worst:.1?} at most; the longest other frame had {longest} bytes");
    assert!(longest > 40 && worst > Duration::ZERO, "no verdict met a mask: nothing is proven");
    // Two milliseconds for a busy machine's clocks.
    assert!(worst <= Duration::from_millis(17), "{worst:?}");
}

/// A good part.
fn pass(sequence: u64, at: Timestamp) -> Outcome {
    outcome::outcome(Opened { sequence, part_id: 0, at }, Verdict::Pass, None, 0, outcome::AT_ONCE)
}

/// A line without a program behind it.
fn options(plc: &Plc, baud: u32) -> SerialOptions {
    let line = SerialLine { baud, bits: 10, parts_per_minute: 60, head_of_line_ms: 10, frame_bytes: 240, masks: true };
    let (parity, profile) = (Parity::None, Profile::Binary);
    SerialOptions {
        port: plc.path.clone(),
        line,
        parity,
        rs485: false,
        profile,
        config: 0,
        external: true,
        delay: Duration::ZERO,
    }
}

/// Whatever kept an OK on its way to the line, it leaves in time or as NG.
#[test]
fn an_ok_that_leaves_too_late_is_none() {
    let (plc, station) = (Plc::new(false), PlcLink::default());
    let ms = Duration::from_millis;
    let delay = ms(500);
    let mut serial = Serial::start(SerialOptions { delay, ..options(&plc, 115_200) }, station.clone()).unwrap();
    assert!(!station.status().late);
    for (sequence, age) in [(0, ms(10)), (1, ms(300)), (2, ms(700))] {
        serial.apply(&pass(sequence, fcam::clock::now() - age)).unwrap();
    }
    drop(serial); // sends what was told
    std::thread::sleep(ms(100));
    let (mut receiver, mut told) = (Receiver::default(), vec![]);
    plc.bytes().iter().for_each(|byte| {
        receiver.push(*byte, |frame| {
            if let Ok(Message::Verdict(verdict)) = Message::parse(frame.kind, &frame.payload) {
                told.push((verdict.result_id, verdict.ok, verdict.reason, verdict.release));
            }
        });
    });
    // A verdict may wait for the frame on the wire, 10 ms here.
    let late = fcam::verdict::Fault::Late.code();
    assert_eq!(told, [(0, true, 0, 41), (1, true, 0, 41), (2, false, late, 41)]);
    assert!(station.status().late, "who reads another channel learns of it");
}

/// A line that takes nothing, and one that is gone, take READY down until they are back.
#[test]
fn a_line_that_takes_nothing_takes_ready_down() {
    let station = PlcLink::default();
    station.update(|handshake| handshake.set(fcam::handshake::Condition::Starting, false));
    let plc = Plc::new(false);
    let mut serial = Serial::start(options(&plc, 921_600), station.clone()).unwrap();
    let until = |ready: bool| {
        let begun = Instant::now();
        while station.status().ready != ready {
            assert!(begun.elapsed() < Duration::from_secs(20), "READY stays {}", !ready);
            std::thread::sleep(Duration::from_millis(5));
        }
        begun.elapsed()
    };
    until(true);
    plc.pause(true);
    let filled = Instant::now();
    let (mut sequence, mut refused) = (0, 0);
    while station.status().ready {
        assert!(filled.elapsed() < Duration::from_secs(20), "READY stays high");
        let begun = Instant::now();
        refused += u64::from(serial.apply(&pass(sequence, fcam::clock::now())).is_err());
        assert!(begun.elapsed() < Duration::from_millis(100), "it waits for the line");
        sequence += 1;
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(station.status().code, fcam::handshake::Condition::Channel.code());
    plc.pause(false);
    until(true);
    assert!(refused + serial.untold() > 0, "what did not leave is counted");
}

/// A rejected part whose mask the station had no room to keep is not waited for.
#[test]
fn a_mask_that_was_not_kept_is_called_off() {
    let plc = Plc::new(false);
    let mut serial = Serial::start(options(&plc, 115_200), PlcLink::default()).unwrap();
    serial.draw(&pass(7, Duration::ZERO), None);
    drop(serial); // sends what was told
    std::thread::sleep(Duration::from_millis(100));
    let (mut receiver, mut aborted) = (Receiver::default(), vec![]);
    plc.bytes().iter().for_each(|byte| {
        receiver.push(*byte, |frame| {
            if let Ok(Message::MaskAbort { result_id, .. }) = Message::parse(frame.kind, &frame.payload) {
                aborted.push(result_id);
            }
        });
    });
    assert_eq!(aborted, [7]);
}

#[test]
fn what_the_plc_asks_is_answered() {
    let plc = Plc::new(false);
    let bench = Bench::new(&plc.path, "", &camera(10));
    let mut child = bench.start("20");
    while plc.bytes().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    for (sequence, message) in
        [(40, Message::Trigger { part_id: 1 }), (41, Message::Ack { sequence: 1 }), (42, Message::Job { job: 2 })]
    {
        plc.port.write_all(&encode(sequence, &message)).unwrap();
    }
    child.wait().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let (mut receiver, mut refused) = (Receiver::default(), vec![]);
    plc.bytes().iter().for_each(|byte| {
        receiver.push(*byte, |frame| {
            if let Ok(Message::Nak { sequence, code }) = Message::parse(frame.kind, &frame.payload) {
                refused.push((sequence, code));
            }
        });
    });
    assert_eq!(refused, [(40, 1), (42, 4)]);
    assert!(bench.log().contains("1 acknowledged"), "{}", bench.log());
}

#[test]
fn listen_shows_what_comes() {
    let plc = Plc::new(true);
    let masks = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fcam"));
    command.args(["plc", "listen", plc.path.to_str().unwrap(), "--json", "--count", "3", "--masks"]).arg(masks.path());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700)); // until it has opened the line
    // A mask of 4 x 2 with its middle set: 1 background, 2 foreground, 5 background.
    let data = heapless::Vec::from_slice(&[1, 2, 5]).unwrap();
    let chunk = fcam::telegram::Chunk {
        result_id: 9,
        offset: 0,
        total: 3,
        codec: 1,
        scale: 1,
        width: 4,
        height: 2,
        reduced: false,
        crc: Some(fcam::telegram::crc32(&data)),
        data,
    };
    let messages = [Message::Trigger { part_id: 3 }, Message::MaskChunk(chunk), Message::Ack { sequence: 5 }];
    for (sequence, message) in [0, 1, 5].into_iter().zip(&messages) {
        plc.port.write_all(&encode(sequence, message)).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!((&lines[1]["fields"]["mask_area"], &lines[2]["lost"]), (&Value::from(2), &Value::from(3)));
    let picture = image::open(masks.path().join("00000009.png")).unwrap().to_luma8();
    assert_eq!(picture.into_raw(), [0, 255, 255, 0, 0, 0, 0, 0]);
}

#[test]
fn budget_is_the_arithmetic_of_the_station_file() {
    let output = common::fcam(&["plc", "budget", "--json", "--baud", "115200", "--parts-per-minute", "300"]);
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let verdict = report["messages"].as_array().unwrap().iter().find(|row| row["message"] == "VERDICT").unwrap();
    assert_eq!((verdict["bytes"].as_u64(), verdict["us"].as_u64()), (Some(40), Some(3473)));
    assert!(report["problem"].is_null());

    let bench = Bench::new(Path::new("/dev/none"), "baud = 9600", &camera(10));
    let file = bench.path("station.toml").display().to_string();
    for args in [["plc", "budget", "--config", &file].as_slice(), &["check", &file]] {
        let output = common::fcam(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains("a verdict may wait 10 ms, but the smallest piece of a mask (49 bytes) takes 51.0 ms"),
            "{text}"
        );
    }
}
