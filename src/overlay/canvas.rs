//! An RGB picture to draw on. Everything is clipped to it, so nothing here can fail.

use image::RgbImage;

use super::font;
use crate::camera::{Frame, PixelFormat};
use crate::preprocess;

/// R, G, B.
pub(super) type Color = [u8; 3];

/// Opacities, of 256.
pub(super) const SOLID: u32 = 256;

/// Left, top, right, bottom; the latter two are one past the last pixel.
pub(super) type Area = [i32; 4];

/// The picture; its memory is kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    pixels: Vec<u8>,
    width: usize,
    height: usize,
}

impl Canvas {
    /// Takes over a frame of any format.
    pub(super) fn load(&mut self, frame: &Frame) {
        let geometry = frame.geometry();
        (self.width, self.height) = (geometry.width as usize, geometry.height as usize);
        preprocess::unpack(frame, &mut self.pixels);
        if geometry.format == PixelFormat::Gray8 {
            spread_gray(&mut self.pixels);
        }
    }

    /// One colour, of `size` across and down.
    pub(super) fn plain(size: [u32; 2], color: Color) -> Self {
        let [width, height] = size.map(|side| side as usize);
        Self { pixels: color.repeat(width * height), width, height }
    }

    /// Lays a picture over it, its top left corner at (x, y).
    pub(super) fn put(&mut self, picture: &RgbImage, x: i32, y: i32) {
        for (column, row, pixel) in picture.enumerate_pixels() {
            self.mix(x + column as i32, y + row as i32, pixel.0, SOLID);
        }
    }

    pub(super) fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    pub(super) fn size(&self) -> (i32, i32) {
        (self.width as i32, self.height as i32)
    }

    /// Mixes a colour into one pixel.
    pub(super) fn mix(&mut self, x: i32, y: i32, color: Color, opacity: u32) {
        self.fill([x, y, x + 1, y + 1], color, opacity);
    }

    /// Mixes a colour into a rectangle.
    pub(super) fn fill(&mut self, [left, top, right, bottom]: Area, color: Color, opacity: u32) {
        let clip = |value: i32, most: usize| (value.max(0) as usize).min(most);
        let (left, right) = (clip(left, self.width), clip(right, self.width));
        let (top, bottom) = (clip(top, self.height), clip(bottom, self.height));
        let rows = self.pixels.chunks_exact_mut((self.width * 3).max(1)).take(bottom).skip(top);
        for row in rows {
            for pixel in row.get_mut(left * 3..right * 3).unwrap_or_default().chunks_exact_mut(3) {
                mix(pixel, color, opacity);
            }
        }
    }

    /// A rectangle's edge, `line` pixels wide and inside of it.
    pub(super) fn outline(&mut self, [left, top, right, bottom]: Area, line: i32, color: Color, opacity: u32) {
        self.fill([left, top, right, top + line], color, opacity);
        self.fill([left, bottom - line, right, bottom], color, opacity);
        self.fill([left, top + line, left + line, bottom - line], color, opacity);
        self.fill([right - line, top + line, right, bottom - line], color, opacity);
    }

    /// One line of text; (x, y) is its top left corner, `dot` the size of a letter's dots in pixels.
    pub(super) fn text(&mut self, text: &str, x: i32, y: i32, dot: i32, color: Color) {
        for (index, letter) in text.chars().enumerate() {
            let left = x + index as i32 * (font::WIDTH + 1) * dot;
            if left >= self.width as i32 {
                return;
            }
            for down in 0..font::HEIGHT * dot {
                for across in 0..font::WIDTH * dot {
                    let (u, v) = (position(across, 1, dot), position(down, 1, dot));
                    if covered(u, v, BOLD, |column, row| font::dot(letter, column, row)) {
                        self.mix(left + across, y + down, color, SOLID);
                    }
                }
            }
        }
    }
}

/// Pixels that a text takes: across and down.
pub(super) fn text_size(text: &str, dot: i32) -> (i32, i32) {
    let letters = text.chars().count() as i32;
    ((letters * (font::WIDTH + 1) - 1).max(0) * dot, font::HEIGHT * dot)
}

fn mix(pixel: &mut [u8], color: Color, opacity: u32) {
    for (old, new) in pixel.iter_mut().zip(color) {
        *old = ((u32::from(*old) * (SOLID - opacity) + u32::from(new) * opacity + SOLID / 2) / SOLID) as u8;
    }
}

/// Where the centre of `pixel` lies among cells of which `cells` are as wide as `pixels`: in 1/256 of a cell, from the
/// centre of the first.
pub(super) fn position(pixel: i32, cells: i32, pixels: i32) -> i32 {
    let twice = (2 * i64::from(pixel) + 1) * i64::from(cells) * 128;
    (twice / i64::from(pixels.max(1))) as i32 - 128
}

/// The part of 65536 that must be set around a pixel: half keeps the size of things ...
pub(super) const HALF: i32 = 1 << 15;
/// ... and less makes letters bolder, and closes their diagonals.
const BOLD: i32 = HALF * 5 / 8;

/// True if the cells around a position, interpolated, are set by `least` or more: enlarges a grid with smooth edges.
pub(super) fn covered(u: i32, v: i32, least: i32, is_set: impl Fn(i32, i32) -> bool) -> bool {
    let (column, row) = (u >> 8, v >> 8);
    let (right, down) = (u & 255, v & 255);
    let part = |columns, rows, weight: i32| if is_set(column + columns, row + rows) { weight } else { 0 };
    let sum = part(0, 0, (256 - right) * (256 - down))
        + part(1, 0, right * (256 - down))
        + part(0, 1, (256 - right) * down)
        + part(1, 1, right * down);
    sum >= least
}

/// One gray byte a pixel becomes three, in place: from the end, so that nothing is overwritten before it is read.
fn spread_gray(pixels: &mut Vec<u8>) {
    let count = pixels.len();
    pixels.resize(count * 3, 0);
    for at in (0..count).rev() {
        let gray = pixels.get(at).copied().unwrap_or_default();
        if let Some(pixel) = pixels.get_mut(at * 3..at * 3 + 3) {
            pixel.fill(gray);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enlarging_keeps_cells_where_they_are() {
        let is_set = |column, row| column == 1 && row < 2;
        let hits = |down| (0..12).filter(|&x| covered(position(x, 3, 12), down, HALF, is_set)).collect::<Vec<_>>();
        assert_eq!(hits(position(0, 3, 12)), [4, 5, 6, 7]);
        assert_eq!(hits(position(11, 3, 12)), Vec::<i32>::new());
    }
}
