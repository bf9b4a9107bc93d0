//! The mask of a rejected part as the bytes that a master reads page by page. In: a mask. Out: its run lengths, under
//! the part's number.

use crate::handshake::short_id;
use crate::mask::Mask;
use crate::telegram::message::CODEC_RUNS;
use crate::telegram::{crc32, runs};

/// A mask's bytes and what they are of. Its room is kept from part to part.
///
/// ```
/// use fcam::mask::{Mask, Run};
/// use fcam::modbus::MaskPages;
/// use fcam::preprocess::Roi;
///
/// let roi = Roi { x: 0, y: 0, width: 640, height: 480 };
/// let runs = [Run { row: 0, start: 0, end: 256 }];
/// let mask = Mask { width: 256, height: 256, roi, runs: &runs, regions: &[], region_count: 1 };
/// let mut pages = MaskPages::default();
/// pages.set(6, Some(&mask));
/// assert_eq!((pages.id, pages.byte_count()), (7, 6)); // 0 background, 256 foreground, 65280 background
/// assert_eq!(pages.word(0), 0x0080); // two bytes a register, the first one high
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MaskPages {
    /// The part, as RESULT_ID; 0 none.
    pub id: u16,
    /// How the bytes are to be read; 0 if there are none.
    pub codec: u16,
    /// Pixels across the mask.
    pub width: u16,
    /// Pixels down the mask.
    pub height: u16,
    /// CRC-32 of the bytes.
    pub crc: u32,
    /// The rectangle of the frame that the mask covers: left, top, width, height.
    pub roi: [u16; 4],
    bytes: Vec<u8>,
}

impl MaskPages {
    /// Becomes a part's mask; without one, a picture with no bytes under the part's number.
    pub fn set(&mut self, sequence: u64, mask: Option<&Mask>) {
        let side = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        *self = Self { id: short_id(sequence), ..Self::default() };
        if let Some(mask) = mask {
            mask.run_lengths().for_each(|length| bytes.extend_from_slice(&runs::encode(length)));
            self.codec = CODEC_RUNS.into();
            (self.width, self.height) = (side(mask.width), side(mask.height));
            self.crc = crc32(&bytes);
            self.roi = [mask.roi.x, mask.roi.y, mask.roi.width, mask.roi.height].map(side);
        }
        self.bytes = bytes;
    }

    /// Becomes a copy of another, in its own room.
    pub fn copy(&mut self, other: &Self) {
        let Self { id, codec, width, height, crc, roi, ref bytes } = *other;
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        (self.id, self.codec, self.width, self.height, self.crc, self.roi) = (id, codec, width, height, crc, roi);
    }

    /// Bytes of the run lengths.
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes 2 x `index`, high, and the one after it, low; 0 behind the end.
    pub fn word(&self, index: usize) -> u16 {
        let byte = |at: usize| u16::from(self.bytes.get(at).copied().unwrap_or(0));
        byte(index * 2) << 8 | byte(index * 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::Run;
    use crate::preprocess::Roi;

    #[test]
    fn a_mask_is_its_run_lengths_and_no_mask_has_no_bytes() {
        let roi = Roi { x: 1, y: 2, width: 40, height: 20 };
        let mask = [Run { row: 0, start: 1, end: 3 }];
        let mask = Mask { width: 4, height: 2, roi, runs: &mask, regions: &[], region_count: 0 };
        let mut pages = MaskPages::default();
        pages.set(6, Some(&mask));
        assert_eq!((pages.id, pages.byte_count(), pages.codec, pages.roi), (7, 3, 1, [1, 2, 40, 20]));
        assert_eq!([0, 1, 2].map(|index| pages.word(index)), [0x0102, 0x0500, 0]);
        assert_eq!(pages.crc, crc32(&[1, 2, 5]));
        let mut copy = MaskPages::default();
        copy.copy(&pages);
        assert_eq!(copy, pages);
        pages.set(7, None);
        assert_eq!((pages.id, pages.byte_count(), pages.codec, pages.crc), (8, 0, 0, 0));
    }
}
