//! Regions of hand-drawn maps, and the run-based labelling against a flood fill over random ones.

use fcam::engine::Prediction;
use fcam::mask::{MAX_REGIONS, Masker, Thresholds};
use fcam::preprocess::Roi;
use proptest::prelude::*;

const THRESHOLDS: Thresholds = Thresholds { high: 0.6, low: 0.3, min_area_px: 2 };

/// A map drawn with characters: `#` 0.9, `+` 0.4, anything else 0.
fn draw(rows: &[&str]) -> (Vec<f32>, usize, usize) {
    let level = |c| match c {
        '#' => 0.9,
        '+' => 0.4,
        _ => 0.0,
    };
    (rows.iter().flat_map(|row| row.chars().map(level)).collect(), rows[0].len(), rows.len())
}

fn prediction(map: &[f32], width: usize, height: usize) -> Prediction<'_> {
    Prediction { logits: &[], scores: &[], map, width, height }
}

#[test]
fn hysteresis_corners_and_small_areas() {
    let (map, width, height) = draw(&[
        "..++#...", // a region of four with the diagonal below
        ".....+..", "........", "+++....#", // weak alone: no; strong but one pixel: too small
    ]);
    let roi = Roi { x: 100, y: 50, width: 16, height: 8 };
    let mut masker = Masker::new(THRESHOLDS, roi, width, height);
    let mask = masker.run(&prediction(&map, width, height));
    assert_eq!(mask.region_count, 1);
    let region = mask.regions[0];
    // Columns 2 to 5 and rows 0 to 1 of the map, two frame pixels each, from the ROI's corner.
    assert_eq!((region.x, region.y, region.width, region.height), (104, 50, 8, 4));
    assert_eq!(region.area_px, 16.0);
    // Mean of the four pixels' centres: x (2.5 + 3.5 + 4.5 + 5.5) / 4, y (0.5 * 3 + 1.5) / 4, doubled and moved.
    assert_eq!(region.centroid, [108.0, 51.5]);
    assert_eq!(region.peak, 0.9);
    assert_eq!(mask.area(), 4);
    // 2 background, 3 foreground, 8 background to the diagonal, 1 foreground, the rest.
    assert_eq!(mask.run_lengths().collect::<Vec<_>>(), [2, 3, 8, 1, 18]);
}

#[test]
fn a_u_shape_is_one_region() {
    let (map, width, height) = draw(&["#..#", "#..#", "####"]);
    let mut masker = Masker::new(THRESHOLDS, Roi { x: 0, y: 0, width: 4, height: 3 }, width, height);
    let mask = masker.run(&prediction(&map, width, height));
    assert_eq!((mask.region_count, mask.regions[0].area_px), (1, 8.0));
    // Runs that meet across a row's end are one run length.
    assert_eq!(mask.run_lengths().collect::<Vec<_>>(), [0, 1, 2, 2, 2, 5, 0]);
}

#[test]
fn the_largest_regions_are_reported() {
    let (width, height) = (64, 64);
    let mut map = vec![0.0; width * height];
    for n in 0..30 {
        let (x, y) = (n % 6 * 10, n / 6 * 10);
        for i in 0..2 + n % 8 {
            map[y * width + x + i] = 0.8;
        }
    }
    let mut masker = Masker::new(THRESHOLDS, Roi { x: 0, y: 0, width: 64, height: 64 }, width, height);
    let mask = masker.run(&prediction(&map, width, height));
    assert_eq!((mask.region_count, mask.regions.len()), (30, MAX_REGIONS));
    let areas: Vec<f32> = mask.regions.iter().map(|region| region.area_px).collect();
    assert!(areas.is_sorted_by(|a, b| a >= b), "{areas:?}");
    assert_eq!(areas[0], 9.0);
    assert_eq!(mask.runs.len(), 30, "regions that are not listed stay in the mask");
}

/// Regions by flood fill with 8 neighbours: (area, kept pixels).
fn flood(map: &[f32], width: usize, height: usize) -> (Vec<usize>, Vec<bool>) {
    let mut seen = vec![false; map.len()];
    let mut kept = vec![false; map.len()];
    let mut areas = vec![];
    for start in 0..map.len() {
        if seen[start] || map[start] < THRESHOLDS.low {
            continue;
        }
        let (mut stack, mut pixels, mut peak) = (vec![start], vec![], 0.0f32);
        seen[start] = true;
        while let Some(at) = stack.pop() {
            pixels.push(at);
            peak = peak.max(map[at]);
            let (x, y) = (at % width, at / width);
            for ny in y.saturating_sub(1)..(y + 2).min(height) {
                for nx in x.saturating_sub(1)..(x + 2).min(width) {
                    let next = ny * width + nx;
                    if !seen[next] && map[next] >= THRESHOLDS.low {
                        seen[next] = true;
                        stack.push(next);
                    }
                }
            }
        }
        if peak >= THRESHOLDS.high && pixels.len() >= THRESHOLDS.min_area_px as usize {
            areas.push(pixels.len());
            pixels.iter().for_each(|&at| kept[at] = true);
        }
    }
    areas.sort_unstable_by(|a, b| b.cmp(a));
    (areas, kept)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn runs_agree_with_a_flood_fill(width in 1usize..24, height in 1usize..24, density in 0.1f32..0.8, seed in any::<u64>()) {
        let mut state = seed | 1;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let map: Vec<f32> = (0..width * height).map(|_| if random() < density { random() } else { 0.0 }).collect();
        let roi = Roi { x: 0, y: 0, width: width as u32, height: height as u32 };
        let mut masker = Masker::new(THRESHOLDS, roi, width, height);
        let mask = masker.run(&prediction(&map, width, height));
        let (areas, kept) = flood(&map, width, height);
        prop_assert_eq!(mask.region_count, areas.len());
        let ours: Vec<usize> = mask.regions.iter().map(|region| region.area_px.round() as usize).collect();
        prop_assert_eq!(&ours[..], &areas[..areas.len().min(MAX_REGIONS)]);
        let mut pixels = vec![];
        for (index, length) in mask.run_lengths().enumerate() {
            pixels.extend(std::iter::repeat_n(index % 2 == 1, length as usize));
        }
        prop_assert_eq!(pixels, kept);
    }
}
