//! `fcam plc budget`: the bytes of each telegram, what they take on the wire, and their share of the time between two
//! parts.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::{EXIT_CLEAN, EXIT_NOT_STARTED};
use crate::config;
use crate::telegram::budget::{ABORT, CHUNK, HEARTBEAT, HELLO, SerialLine, VERDICT};
use crate::telegram::message::MAX_REGIONS;

/// Print what telegrams take of a serial line; exit code 2 if they do not fit
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The [serial] section of this station file, in place of the options below
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Bits a second
    #[arg(long, default_value_t = 115_200, value_parser = clap::value_parser!(u32).range(1200..=4_000_000))]
    baud: u32,
    /// Eight bits with parity: 11 bits a byte, in place of 10
    #[arg(long)]
    parity: bool,
    /// Parts a minute
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    parts_per_minute: u32,
    /// Milliseconds that a verdict may wait for a piece of a mask
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    head_of_line_ms: u32,
    /// Bytes of a frame at most
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u16).range(64..=1020))]
    frame_bytes: u16,
    /// Bytes of a usual mask's run lengths
    #[arg(long, default_value_t = 700, value_parser = clap::value_parser!(u32).range(3..=1_000_000))]
    mask_bytes: u32,
    /// Verdicts alone
    #[arg(long)]
    no_masks: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    fn line(&self) -> Result<(SerialLine, usize), config::Error> {
        if let Some(path) = &self.config {
            return config::serial_line(path);
        }
        let line = SerialLine {
            baud: self.baud,
            bits: if self.parity { 11 } else { 10 },
            parts_per_minute: self.parts_per_minute,
            head_of_line_ms: self.head_of_line_ms,
            frame_bytes: self.frame_bytes.into(),
            masks: !self.no_masks,
        };
        Ok((line, self.mask_bytes as usize))
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let (line, mask) = args.line()?;
    let problem = line.problem(mask).map(|problem| problem.to_string());
    let output = if args.json { format!("{}\n", report(&line, mask, &problem)) } else { text(&line, mask, &problem) };
    std::io::stdout().write_all(output.as_bytes())?;
    Ok(if problem.is_some() { EXIT_NOT_STARTED } else { EXIT_CLEAN })
}

/// Name and bytes, frames and all.
fn rows(line: &SerialLine, mask: usize) -> Vec<(&'static str, usize)> {
    let mut rows = vec![("HELLO", HELLO), ("HEARTBEAT", HEARTBEAT), ("VERDICT", VERDICT)];
    if line.masks {
        rows.push(("REGIONS, 8", line.regions(MAX_REGIONS)));
        rows.push(("MASK, one chunk", CHUNK + line.chunk_data()));
        rows.push(("MASK, usual", line.mask(mask)));
        rows.push(("MASK_ABORT", ABORT));
    }
    rows.push(("a part", line.part(mask)));
    rows
}

/// Share of the time between two parts, 0..1.
fn share(line: &SerialLine, bytes: usize) -> f64 {
    line.time_us(bytes) as f64 / line.part_us() as f64
}

fn report(line: &SerialLine, mask: usize, problem: &Option<String>) -> Value {
    let row = |(name, bytes): (&str, usize)| json!({ "message": name, "bytes": bytes, "us": line.time_us(bytes), "share": share(line, bytes) });
    let messages: Vec<Value> = rows(line, mask).into_iter().map(row).collect();
    json!({
        "baud": line.baud, "bits_per_byte": line.bits, "parts_per_minute": line.parts_per_minute, "messages": messages,
        "mask_bytes": mask, "chunk_data_bytes": line.chunk_data(), "mask_budget_bytes": line.mask_budget(),
        "usable_bytes": line.usable(), "problem": problem,
    })
}

fn text(line: &SerialLine, mask: usize, problem: &Option<String>) -> String {
    let mut out = format!("{:<18}{:>8}{:>10}{:>8}\n", "message", "bytes", "ms", "share");
    for (name, bytes) in rows(line, mask) {
        let (ms, share) = (line.time_us(bytes) as f64 / 1e3, 100.0 * share(line, bytes));
        let _ = writeln!(out, "{name:<18}{bytes:>8}{ms:>10.2}{share:>7.1}%"); // a String takes everything
    }
    let SerialLine { baud, bits, parts_per_minute, .. } = line;
    let _ = writeln!(
        out,
        "{baud} baud, {bits} bits a byte, {parts_per_minute} parts a minute: {} bytes fit between two parts, {} of them for a mask's frames",
        line.usable(),
        if line.masks { line.mask_budget() } else { 0 }
    );
    let _ = match problem {
        Some(problem) => writeln!(out, "does NOT fit: {problem}"),
        None => writeln!(out, "fits"),
    };
    out
}
