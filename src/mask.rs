//! In: the foreground map. Out: the binary mask on the ROI and its regions, in frame coordinates.
//!
//! Hysteresis: a region reaches the high threshold somewhere and extends over 8-connected pixels at or above the low
//! one. The work is done on runs (spans of neighbouring pixels in a row) and not on pixels: one pass over the map finds
//! them, a union-find joins those that touch, and everything after costs as much as there is foreground. Source of the
//! method: Rosenfeld and Pfaltz 1966; run-based: He, Chao, Suzuki, "A run-based two-scan labeling algorithm", IEEE TIP
//! 17(5), 2008.

use serde::{Deserialize, Serialize};

use crate::engine::Prediction;
use crate::preprocess::Roi;

mod mosaic;
mod stored;

pub use mosaic::{Cells, Mosaic};
pub use stored::Stored;

/// Regions reported at most; the largest win, all stay in the mask.
pub const MAX_REGIONS: usize = 16;

/// When a pixel is foreground and a region is one.
///
/// ```
/// use fcam::engine::Prediction;
/// use fcam::mask::{Masker, Thresholds};
/// use fcam::preprocess::Roi;
///
/// let roi = Roi { x: 0, y: 0, width: 6, height: 1 };
/// let mut masker = Masker::new(Thresholds { high: 0.8, low: 0.5, min_area_px: 1 }, roi, 6, 1);
/// let map = [0.6, 0.9, 0.6, 0.0, 0.6, 0.0];
/// let mask = masker.run(&Prediction { logits: &[], scores: &[], map: &map, width: 6, height: 1 });
/// assert_eq!(mask.area(), 3); // 0.6 counts beside 0.9, and is nothing alone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// A region reaches this probability somewhere, 0..1.
    pub high: f32,
    /// And extends over pixels of this one or more, 0..=high.
    pub low: f32,
    /// Smaller regions are dropped, in pixels of the map.
    pub min_area_px: u32,
}

/// A connected piece of the mask, in frame pixels.
///
/// ```
/// use fcam::engine::Prediction;
/// use fcam::mask::{Masker, Thresholds};
/// use fcam::preprocess::Roi;
///
/// let roi = Roi { x: 100, y: 0, width: 40, height: 20 }; // a pixel of the map is 10 x 10 of the frame
/// let mut masker = Masker::new(Thresholds { high: 0.8, low: 0.5, min_area_px: 1 }, roi, 4, 2);
/// let map = [0.0, 0.9, 0.7, 0.0, 0.0, 0.0, 0.0, 0.0];
/// let mask = masker.run(&Prediction { logits: &[], scores: &[], map: &map, width: 4, height: 2 });
/// let [region] = mask.regions else { return Err("one") };
/// assert_eq!((region.x, region.width, region.area_px), (110, 20, 200.0));
/// assert_eq!((region.centroid, region.peak), ([120.0, 5.0], 0.9));
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Region {
    /// Left edge of the box.
    pub x: u32,
    /// Top edge of the box.
    pub y: u32,
    /// Width of the box, at least 1.
    pub width: u32,
    /// Height of the box, at least 1.
    pub height: u32,
    /// Area in frame pixels (map pixels times the pixels each stands for).
    pub area_px: f32,
    /// Centre of mass: x, then y.
    pub centroid: [f32; 2],
    /// The highest foreground probability in it, 0..1; of several tiles, in those that reject.
    pub peak: f32,
}

/// The highest value of a run that counts: all do, unless some tiles are said to reject.
fn peak(run: Run, values: &[f32], rejecting: &[Cells]) -> f32 {
    let highest = |values: &[f32]| values.iter().copied().fold(0.0, f32::max);
    if rejecting.is_empty() {
        return highest(values);
    }
    let within = |cells: &Cells| {
        let (left, right) = (cells.left.max(run.start), cells.right.min(run.end));
        let here = left < right && (cells.top..cells.bottom).contains(&run.row);
        let span = here.then(|| values.get((left - run.start) as usize..(right - run.start) as usize)).flatten();
        highest(span.unwrap_or_default())
    };
    rejecting.iter().map(within).fold(0.0, f32::max)
}

/// A span of foreground in one row of the map.
///
/// ```
/// use fcam::mask::{Mask, Run};
/// use fcam::preprocess::Roi;
///
/// // Columns 2 and 3 of the first row of a map of 4 x 2.
/// let runs = [Run { row: 0, start: 2, end: 4 }];
/// let roi = Roi { x: 0, y: 0, width: 40, height: 20 };
/// let mask = Mask { width: 4, height: 2, roi, runs: &runs, regions: &[], region_count: 1 };
/// assert_eq!(mask.area(), 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Row of the map.
    pub row: u32,
    /// First column.
    pub start: u32,
    /// One past the last column.
    pub end: u32,
}

/// The binary map on the ROI, as runs in row-major order, and its regions, largest first.
///
/// ```
/// use fcam::mask::{Mask, Run};
/// use fcam::preprocess::Roi;
///
/// let roi = Roi { x: 0, y: 0, width: 40, height: 20 };
/// let runs = [Run { row: 0, start: 2, end: 4 }, Run { row: 1, start: 0, end: 1 }];
/// let mask = Mask { width: 4, height: 2, roi, runs: &runs, regions: &[], region_count: 1 };
/// // As one line of pixels, background first: what meets at a row's end is one length.
/// assert_eq!(mask.run_lengths().collect::<Vec<_>>(), [2, 3, 3]);
/// assert_eq!(mask.blank().run_lengths().collect::<Vec<_>>(), [8]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    /// Pixels across the map.
    pub width: u32,
    /// Pixels down the map.
    pub height: u32,
    /// Where the map lies in the frame.
    pub roi: Roi,
    /// Foreground, row by row, left to right.
    pub runs: &'a [Run],
    /// At most [`MAX_REGIONS`], largest area first.
    pub regions: &'a [Region],
    /// Regions there were, reported or not.
    pub region_count: usize,
}

impl Mask<'_> {
    /// An empty mask: what a part has that could not be judged.
    pub fn empty(roi: Roi) -> Mask<'static> {
        Mask { width: 0, height: 0, roi, runs: &[], regions: &[], region_count: 0 }
    }

    /// The same map without anything in it.
    pub fn blank(self) -> Self {
        Self { runs: &[], regions: &[], region_count: 0, ..self }
    }

    /// Foreground pixels of the map.
    pub fn area(&self) -> u32 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// Row-major run lengths, background first, as a PLC or a picture viewer expects them: they add up to the map's
    /// size.
    pub fn run_lengths(&self) -> impl Iterator<Item = u32> + '_ {
        let total = self.width * self.height;
        let bounds = self.joined().flat_map(|(start, end)| [start, end]).chain([total]);
        let mut before = 0;
        bounds.map(move |bound| bound - std::mem::replace(&mut before, bound))
    }

    /// Spans over the whole map as one line, with runs that meet across a row's end joined.
    fn joined(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut runs =
            self.runs.iter().map(|run| (run.row * self.width + run.start, run.row * self.width + run.end)).peekable();
        std::iter::from_fn(move || {
            let (start, mut end) = runs.next()?;
            while let Some((_, next)) = runs.next_if(|&(next, _)| next == end) {
                end = next;
            }
            Some((start, end))
        })
    }
}

/// Makes masks of maps of one size on one ROI; owns the scratch.
///
/// ```
/// use fcam::engine::Prediction;
/// use fcam::mask::{Masker, Thresholds};
/// use fcam::preprocess::Roi;
///
/// let mut map = [0.0; 16];
/// map[5] = 0.9; // row 1, column 1
/// let roi = Roi { x: 100, y: 0, width: 40, height: 40 };
/// let mut masker = Masker::new(Thresholds { high: 0.8, low: 0.5, min_area_px: 1 }, roi, 4, 4);
/// let mask = masker.run(&Prediction { logits: &[], scores: &[], map: &map, width: 4, height: 4 });
/// assert_eq!(mask.run_lengths().collect::<Vec<_>>(), [5, 1, 10]);
/// let region = &mask.regions[0];
/// assert_eq!((region.x, region.y, region.width, region.height), (110, 10, 10, 10)); // frame pixels
/// ```
pub struct Masker {
    thresholds: Thresholds,
    roi: Roi,
    width: usize,
    height: usize,
    runs: Vec<Run>,
    /// Union-find parent of each run.
    parents: Vec<u32>,
    /// Statistics of each run, gathered into its root.
    pieces: Vec<Piece>,
    kept: Vec<Run>,
    regions: heapless::Vec<Region, MAX_REGIONS>,
}

/// Statistics of runs that belong together, in map pixels.
#[derive(Debug, Clone, Copy)]
struct Piece {
    left: u32,
    right: u32,
    top: u32,
    bottom: u32,
    area: u32,
    sum_x: f32,
    sum_y: f32,
    peak: f32,
}

impl Piece {
    fn of(run: Run, peak: f32) -> Self {
        let area = run.end - run.start;
        let sum_x = area as f32 * (run.start + run.end) as f32 / 2.0;
        let sum_y = area as f32 * (run.row as f32 + 0.5);
        Self { left: run.start, right: run.end, top: run.row, bottom: run.row + 1, area, sum_x, sum_y, peak }
    }

    fn join(&mut self, other: &Self) {
        self.left = self.left.min(other.left);
        self.right = self.right.max(other.right);
        self.top = self.top.min(other.top);
        self.bottom = self.bottom.max(other.bottom);
        self.area += other.area;
        self.sum_x += other.sum_x;
        self.sum_y += other.sum_y;
        self.peak = self.peak.max(other.peak);
    }
}

impl Masker {
    /// Allocates for the worst map there is: every other pixel foreground.
    pub fn new(thresholds: Thresholds, roi: Roi, width: usize, height: usize) -> Self {
        let most = width.div_ceil(2) * height;
        Self {
            thresholds,
            roi,
            width,
            height,
            runs: Vec::with_capacity(most),
            parents: Vec::with_capacity(most),
            pieces: Vec::with_capacity(most),
            kept: Vec::with_capacity(most),
            regions: heapless::Vec::new(),
        }
    }

    /// The mask of a prediction whose map has the size this was built for.
    pub fn run(&mut self, prediction: &Prediction) -> Mask<'_> {
        self.run_among(prediction, &[])
    }

    /// The same for a part of several tiles. Where some of them reject, a region must reach the high threshold in one
    /// of these: what the map shows on a tile that passes is no finding, but a finding may extend into it.
    pub fn run_among(&mut self, prediction: &Prediction, rejecting: &[Cells]) -> Mask<'_> {
        debug_assert_eq!((prediction.width, prediction.height), (self.width, self.height));
        self.find_runs(prediction.map, rejecting);
        self.join_runs();
        let region_count = self.keep_regions();
        Mask {
            width: self.width as u32,
            height: self.height as u32,
            roi: self.roi,
            runs: &self.kept,
            regions: &self.regions,
            region_count,
        }
    }

    fn find_runs(&mut self, map: &[f32], rejecting: &[Cells]) {
        self.runs.clear();
        self.parents.clear();
        self.pieces.clear();
        let low = self.thresholds.low;
        for (row, values) in map.chunks_exact(self.width.max(1)).enumerate() {
            // Most rows of most parts have no foreground; this test runs at memory speed.
            if values.iter().all(|&value| value < low) {
                continue;
            }
            let mut start = 0;
            for span in values.chunk_by(|&a, &b| (a >= low) == (b >= low)) {
                let end = start + span.len();
                if span.first().is_some_and(|&value| value >= low) {
                    let run = Run { row: row as u32, start: start as u32, end: end as u32 };
                    self.parents.push(self.runs.len() as u32);
                    self.runs.push(run);
                    self.pieces.push(Piece::of(run, peak(run, span, rejecting)));
                }
                start = end;
            }
        }
    }

    /// Joins runs of neighbouring rows that touch, corners included.
    fn join_runs(&mut self) {
        let mut above = 0;
        for here in 0..self.runs.len() {
            let Some(&run) = self.runs.get(here) else { return };
            // Runs are sorted, so those that end left of this one touch no later run of the row either.
            while let Some(&other) = self.runs.get(above)
                && (other.row + 1 < run.row || (other.row + 1 == run.row && other.end < run.start))
            {
                above += 1;
            }
            let mut candidate = above;
            while let Some(&other) = self.runs.get(candidate)
                && other.row + 1 == run.row
                && other.start <= run.end
            {
                self.join(candidate as u32, here as u32);
                candidate += 1;
            }
        }
    }

    fn root(&mut self, mut node: u32) -> u32 {
        while let Some(&parent) = self.parents.get(node as usize)
            && parent != node
        {
            let grandparent = self.parents.get(parent as usize).copied().unwrap_or(parent);
            if let Some(slot) = self.parents.get_mut(node as usize) {
                *slot = grandparent; // path halving
            }
            node = grandparent;
        }
        node
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        let (root, child) = (a.min(b), a.max(b));
        if root == child {
            return;
        }
        if let Some(slot) = self.parents.get_mut(child as usize) {
            *slot = root;
        }
        if let Some(&piece) = self.pieces.get(child as usize)
            && let Some(whole) = self.pieces.get_mut(root as usize)
        {
            whole.join(&piece);
        }
    }

    /// Keeps the regions that pass, the runs that belong to them, and the largest as a list; returns how many there
    /// are.
    fn keep_regions(&mut self) -> usize {
        self.kept.clear();
        self.regions.clear();
        let mut count = 0;
        for index in 0..self.runs.len() {
            let root = self.root(index as u32);
            let (Some(&run), Some(piece)) = (self.runs.get(index), self.pieces.get(root as usize).copied()) else {
                continue;
            };
            if piece.peak < self.thresholds.high || piece.area < self.thresholds.min_area_px {
                continue;
            }
            self.kept.push(run);
            if root as usize == index {
                count += 1;
                self.insert(piece);
            }
        }
        count
    }

    /// Inserts by area, largest first; the smallest falls off a full list.
    fn insert(&mut self, piece: Piece) {
        let region = self.to_frame(&piece);
        let at = self.regions.iter().position(|other| other.area_px < region.area_px).unwrap_or(self.regions.len());
        if self.regions.is_full() && at < MAX_REGIONS {
            self.regions.pop();
        }
        let _ = self.regions.insert(at, region); // fails only past the end of a full list: smaller than all in it
    }

    /// The one change of coordinates: map pixels to frame pixels.
    fn to_frame(&self, piece: &Piece) -> Region {
        let scale_x = self.roi.width as f32 / self.width as f32;
        let scale_y = self.roi.height as f32 / self.height as f32;
        let left = (piece.left as f32 * scale_x).floor() as u32;
        let top = (piece.top as f32 * scale_y).floor() as u32;
        let right = ((piece.right as f32 * scale_x).ceil() as u32).min(self.roi.width);
        let bottom = ((piece.bottom as f32 * scale_y).ceil() as u32).min(self.roi.height);
        let area = piece.area as f32;
        Region {
            x: self.roi.x + left,
            y: self.roi.y + top,
            width: right - left,
            height: bottom - top,
            area_px: area * scale_x * scale_y,
            centroid: [
                self.roi.x as f32 + piece.sum_x / area * scale_x,
                self.roi.y as f32 + piece.sum_y / area * scale_y,
            ],
            peak: piece.peak,
        }
    }
}
