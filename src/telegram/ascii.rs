//! The ASCII profile, for a PLC that takes lines: verdict, regions and heartbeat; no masks. Fields are separated by commas, a line ends with
//! `*` and the CRC-16/MODBUS of everything before the `*` (four hex digits, high byte first), then CR LF.
//!
//! ```text
//! V,result_id,OK|NG,reason,class,score,latency_ms,regions*CRC
//! R,result_id,number,x,y,width,height,center_x,center_y,area,peak*CRC
//! H,state,uptime_s,missed*CRC
//! ```

use core::fmt::Write;

use super::crc16;
use super::message::{Message, Regions, Verdict};

/// Bytes of a line at most, CR LF included.
pub const MAX_LINE: usize = 96;

/// A line's text.
pub type Line = heapless::String<MAX_LINE>;

/// The lines of a message: none where this profile has no word for it.
pub fn lines(message: &Message, mut take: impl FnMut(Line)) {
    match message {
        Message::Verdict(verdict) => take(verdict_line(verdict)),
        Message::Regions(regions) => (0..regions.regions.len()).for_each(|index| take(region_line(regions, index))),
        Message::Heartbeat { state, uptime_s, missed, .. } => {
            take(finish(format_args!("H,{},{uptime_s},{missed}", state.code())));
        }
        _ => {}
    }
}

fn verdict_line(verdict: &Verdict) -> Line {
    let Verdict { result_id, ok, reason, class, score, latency, regions } = *verdict;
    let word = if ok { "OK" } else { "NG" };
    let (whole, part) = (score / 10_000, score % 10_000);
    let (ms, tenth) = (latency / 10, latency % 10);
    finish(format_args!("V,{result_id},{word},{reason},{class},{whole}.{part:04},{ms}.{tenth},{regions}"))
}

fn region_line(telegram: &Regions, index: usize) -> Line {
    let region = telegram.regions.get(index).copied().unwrap_or_default();
    let super::Region { x, y, width, height, center_x, center_y, area, peak } = region;
    let (id, number) = (telegram.result_id, usize::from(telegram.first) + index);
    let (whole, part) = (peak / 10_000, peak % 10_000);
    finish(format_args!("R,{id},{number},{x},{y},{width},{height},{center_x},{center_y},{area},{whole}.{part:04}"))
}

fn finish(fields: core::fmt::Arguments) -> Line {
    let mut line = Line::new();
    // The longest line, all fields at their longest, has 82 characters: the test below holds that.
    let _ = line.write_fmt(fields);
    let crc = crc16(line.as_bytes());
    let _ = write!(line, "*{crc:04X}\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::super::Region;
    use super::*;

    fn all(message: &Message) -> Vec<String> {
        let mut found = vec![];
        lines(message, |line| found.push(line.to_string()));
        found
    }

    #[test]
    fn a_verdict_is_a_line() {
        let verdict = Verdict { result_id: 12, ok: false, reason: 1, class: 3, score: 9876, latency: 123, regions: 2 };
        let found = all(&Message::Verdict(verdict));
        let text = "V,12,NG,1,3,0.9876,12.3,2";
        assert_eq!(found, [format!("{text}*{:04X}\r\n", crc16(text.as_bytes()))]);
        assert_eq!(all(&Message::Ack { sequence: 1 }), Vec::<String>::new());
    }

    #[test]
    fn the_longest_line_fits() {
        let side = u16::MAX;
        let region = Region {
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
