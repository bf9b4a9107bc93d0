//! The registers that the PLC writes. In: words, from whoever writes. Out: [`Controls`], once the words are taken as a
//! whole.

use super::{Exception, WordOrder};
use crate::handshake::Controls;

/// Bits of the register `CONTROL`.
pub struct Control;

#[expect(missing_docs, reason = "their meaning stands in map::CONTROL")]
impl Control {
    pub const TRIGGER_ENABLE: u16 = 0;
    pub const TRIGGER: u16 = 1;
    pub const RESULT_ACK: u16 = 2;
    pub const BUFFER_RESULTS: u16 = 3;
    pub const JOB_EXECUTE: u16 = 4;
    pub const CLEAR_FAULT: u16 = 5;
    pub const SET_OFFLINE: u16 = 6;
    /// Bits that have a meaning.
    const KNOWN: u16 = 0x7f;
}

/// Holding registers that the PLC writes, from 0.
pub const CONTROLS: usize = 16;
/// `MASK_PAGE`: the one register that belongs to a connection and not to the station.
pub const PAGE: usize = 4;
/// The first register without a meaning.
const RESERVED: usize = 6;

/// The holding registers from 0 on, as they were last written.
///
/// ```
/// use fcam::modbus::{Control, ControlRegisters, WordOrder};
///
/// // A master writes CONTROL, JOB and PART_ID in one request.
/// let words = [1 << Control::TRIGGER_ENABLE | 1 << Control::TRIGGER, 0, 0, 4711];
/// let registers = ControlRegisters::default().with(0, words.into_iter()).map_err(|_| "refused")?;
/// let controls = registers.controls(WordOrder::Big);
/// assert!(controls.trigger_enable && controls.trigger);
/// assert_eq!(controls.part_id, 4711);
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ControlRegisters([u16; CONTROLS]);

impl ControlRegisters {
    /// These registers with others written over them from `address` on; all or none.
    pub fn with(mut self, address: u16, values: impl ExactSizeIterator<Item = u16>) -> Result<Self, Exception> {
        let start = usize::from(address);
        let room = self.0.get_mut(start..start + values.len()).ok_or(Exception::Address)?;
        room.iter_mut().zip(values).for_each(|(word, value)| *word = value);
        let Self([bits, ..]) = self;
        let reserved = self.0.iter().skip(RESERVED).any(|word| *word != 0);
        if bits & !Control::KNOWN != 0 || reserved { Err(Exception::Value) } else { Ok(self) }
    }

    /// The registers.
    pub fn all(&self) -> &[u16; CONTROLS] {
        &self.0
    }

    /// Which page of the mask is asked for.
    pub fn page(&self) -> u16 {
        self.0.get(PAGE).copied().unwrap_or(0)
    }

    /// The same with another page.
    pub fn paged(mut self, page: u16) -> Self {
        if let Some(word) = self.0.get_mut(PAGE) {
            *word = page;
        }
        self
    }

    /// What they ask of the station.
    pub fn controls(&self, order: WordOrder) -> Controls {
        let [bits, job, first, second, _, heartbeat, ..] = self.0;
        let high = |bit: u16| bits >> bit & 1 == 1;
        Controls {
            trigger_enable: high(Control::TRIGGER_ENABLE),
            trigger: high(Control::TRIGGER),
            result_ack: high(Control::RESULT_ACK),
            buffer_results: high(Control::BUFFER_RESULTS),
            job_execute: high(Control::JOB_EXECUTE),
            clear_fault: high(Control::CLEAR_FAULT),
            set_offline: high(Control::SET_OFFLINE),
            job,
            part_id: order.join([first, second]),
            heartbeat,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_as_a_whole_or_not_at_all() {
        let words = ControlRegisters::default();
        let written = words.with(0, [3, 9, 0x0001, 0x0203, 5, 77].into_iter()).unwrap();
        let controls = written.controls(WordOrder::Big);
        assert!(controls.trigger_enable && controls.trigger && !controls.set_offline);
        assert_eq!((controls.job, controls.part_id, controls.heartbeat, written.page()), (9, 0x0001_0203, 77, 5));
        assert_eq!(written.controls(WordOrder::Little).part_id, 0x0203_0001);
        assert_eq!(words.with(0, [0x80].into_iter()), Err(Exception::Value));
        assert_eq!(words.with(15, [1].into_iter()), Err(Exception::Value));
        assert_eq!(words.with(15, [0, 0].into_iter()), Err(Exception::Address));
        assert_eq!(words.with(16, [0].into_iter()), Err(Exception::Address));
        assert_eq!(words.with(65535, [0].into_iter()), Err(Exception::Address));
        assert!(words.with(6, [0; 10].into_iter()).is_ok());
    }

    #[test]
    fn every_known_bit_is_a_control() {
        let known = super::super::map::CONTROL.iter().fold(0, |all, (bit, ..)| all | 1 << bit);
        assert_eq!(known, Control::KNOWN);
    }
}
