//! In: pictures of good parts, as the network's input. Out: the template that they share, their mean where they agree;
//! and how far they lie from it.

use super::{Locator, Pose, Reach};
use crate::preprocess::Tensor;

/// A fixture's play, and parts that lie more freely.
const REACHES: [Reach; 2] =
    [Reach { shift: 0.03, turn: 3.0, agreement: 0.0 }, Reach { shift: 0.1, turn: 10.0, agreement: 0.0 }];
/// Agreement that a wider search must gain to be taken: it is slower, and finds more that is like the part.
const WORTH: f32 = 0.1;
/// Share of the median agreement that a picture needs to be part of the mean.
const ALIKE: f32 = 0.5;

/// What [`teach`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Taught {
    /// `height * width * 3` values, as a [`Tensor`] has them.
    pub template: Vec<i8>,
    /// How far parts lie from it; its agreement is 0.
    pub reach: Reach,
    /// Agreement of half of the pictures at least, -1 to 1, each with a template of others: 0.7 and more of parts in a
    /// fixture, 0.3 of a surface; 0 of a single picture.
    pub median: f32,
}

/// The template of good parts. None where there are none, or where the first is too plain to be found again.
///
/// ```
/// use fcam::locate::{Locator, teach};
/// use fcam::preprocess::Tensor;
///
/// let part = |at: usize| if (20..70).contains(&(at % 96)) && (30..60).contains(&(at / 96)) { 60 } else { -60 };
/// let good: Vec<i8> = (0..96 * 96).flat_map(|at| [part(at); 3]).collect();
/// let taught = teach(&[Tensor { width: 96, height: 96, values: &good }; 4]).ok_or("plain")?;
/// assert!(taught.median > 0.7); // the parts lie alike
/// assert!(Locator::new(&taught.template, 96, 96, taught.reach).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn teach(inputs: &[Tensor]) -> Option<Taught> {
    let [fixture, free] = REACHES.map(|reach| teach_within(inputs, reach));
    match (fixture, free) {
        (Some(fixture), Some(free)) if free.median > fixture.median + WORTH => Some(free),
        (fixture, free) => fixture.or(free),
    }
}

fn teach_within(inputs: &[Tensor], reach: Reach) -> Option<Taught> {
    let half = |first: usize| inputs.iter().skip(first).step_by(2).copied().collect::<Vec<Tensor>>();
    let (known, others) = (half(0), half(1));
    let first = inputs.first()?;
    let mut locator = Locator::new(&mean_part(&known, reach)?, first.width, first.height, reach)?;
    let poses: Vec<Pose> = others.iter().map(|input| locator.find(input)).collect();
    Some(Taught { template: mean_part(inputs, reach)?, reach, median: median(&poses) })
}

/// The mean of pictures where their parts agree, in the mean of their poses.
fn mean_part(inputs: &[Tensor], reach: Reach) -> Option<Vec<i8>> {
    let first = inputs.first()?;
    let (width, height) = (first.width, first.height);
    let mut template = first.values.to_vec();
    // The first picture may lie at the end of the play: its mean is where the others are looked for from.
    for centred in [true, false] {
        let mut locator = Locator::new(&template, width, height, reach)?;
        let poses: Vec<Pose> = inputs.iter().map(|input| locator.find(input)).collect();
        let least = median(&poses) * ALIKE;
        let alike: Vec<(&Tensor, Pose)> =
            inputs.iter().zip(poses).filter(|(_, pose)| pose.agreement >= least).collect();
        let mean = if centred { mean_of(&alike) } else { Pose::NONE };
        let mut sums = vec![0_i32; template.len()];
        for (input, pose) in &alike {
            let moved = locator.moved(input, pose.after(mean));
            sums.iter_mut().zip(moved.values).for_each(|(sum, value)| *sum += i32::from(*value));
        }
        let count = alike.len().max(1) as f32;
        template = sums.iter().map(|sum| (*sum as f32 / count).round() as i8).collect();
    }
    Some(template)
}

fn median(poses: &[Pose]) -> f32 {
    let mut found: Vec<f32> = poses.iter().map(|pose| pose.agreement).collect();
    found.sort_by(f32::total_cmp);
    found.get(found.len() / 2).copied().unwrap_or(0.0)
}

fn mean_of(found: &[(&Tensor, Pose)]) -> Pose {
    let share = 1.0 / found.len().max(1) as f32;
    found.iter().fold(Pose::NONE, |mean, (_, pose)| Pose {
        right: mean.right + pose.right * share,
        down: mean.down + pose.down * share,
        turn: mean.turn + pose.turn * share,
        ..mean
    })
}

impl Pose {
    /// This pose, seen from a template that lies at `other` itself.
    fn after(self, other: Self) -> Self {
        let turn = self.turn - other.turn;
        let (sin, cos) = turn.sin_cos();
        let right = self.right - (cos * other.right - sin * other.down);
        let down = self.down - (sin * other.right + cos * other.down);
        Self { right, down, turn, ..self }
    }
}
