//! A window on the parts that are judged, for people who look. In: empty room, from whoever looks. Out: a part in it.
//!
//! A part is shown only in exchange for empty room: while nobody looks nothing is copied, and nobody waits for anybody.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::camera::{self, Frame, Geometry};
use crate::mask::{Mask, Stored};
use crate::outcome::Opened;

/// Parts that may be on their way.
const ROOM: usize = 2;

/// Room for a part, and the part that is in it.
///
/// ```
/// use fcam::camera::{Frame, Geometry, PixelFormat};
/// use fcam::outcome::Opened;
/// use fcam::window::window;
///
/// let (window, viewer) = window();
/// assert!(window.room().is_none()); // nobody looks
/// assert!(viewer.ask());
/// let mut seen = window.room().ok_or("no room")?;
/// let geometry = Geometry::packed(2, 2, PixelFormat::Gray8)?;
/// seen.set(Opened { sequence: 7, ..Opened::default() }, geometry, None);
/// seen.bytes.extend([9; 4]);
/// window.show(seen);
/// let seen = viewer.next().ok_or("nothing is shown")?;
/// assert_eq!(seen.frame().ok_or("no part")??.bytes(), [9; 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Seen {
    part: Option<(Opened, Geometry)>,
    /// The frame's bytes.
    pub bytes: Vec<u8>,
    mask: Stored,
    drawn: bool,
}

impl Seen {
    /// Which part this is, and its mask if it has one; the bytes are the caller's to fill in.
    pub fn set(&mut self, opened: Opened, geometry: Geometry, mask: Option<&Stored>) {
        self.part = Some((opened, geometry));
        self.bytes.clear();
        self.drawn = mask.is_some();
        if let Some(mask) = mask {
            self.mask.set(&mask.view());
        }
    }

    /// The part's number; none if it is empty.
    pub fn sequence(&self) -> Option<u64> {
        self.part.map(|(opened, _)| opened.sequence)
    }

    /// The picture; none if there is no part.
    pub fn frame(&self) -> Option<Result<Frame<'_>, camera::Error>> {
        let (opened, geometry) = self.part?;
        Some(Frame::new(opened.sequence, opened.at, geometry, &self.bytes))
    }

    /// The mask, of a part that has one.
    pub fn mask(&self) -> Option<Mask<'_>> {
        self.drawn.then(|| self.mask.view())
    }
}

/// The station's side.
#[derive(Debug)]
pub struct Window {
    empty: Receiver<Seen>,
    seen: Sender<Seen>,
}

/// The side of whoever looks.
#[derive(Debug)]
pub struct Viewer {
    empty: Sender<Seen>,
    seen: Receiver<Seen>,
}

/// A window and its viewer.
pub fn window() -> (Window, Viewer) {
    let (give, empty) = bounded(ROOM);
    let (show, seen) = bounded(ROOM);
    (Window { empty, seen: show }, Viewer { empty: give, seen })
}

impl Window {
    /// Room for a part; none while nobody looks.
    pub fn room(&self) -> Option<Seen> {
        self.empty.try_recv().ok()
    }

    /// Shows a part. There is no more room than places, so that this never waits; a viewer who is gone sees nothing.
    pub fn show(&self, seen: Seen) {
        let _ = self.seen.try_send(seen);
    }
}

impl Viewer {
    /// Asks for the next part. False if enough was asked for already, or the station is gone.
    pub fn ask(&self) -> bool {
        self.empty.is_empty() && self.empty.try_send(Seen::default()).is_ok()
    }

    /// Asks for nothing any more.
    pub fn close(&self) {
        while self.next().is_some() {}
    }

    /// A part that was shown; none if there is no new one.
    pub fn next(&self) -> Option<Seen> {
        self.seen.try_recv().ok()
    }
}
