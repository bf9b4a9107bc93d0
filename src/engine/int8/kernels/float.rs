//! The float tail: a few elementwise functions and the enlargement of the map; and convolutions left in float. Dense
//! NHWC f32 tensors.

#![expect(
    clippy::indexing_slicing,
    reason = "the plan has made every length; a wrong one would be a bug that tests find"
)]

use std::ops::Range;

use super::super::layer_graph::{Clamp, FloatConv, Function, Window};

/// The float tail compiled for one instruction set.
pub struct Table {
    /// Applies an elementwise function.
    ///
    /// # Safety
    /// The CPU has the instruction set.
    pub map: unsafe fn(Function, &[f32], &mut [f32]),
    /// Rows of a bilinear enlargement: see [`Resize`].
    ///
    /// # Safety
    /// The CPU has the instruction set.
    pub resize: ResizeRows,
    /// Rows of a convolution, from the whole input: see [`Conv`].
    ///
    /// # Safety
    /// The CPU has the instruction set.
    pub conv: unsafe fn(&Conv, Range<usize>, &[f32], &mut [f32]),
    /// round(value / scale), half to even, clamped to int8, stored with these bits flipped.
    ///
    /// # Safety
    /// The CPU has the instruction set.
    pub quantize: unsafe fn(f32, u8, &[f32], &mut [u8]),
}

/// Output rows of a bilinear enlargement, from the whole input, with scratch of one input row.
type ResizeRows = unsafe fn(&Resize, Range<usize>, &[f32], &mut [f32], &mut [f32]);

/// Compiled for the build's own instruction set.
pub const PORTABLE: Table = Table { map, resize, conv, quantize };

/// The same compiled with more features enabled. No contraction, so the bits are those of the portable one.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled_with {
    ($table:ident, $module:ident, $features:literal) => {
        mod $module {
            use super::{Conv, Function, Range, Resize};

            #[target_feature(enable = $features)]
            pub unsafe fn map(function: Function, from: &[f32], to: &mut [f32]) {
                super::map(function, from, to);
            }

            #[target_feature(enable = $features)]
            pub unsafe fn resize(resize: &Resize, rows: Range<usize>, from: &[f32], line: &mut [f32], to: &mut [f32]) {
                super::resize(resize, rows, from, line, to);
            }

            #[target_feature(enable = $features)]
            pub unsafe fn conv(conv: &Conv, rows: Range<usize>, from: &[f32], to: &mut [f32]) {
                super::conv(conv, rows, from, to);
            }

            #[target_feature(enable = $features)]
            pub unsafe fn quantize(scale: f32, flip: u8, from: &[f32], to: &mut [u8]) {
                super::quantize(scale, flip, from, to);
            }
        }

        /// Compiled for these features.
        pub const $table: Table =
            Table { map: $module::map, resize: $module::resize, conv: $module::conv, quantize: $module::quantize };
    };
}

#[cfg(target_arch = "x86_64")]
compiled_with!(AVX2, avx2, "avx2");
#[cfg(target_arch = "x86_64")]
compiled_with!(AVX512, avx512, "avx512f,avx512bw,avx512vl,avx512dq");

#[inline(always)]
fn map(function: Function, from: &[f32], to: &mut [f32]) {
    let pairs = to.iter_mut().zip(from);
    match function {
        Function::Sigmoid => pairs.for_each(|(to, from)| *to = 1.0 / (1.0 + exp(-*from))),
        Function::Exp => pairs.for_each(|(to, from)| *to = exp(*from)),
        Function::Log => pairs.for_each(|(to, from)| *to = from.ln()),
        Function::Clamp(Clamp { low, high }) => pairs.for_each(|(to, from)| *to = from.max(low).min(high)),
        Function::Affine { factor, term } => pairs.for_each(|(to, from)| *to = from * factor + term),
    }
}

/// exp(x) to about 2 units in the last place, in a form that the compiler vectorises: x = n ln 2 + r, |r| <= ln 2 / 2,
/// the Taylor series of exp(r) to the seventh power, times 2^n. Below exp(-87) it stays there, above exp(88) too.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 355.0 / 512.0; // ln 2 in two parts, so that n * ln 2 is exact
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = series * r + 1.0;
    let series = series * r + 1.0;
    let power = f32::from_bits(((shifted.to_bits() as i32).wrapping_add(127) << 23) as u32);
    series * power
}

/// Mean of each channel over `pixels` pixels.
pub fn mean(from: &[f32], channels: usize, to: &mut [f32]) {
    let pixels = (from.len() / channels.max(1)).max(1);
    for (channel, to) in to.iter_mut().enumerate() {
        // f64: the sum of a map's exponentials spans many magnitudes.
        let sum: f64 = from.iter().skip(channel).step_by(channels.max(1)).map(|value| f64::from(*value)).sum();
        *to = (sum / pixels as f64) as f32;
    }
}

/// A bilinear enlargement of a picture of some channels (ONNX Resize, linear, half_pixel).
#[derive(Debug, Clone)]
pub struct Resize {
    down: Axis,
    right: Axis,
    channels: usize,
}

/// Where each output position reads: two input positions and the share of the second.
#[derive(Debug, Clone)]
struct Axis {
    near: Vec<usize>,
    far: Vec<usize>,
    share: Vec<f32>,
    /// Exactly twice as many positions: the shares alternate, and neighbours need no table.
    doubles: bool,
}

impl Axis {
    fn new(from: usize, to: usize) -> Self {
        let mut new = Self { near: Vec::new(), far: Vec::new(), share: Vec::new(), doubles: to == 2 * from };
        for position in 0..to {
            let at = ((position as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
            let near = at as usize;
            new.near.push(near);
            new.far.push((near + 1).min(from - 1));
            new.share.push(at - near as f32);
        }
        new
    }
}

impl Resize {
    /// The tables for an enlargement between two sizes, height and width.
    pub fn new(from: [usize; 2], to: [usize; 2], channels: usize) -> Self {
        Self { down: Axis::new(from[0], to[0]), right: Axis::new(from[1], to[1]), channels }
    }
}

#[inline(always)]
fn resize(resize: &Resize, rows: Range<usize>, from: &[f32], line: &mut [f32], to: &mut [f32]) {
    let Resize { down, right, channels } = resize;
    let in_row = line.len();
    for (y, to) in rows.zip(to.chunks_exact_mut(right.near.len() * channels)) {
        let row = |y: usize| &from[y * in_row..(y + 1) * in_row];
        let share = down.share[y];
        for ((line, near), far) in line.iter_mut().zip(row(down.near[y])).zip(row(down.far[y])) {
            *line = near + (far - near) * share;
        }
        if right.doubles && *channels == 1 {
            double(line, to);
            continue;
        }
        for (x, to) in to.chunks_exact_mut(*channels).enumerate() {
            let near = &line[right.near[x] * channels..];
            let far = &line[right.far[x] * channels..];
            for ((to, near), far) in to.iter_mut().zip(near).zip(far) {
                *to = near + (far - near) * right.share[x];
            }
        }
    }
}

/// A row to one of twice its length: pixel i lies between i - 1 and i + 1, a quarter to each side.
#[inline(always)]
fn double(line: &[f32], to: &mut [f32]) {
    let ([first, ..], [.., last]) = (line, line) else { return };
    let end = to.len() - 1;
    (to[0], to[end]) = (*first, *last);
    let pairs = to[1..end].as_chunks_mut::<2>().0;
    for (pair, near) in pairs.iter_mut().zip(line.windows(2)) {
        let step = near[1] - near[0];
        *pair = [near[0] + step * 0.25, near[0] + step * 0.75];
    }
}

/// 1.5 * 2^23: adding it leaves a number's nearest integer, half to even, in the low bits (for |x| < 2^22).
const ROUND: f32 = 12_582_912.0;

/// [`super::super::layer_graph::quantize`] in a form that the compiler vectorises. Bounds are whole numbers, so
/// clamping first is clamping after.
#[inline(always)]
fn quantize(scale: f32, flip: u8, from: &[f32], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        let value = from / scale;
        let value = if value < -128.0 { -128.0 } else { value };
        let value = if value > 127.0 { 127.0 } else { value };
        *to = (value + ROUND).to_bits() as u8 ^ flip;
    }
}

/// Output channels whose sums are in registers together: of layers with many, and of layers with few.
const BLOCKS: [usize; 2] = [32, 8];

/// A convolution of float tensors as `conv` wants it.
#[derive(Debug, Clone)]
pub struct Conv {
    window: Window,
    /// Height, width and channels of what it reads.
    from: [usize; 3],
    /// Width and channels of what it writes.
    to: [usize; 2],
    group: usize,
    kind: Kind,
    /// `[group][block of output channels][tap][input channel of the group][lane of the block]`, zero past a group's
    /// end; if depthwise, `[tap][channel]`.
    weights: Vec<f32>,
    /// One an output channel.
    bias: Vec<f32>,
    clamp: Clamp,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Every channel sees itself alone.
    Depthwise,
    /// In blocks of the first or the second length.
    Wide,
    Narrow,
}

impl Conv {
    /// Lays the weights out; `from` is height, width and channels of the input, `width` that of the output.
    pub fn new(conv: &FloatConv, from: [usize; 3], width: usize) -> Self {
        let (out, group) = (conv.bias.len(), conv.group);
        let kind = match out / group {
            1 if group == from[2] => Kind::Depthwise,
            few if few <= BLOCKS[1] => Kind::Narrow,
            _ => Kind::Wide,
        };
        let Window { size: [rows, columns], .. } = conv.window;
        let (taps, each) = (rows * columns, from[2] / group);
        let weights = match kind {
            Kind::Depthwise => (0..taps * out).map(|i| conv.weights[i % out * taps + i / out]).collect(),
            Kind::Wide => blocks(&conv.weights, group, [taps, each], BLOCKS[0]),
            Kind::Narrow => blocks(&conv.weights, group, [taps, each], BLOCKS[1]),
        };
        let (window, bias, clamp) = (conv.window, conv.bias.clone(), conv.clamp);
        Self { window, from, to: [width, out], group, kind, weights, bias, clamp }
    }

    /// The rows (axis 0) or columns (axis 1) of the kernel that lie inside of the input for output position `at`.
    #[inline(always)]
    fn inside(&self, axis: usize, at: usize) -> Range<usize> {
        let Window { size, stride, dilation, pads } = &self.window;
        let first = at * stride[axis];
        let start = pads[axis].saturating_sub(first).div_ceil(dilation[axis]);
        let end = (self.from[axis] + pads[axis]).saturating_sub(first).div_ceil(dilation[axis]);
        start..end.min(size[axis])
    }

    /// Where the pixel under a tap starts that is inside, for output pixel (y, x).
    #[inline(always)]
    fn under(&self, [y, x]: [usize; 2], [row, column]: [usize; 2]) -> usize {
        let Window { stride, dilation, pads, .. } = &self.window;
        let y = y * stride[0] + row * dilation[0] - pads[0];
        let x = x * stride[1] + column * dilation[1] - pads[1];
        (y * self.from[1] + x) * self.from[2]
    }

    #[inline(always)]
    fn clamped(&self, value: f32) -> f32 {
        let value = if value < self.clamp.low { self.clamp.low } else { value };
        if value > self.clamp.high { self.clamp.high } else { value }
    }
}

/// Weights `[out][input channel of the group][tap]` in the blocks of [`Conv::weights`].
fn blocks(weights: &[f32], group: usize, [taps, each]: [usize; 2], length: usize) -> Vec<f32> {
    let mut new = Vec::new();
    for group in weights.chunks_exact(weights.len() / group) {
        for block in group.chunks(length * each * taps) {
            let start = new.len();
            new.resize(start + length * each * taps, 0.0);
            for (i, weight) in block.iter().enumerate() {
                let (lane, channel, tap) = (i / (each * taps), i / taps % each, i % taps);
                new[start + (tap * each + channel) * length + lane] = *weight;
            }
        }
    }
    new
}

#[inline(always)]
fn conv(conv: &Conv, rows: Range<usize>, from: &[f32], to: &mut [f32]) {
    match conv.kind {
        Kind::Depthwise => depthwise(conv, rows, from, to),
        Kind::Wide => dense::<{ BLOCKS[0] }>(conv, rows, from, to),
        Kind::Narrow => dense::<{ BLOCKS[1] }>(conv, rows, from, to),
    }
}

/// Block by block of output channels, so that its weights stay in a near cache from pixel to pixel.
#[inline(always)]
fn dense<const N: usize>(conv: &Conv, rows: Range<usize>, from: &[f32], to: &mut [f32]) {
    let ([width, out], [taps_down, taps_right]) = (conv.to, conv.window.size);
    let (each, many) = (conv.from[2] / conv.group, out / conv.group);
    let mut weights = conv.weights.chunks_exact(taps_down * taps_right * each * N);
    for group in 0..conv.group {
        for (start, weights) in (0..many).step_by(N).zip(&mut weights) {
            let channels = group * many + start..group * many + (start + N).min(many);
            for (y, row) in rows.clone().zip(to.chunks_exact_mut(width * out)) {
                for (x, pixel) in row.chunks_exact_mut(out).enumerate() {
                    let mut sums = [0.0; N];
                    sums[..channels.len()].copy_from_slice(&conv.bias[channels.clone()]);
                    for down in conv.inside(0, y) {
                        for right in conv.inside(1, x) {
                            let values = &from[conv.under([y, x], [down, right]) + group * each..][..each];
                            let weights = &weights[(down * taps_right + right) * each * N..][..each * N];
                            sums = accumulate(sums, values, weights.as_chunks().0);
                        }
                    }
                    for (to, sum) in pixel[channels.clone()].iter_mut().zip(sums) {
                        *to = conv.clamped(sum);
                    }
                }
            }
        }
    }
}

/// By value and by index: so the compiler keeps the sums in registers.
#[inline(always)]
fn accumulate<const N: usize>(mut sums: [f32; N], values: &[f32], weights: &[[f32; N]]) -> [f32; N] {
    for (value, weights) in values.iter().zip(weights) {
        for i in 0..N {
            sums[i] += value * weights[i];
        }
    }
    sums
}

#[inline(always)]
fn depthwise(conv: &Conv, rows: Range<usize>, from: &[f32], to: &mut [f32]) {
    let ([width, out], columns) = (conv.to, conv.window.size[1]);
    for (y, row) in rows.zip(to.chunks_exact_mut(width * out)) {
        for (x, pixel) in row.chunks_exact_mut(out).enumerate() {
            pixel.copy_from_slice(&conv.bias);
            for down in conv.inside(0, y) {
                for right in conv.inside(1, x) {
                    let values = &from[conv.under([y, x], [down, right])..][..out];
                    let weights = &conv.weights[(down * columns + right) * out..][..out];
                    for ((to, value), weight) in pixel.iter_mut().zip(values).zip(weights) {
                        *to += value * weight;
                    }
                }
            }
            pixel.iter_mut().for_each(|to| *to = conv.clamped(*to));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exp() {
        for step in -8700..8800 {
            let x = step as f32 / 100.0;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / exact - 1.0).abs() < 4e-7, "exp({x}) = {ours}, not {exact}");
        }
        assert_eq!(exp(0.0), 1.0);
    }

    /// Ties, ends and all between, as QuantizeLinear defines them.
    #[test]
    fn quantize_is_quantize_linear() {
        let values: Vec<f32> =
            (-40_000..40_000).map(|i| i as f32 / 256.0).chain([1e30, -1e30, f32::INFINITY]).collect();
        for scale in [1.0f32, 0.5, 0.02, 0.013] {
            let mut found = vec![0; values.len()];
            quantize(scale, 0x80, &values, &mut found);
            for (value, found) in values.iter().zip(&found) {
                let wanted = super::super::super::layer_graph::quantize(*value, scale);
                assert_eq!((found ^ 0x80) as i8, wanted, "{value} / {scale}");
            }
        }
    }

    /// The half-pixel rule by hand: doubling two pixels.
    #[test]
    fn doubling_takes_quarters() {
        let (mut line, mut to) = ([0.0; 2], [0.0; 4]);
        resize(&Resize::new([1, 2], [1, 4], 1), 0..1, &[0.0, 4.0], &mut line, &mut to);
        assert_eq!(to, [0.0, 1.0, 3.0, 4.0]);
    }

    /// One channel is doubled without the tables that several channels are doubled with.
    #[test]
    fn doubling_is_what_the_tables_say() {
        let from: Vec<f32> = (0..5 * 7).map(|i| ((i * 37) % 23) as f32).collect();
        let twice: Vec<f32> = from.iter().flat_map(|value| [*value, -*value]).collect();
        let (mut line, mut one) = (vec![0.0; 7], vec![0.0; 10 * 14]);
        resize(&Resize::new([5, 7], [10, 14], 1), 0..10, &from, &mut line, &mut one);
        let (mut line, mut two) = (vec![0.0; 14], vec![0.0; 10 * 14 * 2]);
        resize(&Resize::new([5, 7], [10, 14], 2), 0..10, &twice, &mut line, &mut two);
        assert_eq!(one, two.iter().step_by(2).copied().collect::<Vec<f32>>());
    }
}
