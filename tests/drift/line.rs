//! A line: pictures of good parts, each part one of them, a little shifted, under a lamp that flickers, with a sensor's
//! noise. What changes is light and focus.

use std::path::Path;

use fcam::drift::{Drift, DriftOptions, Guard, Meter, Reference, Teacher};
use fcam::preprocess::Tensor;
use image::RgbImage;
use image::imageops::{self, FilterType};

use crate::random::Random;

/// The network's input.
pub const SIZE: (u32, u32) = (256, 192);
/// Pixels that a part may lie to the left or above.
const PLAY: u32 = 4;
/// Of levels and light: sRGB's curve, nearly.
const GAMMA: f32 = 2.2;

/// Light and focus. The lamp's power and its colours are in linear light.
#[derive(Clone, Copy)]
pub struct Light {
    pub lamp: f32,
    pub red: f32,
    pub blue: f32,
    /// Standard deviation of the blur, pixels of the network's input.
    pub blur: f32,
}

pub const USUAL: Light = Light { lamp: 1.0, red: 1.0, blue: 1.0, blur: 0.0 };

/// A black body's colour at this temperature, as against 5000 K, with green as bright as before.
pub fn kelvin(kelvin: f32) -> Light {
    let gain = |micrometers: f32| (14_388.0 / micrometers * (1.0 / 5000.0 - 1.0 / kelvin)).exp();
    Light { red: gain(0.62) / gain(0.54), blue: gain(0.46) / gain(0.54), ..USUAL }
}

/// Pictures of good parts of one kind.
#[derive(Clone)]
pub struct Pool(Vec<RgbImage>);

impl Pool {
    /// Of a folder.
    pub fn read(folder: &Path) -> Self {
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        Self(paths.iter().map(|path| scaled(image::open(path).unwrap().into_rgb8())).collect())
    }

    /// Drawn: a plate with holes, engraved lines and a brushed surface; each has its own surface and reflectance.
    pub fn drawn(count: u64) -> Self {
        let plate = |part: u64| {
            let mut random = Random(part + 77);
            let own = 1.0 + 0.02 * random.normal();
            let brush: Vec<f32> = (0..512).map(|_| 4.0 * random.normal()).collect();
            RgbImage::from_fn(SIZE.0 + PLAY, SIZE.1 + PLAY, |x, y| {
                let (u, v) = (x as f32 - 130.0, y as f32 - 98.0);
                let hole = (0..6).any(|hole| {
                    let (sin, cos) = (hole as f32 * 1.047).sin_cos();
                    (u - 60.0 * cos).hypot(v - 60.0 * sin) < 9.0
                });
                let plate = u.abs() < 105.0 && v.abs() < 80.0;
                let line = plate && x % 23 < 2 && v > 30.0;
                let level = if hole || !plate {
                    35.0
                } else if line {
                    90.0
                } else {
                    150.0 + brush[(y * 2 + x / 64) as usize % 512]
                };
                image::Rgb([level * own, level * own * 0.97, level * own * 0.9].map(|level| level as u8))
            })
        };
        Self((0..count).map(plate).collect())
    }

    /// The first `count`, and the others.
    pub fn split(mut self, count: usize) -> (Self, Self) {
        let others = self.0.split_off(count);
        (self, Self(others))
    }

    fn blurred(&self, blur: f32) -> Self {
        if blur == 0.0 { self.clone() } else { Self(self.0.iter().map(|one| imageops::blur(one, blur)).collect()) }
    }
}

fn scaled(picture: RgbImage) -> RgbImage {
    imageops::resize(&picture, SIZE.0 + PLAY, SIZE.1 + PLAY, FilterType::Triangle)
}

/// Parts that pass the camera.
pub struct Line {
    pool: Pool,
    random: Random,
    noise: Vec<f32>,
    flicker: f32,
    values: Vec<i8>,
}

impl Line {
    pub fn new(pool: &Pool, seed: u64) -> Self {
        let mut random = Random(seed);
        let noise = (0..1 << 20).map(|_| random.normal()).collect();
        Self { pool: pool.clone(), random, noise, flicker: 0.0, values: vec![] }
    }

    /// The same parts under another focus.
    pub fn refocus(&mut self, pool: &Pool, blur: f32) {
        self.pool = pool.blurred(blur);
    }

    /// The next part as the network gets it.
    pub fn part(&mut self, light: Light, which: Option<usize>) -> Tensor<'_> {
        self.flicker = 0.6 * self.flicker + 0.005 * self.random.normal();
        let lamp = light.lamp * (1.0 + self.flicker);
        let curves = [light.red, 1.0, light.blue].map(|color| {
            let bright = |level: usize| ((level as f32 / 255.0).powf(GAMMA) * lamp * color).powf(1.0 / GAMMA) * 255.0;
            std::array::from_fn::<f32, 256, _>(bright)
        });
        // Noise of the sensor and of light itself, in levels.
        let noisy: [f32; 256] = std::array::from_fn(|level| (1.0 + level as f32 / 64.0).sqrt());
        let picture = &self.pool.0[which.unwrap_or_else(|| self.random.below(self.pool.0.len()))];
        let (left, top) = (self.random.below(PLAY as usize), self.random.below(PLAY as usize));
        let mut at = self.random.below(1 << 20);
        self.values.clear();
        for y in 0..SIZE.1 as usize {
            let start = ((y + top) * picture.width() as usize + left) * 3;
            for (index, level) in picture.as_raw()[start..start + SIZE.0 as usize * 3].iter().enumerate() {
                at = (at + 1) & ((1 << 20) - 1);
                let bright = curves[index % 3][usize::from(*level)];
                let seen = bright + noisy[bright.min(255.0) as usize] * self.noise[at];
                self.values.push((seen.round() - 128.0).clamp(-128.0, 127.0) as i8);
            }
        }
        Tensor { width: SIZE.0 as usize, height: SIZE.1 as usize, values: &self.values }
    }

    fn score(&mut self) -> f32 {
        1.0 / (1.0 + (3.0 - 0.7 * self.random.normal()).exp())
    }
}

/// What good parts of a pool look like, each seen once.
pub fn reference(pool: &Pool) -> Reference {
    let (mut line, mut meter, mut teacher) = (Line::new(pool, 5), Meter::new(1), Teacher::default());
    for which in 0..pool.0.len() {
        meter.begin();
        meter.add(&line.part(USUAL, Some(which)));
        let score = line.score();
        teacher.add(&meter.measures().scored(score));
    }
    teacher.reference().unwrap()
}

/// A guard that sees a line.
pub struct Watched {
    pub line: Line,
    pub guard: Guard,
    pub part: u64,
}

impl Watched {
    pub fn new(pool: &Pool, reference: &Reference, seed: u64) -> Self {
        let guard = Guard::new(DriftOptions::default(), Some(reference), 1).unwrap();
        Self { line: Line::new(pool, seed), guard, part: 0 }
    }

    pub fn step(&mut self, light: Light) -> Option<Drift> {
        self.guard.begin();
        self.guard.look(&self.line.part(light, None));
        let score = self.line.score();
        self.part += 1;
        self.guard.part(self.part, std::time::Duration::from_millis(100 * self.part), Some(score))
    }

    /// Parts from the change to the first warning.
    pub fn told_after(&mut self, pool: &Pool, light: Light) -> (usize, Drift) {
        if light.blur > 0.0 {
            self.line.refocus(pool, light.blur);
        }
        (1..=2000).find_map(|parts| Some((parts, self.step(light)?))).expect("it is never told")
    }
}
