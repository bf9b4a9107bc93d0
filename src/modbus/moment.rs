//! What the registers are made of: one moment of the station, of its mask, and of what is configured.

use super::MaskPages;
use crate::handshake::{Status, Told};

/// All that the registers are made of.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The station.
    pub status: &'a Status,
    /// The mask of a rejected part.
    pub mask: &'a MaskPages,
    /// Which page of it the window shows.
    pub page: u16,
    /// From a trigger to its outputs, 0.1 ms.
    pub deadline: u16,
    /// CRC-32 of the station's configuration.
    pub config: u32,
}

impl Moment<'_> {
    /// Something of the result, if there is one.
    pub fn result<T>(&self, of: impl FnOnce(&Told) -> Option<T>) -> Option<T> {
        self.status.result.as_ref().and_then(of)
    }
}
