//! `fcam drift`: what pictures of parts look like in numbers, against what is usual. In: pictures, and a bundle. Out: a
//! line for each with its measures and what has changed by then, or with `--teach` the reference of good parts, which the
//! host tool puts into the bundle's manifest.
//!
//! Each picture goes through the station's own pipeline: what is taught is what is compared.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde::Serialize;

use super::{EXIT_CLEAN, EXIT_FAULTS};
use crate::bundle::Bundle;
use crate::camera::{Camera, Folder, Geometry, PixelFormat};
use crate::clock;
use crate::drift::{Drift, DriftOptions, LEAST_PARTS, Measures, Teacher};
use crate::pipeline::{Pipeline, PipelineOptions};
use crate::verdict::Verdict;

/// Says what has changed in pictures against a bundle's reference, or makes the reference of good parts
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing has changed, 1 something has or a picture was not judged, 2 could not start."
)]
pub(super) struct Args {
    /// Pictures (png, jpg, bmp, tiff) and folders of them, in the order in which they were taken
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The model bundle; the embedded one if not given
    #[arg(long, value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
    /// Make the reference of these pictures of good parts: [drift] of a manifest
    #[arg(long)]
    teach: bool,
    /// With --teach: leave out what is usual of the network's scores, of pictures that it was trained on
    #[arg(long, requires = "teach")]
    no_score: bool,
    /// Learn from the first so many good parts, in place of the bundle's reference
    #[arg(long, value_name = "PARTS", conflicts_with = "teach", value_parser = clap::value_parser!(u32).range(i64::from(LEAST_PARTS)..))]
    learn: Option<u32>,
    /// One false alarm in so many parts
    #[arg(long, value_name = "PARTS", default_value_t = 1e6)]
    parts_per_alarm: f64,
    #[command(flatten)]
    layout: super::LayoutArgs,
    /// Print JSON: an object a line for each picture; for --teach one in all
    #[arg(long)]
    json: bool,
}

/// One line.
#[derive(Debug, Serialize)]
struct Row {
    picture: String,
    verdict: &'static str,
    measures: Option<Measures>,
    drift: Option<Drift>,
    /// In words.
    told: Option<String>,
    problem: Option<String>,
}

impl Row {
    fn text(&self) -> String {
        let told = self.told.as_ref().or(self.problem.as_ref());
        format!("{}: {}{}", self.picture, self.verdict, told.map(|told| format!("; {told}")).unwrap_or_default())
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let bundle = Bundle::load(args.bundle.as_deref(), &[])?;
    let learn = if args.teach { u32::MAX } else { args.learn.unwrap_or(0) };
    ensure!(
        learn > 0 || bundle.manifest().drift.is_some(),
        "{} has no [drift]: --learn PARTS compares with the first pictures, --teach makes a reference",
        bundle.describe()
    );
    let drift = DriftOptions { learn, parts_per_alarm: args.parts_per_alarm, blind: !args.teach };
    let options = PipelineOptions { layout: args.layout.layout(), drift: Some(drift), ..PipelineOptions::default() };
    let mut folder = Folder::open(&args.paths)?;
    let mut pictures = Pictures::new(&bundle, options)?;
    let (mut teacher, mut clean) = (Teacher::default(), true);
    for (index, path) in folder.pictures().to_vec().into_iter().enumerate() {
        let mut row = pictures.judge(index as u64, &mut folder);
        row.picture = path.display().to_string();
        if args.teach {
            ensure!(row.problem.is_none(), "{}: {}", row.picture, row.problem.unwrap_or_default());
            if row.verdict == "fault" {
                log::warn!("{}: left out, because the station would not judge it", row.picture);
                continue;
            }
            let score = pictures.score.filter(|_| !args.no_score);
            let measures = row.measures.map(|measures| score.map_or(measures, |score| measures.scored(score)));
            measures.iter().for_each(|measures| teacher.add(measures));
            continue;
        }
        clean &= row.drift.is_none() && row.problem.is_none() && row.verdict != "fault";
        let line = if args.json { serde_json::to_string(&row)? } else { row.text() };
        if !told(&line)? {
            break;
        }
    }
    if args.teach {
        return taught(&teacher, args.json);
    }
    Ok(if clean { EXIT_CLEAN } else { EXIT_FAULTS })
}

/// Pictures through the pipeline, of any size.
struct Pictures {
    pipeline: Pipeline,
    layout: crate::preprocess::Layout,
    /// The defect score of the last one, if it passed.
    score: Option<f32>,
}

impl Pictures {
    fn new(bundle: &Bundle, options: PipelineOptions) -> anyhow::Result<Self> {
        let input = &bundle.manifest().input;
        let (width, height) = options.layout.extent();
        let geometry = Geometry::packed(width.max(input.width), height.max(input.height), PixelFormat::Rgb8)?;
        let layout = options.layout.clone();
        Ok(Self { pipeline: Pipeline::new(bundle, geometry, options)?, layout, score: None })
    }

    fn judge(&mut self, sequence: u64, folder: &mut Folder) -> Row {
        let mut row =
            Row { picture: String::new(), verdict: "fault", measures: None, drift: None, told: None, problem: None };
        self.score = None;
        let frame = match folder.next(clock::now()) {
            Ok(frame) => frame,
            Err(error) => {
                row.problem = Some(error.to_string());
                return row;
            }
        };
        // What was learnt of one size of pictures is not of another; `refit` forgets it.
        if frame.geometry() != self.pipeline.geometry()
            && let Err(error) = self.pipeline.refit(frame.geometry())
        {
            row.problem = Some(format!("it does not fit {} areas: {error}", self.layout.areas.len()));
            return row;
        }
        let part = crate::outcome::Opened { sequence, ..crate::outcome::Opened::of(&frame) };
        let outcome = self.pipeline.inspect_part(part, &frame).outcome;
        row.verdict = outcome.verdict.word();
        self.score = outcome.score.filter(|_| outcome.verdict == Verdict::Pass);
        row.drift = self.pipeline.drift();
        row.told = row.drift.map(|drift| drift.to_string());
        row.measures = self.pipeline.measures();
        row
    }
}

fn taught(teacher: &Teacher, json: bool) -> anyhow::Result<u8> {
    let parts = teacher.parts();
    let reference = teacher.reference().with_context(|| {
        format!("{parts} pictures of good parts are too few for a reference: {LEAST_PARTS} at least")
    })?;
    let text = match json {
        true => serde_json::to_string(&reference)?,
        false => format!("[drift]\n{}", toml::to_string(&reference)?.replace("\n[", "\n[drift.")),
    };
    told(text.trim_end())?;
    Ok(EXIT_CLEAN)
}

/// False if whoever reads has seen enough.
fn told(line: &str) -> anyhow::Result<bool> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("cannot write to standard output"),
    }
}
