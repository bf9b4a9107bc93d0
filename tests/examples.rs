//! The examples do what they say, and the int8 engine computes a network that is no bundle's as ONNX Runtime does.

use std::path::{Path, PathBuf};

use fcam::engine::int8::Network;
use fcam::engine::{Error, Settings};
use fcam::preprocess::Tensor;
use image::{Rgb, RgbImage};

use crate::common;

#[allow(dead_code)]
#[path = "examples/judge_picture.rs"]
mod judge_picture;
#[allow(dead_code)]
#[path = "examples/own_camera.rs"]
mod own_camera;
#[allow(dead_code)]
#[path = "examples/own_network.rs"]
mod own_network;

#[test]
fn one_picture_is_judged_and_drawn() {
    let root = tempfile::tempdir().unwrap();
    let (dark, drawn) = (root.path().join("dark.png"), root.path().join("drawn.png"));
    RgbImage::from_pixel(96, 80, Rgb([10; 3])).save(&dark).unwrap();
    let said = judge_picture::judge(&dark, Some(&common::tiny()), &drawn).unwrap();
    assert!(said.starts_with("REJECT dark ") && said.contains("pixels at (0, 0)"), "{said}");
    assert_eq!(image::image_dimensions(drawn).unwrap(), (96, 80));
    let error = judge_picture::judge(Path::new("nowhere.png"), None, &dark).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn another_camera_feeds_another_channel() {
    let bundle = fcam::bundle::Bundle::open(&common::tiny()).unwrap();
    let count = own_camera::inspect(own_camera::Sheets::new(9).unwrap(), &bundle).unwrap();
    assert!(count.is_safe);
    assert_eq!(count.passed + count.rejected, 9);
    assert_eq!(own_camera::inspect(own_camera::Sheets::new(0).unwrap(), &bundle).unwrap().passed, 0);
}

fn anybody() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/anybody.onnx")
}

#[test]
fn a_picture_is_shown_to_another_network() {
    let root = tempfile::tempdir().unwrap();
    let picture = root.path().join("picture.png");
    RgbImage::from_pixel(96, 80, Rgb([10, 90, 200])).save(&picture).unwrap();
    let answer = own_network::run(&anybody(), &picture).unwrap();
    let sizes: Vec<usize> = answer.outputs.iter().map(|(_, values)| values.len()).collect();
    assert_eq!((sizes, answer.outputs[1].0.as_str()), (vec![12 * 10 * 8, 5], "classes"));
    assert!(answer.engine.starts_with("cpu (int8"), "{}", answer.engine);
}

/// tests/common/anybody.bin: the input as int8, then ONNX Runtime's outputs as float32, in planes
/// (tests/common/make_layers.py).
#[test]
fn another_network_is_computed_as_onnx_runtime_does() {
    let (onnx, known) = (std::fs::read(anybody()).unwrap(), std::fs::read(anybody().with_extension("bin")).unwrap());
    let mut network = Network::load(&onnx, &Settings::default()).unwrap();
    let [height, width] = network.input();
    let (pixels, wanted) = known.split_at(height * width * 3);
    let values: Vec<i8> = pixels.iter().map(|&byte| byte as i8).collect();
    let wanted: Vec<f32> = wanted.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    network.run(&Tensor { width, height, values: &values }).unwrap();
    let [features, classes] = network.outputs() else { panic!("{:?}", network.outputs()) };
    assert_eq!([features.height, features.width, features.channels], [12, 10, 8]);
    assert_eq!([classes.height, classes.width, classes.channels], [1, 1, 5]);
    let (planes, scores) = wanted.split_at(12 * 10 * 8);
    let places = network.output(0).chunks_exact(8).enumerate();
    let steps =
        places.flat_map(|(place, pixel)| pixel.iter().enumerate().map(move |(c, value)| (c * 120 + place, value)));
    // ONNX Runtime divides in its own order: a value may be one step of its scale off, hardly any is.
    let off = steps.filter(|&(at, value)| {
        assert!((planes[at] - value).abs() < 0.0201, "{} for {value} at {at}", planes[at]);
        (planes[at] - value).abs() > 1e-4
    });
    assert!(off.count() < 10);
    for (value, wanted) in network.output(1).iter().zip(scores) {
        assert!((value - wanted).abs() < 0.02, "{value} for {wanted}");
    }
    assert!(network.output(2).is_empty());
    let wrong = Tensor { width, height: height + 1, values: &values };
    assert!(matches!(network.run(&wrong), Err(Error::Shape(_))));
}

#[test]
fn what_the_engine_does_not_compute_is_said() {
    let settings = Settings::default();
    let said = |onnx: &[u8]| Network::load(onnx, &settings).err().unwrap().to_string();
    assert!(said(b"no network").contains("not an ONNX file"));
    let float = std::fs::read(common::tiny().with_file_name("layers/float_pointwise.onnx")).unwrap();
    assert!(said(&float).contains("float"), "{}", said(&float));
}
