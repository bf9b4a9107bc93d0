//! `fcam engine`: what there is of TensorRT on this machine, which engines are kept, and building one before the line
//! needs it.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{EXIT_CLEAN, EXIT_NOT_STARTED, TensorrtArgs};
use crate::bundle::{Bundle, Precision};
use crate::config::{Overrides, Setup};
use crate::engine::tensorrt::{self, Here, Machine};
use crate::engine::{Backend, Settings};
use crate::pipeline::PipelineOptions;
use crate::proof;
use crate::signal::Signaller;

/// TensorRT on a Jetson: show what is there, build an engine for this machine
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The station file that says which bundle, shim and folder of engines [default: the embedded bundle, the usual
    /// places]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The bundle, in place of the station file's
    #[arg(long, value_name = "DIR", global = true)]
    bundle: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// TensorRT's shim, in place of the station file's
    #[arg(long, value_name = "FILE", global = true)]
    shim: Option<PathBuf>,
    /// The folder of TensorRT engines, in place of the station file's
    #[arg(long = "engine-cache", value_name = "DIR", global = true)]
    cache: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The shim, the GPU, the versions, and the engines that are kept (the default)
    Show,
    /// Build the bundle's engine, keep it, and replay the bundle's proof on it
    Build {
        /// Build it even if it is there
        #[arg(long)]
        again: bool,
    },
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let (bundle, options) = bundle(args)?;
    let (told, code) = match args.verb {
        None | Some(Verb::Show) => (show(&bundle, &options), EXIT_CLEAN),
        Some(Verb::Build { again }) => build(&bundle, options, again)?,
    };
    let text = if args.json { format!("{told}\n") } else { text(&told) };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(code)
}

/// The bundle, and how a station would run it.
fn bundle(args: &Args) -> anyhow::Result<(Bundle, PipelineOptions)> {
    let overrides = Overrides { bundle: args.bundle.clone(), ..Overrides::default() };
    let (bundle, mut options) = match &args.config {
        Some(config) => {
            let setup = Setup::load(Some(config), overrides)?;
            (setup.bundle().clone(), setup.options())
        }
        None => {
            let none = std::time::Duration::ZERO;
            let options = PipelineOptions {
                engine: Settings::default(),
                layout: Default::default(),
                score_threshold: None,
                locate: None,
                vote: None,
                drift: None,
                zones: Default::default(),
                signaller: Signaller { delay: none, hold: none },
            };
            (Bundle::load(args.bundle.as_deref(), &[])?, options)
        }
    };
    let given = TensorrtArgs { shim: args.shim.clone(), cache: args.cache.clone() };
    options.engine.tensorrt = given.apply(options.engine.tensorrt);
    Ok((bundle, options))
}

fn is_int8(bundle: &Bundle) -> bool {
    bundle.manifest().precision == Precision::Int8
}

fn show(bundle: &Bundle, options: &PipelineOptions) -> Value {
    let options = &options.engine.tensorrt;
    let here = Here::look(options);
    let (shim, facts) = match &here {
        Here::Absent { .. } => (None, None),
        Here::Broken { shim, facts, .. } => (Some(shim.as_path()), Some(facts)),
        Here::Usable(machine) => (Some(machine.shim()), Some(&machine.facts)),
    };
    let kept = match &here {
        Here::Usable(machine) => Some(tensorrt::kept(bundle.onnx(), is_int8(bundle), machine, options)),
        _ => None,
    };
    json!({
        "usable": here.problem().is_none(),
        "problem": here.problem(),
        "shim": shim,
        "machine": facts,
        "cache": options.cache,
        "bundle": bundle.describe(),
        "engine": kept.as_ref().map(|(path, _)| path),
        "built": kept.as_ref().map(|(_, built)| built),
        "engines": tensorrt::engines(options),
    })
}

fn build(bundle: &Bundle, mut options: PipelineOptions, again: bool) -> anyhow::Result<(Value, u8)> {
    options.engine.backend = Backend::Tensorrt;
    let here = Here::look(&options.engine.tensorrt);
    let problem = here.problem();
    let (Here::Usable(machine), None) = (here, &problem) else {
        bail!("TensorRT cannot be used here: {}", problem.unwrap_or_default());
    };
    let (path, built) = tensorrt::kept(bundle.onnx(), is_int8(bundle), &machine, &options.engine.tensorrt);
    if again {
        tensorrt::forget(bundle.onnx(), is_int8(bundle), &machine, &options.engine.tensorrt)
            .with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let start = Instant::now();
    let report = proof::replay(bundle, &options);
    let seconds = start.elapsed().as_secs_f64();
    let kept = tensorrt::kept(bundle.onnx(), is_int8(bundle), &machine, &options.engine.tensorrt).1;
    let mut problems = report.problems.clone();
    if report.passed() && !kept {
        problems.push(format!("the engine was built, but cannot be kept at {}", path.display()));
    }
    let code = if problems.is_empty() { EXIT_CLEAN } else { EXIT_NOT_STARTED };
    let Machine { facts, .. } = &machine;
    let told = json!({
        "bundle": bundle.describe(),
        "machine": facts,
        "engine": path,
        "kept": kept,
        "from_cache": built && !again,
        "seconds": seconds,
        "backend": report.backend,
        "golden": report.golden,
        "problems": problems,
    });
    Ok((told, code))
}

fn text(told: &Value) -> String {
    let word = |key: &str| told.get(key).and_then(Value::as_str).map(str::to_owned);
    let flag = |key: &str| told.get(key).and_then(Value::as_bool);
    let mut lines = vec![];
    let mut line = |name: &str, value: String| lines.push(format!("  {name:<12}{value}"));
    if let Some(bundle) = word("bundle") {
        line("bundle", bundle);
    }
    line("shim", word("shim").unwrap_or_else(|| "none".into()));
    if let Some(facts) = told.get("machine").filter(|facts| facts.is_object()) {
        machine_words(facts).into_iter().for_each(|(name, value)| line(name, value));
    }
    if let Some(backend) = word("backend").filter(|backend| !backend.is_empty()) {
        line("backend", backend);
    }
    if let Some(engine) = word("engine") {
        let state = match (flag("built"), flag("kept"), flag("from_cache")) {
            (Some(false), ..) => " (not built yet: `fcam engine build`)",
            (_, Some(true), Some(true)) => " (was there)",
            (_, Some(true), _) => " (built now)",
            (_, Some(false), _) => " (not kept)",
            _ => "",
        };
        line("engine", format!("{engine}{state}"));
    }
    let golden = told.get("golden").and_then(Value::as_array).map(Vec::len);
    if let (Some(pictures), Some(seconds)) = (golden, told.get("seconds").and_then(Value::as_f64)) {
        line("proof", format!("{pictures} golden pictures, {seconds:.1} s with the building"));
    }
    for entry in told.get("engines").and_then(Value::as_array).into_iter().flatten() {
        line("kept", entry_words(entry));
    }
    let mut problems: Vec<String> = told
        .get("problems")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|problem| Some(problem.as_str()?.to_owned()))
        .collect();
    problems.extend(word("problem"));
    problems.into_iter().for_each(|problem| line("problem", problem));
    lines.join("\n") + "\n"
}

/// The machine in three lines; what is not known is left out.
fn machine_words(facts: &Value) -> Vec<(&'static str, String)> {
    let word = |key: &str| facts.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let number = |key: &str| facts.get(key).and_then(Value::as_i64).unwrap_or(0);
    let known = |name: &'static str, there: &str, words: String| (!there.is_empty()).then_some((name, words));
    let (gpu, tensorrt, driver) = (word("gpu"), word("tensorrt"), word("driver"));
    let shared = if facts.get("integrated") == Some(&true.into()) { " shared with the CPU" } else { "" };
    let gib = number("memory") as f64 / f64::from(1 << 30);
    let lines = [
        known("gpu", &gpu, format!("{gpu}, capability {}, {gib:.1} GiB{shared}", word("capability"))),
        known("TensorRT", &tensorrt, format!("{tensorrt}, shim compiled for {}", word("header"))),
        known("CUDA", &driver, format!("driver {driver}, shim compiled for {}", word("cuda"))),
    ];
    lines.into_iter().flatten().collect()
}

/// An engine of the folder in one line.
fn entry_words(entry: &Value) -> String {
    let word = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
    let path = word(entry.get("path"));
    match entry.get("key").and_then(Value::as_object) {
        Some(key) => {
            let field = |name: &str| word(key.get(name));
            let kib = entry.get("bytes").and_then(Value::as_u64).unwrap_or(0) >> 10;
            format!(
                "{path}: TensorRT {}, {} {}, {}, {kib} KiB",
                field("tensorrt"),
                field("gpu"),
                field("capability"),
                field("flags")
            )
        }
        None => format!("{path}: {}", word(entry.get("problem"))),
    }
}
