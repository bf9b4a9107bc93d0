//! A region as a list of steps for one instruction set: everything that can be decided is decided here, once, at load.
//!
//! A tensor of int8 lies in the arena as NHWC, a pixel's channels in lanes (multiples of 16), with a border of zeros around it as wide as
//! the convolutions that read it reach: so no kernel knows of padding. The parts of a Concat lie in the joint tensor from the
//! start, each in lanes of its own; only a part of another scale is copied. The network's input keeps its three bytes a pixel.

#![expect(clippy::indexing_slicing, reason = "every index is made here; loading turns a panic into an error")]

use std::ops::Range;

use super::arena::{self, Bytes, Request};
use super::kernels::float;
use super::kernels::lanes::Numbers;
use super::kernels::{Dense, Depthwise, Kernels, LANES, Output, Single, Strip};
use super::pack::{self, Source};
use super::region::{Clamp, Conv, Function, Id, Op, Region, Window};

/// Where a tensor lies: offsets in bytes from the arena's start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    offset: usize,
    row: usize,
    pixel: usize,
    height: usize,
    width: usize,
    lanes: usize,
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
    rows: usize,
    work: Work,
    border: Option<Border>,
}

/// The zeros around a tensor, written by the first step that writes into it.
#[derive(Debug, Clone, Copy)]
struct Border {
    view: View,
    pads: [usize; 4],
    zero: u8,
}

enum Work {
    /// The camera's tensor into the arena.
    Input { to: View },
    Dense { layer: Box<Dense>, from: View, to: View, window: Window },
    Single { layer: Box<Single>, from: View, to: View, window: Window },
    Depthwise { layer: Box<Depthwise>, from: View, to: View, window: Window },
    Add { from: [View; 2], to: View, numbers: Numbers },
    Requantize { from: View, to: View, numbers: Numbers },
    Upsample { from: View, to: View, factor: usize },
    MaxPool { from: View, to: View, window: Window, numbers: Numbers },
    AveragePool { from: View, to: View, window: Window, include_pads: bool, scale: f32, bounds: [f32; 2] },
    /// Between tensors whose channels lie in different lanes.
    Relane { from: View, to: View, lanes: Vec<(usize, usize)> },
    Quantize { from: View, to: View, lanes: Vec<usize>, scale: f32 },
    Dequantize { from: View, to: View, lanes: Vec<usize>, scale: f32 },
    Map { from: View, to: View, function: Function },
    Resize { from: View, to: View, tables: Box<float::Resize>, lines: View },
    Mean { from: View, to: View },
}

/// A network ready to run: steps, and the arena that their tensors lie in.
pub struct Plan {
    steps: Vec<Step>,
    arena: Bytes,
    outputs: Vec<View>,
    kernels: &'static Kernels,
}

/// The layout of a tensor before it has a place.
#[derive(Debug, Clone, Default)]
struct Layout {
    /// Channel to lane.
    lanes: Vec<usize>,
    /// Bytes a pixel.
    pixel: usize,
    /// The joint tensor that it is a part of, and its first lane there.
    part_of: Option<(Id, usize)>,
    /// Zeros above, left, below, right.
    pads: [usize; 4],
    first: Option<usize>,
    last: usize,
}

impl Plan {
    /// Lays a region out for one instruction set and `threads` threads.
    pub fn new(region: &Region, kernels: &'static Kernels, threads: usize) -> Self {
        let mut builder = Builder { region, kernels, layouts: vec![Layout::default(); region.facts.len()] };
        builder.lay_out();
        builder.pad();
        builder.build(threads)
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The instruction set.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// Bytes of the arena.
    pub fn arena_bytes(&self) -> usize {
        self.arena.len()
    }

    /// The arena, for the steps.
    pub fn base(&mut self) -> *mut u8 {
        self.arena.as_mut_ptr()
    }

    /// The values of an output after the last step, NHWC.
    pub fn output(&self, index: usize) -> &[f32] {
        let view = self.outputs[index];
        // SAFETY: a float tensor that the steps have written, aligned to 64.
        unsafe { std::slice::from_raw_parts(self.arena.as_ptr().add(view.offset).cast(), view.floats()) }
    }
}

impl View {
    fn floats(&self) -> usize {
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

struct Builder<'a> {
    region: &'a Region,
    kernels: &'static Kernels,
    layouts: Vec<Layout>,
}

/// Padded lanes of a number of channels.
fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

fn is_depthwise(conv: &Conv, channels: usize, output: Option<f32>) -> bool {
    conv.group == channels && conv.scales.len() == channels && channels > 1 && output.is_some()
}

impl Builder<'_> {
    fn scale(&self, id: Id) -> Option<f32> {
        self.region.facts[id].scale
    }

    /// Which lane each channel has: forward, since most layers keep the lanes of what they read.
    fn lay_out(&mut self) {
        let input = self.region.input;
        let channels = self.region.facts[input].channels;
        let mut readers = self.region.layers.iter().filter(|layer| layer.op.inputs().contains(&input));
        let packed = readers.all(|layer| matches!(&layer.op, Op::Conv(conv) if conv.group == 1));
        let pixel = if packed && channels < LANES { channels } else { padded(channels) };
        self.layouts[input] = Layout { lanes: (0..channels).collect(), pixel, ..Layout::default() };
        for layer in &self.region.layers {
            let fact = &self.region.facts[layer.output];
            let (mut lanes, mut pixel) = ((0..fact.channels).collect(), padded(fact.channels));
            match &layer.op {
                Op::Conv(conv) if !is_depthwise(conv, self.region.facts[conv.input].channels, fact.scale) => {}
                Op::Quantize { .. } => {}
                Op::Concat { inputs } => (lanes, pixel) = self.join(layer.output, inputs),
                op if fact.scale.is_some() => {
                    let from = &self.layouts[op.inputs()[0]];
                    (lanes, pixel) = (from.lanes.clone(), from.lanes.iter().max().map_or(0, |lane| padded(lane + 1)));
                }
                _ => {}
            }
            if fact.scale.is_none() {
                pixel = fact.channels * 4;
            }
            let part_of = self.layouts[layer.output].part_of;
            self.layouts[layer.output] = Layout { lanes, pixel, part_of, ..Layout::default() };
        }
    }

    /// Places the parts of a Concat one after another; a part of the same scale moves in.
    fn join(&mut self, joint: Id, inputs: &[Id]) -> (Vec<usize>, usize) {
        let (mut lanes, mut start) = (Vec::new(), 0);
        for (index, id) in inputs.iter().enumerate() {
            let part = &self.layouts[*id];
            lanes.extend(part.lanes.iter().map(|lane| start + lane));
            let width = part.lanes.iter().max().map_or(0, |lane| padded(lane + 1));
            let twice = inputs[..index].contains(id);
            let moves = part.part_of.is_none() && self.scale(*id) == self.scale(joint) && *id != self.region.input && !twice;
            if moves {
                self.layouts[*id].part_of = Some((joint, start));
            }
            start += width;
        }
        (lanes, start)
    }

    /// The tensor that a tensor's bytes lie in, and its first lane there.
    fn root(&self, id: Id) -> (Id, usize) {
        let (mut id, mut lane) = (id, 0);
        while let Some((joint, start)) = self.layouts[id].part_of {
            (id, lane) = (joint, lane + start);
        }
        (id, lane)
    }

    /// The zeros that convolutions ask for around what they read.
    fn pad(&mut self) {
        for layer in &self.region.layers {
            let Op::Conv(conv) = &layer.op else { continue };
            let (from, to) = (&self.region.facts[conv.input], &self.region.facts[layer.output]);
            let Window { size, stride, dilation, pads } = conv.window;
            let below = |axis: usize, out: usize, length: usize, before: usize| {
                ((out - 1) * stride[axis] + (size[axis] - 1) * dilation[axis] + 1).saturating_sub(before + length)
            };
            let wanted = [pads[0], pads[1], below(0, to.height, from.height, pads[0]), below(1, to.width, from.width, pads[1])];
            let (root, _) = self.root(conv.input);
            for (pad, wanted) in self.layouts[root].pads.iter_mut().zip(wanted) {
                *pad = (*pad).max(wanted);
            }
        }
    }

    fn view(&self, id: Id, offset: usize) -> View {
        let fact = &self.region.facts[id];
        let (root, lane) = self.root(id);
        let layout = &self.layouts[root];
        let [top, left, _, right] = layout.pads;
        let row = (left + fact.width + right) * layout.pixel;
        let lanes = match fact.scale {
            Some(_) => self.layouts[id].pixel.min(layout.pixel),
            None => fact.channels,
        };
        View {
            offset: offset + top * row + left * layout.pixel + lane,
            row,
            pixel: layout.pixel,
            height: fact.height,
            width: fact.width,
            lanes,
        }
    }

    /// Bytes of a tensor with its border, and room to read one vector past its end.
    fn size(&self, id: Id) -> usize {
        let (fact, layout) = (&self.region.facts[id], &self.layouts[id]);
        let [top, left, bottom, right] = layout.pads;
        (top + fact.height + bottom) * (left + fact.width + right) * layout.pixel + 64
    }

    fn build(mut self, threads: usize) -> Plan {
        // A tensor lives from its first writer to its last reader; step 0 is the input, step i + 1 is layer i.
        let last = self.region.layers.len() + 1;
        self.touch(self.region.input, 0);
        for (index, layer) in self.region.layers.iter().enumerate() {
            self.touch(layer.output, index + 1);
            for id in layer.op.inputs() {
                self.touch(id, index + 1);
            }
        }
        for id in &self.region.outputs {
            self.touch(*id, last);
        }
        let roots: Vec<Id> = (0..self.layouts.len())
            .filter(|id| self.layouts[*id].part_of.is_none() && self.layouts[*id].first.is_some())
            .collect();
        let mut requests: Vec<Request> = roots
            .iter()
            .map(|id| {
                let layout = &self.layouts[*id];
                Request { size: self.size(*id), first: layout.first.unwrap_or(0), last: layout.last }
            })
            .collect();
        // One line of scratch a thread for each bilinear enlargement.
        let widest = |layer: &super::region::Layer| match &layer.op {
            Op::ResizeLinear { input } => (self.region.facts[*input].width * self.region.facts[*input].channels * 4).next_multiple_of(64),
            _ => 0,
        };
        let line = self.region.layers.iter().map(widest).max().unwrap_or(0);
        requests.push(Request { size: line * threads, first: 0, last });
        let (offsets, end) = arena::place(&requests);
        let lines = View { offset: offsets[roots.len()], row: line, pixel: 4, height: threads, width: line / 4, lanes: 1 };
        let mut views = vec![lines; self.layouts.len()];
        for (id, view) in views.iter_mut().enumerate() {
            let (root, _) = self.root(id);
            if let Some(place) = roots.iter().position(|other| *other == root) {
                *view = self.view(id, offsets[place]);
            }
        }
        let mut steps = vec![Step {
            name: "input".into(),
            label: "input",
            macs: 0,
            rows: self.region.facts[self.region.input].height,
            work: Work::Input { to: views[self.region.input] },
            border: self.border(self.region.input, &views, 0),
        }];
        for (index, layer) in self.region.layers.iter().enumerate() {
            let border = self.border(layer.output, &views, index + 1);
            steps.extend(self.steps(layer, &views, lines, border));
        }
        let outputs = self.region.outputs.iter().map(|id| views[*id]).collect();
        let mut arena = Bytes::zeros(end + 64);
        arena.as_mut_slice().fill(self.kernels.flip); // what is never written is zero
        Plan { steps, arena, outputs, kernels: self.kernels }
    }

    fn touch(&mut self, id: Id, step: usize) {
        let (root, _) = self.root(id);
        let layout = &mut self.layouts[root];
        layout.first = Some(layout.first.map_or(step, |first| first.min(step)));
        layout.last = layout.last.max(step);
    }

    /// The border of what step `step` writes into, if it is the first to do so.
    fn border(&self, id: Id, views: &[View], step: usize) -> Option<Border> {
        let (root, _) = self.root(id);
        let layout = &self.layouts[root];
        let wanted = layout.first == Some(step) && layout.pads != [0; 4];
        wanted.then(|| Border { view: views[root], pads: layout.pads, zero: self.kernels.flip })
    }

    fn source(&self, id: Id, view: &View) -> Source<'_> {
        Source { lanes: &self.layouts[id].lanes, row: view.row, pixel: view.pixel, scale: self.scale(id).unwrap_or(1.0) }
    }

    /// The integer bounds of a clamp, as f32.
    fn bounds(clamp: Clamp, scale: f32) -> [f32; 2] {
        [clamp.low, clamp.high].map(|bound| (bound / scale).round_ties_even().clamp(-128.0, 127.0))
    }

    fn numbers(&self, [scale_a, scale_b]: [f32; 2], [low, high]: [f32; 2]) -> Numbers {
        Numbers { scale_a, scale_b, low, high, flip: self.kernels.flip }
    }

    /// The steps of a layer: one, but for a Concat whose parts have to be copied.
    fn steps(&self, layer: &super::region::Layer, views: &[View], lines: View, border: Option<Border>) -> Vec<Step> {
        let to = views[layer.output];
        let fact = &self.region.facts[layer.output];
        let scale = fact.scale.unwrap_or(1.0);
        let ratio = |id: Id| (f64::from(self.scale(id).unwrap_or(1.0)) / f64::from(scale)) as f32;
        let mut macs = 0;
        let work = match &layer.op {
            Op::Conv(conv) => {
                let from = views[conv.input];
                macs = (fact.height * fact.width * conv.weights.len()) as u64;
                self.conv(conv, fact.scale, fact.channels, from, to)
            }
            Op::Add { inputs: [a, b], clamp } if self.layouts[*a].lanes == self.layouts[*b].lanes => {
                let numbers = self.numbers([ratio(*a), ratio(*b)], Self::bounds(*clamp, scale));
                Work::Add { from: [views[*a], views[*b]], to, numbers }
            }
            Op::Add { inputs: [a, b], clamp } => return self.add_across(layer, [*a, *b], *clamp, views, border),
            Op::Upsample { input, factor } => Work::Upsample { from: views[*input], to, factor: *factor },
            Op::Concat { inputs } => return self.concat(layer, inputs, views, border),
            Op::MaxPool { input, window } => {
                Work::MaxPool { from: views[*input], to, window: *window, numbers: self.numbers([1.0; 2], [-128.0, 127.0]) }
            }
            Op::AveragePool { input, window, include_pads, clamp } => {
                let (from, bounds) = (views[*input], Self::bounds(*clamp, scale));
                Work::AveragePool { from, to, window: *window, include_pads: *include_pads, scale: ratio(*input), bounds }
            }
            Op::Requantize { input, clamp } => {
                let numbers = self.numbers([ratio(*input), 0.0], Self::bounds(*clamp, scale));
                Work::Requantize { from: views[*input], to, numbers }
            }
            Op::Quantize { input } => {
                Work::Quantize { from: views[*input], to, lanes: self.layouts[layer.output].lanes.clone(), scale }
            }
            Op::Dequantize { input } => {
                let scale = self.scale(*input).unwrap_or(1.0);
                Work::Dequantize { from: views[*input], to, lanes: self.layouts[*input].lanes.clone(), scale }
            }
            Op::Map { input, function } => Work::Map { from: views[*input], to, function: *function },
            Op::ResizeLinear { input } => {
                let from = views[*input];
                let tables = float::Resize::new([from.height, from.width], [to.height, to.width], to.lanes);
                Work::Resize { from, to, tables: Box::new(tables), lines }
            }
            Op::Mean { input } => Work::Mean { from: views[*input], to },
        };
        let rows = if matches!(work, Work::Mean { .. }) { 1 } else { to.height };
        vec![Step { name: layer.name.clone(), label: layer.op.label(), macs, rows, work, border }]
    }

    fn conv(&self, conv: &Conv, scale: Option<f32>, channels: usize, from: View, to: View) -> Work {
        let source = self.source(conv.input, &from);
        let window = conv.window;
        let input_channels = self.region.facts[conv.input].channels;
        if let (Some(scale), true) = (scale, is_depthwise(conv, input_channels, scale)) {
            let bounds = Self::bounds(conv.clamp, scale);
            let layer = Box::new(pack::depthwise(conv, &source, to.lanes, scale, bounds, self.kernels));
            return Work::Depthwise { layer, from, to, window };
        }
        if scale.is_none() && channels == 1 && conv.group == 1 && from.pixel >= LANES && self.kernels.single.is_some() {
            return Work::Single { layer: Box::new(pack::single(conv, &source, self.kernels)), from, to, window };
        }
        let output = match scale {
            Some(scale) => {
                let [low, high] = Self::bounds(conv.clamp, scale);
                Output::Int8 { low, high }
            }
            None => Output::Float { low: conv.clamp.low, high: conv.clamp.high, channels },
        };
        Work::Dense { layer: Box::new(pack::dense(conv, &source, scale, output, self.kernels)), from, to, window }
    }

    /// A sum of tensors whose channels lie in different lanes: the second is first laid out as the first, in the output.
    fn add_across(
        &self,
        layer: &super::region::Layer,
        [a, b]: [Id; 2],
        clamp: Clamp,
        views: &[View],
        border: Option<Border>,
    ) -> Vec<Step> {
        let (to, scale) = (views[layer.output], self.scale(layer.output).unwrap_or(1.0));
        let ratio = |id: Id| (f64::from(self.scale(id).unwrap_or(1.0)) / f64::from(scale)) as f32;
        let lanes = self.layouts[b].lanes.iter().copied().zip(self.layouts[layer.output].lanes.iter().copied()).collect();
        let numbers = self.numbers([ratio(a), ratio(b)], Self::bounds(clamp, scale));
        let step = |work, border| Step { name: layer.name.clone(), label: "add", macs: 0, rows: to.height, work, border };
        vec![
            step(Work::Relane { from: views[b], to, lanes }, border),
            step(Work::Add { from: [views[a], to], to, numbers }, None),
        ]
    }

    /// The parts that have not moved into the joint tensor.
    fn concat(
        &self,
        layer: &super::region::Layer,
        inputs: &[Id],
        views: &[View],
        mut border: Option<Border>,
    ) -> Vec<Step> {
        let (to, scale) = (views[layer.output], self.scale(layer.output).unwrap_or(1.0));
        let (mut steps, mut start) = (Vec::new(), 0);
        for (index, id) in inputs.iter().enumerate() {
            let lanes = self.layouts[*id].lanes.iter().max().map_or(0, |lane| padded(lane + 1));
            let moved = self.layouts[*id].part_of == Some((layer.output, start)) && !inputs[..index].contains(id);
            if !moved {
                let ratio = (f64::from(self.scale(*id).unwrap_or(1.0)) / f64::from(scale)) as f32;
                let part = View { offset: to.offset + start, lanes, ..to };
                let numbers = self.numbers([ratio, 0.0], [-128.0, 127.0]);
                // The network's own input has no lanes to spare.
                let work = if views[*id].pixel < LANES {
                    let lanes = self.layouts[*id].lanes.iter().map(|lane| (*lane, *lane)).collect();
                    Work::Relane { from: views[*id], to: part, lanes }
                } else {
                    Work::Requantize { from: views[*id], to: part, numbers }
                };
                let (name, border) = (layer.name.clone(), border.take());
                steps.push(Step { name, label: "concat", macs: 0, rows: to.height, work, border });
            }
            start += lanes;
        }
        steps
    }
}

impl Step {
    /// Computes this thread's share of the step's rows: part `part` of `parts`.
    ///
    /// # Safety
    /// `base` is the arena of the plan that this step is of; all earlier steps are done; parts run at most once each, and nobody
    /// else touches the arena meanwhile.
    pub unsafe fn run(&self, kernels: &Kernels, base: *mut u8, input: &[i8], part: usize, parts: usize) {
        let rows = self.rows * part / parts..self.rows * (part + 1) / parts;
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
                Self::Dense { layer, from, to, window } => (kernels.dense)(layer, &strip(base, from, to, window, rows)),
                Self::Single { layer, from, to, window } => {
                    if let Some(single) = kernels.single {
                        single(layer, &strip(base, from, to, window, rows));
                    }
                }
                Self::Depthwise { layer, from, to, window } => {
                    (kernels.depthwise)(layer, &strip(base, from, to, window, rows));
                }
                Self::Add { from: [a, b], to, numbers } => {
                    for_each_run(base, to, rows, |y, x, to, n| {
                        (kernels.lanes.add)(numbers, to, a.at(base, y, x), b.at(base, y, x), n);
                    }, &[a, b]);
                }
                Self::Requantize { from, to, numbers } => {
                    for_each_run(base, to, rows, |y, x, to, n| {
                        let from = from.at(base, y, x);
                        (kernels.lanes.requantize)(numbers, to, from, from, n);
                    }, &[from]);
                }
                Self::Upsample { from, to, factor } => upsample(base, from, to, *factor, rows),
                Self::MaxPool { from, to, window, numbers } => max_pool(kernels, base, from, to, window, numbers, rows),
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
                Self::Quantize { from, to, lanes, scale } => {
                    for_each_pixel(to, rows, |y, x| {
                        let (from, pixel) = (from.at(base, y, x).cast::<f32>(), to.at(base, y, x));
                        std::ptr::write_bytes(pixel, kernels.flip, to.lanes);
                        for (channel, lane) in lanes.iter().enumerate() {
                            *pixel.add(*lane) = super::region::quantize(*from.add(channel), *scale) as u8 ^ kernels.flip;
                        }
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
                    let line = floats_mut(base, lines, part..part + 1);
                    let line = &mut line[..from.width * from.lanes];
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
unsafe fn strip(base: *mut u8, from: &View, to: &View, window: &Window, rows: Range<usize>) -> Strip {
    let Window { stride: [down, right], pads: [top, left, ..], .. } = *window;
    // SAFETY: the tensor has a border at least as wide as the pads.
    let input = unsafe { base.add(from.offset - top * from.row - left * from.pixel) };
    // SAFETY: as the caller's.
    let output = unsafe { to.at(base, 0, 0) };
    let (in_row, in_pixel) = (from.row * down, from.pixel * right);
    Strip { input, in_row, in_pixel, output, out_row: to.row, out_pixel: to.pixel, width: to.width, rows }
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
    unsafe { std::slice::from_raw_parts_mut(base.add(view.offset).cast::<f32>().add(rows.start * row), rows.len() * row) }
}

/// # Safety
/// As [`Step::run`].
unsafe fn take_input(input: &[i8], base: *mut u8, to: &View, rows: Range<usize>, flip: u8) {
    let channels = input.len() / (to.height * to.width);
    for y in rows {
        let row = &input[y * to.width * channels..(y + 1) * to.width * channels];
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
                        target.add(lane).cast::<[u8; LANES]>().write_unaligned(source.add(lane).cast::<[u8; LANES]>().read_unaligned());
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
unsafe fn max_pool(kernels: &Kernels, base: *mut u8, from: &View, to: &View, window: &Window, numbers: &Numbers, rows: Range<usize>) {
    for_each_pixel(to, rows, |y, x| {
        let ys = inside(y, window.stride[0], window.size[0], window.pads[0], from.height);
        let xs = inside(x, window.stride[1], window.size[1], window.pads[1], from.width);
        // SAFETY: pixels of the views.
        unsafe {
            let target = to.at(base, y, x);
            std::ptr::write_bytes(target, 0x80 ^ kernels.flip, to.lanes); // -128
            for y in ys {
                for x in xs.clone() {
                    (kernels.lanes.max)(numbers, target, target, from.at(base, y, x), to.lanes);
                }
            }
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
