//! What went wrong once, or would: one case each, as a PLC sees it.

use std::time::Duration;

use fcam::handshake::{Condition, Controls, Handshake, HandshakeOptions, MAX_OPEN, OVERDUE, Status};
use fcam::outcome::{Opened, Outcome};
use fcam::plc_link::PlcLink;
use fcam::verdict::{Fault, Verdict};
use fcam::watchdog::Trouble;

pub const NOW: Duration = Duration::from_secs(100);

pub fn started(options: HandshakeOptions) -> Handshake {
    let mut handshake = Handshake::new(options);
    handshake.set(Condition::Starting, false);
    handshake
}

fn outcome(id: u64, verdict: Verdict) -> Outcome {
    let part = Opened { sequence: id, part_id: 0, at: NOW };
    crate::outcome::outcome(part, verdict, None, 0, crate::outcome::AT_ONCE)
}

pub fn tell(handshake: &mut Handshake, id: u64, verdict: Verdict) {
    handshake.told(&outcome(id, verdict), NOW);
}

fn write(handshake: &mut Handshake, controls: Controls) -> Status {
    handshake.control(controls, NOW);
    handshake.status()
}

#[test]
fn valid_waits_for_result_ack_to_fall() {
    let mut handshake = started(HandshakeOptions { queue: 2, ..HandshakeOptions::default() });
    (0..2).for_each(|_| assert!(handshake.trigger(NOW, 0).unwrap().taken));
    tell(&mut handshake, 0, Verdict::Pass);
    let ack = Controls { result_ack: true, ..Controls::default() };
    assert!(!write(&mut handshake, ack).valid);
    tell(&mut handshake, 1, Verdict::Pass);
    let status = handshake.status();
    assert!(
        !status.valid && status.waiting == 1,
        "the PLC, which waits for VALID to fall, would acknowledge a result unread"
    );
    let status = write(&mut handshake, Controls::default());
    assert!(status.valid && status.result.unwrap().outcome.sequence == 1);
}

#[test]
fn results_that_are_given_up_are_told() {
    let mut handshake = started(HandshakeOptions { queue: 4, ..HandshakeOptions::default() });
    let buffering = Controls { buffer_results: true, ..Controls::default() };
    write(&mut handshake, buffering);
    for id in 0..3 {
        handshake.trigger(NOW, 0);
        tell(&mut handshake, id, Verdict::Pass);
    }
    assert!(!handshake.status().overrun);
    let status = write(&mut handshake, Controls::default());
    assert!(status.overrun && status.waiting == 1 && status.result.unwrap().outcome.sequence == 0);
}

#[test]
fn a_missed_trigger_beside_a_full_buffer_is_an_overrun() {
    let mut handshake = started(HandshakeOptions { queue: 9, ..HandshakeOptions::default() });
    write(&mut handshake, Controls { buffer_results: true, ..Controls::default() });
    (0..8).for_each(|_| assert!(handshake.trigger(NOW, 0).unwrap().taken));
    assert!(!handshake.trigger(NOW, 0).unwrap().taken, "there would be no place for its result");
    (0..8).for_each(|id| tell(&mut handshake, id, Verdict::Pass));
    assert!(!handshake.status().overrun);
    tell(&mut handshake, 8, Verdict::Fault(Fault::Missed));
    assert!(handshake.status().overrun && handshake.status().waiting == 8);
}

#[test]
fn parts_that_wait_for_their_due_time_take_no_place() {
    let mut handshake = started(HandshakeOptions { queue: 1, ..HandshakeOptions::default() });
    for id in 0..5 {
        assert!(handshake.trigger(NOW, 0).unwrap().taken, "part {id}");
        handshake.judged(&Verdict::Pass);
    }
    assert!(handshake.status().ready && handshake.status().busy);
    (0..5).for_each(|id| tell(&mut handshake, id, Verdict::Pass));
    assert!(!handshake.status().busy);
}

#[test]
fn a_trigger_that_nothing_would_close_takes_no_number() {
    let plc_link = PlcLink::new(HandshakeOptions { external: false, ..HandshakeOptions::default() });
    plc_link.update(|handshake| handshake.set(Condition::Starting, false));
    assert_eq!(plc_link.trigger(NOW, 7), None);
    let controls = Controls { trigger: true, trigger_enable: true, ..Controls::default() };
    let status = plc_link.control(controls, NOW);
    assert!(status.missed && status.trigger_ack && status.counts.missed == 2 && status.trigger_id.is_none());
    assert!(plc_link.next_ticket(|_, _| Some(())).is_none());
    assert_eq!(plc_link.number(), 0);

    let plc_link = PlcLink::default();
    assert!(!plc_link.trigger(NOW, 1).unwrap().taken, "it starts");
    plc_link.update(|handshake| handshake.set(Condition::Stopping, true));
    assert_eq!(plc_link.trigger(NOW, 2), None, "capture has gone, and would never fetch it");
}

#[test]
fn a_flood_of_triggers_is_bounded() {
    let plc_link = PlcLink::default();
    let tickets = (0..3 * MAX_OPEN).filter_map(|_| plc_link.trigger(NOW, 0)).count();
    assert_eq!((tickets, plc_link.status().counts.missed as usize), (MAX_OPEN, 3 * MAX_OPEN));
    plc_link.update(|handshake| tell(handshake, 0, Verdict::Fault(Fault::Missed)));
    assert_eq!(plc_link.trigger(NOW, 0).unwrap().sequence, MAX_OPEN as u64);
}

#[test]
fn a_plc_that_never_came_is_lost_too() {
    let options = HandshakeOptions { plc_timeout: Duration::from_millis(500), ..HandshakeOptions::default() };
    let mut handshake = started(options);
    handshake.tick(NOW, Trouble::default());
    assert!(handshake.ready());
    // It writes, but its program does not run: nothing counts.
    let ms = Duration::from_millis;
    handshake.control(Controls { trigger_enable: true, ..Controls::default() }, NOW + ms(400));
    handshake.tick(NOW + ms(501), Trouble::default());
    assert_eq!(handshake.condition(), Some(Condition::PlcLost));
    handshake.control(Controls { heartbeat: 1, ..Controls::default() }, NOW + ms(700));
    assert!(handshake.ready());
    handshake.tick(NOW + ms(1201), Trouble::default());
    assert_eq!(handshake.status().code, Condition::PlcLost.code());
}

#[test]
fn a_thread_that_hangs_takes_ready_down_until_it_goes_on() {
    let mut handshake = started(HandshakeOptions::default());
    let hung = Trouble { hung: true, down: false };
    for (trouble, condition) in [
        (hung, Some(Condition::Hung)),
        (Trouble::default(), None),
        (Trouble { hung: false, down: true }, Some(Condition::Channel)),
        (Trouble { hung: true, down: true }, Some(Condition::Hung)),
    ] {
        handshake.tick(NOW, trouble);
        assert_eq!((handshake.condition(), handshake.ready()), (condition, condition.is_none()), "{trouble:?}");
    }
    // The end of the threads is no fault when the station ends.
    handshake.set(Condition::Stopping, true);
    handshake.tick(NOW, hung);
    assert_eq!(handshake.status().condition(), Some(Condition::Stopping));
}

#[test]
fn a_result_that_does_not_come_takes_ready_down_whatever_keeps_it() {
    let mut handshake = started(HandshakeOptions { queue: 4, ..HandshakeOptions::default() });
    let (within, ms) = (Duration::from_millis(20), Duration::from_millis(1));
    handshake.promise(within);
    handshake.trigger(NOW, 0);
    handshake.trigger(NOW + 100 * ms, 0);
    let late = NOW + within + OVERDUE;
    handshake.tick(late, Trouble::default());
    assert!(handshake.ready());
    handshake.tick(late + ms, Trouble::default());
    assert_eq!((handshake.condition(), handshake.ready()), (Some(Condition::Hung), false));
    // The first one comes after all; the second is not overdue yet.
    tell(&mut handshake, 0, Verdict::Pass);
    handshake.tick(late + ms, Trouble::default());
    assert!(handshake.ready());
    handshake.tick(late + 101 * ms, Trouble::default());
    assert_eq!(handshake.condition(), Some(Condition::Hung));
}

#[test]
fn a_channel_that_tells_too_late_is_latched() {
    let mut handshake = started(HandshakeOptions::default());
    handshake.told_late();
    assert!(handshake.status().late && handshake.ready());
    handshake.clear();
    assert!(!handshake.status().late);
}

#[test]
fn a_sensor_that_is_gone_has_not_cooled_down() {
    let mut handshake = started(HandshakeOptions { limit: Some(850), ..HandshakeOptions::default() });
    for (heat, hot) in [(Some(850), false), (Some(851), true), (None, true), (Some(801), true), (Some(800), false)] {
        handshake.set_temperature(heat);
        assert_eq!(handshake.holds(Condition::Overheated), hot, "{heat:?}");
    }
}

#[test]
fn a_job_asked_for_during_another_change_is_refused_and_told() {
    let mut handshake = started(HandshakeOptions::default());
    assert!(handshake.ask_job(2) && handshake.ask_job(2));
    assert!(!handshake.ask_job(3));
    assert!(!handshake.ready() && handshake.job_asked() == Some(2));
    handshake.job_done(true);
    let status = handshake.status();
    assert!(status.ready && status.job == 2 && status.job_failed && !status.job_busy);
    assert!(handshake.ask_job(2));
    assert!(!handshake.status().job_failed, "it runs");
}

/// The thread that attends to jobs may look so rarely that it never sees the station without one.
#[test]
fn each_change_of_the_job_is_given_out_once() {
    let mut handshake = started(HandshakeOptions::default());
    for changed in [false, false, true] {
        assert!(handshake.ask_job(2));
        assert_eq!((handshake.take_job(), handshake.take_job(), handshake.job_asked()), (Some(2), None, Some(2)));
        assert!(handshake.ask_job(2), "the same one again while it is under way");
        assert_eq!(handshake.take_job(), None);
        handshake.job_done(changed);
    }
    assert_eq!((handshake.status().job, handshake.take_job()), (2, None));
}

#[test]
fn only_parts_that_find_no_place_are_counted_as_such() {
    let mut handshake = started(HandshakeOptions { queue: 1, ..HandshakeOptions::default() });
    handshake.trigger(NOW, 0);
    handshake.trigger(NOW, 0);
    assert_eq!(handshake.crowded(), 1);
    handshake.set(Condition::Camera, true);
    handshake.trigger(NOW, 0);
    handshake.set(Condition::Camera, false);
    handshake.ask_job(2);
    handshake.trigger(NOW, 0);
    handshake.lost(NOW);
    assert_eq!((handshake.crowded(), handshake.status().counts.missed), (1, 4));
}

#[test]
fn a_job_waits_for_the_parts_of_the_old_one() {
    let mut handshake = started(HandshakeOptions { queue: 2, ..HandshakeOptions::default() });
    handshake.trigger(NOW, 0);
    handshake.judged(&Verdict::Pass);
    handshake.ask_job(2);
    assert_eq!(handshake.job_asked(), None);
    tell(&mut handshake, 0, Verdict::Pass);
    assert_eq!(handshake.job_asked(), Some(2));
    handshake.job_done(false);
    let status = handshake.status();
    assert!(status.ready && status.job == 0 && status.job_failed);
}

#[test]
fn pictures_that_are_not_of_parts_are_never_ok() {
    let mut handshake = started(HandshakeOptions { simulated: true, ..HandshakeOptions::default() });
    handshake.trigger(NOW, 0);
    tell(&mut handshake, 0, Verdict::Pass);
    let status = handshake.status();
    assert!(status.simulated && status.valid && status.ng() && !status.ok());
}
