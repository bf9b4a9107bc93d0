//! Several looks at one frame: one map without seams, one verdict, and small defects that one look cannot see.

use std::time::Duration;

use fcam::bundle::Bundle;
use fcam::camera::{Frame, Geometry, PixelFormat, picture};
use fcam::engine::{Prediction, Shape};
use fcam::mask::{Masker, Mosaic, Region, Thresholds};
use fcam::outcome::Outcome;
use fcam::pipeline::{Pipeline, PipelineOptions};
use fcam::preprocess::{Area, Layout, Preprocessor, Roi, Tile, Tiles, tile};
use fcam::resize::Resizer;
use fcam::signal::Signaller;
use fcam::verdict::Verdict;
use proptest::prelude::*;

use crate::common;

fn options(layout: Layout) -> PipelineOptions {
    let signaller = Signaller { delay: Duration::ZERO, hold: Duration::ZERO };
    PipelineOptions {
        engine: Default::default(),
        layout,
        score_threshold: None,
        locate: None,
        vote: None,
        drift: None,
        zones: Default::default(),
        signaller,
    }
}

fn grid(columns: u32, rows: u32, overlap: f32) -> Layout {
    Layout { areas: vec![], tiles: Tiles { columns, rows, overlap } }
}

fn gray(width: u32, height: u32) -> Geometry {
    Geometry::packed(width, height, PixelFormat::Gray8).unwrap()
}

/// A bright gray picture, which the tiny bundle passes, with dark rectangles in it.
fn bright(geometry: Geometry, dark: &[Roi]) -> Vec<u8> {
    let mut bytes = vec![200; geometry.frame_bytes()];
    for roi in dark {
        for y in roi.y..roi.y + roi.height {
            let start = y as usize * geometry.stride + roi.x as usize;
            bytes[start..start + roi.width as usize].fill(0);
        }
    }
    bytes
}

// The whole pipeline, with the tiny bundle: dark pictures are rejects, and dark pixels their regions.

#[test]
fn the_worst_tile_decides_and_its_defect_lies_in_the_frame() {
    let geometry = gray(256, 192);
    // Nearly the whole of the second tile of the second row, which alone is dark.
    let defect = Roi { x: 66, y: 66, width: 60, height: 60 };
    let bytes = bright(geometry, &[defect]);
    let frame = Frame::new(7, Duration::ZERO, geometry, &bytes).unwrap();
    let mut whole = Pipeline::new(&common::tiny_bundle(), geometry, options(Layout::default())).unwrap();
    assert_eq!(whole.inspect(&frame).outcome.verdict, Verdict::Pass, "one look at all of it sees a bright picture");

    let second = Roi { x: 64, y: 64, width: 64, height: 64 };
    let mut alone = Pipeline::new(&common::tiny_bundle(), geometry, options(second.into())).unwrap();
    let mut tiled = Pipeline::new(&common::tiny_bundle(), geometry, options(grid(4, 3, 0.0))).unwrap();
    assert_eq!((tiled.tiles(), tiled.map_size()), (12, (256, 192)));
    let (alone, tiled) = (alone.inspect(&frame), tiled.inspect(&frame));
    let told = |outcome: &Outcome| (outcome.part(), outcome.score, outcome.verdict.clone(), outcome.outputs.clone());
    assert_eq!(told(&tiled.outcome), told(&alone.outcome), "score, class and regions are those of the tile");
    let Verdict::Reject(findings) = &tiled.outcome.verdict else { panic!("a dark tile passes") };
    assert_eq!(findings.class, 1);
    assert_eq!(tiled.prediction.unwrap().scores, alone.prediction.unwrap().scores);
    assert_eq!(tiled.mask.roi, Roi::whole(&geometry));
    let region = findings.regions[0];
    for (found, drawn) in [(region.x, 66), (region.y, 66), (region.width, 60), (region.height, 60)] {
        assert!(found.abs_diff(drawn) <= 4, "{region:?}");
    }
    let pixels = alone.mask.runs.iter().map(|run| (run.row + 64, run.start + 64, run.end + 64));
    assert!(
        tiled.mask.runs.iter().map(|run| (run.row, run.start, run.end)).eq(pixels),
        "the mask is the tile's, moved"
    );
}

#[test]
fn a_defect_across_borders_is_one_region() {
    let geometry = gray(256, 256);
    for overlap in [0.0, 0.1, 0.37] {
        let bytes = bright(geometry, &[Roi { x: 8, y: 100, width: 240, height: 60 }]);
        let frame = Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap();
        let options = PipelineOptions { score_threshold: Some(0.0), ..options(grid(4, 4, overlap)) };
        let mut pipeline = Pipeline::new(&common::tiny_bundle(), geometry, options).unwrap();
        let inspection = pipeline.inspect(&frame);
        assert_eq!(inspection.mask.region_count, 1, "{overlap}");
        let region = inspection.mask.regions[0];
        assert!(region.x.abs_diff(8) <= 4 && region.width.abs_diff(240) <= 8, "{overlap} {region:?}");
        assert!(region.y.abs_diff(100) <= 4 && region.height.abs_diff(60) <= 8, "{overlap} {region:?}");
        assert!((region.area_px / (240.0 * 60.0) - 1.0).abs() < 0.1, "{overlap} {region:?}");
    }
}

#[test]
fn several_rois_are_one_part() {
    let geometry = gray(400, 300);
    let left = Area { tiles: Some(Tiles { columns: 1, rows: 2, overlap: 0.25 }), ..roi(20, 40, 64, 112).into() };
    let layout = Layout { areas: vec![left, roi(300, 200, 64, 64).into()], tiles: Tiles::default() };
    let between = roi(120, 60, 150, 150);
    let (first, second) = (roi(24, 44, 56, 56), roi(304, 204, 56, 56));
    let mut pipeline = Pipeline::new(&common::tiny_bundle(), geometry, options(layout)).unwrap();
    assert_eq!(pipeline.tiles(), 3);
    for (dark, regions) in [(vec![between], 0), (vec![between, second], 1), (vec![first, between, second], 2)] {
        let bytes = bright(geometry, &dark);
        let frame = Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap();
        let inspection = pipeline.inspect(&frame);
        assert_eq!(inspection.mask.roi, roi(20, 40, 344, 224), "the box around both");
        let Verdict::Reject(findings) = &inspection.outcome.verdict else {
            assert_eq!(regions, 0, "what lies outside of the rois is not looked at");
            continue;
        };
        assert_eq!(findings.regions.len(), regions);
        for region in &findings.regions {
            let near = |dark: &Roi| region.x.abs_diff(dark.x) <= 4 && region.y.abs_diff(dark.y) <= 4;
            assert!(near(&first) || near(&second), "{region:?}");
        }
    }
}

fn roi(x: u32, y: u32, width: u32, height: u32) -> Roi {
    Roi { x, y, width, height }
}

#[test]
fn layouts_that_do_not_fit_the_frame_are_refused() {
    let build = |layout| Pipeline::new(&common::tiny_bundle(), gray(128, 64), options(layout)).map(drop);
    for (layout, words) in [
        (Layout::from(roi(100, 0, 29, 64)), "roi 29x64 at (100, 0) does not lie inside the 128x64 frame"),
        (grid(8, 9, 0.0), "the rois have 72 tiles, 64 are possible"),
        (grid(0, 9, 0.0), "0 x 9 tiles are none, or more than 64"),
        (grid(2, 2, 0.7), "an overlap of 0.7 is outside 0..=0.5"),
        (grid(2, 10, 0.0), "2 x 10 tiles of 128x64 pixels have 64x7 each, at least 8x8 are needed"),
        (Layout { areas: vec![roi(0, 0, 64, 64).into(); 33], ..grid(2, 1, 0.0) }, "the rois have 66 tiles, 64 are"),
    ] {
        let error = build(layout).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
    let mut pipeline = Pipeline::new(&common::tiny_bundle(), gray(128, 64), options(grid(16, 4, 0.0))).unwrap();
    assert!(pipeline.refit(gray(112, 64)).is_err(), "seven pixels across");
    pipeline.refit(gray(256, 64)).unwrap();
}

#[test]
fn a_tile_is_the_same_as_a_roi_in_every_format() {
    let formats = [
        PixelFormat::Gray8,
        PixelFormat::Rgb8,
        PixelFormat::Yuyv,
        PixelFormat::Nv12,
        PixelFormat::I420,
        PixelFormat::Yuvj420,
        PixelFormat::Yuvj422,
        PixelFormat::Yuvj440,
        PixelFormat::Yuvj444,
    ];
    for format in formats {
        let geometry = Geometry::packed(150, 90, format).unwrap();
        let bytes: Vec<u8> = (0..geometry.frame_bytes()).map(|index| (index * 37 % 251) as u8).collect();
        let frame = Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap();
        let areas = vec![roi(3, 5, 91, 71).into(), roi(100, 1, 30, 80).into()];
        let plan = Layout { areas, ..grid(3, 2, 0.2) }.plan(&geometry).unwrap();
        let mut tiled = Preprocessor::tiled(geometry, &plan, 32, 48).unwrap();
        assert_eq!(tiled.tiles(), 12);
        for index in (0..12).rev() {
            let mut alone = Preprocessor::new(geometry, plan[index].roi, 32, 48).unwrap();
            assert_eq!(tiled.run_tile(&frame, index).values, alone.run(&frame).values, "{format:?} {index}");
        }
    }
}

// The map alone, from predictions made here.

const SHAPE: Shape = Shape { width: 64, height: 64, classes: 2 };
const THRESHOLDS: Thresholds = Thresholds { high: 0.5, low: 0.3, min_area_px: 1 };

/// Adds what a network would say whose map is `field` of the position in the frame, and of the position in the tile,
/// both in pixels.
fn add(mosaic: &mut Mosaic, index: usize, tile: &Tile, rejects: bool, field: impl Fn([f64; 2], [usize; 2]) -> f32) {
    let at = |start: u32, size: u32, index: usize| f64::from(start) + (index as f64 + 0.5) / 64.0 * f64::from(size);
    let Roi { x, y, width, height } = tile.roi;
    let pixel = |index: usize| {
        let (column, row) = (index % 64, index / 64);
        field([at(x, width, column), at(y, height, row)], [column, row])
    };
    let map: Vec<f32> = (0..64 * 64).map(pixel).collect();
    let scores = if rejects { [0.1, 0.9] } else { [0.9, 0.1] };
    let prediction = Prediction { logits: &scores, scores: &scores, map: &map, width: 64, height: 64 };
    mosaic.add(index, &prediction, scores[1], rejects);
}

fn merged(plan: &[Tile], field: impl Fn([f64; 2], [usize; 2]) -> f32) -> Mosaic {
    let mut mosaic = Mosaic::new(plan, SHAPE);
    mosaic.begin();
    for (index, tile) in plan.iter().enumerate() {
        add(&mut mosaic, index, tile, true, &field);
    }
    mosaic
}

/// A smooth field whose level lines cross every border.
fn waves([x, y]: [f64; 2]) -> f32 {
    (0.5 + 0.45 * (x / 17.0).sin() * (y / 23.0).cos()) as f32
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Where all tiles say the same of a place, so does the map, at seams as elsewhere: the field at most a pixel and a
    /// half away.
    #[test]
    fn seams_do_not_show(
        width in 64u32..500, height in 64u32..500, columns in 1u32..=5, rows in 1u32..=5, overlap in 0f32..=0.5, x in 0u32..50,
    ) {
        let areas = vec![roi(x, 3, width, height).into()];
        let layout = Layout { areas, tiles: Tiles { columns, rows, overlap } };
        let Ok(plan) = layout.plan(&gray(600, 600)) else { return Ok(()) };
        let mosaic = merged(&plan, |at, _| waves(at));
        let (across, down) = mosaic.size();
        let (cell_x, cell_y) = (f64::from(width) / across as f64, f64::from(height) / down as f64);
        prop_assert!(cell_x > 0.98 && cell_y > 0.98, "no finer than the frame: {cell_x} {cell_y}");
        // The steepest slope of the field, times a pixel and a half of the map each way.
        let most = 0.45 / 17.0 * 1.5 * cell_x.max(1.0) + 0.45 / 23.0 * 1.5 * cell_y.max(1.0);
        for (index, &found) in mosaic.prediction().map.iter().enumerate() {
            let (column, row) = (index % across, index / across);
            let at = [f64::from(x) + (column as f64 + 0.5) * cell_x, 3.0 + (row as f64 + 0.5) * cell_y];
            prop_assert!((f64::from(found) - f64::from(waves(at))).abs() <= most, "{at:?}: {found}, not {}", waves(at));
        }
    }

    /// One bright pixel of the network, wherever it lies: the tile that sees it best gives it to the map unchanged, at
    /// its place.
    #[test]
    fn nothing_vanishes(side in 40u32..700, count in 1u32..=6, overlap in 0f32..=0.5, at_x in 0f64..1.0, at_y in 0f64..1.0) {
        let layout = Layout { areas: vec![roi(0, 0, side, side).into()], ..grid(count, count, overlap) };
        let Ok(plan) = layout.plan(&gray(700, 700)) else { return Ok(()) };
        let (x, y) = (at_x * f64::from(side), at_y * f64::from(side));
        let size = f64::from(plan[0].roi.width) / 64.0;
        // Of each tile, the one pixel that holds the place.
        let mosaic = merged(&plan, |[px, py], _| {
            let inside = |from: f64, at: f64| at >= from - size / 2.0 && at < from + size / 2.0;
            if inside(px, x) && inside(py, y) { 0.9 } else { 0.0 }
        });
        let map = mosaic.prediction().map;
        let highest = (0..map.len()).max_by(|a, b| map[*a].total_cmp(&map[*b])).unwrap();
        prop_assert!(map[highest] > 0.8, "{}", map[highest]);
        let cell = f64::from(side) / mosaic.size().0 as f64;
        let [found_x, found_y] = [highest % mosaic.size().0, highest / mosaic.size().0].map(|at| (at as f64 + 0.5) * cell);
        let most = size / 2.0 + cell;
        prop_assert!((found_x - x).abs() <= most && (found_y - y).abs() <= most, "{x} {y} is found at {found_x} {found_y}");
    }
}

#[test]
fn what_a_network_sees_at_its_borders_fades_where_another_sees_better() {
    let plan = grid(3, 3, 0.2).plan(&gray(500, 500)).unwrap();
    // Each tile shows a false frame, two pixels wide, along its border.
    let mosaic = merged(&plan, |_, [column, row]| {
        let edge = |index: usize| !(2..62).contains(&index);
        if edge(column) || edge(row) { 0.9 } else { 0.0 }
    });
    let (width, height) = mosaic.size();
    let map = mosaic.prediction().map;
    let inner = (4..height - 4).flat_map(|row| &map[row * width + 4..(row + 1) * width - 4]);
    let highest = inner.copied().fold(0.0, f32::max);
    assert!(highest < THRESHOLDS.low, "{highest} would be foreground");
    assert_eq!(map[width / 2], 0.9, "at the ROI's own border nobody sees better");
}

#[test]
fn a_region_starts_in_a_tile_that_rejects_and_may_leave_it() {
    let plan = grid(2, 1, 0.0).plan(&gray(128, 64)).unwrap();
    let within =
        |[x, y]: [f64; 2], [left, top, right, bottom]: [f64; 4]| x > left && x < right && y > top && y < bottom;
    // One across the border, one in each tile.
    let boxes = [[50.0, 10.0, 80.0, 20.0], [5.0, 40.0, 15.0, 50.0], [110.0, 40.0, 120.0, 50.0]];
    let mut masker = Masker::new(THRESHOLDS, tile::around(&plan), 128, 64);
    let mut regions = |rejecting: [bool; 2]| {
        let mut mosaic = Mosaic::new(&plan, SHAPE);
        mosaic.begin();
        for (index, tile) in plan.iter().enumerate() {
            let field = |at, _| if boxes.iter().any(|area| within(at, *area)) { 0.9 } else { 0.0 };
            add(&mut mosaic, index, tile, rejecting[index], field);
        }
        let mask = masker.run_among(&mosaic.prediction(), mosaic.rejecting());
        let mut found: Vec<[u32; 4]> = mask.regions.iter().map(|r| [r.x, r.y, r.x + r.width, r.y + r.height]).collect();
        found.sort_unstable();
        found
    };
    let [across, left, right] = [[50, 10, 80, 20], [5, 40, 15, 50], [110, 40, 120, 50]];
    assert_eq!(regions([true, false]), [left, across]);
    assert_eq!(regions([false, true]), [across, right]);
    assert_eq!(regions([true, true]), [left, across, right]);
    assert_eq!(regions([false, false]), [left, across, right], "below the score all is shown, to tune it");
}

#[test]
fn the_map_is_bounded_and_the_smallest_area_goes_with_it() {
    let thresholds = Thresholds { min_area_px: 12, ..THRESHOLDS };
    let size = |side: u32, count: u32| {
        let geometry = gray(side, side);
        let mosaic = Mosaic::new(&grid(count, count, 0.0).plan(&geometry).unwrap(), SHAPE);
        (mosaic.size(), mosaic.thresholds(thresholds).min_area_px)
    };
    assert_eq!(size(512, 8), ((512, 512), 12), "the network's own pixels");
    assert_eq!(size(1024, 8), ((512, 512), 12), "which may be larger than the frame's");
    assert_eq!(size(256, 8), ((256, 256), 3), "but not smaller: each stands for four of the network's");
    let wide = Shape { width: 1024, height: 1024, classes: 2 };
    let plan = grid(8, 8, 0.0).plan(&gray(8192, 8192)).unwrap();
    let mosaic = Mosaic::new(&plan, wide);
    assert_eq!((mosaic.size(), mosaic.thresholds(thresholds).min_area_px), ((2048, 2048), 1), "at most 4 Mi");
}

// With the default bundle: what tiles are for.

/// A picture of a sample at half its size, 256 x 256: the network's own scale.
fn sample(bundle: &Bundle, name: &str) -> Vec<u8> {
    let (_, bytes) = bundle.samples().find(|(path, _)| path.contains(name)).unwrap();
    let picture = picture::decode(bytes, name).unwrap();
    let Geometry { width, height, stride, .. } = picture.geometry;
    let mut small = vec![];
    Resizer::new((width, height), (256, 256), false).run(&picture.bytes, stride, |row| small.extend_from_slice(row));
    small
}

/// Sixteen parts in a frame of 1024 x 1024, good ones in turn, but the one at `place` is `defective`.
fn tray(bundle: &Bundle, defective: &str, place: usize) -> Vec<u8> {
    let good = ["01-good", "02-good", "04-good", "07-good", "08-good", "11-good"].map(|name| sample(bundle, name));
    let bad = sample(bundle, defective);
    let mut bytes = vec![];
    for y in 0..1024 {
        for column in 0..4 {
            let part = y / 256 * 4 + column;
            let picture = if part == place { &bad } else { &good[part % good.len()] };
            bytes.extend_from_slice(&picture[y % 256 * 768..(y % 256 + 1) * 768]);
        }
    }
    bytes
}

#[test]
fn a_small_defect_is_found_with_tiles_and_not_without() {
    let bundle = Bundle::load(None, &[]).unwrap();
    let geometry = Geometry::packed(1024, 1024, PixelFormat::Rgb8).unwrap();
    let mut whole = Pipeline::new(&bundle, geometry, options(Layout::default())).unwrap();
    let mut tiled = Pipeline::new(&bundle, geometry, options(grid(4, 4, 0.0))).unwrap();
    assert_eq!(tiled.map_size(), (1024, 1024));
    let good = tray(&bundle, "01-good", 0);
    let frame = Frame::new(0, Duration::ZERO, geometry, &good).unwrap();
    let unable = whole.inspect(&frame).outcome.verdict.word();
    assert_eq!(tiled.inspect(&frame).outcome.verdict, Verdict::Pass);

    for (defective, place) in [("09-scratch", 10), ("06-crack", 5), ("05-particle", 9)] {
        let bytes = tray(&bundle, defective, place);
        let frame = Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap();
        let word = whole.inspect(&frame).outcome.verdict.word();
        assert_eq!(
            word, unable,
            "at a quarter of its size the network says the same of {defective} as of the good tray"
        );
        let inspection = tiled.inspect(&frame);
        let Verdict::Reject(findings) = &inspection.outcome.verdict else { panic!("{defective} passes") };
        let (left, top) = (place as u32 % 4 * 256, place as u32 / 4 * 256);
        let part = Layout::from(roi(left, top, 256, 256));
        let mut alone = Pipeline::new(&bundle, geometry, options(part)).unwrap();
        let Verdict::Reject(single) = alone.inspect(&frame).outcome.verdict else { panic!("{defective} passes alone") };
        assert_eq!(
            (single.class, single.score),
            (findings.class, findings.score),
            "as if it were alone in the picture"
        );
        let place = |region: &Region| [region.x, region.y, region.width, region.height];
        assert!(single.regions.iter().map(place).eq(findings.regions.iter().map(place)));
        assert!(!findings.regions.is_empty());
        for region in &findings.regions {
            let inside = region.x >= left && region.y >= top;
            let ends = region.x + region.width <= left + 256 && region.y + region.height <= top + 256;
            assert!(inside && ends, "{defective} is not at {region:?}");
        }
    }
}
