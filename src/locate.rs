//! In: the network's input, of a part that does not lie quite where the training's did. Out: where it lies against a
//! template, the same input moved to where the template lies, and a map moved back.
//!
//! A network that compares places with what good parts have there needs them in one place. A search over shift and
//! turn at an eighth of the input's size or so, by normalised correlation, then inverse-compositional Gauss-Newton
//! steps (Baker and Matthews, "Lucas-Kanade 20 years on", IJCV 2004), coarse to fine, with weights that fall for pixels
//! that do not fit (Cauchy's): a defect, or a hand over the part, must not move it. Both look at the template's edges
//! alone, one pixel of a few: that is where a shift shows. Everything is allocated when the locator is built.

#![expect(clippy::indexing_slicing, reason = "planes and points are made here, for one size")]

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::camera::Frame;
use crate::camera::picture::Picture;
use crate::preprocess::{Preprocessor, Roi, Tensor};

mod teach;
mod warp;

pub use teach::{Taught, teach};
use warp::{Affine, Corners, Place, SIDE, gathered, pair};

/// Share of the sides that a part may be shifted by at most.
pub const MAX_SHIFT: f32 = 0.25;
/// Degrees that a part may be turned by at most, either way.
pub const MAX_TURN: f32 = 45.0;

/// Channels of the network's input.
const CHANNELS: usize = 3;
/// Pixels of the longer side of the finest level at most: a quarter of a pixel there is half of one of the input.
const FINEST: usize = 320;
/// Levels, each half as large as the one before.
const LEVELS: usize = 3;
/// Pixels of the shorter side that a level needs.
const SHORTEST: usize = 12;
/// Radius of the mean that is taken away, in pixels of the finest level: wider changes of brightness are light.
const DETAIL: usize = 12;
/// Side of the cells of a level that have one point each at most.
const CELL: usize = 3;
/// Points that a level needs, and has at most.
const POINTS: std::ops::RangeInclusive<usize> = 24..=1500;
/// Points that the search looks at.
const SEARCHED: usize = 200;
/// Candidates of the search that are refined.
const CANDIDATES: usize = 8;
/// Steps of a level, coarsest last.
const STEPS: [usize; LEVELS] = [4, 6, 10];
/// Pixels of a level: a smaller step is the last one.
const STILL: f32 = 0.01;
/// Standard deviations of detail that a pixel may be off before it counts half.
const FITS: f32 = 0.7;

/// Where a part lies against the template.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pose {
    /// Shift in pixels of the network's input, from the template to the picture.
    pub right: f32,
    /// The same, downwards.
    pub down: f32,
    /// Radians about the middle, from the x axis to the y axis; degrees in JSON.
    #[serde(serialize_with = "degrees")]
    pub turn: f32,
    /// Correlation of both along the template's edges, -1 to 1.
    pub agreement: f32,
}

fn degrees<S: Serializer>(turn: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f32(turn.to_degrees())
}

/// How far from the template's place a part is looked for, and what counts as one.
///
/// ```
/// use fcam::locate::{MAX_SHIFT, MAX_TURN, Reach};
///
/// // A fixture's play: 6 pixels of 200, and 2 degrees either way.
/// let reach = Reach { shift: 0.03, turn: 2.0, agreement: 0.4 };
/// assert!(reach.shift <= MAX_SHIFT && reach.turn <= MAX_TURN);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reach {
    /// Share of the sides that it may be shifted by, 0..=[`MAX_SHIFT`].
    pub shift: f32,
    /// Degrees that it may be turned by, either way, 0..=[`MAX_TURN`].
    pub turn: f32,
    /// Agreement below which there is no part, 0..1.
    pub agreement: f32,
}

impl Pose {
    /// Where the template itself lies.
    pub const NONE: Self = Self { right: 0.0, down: 0.0, turn: 0.0, agreement: 0.0 };

    /// On a grid of 1/64 of a pixel: machines whose last digits differ move a picture alike.
    fn rounded(self) -> Self {
        let on = |value: f32, grid: f32| (value * grid).round() / grid;
        Self { right: on(self.right, 64.0), down: on(self.down, 64.0), turn: on(self.turn, 16384.0), ..self }
    }
}

/// Finds and undoes the poses of inputs of one size.
///
/// ```
/// use fcam::locate::{Locator, Reach};
///
/// let reach = Reach { shift: 0.05, turn: 5.0, agreement: 0.4 };
/// assert!(Locator::new(&[90; 64 * 64 * 3], 64, 64, reach).is_none()); // plain: nothing to hold on to
/// ```
pub struct Locator {
    width: usize,
    height: usize,
    least: f32,
    /// Finest first.
    levels: Vec<Level>,
    search: Search,
    scratch: Scratch,
    template: Vec<i8>,
    tensor: Vec<i8>,
    map: Vec<f32>,
}

/// The template at one size, and the picture.
struct Level {
    /// Pixels of the input that one of its pixels stands for, across and down.
    times: usize,
    steps: usize,
    plane: Plane,
    points: Vec<Point>,
    /// The picture's detail at the points.
    found: Vec<f32>,
}

/// A pixel of the template on an edge.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// From the middle, in pixels of the level.
    x: f32,
    y: f32,
    /// Its detail.
    known: f32,
    /// How that changes by a shift right, a shift down, and a turn.
    slope: [f32; 3],
}

/// Brightness of a picture at a level's size, and its detail: without slow changes, of standard deviation one.
struct Plane {
    width: usize,
    height: usize,
    /// Of the whole picture, in pixels of the level.
    middle: [f32; 2],
    radius: usize,
    gray: Vec<f32>,
    detail: Vec<f32>,
}

#[derive(Default)]
struct Scratch {
    columns: Vec<i16>,
    sums: Vec<f32>,
    rows: Vec<f32>,
}

/// The coarsest level with a border of zeros, and what is looked for in it.
struct Search {
    border: usize,
    stride: usize,
    padded: Vec<f32>,
    /// Of each turn: its angle and where each point lies then, from the middle.
    turns: Vec<(f32, Vec<isize>)>,
    known: Vec<f32>,
    reach: [isize; 2],
}

/// A part to look for.
#[derive(Debug, Clone)]
pub struct Template {
    /// A good part as the ROI shows it, of any size.
    pub picture: Picture,
    /// Where it is looked for.
    pub reach: Reach,
}

impl Template {
    /// What finds it in inputs of that size; the error says what is wrong with the picture.
    pub fn locator(&self, width: usize, height: usize) -> Result<Locator, String> {
        let Picture { geometry, bytes } = &self.picture;
        let whole = Roi::whole(geometry);
        let fitted = Preprocessor::new(*geometry, whole, width as u32, height as u32);
        let mut preprocessor = fitted.map_err(|error| error.to_string())?;
        let frame = Frame::new(0, Duration::ZERO, *geometry, bytes).map_err(|error| error.to_string())?;
        let found = Locator::new(preprocessor.run(&frame).values, width, height, self.reach);
        found.ok_or_else(|| "it is too plain or too small to be found again".into())
    }
}

impl Locator {
    /// `template` has `height * width * 3` values, as a [`Tensor`] has them; a reach beyond [`MAX_SHIFT`] and [`MAX_TURN`]
    /// is these. None if it is too small or too plain to be found again.
    pub fn new(template: &[i8], width: usize, height: usize, reach: Reach) -> Option<Self> {
        if template.is_empty() || template.len() != width * height * CHANNELS {
            return None;
        }
        let mut first = FINEST.min(width.max(height) / 2).max(1);
        first = width.max(height).div_ceil(first).next_power_of_two();
        let mut scratch = Scratch::default();
        let mut levels = Vec::new();
        for (index, steps) in STEPS.into_iter().enumerate() {
            let times = first << index;
            let mut plane = Plane::new(width, height, times, (DETAIL >> index).max(2));
            if plane.width.min(plane.height) < SHORTEST {
                break;
            }
            plane.shrink(template, width, times, &mut scratch);
            plane.sharpen(&mut scratch);
            let Some(points) = points(&plane) else { break };
            let found = vec![0.0; points.len()];
            levels.push(Level { times, steps, plane, points, found });
        }
        let search = Search::new(levels.last()?, reach);
        Some(Self {
            width,
            height,
            least: reach.agreement,
            levels,
            search,
            scratch,
            template: template.to_vec(),
            tensor: template.to_vec(),
            map: vec![0.0; width * height],
        })
    }

    /// Where the part lies in an input of the template's size.
    pub fn find(&mut self, input: &Tensor) -> Pose {
        debug_assert_eq!((input.width, input.height), (self.width, self.height));
        let Self { levels, search, scratch, .. } = self;
        if let Some((finest, rest)) = levels.split_first_mut() {
            finest.plane.shrink(input.values, input.width, finest.times, scratch);
            let mut finer = &finest.plane;
            for level in rest {
                level.plane.halve(finer);
                finer = &level.plane;
            }
        }
        levels.iter_mut().for_each(|level| level.plane.sharpen(scratch));
        let mut coarse_first = levels.iter_mut().rev();
        let Some(coarsest) = coarse_first.next() else { return Pose::NONE };
        let mut best = Pose { agreement: -1.0, ..Pose::NONE };
        for start in search.run(&coarsest.plane) {
            let pose = coarsest.refine(start);
            if pose.agreement > best.agreement {
                best = pose;
            }
        }
        let mut times = coarsest.times;
        for level in coarse_first {
            let ratio = times as f32 / level.times as f32;
            best = level.refine(Pose { right: best.right * ratio, down: best.down * ratio, ..best });
            times = level.times;
        }
        Pose { right: best.right * times as f32, down: best.down * times as f32, ..best }.rounded()
    }

    /// True if there is a part at that pose.
    pub fn is_there(&self, pose: Pose) -> bool {
        pose.agreement >= self.least
    }

    /// The input with its part where the template lies, bilinear. Where the camera sees nothing, the template is: nothing
    /// can be said of it, and nothing is.
    pub fn moved(&mut self, input: &Tensor, pose: Pose) -> Tensor<'_> {
        let (width, height) = (self.width, self.height);
        let place = Affine::new(pose, width, height);
        let color = |Corners { first, next, below, u, v }| {
            let mix = |first: usize| {
                let [left, right] = pair(input.values, first, next);
                left * (SIDE - u) + right * u
            };
            gathered(mix(first) * (SIDE - v) + mix(first + below) * v)
        };
        for (y, row) in self.tensor.chunks_exact_mut((width * CHANNELS).max(1)).enumerate() {
            let row = row.as_chunks_mut::<CHANNELS>().0;
            let known = self.template.as_chunks::<CHANNELS>().0.get(y * width..).unwrap_or_default();
            let border = |place: &Place, x: usize| if place.is_inside() { color(place.corners()) } else { known[x] };
            place.row(y).fill(row, color, border);
        }
        Tensor { width, height, values: &self.tensor }
    }

    /// A map of the moved input, `height * width` values, as the picture has it; zero where the template is not.
    pub fn back(&mut self, map: &[f32], pose: Pose) -> &[f32] {
        let (width, height) = (self.width, self.height);
        let place = Affine::new(pose, width, height).inverted();
        let value = |Corners { first, next, below, u, v }| {
            let (u, v) = (u as f32 / SIDE as f32, v as f32 / SIDE as f32);
            let mix = |first: usize| map[first] + u * (map[first + next] - map[first]);
            let (above, under) = (mix(first), mix(first + below));
            above + v * (under - above)
        };
        for (y, row) in self.map.chunks_exact_mut(width.max(1)).enumerate() {
            let border = |place: &Place, _| if place.is_inside() { value(place.corners()) } else { 0.0 };
            place.row(y).fill(row, value, border);
        }
        &self.map
    }
}

impl Level {
    /// A better pose than `pose`, both in pixels of this level, with its agreement.
    fn refine(&mut self, mut pose: Pose) -> Pose {
        let Self { plane, points, found, steps, .. } = self;
        let reach = plane.width.max(plane.height) as f32 / 2.0;
        for _ in 0..*steps {
            let gain = look(plane, points, found, pose);
            let Some([right, down, turn]) = step(points, found, gain) else { break };
            let (sin, cos) = pose.turn.sin_cos();
            pose.right -= cos * right - sin * down;
            pose.down -= sin * right + cos * down;
            pose.turn -= turn;
            if right.abs().max(down.abs()).max(turn.abs() * reach) < STILL {
                break;
            }
        }
        look(plane, points, found, pose);
        Pose { agreement: agreement(points, found), ..pose }
    }
}

/// The picture's detail where the points lie at that pose, and how much stronger it is than the template's.
fn look(plane: &Plane, points: &[Point], found: &mut [f32], pose: Pose) -> f32 {
    let (sin, cos) = pose.turn.sin_cos();
    let [x0, y0] = [plane.middle[0] + pose.right, plane.middle[1] + pose.down];
    let (mut both, mut own) = (0.0, 0.0);
    for (point, found) in points.iter().zip(found) {
        *found = plane.at(x0 + cos * point.x - sin * point.y, y0 + sin * point.x + cos * point.y);
        both += *found * point.known;
        own += point.known * point.known;
    }
    (both / own).clamp(0.3, 3.0)
}

/// The change of shift and turn that explains best what differs; none if nothing does.
fn step(points: &[Point], found: &[f32], gain: f32) -> Option<[f32; 3]> {
    let (mut sums, mut known) = ([0.0_f32; 3], [0.0_f32; 6]);
    for (point, found) in points.iter().zip(found) {
        let off = found / gain - point.known;
        let weight = 1.0 / (1.0 + off * off / (FITS * FITS));
        let [a, b, c] = point.slope;
        let [wa, wb, wc] = [a * weight, b * weight, c * weight];
        sums = [sums[0] + wa * off, sums[1] + wb * off, sums[2] + wc * off];
        known = [
            known[0] + wa * a,
            known[1] + wa * b,
            known[2] + wa * c,
            known[3] + wb * b,
            known[4] + wb * c,
            known[5] + wc * c,
        ];
    }
    solve(known, sums)
}

/// Of a symmetric matrix, its upper half row by row; none if it says nothing of one of the three numbers.
fn solve([a, b, c, d, e, f]: [f32; 6], [x, y, z]: [f32; 3]) -> Option<[f32; 3]> {
    let [p, q, r, s, t, u] = [d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b];
    let whole = a * p + b * q + c * r;
    let rows = [p * x + q * y + r * z, q * x + s * y + t * z, r * x + t * y + u * z];
    (whole > 1e-6 * a * d * f && whole > 0.0).then(|| rows.map(|value| value / whole))
}

fn agreement(points: &[Point], found: &[f32]) -> f32 {
    let (mut both, mut own, mut other) = (0.0, 0.0, 0.0);
    for (point, found) in points.iter().zip(found) {
        both += found * point.known;
        own += point.known * point.known;
        other += found * found;
    }
    if own * other > 0.0 { both / (own * other).sqrt() } else { 0.0 }
}

/// The steepest pixel of each cell, the steepest of those first; none if there are too few.
fn points(plane: &Plane) -> Option<Vec<Point>> {
    let Plane { width, height, middle, detail, .. } = plane;
    let mut found: Vec<(f32, Point)> = Vec::new();
    let rim = 2;
    for top in (rim..height - rim).step_by(CELL) {
        for left in (rim..width - rim).step_by(CELL) {
            let cell = (top..(top + CELL).min(height - rim))
                .flat_map(|y| (left..(left + CELL).min(width - rim)).map(move |x| (x, y)));
            let steepest = cell.map(|(x, y)| {
                let at = y * width + x;
                let right = (detail[at + 1] - detail[at - 1]) / 2.0;
                let down = (detail[at + width] - detail[at - width]) / 2.0;
                let (from_left, from_top) = (x as f32 - middle[0], y as f32 - middle[1]);
                let slope = [right, down, down * from_left - right * from_top];
                (right.hypot(down), Point { x: from_left, y: from_top, known: detail[at], slope })
            });
            found.extend(steepest.max_by(|a, b| a.0.total_cmp(&b.0)));
        }
    }
    found.retain(|(steep, _)| *steep > 0.05);
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.truncate(*POINTS.end());
    (found.len() >= *POINTS.start()).then(|| found.into_iter().map(|(_, point)| point).collect())
}

impl Plane {
    fn new(width: usize, height: usize, times: usize, radius: usize) -> Self {
        let middle = [width, height].map(|side| side as f32 / 2.0 / times as f32 - 0.5);
        let (width, height) = (width / times, height / times);
        let values = vec![0.0; width * height];
        Self { width, height, middle, radius, gray: values.clone(), detail: values }
    }

    /// Means of `times` x `times` pixels of three channels.
    fn shrink(&mut self, values: &[i8], width: usize, times: usize, scratch: &mut Scratch) {
        let columns = &mut scratch.columns;
        columns.resize(width * CHANNELS, 0);
        let share = 1.0 / (times * times * CHANNELS) as f32;
        let bands = values.chunks_exact((width * CHANNELS * times).max(1));
        for (out, band) in self.gray.chunks_exact_mut(self.width.max(1)).zip(bands) {
            columns.fill(0);
            for row in band.chunks_exact(width * CHANNELS) {
                columns.iter_mut().zip(row).for_each(|(sum, value)| *sum += i16::from(*value));
            }
            for (out, block) in out.iter_mut().zip(columns.chunks_exact(times * CHANNELS)) {
                *out = block.iter().map(|sum| i32::from(*sum)).sum::<i32>() as f32 * share;
            }
        }
    }

    /// Means of 2 x 2 pixels of a finer plane.
    fn halve(&mut self, finer: &Self) {
        let rows = finer.gray.chunks_exact((finer.width * 2).max(1));
        for (out, pair) in self.gray.chunks_exact_mut(self.width.max(1)).zip(rows) {
            let (upper, lower) = pair.split_at(finer.width);
            let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
            for (out, ([a, b], [c, d])) in out.iter_mut().zip(pairs) {
                *out = (a + b + c + d) / 4.0;
            }
        }
    }

    /// Takes the mean around each pixel away, and makes the standard deviation one.
    fn sharpen(&mut self, scratch: &mut Scratch) {
        let Self { width, height, radius, gray, detail, .. } = self;
        let (width, height, radius) = (*width, *height, *radius);
        let Scratch { sums, rows, .. } = scratch;
        rows.resize(width * height, 0.0);
        sums.resize(width + 1, 0.0);
        // Means along the rows, then of these along the columns, each by a sum that moves along.
        for (out, row) in rows.chunks_exact_mut(width).zip(gray.chunks_exact(width)) {
            let mut sum: f32 = row[..radius.min(width)].iter().sum();
            for x in 0..width {
                if x + radius < width {
                    sum += row[x + radius];
                }
                if x > radius {
                    sum -= row[x - radius - 1];
                }
                let count = (x + radius + 1).min(width) - x.saturating_sub(radius);
                out[x] = sum / count as f32;
            }
        }
        let sums = &mut sums[..width];
        sums.fill(0.0);
        for row in rows.chunks_exact(width).take(radius) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        let mut square = 0.0_f64;
        for y in 0..height {
            if y + radius < height {
                let row = &rows[(y + radius) * width..][..width];
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            if y > radius {
                let row = &rows[(y - radius - 1) * width..][..width];
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum -= value);
            }
            let share = 1.0 / ((y + radius + 1).min(height) - y.saturating_sub(radius)) as f32;
            let line = detail[y * width..][..width].iter_mut().zip(&gray[y * width..][..width]).zip(&*sums);
            line.for_each(|((out, value), sum)| *out = value - sum * share);
            square += f64::from(detail[y * width..][..width].iter().map(|value| value * value).sum::<f32>());
        }
        let deviation = (square / (width * height) as f64).sqrt() as f32;
        let share = 1.0 / (deviation + 1e-3);
        detail.iter_mut().for_each(|value| *value *= share);
    }

    /// Bilinear; beyond the border there is no detail.
    fn at(&self, x: f32, y: f32) -> f32 {
        let (right, down) = ((self.width - 1) as f32, (self.height - 1) as f32);
        if !(0.0..right).contains(&x) || !(0.0..down).contains(&y) {
            return 0.0;
        }
        let (left, top) = (x as usize, y as usize);
        let (u, v) = (x - left as f32, y - top as f32);
        let first = top * self.width + left;
        let upper = &self.detail[first..first + 2];
        let lower = &self.detail[first + self.width..first + self.width + 2];
        let above = upper[0] + u * (upper[1] - upper[0]);
        let below = lower[0] + u * (lower[1] - lower[0]);
        above + v * (below - above)
    }
}

impl Search {
    fn new(level: &Level, reach: Reach) -> Self {
        let Level { plane, points, .. } = level;
        let side = plane.width.max(plane.height) as f32;
        let most = reach.turn.clamp(0.0, MAX_TURN).to_radians();
        let shift = reach.shift.clamp(0.0, MAX_SHIFT);
        let reach = [plane.width, plane.height].map(|length| (length as f32 * shift).ceil());
        let swing = (most.sin() * side / 2.0).ceil() * 2.0;
        let border = reach[0].max(reach[1]) as usize + swing as usize + 2;
        let stride = plane.width + 2 * border;
        // From one turn to the next the ends of the part move by a pixel and a half.
        let each = 3.0 / side;
        let count = (most / each).ceil() as i32;
        let chosen: Vec<&Point> = points.iter().step_by(points.len().div_ceil(SEARCHED)).collect();
        let offsets = |turn: f32| {
            let (sin, cos) = turn.sin_cos();
            let place = |point: &&Point| {
                let x = plane.middle[0] + cos * point.x - sin * point.y;
                let y = plane.middle[1] + sin * point.x + cos * point.y;
                (y.round() as isize + border as isize) * stride as isize + x.round() as isize + border as isize
            };
            (turn, chosen.iter().map(place).collect())
        };
        Self {
            border,
            stride,
            padded: vec![0.0; stride * (plane.height + 2 * border)],
            turns: (-count..=count).map(|index| offsets(index as f32 * most / count.max(1) as f32)).collect(),
            known: chosen.iter().map(|point| point.known).collect(),
            reach: reach.map(|length| length as isize),
        }
    }

    /// The best shift of each turn, of these the best ones.
    fn run(&mut self, plane: &Plane) -> [Pose; CANDIDATES] {
        let Self { border, stride, padded, turns, known, reach } = self;
        let rows = padded.chunks_exact_mut(*stride).skip(*border);
        for (row, own) in rows.zip(plane.detail.chunks_exact(plane.width)) {
            row[*border..*border + plane.width].copy_from_slice(own);
        }
        let mut best = [Pose { agreement: -1.0, ..Pose::NONE }; CANDIDATES];
        for (turn, places) in &*turns {
            let mut own = Pose { agreement: -1.0, turn: *turn, ..Pose::NONE };
            for down in -reach[1]..=reach[1] {
                for right in -reach[0]..=reach[0] {
                    let shift = down * *stride as isize + right;
                    let (mut both, mut other) = (0.0_f32, 1e-6_f32);
                    for (place, known) in places.iter().zip(&*known) {
                        let found = padded[(place + shift) as usize];
                        both += found * known;
                        other += found * found;
                    }
                    let score = both / other.sqrt();
                    if score > own.agreement {
                        own = Pose { right: right as f32, down: down as f32, turn: *turn, agreement: score };
                    }
                }
            }
            if let Some(place) = best.iter().position(|other| other.agreement < own.agreement) {
                best[place..].rotate_right(1);
                best[place] = own;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTH: usize = 256;
    const HEIGHT: usize = 192;
    const WIDE: Reach = Reach { shift: 0.1, turn: 10.0, agreement: 0.4 };

    /// Rectangles at fixed places, moved, in a light and with noise of one's own; `kind` is another part.
    fn part(pose: Pose, light: f32, kind: u32) -> Vec<i8> {
        let at = Affine::new(pose, WIDTH, HEIGHT).inverted();
        let mut noise = (pose.right - pose.down).to_bits() | 1; // another one in each picture: the same would hold it where it is
        let mut pixel = |index: usize| {
            let [x, y] = at.rows.map(|[a, b, c]| a * (index % WIDTH) as f64 + b * (index / WIDTH) as f64 + c);
            let mut level = -40.0;
            for place in (kind..kind + 24).map(|number| number.wrapping_mul(2_654_435_761)) {
                // Edges lie between pixels, so that a turned part is no half pixel off.
                let (left, top) = (f64::from(place % 211) + 14.5, f64::from(place / 977 % 150) + 14.5);
                let (across, down) = (9.0 + f64::from(place % 24), 26.0 - f64::from(place / 7 % 12));
                if (left..left + across).contains(&x) && (top..top + down).contains(&y) {
                    level = (place >> 24) as f32 - 128.0;
                }
            }
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((level + 128.0) * light + (noise >> 28) as f32 - 136.0).clamp(-128.0, 127.0) as i8
        };
        (0..WIDTH * HEIGHT).flat_map(|index| [pixel(index); CHANNELS]).collect()
    }

    fn tensor(values: &[i8]) -> Tensor<'_> {
        Tensor { width: WIDTH, height: HEIGHT, values }
    }

    fn template() -> Vec<i8> {
        part(Pose::NONE, 1.0, 0)
    }

    fn locator() -> Locator {
        Locator::new(&template(), WIDTH, HEIGHT, WIDE).expect("it is not plain")
    }

    fn apart(a: &[i8], b: &[i8]) -> f32 {
        a.iter().zip(b).map(|(a, b)| f32::from(a.abs_diff(*b))).sum::<f32>() / a.len() as f32
    }

    #[test]
    fn a_part_is_found_moved_back_and_told_from_another() {
        let (mut locator, still) = (locator(), part(Pose::NONE, 1.0, 0));
        for (right, down, degrees, light) in
            [(0.0, 0.0, 0.0, 1.0), (6.0, -5.25, 0.0, 1.2), (-24.0, 17.0, 9.0, 0.75), (3.5, 0.0, -10.0, 0.9)]
        {
            let truth = Pose { right, down, turn: f32::to_radians(degrees), agreement: 1.0 };
            let picture = part(truth, light, 0);
            let found = locator.find(&tensor(&picture));
            assert!((found.right - right).abs() < 0.5 && (found.down - down).abs() < 0.5, "{found:?} for {truth:?}");
            assert!((found.turn.to_degrees() - degrees).abs() < 0.2, "{found:?} for {truth:?}");
            assert!(locator.is_there(found) && found.agreement > 0.8, "{found:?}");
            let here = apart(&picture, &still);
            let moved = part(Pose::NONE, light, 0);
            assert!(apart(locator.moved(&tensor(&picture), found).values, &moved) < 0.5 * here.max(10.0));
        }
        for kind in [100, 200, 300] {
            let found = locator.find(&tensor(&part(Pose::NONE, 1.0, kind)));
            assert!(!locator.is_there(found), "{found:?}");
        }
    }

    #[test]
    fn a_defect_and_a_hand_do_not_move_it() {
        let mut locator = locator();
        let truth = Pose { right: 7.0, down: 3.0, turn: 0.05, agreement: 1.0 };
        let mut picture = part(truth, 1.0, 0);
        for row in picture.chunks_exact_mut(WIDTH * CHANNELS).take(80) {
            row[..90 * CHANNELS].fill(90); // 15 % of the picture
        }
        let found = locator.find(&tensor(&picture));
        assert!((found.right - 7.0).abs() < 0.5 && (found.down - 3.0).abs() < 0.5, "{found:?}");
        assert!(locator.is_there(found));
    }

    #[test]
    fn what_cannot_be_found_again_has_no_locator() {
        assert!(Locator::new(&[], 0, 0, WIDE).is_none());
        assert!(Locator::new(&[3; 64 * 48 * CHANNELS], 64, 48, WIDE).is_none());
        assert!(Locator::new(&template(), HEIGHT, WIDTH - 1, WIDE).is_none(), "another size");
        assert!(Locator::new(&template()[..16 * 16 * CHANNELS], 16, 16, WIDE).is_none(), "too small");
        let bare = Reach { shift: 0.0, turn: 0.0, agreement: 0.5 };
        let mut fixed = Locator::new(&template(), WIDTH, HEIGHT, bare).unwrap();
        let found = fixed.find(&tensor(&part(Pose { right: 1.0, ..Pose::NONE }, 1.0, 0)));
        assert!((found.right - 1.0).abs() < 0.3, "{found:?}");
    }

    #[test]
    fn a_plain_picture_is_nowhere() {
        let mut locator = locator();
        for level in [-128, 0, 127] {
            let found = locator.find(&tensor(&[level; WIDTH * HEIGHT * CHANNELS]));
            assert!(found.agreement.is_finite() && !locator.is_there(found), "{found:?}");
        }
    }

    #[test]
    fn good_parts_teach_their_mean() {
        let poses = [(4.0, 2.0, 0.02), (6.0, 3.0, 0.01), (2.0, 1.0, 0.03), (4.0, 2.0, 0.02), (5.0, 0.0, 0.02)];
        let pictures: Vec<Vec<i8>> =
            poses.iter().map(|&(right, down, turn)| part(Pose { right, down, turn, agreement: 1.0 }, 1.0, 0)).collect();
        let inputs: Vec<Tensor> = pictures.iter().map(|values| tensor(values)).collect();
        let taught = teach(&inputs).unwrap();
        assert!(taught.median > 0.9 && taught.reach.turn == 3.0, "{} {:?}", taught.median, taught.reach);
        let mut locator = Locator::new(&taught.template, WIDTH, HEIGHT, WIDE).unwrap();
        let mean = locator.find(&tensor(&part(Pose { right: 4.2, down: 1.6, turn: 0.02, agreement: 1.0 }, 1.0, 0)));
        assert!(mean.right.abs() < 0.6 && mean.down.abs() < 0.6 && mean.turn.abs() < 0.01, "{mean:?}");
        let others: Vec<Vec<i8>> = (0..12).map(|kind| part(Pose::NONE, 1.0, kind * 7919)).collect();
        let inputs: Vec<Tensor> = others.iter().map(|values| tensor(values)).collect();
        let taught = teach(&inputs).expect("none is plain");
        assert!(taught.median < 0.5, "{}", taught.median);
        assert!(teach(&[]).is_none());
    }

    /// The same in floats, channel by channel.
    fn bilinear(values: &[i8], channel: usize, x: f64, y: f64) -> f64 {
        let (x, y) = (x.clamp(0.0, (WIDTH - 1) as f64), y.clamp(0.0, (HEIGHT - 1) as f64));
        let pixel =
            |x: usize, y: usize| f64::from(values[(y.min(HEIGHT - 1) * WIDTH + x.min(WIDTH - 1)) * CHANNELS + channel]);
        let (left, top) = (x as usize, y as usize);
        let (u, v) = (x - left as f64, y - top as f64);
        let row = |y: usize| pixel(left, y) * (1.0 - u) + pixel(left + 1, y) * u;
        row(top) * (1.0 - v) + row(top + 1) * v
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Within two grey levels of the floats where neighbours are far apart: places are rounded to 1/64 of a pixel.
        #[test]
        fn moving_is_bilinear(seed: u32, right in -30f32..30.0, down in -30f32..30.0, turn in -0.5f32..0.5) {
            let mut state = seed | 1;
            let values: Vec<i8> = (0..WIDTH * HEIGHT * CHANNELS).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8 as i8
            }).collect();
            let pose = Pose { right, down, turn, agreement: 1.0 };
            let (mut locator, known) = (locator(), template());
            let place = Affine::new(pose, WIDTH, HEIGHT);
            let moved = locator.moved(&tensor(&values), pose).values;
            for (index, pixel) in moved.chunks_exact(CHANNELS).enumerate().step_by(7) {
                let [x, y] = place.rows.map(|[a, b, c]| a * (index % WIDTH) as f64 + b * (index / WIDTH) as f64 + c);
                let outside = !(0.0..=(WIDTH - 1) as f64).contains(&x) || !(0.0..=(HEIGHT - 1) as f64).contains(&y);
                for (channel, value) in pixel.iter().enumerate() {
                    let known = f64::from(known[index * CHANNELS + channel]);
                    let wanted = if outside { known } else { bilinear(&values, channel, x, y) };
                    prop_assert!((f64::from(*value) - wanted).abs() < 8.5, "{value} for {wanted} at {index}");
                }
            }
        }

        /// A map goes to where its picture came from.
        #[test]
        fn a_map_goes_back(right in -20f32..20.0, down in -20f32..20.0, turn in -0.3f32..0.3) {
            let pose = Pose { right, down, turn, agreement: 1.0 };
            let mut locator = locator();
            let mut map = vec![0.0; WIDTH * HEIGHT];
            for y in 90..100 {
                map[y * WIDTH + 120..][..12].fill(1.0);
            }
            let [x, y] = Affine::new(pose, WIDTH, HEIGHT).rows.map(|[a, b, c]| a * 125.5 + b * 94.5 + c);
            let back = locator.back(&map, pose);
            let sum: f32 = back.iter().sum();
            let centre = |along: fn(usize) -> usize| {
                back.iter().enumerate().map(|(index, value)| along(index) as f64 * f64::from(*value)).sum::<f64>() / f64::from(sum)
            };
            prop_assert!((f64::from(sum) - 120.0).abs() < 3.0, "{sum}");
            prop_assert!((centre(|index| index % WIDTH) - x).abs() < 0.1);
            prop_assert!((centre(|index| index / WIDTH) - y).abs() < 0.1);
        }
    }
}
