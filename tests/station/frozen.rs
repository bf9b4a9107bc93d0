//! A camera that sends the same picture again and again, against the real threads.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fcam::camera::{Camera, Error, Frame, Live};
use fcam::clock::{self, Timestamp};
use fcam::handshake;
use fcam::plc_link::PlcLink;
use fcam::station::{Matching, Rule, Trigger};
use fcam::verdict::Fault;

use super::fake::{self, BRIGHT, DARK, Fake, Ran, Step, frame};

const LIMIT: u64 = 3;
const MS: Duration = Duration::from_millis(1);

/// Whether the station was ready, and the code it showed, each time that the camera was asked for a frame.
type Seen = Arc<Mutex<Vec<(bool, u8)>>>;

/// Notes what the PLC sees before each frame, and triggers parts then.
struct Watched {
    plc_link: PlcLink,
    camera: Live,
    /// Before which of the frames, counted from 0, a part comes.
    parts: Vec<usize>,
    seen: Seen,
}

impl Camera for Watched {
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, Error> {
        let mut seen = self.seen.lock().unwrap();
        let status = self.plc_link.update(|handshake| handshake.status());
        if self.parts.contains(&seen.len()) {
            assert!(self.plc_link.trigger(clock::now(), seen.len() as u32).is_some_and(|ticket| ticket.taken));
        }
        seen.push((status.ready, status.code));
        self.camera.next(deadline)
    }

    fn describe(&self) -> String {
        self.camera.describe()
    }
}

fn run(steps: Vec<Step>, interval: Duration, trigger: Trigger, parts: &[usize]) -> (Ran, Vec<(bool, u8)>) {
    let (mut station, told) = fake::station(Fake::new(vec![], Duration::ZERO), trigger);
    station.plc_link =
        PlcLink::new(handshake::HandshakeOptions { external: !parts.is_empty(), queue: 8, ..Default::default() });
    let (plc_link, seen) = (station.plc_link.clone(), Seen::default());
    let camera = Live::new(Box::new(Fake::new(steps, interval)), LIMIT);
    station.camera = Box::new(Watched { plc_link, camera, parts: parts.into(), seen: Arc::clone(&seen) });
    let outcome = fake::run(station, &told);
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (outcome, seen)
}

fn words(outcome: &Ran) -> Vec<&'static str> {
    outcome.parts.iter().map(|(outcome, _)| outcome.verdict.word()).collect()
}

#[test]
fn each_frame_from_the_limit_on_is_a_fault_until_one_differs() {
    let levels = [BRIGHT, DARK, BRIGHT, BRIGHT, BRIGHT, BRIGHT, DARK, BRIGHT];
    for trigger in [Trigger::EveryFrame { queue: 256 }, Trigger::FreeRun] {
        let (outcome, seen) = run(levels.map(frame).into(), 2 * MS, trigger, &[]);
        let counts = &outcome.report.counts;
        assert_eq!((counts.fault(Fault::Frozen), counts.all_faults(), counts.frames), (2, 2, 8));
        assert!(counts.balanced(), "{}", outcome.report);
        if trigger != Trigger::FreeRun {
            assert_eq!(words(&outcome), ["pass", "reject", "pass", "pass", "fault", "fault", "reject", "pass"]);
        }
        let code = Fault::Frozen.code();
        assert_eq!(seen[5..7], [(false, code), (false, code)]);
        assert!(seen[7].0, "READY is back");
        assert!(seen[1..5].iter().all(|seen| *seen == (true, 0)), "{seen:?}");
    }
}

#[test]
fn a_part_that_waits_for_its_frame_ends_with_the_camera_frozen() {
    let matching = Matching { rule: Rule::Nearest, delay: Duration::ZERO, window: Duration::from_secs(30) };
    let levels = [BRIGHT, BRIGHT, BRIGHT, BRIGHT, DARK, BRIGHT];
    let (outcome, seen) = run(levels.map(frame).into(), 2 * MS, Trigger::External { queue: 8, matching }, &[2]);
    assert_eq!((words(&outcome), outcome.report.counts.fault(Fault::Frozen)), (vec!["fault"], 1));
    let ready: Vec<bool> = seen.iter().map(|(ready, _)| *ready).collect();
    assert_eq!(ready, [false, true, true, false, false, true, true]);
}

/// READY low would keep the next trigger away, and with it the next frame.
#[test]
fn a_sensor_that_is_fired_stays_ready() {
    // A part that got no frame has a claim to the next one for as long as the window.
    let matching = Matching { rule: Rule::Next, delay: Duration::ZERO, window: 450 * MS };
    let (levels, parts) = ([BRIGHT, BRIGHT, BRIGHT, BRIGHT, DARK], [0, 1, 2, 3, 4]);
    let (outcome, seen) = run(levels.map(frame).into(), 300 * MS, Trigger::External { queue: 8, matching }, &parts);
    assert_eq!(words(&outcome), ["pass", "pass", "fault", "fault", "reject"]);
    assert_eq!(outcome.report.counts.fault(Fault::Frozen), 2);
    assert!(seen.iter().all(|(ready, _)| *ready), "{seen:?}");
}
