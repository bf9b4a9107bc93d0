//! The hop from capture to inspect. In: frames, copied into a fixed set of buffers, and faults. Out: both, in order.
//!
//! It refuses to grow: when more parts wait than it may hold, the [`Trigger`] says what happens. Frames of one size allocate
//! nothing here once each buffer has held one.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::camera::{Error, Frame, Geometry};
use crate::clock::Timestamp;
use crate::verdict::Fault;

/// What makes a part, and with that what happens when parts come faster than they are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A belt is watched: the newest frame replaces the one that waits, and the replaced are counted.
    FreeRun,
    /// Every frame is a part: so many wait, and one more is a fault for exactly that part.
    EveryFrame {
        /// Parts that may wait, at least 1.
        queue: usize,
    },
}

/// A frame in a buffer of its own.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

/// A captured part.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) sequence: u64,
    pub(super) captured: Timestamp,
    pub(super) geometry: Geometry,
    pub(super) buffer: Buffer,
}

impl Part {
    pub(super) fn frame(&self) -> Result<Frame<'_>, Error> {
        Frame::new(self.sequence, self.captured, self.geometry, &self.buffer.0)
    }
}

/// What inspect gets.
#[derive(Debug)]
pub(super) enum Item {
    /// To be judged.
    Part(Part),
    /// Cannot be judged, but ends in a verdict like every other.
    Fault { sequence: u64, captured: Timestamp, fault: Fault },
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
    /// Nobody listens any more.
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

/// Faults that may wait; with more, capture waits too. Inspect passes faults on at once, so that this many come together only
/// if a single inspection takes as long as a thousand frames.
const FAULTS: usize = 1024;

impl Inbox {
    pub(super) fn new(trigger: Trigger) -> Self {
        let parts = Self::room(trigger);
        // One more is being judged, and one being filled: a buffer is always free.
        let free = std::iter::repeat_with(Buffer::default).take(parts + 2).collect();
        let items = VecDeque::with_capacity(parts + FAULTS);
        Self { trigger, state: Mutex::new(State { items, parts: 0, free, closed: false }), changed: Condvar::new() }
    }

    fn room(trigger: Trigger) -> usize {
        match trigger {
            Trigger::FreeRun => 1,
            Trigger::EveryFrame { queue } => queue.max(1),
        }
    }

    /// Takes a frame in under a sequence number of the station; capture is the only caller.
    pub(super) fn offer(&self, sequence: u64, frame: &Frame) -> Offer {
        let captured = frame.captured();
        let overflow = Item::Fault { sequence, captured, fault: Fault::Overflow };
        // Only inspect can change the answer before the push below, and only to more room.
        let Some(mut buffer) = self.buffer() else {
            return if self.push(overflow).is_some() { Offer::Overflowed } else { Offer::Closed };
        };
        buffer.0.clear();
        buffer.0.extend_from_slice(frame.bytes());
        match self.push(Item::Part(Part { sequence, captured, geometry: frame.geometry(), buffer })) {
            Some(false) => Offer::Taken,
            Some(true) => Offer::Replaced,
            None => Offer::Closed,
        }
    }

    /// Puts in a part that cannot be judged; false if nobody listens any more.
    pub(super) fn fault(&self, sequence: u64, captured: Timestamp, fault: Fault) -> bool {
        self.push(Item::Fault { sequence, captured, fault }).is_some()
    }

    /// The next item, waited for; none once the inbox is closed and empty.
    pub(super) fn take(&self) -> Option<Item> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                state.parts -= usize::from(matches!(item, Item::Part(_)));
                self.changed.notify_all();
                return Some(item);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
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
        let full = state.parts >= Self::room(self.trigger);
        if full && self.trigger != Trigger::FreeRun {
            return None;
        }
        Some(state.free.pop().unwrap_or_default())
    }

    /// True if an older part had to go; none if closed.
    fn push(&self, item: Item) -> Option<bool> {
        let mut state = self.lock();
        while state.items.len() - state.parts >= FAULTS && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return None;
        }
        let is_part = matches!(item, Item::Part(_));
        let replaced = is_part && state.parts >= Self::room(self.trigger) && state.drop_oldest();
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

    fn offer(inbox: &Inbox, sequence: u64) -> Offer {
        let geometry = Geometry::packed(2, 2, PixelFormat::Gray8).unwrap();
        inbox.offer(sequence, &Frame::new(9, Timestamp::ZERO, geometry, &[sequence as u8; 4]).unwrap())
    }

    fn drain(inbox: &Inbox) -> Vec<(u64, Option<Fault>)> {
        inbox.close();
        std::iter::from_fn(|| inbox.take())
            .map(|item| match item {
                Item::Part(part) => {
                    assert_eq!(part.frame().unwrap().bytes(), [part.sequence as u8; 4]);
                    let sequence = part.sequence;
                    inbox.give_back(part.buffer);
                    (sequence, None)
                }
                Item::Fault { sequence, fault, .. } => (sequence, Some(fault)),
            })
            .collect()
    }

    #[test]
    fn every_frame_keeps_all_in_order_and_an_overflow_is_a_fault() {
        let inbox = Inbox::new(Trigger::EveryFrame { queue: 2 });
        let offers: Vec<Offer> = (0..4).map(|sequence| offer(&inbox, sequence)).collect();
        assert_eq!(offers, [Offer::Taken, Offer::Taken, Offer::Overflowed, Offer::Overflowed]);
        assert!(inbox.fault(4, Timestamp::ZERO, Fault::Stalled));
        let full = Some(Fault::Overflow);
        assert_eq!(drain(&inbox), [(0, None), (1, None), (2, full), (3, full), (4, Some(Fault::Stalled))]);
        assert_eq!(offer(&inbox, 5), Offer::Closed);
    }

    #[test]
    fn free_run_keeps_the_newest_and_never_drops_a_fault() {
        let inbox = Inbox::new(Trigger::FreeRun);
        assert_eq!(offer(&inbox, 0), Offer::Taken);
        assert!(inbox.fault(1, Timestamp::ZERO, Fault::Camera));
        assert_eq!(offer(&inbox, 2), Offer::Replaced);
        assert_eq!(offer(&inbox, 3), Offer::Replaced);
        assert_eq!(drain(&inbox), [(1, Some(Fault::Camera)), (3, None)]);
        assert_eq!(inbox.lock().free.len(), 3);
    }
}
