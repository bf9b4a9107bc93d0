//! `fcam bench`: how long each stage takes on this machine, with what memory, and how fast a station is ready; and
//! whether an int8 network is worth it here: stock tract computes it in float, after everything else, so that its
//! memory is not in what is reported.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde_json::{Map, Value, json};
use stats_alloc::INSTRUMENTED_SYSTEM;

use super::{EXIT_CLEAN, layers};
use crate::bundle::Bundle;
use crate::camera::jpeg::{self, Decoder};
use crate::camera::picture::Picture;
use crate::camera::{Camera, Frame, Geometry, Pattern, PixelFormat};
use crate::clock;
use crate::drift::{DriftOptions, LEAST_PARTS};
use crate::engine::{Backend, Settings};
use crate::outcome::Timings;
use crate::pipeline::{Pipeline, PipelineOptions};
use crate::signal::Signaller;

/// Times every stage on the bundle's sample pictures, at the size of a camera's frame.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model bundle; the embedded one if not given.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    engine: super::EngineArgs,
    #[command(flatten)]
    layout: super::LayoutArgs,
    /// Frames that are timed, after a tenth as many that are not.
    #[arg(long, default_value_t = 200)]
    frames: usize,
    /// Width of the frames, pixels.
    #[arg(long, default_value_t = 1280)]
    width: u32,
    /// Height of the frames, pixels.
    #[arg(long, default_value_t = 720)]
    height: u32,
    /// How the frames come: gray8, rgb8, yuyv, nv12, i420, or compressed and decoded in each turn: mjpeg (4:2:2, as
    /// most USB cameras have it), mjpeg420.
    #[arg(long, default_value = "rgb8", value_parser = format)]
    format: Format,
    /// Time each layer of an int8 network too, on one thread.
    #[arg(long)]
    layers: bool,
    /// Do not time an int8 network in float for comparison.
    #[arg(long)]
    no_float: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let started = clock::now();
    let bundle = Bundle::load(args.bundle.as_deref(), &args.engine.float_layers)?;
    let mut camera = Source::open(&bundle, args)?;
    let geometry = camera.next()?.0.geometry();
    let mut pipeline = Pipeline::new(&bundle, geometry, options(&bundle, args))?;
    inspect(&mut pipeline, &mut camera)?;
    let ready = clock::now().saturating_sub(started);
    for _ in 0..args.frames / 10 {
        inspect(&mut pipeline, &mut camera)?;
    }
    let frames = args.frames.max(1);
    let mut timings = Vec::with_capacity(frames);
    let counted = stats_alloc::Region::new(&INSTRUMENTED_SYSTEM);
    for _ in 0..frames {
        timings.push(inspect(&mut pipeline, &mut camera)?);
    }
    let allocations = counted.change().allocations as f64 / frames as f64;
    let mut report = report(args, &bundle, &pipeline, &timings, ready, allocations);
    if args.layers {
        let frame = camera.next()?.0;
        let layers = pipeline.profile(&frame, args.frames).context("this backend does not time its layers")?;
        if let Some(fields) = report.as_object_mut() {
            fields.insert("layers".into(), layers::rows(&layers.0, layers.1));
            fields.insert("peak_gmacs".into(), json!(layers.1 / 1e9));
        }
    }
    let int8 = pipeline.is_int8();
    drop(pipeline);
    let compare = int8 && !args.no_float;
    let float = (compare && cfg!(feature = "tract")).then(|| time_float(args, &bundle, geometry, &mut camera));
    let float_us = float.as_ref().and_then(|time| time.as_ref().ok().copied());
    if let Some(fields) = report.as_object_mut() {
        fields.insert("float_us".into(), json!(float_us));
        if let Some(bytes) = camera.picture_bytes() {
            fields.insert("picture_bytes".into(), json!(bytes));
        }
    }
    if args.json {
        println!("{report}");
    } else {
        print_table(&report);
        match float {
            Some(Ok(float_us)) => println!("{}{}", compared(engine_us(&report), float_us), doubt()),
            Some(Err(error)) => println!("stock tract does not compute this network: {}", super::told(&error)),
            None if compare => println!("float is not timed: this fcam was built without tract"),
            None => {}
        }
        if let Some(rows) = report.get("layers") {
            print!("{}", layers::table(rows, report.get("peak_gmacs").and_then(Value::as_f64).unwrap_or(0.0)));
        }
    }
    Ok(EXIT_CLEAN)
}

/// Runs of the network behind its time in float, after one that does not count.
const FLOAT_RUNS: usize = 5;

/// How long the network takes in float, by stock tract on one thread: a median in microseconds.
fn time_float(args: &Args, bundle: &Bundle, geometry: Geometry, camera: &mut Source) -> anyhow::Result<f64> {
    let engine = Settings { backend: Backend::Tract, ..args.engine.settings() };
    let mut pipeline = Pipeline::new(bundle, geometry, PipelineOptions { engine, ..options(bundle, args) })?;
    inspect(&mut pipeline, camera)?;
    let mut times = Vec::with_capacity(FLOAT_RUNS);
    for _ in 0..FLOAT_RUNS {
        times.push(inspect(&mut pipeline, camera)?.1.engine);
    }
    Ok(quantiles(times).get("p50_us").and_then(Value::as_f64).unwrap_or(0.0))
}

fn engine_us(report: &Value) -> f64 {
    report.pointer("/stages/engine/p50_us").and_then(Value::as_f64).unwrap_or(0.0)
}

/// What a development build's comparison lacks: its tract is not optimised (Cargo.toml, `[profile.dev]`).
fn doubt() -> &'static str {
    match env!("FCAM_PROFILE") {
        "debug" => "; but tract is not optimised in this build: `./dev bench` has it optimised",
        _ => "",
    }
}

/// Which arithmetic is cheaper here, and by how much.
fn compared(int8_us: f64, float_us: f64) -> String {
    let (float, ratio) = (float_us / 1e3, float_us / int8_us.max(0.1));
    if ratio >= 1.0 {
        return format!("stock tract in float: {float:.1} ms on one thread; int8 is {ratio:.1} times faster");
    }
    let int8 = int8_us / 1e3;
    format!(
        "float is cheaper on this core: stock tract {float:.1} ms on one thread, int8 {int8:.1} ms; \
         set engine.backend = \"tract\" in the station file"
    )
}

/// How the frames come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// As they are.
    Raw(PixelFormat),
    /// Compressed from these planes.
    Mjpeg(PixelFormat),
}

fn format(name: &str) -> Result<Format, serde::de::value::Error> {
    match name {
        "mjpeg" => Ok(Format::Mjpeg(PixelFormat::Yuvj422)),
        "mjpeg420" => Ok(Format::Mjpeg(PixelFormat::Yuvj420)),
        _ => PixelFormat::deserialize(name.into_deserializer()).map(Format::Raw),
    }
}

impl Format {
    fn pixels(self) -> PixelFormat {
        match self {
            Self::Raw(format) | Self::Mjpeg(format) => format,
        }
    }

    fn name(self) -> Value {
        match self {
            Self::Raw(format) => json!(format),
            Self::Mjpeg(PixelFormat::Yuvj420) => json!("mjpeg420"),
            Self::Mjpeg(_) => json!("mjpeg"),
        }
    }
}

/// A few pictures in turn: the memory that is reported should be the station's, and a camera keeps no dozen frames.
const PICTURES: usize = 2;

/// Where the frames come from.
struct Source {
    camera: Pattern,
    /// Of Motion JPEG; empty otherwise.
    compressed: Vec<Vec<u8>>,
    turn: usize,
    decoder: Decoder,
    picture: Picture,
}

impl Source {
    fn open(bundle: &Bundle, args: &Args) -> anyhow::Result<Self> {
        let samples = Pattern::open(bundle.samples().take(PICTURES), Some((args.width, args.height)))?;
        let mut camera = samples.encode(args.format.pixels())?;
        let mut compressed = vec![];
        if matches!(args.format, Format::Mjpeg(_)) {
            for _ in 0..PICTURES {
                compressed.extend(jpeg::encode(&camera.next(soon())?));
            }
        }
        Ok(Self { camera, compressed, turn: 0, decoder: Decoder::default(), picture: Picture::EMPTY })
    }

    /// A frame, and how long it took to decode.
    fn next(&mut self) -> anyhow::Result<(Frame<'_>, Duration)> {
        self.turn += 1;
        let Some(jpeg) = self.compressed.get(self.turn % self.compressed.len().max(1)) else {
            return Ok((self.camera.next(soon()).context("the sample pictures ran out")?, Duration::ZERO));
        };
        let started = clock::now();
        self.decoder.decode(jpeg, &mut self.picture)?;
        let taken = clock::now().saturating_sub(started);
        Ok((Frame::new(self.turn as u64, started, self.picture.geometry, &self.picture.bytes)?, taken))
    }

    /// Bytes of a compressed picture, on average; none if they are not compressed.
    fn picture_bytes(&self) -> Option<usize> {
        let total: usize = self.compressed.iter().map(Vec::len).sum();
        total.checked_div(self.compressed.len())
    }
}

fn soon() -> clock::Timestamp {
    clock::now() + Duration::from_secs(5)
}

/// A bundle without a reference learns one, so that what watching costs is in the times.
fn options(bundle: &Bundle, args: &Args) -> PipelineOptions {
    let learn = if bundle.manifest().drift.is_some() { 0 } else { LEAST_PARTS };
    PipelineOptions {
        engine: args.engine.settings(),
        layout: args.layout.layout(),
        score_threshold: None,
        locate: None,
        vote: None,
        // The pictures in turn are of different parts.
        drift: Some(DriftOptions { learn, blind: false, ..DriftOptions::default() }),
        zones: Default::default(),
        signaller: Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) },
    }
}

/// How long decoding took, and everything behind it.
fn inspect(pipeline: &mut Pipeline, camera: &mut Source) -> anyhow::Result<(Duration, Timings)> {
    let (frame, decode) = camera.next()?;
    let inspection = pipeline.inspect(&frame);
    anyhow::ensure!(inspection.prediction.is_some(), "the network failed on a sample picture");
    Ok((decode, inspection.outcome.timings))
}

fn report(
    args: &Args,
    bundle: &Bundle,
    pipeline: &Pipeline,
    timings: &[(Duration, Timings)],
    ready: Duration,
    allocations: f64,
) -> Value {
    let names = Timings::default().stages().map(|(name, _)| name);
    let mut stages = Map::new();
    if matches!(args.format, Format::Mjpeg(_)) {
        stages.insert("decode".into(), quantiles(timings.iter().map(|(decode, _)| *decode).collect()));
    }
    for (index, name) in names.into_iter().enumerate() {
        let times = timings.iter().filter_map(|(_, timing)| timing.stages().get(index).map(|stage| stage.1)).collect();
        stages.insert(name.into(), quantiles(times));
    }
    let total = |(decode, timing): &(Duration, Timings)| *decode + timing.total();
    stages.insert("total".into(), quantiles(timings.iter().map(total).collect()));
    let ours = |timing: &(Duration, Timings)| total(timing) - timing.1.engine;
    stages.insert("all_but_engine".into(), quantiles(timings.iter().map(ours).collect()));
    let manifest = bundle.manifest();
    json!({
        "bundle": manifest.name, "source": bundle.source(), "version": manifest.version, "backend": pipeline.describe(),
        "frame": [args.width, args.height], "format": args.format.name(), "input": [manifest.input.width, manifest.input.height],
        "tiles": pipeline.tiles(), "map": [pipeline.map_size().0, pipeline.map_size().1],
        "frames": timings.len(), "stages": stages,
        "allocations_per_frame": allocations, "resident_mib": resident_mib(), "ready_ms": ready.as_millis() as u64,
    })
}

fn quantiles(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len().saturating_sub(1)) as f64 * share).round() as usize;
        times.get(index).map_or(0.0, |time| (time.as_secs_f64() * 1e7).round() / 10.0)
    };
    json!({"min_us": at(0.0), "p50_us": at(0.5), "p99_us": at(0.99), "max_us": at(1.0)})
}

/// Resident memory of this process, from /proc/self/status (proc(5): VmRSS, kB).
fn resident_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

fn print_table(report: &Value) {
    let text = |key: &str| report.get(key).map(ToString::to_string).unwrap_or_default().replace('"', "");
    println!("{} {} {} on {}", text("source"), text("bundle"), text("version"), text("backend"));
    println!("frame {} {} -> input {}, {} frames", text("frame"), text("format"), text("input"), text("frames"));
    if let Some(tiles) = report.get("tiles").and_then(Value::as_u64).filter(|tiles| *tiles > 1) {
        let each = engine_us(report) / 1e3 / tiles as f64;
        println!("{tiles} tiles -> map {}, the network takes {each:.2} ms for each", text("map"));
    }
    println!("{:<16}{:>12}{:>12}{:>12}", "stage", "p50 us", "p99 us", "max us");
    for (name, times) in report.get("stages").and_then(Value::as_object).into_iter().flatten() {
        let time = |key: &str| times.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        println!("{name:<16}{:>12.1}{:>12.1}{:>12.1}", time("p50_us"), time("p99_us"), time("max_us"));
    }
    println!(
        "{} allocations a frame, resident memory {} MiB, ready after {} ms",
        text("allocations_per_frame"),
        text("resident_mib"),
        text("ready_ms")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheaper_arithmetic_is_named() {
        assert_eq!(
            compared(3300.0, 72_600.0),
            "stock tract in float: 72.6 ms on one thread; int8 is 22.0 times faster"
        );
        let said = compared(72_600.0, 33_000.0);
        assert!(
            said.starts_with("float is cheaper on this core: stock tract 33.0 ms on one thread, int8 72.6 ms"),
            "{said}"
        );
        assert!(said.contains("engine.backend = \"tract\""), "{said}");
    }
}
