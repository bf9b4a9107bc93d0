//! The last pictures with their masks. In: encoded pictures. Out: the same by their parts, as many as may be kept.

use std::collections::VecDeque;

use hyper::body::Bytes;

/// Pictures that are kept for the strip, and their bytes at most; the newest stays in any case.
const KEPT: usize = 12;
const BYTES: usize = 4 << 20;

/// The last pictures.
#[derive(Debug, Default)]
pub(super) struct Album(VecDeque<(u64, Bytes)>);

impl Album {
    /// One more; the oldest go where there are too many.
    pub(super) fn add(&mut self, sequence: u64, jpeg: Bytes) {
        self.0.push_back((sequence, jpeg));
        while self.0.len() > 1 && (self.0.len() > KEPT || self.bytes() > BYTES) {
            self.0.pop_front();
        }
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(_, jpeg)| jpeg.len()).sum()
    }

    /// The picture of a part; the newest, if none is named.
    pub(super) fn get(&self, sequence: Option<u64>) -> Option<Bytes> {
        let wanted = |(number, _): &&(u64, Bytes)| sequence.is_none_or(|sequence| *number == sequence);
        self.0.iter().rev().find(wanted).map(|(_, jpeg)| jpeg.clone())
    }

    /// The parts whose pictures there are, the oldest first.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.0.iter().map(|(sequence, _)| *sequence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_pictures_are_kept_and_no_more_than_their_share() {
        let mut album = Album::default();
        (0..30).for_each(|sequence| album.add(sequence, Bytes::from_static(b"jpeg")));
        assert_eq!(album.numbers(), (30 - KEPT as u64..30).collect::<Vec<_>>());
        assert!(album.get(Some(29)).is_some() && album.get(None).is_some() && album.get(Some(1)).is_none());
        album.add(30, vec![0; BYTES + 1].into());
        assert_eq!(album.numbers(), [30]);
    }
}
