//! In: the [inspect] section and what is known of the frames. Out: every problem in it, and the layout that it asks
//! for.

use super::raw::{Camera, Inspect, Kind, Mode};
use crate::camera::Geometry;
use crate::preprocess::tile::MAX_TILES;
use crate::preprocess::{Area, Layout};

impl Inspect {
    /// The inspected rectangles and their tiles.
    pub(super) fn layout(&self) -> Layout {
        let areas = self.roi.iter().chain(&self.rois).copied().collect();
        Layout { areas, tiles: self.tiles }
    }
}

pub(super) fn validate(inspect: &Inspect, camera: &Camera, mode: Mode, problems: &mut Vec<String>) {
    if let Some(score) = inspect.score
        && !(0.0..=1.0).contains(&score)
    {
        problems.push(format!("inspect.score = {score} is outside 0..=1"));
    }
    if inspect.roi.is_some() && !inspect.rois.is_empty() {
        problems.push("inspect.roi and inspect.rois are both set: put all rectangles into rois".into());
    }
    let known = camera.width.zip(camera.height).filter(|_| camera.kind != Kind::Folder);
    for (key, area) in named(inspect) {
        validate_area(&key, &area, known, problems);
    }
    validate_tiles(inspect, known, problems);
    if let Some(vote) = inspect.vote {
        problems.extend(vote.problem().map(|problem| format!("inspect.vote: {problem}")));
        if mode != Mode::FreeRun {
            problems.push(
                "inspect.vote needs trigger.mode = \"free-run\": where every frame is another part, none can vote on the next"
                    .into(),
            );
        }
    }
}

/// The areas with their names in the file; the first of `rois` is number 0, as in TOML's own error messages.
fn named(inspect: &Inspect) -> Vec<(String, Area)> {
    let roi = inspect.roi.iter().map(|area| ("inspect.roi".into(), *area));
    let rois = inspect.rois.iter().enumerate().map(|(index, area)| (format!("inspect.rois[{index}]"), *area));
    roi.chain(rois).collect()
}

fn validate_area(key: &str, area: &Area, known: Option<(u32, u32)>, problems: &mut Vec<String>) {
    let Area { x, y, width, height, .. } = *area;
    if width == 0 || height == 0 {
        problems.push(format!("{key} has no pixels: width and height are at least 1"));
    }
    let (across, down) = known.unwrap_or((Geometry::MAX_SIDE, Geometry::MAX_SIDE));
    let sticks_out = |start: u32, length: u32, end| u64::from(start) + u64::from(length) > u64::from(end);
    if sticks_out(x, width, across) || sticks_out(y, height, down) {
        problems.push(format!("{key} {width}x{height} at ({x}, {y}) does not lie inside the {across}x{down} frame"));
    }
}

/// A frame of unknown size is taken to be large enough; the pipeline looks again when it is known.
fn validate_tiles(inspect: &Inspect, known: Option<(u32, u32)>, problems: &mut Vec<String>) {
    let before = problems.len();
    let areas = named(inspect);
    let own =
        areas.iter().filter_map(|(key, area)| Some((format!("{key}.tiles"), area.tiles?, area.width, area.height)));
    problems.extend(
        own.filter_map(|(key, tiles, width, height)| Some(format!("{key}: {}", tiles.problem(width, height)?))),
    );
    let (across, down) = known.unwrap_or((Geometry::MAX_SIDE, Geometry::MAX_SIDE));
    let without = areas.iter().filter(|(_, area)| area.tiles.is_none()).map(|(_, area)| (area.width, area.height));
    let cut = if areas.is_empty() { vec![(across, down)] } else { without.collect() };
    let problem = cut.into_iter().find_map(|(width, height)| inspect.tiles.problem(width, height));
    problems.extend(problem.map(|problem| format!("inspect.tiles: {problem}")));
    let each = areas.iter().map(|(_, area)| area.tiles.unwrap_or(inspect.tiles).count());
    let count = each.fold(0, usize::saturating_add);
    if problems.len() == before && count > MAX_TILES {
        problems.push(format!(
            "inspect.rois have {count} tiles, {MAX_TILES} are possible: each costs a run of the network"
        ));
    }
}
