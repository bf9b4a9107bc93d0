//! The definition: what every other kernel must give, to the bit. Plain Rust, one accumulator at a time.

use super::{Dense, Depthwise, Isa, Kernels, LANES, Output, RowSpan, float, lanes};

/// Values are stored as they are; accumulators come in the order of the channels.
pub const KERNELS: Kernels = Kernels {
    isa: Isa::Portable,
    flip: 0,
    widths: &[1],
    order: |_, accumulator| accumulator,
    depthwise_order: |_, accumulator| accumulator,
    depthwise_widths: &[4, 2, 1],
    column: 1,
    int16_sums: false,
    dense,
    depthwise,
    one_channel: None,
    lanes: lanes::PORTABLE,
    float: float::PORTABLE,
    peak,
};

/// round(accumulator * scale + rest), the product and sum rounded once, half to even, clamped.
pub fn requantize(accumulator: i32, [scale, rest]: [f32; 2], low: f32, high: f32) -> i8 {
    (accumulator as f32).mul_add(scale, rest).round_ties_even().max(low).min(high) as i8
}

unsafe fn dense(layer: &Dense, span: &RowSpan) {
    for y in span.rows.clone() {
        for x in 0..span.width {
            for block in &layer.blocks {
                // SAFETY: y and x are in the span, so every tap lies in its input and every lane in its output;
                // `weights`, `bias` and `scale` hold what the layer's shape says.
                unsafe {
                    let input = span.input.add(y * span.in_row + x * span.in_pixel + block.input);
                    let output = span.output.add(y * span.out_row + x * span.out_pixel);
                    for accumulator in 0..block.width * LANES {
                        let sum = dot(layer, block.weights, block.width * LANES, accumulator, input);
                        let at = block.lane + accumulator;
                        let sum = (*layer.bias.as_ptr().add(at)).wrapping_add(sum);
                        let numbers = [*layer.scale.as_ptr().add(at), *layer.rest.as_ptr().add(at)];
                        store(layer.output, sum, numbers, at, output);
                    }
                }
            }
        }
    }
}

unsafe fn dot(layer: &Dense, weights: usize, width: usize, accumulator: usize, input: *const u8) -> i32 {
    let mut sum = 0i32;
    for (tap, offset) in layer.taps.iter().enumerate() {
        for byte in 0..layer.depth * 4 {
            let at = weights + ((tap * layer.depth + byte / 4) * width + accumulator) * 4 + byte % 4;
            // SAFETY: the caller's.
            let (value, weight) = unsafe { (*input.add(offset + byte) as i8, *layer.weights.as_ptr().add(at) as i8) };
            sum = sum.wrapping_add(i32::from(value) * i32::from(weight));
        }
    }
    sum
}

unsafe fn store(output: Output, sum: i32, numbers: [f32; 2], lane: usize, to: *mut u8) {
    match output {
        // SAFETY: the caller's.
        Output::Int8 { low, high } => unsafe { *to.add(lane) = requantize(sum, numbers, low, high) as u8 },
        Output::Float { low, high, channels } if lane < channels => {
            // SAFETY: the caller's; float tensors are aligned to 4.
            unsafe { *to.cast::<f32>().add(lane) = (sum as f32).mul_add(numbers[0], numbers[1]).max(low).min(high) }
        }
        Output::Float { .. } => {}
    }
}

unsafe fn depthwise(layer: &Depthwise, span: &RowSpan) {
    for y in span.rows.clone() {
        for x in 0..span.width {
            for block in &layer.blocks {
                for accumulator in 0..block.width * LANES {
                    let lane = block.lane + accumulator;
                    let mut sum = 0i32;
                    for row in 0..layer.rows {
                        for column in 0..layer.columns {
                            let at = block.weights + (row * layer.columns + column) * block.width * LANES + accumulator;
                            let offset = y * span.in_row + x * span.in_pixel + row * layer.row + column * layer.column;
                            // SAFETY: as in `dense`.
                            let (value, weight) = unsafe {
                                (*span.input.add(offset + lane) as i8, *layer.weights.as_ptr().add(at) as i8)
                            };
                            sum = sum.wrapping_add(i32::from(value) * i32::from(weight));
                        }
                    }
                    // SAFETY: as in `dense`.
                    unsafe {
                        let sum = (*layer.bias.as_ptr().add(lane)).wrapping_add(sum);
                        let numbers = [*layer.scale.as_ptr().add(lane), *layer.rest.as_ptr().add(lane)];
                        let value = requantize(sum, numbers, layer.low, layer.high);
                        *span.output.add(y * span.out_row + x * span.out_pixel + lane) = value as u8;
                    }
                }
            }
        }
    }
}

/// Sixteen chains, as the compiler makes them.
unsafe fn peak(rounds: u64) -> u64 {
    let mut sums = [0i32; 16];
    for round in 0..rounds {
        let (value, weight) = std::hint::black_box((round as i8, 3i8));
        for sum in &mut sums {
            *sum = sum.wrapping_add(i32::from(value) * i32::from(weight));
        }
    }
    std::hint::black_box(sums);
    16
}
