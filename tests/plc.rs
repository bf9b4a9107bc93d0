//! The PLC's block of board/plc against the camera's handshake, over a wire that is slow, loses requests and answers
//! late. The block runs as Python, translated from its Structured Text; registers are those of the Modbus map.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use fcam::handshake::{Condition, Controls, Handshake, HandshakeOptions, Status, Ticket, short_id};
use fcam::verdict::{Fault, Findings, Verdict};
use fcam::watchdog::Trouble;
use serde_json::{Value, json};

use crate::outcome;

/// splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }

    fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// The block in its PLC.
struct Block {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Block {
    fn new() -> Self {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/structured_text.py");
        let mut command = Command::new("python3");
        command.arg(tool).arg("vis_hs.st").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    fn scan(&mut self, inputs: &Value) -> HashMap<String, u64> {
        writeln!(self.input, "{inputs}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: the block ended, {inputs} {line:?}"))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What makes life hard, in percent of scans.
#[derive(Clone, Copy)]
struct Hardship {
    scan_ms: u64,
    lost: u64,
    delayed: u64,
    /// Cuts, restarts of both sides, conditions, triggers from elsewhere, late results; per thousand scans.
    chaos: u64,
}

/// The station around the handshake.
struct Camera {
    handshake: Handshake,
    now: Duration,
    due: VecDeque<(Ticket, Duration)>,
    /// Parts that are good.
    truth: HashMap<u32, bool>,
    /// Parts that were told OK.
    passed: HashMap<u32, u32>,
    /// When it is ready after a start; a job change's end and outcome.
    starts: Option<Duration>,
    job: Option<(Duration, bool)>,
    recovers: Option<Duration>,
}

const OPTIONS: HandshakeOptions = HandshakeOptions {
    external: true,
    queue: 2,
    plc_timeout: Duration::from_millis(1000),
    simulated: false,
    job: 1,
    limit: None,
};

impl Camera {
    fn new() -> Self {
        let (handshake, now) = (Handshake::new(OPTIONS), Duration::from_secs(9));
        let (due, truth, passed) = (VecDeque::new(), HashMap::new(), HashMap::new());
        Self { handshake, now, due, truth, passed, starts: Some(now), job: None, recovers: None }
    }

    fn restart(&mut self) {
        self.handshake = Handshake::new(OPTIONS);
        self.due.clear();
        self.starts = Some(self.now + Duration::from_millis(300));
        self.job = None;
    }

    fn open(&mut self, ticket: Option<Ticket>, ms: u64) {
        if let Some(ticket) = ticket {
            let last = self.due.back().map_or(Duration::ZERO, |(_, due)| *due);
            self.due.push_back((ticket, (self.now + Duration::from_millis(ms)).max(last)));
        }
    }

    fn control(&mut self, controls: Controls, random: &mut Random, hardship: Hardship) {
        let late = random.below(1000) < hardship.chaos;
        let ticket = self.handshake.control(controls, self.now);
        let ms = if late { 3000 } else { random.below(40) };
        self.open(ticket, ms);
    }

    /// A millisecond passes.
    fn step(&mut self, random: &mut Random, chaos: bool) {
        self.now += Duration::from_millis(1);
        if self.starts.take_if(|at| *at <= self.now).is_some() {
            self.handshake.set(Condition::Starting, false);
        }
        if self.recovers.take_if(|at| *at <= self.now).is_some() {
            self.handshake.set(Condition::Camera, false);
        }
        self.handshake.turn_heartbeat(self.now);
        if self.now.as_millis().is_multiple_of(100) {
            self.handshake.tick(self.now, Trouble::default());
        }
        if let Some((_, changed)) = self.job.take_if(|(at, _)| *at <= self.now) {
            self.handshake.job_done(changed);
        }
        if self.job.is_none() && self.handshake.job_asked().is_some() {
            self.job = Some((self.now + Duration::from_millis(30), !random.percent(30)));
        }
        while self.due.front().is_some_and(|(_, due)| *due <= self.now) {
            let (ticket, _) = self.due.pop_front().unwrap();
            self.tell(ticket, chaos && random.percent(5));
        }
    }

    fn tell(&mut self, ticket: Ticket, broken: bool) {
        let good = self.truth.get(&ticket.part_id).copied().unwrap_or(true);
        let reject = Verdict::Reject(Findings { class: 1, score: 0.9, regions: heapless::Vec::new() });
        let verdict = match (ticket.taken, broken, good) {
            (false, _, _) => Verdict::Fault(Fault::Missed),
            (_, true, _) => Verdict::Fault(Fault::NoFrame),
            (_, _, true) => Verdict::Pass,
            (_, _, false) => reject,
        };
        if verdict == Verdict::Pass {
            *self.passed.entry(ticket.part_id).or_default() += 1;
        }
        let outcome = outcome::outcome(ticket.into(), verdict, None, 0, outcome::AT_ONCE);
        self.handshake.told(&outcome, self.now);
    }
}

/// Input registers 0 to 11.
fn registers(status: &Status) -> [u16; 12] {
    let bits = [
        status.ready,
        status.busy,
        status.valid,
        status.toggle,
        status.trigger_ack,
        status.missed,
        status.overrun,
        status.ok(),
        status.ng(),
        status.fault,
        status.run,
        status.simulated,
        status.job_busy,
        status.job_failed,
        status.late,
        status.heartbeat,
    ];
    let word = bits.iter().enumerate().map(|(at, bit)| u16::from(*bit) << at).sum();
    let result = status.result.as_ref();
    let part = result.map_or(0, |result| result.outcome.part_id);
    let id = |sequence: Option<u64>| sequence.map_or(0, short_id);
    let (this, last) = (id(result.map(|result| result.outcome.sequence)), id(status.trigger_id));
    [word, status.code.into(), this, last, 0, 0, 0, 0, status.job, 0, (part >> 16) as u16, part as u16]
}

/// Holding registers as the block sets them.
fn controls(out: &HashMap<String, u64>) -> Controls {
    let bit = |at: u64| out["hr0"] >> at & 1 == 1;
    Controls {
        trigger_enable: bit(0),
        trigger: bit(1),
        result_ack: bit(2),
        buffer_results: bit(3),
        job_execute: bit(4),
        clear_fault: bit(5),
        set_offline: bit(6),
        job: out["hr1"] as u16,
        part_id: (out["hr2"] << 16 | out["hr3"]) as u32,
        heartbeat: out["hr5"] as u16,
    }
}

/// The wire: a request a scan each way, as far as it is not cut.
#[derive(Default)]
struct Wire {
    cut: Option<Duration>,
    /// An answer on its way: the registers of the moment of the request.
    slow: Option<(u64, [u16; 12])>,
    image: [u16; 12],
    fresh: bool,
    sent: bool,
}

impl Wire {
    fn exchange(&mut self, camera: &mut Camera, out: &HashMap<String, u64>, random: &mut Random, hardship: Hardship) {
        (self.fresh, self.sent) = (false, false);
        self.cut.take_if(|until| *until <= camera.now);
        if self.cut.is_some() {
            return;
        }
        if !random.percent(hardship.lost) {
            camera.control(controls(out), random, hardship);
            self.sent = !random.percent(hardship.lost); // its answer may be lost too
        }
        match self.slow.take() {
            Some((1.., image)) if random.percent(50) => self.slow = Some((1, image)),
            Some((_, image)) => (self.image, self.fresh) = (image, true),
            None if random.percent(hardship.lost) => {}
            None => {
                let image = registers(&camera.handshake.status());
                if random.percent(hardship.delayed) {
                    self.slow = Some((1, image));
                } else {
                    (self.image, self.fresh) = (image, true);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    parts: u32,
    good: u32,
    bad: u32,
    refused: u32,
    wasted: u32,
    jobs: [u32; 2],
    strays: u64,
    expired: u64,
    scans: u32,
    busy_seen: u32,
}

fn run(parts: u32, seed: u64, hardship: Hardship) -> Tally {
    let (mut random, mut block, mut camera, mut wire) = (Random(seed), Block::new(), Camera::new(), Wire::default());
    let (mut tally, mut out) = (Tally::default(), HashMap::new());
    let (mut part, mut waiting, mut job, mut high) = (70_000u32, None::<u32>, 1u16, 0u32);
    let (mut jobgo, mut restart, mut busy, mut since) = (false, false, false, 0);
    while tally.parts < parts || waiting.is_some() || since < 3000 / hardship.scan_ms {
        tally.scans += 1;
        assert!(tally.scans < parts * 1000, "it stands still: {tally:?}, {waiting:?}, {out:?}");
        for _ in 0..hardship.scan_ms {
            camera.step(&mut random, hardship.chaos > 0);
        }
        if !out.is_empty() {
            wire.exchange(&mut camera, &out, &mut random, hardship);
        }
        busy |= wire.fresh && wire.image[0] >> 1 & 1 == 1;
        // The machine: parts come when the block says so, now and then when it does not.
        let more = tally.parts < parts;
        since = if more { 0 } else { since + 1 };
        let avail = out.get("avail") == Some(&1);
        let hasty = hardship.chaos > 0 && random.percent(1);
        high = high.saturating_sub(1);
        let comes = more && high == 0 && !jobgo && ((avail && random.percent(60)) || hasty);
        if comes {
            (part, high, busy) = (part + 1, 3, false);
            camera.truth.insert(part, random.percent(70));
            tally.parts += 1;
        }
        let idle = more && avail && !comes && waiting.is_none() && high == 0;
        jobgo = idle && random.percent(15);
        if jobgo {
            job = 1 + (random.below(4) as u16);
        }
        let [ir0, _, ir2, ir3, _, _, _, _, ir8, _, ir10, ir11] = wire.image;
        let mut inputs = json!({
            "ms": hardship.scan_ms, "fresh": wire.fresh, "sent": wire.sent,
            "ir0": ir0, "ir2": ir2, "ir3": ir3, "ir8": ir8, "ir10": ir10, "ir11": ir11,
            "enable": true, "partgo": high >= 2, "partno": part, "jobgo": jobgo, "jobno": job,
            "tanswer": 500.max(hardship.scan_ms * 20), "tresult": 2000.max(hardship.scan_ms * 40),
            "tdead": 1000.max(hardship.scan_ms * 20), "tjob": 5000,
        });
        if std::mem::take(&mut restart) {
            inputs["restart"] = true.into();
        }
        out = block.scan(&inputs);

        if out["refused"] == 1 {
            assert!(comes, "refused without a part");
            tally.refused += 1;
        } else if comes {
            assert_eq!(waiting.replace(part), None, "two parts at once");
        }
        if out["done"] == 1 {
            let done = out["donepart"] as u32;
            assert_eq!(waiting.take(), Some(done), "another part's judgement");
            let good = out["good"] == 1;
            assert!(!good || camera.truth[&done] && camera.passed.contains_key(&done), "part {done} is bad and passed");
            tally.busy_seen += u32::from(busy);
            tally.good += u32::from(good);
            tally.bad += u32::from(!good);
            tally.wasted += u32::from(!good && camera.truth[&done]);
        }
        if out["jobok"] == 1 {
            tally.jobs[0] += 1;
            assert!(hardship.chaos > 0 || camera.handshake.status().job == job);
        }
        tally.jobs[1] += out["jobbad"] as u32;
        if more && random.below(1000) < hardship.chaos {
            restart = mishap(&mut camera, &mut wire, &mut random);
            if restart {
                // The PLC has forgotten its part, which is rejected with whatever was on the belt.
                tally.refused += waiting.take().map_or(0, |_| 1);
                (high, jobgo) = (0, false);
            }
        }
    }
    (tally.strays, tally.expired) = (out["strays"], out["expired"]);
    assert_eq!(out["avail"], 1, "not ready again: {out:?} {:?}", camera.handshake.status());
    tally
}

/// True if the PLC starts anew.
fn mishap(camera: &mut Camera, wire: &mut Wire, random: &mut Random) -> bool {
    match random.below(5) {
        0 => wire.cut = Some(camera.now + Duration::from_millis(random.below(2500))),
        1 => camera.restart(),
        2 => {
            camera.handshake.set(Condition::Camera, true);
            camera.recovers = Some(camera.now + Duration::from_millis(random.below(800)));
        }
        3 => {
            let ticket = camera.handshake.trigger(camera.now, 5); // by another wire
            camera.open(ticket, 7);
        }
        _ => return true,
    }
    false
}

#[test]
fn at_every_scan_time_no_part_is_lost() {
    let (mut jobs, mut skipped) = ([0, 0], 0);
    for scan_ms in [1, 5, 20, 100] {
        let hardship = Hardship { scan_ms, lost: 10, delayed: 20, chaos: 0 };
        let tally = run(200, scan_ms, hardship);
        println!("{scan_ms} ms: {tally:?}");
        assert_eq!((tally.good + tally.bad, tally.refused, tally.wasted), (200, 0, 0), "{tally:?}");
        assert_eq!((tally.strays, tally.expired), (0, 0), "{tally:?}");
        assert!(tally.good > 100 && tally.bad > 20, "{tally:?}");
        (0..2).for_each(|at| jobs[at] += tally.jobs[at]);
        skipped += 200 - tally.busy_seen;
    }
    println!("jobs {jobs:?}; BUSY was never seen for {skipped} of 800 parts");
    assert!(jobs[0] > 5 && jobs[1] > 2 && skipped > 100, "{jobs:?} {skipped}");
}

#[test]
fn whatever_happens_no_bad_part_passes() {
    for seed in 0..3 {
        let hardship = Hardship { scan_ms: 10, lost: 10, delayed: 20, chaos: 15 };
        let tally = run(300, seed, hardship);
        println!("seed {seed}: {tally:?}");
        assert_eq!(tally.good + tally.bad + tally.refused, tally.parts, "{tally:?}");
        assert!(tally.good > tally.parts / 3 && tally.refused > 0 && tally.wasted > 0, "{tally:?}");
    }
}
