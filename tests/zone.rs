//! Zones by hand, and against models that know nothing of runs: a grid cut as fine as its borders need, and polygons
//! clipped by mask pixels.

use fcam::mask::{Mask, Run};
use fcam::preprocess::Roi;
use fcam::zone::{Polygon, Zones};
use proptest::prelude::*;

/// A map drawn with `#`.
fn runs(pixels: &[Vec<bool>]) -> Vec<Run> {
    let mut runs = vec![];
    for (row, line) in pixels.iter().enumerate() {
        let mut start = 0;
        for span in line.chunk_by(|a, b| a == b) {
            let end = start + span.len();
            if span[0] {
                runs.push(Run { row: row as u32, start: start as u32, end: end as u32 });
            }
            start = end;
        }
    }
    runs
}

fn mask<'a>(pixels: &[Vec<bool>], runs: &'a [Run], roi: Roi) -> Mask<'a> {
    let (width, height) = (pixels[0].len() as u32, pixels.len() as u32);
    Mask { width, height, roi, runs, regions: &[], region_count: 0 }
}

fn draw(rows: &[&str]) -> Vec<Vec<bool>> {
    rows.iter().map(|row| row.chars().map(|c| c == '#').collect()).collect()
}

fn zones(zones: &Zones, rows: &[&str], roi: Roi) -> u16 {
    let pixels = draw(rows);
    let runs = runs(&pixels);
    zones.run(&mask(&pixels, &runs, roi))
}

const ROI: Roi = Roi { x: 100, y: 50, width: 80, height: 40 };

#[test]
fn cells_are_counted_from_the_top_left() {
    let grid = Zones::Grid { columns: 4, rows: 2 };
    assert_eq!(zones(&grid, &["#.......", "........", "........", "........"], ROI), 0b0000_0001);
    assert_eq!(zones(&grid, &["........", "........", "........", ".......#"], ROI), 0b1000_0000);
    assert_eq!(zones(&grid, &["........", "...##...", "........", "........"], ROI), 0b0000_0110);
    assert_eq!(zones(&grid, &["........", "........", "........", "........"], ROI), 0);
    // Three cells of a map of eight: the borders run through pixels, which belong to both sides.
    let thirds = Zones::Grid { columns: 3, rows: 1 };
    assert_eq!(zones(&thirds, &["..#....."], ROI), 0b011);
    assert_eq!(zones(&thirds, &["...#...."], ROI), 0b010);
    assert_eq!(zones(&Zones::None, &["########"], ROI), 0);
    assert_eq!(zones(&Zones::Grid { columns: 4, rows: 4 }, &["########"; 8], ROI), 0xFFFF);
}

#[test]
fn polygons_are_in_frame_pixels() {
    // Map pixels are 10 x 10 here. A square between the second and the third pixel touches both; a speck inside one
    // pixel is not missed.
    let polygon = |corners: &[[u32; 2]]| corners.to_vec();
    let bridge = polygon(&[[115, 55], [125, 55], [125, 58], [115, 58]]);
    let speck = polygon(&[[171, 81], [172, 81], [172, 82]]);
    let outside = polygon(&[[0, 0], [99, 0], [99, 49], [0, 49]]);
    let around = polygon(&[[0, 0], [300, 0], [300, 300], [0, 300]]);
    let ring = polygon(&[
        [100, 50],
        [180, 50],
        [180, 90],
        [100, 90],
        [100, 50],
        [110, 60],
        [110, 80],
        [170, 80],
        [170, 60],
        [110, 60],
    ]);
    let all = Zones::Polygons(vec![bridge, speck, outside, around, ring]);
    assert_eq!(zones(&all, &[".#......", "........", "........", "........"], ROI), 0b11001);
    assert_eq!(zones(&all, &["...#....", "........", "........", "........"], ROI), 0b11000);
    assert_eq!(zones(&all, &["........", "........", "........", ".......#"], ROI), 0b11010);
    assert_eq!(
        zones(&all, &["........", "...#....", "........", "........"], ROI),
        0b01000,
        "the hole of a ring is not in it"
    );
    // A border that only touches a pixel's side is no overlap.
    let beside = Zones::Polygons(vec![polygon(&[[110, 50], [120, 50], [120, 60], [110, 60]])]);
    assert_eq!(zones(&beside, &["#.#.....", ".#......", "........", "........"], ROI), 0);
    assert_eq!(zones(&beside, &[".#......", "........", "........", "........"], ROI), 1);
}

/// Each cell by looking at every piece into which the borders of map and grid cut the picture.
fn fine_grid(pixels: &[Vec<bool>], columns: usize, rows: usize) -> u16 {
    let (width, height) = (pixels[0].len(), pixels.len());
    let mut zones = 0;
    for y in 0..height * rows {
        for x in 0..width * columns {
            if pixels[y / rows][x / columns] {
                zones |= 1 << (y / height * columns + x / width);
            }
        }
    }
    zones
}

/// The area of a polygon inside a rectangle, by Sutherland and Hodgman's clipping: right in size for polygons without
/// crossing edges.
fn clipped_area(polygon: &[[f64; 2]], [left, right, top, bottom]: [f64; 4]) -> f64 {
    let mut points = polygon.to_vec();
    let sides: [(usize, f64, f64); 4] = [(0, 1.0, left), (0, -1.0, -right), (1, 1.0, top), (1, -1.0, -bottom)];
    for (axis, sign, limit) in sides {
        let depth = |point: &[f64; 2]| sign * point[axis] - limit;
        let mut kept = vec![];
        for (at, b) in points.iter().enumerate() {
            let a = &points[(at + points.len() - 1) % points.len()];
            let (da, db) = (depth(a), depth(b));
            if (da < 0.0) != (db < 0.0) {
                let t = da / (da - db);
                kept.push([a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])]);
            }
            if db >= 0.0 {
                kept.push(*b);
            }
        }
        points = kept;
    }
    let next = |at: usize| points[(at + 1) % points.len()];
    points.iter().enumerate().map(|(at, a)| a[0] * next(at)[1] - next(at)[0] * a[1]).sum::<f64>().abs() / 2.0
}

fn clipped(polygon: &Polygon, pixels: &[Vec<bool>], roi: Roi) -> f64 {
    let (width, height) = (pixels[0].len() as f64, pixels.len() as f64);
    let (dx, dy) = (f64::from(roi.width) / width, f64::from(roi.height) / height);
    let corners: Vec<[f64; 2]> = polygon.iter().map(|[x, y]| [f64::from(*x), f64::from(*y)]).collect();
    let mut most: f64 = 0.0;
    for (row, line) in pixels.iter().enumerate() {
        for (column, _) in line.iter().enumerate().filter(|(_, set)| **set) {
            let (left, top) = (f64::from(roi.x) + dx * column as f64, f64::from(roi.y) + dy * row as f64);
            most = most.max(clipped_area(&corners, [left, left + dx, top, top + dy]));
        }
    }
    most
}

fn pixels() -> impl Strategy<Value = Vec<Vec<bool>>> {
    (1usize..12, 1usize..12).prop_flat_map(|(width, height)| {
        prop::collection::vec(prop::collection::vec(prop::bool::weighted(0.1), width), height)
    })
}

/// Corners at falling angles around a middle: a polygon whose edges do not cross.
fn star() -> impl Strategy<Value = Polygon> {
    let corner = (0.0..std::f64::consts::TAU, 1.0..60.0f64);
    (prop::collection::vec(corner, 3..9), 60.0..140.0f64, 60.0..140.0f64)
        .prop_map(|(mut corners, x, y)| {
            corners.sort_by(|a, b| a.0.total_cmp(&b.0));
            let place = |(angle, far): (f64, f64)| {
                [(x + far * angle.cos()).round() as u32, (y + far * angle.sin()).round() as u32]
            };
            corners.into_iter().map(place).collect()
        })
        .prop_filter("edges cross, or lie on each other", is_simple)
}

/// No two edges have a point in common but the corner between them. Rounding, or a middle that is outside, makes
/// others.
fn is_simple(polygon: &Polygon) -> bool {
    let corners: Vec<[i64; 2]> = polygon.iter().map(|corner| corner.map(i64::from)).collect();
    let turn = |a: [i64; 2], b: [i64; 2], c: [i64; 2]| {
        ((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])).signum()
    };
    let within = |a: [i64; 2], b: [i64; 2], c: [i64; 2]| {
        turn(a, b, c) == 0 && (0..2).all(|axis| (a[axis].min(b[axis])..=a[axis].max(b[axis])).contains(&c[axis]))
    };
    let edge = |at: usize| (corners[at], corners[(at + 1) % corners.len()]);
    let apart = |first: usize, second: usize| {
        let ((a, b), (c, d)) = (edge(first), edge(second));
        let cross = turn(a, b, c) * turn(a, b, d) < 0 && turn(c, d, a) * turn(c, d, b) < 0;
        // Neighbours have a corner in common: only the far ends may not lie on the other edge.
        let touch = match (b == c, d == a) {
            (true, _) => within(a, b, d) || within(c, d, a),
            (_, true) => within(a, b, c) || within(c, d, b),
            _ => within(a, b, c) || within(a, b, d) || within(c, d, a) || within(c, d, b),
        };
        !cross && !touch
    };
    (0..corners.len()).all(|second| (0..second).all(|first| apart(first, second)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn grids_like_every_piece_looked_at(pixels in pixels(), columns in 1u32..5, rows in 1u32..5) {
        let found = Zones::Grid { columns, rows }.run(&mask(&pixels, &runs(&pixels), ROI));
        prop_assert_eq!(found, fine_grid(&pixels, columns as usize, rows as usize));
    }

    #[test]
    fn polygons_like_clipped_ones(pixels in pixels(), polygon in star(), x in 0u32..120, y in 0u32..120, side in 1u32..90) {
        let roi = Roi { x, y, width: side, height: side / 2 + 1 };
        let found = Zones::Polygons(vec![polygon.clone()]).run(&mask(&pixels, &runs(&pixels), roi)) == 1;
        let area = clipped(&polygon, &pixels, roi);
        // Rounding of floats alone leaves less than this; what overlaps at all on these grids leaves more, or cannot be
        // told by floats.
        prop_assume!(!(1e-9..1e-5).contains(&area));
        prop_assert_eq!(found, area > 1e-6, "area {}", area);
    }
}
