//! In: a frame, its mask and what the line was told. Out: the picture as RGB with all of that drawn on it.
//!
//! The mask is tinted and outlined, regions are boxed, the border has the verdict's colour, and one line of text says
//! it in words. For people: nothing reads it back. What is drawn never depends on a clock or on the picture before.

use crate::camera::{Frame, Geometry};
use crate::mask::{Mask, Region};
use crate::outcome::Outcome;
use crate::preprocess::{Layout, Roi};
use crate::verdict::Verdict;

mod canvas;
mod font;
mod sheet;

pub use sheet::Sheet;

use canvas::{Area, Canvas, Color, HALF, SOLID, covered, position, text_size};

const GREEN: Color = [38, 166, 91];
const RED: Color = [222, 48, 48];
const AMBER: Color = [240, 160, 16];
const WHITE: Color = [255, 255, 255];
const BLACK: Color = [0, 0, 0];
const TINT: Color = [255, 0, 140];
const EDGE: Color = [255, 110, 200];

/// Draws overlays; keeps its memory from one picture to the next.
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::camera::{Camera, Pattern};
/// use fcam::overlay::Overlay;
/// use fcam::pipeline::{Pipeline, PipelineOptions};
///
/// let bundle = Bundle::embedded()?;
/// let mut samples = Pattern::open(bundle.samples().take(1), None)?;
/// let frame = samples.next(fcam::clock::now())?;
/// let mut pipeline = Pipeline::new(&bundle, frame.geometry(), PipelineOptions::default())?;
/// let inspection = pipeline.inspect(&frame);
/// let mut overlay = Overlay::default();
/// let rgb = overlay.draw(&frame, &inspection.mask, &inspection.outcome, &bundle.class_names());
/// assert_eq!(rgb.len(), (frame.geometry().width * frame.geometry().height * 3) as usize);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Overlay {
    layout: Layout,
    bare: bool,
    canvas: Canvas,
    /// The mask's cells.
    cells: Vec<bool>,
    /// For each pixel of the mask's extent, row by row, whether the mask covers it.
    inside: Vec<bool>,
}

impl Overlay {
    /// For frames of which this is inspected.
    pub fn of(layout: Layout) -> Self {
        Self { layout, ..Self::default() }
    }

    /// Without the border and the words, for whoever says the verdict beside the picture.
    pub fn bare(self) -> Self {
        Self { bare: true, ..self }
    }

    /// Draws one part; `classes` are the manifest's names. Returns RGB pixels of the frame's width and height.
    pub fn draw(&mut self, frame: &Frame, mask: &Mask, outcome: &Outcome, classes: &[String]) -> &[u8] {
        self.canvas.load(frame);
        let scale = Scale::of(frame.geometry());
        self.draw_rois(&frame.geometry(), mask, scale.line);
        // The classifier gates the map: what it shows on a part that passes is no finding, and would only worry the
        // operator.
        let regions = if outcome.verdict == Verdict::Pass { &[] } else { mask.regions };
        if outcome.verdict != Verdict::Pass {
            self.draw_mask(mask, scale.line);
        }
        for region in regions {
            self.draw_box(region, scale);
        }
        if self.bare {
            return self.canvas.pixels();
        }
        let (width, height) = self.canvas.size();
        self.canvas.outline([0, 0, width, height], scale.border, color(&outcome.verdict), SOLID);
        self.draw_label(&label(outcome, classes), regions, color(&outcome.verdict), scale);
        self.canvas.pixels()
    }

    /// What is inspected, unless it is all there is: one rectangle each, or the mask's if nobody said more.
    fn draw_rois(&mut self, geometry: &Geometry, mask: &Mask, line: i32) {
        let areas = self.layout.areas.iter().map(|area| area.roi());
        let alone = self.layout.areas.is_empty().then_some(mask.roi);
        for roi in areas.chain(alone).filter(|roi| *roi != Roi::whole(geometry)) {
            self.canvas.outline(roi_area(roi), line, WHITE, SOLID / 3);
        }
    }

    fn draw_mask(&mut self, mask: &Mask, line: i32) {
        let [left, top, right, bottom] = extent(mask);
        self.enlarge(mask);
        let inside = |x: i32, y: i32| {
            let within = (left..right).contains(&x) && (top..bottom).contains(&y);
            within && self.inside.get(((y - top) * (right - left) + x - left) as usize).is_some_and(|&inside| inside)
        };
        let near = [(line, 0), (-line, 0), (0, line), (0, -line)];
        for y in top..bottom {
            for x in (left..right).filter(|&x| inside(x, y)) {
                let is_edge = !near.iter().all(|(dx, dy)| inside(x + dx, y + dy));
                let (color, opacity) = if is_edge { (EDGE, SOLID) } else { (TINT, SOLID * 2 / 5) };
                self.canvas.mix(mask.roi.x as i32 + x, mask.roi.y as i32 + y, color, opacity);
            }
        }
    }

    /// Brings the mask to the ROI's size, with smooth edges, as far as its extent goes.
    fn enlarge(&mut self, mask: &Mask) {
        let (columns, rows) = (mask.width as i32, mask.height as i32);
        self.cells.clear();
        self.cells.resize(columns as usize * rows as usize, false);
        for run in mask.runs {
            let row = run.row as usize * columns as usize;
            self.cells.get_mut(row + run.start as usize..row + run.end as usize).unwrap_or_default().fill(true);
        }
        let is_set = |column: i32, row: i32| {
            let (column, row) = (column.clamp(0, columns - 1), row.clamp(0, rows - 1));
            self.cells.get((row * columns + column) as usize).is_some_and(|&set| set)
        };
        let Roi { width, height, .. } = mask.roi;
        let [left, top, right, bottom] = extent(mask);
        self.inside.clear();
        for y in top..bottom {
            let v = position(y, rows, height as i32);
            self.inside.extend((left..right).map(|x| covered(position(x, columns, width as i32), v, HALF, is_set)));
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

/// Verdict, class and score as an overlay says them, such as `REJECT scratch 0.93`; `classes` are the manifest's names.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use fcam::outcome::{Opened, Outcome};
/// use fcam::signal::Signaller;
/// use fcam::verdict::Fault;
///
/// let signaller = Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) };
/// let outcome = Outcome::fault(Opened::default(), Fault::Stalled, &signaller, &Arc::default());
/// assert_eq!(fcam::overlay::label(&outcome, &[]), "FAULT Stalled");
/// ```
pub fn label(outcome: &Outcome, classes: &[String]) -> String {
    let score = outcome.score.unwrap_or(0.0);
    match &outcome.verdict {
        Verdict::Pass => format!("PASS {score:.2}"),
        Verdict::Reject(findings) => {
            format!("REJECT {} {score:.2}", classes.get(findings.class).map_or("?", String::as_str))
        }
        Verdict::Fault(fault) => format!("FAULT {fault:?}"),
    }
}

/// The rectangle that holds the mask, in pixels of the ROI; most defects are small, and the rest costs nothing.
fn extent(mask: &Mask) -> Area {
    let pixel =
        |cell: u32, pixels: u32, cells: u32| (u64::from(cell) * u64::from(pixels)).div_ceil(cells.max(1).into());
    let (x, y) = (|cell| pixel(cell, mask.roi.width, mask.width), |cell| pixel(cell, mask.roi.height, mask.height));
    let left = mask.runs.iter().map(|run| run.start).min().unwrap_or(0);
    let right = mask.runs.iter().map(|run| run.end).max().unwrap_or(0);
    let (top, bottom) = (mask.runs.first().map_or(0, |run| run.row), mask.runs.last().map_or(0, |run| run.row + 1));
    [x(left).saturating_sub(1) as i32, y(top).saturating_sub(1) as i32, x(right) as i32, y(bottom) as i32]
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::camera::PixelFormat;
    use crate::mask::Run;
    use crate::outcome::Opened;
    use crate::signal::Signaller;
    use crate::verdict::{Fault, Findings};

    fn outcome(verdict: Verdict) -> Outcome {
        let signaller = Signaller { delay: Duration::ZERO, hold: Duration::ZERO };
        let fault = Outcome::fault(Opened::default(), Fault::Late, &signaller, &Arc::default());
        Outcome { score: Some(0.5), verdict, ..fault }
    }

    fn reject() -> Outcome {
        outcome(Verdict::Reject(Findings { class: 0, score: 0.5, regions: Default::default() }))
    }

    fn draw(geometry: Geometry, mask: &Mask, outcome: &Outcome) -> Vec<[u8; 3]> {
        let bytes = vec![100; geometry.frame_bytes()];
        let frame = Frame::new(0, Default::default(), geometry, &bytes).unwrap();
        let mut overlay = Overlay::default();
        let pixels = overlay.draw(&frame, mask, outcome, &["scratch".into()]);
        pixels.as_chunks().0.to_vec()
    }

    #[test]
    fn the_border_says_the_verdict() {
        let geometry = Geometry::packed(64, 48, PixelFormat::Gray8).unwrap();
        let mask = Mask::empty(Roi::whole(&geometry));
        for (outcome, color) in
            [(outcome(Verdict::Pass), GREEN), (reject(), RED), (outcome(Verdict::Fault(Fault::Engine)), AMBER)]
        {
            let pixels = draw(geometry, &mask, &outcome);
            assert_eq!((pixels.len(), pixels[64 * 48 - 1], pixels[64 * 30 + 30]), (64 * 48, color, [100; 3]));
        }
    }

    #[test]
    fn a_bare_overlay_has_the_mask_alone() {
        let geometry = Geometry::packed(64, 48, PixelFormat::Gray8).unwrap();
        let (bytes, runs) = (vec![100; geometry.frame_bytes()], [Run { row: 3, start: 2, end: 5 }]);
        let frame = Frame::new(0, Default::default(), geometry, &bytes).unwrap();
        let mask = Mask { width: 8, height: 6, roi: Roi::whole(&geometry), runs: &runs, regions: &[], region_count: 1 };
        let mut overlay = Overlay::default().bare();
        let pixels = overlay.draw(&frame, &mask, &reject(), &["scratch".into()]);
        let pixels: &[[u8; 3]] = pixels.as_chunks().0;
        assert_eq!((pixels[0], pixels[64 * 48 - 1]), ([100; 3], [100; 3]));
        assert_ne!(pixels[64 * 28 + 28], [100; 3]);
    }

    #[test]
    fn the_mask_is_drawn_where_it_lies() {
        let geometry = Geometry::packed(160, 120, PixelFormat::Gray8).unwrap();
        let roi = Roi { x: 40, y: 20, width: 80, height: 80 };
        let runs = [3, 4, 5].map(|row| Run { row, start: 2, end: 7 });
        let mask = Mask { width: 8, height: 8, roi, runs: &runs, regions: &[], region_count: 1 };
        let pixels = draw(geometry, &mask, &reject());
        let at = |x: usize, y: usize| pixels[y * 160 + x];
        // Columns 2 to 6 of 8 are pixels 20 to 69 of the ROI's 80, rows 3 to 5 are pixels 30 to 59.
        assert_eq!((at(60, 65), at(109, 65), at(80, 50), at(80, 79)), (EDGE, EDGE, EDGE, EDGE));
        assert_eq!((at(59, 65), at(110, 65), at(80, 49), at(80, 80)), ([100; 3], [100; 3], [100; 3], [100; 3]));
        assert!(at(80, 65)[0] > 150 && at(80, 65)[1] < 100);
    }

    #[test]
    fn every_roi_is_outlined() {
        let geometry = Geometry::packed(160, 120, PixelFormat::Gray8).unwrap();
        let rois = [Roi { x: 20, y: 30, width: 40, height: 50 }, Roi { x: 100, y: 40, width: 30, height: 20 }];
        let mut overlay = Overlay::of(Layout { areas: rois.map(Into::into).to_vec(), ..Layout::default() });
        let bytes = vec![100; geometry.frame_bytes()];
        let frame = Frame::new(0, Default::default(), geometry, &bytes).unwrap();
        // The mask covers the box around both.
        let mask = Mask::empty(Roi { x: 20, y: 30, width: 110, height: 50 });
        let pixels = overlay.draw(&frame, &mask, &outcome(Verdict::Fault(Fault::Late)), &[]);
        let gray = |x: usize, y: usize| pixels[(y * 160 + x) * 3];
        for (x, y) in [(20, 60), (59, 60), (40, 79), (100, 50), (129, 50), (110, 40), (110, 59)] {
            assert!(gray(x, y) > 140, "{x} {y}");
        }
        for (x, y) in [(60, 60), (99, 50), (129, 70), (90, 79), (110, 50)] {
            assert_eq!(gray(x, y), 100, "{x} {y}");
        }
    }

    #[test]
    fn pictures_of_any_size_and_format_are_drawn_on() {
        for (width, height) in [(2, 2), (2, 600), (600, 2), (16, 16)] {
            for format in
                [PixelFormat::Gray8, PixelFormat::Rgb8, PixelFormat::Yuyv, PixelFormat::I420, PixelFormat::Yuvj420]
            {
                let geometry = Geometry::packed(width, height, format).unwrap();
                let runs = [Run { row: 0, start: 0, end: 64 }, Run { row: 63, start: 63, end: 64 }];
                let roi = Roi::whole(&geometry);
                let region = Region { x: 0, y: 0, width, height, area_px: 1.0, centroid: [0.0; 2], peak: 1.0 };
                let mask = Mask { width: 64, height: 64, roi, runs: &runs, regions: &[region], region_count: 1 };
                assert_eq!(draw(geometry, &mask, &reject()).len(), (width * height) as usize);
            }
        }
    }
}
