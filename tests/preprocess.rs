//! The camera's resize against Pillow's BILINEAR: never more than one grey level apart (DESIGN: the resize rule).
//!
//! `tests/common/make_resize.py` made the reference pictures with Pillow; they are committed, so that this test needs
//! no Python. For all other sizes fast_image_resize is the reference, another implementation of the same filter.

use std::path::Path;
use std::time::Duration;

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions};
use fcam::camera::{Camera, Frame, Geometry, Pattern, PixelFormat};
use fcam::preprocess::{Preprocessor, Roi};
use proptest::prelude::*;

/// A picture with edges, gradients and noise at every scale, the same one that the script draws: 8-bit integer
/// arithmetic only.
fn picture(width: u32, height: u32) -> Vec<u8> {
    let mut state = 1u32;
    let mut bytes = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = state >> 27;
            let checker = ((x / 7 + y / 5) % 2) * 90;
            bytes.push((x * 200 / width + noise) as u8);
            bytes.push((y * 150 / height + checker) as u8);
            bytes.push(((x * y) % 251) as u8);
        }
    }
    bytes
}

fn resized(bytes: &[u8], width: u32, height: u32, roi: Option<Roi>, side: (u32, u32)) -> Vec<u8> {
    let geometry = Geometry::packed(width, height, PixelFormat::Rgb8).unwrap();
    let frame = Frame::new(0, Duration::ZERO, geometry, bytes).unwrap();
    let roi = roi.unwrap_or(Roi::whole(&geometry));
    let mut preprocessor = Preprocessor::new(geometry, roi, side.0, side.1).unwrap();
    preprocessor.run(&frame).values.iter().map(|&value| (i16::from(value) + 128) as u8).collect()
}

fn reference(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/resize").join(name);
    image::open(path).unwrap().into_rgb8().into_raw()
}

#[test]
fn resize_is_pillows_within_one_grey_level() {
    for (width, height, side) in [
        (1280, 720, (256, 256)),
        (640, 480, (224, 224)),
        (300, 300, (256, 256)),
        (512, 512, (64, 96)),
        (100, 60, (256, 256)),
    ] {
        let ours = resized(&picture(width, height), width, height, None, side);
        let pillow = reference(&format!("{width}x{height}-{}x{}.png", side.0, side.1));
        assert_eq!(ours.len(), pillow.len());
        let apart = ours.iter().zip(&pillow).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(apart <= 1, "{width}x{height} to {side:?}: {apart} grey levels apart");
    }
}

/// A frame, a rectangle in it, and the size that it is brought to.
fn any_resize() -> impl Strategy<Value = (Geometry, Roi, (u32, u32))> {
    let format = prop::sample::select(vec![PixelFormat::Gray8, PixelFormat::Rgb8]);
    let frame = (1u32..400, 1u32..300, 0usize..50, format).prop_map(|(width, height, padding, format)| {
        Geometry::new(width, height, format.row_bytes(width) + padding, format).unwrap()
    });
    let roi = |frame: Geometry| {
        let corner = (0..frame.width, 0..frame.height);
        corner.prop_flat_map(move |(x, y)| {
            let size = (1..=frame.width - x, 1..=frame.height - y);
            size.prop_map(move |(width, height)| Roi { x, y, width, height })
        })
    };
    frame.prop_flat_map(move |frame| (Just(frame), roi(frame), (1u32..300, 1u32..300)))
}

proptest! {
    #[test]
    fn every_resize_is_the_librarys_within_one_grey_level((geometry, roi, side) in any_resize(), contrast: bool) {
        let mut state = 1u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if contrast { (state as i32 >> 31) as u8 } else { (state >> 24) as u8 }
        });
        let bytes: Vec<u8> = noise.take(geometry.frame_bytes()).collect();
        let frame = Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap();
        let mut preprocessor = Preprocessor::new(geometry, roi, side.0, side.1).unwrap();
        let ours = preprocessor.run(&frame).values.iter().map(|&value| (i16::from(value) + 128) as u8);

        let (kind, channels) = if geometry.format == PixelFormat::Gray8 { (PixelType::U8, 1) } else { (PixelType::U8x3, 3) };
        let rows = bytes.chunks(geometry.stride).skip(roi.y as usize).take(roi.height as usize);
        let columns = roi.x as usize * channels..(roi.x + roi.width) as usize * channels;
        let crop = rows.flat_map(|row| row[columns.clone()].iter().copied()).collect();
        let source = Image::from_vec_u8(roi.width, roi.height, crop, kind).unwrap();
        let mut target = Image::new(side.0, side.1, kind);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        fast_image_resize::Resizer::new().resize(&source, &mut target, &options).unwrap();
        let spread = |&value: &u8| std::iter::repeat_n(value, 3 / channels);
        let library: Vec<u8> = target.buffer().iter().flat_map(spread).collect();

        prop_assert_eq!(ours.len(), library.len());
        let apart = ours.zip(library).map(|(a, b)| a.abs_diff(b)).max().unwrap();
        prop_assert!(apart <= 1, "{} grey levels apart", apart);
    }
}

#[test]
fn a_roi_is_the_crop() {
    let (width, height) = (320, 240);
    let roi = Roi { x: 33, y: 21, width: 200, height: 150 };
    let whole = picture(width, height);
    let crop: Vec<u8> = (0..roi.height)
        .flat_map(|y| {
            let start = (((roi.y + y) * width + roi.x) * 3) as usize;
            whole[start..start + (roi.width * 3) as usize].to_vec()
        })
        .collect();
    assert_eq!(
        resized(&whole, width, height, Some(roi), (64, 64)),
        resized(&crop, roi.width, roi.height, None, (64, 64))
    );
}

/// What a camera shows does not depend on how it writes it: chroma at half resolution and eight bits of luma cost a
/// little.
#[test]
fn every_format_shows_the_same_picture() {
    let (width, height) = (200, 120);
    let picture =
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([(x + 20) as u8, (y * 2) as u8, (220 - x) as u8]));
    let mut png = std::io::Cursor::new(vec![]);
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let tensor = |format: PixelFormat| {
        let mut camera =
            Pattern::open([("a picture", png.get_ref().as_slice())], None).unwrap().encode(format).unwrap();
        let mut preprocessor =
            Preprocessor::new(camera.geometry(), Roi { x: 33, y: 11, width: 129, height: 77 }, 64, 64).unwrap();
        preprocessor.run(&camera.next(fcam::clock::now()).unwrap()).values.to_vec()
    };
    let expected = tensor(PixelFormat::Rgb8);
    for format in [
        PixelFormat::Yuyv,
        PixelFormat::Nv12,
        PixelFormat::I420,
        PixelFormat::Yuvj420,
        PixelFormat::Yuvj422,
        PixelFormat::Yuvj440,
        PixelFormat::Yuvj444,
    ] {
        let apart = tensor(format).iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(apart <= 5, "{format:?}: {apart} levels apart");
    }
    // Gray is what the colours weigh together, BT.601.
    let weigh = |rgb: &[i8]| {
        rgb.iter().zip([0.299, 0.587, 0.114]).map(|(&value, weight)| f64::from(value) * weight).sum::<f64>()
    };
    let gray = tensor(PixelFormat::Gray8);
    let apart = gray.chunks(3).zip(expected.chunks(3)).map(|(gray, rgb)| (f64::from(gray[0]) - weigh(rgb)).abs());
    assert!(apart.fold(0.0, f64::max) <= 2.0);
}

#[test]
fn padding_between_rows_is_not_seen() {
    let (width, height) = (64u32, 48u32);
    let tight = picture(width, height);
    let stride = width as usize * 3 + 20;
    let mut padded = Vec::new();
    for row in tight.chunks(width as usize * 3) {
        padded.extend_from_slice(row);
        padded.extend([255; 20]);
    }
    let geometry = Geometry::new(width, height, stride, PixelFormat::Rgb8).unwrap();
    let frame = Frame::new(0, Duration::ZERO, geometry, &padded).unwrap();
    let mut preprocessor = Preprocessor::new(geometry, Roi::whole(&geometry), 32, 32).unwrap();
    let ours: Vec<u8> = preprocessor.run(&frame).values.iter().map(|&v| (i16::from(v) + 128) as u8).collect();
    assert_eq!(ours, resized(&tight, width, height, None, (32, 32)));
}

#[test]
fn a_roi_outside_the_frame_is_refused() {
    let geometry = Geometry::packed(640, 480, PixelFormat::Rgb8).unwrap();
    for roi in [
        Roi { x: 600, y: 0, width: 41, height: 10 },
        Roi { x: 0, y: 0, width: 0, height: 10 },
        Roi { x: u32::MAX, y: 0, width: 2, height: 10 },
    ] {
        assert!(Preprocessor::new(geometry, roi, 256, 256).is_err(), "{roi:?}");
    }
}
