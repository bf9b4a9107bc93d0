//! Outcomes as JSON lines, one a part, for scripts and other processes.

use std::io::{Result, Write};

use super::Outbox;
use crate::outcome::Outcome;
use crate::plc_link::PlcLink;

/// Writes one JSON object a line, flushed at once so that a reader sees each part when the line does.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use fcam::outcome::{Opened, Outcome};
/// use fcam::signal::Signaller;
/// use fcam::sink::JsonLines;
/// use fcam::verdict::Fault;
///
/// let signaller = Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) };
/// let outcome = Outcome::fault(Opened::default(), Fault::Frozen, &signaller, &Arc::default());
/// let file = tempfile::NamedTempFile::new()?;
/// JsonLines::new(file.reopen()?).write(&outcome)?;
/// let line = std::fs::read_to_string(file.path())?;
/// assert!(line.starts_with(r#"{"sequence":0,"part_id":0,"#) && line.ends_with("}\n"), "{line}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct JsonLines<W> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write + Send + 'static> JsonLines<W> {
    /// Writes to a stream.
    pub fn new(out: W) -> Self {
        Self { out, line: Vec::with_capacity(4096) }
    }

    /// The same behind an outbox, because a reader may hang. `what` is used in messages: a path, or "standard output".
    pub fn start(what: impl Into<String>, out: W, plc_link: &PlcLink) -> Result<Outbox> {
        let mut lines = Self::new(out);
        Outbox::start("json", what, plc_link, move |outcome| lines.write(outcome))
    }

    /// One line.
    pub fn write(&mut self, outcome: &Outcome) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, &outcome.entry())?;
        self.line.push(b'\n');
        self.out.write_all(&self.line)?;
        self.out.flush()
    }
}
