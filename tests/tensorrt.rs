//! The way through TensorRT, with no GPU: a shim in C of the same interface (tests/common/tensorrt/mock.c) that
//! answers, or fails as it is told to. What TensorRT itself does is not tested by this.

#![cfg(feature = "tensorrt")]
#[path = "common/tensorrt/shim.rs"]
mod shim;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use self::shim::shims;

use crate::common;

/// A folder with a station file, a cache of engines and the mock's own log.
struct Bench {
    dir: TempDir,
}

struct Ended {
    code: Option<i32>,
    out: String,
    log: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), log: text(&output.stderr) }
    }
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, mock: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fcam"));
        command.current_dir(self.dir.path()).env("RUST_LOG", "info").env("MOCK_LOG", self.path("calls"));
        command.envs(mock.iter().copied());
        command
    }

    /// `fcam VERB tiny` on a backend, with the good mock.
    fn check(&self, backend: &str, mock: &[(&str, &str)]) -> Ended {
        self.check_with(backend, &shims().0, mock)
    }

    fn check_with(&self, backend: &str, shim: &Path, mock: &[(&str, &str)]) -> Ended {
        let mut command = self.command(mock);
        command.args(["check", "--backend", backend, "--engine-cache", "engines", "--shim"]).arg(shim);
        command.arg(common::tiny()).output().unwrap().into()
    }

    /// `fcam engine ...`.
    fn engine(&self, args: &[&str], mock: &[(&str, &str)]) -> Ended {
        let mut command = self.command(mock);
        command.arg("engine").args(args).args(["--engine-cache", "engines", "--shim"]).arg(&shims().0);
        command.arg("--bundle").arg(common::tiny()).output().unwrap().into()
    }

    /// Writes a station file: the bundle's samples as parts, with room for all of them to wait on a busy machine.
    fn station(&self, backend: &str, more: &str) {
        let text = format!(
            "[bundle]\npath = {:?}\n[engine]\nbackend = {backend:?}\n[engine.tensorrt]\nshim = {:?}\ncache = \"engines\"\n\
             [trigger]\nmode = \"every-frame\"\nqueue = 64\n{more}",
            common::tiny(),
            shims().0
        );
        fs::write(self.path("station.toml"), text).unwrap();
    }

    fn run(&self, frames: &str, mock: &[(&str, &str)]) -> Ended {
        let mut command = self.command(mock);
        command.args(["run", "--config", "station.toml", "--json", "-", "--frames", frames]).output().unwrap().into()
    }

    fn start(&self, mock: &[(&str, &str)], args: &[&str]) -> Child {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = self.command(mock);
        command.env("NOTIFY_SOCKET", self.path("notify")).args(["run", "--config", "station.toml"]).args(args);
        command.stderr(log).spawn().unwrap()
    }

    /// Calls of one kind that the mock has seen.
    fn calls(&self, name: &str) -> usize {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().filter(|line| *line == name).count()
    }

    fn engines(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path("engines")).into_iter().flatten();
        files.map(|entry| entry.unwrap().path()).collect()
    }
}

fn end(mut child: Child, bench: &Bench) -> Ended {
    let start = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if start.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("the station hangs: {}", fs::read_to_string(bench.path("log")).unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Ended { code, out: String::new(), log: fs::read_to_string(bench.path("log")).unwrap() }
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn without_a_shim_auto_takes_the_cpu_and_tensorrt_is_an_error() {
    let bench = Bench::new();
    let nowhere = Path::new("/nowhere/libfcam_trt.so");
    let ended = bench.check_with("auto", nowhere, &[]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.log);
    has(&ended.out, &["cpu (int8"]);
    has(&ended.log, &["\"auto\" takes the CPU: there is no shim at /nowhere/libfcam_trt.so"]);
    assert!(!ended.log.contains("WARN"), "{}", ended.log);

    let ended = bench.check_with("tensorrt", nowhere, &[]);
    assert_eq!(ended.code, Some(2), "{}", ended.out);
    has(&ended.out, &["engine.backend = \"tensorrt\" cannot run here", "install.sh", "\"cpu\" computes without it"]);
    has(&bench.check("cpu", &[]).out, &["cpu (int8"]);
    assert_eq!(bench.calls("probe"), 0, "the CPU asks nobody");
}

/// Each way in which a shim cannot be used: with "auto" a warning and the CPU, with "tensorrt" an error; the same words
/// in both.
#[test]
fn a_shim_that_cannot_be_used_is_told_by_its_reason() {
    let bench = Bench::new();
    let text = bench.path("text.so");
    fs::write(&text, "not a library").unwrap();
    let (good, foreign) = shims();
    for (shim, mock, words) in [
        (good, ("MOCK_FAIL", "no_driver"), "there is no CUDA driver: mock; does `cat /proc/driver/nvidia/version`"),
        (good, ("MOCK_FAIL", "no_device"), "the CUDA driver finds no GPU"),
        (good, ("MOCK_FAIL", "no_library"), "libnvinfer.so.10 cannot be opened: mock; install TensorRT"),
        (good, ("MOCK_FAIL", "wrong_version"), "compiled for TensorRT 8 and there is 10.3.0"),
        (good, ("MOCK_FAIL", "long_message"), "code 12 and no word"),
        (good, ("MOCK_ABI", "7"), "it speaks interface 7 and this fcam 1"),
        (foreign, ("MOCK_FAIL", ""), "it has no `fcam_trt_abi`"),
        (&text, ("MOCK_FAIL", ""), "it cannot be opened"),
    ] {
        let ended = bench.check_with("auto", shim, &[mock]);
        assert_eq!(ended.code, Some(0), "{mock:?}: {}{}", ended.out, ended.log);
        has(&ended.out, &["cpu (int8"]);
        has(&ended.log, &["WARN", "\"auto\" takes the CPU", words]);
        let ended = bench.check_with("tensorrt", shim, &[mock]);
        assert_eq!(ended.code, Some(2), "{mock:?}: {}{}", ended.out, ended.log);
        has(&ended.out, &["cannot run here", words]);
    }
    assert_eq!((bench.calls("build"), bench.calls("load")), (0, 0), "nothing runs before the probe says yes");
}

#[test]
fn an_engine_is_built_once_and_kept() {
    let bench = Bench::new();
    for (backend, builds) in [("tensorrt", 1), ("tensorrt", 1), ("auto", 1)] {
        let ended = bench.check(backend, &[]);
        assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.log);
        has(&ended.out, &["tensorrt (10.3.0.30, Orin 8.7, int8 fp16, zero-copy, CUDA graph)", "golden/001.png"]);
        assert_eq!(bench.calls("build"), builds, "{backend}: {}", ended.log);
    }
    has(&bench.check("auto", &[]).log, &["\"auto\" takes TensorRT", "finds Orin"]);
    assert_eq!(bench.calls("load"), bench.calls("unload"));
    // What an engine depends on is another engine.
    has(&bench.check("tensorrt", &[("MOCK_TENSORRT", "11.4.0.106")]).out, &["tensorrt (11.4.0.106, Orin 8.7, typed"]);
    bench.check("tensorrt", &[("MOCK_GPU", "Xavier")]);
    assert_eq!((bench.calls("build"), bench.engines().len()), (3, 3));
    bench.check("tensorrt", &[]);
    assert_eq!(bench.calls("build"), 3, "the first is still there");
}

#[test]
fn a_kept_engine_that_is_damaged_is_built_again() {
    let bench = Bench::new();
    bench.check("tensorrt", &[]);
    let [path] = bench.engines().try_into().unwrap();
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let foreign = String::from_utf8(whole.clone()).unwrap().replace("gpu Orin", "gpu Thor").into_bytes();
    for (bytes, words) in [
        (flipped, "is built again: it is corrupt: its SHA-256 differs"),
        (whole[..whole.len() - 3].to_vec(), "is built again: it is corrupt"),
        (vec![], "is built again: it is corrupt: it has no head"),
        (foreign, "is built again: it is foreign: its gpu is Thor and not Orin"),
    ] {
        fs::write(&path, bytes).unwrap();
        let before = bench.calls("build");
        let ended = bench.check("tensorrt", &[]);
        assert_eq!((ended.code, bench.calls("build")), (Some(0), before + 1), "{}", ended.log);
        has(&ended.log, &["WARN", words]);
        assert_eq!(fs::read(&path).unwrap(), whole, "the sound one is back");
    }
    // One that is sound and that TensorRT does not take any more.
    let ended = bench.check("tensorrt", &[("MOCK_FAIL", "load")]);
    assert_eq!(ended.code, Some(2), "{}", ended.out);
    has(&ended.log, &["is built again: TensorRT does not take the engine: mock"]);
    has(&ended.out, &["no TensorRT engine: TensorRT does not take the engine: mock"]);
}

#[test]
fn a_folder_that_takes_nothing_is_told_and_the_engine_runs() {
    let bench = Bench::new();
    fs::write(bench.path("engines"), "a file").unwrap();
    let ended = bench.check("tensorrt", &[]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.log);
    has(&ended.log, &["WARN", "cannot be kept in", "engine.tensorrt.cache"]);
}

#[test]
fn a_build_that_fails_is_an_error_and_with_auto_the_cpu() {
    let bench = Bench::new();
    for (fail, words) in [
        ("build", "no TensorRT engine: TensorRT does not take the network: stem (Conv): mock"),
        ("null_plan", "says that it built an engine, and gives none"),
        ("null_engine", "says that it loaded an engine, and gives none"),
    ] {
        let ended = bench.check("tensorrt", &[("MOCK_FAIL", fail)]);
        assert_eq!(ended.code, Some(2), "{}", ended.out);
        has(&ended.out, &[words]);
        let ended = bench.check("auto", &[("MOCK_FAIL", fail)]);
        assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.log);
        has(&ended.log, &["WARN", "\"auto\" takes the CPU, which is slower", words]);
        assert_eq!(bench.engines(), Vec::<PathBuf>::new(), "what could not be loaded is not kept");
    }
}

#[test]
fn answers_that_are_not_the_proofs_are_refused_with_the_figures() {
    for (fail, words) in [
        ("garbage", "the network's logits is not a finite number"),
        ("lies", "golden golden/000.png: score 0.9997, the proof has 0.0003"),
        ("run", "the network failed on a picture: TensorRT: the GPU failed: cudaErrorIllegalAddress (mock)"),
    ] {
        let bench = Bench::new();
        let ended = bench.check("tensorrt", &[("MOCK_FAIL", fail)]);
        assert_eq!(ended.code, Some(2), "{}", ended.out);
        has(&ended.out, &[words]);

        bench.station("tensorrt", "");
        let ended = bench.run("4", &[("MOCK_FAIL", fail)]);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{}", ended.log);
        has(&ended.log, &["may not judge on this machine, by tensorrt (10.3.0.30", words]);

        bench.station("auto", "");
        let ended = bench.run("4", &[("MOCK_FAIL", fail)]);
        assert_eq!((ended.code, ended.out.lines().count()), (Some(0), 4), "{}", ended.log);
        has(
            &ended.log,
            &["TensorRT is refused, and engine.backend = \"auto\" takes the CPU", words, "ready: cpu (int8"],
        );
    }
}

/// The same verdicts as on the CPU, part for part.
#[test]
fn a_station_judges_through_the_shim() {
    let bench = Bench::new();
    let verdicts = |backend: &str| {
        bench.station(backend, "");
        let ended = bench.run("6", &[]);
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        let parts: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (parts.iter().map(|part| part["verdict"].clone()).collect::<Vec<_>>(), ended.log)
    };
    let (on_tensorrt, log) = verdicts("tensorrt");
    has(&log, &["proven on 2 golden pictures, tensorrt (", "ready: tensorrt (10.3.0.30"]);
    assert_eq!(on_tensorrt.len(), 6);
    assert_eq!(on_tensorrt, verdicts("cpu").0);
    assert!(on_tensorrt.iter().any(|verdict| *verdict != on_tensorrt[0]), "{on_tensorrt:?}");
}

/// STATUS and FAULT, as a Modbus master sees them; none while nobody listens.
fn status(address: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&[0, 1, 0, 0, 0, 6, 1, 4, 0, 0, 0, 1]).ok()?;
    let mut answer = [0; 11];
    stream.read_exact(&mut answer).ok()?;
    Some(u16::from_be_bytes([answer[9], answer[10]]))
}

const READY: u16 = 1;
const VALID: u16 = 1 << 2;
const OK: u16 = 1 << 7;
const RUN: u16 = 1 << 10;

/// While the engine is built: the log says so, systemd is told to wait, and the PLC sees a station that is not ready.
#[test]
fn a_station_that_builds_says_so_and_is_not_ready() {
    let bench = Bench::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    bench.station("tensorrt", &format!("[plc]\nsimulated = true\n[modbus.tcp]\nlisten = {address:?}\n"));
    let socket = UnixDatagram::bind(bench.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let built = bench.path("built");
    let child = bench.start(&[("MOCK_UNTIL", built.to_str().unwrap())], &[]);
    let mut bytes = [0; 256];
    let mut word = || {
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    for _ in 0..2 {
        assert!(word().contains("EXTEND_TIMEOUT_USEC="), "systemd waits");
        let status = status(&address).expect("the station listens before it is ready");
        assert_eq!(status & (READY | VALID | OK | RUN), 0, "{status:016b}");
    }
    fs::write(built, "").unwrap();
    while !word().contains("READY=1") {}
    let start = Instant::now();
    while status(&address).is_none_or(|status| status & READY == 0) {
        assert!(start.elapsed() < Duration::from_secs(60), "it is never ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = end(child, &bench);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    has(&ended.log, &["building the TensorRT engine, which takes minutes: 0 s", "TensorRT engine built and kept"]);
    let (building, ready) = (ended.log.find("building the").unwrap(), ended.log.find("ready: tensorrt").unwrap());
    assert!(building < ready);
}

#[test]
fn a_build_is_given_up_when_the_station_is_stopped() {
    let bench = Bench::new();
    bench.station("auto", "");
    let _socket = UnixDatagram::bind(bench.path("notify")).unwrap();
    let child = bench.start(&[("MOCK_UNTIL", "never")], &[]);
    let start = Instant::now();
    while bench.calls("build") == 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "it never builds");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = end(child, &bench);
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    has(&ended.log, &["the TensorRT engine was not built: stopped"]);
    assert_eq!(bench.engines(), Vec::<PathBuf>::new());
}

/// A GPU that fails in the middle of the work: every part is a fault, the engine is loaded anew, and given up if that
/// does not help.
#[test]
fn a_gpu_that_goes_on_failing_ends_the_station() {
    let bench = Bench::new();
    bench.station("tensorrt", "[camera]\nfps = 50.0\n");
    let ended = bench.run("400", &[("MOCK_FAIL", "run_later")]);
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    has(
        &ended.log,
        &[
            "TensorRT: the GPU failed: cudaErrorIllegalAddress (mock)",
            "the engine failed on 3 parts in a row",
            "the engine was built again",
        ],
    );
    let faults = ended.out.lines().filter(|line| line.contains("fault")).count();
    assert!(faults >= 3, "{faults}");
    assert!(bench.calls("load") > 1 && bench.calls("build") == 1, "from the cache");
}

#[test]
fn engine_shows_and_builds() {
    let bench = Bench::new();
    let ended = bench.engine(&[], &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    has(
        &ended.out,
        &["Orin, capability 8.7, 8.0 GiB shared with the CPU", "10.3.0.30, shim compiled for 10.3.0", "driver 12.6"],
    );
    has(&ended.out, &["(not built yet: `fcam engine build`)"]);

    let ended = bench.engine(&["build"], &[]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.log);
    has(&ended.out, &["tensorrt (10.3.0.30", "(built now)", "2 golden pictures"]);
    has(&ended.log, &["building the TensorRT engine"]);
    has(&bench.engine(&["build"], &[]).out, &["(was there)"]);
    assert_eq!(bench.calls("build"), 1);
    has(&bench.engine(&["build", "--again"], &[]).out, &["(built now)"]);
    assert_eq!(bench.calls("build"), 2);

    let ended = bench.engine(&["show", "--json"], &[]);
    let shown: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&shown["usable"], &shown["built"]), (&true.into(), &true.into()), "{shown}");
    assert_eq!(shown["machine"]["capability"], "8.7");
    assert_eq!(shown["engines"][0]["key"]["tensorrt"], "10.3.0.30");

    let ended = bench.engine(&["show"], &[("MOCK_FAIL", "no_driver")]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    has(&ended.out, &["10.3.0.30, shim compiled for 10.3.0", "problem", "there is no CUDA driver: mock"]);
    let ended = bench.engine(&["build"], &[("MOCK_FAIL", "no_driver")]);
    assert_eq!(ended.code, Some(2), "{}", ended.out);
    has(&ended.log, &["TensorRT cannot be used here", "there is no CUDA driver: mock"]);
    let ended = bench.engine(&["build", "--json"], &[("MOCK_FAIL", "lies")]);
    assert_eq!(ended.code, Some(2));
    let told: Value = serde_json::from_str(&ended.out).unwrap();
    has(told["problems"][0].as_str().unwrap(), &["score 0.9997, the proof has 0.0003"]);
}

#[test]
fn engine_takes_what_the_station_file_says() {
    let bench = Bench::new();
    bench.station("auto", "");
    let output: Ended =
        bench.command(&[]).args(["engine", "build", "--config", "station.toml"]).output().unwrap().into();
    assert_eq!(output.code, Some(0), "{}{}", output.out, output.log);
    assert_eq!(bench.engines().len(), 1);
    bench.station("auto", "[engine.tensorrt2]\n");
    let output: Ended = bench.command(&[]).args(["engine", "--config", "station.toml"]).output().unwrap().into();
    assert_eq!(output.code, Some(2), "{}", output.out);
}
