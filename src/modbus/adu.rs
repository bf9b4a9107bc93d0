//! The frames of the two transports. In: bytes that came. Out: the request in them, or why there is none; and an
//! answer's bytes.

use std::time::Duration;

use super::MAX_PDU;
use crate::telegram::crc16;

/// Bytes of a TCP frame before the unit: transaction, protocol, length.
pub const TCP_HEADER: usize = 6;
/// Bytes of a TCP frame at most.
pub const MAX_TCP: usize = TCP_HEADER + 1 + MAX_PDU;
/// Bytes of a frame on a serial line at most.
pub const MAX_RTU: usize = 1 + MAX_PDU + 2;
/// The unit that every device on a serial line listens to, and none answers.
pub const BROADCAST: u8 = 0;

/// What a buffer begins with.
///
/// ```
/// use fcam::modbus::adu::{Tcp, tcp};
///
/// // Transaction 9, protocol 0, six bytes: unit 1 is asked for input register 0.
/// let request = [0, 9, 0, 0, 0, 6, 1, 4, 0, 0, 0, 1];
/// assert_eq!((tcp(&request), tcp(&request[..9])), (Tcp::Frame(12), Tcp::Partial));
/// assert_eq!(tcp(b"GET / HTTP/1.1"), Tcp::Garbage); // its connection is closed
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tcp {
    /// A frame of this many bytes, if they have all come.
    Frame(usize),
    /// The frame is not whole yet.
    Partial,
    /// No Modbus: there is no way to find the next frame.
    Garbage,
}

/// Looks at the first frame of what has come.
pub fn tcp(bytes: &[u8]) -> Tcp {
    let [_, _, protocol @ .., high, low] = bytes.get(..TCP_HEADER).unwrap_or_default() else {
        // The protocol's two bytes may tell already.
        let wrong = bytes.get(2..).unwrap_or_default().iter().take(2).any(|byte| *byte != 0);
        return if wrong { Tcp::Garbage } else { Tcp::Partial };
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if protocol != [0, 0] || !(2..=MAX_PDU + 1).contains(&length) {
        return Tcp::Garbage;
    }
    let whole = TCP_HEADER + length;
    if bytes.len() < whole { Tcp::Partial } else { Tcp::Frame(whole) }
}

/// The answer's frame, under the request's transaction and unit.
pub fn tcp_answer(request: &[u8], pdu: &[u8], out: &mut heapless::Vec<u8, MAX_TCP>) {
    let length = (pdu.len() as u16 + 1).to_be_bytes();
    out.clear();
    // An answer is never longer than there is room.
    let _ = out.extend_from_slice(request.get(..4).unwrap_or_default());
    let _ = out.extend_from_slice(&length);
    let _ = out.extend_from_slice(request.get(TCP_HEADER..=TCP_HEADER).unwrap_or_default());
    let _ = out.extend_from_slice(pdu);
}

/// Why a frame on a serial line is not looked at.
///
/// ```
/// use fcam::modbus::adu::{Dropped, rtu, rtu_answer};
///
/// let mut frame = Default::default();
/// rtu_answer(17, &[4, 2, 0, 7], &mut frame);
/// assert_eq!(rtu(&frame, 17), Ok(&[4, 2, 0, 7][..]));
/// assert_eq!(rtu(&frame, 3), Err(Dropped::Other));
/// assert_eq!(rtu(&frame[1..], 17), Err(Dropped::Damaged));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Too few bytes, or a wrong CRC.
    Damaged,
    /// For another unit.
    Other,
}

/// The request in a frame for `unit` or for all.
pub fn rtu(frame: &[u8], unit: u8) -> Result<&[u8], Dropped> {
    let [to, pdu @ .., low, high] = frame else { return Err(Dropped::Damaged) };
    let guarded = frame.get(..frame.len() - 2).unwrap_or_default();
    if pdu.is_empty() || crc16(guarded) != u16::from_le_bytes([*low, *high]) {
        return Err(Dropped::Damaged);
    }
    if *to == unit || *to == BROADCAST { Ok(pdu) } else { Err(Dropped::Other) }
}

/// The answer's frame.
pub fn rtu_answer(unit: u8, pdu: &[u8], out: &mut heapless::Vec<u8, MAX_RTU>) {
    out.clear();
    // An answer is never longer than there is room.
    let _ = out.push(unit);
    let _ = out.extend_from_slice(pdu);
    let crc = crc16(out);
    let _ = out.extend_from_slice(&crc.to_le_bytes());
}

/// True if a request to `unit` or to all has begun and, by its own length, goes on.
pub fn rtu_goes_on(frame: &[u8], unit: u8) -> bool {
    let length = match frame {
        [] => return false,
        [to, ..] if *to != unit && *to != BROADCAST => return false,
        [_, 16, _, _, _, _, bytes, ..] => 9 + usize::from(*bytes),
        [_, 16, ..] => 9,
        [_, 43, ..] => 7,
        _ => 8,
    };
    frame.len() < length
}

/// The silence that ends a frame: 3.5 characters of 11 bits, and a fixed time where those would be too short to
/// measure.
pub fn silence(baud: u32) -> Duration {
    if baud > 19_200 { Duration::from_micros(1750) } else { Duration::from_micros(38_500_000 / u64::from(baud.max(1))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_frames() {
        let frame = [0, 9, 0, 0, 0, 6, 1, 4, 0, 0, 0, 1];
        for cut in 0..frame.len() {
            assert_eq!(tcp(&frame[..cut]), Tcp::Partial, "{cut}");
        }
        assert_eq!(tcp(&frame), Tcp::Frame(12));
        assert_eq!(tcp(&[&frame[..], &[1, 2, 3]].concat()), Tcp::Frame(12));
        assert_eq!(tcp(&[0, 9, 0, 0, 0, 1, 1]), Tcp::Garbage);
        assert_eq!(tcp(&[0, 9, 0, 0, 0, 255, 1]), Tcp::Garbage);
        assert_eq!(tcp(b"GET"), Tcp::Garbage);
        let mut out = heapless::Vec::new();
        tcp_answer(&frame, &[4, 2, 0, 7], &mut out);
        assert_eq!(out, [0, 9, 0, 0, 0, 5, 1, 4, 2, 0, 7]);
    }

    #[test]
    fn rtu_frames() {
        let mut frame = heapless::Vec::new();
        rtu_answer(17, &[4, 0, 0, 0, 1], &mut frame);
        assert_eq!(rtu(&frame, 17), Ok(&[4, 0, 0, 0, 1][..]));
        assert_eq!(rtu(&frame, 18), Err(Dropped::Other));
        frame[3] ^= 1;
        assert_eq!(rtu(&frame, 17), Err(Dropped::Damaged));
        assert_eq!(rtu(&[17, 4], 17), Err(Dropped::Damaged));
        // The example of MODBUS over Serial Line V1.02, 6.2.2: a frame of the bytes 02 07 has the CRC 41 12.
        assert_eq!(rtu(&[0x02, 0x07, 0x41, 0x12], 2), Ok(&[7][..]));
        assert!(rtu_goes_on(&[1, 4, 0, 0, 0, 1, 0x31], 1) && !rtu_goes_on(&[1, 4, 0, 0, 0, 1, 0x31, 0xca], 1));
        assert!(rtu_goes_on(&[1, 16, 0, 0, 0, 1, 2, 0, 1, 0], 1) && !rtu_goes_on(&[2, 4], 1) && !rtu_goes_on(&[], 1));
        assert_eq!(silence(9600), Duration::from_micros(4010));
        assert_eq!(silence(115_200), Duration::from_micros(1750));
    }
}
