//! Signals as JSON lines, one a part, for scripts and other processes.

use std::io::Write;

use super::{Error, Sink};
use crate::signal::Signals;

/// Writes one JSON object a line, flushed at once so that a reader sees each part as it is judged.
pub struct JsonLines<W: Write + Send> {
    name: String,
    out: W,
    line: Vec<u8>,
}

impl<W: Write + Send> JsonLines<W> {
    /// `name` is used in errors: a path, or "standard output".
    pub fn new(name: impl Into<String>, out: W) -> Self {
        Self { name: name.into(), out, line: Vec::with_capacity(4096) }
    }
}

impl<W: Write + Send> Sink for JsonLines<W> {
    fn apply(&mut self, signals: &Signals) -> Result<(), Error> {
        self.line.clear();
        let failed = |source| Error::Write { sink: self.name.clone(), source };
        serde_json::to_writer(&mut self.line, signals).map_err(|error| failed(error.into()))?;
        self.line.push(b'\n');
        self.out.write_all(&self.line).and_then(|()| self.out.flush()).map_err(failed)
    }

    fn fail_safe(&mut self) {
        // A stream has no level that could stay high.
    }
}
