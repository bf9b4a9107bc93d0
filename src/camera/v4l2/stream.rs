//! A node that streams into mapped buffers. In: a node with its format set. Out: filled buffers, one at a time.
//!
//! The kernel owns a buffer from the moment it is queued; what was taken last is ours until the next is taken.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use v4l::v4l_sys as sys;
use v4l::v4l2::{mmap, munmap, vidioc};

use super::node::{Node, zeroed};
use crate::clock::{self, Timestamp};

/// Buffers to ask for: one is looked at, one is filled, and two are for the time in which this program does not run.
const BUFFERS: u32 = 4;

/// PROT_READ and MAP_SHARED of mmap(2), the same on every architecture of Linux.
const READ: i32 = 1;
const SHARED: i32 = 1;

/// A filled buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    index: u32,
    /// Where the frame begins, and where it ends.
    start: usize,
    end: usize,
    /// The driver's number.
    pub(super) sequence: u32,
    /// The driver's time, if it is of the monotonic clock.
    pub(super) time: Option<Timestamp>,
    /// False if the driver says that the picture is damaged.
    pub(super) sound: bool,
}

/// Mapped buffers, and the node that fills them.
#[derive(Debug)]
pub(super) struct Stream {
    buffers: Vec<Mapping>,
    taken: Option<u32>,
    node: Node,
}

impl Stream {
    /// Maps the buffers, queues them and starts.
    pub(super) fn start(node: Node) -> io::Result<Self> {
        let (type_, memory) = (node.queue(), sys::v4l2_memory_V4L2_MEMORY_MMAP);
        let mut answer = sys::v4l2_requestbuffers { count: BUFFERS, type_, memory, ..zeroed() };
        node.request(vidioc::VIDIOC_REQBUFS, &mut answer)?;
        let mut stream = Self { buffers: vec![], taken: None, node };
        for index in 0..answer.count {
            let mapping = stream.map(index)?;
            stream.buffers.push(mapping);
        }
        stream.on()?;
        Ok(stream)
    }

    fn map(&self, index: u32) -> io::Result<Mapping> {
        let (buffer, plane) = self.buffer(vidioc::VIDIOC_QUERYBUF, index)?;
        // SAFETY: the kernel fills the member of the union that belongs to mapped memory.
        let (length, offset) = unsafe {
            match self.node.is_multiplanar() {
                true => (plane.length, plane.m.mem_offset),
                false => (buffer.length, buffer.m.offset),
            }
        };
        Mapping::new(&self.node, length as usize, offset.into())
    }

    /// Queues every buffer and starts to stream.
    fn on(&mut self) -> io::Result<()> {
        self.taken = None;
        for index in 0..self.buffers.len() as u32 {
            self.buffer(vidioc::VIDIOC_QBUF, index)?;
        }
        self.node.request(vidioc::VIDIOC_STREAMON, &mut self.node.queue().cast_signed())
    }

    /// Stops, which takes every buffer back from the kernel, and starts again.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.node.request(vidioc::VIDIOC_STREAMOFF, &mut self.node.queue().cast_signed())?;
        self.on()
    }

    /// Gives the last buffer back, and waits for the next one; none if the deadline comes first.
    pub(super) fn take(&mut self, deadline: Timestamp) -> io::Result<Option<Filled>> {
        if let Some(index) = self.taken.take() {
            self.buffer(vidioc::VIDIOC_QBUF, index)?;
        }
        loop {
            match self.buffer(vidioc::VIDIOC_DQBUF, 0) {
                Ok((buffer, plane)) => {
                    self.taken = Some(buffer.index);
                    return Ok(Some(self.filled(&buffer, &plane)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let left = deadline.saturating_sub(clock::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.wait(left)?;
        }
    }

    /// Waits until a buffer is filled, or the device is gone: taking the buffer tells which.
    fn wait(&self, time: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(time).ok(); // a time too long for the kernel is forever
        match poll(&mut [PollFd::new(&self.node, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn filled(&self, buffer: &sys::v4l2_buffer, plane: &sys::v4l2_plane) -> Filled {
        let (start, end) = match self.node.is_multiplanar() {
            true => (plane.data_offset as usize, plane.bytesused as usize),
            false => (0, buffer.bytesused as usize),
        };
        let sys::v4l2_buffer { index, sequence, flags, timestamp, .. } = *buffer;
        let monotonic = flags & sys::V4L2_BUF_FLAG_TIMESTAMP_MASK == sys::V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
        let time = monotonic.then(|| time(timestamp)).flatten();
        Filled { index, start, end, sequence, time, sound: flags & sys::V4L2_BUF_FLAG_ERROR == 0 }
    }

    /// The bytes of a buffer that was taken and not given back.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        let mine = self.taken == Some(filled.index);
        let mapping = self.buffers.get(filled.index as usize).filter(|_| mine);
        mapping.and_then(|mapping| mapping.bytes().get(filled.start..filled.end)).unwrap_or_default()
    }

    /// One of the requests about a buffer.
    fn buffer(&self, number: std::ffi::c_ulong, index: u32) -> io::Result<(sys::v4l2_buffer, sys::v4l2_plane)> {
        let memory = sys::v4l2_memory_V4L2_MEMORY_MMAP;
        let mut plane: sys::v4l2_plane = zeroed();
        let mut buffer = sys::v4l2_buffer { index, type_: self.node.queue(), memory, ..zeroed() };
        if self.node.is_multiplanar() {
            buffer.length = 1;
            buffer.m.planes = &raw mut plane;
        }
        self.node.request(number, &mut buffer)?;
        Ok((buffer, plane))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The kernel stops by itself when the file is closed, which comes right after; a device that is gone answers
        // with an error.
        let _ = self.node.request(vidioc::VIDIOC_STREAMOFF, &mut self.node.queue().cast_signed());
    }
}

fn time(stamp: sys::timeval) -> Option<Timestamp> {
    let seconds = u64::try_from(stamp.tv_sec).ok()?;
    let micros = u32::try_from(stamp.tv_usec).ok().filter(|micros| *micros < 1_000_000)?;
    Some(Timestamp::new(seconds, micros * 1000))
}

/// Memory of a driver.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping belongs to the process and not to the thread that made it.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(node: &Node, length: usize, offset: i64) -> io::Result<Self> {
        // SAFETY: a new mapping, at an address that the kernel chooses, takes no memory from anybody.
        let start = unsafe { mmap(std::ptr::null_mut(), length, READ, SHARED, node.as_fd().as_raw_fd(), offset) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// To be read while the buffer is not queued: then nobody writes to it.
    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped in `new` with this length, readable, until `drop`. The stream lends it for a taken buffer
        // alone, which the driver leaves alone; the memory stays when the device is unplugged.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and `bytes` lends no longer than `self` lives.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) }; // cannot fail for a whole mapping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_times_are_none() {
        let stamp = |tv_sec, tv_usec| time(sys::timeval { tv_sec, tv_usec });
        assert_eq!(stamp(3, 250_000), Some(Timestamp::from_millis(3250)));
        for (seconds, micros) in [(-1, 0), (0, -1), (0, 1_000_000)] {
            assert_eq!(stamp(seconds, micros), None, "{seconds} {micros}");
        }
    }
}
