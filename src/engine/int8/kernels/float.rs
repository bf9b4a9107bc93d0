//! The float tail: a few elementwise functions and the enlargement of the map. Dense NHWC f32 tensors.

#![expect(
    clippy::indexing_slicing,
    reason = "the plan has made every length; a wrong one would be a bug that tests find"
)]

use std::ops::Range;

use super::super::region::{Clamp, Function};

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
}

/// Output rows of a bilinear enlargement, from the whole input, with scratch of one input row.
type ResizeRows = unsafe fn(&Resize, Range<usize>, &[f32], &mut [f32], &mut [f32]);

/// Compiled for the build's own instruction set.
pub const PORTABLE: Table = Table { map, resize };

/// The same compiled with more features enabled. No contraction, so the bits are those of the portable one.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled_with {
    ($table:ident, $module:ident, $features:literal) => {
        mod $module {
            use super::{Function, Range, Resize};

            #[target_feature(enable = $features)]
            pub unsafe fn map(function: Function, from: &[f32], to: &mut [f32]) {
                super::map(function, from, to);
            }

            #[target_feature(enable = $features)]
            pub unsafe fn resize(resize: &Resize, rows: Range<usize>, from: &[f32], line: &mut [f32], to: &mut [f32]) {
                super::resize(resize, rows, from, line, to);
            }
        }

        /// Compiled for these features.
        pub const $table: Table = Table { map: $module::map, resize: $module::resize };
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

/// exp(x) to about 2 units in the last place, in a form that the compiler vectorises: x = n ln 2 + r, |r| <= ln 2 / 2, the Taylor
/// series of exp(r) to the seventh power, times 2^n. Below exp(-87) it stays there, above exp(88) too.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
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
