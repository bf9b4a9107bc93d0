//! The state machine alone: hours of parts in milliseconds, asked in time and far too late.

use std::time::Duration;

use fcam::clock::Timestamp;
use fcam::signal::SETUP;
use fcam::sink::gpio::timing::{LATE, Part, Shown};
use fcam::sink::gpio::{GpioOptions, Levels, Role, Timing};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const US: Duration = Duration::from_micros(1);
/// Times of the model are whole ticks.
const TICK: Duration = Duration::from_micros(250);

const RUNNING: Shown =
    Shown { ready: true, busy: false, healthy: true, fault: false, drift: false, run: true, simulated: false };

fn part(sequence: u64, ok: bool, data: Timestamp, hold: Duration) -> Part {
    Part { sequence, ok, zones: 0, data, due: data + 3 * MS, hold, timed: true }
}

/// Writes whatever is due, at one moment.
fn drain(timing: &mut Timing, now: Timestamp, written: &mut Vec<(Timestamp, Levels)>) {
    while let Some(levels) = timing.step(now) {
        written.push((now, levels));
    }
}

/// Parts come in when their data is due; the thread wakes up so much too late each time.
fn play(options: GpioOptions, parts: &[Part], lags: &[Duration]) -> (Timing, Vec<(Timestamp, Levels)>) {
    let mut timing = Timing::new(options);
    timing.show(RUNNING);
    let mut written = vec![(Duration::ZERO, Levels::SAFE)];
    drain(&mut timing, Duration::ZERO, &mut written);
    let mut lags = lags.iter().copied().cycle();
    let mut parts = parts.iter();
    let mut coming = parts.next();
    let mut now = Duration::ZERO;
    loop {
        let due = timing.next();
        // An actuate thread that is early: parts are known 2 ms before their data is due.
        let comes = coming.map(|part| part.data.saturating_sub(2 * MS));
        match (due, comes) {
            (None, None) => return (timing, written),
            (due, Some(comes)) if due.is_none_or(|due| comes <= due) => {
                now = now.max(comes);
                assert!(timing.part(*coming.unwrap()));
                coming = parts.next();
            }
            (due, _) => now = now.max(due.unwrap()) + lags.next().unwrap_or_default(),
        }
        drain(&mut timing, now, &mut written);
    }
}

/// What one part shows, from when to when: OK or NG, VALID.
#[derive(Debug)]
struct Interval {
    start: Timestamp,
    rise: Timestamp,
    end: Timestamp,
    ok: bool,
}

/// The model: each part's interval follows from the one before it, without any states.
fn model(parts: &[Part]) -> Vec<Interval> {
    let mut all: Vec<Interval> = vec![];
    for part in parts {
        let mut start = part.data;
        if let Some(last) = all.last_mut() {
            start = start.max(last.rise + SETUP);
            last.end = last.end.min(start);
        }
        let rise = part.due.max(start + SETUP);
        all.push(Interval { start, rise, end: rise + part.hold, ok: part.ok && rise <= part.due + LATE });
    }
    all
}

fn modelled(all: &[Interval], at: Timestamp) -> Levels {
    let idle = Levels::default().with(Role::Ready, true).with(Role::Healthy, true);
    let standing = all.iter().rev().find(|interval| interval.start <= at).filter(|interval| at < interval.end);
    standing
        .map_or(idle, |part| idle.with(Role::Ok, part.ok).with(Role::Ng, !part.ok).with(Role::Valid, part.rise <= at))
}

fn at(written: &[(Timestamp, Levels)], time: Timestamp) -> Levels {
    written.iter().rev().find(|(at, _)| *at <= time).unwrap().1
}

fn parts(gaps: &[(u32, u32, bool)]) -> Vec<Part> {
    let mut data = Duration::ZERO;
    let mut parts = vec![];
    for (sequence, (gap, hold, ok)) in gaps.iter().enumerate() {
        data += TICK * *gap;
        parts.push(part(sequence as u64, *ok, data, TICK * *hold));
    }
    parts
}

/// What must hold of everything that was written, however late.
fn hold_to_the_rules(written: &[(Timestamp, Levels)], parts: &[Part]) -> Result<(), TestCaseError> {
    let pair = |levels: Levels| (levels.get(Role::Ok), levels.get(Role::Ng));
    let mut changed = Duration::ZERO;
    let mut shown = vec![];
    for window in written.windows(2) {
        let [(_, before), (now, after)] = [window[0], window[1]];
        prop_assert!(pair(after) != (true, true), "both high at {:?}", now);
        if pair(before) != pair(after) {
            prop_assert!(
                !before.get(Role::Valid) && !after.get(Role::Valid),
                "a result changes while VALID is high, {:?}",
                now
            );
            changed = now;
        }
        if !before.get(Role::Valid) && after.get(Role::Valid) {
            prop_assert!(now >= changed + SETUP, "VALID rises at {:?}, the result came at {:?}", now, changed);
            prop_assert!(pair(after) != (false, false), "VALID without a result at {:?}", now);
            shown.push((now, after.get(Role::Ok)));
        }
    }
    prop_assert_eq!(shown.len(), parts.len(), "one pulse of VALID a part");
    for ((now, ok), part) in shown.into_iter().zip(parts) {
        prop_assert!(now >= part.due, "part {} at {:?} before its time", part.sequence, now);
        prop_assert!(!ok || part.ok, "part {} is not good", part.sequence);
        prop_assert!(!ok || now <= part.due + LATE, "the OK of part {} is late, {:?}", part.sequence, now);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_time_it_is_the_model(gaps in prop::collection::vec((1u32..80, 4u32..120, any::<bool>()), 1..30)) {
        let parts = parts(&gaps);
        let (timing, written) = play(GpioOptions::default(), &parts, &[]);
        hold_to_the_rules(&written, &parts)?;
        let intervals = model(&parts);
        let last = intervals.last().unwrap().end + MS;
        let mut time = Duration::ZERO;
        while time < last {
            time += TICK / 2;
            prop_assert_eq!(at(&written, time), modelled(&intervals, time), "at {:?} of {:?}", time, intervals);
        }
        let late = parts.iter().zip(&intervals).filter(|(part, shown)| part.ok && !shown.ok).count();
        prop_assert_eq!(timing.late(), late as u64);
    }

    #[test]
    fn too_late_it_keeps_the_rules(
        gaps in prop::collection::vec((1u32..80, 4u32..120, any::<bool>()), 1..30),
        lags in prop::collection::vec(prop_oneof![0u64..100, 0u64..2_000, 0u64..40_000], 1..50),
    ) {
        let parts = parts(&gaps);
        let lags: Vec<Duration> = lags.into_iter().map(Duration::from_micros).collect();
        let (_, written) = play(GpioOptions::default(), &parts, &lags);
        hold_to_the_rules(&written, &parts)?;
        prop_assert_eq!(written.last().unwrap().1, at(&[(Duration::ZERO, modelled(&[], MS))], MS));
    }

    /// Both bytes are seen at the rising edges of their strobe, settled, and do not change while it is high.
    #[test]
    fn two_bytes_of_zones_come_with_a_strobe_each(zones: u16, hold in 16u32..200, lags in prop::collection::vec(0u64..3_000, 1..20)) {
        let options = GpioOptions { two_bytes: true, ..GpioOptions::default() };
        let part = Part { zones, ok: false, timed: false, ..part(0, false, 10 * MS, MS * hold) };
        let lags: Vec<Duration> = lags.into_iter().map(Duration::from_micros).collect();
        let (_, written) = play(options, &[part], &lags);
        let mut read = vec![];
        let mut changed = Duration::ZERO;
        for window in written.windows(2) {
            let [(_, before), (now, after)] = [window[0], window[1]];
            if before.zones() != after.zones() {
                prop_assert!(!before.get(Role::ZoneStrobe), "the byte changes while its strobe is high");
                changed = now;
            }
            if !before.get(Role::ZoneStrobe) && after.get(Role::ZoneStrobe) {
                prop_assert!(now >= changed + SETUP);
                prop_assert!(after.get(Role::Valid));
                read.push(after.zones());
            }
        }
        prop_assert_eq!(read, zones.to_le_bytes());
    }
}

/// The parts before it keep the lines so long that its VALID would be a tick too late.
#[test]
fn an_ok_that_must_be_late_is_never_at_its_line() {
    let parts = parts(&[(1, 4, false), (1, 4, false), (1, 4, false), (1, 4, false), (5, 4, true)]);
    let (timing, written) = play(GpioOptions::default(), &parts, &[]);
    assert_eq!(timing.late(), 1);
    assert!(written.iter().all(|(_, levels)| !levels.get(Role::Ok)), "{written:?}");
}

#[test]
fn two_bytes_in_time() {
    let options = GpioOptions { two_bytes: true, ..GpioOptions::default() };
    let part = Part { zones: 0xA5C3, ..part(0, false, 10 * MS, 80 * MS) };
    let (_, written) = play(options, &[part], &[]);
    let seen = |ms: u64| {
        let levels = at(&written, MS * ms as u32);
        (levels.zones(), levels.get(Role::ZoneStrobe), levels.get(Role::Valid))
    };
    // VALID rises at 13: strobe for a quarter, half of one in between on each side of the change, strobe for a quarter.
    let expected = [
        (11, (0xC3, false, false)),
        (13, (0xC3, true, true)),
        (32, (0xC3, true, true)),
        (33, (0xC3, false, true)),
        (43, (0xA5, false, true)),
        (53, (0xA5, true, true)),
        (72, (0xA5, true, true)),
        (73, (0xA5, false, true)),
        (92, (0xA5, false, true)),
        (93, (0, false, false)),
    ];
    for (ms, levels) in expected {
        assert_eq!(seen(ms), levels, "at {ms} ms");
    }
}

#[test]
fn between_parts_ng_stands_unless_the_station_runs() {
    let mut timing = Timing::new(GpioOptions::default());
    assert_eq!(timing.step(MS), None, "it begins safe");
    timing.show(RUNNING);
    let running = timing.step(MS).unwrap();
    assert_eq!(running, Levels::default().with(Role::Ready, true).with(Role::Healthy, true));
    let broken = Shown { ready: false, healthy: false, fault: true, run: false, ..RUNNING };
    timing.show(broken);
    assert_eq!(timing.step(2 * MS), Some(Levels::SAFE));
    // The part that was judged before still gets its own result, and never both levels.
    assert!(timing.part(part(0, true, 10 * MS, 50 * MS)));
    let ok = timing.step(10 * MS).unwrap();
    assert!(ok.get(Role::Ok) && !ok.get(Role::Ng) && !ok.get(Role::Ready));
}

#[test]
fn pictures_of_no_parts_never_drive_ok() {
    let mut timing = Timing::new(GpioOptions::default());
    timing.show(Shown { simulated: true, ..RUNNING });
    timing.step(MS);
    assert!(timing.part(part(0, true, 10 * MS, 50 * MS)));
    let levels = timing.step(10 * MS).unwrap();
    assert!(levels.get(Role::Ng) && !levels.get(Role::Ok));
}

#[test]
fn a_part_without_a_due_time_is_shown_at_once_and_never_late() {
    let part = Part { timed: false, due: MS, data: MS, ..part(0, true, MS, 20 * MS) };
    let mut timing = Timing::new(GpioOptions::default());
    timing.show(RUNNING);
    timing.step(MS);
    assert!(timing.part(part));
    assert!(timing.step(500 * MS).unwrap().get(Role::Ok));
    assert_eq!((timing.step(500 * MS), timing.next()), (None, Some(501 * MS)));
    assert!(timing.step(501 * MS).unwrap().get(Role::Valid));
    assert_eq!((timing.step(502 * MS), timing.next(), timing.late()), (None, Some(522 * MS), 0));
}

#[test]
fn a_failed_output_shows_both_and_comes_back_with_nothing_half_shown() {
    let mut timing = Timing::new(GpioOptions::default());
    timing.show(RUNNING);
    timing.step(MS);
    assert!(timing.part(part(0, true, 10 * MS, 50 * MS)));
    let mut written = vec![];
    drain(&mut timing, 10 * MS, &mut written);
    drain(&mut timing, 13 * MS, &mut written);
    assert!(written.last().unwrap().1.get(Role::Valid));
    timing.fail();
    let failed = timing.step(14 * MS).unwrap();
    assert!(failed.get(Role::Ok) && failed.get(Role::Ng) && failed.get(Role::Fault));
    assert!(!failed.get(Role::Valid) && !failed.get(Role::Ready) && !failed.get(Role::Healthy));
    assert!(timing.part(part(1, true, 100 * MS, 50 * MS)));
    assert_eq!(timing.recover(), 2);
    let back = timing.step(15 * MS).unwrap();
    assert!(timing.waiting() == 0 && back.get(Role::Ready) && !back.get(Role::Valid) && !back.get(Role::Ng));
}

#[test]
fn a_flash_follows_its_edge() {
    let options = GpioOptions { flash_delay: 300 * US, flash_width: 500 * US, ..GpioOptions::default() };
    let mut timing = Timing::new(options);
    timing.show(RUNNING);
    timing.step(MS);
    timing.flash(10 * MS);
    assert_eq!(timing.next(), Some(10 * MS + 300 * US));
    assert!(timing.step(10 * MS + 300 * US).unwrap().get(Role::Strobe));
    assert_eq!(timing.step(10 * MS + 799 * US), None);
    assert!(!timing.step(10 * MS + 800 * US).unwrap().get(Role::Strobe));
    // Late, it still has its width.
    timing.flash(20 * MS);
    assert!(timing.step(30 * MS).unwrap().get(Role::Strobe));
    assert_eq!(timing.next(), Some(30 * MS + 500 * US));
}
