//! The int8 engine against ONNX Runtime, layer by layer: the networks and answers that tests/common/make_layers.py
//! made.
//!
//! Each network ends in a float mix of all channels of the layer under test, so one value that is a step off shows in
//! its pixel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use fcam::engine::{Engine, Isa, Settings, Shape};
use fcam::preprocess::Tensor;
use prost::Message;
use tract_onnx::pb::{ModelProto, TensorProto};

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

/// The settings that allow the case's float convolutions.
fn settings(case: &Case) -> Settings {
    let nodes = ModelProto::decode(case.onnx.as_slice()).unwrap().graph.unwrap().node;
    let names = nodes.into_iter().map(|node| node.name);
    Settings { float_layers: names.filter(|name| name.starts_with("float")).collect(), ..Settings::default() }
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
    assert!(cases.len() >= 40, "the networks are missing: run tests/common/make_layers.py");
    for case in &cases {
        for isa in here() {
            let (logits, map) = run(case, Settings { isa, ..settings(case) });
            let off: Vec<f32> = map.iter().zip(&case.map).map(|(ours, theirs)| (ours - theirs).abs()).collect();
            let share = off.iter().filter(|off| **off > 1e-5).count() as f32 / off.len() as f32;
            let worst = off.iter().copied().fold(0.0, f32::max);
            let logit = logits.iter().zip(&case.logits).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max);
            let said = format!(
                "{} on {}: {share} of the pixels off, by {worst} at most; logits by {logit}",
                case.name,
                isa.name()
            );
            // A pixel mixes 8 to 120 channels: one value in a thousand off would show in 0.8 % of the pixels and more.
            // One step is at most 0.033, and no weight of the mix is larger than 1.
            assert!(share <= 0.005 && worst <= 0.033 && logit <= 0.01, "{said}");
        }
    }
}

/// The same network with its axes counted from the end; none if it has none.
fn from_the_end(case: &Case) -> Option<Case> {
    let mut model = ModelProto::decode(case.onnx.as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let ranks: HashMap<String, i64> =
        graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.dims.len() as i64)).collect();
    let quantisers = graph.node.iter().filter(|node| node.op_type == "QuantizeLinear");
    let sources: HashMap<String, String> =
        quantisers.map(|node| (node.output[0].clone(), node.input[0].clone())).collect();
    let mut changed = false;
    for node in &mut graph.node {
        let rank = match node.op_type.as_str() {
            "Concat" => 4,
            "QuantizeLinear" => ranks.get(&node.input[0]).copied().unwrap_or(4),
            "DequantizeLinear" => {
                sources.get(&node.input[0]).and_then(|source| ranks.get(source)).copied().unwrap_or(4)
            }
            _ => continue,
        };
        for axis in node.attribute.iter_mut().filter(|attribute| attribute.name == "axis") {
            (axis.i, changed) = (axis.i - rank, true);
        }
    }
    let name = format!("{} from the end", case.name);
    let Case { input, logits, map, .. } = case;
    let (input, logits, map) = (input.clone(), logits.clone(), map.clone());
    changed.then(|| Case { name, onnx: model.encode_to_vec(), input, logits, map })
}

#[test]
fn an_axis_may_be_counted_from_the_end() {
    let (mut quantisers, mut concats) = (0, 0);
    for case in cases() {
        let Some(negative) = from_the_end(&case) else { continue };
        assert_eq!(run(&negative, settings(&case)), run(&case, settings(&case)), "{}", case.name);
        concats += usize::from(case.name.starts_with("concat"));
        quantisers += usize::from(!case.name.starts_with("concat"));
    }
    assert!(quantisers >= 10 && concats >= 2, "{quantisers} and {concats} networks have an axis");
}

/// Rows do not know which thread computes them.
#[test]
fn threads_change_nothing() {
    for case in cases() {
        let one = run(&case, settings(&case));
        for threads in [2, 3, 4] {
            assert_eq!(run(&case, Settings { threads, ..settings(&case) }), one, "{} on {threads}", case.name);
        }
    }
}

/// Stock tract agrees too, where it knows the operators; its own rounding of ties is another.
#[cfg(feature = "tract")]
#[test]
fn stock_tract_agrees() {
    let known = |case: &&Case| {
        case.name.starts_with("float") || ["pointwise", "depthwise3", "residual"].contains(&case.name.as_str())
    };
    for case in cases().iter().filter(known) {
        let (_, map) = run(case, Settings { backend: fcam::engine::Backend::Tract, ..settings(case) });
        let worst = map.iter().zip(&case.map).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max);
        assert!(worst <= 0.066, "{}: off by {worst}", case.name);
    }
}

fn refusal(case: &Case, float_layers: &[&str]) -> String {
    let float_layers = float_layers.iter().map(ToString::to_string).collect();
    let settings = Settings { float_layers, ..Settings::default() };
    Engine::load(&case.onnx, SHAPE, settings).map(|_| ()).unwrap_err().to_string()
}

fn named(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

/// What runs in float is in the engine's words and in its layers, so that nothing is slow in silence.
#[test]
fn float_layers_are_shown() {
    let case = named("float_chain");
    let mut engine = Engine::load(&case.onnx, SHAPE, settings(&case)).unwrap();
    assert!(engine.describe().ends_with("1 thread, 2 in float)"), "{}", engine.describe());
    let tensor = Tensor { width: SHAPE.width, height: SHAPE.height, values: &case.input };
    let layers = engine.profile(&tensor, 1).unwrap();
    let floats: Vec<_> = layers.iter().filter(|layer| layer.label == "float conv").collect();
    assert_eq!(floats.len(), 2);
    assert!(floats.iter().all(|layer| layer.name.starts_with("float_conv")), "{floats:?}");
    let pixels = (SHAPE.width * SHAPE.height) as u64;
    assert_eq!(floats[0].macs, pixels * 33 * 24);
    assert_eq!(floats[1].macs, pixels * 20 * 33 * 9);
}

#[test]
fn a_float_convolution_is_refused_unless_it_is_listed() {
    let case = named("float_chain");
    let all = settings(&case).float_layers;
    let said = refusal(&case, &[]);
    for words in [&all[0], "its weights are not int8", "float_layers = [", "--float-layer", "cost of speed"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    // One name allows one.
    let said = refusal(&case, &[&all[0]]);
    assert!(said.contains(&all[1]), "{said}");
    assert!(refusal(&named("float_data"), &[]).contains("its data is not int8"));
}

#[test]
fn a_name_that_allows_nothing_is_an_error() {
    let case = named("float_chain");
    let all = settings(&case).float_layers;
    let nodes = ModelProto::decode(case.onnx.as_slice()).unwrap().graph.unwrap().node;
    let named = |op: &str| {
        let node = nodes.iter().find(|node| node.op_type == op && !node.name.starts_with("float")).unwrap();
        node.name.clone()
    };
    let (conv, relu) = (named("Conv"), named("Relu"));
    for (name, reason) in [
        ("conv1000", "the network has no such node"),
        (&conv, "which is quantised and stays int8"),
        (&relu, "which is a Relu and no convolution"),
    ] {
        let said = refusal(&case, &[&all[0], &all[1], name]);
        assert!(said.contains(&format!("engine.float_layers names `{name}`")) && said.contains(reason), "{said}");
    }
}

/// The network of that name, its constant map changed.
fn with_map(name: &str, change: impl Fn(&mut TensorProto)) -> Case {
    let mut case = named(name);
    let mut model = ModelProto::decode(case.onnx.as_slice()).unwrap();
    let constants = &mut model.graph.as_mut().unwrap().initializer;
    let map = constants.iter_mut().find(|tensor| tensor.name.starts_with("map") && tensor.dims.len() == 4).unwrap();
    change(map);
    case.onnx = model.encode_to_vec();
    case
}

#[test]
fn a_constant_map_has_the_shape_of_what_it_is_compared_with() {
    let turned = |map: &mut TensorProto| map.dims.swap(2, 3);
    let flat = |map: &mut TensorProto| {
        map.dims.remove(0);
    };
    let pixel = |map: &mut TensorProto| {
        map.dims[2..].fill(1);
        map.raw_data.truncate(4 * map.dims[1] as usize);
    };
    let empty = |map: &mut TensorProto| {
        map.dims[1] = 0;
        map.raw_data.clear();
    };
    for (name, change, reason) in [
        ("compare", &turned as &dyn Fn(&mut TensorProto), "subtracts tensors of different shapes"),
        ("signed", &turned, "adds tensors of different shapes"),
        ("compare", &flat, "its constant is not a map [1, C, H, W] with one scale"),
        ("signed", &pixel, "its constant is a single pixel, not a map"),
        ("compare", &empty, "its weights are empty"),
    ] {
        let said = refusal(&with_map(name, change), &[]);
        assert!(said.contains(reason), "{said}");
    }
}

/// Constants are there before the first step: no layer writes them, and reports name what reads them.
#[test]
fn what_is_subtracted_is_shown() {
    let case = named("compare");
    let mut engine = Engine::load(&case.onnx, SHAPE, settings(&case)).unwrap();
    let tensor = Tensor { width: SHAPE.width, height: SHAPE.height, values: &case.input };
    let layers = engine.profile(&tensor, 1).unwrap();
    let count = |label: &str| layers.iter().filter(|layer| layer.label == label).count();
    assert_eq!((count("subtract"), count("add")), (2, 1));
    assert!(layers.iter().filter(|layer| layer.label == "subtract").all(|layer| layer.name.starts_with("sub")));
}

/// Which one is meant would depend on their order: found by mutated networks.
#[test]
fn two_nodes_that_write_one_tensor_are_refused() {
    let mut case = named("float_chain");
    let mut model = ModelProto::decode(case.onnx.as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let relu = graph.node.iter().position(|node| node.op_type == "Relu").unwrap();
    let twin = graph.node[relu].clone();
    let name = twin.name.clone();
    graph.node.push(twin);
    let floats = settings(&case).float_layers;
    case.onnx = model.encode_to_vec();
    let said = refusal(&case, &floats.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.contains(&name) && said.contains("another node writes the same tensor"), "{said}");
}
