//! The command line: one verb a file, each with its `Args` and its `run`, which returns the exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::engine::{Backend, Isa, Settings, tensorrt};
use crate::preprocess::{Layout, Roi, Tiles};

mod bench;
mod bundle;
#[cfg(feature = "v4l2")]
mod cameras;
mod check;
mod drift;
mod engine;
mod io;
mod layers;
mod locate;
mod log;
#[cfg(feature = "page")]
mod page;
mod pictures;
mod plc;
mod replay;
mod run;
mod version;

/// Everything went well.
pub const EXIT_CLEAN: u8 = 0;
/// It ran to its end, but faults were counted.
pub const EXIT_FAULTS: u8 = 1;
/// It could not start.
pub const EXIT_NOT_STARTED: u8 = 2;

/// What to do first, below the help of all verbs.
const FIRST: &str = "First steps:
  fcam replay                  judge the sample pictures that the program carries; --out DIR draws what it found
  fcam replay PICTURE...       judge your own
  fcam cameras                 which cameras are there
  fcam check STATION.toml      say what is wrong with a station file; `fcam run --config STATION.toml` runs it

Exit codes: 0 clean, 1 stopped with faults counted, 2 could not start.";

/// Inspects parts: picture in, mask and verdict out, in time for the line's PLC.
#[derive(Debug, Parser)]
#[command(
    name = "fcam",
    version,
    long_version = version::long(),
    after_help = FIRST
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Args),
    Replay(replay::Args),
    Pictures(pictures::Args),
    Locate(locate::Args),
    Drift(drift::Args),
    Check(check::Args),
    Bench(bench::Args),
    Engine(engine::Args),
    Bundle(bundle::Args),
    #[cfg(feature = "v4l2")]
    Cameras(cameras::Args),
    Plc(plc::Args),
    Io(io::Args),
    #[cfg(feature = "page")]
    Page(page::Args),
}

/// Parses the command line and runs the verb; prints an error chain once and turns it into the exit code.
pub fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    let logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"));
    let done = match start_log(logger, &verb).and_then(|()| run_verb(verb)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log::flush(); // what led to it comes first
            eprintln!("fcam: {}", told(&error));
            ExitCode::from(EXIT_NOT_STARTED)
        }
    };
    log::flush();
    done
}

/// A station must not wait for whoever reads its log; the other verbs write theirs in the order of what they print.
fn start_log(mut logger: env_logger::Builder, verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Run(_) => log::init(logger).context("cannot start the log")?,
        _ => logger.init(),
    }
    Ok(())
}

fn run_verb(verb: Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::Run(args) => run::run(&args),
        Verb::Replay(args) => replay::run(&args),
        Verb::Pictures(args) => pictures::run(&args),
        Verb::Locate(args) => locate::run(&args),
        Verb::Drift(args) => drift::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Engine(args) => engine::run(&args),
        Verb::Bundle(args) => bundle::run(&args),
        #[cfg(feature = "v4l2")]
        Verb::Cameras(args) => cameras::run(&args),
        Verb::Plc(args) => plc::run(&args),
        Verb::Io(args) => io::run(&args),
        #[cfg(feature = "page")]
        Verb::Page(args) => page::run(&args),
    }
}

/// An error and its causes, each once: most errors here have the words of their cause in their own.
fn told(error: &anyhow::Error) -> String {
    let said = |text: String, cause: String| if text.contains(&cause) { text } else { format!("{text}: {cause}") };
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), said)
}

/// How the network is run, for every verb that runs one.
#[derive(Debug, Clone, clap::Args)]
struct EngineArgs {
    /// Engine: auto, cpu, tract (float, for comparison) or tensorrt
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Cores the engine may use, 1 to 32
    #[arg(long, default_value_t = 1, value_parser = threads)]
    threads: usize,
    /// Instruction set of the int8 kernels: auto, or one by name
    #[arg(long, default_value = "auto")]
    isa: Isa,
    /// Allow this convolution of an int8 network in float; may be given several times
    #[arg(long = "float-layer", value_name = "NODE")]
    float_layers: Vec<String>,
    #[command(flatten)]
    tensorrt: TensorrtArgs,
}

fn threads(text: &str) -> Result<usize, String> {
    let known = 1..=crate::engine::MAX_THREADS;
    text.parse()
        .ok()
        .filter(|threads| known.contains(threads))
        .ok_or_else(|| format!("not a number from 1 to {}", known.end()))
}

impl EngineArgs {
    fn settings(&self) -> Settings {
        let Self { backend, threads, isa, float_layers, tensorrt } = self.clone();
        Settings { backend, threads, isa, float_layers, tensorrt: tensorrt.apply(Default::default()) }
    }
}

/// Where TensorRT's things are, for every verb that may use it.
#[derive(Debug, Clone, clap::Args)]
struct TensorrtArgs {
    /// TensorRT's shim [default: libfcam_trt.so in /usr/lib/fcam, /usr/local/lib/fcam or beside the program]
    #[arg(long, value_name = "FILE")]
    shim: Option<PathBuf>,
    /// The folder of TensorRT engines [default: /var/cache/fcam/engines]
    #[arg(long = "engine-cache", value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl TensorrtArgs {
    /// In place of what `options` say.
    fn apply(self, options: tensorrt::TensorRtOptions) -> tensorrt::TensorRtOptions {
        let Self { shim, cache } = self;
        tensorrt::TensorRtOptions {
            shim: shim.unwrap_or(options.shim),
            cache: cache.unwrap_or(options.cache),
            ..options
        }
    }
}

/// What is looked at in a picture, for every verb that looks at pictures.
#[derive(Debug, Clone, clap::Args)]
struct LayoutArgs {
    /// Inspect only this rectangle of each picture, in pixels; may be given several times
    #[arg(long = "roi", value_name = "X,Y,W,H", value_parser = parse_roi)]
    rois: Vec<Roi>,
    /// Cut what is inspected into so many tiles across and down, which share this part of their sides: small defects
    /// are seen
    #[arg(long, value_name = "COLUMNSxROWS[,OVERLAP]", value_parser = parse_tiles)]
    tiles: Option<Tiles>,
}

impl LayoutArgs {
    fn layout(&self) -> Layout {
        let areas = self.rois.iter().copied().map(Into::into).collect();
        Layout { areas, tiles: self.tiles.unwrap_or_default() }
    }
}

fn parse_roi(text: &str) -> Result<Roi, String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(|number| number.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[x, y, width, height]) => Ok(Roi { x, y, width, height }),
        _ => Err(format!("`{text}` is not X,Y,W,H in pixels, such as 100,50,640,480")),
    }
}

fn parse_tiles(text: &str) -> Result<Tiles, String> {
    let default = Tiles::default();
    let (grid, overlap) =
        text.split_once(',').map_or((text, Ok(default.overlap)), |(grid, share)| (grid, share.parse()));
    let parsed = grid.split_once('x').map(|(columns, rows)| (columns.parse(), rows.parse()));
    match (parsed, overlap) {
        (Some((Ok(columns), Ok(rows))), Ok(overlap)) => Ok(Tiles { columns, rows, overlap }),
        _ => {
            Err(format!("`{text}` is not COLUMNSxROWS or COLUMNSxROWS,OVERLAP, such as 4x3 or 4x3,{}", default.overlap))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let open = crate::camera::Error::Open { path: "here".into(), source: gone() };
        assert_eq!(told(&open.into()), "cannot open here: entity not found");
        let deep = crate::config::Error::Camera(crate::camera::Error::Open { path: "here".into(), source: gone() });
        assert_eq!(told(&deep.into()), "cannot open the camera: cannot open here: entity not found");
        let without_it = anyhow::Error::new(gone()).context("cannot write there").context("no report");
        assert_eq!(told(&without_it), "no report: cannot write there: entity not found");
    }

    #[test]
    fn rectangles_and_tiles_as_they_are_typed() {
        assert_eq!(parse_roi("1, 2,3,4"), Ok(Roi { x: 1, y: 2, width: 3, height: 4 }));
        assert_eq!(parse_tiles("4x3"), Ok(Tiles { columns: 4, rows: 3, overlap: 0.1 }));
        assert_eq!(parse_tiles("2x1,0.25"), Ok(Tiles { columns: 2, rows: 1, overlap: 0.25 }));
        for wrong in ["", "4", "4x", "x4", "4x4,", "4,4", "-1x2", "4x4,0.1,2"] {
            assert!(parse_tiles(wrong).unwrap_err().contains("such as 4x3"), "{wrong}");
        }
    }
}
