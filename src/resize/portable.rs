//! The two passes in plain Rust, written so that the compiler makes vector instructions of them (NEON on a Raspberry Pi
//! and a Jetson: seen in the assembly).
//!
//! Both compute `(2^(bits-1) + sum of coefficient * pixel) >> bits`, clipped to a byte. Integer sums have no order, so
//! every kernel that computes them gives the same bytes.

use super::weights::Weights;
use super::{BLOCK, Rows, blocks};

/// One target row from source rows, as many as there are weights.
#[inline(always)]
pub(super) fn vertical(rows: Rows, weights: &[i16], bits: u32, out: &mut [u8]) {
    for at in blocks(out.len()) {
        let mut sums = [half(bits); BLOCK];
        for (row, &weight) in weights.iter().enumerate() {
            for (sum, &pixel) in sums.iter_mut().zip(rows.block(row, at)) {
                *sum += i32::from(weight) * i32::from(pixel);
            }
        }
        for (out, sum) in out.iter_mut().skip(at).zip(sums) {
            *out = clip(sum, bits);
        }
    }
    if out.len() < BLOCK {
        narrow(rows, weights, bits, out);
    }
}

/// The vertical pass for rows shorter than a block.
pub(super) fn narrow(rows: Rows, weights: &[i16], bits: u32, out: &mut [u8]) {
    for (column, out) in out.iter_mut().enumerate() {
        let product = |(row, &weight)| i32::from(weight) * i32::from(rows.pixel(row, column));
        *out = clip(half(bits) + weights.iter().enumerate().map(product).sum::<i32>(), bits);
    }
}

/// One target row of RGB pixels from a source row. Loads and stores four bytes a pixel, of which the last is the next
/// one's: a vector of four is quicker than three values.
pub(super) fn horizontal_rgb(row: &[u8], weights: &Weights, out: &mut [u8]) {
    let bits = weights.bits;
    for (index, (span, weights)) in weights.iter().enumerate() {
        let mut sums = [half(bits); 4];
        let window = row.get(span.start * 3..).unwrap_or_default();
        for (pixel, &weight) in window.windows(4).step_by(3).zip(weights) {
            for (sum, &pixel) in sums.iter_mut().zip(pixel.first_chunk::<4>().unwrap_or(&[0; 4])) {
                *sum += i32::from(weight) * i32::from(pixel);
            }
        }
        if let Some(out) = out.get_mut(index * 3..).and_then(<[u8]>::first_chunk_mut) {
            *out = sums.map(|sum| clip(sum, bits));
        }
    }
}

/// One target row of gray pixels from a source row.
pub(super) fn horizontal_gray(row: &[u8], weights: &Weights, out: &mut [u8]) {
    last_gray(row, weights, 0, out);
}

/// The pixels of that row from `first` on.
pub(super) fn last_gray(row: &[u8], weights: &Weights, first: usize, out: &mut [u8]) {
    let bits = weights.bits;
    for ((span, weights), out) in weights.iter().skip(first).zip(out) {
        let window = row.get(span.start..).unwrap_or_default();
        let products = window.iter().zip(weights).map(|(&pixel, &weight)| i32::from(weight) * i32::from(pixel));
        *out = clip(half(bits) + products.sum::<i32>(), bits);
    }
}

fn half(bits: u32) -> i32 {
    1 << (bits - 1)
}

fn clip(sum: i32, bits: u32) -> u8 {
    (sum >> bits).clamp(0, 255) as u8
}
