//! In: a lent mask. Out: a copy that outlives the pipeline's next run, at full scale or smaller. The room is kept for
//! the next one.

use super::{MAX_REGIONS, Mask, Region, Run};
use crate::preprocess::Roi;

/// A mask of its own.
///
/// ```
/// use fcam::mask::{Mask, Run, Stored};
/// use fcam::preprocess::Roi;
///
/// let roi = Roi { x: 0, y: 0, width: 40, height: 40 };
/// let runs = [Run { row: 3, start: 3, end: 4 }]; // one pixel
/// let mut small = Stored::default();
/// small.reduce(&Mask { width: 4, height: 4, roi, runs: &runs, regions: &[], region_count: 1 }, 2);
/// let mask = small.view();
/// assert_eq!((mask.width, mask.height, mask.runs), (2, 2, &[Run { row: 1, start: 1, end: 2 }][..]));
/// ```
#[derive(Debug, Clone)]
pub struct Stored {
    width: u32,
    height: u32,
    roi: Roi,
    runs: Vec<Run>,
    regions: heapless::Vec<Region, MAX_REGIONS>,
    region_count: usize,
}

impl Default for Stored {
    fn default() -> Self {
        let roi = Roi { x: 0, y: 0, width: 0, height: 0 };
        Self { width: 0, height: 0, roi, runs: Vec::new(), regions: heapless::Vec::new(), region_count: 0 }
    }
}

impl Stored {
    /// The mask.
    pub fn view(&self) -> Mask<'_> {
        let Self { width, height, roi, runs, regions, region_count } = self;
        Mask { width: *width, height: *height, roi: *roi, runs, regions, region_count: *region_count }
    }

    /// Becomes a copy of a mask.
    pub fn set(&mut self, mask: &Mask) {
        self.set_around(mask);
        self.runs.extend_from_slice(mask.runs);
    }

    /// Becomes a mask smaller by `scale` each way (1 at least): a pixel is set if any of the pixels that it stands for
    /// is, so that nothing vanishes. The regions stay as they are, in frame pixels.
    pub fn reduce(&mut self, mask: &Mask, scale: u32) {
        self.set_around(mask);
        (self.width, self.height) = (mask.width.div_ceil(scale), mask.height.div_ceil(scale));
        for rows in mask.runs.chunk_by(|a, b| a.row / scale == b.row / scale) {
            let begin = self.runs.len();
            let small =
                |run: &Run| Run { row: run.row / scale, start: run.start / scale, end: run.end.div_ceil(scale) };
            self.runs.extend(rows.iter().map(small));
            self.join_from(begin);
        }
    }

    fn set_around(&mut self, mask: &Mask) {
        (self.width, self.height, self.roi) = (mask.width, mask.height, mask.roi);
        self.regions.clear();
        self.regions.extend(mask.regions.iter().copied().take(MAX_REGIONS));
        self.region_count = mask.region_count;
        self.runs.clear();
    }

    /// Sorts the runs of one row, which begin at `begin`, and joins those that touch.
    fn join_from(&mut self, begin: usize) {
        self.runs.get_mut(begin..).unwrap_or_default().sort_unstable_by_key(|run| run.start);
        let mut kept = begin;
        for index in begin..self.runs.len() {
            let Some(&run) = self.runs.get(index) else { return };
            let before = kept.checked_sub(1).filter(|before| *before >= begin).and_then(|at| self.runs.get_mut(at));
            match before {
                Some(before) if run.start <= before.end => before.end = before.end.max(run.end),
                _ => {
                    if let Some(slot) = self.runs.get_mut(kept) {
                        *slot = run;
                    }
                    kept += 1;
                }
            }
        }
        self.runs.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of a picture of `.` and `#`.
    fn runs(rows: &[&str]) -> Vec<Run> {
        let mut found = vec![];
        for (row, text) in rows.iter().enumerate() {
            let mut start = 0;
            for span in text.as_bytes().chunk_by(|a, b| a == b) {
                let end = start + span.len() as u32;
                if span[0] == b'#' {
                    found.push(Run { row: row as u32, start, end });
                }
                start = end;
            }
        }
        found
    }

    fn reduced(rows: &[&str], scale: u32) -> Stored {
        let runs = runs(rows);
        let roi = Roi { x: 1, y: 2, width: 30, height: 40 };
        let (width, height) = (rows[0].len() as u32, rows.len() as u32);
        let mask = Mask { width, height, roi, runs: &runs, regions: &[], region_count: 0 };
        let mut stored = Stored::default();
        stored.reduce(&mask, scale);
        stored
    }

    #[test]
    fn half_scale_is_any_of_four() {
        let small = reduced(&["#......", ".....#.", ".......", "..##...", "......#"], 2);
        assert_eq!(small.runs, runs(&["#.#.", ".#..", "...#"]));
        assert_eq!((small.width, small.height, small.roi.width), (4, 3, 30));
    }

    #[test]
    fn scale_one_is_the_mask_and_a_quarter_loses_nothing() {
        let rows = ["##.#.", ".....", "....#"];
        assert_eq!(reduced(&rows, 1).runs, runs(&rows));
        assert_eq!(reduced(&rows, 4).runs, runs(&["##"]));
        assert_eq!(reduced(&["......", "......"], 2).runs, vec![]);
    }
}
