//! The telegram codec: what is written is read, whatever bytes come nothing panics, and a receiver finds its place
//! again.
//!
//! `FCAM_FUZZ_SECONDS=3600 cargo test --test suite telegram:: -- --nocapture` throws changed streams at the receiver
//! for an hour; a plain test run does so for seconds.

use std::fs;
use std::time::{Duration, Instant};

use fcam::handshake::Condition;
use fcam::telegram::message::{CODEC_RUNS, MAX_DATA, MAX_REGIONS, kind};
use fcam::telegram::spec::{CODES, FIELDS, KINDS, REASONS, REFUSALS};
use fcam::telegram::{
    Abort, Chunk, MAX_FRAME, Message, OVERHEAD, Received, Receiver, Regions, State, Verdict, WireRegion, encode, runs,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn region() -> impl Strategy<Value = WireRegion> {
    let sides = (any::<u16>(), any::<u16>(), any::<u16>(), any::<u16>(), any::<u16>(), any::<u16>());
    (sides, any::<u32>(), any::<u16>()).prop_map(|((x, y, width, height, center_x, center_y), area, peak)| WireRegion {
        x,
        y,
        width,
        height,
        center_x,
        center_y,
        area,
        peak,
    })
}

fn verdict() -> impl Strategy<Value = Message> {
    (any::<u32>(), 0u8..9, any::<u8>(), any::<u16>(), any::<u16>(), any::<u8>(), any::<u32>(), any::<u32>()).prop_map(
        |(result_id, reason, class, score, latency, regions, part_id, release)| {
            Message::Verdict(Verdict {
                result_id,
                ok: reason == 0,
                reason,
                class,
                score,
                latency,
                regions,
                part_id,
                release,
            })
        },
    )
}

fn chunk() -> impl Strategy<Value = Message> {
    let numbers = (any::<u32>(), 0u32..1 << 24, any::<u16>(), any::<u16>());
    let kinds = (prop::sample::select(vec![1u8, 2, 4]), any::<bool>(), prop::option::of(any::<u32>()));
    (numbers, kinds, vec(any::<u8>(), 0..=MAX_DATA)).prop_map(
        |((result_id, offset, width, height), (scale, reduced, crc), data)| {
            let total = offset + data.len() as u32 + u32::from(crc.is_none());
            let data = heapless::Vec::from_slice(&data).unwrap();
            let codec = CODEC_RUNS;
            Message::MaskChunk(Chunk { result_id, offset, total, codec, scale, width, height, reduced, data, crc })
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let regions = (any::<u32>(), any::<u8>(), any::<u8>(), any::<[u16; 4]>(), vec(region(), 0..=MAX_REGIONS));
    prop_oneof![
        verdict(),
        chunk(),
        regions.prop_map(|(result_id, found, first, roi, list)| {
            Message::Regions(Regions {
                result_id,
                found,
                first,
                roi,
                regions: heapless::Vec::from_slice(&list).unwrap(),
            })
        }),
        (any::<u8>(), any::<u8>(), any::<u16>(), any::<u32>())
            .prop_map(|(minor, caps, frame_bytes, config)| Message::Hello { minor, caps, frame_bytes, config }),
        (1u8..6, any::<u8>(), any::<u32>(), any::<i16>(), any::<u32>(), any::<u32>(), any::<u16>()).prop_map(
            |(state, code, uptime_s, temperature, missed, masks_lost, drift)| {
                let known = [State::Ready, State::Stopping, State::NotReady, State::Fault, State::Other(5)];
                let state = known[usize::from(state) - 1];
                Message::Heartbeat { state, code, uptime_s, temperature, missed, masks_lost, drift }
            }
        ),
        any::<u32>().prop_map(|result_id| Message::MaskAbort { result_id, reason: Abort::Superseded }),
        any::<u32>().prop_map(|part_id| Message::Trigger { part_id }),
        any::<u16>().prop_map(|job| Message::Job { job }),
        any::<u16>().prop_map(|sequence| Message::Ack { sequence }),
        (any::<u16>(), any::<u8>()).prop_map(|(sequence, code)| Message::Nak { sequence, code }),
    ]
}

fn receive(bytes: &[u8]) -> (Vec<Received>, u32) {
    let (mut receiver, mut found) = (Receiver::default(), vec![]);
    bytes.iter().for_each(|byte| receiver.push(*byte, |frame| found.push(frame)));
    receiver.gap(|frame| found.push(frame));
    (found, receiver.errors)
}

fn parse(frame: &Received) -> Message {
    Message::parse(frame.kind, &frame.payload).unwrap()
}

proptest! {
    #[test]
    fn what_is_written_is_read(messages in vec(message(), 1..8), first in any::<u16>()) {
        let sequences: Vec<u16> = (0..messages.len()).map(|n| first.wrapping_add(n as u16)).collect();
        let stream: Vec<u8> = messages.iter().zip(&sequences).flat_map(|(m, s)| encode(*s, m)).collect();
        let (frames, errors) = receive(&stream);
        prop_assert_eq!(errors, 0);
        prop_assert_eq!(frames.iter().map(|frame| frame.sequence).collect::<Vec<_>>(), sequences);
        prop_assert_eq!(frames.iter().map(parse).collect::<Vec<_>>(), messages);
    }

    #[test]
    fn garbage_does_not_panic_and_holds_nothing_back(garbage in vec(any::<u8>(), 0..3000), message in message()) {
        let (before, _) = receive(&garbage);
        let mut stream = garbage;
        stream.extend(encode(7, &message));
        let (frames, _) = receive(&stream);
        // Should garbage be a frame by chance, it is there in both.
        prop_assert_eq!(frames.len(), before.len() + 1);
        prop_assert_eq!(parse(frames.last().unwrap()), message);
    }

    #[test]
    fn any_payload_is_a_message_or_an_error(kind in any::<u8>(), payload in vec(any::<u8>(), 0..1011)) {
        if let Ok(message) = Message::parse(kind, &payload) {
            prop_assert_eq!(message.kind(), kind);
        }
        if let Some((known, _)) = FIELDS.iter().find(|(known, _)| *known == kind) {
            prop_assert!(Message::parse(*known, &[]).is_err());
        }
    }

    #[test]
    fn one_changed_byte_is_noticed(message in message(), at in any::<prop::sample::Index>(), change in 1u8..) {
        let mut frame = encode(1, &message);
        let at = at.index(frame.len());
        frame[at] ^= change;
        let (frames, _) = receive(&frame);
        prop_assert!(frames.iter().all(|found| found.payload.len() + OVERHEAD < frame.len()), "taken changed at {}", at);
    }

    #[test]
    fn run_lengths_are_the_mask(lengths in vec(1u32..100_000, 0..200), leading in any::<bool>()) {
        let all: Vec<u32> = leading.then_some(0).into_iter().chain(lengths).collect();
        let bytes: Vec<u8> = all.iter().flat_map(|length| runs::encode(*length)).collect();
        let size = |length: &u32| (32 - length.max(&1).leading_zeros() as usize).div_ceil(7);
        prop_assert_eq!(bytes.len(), all.iter().map(size).sum::<usize>(), "seven bits a byte");
        let (mut spans, mut expected, mut at) = (vec![], vec![], 0);
        for (index, length) in all.iter().enumerate() {
            if index % 2 == 1 {
                expected.push((at, at + length));
            }
            at += length;
        }
        prop_assert_eq!(runs::decode(&bytes, at, |start, end| spans.push((start, end))), Ok(()));
        prop_assert_eq!(spans, expected);
        prop_assert!(runs::decode(&bytes, at + 1, |_, _| ()).is_err());
    }

    #[test]
    fn run_lengths_of_garbage_are_refused_or_add_up(bytes in vec(any::<u8>(), 0..300), pixels in any::<u32>()) {
        let mut last = 0;
        let done = runs::decode(&bytes, pixels, |start, end| {
            assert!(start >= last && end > start && end <= pixels);
            last = end;
        });
        prop_assert!(done.is_ok() || done.is_err());
    }
}

/// A good part.
const GOOD: Verdict =
    Verdict { release: 3, part_id: 9, result_id: 5, ok: true, reason: 0, class: 255, score: 1, latency: 2, regions: 0 };

#[test]
fn a_gap_frees_what_a_wrong_length_swallowed() {
    let verdict = GOOD;
    let mut long = encode(1, &Message::Verdict(verdict)).to_vec();
    long[2] = 3; // LEN says 796
    let mut receiver = Receiver::default();
    let mut found = vec![];
    long.iter().for_each(|byte| receiver.push(*byte, |frame| found.push(frame)));
    encode(2, &Message::Verdict(verdict)).iter().for_each(|byte| receiver.push(*byte, |frame| found.push(frame)));
    assert!(found.is_empty(), "it waits for the rest");
    receiver.gap(|frame| found.push(frame));
    assert_eq!(found.iter().map(|frame| frame.sequence).collect::<Vec<_>>(), [2]);
    assert!(receiver.errors > 0);
}

/// Frames written by hand from the page, byte for byte.
#[test]
fn the_examples_of_the_page() {
    let trigger = encode(0x0102, &Message::Trigger { part_id: 7 });
    assert_eq!(trigger[..12], [0xa5, 0x5a, 0, 10, 1, 0x10, 1, 2, 0, 0, 0, 7]);
    let page = fs::read_to_string("board/plc/telegram.md").unwrap();
    let verdict = Verdict {
        release: 41,
        part_id: 7,
        result_id: 12,
        ok: false,
        reason: 1,
        class: 3,
        score: 9876,
        latency: 123,
        regions: 2,
    };
    for message in [Message::Trigger { part_id: 7 }, Message::Ack { sequence: 0x0102 }, Message::Verdict(verdict)] {
        let text: Vec<String> = encode(0x0102, &message).iter().map(|byte| format!("{byte:02X}")).collect();
        assert!(page.contains(&text.join(" ")), "the page has no example {}", text.join(" "));
    }
}

/// A verdict of minor version 0 ends before the part's number, one of minor version 1 before the release.
#[test]
fn an_older_verdict_is_read() {
    let verdict = GOOD;
    let payload = Message::Verdict(verdict).payload();
    assert_eq!(Message::parse(kind::VERDICT, &payload), Ok(Message::Verdict(verdict)));
    let old = Verdict { release: 0, ..verdict };
    assert_eq!(Message::parse(kind::VERDICT, &payload[..26]), Ok(Message::Verdict(old)));
    let old = Verdict { part_id: 0, ..old };
    assert_eq!(Message::parse(kind::VERDICT, &payload[..22]), Ok(Message::Verdict(old)));
    assert!(Message::parse(kind::VERDICT, &payload[..21]).is_err());
}

/// The codec knows no conditions; its table does.
#[test]
fn every_code_is_listed() {
    for condition in Condition::ALL {
        let known = REASONS.iter().chain(&CODES).any(|(code, _)| *code == condition.code());
        assert!(known, "{condition:?}");
    }
    for (code, _) in CODES {
        assert!(Condition::ALL.iter().any(|condition| condition.code() == code), "{code}");
    }
    for (fault, _) in fcam::station::FAULT_NAMES {
        assert!(REASONS.iter().any(|(code, _)| *code == fault.code()), "{fault:?}");
    }
}

/// The codec runs where there is no `std` and no heap.
#[test]
fn the_codec_imports_core_alone() {
    let mut files = vec!["src/telegram.rs".to_string()];
    files.extend(fs::read_dir("src/telegram").unwrap().map(|entry| entry.unwrap().path().display().to_string()));
    assert!(files.len() > 5);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in ["std::", "alloc::", "String::", "format!(", "vec![", "Box<", "crate::"] {
            let found = code.lines().find(|line| {
                !line.trim_start().starts_with("//") && line.replace("heapless::String::", "").contains(word)
            });
            assert!(found.is_none_or(|line| line.contains("Line::new")), "{file} has {word}: {found:?}");
        }
        for line in code.lines().filter_map(|line| line.strip_prefix("use ")) {
            let root = line.split("::").next().unwrap();
            assert!(["core", "crc", "heapless", "super"].contains(&root) || !line.contains("::"), "{file}: {line}");
        }
    }
}

/// The tables that the page must hold; `FCAM_WRITE_SPEC=1` writes them into it.
fn tables() -> String {
    let mut out = String::from("| type | name | from | says |\n|---|---|---|---|\n");
    for (kind, name, from, says) in KINDS {
        out += &format!("| {kind:02X} | {name} | {from} | {says} |\n");
    }
    for (kind, fields) in FIELDS {
        let name = KINDS.iter().find(|known| known.0 == kind).unwrap().1;
        out += &format!("\n### {kind:02X} {name}\n\n| offset | field | type | meaning |\n|---|---|---|---|\n");
        for (offset, field, form, meaning) in fields {
            out += &format!("| {offset} | {field} | {form} | {meaning} |\n");
        }
    }
    let lists = [
        ("`reason` of VERDICT", &REASONS[..]),
        ("`code` of HEARTBEAT, beside those reasons", &CODES[..]),
        ("`code` of NAK", &REFUSALS[..]),
    ];
    for (title, codes) in lists {
        out += &format!("\n### {title}\n\n| code | meaning |\n|---|---|\n");
        for (code, meaning) in codes {
            out += &format!("| {code} | {meaning} |\n");
        }
    }
    out
}

#[test]
fn the_page_has_the_tables_of_the_code() {
    let (begin, end) = ("<!-- tables: generated -->\n", "<!-- tables: end -->");
    let page = fs::read_to_string("board/plc/telegram.md").unwrap();
    let (before, rest) = page.split_once(begin).unwrap();
    let (held, after) = rest.split_once(end).unwrap();
    if std::env::var_os("FCAM_WRITE_SPEC").is_some() {
        return fs::write("board/plc/telegram.md", format!("{before}{begin}{}{end}{after}", tables())).unwrap();
    }
    assert!(held == tables(), "board/plc/telegram.md is not what the code says: run this test with FCAM_WRITE_SPEC=1");
}

/// The tables' offsets are those of the bytes: each field is as wide as its type says and follows the one before.
#[test]
fn the_tables_are_the_payloads() {
    let sample = |kind| match kind {
        kind::HELLO => Message::Hello { minor: 1, caps: 2, frame_bytes: 3, config: 4 },
        kind::HEARTBEAT => {
            let (uptime_s, temperature, missed, masks_lost, drift) = (1, 2, 3, 4, 5);
            Message::Heartbeat { state: State::Ready, code: 0, uptime_s, temperature, missed, masks_lost, drift }
        }
        kind::VERDICT => {
            let (score, latency, regions, part_id, release) = (1, 2, 3, 4, 5);
            Message::Verdict(Verdict {
                result_id: 1,
                ok: true,
                reason: 0,
                class: 0,
                score,
                latency,
                regions,
                part_id,
                release,
            })
        }
        kind::REGIONS => {
            let regions = heapless::Vec::from_slice(&[WireRegion::default()]).unwrap();
            Message::Regions(Regions { result_id: 1, found: 1, first: 0, roi: [0; 4], regions })
        }
        kind::MASK_CHUNK => {
            let data = heapless::Vec::new();
            let (offset, total, codec, scale, width, height) = (0, 1, 1, 1, 1, 1);
            let (result_id, reduced, crc) = (1, false, None);
            Message::MaskChunk(Chunk { result_id, offset, total, codec, scale, width, height, reduced, data, crc })
        }
        kind::MASK_ABORT => Message::MaskAbort { result_id: 1, reason: Abort::Omitted },
        kind::TRIGGER => Message::Trigger { part_id: 1 },
        kind::JOB => Message::Job { job: 1 },
        kind::ACK => Message::Ack { sequence: 1 },
        _ => Message::Nak { sequence: 1, code: 1 },
    };
    for (kind, fields) in FIELDS {
        let mut next = 0;
        for (offset, name, form, _) in fields {
            assert_eq!(*offset, next, "{kind:02x} {name}");
            next += match *form {
                "u8" => 1,
                "u16" | "i16" => 2,
                "u32" => 4,
                _ => 0,
            };
        }
        assert_eq!(sample(kind).payload().len(), next, "{kind:02x}");
        assert!(KINDS.iter().any(|known| known.0 == kind));
    }
}

/// splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// A frame of random bytes of a random type: valid on the wire, sensible or not inside.
fn random_frame(random: &mut Random) -> Vec<u8> {
    let (kind, length) = (KINDS[random.below(KINDS.len())].0, random.below(60));
    let payload: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
    let mut frame = vec![0xa5, 0x5a, 0, (length + 6) as u8, 1, kind, random.next() as u8, random.next() as u8];
    frame.extend(payload);
    let crc = fcam::telegram::crc16(&frame[2..]);
    frame.extend(crc.to_le_bytes());
    frame
}

fn damage(stream: &mut Vec<u8>, random: &mut Random) {
    if stream.is_empty() {
        return;
    }
    let at = random.below(stream.len());
    match random.below(4) {
        0 => stream[at] = random.next() as u8,
        1 => drop(stream.remove(at)),
        2 => stream.insert(at, [0xa5, 0x5a, 0, 0xff][random.below(4)]),
        _ => stream.truncate(at.max(1)),
    }
}

#[test]
fn changed_streams_neither_panic_nor_hang() {
    let seconds = std::env::var("FCAM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut streams, mut bytes, mut frames, mut messages) = (0u64, 0u64, 0u64, 0u64);
    while Instant::now() < end {
        let mut random = Random(streams);
        let mut stream: Vec<u8> = (0..=random.below(20)).flat_map(|_| random_frame(&mut random)).collect();
        for _ in 0..random.below(10) {
            damage(&mut stream, &mut random);
        }
        let (found, _) = receive(&stream);
        assert!(found.iter().map(|frame| frame.payload.len() + OVERHEAD).sum::<usize>() <= stream.len());
        assert!(found.iter().all(|frame| frame.payload.len() + OVERHEAD <= MAX_FRAME));
        messages += found.iter().filter(|frame| Message::parse(frame.kind, &frame.payload).is_ok()).count() as u64;
        (streams, bytes, frames) = (streams + 1, bytes + stream.len() as u64, frames + found.len() as u64);
    }
    println!("{streams} streams, {bytes} bytes: {frames} frames, {messages} messages");
    assert!(frames > 1000);
}
