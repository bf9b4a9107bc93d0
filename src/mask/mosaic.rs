//! In: the predictions of a part's tiles, one by one. Out: one prediction for the part: the worst tile's scores, and
//! one map over the box around all ROIs, background where nobody looked.
//!
//! Where tiles overlap, the map has the larger of two values, each faded to nothing from the middle of the overlap to
//! its tile's border. A network sees a defect badly at the border of its input, cut and without surroundings; the mean
//! of both tiles would halve what only one of them saw, and the plain maximum would end in a step at each border. Faded
//! so, the map has no step, and every pixel has at least what the tile says that sees the most around it.
//!
//! A pixel of the map is as large as one of the network's in the finest tile, but never smaller than the frame's, and
//! there are no more than [`MAX_CELLS`]. Where that makes it larger than a tile's own, it has the highest of the values
//! that it stands for: nothing vanishes.

use super::Thresholds;
use crate::engine::{Prediction, Shape};
use crate::preprocess::{Roi, Tile, tile};

/// Pixels of a map at most.
pub const MAX_CELLS: usize = 1 << 22;

/// Puts predictions of tiles together; owns the map.
///
/// ```
/// use fcam::engine::{Prediction, Shape};
/// use fcam::mask::Mosaic;
/// use fcam::preprocess::Roi;
///
/// let [left, right] = [0, 100].map(|x| Roi { x, y: 0, width: 100, height: 100 }.into());
/// let mut mosaic = Mosaic::new(&[left, right], Shape { width: 2, height: 2, classes: 2 });
/// mosaic.begin();
/// let tile = |map, scores| Prediction { logits: &[0.0, 0.0], scores, map, width: 2, height: 2 };
/// mosaic.add(0, &tile(&[0.0; 4], &[0.9, 0.1]), 0.1, false);
/// mosaic.add(1, &tile(&[0.8; 4], &[0.2, 0.8]), 0.8, true);
/// let part = mosaic.prediction();
/// assert_eq!((part.scores, part.width, part.height), (&[0.2, 0.8][..], 4, 2)); // those of the worst tile
/// assert_eq!(part.map, [0.0, 0.0, 0.8, 0.8, 0.0, 0.0, 0.8, 0.8]);
/// ```
#[derive(Debug)]
pub struct Mosaic {
    width: usize,
    height: usize,
    tiles: Vec<Place>,
    map: Vec<f32>,
    logits: Vec<f32>,
    scores: Vec<f32>,
    /// The worst tile's defect score so far; none before the first.
    worst: Option<f32>,
    rejecting: heapless::Vec<Cells, { tile::MAX_TILES }>,
    /// Map pixels for each of the finest tile's, as an area: at most 1.
    shrinkage: f64,
}

/// A rectangle of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cells {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// One past the last column.
    pub right: u32,
    /// One past the last row.
    pub bottom: u32,
}

/// Where a tile's prediction goes.
#[derive(Debug)]
struct Place {
    columns: Axis,
    rows: Axis,
}

/// Pixels of the map along one side of a tile, and what goes into each.
#[derive(Debug)]
struct Axis {
    start: usize,
    sources: Vec<Source>,
}

/// What goes into a pixel of the map: how many of the tile's pixels, and how much they weigh, 0..1.
#[derive(Debug, Clone, Copy)]
struct Source {
    first: usize,
    count: usize,
    weight: f32,
}

impl Mosaic {
    /// Plans the map for predictions of `shape`; `tiles` are not empty.
    pub fn new(tiles: &[Tile], shape: Shape) -> Self {
        let roi = tile::around(tiles);
        let finest = |side: fn(&Roi) -> u32, cells: usize| {
            tiles.iter().map(|tile| f64::from(side(&tile.roi)) / cells.max(1) as f64).fold(f64::INFINITY, f64::min)
        };
        let (across, down) = (finest(|roi| roi.width, shape.width), finest(|roi| roi.height, shape.height));
        let (width, height) = bounded(f64::from(roi.width) / across.max(1.0), f64::from(roi.height) / down.max(1.0));
        let cell = f64::from(roi.width) / width as f64 * f64::from(roi.height) / height as f64;
        let place = |tile: &Tile| {
            let [left, top, right, bottom] = tile.shared;
            let (x, y) = (tile.roi.x - roi.x, tile.roi.y - roi.y);
            Place {
                columns: Axis::new((roi.width, width), (x, tile.roi.width, shape.width), (left, right)),
                rows: Axis::new((roi.height, height), (y, tile.roi.height, shape.height), (top, bottom)),
            }
        };
        Self {
            width,
            height,
            tiles: tiles.iter().map(place).collect(),
            map: vec![0.0; width * height],
            logits: vec![0.0; shape.classes],
            scores: vec![0.0; shape.classes],
            worst: None,
            rejecting: heapless::Vec::new(),
            shrinkage: (across * down / cell).min(1.0),
        }
    }

    /// Pixels of the map, across and down.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Thresholds in the network's pixels, for this map's, which may be larger.
    pub fn thresholds(&self, thresholds: Thresholds) -> Thresholds {
        let area = f64::from(thresholds.min_area_px) * self.shrinkage;
        Thresholds { min_area_px: area.round() as u32, ..thresholds }
    }

    /// Forgets the part before.
    pub fn begin(&mut self) {
        self.map.fill(0.0);
        self.worst = None;
        self.rejecting.clear();
    }

    /// Takes the prediction of one tile, by its number, with its defect score and whether that rejects.
    pub fn add(&mut self, index: usize, prediction: &Prediction, score: f32, rejects: bool) {
        let Some(place) = self.tiles.get(index) else { return };
        place.merge(prediction, &mut self.map, self.width);
        if rejects {
            let _ = self.rejecting.push(place.cells()); // there is room for every tile
        }
        if self.worst.is_none_or(|worst| score > worst) {
            self.worst = Some(score);
            copy(prediction.logits, &mut self.logits);
            copy(prediction.scores, &mut self.scores);
        }
    }

    /// The part's prediction, of what was added.
    pub fn prediction(&self) -> Prediction<'_> {
        let Self { width, height, logits, scores, map, .. } = self;
        Prediction { logits, scores, map, width: *width, height: *height }
    }

    /// Where the tiles lie that reject.
    pub fn rejecting(&self) -> &[Cells] {
        &self.rejecting
    }
}

fn copy(from: &[f32], into: &mut [f32]) {
    into.iter_mut().zip(from).for_each(|(into, from)| *into = *from);
}

/// A map of about this size with at most [`MAX_CELLS`] pixels.
fn bounded(width: f64, height: f64) -> (usize, usize) {
    let scale = (width * height / MAX_CELLS as f64).sqrt();
    let side = |length: f64| (if scale > 1.0 { (length / scale).floor() } else { length.round() }).max(1.0) as usize;
    (side(width), side(height))
}

impl Place {
    fn cells(&self) -> Cells {
        let Self { columns, rows } = self;
        Cells {
            left: columns.start as u32,
            top: rows.start as u32,
            right: (columns.start + columns.sources.len()) as u32,
            bottom: (rows.start + rows.sources.len()) as u32,
        }
    }

    fn merge(&self, prediction: &Prediction, map: &mut [f32], width: usize) {
        let Self { columns, rows } = self;
        let targets = map.chunks_exact_mut(width.max(1)).skip(rows.start);
        for (target, row) in targets.zip(&rows.sources) {
            let target = target.get_mut(columns.start..).unwrap_or_default();
            let values = prediction.map.chunks_exact(prediction.width.max(1)).skip(row.first).take(row.count);
            for values in values {
                merge_row(values, row.weight, &columns.sources, target);
            }
        }
    }
}

fn merge_row(values: &[f32], weight: f32, sources: &[Source], target: &mut [f32]) {
    for (target, source) in target.iter_mut().zip(sources) {
        let values = values.get(source.first..source.first + source.count).unwrap_or_default();
        let highest = values.iter().copied().fold(0.0, f32::max);
        *target = target.max(highest * weight * source.weight);
    }
}

/// Half an overlap of fewer pixels than this is not faded: a place in its middle would lose more than a tenth to each
/// tile.
const NARROW: f64 = 5.0;

impl Axis {
    /// `length` frame pixels are `cells` of the map; a tile of `size` of them from `start` on is `side` pixels of the
    /// network. `shared` is what it shares with the neighbours before and after it, halved.
    fn new((length, cells): (u32, usize), (start, size, side): (u32, u32, usize), shared: (f32, f32)) -> Self {
        let (start, size, cell) = (f64::from(start), f64::from(size), f64::from(length) / cells as f64);
        let pixel = cell.max(size / side.max(1) as f64);
        // A hair inside, so that rounding takes no pixel that the tile only touches.
        let first = (start / cell + 1e-6).floor() as usize;
        let last = (((start + size) / cell - 1e-6).ceil() as usize).min(cells);
        let source = |index: usize| {
            let from = (index as f64 * cell - start).max(0.0);
            let to = ((index + 1) as f64 * cell - start).min(size);
            // Half a pixel more, since the tiles' pixels do not meet in the middle; and too narrow an overlap has no
            // room to fade in.
            let fade = |distance: f64, shared: f32| match f64::from(shared) {
                shared if shared < NARROW * pixel => 1.0,
                shared => (distance + pixel / 2.0) / shared,
            };
            let middle = (from + to) / 2.0;
            let weight = fade(middle, shared.0).min(fade(size - middle, shared.1)).clamp(0.0, 1.0) as f32;
            let (first, count) = sources(from / size * side as f64, to / size * side as f64, side);
            Source { first, count, weight }
        };
        Self { start: first, sources: (first..last.max(first)).map(source).collect() }
    }
}

/// The pixels whose centres lie between two positions; the one in the middle if there are none. Positions count pixels.
fn sources(from: f64, to: f64, side: usize) -> (usize, usize) {
    let after = |position: f64| ((position - 0.5).ceil().max(0.0) as usize).min(side);
    let (first, last) = (after(from), after(to));
    if last > first {
        return (first, last - first);
    }
    ((((from + to) / 2.0) as usize).min(side.saturating_sub(1)), 1)
}
