//! Telegrams for a PLC on a serial line, binary profile. In: what a part's verdict, regions and mask are. Out: frames
//! of bytes, and back. The wire format is written down for the other side in board/plc/telegram.md, whose tables a test
//! holds to [`spec`].
//!
//! `A5 5A | LEN u16 | VER u8 | TYPE u8 | SEQ u16 | payload | CRC-16/MODBUS lo, hi`: all integers big-endian but the
//! CRC, LEN counts the bytes after it, and the CRC runs over LEN to the payload, so that running it over LEN to CRC
//! leaves 0. There is no byte stuffing: a receiver that lost its place searches for the next sync within what it has
//! already taken.
//!
//! The codec is pure and needs neither `std` nor a heap: it imports `core`, `crc` and `heapless` only, and a test holds
//! it to that.

use crc::{CRC_16_MODBUS, CRC_32_ISO_HDLC, Crc};

pub mod ascii;
pub mod budget;
pub mod message;
pub mod receive;
pub mod runs;
pub mod spec;

pub use message::{Abort, Chunk, Malformed, Message, Regions, State, Verdict, WireRegion};
pub use receive::{Received, Receiver};

/// What every frame begins with.
pub const SYNC: [u8; 2] = [0xa5, 0x5a];
/// The version of the format; another one is not understood.
pub const VERSION: u8 = 1;
/// Bytes of a frame beside its payload.
pub const OVERHEAD: usize = 10;
/// Payload bytes at most.
pub const MAX_PAYLOAD: usize = 1010;
/// Bytes of a whole frame at most.
pub const MAX_FRAME: usize = MAX_PAYLOAD + OVERHEAD;
/// LEN of a frame without payload: version, type, sequence, CRC.
pub const MIN_LEN: usize = 6;
/// LEN at most.
pub const MAX_LEN: usize = MAX_PAYLOAD + MIN_LEN;

const CRC16: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);
const CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// A frame's bytes.
pub type Bytes = heapless::Vec<u8, MAX_FRAME>;

/// The CRC that ends a frame, over LEN to the payload.
pub fn crc16(bytes: &[u8]) -> u16 {
    CRC16.checksum(bytes)
}

/// The CRC of a whole mask, over its run lengths as encoded.
pub fn crc32(bytes: &[u8]) -> u32 {
    CRC32.checksum(bytes)
}

/// One frame: sync, length, header, the message's payload, CRC.
///
/// ```
/// use fcam::telegram::{self, Message, Receiver};
///
/// let message = Message::Trigger { part_id: 7 };
/// let frame = telegram::encode(1, &message);
/// assert_eq!(telegram::crc16(&frame[2..]), 0); // over LEN to CRC
/// let mut receiver = Receiver::default();
/// let mut heard = vec![];
/// for &byte in [0x00, 0xa5].iter().chain(&frame) {
///     receiver.push(byte, |received| heard.push(Message::parse(received.kind, &received.payload)));
/// }
/// assert_eq!(heard, [Ok(message)]); // what came before the frame is skipped
/// ```
pub fn encode(sequence: u16, message: &Message) -> Bytes {
    let payload = message.payload();
    let mut frame = Bytes::new();
    let len = (payload.len() + MIN_LEN) as u16;
    // A payload is never longer than MAX_PAYLOAD, so everything fits.
    let _ = frame.extend_from_slice(&SYNC);
    let _ = frame.extend_from_slice(&len.to_be_bytes());
    let _ = frame.extend_from_slice(&[VERSION, message.kind()]);
    let _ = frame.extend_from_slice(&sequence.to_be_bytes());
    let _ = frame.extend_from_slice(&payload);
    let crc = crc16(frame.get(SYNC.len()..).unwrap_or_default());
    let _ = frame.extend_from_slice(&crc.to_le_bytes());
    frame
}
