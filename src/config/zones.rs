//! The zones of a station file.

use super::raw::{ZoneKind, Zones as Raw};
use crate::camera::Geometry;
use crate::zone::{MAX_ZONES, Polygon, Zones};

/// Corners of a polygon at most.
const CORNERS: usize = 64;

pub(super) fn build(raw: &Raw) -> Zones {
    match raw.kind {
        ZoneKind::None => Zones::None,
        ZoneKind::Grid => Zones::Grid { columns: raw.columns, rows: raw.rows },
        ZoneKind::Polygons => Zones::Polygons(raw.polygons.clone()),
    }
}

pub(super) fn validate(raw: &Raw, geometry: Option<Geometry>, problems: &mut Vec<String>) {
    let Raw { kind, columns, rows, polygons } = raw;
    match kind {
        ZoneKind::None => {}
        ZoneKind::Grid if u64::from(*columns) * u64::from(*rows) > MAX_ZONES as u64 || columns * rows == 0 => {
            problems.push(format!("zones.columns x zones.rows = {columns} x {rows} is not 1 to {MAX_ZONES} zones"));
        }
        ZoneKind::Grid => {}
        ZoneKind::Polygons if polygons.is_empty() || polygons.len() > MAX_ZONES => {
            problems.push(format!("zones.polygons has {} zones: 1 to {MAX_ZONES} are possible", polygons.len()));
        }
        ZoneKind::Polygons => {
            let numbered = polygons.iter().enumerate();
            problems.extend(numbered.filter_map(|(number, polygon)| flaw(number, polygon, geometry)));
        }
    }
}

fn flaw(number: usize, polygon: &Polygon, geometry: Option<Geometry>) -> Option<String> {
    if !(3..=CORNERS).contains(&polygon.len()) {
        return Some(format!(
            "zones.polygons: zone {number} has {} corners: 3 to {CORNERS} are possible",
            polygon.len()
        ));
    }
    let side = Geometry::MAX_SIDE;
    let (width, height) = geometry.map_or((side, side), |geometry| (geometry.width, geometry.height));
    if let Some([x, y]) = polygon.iter().find(|[x, y]| *x > width || *y > height) {
        return Some(format!(
            "zones.polygons: zone {number} has a corner at ({x}, {y}), outside the {width}x{height} frame"
        ));
    }
    is_flat(polygon).then(|| format!("zones.polygons: zone {number} has no area, its corners are on one line"))
}

/// For corners inside a frame: products of their distances fit.
fn is_flat(polygon: &Polygon) -> bool {
    let corners = polygon.iter().map(|corner| corner.map(i64::from));
    let Some(first) = corners.clone().next() else { return true };
    let mut arms = corners.map(|[x, y]| [x - first[0], y - first[1]]).filter(|arm| *arm != [0, 0]);
    let Some([x, y]) = arms.next() else { return true };
    arms.all(|arm| x * arm[1] == y * arm[0])
}
