//! A layer graph as a list of steps for one instruction set: everything that can be decided is decided here, once, at
//! load.
//!
//! A tensor of int8 lies in the arena as NHWC, a pixel's channels in lanes (multiples of 16), with a border of zeros
//! around it as wide as the convolutions that read it reach: so no kernel knows of padding. The parts of a Concat lie
//! in the joint tensor from the start, each in lanes of its own; only a part of another scale is copied. The network's
//! input keeps its three bytes a pixel. A constant has its place for the whole run and is written here, once.

#![expect(clippy::indexing_slicing, reason = "every index is made here; loading turns a panic into an error")]

use super::arena::{self, Arena, Request};
use super::kernels::float;
use super::kernels::lanes::Numbers;
use super::kernels::{Kernels, LANES, Output};
use super::layer_graph::{Clamp, Constant, Conv, Id, Layer, LayerGraph, Op, Window};
use super::pack::{self, Source};
use super::step::{Border, Step, View, Work};

/// A network ready to run: steps, and the arena that their tensors lie in.
pub struct Plan {
    steps: Vec<Step>,
    arena: Arena,
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
    /// Lays a layer graph out for one instruction set, and steps that are computed in at most `parts` parts.
    pub fn new(graph: &LayerGraph, kernels: &'static Kernels, parts: usize) -> Self {
        let mut builder = Builder { graph, kernels, layouts: vec![Layout::default(); graph.facts.len()] };
        builder.lay_out();
        builder.pad();
        builder.build(parts)
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The instruction set.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// The arena, for the steps: see [`Step::run`].
    pub fn base(&self) -> *mut u8 {
        self.arena.base()
    }

    /// Lets nothing of the arena be touched but what part `part` of `parts` of the step may, where the build is for
    /// AddressSanitizer.
    #[inline(always)]
    #[cfg_attr(not(fenced), expect(unused_variables))]
    pub fn fence(&self, step: &Step, part: usize, parts: usize) {
        #[cfg(fenced)]
        super::fence::Fence::of(&self.arena).around(step, part, parts);
    }

    /// Lets all of it be touched.
    #[inline(always)]
    pub fn unfence(&self) {
        #[cfg(fenced)]
        super::fence::Fence::of(&self.arena).none();
    }

    /// The values of an output after the last step, NHWC.
    ///
    /// # Safety
    /// No step runs while they are borrowed.
    pub unsafe fn output(&self, index: usize) -> &[f32] {
        let view = self.outputs[index];
        // SAFETY: a float tensor of the arena, initialised from the start and aligned to 64; nobody writes, says the
        // caller.
        unsafe { std::slice::from_raw_parts(self.base().add(view.offset).cast::<f32>().cast_const(), view.floats()) }
    }
}

struct Builder<'a> {
    graph: &'a LayerGraph,
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
        self.graph.facts[id].scale
    }

    /// Which lane each channel has: forward, since most layers keep the lanes of what they read.
    fn lay_out(&mut self) {
        let input = self.graph.input;
        let channels = self.graph.facts[input].channels;
        let mut readers = self.graph.layers.iter().filter(|layer| layer.op.inputs().contains(&input));
        let packed = readers.all(|layer| matches!(&layer.op, Op::Conv(conv) if conv.group == 1));
        let pixel = if packed && channels < LANES { channels } else { padded(channels) };
        self.layouts[input] = Layout { lanes: (0..channels).collect(), pixel, ..Layout::default() };
        for layer in &self.graph.layers {
            let fact = &self.graph.facts[layer.output];
            let (mut lanes, mut pixel) = ((0..fact.channels).collect(), padded(fact.channels));
            if let Op::Add { inputs, .. } = &layer.op {
                self.lay_out_constants(*inputs);
            }
            match &layer.op {
                Op::Conv(conv) if !is_depthwise(conv, self.graph.facts[conv.input].channels, fact.scale) => {}
                Op::Quantize { .. } => {} // channels in order
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

    /// A constant lies in the lanes of the first tensor that it is added to. It alone has none yet.
    fn lay_out_constants(&mut self, [a, b]: [Id; 2]) {
        for (id, partner) in [(a, b), (b, a)] {
            if self.layouts[id].lanes.is_empty() {
                let Layout { lanes, pixel, .. } = self.layouts[partner].clone();
                self.layouts[id] = Layout { lanes, pixel, ..Layout::default() };
            }
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
            let moves =
                part.part_of.is_none() && self.scale(*id) == self.scale(joint) && *id != self.graph.input && !twice;
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
        for layer in &self.graph.layers {
            let Op::Conv(conv) = &layer.op else { continue };
            let (from, to) = (&self.graph.facts[conv.input], &self.graph.facts[layer.output]);
            let Window { size, stride, dilation, pads } = conv.window;
            let below = |axis: usize, out: usize, length: usize, before: usize| {
                ((out - 1) * stride[axis] + (size[axis] - 1) * dilation[axis] + 1).saturating_sub(before + length)
            };
            let wanted =
                [pads[0], pads[1], below(0, to.height, from.height, pads[0]), below(1, to.width, from.width, pads[1])];
            let (root, _) = self.root(conv.input);
            for (pad, wanted) in self.layouts[root].pads.iter_mut().zip(wanted) {
                *pad = (*pad).max(wanted);
            }
        }
    }

    fn view(&self, id: Id, offset: usize) -> View {
        let fact = &self.graph.facts[id];
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
        let (fact, layout) = (&self.graph.facts[id], &self.layouts[id]);
        let [top, left, bottom, right] = layout.pads;
        (top + fact.height + bottom) * (left + fact.width + right) * layout.pixel + 64
    }

    fn build(mut self, parts: usize) -> Plan {
        // A tensor lives from its first writer to its last reader; step 0 is the input, step i + 1 is layer i.
        let last = self.graph.layers.len() + 1;
        self.touch(self.graph.input, 0);
        for (index, layer) in self.graph.layers.iter().enumerate() {
            self.touch(layer.output, index + 1);
            for id in layer.op.inputs() {
                self.touch(id, index + 1);
            }
        }
        for id in &self.graph.outputs {
            self.touch(*id, last);
        }
        for Constant { id, .. } in &self.graph.constants {
            self.touch(*id, 0);
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
        // One line of scratch a part for each bilinear enlargement.
        let widest = |layer: &Layer| match &layer.op {
            Op::ResizeLinear { input } => {
                (self.graph.facts[*input].width * self.graph.facts[*input].channels * 4).next_multiple_of(64)
            }
            _ => 0,
        };
        let line = self.graph.layers.iter().map(widest).max().unwrap_or(0);
        requests.push(Request { size: line * parts, first: 0, last });
        let (offsets, end) = arena::place(&requests);
        let lines =
            View { offset: offsets[roots.len()], row: line, pixel: 4, height: parts, width: line / 4, lanes: 1 };
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
            rows: self.graph.facts[self.graph.input].height,
            work: Work::Input { to: views[self.graph.input] },
            border: self.border(self.graph.input, &views, 0),
        }];
        for (index, layer) in self.graph.layers.iter().enumerate() {
            let border = self.border(layer.output, &views, index + 1);
            steps.extend(self.steps(layer, &views, lines, border));
        }
        let outputs = self.graph.outputs.iter().map(|id| views[*id]).collect();
        let mut arena = Arena::filled(end + 64, self.kernels.flip); // what is never written is zero
        for constant in &self.graph.constants {
            self.store(constant, &views[constant.id], arena.as_mut_slice());
        }
        Plan { steps, arena, outputs, kernels: self.kernels }
    }

    fn store(&self, constant: &Constant, view: &View, arena: &mut [u8]) {
        let channels = self.graph.facts[constant.id].channels;
        for (index, pixel) in constant.values.chunks_exact(channels).enumerate() {
            let start = view.offset + index / view.width * view.row + index % view.width * view.pixel;
            for (lane, value) in self.layouts[constant.id].lanes.iter().zip(pixel) {
                arena[start + lane] = *value as u8 ^ self.kernels.flip;
            }
        }
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
        Source {
            lanes: &self.layouts[id].lanes,
            row: view.row,
            pixel: view.pixel,
            scale: self.scale(id).unwrap_or(1.0),
            non_negative: self.is_non_negative(id),
        }
    }

    /// True if no value of a tensor can be below zero.
    fn is_non_negative(&self, id: Id) -> bool {
        let Some(layer) = self.graph.layers.iter().find(|layer| layer.output == id) else { return false };
        match &layer.op {
            Op::Conv(Conv { clamp, .. })
            | Op::Add { clamp, .. }
            | Op::AveragePool { clamp, .. }
            | Op::Requantize { clamp, .. }
                if clamp.low >= 0.0 =>
            {
                true
            }
            Op::Upsample { .. }
            | Op::Concat { .. }
            | Op::MaxPool { .. }
            | Op::AveragePool { .. }
            | Op::Requantize { .. } => layer.op.inputs().into_iter().all(|id| self.is_non_negative(id)),
            _ => false,
        }
    }

    /// The integer bounds of a clamp, as f32.
    fn bounds(clamp: Clamp, scale: f32) -> [f32; 2] {
        [clamp.low, clamp.high].map(|bound| (bound / scale).round_ties_even().clamp(-128.0, 127.0))
    }

    fn numbers(&self, [scale_a, scale_b]: [f32; 2], [low, high]: [f32; 2]) -> Numbers {
        Numbers { scale_a, scale_b, low, high, flip: self.kernels.flip }
    }

    /// The steps of a layer: one, but for a Concat whose parts have to be copied.
    fn steps(&self, layer: &Layer, views: &[View], lines: View, border: Option<Border>) -> Vec<Step> {
        let to = views[layer.output];
        let fact = &self.graph.facts[layer.output];
        let scale = fact.scale.unwrap_or(1.0);
        let ratio = |id: Id| (f64::from(self.scale(id).unwrap_or(1.0)) / f64::from(scale)) as f32;
        let mut macs = 0;
        let work = match &layer.op {
            Op::Conv(conv) => {
                let from = views[conv.input];
                macs = (fact.height * fact.width * conv.weights.len()) as u64;
                self.conv(conv, fact.scale, fact.channels, from, to)
            }
            Op::FloatConv(conv) => {
                let from = views[conv.input];
                macs = (fact.height * fact.width * conv.weights.len()) as u64;
                let layer = float::Conv::new(conv, [from.height, from.width, from.lanes], to.width);
                Work::FloatConv { layer: Box::new(layer), from, to }
            }
            Op::Add { inputs: [a, b], subtract, clamp } => {
                let sign = if *subtract { -1.0 } else { 1.0 };
                let numbers = self.numbers([ratio(*a), sign * ratio(*b)], Self::bounds(*clamp, scale));
                if self.layouts[*a].lanes != self.layouts[*b].lanes {
                    return self.add_across(layer, [*a, *b], numbers, views, border);
                }
                Work::Add { from: [views[*a], views[*b]], to, numbers }
            }
            Op::Upsample { input, factor } => Work::Upsample { from: views[*input], to, factor: *factor },
            Op::Concat { inputs } => return self.concat(layer, inputs, views, border),
            Op::MaxPool { input, window } => Work::MaxPool { from: views[*input], to, window: *window },
            Op::AveragePool { input, window, include_pads, clamp } => {
                let (from, bounds) = (views[*input], Self::bounds(*clamp, scale));
                Work::AveragePool {
                    from,
                    to,
                    window: *window,
                    include_pads: *include_pads,
                    scale: ratio(*input),
                    bounds,
                }
            }
            Op::Requantize { input, clamp } => {
                let numbers = self.numbers([ratio(*input), 0.0], Self::bounds(*clamp, scale));
                Work::Requantize { from: views[*input], to, numbers }
            }
            Op::Quantize { input } => Work::Quantize { from: views[*input], to, scale },
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
        let input_channels = self.graph.facts[conv.input].channels;
        if let (Some(scale), true) = (scale, is_depthwise(conv, input_channels, scale)) {
            let bounds = Self::bounds(conv.clamp, scale);
            let layer = Box::new(pack::depthwise(conv, &source, to.lanes, scale, bounds, self.kernels));
            return Work::Depthwise { layer, from, to, window };
        }
        if scale.is_none()
            && channels == 1
            && conv.group == 1
            && from.pixel >= LANES
            && self.kernels.one_channel.is_some()
        {
            return Work::OneChannel {
                layer: Box::new(pack::one_channel(conv, &source, self.kernels)),
                from,
                to,
                window,
            };
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

    /// A sum or difference of tensors whose channels lie in different lanes: the second is first laid out as the first, in the
    /// output.
    fn add_across(
        &self,
        layer: &Layer,
        [a, b]: [Id; 2],
        numbers: Numbers,
        views: &[View],
        border: Option<Border>,
    ) -> Vec<Step> {
        let to = views[layer.output];
        let lanes =
            self.layouts[b].lanes.iter().copied().zip(self.layouts[layer.output].lanes.iter().copied()).collect();
        let label = layer.op.label();
        let step = |work, border| Step { name: layer.name.clone(), label, macs: 0, rows: to.height, work, border };
        vec![
            step(Work::Relane { from: views[b], to, lanes }, border),
            step(Work::Add { from: [views[a], to], to, numbers }, None),
        ]
    }

    /// The parts that have not moved into the joint tensor.
    fn concat(&self, layer: &Layer, inputs: &[Id], views: &[View], mut border: Option<Border>) -> Vec<Step> {
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
