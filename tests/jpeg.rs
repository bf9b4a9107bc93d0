//! JPEG pictures: pixels are those of libjpeg-turbo to the bit, and a picture that is not whole is none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "common/jpeg.rs"]
mod libjpeg;
#[path = "common/random.rs"]
mod random;

use fcam::camera::picture::{self, Picture};
use fcam::camera::{Error, PixelFormat};
use libjpeg::{Pixels, case, cjpeg, djpeg, has_libjpeg, jpegtran, one_scan_a_component};
use proptest::prelude::*;
use random::Random;

fn decode(jpeg: &[u8]) -> Result<Pixels, Error> {
    let Picture { geometry, bytes } = picture::decode(jpeg, "it")?;
    let channels = if geometry.format == PixelFormat::Gray8 { 1 } else { 3 };
    Ok(Pixels { width: geometry.width as usize, height: geometry.height as usize, channels, bytes })
}

/// Sampling factors of luma and chroma that libjpeg decodes: all but those that are no whole multiples of each other.
const SAMPLINGS: [&str; 14] = [
    "1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2", "2x4", "3x1", "3x3,1x1", "1x1,2x2", "2x1,1x2", "2x2,2x1,1x2", "4x1,2x1,1x1",
];

#[derive(Debug, Clone)]
struct Kind {
    size: (usize, usize),
    sampling: &'static str,
    quality: u32,
    restart: usize,
    /// 1 gray, 3 colours.
    channels: usize,
    rgb: bool,
    optimize: bool,
    progressive: bool,
    separate: bool,
    noise: usize,
    seed: u64,
}

impl Kind {
    fn encode(&self) -> Option<Vec<u8>> {
        let Self { size, channels, noise, seed, .. } = *self;
        let picture = Pixels::draw(size.0, size.1, channels, noise, &mut Random(seed));
        let (quality, restart) = (self.quality.to_string(), format!("{}B", self.restart));
        let mut args = vec!["-quality", &quality, "-restart", &restart, "-dct", "int"];
        if channels == 3 {
            args.extend(["-sample", self.sampling]);
        }
        for (wanted, arg) in [(self.rgb && channels == 3, "-rgb"), (self.optimize, "-optimize"), (self.progressive, "-progressive")] {
            if wanted {
                args.push(arg);
            }
        }
        let jpeg = cjpeg(&args, &picture)?;
        if self.separate && !self.progressive { one_scan_a_component(&jpeg, channels) } else { Some(jpeg) }
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    let picture = ((1usize..90, 1usize..90), prop::sample::select(vec![1usize, 3, 3, 3]), 0usize..80, any::<u64>());
    let coding = (prop::sample::select(SAMPLINGS.to_vec()), 1u32..=100, prop::sample::select(vec![0usize, 0, 1, 2, 3, 7, 30]));
    (picture, coding, any::<[bool; 4]>()).prop_map(|((size, channels, noise, seed), (sampling, quality, restart), flags)| {
        let [rgb, optimize, progressive, separate] = flags;
        Kind { size, sampling, quality, restart, channels, rgb, optimize, progressive, separate, noise, seed }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every kind of picture that libjpeg's programs can make.
    #[test]
    fn pixels_are_those_of_libjpeg(kind in kinds()) {
        if !has_libjpeg() {
            return Ok(());
        }
        // None: a combination that the programs refuse, such as MCUs of more than ten blocks.
        if let Some(jpeg) = kind.encode() && let Some(expected) = djpeg(&jpeg) {
            prop_assert_eq!(decode(&jpeg).map_err(|error| error.to_string()), Ok(expected));
        }
    }
}
