//! `fcam locate`: where parts lie. In: pictures, and a bundle's template, one in a file, or none yet. Out: a line for
//! each picture, the pictures with their parts where the template lies, or a template taught from them.
//!
//! The host tool asks it before it trains, so that training sees what the camera's network sees.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde::Serialize;

use super::{EXIT_CLEAN, EXIT_FAULTS};
use crate::bundle::Bundle;
use crate::camera::{Camera, Error, Folder, Frame, picture};
use crate::clock;
use crate::locate::{Locator, MAX_SHIFT, MAX_TURN, Reach, Template, teach};
use crate::preprocess::{Preprocessor, Roi, Tensor};

/// Says where the part of each picture lies against a template, or makes the template of good parts
#[derive(Debug, clap::Args)]
#[command(after_help = "A template is a picture of the network's input size. Exit codes: 0 every part was found, \
                        1 some were not, 2 could not start.")]
pub(super) struct Args {
    /// Pictures (png, jpg, bmp, tiff) and folders of them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    from: From,
    /// With --teach: the size of the template, the network's input
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size, requires = "teach")]
    size: Option<(u32, u32)>,
    /// With --template: share of the sides that a part may be shifted by
    #[arg(long, default_value_t = 0.1, value_parser = at_most(MAX_SHIFT))]
    shift: f32,
    /// With --template: degrees that a part may be turned by
    #[arg(long, default_value_t = 10.0, value_parser = at_most(MAX_TURN))]
    turn: f32,
    /// With --template: agreement below which there is no part, 0 to 1
    #[arg(long, default_value_t = 0.4, value_parser = at_most(1.0))]
    agreement: f32,
    /// Look only at this rectangle of each picture, in pixels
    #[arg(long, value_name = "X,Y,W,H", value_parser = super::parse_roi)]
    roi: Option<Roi>,
    /// Write each picture as the network sees it, its part where the template lies: DIR/000000.png and so on
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object a line for each picture; for --teach one in all
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct From {
    /// Take a bundle's template
    #[arg(long, value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
    /// Take this template
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Make the template of these pictures of good parts
    #[arg(long, value_name = "FILE")]
    teach: Option<PathBuf>,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').map(|(width, height)| (width.parse(), height.parse()));
    match sides {
        Some((Ok(width @ 1..), Ok(height @ 1..))) => Ok((width, height)),
        _ => Err(format!("`{text}` is not WIDTHxHEIGHT in pixels, such as 512x384")),
    }
}

fn at_most(most: f32) -> impl Fn(&str) -> Result<f32, String> + Clone {
    move |text| {
        let number = text.parse::<f32>().ok().filter(|number| (0.0..=most).contains(number));
        number.ok_or_else(|| format!("`{text}` is not a number from 0 to {most}"))
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let mut folder = Folder::open(&args.paths)?;
    match &args.from {
        From { teach: Some(path), .. } => teach_template(args, &mut folder, path),
        From { template: Some(path), .. } => {
            let reach = Reach { shift: args.shift, turn: args.turn, agreement: args.agreement };
            let shown = path.display().to_string();
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
            let picture = picture::decode(&bytes, &shown)?;
            let size = (picture.geometry.width, picture.geometry.height);
            let locator = Template { picture, reach }.locator(size.0 as usize, size.1 as usize);
            let locator = locator.map_err(|problem| anyhow!("the template {shown}: {problem}"))?;
            locate(args, &mut folder, locator, size)
        }
        From { bundle, .. } => {
            let bundle = Bundle::load(bundle.as_deref(), &[])?;
            let locator = bundle.locator().map_err(anyhow::Error::msg)?;
            let described = bundle.describe();
            let locator = locator.with_context(|| {
                format!("{described} has no [locate]: its network judges parts wherever they lie; --template FILE takes a template")
            })?;
            let input = &bundle.manifest().input;
            locate(args, &mut folder, locator, (input.width, input.height))
        }
    }
}

/// One line. Either `problem` is there, or all of the others are, but for `input`.
#[derive(Debug, Default, Serialize)]
struct PartReport {
    picture: String,
    found: bool,
    /// Pixels of the network's input.
    right: Option<f32>,
    down: Option<f32>,
    /// Degrees.
    turn: Option<f32>,
    agreement: Option<f32>,
    /// What the network sees.
    input: Option<PathBuf>,
    problem: Option<String>,
}

impl PartReport {
    fn text(&self) -> String {
        let Self {
            picture, right: Some(right), down: Some(down), turn: Some(turn), agreement: Some(agreement), ..
        } = self
        else {
            return self.problem.clone().unwrap_or_default(); // it names the picture
        };
        let found = if self.found { "" } else { "not found: best is " };
        format!(
            "{picture}: {found}{right:+.1} px right, {down:+.1} px down, {turn:+.2} degrees, agreement {agreement:.2}"
        )
    }
}

/// What the network sees of a frame.
fn input<'a>(
    args: &Args,
    fitted: &'a mut Option<Preprocessor>,
    frame: &Frame,
    size: (u32, u32),
) -> anyhow::Result<Tensor<'a>> {
    let geometry = frame.geometry();
    let roi = args.roi.unwrap_or_else(|| Roi::whole(&geometry));
    let kept = fitted.take().filter(|fitted| fitted.geometry() == geometry);
    let preprocessor = match kept {
        Some(kept) => kept,
        None => Preprocessor::new(geometry, roi, size.0, size.1)?,
    };
    Ok(fitted.insert(preprocessor).run(frame))
}

fn locate(args: &Args, folder: &mut Folder, mut locator: Locator, size: (u32, u32)) -> anyhow::Result<u8> {
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    }
    let (mut fitted, mut all) = (None, true);
    for (index, picture) in folder.pictures().to_vec().into_iter().enumerate() {
        let mut report = PartReport { picture: picture.display().to_string(), ..PartReport::default() };
        match folder.next(clock::now()) {
            Err(error) => report.problem = Some(error.to_string()),
            Ok(frame) => {
                let tensor = input(args, &mut fitted, &frame, size)?;
                let pose = locator.find(&tensor);
                report.found = locator.is_there(pose);
                (report.right, report.down) = (Some(pose.right), Some(pose.down));
                (report.turn, report.agreement) = (Some(pose.turn.to_degrees()), Some(pose.agreement));
                if let Some(out) = &args.out {
                    let path = out.join(format!("{index:06}.png"));
                    let moved = locator.moved(&tensor, pose);
                    write(&path, moved.values, size)?;
                    report.input = Some(path);
                }
            }
        }
        all &= report.found;
        let line = if args.json { serde_json::to_string(&report)? } else { report.text() };
        if !told(&line)? {
            break;
        }
    }
    Ok(if all { EXIT_CLEAN } else { EXIT_FAULTS })
}

/// False if whoever reads has seen enough.
fn told(line: &str) -> anyhow::Result<bool> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("cannot write to standard output"),
    }
}

/// What `--teach` found.
#[derive(Debug, Serialize)]
struct TaughtReport {
    template: PathBuf,
    pictures: usize,
    shift: f32,
    turn: f32,
    /// Of half of the pictures at least.
    agreement: f32,
}

fn teach_template(args: &Args, folder: &mut Folder, path: &Path) -> anyhow::Result<u8> {
    let size = args.size.context("--teach needs --size WIDTHxHEIGHT, the network's input")?;
    let (mut fitted, mut inputs) = (None, Vec::new());
    loop {
        match folder.next(clock::now()) {
            Ok(frame) => inputs.push(input(args, &mut fitted, &frame, size)?.values.to_vec()),
            Err(Error::Ended) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let (width, height) = (size.0 as usize, size.1 as usize);
    let tensors: Vec<Tensor> = inputs.iter().map(|values| Tensor { width, height, values }).collect();
    let taught = teach(&tensors).with_context(|| {
        let first = args.paths.first().map(|path| path.display().to_string()).unwrap_or_default();
        format!("{first} and the pictures behind it are too plain or too small to be found again")
    })?;
    write(path, &taught.template, size)?;
    let report = TaughtReport {
        template: path.to_owned(),
        pictures: inputs.len(),
        shift: taught.reach.shift,
        turn: taught.reach.turn,
        agreement: taught.median,
    };
    if args.json {
        told(&serde_json::to_string(&report)?)?;
        return Ok(EXIT_CLEAN);
    }
    let TaughtReport { pictures, shift, turn, agreement, .. } = report;
    told(&format!(
        "{}: of {pictures} pictures, half agree with it by {agreement:.2} or more, within {:.0} % and {turn} degrees",
        path.display(),
        shift * 100.0
    ))?;
    Ok(EXIT_CLEAN)
}

/// Levels less 128 as a PNG.
fn write(path: &Path, values: &[i8], (width, height): (u32, u32)) -> anyhow::Result<()> {
    let bytes: Vec<u8> = values.iter().map(|value| *value as u8 ^ 0x80).collect();
    let mut encoded = Vec::new();
    PngEncoder::new(&mut encoded).write_image(&bytes, width, height, ExtendedColorType::Rgb8)?;
    std::fs::write(path, encoded).with_context(|| format!("cannot write {}", path.display()))
}
