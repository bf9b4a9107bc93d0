//! One buffer for all tensors of a network; who lies where is planned at load.
//!
//! In: what each tensor asks for. Out: its offset, and the memory, as a pointer: threads write into it at the same
//! time, so no slice of the whole is ever made.

use std::cell::UnsafeCell;

/// The memory of a network's tensors.
pub struct Arena {
    lines: Box<[UnsafeCell<CacheLine>]>,
    #[cfg(fenced)]
    length: usize,
}

// SAFETY: bytes belong to no thread. A shared arena gives out its pointer alone, and whoever reads or writes through
// that answers for who else does: see `Step::run`.
unsafe impl Sync for Arena {}

impl Arena {
    /// That many bytes of this value.
    pub fn filled(length: usize, value: u8) -> Self {
        let lines = (0..length.div_ceil(64)).map(|_| UnsafeCell::new(CacheLine([value; 64]))).collect();
        let new = Self {
            lines,
            #[cfg(fenced)]
            length,
        };
        #[cfg(fenced)]
        super::shadow::close(new.base(), length..new.lines.len() * 64);
        new
    }

    /// The first byte, at a multiple of 64. Reading and writing behind it is what an `UnsafeCell` allows.
    pub fn base(&self) -> *mut u8 {
        self.lines.as_ptr().cast_mut().cast()
    }

    /// All bytes, while nobody else has the arena.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the lines are initialised bytes without gaps, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.base(), self.lines.len() * 64) }
    }

    /// Its bytes.
    #[cfg(fenced)]
    pub fn length(&self) -> usize {
        self.length
    }
}

/// Bytes at a multiple of 64: a cache line, and the widest vector.
#[derive(Debug, Clone, Default)]
pub struct Bytes {
    lines: Vec<CacheLine>,
    length: usize,
}

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

impl Bytes {
    /// That many zeros.
    pub fn zeros(length: usize) -> Self {
        let new = Self { lines: vec![CacheLine([0; 64]); length.div_ceil(64)], length };
        #[cfg(fenced)]
        super::shadow::close(new.as_ptr(), length..new.lines.len() * 64);
        new
    }

    /// A copy of these.
    pub fn of(bytes: &[u8]) -> Self {
        let mut new = Self::zeros(bytes.len());
        new.as_mut_slice().copy_from_slice(bytes);
        new
    }

    /// The first byte.
    pub fn as_ptr(&self) -> *const u8 {
        self.lines.as_ptr().cast()
    }

    /// The first byte.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }

    /// All of them.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the lines are initialised bytes without gaps, `length` is at most 64 times their number, and `self`
        // is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.length) }
    }
}

/// What one tensor asks of the arena.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Bytes.
    pub size: usize,
    /// First step that touches it.
    pub first: usize,
    /// Last step that touches it.
    pub last: usize,
}

/// The offset of each request, multiples of 64, and the size of the whole: no two that live at one time overlap. The
/// largest are placed first, each at the lowest place that is free while it lives.
pub fn place(requests: &[Request]) -> (Vec<usize>, usize) {
    let mut order: Vec<(usize, Request)> = requests.iter().copied().enumerate().collect();
    order.sort_by_key(|(index, request)| (std::cmp::Reverse(request.size), *index));
    let mut placed: Vec<(usize, usize, Request)> = Vec::new(); // index, offset, request
    for (index, request) in order {
        let mut others: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(_, _, other)| other.first <= request.last && request.first <= other.last)
            .map(|(_, offset, other)| (*offset, offset + other.size))
            .collect();
        others.sort_unstable();
        let mut offset = 0;
        for (start, end) in others {
            if offset + request.size <= start {
                break;
            }
            offset = offset.max(end.next_multiple_of(64));
        }
        placed.push((index, offset, request));
    }
    placed.sort_by_key(|(index, ..)| *index);
    let end = placed.iter().map(|(_, offset, request)| offset + request.size).max().unwrap_or(0);
    (placed.into_iter().map(|(_, offset, _)| offset).collect(), end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_two_that_live_together_overlap(wanted in prop::collection::vec((0usize..5000, 0usize..12, 0usize..6), 0..40)) {
            let requests: Vec<Request> =
                wanted.iter().map(|(size, first, life)| Request { size: *size, first: *first, last: first + life }).collect();
            let (offsets, end) = place(&requests);
            for (i, a) in requests.iter().enumerate() {
                prop_assert_eq!(offsets[i] % 64, 0);
                prop_assert!(offsets[i] + a.size <= end);
                for (j, b) in requests.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last && a.size > 0 && b.size > 0;
                    let apart = offsets[i] + a.size <= offsets[j] || offsets[j] + b.size <= offsets[i];
                    prop_assert!(!together || apart, "{} and {}", i, j);
                }
            }
        }
    }

    #[test]
    fn what_never_lives_together_shares_its_place() {
        let request = |first| Request { size: 640, first, last: first };
        assert_eq!(place(&[request(0), request(1), request(2)]), (vec![0, 0, 0], 640));
    }
}
