//! In process: a scripted camera against the real threads.

use std::time::Duration;

use fcam::camera::{self, Camera, Frame};
use fcam::clock::{self, Timestamp};
use fcam::handshake;
use fcam::outcome::Outcome;
use fcam::plc_link::PlcLink;
use fcam::preprocess::Roi;
use fcam::record::{Keep, PictureFormat, Recorder, RecorderOptions};
use fcam::signal::LEAD;
use fcam::sink::{Error, Sink};
use fcam::station::{self, Matching, Report, Rule, Station, Trigger};
use fcam::verdict::{Fault, Verdict};
use fcam::vote::Vote;
use proptest::prelude::*;

use super::fake::{self, BRIGHT, DARK, Fake, Ran, Step, alternating, frame};

const MS: Duration = Duration::from_millis(1);
const ROOMY: Trigger = Trigger::EveryFrame { queue: 256 };

fn run(steps: Vec<Step>, trigger: Trigger) -> Ran {
    let (station, told) = fake::station(Fake::new(steps, MS), trigger);
    fake::run(station, &told)
}

fn words(ran: &Ran) -> Vec<&'static str> {
    ran.parts.iter().map(|(outcome, _)| outcome.verdict.word()).collect()
}

#[test]
fn each_part_gets_its_own_verdict() {
    let ran = run(alternating(200), ROOMY);
    let expected: Vec<&str> = (0..200).map(|index| if index % 2 == 0 { "pass" } else { "reject" }).collect();
    assert_eq!(words(&ran), expected);
    assert!(ran.report.clean() && ran.safe);
    assert_eq!(ran.report.latency.count(), 200);
}

#[test]
fn an_overflow_is_a_fault_for_exactly_that_part() {
    // As fast as it goes, into a queue of one, in front of a sink that takes its time.
    let (station, told) = fake::station(Fake::new(alternating(500), Duration::ZERO), Trigger::EveryFrame { queue: 1 });
    let Ran { report, parts, safe } = fake::run(station, &told);
    let overflows = report.counts.fault(Fault::Overflow);
    assert!(overflows > 0, "{report}");
    assert!(safe && report.counts.balanced() && !report.clean(), "{report}");
    let sequences: Vec<u64> = parts.iter().map(|(outcome, _)| outcome.sequence).collect();
    assert_eq!(sequences, (0..500).collect::<Vec<_>>());
    for (outcome, _) in &parts {
        match &outcome.verdict {
            Verdict::Fault(fault) => assert_eq!(*fault, Fault::Overflow),
            judged => assert_eq!(*judged == Verdict::Pass, outcome.sequence % 2 == 0, "part {}", outcome.sequence),
        }
    }
}

#[test]
fn free_run_counts_the_dropped_and_judges_the_newest() {
    let (station, told) = fake::station(Fake::new(alternating(500), Duration::ZERO), Trigger::FreeRun);
    let Ran { report, parts, .. } = fake::run(station, &told);
    assert!(report.counts.dropped > 0 && report.clean(), "{report}");
    assert_eq!(parts.len() as u64 + report.counts.dropped, 500);
    assert_eq!(parts.last().unwrap().0.sequence, 499);
    assert!(parts.iter().all(|(outcome, _)| (outcome.verdict == Verdict::Pass) == (outcome.sequence % 2 == 0)));
}

#[test]
fn trouble_is_one_fault_however_long_it_lasts() {
    let mut steps = vec![frame(BRIGHT)];
    steps.extend([Step::Error; 5]);
    steps.extend([Step::Stall, frame(DARK), Step::Stall, Step::Stall, frame(BRIGHT)]);
    let ran = run(steps, ROOMY);
    let verdicts: Vec<&Verdict> = ran.parts.iter().map(|(outcome, _)| &outcome.verdict).collect();
    assert!(matches!(
        verdicts[..],
        [
            Verdict::Pass,
            Verdict::Fault(Fault::Camera),
            Verdict::Reject(_),
            Verdict::Fault(Fault::Stalled),
            Verdict::Pass
        ]
    ));
    let counts = &ran.report.counts;
    assert_eq!((counts.incidents, counts.camera_errors, counts.camera_restarts), (2, 5, 2));
}

#[test]
fn frames_lost_by_the_camera_are_a_fault_only_if_each_is_a_part() {
    let steps = vec![frame(BRIGHT), Step::Gap(7), frame(BRIGHT), Step::Error, Step::Gap(3), frame(BRIGHT)];
    let ran = run(steps.clone(), ROOMY);
    assert_eq!(words(&ran), ["pass", "fault", "pass", "fault", "pass"]);
    assert_eq!(ran.report.counts.lost, 7); // what goes missing in trouble belongs to that trouble
    let ran = run(steps[..3].to_vec(), Trigger::FreeRun);
    assert!(ran.report.clean() && ran.report.counts.lost == 7);
}

#[test]
fn another_geometry_is_a_fault_and_then_judged_if_it_fits() {
    let sizes = [64, 64, 96, 96, 32, 32, 64, 64];
    let steps: Vec<Step> = sizes.into_iter().map(|side| Step::Frame { level: BRIGHT, side }).collect();
    let (mut station, told) = fake::station(Fake::new(steps, MS), ROOMY);
    station.options.layout = Roi { x: 0, y: 0, width: 64, height: 64 }.into();
    let ran = fake::run(station, &told);
    // 32 x 32 does not hold the ROI: all of its parts are faults, and the next size is another change.
    assert_eq!(words(&ran), ["pass", "pass", "fault", "pass", "fault", "fault", "fault", "pass"]);
    assert_eq!(ran.report.counts.fault(Fault::Geometry), 4);
}

#[test]
fn frames_vote_until_a_fault() {
    let levels = [BRIGHT, BRIGHT, DARK, DARK, BRIGHT, BRIGHT].map(frame);
    // Without a fault in between, one dark frame after four bright ones would be outvoted.
    let steps: Vec<Step> = levels.into_iter().chain([Step::Error, frame(DARK), frame(BRIGHT)]).collect();
    let (mut station, told) = fake::station(Fake::new(steps, MS), ROOMY);
    station.options.vote = Some(Vote { of: 3, need: 2 });
    let ran = fake::run(station, &told);
    assert_eq!(words(&ran), ["pass", "pass", "pass", "reject", "reject", "pass", "fault", "reject", "pass"]);
    let Verdict::Reject(outvoted) = &ran.parts[4].0.verdict else { panic!("two of three are dark") };
    assert!(outvoted.regions.is_empty() && outvoted.score < 0.5, "the frame itself is bright");
    assert_eq!(ran.report.counts.fault(Fault::Camera), 1);
}

#[test]
fn the_first_frame_of_a_camera_that_could_not_tell_is_no_change() {
    let (mut station, told) = fake::station(Fake::new(vec![Step::Frame { level: DARK, side: 48 }; 3], MS), ROOMY);
    station.geometry = None;
    assert_eq!(words(&fake::run(station, &told)), ["reject"; 3]);
}

#[test]
fn a_late_pass_is_never_told() {
    let mut camera = Fake::new(alternating(40), MS);
    camera.age = 300 * MS;
    let (mut station, told) = fake::station(camera, ROOMY);
    station.options.signaller.delay = 200 * MS;
    let ran = fake::run(station, &told);
    assert_eq!(words(&ran), ["fault"; 40]);
    assert_eq!((ran.report.counts.fault(Fault::Late), ran.report.counts.late), (40, 40));
}

#[test]
fn a_slow_sink_makes_parts_late_and_none_is_passed_late() {
    let (mut station, _) = fake::station(Fake::new(vec![frame(BRIGHT); 60], MS), ROOMY);
    let (sender, told) = std::sync::mpsc::channel();
    station.sinks = vec![Box::new(fake::Memory { told: sender, takes: 10 * MS })];
    station.options.signaller.delay = 200 * MS;
    let ran = fake::run(station, &told);
    let counts = &ran.report.counts;
    assert!(counts.pass > 0 && counts.fault(Fault::Late) > 0 && counts.balanced(), "{}", ran.report);
    for (outcome, at) in &ran.parts {
        let margin = 150 * MS; // the scheduler may come between the station's look at the clock and the sink's
        assert!(outcome.verdict != Verdict::Pass || *at <= outcome.due() + margin, "part {}", outcome.sequence);
    }
}

#[test]
fn with_a_delay_nothing_is_told_early() {
    let (mut station, told) = fake::station(Fake::new(alternating(20), 5 * MS), ROOMY);
    station.options.signaller.delay = 2000 * MS;
    let ran = fake::run(station, &told);
    assert_eq!(ran.parts.len(), 20);
    assert!(ran.parts.iter().all(|(outcome, at)| *at >= outcome.captured + 2000 * MS - LEAD));
    assert!(ran.report.latency.quantile(0.5) < 2000 * MS, "latency is to the verdict, not to its due time");
}

#[test]
fn a_delay_that_cannot_be_kept_does_not_start() {
    let (mut station, _told) = fake::station(Fake::new(vec![], MS), ROOMY);
    station.options.signaller.delay = Duration::from_nanos(1);
    assert!(matches!(fake::try_run(station), Err(station::Error::Delay { .. })));
}

struct Broken;

impl Sink for Broken {
    fn apply(&mut self, _: &Outcome) -> Result<(), Error> {
        Err(Error::Write { sink: "a scripted sink".into(), source: std::io::Error::other("scripted") })
    }

    fn fail_safe(&mut self) {}
}

struct Panics;

impl Sink for Panics {
    fn apply(&mut self, outcome: &Outcome) -> Result<(), Error> {
        assert!(outcome.sequence < 3, "scripted");
        Ok(())
    }

    fn fail_safe(&mut self) {}
}

/// Breaks its word once.
struct Hangs;

impl Sink for Hangs {
    fn apply(&mut self, outcome: &Outcome) -> Result<(), Error> {
        if outcome.sequence == 3 {
            std::thread::sleep(Duration::from_millis(2500));
        }
        Ok(())
    }

    fn fail_safe(&mut self) {}
}

/// What whoever asks is shown while a thread hangs: how long READY stayed high, and whether HEARTBEAT went on after it
/// fell.
fn watched(station: Station) -> (Duration, bool, Report) {
    let plc_link = station.plc_link.clone();
    let running = std::thread::spawn(move || fake::try_run(station).unwrap());
    let until = |ready: bool| {
        let begun = clock::now();
        while plc_link.status().ready != ready {
            assert!(clock::now() < begun + Duration::from_secs(30), "READY stays {}", !ready);
            std::thread::sleep(MS);
        }
    };
    until(true);
    // The last part before it hangs is a few milliseconds away.
    let begun = clock::now();
    until(false);
    let fell = clock::now() - begun;
    assert_eq!(plc_link.status().code, fcam::handshake::Condition::Hung.code());
    let before = plc_link.status().heartbeat;
    let beats = (0..100).any(|_| {
        std::thread::sleep(5 * MS);
        plc_link.status().heartbeat != before
    });
    until(true);
    (fell, beats, running.join().unwrap())
}

#[test]
fn a_thread_that_hangs_is_found_out_by_whoever_asks() {
    let (mut station, _told) = fake::station(Fake::new(alternating(1000), 5 * MS), ROOMY);
    station.sinks.insert(0, Box::new(Hangs));
    let (fell, beats, report) = watched(station);
    assert!(fell < Duration::from_secs(1) && !beats, "{fell:?}");
    assert!(report.counts.balanced() && report.panicked.is_empty(), "{report}");

    let mut steps = alternating(20);
    steps.push(Step::Hang(Duration::from_millis(2500)));
    steps.extend(alternating(2000));
    let (station, _told) = fake::station(Fake::new(steps, MS), ROOMY);
    let (fell, beats, report) = watched(station);
    assert!(fell < Duration::from_secs(1) && !beats, "{fell:?}");
    assert!(report.counts.balanced() && report.panicked.is_empty(), "{report}");
}

#[test]
fn a_broken_sink_is_counted_and_stops_nobody() {
    let (mut station, told) = fake::station(Fake::new(alternating(20), MS), ROOMY);
    station.sinks.insert(0, Box::new(Broken));
    let ran = fake::run(station, &told);
    assert_eq!((ran.parts.len(), ran.report.counts.sink_errors), (20, 20));
    assert!(!ran.report.clean() && ran.report.counts.balanced());
}

#[test]
fn a_panic_at_the_outputs_leaves_them_safe_and_ends_the_station() {
    let (mut station, told) = fake::station(Fake::new(alternating(100_000), MS), ROOMY);
    station.sinks.insert(0, Box::new(Panics));
    let ran = fake::run(station, &told);
    assert_eq!(ran.report.panicked, ["actuate"]);
    assert!(ran.safe && ran.parts.len() == 3 && !ran.report.clean());
}

#[test]
fn a_panic_of_the_camera_drains_what_was_captured() {
    let mut steps = alternating(10);
    steps.push(Step::Panic);
    let ran = run(steps, ROOMY);
    assert_eq!(ran.report.panicked, ["capture"]);
    assert!(ran.safe && ran.parts.len() == 10 && ran.report.counts.balanced());
}

/// Shows a part that was triggered, then panics while three more triggers wait.
struct Doomed {
    plc_link: PlcLink,
    camera: Fake,
    asked: u32,
}

impl Camera for Doomed {
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, camera::Error> {
        self.asked += 1;
        let triggered = match self.asked {
            2 => 1..2,
            3 => 2..5,
            _ => 0..0,
        };
        for part_id in triggered {
            assert!(self.plc_link.trigger(clock::now(), part_id).is_some_and(|ticket| ticket.taken), "part {part_id}");
        }
        self.camera.next(deadline)
    }

    fn describe(&self) -> String {
        self.camera.describe()
    }
}

#[test]
fn triggers_that_wait_when_capture_panics_are_faults() {
    let matching = Matching { rule: Rule::Nearest, delay: Duration::ZERO, window: Duration::from_secs(30) };
    let trigger = Trigger::External { queue: 8, matching };
    let (mut station, told) = fake::station(Fake::new(vec![], MS), trigger);
    station.plc_link = PlcLink::new(handshake::HandshakeOptions { external: true, queue: 8, ..Default::default() });
    let steps = vec![frame(BRIGHT), frame(BRIGHT), Step::Panic];
    station.camera = Box::new(Doomed { plc_link: station.plc_link.clone(), camera: Fake::new(steps, MS), asked: 0 });
    let Ran { report, parts, safe } = fake::run(station, &told);
    assert_eq!((report.panicked.as_slice(), safe), (&["capture"][..], true));
    let ended: Vec<_> = parts.iter().map(|(outcome, _)| (outcome.part_id, outcome.verdict.clone())).collect();
    let stopped = Verdict::Fault(Fault::Stopped);
    assert_eq!(ended, [(1, Verdict::Pass), (2, stopped.clone()), (3, stopped.clone()), (4, stopped)]);
    assert!(report.counts.balanced() && !report.clean(), "{report}");
}

#[test]
fn a_disk_that_refuses_never_stops_the_station() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let options = RecorderOptions {
        dir: file,
        keep: Keep::All,
        picture: PictureFormat::Png,
        max_files: 10,
        max_mb: 100,
        free_mb: 0,
    };
    let (mut station, told) = fake::station(Fake::new(alternating(50), MS), ROOMY);
    station.recorder = Some(Recorder::open(options));
    let ran = fake::run(station, &told);
    assert_eq!((ran.parts.len(), ran.report.counts.record_drops), (50, 50));
    assert!(ran.report.clean(), "a verdict needs no disk");
}

#[test]
fn what_is_kept_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = RecorderOptions {
        dir: dir.path().into(),
        keep: Keep::Rejects,
        picture: PictureFormat::Jpg,
        max_files: 1000,
        max_mb: 100,
        free_mb: 0,
    };
    let (mut station, told) = fake::station(Fake::new(alternating(40), 5 * MS), ROOMY);
    station.recorder = Some(Recorder::open(options));
    let ran = fake::run(station, &told);
    let counts = &ran.report.counts;
    assert_eq!(counts.recorded + counts.record_drops, 20);
    let day = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let files = std::fs::read_dir(day).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let masks = files.filter(|name| name.ends_with(".mask.png")).count() as u64;
    assert_eq!(masks, counts.recorded, "each reject has its mask");
    assert!(counts.recorded > 0);
}

/// What must come of a script in which nothing overflows.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    frames: u64,
    incidents: u64,
    lost: u64,
    geometry: u64,
}

fn expect(steps: &[Step]) -> Expected {
    let mut expected = Expected::default();
    let (mut trouble, mut gap, mut heard, mut last) = (false, 0, false, 64);
    for step in steps {
        match *step {
            Step::Frame { side, .. } => {
                if heard && gap > 0 {
                    expected.lost += gap;
                    expected.incidents += 1;
                }
                expected.frames += 1;
                expected.geometry += u64::from(side != last);
                (trouble, gap, heard, last) = (false, 0, true, side);
            }
            Step::Gap(lost) => gap += lost,
            _ => {
                expected.incidents += u64::from(!trouble);
                (trouble, heard) = (true, false);
            }
        }
    }
    expected
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any::<bool>().prop_map(|bright| frame(if bright { BRIGHT } else { DARK })),
        2 => prop_oneof![Just(32), Just(64), Just(96)].prop_map(|side| Step::Frame { level: BRIGHT, side }),
        1 => (1..5u64).prop_map(Step::Gap),
        2 => Just(Step::Error),
        1 => Just(Step::Stall),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_camera_does_every_part_ends_in_one_verdict(steps in prop::collection::vec(step(), 0..60)) {
        let ran = run(steps.clone(), ROOMY);
        let counts = &ran.report.counts;
        let found = Expected {
            frames: counts.frames,
            incidents: counts.incidents,
            lost: counts.lost,
            geometry: counts.fault(Fault::Geometry),
        };
        prop_assert_eq!(&found, &expect(&steps));
        let sequences: Vec<u64> = ran.parts.iter().map(|(outcome, _)| outcome.sequence).collect();
        prop_assert_eq!(sequences, (0..found.frames + found.incidents).collect::<Vec<_>>());
        prop_assert!(counts.balanced() && ran.safe);
        prop_assert_eq!(ran.report.clean(), found.incidents + found.geometry == 0);
    }

    #[test]
    fn free_run_and_a_queue_of_one_balance_too(steps in prop::collection::vec(step(), 0..60), free in any::<bool>()) {
        let trigger = if free { Trigger::FreeRun } else { Trigger::EveryFrame { queue: 1 } };
        let (station, told) = fake::station(Fake::new(steps.clone(), Duration::ZERO), trigger);
        let ran = fake::run(station, &told);
        let counts = &ran.report.counts;
        prop_assert_eq!(counts.frames, expect(&steps).frames);
        prop_assert_eq!(ran.parts.len() as u64 + counts.dropped, counts.frames + counts.incidents);
        prop_assert!(counts.balanced() && ran.safe && (free || counts.dropped == 0));
    }
}
