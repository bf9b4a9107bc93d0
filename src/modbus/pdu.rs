//! One request and its answer, without the transport's frame. In: a function code and its data. Out: the answer, an exception included; a request
//! is never left without one.
//!
//! `rmodbus` reads and builds. It trusts its caller with lengths, so that they are checked here first: it would take a quantity of 0 or one that
//! contradicts the byte count, slice past the end of a short write over TCP, and call a write of more than 121 registers a broken frame.

use rmodbus::server::{ModbusFrame, Read, Write};
use rmodbus::{ErrorKind, ModbusProto};

use super::control::CONTROLS;
use super::{Exception, MAX_PDU, identity};

impl From<Exception> for ErrorKind {
    fn from(exception: Exception) -> Self {
        match exception {
            Exception::Function => Self::IllegalFunction,
            Exception::Address => Self::IllegalDataAddress,
            Exception::Value => Self::IllegalDataValue,
        }
    }
}

/// What a request wants of the registers. Bytes are pairs, the high one first.
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

/// What a checked request is.
enum Kind {
    Registers,
    Identity,
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

/// Answers requests; its room is kept from one to the next.
#[derive(Debug, Default)]
pub struct Codec {
    request: Vec<u8>,
    response: Vec<u8>,
    answer: heapless::Vec<u8, MAX_PDU>,
}

/// Bytes before the function code in a TCP frame, in which `rmodbus` is given each request, whatever it came in.
const ENVELOPE: usize = 7;

impl Codec {
    /// The answer to a request; `access` reads or writes what it asks for.
    pub fn answer(&mut self, pdu: &[u8], access: impl FnOnce(Access) -> Result<(), Exception>) -> &[u8] {
        let answered = match check(pdu) {
            Ok(Kind::Registers) => self.registers(pdu, access),
            Ok(Kind::Identity) => identity::answer(pdu),
            Err(exception) => Err(exception),
        };
        self.answer = answered.unwrap_or_else(|exception| refusal(pdu, exception));
        &self.answer
    }

    fn registers(
        &mut self,
        pdu: &[u8],
        access: impl FnOnce(Access) -> Result<(), Exception>,
    ) -> Result<heapless::Vec<u8, MAX_PDU>, Exception> {
        let Self { request, response, .. } = self;
        request.clear();
        request.extend_from_slice(&[0, 0, 0, 0, 0, pdu.len() as u8 + 1, 1]);
        request.extend_from_slice(pdu);
        let mut frame = ModbusFrame::new(1, request, ModbusProto::TcpUdp, response).with_broadcast_units(&[]);
        // What fails here was checked before; should it fail all the same, the request is refused.
        process(&mut frame, access).map_err(|_| Exception::Value)?;
        let answer = self.response.get(ENVELOPE..).ok_or(Exception::Value)?;
        heapless::Vec::from_slice(answer).map_err(|_| Exception::Value)
    }
}

fn process(
    frame: &mut ModbusFrame<Vec<u8>>,
    access: impl FnOnce(Access) -> Result<(), Exception>,
) -> Result<(), ErrorKind> {
    frame.parse()?;
    let inputs = frame.func == rmodbus::consts::ModbusFunction::GetInputs;
    if frame.readonly {
        let done = match frame.get_external_read()? {
            Read::Words(words) if inputs => access(Access::Inputs { address: words.address, into: words.buf }),
            Read::Words(words) => access(Access::Holdings { address: words.address, into: words.buf }),
            Read::Bits(_) => Err(Exception::Function),
        };
        frame.process_external_read(done.map_err(ErrorKind::from))?;
    } else {
        let done = match frame.get_external_write()? {
            Write::Words(words) => access(Access::Write { address: words.address, from: words.data }),
            Write::Bits(_) => Err(Exception::Function),
        };
        frame.process_external_write(done.map_err(ErrorKind::from))?;
    }
    frame.finalize_response()
}

/// Lengths and quantities.
fn check(pdu: &[u8]) -> Result<Kind, Exception> {
    let quantity = |most: u16| match *pdu {
        [_, _, _, high, low, ..] if (1..=most).contains(&u16::from_be_bytes([high, low])) => {
            Ok(u16::from_be_bytes([high, low]))
        }
        _ => Err(Exception::Value),
    };
    let long = |bytes: usize| if pdu.len() == bytes { Ok(Kind::Registers) } else { Err(Exception::Value) };
    match pdu {
        [READ_HOLDINGS | READ_INPUTS, ..] => quantity(125).and(long(5)),
        [WRITE_ONE, ..] => long(5),
        [WRITE_MANY, ..] => {
            let count = usize::from(quantity(123)?);
            if pdu.get(5).map(|bytes| usize::from(*bytes)) != Some(count * 2) {
                return Err(Exception::Value);
            }
            // More than can be written anywhere.
            long(6 + count * 2).and_then(|kind| if count > CONTROLS { Err(Exception::Address) } else { Ok(kind) })
        }
        [ENCAPSULATED, identity::MEI, ..] => Ok(Kind::Identity),
        _ => Err(Exception::Function),
    }
}

fn refusal(pdu: &[u8], exception: Exception) -> heapless::Vec<u8, MAX_PDU> {
    let function = pdu.first().copied().unwrap_or(0);
    let mut out = heapless::Vec::new();
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
        let mut codec = Codec::default();
        for (request, answer) in cases {
            assert_eq!(codec.answer(request, access), *answer, "{request:02x?}");
        }
        let longest = codec.answer(&[4, 0, 0, 0, 125], access).to_vec();
        assert_eq!((longest.len(), &longest[..4], &longest[250..]), (252, &[4, 250, 0, 0][..], &[0, 124][..]));
    }

    #[test]
    fn identification_by_stream() {
        let mut codec = Codec::default();
        let version = env!("CARGO_PKG_VERSION");
        let basic =
            [&[43, 14, 1, 0x82, 0, 0, 3, 0, 4][..], b"fcam", &[1, 4], b"fcam", &[2, version.len() as u8]].concat();
        assert_eq!(codec.answer(&[43, 14, 1, 0], access), [&basic[..], version.as_bytes()].concat());
        let regular = codec.answer(&[43, 14, 2, 0], access).to_vec();
        assert_eq!((regular[6], regular.ends_with(b"fcam inspection camera")), (4, true));
        assert_eq!(codec.answer(&[43, 14, 2, 99], access), regular);
    }
}
