//! Every instruction set of this CPU gives what [`super::kernels::portable`] gives, to the bit: random networks through
//! the whole plan.

#![allow(clippy::indexing_slicing)]

use proptest::prelude::*;

use super::kernels::{Isa, Kernels, lanes};
use super::layer_graph::{Clamp, Constant, Conv, Fact, FloatConv, Function, Id, Layer, LayerGraph, Op, Window};
use super::plan::Plan;
use super::pool::Pool;

/// What kind of numbers a network has.
#[derive(Debug, Clone, Copy)]
enum Range {
    /// Anything.
    All,
    /// Nothing but the ends of int8.
    Ends,
    /// Mostly small, as trained weights are: many products fit a 16-bit sum, and now and then they do not.
    Small,
}

/// A layer to be, before it is known what it reads.
#[derive(Debug, Clone)]
enum Part {
    Dense { out: usize, size: [usize; 2], stride: [usize; 2], dilation: usize, groups: usize, same: bool },
    Depthwise { size: [usize; 2], stride: [usize; 2], dilation: usize, same: bool },
    Float { out: usize, size: [usize; 2], stride: [usize; 2], dilation: usize, groups: usize, same: bool },
    AddSelf,
    Compare { across: bool, other_scale: bool },
    Upsample,
    Concat { other_scale: bool },
    MaxPool,
    AveragePool { include_pads: bool },
    Requantize,
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let size = prop::sample::select(vec![[1, 1], [3, 3], [5, 5], [7, 7], [1, 7], [2, 4]]);
    let stride = prop::sample::select(vec![[1, 1], [2, 2], [2, 1]]);
    let dense = (
        1usize..100,
        size.clone(),
        stride.clone(),
        1usize..3,
        prop::sample::select(vec![1, 1, 1, 2, 4]),
        any::<bool>(),
    );
    let float = dense.clone().prop_map(|(out, size, stride, dilation, groups, same)| Part::Float {
        out,
        size,
        stride,
        dilation,
        groups,
        same,
    });
    let dense = dense.prop_map(|(out, size, stride, dilation, groups, same)| Part::Dense {
        out,
        size,
        stride,
        dilation,
        groups,
        same,
    });
    let depthwise = (size, stride, prop::sample::select(vec![1usize, 1, 1, 2]), any::<bool>());
    let depthwise =
        depthwise.prop_map(|(size, stride, dilation, same)| Part::Depthwise { size, stride, dilation, same });
    let other = prop_oneof![
        Just(Part::AddSelf),
        any::<[bool; 2]>().prop_map(|[across, other_scale]| Part::Compare { across, other_scale }),
        Just(Part::Upsample),
        any::<bool>().prop_map(|other_scale| Part::Concat { other_scale }),
        Just(Part::MaxPool),
        any::<bool>().prop_map(|include_pads| Part::AveragePool { include_pads }),
        Just(Part::Requantize),
    ];
    prop::collection::vec(prop_oneof![3 => dense, 3 => depthwise, 2 => other, 1 => float], 1..4)
}

/// Numbers without a pattern, the same for the same seed (xorshift; Marsaglia 2003).
struct Numbers(u64, Range);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> i8 {
        let bits = self.next() >> 20;
        match self.1 {
            Range::All => bits as i8,
            Range::Ends if bits & 7 == 0 => 127,
            Range::Ends => -128,
            Range::Small if bits >> 8 & 15 == 0 => bits as i8,
            Range::Small => bits as i8 / 4,
        }
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// A layer graph under construction: one tensor leads to the next.
struct Builder {
    graph: LayerGraph,
    numbers: Numbers,
    at: Id,
}

impl Builder {
    fn new(height: usize, width: usize, channels: usize, seed: u64, range: Range) -> Self {
        let input = Fact { height, width, channels, scale: Some(1.0 / 128.0) };
        let graph = LayerGraph { facts: vec![input], constants: vec![], layers: vec![], input: 0, outputs: vec![] };
        Self { graph, numbers: Numbers(seed | 1, range), at: 0 }
    }

    fn fact(&self) -> Fact {
        self.graph.facts[self.at].clone()
    }

    fn push(&mut self, op: Op, fact: Fact) -> Id {
        self.graph.facts.push(fact);
        let output = self.graph.facts.len() - 1;
        self.graph.layers.push(Layer { name: format!("layer {output}"), op, output });
        self.at = output;
        output
    }

    fn scale(&mut self) -> f32 {
        0.002 + 0.1 * self.numbers.unit()
    }

    fn clamp(&mut self) -> Clamp {
        match self.numbers.next() % 3 {
            0 => Clamp::NONE,
            1 => Clamp { low: 0.0, high: f32::INFINITY },
            _ => Clamp { low: 0.0, high: 6.0 },
        }
    }

    /// Where a window fits: what comes out, and the pads.
    fn window(
        &self,
        size: [usize; 2],
        stride: [usize; 2],
        dilation: usize,
        same: bool,
    ) -> Option<(Window, [usize; 2])> {
        let fact = self.fact();
        let pad = |axis: usize| if same { (size[axis] - 1) * dilation / 2 } else { 0 };
        let out = |axis: usize, length: usize| {
            let reach = (size[axis] - 1) * dilation + 1;
            Some((length + 2 * pad(axis)).checked_sub(reach)? / stride[axis] + 1)
        };
        let sizes = [out(0, fact.height)?, out(1, fact.width)?];
        Some((Window { size, stride, dilation: [dilation; 2], pads: [pad(0), pad(1), pad(0), pad(1)] }, sizes))
    }

    fn conv(&mut self, out: usize, group: usize, (window, [height, width]): (Window, [usize; 2]), float: bool) {
        let each = self.fact().channels / group;
        let n = out * each * window.size[0] * window.size[1];
        let weights = (0..n).map(|_| self.numbers.byte()).collect();
        let fan = (each * window.size[0] * window.size[1]) as f32;
        let scales = (0..out).map(|_| (0.5 + self.numbers.unit()) / 64.0 / fan.sqrt()).collect();
        let bias = (0..out).map(|_| self.numbers.unit() - 0.5).collect();
        let clamp = self.clamp();
        let scale = (!float).then(|| self.scale());
        let op = Op::Conv(Conv { input: self.at, weights, scales, bias, group, window, clamp });
        self.push(op, Fact { height, width, channels: out, scale });
    }

    /// Out to float, convolved, and back.
    fn float_conv(&mut self, out: usize, group: usize, (window, [height, width]): (Window, [usize; 2])) {
        let fact = self.fact();
        let n = out * (fact.channels / group) * window.size[0] * window.size[1];
        let weights = (0..n).map(|_| (self.numbers.unit() - 0.5) / 8.0).collect();
        let bias = (0..out).map(|_| self.numbers.unit() - 0.5).collect();
        let (clamp, scale) = (self.clamp(), self.scale());
        let input = self.push(Op::Dequantize { input: self.at }, Fact { scale: None, ..fact });
        let fact = Fact { height, width, channels: out, scale: None };
        let input = self.push(Op::FloatConv(FloatConv { input, weights, bias, group, window, clamp }), fact.clone());
        self.push(Op::Quantize { input }, Fact { scale: Some(scale), ..fact });
    }

    /// A tensor that is the same for every picture, of the shape of what was last pushed.
    fn constant(&mut self) -> Id {
        let (scale, fact) = (self.scale(), self.fact());
        let values = (0..fact.height * fact.width * fact.channels).map(|_| self.numbers.byte()).collect();
        self.graph.facts.push(Fact { scale: Some(scale), ..fact });
        let id = self.graph.facts.len() - 1;
        self.graph.constants.push(Constant { id, values });
        id
    }

    fn subtract(&mut self, [a, b]: [Id; 2]) -> Id {
        let (scale, clamp, fact) = (self.scale(), self.clamp(), self.graph.facts[a].clone());
        let inputs = [a, b];
        self.push(Op::Add { inputs, subtract: true, clamp }, Fact { scale: Some(scale), ..fact })
    }

    /// What was last pushed beside its distance from a constant. `across`: one half of that of another tensor, whose
    /// channels may lie in other lanes.
    fn compare(&mut self, across: bool, other_scale: bool) {
        let (input, fact) = (self.at, self.fact());
        let constant = self.constant();
        if across {
            let window = Window { size: [1, 1], stride: [1, 1], dilation: [1, 1], pads: [0; 4] };
            self.conv(fact.channels, 1, (window, [fact.height, fact.width]), false);
        }
        let (above, below) = (self.subtract([input, constant]), self.subtract([constant, self.at]));
        let inputs = [above, below];
        let own = if other_scale { Some(self.scale()) } else { fact.scale };
        let add = Op::Add { inputs, subtract: false, clamp: Clamp::NONE };
        let distance = self.push(add, Fact { scale: own, ..fact.clone() });
        self.push(Op::Concat { inputs: vec![input, distance] }, Fact { channels: 2 * fact.channels, ..fact });
    }

    fn add(&mut self, part: &Part) {
        let fact = self.fact();
        let (input, scale, clamp) = (self.at, Some(self.scale()), self.clamp());
        match *part {
            Part::Dense { out, size, stride, dilation, groups, same } => {
                let Some(window) = self.window(size, stride, dilation, same) else { return };
                let group = if fact.channels.is_multiple_of(groups) { groups } else { 1 };
                let out = if group == fact.channels { out * group * 2 } else { out.next_multiple_of(group) };
                self.conv(out, group, window, false);
            }
            Part::Depthwise { size, stride, dilation, same } if fact.channels > 1 => {
                let Some(window) = self.window(size, stride, dilation, same) else { return };
                self.conv(fact.channels, fact.channels, window, false);
            }
            Part::Depthwise { .. } => {}
            Part::Float { out, size, stride, dilation, groups, same } => {
                let Some(window) = self.window(size, stride, dilation, same) else { return };
                match groups {
                    4 => self.float_conv(fact.channels, fact.channels, window),
                    _ if fact.channels.is_multiple_of(groups) => {
                        self.float_conv(out.next_multiple_of(groups), groups, window);
                    }
                    _ => self.float_conv(out, 1, window),
                }
            }
            Part::AddSelf => {
                self.push(Op::Requantize { input, clamp: Clamp::NONE }, Fact { scale: Some(0.01), ..fact.clone() });
                let inputs = [input, self.at];
                self.push(Op::Add { inputs, subtract: false, clamp }, Fact { scale, ..fact });
            }
            Part::Compare { across, other_scale } if fact.channels < 80 => self.compare(across, other_scale),
            Part::Compare { .. } => {}
            Part::Upsample if fact.height * fact.width < 400 => {
                let (height, width) = (fact.height * 2, fact.width * 2);
                self.push(Op::Upsample { input, factor: 2 }, Fact { height, width, ..fact });
            }
            Part::Upsample => {}
            Part::Concat { other_scale } if fact.channels < 80 => {
                let window = Window { size: [1, 1], stride: [1, 1], dilation: [1, 1], pads: [0; 4] };
                let out = 1 + (self.numbers.next() % 40) as usize;
                self.conv(out, 1, (window, [fact.height, fact.width]), false);
                let (own, channels) = (self.at, fact.channels + out);
                let scale = if other_scale { scale } else { self.fact().scale };
                self.push(Op::Concat { inputs: vec![input, own] }, Fact { channels, scale, ..fact });
            }
            Part::Concat { .. } => {}
            Part::MaxPool => {
                let Some((window, [height, width])) = self.window([3, 3], [2, 2], 1, true) else { return };
                self.push(Op::MaxPool { input, window }, Fact { height, width, ..fact });
            }
            Part::AveragePool { include_pads } => {
                let Some((window, [height, width])) = self.window([3, 3], [1, 1], 1, true) else { return };
                self.push(
                    Op::AveragePool { input, window, include_pads, clamp },
                    Fact { height, width, scale, ..fact },
                );
            }
            Part::Requantize => {
                self.push(Op::Requantize { input, clamp }, Fact { scale, ..fact });
            }
        }
    }

    /// Everything out as floats: by Dequantize, and by a convolution that ends in floats.
    fn finish(mut self, channels: usize) -> LayerGraph {
        let (int8, fact) = (self.at, self.fact());
        let whole = self.push(Op::Dequantize { input: int8 }, Fact { scale: None, ..fact.clone() });
        self.at = int8;
        let window = Window { size: [3, 3], stride: [1, 1], dilation: [1, 1], pads: [1; 4] };
        self.conv(channels, 1, (window, [fact.height, fact.width]), true);
        self.graph.outputs = vec![whole, self.at];
        self.graph
    }
}

/// The bits of all outputs.
fn run(graph: &LayerGraph, kernels: &'static Kernels, input: &[i8], parts: usize) -> Vec<Vec<u32>> {
    let plan = Plan::new(graph, kernels, parts);
    for step in plan.steps() {
        for part in 0..parts {
            plan.fence(step, part, parts);
            // SAFETY: the plan's own arena; each part once, one after another, steps in order.
            unsafe { step.run(kernels, plan.base(), input, part, parts) };
        }
    }
    plan.unfence();
    // SAFETY: all steps are done.
    (0..graph.outputs.len()).map(|index| bits(unsafe { plan.output(index) })).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The bits of all outputs of a pool's last run.
pub(super) fn outputs(pool: &Pool) -> Vec<Vec<u32>> {
    [0, 1].map(|index| bits(pool.output(index))).to_vec()
}

fn check(graph: &LayerGraph, input: &[i8], parts: usize) -> Result<(), TestCaseError> {
    let Some(portable) = Isa::Portable.kernels() else { return Err(TestCaseError::fail("portable")) };
    let wanted = run(graph, portable, input, 1);
    let all = Isa::ALL.into_iter().filter_map(Isa::kernels);
    #[cfg(target_arch = "x86_64")]
    let all = all.chain(super::kernels::reencoded());
    for kernels in all {
        let outputs = run(graph, kernels, input, parts);
        for (index, (output, wanted)) in outputs.iter().zip(&wanted).enumerate() {
            let wrong = output.iter().zip(wanted).position(|(a, b)| a != b);
            prop_assert_eq!(wrong, None, "{} differs in output {}", kernels.isa.name(), index);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_kernel_is_the_portable_one(
        parts in parts(),
        (height, width) in (1usize..18, 1usize..22),
        channels in prop_oneof![Just(1usize), Just(3), Just(16), 1usize..100],
        range in prop_oneof![3 => Just(Range::All), 1 => Just(Range::Ends), 3 => Just(Range::Small)],
        last in prop_oneof![Just(1usize), Just(4), 1usize..40],
        threads in 1usize..4,
        seed in any::<u64>(),
    ) {
        let mut builder = Builder::new(height, width, channels, seed, range);
        for part in &parts {
            builder.add(part);
        }
        let input: Vec<i8> = (0..height * width * channels).map(|_| builder.numbers.byte()).collect();
        let graph = builder.finish(last);
        check(&graph, &input, threads)?;
    }
}

/// A network with each kind of step once, and an input: few enough numbers for an interpreter.
pub(super) fn one_of_each() -> (LayerGraph, Vec<i8>) {
    let window = |out, size, stride, groups| (out, [size; 2], [stride; 2], groups);
    let dense = |(out, size, stride, groups)| Part::Dense { out, size, stride, dilation: 1, groups, same: true };
    let float = |(out, size, stride, groups)| Part::Float { out, size, stride, dilation: 1, groups, same: true };
    let parts = [
        dense(window(5, 3, 2, 1)),
        Part::Depthwise { size: [3; 2], stride: [1; 2], dilation: 2, same: true },
        Part::Concat { other_scale: false },
        Part::Concat { other_scale: true },
        Part::AddSelf,
        Part::Compare { across: true, other_scale: false },
        Part::Upsample,
        float(window(3, 3, 1, 1)),
        float(window(3, 3, 2, 4)),
        Part::AveragePool { include_pads: true },
        Part::MaxPool,
        Part::Requantize,
    ];
    let mut builder = Builder::new(6, 5, 3, 7, Range::All);
    for part in &parts {
        builder.add(part);
    }
    let input: Vec<i8> = (0..6 * 5 * 3).map(|_| builder.numbers.byte()).collect();
    let mut graph = builder.finish(2);
    float_tail(&mut graph);
    (graph, input)
}

/// In two shares.
#[test]
fn one_of_each_step() {
    let (graph, input) = one_of_each();
    let checked = check(&graph, &input, 2);
    assert!(checked.is_ok(), "{checked:?}");
}

/// The last output through a function, enlarged, and its mean.
fn float_tail(graph: &mut LayerGraph) {
    let Some(last) = graph.outputs.last_mut() else { return };
    for make in [
        |input| Op::Map { input, function: Function::Sigmoid },
        |input| Op::ResizeLinear { input },
        |input| Op::Mean { input },
    ] {
        let (op, mut fact) = (make(*last), graph.facts[*last].clone());
        (fact.height, fact.width) = match op {
            Op::ResizeLinear { .. } => (fact.height * 2, fact.width * 2),
            Op::Mean { .. } => (1, 1),
            _ => (fact.height, fact.width),
        };
        graph.facts.push(fact);
        *last = graph.facts.len() - 1;
        graph.layers.push(Layer { name: "tail".into(), op, output: *last });
    }
}

proptest! {
    /// Factors of both signs, among them those that make ties and those that leave int8 far behind.
    #[test]
    fn every_kernel_adds_and_subtracts(
        values in prop::collection::vec((any::<i8>(), any::<i8>()), 0..200),
        scales in prop::array::uniform2(
            prop_oneof![prop::sample::select(vec![0.5f32, -0.5, 0.25, -1.0, 1.5, -300.0, 1e9]), -2.0f32..2.0]
        ),
        relu in any::<bool>(),
    ) {
        let [scale_a, scale_b] = scales;
        let (low, high) = if relu { (0.0, 100.0) } else { (-128.0, 127.0) };
        let real = |(a, b): &(i8, i8)| f32::from(*a) * scale_a + f32::from(*b) * scale_b;
        let wanted: Vec<i8> = values.iter().map(|pair| real(pair).round_ties_even().clamp(low, high) as i8).collect();
        for kernels in Isa::ALL.into_iter().filter_map(Isa::kernels) {
            let (flip, n) = (kernels.flip, values.len());
            let stored = |value: i8| value as u8 ^ flip;
            let a: Vec<u8> = values.iter().map(|(a, _)| stored(*a)).collect();
            let b: Vec<u8> = values.iter().map(|(_, b)| stored(*b)).collect();
            let mut sums = vec![0; n];
            let numbers = lanes::Numbers { scale_a, scale_b, low, high, flip };
            // SAFETY: each vector holds n bytes, and they are three.
            unsafe { (kernels.lanes.add)(&numbers, sums.as_mut_ptr(), a.as_ptr(), b.as_ptr(), n) };
            let sums: Vec<i8> = sums.into_iter().map(|sum| (sum ^ flip) as i8).collect();
            prop_assert_eq!(&sums, &wanted, "{}", kernels.isa.name());
        }
    }
}

/// A tensor beside its distance from a constant, and a convolution of both over their borders: the numbers are those of
/// the definition, computed plainly.
#[test]
fn distance_from_a_constant() {
    const SIZE: [usize; 2] = [5, 7];
    for channels in [5, 16, 24] {
        let mut builder = Builder::new(SIZE[0], SIZE[1], channels, channels as u64, Range::All);
        let (input, constant) = (0, builder.constant());
        let reference = builder.graph.constants[0].values.clone();
        let above = builder.subtract([input, constant]);
        let below = builder.subtract([constant, input]);
        let inputs = [above, below];
        let fact = Fact { scale: Some(1.0 / 128.0), ..builder.fact() };
        let add = Op::Add { inputs, subtract: false, clamp: Clamp::NONE };
        let distance = builder.push(add, fact.clone());
        let both = builder.push(Op::Concat { inputs: vec![input, distance] }, Fact { channels: 2 * channels, ..fact });
        for layer in &mut builder.graph.layers[..2] {
            if let Op::Add { clamp, .. } = &mut layer.op {
                *clamp = Clamp { low: 0.0, high: f32::INFINITY };
            }
        }
        let values: Vec<i8> = (0..SIZE[0] * SIZE[1] * channels).map(|_| builder.numbers.byte()).collect();
        let graph = builder.finish(3);
        let scale = |id: Id| graph.facts[id].scale.unwrap_or(1.0);

        let combine = |a: (i8, f32), b: (i8, f32), to: f32, low: f32| {
            let steps = |(value, scale)| f32::from(value) * (f64::from(scale) / f64::from(to)) as f32;
            let sum: f32 = steps(a) + steps(b);
            sum.round_ties_even().clamp(low, 127.0) as i8
        };
        let distance_of = |value: i8, reference: i8| {
            let (x, r) = ((value, scale(input)), (reference, scale(constant)));
            let up = combine(x, (r.0, -r.1), scale(above), 0.0);
            let down = combine(r, (x.0, -x.1), scale(below), 0.0);
            combine((up, scale(above)), (down, scale(below)), scale(distance), -128.0)
        };
        let pixels = values.chunks(channels).zip(reference.chunks(channels));
        let wanted: Vec<f32> = pixels
            .flat_map(|(pixel, reference)| {
                let far = pixel.iter().zip(reference).map(|(value, reference)| distance_of(*value, *reference));
                pixel.iter().copied().chain(far).collect::<Vec<i8>>()
            })
            .map(|value| f32::from(value) * scale(both))
            .collect();
        let convolved = plainly_convolved(&graph, &wanted, SIZE);
        for kernels in Isa::ALL.into_iter().filter_map(Isa::kernels) {
            for parts in [1, 2] {
                let found = run(&graph, kernels, &values, parts);
                let whole: Vec<f32> = found[0].iter().copied().map(f32::from_bits).collect();
                assert_eq!(whole, wanted, "{} channels on {}, {parts} parts", channels, kernels.isa.name());
                let mapped = found[1].iter().copied().map(f32::from_bits);
                let off = mapped.zip(&convolved).map(|(ours, plain)| (ours - plain).abs()).fold(0.0, f32::max);
                assert!(off < 1e-4, "{channels} channels on {}, {parts} parts: off by {off}", kernels.isa.name());
            }
        }
    }
}

/// The last convolution of a graph over real values, zeros outside of them.
fn plainly_convolved(graph: &LayerGraph, values: &[f32], [height, width]: [usize; 2]) -> Vec<f32> {
    let Some(Layer { op: Op::Conv(conv), .. }) = graph.layers.last() else { return Vec::new() };
    let each = values.len() / (height * width);
    let mut found = Vec::new();
    for (y, x, out) in each_of(height, width, conv.scales.len()) {
        let mut sum = 0.0f64;
        for (row, column, channel) in each_of(3, 3, each) {
            let (Some(y), Some(x)) = ((y + row).checked_sub(1), (x + column).checked_sub(1)) else { continue };
            if y < height && x < width {
                let weight = f64::from(conv.weights[((out * each + channel) * 3 + row) * 3 + column]);
                sum += f64::from(values[(y * width + x) * each + channel]) * weight * f64::from(conv.scales[out]);
            }
        }
        let value = (sum + f64::from(conv.bias[out])) as f32;
        found.push(value.max(conv.clamp.low).min(conv.clamp.high));
    }
    found
}

fn each_of(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| (i, j, k))))
}

/// As many of the largest products as a 16-bit sum only just holds (2, 4, 9, 10 or 25 of them), and more.
#[test]
fn the_ends_of_int8_add_up() {
    for weight in [-127i8, -128, 127, 63, -63, 64, 28, -28, 29, 25, 26, 10, 11] {
        for (group, size) in [(1, 1), (32, 3), (32, 5)] {
            let mut builder = Builder::new(6, 7, 32, 1, Range::Ends);
            let Some(window) = builder.window([size; 2], [1; 2], 1, true) else { continue };
            builder.conv(32, group, window, false);
            if let Some(Layer { op: Op::Conv(conv), .. }) = builder.graph.layers.last_mut() {
                conv.weights.fill(weight);
                conv.scales.fill(1e-3);
                conv.clamp = Clamp::NONE;
            }
            if let Some(fact) = builder.graph.facts.last_mut() {
                fact.scale = Some(group.min(2) as f32 * 0.01);
            }
            let graph = builder.finish(1);
            let checked = check(&graph, &[-128; 6 * 7 * 32], 1);
            assert!(checked.is_ok(), "{group} groups, {size} x {size}, weights of {weight}: {checked:?}");
        }
    }
}

/// Groups of whole vectors are computed apart: each block starts at its own group's input.
#[test]
fn groups_see_their_own_channels() {
    for (channels, group, size) in [(16, 4, 1), (32, 2, 3), (48, 3, 5)] {
        let mut builder = Builder::new(5, 7, channels, 3, Range::All);
        let Some(window) = builder.window([size; 2], [1; 2], 1, true) else { continue };
        builder.conv(16 * group, group, window, false);
        let input: Vec<i8> = (0..5 * 7 * channels).map(|_| builder.numbers.byte()).collect();
        let checked = check(&builder.finish(1), &input, 1);
        assert!(checked.is_ok(), "{group} groups of {channels} channels, {size} x {size}: {checked:?}");
    }
}

/// A bias counts although scales take the multiplier beyond f32: found by mutated networks.
#[test]
fn a_bias_outlives_absurd_scales() {
    let mut builder = Builder::new(3, 3, 16, 5, Range::All);
    let Some(window) = builder.window([1; 2], [1; 2], 1, true) else { return };
    builder.graph.facts[0].scale = Some(2e28);
    builder.conv(16, 1, window, false);
    if let Some(Layer { op: Op::Conv(conv), .. }) = builder.graph.layers.last_mut() {
        conv.weights.fill(0);
        conv.scales.fill(2e27);
        conv.bias.fill(0.5);
        conv.clamp = Clamp::NONE;
    }
    if let Some(fact) = builder.graph.facts.last_mut() {
        fact.scale = Some(0.1);
    }
    let (graph, input) = (builder.finish(1), [1; 9 * 16]);
    let portable = Isa::Portable.kernels().map(|kernels| run(&graph, kernels, &input, 1));
    let values = portable.into_iter().flatten().next().unwrap_or_default();
    assert!(!values.is_empty() && values.iter().all(|bits| f32::from_bits(*bits) == 0.5), "{values:?}");
}
