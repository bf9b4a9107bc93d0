//! Device identification, function 43/14: who made this, what it is, which version. In: a request. Out: its answer, or
//! why there is none.

use super::{Answer, Exception};

/// Object number and text: the three that every device must have, and a name for people.
pub const OBJECTS: [(u8, &str); 4] =
    [(0, "fcam"), (1, "fcam"), (2, env!("CARGO_PKG_VERSION")), (4, "fcam inspection camera")];

/// Read Device Identification within function 43.
pub const MEI: u8 = 14;
/// Regular identification, by stream and by single object.
const CONFORMITY: u8 = 0x82;

/// Answers a request for objects: `[43, 14, code, object]`.
pub(super) fn answer(pdu: &[u8]) -> Result<Answer, Exception> {
    let [function, mei, code, object] = *pdu else { return Err(Exception::Value) };
    let last = match code {
        1 => 2,
        2 | 3 => u8::MAX,
        4 => object,
        _ => return Err(Exception::Value),
    };
    let known = OBJECTS.iter().any(|(number, _)| *number == object);
    let first = match (known, code) {
        (true, _) => object,
        (false, 4) => return Err(Exception::Address),
        // A stream that is asked to go on behind the end begins anew.
        (false, _) => 0,
    };
    let listed = OBJECTS.iter().filter(|(number, _)| (first..=last).contains(number));
    let mut out = Answer::new();
    // All objects together are far shorter than an answer may be: nothing follows, and everything fits.
    let _ = out.extend_from_slice(&[function, mei, code, CONFORMITY, 0, 0, listed.clone().count() as u8]);
    for (number, text) in listed {
        let _ = out.extend_from_slice(&[*number, text.len() as u8]);
        let _ = out.extend_from_slice(text.as_bytes());
    }
    Ok(out)
}
