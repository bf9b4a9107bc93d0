//! In: the network's input. Out: what is measured of it, in numbers whose differences mean something.
//!
//! Short runs of pixels on a grid over the input, the same ones in each part: all sums of one part are taken in one pass
//! over them, and nothing is allocated.

#![expect(clippy::indexing_slicing, reason = "the grid is laid inside the input, and all lengths are constant")]

use serde::{Serialize, Serializer};

use crate::preprocess::Tensor;

/// Channels of the network's input.
const CHANNELS: usize = 3;
/// Pixels of a run.
const RUN: usize = 16;
/// Values of a run.
const LANES: usize = RUN * CHANNELS;
/// The same with the pixels left and right of it.
const LOADED: usize = LANES + 2 * CHANNELS;
/// Runs of a part, over all its tiles.
const RUNS: usize = 256;
/// Runs of a tile at least.
const RUNS_OF_A_TILE: usize = 16;
/// Values of the input from which a pixel is white, and up to which it is black, in a channel.
const WHITE: i16 = 125;
const BLACK: i16 = -126;
/// Levels that are added before a logarithm: a sensor's own darkness must not look like a light that changes.
const DARK: f32 = 4.0;

/// What is watched.
///
/// ```
/// use fcam::drift::Measure;
///
/// assert_eq!(Measure::ALL.map(Measure::bit)[..3], [0, 1, 2]); // bits of the PLC's register
/// assert_eq!(Measure::Warmth.name(), "warmth");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Logarithm of the mean level.
    Brightness,
    /// Logarithm of the levels' standard deviation as a share of their mean: a weaker lamp alone does not change it.
    Contrast,
    /// Logarithm of the steps from pixel to pixel, without noise, as a share of the mean level.
    Sharpness,
    /// Logarithm of red to blue.
    Warmth,
    /// Logarithm of green to red and blue.
    Tint,
    /// Logarithm of the noise in the plainest quarter of the picture, in levels.
    Noise,
    /// Share of the values at the ends of the scale.
    Clipped,
    /// Logarithm of the odds that good parts are defective, as the network sees them.
    Score,
}

impl Measure {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// All, by their bits.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Brightness,
        Self::Contrast,
        Self::Sharpness,
        Self::Warmth,
        Self::Tint,
        Self::Noise,
        Self::Clipped,
        Self::Score,
    ];

    /// Its place in [`Self::ALL`], and its bit in the PLC's register.
    pub fn bit(self) -> usize {
        self as usize
    }

    /// As JSON and the manifest have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brightness => "brightness",
            Self::Contrast => "contrast",
            Self::Sharpness => "sharpness",
            Self::Warmth => "warmth",
            Self::Tint => "tint",
            Self::Noise => "noise",
            Self::Clipped => "clipped",
            Self::Score => "score",
        }
    }

    /// The smallest change that matters to anybody, in its own numbers: pictures of good parts differ by as much.
    pub(super) fn least(self) -> f32 {
        match self {
            Self::Brightness => 0.04,
            Self::Contrast => 0.08,
            Self::Sharpness => 0.06,
            Self::Warmth | Self::Tint => 0.03,
            Self::Noise => 0.3,
            Self::Clipped => 0.01,
            Self::Score => 1.0,
        }
    }

    /// True if less of it is no harm.
    pub(super) fn only_up(self) -> bool {
        matches!(self, Self::Noise | Self::Clipped | Self::Score)
    }

    /// A difference in its own numbers as a share: -0.18 is 18 % less. Of [`Self::Clipped`], a share of the values.
    pub(super) fn share(self, difference: f32) -> f32 {
        match self {
            Self::Clipped => difference,
            _ => difference.exp_m1(),
        }
    }
}

/// What was measured of one part.
///
/// ```
/// use fcam::drift::{Measure, Meter};
/// use fcam::preprocess::Tensor;
///
/// let mut meter = Meter::new(1);
/// let mut measured = |level: i8| {
///     let values = [level; 64 * 64 * 3];
///     meter.begin();
///     meter.add(&Tensor { width: 64, height: 64, values: &values });
///     meter.measures()
/// };
/// let (dim, bright) = (measured(-78).get(Measure::Brightness), measured(22).get(Measure::Brightness));
/// assert!((bright.unwrap() - dim.unwrap() - f32::ln(154.0 / 54.0)).abs() < 1e-5);
/// assert_eq!(measured(127).get(Measure::Clipped), Some(1.0));
/// assert_eq!(measured(0).get(Measure::Score), None); // the network was not asked
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measures {
    /// By [`Measure::bit`]; not a number where it was not measured.
    values: [f32; Measure::COUNT],
    /// Standard deviation of the levels.
    pub(super) spread: f32,
}

impl Measures {
    /// Nothing.
    pub(super) const NONE: Self = Self { values: [f32::NAN; Measure::COUNT], spread: 0.0 };

    /// One of them, if it was measured.
    pub fn get(&self, measure: Measure) -> Option<f32> {
        self.values.get(measure.bit()).copied().filter(|value| value.is_finite())
    }

    /// The same with a good part's defect score, 0..1.
    #[must_use]
    pub fn scored(mut self, score: f32) -> Self {
        let score = score.clamp(0.001, 0.999);
        self.values[Measure::Score.bit()] = (score / (1.0 - score)).ln();
        self
    }
}

impl Serialize for Measures {
    /// By name; null where it was not measured.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Measure::ALL.map(|measure| (measure.name(), self.get(measure))))
    }
}

/// Measures parts; of several tiles, all of them together.
#[derive(Debug)]
pub struct Meter {
    /// Runs of each tile.
    runs: usize,
    sums: Sums,
    /// How rough each run is.
    rough: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Sums {
    runs: usize,
    level: [i32; LANES],
    square: u64,
    clipped: u32,
    step: u64,
}

impl Sums {
    const NONE: Self = Self { runs: 0, level: [0; LANES], square: 0, clipped: 0, step: 0 };
}

impl Meter {
    /// For parts of so many tiles.
    pub fn new(tiles: usize) -> Self {
        let runs = (RUNS / tiles.max(1)).max(RUNS_OF_A_TILE);
        Self { runs, sums: Sums::NONE, rough: Vec::with_capacity(2 * runs * tiles.max(1)) }
    }

    /// The next part.
    pub fn begin(&mut self) {
        self.sums = Sums::NONE;
        self.rough.clear();
    }

    /// A tile of it. One that is too small for a run is left out; no network's input is.
    pub fn add(&mut self, tensor: &Tensor) {
        let Tensor { width, height, values } = *tensor;
        if width < RUN + 2 || height < 3 || values.len() < width * height * CHANNELS {
            return;
        }
        let across = (width / (RUN + RUN / 2)).clamp(1, RUN);
        let down = (self.runs / across).clamp(1, height - 2);
        for row in 0..down {
            let y = 1 + spread(row, down, height - 3);
            for column in 0..across {
                let x = spread(column, across, width - RUN - 2);
                let at = (y * width + x) * CHANNELS;
                self.run(values, at, width * CHANNELS);
            }
        }
    }

    /// `at` is the pixel left of the run.
    fn run(&mut self, values: &[i8], at: usize, stride: usize) {
        let [above, own, below] = [at - stride, at, at + stride].map(|start| widened(values, start));
        let [left, here, right] = neighbours(&own);
        let ([over_left, over, over_right], [under_left, under, under_right]) =
            (neighbours(&above), neighbours(&below));
        let Sums { runs, level, square, clipped, step } = &mut self.sums;
        let (mut rough, mut ends) = ([0; LANES], [0; LANES]);
        for lane in 0..LANES {
            level[lane] += i32::from(here[lane]);
            ends[lane] = i16::from(here[lane] >= WHITE) + i16::from(here[lane] <= BLACK);
            let corners = over_left[lane] + over_right[lane] + under_left[lane] + under_right[lane];
            let sides = left[lane] + right[lane] + over[lane] + under[lane];
            rough[lane] = corners + 4 * here[lane] - 2 * sides;
        }
        *runs += 1;
        *square += squares(here, &[0; LANES]);
        *step += squares(right, here) + squares(under, here);
        *clipped += magnitudes(&ends);
        if self.rough.len() < self.rough.capacity() {
            self.rough.push(magnitudes(&rough));
        }
    }

    /// Of the part whose tiles were added.
    pub fn measures(&mut self) -> Measures {
        let Sums { runs, level, square, clipped, step } = &self.sums;
        if *runs == 0 {
            return Measures::NONE;
        }
        let pixels = (*runs * RUN) as f64;
        let values = pixels * CHANNELS as f64;
        let means = [0, 1, 2].map(|channel| {
            level.iter().skip(channel).step_by(CHANNELS).map(|sum| f64::from(*sum)).sum::<f64>() / pixels
        });
        let squared = means.iter().map(|mean| mean * mean).sum::<f64>() / CHANNELS as f64;
        let spread = (*square as f64 / values - squared).max(0.0).sqrt() as f32;
        let [red, green, blue] = means.map(|mean| mean as f32 + 128.0 + DARK);
        let light = (red + green + blue) / CHANNELS as f32;
        let noise = noise(&mut self.rough);
        let step = (*step as f64 / (2.0 * values)) as f32; // of the mean square; noise has its part in it
        let step = (step - 2.0 * noise * noise).max(0.01 * step + 1e-3).sqrt();
        let mut found = Measures::NONE;
        found.spread = spread;
        found.values = [
            light.ln(),
            ((spread + 0.5) / light).ln(),
            (step / light).ln(),
            (red / blue).ln(),
            (green / (red * blue).sqrt()).ln(),
            (noise + 0.5).ln(),
            (f64::from(*clipped) / values) as f32,
            f32::NAN,
        ];
        found
    }
}

/// The place of the `index`-th of `count` that are spread over 0..=`last`.
fn spread(index: usize, count: usize, last: usize) -> usize {
    if count > 1 { index * last / (count - 1) } else { last / 2 }
}

fn widened(values: &[i8], start: usize) -> [i16; LOADED] {
    let mut wide = [0; LOADED];
    wide.iter_mut().zip(&values[start..start + LOADED]).for_each(|(wide, value)| *wide = i16::from(*value));
    wide
}

/// The values left of a run's pixels, at them, and right of them.
fn neighbours(row: &[i16; LOADED]) -> [&[i16]; 3] {
    [&row[..LANES], &row[CHANNELS..LANES + CHANNELS], &row[2 * CHANNELS..]]
}

/// The sum of squared differences. Not inlined: its loop, unrolled, would not be vectorised.
#[inline(never)]
fn squares(from: &[i16], to: &[i16]) -> u64 {
    let square = |(from, to): (&i16, &i16)| i32::from(from - to) * i32::from(from - to);
    from.iter().zip(to).map(square).sum::<i32>() as u64
}

/// The sum of magnitudes; the same holds.
#[inline(never)]
fn magnitudes(values: &[i16]) -> u32 {
    values.iter().map(|value| i32::from((*value).max(-*value))).sum::<i32>() as u32
}

/// Standard deviation of the noise, levels: Immerkær's difference of two Laplacians ("Fast noise variance estimation",
/// CVIU 64, 1996), in the plainest quarter of the runs, where the part's own edges are not.
fn noise(rough: &mut [u32]) -> f32 {
    let quarter = rough.len() / 4;
    if rough.len() <= quarter {
        return 0.0;
    }
    let (_, rough, _) = rough.select_nth_unstable(quarter);
    *rough as f32 / LANES as f32 * (std::f32::consts::PI / 2.0).sqrt() / 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 96;

    /// Random numbers of a normal distribution, the same each time (xorshift64*, twelve uniform ones each).
    pub(super) fn normal(seed: &mut u64) -> f32 {
        let mut uniform = || {
            *seed ^= *seed >> 12;
            *seed ^= *seed << 25;
            *seed ^= *seed >> 27;
            (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1 << 24) as f32
        };
        (0..12).map(|_| uniform()).sum::<f32>() - 6.0
    }

    /// A part of blocks: gains for red, green and blue, a blur of so many pixels, and noise.
    fn part(gains: [f32; 3], blur: isize, noise: f32) -> Measures {
        let level = |x: isize, y: isize| if (x / 12 + y / 12) % 2 == 0 { 60.0 } else { 160.0 };
        let mut seed = 0x1234_5678_9abc_def1;
        let mut values = vec![];
        for y in 0..SIDE as isize {
            for x in 0..SIDE as isize {
                let near = (-blur..=blur).flat_map(|dy| (-blur..=blur).map(move |dx| level(x + dx + 96, y + dy + 96)));
                let mean = near.sum::<f32>() / ((2 * blur + 1) * (2 * blur + 1)) as f32;
                for gain in gains {
                    values.push(((mean * gain + noise * normal(&mut seed)).round() - 128.0).clamp(-128.0, 127.0) as i8);
                }
            }
        }
        let mut meter = Meter::new(1);
        meter.begin();
        meter.add(&Tensor { width: SIDE, height: SIDE, values: &values });
        meter.measures()
    }

    #[track_caller]
    fn changes(from: Measures, to: Measures, expected: [(Measure, f32); 6], near: f32) {
        for (measure, difference) in expected {
            let found = to.get(measure).unwrap() - from.get(measure).unwrap();
            assert!((found - difference).abs() <= near, "{measure:?}: {found} and not {difference}");
        }
    }

    /// Each cause moves its own measure, and no other one by as much as matters.
    #[test]
    fn each_cause_has_its_measure() {
        use Measure::{Brightness, Contrast, Noise, Sharpness, Tint, Warmth};
        let plain = part([1.0; 3], 1, 2.0);
        let darker = part([0.8; 3], 1, 2.0);
        let all = [(Brightness, -0.215), (Contrast, 0.0), (Sharpness, 0.0), (Warmth, 0.0), (Tint, 0.0), (Noise, 0.0)];
        changes(plain, darker, all, 0.025);
        let warmer = part([1.05, 1.0, 0.95], 1, 2.0);
        let all = [(Brightness, 0.0), (Contrast, 0.0), (Sharpness, 0.0), (Warmth, 0.097), (Tint, 0.0), (Noise, 0.0)];
        changes(plain, warmer, all, 0.025);
        let (blurred, noisy) = (part([1.0; 3], 3, 2.0), part([1.0; 3], 1, 4.0));
        assert!(blurred.get(Sharpness).unwrap() < plain.get(Sharpness).unwrap() - 0.2);
        assert!((noisy.get(Noise).unwrap() - plain.get(Noise).unwrap() - 0.59).abs() < 0.1);
        assert!((noisy.get(Sharpness).unwrap() - plain.get(Sharpness).unwrap()).abs() < 0.05);
    }

    #[test]
    fn the_noise_is_in_levels() {
        let found = part([1.0; 3], 1, 3.0).get(Measure::Noise).unwrap().exp() - 0.5;
        assert!((2.5..3.3).contains(&found), "{found}");
    }

    /// A grid that left the input would panic; the smallest inputs and flat ones have their measures too.
    #[test]
    fn inputs_of_any_size_are_measured() {
        for (width, height) in [(32, 32), (48, 1040), (2048, 32), (512, 384)] {
            for tiles in [1, 7, 64] {
                let mut meter = Meter::new(tiles);
                let room = meter.rough.capacity();
                meter.begin();
                let values = vec![10; width * height * 3];
                (0..tiles).for_each(|_| meter.add(&Tensor { width, height, values: &values }));
                assert_eq!(meter.rough.capacity(), room, "{width} x {height}, {tiles}");
                let measures = meter.measures();
                assert!((measures.get(Measure::Brightness).unwrap() - f32::ln(142.0)).abs() < 1e-5);
                assert!(Measure::ALL[..7].iter().all(|measure| measures.get(*measure).is_some()), "{measures:?}");
            }
        }
        let mut meter = Meter::new(1);
        meter.begin();
        meter.add(&Tensor { width: 8, height: 8, values: &[0; 192] });
        assert_eq!(meter.measures().get(Measure::Brightness), None);
    }

    #[test]
    fn a_score_is_in_logarithms_of_odds() {
        let score = |score| Measures::NONE.scored(score).get(Measure::Score).unwrap();
        assert!(score(0.5).abs() < 1e-6 && (score(0.2) + 4.0_f32.ln()).abs() < 1e-5);
        assert!(score(0.0).is_finite() && score(1.0).is_finite());
    }
}
