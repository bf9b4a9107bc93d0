//! Other bundles take their place while parts come: none is lost, none is judged twice, and each bundle judges its own.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use fcam::clock;
use fcam::handshake;
use fcam::plc_link::PlcLink;
use fcam::station::control::{Client, Reply, Request};
use fcam::station::{Report, TrialLimits};
use fcam::verdict::{Fault, Verdict};

use crate::conveyor::{Conveyor, Fire, Sensor};
use crate::installed::{Installed, id};
use crate::plc::{Link, Plc};
use crate::random::Random;
use crate::{BAUD, FIRED, PATIENCE, QUEUE, Told, number, report, start, station};

/// From a trigger to its outputs, on a machine that does much else.
const ROOMY: Duration = Duration::from_millis(400);

/// Everything that is said of a request; nothing if the line has ended.
pub fn ask(installed: &Installed, request: &Request) -> Vec<Reply> {
    let mut said = vec![];
    let Ok(Some(mut client)) = Client::connect(&installed.socket()) else { return said };
    if client.ask(request).is_err() {
        return said;
    }
    while let Ok(Some(reply)) = client.next(Duration::from_secs(60)) {
        let over = !matches!(reply, Reply::Proving { .. } | Reply::Running { .. });
        said.push(reply);
        if over {
            break;
        }
    }
    said
}

/// True if the line ended before all was said.
fn is_cut(said: &[Reply]) -> bool {
    match said.last() {
        None | Some(Reply::Proving { .. } | Reply::Running { .. }) => true,
        Some(Reply::Failed { reason, .. } | Reply::Refused { reason }) => reason.contains("about to end"),
        Some(_) => false,
    }
}

pub fn words(said: &[Reply]) -> Vec<String> {
    let word = |reply: &Reply| serde_json::to_value(reply).unwrap()["event"].as_str().unwrap().to_owned();
    said.iter().map(word).collect()
}

/// The whole line, with everything that goes wrong on it, while bundles are changed as fast as that goes: a good one,
/// one whose proof fails, back, and one that is given up because parts of the line are late.
#[test]
fn no_part_is_lost_while_bundles_are_changed() {
    let triggers = number("FCAM_LINE_TRIGGERS", 4000);
    let installed = Installed::new();
    let plc_link = PlcLink::new(handshake::HandshakeOptions { external: true, queue: QUEUE, ..Default::default() });
    let (fire, fired) = channel();
    let link = Link::new(BAUD);
    let serial = fcam::sink::Serial::start(crate::serial_options(link.path().into()), plc_link.clone()).unwrap();
    let (mut station, told) = station(Box::new(Sensor::new(fired)), FIRED, Some(serial), &plc_link);
    // So that a busy machine keeps up, and its late parts are no reason to go back.
    station.options.signaller.delay = ROOMY;
    station.options.engine.threads = 2; // those of an engine that is replaced end, while the next one's judge
    station.releases = Some(installed.releases(TrialLimits { parts: 20, faults: 1_000_000 }));
    let running = start(station, &plc_link);
    let plc = Plc::start(link, ROOMY + PATIENCE);
    let changes = AtomicU64::new(0);
    let parts = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for round in 0.. {
                let activate = |which: &str| Request::Activate(id(which));
                let said = [
                    ask(&installed, &activate("tiny.2")),
                    ask(&installed, &activate("tiny.3")),
                    ask(&installed, &Request::Rollback),
                ];
                if said.iter().any(|said| is_cut(said)) {
                    break;
                }
                let said = said.map(|said| words(&said));
                assert_eq!(said[0], ["proving", "running", "passed"], "round {round}");
                assert_eq!(said[1], ["proving", "failed"], "round {round}");
                assert_eq!(said[2], ["proving", "passed"], "round {round}");
                changes.fetch_add(2, Relaxed);
            }
        });
        let mut parts = vec![];
        // A quarter of them more, as often as it takes: a busy machine proves slowly.
        for quarter in 0..60 {
            let (fire, chance) = (fire.clone(), Random(1 + quarter));
            parts.extend(Conveyor { plc_link: &plc_link, fire, plc: &plc, chance }.run(triggers / 4));
            if changing.is_finished() || (quarter >= 3 && changes.load(Relaxed) >= 2) {
                break;
            }
        }
        drop(fire);
        assert!(changing.join().is_ok(), "the changes failed");
        parts
    });
    let changes = changes.into_inner();
    let report = running.join().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let (told, decisions): (Vec<Told>, _) = (told.try_iter().collect(), plc.stop());
    println!("{changes} changes of the bundle among {} parts\n{report}", parts.len());
    assert_eq!(told.len(), parts.len(), "one result for each trigger");
    for (index, (part, told)) in parts.iter().zip(&told).enumerate() {
        report::check(index as u64, part, told);
    }
    for (part, decision) in decisions.iter().enumerate() {
        report::check_passed(part, &parts, &told, decision);
    }
    assert!(changes >= 2 && report.counts.balanced() && report.panicked.is_empty(), "{report}");
}

/// Good parts one after the other until `enough` says so; returns what was told of each.
fn good_parts(
    plc_link: &PlcLink,
    fire: &std::sync::mpsc::Sender<Fire>,
    told: &Receiver<Told>,
    enough: impl Fn() -> bool,
) -> Vec<Told> {
    let mut all = vec![];
    let patience = clock::now() + Duration::from_secs(120);
    while !enough() {
        assert!(clock::now() < patience, "nothing happens");
        if plc_link.status().busy || !plc_link.status().ready {
            std::thread::yield_now();
            continue;
        }
        let ticket = plc_link.trigger(clock::now(), all.len() as u32 + 1).unwrap();
        if ticket.taken {
            fire.send(Fire { at: ticket.at, good: true, trouble: None }).unwrap();
        }
        all.push(told.recv_timeout(Duration::from_secs(60)).expect("each trigger ends in one result"));
    }
    all
}

struct Changed {
    told: Vec<Told>,
    said: Vec<Reply>,
    report: Report,
    job: u16,
}

/// A station of good parts, and what came of one request while they came.
fn changed(installed: &Installed, limits: TrialLimits, request: &Request, slow: Duration) -> Changed {
    let plc_link = PlcLink::new(handshake::HandshakeOptions { external: true, queue: QUEUE, ..Default::default() });
    let (fire, fired) = channel();
    let (mut station, told) = station(Box::new(Sensor::new(fired)), FIRED, None, &plc_link);
    station.options.signaller.delay = slow;
    station.releases = Some(installed.releases(limits));
    let running = start(station, &plc_link);
    let (told, said) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(installed, request));
        let mut all = good_parts(&plc_link, &fire, &told, || asking.is_finished());
        let more = clock::now() + Duration::from_millis(200);
        all.extend(good_parts(&plc_link, &fire, &told, || clock::now() > more));
        (all, asking.join().unwrap())
    });
    let job = plc_link.status().job;
    drop(fire);
    Changed { told, said, report: running.join().unwrap(), job }
}

#[test]
fn one_bundle_judges_up_to_a_part_and_the_other_from_the_next_one_on() {
    let installed = Installed::new();
    let rejects_all = [("score = 0.5", "score = 0.0"), ("verdict = \"pass\"", "verdict = \"reject\"")];
    installed.install(&installed.changed("strict", &rejects_all), "tiny", 4);
    let limits = TrialLimits { parts: 10, faults: 1_000_000 };
    let Changed { told, said, report, job } =
        changed(&installed, limits, &Request::Activate(id("tiny.4")), Duration::ZERO);
    assert_eq!(words(&said), ["proving", "running", "passed"]);
    let judged: Vec<bool> = told
        .iter()
        .filter(|told| !matches!(told.outcome.verdict, Verdict::Fault(Fault::NoFrame | Fault::Missed)))
        .map(|told| told.outcome.verdict == Verdict::Pass)
        .collect();
    let first = judged.iter().position(|pass| !pass).expect("the new bundle judged");
    assert!(first > 0 && judged[first..].iter().all(|pass| !pass), "{judged:?}");
    let numbers: Vec<u64> = told.iter().map(|told| told.outcome.sequence).collect();
    assert_eq!(numbers, (0..told.len() as u64).collect::<Vec<_>>());
    assert!(report.counts.balanced() && report.panicked.is_empty() && job == 0, "{report}");
    let state = installed.store.state().unwrap();
    assert_eq!((state.active(), state.trials.len()), (Some(&id("tiny.4")), 0));
}

#[test]
fn a_bundle_that_is_late_is_given_up_and_the_one_before_goes_on() {
    let installed = Installed::new();
    // Every part is late, whoever judges it.
    let limits = TrialLimits { parts: 1_000_000, faults: 3 };
    let plc_link = PlcLink::new(handshake::HandshakeOptions { external: true, queue: QUEUE, ..Default::default() });
    let (fire, fired) = channel();
    let (mut station, told) = station(Box::new(Sensor::new(fired)), FIRED, None, &plc_link);
    station.options.signaller.delay = Duration::from_secs(1);
    station.sinks.insert(0, Box::new(Hold));
    station.releases = Some(installed.releases(limits));
    let running = start(station, &plc_link);
    let (mut sent, mut heard) = (0, 0);
    let said = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&installed, &Request::Activate(id("tiny.2"))));
        let patience = clock::now() + Duration::from_secs(120);
        while !asking.is_finished() {
            assert!(clock::now() < patience, "it is never given up");
            std::thread::sleep(Duration::from_millis(10));
            heard += told.try_iter().count();
            // So many are under way that all of them are late, and no more.
            if sent > heard + 40 || !plc_link.status().ready {
                continue;
            }
            if let Some(ticket) = plc_link.trigger(clock::now(), 1) {
                sent += 1;
                if ticket.taken {
                    fire.send(Fire { at: ticket.at, good: true, trouble: None }).unwrap();
                }
            }
        }
        asking.join().unwrap()
    });
    assert_eq!(plc_link.status().release, 1, "the PLC is told of the release that judges again");
    drop(fire);
    let report = running.join().unwrap();
    assert_eq!(words(&said), ["proving", "running", "failed"]);
    let Some(Reply::Failed { reason, .. }) = said.last() else { panic!("{said:?}") };
    assert!(reason.contains("were late"), "{reason}");
    let state = installed.store.state().unwrap();
    assert_eq!(state.active(), Some(&id("tiny.1")));
    assert!(state.withdrawn[&id("tiny.2")].contains("were late"));
    assert!(report.counts.balanced() && report.counts.late > 3, "{report}");
    assert_eq!((heard + told.try_iter().count()) as u64, report.counts.verdicts());
}

/// A sink that keeps every part from the others for longer than there is time.
struct Hold;

impl fcam::sink::Sink for Hold {
    fn apply(&mut self, _: &fcam::outcome::Outcome) -> Result<(), fcam::sink::Error> {
        std::thread::sleep(Duration::from_millis(60));
        Ok(())
    }

    fn fail_safe(&mut self) {}
}

/// The PLC changes jobs: READY is low until the other bundle judges, and a job that is not there is refused.
#[test]
fn the_plc_chooses_among_bundles_by_their_jobs() {
    let installed = Installed::new();
    let rejects_all = [
        ("score = 0.5", "score = 0.0"),
        ("verdict = \"pass\"", "verdict = \"reject\""),
        ("name = \"tiny\"", "name = \"strict\""),
    ];
    installed.install(&installed.changed("strict", &rejects_all), "strict", 9);
    let plc_link = PlcLink::new(handshake::HandshakeOptions { external: true, queue: QUEUE, ..Default::default() });
    let (fire, fired) = channel();
    let (mut station, told) = station(Box::new(Sensor::new(fired)), FIRED, None, &plc_link);
    station.options.signaller.delay = Duration::ZERO;
    let mut releases = installed.releases(TrialLimits { parts: 5, faults: 1_000_000 });
    let tiny = "tiny.1".parse().unwrap();
    releases.jobs =
        [(1, tiny), (2, "strict".parse().unwrap()), (3, "tiny.3".parse().unwrap()), (4, "none".parse().unwrap())]
            .into();
    station.releases = Some(releases);
    let running = start(station, &plc_link);
    assert_eq!((plc_link.status().job, plc_link.status().release), (1, 1), "of the bundle that it starts with");
    let some = std::cell::Cell::new(0);
    let judge = || {
        some.set(0);
        let told = good_parts(&plc_link, &fire, &told, || some.replace(some.get() + 1) > 200);
        let judged: Vec<bool> = told
            .iter()
            .filter(|told| !matches!(told.outcome.verdict, Verdict::Fault(_)))
            .map(|told| told.outcome.verdict == Verdict::Pass)
            .collect();
        assert!(judged.windows(2).all(|pair| pair[0] == pair[1]), "{judged:?}");
        judged.first().copied()
    };
    let change = |job: u16| {
        assert!(plc_link.update(|handshake| handshake.ask_job(job)));
        let patience = clock::now() + Duration::from_secs(60);
        let status = loop {
            let status = plc_link.status();
            if !status.job_busy {
                break status;
            }
            assert!(!status.ready && clock::now() < patience, "job {job}");
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!(status.release, [1, 9][usize::from(status.job) - 1], "the release of the job that runs");
        (status.job, status.job_failed)
    };
    assert_eq!(judge(), Some(true));
    assert_eq!(change(2), (2, false));
    assert_eq!(judge(), Some(false), "another bundle judges");
    assert_eq!(change(3), (2, true), "its proof fails");
    assert_eq!(change(4), (2, true), "it is not installed");
    assert_eq!(change(5), (2, true), "it is not in the table");
    assert_eq!(judge(), Some(false));
    assert_eq!(change(1), (1, false));
    assert_eq!(judge(), Some(true));
    drop(fire);
    let report = running.join().unwrap();
    assert!(report.counts.balanced() && report.panicked.is_empty(), "{report}");
    assert_eq!(installed.store.state().unwrap().active(), Some(&id("tiny.1")), "a job is not kept for the next start");
}
