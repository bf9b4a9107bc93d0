//! Any order of events: the handshake says what the model says, after each of them, and what must never happen does
//! not.

use std::time::Duration;

use fcam::handshake::{Condition, Controls, Handshake, HandshakeOptions, Status, short_id};
use fcam::outcome::{Opened, Outcome};
use fcam::verdict::{Fault, Findings, Verdict};
use fcam::watchdog::Trouble;
use proptest::collection::vec;
use proptest::prelude::*;

use super::model::Model;

/// A control bit, or a word.
type Change = fn(&mut Controls);

const CHANGES: [Change; 12] = [
    |c| c.trigger = !c.trigger,
    |c| c.trigger = !c.trigger,
    |c| c.trigger_enable = !c.trigger_enable,
    |c| c.result_ack = !c.result_ack,
    |c| c.result_ack = !c.result_ack,
    |c| c.buffer_results = !c.buffer_results,
    |c| c.job_execute = !c.job_execute,
    |c| c.clear_fault = !c.clear_fault,
    |c| c.set_offline = !c.set_offline,
    |c| c.job = (c.job + 1) % 3,
    |c| c.part_id = c.part_id.wrapping_add(1),
    |c| c.heartbeat = c.heartbeat.wrapping_add(1),
];

const CONDITIONS: [Condition; 8] = [
    Condition::Starting,
    Condition::Camera,
    Condition::Stalled,
    Condition::Geometry,
    Condition::Frozen,
    Condition::Engine,
    Condition::Stopping,
    Condition::Panic,
];

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a test's list")]
enum Event {
    /// Some of the controls change in one write.
    Write(Vec<usize>),
    Trigger(u32),
    Frame,
    Judge,
    Tell(Verdict),
    Watchdog,
    Ask(u16),
    Finish(bool),
    Clear,
    Set(usize, bool),
    Pass(u64),
    Beat,
    Tick(bool, bool),
    Heat(Option<i16>),
    Promise(u64),
    TooLate,
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let reject = Verdict::Reject(Findings { class: 2, score: 0.75, regions: heapless::Vec::new() });
    prop_oneof![
        4 => Just(Verdict::Pass),
        2 => Just(reject),
        1 => Just(Verdict::Fault(Fault::Late)),
        1 => Just(Verdict::Fault(Fault::Camera)),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let heat = prop_oneof![1 => Just(None), 9 => (700i16..900).prop_map(Some)];
    prop_oneof![
        12 => vec(0..CHANGES.len(), 1..4).prop_map(Event::Write),
        8 => any::<u32>().prop_map(Event::Trigger),
        2 => Just(Event::Frame),
        6 => Just(Event::Judge),
        8 => verdict().prop_map(Event::Tell),
        3 => Just(Event::Watchdog),
        1 => (0u16..3).prop_map(Event::Ask),
        4 => any::<bool>().prop_map(Event::Finish),
        1 => Just(Event::Clear),
        // Stations end rarely, and what holds mostly ends.
        1 => (0..CONDITIONS.len(), prop::bool::weighted(0.3)).prop_map(|(at, holds)| Event::Set(at, holds)),
        4 => (0u64..1500).prop_map(Event::Pass),
        4 => Just(Event::Beat),
        2 => heat.prop_map(Event::Heat),
        4 => (prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(|(hung, down)| Event::Tick(hung, down)),
        1 => (0u64..2000).prop_map(Event::Promise),
        1 => Just(Event::TooLate),
    ]
}

fn options() -> impl Strategy<Value = HandshakeOptions> {
    let plc_timeout = prop::sample::select(vec![0u64, 1000]).prop_map(Duration::from_millis);
    let limit = prop::sample::select(vec![None, Some(850)]);
    (prop::bool::weighted(0.9), 1usize..5, plc_timeout, any::<bool>(), limit).prop_map(
        |(external, queue, plc_timeout, simulated, limit)| HandshakeOptions {
            external,
            queue,
            plc_timeout,
            simulated,
            job: 1,
            limit,
        },
    )
}

/// Both sides, and the line around them.
struct Pair {
    handshake: Handshake,
    model: Model,
    controls: Controls,
    now: Duration,
    /// What happened to the tickets: number and part.
    tickets: Vec<(u64, u32, bool)>,
    frames: Vec<u64>,
    external: bool,
}

impl Pair {
    fn new(options: HandshakeOptions) -> Self {
        let (handshake, model) = (Handshake::new(options), Model::new(options));
        let now = Duration::from_secs(1000);
        let (controls, external) = (Controls::default(), options.external);
        Self { handshake, model, controls, now, tickets: vec![], frames: vec![], external }
    }

    /// 7 ms after it was there.
    fn outcome(&self, id: u64, verdict: Verdict) -> Outcome {
        let part_id = self.tickets.iter().find(|ticket| ticket.0 == id).map_or(0, |ticket| ticket.1);
        let part = Opened { sequence: id, part_id, at: self.now - Duration::from_millis(7) };
        crate::outcome::outcome(part, verdict, Some(0.25), 3, crate::outcome::AT_ONCE)
    }

    fn ticket(&mut self, ticket: Option<fcam::handshake::Ticket>, expected: Option<(u64, bool)>, part_id: u32) {
        assert_eq!(ticket.map(|ticket| (ticket.sequence, ticket.taken)), expected);
        if let Some(ticket) = ticket {
            assert_eq!((ticket.part_id, ticket.at), (part_id, self.now));
            self.tickets.push((ticket.sequence, part_id, ticket.taken));
        }
    }

    fn run(&mut self, event: &Event) {
        match event {
            Event::Write(changes) => {
                changes.iter().for_each(|at| CHANGES[*at](&mut self.controls));
                let expected = self.model.write(self.controls, self.now);
                let ticket = self.handshake.control(self.controls, self.now);
                self.ticket(ticket, expected, self.controls.part_id);
            }
            Event::Trigger(part_id) => {
                let expected = self.model.trigger(true, self.now);
                let ticket = self.handshake.trigger(self.now, *part_id);
                self.ticket(ticket, expected, *part_id);
            }
            // Where triggers make the parts, the camera makes none.
            Event::Frame if self.external => {}
            Event::Frame => {
                let id = self.handshake.number();
                assert_eq!(id, self.model.number(false, false, self.now));
                self.frames.push(id);
            }
            Event::Judge => {
                if let Some(id) = self.model.unjudged().first() {
                    self.model.judged(*id);
                    self.handshake.judged(&Verdict::Pass);
                }
            }
            Event::Tell(verdict) => self.tell(verdict),
            Event::Watchdog => {
                self.model.watchdog();
                self.handshake.acknowledged();
            }
            Event::Ask(job) => assert_eq!(self.handshake.ask_job(*job), self.model.ask(*job)),
            Event::Finish(changed) => {
                assert_eq!(self.handshake.job_asked(), self.model.asked());
                if self.model.asked().is_some() {
                    self.model.job_done(*changed);
                    self.handshake.job_done(*changed);
                }
            }
            Event::Clear => {
                self.model.clear();
                self.handshake.clear();
            }
            Event::Set(at, holds) => {
                self.model.set(CONDITIONS[*at], *holds);
                self.handshake.set(CONDITIONS[*at], *holds);
            }
            Event::Pass(ms) => self.now += Duration::from_millis(*ms),
            Event::Beat => {
                self.model.turn_heartbeat(self.now);
                self.handshake.turn_heartbeat(self.now);
            }
            Event::Tick(hung, down) => {
                let trouble = Trouble { hung: *hung, down: *down };
                self.model.tick(self.now, trouble);
                self.handshake.tick(self.now, trouble);
            }
            Event::Heat(heat) => {
                self.model.heat(*heat);
                self.handshake.set_temperature(*heat);
            }
            Event::Promise(ms) => {
                self.model.promise(Duration::from_millis(*ms));
                self.handshake.promise(Duration::from_millis(*ms));
            }
            Event::TooLate => {
                self.model.told_late();
                self.handshake.told_late();
            }
        }
    }

    /// The oldest number without a result: of a trigger that was not taken, that it was missed.
    fn tell(&mut self, verdict: &Verdict) {
        let Some((id, taken)) = self.model.open().first().copied() else { return };
        let missed = !taken && !self.frames.contains(&id);
        let verdict = if missed { Verdict::Fault(Fault::Missed) } else { verdict.clone() };
        let outcome = self.outcome(id, verdict);
        self.model.tell(&outcome, self.now);
        self.handshake.told(&outcome, self.now);
    }
}

/// What holds whatever happened, and from one moment to the next.
fn never(before: &Status, after: &Status, controls: &Controls) {
    assert!(!(after.ok() && after.ng()), "OK and NG");
    assert!(
        !after.ok() || after.valid && after.result.as_ref().unwrap().outcome.plc.ok && !after.simulated,
        "OK without a reason"
    );
    assert_eq!(after.valid, after.ok() || after.ng(), "a valid result is OK or NG");
    assert!(!after.valid || !controls.result_ack, "VALID while RESULT_ACK is high");
    assert!(!after.ready || after.run && !after.job_busy, "READY while no part would be taken");
    assert!(after.run || after.code > 1, "not running, and no reason");
    assert_eq!(after.trigger_ack, controls.trigger);
    let id = |status: &Status| status.result.as_ref().map(|result| result.outcome.sequence);
    assert_eq!(before.toggle != after.toggle, id(before) != id(after), "TOGGLE is not the change of the result");
    assert!(id(before) <= id(after), "a result came before an older one");
    assert!(id(after) == id(before) || after.valid, "another result, and it is not valid");
    assert!(after.result.as_ref().is_none_or(|result| result.id() > 0));
    assert!(usize::from(after.waiting) <= fcam::handshake::MAX_RESULTS);
}

fn run(options: HandshakeOptions, events: &[Event]) -> Pair {
    let mut pair = Pair::new(options);
    pair.run(&Event::Set(0, false));
    let mut before = pair.handshake.status();
    for event in events {
        pair.run(event);
        let after = pair.handshake.status();
        assert_eq!(after, pair.model.status(), "after {event:?}");
        never(&before, &after, &pair.controls);
        before = after;
    }
    pair
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn it_is_what_the_model_says(options in options(), events in vec(event(), 1..120)) {
        let pair = run(options, &events);
        // Numbers are given once, in order, without a gap: to triggers and to the camera's own parts.
        let mut ids: Vec<u64> = pair.tickets.iter().map(|ticket| ticket.0).chain(pair.frames.iter().copied()).collect();
        ids.sort_unstable();
        prop_assert_eq!(&ids, &(0..ids.len() as u64).collect::<Vec<_>>());
    }

    /// A PLC that buffers and acknowledges sees each result once, in order, unless OVERRUN says otherwise.
    #[test]
    fn buffered_results_all_arrive(steps in vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..200)) {
        let mut pair = Pair::new(HandshakeOptions { queue: 4, ..HandshakeOptions::default() });
        pair.run(&Event::Set(0, false));
        pair.controls.buffer_results = true;
        pair.run(&Event::Write(vec![10]));
        let (mut seen, mut toggle) = (vec![], false);
        for (trigger, tell, ack) in steps {
            if trigger && pair.handshake.ready() {
                pair.run(&Event::Trigger(1));
            }
            if tell {
                pair.run(&Event::Tell(Verdict::Pass));
            }
            let status = pair.handshake.status();
            if status.toggle != toggle {
                seen.push(status.result.unwrap().outcome.sequence);
                toggle = status.toggle;
            }
            if ack && status.valid != pair.controls.result_ack {
                pair.run(&Event::Write(vec![3])); // RESULT_ACK follows VALID
            }
            prop_assert!(!pair.handshake.status().overrun);
        }
        prop_assert_eq!(&seen, &(0..seen.len() as u64).collect::<Vec<_>>());
        prop_assert!(seen.len() + usize::from(pair.handshake.status().waiting) >= pair.model.told().len());
    }

    #[test]
    fn short_numbers_are_never_0_and_count_on(sequence in any::<u64>()) {
        let (this, next) = (short_id(sequence), short_id(sequence.wrapping_add(1)));
        prop_assert!(this > 0 && next > 0);
        let follows = if this == u16::MAX { 1 } else { this + 1 };
        prop_assert!(sequence == u64::MAX || next == follows);
    }
}
