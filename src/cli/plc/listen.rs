//! `fcam plc listen`: telegrams as they come in on a serial line, for a person or as JSON lines; masks drawn, or
//! written as pictures.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use serial2::SerialPort;

use crate::cli::{EXIT_CLEAN, EXIT_FAULTS};
use crate::telegram::receive::GAP_MS;
use crate::telegram::{Chunk, Message, Received, Receiver, Verdict, crc32, runs, spec};

/// Show the telegrams that arrive on a serial line, until it is closed or Ctrl-C
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The serial device
    #[arg(value_name = "PORT")]
    port: PathBuf,
    /// Bits a second, 8N1
    #[arg(long, default_value_t = 115_200)]
    baud: u32,
    /// Print one JSON object a telegram
    #[arg(long)]
    json: bool,
    /// Write each mask into this folder as a PNG, in place of drawing it
    #[arg(long, value_name = "DIR")]
    masks: Option<PathBuf>,
    /// Stop after so many telegrams
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Pixels of a mask that is believed; a CRC-32 is no proof against a hostile line.
const MAX_PIXELS: u32 = 1 << 26;

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    if let Some(dir) = &args.masks {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let opened = SerialPort::open(&args.port, args.baud);
    let mut port = opened.with_context(|| format!("cannot open {}", args.port.display()))?;
    port.set_read_timeout(Duration::from_millis(GAP_MS))?;
    let mut listener = Listener { args, receiver: Receiver::default(), mask: None, seen: 0, broken: 0, last: None };
    let mut bytes = [0; 1024];
    while args.count.is_none_or(|count| listener.seen < count) {
        match port.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => listener.take(bytes.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == ErrorKind::TimedOut => listener.gap()?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                log::warn!("{}: {error}", args.port.display());
                break;
            }
        }
    }
    let errors = u64::from(listener.receiver.errors) + listener.broken;
    log::info!("{} telegrams, {errors} errors", listener.seen);
    Ok(if errors == 0 { EXIT_CLEAN } else { EXIT_FAULTS })
}

struct Listener<'a> {
    args: &'a Args,
    receiver: Receiver,
    mask: Option<(Chunk, Vec<u8>)>,
    seen: u64,
    broken: u64,
    last: Option<u16>,
}

impl Listener<'_> {
    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut found = vec![];
        bytes.iter().for_each(|byte| self.receiver.push(*byte, |frame| found.push(frame)));
        found.iter().try_for_each(|frame| self.show(frame))
    }

    fn gap(&mut self) -> anyhow::Result<()> {
        let mut found = vec![];
        self.receiver.gap(|frame| found.push(frame));
        found.iter().try_for_each(|frame| self.show(frame))
    }

    fn show(&mut self, frame: &Received) -> anyhow::Result<()> {
        self.seen += 1;
        let lost = self.last.map_or(0, |last| frame.sequence.wrapping_sub(last).wrapping_sub(1));
        self.last = Some(frame.sequence);
        let message = match Message::parse(frame.kind, &frame.payload) {
            Ok(message) => message,
            Err(error) => {
                self.broken += 1;
                return self.print(frame, lost, &json!({ "error": error.to_string() }));
            }
        };
        let mut fields = fields(&message);
        if let Message::MaskChunk(chunk) = &message
            && let Some(done) = self.gather(chunk)
        {
            self.finish(chunk, done, &mut fields)?;
        }
        self.print(frame, lost, &fields)
    }

    /// Puts chunks together; the mask's bytes when the last one has come and nothing is missing.
    fn gather(&mut self, chunk: &Chunk) -> Option<Result<Vec<u8>, String>> {
        if chunk.offset == 0 {
            self.mask = Some((chunk.clone(), vec![]));
        }
        let (first, bytes) = self.mask.as_mut()?;
        if first.result_id != chunk.result_id || bytes.len() != chunk.offset as usize {
            self.mask = None;
            return Some(Err("a chunk is missing".into()));
        }
        bytes.extend_from_slice(&chunk.data);
        let crc = chunk.crc?;
        let (_, bytes) = self.mask.take()?;
        Some(if crc32(&bytes) == crc { Ok(bytes) } else { Err("its CRC-32 is wrong".into()) })
    }

    fn finish(&mut self, chunk: &Chunk, done: Result<Vec<u8>, String>, fields: &mut Value) -> anyhow::Result<()> {
        let drawn = done.and_then(|bytes| pixels(chunk, &bytes));
        let mut note = |key: &str, value: Value| {
            if let Some(object) = fields.as_object_mut() {
                object.insert(key.into(), value);
            }
        };
        let (width, height) = (u32::from(chunk.width), u32::from(chunk.height));
        match drawn {
            Err(problem) => {
                self.broken += 1;
                note("mask_error", problem.into());
            }
            Ok(pixels) => {
                note("mask_area", pixels.iter().filter(|pixel| **pixel > 0).count().into());
                match &self.args.masks {
                    Some(dir) => {
                        let path = dir.join(format!("{:08}.png", chunk.result_id));
                        save(&path, width, height, pixels)?;
                        note("mask_file", path.display().to_string().into());
                    }
                    None if !self.args.json => print!("{}", draw(width as usize, &pixels)),
                    None => {}
                }
            }
        }
        Ok(())
    }

    fn print(&self, frame: &Received, lost: u16, fields: &Value) -> anyhow::Result<()> {
        let name = spec::KINDS.iter().find(|kind| kind.0 == frame.kind).map_or("?", |kind| kind.1);
        let line = if self.args.json {
            json!({ "sequence": frame.sequence, "type": name, "lost": lost, "fields": fields }).to_string()
        } else {
            let gap = if lost > 0 { format!("  ({lost} telegrams lost before)") } else { String::new() };
            format!("{:>5} {name:<10} {}{gap}", frame.sequence, text_of(fields))
        };
        let mut out = std::io::stdout();
        writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")
    }
}

fn pixels(chunk: &Chunk, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let count = u32::from(chunk.width) * u32::from(chunk.height);
    if count > MAX_PIXELS {
        return Err(format!("{} x {} is too large", chunk.width, chunk.height));
    }
    let mut pixels = vec![0; count as usize];
    let fill = |start: u32, end: u32| {
        pixels.get_mut(start as usize..end as usize).unwrap_or_default().fill(255);
    };
    runs::decode(bytes, count, fill).map_err(|error| error.to_string())?;
    Ok(pixels)
}

fn save(path: &Path, width: u32, height: u32, pixels: Vec<u8>) -> anyhow::Result<()> {
    let Some(picture) = image::GrayImage::from_raw(width, height, pixels) else { bail!("a mask without pixels") };
    picture.save(path).with_context(|| format!("cannot write {}", path.display()))
}

/// A mask in at most 64 columns of text: a character is set if any pixel under it is.
fn draw(width: usize, pixels: &[u8]) -> String {
    let step = width.div_ceil(64).max(1);
    let mut out = String::new();
    for rows in pixels.chunks((width * step * 2).max(1)) {
        for column in (0..width).step_by(step) {
            let mut rows = rows.chunks(width.max(1));
            let any = rows.any(|row| row.iter().skip(column).take(step).any(|pixel| *pixel > 0));
            out.push(if any { '#' } else { '.' });
        }
        out.push('\n');
    }
    out
}

fn fields(message: &Message) -> Value {
    match message {
        Message::Hello { minor, caps, frame_bytes, config } => {
            json!({ "minor": minor, "masks": caps & 1 == 1, "triggers": caps & 2 == 2, "frame_bytes": frame_bytes, "config": format!("{config:08x}") })
        }
        Message::Heartbeat { state, code, uptime_s, temperature, missed, masks_lost, drift } => {
            let degrees = (*temperature != i16::MAX).then(|| f64::from(*temperature) / 10.0);
            json!({ "state": state.code(), "code": code, "uptime_s": uptime_s, "temperature": degrees, "missed": missed, "masks_lost": masks_lost, "drift": drift })
        }
        Message::Verdict(verdict) => verdict_fields(verdict),
        Message::Regions(regions) => {
            let list = regions.regions.iter().map(|region| {
                json!({ "box": [region.x, region.y, region.width, region.height], "area": region.area,
                        "center": [region.center_x, region.center_y], "peak": f64::from(region.peak) / 1e4 })
            });
            json!({ "result_id": regions.result_id, "found": regions.found, "first": regions.first, "roi": regions.roi,
                    "regions": list.collect::<Vec<_>>() })
        }
        Message::MaskChunk(chunk) => json!({
            "result_id": chunk.result_id, "offset": chunk.offset, "bytes": chunk.data.len(), "total": chunk.total,
            "scale": chunk.scale, "width": chunk.width, "height": chunk.height, "last": chunk.crc.is_some(),
        }),
        Message::MaskAbort { result_id, reason } => json!({ "result_id": result_id, "reason": reason.code() }),
        Message::Trigger { part_id } => json!({ "part_id": part_id }),
        Message::Job { job } => json!({ "job": job }),
        Message::Ack { sequence } => json!({ "of": sequence }),
        Message::Nak { sequence, code } => json!({ "of": sequence, "code": code }),
    }
}

fn verdict_fields(verdict: &Verdict) -> Value {
    let Verdict { result_id, ok, reason, class, score, latency, regions, part_id, release } = verdict;
    json!({
        "result_id": result_id, "part_id": part_id, "ok": ok, "reason": spec::reason(*reason), "class": (*class != 0xff).then_some(class),
        "score": f64::from(*score) / 1e4, "latency_ms": f64::from(*latency) / 10.0, "regions": regions, "release": release,
    })
}

/// `key value` pairs for a person.
fn text_of(fields: &Value) -> String {
    let pairs = fields.as_object().into_iter().flatten().map(|(key, value)| match value {
        Value::String(text) => format!("{key} {text}"),
        other => format!("{key} {other}"),
    });
    pairs.collect::<Vec<_>>().join(", ")
}
