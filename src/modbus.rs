//! The station as Modbus registers. In: requests of a master, without their transport's frame. Out: answers, from one
//! picture of one moment.
//!
//! The map is data ([`map`]), and board/plc/modbus.md is generated from it.
//!
//! Pure: no clock, no port, no lock. Source: MODBUS Application Protocol Specification V1.1b3, MODBUS over Serial Line
//! V1.02, MODBUS Messaging on TCP/IP Implementation Guide V1.0b. What it refuses: coils, files, diagnostics, and every
//! address that is not in the map.

pub mod adu;
pub(crate) mod control;
pub mod identity;
mod image;
pub mod map;
mod mask_pages;
mod moment;
pub(crate) mod pdu;

pub use control::{Control, ControlRegisters};
pub use image::Image;
pub use mask_pages::MaskPages;
pub use moment::Moment;
pub use pdu::{Access, answer};

use serde::{Deserialize, Serialize};

/// Bytes of a request or an answer at most.
pub const MAX_PDU: usize = 253;

/// An answer: a function code and its data.
pub type Answer = heapless::Vec<u8, MAX_PDU>;

/// Why a request is not followed; the number is the code on the wire.
///
/// ```
/// use fcam::modbus::{ControlRegisters, Exception};
///
/// let registers = ControlRegisters::default();
/// assert_eq!(registers.with(16, [0].into_iter()), Err(Exception::Address)); // there are 16
/// assert_eq!(registers.with(0, [1 << 15].into_iter()), Err(Exception::Value)); // a bit without a meaning
/// assert_eq!(Exception::Value as u8, 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exception {
    /// The station does not do this.
    Function = 1,
    /// A register that does not exist, or cannot be written.
    Address = 2,
    /// A quantity, length or value that cannot be.
    Value = 3,
}

/// Which half of a number of 32 bits comes first. Within a register Modbus itself fixes it: the high byte.
///
/// ```
/// use fcam::modbus::WordOrder;
///
/// assert_eq!(WordOrder::Big.split(0x0001_0203), [0x0001, 0x0203]);
/// assert_eq!(WordOrder::Little.join([0x0203, 0x0001]), 0x0001_0203);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WordOrder {
    /// The high word, as Modbus programmers expect it.
    #[default]
    Big,
    /// The low word, as some PLCs store it.
    Little,
}

impl WordOrder {
    /// Two registers.
    pub fn split(self, value: u32) -> [u16; 2] {
        let (high, low) = ((value >> 16) as u16, value as u16);
        if self == Self::Big { [high, low] } else { [low, high] }
    }

    /// The number that two registers make.
    pub fn join(self, [first, second]: [u16; 2]) -> u32 {
        let (high, low) = if self == Self::Big { (first, second) } else { (second, first) };
        u32::from(high) << 16 | u32::from(low)
    }
}
