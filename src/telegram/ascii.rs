//! The ASCII profile, for a PLC that takes lines: verdict, regions and heartbeat; no masks. Fields are separated by
//! commas, a line ends with `*` and the CRC-16/MODBUS of everything before the `*` (four hex digits, high byte first),
//! then CR LF.
//!
//! ```text
//! V,result_id,OK|NG,reason,class,score,latency_ms,regions,part_id,release*CRC
//! R,result_id,number,x,y,width,height,center_x,center_y,area,peak*CRC
//! H,state,uptime_s,missed,code*CRC
//! ```
//!
//! The PLC says `T,part_id`, `J,job` or `A` (the result was read), with or without `*CRC`; `A,...` and `N,...` answer
//! it.

use core::fmt::Write;

use super::crc16;
use super::message::{Message, Regions, Verdict};
use super::spec::refusal;

/// Bytes of a line at most, CR LF included.
pub const MAX_LINE: usize = 96;

/// A line's text.
pub type TextLine = heapless::String<MAX_LINE>;

/// The lines of a message: none where this profile has no word for it.
///
/// ```
/// use fcam::telegram::{Message, State, ascii};
///
/// let alive = Message::Heartbeat { state: State::Ready, code: 0, uptime_s: 60, temperature: 450, missed: 0, masks_lost: 0, drift: 1 };
/// let mut lines = vec![];
/// ascii::lines(&alive, |line| lines.push(line));
/// assert_eq!(lines[0].split('*').next(), Some("H,1,60,0,0,1"));
/// ascii::lines(&Message::Job { job: 3 }, |_| unreachable!("the camera does not say that"));
/// ```
pub fn lines(message: &Message, mut take: impl FnMut(TextLine)) {
    match message {
        Message::Verdict(verdict) => take(verdict_line(verdict)),
        Message::Regions(regions) => (0..regions.regions.len()).for_each(|index| take(region_line(regions, index))),
        Message::Heartbeat { state, code, uptime_s, missed, drift, .. } => {
            take(finish(format_args!("H,{},{uptime_s},{missed},{code},{drift}", state.code())));
        }
        _ => {}
    }
}

fn verdict_line(verdict: &Verdict) -> TextLine {
    let Verdict { result_id, ok, reason, class, score, latency, regions, part_id, release } = *verdict;
    let word = if ok { "OK" } else { "NG" };
    let (whole, part) = (score / 10_000, score % 10_000);
    let (ms, tenth) = (latency / 10, latency % 10);
    finish(format_args!(
        "V,{result_id},{word},{reason},{class},{whole}.{part:04},{ms}.{tenth},{regions},{part_id},{release}"
    ))
}

fn region_line(telegram: &Regions, index: usize) -> TextLine {
    let region = telegram.regions.get(index).copied().unwrap_or_default();
    let super::WireRegion { x, y, width, height, center_x, center_y, area, peak } = region;
    let (id, number) = (telegram.result_id, usize::from(telegram.first) + index);
    let (whole, part) = (peak / 10_000, peak % 10_000);
    finish(format_args!("R,{id},{number},{x},{y},{width},{height},{center_x},{center_y},{area},{whole}.{part:04}"))
}

fn finish(fields: core::fmt::Arguments) -> TextLine {
    let mut line = TextLine::new();
    // The longest line, all fields at their longest, has 82 characters: the test below holds that.
    let _ = line.write_fmt(fields);
    let crc = crc16(line.as_bytes());
    let _ = write!(line, "*{crc:04X}\r\n");
    line
}

/// What a PLC says in a line.
///
/// ```
/// use fcam::telegram::ascii::{self, Command};
///
/// assert_eq!(ascii::command(b"T,4711"), Some(Ok(Command::Trigger(4711)))); // a CRC is not asked for
/// assert_eq!(ascii::command(b"T,4711*0000"), Some(Err(2))); // but it must be right: see spec::REFUSALS
/// assert_eq!(ascii::command(b""), None);
/// assert!(ascii::answer(Some(Command::Trigger(4711)), None).starts_with("A,T,4711*"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// A part is there, under this number.
    Trigger(u32),
    /// Change the job.
    Job(u16),
    /// The result was read.
    Read,
}

/// Reads a line without its end. None where nothing was said: an empty line, or one of the camera's own that came back.
/// An error is the code of [`super::spec::REFUSALS`]; a CRC is believed if it is there, and not asked for.
pub fn command(line: &[u8]) -> Option<Result<Command, u8>> {
    if line.is_empty() || own(line) {
        return None;
    }
    Some(read(line))
}

fn own(line: &[u8]) -> bool {
    let answer = line.starts_with(b"A,") || line.starts_with(b"N,");
    answer || matches!(line, [b'V' | b'R' | b'H', b',', ..])
}

fn read(line: &[u8]) -> Result<Command, u8> {
    let text = match line.iter().rposition(|byte| *byte == b'*') {
        Some(at) => checked(line, at).ok_or(refusal::MALFORMED)?,
        None => line,
    };
    match text {
        [b'T', b',', digits @ ..] => number(digits).map(Command::Trigger).ok_or(refusal::MALFORMED),
        [b'J', b',', digits @ ..] => {
            number(digits).and_then(|job| job.try_into().ok()).map(Command::Job).ok_or(refusal::MALFORMED)
        }
        [b'A'] => Ok(Command::Read),
        _ => Err(refusal::UNKNOWN),
    }
}

/// What stands before the `*`, if the CRC behind it is right.
fn checked(line: &[u8], star: usize) -> Option<&[u8]> {
    let (text, digits) = line.split_at_checked(star)?;
    let [b'*', digits @ ..] = digits else { return None };
    let right = digits.len() == 4 && digits.iter().all(u8::is_ascii_hexdigit);
    let crc = u16::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()?;
    (right && crc == crc16(text)).then_some(text)
}

fn number(digits: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(digits).ok()?;
    let plain = digits.iter().all(u8::is_ascii_digit);
    text.parse().ok().filter(|_| plain)
}

/// The answer to a line: followed, or refused with a code.
pub fn answer(command: Option<Command>, refused: Option<u8>) -> TextLine {
    let mut what: heapless::String<16> = heapless::String::new();
    // A letter, a comma and ten digits have room.
    let _ = match command {
        Some(Command::Trigger(part_id)) => write!(what, "T,{part_id}"),
        Some(Command::Job(job)) => write!(what, "J,{job}"),
        Some(Command::Read) => write!(what, "A"),
        None => write!(what, "?"),
    };
    match refused {
        None => finish(format_args!("A,{what}")),
        Some(code) => finish(format_args!("N,{what},{code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::WireRegion;
    use super::*;

    fn all(message: &Message) -> Vec<String> {
        let mut found = vec![];
        lines(message, |line| found.push(line.to_string()));
        found
    }

    #[test]
    fn a_verdict_is_a_line() {
        let verdict = Verdict {
            result_id: 12,
            ok: false,
            reason: 1,
            class: 3,
            score: 9876,
            latency: 123,
            regions: 2,
            part_id: 7,
            release: 41,
        };
        let found = all(&Message::Verdict(verdict));
        let text = "V,12,NG,1,3,0.9876,12.3,2,7,41";
        assert_eq!(found, [format!("{text}*{:04X}\r\n", crc16(text.as_bytes()))]);
        assert_eq!(all(&Message::Ack { sequence: 1 }), Vec::<String>::new());
    }

    #[test]
    fn a_plc_says_lines() {
        let crc = |text: &str| format!("{text}*{:04X}", crc16(text.as_bytes()));
        for (line, expected) in [
            ("T,7", Some(Ok(Command::Trigger(7)))),
            (&crc("T,4294967295"), Some(Ok(Command::Trigger(u32::MAX)))),
            (&crc("J,3"), Some(Ok(Command::Job(3)))),
            ("A", Some(Ok(Command::Read))),
            (&crc("A"), Some(Ok(Command::Read))),
            ("T,8*0000", Some(Err(refusal::MALFORMED))),
            ("T,7*", Some(Err(refusal::MALFORMED))),
            ("T,", Some(Err(refusal::MALFORMED))),
            ("T,+7", Some(Err(refusal::MALFORMED))),
            ("T,4294967296", Some(Err(refusal::MALFORMED))),
            ("J,65536", Some(Err(refusal::MALFORMED))),
            ("t,7", Some(Err(refusal::UNKNOWN))),
            ("", None),
            ("A,T,7*0000", None),
            ("V,1,OK", None),
        ] {
            assert_eq!(command(line.as_bytes()), expected, "{line}");
        }
        assert_eq!(answer(Some(Command::Trigger(7)), None).as_str(), format!("{}\r\n", crc("A,T,7")));
        assert_eq!(answer(None, Some(2)).as_str(), format!("{}\r\n", crc("N,?,2")));
    }

    #[test]
    fn the_longest_line_fits() {
        let side = u16::MAX;
        let region = WireRegion {
            x: side,
            y: side,
            width: side,
            height: side,
            center_x: side,
            center_y: side,
            area: u32::MAX,
            peak: side,
        };
        let regions = heapless::Vec::from_slice(&[region; 8]).unwrap();
        let telegram = Regions { result_id: u32::MAX, found: 255, first: 247, roi: [side; 4], regions };
        let found = all(&Message::Regions(telegram));
        assert_eq!(found.len(), 8);
        assert!(found.iter().all(|line| line.ends_with("\r\n") && line.len() < MAX_LINE), "{found:?}");
    }
}
