//! board/plc/handshake.md is held to the code: its tables are what the handshake does. `FCAM_WRITE_SPEC=1` writes them.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use fcam::handshake::{Condition, Controls, Handshake, HandshakeOptions, Status};
use fcam::verdict::Verdict;
use fcam::watchdog::Trouble;

use super::case::{NOW, started, tell};

const PAGE: &str = "board/plc/handshake.md";

/// Name, its value, what it means.
fn bits(status: &Status) -> [(&'static str, bool, &'static str); 17] {
    let Status { ready, busy, valid, toggle, trigger_ack, missed, overrun, late, fault, run, simulated, .. } = *status;
    let Status { job_busy, job_failed, heartbeat, drift, .. } = *status;
    [
        ("READY", ready, "a trigger would be judged"),
        (
            "BUSY",
            busy,
            "a part is under way, from its trigger to its result; may be too short to be seen: never wait for its edge",
        ),
        ("VALID", valid, "a result stands to be read; falls with RESULT_ACK, and never rises while that is high"),
        ("OK", status.ok(), "VALID, the part is good, and the pictures are not simulated"),
        ("NG", status.ng(), "VALID and not OK. Both low: no result. Both high: broken wire or program, a fault"),
        ("TOGGLE", toggle, "changes with each result that VALID shows"),
        ("TRIGGER_ACK", trigger_ack, "follows the PLC's TRIGGER: it was seen, and TRIGGER_ID is its number"),
        ("MISSED", missed, "a trigger was not taken; stays until cleared"),
        ("OVERRUN", overrun, "a result found no room among 8 or was given up; stays until cleared"),
        ("LATE", late, "a verdict was not told in time; stays until cleared"),
        (
            "DRIFT",
            drift.is_some(),
            "the pictures have changed against good parts; stays until cleared, or another bundle runs",
        ),
        ("FAULT", fault, "CODE says what: a condition that a person must mend, or the last part that was not judged"),
        ("RUN", run, "no condition keeps the station from its work"),
        ("SIMULATED", simulated, "the pictures are not of parts: never OK"),
        ("JOB_BUSY", job_busy, "a job change is under way; READY is low throughout"),
        ("JOB_FAIL", job_failed, "the job that was last asked for does not run: the old one does"),
        ("HEARTBEAT", heartbeat, "changes every 250 ms while the inspection loop itself is alive"),
    ]
}

fn words(status: &Status) -> [(&'static str, i64, &'static str); 10] {
    let Status { code, trigger_id, job, release, temperature, ref result, waiting, counts, .. } = *status;
    let id = |id: Option<u64>| id.map_or(0, |id| i64::from(fcam::handshake::short_id(id)));
    [
        ("CODE", code.into(), "what holds now, else why the last part was not judged, until cleared; 0 nothing"),
        (
            "TRIGGER_ID",
            id(trigger_id),
            "number of the last trigger; 1 to 65535 and again 1, never 0 but before the first",
        ),
        (
            "RESULT_ID",
            id(result.as_ref().map(|result| result.outcome.sequence)),
            "number of the part whose result is shown",
        ),
        ("JOB", job.into(), "the job that runs"),
        ("RELEASE", release.into(), "counter of the signed bundle that judges; 0: it is not signed"),
        ("WAITING", waiting.into(), "results that were not acknowledged, the shown one included"),
        ("OK_COUNT", counts.ok.into(), "good parts since the start"),
        ("NG_COUNT", counts.ng.into(), "all others since the start"),
        ("MISSED_COUNT", counts.missed.into(), "triggers that were not taken since the start"),
        ("TEMPERATURE", temperature.unwrap_or(0).into(), "of the processor, 0.1 degrees Celsius"),
    ]
}

fn meanings() -> String {
    let status = Status::default();
    let mut out = String::from("| bit | means |\n|---|---|\n");
    for (name, _, meaning) in bits(&status) {
        let _ = writeln!(out, "| {name} | {meaning} |");
    }
    out += "\n| word | means |\n|---|---|\n";
    for (name, _, meaning) in words(&status) {
        let _ = writeln!(out, "| {name} | {meaning} |");
    }
    out
}

fn codes() -> String {
    let mut out = String::from("| CODE | condition | a person must mend it |\n|---|---|---|\n");
    for condition in Condition::ALL {
        let name = format!("{condition:?}");
        let mend = if condition.is_fault() { "yes" } else { "" };
        let _ = writeln!(out, "| {} | {name} | {mend} |", condition.code());
    }
    out
}

/// The other side of the line.
#[derive(Clone)]
struct Scene {
    handshake: Handshake,
    controls: Controls,
    /// The next number to be told.
    next: u64,
}

type Step = fn(&mut Scene);

impl Scene {
    fn new(handshake: Handshake) -> Self {
        let mut scene = Self { handshake, controls: Controls::default(), next: 0 };
        scene.write(|controls| controls.trigger_enable = true);
        scene
    }

    fn write(&mut self, change: fn(&mut Controls)) {
        change(&mut self.controls);
        self.handshake.control(self.controls, NOW);
    }

    fn trigger(&mut self) {
        self.write(|controls| controls.trigger = false);
        self.write(|controls| controls.trigger = true);
        self.write(|controls| controls.trigger = false);
    }

    fn tell(&mut self) {
        tell(&mut self.handshake, self.next, Verdict::Pass);
        self.next += 1;
    }

    fn part(&mut self) {
        self.trigger();
        self.tell();
    }
}

fn states() -> Vec<(&'static str, &'static str, Scene)> {
    let options = HandshakeOptions { plc_timeout: Duration::from_secs(1), ..HandshakeOptions::default() };
    let mut ready = Scene::new(started(options));
    ready.handshake.turn_heartbeat(NOW);
    ready.handshake.tick(NOW, Trouble::default());
    let with = |steps: &[Step]| {
        let mut scene = ready.clone();
        steps.iter().for_each(|step| step(&mut scene));
        scene
    };
    let buffered: Step = |scene| scene.write(|controls| controls.buffer_results = true);
    vec![
        ("starting", "the bundle is being proven", Scene::new(Handshake::new(options))),
        ("ready", "waiting for a part", ready.clone()),
        ("busy", "as many parts wait as may (`trigger.queue`)", with(&[Scene::trigger])),
        ("valid", "a result stands to be read", with(&[Scene::part])),
        ("acknowledged", "RESULT_ACK is high", with(&[Scene::part, |scene| scene.write(|c| c.result_ack = true)])),
        (
            "buffering",
            "BUFFER_RESULTS is high, three results wait",
            with(&[buffered, Scene::part, Scene::part, Scene::part]),
        ),
        ("buffer full", "BUFFER_RESULTS is high, eight results wait", {
            let mut scene = with(&[buffered]);
            (0..8).for_each(|_| scene.part());
            scene
        }),
        ("changing", "a job change is under way", with(&[|scene| assert!(scene.handshake.ask_job(2))])),
        ("offline", "SET_OFFLINE is high", with(&[|scene| scene.write(|controls| controls.set_offline = true)])),
        (
            "fault",
            "the camera is gone; a trigger was missed",
            with(&[|scene| scene.handshake.set(Condition::Camera, true), Scene::trigger]),
        ),
    ]
}

fn inputs() -> Vec<(&'static str, Step)> {
    vec![
        ("TRIGGER rises", |scene| scene.write(|controls| controls.trigger = true)),
        ("TRIGGER rises, TRIG_ENABLE is low", |scene| {
            scene.write(|controls| controls.trigger_enable = false);
            scene.write(|controls| controls.trigger = true);
        }),
        ("a part is told OK", |scene| {
            if scene.handshake.status().busy {
                scene.tell();
            }
        }),
        ("RESULT_ACK rises", |scene| scene.write(|controls| controls.result_ack = true)),
        ("RESULT_ACK falls", |scene| scene.write(|controls| controls.result_ack = false)),
        ("ACK telegram", |scene| scene.handshake.acknowledged()),
        ("BUFFER_RESULTS falls", |scene| scene.write(|controls| controls.buffer_results = false)),
        ("JOB_EXEC rises, another job", |scene| {
            scene.write(|controls| (controls.job, controls.job_execute) = (3, true));
        }),
        ("the change succeeds", |scene| scene.handshake.job_done(true)),
        ("the change fails", |scene| scene.handshake.job_done(false)),
        ("SET_OFFLINE rises", |scene| scene.write(|controls| controls.set_offline = true)),
        ("SET_OFFLINE falls", |scene| scene.write(|controls| controls.set_offline = false)),
        ("CLEAR_FAULT rises", |scene| scene.write(|controls| controls.clear_fault = true)),
        ("the camera is lost", |scene| scene.handshake.set(Condition::Camera, true)),
        ("the camera is back", |scene| scene.handshake.set(Condition::Camera, false)),
        ("the PLC's heartbeat stops", |scene| {
            scene.handshake.tick(NOW + Duration::from_millis(1001), Trouble::default())
        }),
        ("the station proves its bundle", |scene| scene.handshake.set(Condition::Starting, false)),
        ("the station is told to stop", |scene| scene.handshake.set(Condition::Stopping, true)),
    ]
}

/// What an input changes: bits that rise and fall, words that change.
fn change(before: &Status, after: &Status) -> String {
    let bits = bits(before).into_iter().zip(bits(after)).filter(|(before, after)| before.1 != after.1);
    let bits = bits.map(|(_, (name, high, _))| format!("{}{name}", if high { "+" } else { "-" }));
    let words = words(before).into_iter().zip(words(after)).filter(|(before, after)| before.1 != after.1);
    let words = words.map(|(_, (name, value, _))| format!("{name}={value}"));
    let all: Vec<String> = bits.chain(words).collect();
    if all.is_empty() { "no change".into() } else { all.join(" ") }
}

fn table() -> String {
    let mut out = String::new();
    for (name, says, scene) in states() {
        let status = scene.handshake.status();
        let high: Vec<&str> = bits(&status).iter().filter(|bit| bit.1).map(|bit| bit.0).collect();
        let high = if high.is_empty() { "nothing".into() } else { high.join(", ") };
        let _ = write!(out, "### {name}: {says}\n\nHigh: {high}.\n\n| input | changes |\n|---|---|\n");
        let mut idle = vec![];
        for (input, step) in inputs() {
            let mut after = scene.clone();
            step(&mut after);
            match change(&status, &after.handshake.status()) {
                change if change == "no change" => idle.push(input),
                change => drop(writeln!(out, "| {input} | {change} |")),
            }
        }
        let _ = write!(out, "\nNothing changes when: {}.\n\n", idle.join("; "));
    }
    out
}

#[test]
fn the_page_is_what_the_code_does() {
    let mut page = fs::read_to_string(PAGE).unwrap();
    for (name, made) in [("meanings", meanings()), ("codes", codes()), ("states", table())] {
        let (begin, end) = (format!("<!-- {name}: generated -->\n"), format!("<!-- {name}: end -->"));
        let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
        let (held, after) = rest.split_once(&end).unwrap();
        if std::env::var_os("FCAM_WRITE_SPEC").is_some() {
            page = format!("{before}{begin}{made}{end}{after}");
            fs::write(PAGE, &page).unwrap();
            continue;
        }
        assert!(held == made, "{PAGE} is not what the code does: run this test with FCAM_WRITE_SPEC=1");
    }
}

/// A state in which an input does what the page's text promises, whatever the tables say.
#[test]
fn the_promises_of_the_page() {
    for (name, _, scene) in states() {
        let before = scene.handshake.status();
        for (input, step) in inputs() {
            let mut after = scene.clone();
            step(&mut after);
            let after = after.handshake.status();
            if input.starts_with("TRIGGER rises") {
                let taken = before.ready && input == "TRIGGER rises";
                assert!(after.trigger_ack && after.trigger_id != before.trigger_id, "{name}: {input}");
                assert_eq!(after.counts.missed - before.counts.missed, u32::from(!taken), "{name}: {input}");
            }
            assert!(!(after.ready && after.job_busy), "{name}: {input}");
            assert!(
                after.result.as_ref().map(|r| r.outcome.sequence) >= before.result.as_ref().map(|r| r.outcome.sequence)
            );
        }
    }
}
