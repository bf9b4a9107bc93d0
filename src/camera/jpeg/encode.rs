//! In: the planes of a frame. Out: a baseline JPEG picture of them, so that what decoding costs can be measured without
//! a camera.
//!
//! One scan, no restart markers, the quantisation and Huffman tables of ITU-T T.81, annex K, at a quality that cameras
//! have. Nothing here is made for speed.

use std::f64::consts::PI;

use super::huffman::{self, Class, Spec};
use super::idct::{ZIGZAG, place};
use super::planes::{Plane, Planes};
use crate::camera::{Frame, Geometry};

/// As IJG's programs count it, 1 to 100.
const QUALITY: u32 = 87;

/// T.81, tables K.1 and K.2, row by row.
#[rustfmt::skip]
const LUMINANCE: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];
#[rustfmt::skip]
const CHROMINANCE: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// A JPEG picture of a frame; none if its format is not a planar one of JPEG.
///
/// ```
/// use fcam::camera::{Frame, Geometry, Picture, PixelFormat, jpeg};
///
/// let geometry = Geometry::packed(32, 16, PixelFormat::Yuvj420)?;
/// let gray = vec![128; geometry.frame_bytes()];
/// let encoded = jpeg::encode(&Frame::new(0, fcam::clock::now(), geometry, &gray)?).ok_or("not planar")?;
/// let mut decoded = Picture::EMPTY;
/// jpeg::Decoder::default().decode(&encoded, &mut decoded)?;
/// assert_eq!((decoded.geometry, decoded.bytes), (geometry, gray));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode(frame: &Frame) -> Option<Vec<u8>> {
    let geometry = frame.geometry();
    let planes = Planes::of(frame.bytes(), &geometry)?;
    let tables = [Table::new(0, &LUMINANCE)?, Table::new(1, &CHROMINANCE)?];
    let mut out = vec![0xFF, 0xD8];
    let [_, chroma, _] = &planes.parts;
    let (across, down) = (chroma.sampling.across, chroma.sampling.down);
    tables.iter().for_each(|table| table.write(&mut out));
    header(&mut out, &geometry, (across << 4 | down) as u8);
    let mut bits = Bits::default();
    let mut means = [0; 3];
    let [columns, rows] =
        [(geometry.width, across), (geometry.height, down)].map(|(side, per)| (side as usize).div_ceil(8 * per));
    for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
        for (index, (plane, mean)) in planes.parts.iter().zip(&mut means).enumerate() {
            let [luma, chroma] = &tables;
            let table = if index == 0 { luma } else { chroma };
            let (w, h) = (across / plane.sampling.across, down / plane.sampling.down);
            for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                table.block(plane, (column * w + x) * 8, (row * h + y) * 8, mean, &mut bits);
            }
        }
    }
    out.extend(bits.finish());
    out.extend([0xFF, 0xD9]);
    Some(out)
}

/// The frame and scan headers (T.81, B.2.2 and B.2.3).
fn header(out: &mut Vec<u8>, geometry: &Geometry, factors: u8) {
    let [[w0, w1], [h0, h1]] = [geometry.width, geometry.height].map(|side| (side as u16).to_be_bytes());
    out.extend([0xFF, 0xC0, 0, 17, 8, h0, h1, w0, w1, 3, 1, factors, 0, 2, 0x11, 1, 3, 0x11, 1]);
    out.extend([0xFF, 0xDA, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
}

/// Quantisation and Huffman tables of luminance or chrominance.
struct Table {
    number: u8,
    /// In zigzag order, as is everything below.
    steps: Vec<u16>,
    dc: Spec,
    ac: Spec,
    /// Rows and columns of the coefficients.
    order: Vec<(usize, usize)>,
}

impl Table {
    fn new(number: u8, steps: &[u16; 64]) -> Option<Self> {
        let cells = || (0..8).flat_map(|row| (0..8).map(move |column| (row, column)));
        let cell = |at: &u8| cells().find(|&(row, column)| place(row, column) == usize::from(*at));
        let order: Vec<_> = ZIGZAG.iter().filter_map(cell).collect();
        let scaled = |&(row, column): &(usize, usize)| {
            let step = steps.get(row * 8 + column).copied().map_or(1, u32::from);
            ((step * (200 - 2 * QUALITY) + 50) / 100).clamp(1, 255) as u16
        };
        let steps = order.iter().map(scaled).collect();
        let [dc, ac] = [Class::Dc, Class::Ac].map(|class| huffman::standard(class, number.into()));
        Some(Self { number, steps, dc: dc?, ac: ac?, order })
    }

    /// Its segments (T.81, B.2.4.1 and B.2.4.2).
    fn write(&self, out: &mut Vec<u8>) {
        out.extend([0xFF, 0xDB, 0, 67, self.number]);
        out.extend(self.steps.iter().map(|&step| step as u8));
        for (class, spec) in [(0, &self.dc), (1, &self.ac)] {
            let length = (19 + spec.used().len()) as u16;
            out.extend([0xFF, 0xC4]);
            out.extend(length.to_be_bytes());
            out.push(class << 4 | self.number);
            out.extend(spec.counts);
            out.extend(spec.used());
        }
    }

    /// One block of a plane (T.81, F.1.2).
    fn block(&self, plane: &Plane, left: usize, top: usize, mean: &mut i32, bits: &mut Bits) {
        let coefficients = cosines(plane, left, top);
        let quantised: Vec<i32> = self
            .order
            .iter()
            .zip(&self.steps)
            .map(|(&(row, column), &step)| {
                let value = coefficients.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0.0);
                (value / f64::from(step)).round() as i32
            })
            .collect();
        let Some((&first, others)) = quantised.split_first() else { return };
        bits.value(&self.dc, 0, first - std::mem::replace(mean, first));
        let mut zeros = 0;
        for &value in others {
            if value == 0 {
                zeros += 1;
                continue;
            }
            (0..zeros / 16).for_each(|_| bits.symbol(&self.ac, 0xF0));
            bits.value(&self.ac, (zeros % 16) as u8, value);
            zeros = 0;
        }
        if zeros > 0 {
            bits.symbol(&self.ac, 0);
        }
    }
}

/// The coefficients of a block by T.81, A.3.3; samples beyond the edge are the last true ones.
fn cosines(plane: &Plane, left: usize, top: usize) -> [[f64; 8]; 8] {
    let sample = |y: usize, x: usize| {
        let (y, x) = ((top + y).min(plane.height - 1), (left + x).min(plane.width - 1));
        plane.samples.get(y * plane.stride + x).map_or(0.0, |&sample| f64::from(sample) - 128.0)
    };
    let factor = |at: usize, k: usize| {
        let scale = if k == 0 { 0.125f64.sqrt() } else { 0.5 };
        scale * ((2 * at + 1) as f64 * k as f64 * PI / 16.0).cos()
    };
    let factors: [[f64; 8]; 8] = std::array::from_fn(|k| std::array::from_fn(|at| factor(at, k)));
    let dot = |a: &[f64; 8], b: &[f64; 8]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let rows: [[f64; 8]; 8] = std::array::from_fn(|y| {
        let row = std::array::from_fn(|x| sample(y, x));
        factors.each_ref().map(|factors| dot(&row, factors))
    });
    factors.each_ref().map(|factors| {
        std::array::from_fn(|column| {
            let along = std::array::from_fn(|y| rows.get(y).and_then(|row| row.get(column)).copied().unwrap_or(0.0));
            dot(&along, factors)
        })
    })
}

/// Entropy-coded bits.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    waiting: u64,
    count: u32,
}

impl Bits {
    /// Size, bits, and before them the code of both and the zeros before the value.
    fn value(&mut self, spec: &Spec, zeros: u8, value: i32) {
        let size = 32 - value.unsigned_abs().leading_zeros();
        self.symbol(spec, zeros << 4 | size as u8);
        let bits = if value < 0 { value - 1 } else { value };
        self.push(bits.cast_unsigned() & ((1 << size) - 1), size);
    }

    fn symbol(&mut self, spec: &Spec, symbol: u8) {
        if let Some((code, length)) = spec.code(symbol) {
            self.push(code, length);
        }
    }

    fn push(&mut self, bits: u32, count: u32) {
        self.waiting = self.waiting << count | u64::from(bits);
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.waiting >> self.count) as u8;
            self.bytes.push(byte);
            if byte == 0xFF {
                self.bytes.push(0);
            }
        }
    }

    /// Filled up with ones.
    fn finish(mut self) -> Vec<u8> {
        self.push(0x7F, 7);
        self.bytes
    }
}
