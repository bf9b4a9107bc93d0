//! The int8 engine against ONNX Runtime, layer by layer: the networks and answers that tests/common/make_layers.py made.
//!
//! Each network ends in a float mix of all channels of the layer under test, so one value that is a step off shows in its pixel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

use fcam::engine::{Backend, Engine, Isa, Settings, Shape};
use fcam::preprocess::Tensor;

const SHAPE: Shape = Shape { width: 20, height: 24, classes: 3 };

/// One network: its file, an input, and ONNX Runtime's logits and map.
struct Case {
    name: String,
    onnx: Vec<u8>,
    input: Vec<i8>,
    logits: Vec<f32>,
    map: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/layers");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    files.sort();
    files.iter().map(|path| case(path)).collect()
}

fn case(path: &Path) -> Case {
    let bytes = fs::read(path.with_extension("bin")).unwrap();
    let (input, rest) = bytes.split_at(SHAPE.width * SHAPE.height * 3);
    let floats: Vec<f32> = rest.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    let (logits, map) = floats.split_at(SHAPE.classes);
    assert_eq!(map.len(), SHAPE.width * SHAPE.height);
    Case {
        name: path.file_stem().unwrap().to_str().unwrap().into(),
        onnx: fs::read(path).unwrap(),
        input: input.iter().map(|byte| *byte as i8).collect(),
        logits: logits.to_vec(),
        map: map.to_vec(),
    }
}

/// Logits and map of a network.
fn run(case: &Case, settings: Settings) -> (Vec<f32>, Vec<f32>) {
    let mut engine = Engine::load(&case.onnx, SHAPE, settings).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let tensor = Tensor { width: SHAPE.width, height: SHAPE.height, values: &case.input };
    let prediction = engine.run(&tensor).unwrap();
    (prediction.logits.to_vec(), prediction.map.to_vec())
}

/// The instruction sets that this CPU has.
fn here() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.kernels().is_some())
}

#[test]
fn layers_are_onnx_runtimes() {
    let cases = cases();
    assert!(cases.len() >= 28, "the networks are missing: run tests/common/make_layers.py");
    for case in &cases {
        for isa in here() {
            let (logits, map) = run(case, Settings { isa, ..Settings::default() });
            let off: Vec<f32> = map.iter().zip(&case.map).map(|(ours, theirs)| (ours - theirs).abs()).collect();
            let share = off.iter().filter(|off| **off > 1e-5).count() as f32 / off.len() as f32;
            let worst = off.iter().copied().fold(0.0, f32::max);
            let logit = logits.iter().zip(&case.logits).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max);
            let said = format!(
                "{} on {}: {share} of the pixels off, by {worst} at most; logits by {logit}",
                case.name,
                isa.name()
            );
            // A pixel mixes 8 to 120 channels: one value in a thousand off would show in 0.8 % of the pixels and more. One
            // step is at most 0.033, and no weight of the mix is larger than 1.
            assert!(share <= 0.005 && worst <= 0.033 && logit <= 0.01, "{said}");
        }
    }
}

/// Rows do not know which thread computes them.
#[test]
fn threads_change_nothing() {
    for case in cases() {
        let one = run(&case, Settings::default());
        for threads in [2, 3] {
            assert_eq!(run(&case, Settings { threads, ..Settings::default() }), one, "{} on {threads}", case.name);
        }
    }
}

/// Stock tract agrees too, where it knows the operators; its own rounding of ties is another.
#[test]
fn stock_tract_agrees() {
    for case in cases().iter().filter(|case| ["pointwise", "depthwise3", "residual"].contains(&case.name.as_str())) {
        let (_, map) = run(case, Settings { backend: Backend::Tract, ..Settings::default() });
        let worst = map.iter().zip(&case.map).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max);
        assert!(worst <= 0.066, "{}: off by {worst}", case.name);
    }
}
