//! One request and its answer, without the transport's frame. In: a function code and its data. Out: the answer, an
//! exception included; a request is never left without one. Lengths, quantities and byte counts are checked before
//! anything is read or written.

use super::control::CONTROLS;
use super::{Answer, Exception, identity};

/// What a request wants of the registers. Bytes are pairs, the high one first.
///
/// ```
/// use fcam::modbus::{Access, Exception, answer};
///
/// let mut registers = |access: Access| match access {
///     Access::Inputs { address: 5, into } if into.len() == 2 => Ok(into.copy_from_slice(&7500_u16.to_be_bytes())),
///     _ => Err(Exception::Address),
/// };
/// assert_eq!(*answer(&[4, 0, 5, 0, 1], &mut registers), [4, 2, 0x1d, 0x4c]);
/// assert_eq!(*answer(&[6, 0, 0, 0, 1], &mut registers), [0x86, 2]); // nothing can be written here
/// ```
#[derive(Debug)]
pub enum Access<'a> {
    /// Input registers from `address` on, into the bytes.
    Inputs {
        /// The first one.
        address: u16,
        /// Room for them.
        into: &'a mut [u8],
    },
    /// Holding registers from `address` on, into the bytes.
    Holdings {
        /// The first one.
        address: u16,
        /// Room for them.
        into: &'a mut [u8],
    },
    /// The bytes into holding registers from `address` on.
    Write {
        /// The first one.
        address: u16,
        /// What to write.
        from: &'a [u8],
    },
}

/// Function codes that are answered.
const READ_HOLDINGS: u8 = 3;
const READ_INPUTS: u8 = 4;
const WRITE_ONE: u8 = 6;
const WRITE_MANY: u8 = 16;
const ENCAPSULATED: u8 = 43;
/// What is added to the function code of a refused request.
const REFUSED: u8 = 0x80;

/// True for a request that changes registers, which is what a broadcast may be.
pub fn is_write(pdu: &[u8]) -> bool {
    pdu.first().is_some_and(|function| [WRITE_ONE, WRITE_MANY].contains(function))
}

/// True for an answer that is an exception.
pub fn is_refusal(answer: &[u8]) -> bool {
    answer.first().is_some_and(|function| function & REFUSED != 0)
}

/// Registers that one request may read, and write, at most: what fits a PDU.
const MAX_READ: u16 = 125;
const MAX_WRITE: u16 = 123;

/// The answer to a request; `access` reads or writes what it asks for.
pub fn answer(pdu: &[u8], access: impl FnOnce(Access) -> Result<(), Exception>) -> Answer {
    let answered = match *pdu {
        [READ_HOLDINGS | READ_INPUTS, ..] => read(pdu, access),
        [WRITE_ONE, ..] => write_one(pdu, access),
        [WRITE_MANY, ..] => write_many(pdu, access),
        [ENCAPSULATED, identity::MEI, ..] => identity::answer(pdu),
        _ => Err(Exception::Function),
    };
    answered.unwrap_or_else(|exception| refusal(pdu, exception))
}

/// `[function, address, quantity]`, answered by `[function, bytes, registers]`.
fn read(pdu: &[u8], access: impl FnOnce(Access) -> Result<(), Exception>) -> Result<Answer, Exception> {
    let [function, high, low, many, few] = *pdu else { return Err(Exception::Value) };
    let (address, quantity) = (word(high, low), word(many, few));
    if !(1..=MAX_READ).contains(&quantity) {
        return Err(Exception::Value);
    }
    let bytes = 2 * quantity as u8; // at most 250
    let mut out = sized(&[function, bytes])?;
    out.resize(2 + usize::from(bytes), 0).map_err(|_| Exception::Value)?;
    let into = out.get_mut(2..).unwrap_or_default();
    access(match function {
        READ_INPUTS => Access::Inputs { address, into },
        _ => Access::Holdings { address, into },
    })?;
    Ok(out)
}

/// `[function, address, value]`, answered by the same.
fn write_one(pdu: &[u8], access: impl FnOnce(Access) -> Result<(), Exception>) -> Result<Answer, Exception> {
    let [_, high, low, ref from @ ..] = *pdu else { return Err(Exception::Value) };
    if from.len() != 2 {
        return Err(Exception::Value);
    }
    access(Access::Write { address: word(high, low), from })?;
    sized(pdu)
}

/// `[function, address, quantity, bytes, registers]`, answered by `[function, address, quantity]`.
fn write_many(pdu: &[u8], access: impl FnOnce(Access) -> Result<(), Exception>) -> Result<Answer, Exception> {
    let [_, high, low, many, few, bytes, ref from @ ..] = *pdu else { return Err(Exception::Value) };
    let quantity = word(many, few);
    let counted = usize::from(quantity) * 2;
    if !(1..=MAX_WRITE).contains(&quantity) || usize::from(bytes) != counted || from.len() != counted {
        return Err(Exception::Value);
    }
    if usize::from(quantity) > CONTROLS {
        return Err(Exception::Address); // more than can be written anywhere
    }
    access(Access::Write { address: word(high, low), from })?;
    sized(pdu.get(..5).unwrap_or_default())
}

fn word(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

fn sized(bytes: &[u8]) -> Result<Answer, Exception> {
    Answer::from_slice(bytes).map_err(|_| Exception::Value)
}

fn refusal(pdu: &[u8], exception: Exception) -> Answer {
    let function = pdu.first().copied().unwrap_or(0);
    let mut out = Answer::new();
    let _ = out.extend_from_slice(&[function | REFUSED, exception as u8]); // there is room for two
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registers that hold their own address; only 5 can be written, and only with 7.
    fn access(access: Access) -> Result<(), Exception> {
        match access {
            Access::Inputs { address, into } | Access::Holdings { address, into } if address < 300 => {
                for (index, pair) in into.chunks_exact_mut(2).enumerate() {
                    pair.copy_from_slice(&(address + index as u16).to_be_bytes());
                }
                Ok(())
            }
            Access::Write { address: 5, from } => (from == [0, 7]).then_some(()).ok_or(Exception::Value),
            _ => Err(Exception::Address),
        }
    }

    #[test]
    fn requests_and_their_answers() {
        let long_write = [&[16, 0, 0, 0, 123, 246][..], &[0; 246]].concat();
        let cases: &[(&[u8], &[u8])] = &[
            (&[4, 0, 1, 0, 2], &[4, 4, 0, 1, 0, 2]),
            (&[3, 1, 0, 0, 1], &[3, 2, 1, 0]),
            (&[4, 1, 44, 0, 1], &[0x84, 2]),
            (&[4, 0, 0, 0, 0], &[0x84, 3]),
            (&[4, 0, 0, 0, 126], &[0x84, 3]),
            (&[4, 0, 0, 0], &[0x84, 3]),
            (&[4, 0, 0, 0, 1, 9], &[0x84, 3]),
            (&[6, 0, 5, 0, 7], &[6, 0, 5, 0, 7]),
            (&[6, 0, 5, 0, 8], &[0x86, 3]),
            (&[6, 0, 6, 0, 7], &[0x86, 2]),
            (&[6, 0, 5, 0], &[0x86, 3]),
            (&[16, 0, 5, 0, 1, 2, 0, 7], &[16, 0, 5, 0, 1]),
            (&[16, 0, 5, 0, 1, 4, 0, 7, 0, 0], &[0x90, 3]),
            (&[16, 0, 5, 0, 2, 2, 0, 7], &[0x90, 3]),
            (&[16, 0, 5, 0, 1, 2, 0], &[0x90, 3]),
            (&[16, 0, 5, 0, 1], &[0x90, 3]),
            (&[16, 0, 5, 0, 0, 0], &[0x90, 3]),
            (&long_write, &[0x90, 2]),
            (&[1, 0, 0, 0, 1], &[0x81, 1]),
            (&[15, 0, 0, 0, 1, 1, 1], &[0x8f, 1]),
            (&[43, 13, 0, 0], &[0xab, 1]),
            (&[43, 14, 0, 0], &[0xab, 3]),
            (&[43, 14, 4, 9], &[0xab, 2]),
            (&[43, 14, 4], &[0xab, 3]),
            (&[43, 14, 4, 0], &[43, 14, 4, 0x82, 0, 0, 1, 0, 4, b'f', b'c', b'a', b'm']),
            (&[0x83, 0, 0], &[0x83, 1]),
            (&[], &[0x80, 1]),
        ];
        for (request, expected) in cases {
            assert_eq!(answer(request, access), *expected, "{request:02x?}");
        }
        let longest = answer(&[4, 0, 0, 0, 125], access).to_vec();
        assert_eq!((longest.len(), &longest[..4], &longest[250..]), (252, &[4, 250, 0, 0][..], &[0, 124][..]));
    }

    #[test]
    fn identification_by_stream() {
        let version = env!("CARGO_PKG_VERSION");
        let basic =
            [&[43, 14, 1, 0x82, 0, 0, 3, 0, 4][..], b"fcam", &[1, 4], b"fcam", &[2, version.len() as u8]].concat();
        assert_eq!(*answer(&[43, 14, 1, 0], access), [&basic[..], version.as_bytes()].concat());
        let regular = answer(&[43, 14, 2, 0], access).to_vec();
        assert_eq!((regular[6], regular.ends_with(b"fcam inspection camera")), (4, true));
        assert_eq!(*answer(&[43, 14, 2, 99], access), regular);
    }
}
