//! The sink and its thread in real time.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use fcam::clock::{self, Timestamp};
use fcam::handshake::{Condition, HandshakeOptions};
use fcam::outcome::{Opened, Outcome};
use fcam::plc_link::PlcLink;
use fcam::signal::{LEAD, SETUP, Signaller};
use fcam::sink::Sink;
use fcam::sink::gpio::{Gpio, GpioOptions, Levels, Role};
use fcam::verdict::{Fault, Verdict};

use super::lines::Lines;

const MS: Duration = Duration::from_millis(1);

fn plc_link() -> PlcLink {
    let plc_link = PlcLink::new(HandshakeOptions { queue: 4, ..HandshakeOptions::default() });
    plc_link.update(|handshake| handshake.set(Condition::Starting, false));
    plc_link
}

fn start(lines: &Lines, plc_link: &PlcLink) -> Gpio {
    let gpio = Gpio::with_lines(lines.open(), GpioOptions::default(), plc_link).unwrap();
    lines.until(|levels| levels.get(Role::Ready));
    gpio
}

fn outcome(sequence: u64, at: Timestamp, verdict: Verdict, hold: Duration) -> Outcome {
    let part = Opened { sequence, part_id: 0, at };
    crate::outcome::outcome(part, verdict, None, 0, Signaller { delay: 20 * MS, hold })
}

fn pass(sequence: u64, captured: Timestamp) -> Outcome {
    outcome(sequence, captured, Verdict::Pass, 10 * MS)
}

#[test]
fn it_is_safe_before_the_first_part_and_after_the_last() {
    let (lines, plc_link) = (Lines::default(), plc_link());
    let mut gpio = start(&lines, &plc_link);
    assert_eq!(lines.edges()[0].1, Levels::SAFE, "from the first moment on");
    assert!(!lines.now().get(Role::Ng));
    gpio.apply(&pass(0, clock::now())).unwrap();
    let told = clock::now();
    // What was told is still shown to its end.
    gpio.fail_safe();
    gpio.fail_safe();
    let [(rose, Some(fell))] = lines.pulses(Role::Valid)[..] else { panic!("{:?}", lines.edges()) };
    assert!(rose > told && fell - rose >= 10 * MS, "{:?}", fell - rose);
    assert_eq!(lines.now(), Levels::SAFE);
    assert!(gpio.apply(&pass(1, clock::now())).is_err());
}

#[test]
fn heartbeat_and_condition_are_seen() {
    let (lines, plc_link) = (Lines::default(), plc_link());
    let _gpio = start(&lines, &plc_link);
    for beat in 1..4 {
        plc_link.turn_heartbeat(beat * Duration::from_millis(250));
        let high = plc_link.status().heartbeat;
        assert_eq!(high, beat % 2 == 1);
        lines.until(|levels| levels.get(Role::Healthy) == high);
    }
    plc_link.update(|handshake| handshake.set(Condition::Camera, true));
    lines.until(|levels| levels == Levels::SAFE);
    plc_link.update(|handshake| handshake.set(Condition::Camera, false));
    lines.until(|levels| levels.get(Role::Ready) && !levels.get(Role::Ng) && !levels.get(Role::Fault));
}

#[test]
fn an_output_that_is_cut_takes_ready_away_until_it_is_back() {
    let (lines, plc_link) = (Lines::default(), plc_link());
    let mut gpio = start(&lines, &plc_link);
    lines.cut.store(true, Relaxed);
    gpio.apply(&pass(0, clock::now() - 15 * MS)).unwrap();
    lines.until(|levels| levels.get(Role::Ok) && levels.get(Role::Ng) && levels.get(Role::Fault));
    let end = clock::now() + Duration::from_secs(10);
    while !plc_link.update(|handshake| handshake.holds(Condition::Outputs)) {
        assert!(clock::now() < end);
    }
    assert!(!plc_link.status().ready && plc_link.status().code == 24);
    assert!(gpio.apply(&pass(1, clock::now())).is_err(), "nobody is told");
    lines.cut.store(false, Relaxed);
    lines.until(|levels| levels.get(Role::Ready));
    assert!(plc_link.status().ready, "{:?}", plc_link.status());
    assert!(lines.pulses(Role::Valid).is_empty(), "no part was valid while the output failed");
    gpio.apply(&outcome(2, clock::now(), Verdict::Fault(Fault::Late), 10 * MS)).unwrap();
    lines.until(|levels| levels.get(Role::Valid) && levels.get(Role::Ng) && !levels.get(Role::Ok));
}

#[test]
fn a_queue_that_is_full_is_an_error_and_no_wait() {
    let (lines, plc_link) = (Lines::default(), plc_link());
    let mut gpio = start(&lines, &plc_link);
    let far = clock::now() + Duration::from_secs(3600);
    let began = clock::now();
    let refused = (0..200).filter(|sequence| gpio.apply(&pass(*sequence, far)).is_err()).count();
    // 64 wait in the queue, and as many as the thread has taken in by then with it.
    assert!((72..=136).contains(&refused), "{refused}");
    assert!(clock::now() - began < Duration::from_secs(1));
}

/// The jitter of VALID. A busy test machine is no measure of a board, so what is asserted is loose; the figures are
/// printed.
#[test]
fn valid_rises_when_it_is_due() {
    let count = std::env::var("FCAM_PARTS").map_or(100, |count| count.parse().unwrap());
    let (lines, plc_link) = (Lines::default(), plc_link());
    let mut gpio = start(&lines, &plc_link);
    let mut due = vec![];
    for sequence in 0..count {
        let captured = clock::now();
        let part = outcome(sequence, captured, Verdict::Pass, 3 * MS);
        due.push(part.due());
        // As the station does it: told when the pair is due.
        std::thread::sleep((captured + 20 * MS - LEAD).saturating_sub(clock::now()));
        gpio.apply(&part).unwrap();
        std::thread::sleep(10 * MS);
    }
    gpio.fail_safe();
    let pulses = lines.pulses(Role::Valid);
    assert_eq!(pulses.len(), count as usize, "one pulse a part");
    let mut late: Vec<Duration> =
        pulses.iter().zip(&due).map(|((rose, _), due)| rose.checked_sub(*due).expect("never early")).collect();
    late.sort();
    let [p50, p99, max] = [late.len() / 2, late.len() * 99 / 100, late.len() - 1].map(|at| late[at]);
    println!("VALID after its due time, {count} parts: p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}");
    let pairs = lines.pulses(Role::Ok).len() + lines.pulses(Role::Ng).len();
    assert!(pairs > count as usize, "{pairs}");
    assert!(p50 < 5 * MS, "p50 {p50:?}");
    let mut changed = Duration::ZERO;
    for window in lines.edges().windows(2) {
        let [(_, before), (now, after)] = [window[0], window[1]];
        if before.get(Role::Ok) != after.get(Role::Ok) || before.get(Role::Ng) != after.get(Role::Ng) {
            changed = now;
        }
        assert!(before.get(Role::Valid) || !after.get(Role::Valid) || now >= changed + SETUP);
    }
}
