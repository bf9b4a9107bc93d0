//! `fcam check`: is this bundle (or station file) fit to run, and does this machine compute what its proof says?
//!
//! Prints what it is and every problem, not the first. Exit code 0 if there is none, 2 otherwise.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::layers;
use crate::bundle::{Bundle, Locate, Manifest};
use crate::camera::{Camera, Geometry, Pattern, PixelFormat, picture};
use crate::clock;
use crate::config;
use crate::pipeline::{Pipeline, PipelineOptions};
use crate::proof::{self, Report};
use crate::signal::Signaller;

/// Checks bundles and station files; prints every problem
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Bundle directories and station files (.toml); the embedded bundle if there are none
    #[arg(value_name = "BUNDLE|CONFIG.toml")]
    paths: Vec<PathBuf>,
    /// Print one JSON object a line for each
    #[arg(long)]
    json: bool,
    /// Print each layer of an int8 network too: who computes it, its time and its share of what this core can do
    #[arg(long)]
    layers: bool,
    #[command(flatten)]
    engine: super::EngineArgs,
}

/// Runs of the network behind each layer's time.
const RUNS: usize = 20;

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let mut clean = true;
    let given = args.paths.iter().map(|path| Some(path.as_path()));
    for path in given.chain(args.paths.is_empty().then_some(None)) {
        let checked = Checked::new(path, args);
        clean &= checked.problems.is_empty();
        let output = if args.json { format!("{}\n", checked.json()) } else { checked.text() };
        std::io::stdout().write_all(output.as_bytes())?;
    }
    Ok(if clean { super::EXIT_CLEAN } else { super::EXIT_NOT_STARTED })
}

/// One path and all that is to say of it.
struct Checked {
    path: String,
    manifest: Option<Manifest>,
    report: Option<Report>,
    /// The layers' rows and the core's peak, G multiply-adds a second.
    layers: Option<(Value, f64)>,
    problems: Vec<String>,
    /// What does not keep it from running, but from being of use.
    warnings: Vec<String>,
}

impl Checked {
    /// Of the embedded bundle if there is no path.
    fn new(path: Option<&Path>, args: &Args) -> Self {
        if let Some(config) = path.filter(|path| is_config(path)) {
            let path = config.display().to_string();
            return Self {
                path,
                manifest: None,
                report: None,
                layers: None,
                problems: config::check(config),
                warnings: vec![],
            };
        }
        match Bundle::load(path.map(bundle_folder), &args.engine.float_layers) {
            Ok(bundle) => Self::of_bundle(&bundle, args),
            Err(error) => {
                let (path, problems) = (error.bundle, error.problems);
                Self { path, manifest: None, report: None, layers: None, problems, warnings: vec![] }
            }
        }
    }

    fn of_bundle(bundle: &Bundle, args: &Args) -> Self {
        let signaller = Signaller { delay: Duration::ZERO, hold: Duration::ZERO };
        let options = PipelineOptions {
            engine: args.engine.settings(),
            layout: Default::default(),
            score_threshold: None,
            locate: None,
            vote: None,
            drift: None,
            zones: Default::default(),
            signaller,
        };
        let report = proof::replay(bundle, &options);
        let layers = args.layers.then(|| profile(bundle, options)).flatten();
        let samples = bundle.samples().filter_map(|(name, bytes)| picture::decode(bytes, name).err());
        let problems = report.problems.iter().cloned().chain(samples.map(|error| error.to_string())).collect();
        let manifest = Some(bundle.manifest().clone());
        let warnings = one_sided(&report);
        Self { path: bundle.source().into(), manifest, report: Some(report), layers, problems, warnings }
    }

    fn json(&self) -> Value {
        let mut out = json!({
            "bundle": self.path,
            "passed": self.problems.is_empty(),
            "problems": self.problems,
            "warnings": self.warnings,
            "golden": [],
        });
        let Some(fields) = out.as_object_mut() else { return out };
        if let Some(manifest) = &self.manifest {
            fields.insert("name".into(), json!(manifest.name));
            fields.insert("version".into(), json!(manifest.version));
            fields.insert("classes".into(), json!(manifest.classes));
            fields.insert("locate".into(), json!(manifest.locate));
            fields.insert("drift".into(), json!(manifest.drift));
            fields.insert("thresholds".into(), json!(manifest.thresholds));
            fields.insert("tolerance".into(), json!(manifest.tolerance));
            fields.insert("metrics".into(), json!(manifest.metrics));
            fields.insert("provenance".into(), json!(manifest.provenance));
        }
        if let Some(report) = &self.report {
            fields.insert("backend".into(), json!(report.backend));
            fields.insert("golden".into(), json!(report.golden));
        }
        if let Some((rows, peak)) = &self.layers {
            fields.insert("layers".into(), rows.clone());
            fields.insert("peak_gmacs".into(), json!(peak));
        }
        out
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n", self.path);
        if let Some(manifest) = &self.manifest {
            describe(&mut out, manifest);
        }
        if let Some(report) = &self.report {
            tabulate(&mut out, report);
        }
        if let Some((rows, peak)) = &self.layers {
            out.push_str(&layers::table(rows, *peak));
        }
        for warning in &self.warnings {
            line(&mut out, format_args!("  warning: {warning}"));
        }
        for problem in &self.problems {
            line(&mut out, format_args!("  problem: {problem}"));
        }
        let count = self.problems.len();
        match count {
            0 => line(&mut out, format_args!("  ok")),
            _ => line(&mut out, format_args!("  not fit to run: {count} problem{}", if count == 1 { "" } else { "s" })),
        }
        out
    }
}

/// Says if the proof shows one verdict alone: a bundle that passes everything passes its proof too.
fn one_sided(report: &Report) -> Vec<String> {
    let count = report.golden.len();
    let rejected = report.golden.iter().filter(|row| row.verdict == "reject").count();
    let rejects = match rejected {
        _ if count < 2 => return vec![],
        0 => "none is rejected: it may pass every part",
        all if all == count => "all are rejected: it may pass none",
        _ => return vec![],
    };
    vec![format!("of {count} golden pictures {rejects}; `fcam-tools evaluate` says what it does with yours")]
}

/// The layers' times on a sample picture, and the peak; none where the backend does not tell, or nothing runs at all.
fn profile(bundle: &Bundle, options: PipelineOptions) -> Option<(Value, f64)> {
    let input = &bundle.manifest().input;
    let geometry = Geometry::packed(input.width, input.height, PixelFormat::Rgb8).ok()?;
    let mut pipeline = Pipeline::new(bundle, geometry, options).ok()?;
    let mut camera = Pattern::open(bundle.samples().take(1), Some((input.width, input.height))).ok()?;
    let frame = camera.next(clock::now() + Duration::from_secs(5)).ok()?;
    let (times, peak) = pipeline.profile(&frame, RUNS)?;
    Some((layers::rows(&times, peak), peak / 1e9))
}

fn describe(out: &mut String, manifest: &Manifest) {
    let Manifest { name, version, input, thresholds, .. } = manifest;
    let classes: Vec<String> =
        manifest.classes.iter().map(|class| format!("{}{}", class.name, if class.ok { " (ok)" } else { "" })).collect();
    line(out, format_args!("  name        {name} {version}"));
    line(out, format_args!("  classes     {}", classes.join(", ")));
    line(out, format_args!("  input       {} x {}", input.width, input.height));
    let (score, map, low, area) = (thresholds.score, thresholds.map, thresholds.map_low, thresholds.min_area_px);
    line(out, format_args!("  thresholds  score {score}, map {map} down to {low}, at least {area} px"));
    if let Some(Locate { shift, turn, agreement, .. }) = &manifest.locate {
        let shift = shift * 100.0;
        line(out, format_args!("  locate      within {shift:.0} % and {turn} degrees, agreement {agreement} or more"));
    }
    if let Some(reference) = &manifest.drift {
        line(out, format_args!("  drift       watched against {} good parts", reference.parts));
    }
    for (name, value) in &manifest.metrics {
        line(out, format_args!("  metric      {} = {value}", name.escape_debug()));
    }
    for (name, value) in &manifest.provenance {
        line(out, format_args!("  provenance  {} = {}", name.escape_debug(), value.escape_debug()));
    }
}

fn tabulate(out: &mut String, report: &Report) {
    line(out, format_args!("  backend     {}", report.backend));
    let width = report.golden.iter().map(|row| row.picture.len()).max().unwrap_or(0).max("golden".len());
    let head = ("golden", "score", "proof", "map IoU", "tensor", "verdict");
    line(
        out,
        format_args!("  {:width$}  {:>7}  {:>7}  {:>7}  {:>6}  {}", head.0, head.1, head.2, head.3, head.4, head.5),
    );
    for row in &report.golden {
        let mark = if row.passed { "" } else { "  <- not the proof" };
        line(
            out,
            format_args!(
                "  {:width$}  {:>7.4}  {:>7.4}  {:>7.4}  {:>6}  {}{mark}",
                row.picture, row.score, row.golden_score, row.iou, row.tensor_diff, row.verdict
            ),
        );
    }
}

fn line(out: &mut String, text: std::fmt::Arguments) {
    let _ = writeln!(out, "{text}"); // writing to a String cannot fail
}

/// The bundle that a manifest is of, or the path itself.
fn bundle_folder(path: &Path) -> &Path {
    path.parent().filter(|_| path.ends_with("manifest.toml")).unwrap_or(path)
}

/// A TOML file that is not a bundle's manifest is a station file.
fn is_config(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml") && !path.ends_with("manifest.toml") && !path.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::Row;

    #[test]
    fn a_proof_of_one_verdict_alone_is_warned_of() {
        let row = |verdict| Row {
            picture: "golden/000.png".into(),
            score: 0.5,
            golden_score: 0.5,
            iou: 1.0,
            tensor_diff: 0,
            verdict,
            golden_verdict: verdict,
            passed: true,
        };
        let warned = |verdicts: &[&'static str]| {
            let golden = verdicts.iter().copied().map(row).collect();
            one_sided(&Report { backend: String::new(), golden, problems: vec![] }).concat()
        };
        assert!(warned(&["pass", "pass"]).contains("of 2 golden pictures none is rejected"));
        assert!(warned(&["reject", "reject"]).contains("all are rejected"));
        for sound in [&["pass", "reject"][..], &["pass"], &[], &["fault", "reject"]] {
            assert_eq!(warned(sound), "", "{sound:?}");
        }
    }
}
