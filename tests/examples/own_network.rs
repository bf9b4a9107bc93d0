//! The int8 engine alone, on anybody's QDQ network: `cargo run --example own_network -- NETWORK.onnx PICTURE`.
//!
//! The network may be a classifier, a detector's trunk or anything else whose operators the engine knows; its input is
//! a picture, float32 [1, 3, H, W], quantised with scale 1/128. ONNX Runtime's `quantize_static` writes such files with
//! symmetric activations and weights.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fcam::camera::{Frame, picture};
use fcam::clock;
use fcam::engine::Settings;
use fcam::engine::int8::Network;
use fcam::preprocess::{Preprocessor, Roi};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [network, picture] = words.as_slice() else {
        return Err("which files? cargo run --example own_network -- NETWORK.onnx PICTURE".into());
    };
    let answer = run(network, picture)?;
    println!("{} in {:.2} ms", answer.engine, answer.time.as_secs_f64() * 1e3);
    for (name, values) in answer.outputs {
        let largest = values.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        println!("{name}: {} values, the largest at {:?}", values.len(), largest.unwrap_or((0, &0.0)));
    }
    Ok(())
}

/// What a network says of a picture.
pub struct Answer {
    /// The engine in words: kernels and threads.
    pub engine: String,
    /// Of one run.
    pub time: Duration,
    /// Name and values of each output, row by row, the channels of a pixel side by side.
    pub outputs: Vec<(String, Vec<f32>)>,
}

/// Shows a picture to a network, made to fit its input as the camera does it.
pub fn run(network: &Path, picture: &Path) -> Result<Answer, Box<dyn Error>> {
    let mut network = Network::load(&std::fs::read(network)?, &Settings::default())?;
    let decoded = picture::decode(&std::fs::read(picture)?, &picture.display().to_string())?;
    let frame = Frame::new(0, clock::now(), decoded.geometry, &decoded.bytes)?;

    let [height, width] = network.input().map(|side| side as u32);
    let mut preprocessor = Preprocessor::new(decoded.geometry, Roi::whole(&decoded.geometry), width, height)?;
    let tensor = preprocessor.run(&frame);
    network.run(&tensor)?; // the first run touches every page of memory once
    let started = Instant::now();
    network.run(&tensor)?;
    let time = started.elapsed();

    let named = network.outputs().iter().enumerate();
    let outputs = named.map(|(index, output)| (output.name.clone(), network.output(index).to_vec())).collect();
    Ok(Answer { engine: network.describe(), time, outputs })
}
