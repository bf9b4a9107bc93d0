//! The table of a network's layers that `bench` and `check` print: who computes each, how long, how much work, how near
//! to the core's peak.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::engine::StepTime;

/// Each layer's time, work, speed and share of `peak`, multiply-adds a second.
pub(super) fn rows(layers: &[StepTime], peak: f64) -> Value {
    let rows = layers.iter().map(|layer| {
        let speed = layer.macs as f64 / layer.nanos.max(1) as f64; // per nanosecond: giga per second
        json!({
            "name": layer.name, "executor": layer.label, "us": layer.nanos as f64 / 1e3, "macs": layer.macs,
            "gmacs": speed, "peak_share": speed * 1e9 / peak,
        })
    });
    rows.collect()
}

/// The rows as text, and their sum beside the core's peak in G multiply-adds a second.
pub(super) fn table(rows: &Value, peak: f64) -> String {
    let mut out = format!("{:<13}{:>9}{:>11}{:>9}{:>7}  layer\n", "executor", "us", "k mult-adds", "GMAC/s", "peak");
    let number = |layer: &Value, key: &str| layer.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    let word = |layer: &Value, key: &str| layer.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let (mut time, mut macs) = (0.0, 0.0);
    for layer in rows.as_array().into_iter().flatten() {
        let (us, work) = (number(layer, "us"), number(layer, "macs"));
        (time, macs) = (time + us, macs + work);
        let (speed, share) = (number(layer, "gmacs"), 100.0 * number(layer, "peak_share"));
        let (executor, name) = (word(layer, "executor"), word(layer, "name"));
        let row = format!("{executor:<13}{us:>9.1}{:>11.0}{speed:>9.1}{share:>6.0}%  {name}", work / 1e3);
        let _ = writeln!(out, "{row}"); // a String takes everything
    }
    let speed = macs / time.max(1e-9) / 1e3;
    let share = 100.0 * speed / peak;
    let _ = writeln!(out, "{:<13}{time:>9.1}{:>11.0}{speed:>9.1}{share:>6.0}%  of {peak:.0} GMAC/s", "sum", macs / 1e3);
    out
}
