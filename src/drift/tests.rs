//! The guard on parts that a light falls on, of which each differs.

use std::time::Duration;

use super::*;

const SIDE: usize = 96;

/// Parts with edges, texture and noise, each a little different.
struct Line {
    seed: u64,
    guard: Guard,
    part: u64,
}

impl Line {
    fn learning() -> Self {
        let options = DriftOptions { learn: 60, ..DriftOptions::default() };
        Self { seed: 0x0123_4567_89ab_cdef, guard: Guard::new(options, None, 1).unwrap(), part: 0 }
    }

    fn uniform(&mut self) -> f32 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        (self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1 << 24) as f32
    }

    fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.uniform()).sum::<f32>() * std::f32::consts::SQRT_2 - 3.0 * std::f32::consts::SQRT_2
    }

    /// A part under a light of so much red, green and blue.
    fn values(&mut self, light: [f32; 3]) -> Vec<i8> {
        let own = 1.0 + 0.015 * self.normal();
        let (across, down) = (self.uniform() * 4.0, self.uniform() * 4.0);
        let noise: Vec<f32> = (0..256).map(|_| 2.0 * self.normal()).collect();
        let mut values = vec![];
        for at in 0..SIDE * SIDE {
            let (x, y) = ((at % SIDE) as f32 + across, (at / SIDE) as f32 + down);
            let level = 110.0 + 40.0 * (x / 3.0).sin() * (y / 4.0).cos() + 20.0 * (x / 20.0).cos();
            for (channel, gain) in light.into_iter().enumerate() {
                let shade = level * own * gain + noise[(at * 7 + channel * 31 + at / 251) % 256];
                values.push((shade.round() - 128.0).clamp(-128.0, 127.0) as i8);
            }
        }
        values
    }

    fn show(&mut self, values: &[i8], score: Option<f32>) -> Option<Drift> {
        self.guard.begin();
        self.guard.look(&Tensor { width: SIDE, height: SIDE, values });
        self.part += 1;
        self.guard.part(self.part - 1, Duration::from_secs(self.part), score)
    }

    fn parts(&mut self, count: usize, light: [f32; 3]) -> Option<Drift> {
        let mut told = None;
        for _ in 0..count {
            let values = self.values(light);
            let score = 0.02 + 0.02 * self.uniform();
            told = self.show(&values, Some(score)).or(told);
        }
        told
    }

    /// Parts until the first is told, and what.
    fn until(&mut self, light: [f32; 3], score: f32) -> (usize, Drift) {
        for count in 1..=500 {
            let values = self.values(light);
            if let Some(drift) = self.show(&values, Some(score)) {
                return (count, drift);
            }
        }
        panic!("nothing was told in 500 parts");
    }
}

const LIGHT: [f32; 3] = [1.0; 3];

#[test]
fn what_changed_is_told_with_its_beginning() {
    let mut line = Line::learning();
    assert_eq!(line.parts(500, LIGHT), None);
    let (parts, drift) = line.until([0.93; 3], 0.03);
    assert!(parts <= 20 && drift.what == Measure::Brightness, "{parts} {drift:?}");
    assert!((495..=502).contains(&drift.part) && drift.since == Duration::from_secs(drift.part + 1), "{drift:?}");
    assert!((drift.by + 0.07).abs() < 0.02, "{drift:?}");
    assert!(drift.words().starts_with("darker by ") && drift.cure() == "lamp or exposure");
    let (parts, drift) = Line::learnt().until([1.03, 1.0, 0.97], 0.03);
    assert!(parts <= 20 && drift.what == Measure::Warmth && drift.by > 0.0, "{parts} {drift:?}");
    let (parts, drift) = Line::learnt().until(LIGHT, 0.3);
    assert!(parts <= 20 && drift.what == Measure::Score && drift.words().contains("higher"), "{parts} {drift:?}");
}

impl Line {
    fn learnt() -> Self {
        let mut line = Self::learning();
        assert_eq!(line.parts(100, LIGHT), None);
        line
    }
}

/// Told until it is cleared, and then again only if it is still so.
#[test]
fn a_warning_stays_until_it_is_cleared() {
    let mut line = Line::learnt();
    line.until([0.9; 3], 0.03);
    assert!(line.parts(100, LIGHT).is_some(), "it stays, though the light is back");
    line.guard.clear();
    assert_eq!(line.guard.drift(), None);
    assert_eq!(line.parts(200, LIGHT), None);
    line.until([0.9; 3], 0.03);
    line.guard.clear();
    assert!(line.parts(30, [0.9; 3]).is_some(), "it is still so");
    line.guard.restart();
    assert_eq!(line.parts(200, [0.9; 3]), None, "with other parts it is as usual as anything");
}

#[test]
fn a_camera_that_sees_nothing_is_blind() {
    let mut line = Line::learnt();
    let mut blind = |values: &[i8]| {
        line.guard.begin();
        line.guard.look(&Tensor { width: SIDE, height: SIDE, values });
        line.guard.is_blind()
    };
    let mut other = Line::learning();
    let part = other.values(LIGHT);
    assert!(!blind(&part) && !blind(&other.values([0.5; 3])), "half of the light is no blindness");
    let dark: Vec<i8> = (0..part.len()).map(|at| -126 + (at * at % 5) as i8).collect();
    assert!(blind(&dark), "a covered lens");
    assert!(blind(&vec![127; part.len()]), "far too much light");
    let mut soft = part.clone();
    for _ in 0..24 {
        let mean = |at: usize| (i16::from(soft[at - 3]) + 2 * i16::from(soft[at]) + i16::from(soft[at + 3])) / 4;
        let across: Vec<i8> =
            (0..soft.len()).map(|at| if at < 3 || at + 3 >= soft.len() { soft[at] } else { mean(at) as i8 }).collect();
        let row = SIDE * 3;
        let mean =
            |at: usize| (i16::from(across[at - row]) + 2 * i16::from(across[at]) + i16::from(across[at + row])) / 4;
        soft = (0..soft.len())
            .map(|at| if at < row || at + row >= soft.len() { across[at] } else { mean(at) as i8 })
            .collect();
    }
    assert!(blind(&soft), "far out of focus");
    let options = DriftOptions { learn: 60, blind: false, ..DriftOptions::default() };
    let mut off = Line { guard: Guard::new(options, None, 1).unwrap(), ..Line::learning() };
    off.parts(100, LIGHT);
    off.guard.begin();
    off.guard.look(&Tensor { width: SIDE, height: SIDE, values: &dark });
    assert!(!off.guard.is_blind(), "it is settable");
}

/// A part that is not good teaches nothing, and without a reference there is no guard.
#[test]
fn good_parts_alone_teach() {
    assert!(Guard::new(DriftOptions::default(), None, 1).is_none());
    let mut line = Line::learning();
    for _ in 0..200 {
        let values = line.values([0.5; 3]);
        assert_eq!(line.show(&values, None), None);
    }
    line.parts(60, LIGHT);
    let (parts, _) = line.until([0.9; 3], 0.03);
    assert!(parts <= 10, "{parts}");
}
