//! What is decided without a device: what the driver's answer to a format means, and what a JPEG picture may be.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};

use super::*;
use crate::camera::Colors;

const WANTED: Wanted = Wanted { width: 62, height: 40, layout: None, colors: None, fps: 0.0 };

fn known(letters: &str) -> Candidate {
    let (fourcc, layout) = format::KNOWN.into_iter().find(|(fourcc, _)| fourcc.to_string() == letters).unwrap();
    Candidate { fourcc, layout, interval: None }
}

fn pixels(candidate: &Candidate, stride: u32) -> Pixels {
    let fourcc = candidate.fourcc;
    Pixels {
        fourcc,
        width: 62,
        height: 40,
        stride,
        bytes: 1 << 16,
        progressive: true,
        planes: 1,
        colors: Colors::Bt709,
    }
}

#[test]
fn the_drivers_stride_is_the_frames() {
    for (letters, stride, format, expected) in [
        ("YUYV", 128, PixelFormat::Yuyv, 128),
        ("NV12", 64, PixelFormat::Nv12, 64),
        ("YU12", 64, PixelFormat::I420, 64),
        ("RGB3", 0, PixelFormat::Rgb8, 186),
        ("GREY", 62, PixelFormat::Gray8, 62),
        ("MJPG", 0, PixelFormat::Rgb8, 186),
    ] {
        let candidate = known(letters);
        let mode = mode(&candidate, &WANTED, &pixels(&candidate, stride)).unwrap();
        let expected = Geometry::new(62, 40, expected, format).unwrap();
        assert_eq!(mode.geometry, expected.with_colors(Colors::Bt709), "{letters}");
        let wanted = Wanted { colors: Some(Colors::Bt601Full), ..WANTED };
        let mode = super::mode(&candidate, &wanted, &pixels(&candidate, stride)).unwrap();
        assert_eq!(mode.geometry, expected.with_colors(Colors::Bt601Full), "{letters}: the station file decides");
    }
}

#[test]
fn what_the_driver_changes_is_not_taken() {
    let yuyv = known("YUYV");
    let good = pixels(&yuyv, 124);
    let refused = |pixels| mode(&yuyv, &WANTED, &pixels).unwrap_err();
    assert_eq!(refused(Pixels { height: 30, ..good }), "it becomes 62 x 30 YUYV");
    assert_eq!(refused(Pixels { fourcc: known("NV12").fourcc, ..good }), "it becomes 62 x 40 NV12");
    assert!(refused(Pixels { progressive: false, ..good }).contains("two fields"));
    assert!(refused(Pixels { planes: 2, ..good }).contains("in 2 buffers"));
    assert!(refused(Pixels { stride: 60, ..good }).contains("stride shorter than a row"));
}

#[test]
fn a_jpeg_must_be_what_was_agreed() {
    let encode = |width, height| {
        let mut bytes = Cursor::new(vec![]);
        RgbImage::new(width, height).write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    };
    let wanted = Geometry::packed(62, 40, PixelFormat::Rgb8).unwrap();
    let (mut decoder, mut picture) = (Decoder::default(), Picture::EMPTY);
    let mut decode = |jpeg: &[u8]| decode(&mut decoder, jpeg, 7, wanted, &mut picture).map(|()| picture.geometry);
    let Geometry { width, height, format, .. } = decode(&encode(62, 40)).unwrap();
    assert_eq!((width, height, format), (62, 40, PixelFormat::Yuvj444));
    let error = decode(&encode(64, 40)).unwrap_err().to_string();
    assert_eq!(
        error,
        "frame 7 has 64 x 40 pixels, and camera.width and camera.height say 62 x 40: set both to what the camera sends"
    );
    let error = decode(&encode(62, 40)[..100]).unwrap_err().to_string();
    assert!(error.starts_with("cannot decode frame 7: ") && error.contains("truncated"), "{error}");
}

/// Pictures that were seen to be judged although most of them was missing, and such as nobody may refuse.
#[test]
fn a_picture_is_whole_or_an_error() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/jpeg");
    let wanted = Geometry::packed(512, 512, PixelFormat::Rgb8).unwrap();
    let (mut decoder, mut picture) = (Decoder::default(), Picture::EMPTY);
    for (name, whole) in [
        ("whole", true),
        ("dent_quarter", false),
        ("rst_whole", true),
        ("rst_lost_rows", false),
        ("separate_scans_420", true),
        ("lost_mid_1k", false),
        ("no_huffman_tables", true),
        ("lost_tail_half", false),
        ("dent_whole", true),
        ("empty_scan", false),
    ] {
        let jpeg = std::fs::read(folder.join(name).with_extension("jpg")).unwrap();
        assert_eq!(decode(&mut decoder, &jpeg, 0, wanted, &mut picture).is_ok(), whole, "{name}");
    }
}
