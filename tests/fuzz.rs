//! Mutated networks through the int8 engine, on one to four threads: it refuses them with an error, or it computes what
//! stock tract computes; it never panics.
//!
//! Seconds of it in a plain test run; `FCAM_FUZZ_SECONDS=3600 cargo test --test fuzz -- --nocapture` (`./dev fuzz`)
//! goes on for an hour and says what it did. `FCAM_FUZZ_SEED` repeats a case that failed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "common/random.rs"]
mod random;

use std::fs;
use std::panic;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fcam::engine::{Backend, Engine, Settings, Shape};
use fcam::preprocess::Tensor;
use prost::Message;
use random::Random;
use tract_onnx::pb::{ModelProto, TensorProto};

const SHAPE: Shape = Shape { width: 20, height: 24, classes: 3 };
/// About 2,000 networks on one core of an Intel Xeon VM, with a tract that is not optimised.
const SECONDS: u64 = 40;

/// Where our own code panicked, if it did; tract's panics are errors by the time they leave the engine.
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

/// One change that keeps the file a protobuf, but seldom a sensible network.
fn mutate(model: &mut ModelProto, random: &mut Random) {
    let Some(graph) = model.graph.as_mut() else { return };
    let (nodes, constants) = (graph.node.len(), graph.initializer.len());
    if nodes == 0 || constants == 0 {
        return;
    }
    match random.below(12) {
        0..=3 => {
            let node = random.below(nodes);
            let attributes = &mut graph.node[node].attribute;
            if attributes.is_empty() {
                return;
            }
            let attribute = random.below(attributes.len());
            let attribute = &mut attributes[attribute];
            if attribute.ints.is_empty() {
                attribute.i = random.pick(&[-1, 0, 1, 2, 3, 8, 24, i64::MAX, i64::MIN]);
            } else {
                let at = random.below(attribute.ints.len());
                attribute.ints[at] = random.pick(&[-1, 0, 1, 2, 2, 3, 3, 4, 5, 1 << 40]);
            }
        }
        4..=6 => {
            let constant = random.below(constants);
            scale(&mut graph.initializer[constant], random);
        }
        7 => {
            let constant = random.below(constants);
            let tensor = &mut graph.initializer[constant];
            match random.below(4) {
                0 if !tensor.dims.is_empty() => {
                    let at = random.below(tensor.dims.len());
                    tensor.dims[at] = random.pick(&[-1, 0, 1, 2, 3, 5, 1 << 40]);
                }
                1 => tensor.data_type = random.pick(&[0, 1, 2, 3, 6, 7, 10, 11, 99]),
                2 => tensor.raw_data.truncate(tensor.raw_data.len() / 2),
                _ => tensor.dims.push(1),
            }
        }
        8 => {
            let (from, to) = (random.below(nodes), random.below(nodes));
            let name = graph.node[from].output.first().cloned().unwrap_or_default();
            let inputs = graph.node[to].input.len();
            if inputs > 0 {
                graph.node[to].input[random.below(inputs)] = name;
            }
        }
        9 => drop(graph.node.remove(random.below(nodes))),
        10 => {
            let known = [
                "Conv", "Add", "Sub", "Relu", "Clip", "Concat", "MaxPool", "Resize", "Sigmoid", "Flatten", "Softmax",
                "If",
            ];
            graph.node[random.below(nodes)].op_type = random.pick(&known).into();
        }
        _ => {
            let twin = graph.node[random.below(nodes)].clone();
            graph.node.insert(random.below(nodes), twin);
        }
    }
}

/// Other numbers in a float constant: ordinary ones mostly.
fn scale(tensor: &mut TensorProto, random: &mut Random) {
    if tensor.data_type != 1 {
        return;
    }
    let factor = random.pick(&[0.25f32, 0.5, 0.9, 1.1, 2.0, 4.0, -1.0, 0.0, 1e30, f32::NAN, f32::INFINITY]);
    let one = random.below(2) == 0;
    let at = random.below(tensor.raw_data.len() / 4);
    for (index, bytes) in
        tensor.raw_data.chunks_exact(4).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter().enumerate()
    {
        if !one || index == at {
            let value = f32::from_le_bytes(bytes.try_into().unwrap()) * factor;
            tensor.raw_data[index * 4..index * 4 + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// A case's file.
fn file(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let bytes = &seeds[random.below(seeds.len())];
    if random.below(8) == 0 {
        let mut bytes = bytes.clone();
        for _ in 0..=random.below(8) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        if random.below(4) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        return bytes;
    }
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    for _ in 0..=random.below(3) {
        mutate(&mut model, random);
    }
    model.encode_to_vec()
}

/// The seeds' float convolutions, which their names tell.
fn float_layers(file: &[u8]) -> Vec<String> {
    let graph = ModelProto::decode(file).ok().and_then(|model| model.graph);
    let names = graph.into_iter().flat_map(|graph| graph.node).map(|node| node.name);
    names.filter(|name| name.starts_with("float")).collect()
}

/// The map, or nothing where the file is refused.
fn map(file: &[u8], backend: Backend, threads: usize, input: &[i8]) -> Option<Vec<f32>> {
    let settings = Settings { backend, threads, float_layers: float_layers(file), ..Settings::default() };
    let mut engine = Engine::load(file, SHAPE, settings).ok()?;
    let prediction = engine.run(&Tensor { width: SHAPE.width, height: SHAPE.height, values: input }).ok()?;
    Some(prediction.map.to_vec())
}

/// Share of the pixels that differ by more than a tenth of the map's range. Rounding is no difference of that size, a
/// wrong pad is.
fn apart(ours: &[f32], theirs: &[f32]) -> f32 {
    let range = theirs.iter().fold(0.0f32, |top, value| top.max(value.abs()));
    let far = ours.iter().zip(theirs).filter(|(a, b)| a.is_nan() || (**a - **b).abs() > 0.1 * range + 1e-6).count();
    far as f32 / ours.len() as f32
}

/// Leaves the file of a case to look at, and names the case.
fn keep(seed: u64, file: &[u8]) -> String {
    let path = std::env::temp_dir().join(format!("fcam-fuzz-{seed}.onnx"));
    fs::write(&path, file).unwrap();
    format!("FCAM_FUZZ_SEED={seed}, {}", path.display())
}

#[test]
fn mutated_networks_are_refused_or_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/layers");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(!seeds.is_empty(), "the networks are missing: run tests/common/make_layers.py");

    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (only, seconds) = (number("FCAM_FUZZ_SEED"), number("FCAM_FUZZ_SECONDS").unwrap_or(SECONDS));
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        if !place.contains("tract") && !place.contains("rustc") {
            *PANICKED.lock().unwrap() = Some(info.to_string());
        }
    }));
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut cases, mut accepted, mut compared) = (0u64, 0u64, 0u64);
    let mut wrong = Vec::new();
    while Instant::now() < end && wrong.len() < 10 && (only.is_none() || cases == 0) {
        let seed = only.unwrap_or(cases);
        let mut random = Random(seed);
        let file = file(&seeds, &mut random);
        let input: Vec<i8> = (0..SHAPE.width * SHAPE.height * 3).map(|_| random.next() as i8).collect();
        cases += 1;
        let threads = [1, 2, 4][seed as usize % 3];
        let ours = panic::catch_unwind(|| map(&file, Backend::Cpu, threads, &input));
        if let Some(panicked) = PANICKED.lock().unwrap().take() {
            wrong.push(format!("{}: {panicked}", keep(seed, &file)));
            continue;
        }
        let Ok(Some(ours)) = ours else { continue };
        accepted += 1;
        // tract may refuse what we take, or meet infinities.
        let Ok(Some(theirs)) = panic::catch_unwind(|| map(&file, Backend::Tract, 1, &input)) else { continue };
        if theirs.iter().any(|value| !value.is_finite()) {
            continue;
        }
        compared += 1;
        let share = apart(&ours, &theirs);
        if share > 0.02 {
            wrong.push(format!("{}: {:.1} % of the pixels are not stock tract's", keep(seed, &file), 100.0 * share));
        }
    }
    drop(panic::take_hook());
    println!("{cases} networks, {accepted} accepted, {compared} compared with stock tract, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(only.is_some() || compared > 10, "{cases} cases are too few to say anything: {compared} were compared");
}
