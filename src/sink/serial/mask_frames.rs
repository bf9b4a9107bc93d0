//! Regions and mask of one part, cut into frames that hold no verdict up. In: a mask and the line's budget. Out:
//! message after message.
//!
//! A mask that is too large for the line goes at half or quarter scale, marked, and if that does not fit either it is
//! not sent at all: never a part of it, which would look like a part with fewer defects.

use super::telegrams;
use crate::mask::Stored;
use crate::telegram::budget::SerialLine;
use crate::telegram::message::{CODEC_RUNS, MAX_REGIONS};
use crate::telegram::{Abort, Chunk, Message, Regions, crc32, runs};

/// Scales in the order in which they are tried.
const SCALES: [u32; 3] = [1, 2, 4];

/// What is still to be sent of a part. Its room is kept from part to part.
#[derive(Default)]
pub(super) struct MaskFrames {
    pub(super) result_id: u32,
    /// As it came; then as it is sent, where that is smaller.
    full: Stored,
    small: Stored,
    scale: u32,
    bytes: Vec<u8>,
    next_frame: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Next {
    /// Regions from this number on.
    Regions(usize),
    /// The mask from this byte on.
    Mask(usize),
    /// The mask does not fit the line.
    Omit,
    #[default]
    Done,
}

impl MaskFrames {
    /// Begins with a part's mask; gives back the room of the one before.
    pub(super) fn begin(&mut self, result_id: u32, mask: Stored) -> Stored {
        self.result_id = result_id;
        self.next_frame = Next::Regions(0);
        std::mem::replace(&mut self.full, mask)
    }

    /// Lets go of what was not sent; true if there was something.
    pub(super) fn stop(&mut self) -> bool {
        std::mem::take(&mut self.next_frame) != Next::Done
    }

    pub(super) fn pending(&self) -> bool {
        self.next_frame != Next::Done
    }

    /// The next message; `lines` stops behind the regions.
    pub(super) fn next(&mut self, line: &SerialLine, lines: bool) -> Option<Message> {
        match self.next_frame {
            Next::Regions(first) => Some(self.regions(first, line, lines)),
            Next::Mask(offset) => Some(self.chunk(offset, line)),
            Next::Omit => {
                self.next_frame = Next::Done;
                Some(Message::MaskAbort { result_id: self.result_id, reason: Abort::Omitted })
            }
            Next::Done => None,
        }
    }

    fn regions(&mut self, first: usize, line: &SerialLine, lines: bool) -> Message {
        let mask = self.full.view();
        let listed = mask.regions.iter().take(MAX_REGIONS);
        let regions: heapless::Vec<_, MAX_REGIONS> =
            listed.skip(first).take(line.regions_each()).map(telegrams::region).collect();
        let roi = [mask.roi.x, mask.roi.y, mask.roi.width, mask.roi.height].map(telegrams::side);
        let (found, all) = (telegrams::small(mask.region_count), mask.regions.len().min(MAX_REGIONS));
        let next = first + regions.len();
        let telegram = Regions { result_id: self.result_id, found, first: telegrams::small(first), roi, regions };
        self.next_frame = match (next < all, lines) {
            (true, _) => Next::Regions(next),
            (false, true) => Next::Done,
            (false, false) if self.fit(line) => Next::Mask(0),
            (false, false) => Next::Omit,
        };
        Message::Regions(telegram)
    }

    /// Encodes at the largest scale that fits; false if none does.
    fn fit(&mut self, line: &SerialLine) -> bool {
        SCALES.iter().any(|&scale| {
            self.scale = scale;
            self.small.reduce(&self.full.view(), scale);
            self.bytes.clear();
            self.small.view().run_lengths().for_each(|length| self.bytes.extend_from_slice(&runs::encode(length)));
            line.mask(self.bytes.len()) <= line.mask_budget()
        })
    }

    fn chunk(&mut self, offset: usize, line: &SerialLine) -> Message {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let data = rest.get(..line.chunk_data()).unwrap_or(rest);
        let end = offset + data.len();
        let last = end == self.bytes.len();
        self.next_frame = if last { Next::Done } else { Next::Mask(end) };
        let mask = self.small.view();
        Message::MaskChunk(Chunk {
            result_id: self.result_id,
            offset: offset as u32,
            total: self.bytes.len() as u32,
            codec: CODEC_RUNS,
            scale: self.scale as u8,
            width: telegrams::side(mask.width),
            height: telegrams::side(mask.height),
            reduced: self.scale > 1,
            data: data.iter().copied().collect(),
            crc: last.then(|| crc32(&self.bytes)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{Mask, Run};
    use crate::preprocess::Roi;

    /// A chessboard of 64 x 64: the dearest mask there is, and full at half scale.
    fn chessboard() -> Stored {
        let runs: Vec<Run> = (0..64)
            .flat_map(|row| (0..32).map(move |i| (row, 2 * i + row % 2)))
            .map(|(row, start)| Run { row, start, end: start + 1 })
            .collect();
        let roi = Roi { x: 3, y: 4, width: 640, height: 640 };
        let mut stored = Stored::default();
        stored.set(&Mask { width: 64, height: 64, roi, runs: &runs, regions: &[], region_count: 0 });
        stored
    }

    fn messages(baud: u32, parts_per_minute: u32) -> Vec<Message> {
        let line = SerialLine { baud, bits: 10, parts_per_minute, head_of_line_ms: 50, frame_bytes: 240, masks: true };
        let mut frames = MaskFrames::default();
        frames.begin(9, chessboard());
        let all: Vec<Message> = std::iter::from_fn(|| frames.next(&line, false)).collect();
        let longest = all.iter().map(|message| crate::telegram::encode(0, message).len()).max().unwrap();
        assert!(longest <= line.low_priority_frame(), "{longest} bytes hold a verdict up");
        all
    }

    fn bytes_of(messages: &[Message]) -> (Vec<u8>, Option<u8>) {
        let mut bytes = vec![];
        let mut scale = None;
        for message in messages {
            if let Message::MaskChunk(chunk) = message {
                assert_eq!(chunk.offset as usize, bytes.len());
                assert_eq!(chunk.reduced, chunk.scale > 1);
                bytes.extend_from_slice(&chunk.data);
                scale = Some(chunk.scale);
                assert!(chunk.crc.is_none_or(|crc| crc == crc32(&bytes)));
            }
        }
        (bytes, scale)
    }

    #[test]
    fn a_mask_goes_whole_smaller_or_not_at_all() {
        let (bytes, scale) = bytes_of(&messages(115_200, 60));
        // Neighbouring runs of two rows meet at the row's end, so there are fewer lengths than pixels.
        assert!(scale == Some(1) && bytes.len() > 4000, "{scale:?}, {} bytes", bytes.len());
        let (bytes, scale) = bytes_of(&messages(19_200, 120));
        assert_eq!(
            (scale, bytes),
            (Some(2), [&[0][..], &runs::encode(32 * 32)].concat().into_iter().chain([0]).collect())
        );
        let none = messages(19_200, 360);
        assert_eq!(none.last(), Some(&Message::MaskAbort { result_id: 9, reason: Abort::Omitted }));
        assert_eq!(bytes_of(&none).1, None);
    }
}
