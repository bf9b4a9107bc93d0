//! From Motion JPEG to the network's input, beside the way that decodes to an RGB picture with the `image` crate
//! (zune-jpeg): times, or one of them alone for counting its instructions. Run by `./dev bench mjpeg` and `./dev bench
//! arm mjpeg`; plain test runs leave it out.

use std::hint::black_box;
use std::io::Cursor;
use std::time::{Duration, Instant};

use fcam::camera::jpeg::Decoder;
use fcam::camera::picture::Picture;
use fcam::camera::{Frame, Geometry, PixelFormat};
use fcam::preprocess::{Preprocessor, Roi};
use image::{DynamicImage, ImageReader};
use libjpeg::{Pixels, cjpeg};
use random::Random;

use crate::{libjpeg, random};

const SIZE: (u32, u32) = (1280, 720);
const INPUT: u32 = 256;

/// Decodes to planes and makes the tensor of them.
struct Planes {
    decoder: Decoder,
    picture: Picture,
    preprocessor: Option<Preprocessor>,
}

impl Planes {
    fn tensor(&mut self, jpeg: &[u8]) -> &[i8] {
        self.decoder.decode(jpeg, &mut self.picture).unwrap();
        let frame = Frame::new(0, Duration::ZERO, self.picture.geometry, &self.picture.bytes).unwrap();
        let geometry = frame.geometry();
        let build = || Preprocessor::new(geometry, Roi::whole(&geometry), INPUT, INPUT).unwrap();
        self.preprocessor.get_or_insert_with(build).run(&frame).values
    }
}

/// Decodes to an RGB picture, as cameras did before there were planes, and makes the tensor of that.
struct Rgb(Preprocessor);

impl Rgb {
    fn tensor(&mut self, jpeg: &[u8]) -> &[i8] {
        let last = |marker: u8| jpeg.windows(2).rposition(|pair| pair == [0xFF, marker]);
        assert!(last(0xD9) > last(0xDA));
        let decoder = ImageReader::new(Cursor::new(jpeg)).with_guessed_format().unwrap().into_decoder().unwrap();
        let rgb = DynamicImage::from_decoder(decoder).unwrap().into_rgb8().into_raw();
        let frame = Frame::new(0, Duration::ZERO, self.0.geometry(), &rgb).unwrap();
        self.0.run(&frame).values
    }
}

fn both() -> (Planes, Rgb) {
    let geometry = Geometry::packed(SIZE.0, SIZE.1, PixelFormat::Rgb8).unwrap();
    let rgb = Rgb(Preprocessor::new(geometry, Roi::whole(&geometry), INPUT, INPUT).unwrap());
    (Planes { decoder: Decoder::default(), picture: Picture::EMPTY, preprocessor: None }, rgb)
}

fn picture(noise: usize) -> Pixels {
    Pixels::draw(SIZE.0 as usize, SIZE.1 as usize, 3, noise, &mut Random(5))
}

/// Needs cjpeg, for restart markers and qualities.
#[test]
#[ignore = "it measures: ./dev bench mjpeg"]
fn side_by_side() {
    for (name, noise, args) in [
        ("4:2:2, quality 85", 6, &["-quality", "85", "-sample", "2x1"][..]),
        ("4:2:2, quality 90, restarts", 6, &["-quality", "90", "-sample", "2x1", "-restart", "1"]),
        ("4:2:0, quality 85", 6, &["-quality", "85", "-sample", "2x2"]),
        ("4:2:0, quality 90, restarts", 6, &["-quality", "90", "-sample", "2x2", "-restart", "1"]),
        ("4:2:2, quality 90, noisy", 16, &["-quality", "90", "-sample", "2x1"]),
    ] {
        let jpeg = cjpeg(args, &picture(noise)).unwrap();
        let (mut planes, mut rgb) = both();
        let mut times = [vec![], vec![]];
        for _ in 0..100 {
            let started = Instant::now();
            black_box(planes.tensor(&jpeg));
            let between = Instant::now();
            black_box(rgb.tensor(&jpeg));
            times[0].push((between - started).as_secs_f64() * 1e3);
            times[1].push(between.elapsed().as_secs_f64() * 1e3);
        }
        let [(new, new_least), (old, old_least)] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            (times[times.len() / 2], times[0])
        });
        println!(
            "{name}, {} KB: planes {new:.2} ms (least {new_least:.2}), RGB picture {old:.2} ms (least {old_least:.2}): ratio {:.2} (least {:.2})",
            jpeg.len() / 1000,
            new / old,
            new_least / old_least
        );
    }
}

/// `FCAM_MJPEG` says which way (planes, rgb) and how (422, 420), `FCAM_FRAMES` how many frames.
#[test]
#[ignore = "it is counted: ./dev bench arm mjpeg"]
fn one_way() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let (way, frames) = (variable("FCAM_MJPEG"), variable("FCAM_FRAMES").parse::<usize>().unwrap());
    let format = if way.ends_with("420") { PixelFormat::Yuvj420 } else { PixelFormat::Yuvj422 };
    let geometry = Geometry::packed(SIZE.0, SIZE.1, format).unwrap();
    let pixels = picture(6);
    let mut bytes: Vec<u8> = pixels.bytes.as_chunks::<3>().0.iter().map(|[_, luma, _]| *luma).collect();
    bytes.extend(pixels.bytes.iter().take(geometry.frame_bytes() - bytes.len()).map(|&value| 96 + value / 4));
    let jpeg = fcam::camera::jpeg::encode(&Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap()).unwrap();
    let (mut planes, mut rgb) = both();
    for _ in 0..frames {
        if way.starts_with("planes") {
            black_box(planes.tensor(&jpeg))
        } else {
            black_box(rgb.tensor(&jpeg))
        };
    }
    println!("{way}: {} bytes", jpeg.len());
}
