//! In: bytes from a line that may lose, change and invent some. Out: frames whose CRC holds, and how many did not.
//!
//! A frame that proves wrong costs its first byte only: the search for the next sync goes on within it, so that a
//! changed length does not swallow the frames behind it. Whoever knows the time calls [`Receiver::gap`] after silence,
//! as a PLC's receive block does.

use super::{MAX_FRAME, MAX_LEN, MIN_LEN, SYNC, crc16};

/// Silence within a frame after which it is given up, milliseconds.
pub const GAP_MS: u64 = 20;

/// A frame whose CRC holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Major version of the sender.
    pub version: u8,
    /// What it carries; see [`super::spec::KINDS`].
    pub kind: u8,
    /// Counts the sender's frames; a gap is a loss.
    pub sequence: u16,
    /// The rest.
    pub payload: heapless::Vec<u8, { super::MAX_PAYLOAD }>,
}

/// Finds frames in a stream.
///
/// ```
/// use fcam::telegram::{self, Message, Receiver};
///
/// let frame = telegram::encode(7, &Message::Ack { sequence: 3 });
/// let mut noise = frame.clone();
/// noise[6] ^= 1; // a bit changed on the line
/// let (mut receiver, mut heard) = (Receiver::default(), vec![]);
/// for byte in noise.into_iter().chain(frame) {
///     receiver.push(byte, |received| heard.push(received.sequence));
/// }
/// assert_eq!((heard, receiver.errors), (vec![7], 1));
/// ```
#[derive(Debug, Default)]
pub struct Receiver {
    held: heapless::Vec<u8, MAX_FRAME>,
    /// Frames that began well and were wrong: length out of range, or CRC.
    pub errors: u32,
}

/// What the bytes held so far are.
enum Found {
    /// This many bytes at the front belong to no frame.
    Junk(usize),
    /// A frame of this many bytes in all.
    Frame(usize),
    /// A frame may begin here, but it is not all there.
    More,
}

impl Receiver {
    /// Takes one byte; hands each frame that it completes to `take`, several if a broken frame hid others.
    pub fn push(&mut self, byte: u8, mut take: impl FnMut(Received)) {
        if self.held.push(byte).is_err() {
            self.drop_front(1); // cannot happen: a full buffer is a frame or an error
            let _ = self.held.push(byte);
        }
        self.scan(&mut take);
    }

    /// After silence: what is held will not be completed, but a whole frame may hide in it.
    pub fn gap(&mut self, mut take: impl FnMut(Received)) {
        while !self.held.is_empty() {
            self.errors = self.errors.saturating_add(1);
            self.drop_front(1);
            self.scan(&mut take);
        }
    }

    fn scan(&mut self, take: &mut impl FnMut(Received)) {
        loop {
            match self.find() {
                Found::More => return,
                Found::Junk(bytes) => self.drop_front(bytes),
                Found::Frame(bytes) => {
                    if let Some(frame) = self.held.get(..bytes).and_then(parse) {
                        take(frame);
                        self.drop_front(bytes);
                    } else {
                        self.errors = self.errors.saturating_add(1);
                        self.drop_front(1);
                    }
                }
            }
            if self.held.is_empty() {
                return;
            }
        }
    }

    fn find(&mut self) -> Found {
        let [first, second] = SYNC;
        match *self.held.as_slice() {
            [a, ..] if a != first => {
                Found::Junk(self.held.iter().position(|byte| *byte == first).unwrap_or(self.held.len()))
            }
            [_, b, ..] if b != second => Found::Junk(1),
            [_, _, high, low, ..] => {
                let len = usize::from(u16::from_be_bytes([high, low]));
                if !(MIN_LEN..=MAX_LEN).contains(&len) {
                    self.errors = self.errors.saturating_add(1);
                    return Found::Junk(1);
                }
                let all = SYNC.len() + 2 + len;
                if self.held.len() < all { Found::More } else { Found::Frame(all) }
            }
            _ => Found::More,
        }
    }

    fn drop_front(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held.len());
        self.held.rotate_left(bytes);
        self.held.truncate(self.held.len() - bytes);
    }
}

fn parse(frame: &[u8]) -> Option<Received> {
    let checked = frame.get(SYNC.len()..)?;
    let (body, crc) = checked.split_last_chunk::<2>()?;
    if crc16(body) != u16::from_le_bytes(*crc) {
        return None;
    }
    let ([_, _, version, kind, high, low], payload) = body.split_first_chunk::<6>()?;
    let payload = heapless::Vec::from_slice(payload).ok()?;
    Some(Received { version: *version, kind: *kind, sequence: u16::from_be_bytes([*high, *low]), payload })
}
