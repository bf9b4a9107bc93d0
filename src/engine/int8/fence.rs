//! What a step may touch, told to AddressSanitizer: all tensors lie in one allocation, so it would not see a kernel
//! read its neighbour's.
//!
//! In: a step and one thread's share of it. While it runs, every byte of the arena is poisoned but those that its
//! tensors' views and its window allow it to read, and the rows that this thread is to write. Built by `./dev sanitize`
//! alone (`--cfg fenced`).

use std::ops::Range;

use super::arena::Arena;
use super::kernels::Output;
use super::layer_graph::Window;
use super::shadow;
use super::step::{Border, Step, View, Work};

/// Bytes that only a kernel which works on whole vectors of a row may read past what it needs: see
/// `Kernels::one_channel` and [`View`].
const PAST_THE_END: usize = 64;

/// The arena, as bytes that may be touched or not.
pub struct Fence {
    base: *const u8,
    length: usize,
}

/// Bytes of one value.
#[derive(Clone, Copy)]
enum Of {
    Int8 = 1,
    Float = 4,
}

impl Fence {
    /// Around the tensors of a plan.
    pub fn of(arena: &Arena) -> Self {
        Self { base: arena.base(), length: arena.length() }
    }

    /// Nothing may be touched but what part `part` of `parts` of a step touches.
    pub fn around(&self, step: &Step, part: usize, parts: usize) {
        self.close(0..self.length);
        if let (Some(border), 0) = (&step.border, part) {
            self.border(border);
        }
        self.work(&step.work, step.share(part, parts), part);
    }

    /// Everything may be touched.
    pub fn none(&self) {
        self.open(0..self.length);
    }

    fn close(&self, bytes: Range<usize>) {
        shadow::close(self.base, bytes);
    }

    fn open(&self, bytes: Range<usize>) {
        shadow::open(self.base, bytes);
    }

    fn border(&self, border: &Border) {
        let Border { view, pads: [top, left, bottom, right], .. } = border;
        let start = view.offset - top * view.row - left * view.pixel;
        let (first, last) = (top * view.row, (top + view.height) * view.row);
        self.open(start..start + first);
        self.open(start + last..start + last + bottom * view.row);
        for row in (start + first..start + last).step_by(view.row) {
            self.open(row..row + left * view.pixel);
            let end = row + (left + view.width) * view.pixel;
            self.open(end..end + right * view.pixel);
        }
    }

    /// Pixels of a view, `pads` of them around it too.
    fn pixels(&self, view: &View, of: Of, rows: Range<usize>, [left, right]: [usize; 2], above: usize) {
        let bytes = view.lanes * of as usize;
        for y in rows {
            let row = view.offset + y * view.row - above * view.row - left * view.pixel;
            for x in 0..left + view.width + right {
                self.open(row + x * view.pixel..row + x * view.pixel + bytes);
            }
        }
    }

    fn whole(&self, view: &View, of: Of) {
        self.pixels(view, of, 0..view.height, [0, 0], 0);
    }

    fn rows(&self, view: &View, of: Of, rows: Range<usize>) {
        self.pixels(view, of, rows, [0, 0], 0);
    }

    /// What the windows of all output pixels see of an int8 tensor. `vectors`: whole rows are read as one run of bytes.
    fn seen(&self, from: &View, to: &View, window: &Window, vectors: bool) {
        let [top, left, ..] = window.pads;
        let past = |out: usize, axis: usize, before: usize, length: usize| {
            let reach = (out - 1) * window.stride[axis] + (window.size[axis] - 1) * window.dilation[axis] + 1;
            reach.saturating_sub(before + length)
        };
        let (below, right) = (past(to.height, 0, top, from.height), past(to.width, 1, left, from.width));
        let rows = top + from.height + below;
        if vectors {
            let start = from.offset - top * from.row - left * from.pixel;
            let last = start + (rows - 1) * from.row + (left + from.width + right) * from.pixel;
            return self.open(start..(last + PAST_THE_END).min(self.length));
        }
        self.pixels(from, Of::Int8, 0..rows, [left, right], top);
    }

    fn work(&self, work: &Work, rows: Range<usize>, part: usize) {
        match work {
            Work::Input { to } => self.rows(to, Of::Int8, rows),
            Work::Dense { layer, from, to, window } => {
                self.seen(from, to, window, from.pixel < super::kernels::LANES);
                let of = if matches!(layer.output, Output::Int8 { .. }) { Of::Int8 } else { Of::Float };
                self.rows(to, of, rows);
            }
            Work::OneChannel { from, to, window, .. } => {
                self.seen(from, to, window, true);
                self.rows(to, Of::Float, rows);
            }
            Work::Depthwise { from, to, window, .. } => {
                self.seen(from, to, window, false);
                self.rows(to, Of::Int8, rows);
            }
            Work::Add { from: [a, b], to, .. } => {
                self.whole(a, Of::Int8);
                self.whole(b, Of::Int8);
                self.rows(to, Of::Int8, rows);
            }
            Work::Requantize { from, to, .. }
            | Work::Upsample { from, to, .. }
            | Work::MaxPool { from, to, .. }
            | Work::AveragePool { from, to, .. }
            | Work::Relane { from, to, .. } => {
                self.whole(from, Of::Int8);
                self.rows(to, Of::Int8, rows);
            }
            Work::Quantize { from, to, .. } => {
                self.whole(from, Of::Float);
                self.rows(to, Of::Int8, rows);
            }
            Work::Dequantize { from, to, .. } => {
                self.whole(from, Of::Int8);
                self.rows(to, Of::Float, rows);
            }
            Work::FloatConv { from, to, .. } | Work::Map { from, to, .. } | Work::Mean { from, to } => {
                self.whole(from, Of::Float);
                self.rows(to, Of::Float, rows);
            }
            Work::Resize { from, to, lines, .. } => {
                self.whole(from, Of::Float);
                self.rows(to, Of::Float, rows);
                let line = lines.offset + part * lines.row;
                self.open(line..line + from.width * from.lanes * Of::Float as usize);
            }
        }
    }
}
