//! What is installed stays whole: through old and damaged files, full disks, and a process that is killed at each
//! system call.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use release::{Workshop, ok, refused};
use serde_json::Value;
use skip::skip;

use crate::{common, release, skip};

/// A camera that trusts a workshop.
struct Camera {
    shop: Workshop,
}

impl Camera {
    fn new() -> Self {
        Self { shop: Workshop::new() }
    }

    fn store(&self) -> String {
        self.shop.path("store")
    }

    /// The arguments of a verb, with the places of this camera.
    fn args(&self, args: &[&str]) -> Vec<String> {
        let places = ["--store".into(), self.store(), "--keys".into(), self.shop.keys()];
        let control = ["--control".into(), self.shop.path("no.sock")];
        let all = [&["bundle"], args].concat().into_iter().map(String::from).chain(places);
        if matches!(args[0], "activate" | "rollback") { all.chain(control).collect() } else { all.collect() }
    }

    fn ok(&self, args: &[&str]) -> String {
        let args = self.args(args);
        ok(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn refused(&self, args: &[&str]) -> String {
        let args = self.args(args);
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn install(&self, counter: u64) -> String {
        self.ok(&["install", &self.shop.signed(counter), "--free-mb", "0"])
    }

    fn list(&self) -> Vec<Value> {
        serde_json::from_str(&self.ok(&["list", "--json"])).unwrap()
    }

    /// The installed bundles, `*` behind the active one.
    fn names(&self) -> Vec<String> {
        let star = |entry: &Value| if entry["active"] == true { "*" } else { "" };
        self.list().iter().map(|entry| format!("{}{}", entry["bundle"].as_str().unwrap(), star(entry))).collect()
    }

    fn files(&self) -> Vec<String> {
        common::files(Path::new(&self.store()))
    }
}

/// A station file says where its bundles are, whom it trusts and where it is told: no verb needs the places one by one.
#[test]
fn verbs_take_their_places_from_the_station_file() {
    let camera = Camera::new();
    let (file, socket) = (camera.shop.path("station.toml"), camera.shop.path("own.sock"));
    let text =
        format!("[bundle]\nstore = {:?}\nkeys = {:?}\ncontrol = {socket:?}\n", camera.store(), camera.shop.keys());
    fs::write(&file, &text).unwrap();
    let signed = camera.shop.signed(1);
    assert!(ok(&["bundle", "install", &signed, "--free-mb", "0", "--config", &file]).contains("tiny.1 is installed"));
    assert!(ok(&["bundle", "verify", &signed, "--config", &file]).contains("a trusted key"));
    let said = ok(&["bundle", "activate", "tiny", "--config", &file]);
    assert!(said.contains(&format!("no station answers at {socket}")), "{said}");
    assert_eq!(camera.names(), ["tiny.1*"]);
    assert!(ok(&["bundle", "list", "--config", &file]).contains("active"));
    fs::write(&file, text.replace("store", "stork")).unwrap();
    let said = refused(&["bundle", "list", "--config", &file]);
    assert!(said.contains("did you mean `store`?"), "{said}");
    fs::write(&file, "[camera]\nkind = \"pattern\"\n").unwrap();
    assert!(refused(&["bundle", "list", "--config", &file]).contains("set bundle.store in it"));
    assert!(refused(&["bundle", "list", "--config", "/nowhere.toml"]).contains("/nowhere.toml"));
}

#[test]
fn install_activate_and_roll_back() {
    let camera = Camera::new();
    assert_eq!(camera.ok(&["list"]), "no bundle is installed\n");
    assert!(camera.install(1).contains("tiny.1 is installed; `fcam bundle activate tiny.1`"));
    assert!(camera.ok(&["activate", "tiny"]).contains("tiny.1 is active"));
    let nothing = camera.refused(&["rollback"]);
    assert!(nothing.contains("nothing to go back to"), "{nothing}");
    camera.install(2);
    assert_eq!(camera.names(), ["tiny.1*", "tiny.2"], "what runs stays");
    let said: Value = serde_json::from_str(&camera.ok(&["activate", "tiny", "--json"])).unwrap();
    assert_eq!((&said["bundle"], &said["event"]), (&"tiny.2".into(), &"next_start".into()));
    let entries = camera.list();
    assert_eq!((&entries[1]["trial"], &entries[0]["previous"]), (&true.into(), &true.into()));
    let table = camera.ok(&["list"]);
    assert!(table.contains("tiny.2  ") && table.contains("active, on trial") && table.contains("previous"), "{table}");

    camera.ok(&["rollback"]);
    assert_eq!(camera.names(), ["tiny.1*", "tiny.2"]);
    assert_eq!(camera.list()[1]["withdrawn"], "rolled back by the operator");
    assert!(camera.ok(&["activate", "tiny"]).contains("tiny.1"), "the newest that was not given up");
    assert!(camera.ok(&["activate", "tiny.2"]).contains("tiny.2"), "unless it is named");
    let unknown = camera.refused(&["activate", "tiny.9"]);
    assert!(unknown.contains("tiny.9 is not installed in") && unknown.contains("there is tiny.1, tiny.2"), "{unknown}");
}

/// What the station says with this camera's store, its exit code, and the parts that it judged.
fn run(camera: &Camera) -> (Option<i32>, String, usize) {
    run_with(camera, "")
}

/// The same, with more in the station file's section.
fn run_with(camera: &Camera, more: &str) -> (Option<i32>, String, usize) {
    let (file, lines) = (camera.shop.path("station.toml"), camera.shop.path("out.jsonl"));
    let (store, keys) = (camera.store(), camera.shop.keys());
    let text = format!("[bundle]\nstore = {store:?}\nkeys = {keys:?}\ncontrol = \"\"\n{more}");
    fs::write(&file, text).unwrap();
    let _ = fs::remove_file(&lines);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fcam"));
    command.args(["run", "--config", &file, "--json", &lines, "--frames", "5"]).env("RUST_LOG", "info");
    let Output { status, stderr, .. } = command.output().unwrap();
    let judged = fs::read_to_string(&lines).unwrap_or_default().lines().count();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned(), judged)
}

/// A program sees from the lines whether the station judged with it already, or took it now.
#[test]
fn a_running_station_says_each_step() {
    let camera = Camera::new();
    camera.install(1);
    camera.ok(&["activate", "tiny"]);
    camera.install(2);
    let (file, control) = (camera.shop.path("station.toml"), camera.shop.path("control.sock"));
    let (store, keys) = (camera.store(), camera.shop.keys());
    let places = format!("store = {store:?}\nkeys = {keys:?}\ncontrol = {control:?}\n");
    fs::write(&file, format!("[bundle]\nwatch_parts = 3\nwatch_faults = 1000\n{places}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fcam"));
    let (out, error) = (std::process::Stdio::null(), std::process::Stdio::null());
    let _station = Killed(command.args(["run", "--config", &file]).stdout(out).stderr(error).spawn().unwrap());
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !Path::new(&control).exists() {
        assert!(std::time::Instant::now() < patience, "the station does not start");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let activate = || {
        let told =
            ["bundle", "activate", "tiny.2", "--json", "--control", &control, "--store", &store, "--keys", &keys];
        let said = ok(&told);
        said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(activate(), ["proving", "passed"]);
    assert_eq!(activate(), ["passed"]);
}

/// Processor time that a thread of a process took, 1/100 s.
fn ticks(process: u32, thread: &str) -> u64 {
    let mut tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|task| task.unwrap().path());
    let named =
        |task: &std::path::PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == thread);
    let task = tasks.find(named).expect("there is such a thread");
    let stat = fs::read_to_string(task.join("stat")).unwrap();
    let times: Vec<u64> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|time| time.parse().unwrap())
        .collect();
    times.iter().sum()
}

/// Connections cannot be taken: that is said once, costs nothing, and is over when there are descriptors again.
#[test]
fn a_station_without_file_descriptors_waits_for_some() {
    let camera = Camera::new();
    camera.install(1);
    camera.ok(&["activate", "tiny"]);
    let (file, control, log) =
        (camera.shop.path("station.toml"), camera.shop.path("control.sock"), camera.shop.path("log"));
    let (store, keys) = (camera.store(), camera.shop.keys());
    fs::write(&file, format!("[bundle]\nstore = {store:?}\nkeys = {keys:?}\ncontrol = {control:?}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fcam"));
    let said = fs::File::create(&log).unwrap();
    command.args(["run", "--config", &file]).env("RUST_LOG", "info").stdout(std::process::Stdio::null()).stderr(said);
    let station = Killed(command.spawn().unwrap());
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !holds() {
            assert!(std::time::Instant::now() < patience, "never: {what}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    let logged = |words: &str| fs::read_to_string(&log).unwrap().matches(words).count();
    until("it runs", &|| logged("ready: ") == 1);
    let process = rustix::process::Pid::from_raw(station.0.id() as i32);
    let limit = |files: u64| {
        let limit = rustix::process::Rlimit { current: Some(files), maximum: Some(1024) };
        rustix::process::prlimit(process, rustix::process::Resource::Nofile, limit).unwrap();
    };
    limit(3);
    let mut client = std::os::unix::net::UnixStream::connect(&control).unwrap();
    std::io::Write::write_all(&mut client, b"{\"activate\":\"tiny.1\"}\n").unwrap();
    until("it says so", &|| logged("no connection can be taken") > 0);
    let before = ticks(station.0.id(), "control");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let spent = ticks(station.0.id(), "control") - before;
    assert!(spent < 20, "{spent} of 200 ticks");
    assert_eq!(logged("no connection can be taken"), 1);
    limit(1024);
    client.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut client, &mut answer).unwrap();
    assert!(answer.contains("\"bundle\":\"tiny.1\""), "{answer}");
    assert_eq!(logged("connections are taken again"), 1);
}

/// A process that ends with its test, whatever the test finds.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn damage(camera: &Camera, name: &str) {
    let file = camera.files().into_iter().find(|file| file.contains(name)).unwrap();
    let path = Path::new(&camera.store()).join(file);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_start_passes_over_an_active_bundle_that_is_damaged() {
    let camera = Camera::new();
    camera.install(1);
    camera.ok(&["activate", "tiny"]);
    camera.install(2);
    camera.ok(&["activate", "tiny"]);
    let (_, log, judged) = run(&camera);
    assert!(judged == 5 && log.contains("tiny.2"), "{log}");
    damage(&camera, "tiny.2");
    let (_, log, judged) = run(&camera);
    assert!(log.contains("tiny.1 takes its place") && judged == 5, "{log}");
    damage(&camera, "tiny.1");
    let (code, log, judged) = run(&camera);
    assert!(code == Some(2) && judged == 0, "{code:?} {log}");
    assert!(log.contains("tiny.1") && log.contains("tiny.2"), "each is named, with what is wrong with it: {log}");
}

#[test]
fn older_releases_and_other_ones_of_the_same_number_are_refused() {
    let camera = Camera::new();
    camera.install(5);
    let older = camera.refused(&["install", &camera.shop.signed(4)]);
    assert!(older.contains("tiny.4 is refused: tiny.5 was installed already"), "{older}");
    assert!(camera.install(5).contains("installed already"));
    let copy = camera.shop.path("copy");
    common::copy_tiny(Path::new(&copy));
    let manifest = format!("{copy}/manifest.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("min_area_px = ", "min_area_px = 1")).unwrap();
    let other = camera.shop.sign(&camera.shop.pack(Path::new(&copy), "other.fcam"), 5);
    let refusal = camera.refused(&["install", &other]);
    assert!(refusal.contains("sign it with a higher counter"), "{refusal}");
    assert_eq!(camera.names(), ["tiny.5"]);
}

#[test]
fn another_machines_bundle_is_refused() {
    let camera = Camera::new();
    let (packed, key) = (camera.shop.packed(), camera.shop.path("shop.key"));
    let board = ["--target", "raspberrypi,5-model-b", "--target", "m68k"];
    ok(&[&["bundle", "sign", &packed, "--key", &key, "--counter", "1"][..], &board].concat());
    let refusal = camera.refused(&["install", &packed]);
    let here = std::env::consts::ARCH;
    assert!(
        refusal.contains(&format!("it is for raspberrypi,5-model-b, m68k, and this machine is {here}")),
        "{refusal}"
    );
    assert!(ok(&["bundle", "verify", &packed, "--keys", &camera.shop.keys()]).contains("note"));
}

#[test]
fn the_last_releases_are_kept_and_those_that_run_or_ran() {
    let camera = Camera::new();
    camera.install(1);
    camera.ok(&["activate", "tiny.1"]);
    camera.install(2);
    camera.ok(&["activate", "tiny.2"]);
    for counter in 3..=6 {
        camera.install(counter);
    }
    assert_eq!(
        camera.names(),
        ["tiny.1", "tiny.2*", "tiny.6"],
        "three, the active one and the one before it among them"
    );
}

#[test]
fn a_release_that_the_plc_may_ask_for_is_kept() {
    let camera = Camera::new();
    camera.install(1);
    camera.install(2);
    camera.ok(&["activate", "tiny.2"]);
    let (_, log, judged) = run_with(&camera, "jobs = [{ job = 7, bundle = \"tiny.1\" }]\n");
    assert_eq!(judged, 5, "{log}");
    (3..=6).for_each(|counter| drop(camera.install(counter)));
    assert_eq!(camera.names(), ["tiny.1", "tiny.2*", "tiny.6"]);
    run(&camera);
    camera.install(7);
    assert_eq!(camera.names(), ["tiny.2*", "tiny.6", "tiny.7"], "no job has it any more");
}

/// What a flipped bit on the card, or a key that was taken away, made useless: the same release mends it.
#[test]
fn a_release_that_cannot_be_used_is_installed_again() {
    let camera = Camera::new();
    camera.install(1);
    camera.install(2);
    damage(&camera, "tiny.1");
    assert!(camera.install(1).contains("tiny.1 is installed;"), "older than tiny.2, and it was there");
    assert!(camera.list().iter().all(|entry| entry["problem"].is_null()));

    let (secret, public) = (camera.shop.path("shop.key"), camera.shop.path("keys/shop.pub"));
    fs::remove_file(&secret).unwrap();
    fs::remove_file(&public).unwrap();
    ok(&["bundle", "keygen", "--no-password", "--secret", &secret, "--public", &public]);
    assert!(camera.list().iter().all(|entry| entry["problem"].is_string()), "the key is another one");
    assert!(camera.install(2).contains("tiny.2 is installed;"));
    let problems: Vec<bool> = camera.list().iter().map(|entry| entry["problem"].is_string()).collect();
    assert_eq!(problems, [true, false]);
}

#[test]
fn a_file_that_changed_on_the_disk_is_seen() {
    let camera = Camera::new();
    camera.install(1);
    camera.install(2);
    let path = format!("{}/tiny.2.fcam", camera.store());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let problem = camera.list()[1]["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("changed after it was signed") && problem.contains("tiny.2.fcam"), "{problem}");
    assert!(camera.refused(&["activate", "tiny.2"]).contains("changed after it was signed"));
    fs::rename(format!("{}/tiny.1.fcam", camera.store()), &path).unwrap();
    assert!(camera.refused(&["activate", "tiny.2"]).contains("is tiny.1: it was renamed"));
    fs::write(format!("{}/state.json", camera.store()), "{ half").unwrap();
    assert!(camera.refused(&["list"]).contains("is damaged"));
}

#[test]
fn a_bundle_that_is_not_proven_here_is_not_activated() {
    let camera = Camera::new();
    camera.install(1);
    camera.ok(&["activate", "tiny"]);
    let wrong = release::unproven(&camera.shop, 2);
    camera.ok(&["install", &wrong, "--free-mb", "0"]);
    let refusal = camera.refused(&["activate", "tiny"]);
    assert!(refusal.contains("tiny.2 may not judge on this machine") && refusal.contains("the proof has"), "{refusal}");
    assert_eq!(camera.names(), ["tiny.1*", "tiny.2"]);
}

/// As from `ssh camera fcam bundle install -`.
#[test]
fn a_file_may_come_by_standard_input() {
    let camera = Camera::new();
    let signed = fs::File::open(camera.shop.signed(1)).unwrap();
    let args = camera.args(&["install", "-", "--free-mb", "0"]);
    let output = Command::new(env!("CARGO_BIN_EXE_fcam")).args(args).stdin(signed).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(camera.names(), ["tiny.1"]);
}

#[test]
fn a_disk_without_room_keeps_what_is_there() {
    let camera = Camera::new();
    camera.install(1);
    camera.ok(&["activate", "tiny"]);
    let signed = camera.shop.signed(2);
    let full = camera.refused(&["install", &signed, "--free-mb", "1000000000"]);
    assert!(full.contains("MiB free, and tiny.2 needs 1 with 1000000000 kept free"), "{full}");

    // A file may not grow beyond 8 KiB: the disk that turns out to be full in the middle of a file.
    let args = camera.args(&["install", &signed, "--free-mb", "0"]);
    let limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let output = Command::new("bash").args(["-c", limited, env!("CARGO_BIN_EXE_fcam")]).args(args).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("cannot write") && words.contains("tiny.2.fcam: File too large"), "{words}");
    assert_eq!(camera.files(), ["state.json", "tiny.1.fcam"]);
    assert_eq!(camera.names(), ["tiny.1*"]);
    camera.install(2);
}

/// A file system of its own, so small that the third release does not fit; where this user may mount one.
#[test]
fn a_full_card_keeps_what_is_there() {
    let camera = Camera::new();
    let [first, second, third] = [1, 2, 3].map(|counter| camera.shop.signed(counter));
    let kib = fs::metadata(&first).unwrap().len() / 1024;
    fs::create_dir(camera.store()).unwrap();
    let quoted = |args: &[&str]| {
        let args = camera.args(args);
        args.iter().map(|arg| format!("'{arg}'")).collect::<Vec<_>>().join(" ")
    };
    let script = format!(
        "mount -t tmpfs -o size={}k none '{}' || exit 77\n\
         \"$0\" {} && \"$0\" {} && \"$0\" {} || exit 78\n\
         \"$0\" {}; echo \"refused with $?\"\n\
         ls '{}'; \"$0\" {}\n\
         \"$0\" {}",
        2 * kib + kib / 2,
        camera.store(),
        quoted(&["install", &first, "--free-mb", "0"]),
        quoted(&["install", &second, "--free-mb", "0"]),
        quoted(&["activate", "tiny.2"]),
        quoted(&["install", &third, "--free-mb", "0"]),
        camera.store(),
        quoted(&["list"]),
        quoted(&["install", &third, "--free-mb", "0", "--keep", "2"]),
    );
    let run = |program: &str, args: &[&str]| {
        Command::new(program).args(args).args(["sh", "-c", &script, env!("CARGO_BIN_EXE_fcam")]).output()
    };
    let output = run("unshare", &["-rm"]).unwrap();
    let (said, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.is_empty() && !words.contains("fcam: ") {
        return skip(&format!("a full file system (none may be mounted here: {})", words.trim()));
    }
    assert!(said.contains("refused with 2") && words.contains("MiB free, and tiny.3 needs"), "{said}{words}");
    assert!(said.contains("state.json\ntiny.1.fcam\ntiny.2.fcam\n") && !said.contains("part"), "{said}");
    assert!(said.contains("tiny.1  ") && said.contains("active"), "{said}");
    assert!(
        said.contains("tiny.3 is installed") && said.contains("tiny.1 was removed"),
        "fewer releases make room: {said}"
    );
}

/// The calls that change a disk, and those around them. `?`: that only some machines have.
const CALLS: &str = "trace=?open,openat,?creat,write,pwrite64,writev,fsync,fdatasync,?rename,?renameat,renameat2,?unlink,unlinkat,?mkdir,mkdirat,\
                     ftruncate,fallocate,flock,close,?chmod,fchmod";

/// True where one process may trace another.
fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    match traced {
        Ok(output) if output.status.success() => true,
        other => {
            let why = other.map_or_else(|error| error.to_string(), |output| output.status.to_string());
            skip(&format!("the order of calls that change a disk (strace: {why})"));
            false
        }
    }
}

fn strace(options: &[&str], args: &[String]) -> Output {
    Command::new("strace").args(options).arg(env!("CARGO_BIN_EXE_fcam")).args(args).output().unwrap()
}

/// How often a run makes each of the calls.
fn calls(camera: &Camera, args: &[String]) -> BTreeMap<String, usize> {
    let log = camera.shop.path("calls");
    let output = strace(&["-o", &log, "-e", CALLS], args);
    assert!(output.status.success(), "{output:?}");
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        if let Some((name, _)) = line.split_once('(') {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Runs the program once for each of its calls and kills it there. `after` looks at what is left, and puts everything
/// back.
fn survives(camera: &Camera, what: &str, args: &[String], after: impl Fn(&Camera, usize)) {
    let counts = calls(camera, args);
    after(camera, 0);
    let mut kills = 0;
    for (call, count) in &counts {
        for nth in 1..=*count {
            let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
            let output = strace(&["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject], args);
            assert!(output.status.code().is_none_or(|code| code > 128), "not killed at {call} {nth}: {output:?}");
            kills += 1;
            after(camera, kills);
        }
    }
    println!("{what}: killed at each of {kills} system calls: {counts:?}");
    for call in ["fsync", "flock", "write"] {
        assert!(counts.contains_key(call), "{counts:?}");
    }
}

#[test]
fn an_install_that_is_killed_anywhere_leaves_the_old_or_the_new() {
    if !can_trace() {
        return;
    }
    let camera = Camera::new();
    camera.install(1);
    camera.ok(&["activate", "tiny"]);
    let signed = camera.shop.signed(2);
    let install = camera.args(&["install", &signed, "--free-mb", "0"]);
    survives(&camera, "install", &install, |camera, kill| {
        let entries = camera.list();
        assert!(entries.iter().all(|entry| entry["problem"].is_null()), "{kill}: {entries:?}");
        assert!(entries[0]["active"] == true && entries.len() <= 2, "{kill}: {entries:?}");
        // The next one succeeds and clears the leftovers.
        camera.ok(&["install", &signed, "--free-mb", "0"]);
        assert_eq!(camera.files(), ["state.json", "tiny.1.fcam", "tiny.2.fcam"], "{kill}");
        fs::remove_file(format!("{}/tiny.2.fcam", camera.store())).unwrap();
    });
}

#[test]
fn an_activation_that_is_killed_anywhere_leaves_the_old_or_the_new() {
    if !can_trace() {
        return;
    }
    let camera = Camera::new();
    camera.install(1);
    camera.install(2);
    camera.ok(&["activate", "tiny.1"]);
    let before = fs::read(format!("{}/state.json", camera.store())).unwrap();
    survives(&camera, "activate", &camera.args(&["activate", "tiny.2"]), |camera, kill| {
        let names = camera.names();
        assert!(names == ["tiny.1*", "tiny.2"] || names == ["tiny.1", "tiny.2*"], "{kill}: {names:?}");
        camera.ok(&["activate", "tiny.2"]);
        assert_eq!(camera.files(), ["state.json", "tiny.1.fcam", "tiny.2.fcam"], "{kill}");
        fs::write(format!("{}/state.json", camera.store()), &before).unwrap();
    });
}

/// A power cut takes what was written and not synced, whatever the process saw: each file is on the disk before it has
/// its name, and its name before the program says that it is done.
#[test]
fn nothing_is_named_before_it_is_synced() {
    if !can_trace() {
        return;
    }
    let camera = Camera::new();
    let signed = camera.shop.signed(1);
    let pack = ["bundle", "pack", &common::tiny().display().to_string(), "-o", &camera.shop.path("packed.fcam")];
    let install = camera.args(&["install", &signed, "--free-mb", "0"]);
    let activate = camera.args(&["activate", "tiny"]);
    let shop = camera.shop.path("");
    let cases = [
        (pack.map(String::from).to_vec(), "packed.fcam", shop.trim_end_matches('/')),
        (install, "tiny.1.fcam", "/store"),
        (activate, "state.json", "/store"),
    ];
    for (args, file, folder) in cases {
        let log = camera.shop.path("calls");
        let trace = ["-f", "-y", "-o", &log, "-e", "trace=write,fsync,?rename,?renameat,renameat2"];
        let output = strace(&trace, &args);
        assert!(output.status.success(), "{output:?}");
        let calls = fs::read_to_string(&log).unwrap();
        let lines: Vec<&str> = calls.lines().collect();
        let at = |words: [&str; 2]| {
            let last = lines.iter().rposition(|line| words.iter().all(|word| line.contains(word)));
            last.unwrap_or_else(|| panic!("no {words:?}: {calls}"))
        };
        let partial = lines.iter().find_map(|line| line.split_once(&format!("/{file}."))?.1.split_once(".part>"));
        let partial = format!("{file}.{}.part", partial.expect(&calls).0);
        let (written, synced) = (at(["write(", &format!("{partial}>")]), at(["fsync(", &format!("{partial}>")]));
        let (renamed, named) = (at(["rename", &partial]), at(["fsync(", &format!("{folder}>")]));
        assert!(written < synced && synced < renamed && renamed < named && named < at(["write(1", ""]), "{calls}");
    }
}
