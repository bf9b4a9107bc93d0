//! In: the measures of good parts. Out: what is usual of each: mean, spread, and how much a part is like the one before.

use serde::{Deserialize, Serialize};

use super::measure::{Measure, Measures};

/// Parts that a reference needs: the error of a mean of fewer is as large as what is to be found.
pub const LEAST_PARTS: u32 = 20;

/// What is usual of one measure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usual {
    /// Of good parts.
    pub mean: f32,
    /// Their standard deviation.
    pub spread: f32,
    /// Correlation of each part with the one before, -1 to 1.
    pub correlation: f32,
}

/// What good parts look like. A bundle carries it as `[drift]`, and a station can learn one.
///
/// ```
/// use fcam::drift::{LEAST_PARTS, Measure, Meter, Teacher};
/// use fcam::preprocess::Tensor;
///
/// let (mut meter, mut teacher) = (Meter::new(1), Teacher::default());
/// for part in 0..LEAST_PARTS as i8 {
///     let values = [part % 3; 64 * 64 * 3];
///     meter.begin();
///     meter.add(&Tensor { width: 64, height: 64, values: &values });
///     teacher.add(&meter.measures());
/// }
/// let reference = teacher.reference().ok_or("too few parts")?;
/// let brightness = reference.usual(Measure::Brightness).ok_or("none")?;
/// assert!((brightness.mean - f32::ln(133.0)).abs() < 0.01 && brightness.spread > 0.0);
/// assert_eq!(reference.usual(Measure::Score), None); // no network was asked
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Parts that it was made of.
    pub parts: u32,
    /// The smallest standard deviation of a part's levels.
    pub least_spread: f32,
    /// The smallest [`Measure::Sharpness`] of a part.
    pub least_sharpness: f32,
    brightness: Usual,
    contrast: Usual,
    sharpness: Usual,
    warmth: Usual,
    tint: Usual,
    noise: Usual,
    clipped: Usual,
    /// Of good parts that training has not seen; none where there were too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    score: Option<Usual>,
}

impl Reference {
    /// What is usual of a measure.
    pub fn usual(&self, measure: Measure) -> Option<Usual> {
        match measure {
            Measure::Brightness => Some(self.brightness),
            Measure::Contrast => Some(self.contrast),
            Measure::Sharpness => Some(self.sharpness),
            Measure::Warmth => Some(self.warmth),
            Measure::Tint => Some(self.tint),
            Measure::Noise => Some(self.noise),
            Measure::Clipped => Some(self.clipped),
            Measure::Score => self.score,
        }
    }

    /// Everything in it that cannot be.
    pub fn problems(&self) -> Vec<String> {
        let mut found = vec![];
        if self.parts < LEAST_PARTS {
            found.push(format!("drift.parts = {} is less than {LEAST_PARTS}: teach it with more pictures", self.parts));
        }
        if !(self.least_spread >= 0.0 && self.least_spread.is_finite() && self.least_sharpness.is_finite()) {
            found.push("drift.least_spread and drift.least_sharpness are not both numbers from 0, and any".into());
        }
        for measure in Measure::ALL {
            let Some(Usual { mean, spread, correlation }) = self.usual(measure) else { continue };
            let sound = mean.is_finite() && spread >= 0.0 && spread.is_finite() && correlation.abs() <= 1.0;
            if !sound {
                let name = measure.name();
                found.push(format!("drift.{name} is not a mean, a spread from 0 on, and a correlation from -1 to 1"));
            }
        }
        found
    }
}

/// Makes a [`Reference`], part by part, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Teacher {
    parts: u32,
    least_spread: f32,
    least_sharpness: f32,
    sums: [Sums; Measure::COUNT],
}

/// Of one measure, from its first value on, so that small differences of large numbers keep their digits.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    count: f64,
    first: f64,
    last: f64,
    sum: f64,
    square: f64,
    product: f64,
}

impl Sums {
    fn add(&mut self, value: f32) {
        if self.count == 0.0 {
            self.first = value.into();
        }
        let from_first = f64::from(value) - self.first;
        self.product += from_first * self.last;
        self.count += 1.0;
        self.sum += from_first;
        self.square += from_first * from_first;
        self.last = from_first;
    }

    fn usual(&self) -> Option<Usual> {
        let Self { count, first, last, sum, square, product } = *self;
        if count < f64::from(LEAST_PARTS) {
            return None;
        }
        let mean = sum / count;
        let variance = (square / count - mean * mean).max(0.0);
        // The sum over neighbours of what both are off: the first one is zero, and the last is no "before".
        let together = product - mean * (2.0 * sum - last) + (count - 1.0) * mean * mean;
        let correlation = if variance > 1e-12 { (together / count / variance).clamp(-1.0, 1.0) } else { 0.0 };
        let spread = (variance * count / (count - 1.0)).sqrt();
        let rounded = |value: f64| ((value * 1e5).round() / 1e5) as f32;
        Some(Usual { mean: rounded(first + mean), spread: rounded(spread), correlation: rounded(correlation) })
    }
}

impl Teacher {
    /// One more good part.
    pub fn add(&mut self, measures: &Measures) {
        let Some(sharpness) = measures.get(Measure::Sharpness) else { return };
        let first = self.parts == 0;
        let least = |least: f32, value: f32| if first { value } else { least.min(value) };
        self.least_spread = least(self.least_spread, measures.spread);
        self.least_sharpness = least(self.least_sharpness, sharpness);
        self.parts += 1;
        for (measure, sums) in Measure::ALL.into_iter().zip(&mut self.sums) {
            measures.get(measure).into_iter().for_each(|value| sums.add(value));
        }
    }

    /// Parts so far.
    pub fn parts(&self) -> u32 {
        self.parts
    }

    /// What is usual; none of fewer than [`LEAST_PARTS`].
    pub fn reference(&self) -> Option<Reference> {
        let [brightness, contrast, sharpness, warmth, tint, noise, clipped, score] =
            self.sums.each_ref().map(Sums::usual);
        Some(Reference {
            parts: self.parts,
            least_spread: self.least_spread,
            least_sharpness: self.least_sharpness,
            brightness: brightness?,
            contrast: contrast?,
            sharpness: sharpness?,
            warmth: warmth?,
            tint: tint?,
            noise: noise?,
            clipped: clipped?,
            score,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual(values: &[f32]) -> Option<Usual> {
        let mut sums = Sums::default();
        values.iter().for_each(|value| sums.add(*value));
        sums.usual()
    }

    #[test]
    fn mean_spread_and_correlation_are_those_of_the_textbook() {
        let values: Vec<f32> = (0..40).map(|at| 100.0 + [0.0, 1.0, 2.0, 1.0][at % 4]).collect();
        let found = usual(&values).unwrap();
        assert!((found.mean - 101.0).abs() < 1e-4, "{found:?}");
        assert!((found.spread - (20.0_f32 / 39.0).sqrt()).abs() < 1e-4, "{found:?}");
        assert!(found.correlation.abs() < 0.03, "{found:?}"); // a quarter of a period on
        let slow: Vec<f32> = (0..40).map(|at| if at < 20 { 0.0 } else { 1.0 }).collect();
        assert!(usual(&slow).unwrap().correlation > 0.9);
        let turns: Vec<f32> = (0..40).map(|at| (at % 2) as f32).collect();
        assert!(usual(&turns).unwrap().correlation < -0.9);
        let still = usual(&[5.0; 40]).unwrap();
        assert_eq!((still.mean, still.spread, still.correlation), (5.0, 0.0, 0.0));
        assert_eq!(usual(&[5.0; LEAST_PARTS as usize - 1]), None);
    }

    #[test]
    fn what_cannot_be_is_told() {
        let still = Usual { mean: 0.0, spread: 0.0, correlation: 0.0 };
        let sound = Reference {
            parts: LEAST_PARTS,
            least_spread: 10.0,
            least_sharpness: -1.0,
            brightness: still,
            contrast: still,
            sharpness: still,
            warmth: still,
            tint: still,
            noise: still,
            clipped: still,
            score: None,
        };
        assert_eq!(sound.problems(), Vec::<String>::new());
        let text = toml::to_string(&sound).unwrap();
        assert_eq!(toml::from_str::<Reference>(&text).unwrap(), sound);
        let wrong = [
            Reference { parts: LEAST_PARTS - 1, ..sound.clone() },
            Reference { least_spread: f32::NAN, ..sound.clone() },
            Reference { noise: Usual { spread: -1.0, ..still }, ..sound.clone() },
            Reference { score: Some(Usual { correlation: 1.5, ..still }), ..sound },
        ];
        for reference in wrong {
            assert_eq!(reference.problems().len(), 1, "{reference:?}");
        }
    }
}
