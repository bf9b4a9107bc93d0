//! Many drawn pictures on one: what a person looks at first. In: pictures as RGB, each with a score. Out: the highest
//! scores, small, in the order they came.

use image::imageops::{self, FilterType};
use image::{ImageBuffer, Rgb, RgbImage};

use super::canvas::{Canvas, Color, text_size};

const MOST: usize = 60;
const COLUMNS: usize = 6;
/// Each picture is made to fit into this, in pixels.
const CELL: [u32; 2] = [320, 240];
/// So much room across it has at least, for its caption.
const LEAST: u32 = 160;
const GAP: u32 = 8;
const DOT: i32 = 2;
const GROUND: Color = [24, 24, 24];
const INK: Color = [235, 235, 235];

/// A contact sheet in the making; it keeps small copies alone.
///
/// ```
/// use fcam::overlay::Sheet;
///
/// let mut sheet = Sheet::default();
/// let pixels = vec![128; 64 * 48 * 3];
/// for (name, score) in [("a.png", 0.1), ("b.png", 0.9)] {
///     assert!(sheet.draw().is_none()); // one picture needs no sheet
///     sheet.add([name.into(), format!("{score}")], score, &pixels, [64, 48]);
/// }
/// let (rgb, [width, height]) = sheet.draw().ok_or("two pictures")?;
/// assert_eq!(rgb.len(), (width * height * 3) as usize);
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Default)]
pub struct Sheet {
    cells: Vec<Cell>,
    seen: usize,
}

#[derive(Debug)]
struct Cell {
    score: f32,
    lines: [String; 2],
    picture: RgbImage,
}

impl Sheet {
    /// Takes a picture if its score is among the highest so far: `pixels` RGB of `width` x `height`, and two lines to
    /// stand below it.
    pub fn add(&mut self, lines: [String; 2], score: f32, pixels: &[u8], [width, height]: [u32; 2]) {
        self.seen += 1;
        if self.cells.len() == MOST {
            let lowest = self.cells.iter().enumerate().min_by(|(_, a), (_, b)| a.score.total_cmp(&b.score));
            match lowest {
                Some((index, cell)) if cell.score < score => drop(self.cells.remove(index)),
                _ => return,
            }
        }
        if let Some(picture) = small(pixels, width, height) {
            self.cells.push(Cell { score, lines, picture });
        }
    }

    /// How many pictures it shows, and how many it was given.
    pub fn count(&self) -> (usize, usize) {
        (self.cells.len(), self.seen)
    }

    /// RGB pixels, width and height; none of less than two pictures, which need no sheet.
    pub fn draw(&self) -> Option<(Vec<u8>, [u32; 2])> {
        let count = self.cells.len();
        if count < 2 {
            return None;
        }
        // As many across as down; at most so many that a caption can be read on a screen.
        let columns = (1..COLUMNS).find(|side| side * side >= count).unwrap_or(COLUMNS);
        let widest = |side: fn(&RgbImage) -> u32| self.cells.iter().map(|cell| side(&cell.picture)).max().unwrap_or(0);
        let line = text_size("", DOT).1 + GAP as i32 / 2;
        let caption = 2 * line as u32 + GAP;
        let (across, down) = (widest(RgbImage::width).max(LEAST) + GAP, widest(RgbImage::height) + caption + GAP);
        let size = [columns as u32 * across + GAP, count.div_ceil(columns) as u32 * down + GAP];
        let mut canvas = Canvas::plain(size, GROUND);
        for (index, cell) in self.cells.iter().enumerate() {
            let left = (GAP + (index % columns) as u32 * across) as i32;
            let top = (GAP + (index / columns) as u32 * down) as i32;
            canvas.put(&cell.picture, left, top);
            let letters = (across / (text_size("xx", DOT).0 - text_size("x", DOT).0).max(1) as u32) as usize;
            let below = top + cell.picture.height() as i32 + GAP as i32 / 2;
            for (text, y) in cell.lines.iter().zip([below, below + line]) {
                canvas.text(tail(text, letters), left, y, DOT, INK);
            }
        }
        Some((canvas.pixels().to_vec(), size))
    }
}

/// A copy that fits into a cell; one that does already is kept as it is.
fn small(pixels: &[u8], width: u32, height: u32) -> Option<RgbImage> {
    let picture: ImageBuffer<Rgb<u8>, &[u8]> = ImageBuffer::from_raw(width, height, pixels)?;
    let [most_width, most_height] = CELL.map(f64::from);
    let scale = (most_width / f64::from(width)).min(most_height / f64::from(height)).min(1.0);
    let [width, height] = [width, height].map(|side| ((f64::from(side) * scale).round() as u32).max(1));
    Some(imageops::resize(&picture, width, height, FilterType::Triangle))
}

/// The end of a name that is too long: it says which picture of a folder it is.
fn tail(name: &str, letters: usize) -> &str {
    let skip = name.chars().count().saturating_sub(letters);
    name.char_indices().nth(skip).and_then(|(start, _)| name.get(start..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> [String; 2] {
        [name.into(), "PASS 0.10".into()]
    }

    fn plain(level: u8) -> Vec<u8> {
        vec![level; 8 * 4 * 3]
    }

    #[test]
    fn the_highest_scores_stay_in_the_order_they_came() {
        let mut sheet = Sheet::default();
        for index in 0..2 * MOST {
            sheet.add(named(&index.to_string()), if index % 2 == 0 { 0.9 } else { 0.1 }, &plain(0), [8, 4]);
        }
        assert_eq!(sheet.count(), (MOST, 2 * MOST));
        let names: Vec<_> = sheet.cells.iter().map(|cell| cell.lines[0].parse::<usize>().unwrap()).collect();
        assert!(names.is_sorted() && names.iter().all(|name| name % 2 == 0), "{names:?}");
    }

    #[test]
    fn pictures_lie_side_by_side_with_their_names_below() {
        let mut sheet = Sheet::default();
        assert!(sheet.draw().is_none());
        sheet.add(named("first.png"), 0.1, &plain(100), [8, 4]);
        assert!(sheet.draw().is_none());
        sheet.add(named("second.png"), 0.2, &plain(200), [8, 4]);
        let (pixels, [width, height]) = sheet.draw().unwrap();
        assert_eq!(pixels.len(), (width * height * 3) as usize);
        let at = |x: u32, y: u32| pixels[((y * width + x) * 3) as usize];
        assert_eq!([at(GAP, GAP), at(2 * GAP + LEAST, GAP), at(0, 0)], [100, 200, GROUND[0]]);
        let caption = (GAP + 4 + GAP / 2..height).any(|y| (0..width).any(|x| at(x, y) == INK[0]));
        assert!(caption, "no line is drawn");
    }

    #[test]
    fn large_pictures_are_made_to_fit() {
        let mut sheet = Sheet::default();
        for (width, height) in [(640, 480), (2000, 10), (3, 900)] {
            sheet.add(named("x"), 0.5, &vec![9; width * height * 3], [width as u32, height as u32]);
        }
        let sizes: Vec<_> = sheet.cells.iter().map(|cell| cell.picture.dimensions()).collect();
        assert_eq!(sizes, [(320, 240), (320, 2), (1, 240)]);
        assert!(sheet.draw().is_some());
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!([tail("abc", 5), tail("abcdef", 3), tail("äöü", 2), tail("", 3)], ["abc", "def", "öü", ""]);
    }
}
