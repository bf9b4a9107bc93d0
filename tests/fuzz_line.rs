//! What people and wires send: telegrams and station files, mutated. A telegram is taken whole or not at all, a station
//! file is refused with every problem named, and nothing panics.
//!
//! Seconds of it in a plain test run; `FCAM_FUZZ_SECONDS=3600 cargo test --test suite fuzz_line:: -- --nocapture`
//! (`./dev fuzz line`) goes on for an hour and says what it did. `FCAM_FUZZ_SEED` repeats a case that failed.

use std::path::Path;
use std::time::{Duration, Instant};

use fcam::config;
use fcam::telegram::{Message, OVERHEAD, Received, Receiver, SYNC, crc16, encode, runs};
use random::Random;

use crate::random;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs cases with seeds of their own until the time is up; says how many.
fn cases(what: &str, mut case: impl FnMut(&mut Random)) {
    let (seconds, first) = (number("FCAM_FUZZ_SECONDS", 3), number("FCAM_FUZZ_SEED", 0));
    let (start, mut seed) = (Instant::now(), first);
    while start.elapsed() < Duration::from_secs(seconds) {
        case(&mut Random(seed));
        seed += 1;
    }
    println!("{what}: {} cases from seed {first} on", seed - first);
}

/// A frame with any type and payload, under a CRC that holds.
fn frame(random: &mut Random) -> Vec<u8> {
    let length = [random.below(40), random.below(1010)][random.below(2)];
    let mut body = ((length + 6) as u16).to_be_bytes().to_vec();
    body.push(random.pick(&[1, 1, 1, 2]));
    body.push(random.pick(&[1, 2, 3, 4, 5, 6, 0x10, 0x11, 0x12, 0x7f, 0x55]));
    body.extend((0..length + 2).map(|_| random.pick(&[0, 1, 2, 0xa5, 0x5a, 0xff, 0x80, random_byte(7)])));
    let crc = crc16(&body).to_le_bytes();
    [&SYNC[..], &body, &crc].concat()
}

fn random_byte(seed: u64) -> u8 {
    Random(seed).next() as u8
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(4) {
        if bytes.len() < 2 {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, random.pick(&[0xa5, 0x5a, 0, 0xff])),
            _ => bytes.truncate(at.max(1)),
        }
    }
}

#[test]
fn telegrams_are_taken_whole_or_not_at_all() {
    cases("telegrams", |random| {
        let mut stream: Vec<u8> = vec![];
        for _ in 0..1 + random.below(5) {
            let mut bytes = frame(random);
            damage(&mut bytes, random);
            stream.extend(bytes);
        }
        let mut taken: Vec<Received> = vec![];
        let mut receiver = Receiver::default();
        stream.iter().for_each(|byte| receiver.push(*byte, |frame| taken.push(frame)));
        receiver.gap(|frame| taken.push(frame));
        for frame in taken {
            check(&frame, &stream);
        }
    });
}

/// What is taken stands in the stream with a CRC that holds; what is understood says the same when it is sent again.
fn check(frame: &Received, stream: &[u8]) {
    let length = frame.payload.len() + OVERHEAD;
    let held = stream
        .windows(length)
        .any(|window| window[..2] == SYNC && window[8..length - 2] == frame.payload[..] && crc16(&window[2..]) == 0);
    assert!(held, "{frame:?}");
    let Ok(message) = Message::parse(frame.kind, &frame.payload) else { return };
    let again = encode(frame.sequence, &message);
    let mut receiver = Receiver::default();
    let mut back = None;
    again.iter().for_each(|byte| receiver.push(*byte, |frame| back = Some(frame)));
    let back = back.unwrap();
    assert_eq!(Message::parse(back.kind, &back.payload).ok(), Some(message));
}

/// Lines of the manual, mixed, with values of other lines.
fn station_file(lines: &[&str], random: &mut Random) -> String {
    let mut text = String::new();
    let mut values: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once(" = ")?.1)).collect();
    values.extend([
        "-1",
        "1e300",
        "nan",
        "\"\"",
        "[]",
        "{}",
        "true",
        "99999999999999999999",
        "[[",
        "\"\u{0}\u{ffff}\"",
        "2024-01-01",
    ]);
    for line in lines {
        match random.below(12) {
            0 => {}
            1 => text.push_str(&format!("{} = {}\n", line.split(" = ").next().unwrap(), random.pick(&values))),
            2 => text.push_str(&format!("{}\n", random.pick(lines))),
            _ => text.push_str(&format!("{line}\n")),
        }
    }
    let mut bytes = text.into_bytes();
    if random.once_in(3) {
        damage(&mut bytes, random);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn station_files_are_refused_by_name() {
    let manual =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("board/station.example.toml")).unwrap();
    // Keys that are only shown count as well.
    let shown = |line: &&str| line.starts_with('[') || line.trim_start_matches("# ").contains(" = ");
    let lines: Vec<&str> = manual.lines().filter(shown).map(|line| line.trim_start_matches("# ")).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("station.toml");
    cases("station files", |random| {
        let text = station_file(&lines, random);
        std::fs::write(&path, &text).unwrap();
        for problem in config::check(&path) {
            assert!(!problem.trim().is_empty() && !problem.contains("panic"), "{text}");
        }
        drop(config::serial_line(&path));
    });
}

#[test]
fn run_lengths_add_up_or_are_refused() {
    cases("run lengths", |random| {
        let pixels = random.below(70_000) as u32;
        let bytes: Vec<u8> = (0..random.below(64)).map(|_| random.next() as u8).collect();
        let mut last = 0;
        let taken = runs::decode(&bytes, pixels, |start, end| {
            assert!(last <= start && start < end && end <= pixels);
            last = end;
        });
        let lengths = bytes.split_inclusive(|byte| byte & 0x80 == 0);
        let sum = lengths
            .map(|one| one.iter().rev().fold(0u128, |sum, byte| (sum << 7) | u128::from(byte & 0x7f)))
            .sum::<u128>();
        assert!(taken.is_err() || sum == u128::from(pixels));
    });
}
