//! One step of a plan, and how it runs: a share of the output's rows, from tensors of the arena to a tensor of the
//! arena.

use std::ops::Range;

use super::kernels::float;
use super::kernels::lanes::{Numbers, Taps};
use super::kernels::{Dense, Depthwise, Kernels, LANES, OneChannel, RowSpan};
use super::layer_graph::{Function, Window};

/// Where a tensor lies in the arena: `[height][width][lanes]`, int8 or float32. Offset and strides are bytes for both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Bytes from the arena's start to the first value of pixel (0, 0), which lies inside the border.
    pub offset: usize,
    /// Bytes from a row to the next, border included.
    pub row: usize,
    /// Bytes from a pixel to the next: as many as the lanes of the tensor that it is a part of.
    pub pixel: usize,
    /// Rows, without the border.
    pub height: usize,
    /// Pixels a row, without the border.
    pub width: usize,
    /// Values a pixel: channels, and for int8 the padding up to whole vectors.
    pub lanes: usize,
}

/// One step.
pub struct Step {
    /// The layer's name in the file.
    pub name: String,
    /// What kind of layer it is.
    pub label: &'static str,
    /// Multiply-adds of the layer as the file defines it.
    pub macs: u64,
    /// Output rows, which threads share.
    pub rows: usize,
    /// What it computes.
    pub work: Work,
    /// The zeros that it writes first.
    pub border: Option<Border>,
}

/// The zeros around a tensor, written by the first step that writes into it.
#[derive(Debug, Clone, Copy)]
pub struct Border {
    /// The tensor.
    pub view: View,
    /// Rows above, columns left, rows below, columns right.
    pub pads: [usize; 4],
    /// A zero as it is stored.
    pub zero: u8,
}

/// What a step computes, and between which tensors: `from` is read, `to` is written. Bounds are whole numbers of the
/// int8 scale.
pub enum Work {
    /// The camera's tensor into the arena.
    Input { to: View },
    /// A convolution in int8 whose groups are computed as one.
    Dense { layer: Box<Dense>, from: View, to: View, window: Window },
    /// A convolution in int8 to one float channel.
    OneChannel { layer: Box<OneChannel>, from: View, to: View, window: Window },
    /// A convolution in int8 of each channel alone.
    Depthwise { layer: Box<Depthwise>, from: View, to: View, window: Window },
    /// A convolution in float32.
    FloatConv { layer: Box<float::Conv>, from: View, to: View },
    /// The sum of two int8 tensors.
    Add { from: [View; 2], to: View, numbers: Numbers },
    /// From one int8 scale to another.
    Requantize { from: View, to: View, numbers: Numbers },
    /// Each pixel `factor` times down and right.
    Upsample { from: View, to: View, factor: usize },
    /// The largest value of each window.
    MaxPool { from: View, to: View, window: Window },
    /// The mean of each window, by `scale` to the int8 scale of `to`.
    AveragePool { from: View, to: View, window: Window, include_pads: bool, scale: f32, bounds: [f32; 2] },
    /// Between tensors whose channels lie in different lanes.
    Relane { from: View, to: View, lanes: Vec<(usize, usize)> },
    /// Float32 to int8.
    Quantize { from: View, to: View, scale: f32 },
    /// Int8 to float32; channel i lies in lane `lanes[i]`.
    Dequantize { from: View, to: View, lanes: Vec<usize>, scale: f32 },
    /// A function of each float32.
    Map { from: View, to: View, function: Function },
    /// An enlargement in float32, bilinear; `lines` is scratch, one enlarged row a part.
    Resize { from: View, to: View, tables: Box<float::Resize>, lines: View },
    /// The mean of each float32 channel over all pixels.
    Mean { from: View, to: View },
}

impl View {
    /// Values of a float tensor.
    pub fn floats(&self) -> usize {
        self.height * self.width * self.lanes
    }

    /// Pixel (y, x).
    ///
    /// # Safety
    /// The arena starts at `base`.
    unsafe fn at(&self, base: *mut u8, y: usize, x: usize) -> *mut u8 {
        // SAFETY: the view lies in the arena.
        unsafe { base.add(self.offset + y * self.row + x * self.pixel) }
    }
}

impl Step {
    /// The rows that part `part` of `parts` computes. What is not shared is the first one's.
    pub fn share(&self, part: usize, parts: usize) -> Range<usize> {
        let whole = matches!(self.work, Work::Input { .. } | Work::Mean { .. });
        match (whole, part) {
            (true, 0) => 0..self.rows,
            (true, _) => 0..0,
            (false, _) => self.rows * part / parts..self.rows * (part + 1) / parts,
        }
    }

    /// Computes this thread's share of the step's rows: part `part` of `parts`. `input` is what the first part reads of
    /// the camera's tensor; the others need none.
    ///
    /// # Safety
    /// `base` is the arena of the plan that this step is of; all earlier steps are done, and done before this one in
    /// the order of memory too; parts run at most once each, and nobody else touches the arena meanwhile.
    pub unsafe fn run(&self, kernels: &Kernels, base: *mut u8, input: &[i8], part: usize, parts: usize) {
        let rows = self.share(part, parts);
        // SAFETY: the caller's. Each match arm below stays inside of the views that the builder made.
        unsafe {
            if let (Some(border), 0) = (&self.border, part) {
                border.fill(base);
            }
            self.work.run(kernels, base, input, rows, part);
        }
    }
}

impl Border {
    /// # Safety
    /// `base` is the arena's start.
    unsafe fn fill(&self, base: *mut u8) {
        let Self { view, pads: [top, left, bottom, right], zero } = *self;
        // SAFETY: the border belongs to the tensor's place in the arena.
        unsafe {
            let start = base.add(view.offset - top * view.row - left * view.pixel);
            std::ptr::write_bytes(start, zero, top * view.row);
            std::ptr::write_bytes(start.add((top + view.height) * view.row), zero, bottom * view.row);
            for y in top..top + view.height {
                let row = start.add(y * view.row);
                std::ptr::write_bytes(row, zero, left * view.pixel);
                std::ptr::write_bytes(row.add((left + view.width) * view.pixel), zero, right * view.pixel);
            }
        }
    }
}

impl Work {
    /// # Safety
    /// As [`Step::run`].
    unsafe fn run(&self, kernels: &Kernels, base: *mut u8, input: &[i8], rows: Range<usize>, part: usize) {
        // SAFETY: the views lie in the arena, the layers fit them, and the rows are this part's alone.
        unsafe {
            match self {
                Self::Input { to } => take_input(input, base, to, rows, kernels.flip),
                Self::Dense { layer, from, to, window } => (kernels.dense)(layer, &span(base, from, to, window, rows)),
                Self::OneChannel { layer, from, to, window } => {
                    if let Some(one_channel) = kernels.one_channel {
                        one_channel(layer, &span(base, from, to, window, rows));
                    }
                }
                Self::Depthwise { layer, from, to, window } => {
                    (kernels.depthwise)(layer, &span(base, from, to, window, rows));
                }
                Self::FloatConv { layer, from, to } => {
                    let all = floats(base, from, 0..from.height);
                    (kernels.float.conv)(layer, rows.clone(), all, floats_mut(base, to, rows));
                }
                Self::Add { from: [a, b], to, numbers } => {
                    for_each_run(
                        base,
                        to,
                        rows,
                        |y, x, to, n| {
                            (kernels.lanes.add)(numbers, to, a.at(base, y, x), b.at(base, y, x), n);
                        },
                        &[a, b],
                    );
                }
                Self::Requantize { from, to, numbers } => {
                    for_each_run(
                        base,
                        to,
                        rows,
                        |y, x, to, n| {
                            let from = from.at(base, y, x);
                            (kernels.lanes.requantize)(numbers, to, from, from, n);
                        },
                        &[from],
                    );
                }
                Self::Upsample { from, to, factor } => upsample(base, from, to, *factor, rows),
                Self::MaxPool { from, to, window } => max_pool(kernels, base, from, to, window, rows),
                Self::AveragePool { from, to, window, include_pads, scale, bounds } => {
                    average_pool(base, [from, to], window, *include_pads, *scale, *bounds, kernels.flip, rows);
                }
                Self::Relane { from, to, lanes } => {
                    for_each_pixel(to, rows, |y, x| {
                        let (from, to) = (from.at(base, y, x), to.at(base, y, x));
                        for (source, target) in lanes {
                            *to.add(*target) = *from.add(*source);
                        }
                    });
                }
                Self::Quantize { from, to, scale } => {
                    for_each_pixel(to, rows, |y, x| {
                        let values = std::slice::from_raw_parts(from.at(base, y, x).cast::<f32>(), from.lanes);
                        let pixel = std::slice::from_raw_parts_mut(to.at(base, y, x), to.lanes);
                        (kernels.float.quantize)(*scale, kernels.flip, values, pixel);
                        pixel.iter_mut().skip(values.len()).for_each(|lane| *lane = kernels.flip);
                    });
                }
                Self::Dequantize { from, to, lanes, scale } => {
                    for_each_pixel(to, rows, |y, x| {
                        let (from, to) = (from.at(base, y, x), to.at(base, y, x).cast::<f32>());
                        for (channel, lane) in lanes.iter().enumerate() {
                            *to.add(channel) = f32::from((*from.add(*lane) ^ kernels.flip) as i8) * scale;
                        }
                    });
                }
                Self::Map { from, to, function } => {
                    let (a, b) = (floats(base, from, rows.clone()), floats_mut(base, to, rows));
                    (kernels.float.map)(*function, a, b);
                }
                Self::Resize { from, to, tables, lines } => {
                    let line = View { width: from.width * from.lanes, ..*lines };
                    let line = floats_at(base, &line, part);
                    let all = floats(base, from, 0..from.height);
                    (kernels.float.resize)(tables, rows.clone(), all, line, floats_mut(base, to, rows));
                }
                Self::Mean { from, to } if !rows.is_empty() => {
                    float::mean(floats(base, from, 0..from.height), from.lanes, floats_mut(base, to, 0..1));
                }
                Self::Mean { .. } => {}
            }
        }
    }
}

/// # Safety
/// The views lie in the arena at `base`.
unsafe fn span(base: *mut u8, from: &View, to: &View, window: &Window, rows: Range<usize>) -> RowSpan {
    let Window { stride: [down, right], pads: [top, left, ..], .. } = *window;
    // SAFETY: the tensor has a border at least as wide as the pads.
    let input = unsafe { base.add(from.offset - top * from.row - left * from.pixel) };
    // SAFETY: as the caller's.
    let output = unsafe { to.at(base, 0, 0) };
    let (in_row, in_pixel) = (from.row * down, from.pixel * right);
    RowSpan { input, in_row, in_pixel, output, out_row: to.row, out_pixel: to.pixel, width: to.width, rows }
}

/// Calls `work(y, x, to, n)` for runs of `n` bytes that are contiguous in all views: whole rows, or else pixels.
///
/// # Safety
/// The views lie in the arena at `base`.
unsafe fn for_each_run(
    base: *mut u8,
    to: &View,
    rows: Range<usize>,
    mut work: impl FnMut(usize, usize, *mut u8, usize),
    others: &[&View],
) {
    let whole = std::iter::once(&to).chain(others).all(|view| view.pixel == to.lanes);
    for y in rows {
        let steps = if whole { 1 } else { to.width };
        let n = if whole { to.width * to.lanes } else { to.lanes };
        for x in 0..steps {
            // SAFETY: the caller's.
            work(y, x, unsafe { to.at(base, y, x) }, n);
        }
    }
}

fn for_each_pixel(to: &View, rows: Range<usize>, mut work: impl FnMut(usize, usize)) {
    for y in rows {
        for x in 0..to.width {
            work(y, x);
        }
    }
}

/// # Safety
/// A float tensor of the arena at `base` that nobody writes meanwhile.
unsafe fn floats<'a>(base: *mut u8, view: &View, rows: Range<usize>) -> &'a [f32] {
    let row = view.width * view.lanes;
    // SAFETY: the caller's; float tensors start at multiples of 64 and have no gaps.
    unsafe { std::slice::from_raw_parts(base.add(view.offset).cast::<f32>().add(rows.start * row), rows.len() * row) }
}

/// # Safety
/// A float tensor of the arena at `base` whose rows nobody else touches meanwhile.
unsafe fn floats_mut<'a>(base: *mut u8, view: &View, rows: Range<usize>) -> &'a mut [f32] {
    let row = view.width * view.lanes;
    // SAFETY: as above.
    unsafe {
        std::slice::from_raw_parts_mut(base.add(view.offset).cast::<f32>().add(rows.start * row), rows.len() * row)
    }
}

/// Row `y` of a float view whose rows may have gaps.
///
/// # Safety
/// As `floats_mut`.
unsafe fn floats_at<'a>(base: *mut u8, view: &View, y: usize) -> &'a mut [f32] {
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts_mut(view.at(base, y, 0).cast::<f32>(), view.width * view.lanes) }
}

/// # Safety
/// As [`Step::run`].
unsafe fn take_input(input: &[i8], base: *mut u8, to: &View, rows: Range<usize>, flip: u8) {
    let channels = input.len() / (to.height * to.width);
    let all = input.chunks_exact((to.width * channels).max(1)).enumerate();
    for (y, row) in all.skip(rows.start).take(rows.len()) {
        if to.pixel == channels {
            // SAFETY: a row of the view.
            let out = unsafe { std::slice::from_raw_parts_mut(to.at(base, y, 0), row.len()) };
            for (out, value) in out.iter_mut().zip(row) {
                *out = *value as u8 ^ flip;
            }
            continue;
        }
        for (x, pixel) in row.chunks_exact(channels).enumerate() {
            // SAFETY: a pixel of the view.
            let out = unsafe { std::slice::from_raw_parts_mut(to.at(base, y, x), to.lanes) };
            out.fill(flip);
            for (out, value) in out.iter_mut().zip(pixel) {
                *out = *value as u8 ^ flip;
            }
        }
    }
}

/// # Safety
/// As [`Step::run`].
unsafe fn upsample(base: *mut u8, from: &View, to: &View, factor: usize, rows: Range<usize>) {
    for y in rows {
        for x in 0..from.width {
            for copy in 0..factor {
                // SAFETY: pixels of the views, which do not overlap.
                unsafe {
                    let (source, target) = (from.at(base, y / factor, x), to.at(base, y, x * factor + copy));
                    // Vectors of one size: a copy of a length known at run time is a call.
                    for lane in (0..to.lanes).step_by(LANES) {
                        target
                            .add(lane)
                            .cast::<[u8; LANES]>()
                            .write_unaligned(source.add(lane).cast::<[u8; LANES]>().read_unaligned());
                    }
                }
            }
        }
    }
}

/// The part of a pool's window that lies in the tensor, along one axis.
fn inside(out: usize, stride: usize, size: usize, pad: usize, length: usize) -> Range<usize> {
    (out * stride).saturating_sub(pad)..(out * stride + size - pad).min(length)
}

/// # Safety
/// As [`Step::run`].
unsafe fn max_pool(kernels: &Kernels, base: *mut u8, from: &View, to: &View, window: &Window, rows: Range<usize>) {
    for_each_pixel(to, rows, |y, x| {
        let ys = inside(y, window.stride[0], window.size[0], window.pads[0], from.height);
        let xs = inside(x, window.stride[1], window.size[1], window.pads[1], from.width);
        // SAFETY: pixels of the views.
        unsafe {
            let first = from.at(base, ys.start, xs.start);
            let taps = Taps { first, size: [ys.len(), xs.len()], step: [from.row, from.pixel] };
            (kernels.lanes.max)(kernels.flip, to.at(base, y, x), &taps, to.lanes);
        }
    });
}

/// round(sum * scale / count), clamped: the sum is an integer.
///
/// # Safety
/// As [`Step::run`].
#[expect(clippy::too_many_arguments, reason = "one call, and a struct would say the same twice")]
unsafe fn average_pool(
    base: *mut u8,
    [from, to]: [&View; 2],
    window: &Window,
    include_pads: bool,
    scale: f32,
    [low, high]: [f32; 2],
    flip: u8,
    rows: Range<usize>,
) {
    for_each_pixel(to, rows, |y, x| {
        let ys = inside(y, window.stride[0], window.size[0], window.pads[0], from.height);
        let xs = inside(x, window.stride[1], window.size[1], window.pads[1], from.width);
        let count = if include_pads { window.size[0] * window.size[1] } else { ys.len() * xs.len() };
        let scale = scale / count as f32;
        for lane in (0..to.lanes).step_by(LANES) {
            let mut sums = [0i32; LANES];
            for y in ys.clone() {
                for x in xs.clone() {
                    // SAFETY: a pixel of the view has whole vectors of lanes.
                    let pixel = unsafe { from.at(base, y, x).add(lane).cast::<[u8; LANES]>().read_unaligned() };
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from((value ^ flip) as i8);
                    }
                }
            }
            let values = sums.map(|sum| (sum as f32 * scale).round_ties_even().max(low).min(high) as i8 as u8 ^ flip);
            // SAFETY: as above.
            unsafe { to.at(base, y, x).add(lane).cast::<[u8; LANES]>().write_unaligned(values) };
        }
    });
}
