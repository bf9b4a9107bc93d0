//! The hop from capture to inspect. In: frames, copied into a fixed set of buffers, and faults. Out: both, in order.
//!
//! It refuses to grow: when more parts wait than it may hold, the [`Trigger`] says what happens. Frames of one size
//! allocate nothing here once each buffer has held one.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::matching::{Matching, Rule};
use crate::camera::{Error, Frame, Geometry};
use crate::clock::Timestamp;
use crate::outcome::Opened;
use crate::verdict::Fault;

/// What makes a part, and with that what happens when parts come faster than they are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A stream is watched: the newest frame replaces the one that waits, and the replaced are counted.
    FreeRun,
    /// Every frame is a part: this many wait, and one more is a fault for exactly that part.
    EveryFrame {
        /// Parts that may wait, at least 1.
        queue: usize,
    },
    /// The line says when a part is there, and a frame is found for it. READY is low while as many wait as may.
    External {
        /// Parts that may wait, at least 1.
        queue: usize,
        /// Which frame shows a part.
        matching: Matching,
    },
}

impl Trigger {
    /// Parts that may wait.
    pub(super) fn room(self) -> usize {
        match self {
            Self::FreeRun => 1,
            Self::EveryFrame { queue } | Self::External { queue, .. } => queue.max(1),
        }
    }

    /// True if triggers fire the sensor: it shows nothing before the first one.
    pub(super) fn fires(self) -> bool {
        matches!(self, Self::External { matching: Matching { rule: Rule::Next, .. }, .. })
    }
}

/// A frame in a buffer of its own.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    pub(super) fn fill(&mut self, frame: &Frame) {
        self.0.clear();
        self.0.extend_from_slice(frame.bytes());
    }

    pub(super) fn copy_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.0);
    }

    pub(super) fn swap(&mut self, bytes: &mut Vec<u8>) {
        std::mem::swap(&mut self.0, bytes);
    }

    pub(super) fn frame(&self, sequence: u64, captured: Timestamp, geometry: Geometry) -> Option<Frame<'_>> {
        Frame::new(sequence, captured, geometry, &self.0).ok()
    }
}

/// A captured part.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) opened: Opened,
    pub(super) geometry: Geometry,
    pub(super) buffer: Buffer,
}

impl Part {
    /// Under the part's number and time.
    pub(super) fn frame(&self) -> Result<Frame<'_>, Error> {
        Frame::new(self.opened.sequence, self.opened.at, self.geometry, &self.buffer.0)
    }
}

/// What inspect gets.
#[derive(Debug)]
pub(super) enum Item {
    /// To be judged.
    Part(Part),
    /// Cannot be judged, but ends in a verdict like every other.
    Fault { opened: Opened, fault: Fault },
}

/// What came when inspect asked.
#[derive(Debug)]
pub(super) enum Next {
    /// Something to judge.
    Item(Item),
    /// Nothing for a while.
    Idle,
    /// Nothing will come any more.
    Closed,
}

/// What became of an offered frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// It waits to be judged.
    Taken,
    /// It waits in the place of an older one that nobody will judge.
    Replaced,
    /// It waits as a fault.
    Overflowed,
    /// The station takes no more parts.
    Closed,
}

#[derive(Debug)]
pub(super) struct Inbox {
    trigger: Trigger,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    items: VecDeque<Item>,
    /// Parts among the items.
    parts: usize,
    free: Vec<Buffer>,
    closed: bool,
}

/// Faults that may wait; with more, capture waits too. Inspect passes faults on at once, so that this many come
/// together only if a single inspection takes as long as a thousand frames.
const MAX_WAITING_FAULTS: usize = 1024;

impl Inbox {
    pub(super) fn new(trigger: Trigger) -> Self {
        let parts = trigger.room();
        // One more is being judged, and one being filled: a buffer is always free.
        let free = std::iter::repeat_with(Buffer::default).take(parts + 2).collect();
        let items = VecDeque::with_capacity(parts + MAX_WAITING_FAULTS);
        Self { trigger, state: Mutex::new(State { items, parts: 0, free, closed: false }), changed: Condvar::new() }
    }

    /// Takes the frame of a part in; capture is the only caller.
    pub(super) fn offer(&self, opened: Opened, frame: &Frame) -> Offer {
        let overflow = Item::Fault { opened, fault: Fault::Overflow };
        // Only inspect can change the answer before the push below, and only to more room.
        let Some(mut buffer) = self.buffer() else {
            return if self.push(overflow).is_some() { Offer::Overflowed } else { Offer::Closed };
        };
        buffer.fill(frame);
        match self.push(Item::Part(Part { opened, geometry: frame.geometry(), buffer })) {
            Some(false) => Offer::Taken,
            Some(true) => Offer::Replaced,
            None => Offer::Closed,
        }
    }

    /// Puts in a part that cannot be judged; false if nobody listens any more.
    pub(super) fn fault(&self, opened: Opened, fault: Fault) -> bool {
        self.push(Item::Fault { opened, fault }).is_some()
    }

    /// The next item, waited for as long as that.
    pub(super) fn take(&self, patience: Duration) -> Next {
        let idle = |state: &mut State| state.items.is_empty() && !state.closed;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        match state.items.pop_front() {
            Some(item) => {
                state.parts -= usize::from(matches!(item, Item::Part(_)));
                self.changed.notify_all();
                Next::Item(item)
            }
            None if state.closed => Next::Closed,
            None => Next::Idle,
        }
    }

    /// Gives a buffer back that is not needed any more.
    pub(super) fn give_back(&self, buffer: Buffer) {
        self.lock().free.push(buffer);
    }

    /// Ends the hop: nothing more goes in, what waits may still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// A buffer to fill, unless an overflow is due.
    fn buffer(&self) -> Option<Buffer> {
        let mut state = self.lock();
        let full = state.parts >= self.trigger.room();
        if full && self.trigger != Trigger::FreeRun {
            return None;
        }
        Some(state.free.pop().unwrap_or_default())
    }

    /// True if an older part had to go; none if closed.
    fn push(&self, item: Item) -> Option<bool> {
        let mut state = self.lock();
        while state.items.len() - state.parts >= MAX_WAITING_FAULTS && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return None;
        }
        let is_part = matches!(item, Item::Part(_));
        let replaced = is_part && state.parts >= self.trigger.room() && state.drop_oldest();
        state.parts += usize::from(is_part);
        state.items.push_back(item);
        self.changed.notify_all();
        Some(replaced)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Faults stay: only a frame can be replaced by a newer one.
    fn drop_oldest(&mut self) -> bool {
        let Some(at) = self.items.iter().position(|item| matches!(item, Item::Part(_))) else { return false };
        if let Some(Item::Part(part)) = self.items.remove(at) {
            self.free.push(part.buffer);
            self.parts -= 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::PixelFormat;

    fn opened(sequence: u64) -> Opened {
        Opened { sequence, part_id: 0, at: Timestamp::ZERO }
    }

    fn offer(inbox: &Inbox, sequence: u64) -> Offer {
        let geometry = Geometry::packed(2, 2, PixelFormat::Gray8).unwrap();
        inbox.offer(opened(sequence), &Frame::new(9, Timestamp::ZERO, geometry, &[sequence as u8; 4]).unwrap())
    }

    fn drain(inbox: &Inbox) -> Vec<(u64, Option<Fault>)> {
        inbox.close();
        let next = || match inbox.take(Duration::ZERO) {
            Next::Item(item) => Some(item),
            Next::Idle | Next::Closed => None,
        };
        std::iter::from_fn(next)
            .map(|item| match item {
                Item::Part(part) => {
                    let sequence = part.opened.sequence;
                    assert_eq!(part.frame().unwrap().bytes(), [sequence as u8; 4]);
                    inbox.give_back(part.buffer);
                    (sequence, None)
                }
                Item::Fault { opened, fault } => (opened.sequence, Some(fault)),
            })
            .collect()
    }

    #[test]
    fn every_frame_keeps_all_in_order_and_an_overflow_is_a_fault() {
        let inbox = Inbox::new(Trigger::EveryFrame { queue: 2 });
        let offers: Vec<Offer> = (0..4).map(|sequence| offer(&inbox, sequence)).collect();
        assert_eq!(offers, [Offer::Taken, Offer::Taken, Offer::Overflowed, Offer::Overflowed]);
        assert!(inbox.fault(opened(4), Fault::Stalled));
        let full = Some(Fault::Overflow);
        assert_eq!(drain(&inbox), [(0, None), (1, None), (2, full), (3, full), (4, Some(Fault::Stalled))]);
        assert_eq!(offer(&inbox, 5), Offer::Closed);
    }

    #[test]
    fn free_run_keeps_the_newest_and_never_drops_a_fault() {
        let inbox = Inbox::new(Trigger::FreeRun);
        assert_eq!(offer(&inbox, 0), Offer::Taken);
        assert!(inbox.fault(opened(1), Fault::Camera));
        assert_eq!(offer(&inbox, 2), Offer::Replaced);
        assert_eq!(offer(&inbox, 3), Offer::Replaced);
        assert_eq!(drain(&inbox), [(1, Some(Fault::Camera)), (3, None)]);
        assert_eq!(inbox.lock().free.len(), 3);
    }
}
