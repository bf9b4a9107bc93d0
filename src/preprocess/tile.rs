//! In: the ROIs of a station and how they are cut. Out: the tiles that the network looks at one by one, in frame
//! pixels.
//!
//! A network sees its input size and no more: in a large ROI a small defect shrinks away. Tiles near the network's own
//! size keep it. Neighbours overlap, so that a defect smaller than the overlap lies in one of them as a whole. All
//! tiles of a ROI have one size, to the pixel, and together they cover it. Refuses what has too many tiles, or too
//! small ones.

use serde::{Deserialize, Serialize};

use super::{Error, Roi};
use crate::camera::Geometry;

/// Tiles of a frame at most, over all ROIs: each costs one run of the network.
pub const MAX_TILES: usize = 64;

/// Pixels that a side of a tile has at least, where a ROI is cut.
pub const MIN_SIDE: u32 = 8;

/// The largest part of a tile that a neighbour may share.
pub const MAX_OVERLAP: f32 = 0.5;

/// How a ROI is cut.
///
/// ```
/// use fcam::preprocess::Tiles;
///
/// let tiles = Tiles { columns: 3, rows: 2, ..Tiles::default() };
/// assert_eq!((tiles.count(), tiles.problem(1280, 720)), (6, None));
/// let halves = Tiles { overlap: 0.6, ..tiles };
/// assert_eq!(halves.problem(1280, 720).as_deref(), Some("an overlap of 0.6 is outside 0..=0.5"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiles {
    /// Tiles across, at least 1.
    pub columns: u32,
    /// Tiles down, at least 1.
    pub rows: u32,
    /// The part of a tile's width and height that it shares with each neighbour, 0..=[`MAX_OVERLAP`].
    #[serde(default = "Tiles::overlap")]
    pub overlap: f32,
}

impl Default for Tiles {
    /// One tile: the ROI as it is.
    fn default() -> Self {
        Self { columns: 1, rows: 1, overlap: Self::overlap() }
    }
}

impl Tiles {
    fn overlap() -> f32 {
        0.1
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        (self.columns as usize).saturating_mul(self.rows as usize)
    }

    /// What is wrong with cutting `width` x `height` pixels like this, if anything is.
    pub fn problem(&self, width: u32, height: u32) -> Option<String> {
        let Self { columns, rows, overlap } = *self;
        if columns == 0 || rows == 0 || self.count() > MAX_TILES {
            return Some(format!("{columns} x {rows} tiles are none, or more than {MAX_TILES}"));
        }
        // Written so that what is not a number is refused.
        if !(0.0..=MAX_OVERLAP).contains(&overlap) {
            return Some(format!("an overlap of {overlap} is outside 0..={MAX_OVERLAP}"));
        }
        let (across, down) = (side(width, columns, overlap), side(height, rows, overlap));
        let small = self.count() > 1 && (across < MIN_SIDE || down < MIN_SIDE);
        small.then(|| {
            format!("{columns} x {rows} tiles of {width}x{height} pixels have {across}x{down} each, at least {MIN_SIDE}x{MIN_SIDE} are needed")
        })
    }
}

/// A rectangle of the frame and how it is cut, as it stands in the station file.
///
/// ```
/// use fcam::preprocess::{Area, Roi};
///
/// let area: Area = toml::from_str("x = 8\ny = 0\nwidth = 64\nheight = 48\ntiles = { columns = 2, rows = 1 }")?;
/// assert_eq!(area.roi(), Roi { x: 8, y: 0, width: 64, height: 48 });
/// assert_eq!(area.tiles.map(|tiles| tiles.overlap), Some(0.1)); // unless it says so
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Pixels across, at least 1.
    pub width: u32,
    /// Pixels down, at least 1.
    pub height: u32,
    /// How it is cut; as all are, if it does not say so.
    #[serde(default)]
    pub tiles: Option<Tiles>,
}

impl Area {
    /// The rectangle.
    pub fn roi(&self) -> Roi {
        Roi { x: self.x, y: self.y, width: self.width, height: self.height }
    }
}

impl From<Roi> for Area {
    fn from(Roi { x, y, width, height }: Roi) -> Self {
        Self { x, y, width, height, tiles: None }
    }
}

/// What is looked at in a frame.
///
/// ```
/// use fcam::camera::{Geometry, PixelFormat};
/// use fcam::preprocess::{Layout, Roi, Tiles};
///
/// let geometry = Geometry::packed(190, 100, PixelFormat::Gray8)?;
/// let halves = Layout { areas: vec![], tiles: Tiles { columns: 2, rows: 1, overlap: 0.1 } };
/// let rois: Vec<Roi> = halves.plan(&geometry)?.iter().map(|tile| tile.roi).collect();
/// assert_eq!(rois, [Roi { x: 0, y: 0, width: 100, height: 100 }, Roi { x: 90, y: 0, width: 100, height: 100 }]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layout {
    /// The inspected rectangles; the whole frame if there are none.
    pub areas: Vec<Area>,
    /// How those are cut that do not say so themselves.
    pub tiles: Tiles,
}

impl From<Roi> for Layout {
    fn from(roi: Roi) -> Self {
        Self { areas: vec![roi.into()], tiles: Tiles::default() }
    }
}

impl Layout {
    /// The ROIs in a frame of this geometry, with how each is cut.
    pub fn rois(&self, geometry: &Geometry) -> Vec<(Roi, Tiles)> {
        if self.areas.is_empty() {
            return vec![(Roi::whole(geometry), self.tiles)];
        }
        self.areas.iter().map(|area| (area.roi(), area.tiles.unwrap_or(self.tiles))).collect()
    }

    /// How many tiles all ROIs have.
    pub fn count(&self) -> usize {
        let each = self.areas.iter().map(|area| area.tiles.unwrap_or(self.tiles).count());
        if self.areas.is_empty() { self.tiles.count() } else { each.fold(0, usize::saturating_add) }
    }

    /// The tiles of all ROIs, at least one, in the order of the file, each ROI row by row.
    pub fn plan(&self, geometry: &Geometry) -> Result<Vec<Tile>, Error> {
        let rois = self.rois(geometry);
        let count = rois.iter().fold(0, |sum: usize, (_, tiles)| sum.saturating_add(tiles.count()));
        if count > MAX_TILES {
            return Err(Error::TooMany { count });
        }
        let mut plan = Vec::with_capacity(count);
        for (roi, tiles) in rois {
            if !roi.fits(geometry) {
                return Err(Error::Roi { roi, geometry: *geometry });
            }
            if let Some(problem) = tiles.problem(roi.width, roi.height) {
                return Err(Error::Tiles { problem });
            }
            plan.extend(cut(roi, tiles));
        }
        Ok(plan)
    }

    /// A frame size that holds all of it: width, then height.
    pub fn extent(&self) -> (u32, u32) {
        let least = if self.areas.is_empty() { self.tiles } else { Tiles::default() };
        let start = (least.columns.saturating_mul(MIN_SIDE), least.rows.saturating_mul(MIN_SIDE));
        self.areas.iter().fold(start, |(width, height), area| {
            (width.max(area.x.saturating_add(area.width)), height.max(area.y.saturating_add(area.height)))
        })
    }
}

/// What the network looks at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tile {
    /// Where it lies in the frame.
    pub roi: Roi,
    /// Left, top, right, bottom: half of what it shares with the neighbour on that side, frame pixels; 0 without a
    /// neighbour.
    pub shared: [f32; 4],
}

impl From<Roi> for Tile {
    fn from(roi: Roi) -> Self {
        Self { roi, shared: [0.0; 4] }
    }
}

/// The smallest rectangle around all tiles.
///
/// ```
/// use fcam::preprocess::{Roi, tile};
///
/// let [left, right] = [0, 90].map(|x| Roi { x, y: 20, width: 100, height: 50 }.into());
/// assert_eq!(tile::around(&[left, right]), Roi { x: 0, y: 20, width: 190, height: 50 });
/// ```
pub fn around(tiles: &[Tile]) -> Roi {
    let edges = |tile: &Tile| {
        let Roi { x, y, width, height } = tile.roi;
        [x, y, x.saturating_add(width), y.saturating_add(height)]
    };
    let join = |[l, t, r, b]: [u32; 4], [x, y, u, v]: [u32; 4]| [l.min(x), t.min(y), r.max(u), b.max(v)];
    let [left, top, right, bottom] = tiles.iter().map(edges).reduce(join).unwrap_or_default();
    Roi { x: left, y: top, width: right - left, height: bottom - top }
}

fn cut(roi: Roi, tiles: Tiles) -> impl Iterator<Item = Tile> {
    let columns = spans(roi.width, tiles.columns, tiles.overlap);
    let rows = spans(roi.height, tiles.rows, tiles.overlap);
    rows.into_iter().flat_map(move |down| {
        let tile = move |across: &Span| Tile {
            roi: Roi { x: roi.x + across.start, y: roi.y + down.start, width: across.length, height: down.length },
            shared: [across.before, down.before, across.after, down.after],
        };
        columns.iter().map(tile).collect::<Vec<_>>()
    })
}

/// One axis of a tile, from the ROI's corner.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    length: u32,
    before: f32,
    after: f32,
}

/// Equal lengths, evenly spread from one end to the other.
fn spans(length: u32, count: u32, overlap: f32) -> Vec<Span> {
    let side = side(length, count, overlap);
    let step = f64::from(length - side) / f64::from(count.saturating_sub(1).max(1));
    let start = |index: u32| (f64::from(index) * step).round() as u32;
    let half = |index: u32| (start(index) + side).saturating_sub(start(index + 1)) as f32 / 2.0;
    let span = |index: u32| Span {
        start: start(index),
        length: side,
        before: index.checked_sub(1).map_or(0.0, half),
        after: if index + 1 < count { half(index) } else { 0.0 },
    };
    (0..count).map(span).collect()
}

/// The length with which `count` of them, each sharing `overlap` with the next, cover `length`: s * count - s * overlap
/// * (count
/// - 1) = length.
fn side(length: u32, count: u32, overlap: f32) -> u32 {
    let tiles = f64::from(count) - f64::from(overlap) * f64::from(count.saturating_sub(1));
    // A hair less: an overlap of 0.1 is not exactly that in binary, and a whole number of pixels stays one.
    ((f64::from(length) / tiles - 1e-3).ceil() as u32).clamp(1, length.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::PixelFormat;
    use proptest::prelude::*;

    fn layout(columns: u32, rows: u32, overlap: f32) -> Layout {
        Layout { areas: vec![], tiles: Tiles { columns, rows, overlap } }
    }

    #[test]
    fn a_grid_by_hand() {
        let geometry = Geometry::packed(190, 100, PixelFormat::Gray8).unwrap();
        let plan = layout(2, 1, 0.1).plan(&geometry).unwrap();
        let left = Tile { roi: Roi { x: 0, y: 0, width: 100, height: 100 }, shared: [0.0, 0.0, 5.0, 0.0] };
        let right = Tile { roi: Roi { x: 90, y: 0, width: 100, height: 100 }, shared: [5.0, 0.0, 0.0, 0.0] };
        assert_eq!(plan, [left, right]);
        assert_eq!(around(&plan), Roi::whole(&geometry));
        assert_eq!(Layout::default().plan(&geometry).unwrap(), [Roi::whole(&geometry).into()]);
    }

    #[test]
    fn an_area_may_be_cut_its_own_way() {
        let geometry = Geometry::packed(400, 300, PixelFormat::Gray8).unwrap();
        let own = Some(Tiles { columns: 3, rows: 2, overlap: 0.0 });
        let areas = vec![
            Area { x: 10, y: 20, width: 90, height: 60, tiles: own },
            Roi { x: 200, y: 100, width: 50, height: 40 }.into(),
        ];
        let layout = Layout { areas, tiles: Tiles { columns: 2, rows: 1, overlap: 0.5 } };
        let plan = layout.plan(&geometry).unwrap();
        assert_eq!(plan.len(), 8);
        assert_eq!(plan[5].roi, Roi { x: 70, y: 50, width: 30, height: 30 });
        assert_eq!(plan[6].roi, Roi { x: 200, y: 100, width: 34, height: 40 });
        assert_eq!(around(&plan), Roi { x: 10, y: 20, width: 240, height: 120 });
        assert_eq!(layout.extent(), (250, 140));
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        let geometry = Geometry::packed(64, 64, PixelFormat::Gray8).unwrap();
        for (columns, rows, overlap) in
            [(0, 1, 0.1), (1, 0, 0.1), (9, 8, 0.1), (1, 1, 0.6), (2, 2, f32::NAN), (10, 1, 0.0), (u32::MAX, 3, 0.0)]
        {
            assert!(layout(columns, rows, overlap).plan(&geometry).is_err(), "{columns} {rows} {overlap}");
        }
        let outside = Layout::from(Roi { x: 60, y: 0, width: 5, height: 5 });
        assert!(matches!(outside.plan(&geometry), Err(Error::Roi { .. })));
        let many = Layout { areas: vec![Roi::whole(&geometry).into(); 65], tiles: Tiles::default() };
        assert!(matches!(many.plan(&geometry), Err(Error::TooMany { count: 65 })));
        let tiny = Layout::from(Roi { x: 3, y: 4, width: 1, height: 1 });
        assert_eq!(tiny.plan(&geometry).unwrap().len(), 1);
    }

    proptest! {
        /// Every pixel of the ROI lies in a tile, no tile sticks out, all have one size, and neighbours share what was
        /// asked, within two pixels.
        #[test]
        fn tiles_cover_the_roi(width in 1u32..3000, height in 1u32..3000, columns in 1u32..=8, rows in 1u32..=8, overlap in 0f32..=0.5) {
            let geometry = Geometry::packed(width + 7, height + 9, PixelFormat::Gray8).unwrap();
            let roi = Roi { x: 5, y: 8, width, height };
            let tiles = Tiles { columns, rows, overlap };
            let layout = Layout { tiles, ..Layout::from(roi) };
            prop_assert_eq!(layout.plan(&geometry).is_ok(), tiles.problem(width, height).is_none());
            let Ok(plan) = layout.plan(&geometry) else { return Ok(()) };
            prop_assert_eq!(plan.len(), tiles.count());
            prop_assert_eq!(around(&plan), roi);
            for (index, tile) in plan.iter().enumerate() {
                prop_assert_eq!((tile.roi.width, tile.roi.height), (plan[0].roi.width, plan[0].roi.height));
                if index % columns as usize == 0 {
                    continue;
                }
                let before = &plan[index - 1];
                let shared = i64::from(before.roi.x + before.roi.width) - i64::from(tile.roi.x);
                prop_assert!(shared >= 0);
                prop_assert_eq!((before.shared[2], tile.shared[0]), (shared as f32 / 2.0, shared as f32 / 2.0));
                let wanted = f64::from(overlap) * f64::from(tile.roi.width);
                prop_assert!(shared as f64 > wanted - 1.0 && (shared as f64) < wanted + f64::from(columns) + 1.0, "{shared} of {wanted}");
            }
        }
    }
}
