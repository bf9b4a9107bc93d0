//! The command line: one verb a file, each with its `Args` and its `run`, which returns the exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::engine::{Backend, Isa, Settings};

mod bench;
mod check;
mod io;
mod layers;
mod plc;
mod replay;
mod run;

/// Everything went well.
pub const CLEAN: u8 = 0;
/// It ran to its end, but faults were counted.
pub const FAULTS: u8 = 1;
/// It could not start.
pub const NOT_STARTED: u8 = 2;

/// Inspects parts: picture in, mask and verdict out, in time for the line's PLC.
#[derive(Debug, Parser)]
#[command(
    name = "fcam",
    version,
    after_help = "Exit codes: 0 clean, 1 stopped with faults counted, 2 could not start."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Args),
    Replay(replay::Args),
    Check(check::Args),
    Bench(bench::Args),
    Plc(plc::Args),
    Io(io::Args),
}

/// Parses the command line and runs the verb; prints an error chain once and turns it into the exit code.
pub fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let done = match Cli::parse().verb {
        Verb::Run(args) => run::run(&args),
        Verb::Replay(args) => replay::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Plc(args) => plc::run(&args),
        Verb::Io(args) => io::run(&args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("fcam: {error:#}");
            ExitCode::from(NOT_STARTED)
        }
    }
}

/// How the network is run, for every verb that runs one.
#[derive(Debug, Clone, clap::Args)]
struct EngineArgs {
    /// Engine: auto, cpu, tract (float, for comparison) or tensorrt
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Cores the engine may use
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Instruction set of the int8 kernels: auto, or one by name
    #[arg(long, default_value = "auto")]
    isa: Isa,
    /// Allow this convolution of an int8 network in float; may be given several times
    #[arg(long = "float-layer", value_name = "NODE")]
    float_layers: Vec<String>,
}

impl EngineArgs {
    fn settings(&self) -> Settings {
        let Self { backend, threads, isa, float_layers } = self.clone();
        Settings { backend, threads: threads.max(1), isa, float_layers }
    }
}
