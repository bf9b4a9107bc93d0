//! A layer's numbers as its kernel wants them, laid out when the network is loaded.

#![expect(clippy::indexing_slicing, reason = "every length is made here; loading turns a panic into an error")]

use super::arena::Bytes;
use super::kernels::{Block, DEPTH, Dense, Depthwise, Kernels, LANES, Narrow, OneChannel, Output, Together};
use super::layer_graph::Conv;

/// What the plan knows of the tensor that a layer reads.
pub struct Source<'a> {
    /// Channel to lane.
    pub lanes: &'a [usize],
    /// Bytes from row to row.
    pub row: usize,
    /// Bytes from pixel to pixel.
    pub pixel: usize,
    /// int8 scale.
    pub scale: f32,
    /// True if no value is below zero: it comes from a ReLU.
    pub non_negative: bool,
}

/// The integer form of one output channel: weights, start of the accumulator, and what one step of it is worth in
/// reality.
struct Channel {
    weights: Vec<i8>,
    bias: i32,
    /// What rounding the bias has left, in steps.
    rest: f64,
    unit: f64,
}

/// Starts beyond this leave no room for the sum; see [`channel`].
const BIAS_LIMIT: f64 = (1i64 << 30) as f64;

/// A bias that is huge in steps of its channel (weights that are nothing but noise have a tiny scale) makes the steps
/// larger: the weights lose digits that the bias drowns anyway.
fn channel(conv: &Conv, out: usize, input_scale: f32) -> Channel {
    let each = conv.weights.len() / conv.scales.len();
    let weights = &conv.weights[out * each..(out + 1) * each];
    let (bias, unit) = (f64::from(conv.bias[out]), f64::from(conv.scales[out]) * f64::from(input_scale));
    let factor = (bias.abs() / unit / BIAS_LIMIT).max(1.0);
    let weights = weights.iter().map(|weight| (f64::from(*weight) / factor).round_ties_even() as i8).collect();
    let unit = unit * factor;
    let steps = (bias / unit).round_ties_even();
    Channel { weights, bias: steps as i32, rest: bias / unit - steps, unit }
}

fn channels(conv: &Conv, input_scale: f32) -> Vec<Channel> {
    (0..conv.scales.len()).map(|out| channel(conv, out, input_scale)).collect()
}

/// Multiplier from accumulator steps to what is stored.
fn multiplier(unit: f64, output_scale: Option<f32>) -> f32 {
    finite(unit / f64::from(output_scale.unwrap_or(1.0)))
}

/// What rounding the bias has left, in what is stored. Not by way of the multiplier, which absurd scales take to its
/// end.
fn rest(channel: &Channel, output_scale: Option<f32>) -> f32 {
    finite(channel.rest * channel.unit / f64::from(output_scale.unwrap_or(1.0)))
}

/// As f32, without the infinities that would make no number of a zero.
fn finite(value: f64) -> f32 {
    value.clamp(-f64::from(f32::MAX), f64::from(f32::MAX)) as f32
}

/// How far from zero an accumulator of this channel, times its multiplier, can come; a step more than what is stored of
/// it.
fn reach(channel: &Channel, multiplier: f32) -> f64 {
    let sum: f64 = channel.weights.iter().map(|weight| 128.0 * f64::from(*weight).abs()).sum();
    (sum + f64::from(channel.bias).abs() + 1.0) * f64::from(multiplier) + 1.0
}

/// True if such a value can come near the ends of i32.
fn is_wide(reach: f64) -> bool {
    reach >= f64::from(1 << 30)
}

/// How values that reach so far become bytes between these bounds.
fn narrow(reach: f64, [low, high]: [f32; 2]) -> Narrow {
    match reach < f64::from(i16::MAX) {
        true if [low, high] == [-128.0, 127.0] => Narrow::Short,
        true if low == 0.0 && high >= 0.0 => Narrow::Relu,
        _ => Narrow::Any,
    }
}

fn is_extreme(units: &[Channel]) -> bool {
    units.iter().any(|unit| unit.weights.contains(&i8::MIN))
}

/// True if these weights' products with any activations fit a 16-bit sum.
fn fits_int16(weights: impl Iterator<Item = i8>, non_negative: bool) -> bool {
    let (mut above, mut below) = (0i32, 0i32);
    for weight in weights {
        let weight = i32::from(weight);
        *(if weight > 0 { &mut above } else { &mut below }) += weight.abs();
    }
    let most = if non_negative { 127 * above.max(below) } else { 128 * (above + below) };
    most <= i32::from(i16::MAX)
}

/// The channel of each lane; none of those that pad.
fn owners(lanes: &[usize]) -> Vec<Option<usize>> {
    let mut owners = vec![None; lanes.iter().max().map_or(0, |lane| lane + 1)];
    for (channel, lane) in lanes.iter().enumerate() {
        owners[*lane] = Some(channel);
    }
    owners
}

/// Lengths of a layer's blocks, in vectors of [`LANES`], that cover `vectors` of them.
fn widths(vectors: usize, of: &[usize]) -> Vec<usize> {
    let mut widths = Vec::new();
    let mut left = vectors;
    while left > 0 {
        let width = of.iter().copied().find(|width| *width <= left).unwrap_or(1);
        widths.push(width);
        left -= width;
    }
    widths
}

/// A convolution whose output channels each see several input channels.
pub fn dense(conv: &Conv, source: &Source, output_scale: Option<f32>, output: Output, kernels: &Kernels) -> Dense {
    let out = conv.scales.len();
    let each = source.lanes.len() / conv.group; // input channels of a group
    let [rows, columns] = conv.window.size;
    let [down, right] = conv.window.dilation;
    let units = channels(conv, source.scale);

    // Groups of whole vectors are computed apart; others as one group whose foreign weights are zero.
    let identity = source.lanes.iter().enumerate().all(|(channel, lane)| channel == *lane);
    let apart = conv.group > 1
        && identity
        && each.is_multiple_of(DEPTH)
        && (out / conv.group).is_multiple_of(LANES)
        && source.pixel.is_multiple_of(LANES);
    let owners = owners(source.lanes);
    let reads = |lane: usize, group: usize| -> Option<usize> {
        if apart {
            return (lane < each).then_some(lane);
        }
        let channel = (*owners.get(lane)?)?;
        (channel / each == group).then(|| channel % each)
    };
    let lanes = if apart { each } else { source.lanes.iter().max().map_or(0, |lane| lane + 1) };

    // A pixel narrower than a vector stands next to its neighbour: a kernel row is one tap.
    let merged = source.pixel < LANES && right == 1;
    let (taps, run): (Vec<usize>, usize) = if merged {
        ((0..rows).map(|row| row * down * source.row).collect(), (columns - 1) * source.pixel + lanes)
    } else {
        let tap = |row, column| row * down * source.row + column * right * source.pixel;
        ((0..rows).flat_map(|row| (0..columns).map(move |column| tap(row, column))).collect(), lanes)
    };
    let depth = run.div_ceil(DEPTH);
    // The weight of an output channel at one byte of one tap, as an index into its weights.
    let at = |tap: usize, byte: usize, group: usize| -> Option<usize> {
        let (row, column, lane) =
            if merged { (tap, byte / source.pixel, byte % source.pixel) } else { (tap / columns, tap % columns, byte) };
        if column >= columns {
            return None;
        }
        reads(lane, group).map(|channel| (channel * rows + row) * columns + column)
    };
    let places = |group: usize| -> Vec<Option<usize>> {
        (0..taps.len() * depth * DEPTH).map(|i| at(i / (depth * DEPTH), i % (depth * DEPTH), group)).collect()
    };
    let mut table = (0, places(0));

    let groups = if apart { conv.group } else { 1 };
    let vectors = (out / groups).div_ceil(LANES);
    let (mut blocks, mut weights) = (Vec::new(), Vec::new());
    let (mut bias, mut scale, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let mut farthest = 0.0f64;
    for group in 0..groups {
        for width in widths(vectors, kernels.widths) {
            let lane = bias.len();
            let input = if apart { group * each } else { 0 };
            let block = Block { width, lane, input, weights: weights.len(), by_four: [0; 4], moves: 0 };
            let size = width * LANES;
            let owners: Vec<usize> = (0..size).map(|i| lane + (kernels.order)(width, i)).collect();
            blocks.push(block);
            weights.resize(block.weights + taps.len() * depth * DEPTH * size, 0);
            for (accumulator, channel) in owners.into_iter().enumerate() {
                let Some(unit) = units.get(channel) else {
                    bias.push(0);
                    scale.push(0.0);
                    rest.push(0.0);
                    continue;
                };
                let group = if apart { 0 } else { channel / (out / conv.group) };
                if table.0 != group {
                    table = (group, places(group));
                }
                let mut sum = 0i32;
                for (byte, place) in table.1.iter().enumerate() {
                    let Some(place) = place else { continue };
                    let weight = unit.weights[*place];
                    sum += i32::from(weight);
                    weights[block.weights + (byte / DEPTH * size + accumulator) * DEPTH + byte % DEPTH] = weight as u8;
                }
                let multiplier = multiplier(unit.unit, output_scale);
                farthest = farthest.max(reach(unit, multiplier));
                bias.push(unit.bias.wrapping_sub(i32::from(kernels.flip).wrapping_mul(sum)));
                scale.push(multiplier);
                rest.push(self::rest(unit, output_scale));
            }
        }
    }
    let narrow = match output {
        Output::Int8 { low, high } => narrow(farthest, [low, high]),
        Output::Float { .. } => Narrow::Any,
    };
    let (wide, extreme) = (is_wide(farthest), is_extreme(&units));
    let mut moves = Vec::new();
    if kernels.int16_sums && !extreme {
        let runs = Runs { taps: &taps, depth, non_negative: source.non_negative };
        let old = std::mem::take(&mut weights);
        for block in &mut blocks {
            runs.arrange(block, &old, &mut weights, &mut moves);
        }
    }
    Dense { taps, depth, blocks, weights: Bytes::of(&weights), moves, bias, scale, rest, output, wide, narrow, extreme }
}

/// The bytes under a window in runs of 8: four steps of two. The last run of a tap may reach past it, where weights are
/// zero.
struct Runs<'a> {
    taps: &'a [usize],
    depth: usize,
    non_negative: bool,
}

impl Runs<'_> {
    /// Appends a block's weights in the order of [`Kernels::int16_sums`] and its moves, one more than it has runs.
    fn arrange(&self, block: &mut Block, old: &[u8], weights: &mut Vec<u8>, moves: &mut Vec<i32>) {
        let old = &old[block.weights..][..self.taps.len() * self.depth * LANES * DEPTH];
        let weight = |(tap, run): (usize, usize), step: usize, lane: usize, byte: usize| {
            let byte = run * 8 + step * 2 + byte;
            let inside = byte / DEPTH < self.depth;
            if inside { old[((tap * self.depth + byte / DEPTH) * LANES + lane) * DEPTH + byte % DEPTH] } else { 0 }
        };
        let half_fits = |run: (usize, usize), half: usize| {
            let steps = |lane, byte| (0..4).map(move |step| weight(run, step, lane, byte) as i8);
            (half * 8..(half + 1) * 8).all(|lane| (0..2).all(|byte| fits_int16(steps(lane, byte), self.non_negative)))
        };
        let class = |run| match (half_fits(run, 0), half_fits(run, 1)) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        let runs = (0..self.taps.len()).flat_map(|tap| (0..self.depth.div_ceil(2)).map(move |run| (tap, run)));
        let mut order: Vec<(usize, (usize, usize))> = runs.map(|run| (class(run), run)).collect();
        order.sort_by_key(|(class, _)| *class);
        block.by_four = [0, 1, 2, 3].map(|class| order.iter().filter(|run| run.0 == class).count());
        (block.weights, block.moves) = (weights.len(), moves.len());
        let mut at = 0;
        for (_, (tap, run)) in order {
            for i in 0..2 * 4 * 8 * 2 {
                let (half, step, lane, byte) = (i / 64, i / 16 % 4, i / 2 % 8, i % 2);
                weights.push(weight((tap, run), step, half * 8 + lane, byte));
            }
            let offset = (self.taps[tap] + block.input + run * 8) as i32;
            moves.push(offset - std::mem::replace(&mut at, offset));
        }
        moves.push(0);
    }
}

/// A convolution of one output channel, which stays float.
pub fn one_channel(conv: &Conv, source: &Source, kernels: &Kernels) -> OneChannel {
    const PIECE: usize = 64;
    let [rows, columns] = conv.window.size;
    let [down, right] = conv.window.dilation;
    let unit = channel(conv, 0, source.scale);
    let merged = right == 1;
    let lanes = source.lanes.iter().max().map_or(0, |lane| lane + 1);
    let (across, run) = if merged { (1, (columns - 1) * source.pixel + lanes) } else { (columns, lanes) };
    let pieces = run.div_ceil(PIECE);
    let tap = |row, column| row * down * source.row + column * right * source.pixel;
    let taps: Vec<usize> = (0..rows).flat_map(|row| (0..across).map(move |column| tap(row, column))).collect();
    let mut weights = vec![0u8; taps.len() * pieces * PIECE];
    let mut sum = 0i32;
    for (channel, lane) in source.lanes.iter().enumerate() {
        for row in 0..rows {
            for column in 0..columns {
                let weight = unit.weights[(channel * rows + row) * columns + column];
                let (tap, byte) =
                    if merged { (row, column * source.pixel + lane) } else { (row * columns + column, *lane) };
                weights[tap * pieces * PIECE + byte] = weight as u8;
                sum += i32::from(weight);
            }
        }
    }
    let scale = multiplier(unit.unit, None);
    OneChannel {
        taps,
        pieces,
        weights: Bytes::of(&weights),
        bias: unit.bias.wrapping_sub(i32::from(kernels.flip).wrapping_mul(sum)),
        scale,
        rest: rest(&unit, None),
        low: conv.clamp.low,
        high: conv.clamp.high,
    }
}

/// A convolution in which every channel sees itself alone. `lanes` is the number of lanes of a pixel.
pub fn depthwise(
    conv: &Conv,
    source: &Source,
    lanes: usize,
    output_scale: f32,
    [low, high]: [f32; 2],
    kernels: &Kernels,
) -> Depthwise {
    let [rows, columns] = conv.window.size;
    let [down, right] = conv.window.dilation;
    let units = channels(conv, source.scale);
    let owners = owners(source.lanes);
    let groups = rows.div_ceil(kernels.column);
    let (mut blocks, mut weights) = (Vec::new(), Vec::new());
    let (mut bias, mut scale, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let mut farthest = 0.0f64;
    for width in widths(lanes / LANES, kernels.depthwise_widths) {
        let block = Block { width, lane: bias.len(), input: 0, weights: weights.len(), by_four: [0; 4], moves: 0 };
        let size = width * LANES;
        blocks.push(block);
        weights.resize(block.weights + groups * columns * kernels.column * size, 0u8);
        for accumulator in 0..size {
            let lane = block.lane + (kernels.depthwise_order)(width, accumulator);
            let Some(channel) = owners.get(lane).copied().flatten() else {
                bias.push(0);
                scale.push(0.0);
                rest.push(0.0);
                continue;
            };
            let unit: &Channel = &units[channel];
            let mut sum = 0i32;
            for row in 0..rows {
                for column in 0..columns {
                    let weight = unit.weights[row * columns + column];
                    sum += i32::from(weight);
                    let place = ((row / kernels.column * columns + column) * size + accumulator) * kernels.column;
                    weights[block.weights + place + row % kernels.column] = weight as u8;
                }
            }
            let multiplier = multiplier(unit.unit, Some(output_scale));
            farthest = farthest.max(reach(unit, multiplier));
            bias.push(unit.bias.wrapping_sub(i32::from(kernels.flip).wrapping_mul(sum)));
            scale.push(multiplier);
            rest.push(self::rest(unit, Some(output_scale)));
        }
    }
    let together = together(conv, &owners, &units, lanes, source.non_negative);
    Depthwise {
        rows,
        columns,
        row: down * source.row,
        column: right * source.pixel,
        stride: if right == 1 { conv.window.stride[1] } else { 0 },
        blocks,
        together,
        weights: Bytes::of(&weights),
        bias,
        scale,
        rest,
        low,
        high,
        wide: is_wide(farthest),
        narrow: narrow(farthest, [low, high]),
        extreme: is_extreme(&units),
    }
}

/// What fits a 16-bit sum, by vector of lanes.
fn together(
    conv: &Conv,
    owners: &[Option<usize>],
    units: &[Channel],
    lanes: usize,
    non_negative: bool,
) -> Vec<Together> {
    let [rows, columns] = conv.window.size;
    let fit = |lane: usize, rows: std::ops::Range<usize>| {
        let Some(channel) = owners.get(lane).copied().flatten() else { return true };
        let weights = &units[channel].weights[rows.start * columns..rows.end * columns];
        fits_int16(weights.iter().copied(), non_negative)
    };
    let all = |vector: usize, rows: std::ops::Range<usize>| {
        (vector * LANES..(vector + 1) * LANES).all(|lane| fit(lane, rows.clone()))
    };
    let vector = |vector: usize| {
        if all(vector, 0..rows) {
            return Together::All;
        }
        let bits = (0..rows.min(32)).map(|row| u32::from(all(vector, row..row + 1)) << row);
        Together::Rows(bits.sum())
    };
    (0..lanes / LANES).map(vector).collect()
}
