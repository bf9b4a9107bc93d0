//! `fcam replay`: pictures from files through the same pipeline as a camera's, one line each.
//!
//! In: files and folders, or the bundle's own samples. Out: a table on a terminal, JSON lines elsewhere; overlays with
//! a contact sheet of them, and maps, in directories if wanted; a summary on standard error. A picture that cannot be
//! read is a fault, as it would be on the line, and the next one is judged.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::{EXIT_CLEAN, EXIT_FAULTS};
use crate::bundle::Bundle;
use crate::camera::{self, Camera, Folder, Frame, Geometry, Pattern, PixelFormat};
use crate::clock;
use crate::pipeline::{Pipeline, PipelineOptions};
use crate::proof;
use crate::signal::Signaller;

mod output;
mod report;
mod table;

use output::Outputs;
use report::{Progress, ReplayRow, Tally};
use table::Writer;

/// Judges pictures from files and folders; one line a picture: a table on a terminal, JSON elsewhere.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "In a JSON line, `regions` are the findings of a reject; `below_score` is what the map shows on a part that passes,\n\
which is no finding but helps to tune --score.\n\n\
Exit codes: 0 all pictures judged, 1 some could not be read or judged, 2 could not start."
)]
pub(super) struct Args {
    /// Pictures (png, jpg, bmp, tiff) and folders of them; the bundle's own samples if there are none.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The model bundle; the embedded one if not given.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Write each picture with its mask, regions and verdict drawn on it, as JPEG, and contact-sheet.jpg of the highest
    /// scores.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write each foreground map as 16-bit gray PNG: value = probability x 65535; of the network's size, or of all
    /// tiles put together.
    #[arg(long, value_name = "DIR")]
    maps: Option<PathBuf>,
    #[command(flatten)]
    engine: super::EngineArgs,
    /// Reject from this defect score on, 0 to 1, instead of the bundle's threshold.
    #[arg(long, value_name = "T", value_parser = parse_score)]
    score: Option<f32>,
    #[command(flatten)]
    layout: super::LayoutArgs,
    /// Add the mask to each JSON line, as run lengths in row-major order, background first.
    #[arg(long)]
    runs: bool,
    /// Judge without replaying the bundle's proof first.
    #[arg(long)]
    no_proof: bool,
    /// Write JSON lines on a terminal too.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let bundle = Bundle::load(args.bundle.as_deref(), &args.engine.float_layers)?;
    let Pictures { mut camera, paths, names } = Pictures::open(&args.paths, &bundle)?;
    let layout = args.layout.layout();
    let outputs = Outputs::new(args.out.as_deref(), args.maps.as_deref(), layout, &names, &paths)?;
    let mut replay = Replay::new(args, &bundle, outputs)?;
    let mut writer = Writer::new(args.json, &paths, &replay.classes);
    let progress = Progress::new(paths.len());
    for (path, name) in paths.iter().zip(&names) {
        let line = replay.judge(path, name, camera.next(clock::now()))?;
        progress.clear();
        match writer.write(&line) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break, // the reader has seen enough
            written => written.context("cannot write to standard output")?,
        }
        progress.show(replay.tally.pictures());
    }
    progress.clear();
    eprintln!("{}", replay.tally);
    if let Some(sheet) = replay.outputs.finish()? {
        eprintln!("{sheet}");
    }
    Ok(if replay.tally.fault == 0 { EXIT_CLEAN } else { EXIT_FAULTS })
}

/// What is judged: a camera, and for each of its pictures the path, and the name of what is written of it.
struct Pictures {
    camera: Box<dyn Camera>,
    paths: Vec<PathBuf>,
    names: Vec<PathBuf>,
}

impl Pictures {
    fn open(paths: &[PathBuf], bundle: &Bundle) -> anyhow::Result<Self> {
        if paths.is_empty() {
            let camera = Box::new(Pattern::open(bundle.samples(), None)?);
            let paths: Vec<_> = bundle.samples().map(|(path, _)| PathBuf::from(path)).collect();
            let names = paths.iter().map(|path| path.strip_prefix("samples").unwrap_or(path).into()).collect();
            return Ok(Self { camera, paths, names });
        }
        let folder = Folder::open(paths)?;
        let pictures = folder.pictures().to_vec();
        let names = output::names(paths, &pictures)?;
        Ok(Self { camera: Box::new(folder), paths: pictures, names })
    }
}

/// One replay, from the first picture to the last.
struct Replay {
    classes: Vec<String>,
    pipeline: Pipeline,
    outputs: Outputs,
    runs: bool,
    tally: Tally,
}

impl Replay {
    fn new(args: &Args, bundle: &Bundle, outputs: Outputs) -> anyhow::Result<Self> {
        let pipeline = build(args, bundle)?;
        log::info!("replay with {} on {}", bundle.describe(), pipeline.describe());
        Ok(Self { classes: bundle.class_names(), pipeline, outputs, runs: args.runs, tally: Tally::default() })
    }

    /// Judges one picture and returns its line. Only what makes all further pictures pointless is an error.
    fn judge<'a>(
        &'a mut self,
        path: &'a Path,
        name: &Path,
        frame: Result<Frame, camera::Error>,
    ) -> anyhow::Result<ReplayRow<'a>> {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Ok(self.unreadable(path, &error)),
        };
        if frame.geometry() != self.pipeline.geometry()
            && let Err(error) = self.pipeline.refit(frame.geometry())
        {
            return Ok(self.unreadable(path, &error));
        }
        let inspection = self.pipeline.inspect(&frame);
        self.tally.count(&inspection);
        self.outputs.write(name, &frame, &inspection, &self.classes)?;
        Ok(ReplayRow::of(path, &inspection, &self.classes, self.runs))
    }

    fn unreadable<'a>(&mut self, path: &'a Path, error: &dyn std::error::Error) -> ReplayRow<'a> {
        self.tally.fault += 1;
        ReplayRow::fault(path, error.to_string())
    }
}

/// The pipeline, proven unless it is not wanted. It is fitted to each picture's size; to begin with, any that holds the
/// ROIs will do.
fn build(args: &Args, bundle: &Bundle) -> anyhow::Result<Pipeline> {
    let options = PipelineOptions {
        engine: args.engine.settings(),
        layout: args.layout.layout(),
        score_threshold: args.score,
        locate: None,
        vote: None,
        drift: None,
        zones: Default::default(),
        signaller: Signaller { delay: Duration::ZERO, hold: Duration::ZERO },
    };
    let input = &bundle.manifest().input;
    let (width, height) = options.layout.extent();
    let geometry = Geometry::packed(width.max(input.width), height.max(input.height), PixelFormat::Gray8)?;
    if args.no_proof {
        log::warn!("the bundle's proof is not replayed: what follows may not be what the bundle says");
        return Ok(Pipeline::new(bundle, geometry, options)?);
    }
    Ok(proof::require(bundle, geometry, options)?)
}

fn parse_score(text: &str) -> Result<f32, String> {
    let score = text.parse().ok().filter(|score| (0.0..=1.0).contains(score));
    score.ok_or_else(|| format!("`{text}` is not a number from 0 to 1"))
}
