//! Bytes that nobody may touch, told to AddressSanitizer. In: ranges of one allocation. Built by `./dev sanitize` alone
//! (`--cfg fenced`).

use std::ffi::c_void;
use std::ops::Range;

unsafe extern "C" {
    // sanitizer/asan_interface.h; it is exact to the byte at a range's end, to eight bytes at its start.
    fn __asan_poison_memory_region(start: *const c_void, size: usize);
    fn __asan_unpoison_memory_region(start: *const c_void, size: usize);
}

/// Nobody may touch these bytes, counted from `base`.
pub fn close(base: *const u8, bytes: Range<usize>) {
    // SAFETY: the caller's own bytes; the sanitizer changes its own shadow of them alone.
    unsafe { __asan_poison_memory_region(base.wrapping_add(bytes.start).cast(), bytes.len()) };
}

/// They may be touched again.
pub fn open(base: *const u8, bytes: Range<usize>) {
    // SAFETY: as above.
    unsafe { __asan_unpoison_memory_region(base.wrapping_add(bytes.start).cast(), bytes.len()) };
}
