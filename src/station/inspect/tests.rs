//! What a panic of the engine does to its part, to the next, and to the station.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::bundle::{Bundle, Parcel, Release, SigningKey, generate};
use crate::camera::{Camera, Pattern};
use crate::clock;
use crate::engine::int8::sabotage::{self, Blow, Strike, Whom};
use crate::outcome::Outcome;
use crate::pipeline::PipelineOptions;
use crate::signal::Signaller;
use crate::sink::{Error, Sink};
use crate::station::control::{Client, Reply, Request, Socket};
use crate::station::{Releases, Report, RunState, Station, Stop, TrialLimits, Trigger};
use crate::store::{Id, Room, Store};
use crate::verdict::{Fault, Verdict};

use std::sync::Mutex;

#[path = "../../../tests/common/random.rs"]
mod random;

/// Parts at which the engine panics; the tests that use it run one after the other.
static SABOTAGED: Mutex<Vec<u64>> = Mutex::new(vec![]);
static ALONE: Mutex<()> = Mutex::new(());

/// The engine panics at the next part, whichever that is.
static NEXT: AtomicBool = AtomicBool::new(false);

/// Parts at which a step of the engine goes wrong.
static STRIKES: Mutex<Vec<(u64, Strike)>> = Mutex::new(vec![]);

pub(super) fn sabotage(sequence: u64) {
    let strikes = STRIKES.lock().unwrap().clone();
    strikes.into_iter().filter(|(part, _)| *part == sequence).for_each(|(_, strike)| sabotage::strike_next_run(strike));
    assert!(!NEXT.swap(false, Relaxed), "sabotage of the next part");
    let hit = SABOTAGED.lock().unwrap().contains(&sequence);
    assert!(!hit, "sabotage of part {sequence}");
}

/// The part at which the thread itself panics; 0 for none.
static WRECKED: AtomicU64 = AtomicU64::new(0);

pub(super) fn wreck(sequence: u64) {
    assert!(sequence == 0 || sequence != WRECKED.load(Relaxed), "wreck of part {sequence}");
}

struct Collect(std::sync::mpsc::Sender<Outcome>);

impl Sink for Collect {
    fn apply(&mut self, outcome: &Outcome) -> Result<(), Error> {
        self.0.send(outcome.clone()).unwrap();
        Ok(())
    }

    fn fail_safe(&mut self) {}
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/tiny")
}

fn run(frames: u64, sabotaged: &[u64]) -> (Report, Vec<Outcome>) {
    run_wrecked(frames, sabotaged, 0)
}

fn run_wrecked(frames: u64, sabotaged: &[u64], wrecked: u64) -> (Report, Vec<Outcome>) {
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    *SABOTAGED.lock().unwrap() = sabotaged.to_vec();
    WRECKED.store(wrecked, Relaxed);
    let done = finish(station(frames));
    SABOTAGED.lock().unwrap().clear();
    WRECKED.store(0, Relaxed);
    done
}

/// A station whose engine has this many threads, struck like this.
fn run_struck(frames: u64, threads: usize, strikes: &[(u64, Strike)]) -> (Report, Vec<Outcome>) {
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    *STRIKES.lock().unwrap() = strikes.to_vec();
    let (mut station, collected) = station(frames);
    station.options.engine.threads = threads;
    let done = finish((station, collected));
    STRIKES.lock().unwrap().clear();
    done
}

fn finish((station, collected): (Station, Receiver<Outcome>)) -> (Report, Vec<Outcome>) {
    let line = station.plc_link.clone();
    let report = station.run(&Stop::default()).unwrap();
    let outcomes: Vec<Outcome> = collected.try_iter().collect();
    assert_eq!(line.number(), outcomes.len() as u64, "every number that was given out has its result");
    (report, outcomes)
}

fn station(frames: u64) -> (Station, Receiver<Outcome>) {
    let bundle = Bundle::open(&tiny()).unwrap();
    let camera = Pattern::open(bundle.samples(), Some((64, 64))).unwrap().pace(100.0).limit(frames);
    let (sender, collected) = std::sync::mpsc::channel();
    let signaller = Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) };
    let station = Station {
        geometry: Some(camera.geometry()),
        camera: Box::new(camera) as Box<dyn Camera>,
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
        bundle,
        trigger: Trigger::EveryFrame { queue: 256 },
        timeout: Duration::from_secs(10),
        frames: None,
        plc_link: Default::default(),
        sinks: vec![Box::new(Collect(sender))],
        recorder: None,
        summary: Duration::from_secs(60),
        releases: None,
        window: None,
    };
    (station, collected)
}

fn is_engine_fault(outcome: &Outcome) -> bool {
    outcome.verdict == Verdict::Fault(Fault::Engine)
}

#[test]
fn a_panic_costs_one_part() {
    // Sequence 0 is the warm-up's too, so the first sabotaged part is a later one.
    let (report, outcome) = run(10, &[3, 4, 7]);
    let faults: Vec<u64> = outcome.iter().filter(|part| is_engine_fault(part)).map(|part| part.sequence).collect();
    assert_eq!(faults, [3, 4, 7]);
    assert_eq!((outcome.len(), report.counts.panics, report.counts.fault(Fault::Engine)), (10, 3, 3));
    assert!(report.counts.balanced() && !report.clean() && report.panicked.is_empty());
}

/// A step of each part but the first may panic or stall, in one thread or in all; never three panics in a row.
fn random_strikes(parts: u64, threads: usize, random: &mut random::Random) -> Vec<(u64, Strike)> {
    let (mut strikes, mut row) = (vec![], 0);
    for sequence in 1..parts {
        let blow = match random.below(6) {
            0 | 1 if row < 2 => Blow::Panic,
            2 => Blow::Stall(1 + random.below(20) as u16),
            _ => {
                row = 0;
                continue;
            }
        };
        row = if blow == Blow::Panic { row + 1 } else { 0 };
        let whom = match random.below(3) {
            0 => Whom::All,
            1 => Whom::Part(random.below(threads)),
            _ => Whom::Thread(random.below(threads)),
        };
        strikes.push((sequence, Strike { step: random.below(1000), whom, blow }));
    }
    strikes
}

/// Whatever number of threads the engine has, and in whichever of them a step fails.
#[test]
fn random_faults_in_the_engine_cost_their_parts_and_no_others() {
    let _alone = sabotage::alone();
    const PARTS: u64 = 60;
    let (_, expected) = run(PARTS, &[]);
    for threads in [1, 2, 4] {
        let strikes = random_strikes(PARTS, threads, &mut random::Random(threads as u64));
        let panics: Vec<u64> =
            strikes.iter().filter(|(_, strike)| strike.blow == Blow::Panic).map(|(sequence, _)| *sequence).collect();
        assert!(panics.len() > 5 && panics.len() < strikes.len(), "{strikes:?}");
        let (report, outcome) = run_struck(PARTS, threads, &strikes);
        assert_eq!(outcome.len(), expected.len(), "one result for each part");
        for (told, expected) in outcome.iter().zip(&expected) {
            let wanted = match panics.contains(&told.sequence) {
                true => &Verdict::Fault(Fault::Engine),
                false => &expected.verdict,
            };
            assert_eq!(&told.verdict, wanted, "part {} on {threads} threads", told.sequence);
        }
        assert_eq!(report.counts.panics, panics.len() as u64);
        assert!(report.counts.balanced() && report.panicked.is_empty(), "{report}");
        sabotage::threads_are(0);
    }
}

#[test]
fn panics_in_a_row_stop_the_station_and_still_close_every_part() {
    let (report, outcome) = run(1_000_000, &[2, 3, 4]);
    assert_eq!(report.counts.panics, 3);
    assert!(report.counts.balanced() && outcome.len() as u64 == report.counts.frames);
    assert!(outcome.iter().skip(2).all(is_engine_fault));
}

#[test]
fn a_panic_of_the_thread_itself_leaves_no_part_open() {
    let (report, outcome) = run_wrecked(1_000_000, &[], 5);
    assert_eq!(report.panicked, ["inspect"]);
    assert!(report.counts.balanced() && outcome.len() as u64 == report.counts.frames, "{report}");
    let engine_faults: Vec<bool> = outcome.iter().map(is_engine_fault).collect();
    assert_eq!(engine_faults.iter().filter(|fault| !**fault).count(), 5, "{engine_faults:?}");
    assert!(engine_faults.len() >= 6 && engine_faults.iter().skip(5).all(|fault| *fault), "{engine_faults:?}");
}

fn id(counter: u64) -> Id {
    Id { name: "tiny".into(), counter }
}

/// The tiny bundle as `tiny.1`, which is active, and `tiny.2`.
fn store(dir: &Path) -> Store {
    let (public, secret) = generate(false, None).unwrap();
    std::fs::create_dir(dir.join("keys")).unwrap();
    std::fs::write(dir.join("keys/a.pub"), public).unwrap();
    let store = Store::new(dir.join("store"), dir.join("keys"));
    let mut parcel = Parcel::pack(&tiny(), &[]).unwrap();
    let version = parcel.open(&[]).unwrap().manifest().version.clone();
    for counter in [1, 2] {
        let release = Release { name: "tiny".into(), version: version.clone(), counter, targets: vec!["any".into()] };
        parcel.sign(&SigningKey::parse(&secret, None).unwrap(), &release).unwrap();
        store.install(&parcel, &[], Room { keep: 3, free_mb: 0 }).unwrap();
    }
    store.update(|state| state.activate(&id(1))).unwrap();
    store.update(|state| state.pass(&id(1))).unwrap();
    store
}

/// What cannot be handed over was not changed: the next start has what judges now.
#[test]
fn a_station_that_ends_keeps_the_bundle_that_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let (store, socket) = (store(dir.path()), dir.path().join("control.sock"));
    let before = store.state().unwrap();
    let releases = Releases {
        store: store.clone(),
        socket: Some(Socket::open(&socket).unwrap()),
        running: Some(id(1)),
        spare: vec![],
        trial: false,
        jobs: Default::default(),
        limits: TrialLimits { parts: 1, faults: 0 },
    };
    let (station, _) = station(1);
    let (swap, attend) = releases.attend(&station.options, station.geometry.unwrap(), &station.plc_link);
    let attending = std::thread::spawn(|| attend.run());
    let mut client = Client::connect(&socket).unwrap().unwrap();
    client.ask(&Request::Activate(id(2))).unwrap();
    let patience = clock::now() + Duration::from_secs(60);
    while store.state().unwrap().active() != Some(&id(2)) {
        assert!(clock::now() < patience, "it is never written down");
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(swap); // which never took it
    attending.join().unwrap();
    assert_eq!(store.state().unwrap(), before);
    let said: Vec<Reply> = std::iter::from_fn(|| client.next(Duration::from_secs(60)).unwrap()).collect();
    let failed = Reply::Failed { bundle: id(2), reason: "the station is about to end".into() };
    assert_eq!(said, [Reply::Proving { bundle: id(2) }, failed]);
}

#[test]
fn a_panic_on_trial_brings_the_bundle_before_back() {
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    let dir = tempfile::tempdir().unwrap();
    let (store, socket) = (store(dir.path()), dir.path().join("control.sock"));
    let (mut station, collected) = station(1_000_000);
    station.releases = Some(Releases {
        store: store.clone(),
        socket: Some(Socket::open(&socket).unwrap()),
        running: Some(id(1)),
        spare: vec![],
        trial: false,
        jobs: Default::default(),
        limits: TrialLimits { parts: 1_000_000, faults: 1_000_000 },
    });
    let stop = Stop::default();
    let (report, said) = std::thread::scope(|scope| {
        let running = scope.spawn(|| station.run(&stop).unwrap());
        collected.recv_timeout(Duration::from_secs(60)).unwrap();
        let mut client = Client::connect(&socket).unwrap().unwrap();
        client.ask(&Request::Activate(id(2))).unwrap();
        let mut said = vec![];
        while let Some(reply) = client.next(Duration::from_secs(60)).unwrap() {
            NEXT.store(matches!(reply, Reply::Running { .. }), Relaxed);
            let over = matches!(reply, Reply::Failed { .. });
            said.push(reply);
            if over {
                break;
            }
        }
        stop.ask(RunState::Drain);
        (running.join().unwrap(), said)
    });
    let reason = "the engine panicked at a part".to_owned();
    let expected = [
        Reply::Proving { bundle: id(2) },
        Reply::Running { bundle: id(2), watched: 1_000_000 },
        Reply::Failed { bundle: id(2), reason: reason.clone() },
    ];
    assert_eq!(said, expected);
    assert!(report.counts.panics == 1 && report.counts.balanced() && report.panicked.is_empty(), "{report}");
    let state = store.state().unwrap();
    assert_eq!((state.active(), state.withdrawn.get(&id(2))), (Some(&id(1)), Some(&reason)));
}
