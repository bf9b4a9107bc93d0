//! In: a pose. Out: where each pixel of a moved picture is read, in fixed point, and how its neighbours are mixed.

use std::ops::Range;

use super::{CHANNELS, Pose};

/// Steps between two pixels that a place is told in.
pub(super) const SIDE: u64 = 1 << 6;
/// What a pixel's four weights add up to.
const ONE: u64 = SIDE * SIDE;
/// Bits of each channel in [`spread`]: 8 of a level, 12 of its weights, and one that stays free.
const LANE: u32 = 21;

/// A pixel and its neighbour `next` pixels on, 0 or 1, each as [`spread`].
pub(super) fn pair(values: &[i8], pixel: usize, next: usize) -> [u64; 2] {
    let rest = &values[pixel * CHANNELS..];
    let six = match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(bytes.map(|byte| byte as u8)),
        None => rest.iter().take(8).rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte as u8)),
    };
    [spread(six), spread(six >> (8 * CHANNELS * next))]
}

/// The three channels in the lowest bytes side by side with room between them, as levels of 0 to 255: one multiplication
/// weighs all of them.
fn spread(bytes: u64) -> u64 {
    let pixel = bytes ^ 0x80_80_80;
    pixel & 0xff | (pixel & 0xff00) << (LANE - 8) | (pixel & 0xff_0000) << (2 * LANE - 16)
}

/// Back from [`spread`], rounded.
pub(super) fn gathered(sum: u64) -> [i8; CHANNELS] {
    let half = ONE / 2;
    let sum = sum + (half | half << LANE | half << (2 * LANE));
    [0, LANE, 2 * LANE].map(|lane| ((sum >> (lane + ONE.trailing_zeros())) as u8 ^ 0x80) as i8)
}

/// Fractional bits of a place in a picture.
const FRACTION: u32 = 32;

/// Where each pixel is read: a turn about the middle, then a shift.
pub(super) struct Affine {
    pub(super) rows: [[f64; 3]; 2],
    width: usize,
    height: usize,
}

impl Affine {
    pub(super) fn new(pose: Pose, width: usize, height: usize) -> Self {
        let (sin, cos) = f64::from(pose.turn).sin_cos();
        let [x, y] = [width, height].map(|side| side.saturating_sub(1) as f64 / 2.0);
        let (right, down) = (f64::from(pose.right), f64::from(pose.down));
        let rows = [[cos, -sin, x - cos * x + sin * y + right], [sin, cos, y - sin * x - cos * y + down]];
        Self { rows, width, height }
    }

    /// The way back; a turn is undone by its transpose.
    pub(super) fn inverted(self) -> Self {
        let [[a, b, x], [c, d, y]] = self.rows;
        Self { rows: [[a, c, -(a * x + c * y)], [b, d, -(b * x + d * y)]], ..self }
    }

    /// The first pixel of a row.
    pub(super) fn row(&self, y: usize) -> Place {
        let fixed = |value: f64| (value * f64::from(2.0_f32).powi(FRACTION as i32)).round() as i64;
        let [right, down] = self.rows.map(|[_, b, c]| fixed(b * y as f64 + c));
        let step = self.rows.map(|[a, ..]| fixed(a));
        let last = [self.width, self.height].map(|side| (side.saturating_sub(1) as i64) << FRACTION);
        Place { right, down, step, last, width: self.width }
    }
}

/// A place in the picture, in fixed point.
pub(super) struct Place {
    right: i64,
    down: i64,
    step: [i64; 2],
    last: [i64; 2],
    width: usize,
}

impl Place {
    pub(super) fn is_inside(&self) -> bool {
        (0..=self.last[0]).contains(&self.right) && (0..=self.last[1]).contains(&self.down)
    }

    /// Each value of a row, from here on: `inner` makes those with a next pixel and a next row, `border` the others.
    pub(super) fn fill<T>(mut self, row: &mut [T], inner: impl Fn(Corners) -> T, border: impl Fn(&Self, usize) -> T) {
        let inside = self.inside(row.len());
        for (x, out) in row.iter_mut().enumerate() {
            *out = if inside.contains(&x) { inner(self.at(self.right, self.down)) } else { border(&self, x) };
            self.right += self.step[0];
            self.down += self.step[1];
        }
    }

    /// Which of `count` places from here on have a pixel right of and below them in the picture.
    fn inside(&self, count: usize) -> Range<usize> {
        let along = |start: i64, step: i64, last: i64| match step {
            0 if (0..last).contains(&start) => 0..count as i64,
            0 => 0..0,
            1.. => divided_up(-start, step)..divided_up(last - start, step),
            _ => divided_up(start - last + 1, -step)..divided_up(start + 1, -step),
        };
        let (x, y) = (along(self.right, self.step[0], self.last[0]), along(self.down, self.step[1], self.last[1]));
        let bound = |value: i64| value.clamp(0, count as i64) as usize;
        bound(x.start.max(y.start))..bound(x.end.min(y.end))
    }

    /// The four pixels around it; at the border, twice the same.
    pub(super) fn corners(&self) -> Corners {
        let right = self.right.clamp(0, self.last[0]);
        let down = self.down.clamp(0, self.last[1]);
        let next = usize::from(right < self.last[0]);
        let below = if down < self.last[1] { self.width } else { 0 };
        Corners { next, below, ..self.at(right, down) }
    }

    fn at(&self, right: i64, down: i64) -> Corners {
        let first = (down >> FRACTION) as usize * self.width + (right >> FRACTION) as usize;
        let part = |value: i64| (value as u64 >> (FRACTION - SIDE.trailing_zeros())) & (SIDE - 1);
        Corners { first, next: 1, below: self.width, u: part(right), v: part(down) }
    }
}

/// The quotient, rounded up; `by` is above zero.
fn divided_up(value: i64, by: i64) -> i64 {
    value.div_euclid(by) + i64::from(value.rem_euclid(by) != 0)
}

/// Four pixels, and how far between them, in steps of [`SIDE`].
pub(super) struct Corners {
    pub(super) first: usize,
    pub(super) next: usize,
    pub(super) below: usize,
    pub(super) u: u64,
    pub(super) v: u64,
}
