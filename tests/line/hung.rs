//! Channels that hang while parts come, each alone and all together: a reader of JSON that reads nothing, a serial line
//! that takes nothing for seconds, a disk that is full or hangs, a Modbus master that asks and never reads, browsers.
//! Another master polls as a PLC does and holds the station to its word: READY is never high for more than a second while
//! results do not come.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use fcam::clock::{self, Timestamp};
use fcam::handshake;
use fcam::modbus::WordOrder;
use fcam::plc_link::PlcLink;
use fcam::record::{Keep, PictureFormat, Recorder, RecorderOptions};
use fcam::sink::modbus::{ModbusOptions, Tcp};
use fcam::sink::{JsonLines, Modbus, Serial, Sink};
use fcam::station::Station;
use fcam::verdict::{Fault, Verdict};

use crate::conveyor::{Conveyor, Sensor};
use crate::plc::{Link, Plc};
use crate::random::Random;
use crate::report::{self, Table};
use crate::viewers::{self, Viewers};
use crate::{BAUD, DELAY, FIRED, PATIENCE, QUEUE, Told, number, serial_options, start, station};

/// READY may be high for so long while results do not come.
const TRUTH: Duration = Duration::from_secs(1);

/// What hangs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Hung {
    json: bool,
    serial: bool,
    full_disk: bool,
    hung_disk: bool,
    master: bool,
    /// Five look at the page: one never reads, one asks for everything.
    page: bool,
}

/// What the polling master saw.
#[derive(Debug, Default)]
struct Seen {
    /// The longest that READY was high while a trigger had no result and none came.
    worst: Duration,
    /// Results by their numbers, as far as polling sees them.
    results: u32,
    /// Times that code 26 was shown.
    channel: u32,
}

/// Registers 0 to 3: STATUS, FAULT, RESULT_ID, TRIGGER_ID.
fn poll(stream: &mut TcpStream) -> [u16; 4] {
    stream.write_all(&[0, 1, 0, 0, 0, 6, 255, 4, 0, 0, 0, 4]).unwrap();
    let mut answer = [0; 17];
    stream.read_exact(&mut answer).unwrap();
    std::array::from_fn(|at| u16::from_be_bytes([answer[9 + 2 * at], answer[10 + 2 * at]]))
}

fn watch(address: SocketAddr, stop: &AtomicBool) -> Seen {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut seen, mut last, mut since, mut down) = (Seen::default(), 0, None::<Timestamp>, false);
    while !stop.load(Relaxed) {
        let [status, code, result, trigger] = poll(&mut stream);
        let now = clock::now();
        let fresh = result != std::mem::replace(&mut last, result);
        seen.results += u32::from(fresh);
        seen.channel += u32::from(code == 26 && !std::mem::replace(&mut down, code == 26));
        down = code == 26;
        let silent = status & 1 == 1 && result != trigger && !fresh;
        since = silent.then(|| since.unwrap_or(now));
        seen.worst = seen.worst.max(since.map_or(Duration::ZERO, |since| now - since));
        std::thread::sleep(Duration::from_millis(5));
    }
    seen
}

/// Asks for everything, again and again, and takes no answer.
fn hammer(address: SocketAddr, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        // Until its own buffer is full, and then until the station closes it.
        while !stop.load(Relaxed) && stream.write_all(&[0, 1, 0, 0, 0, 6, 255, 4, 0, 0, 0, 125].repeat(50)).is_ok() {}
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn modbus(plc_link: &PlcLink) -> (Modbus, SocketAddr) {
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let idle = Duration::from_secs(60);
    let tcp = Tcp { listen, write: false, masters: vec![], connections: 4, idle };
    let options = ModbusOptions { tcp: Some(tcp), rtu: None, order: WordOrder::Big, delay: DELAY, config: 0 };
    (Modbus::start(options, plc_link.clone()).unwrap(), listen)
}

fn recorder(dir: &Path, hung: Hung) -> Recorder {
    let free_mb = if hung.full_disk { u64::MAX >> 21 } else { 0 };
    let options = RecorderOptions {
        dir: dir.into(),
        keep: Keep::Rejects,
        picture: PictureFormat::Png,
        max_files: 20,
        max_mb: 100,
        free_mb,
    };
    let recorder = Recorder::open(options);
    if hung.hung_disk {
        // Opening a pipe that nobody reads waits forever, as a disk that is gone does.
        let day = Command::new("date").args(["-u", "+%F"]).output().unwrap().stdout;
        let day = dir.join(String::from_utf8(day).unwrap().trim());
        std::fs::create_dir_all(&day).unwrap();
        let names =
            (0..500).flat_map(|part| ["reject", "fault"].map(|word| day.join(format!("{part:09}-{word}.part"))));
        assert!(Command::new("mkfifo").args(names).status().unwrap().success());
    }
    recorder
}

/// The page, its folder and its address.
fn page(hung: Hung, station: &mut Station, plc_link: &PlcLink) -> Option<(tempfile::TempDir, SocketAddr)> {
    let dir = hung.page.then(|| tempfile::tempdir().unwrap())?;
    let (page, window, address) = viewers::page(dir.path(), plc_link);
    station.sinks.push(Box::new(page));
    station.window = Some(window);
    Some((dir, address))
}

fn run(hung: Hung, triggers: u64) -> (Table, Seen, u64) {
    let plc_link = PlcLink::new(handshake::HandshakeOptions { external: true, queue: QUEUE, ..Default::default() });
    let (fire, fired) = channel();
    let link = if hung.serial { Link::new(BAUD).hanging() } else { Link::new(BAUD) };
    let serial = Serial::start(serial_options(link.path().into()), plc_link.clone()).unwrap();
    let (mut station, told) = station(Box::new(Sensor::new(fired)), FIRED, Some(serial), &plc_link);
    station.sinks.pop(); // the one that is slow itself
    let (modbus, address) = modbus(&plc_link);
    station.sinks.push(Box::new(modbus));
    let (nobody_reads, out) = std::io::pipe().unwrap();
    if hung.json {
        let json: Box<dyn Sink> = Box::new(JsonLines::start("a pipe", out, &plc_link).unwrap());
        station.sinks.push(json);
    }
    let dir = tempfile::tempdir().unwrap();
    station.recorder = Some(recorder(dir.path(), hung));
    let page = page(hung, &mut station, &plc_link);
    let running = start(station, &plc_link);
    let viewers = page.as_ref().map(|(_, address)| Viewers::look(*address));
    let plc = Plc::start(link, DELAY + PATIENCE);
    let stop = Arc::new(AtomicBool::new(false));
    let watcher: JoinHandle<Seen> = std::thread::spawn({
        let stop = stop.clone();
        move || watch(address, &stop)
    });
    let hammerer = hung.master.then(|| {
        let stop = stop.clone();
        std::thread::spawn(move || hammer(address, &stop))
    });
    let parts = Conveyor { plc_link: &plc_link, fire, plc: &plc, chance: Random(1) }.run(triggers);
    std::thread::sleep(DELAY + Duration::from_millis(200));
    stop.store(true, Relaxed);
    let seen = watcher.join().unwrap();
    hammerer.into_iter().for_each(|hammerer| hammerer.join().unwrap());
    let shown = viewers.map(Viewers::end);
    assert_ne!(shown, Some(0), "the viewers saw nothing");
    let report = running.join().unwrap();
    drop(nobody_reads);
    let decisions = plc.stop();
    let told: Vec<Told> = told.try_iter().collect();
    let table = Table::new(&parts, &told, &decisions, DELAY);
    println!("{hung:?}\n{table}\n{seen:?}\n{report}\n");

    assert_eq!((parts.len() as u64, told.len()), (triggers, parts.len()), "one result for each trigger");
    let mut late = 0;
    for (index, (part, told)) in parts.iter().zip(&told).enumerate() {
        report::check(index as u64, part, told);
        let in_time = told.at <= told.outcome.captured + DELAY + Duration::from_millis(5);
        late += u64::from(!in_time && !matches!(told.outcome.verdict, Verdict::Fault(_)));
    }
    // Between the check and the telling a busy machine may take the processor away; GPIO and serial check again where
    // the result leaves.
    assert!(late <= 1 + triggers / 1000, "{late} parts were told too late as judged");
    for (part, decision) in decisions.iter().enumerate() {
        report::check_passed(part, &parts, &told, decision);
    }
    assert!(report.counts.balanced() && report.panicked.is_empty(), "{report}");
    assert!(seen.worst <= TRUTH, "READY was high for {:?} without results", seen.worst);
    let missed = told.iter().filter(|told| told.outcome.verdict == Verdict::Fault(Fault::Missed)).count() as u64;
    (table, seen, missed)
}

/// Channels that tell no PLC take nothing away from it, whatever they do.
#[test]
fn who_is_no_plc_may_hang() {
    let triggers = number("FCAM_LINE_TRIGGERS", 2000);
    for hung in [
        Hung::default(),
        Hung { json: true, ..Hung::default() },
        Hung { full_disk: true, ..Hung::default() },
        Hung { hung_disk: true, ..Hung::default() },
        Hung { master: true, ..Hung::default() },
        Hung { page: true, ..Hung::default() },
    ] {
        let (table, seen, missed) = run(hung, triggers);
        assert_eq!(seen.channel, 0, "{hung:?}");
        // Bursts and the sensor's own troubles are missed in any case; on a busy machine many are late.
        assert!(missed < triggers / 5 && table.judged() as u64 > triggers / 10, "{hung:?}: {missed} missed");
    }
}

/// A serial line that takes nothing is said on the others, and parts are taken again when it does.
#[test]
fn a_plc_s_line_that_hangs_takes_ready_down_until_it_is_back() {
    let triggers = number("FCAM_LINE_TRIGGERS", 4000).max(4000);
    let (table, seen, missed) = run(Hung { serial: true, ..Hung::default() }, triggers);
    assert!(seen.channel > 0 && missed > 0 && table.judged() > 0, "{seen:?}");
    let all = Hung { json: true, serial: true, full_disk: false, hung_disk: true, master: true, page: true };
    let (table, seen, missed) = run(all, triggers);
    assert!(seen.channel > 0 && missed > 0 && table.judged() > 0, "{seen:?}");
}
