//! Mutated requests through the Modbus parser: whatever comes, it does not panic, and every answer is well-formed.
//!
//! Seconds of it in a plain test run; `FCAM_FUZZ_SECONDS=3600 cargo test --test suite fuzz_modbus:: -- --nocapture`
//! (`./dev fuzz line`) goes on for an hour. `FCAM_FUZZ_SEED` repeats a run.

use std::time::{Duration, Instant};

use fcam::modbus::adu::{self, MAX_RTU, MAX_TCP, Tcp};
use fcam::modbus::{self, Access, ControlRegisters, Exception};
use random::Random;

use crate::random;

const SECONDS: u64 = 3;

const REQUESTS: [&[u8]; 6] = [
    &[4, 0, 0, 0, 125],
    &[3, 3, 0xe8, 0, 20],
    &[6, 0, 0, 0, 1],
    &[16, 0, 0, 0, 4, 8, 0, 3, 0, 0, 0, 0, 0, 7],
    &[43, 14, 2, 0],
    &[1, 0, 0, 0, 1],
];

/// A request with a few bytes changed, cut or added; sometimes nothing but noise.
fn request(random: &mut Random) -> Vec<u8> {
    if random.once_in(8) {
        return (0..random.below(300)).map(|_| random.next() as u8).collect();
    }
    let mut bytes = random.pick(&REQUESTS).to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len());
        let any = random.next() as u8;
        let changed = random.pick(&[0, 1, 2, 0x7f, 0xff, any]);
        match random.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.extend((0..random.below(250)).map(|n| n as u8)),
            _ if !bytes.is_empty() => bytes[at] = changed,
            _ => {}
        }
    }
    bytes
}

/// The registers: inputs hold their own address, controls are real.
fn access(access: Access, words: &mut ControlRegisters) -> Result<(), Exception> {
    match access {
        Access::Inputs { address, into } | Access::Holdings { address, into } => {
            if usize::from(address) + into.len() / 2 > 2000 {
                return Err(Exception::Address);
            }
            into.iter_mut().for_each(|byte| *byte = address as u8);
            Ok(())
        }
        Access::Write { address, from } => {
            assert!(from.len() % 2 == 0 && !from.is_empty());
            *words = words.with(address, from.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])))?;
            Ok(())
        }
    }
}

fn is_well_formed(request: &[u8], answer: &[u8]) {
    let function = request.first().copied().unwrap_or(0);
    let fits = match answer {
        [refused, code] => *refused == function | 0x80 && (1..=3).contains(code),
        [3 | 4, count, words @ ..] => {
            answer[0] == function && words.len() == usize::from(*count) && words.len() == 2 * usize::from(request[4])
        }
        [6, rest @ ..] => function == 6 && rest == &request[1..],
        [16, rest @ ..] => function == 16 && rest == &request[1..5],
        [43, 14, code, _, 0, 0, count, objects @ ..] => {
            let (mut rest, mut listed) = (objects, 0);
            while let [_, length, text @ ..] = rest {
                (rest, listed) = (&text[usize::from(*length)..], listed + 1);
            }
            function == 43 && *code == request[2] && rest.is_empty() && listed == *count
        }
        _ => false,
    };
    assert!(fits && answer.len() <= 253, "{request:02x?} is answered by {answer:02x?}");
}

/// Through the frames of both transports and back: what goes in is what is found.
fn frames(bytes: &[u8], random: &mut Random) {
    let pdu = &bytes[..bytes.len().min(253)];
    if pdu.is_empty() {
        return;
    }
    let mut frame = heapless::Vec::<u8, MAX_TCP>::new();
    adu::tcp_answer(&[1, 2, 0, 0, 0, 0, 9], pdu, &mut frame);
    assert_eq!(adu::tcp(&frame), Tcp::Frame(pdu.len() + 7));
    assert_eq!(adu::tcp(&frame[..random.below(frame.len())]), Tcp::Partial);
    let mut frame = heapless::Vec::<u8, MAX_RTU>::new();
    adu::rtu_answer(9, pdu, &mut frame);
    assert_eq!(adu::rtu(&frame, 9), Ok(pdu));
    let at = random.below(frame.len());
    frame[at] ^= 1 << random.below(8);
    assert_eq!(adu::rtu(&frame, 9), Err(adu::Dropped::Damaged));
}

#[test]
fn whatever_is_asked_the_answer_is_well_formed() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seconds, seed) = (number("FCAM_FUZZ_SECONDS", SECONDS), number("FCAM_FUZZ_SEED", 0));
    let (mut random, mut words) = (Random(seed), ControlRegisters::default());
    let (start, mut asked, mut followed) = (Instant::now(), 0u64, 0u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..1000 {
            let bytes = request(&mut random);
            let answer = modbus::answer(&bytes, |what| access(what, &mut words)).to_vec();
            is_well_formed(&bytes, &answer);
            adu::tcp(&bytes);
            let _ = adu::rtu(&bytes, 9);
            adu::rtu_goes_on(&bytes, 9);
            frames(&bytes, &mut random);
            (asked, followed) = (asked + 1, followed + u64::from(answer[0] & 0x80 == 0));
        }
    }
    println!("{asked} requests from seed {seed} on, {followed} followed");
    assert!(followed > 0 && followed < asked);
}
