//! What the PLC says on the line: triggers, jobs, acknowledgements; twice, damaged, and far too many.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fcam::clock;
use fcam::handshake::{Condition, MAX_OPEN};
use fcam::plc_link::PlcLink;
use fcam::sink::{Serial, Sink};
use fcam::telegram::message::kind::VERDICT;
use fcam::telegram::{Message, Received, Receiver, State, encode};

use super::{Bench, Plc, of, options, pass};

fn external() -> String {
    format!("[trigger]\nmode = \"external\"\nwindow_ms = 200\n{}", super::camera(100))
}

impl Plc {
    fn messages(&self) -> Vec<(u16, Message)> {
        let (mut receiver, mut found) = (Receiver::default(), vec![]);
        let take = |frame: Received| (frame.sequence, Message::parse(frame.kind, &frame.payload).unwrap());
        self.bytes().iter().for_each(|byte| receiver.push(*byte, |frame| found.push(take(frame))));
        found
    }

    fn say(&self, sequence: u16, message: &Message) {
        self.port.write_all(&encode(sequence, message)).unwrap();
    }

    fn trigger(&self, sequence: u16, part_id: u32) {
        self.say(sequence, &Message::Trigger { part_id });
    }

    /// Waits until something has come.
    fn wait<T>(&self, what: &str, mut found: impl FnMut(&[(u16, Message)]) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let messages = self.messages();
            if let Some(found) = found(&messages) {
                return found;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "no {what}: {messages:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ready(&self) {
        let ready = |message: &Message| matches!(message, Message::Heartbeat { state: State::Ready, .. });
        self.wait("READY", |messages| messages.iter().any(|(_, message)| ready(message)).then_some(()));
    }

    /// The answer to a telegram: its NAK's code, 0 for ACK.
    fn answer(&self, of: u16) -> u8 {
        self.wait("answer", |messages| {
            messages.iter().find_map(|(_, message)| match message {
                Message::Ack { sequence } if *sequence == of => Some(0),
                Message::Nak { sequence, code } if *sequence == of => Some(*code),
                _ => None,
            })
        })
    }

    /// SEQ of the verdict of a part.
    fn verdict(&self, part_id: u32) -> u16 {
        self.wait("verdict", |messages| {
            let mut messages = messages.iter();
            messages.find_map(|(sequence, message)| match message {
                Message::Verdict(verdict) if verdict.part_id == part_id => Some(*sequence),
                _ => None,
            })
        })
    }

    /// How many verdicts each part has.
    fn verdicts(&self) -> BTreeMap<u32, u32> {
        let mut found = BTreeMap::new();
        for (_, message) in self.messages() {
            if let Message::Verdict(verdict) = message {
                *found.entry(verdict.part_id).or_default() += 1;
            }
        }
        found
    }
}

#[test]
fn a_trigger_is_answered_and_its_part_comes_back() {
    let plc = Plc::new(false);
    let bench = Bench::new(&plc.path, "", &external());
    let mut child = bench.start("100000");
    plc.ready();
    for part in 1..=20u16 {
        plc.trigger(part, 1000 + u32::from(part));
        if part % 3 == 0 {
            plc.trigger(part, 1000 + u32::from(part)); // its answer was lost
        }
        assert_eq!(plc.answer(part), 0, "{}", bench.log());
        let sequence = plc.verdict(1000 + u32::from(part));
        plc.say(500 + part, &Message::Ack { sequence });
    }
    plc.say(900, &Message::Job { job: 0 });
    assert_eq!(plc.answer(900), 0, "the job that runs");
    plc.say(901, &Message::Job { job: 7 });
    assert_eq!(plc.answer(901), 4, "a station has one bundle");
    plc.trigger(902, 2000);
    plc.verdict(2000);
    end(&mut child);

    assert!(bench.log().contains("20 acknowledged"), "{}", bench.log());
    assert_eq!(plc.verdicts().len(), 21);
    assert!(plc.verdicts().values().all(|count| *count == 1), "a repeated trigger is the same part");
    // The decoder that was written from the page says the same; so does the JSON sink.
    let decoded = bench.python("decode", &plc.bytes());
    let told = of(&decoded, "VERDICT");
    let parts = bench.parts();
    assert_eq!(told.len(), parts.len());
    for (verdict, part) in told.iter().zip(&parts) {
        assert_eq!((&verdict["part_id"], &verdict["result_id"]), (&part["part_id"], &part["sequence"]));
        assert!(part["verdict"]["fault"].is_null(), "{part}");
    }
    let states = of(&decoded, "HEARTBEAT");
    assert_eq!(states[0]["state"], 3);
    assert_eq!(states[0]["code"], 30);
    assert_eq!(states.last().unwrap()["state"], 2);
}

/// Ends a station as a person does.
fn end(child: &mut std::process::Child) {
    let id = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap();
    std::thread::sleep(Duration::from_millis(100)); // the last bytes are on their way
}

/// Two thousand triggers, every tenth damaged, with noise between: each intact one has exactly one verdict, the others
/// have none.
#[test]
fn a_storm_of_triggers_of_which_every_tenth_is_damaged() {
    let plc = Plc::new(false);
    let bench = Bench::new(&plc.path, super::FAST, &external());
    let mut child = bench.start("1000000");
    plc.ready();
    let mut intact = vec![];
    for n in 0..2000u32 {
        let mut frame = encode(n as u16, &Message::Trigger { part_id: 5000 + n }).to_vec();
        match n {
            _ if n % 10 == 3 => frame[n as usize / 10 % 14] ^= 1 << (n % 7),
            _ if n % 10 == 7 => frame.extend([0xa5, n as u8, 0x5a]),
            _ => {}
        }
        if n % 10 != 3 {
            intact.push(5000 + n);
        }
        plc.port.write_all(&frame).unwrap();
        // The first ones come at a pace that the camera keeps, so that some are judged on any machine.
        match n {
            0..20 => std::thread::sleep(Duration::from_millis(50)),
            _ if n % 10 == 9 => std::thread::sleep(Duration::from_millis(20)),
            _ => {}
        }
    }
    plc.wait("end of the storm", |_| (plc.verdicts().len() >= intact.len()).then_some(()));
    end(&mut child);
    let verdicts = plc.verdicts();
    assert_eq!(verdicts.keys().copied().collect::<Vec<_>>(), intact, "{}", bench.log());
    assert!(verdicts.values().all(|count| *count == 1));
    let (mut judged, mut refused) = (0, 0);
    for (_, message) in plc.messages() {
        if let Message::Verdict(verdict) = message {
            judged += u32::from(verdict.reason < 2);
            // Not ready, or no frame left: a frame is one part's.
            refused += u32::from(matches!(verdict.reason, 9 | 10));
        }
    }
    println!("{} intact of 2000, {judged} judged, {refused} missed or without a frame", intact.len());
    assert!(judged > 0 && judged + refused > 1700, "{judged} {refused}");
}

/// Nobody fetches the tickets: what the line takes is bounded, and the rest is refused.
#[test]
fn a_flood_is_bounded_and_refused() {
    let plc = Plc::new(false);
    let station = PlcLink::default();
    let serial = Serial::start(options(&plc, 4_000_000), station.clone()).unwrap();
    let mut sent = 0;
    // A pseudo-terminal may lose bytes of a flood; what comes is counted.
    while (station.status().counts.missed as usize) < 2 * MAX_OPEN {
        assert!(sent < 40 * MAX_OPEN as u32, "{:?}", station.status());
        for n in sent..sent + 16 {
            plc.trigger(n as u16, n);
        }
        sent += 16;
        std::thread::sleep(Duration::from_millis(4));
    }
    assert_eq!(station.status().trigger_id, Some(MAX_OPEN as u64 - 1));
    std::thread::sleep(Duration::from_millis(300));
    plc.trigger(60_000, 0);
    let answer = plc.answer(60_000);
    assert_eq!(answer, 6, "{:?} after {sent} triggers", station.status());
    drop(serial);
}

#[test]
fn a_heartbeat_tells_how_the_station_is_and_at_once_when_it_fails() {
    let plc = Plc::new(false);
    let station = PlcLink::default();
    let serial = Serial::start(options(&plc, 115_200), station.clone()).unwrap();
    let state = |state: State, code: u8| {
        plc.wait("state", |messages| {
            let same = |message: &Message| matches!(message, Message::Heartbeat { state: s, code: c, .. } if (*s, *c) == (state, code));
            messages.iter().any(|(_, message)| same(message)).then_some(())
        });
    };
    state(State::NotReady, 30);
    station.update(|handshake| handshake.set(Condition::Starting, false));
    state(State::Ready, 0);
    station.update(|handshake| handshake.set(Condition::Camera, true));
    let begun = Instant::now();
    state(State::Fault, 2);
    println!("the fault was told after {:.1?}", begun.elapsed());
    station.update(|handshake| handshake.set_temperature(Some(483)));
    let warm = |message: &Message| matches!(message, Message::Heartbeat { temperature: 483, .. });
    plc.wait("temperature", |messages| messages.iter().any(|(_, message)| warm(message)).then_some(()));
    drop(serial);
    state(State::Stopping, 2);
}

/// At 9600 baud an answer takes 12.5 ms: forty of them may not stand before a verdict.
#[test]
fn answers_never_delay_a_verdict() {
    let plc = Plc::new(false);
    let station = PlcLink::default();
    let mut serial = Serial::start(options(&plc, 9600), station.clone()).unwrap();
    (0..40).for_each(|n| plc.trigger(n, n.into()));
    plc.answer(0);
    let mut asked = vec![];
    for id in 0..5 {
        std::thread::sleep(Duration::from_millis(45)); // a verdict takes 42 ms
        asked.push(Instant::now());
        serial.apply(&pass(id, clock::now())).unwrap();
    }
    plc.answer(30);
    let heard = plc.heard.lock().unwrap().clone();
    let wire = |bytes: usize| Duration::from_micros(bytes as u64 * 10_000_000 / 9600);
    // What was on the wire when a verdict was written to it.
    let (mut free, mut waits) = (asked[0], vec![]);
    let mut receiver = Receiver::default();
    for (at, bytes) in &heard {
        // Two frames may come out of the pseudo-terminal as one.
        let mut count = |frame: Received| {
            if frame.kind == VERDICT {
                waits.push(free.saturating_duration_since(asked[waits.len()]));
            }
        };
        bytes.iter().for_each(|byte| receiver.push(*byte, &mut count));
        free = free.max(*at) + wire(bytes.len());
    }
    println!("verdicts waited {waits:.1?} for the wire");
    assert_eq!(waits.len(), 5);
    // The frame on the wire, and a busy machine's clocks; not the thirty answers that were waiting.
    assert!(waits.iter().all(|wait| *wait < Duration::from_millis(100)), "{waits:?}");
}

#[test]
fn lines_trigger_too() {
    let plc = Plc::new(false);
    let bench = Bench::new(&plc.path, "profile = \"ascii\"\nmasks = false", &external());
    let mut child = bench.start("100000");
    let text = || String::from_utf8(plc.bytes()).unwrap();
    let wait = |word: &str| {
        let start = Instant::now();
        while !text().contains(word) {
            assert!(start.elapsed() < Duration::from_secs(30), "no {word}: {}", text());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait("H,1,");
    plc.port.write_all(b"T,77\r\n").unwrap();
    wait("A,T,77*");
    wait(",77*"); // the verdict ends with it
    plc.port.write_all(b"T,78*0000\r\nJ,0\nA\r\nhello\n").unwrap();
    ["N,?,2*", "A,J,0*", "A,A*", "N,?,3*"].into_iter().for_each(wait);
    plc.port.write_all(&[b'T'; 500]).unwrap(); // no line is that long
    plc.port.write_all(b"\r\nT,79\r\n").unwrap();
    wait("A,T,79*");
    end(&mut child);
    let parts: Vec<u64> = bench.parts().iter().map(|part| part["part_id"].as_u64().unwrap()).collect();
    assert_eq!(parts, [77, 79], "{}", text());
    let verdicts = text().lines().filter(|line| line.starts_with("V,")).count();
    assert_eq!(verdicts, 2);
}
