//! A simulated line: parts with a known truth on a conveyor, a sensor that their triggers fire, a PLC with a scan
//! cycle, and between the two a serial link with an honest baud rate that corrupts and cuts. Real threads, the real
//! station, the real serial sink; everything that goes wrong on a line goes wrong at random moments. Whatever happens,
//! each trigger ends in one result under its own number, and no part is passed that was not judged good.
//!
//! `./dev line 100000` runs it long; by itself it is short.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "line/belt.rs"]
mod belt;
mod common;
#[path = "line/control.rs"]
mod control;
#[path = "line/conveyor.rs"]
mod conveyor;
#[allow(dead_code)]
#[path = "page/http.rs"]
mod http;
#[path = "line/hung.rs"]
mod hung;
#[path = "common/installed.rs"]
mod installed;
#[path = "line/plc.rs"]
mod plc;
#[path = "common/random.rs"]
mod random;
#[path = "line/report.rs"]
mod report;
#[path = "line/swap.rs"]
mod swap;
#[path = "line/trial.rs"]
mod trial;
#[path = "page/viewers.rs"]
mod viewers;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fcam::camera::{Camera, Geometry, PixelFormat};
use fcam::clock::{self, Timestamp};
use fcam::handshake;
use fcam::outcome::Outcome;
use fcam::pipeline::PipelineOptions;
use fcam::plc_link::PlcLink;
use fcam::signal::Signaller;
use fcam::sink::{self, Serial, Sink, serial};
use fcam::station::{Matching, Report, Rule, Station, Stop, Trigger};
use fcam::telegram::budget;
use fcam::verdict::Verdict;

use belt::{Above, Belt};
use conveyor::{Conveyor, Part, Sensor};
use plc::{Link, Plc};
use random::Random;
use report::Table;

/// Parts that may be under way.
const QUEUE: usize = 8;
/// From a trigger to its outputs.
const DELAY: Duration = Duration::from_millis(25);
/// So long after the outputs the PLC still takes a telegram for its part.
const PATIENCE: Duration = Duration::from_millis(10);
/// Between two parts at the rate that the station claims.
const SPACING: Duration = Duration::from_micros(2500);
const BAUD: u32 = 921_600;

/// What the station told, and when.
struct Told {
    outcome: Outcome,
    at: Timestamp,
}

/// Remembers every part.
struct Memory(Sender<Told>);

impl Sink for Memory {
    fn apply(&mut self, outcome: &Outcome) -> Result<(), sink::Error> {
        self.0.send(Told { outcome: outcome.clone(), at: clock::now() }).unwrap();
        Ok(())
    }

    fn fail_safe(&mut self) {}
}

/// Sleeps now and then, which no channel may: a busy processor does it to all of them.
struct Slow(Random);

impl Sink for Slow {
    fn apply(&mut self, _: &Outcome) -> Result<(), sink::Error> {
        if self.0.once_in(1500) {
            std::thread::sleep(Duration::from_millis(40));
        }
        Ok(())
    }

    fn fail_safe(&mut self) {}
}

fn serial_options(port: std::path::PathBuf) -> serial::SerialOptions {
    let line = budget::SerialLine {
        baud: BAUD,
        bits: 10,
        parts_per_minute: 24_000,
        head_of_line_ms: 2,
        frame_bytes: 240,
        masks: true,
    };
    serial::SerialOptions {
        port,
        line,
        parity: serial::Parity::None,
        rs485: false,
        profile: serial::Profile::Binary,
        config: 0,
        external: true,
        delay: DELAY,
    }
}

/// The sensor answers 0.3 ms after it was fired.
const FIRED: Matching =
    Matching { rule: Rule::Next, delay: Duration::from_micros(200), window: Duration::from_micros(200) };

/// A station at a line, and what it will have told.
fn station(
    camera: Box<dyn Camera>,
    matching: Matching,
    serial: Option<Serial>,
    plc_link: &PlcLink,
) -> (Station, Receiver<Told>) {
    let (sender, told) = channel();
    let signaller = Signaller { delay: DELAY, hold: Duration::from_millis(1) };
    let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(Memory(sender))];
    sinks.extend(serial.map(|serial| Box::new(serial) as Box<dyn Sink>));
    sinks.push(Box::new(Slow(Random(7))));
    let station = Station {
        bundle: common::tiny_bundle(),
        geometry: Some(Geometry::packed(64, 64, PixelFormat::Rgb8).unwrap()),
        camera,
        options: PipelineOptions {
            engine: Default::default(),
            layout: Default::default(),
            score_threshold: None,
            locate: None,
            vote: None,
            drift: None,
            zones: Default::default(),
            signaller,
        },
        trigger: Trigger::External { queue: QUEUE, matching },
        timeout: Duration::from_secs(1),
        frames: None,
        plc_link: plc_link.clone(),
        sinks,
        recorder: None,
        summary: Duration::from_secs(3600),
        releases: None,
        window: None,
    };
    (station, told)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs a station, and waits until it is ready.
fn start(station: Station, plc_link: &PlcLink) -> JoinHandle<Report> {
    let running = std::thread::spawn(move || station.run(&Stop::default()).unwrap());
    let patience = clock::now() + Duration::from_secs(60);
    while !plc_link.status().ready {
        assert!(clock::now() < patience, "the station does not get ready");
        std::thread::sleep(Duration::from_millis(5));
    }
    running
}

fn run(triggers: u64, threads: usize) -> (Vec<Part>, Vec<Told>, Report, Plc) {
    let plc_link = PlcLink::new(handshake::HandshakeOptions { external: true, queue: QUEUE, ..Default::default() });
    let (fire, fired) = channel();
    let link = Link::new(BAUD);
    let serial = Serial::start(serial_options(link.path().into()), plc_link.clone()).unwrap();
    let (mut station, told) = station(Box::new(Sensor::new(fired)), FIRED, Some(serial), &plc_link);
    station.options.engine.threads = threads;
    let station = start(station, &plc_link);
    let plc = Plc::start(link, DELAY + PATIENCE);
    let parts = Conveyor { plc_link: &plc_link, fire, plc: &plc, chance: Random(1) }.run(triggers);
    // The sensor ends with the conveyor; the station drains.
    let report = station.join().unwrap();
    std::thread::sleep(Duration::from_millis(100)); // the last bytes are on their way
    (parts, told.try_iter().collect(), report, plc)
}

#[test]
fn each_trigger_ends_in_one_result_and_nothing_passes_that_was_not_judged_good() {
    nothing_is_lost_or_wrong(number("FCAM_LINE_TRIGGERS", 4000), 1);
}

#[test]
fn each_trigger_ends_in_one_result_on_two_and_four_threads_of_the_engine_too() {
    for threads in [2, 4] {
        nothing_is_lost_or_wrong(number("FCAM_LINE_TRIGGERS", 4000) / 4, threads);
    }
}

fn nothing_is_lost_or_wrong(triggers: u64, threads: usize) {
    let (parts, told, report, plc) = run(triggers, threads);
    let decisions = plc.stop();
    let table = Table::new(&parts, &told, &decisions, DELAY);
    println!("{threads} threads of the engine\n{table}\n{}\n{report}", report.stages);

    assert_eq!(parts.len() as u64, triggers);
    assert_eq!(told.len(), parts.len(), "one result for each trigger");
    for (index, (part, told)) in parts.iter().zip(&told).enumerate() {
        report::check(index as u64, part, told);
    }
    for (part, decision) in decisions.iter().enumerate() {
        report::check_passed(part, &parts, &told, decision);
    }
    assert!(report.counts.balanced() && report.panicked.is_empty(), "{report}");
    assert!(table.judged() > 0 && table.passed() > 0, "the simulation judged something");
    assert_eq!(report.counts.verdicts(), triggers);
}

#[test]
fn a_camera_that_runs_free_gives_each_part_its_own_frame() {
    let parts = number("FCAM_LINE_TRIGGERS", 4000) / 10;
    let plc_link = PlcLink::new(handshake::HandshakeOptions { external: true, queue: QUEUE, ..Default::default() });
    let belt = Arc::new(Mutex::new(Belt::default()));
    let window = belt::INTERVAL / 2 + Duration::from_micros(100);
    let matching = Matching { rule: Rule::Nearest, delay: belt::VIEW, window };
    let (station, told) = station(Box::new(Above::new(belt.clone())), matching, None, &plc_link);
    let running = start(station, &plc_link);
    let mut chance = Random(11);
    let truths: Vec<bool> = (0..parts)
        .map(|index| {
            std::thread::sleep(Duration::from_micros(8000 + chance.below(9000) as u64));
            let (at, good) = (clock::now(), chance.below(2) == 0);
            let mut belt = belt.lock().unwrap();
            belt.bad.extend((!good).then_some(at + belt::VIEW));
            plc_link.trigger(at, index as u32).unwrap();
            good
        })
        .collect();
    std::thread::sleep(belt::VIEW + 20 * belt::INTERVAL);
    belt.lock().unwrap().ended = true;
    let report = running.join().unwrap();
    let told: Vec<Told> = told.try_iter().collect();
    println!("{report}");
    assert_eq!(told.len(), truths.len());
    for (good, told) in truths.iter().zip(&told) {
        let Outcome { sequence, verdict, .. } = &told.outcome;
        assert!(
            matches!(verdict, Verdict::Fault(_)) || (*verdict == Verdict::Pass) == *good,
            "{sequence}: {verdict:?}"
        );
    }
    assert!(report.counts.pass > 0 && report.counts.reject > 0 && report.counts.balanced(), "{report}");
}

/// Resident memory, KiB (proc(5)).
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// True in a process of this test's own, which the test starts otherwise: what other tests take of the memory is not
/// the station's.
fn alone(test: &str) -> bool {
    const ALONE: &str = "FCAM_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut own = std::process::Command::new(std::env::current_exe().unwrap());
    assert!(own.args([test, "--exact", "--nocapture"]).env(ALONE, "1").status().unwrap().success());
    false
}

/// Memory that does not grow over as many parts as a day has at two a second (FCAM_SOAK_PARTS=172800), as fast as they
/// are judged.
#[test]
fn memory_is_flat() {
    if !alone("memory_is_flat") {
        return;
    }
    let parts = number("FCAM_SOAK_PARTS", 4000);
    let plc_link = PlcLink::new(handshake::HandshakeOptions { external: true, queue: QUEUE, ..Default::default() });
    let (fire, fired) = channel();
    let (mut station, told) = station(Box::new(Sensor::new(fired)), FIRED, None, &plc_link);
    station.options.signaller.delay = Duration::ZERO;
    let running = start(station, &plc_link);
    let mut at_first = 0;
    for index in 0..parts {
        // One after the other, as fast as that goes: what comes closer than the sensor answers is nobody's frame.
        while plc_link.status().busy || !plc_link.status().ready {
            std::thread::yield_now();
        }
        let ticket = plc_link.trigger(clock::now(), index as u32).unwrap();
        fire.send(conveyor::Fire { at: ticket.at, good: index % 3 != 0, trouble: None }).unwrap();
        told.try_iter().for_each(drop);
        at_first = if index == parts / 10 { resident_kib() } else { at_first };
    }
    drop(fire);
    let report = running.join().unwrap();
    let grown = resident_kib().saturating_sub(at_first);
    println!("{parts} parts, {at_first} KiB resident after a tenth, {grown} KiB more at the end\n{report}");
    assert_eq!(report.counts.verdicts(), parts);
    assert!(report.counts.pass > parts / 2, "{report}");
    assert!(grown < 2048, "{grown} KiB");
}
