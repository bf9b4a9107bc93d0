//! Bundles whose first parts go wrong, while the PLC changes jobs and the operator asks again: what judges then is for
//! the parts that come.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use fcam::clock;
use fcam::handshake::{self, Controls, Status};
use fcam::plc_link::PlcLink;
use fcam::station::control::{Client, Reply, Request};
use fcam::station::{Releases, Report, TrialLimits};

use crate::conveyor::{Fire, Sensor};
use crate::installed::{Installed, id};
use crate::swap::{ask, words};
use crate::{FIRED, QUEUE, Told, start, station};

/// None of their first parts may go wrong, and no number of good ones is enough.
pub const STRICT: TrialLimits = TrialLimits { parts: 1_000_000, faults: 0 };

/// A station with other bundles, at a line of good parts.
pub struct Judging {
    pub plc_link: PlcLink,
    fire: Sender<Fire>,
    told: Receiver<Told>,
    running: JoinHandle<Report>,
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let patience = clock::now() + Duration::from_secs(60);
    while !holds() {
        assert!(clock::now() < patience, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Judging {
    pub fn new(releases: Releases) -> Self {
        let plc_link = PlcLink::new(handshake::HandshakeOptions { external: true, queue: QUEUE, ..Default::default() });
        let (fire, fired) = channel();
        let (mut station, told) = station(Box::new(Sensor::new(fired)), FIRED, None, &plc_link);
        station.options.signaller.delay = Duration::ZERO;
        station.releases = Some(releases);
        let running = start(station, &plc_link);
        Self { plc_link, fire, told, running }
    }

    fn status(&self) -> Status {
        self.plc_link.status()
    }

    /// So many triggers at once, and their results.
    fn triggers(&self, count: usize) {
        let tickets: Vec<_> =
            (0..count).map(|part| self.plc_link.trigger(clock::now(), part as u32 + 1).unwrap()).collect();
        for ticket in tickets.iter().filter(|ticket| ticket.taken) {
            self.fire.send(Fire { at: ticket.at, good: true, trouble: None }).unwrap();
        }
        for _ in tickets {
            self.told.recv_timeout(Duration::from_secs(60)).expect("each trigger ends in one result");
        }
    }

    /// More triggers than there are places for.
    fn crowd(&self) {
        until("ready", || self.status().ready);
        self.triggers(3 * QUEUE);
    }

    /// The PLC asks for a job that can be had.
    pub fn change_job(&self, job: u16) {
        assert!(self.plc_link.update(|handshake| handshake.ask_job(job)));
        until("the job is settled", || !self.status().job_busy);
        assert_eq!((self.status().job, self.status().job_failed), (job, false));
    }

    /// Has a bundle run, on trial. The first answer to whoever asks again is that it does.
    fn try_out(&self, installed: &Installed, name: &str) -> Client {
        let mut client = Client::connect(&installed.socket()).unwrap().unwrap();
        client.ask(&Request::Activate(id(name))).unwrap();
        loop {
            match client.next(Duration::from_secs(60)).unwrap() {
                Some(Reply::Running { .. }) => return client,
                Some(Reply::Proving { .. }) => {}
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    pub fn end(self) {
        drop(self.fire);
        let report = self.running.join().unwrap();
        assert!(report.counts.balanced() && report.panicked.is_empty(), "{report}");
    }
}

/// Why it was given up.
fn failure(client: &mut Client) -> String {
    match client.next(Duration::from_secs(60)).unwrap() {
        Some(Reply::Failed { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// With `strict.9` for job 2; job 1 is `tiny`.
pub fn with_jobs(limits: TrialLimits) -> (Installed, Releases) {
    let installed = Installed::new();
    installed.install(&installed.changed("strict", &[("name = \"tiny\"", "name = \"strict\"")]), "strict", 9);
    let mut releases = installed.releases(limits);
    releases.jobs = [(1, "tiny".parse().unwrap()), (2, "strict".parse().unwrap())].into();
    (installed, releases)
}

#[test]
fn a_job_that_is_refused_may_be_asked_for_again_at_once() {
    let (_installed, releases) = with_jobs(STRICT);
    let judging = Judging::new(releases);
    for job in [9, 9, 9, 9, 9] {
        assert!(judging.plc_link.update(|handshake| handshake.ask_job(job)));
        until("the answer", || !judging.status().job_busy);
        assert!(judging.status().job_failed);
    }
    judging.change_job(2);
    judging.end();
}

#[test]
fn after_a_change_of_jobs_the_release_before_takes_the_place_of_one_that_fails() {
    let (installed, releases) = with_jobs(STRICT);
    let judging = Judging::new(releases);
    let _client = judging.try_out(&installed, "tiny.2");
    judging.change_job(2);
    judging.change_job(1);
    assert_eq!(judging.status().release, 2, "the release that was activated");
    judging.crowd();
    until("the release before", || judging.status().release == 1);
    assert_eq!((judging.status().job, judging.status().job_failed), (1, false));
    until("what failed is written down", || installed.store.state().unwrap().active() == Some(&id("tiny.1")));
    let state = installed.store.state().unwrap();
    assert!(state.withdrawn[&id("tiny.2")].contains("found no place to wait"), "{state:?}");
    judging.change_job(2);
    judging.change_job(1);
    assert_eq!(judging.status().release, 1, "what was given up is not chosen");
    judging.end();
}

/// Not the bundle that judges: the operator's is for the parts of another job.
#[test]
fn a_bundle_of_another_job_waits_for_its_parts() {
    let (installed, releases) = with_jobs(TrialLimits { parts: 0, faults: 0 });
    let judging = Judging::new(releases);
    judging.change_job(2);
    assert_eq!(words(&ask(&installed, &Request::Activate(id("tiny.2")))), ["proving", "waiting"]);
    assert_eq!((judging.status().job, judging.status().release), (2, 9));
    assert_eq!(installed.store.state().unwrap().active(), Some(&id("tiny.2")));
    judging.change_job(1);
    assert_eq!(judging.status().release, 2);
    until("its trial is over", || installed.store.state().unwrap().trials.is_empty());
    assert_eq!(words(&ask(&installed, &Request::Activate(id("strict.9")))), ["proving", "waiting"]);
    assert_eq!(words(&ask(&installed, &Request::Activate(id("tiny.2")))), ["proving", "running", "passed"]);
    assert_eq!(words(&ask(&installed, &Request::Rollback)), ["proving", "passed"]);
    assert_eq!((judging.status().job, judging.status().release), (1, 1), "the release before it, not the other job's");
    judging.end();
}

/// Releases for two jobs, one after the other: each is watched when its parts come.
#[test]
fn a_bundle_that_waits_is_watched_when_its_job_comes() {
    let (installed, releases) = with_jobs(STRICT);
    installed.install(&installed.changed("newer", &[("name = \"tiny\"", "name = \"strict\"")]), "strict", 10);
    let judging = Judging::new(releases);
    judging.change_job(2);
    assert_eq!(words(&ask(&installed, &Request::Activate(id("tiny.2")))), ["proving", "waiting"]);
    let _client = judging.try_out(&installed, "strict.9");
    judging.change_job(1);
    assert_eq!(judging.status().release, 2);
    judging.crowd();
    until("the release before", || judging.status().release == 1);
    let state = installed.store.state().unwrap();
    assert_eq!(state.trials.keys().collect::<Vec<_>>(), [&id("strict.9")], "it has its own trial");
    assert!(state.withdrawn.contains_key(&id("tiny.2")));
    judging.end();
}

/// The PLC chose it, it was never activated, and the operator does that now.
#[test]
fn a_bundle_is_nothing_to_fall_back_to_for_itself() {
    let (installed, releases) = with_jobs(STRICT);
    let judging = Judging::new(releases);
    judging.change_job(2);
    let mut client = judging.try_out(&installed, "strict.9");
    judging.crowd();
    assert!(failure(&mut client).contains("but it judges on: no other bundle"));
    assert_eq!((judging.status().job, judging.status().release), (2, 9));
    assert_eq!(installed.store.state().unwrap().withdrawn.len(), 0);
    judging.change_job(1);
    judging.change_job(2);
    judging.end();
}

#[test]
fn a_bundle_on_trial_that_is_asked_for_again_is_still_on_trial() {
    let installed = Installed::new();
    let judging = Judging::new(installed.releases(STRICT));
    let _first = judging.try_out(&installed, "tiny.2");
    let mut again = judging.try_out(&installed, "tiny.2");
    judging.crowd();
    assert!(failure(&mut again).contains("found no place to wait"));
    assert_eq!(judging.status().release, 1);
    assert_eq!(installed.store.state().unwrap().active(), Some(&id("tiny.1")));
    judging.end();
}

#[test]
fn a_bundle_on_trial_is_nothing_to_fall_back_to() {
    let installed = Installed::new();
    installed.install(&installed.changed("more", &[]), "tiny", 4);
    let judging = Judging::new(installed.releases(STRICT));
    let _first = judging.try_out(&installed, "tiny.2");
    let mut second = judging.try_out(&installed, "tiny.4");
    judging.crowd();
    failure(&mut second);
    assert_eq!(judging.status().release, 1, "what is through its first parts");
    let state = installed.store.state().unwrap();
    assert_eq!(state.active(), Some(&id("tiny.1")));
    assert!(state.withdrawn[&id("tiny.2")].contains("tiny.4 took its place"), "{state:?}");
    judging.end();
}

#[test]
fn a_bundle_on_trial_that_is_rolled_back_says_so() {
    let installed = Installed::new();
    installed.install(&installed.changed("more", &[]), "tiny", 4);
    for name in ["tiny.4", "tiny.1"] {
        installed.store.update(|state| state.activate(&id(name))).unwrap();
        installed.store.update(|state| state.pass(&id(name))).unwrap();
    }
    let judging = Judging::new(installed.releases(STRICT));
    let _client = judging.try_out(&installed, "tiny.2");
    assert_eq!(words(&ask(&installed, &Request::Rollback)), ["proving", "passed"]);
    let state = installed.store.state().unwrap();
    assert_eq!((state.active(), judging.status().release), (Some(&id("tiny.1")), 1));
    assert_eq!(state.withdrawn[&id("tiny.2")], "rolled back by the operator");
    judging.end();
}

/// Another bundle, the embedded one above all, would know other parts.
#[test]
fn the_only_bundle_judges_on() {
    let installed = Installed::new();
    installed.store.update(|state| state.activate(&id("tiny.1"))).unwrap();
    let judging = Judging::new(Releases { trial: true, ..installed.releases(STRICT) });
    judging.crowd();
    until("its trial is over", || installed.store.state().unwrap().trials.is_empty());
    let state = installed.store.state().unwrap();
    assert_eq!((state.active(), state.withdrawn.len()), (Some(&id("tiny.1")), 0));
    judging.triggers(1);
    assert_eq!(judging.status().release, 1);
    judging.end();
}

#[test]
fn parts_that_a_bundle_does_not_see_say_nothing_of_it() {
    let installed = Installed::new();
    let judging = Judging::new(installed.releases(TrialLimits { parts: 10, faults: 0 }));
    let mut client = judging.try_out(&installed, "tiny.2");
    let offline = |set_offline| judging.plc_link.control(Controls { set_offline, ..Controls::default() }, clock::now());
    offline(true);
    judging.triggers(100);
    assert_eq!(client.next(Duration::from_millis(300)).unwrap(), None, "it is not through");
    offline(false);
    let passed = || installed.store.state().unwrap().trials.is_empty();
    until("it is through", || {
        if judging.status().ready {
            judging.triggers(1);
        }
        passed()
    });
    assert_eq!(installed.store.state().unwrap().active(), Some(&id("tiny.2")));
    judging.end();
}
