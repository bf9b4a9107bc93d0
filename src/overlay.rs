//! In: a frame, its mask and what the line was told. Out: the picture as RGB with all of that drawn on it.
//!
//! The mask is tinted and outlined, regions are boxed, the border has the verdict's colour, and one line of text says it in
//! words. For people: nothing reads it back. What is drawn never depends on a clock or on the picture before.

use crate::camera::{Frame, Geometry};
use crate::mask::{Mask, Region};
use crate::preprocess::Roi;
use crate::signal::Signals;
use crate::verdict::Verdict;

mod canvas;
mod font;

use canvas::{Area, Canvas, Color, HALF, SOLID, covered, position, text_size};

const GREEN: Color = [38, 166, 91];
const RED: Color = [222, 48, 48];
const AMBER: Color = [240, 160, 16];
const WHITE: Color = [255, 255, 255];
const BLACK: Color = [0, 0, 0];
const TINT: Color = [255, 0, 140];
const EDGE: Color = [255, 110, 200];

/// Draws overlays; keeps its memory from one picture to the next.
#[derive(Debug, Default)]
pub struct Overlay {
    canvas: Canvas,
    /// The mask's cells.
    cells: Vec<bool>,
    /// The pixels of the ROI that are inside the mask.
    inside: Vec<bool>,
}

impl Overlay {
    /// Draws one part; `classes` are the manifest's names. Returns RGB pixels of the frame's width and height.
    pub fn draw(&mut self, frame: &Frame, mask: &Mask, signals: &Signals, classes: &[String]) -> &[u8] {
        self.canvas.load(frame);
        let scale = Scale::of(frame.geometry());
        if mask.roi != Roi::whole(&frame.geometry()) {
            self.canvas.outline(roi_area(mask.roi), scale.line, WHITE, SOLID / 3);
        }
        self.draw_mask(mask, scale.line);
        for region in mask.regions {
            self.draw_box(region, scale);
        }
        let (width, height) = self.canvas.size();
        self.canvas.outline([0, 0, width, height], scale.border, color(&signals.verdict), SOLID);
        self.draw_label(&label(signals, classes), mask.regions, color(&signals.verdict), scale);
        self.canvas.pixels()
    }

    fn draw_mask(&mut self, mask: &Mask, line: i32) {
        if mask.runs.is_empty() {
            return;
        }
        self.enlarge(mask);
        let Roi { x: left, y: top, width, height } = mask.roi;
        let (width, height) = (width as i32, height as i32);
        let inside = |x: i32, y: i32| {
            let within = (0..width).contains(&x) && (0..height).contains(&y);
            within && self.inside.get(y as usize * width as usize + x as usize).is_some_and(|&inside| inside)
        };
        let near = [(line, 0), (-line, 0), (0, line), (0, -line)];
        for y in 0..height {
            for x in (0..width).filter(|&x| inside(x, y)) {
                let is_edge = !near.iter().all(|(dx, dy)| inside(x + dx, y + dy));
                let (color, opacity) = if is_edge { (EDGE, SOLID) } else { (TINT, SOLID * 2 / 5) };
                self.canvas.mix(left as i32 + x, top as i32 + y, color, opacity);
            }
        }
    }

    /// Brings the mask to the ROI's size, with smooth edges.
    fn enlarge(&mut self, mask: &Mask) {
        let (columns, rows) = (mask.width as usize, mask.height as usize);
        self.cells.clear();
        self.cells.resize(columns * rows, false);
        for run in mask.runs {
            let row = run.row as usize * columns;
            self.cells.get_mut(row + run.start as usize..row + run.end as usize).unwrap_or_default().fill(true);
        }
        let Roi { width, height, .. } = mask.roi;
        let is_set = |column: i32, row: i32| {
            let (column, row) = (column.clamp(0, columns as i32 - 1), row.clamp(0, rows as i32 - 1));
            self.cells.get(row as usize * columns + column as usize).is_some_and(|&set| set)
        };
        self.inside.clear();
        for y in 0..height as i32 {
            let v = position(y, rows as i32, height as i32);
            let across = (0..width as i32).map(|x| position(x, columns as i32, width as i32));
            self.inside.extend(across.map(|u| covered(u, v, HALF, is_set)));
        }
    }

    /// A thin white box around a region, with a dark line around it, so that it shows on any ground.
    fn draw_box(&mut self, region: &Region, scale: Scale) {
        let inner = grown(region_area(region), 3 * scale.line);
        self.canvas.outline(grown(inner, scale.line), scale.line, BLACK, SOLID / 2);
        self.canvas.outline(inner, scale.line, WHITE, SOLID * 7 / 8);
    }

    /// The text on a plate, in the first corner where it hides no region.
    fn draw_label(&mut self, text: &str, regions: &[Region], color: Color, scale: Scale) {
        let (width, height) = self.canvas.size();
        let dot = scale.dot.min(width / (text_size(text, 1).0 + 6)).max(1);
        let (across, down) = text_size(text, dot);
        let (across, down) = (across + 6 * dot, down + 6 * dot);
        let (left, top, right, bottom) = (0, 0, width - across, height - down);
        let corners = [(left, top), (left, bottom), (right, top), (right, bottom)];
        let free = corners.into_iter().find(|&(x, y)| {
            let plate = [x, y, x + across, y + down];
            !regions.iter().any(|region| overlap(plate, region_area(region)))
        });
        let (x, y) = free.unwrap_or((left, top));
        self.canvas.fill([x, y, x + across, y + down], color, SOLID);
        self.canvas.text(text, x + 3 * dot, y + 3 * dot, dot, WHITE);
    }
}

/// Sizes of what is drawn, in pixels, for a picture of some size.
#[derive(Debug, Clone, Copy)]
struct Scale {
    line: i32,
    border: i32,
    dot: i32,
}

impl Scale {
    fn of(geometry: Geometry) -> Self {
        let side = geometry.width.min(geometry.height) as i32;
        Self { line: (side / 500).max(1), border: (side / 100).max(2), dot: (side / 200).max(1) }
    }
}

fn color(verdict: &Verdict) -> Color {
    match verdict {
        Verdict::Pass => GREEN,
        Verdict::Reject(_) => RED,
        Verdict::Fault(_) => AMBER,
    }
}

fn label(signals: &Signals, classes: &[String]) -> String {
    let score = signals.score.unwrap_or(0.0);
    match &signals.verdict {
        Verdict::Pass => format!("PASS {score:.2}"),
        Verdict::Reject(findings) => {
            format!("REJECT {} {score:.2}", classes.get(findings.class).map_or("?", String::as_str))
        }
        Verdict::Fault(fault) => format!("FAULT {fault:?}"),
    }
}

fn roi_area(roi: Roi) -> Area {
    [roi.x as i32, roi.y as i32, (roi.x + roi.width) as i32, (roi.y + roi.height) as i32]
}

fn region_area(region: &Region) -> Area {
    let (x, y) = (region.x as i32, region.y as i32);
    [x, y, x + region.width as i32, y + region.height as i32]
}

fn grown([left, top, right, bottom]: Area, by: i32) -> Area {
    [left - by, top - by, right + by, bottom + by]
}

fn overlap(a: Area, b: Area) -> bool {
    let [a_left, a_top, a_right, a_bottom] = a;
    let [b_left, b_top, b_right, b_bottom] = b;
    a_left < b_right && b_left < a_right && a_top < b_bottom && b_top < a_bottom
}
