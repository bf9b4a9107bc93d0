//! The float tail: a few elementwise functions and the enlargement of the map. Dense NHWC f32 tensors.

#![expect(clippy::indexing_slicing, reason = "the plan has made every length; a wrong one would be a bug that tests find")]

use super::super::region::{Clamp, Function};

/// Applies an elementwise function.
pub fn map(function: Function, from: &[f32], to: &mut [f32]) {
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
    const LN2_HIGH: f32 = 0.693_359_375; // ln 2 in two parts, so that n * ln 2 is exact
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

/// Where one output position reads: two input positions and the share of the second (ONNX Resize, linear, half_pixel).
#[derive(Debug, Clone)]
pub struct Axis {
    near: Vec<usize>,
    far: Vec<usize>,
    share: Vec<f32>,
}

impl Axis {
    /// The table for an enlargement from `from` to `to` positions.
    pub fn new(from: usize, to: usize) -> Self {
        let mut new = Self { near: Vec::new(), far: Vec::new(), share: Vec::new() };
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

/// Rows `rows` of a bilinear enlargement of one picture of `channels` channels. `line` is scratch of one input row.
pub fn resize(
    from: &[f32],
    channels: usize,
    [down, right]: [&Axis; 2],
    rows: std::ops::Range<usize>,
    line: &mut [f32],
    to: &mut [f32],
) {
    let out_row = right.near.len() * channels;
    for (y, to) in rows.zip(to.chunks_exact_mut(out_row)) {
        let in_row = line.len();
        let row = |y: usize| &from[y * in_row..(y + 1) * in_row];
        let share = down.share[y];
        for ((line, near), far) in line.iter_mut().zip(row(down.near[y])).zip(row(down.far[y])) {
            *line = near + (far - near) * share;
        }
        for (x, to) in to.chunks_exact_mut(channels).enumerate() {
            let near = &line[right.near[x] * channels..];
            let far = &line[right.far[x] * channels..];
            for ((to, near), far) in to.iter_mut().zip(near).zip(far) {
                *to = near + (far - near) * right.share[x];
            }
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

    /// The half-pixel rule by hand: doubling two pixels.
    #[test]
    fn doubling_takes_quarters() {
        let axis = Axis::new(2, 4);
        let mut line = [0.0; 2];
        let mut to = [0.0; 4];
        resize(&[0.0, 4.0], 1, [&Axis::new(1, 1), &axis], 0..1, &mut line, &mut to);
        assert_eq!(to, [0.0, 1.0, 3.0, 4.0]);
    }
}
