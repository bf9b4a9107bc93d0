//! In: a mask. Out: one bit for each zone of the frame with any of it, so that a PLC with eight inputs learns where the
//! defect is.
//!
//! A zone is a cell of a grid over the inspected rectangle, or a polygon in frame pixels. A mask pixel is a rectangle
//! in the frame, as large as the map is coarse, and counts for every zone that it overlaps: a defect on a border sets
//! both sides, and a zone smaller than a mask pixel is not missed. All of it is integer arithmetic on the common grid
//! of frame and map pixels: there is no rounding, and nothing allocates.

use crate::mask::{Mask, Run};

/// Zones at most: bits of the result.
pub const MAX_ZONES: usize = 16;

/// A closed polygon in frame pixels, at least three corners; what lies inside an odd number of its windings is in it.
pub type Polygon = Vec<[u32; 2]>;

/// Where a station's zones are.
///
/// ```
/// use fcam::mask::{Mask, Run};
/// use fcam::preprocess::Roi;
/// use fcam::zone::Zones;
///
/// let roi = Roi { x: 0, y: 0, width: 80, height: 80 };
/// let runs = [Run { row: 6, start: 1, end: 2 }]; // of a map of 8 x 8
/// let mask = Mask { width: 8, height: 8, roi, runs: &runs, regions: &[], region_count: 1 };
/// let quarters = Zones::Grid { columns: 2, rows: 2 };
/// assert_eq!((quarters.count(), quarters.run(&mask)), (4, 0b0100)); // the lower left one
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Zones {
    /// There are none.
    #[default]
    None,
    /// Equal cells of the inspected rectangle, of several of the box around them, row by row from the top left; at most
    /// [`MAX_ZONES`], at least 1 each way.
    Grid {
        /// Cells across.
        columns: u32,
        /// Cells down.
        rows: u32,
    },
    /// At most [`MAX_ZONES`]; they may overlap.
    Polygons(Vec<Polygon>),
}

impl Zones {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Grid { columns, rows } => (columns * rows) as usize,
            Self::Polygons(polygons) => polygons.len(),
        }
    }

    /// Zones with any of the mask, the first in the lowest bit.
    pub fn run(&self, mask: &Mask) -> u16 {
        let each: &dyn Fn(&Run) -> u16 = match self {
            Self::None => return 0,
            Self::Grid { columns, rows } => &|run| cells(run, mask, *columns, *rows),
            Self::Polygons(polygons) => &|run| {
                let place = Rectangle::new(run, mask);
                let hit = |polygon: &Polygon| place.overlaps(polygon, mask);
                bits(polygons.iter().map(hit))
            },
        };
        mask.runs.iter().fold(0, |zones, run| zones | each(run))
    }
}

fn bits(hits: impl Iterator<Item = bool>) -> u16 {
    hits.take(MAX_ZONES).enumerate().fold(0, |bits, (zone, hit)| bits | u16::from(hit) << zone)
}

/// Cells that a run overlaps. Column c is [c/columns, (c+1)/columns) of the width, a run [start/width, end/width):
/// multiplied out.
fn cells(run: &Run, mask: &Mask, columns: u32, rows: u32) -> u16 {
    let overlaps = |start: u32, end: u32, side: u32, cell: u32, cells: u32| {
        let [start, end, side, cell, cells] = [start, end, side, cell, cells].map(u64::from);
        start * cells < (cell + 1) * side && end * cells > cell * side
    };
    let row = |row| overlaps(run.row, run.row + 1, mask.height, row, rows);
    let column = |column| overlaps(run.start, run.end, mask.width, column, columns);
    let all = (0..rows).flat_map(|down| (0..columns).map(move |across| (down, across)));
    bits(all.map(|(down, across)| row(down) && column(across)))
}

/// A run's place on the grid that frame and map have in common: frame pixels times map pixels, from the ROI's corner.
#[derive(Debug, Clone, Copy)]
struct Rectangle {
    left: i64,
    right: i64,
    top: i64,
    bottom: i64,
}

/// A point on that grid.
#[derive(Debug, Clone, Copy)]
struct Point {
    x: i64,
    y: i64,
}

impl Point {
    fn new([x, y]: [u32; 2], mask: &Mask) -> Self {
        let along = |at: u32, start: u32, side: u32| (i64::from(at) - i64::from(start)) * i64::from(side);
        Self { x: along(x, mask.roi.x, mask.width), y: along(y, mask.roi.y, mask.height) }
    }
}

impl Rectangle {
    fn new(run: &Run, mask: &Mask) -> Self {
        let [across, down] = [mask.roi.width, mask.roi.height].map(i64::from);
        Self {
            left: i64::from(run.start) * across,
            right: i64::from(run.end) * across,
            top: i64::from(run.row) * down,
            bottom: i64::from(run.row + 1) * down,
        }
    }

    /// An edge runs through the rectangle, or it lies inside as a whole.
    fn overlaps(&self, polygon: &[[u32; 2]], mask: &Mask) -> bool {
        let corners = polygon.iter().map(|corner| Point::new(*corner, mask));
        let edges = || corners.clone().zip(corners.clone().cycle().skip(1));
        edges().any(|(a, b)| self.is_crossed(a, b)) || edges().filter(|(a, b)| self.sees(*a, *b)).count() % 2 == 1
    }

    /// True if an edge has a point inside, borders excluded: no axis and no side of the edge separates the two.
    fn is_crossed(&self, a: Point, b: Point) -> bool {
        let Self { left, right, top, bottom } = *self;
        let beside = a.x.max(b.x) <= left || a.x.min(b.x) >= right || a.y.max(b.y) <= top || a.y.min(b.y) >= bottom;
        let side = |(x, y): (i64, i64)| (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x);
        let sides = [(left, top), (right, top), (left, bottom), (right, bottom)].map(side);
        !beside && sides.iter().any(|side| *side < 0) && sides.iter().any(|side| *side > 0)
    }

    /// True if an edge lies right of the rectangle's middle at its height: an odd number of them is around it. For one
    /// that no edge crosses any inner point would do; doubled, the middle is a whole number.
    fn sees(&self, a: Point, b: Point) -> bool {
        let (x, y) = (self.left + self.right, self.top + self.bottom);
        let [a, b] = [a, b].map(|point| Point { x: 2 * point.x, y: 2 * point.y });
        if (a.y > y) == (b.y > y) {
            return false;
        }
        let side = (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x);
        (side > 0) == (b.y > a.y)
    }
}
