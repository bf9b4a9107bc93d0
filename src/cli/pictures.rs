//! `fcam pictures`: which files the camera's own decoder takes, and as what. In: files and folders. Out: a line for
//! each picture: its size and whether it is gray or RGB, or what is wrong with it.
//!
//! The host tool asks it before it trains: a picture that no station would judge teaches nothing that a station could
//! use.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::{EXIT_CLEAN, EXIT_FAULTS};
use crate::camera::{Camera, Error, Folder, Frame, Geometry, PixelFormat};
use crate::clock;

/// Reads pictures as a camera does; writes one line a picture: its size, or what is wrong with it
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 all pictures are whole, 1 some are not, 2 could not start.")]
pub(super) struct Args {
    /// Pictures (png, jpg, bmp, tiff) and folders of them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Print one JSON object a line for each
    #[arg(long)]
    json: bool,
}

/// One line. Either `problem` is there, or all of the others are.
#[derive(Debug, Serialize)]
struct PictureReport {
    picture: String,
    width: Option<u32>,
    height: Option<u32>,
    /// `gray` or `rgb`.
    color: Option<&'static str>,
    problem: Option<String>,
}

impl PictureReport {
    fn of(path: &Path, read: Result<Frame, Error>) -> Self {
        let picture = path.display().to_string();
        match read.map(|frame| frame.geometry()) {
            Ok(Geometry { width, height, format, .. }) => {
                let color = if format == PixelFormat::Gray8 { "gray" } else { "rgb" };
                Self { picture, width: Some(width), height: Some(height), color: Some(color), problem: None }
            }
            Err(error) => Self { picture, width: None, height: None, color: None, problem: Some(error.to_string()) },
        }
    }

    fn text(&self, as_json: bool) -> serde_json::Result<String> {
        match self {
            _ if as_json => serde_json::to_string(self),
            Self { picture, width: Some(width), height: Some(height), color: Some(color), .. } => {
                Ok(format!("{picture}: {width} x {height} {color}"))
            }
            Self { problem, .. } => Ok(problem.clone().unwrap_or_default()), // it names the picture
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let mut whole = true;
    for path in &args.paths {
        let mut told = |line: &PictureReport| {
            whole &= line.problem.is_none();
            writeln!(std::io::stdout(), "{}", line.text(args.json)?)
        };
        match read(path, &mut told) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break, // the reader has seen enough
            written => written.context("cannot write to standard output")?,
        }
    }
    Ok(if whole { EXIT_CLEAN } else { EXIT_FAULTS })
}

/// Tells each picture that a path leads to.
fn read(path: &Path, told: &mut impl FnMut(&PictureReport) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut folder = match Folder::open(&[path]) {
        Ok(folder) => folder,
        Err(error) => return told(&PictureReport::of(path, Err(error))),
    };
    for picture in folder.pictures().to_vec() {
        told(&PictureReport::of(&picture, folder.next(clock::now())))?;
    }
    Ok(())
}
