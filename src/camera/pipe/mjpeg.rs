//! Motion JPEG. In: a byte stream in pieces of any length. Out: the JPEG pictures in it, one after the other.
//!
//! The stream has no framing but that of JPEG itself (ITU-T T.81, annex B), so the markers are walked: a segment is
//! skipped by its length, because the thumbnail in an Exif segment has SOI and EOI markers of its own; only the
//! entropy-coded data after SOS is searched for the next marker. Bytes between pictures are skipped. A picture that
//! breaks these rules, or grows past the limit, is reported, and the stream goes on at the next SOI. One that is cut
//! short within a segment can take the next picture with it: its length field lies then, and it is better to lose a
//! picture than to deliver a thumbnail.

use std::ops::Range;

/// A longer picture is a stream that has lost its way.
const MAX_PICTURE_BYTES: usize = 64 << 20;

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;

/// Cuts a stream into pictures.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// From the start of the picture that is being walked; before it, what was delivered last.
    buffer: Vec<u8>,
    start: usize,
    at: usize,
    state: State,
}

/// What is expected at the splitter's position.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The start of a picture.
    #[default]
    Between,
    /// A marker.
    Marker,
    /// Entropy-coded data, up to a marker.
    Scan,
}

/// What was cut off the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut<'a> {
    /// One picture, from SOI to EOI.
    Picture(&'a [u8]),
    /// Bytes that are no picture, and why.
    Broken(&'static str),
    /// More bytes are needed.
    Nothing,
}

/// One step of the walk.
enum Step {
    On,
    More,
    Picture(Range<usize>),
    Broken(&'static str),
}

impl Splitter {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.at -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets the stream so far.
    pub(super) fn reset(&mut self) {
        self.buffer.clear();
        (self.start, self.at, self.state) = (0, 0, State::Between);
    }

    /// True if the stream may not end here: a picture has begun.
    pub(super) fn is_partial(&self) -> bool {
        self.state != State::Between
    }

    /// The next picture in the bytes so far.
    pub(super) fn cut(&mut self) -> Cut<'_> {
        loop {
            match self.step() {
                Step::On => {}
                Step::More => return Cut::Nothing,
                Step::Broken(why) => return Cut::Broken(why),
                Step::Picture(range) => return Cut::Picture(self.buffer.get(range).unwrap_or_default()),
            }
        }
    }

    fn step(&mut self) -> Step {
        if self.at.saturating_sub(self.start) > MAX_PICTURE_BYTES {
            return self.give_up("it is longer than 64 MiB");
        }
        match self.state {
            State::Between => self.find_start(),
            State::Marker => self.take_marker(),
            State::Scan => self.find_marker(),
        }
    }

    fn find_start(&mut self) -> Step {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        // The third byte belongs to the next marker; asking for it makes false starts in garbage rare.
        match rest.windows(3).position(|window| window == [0xFF, SOI, 0xFF]) {
            Some(skipped) => {
                self.start = self.at + skipped;
                self.at = self.start + 2;
                self.state = State::Marker;
                Step::On
            }
            None => {
                self.at += rest.len().saturating_sub(2);
                self.start = self.at;
                Step::More
            }
        }
    }

    fn take_marker(&mut self) -> Step {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        match *rest {
            [0xFF, 0xFF, ..] => self.skip(1), // fill bytes may precede any marker
            [0xFF, SOI, ..] => self.restart(),
            [0xFF, EOI, ..] => self.finish(),
            [0xFF, 0x01 | 0xD0..=0xD7, ..] => self.skip(2),
            [0xFF, 0x00, ..] => self.give_up("there is no marker where one must be"),
            [0xFF, code, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                if length < 2 {
                    return self.give_up("a segment is shorter than its own length field");
                }
                if rest.len() < 2 + length {
                    return Step::More;
                }
                self.state = if code == SOS { State::Scan } else { State::Marker };
                self.skip(2 + length)
            }
            [] | [0xFF] | [0xFF, _] | [0xFF, _, _] => Step::More,
            _ => self.give_up("there is no marker where one must be"),
        }
    }

    fn find_marker(&mut self) -> Step {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        // FF 00 is a data byte of FF, restart markers belong to the data, and FF FF is a fill byte before a marker.
        let is_marker = |pair: &[u8]| matches!(*pair, [0xFF, code] if !matches!(code, 0 | 0xFF | 0xD0..=0xD7));
        let marker = rest.windows(2).position(is_marker);
        match marker {
            Some(skipped) => {
                self.state = State::Marker;
                self.skip(skipped)
            }
            None => {
                self.at += rest.len().saturating_sub(1);
                Step::More
            }
        }
    }

    fn skip(&mut self, bytes: usize) -> Step {
        self.at += bytes;
        Step::On
    }

    fn finish(&mut self) -> Step {
        let picture = self.start..self.at + 2;
        (self.start, self.at, self.state) = (picture.end, picture.end, State::Between);
        Step::Picture(picture)
    }

    /// A second SOI: the picture before it was cut short, and another begins here.
    fn restart(&mut self) -> Step {
        (self.start, self.state) = (self.at, State::Between);
        Step::Broken("it ends before its end marker")
    }

    fn give_up(&mut self, why: &'static str) -> Step {
        (self.start, self.state) = (self.at, State::Between);
        Step::Broken(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marker code, then a segment with its length field.
    fn segment(code: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u16 + 2).to_be_bytes();
        [&[0xFF, code][..], &length, content].concat()
    }

    /// A picture as far as its markers go, with `app` in an APP1 segment.
    fn picture(app: &[u8], scan: &[u8]) -> Vec<u8> {
        [&[0xFF, SOI][..], &segment(0xE1, app), &segment(SOS, &[1, 2, 3]), scan, &[0xFF, EOI]].concat()
    }

    /// Cuts `stream`, pushed in pieces of `piece` bytes: pictures, "broken" as empty ones.
    fn split(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
        let (mut splitter, mut cuts) = (Splitter::default(), vec![]);
        for bytes in stream.chunks(piece) {
            splitter.push(bytes);
            loop {
                match splitter.cut() {
                    Cut::Picture(picture) => cuts.push(picture.to_vec()),
                    Cut::Broken(_) => cuts.push(vec![]),
                    Cut::Nothing => break,
                }
            }
        }
        (cuts, splitter.is_partial())
    }

    fn check(stream: &[u8], expected: &[&[u8]], partial: bool) {
        for piece in [1, 2, 3, 7, 64, 1 << 20] {
            let (cuts, left) = split(stream, piece);
            assert_eq!(cuts, expected, "in pieces of {piece}");
            assert_eq!(left, partial, "in pieces of {piece}");
        }
    }

    #[test]
    fn pictures_in_a_row() {
        let (a, b) = (picture(b"a", &[1, 2, 3]), picture(b"b", &[0xFF, 0, 0xFF, 0xD3, 9]));
        check(&[a.clone(), b.clone(), a.clone()].concat(), &[&a, &b, &a], false);
    }

    #[test]
    fn thumbnails_and_end_markers_inside_segments() {
        let thumbnail = picture(b"", &[5]);
        let outer = picture(&[b"Exif", &thumbnail[..], &[0xFF, EOI]].concat(), &[6]);
        check(&[outer.clone(), outer.clone()].concat(), &[&outer, &outer], false);
    }

    #[test]
    fn garbage_between_and_fill_bytes() {
        let a = picture(b"a", &[1]);
        let filled =
            [&[0xFF, SOI, 0xFF, 0xFF][..], &segment(SOS, &[]), &[1, 0xFF, 0xFF, 0xD0, 2, 0xFF, 0xFF, EOI]].concat();
        let garbage = [0, 0xFF, 0xFF, SOI, 0, 0xFF, EOI, 13, 10];
        check(&[&garbage[..], &a, &garbage, &filled, &garbage].concat(), &[&a, &filled], false);
    }

    #[test]
    fn several_scans() {
        let start = [&[0xFF, SOI][..], &segment(SOS, &[1]), &[1, 2]].concat();
        let whole = [&start[..], &segment(0xC4, b"tables"), &segment(SOS, &[2]), &[3, 0xFF, EOI]].concat();
        check(&whole, &[&whole], false);
    }

    #[test]
    fn broken_pictures_are_reported_and_left() {
        let (a, b) = (picture(b"a", &[1]), picture(b"b", &[2]));
        check(&[&a[..a.len() - 2], &b].concat(), &[&[], &b], false); // cut short in the scan
        check(&[&a[..6], &[0; 40], &b].concat(), &[&[], &b], false); // no marker after the segment
        check(&[&[0xFF, SOI, 0xFF, 0xE0, 0, 1][..], &b].concat(), &[&[], &b], false); // impossible length
        check(&[&b[..], &a[..a.len() - 3]].concat(), &[&b], true); // the end is missing
        check(&[0xFF, SOI, 0xFF], &[], true);
    }

    #[test]
    fn memory_stays_bounded() {
        let mut splitter = Splitter::default();
        for _ in 0..1000 {
            splitter.push(&[0xAA; 65536]);
            assert_eq!(splitter.cut(), Cut::Nothing);
        }
        assert!(splitter.buffer.capacity() < 1 << 18);
        splitter.push(&picture(b"", &[])[..10]);
        let mut broken = 0;
        for _ in 0..2048 {
            splitter.push(&[0xAA; 65536]);
            while splitter.cut() != Cut::Nothing {
                broken += 1;
            }
        }
        assert_eq!(broken, 1);
    }
}
