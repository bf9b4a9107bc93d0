//! The audit trail. In: who did what, from where. Out: a line of JSON each, appended and synced before it takes effect.
//!
//! What cannot be written down is refused by whoever asked for the entry. The file is bounded: when it is full it takes
//! the place of the one before it, and a new one begins.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::durable;

/// The file in the page's folder, and the one before it.
const FILE: &str = "audit.jsonl";
const BEFORE: &str = "audit.old.jsonl";

/// Bytes of a file at most: some 100,000 entries.
const MOST: u64 = 16 << 20;

/// Bytes of the newest entries that are shown.
const SHOWN: u64 = 64 << 10;

/// One entry.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    /// What was done.
    pub(super) what: &'a str,
    /// Who: a user's name, or the one that was typed.
    pub(super) user: &'a str,
    pub(super) from: IpAddr,
}

/// The trail.
#[derive(Debug)]
pub(super) struct Audit {
    dir: PathBuf,
    /// One entry after the other.
    turn: Mutex<()>,
}

impl Audit {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, turn: Mutex::default() }
    }

    /// Writes an entry; it is on the disk when this returns.
    pub(super) fn write(&self, entry: &Entry) -> std::io::Result<()> {
        #[derive(Serialize)]
        struct Line<'a> {
            at: String,
            #[serde(flatten)]
            entry: &'a Entry<'a>,
        }
        let mut line = serde_json::to_vec(&Line { at: jiff::Timestamp::now().to_string(), entry })?;
        line.push(b'\n');
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = self.open()?;
        if file.metadata()?.len() + line.len() as u64 > MOST {
            std::fs::rename(self.dir.join(FILE), self.dir.join(BEFORE))?;
            file = self.open()?;
            durable::sync_folder(&self.dir)?;
        }
        file.write_all(&line)?;
        file.sync_data()
    }

    fn open(&self) -> std::io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(self.dir.join(FILE))
    }

    /// The newest entries, a line each, the oldest first.
    pub(super) fn newest(&self) -> std::io::Result<String> {
        let mut file = match File::open(self.dir.join(FILE)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
            opened => opened?,
        };
        let skipped = file.metadata()?.len().saturating_sub(SHOWN);
        file.seek(SeekFrom::Start(skipped))?;
        let mut bytes = vec![];
        file.take(SHOWN).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        // The first line is cut where older ones were skipped, the last one by a power cut.
        let whole = if skipped > 0 { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
        Ok(whole.rsplit_once('\n').map_or(String::new(), |(lines, _)| format!("{lines}\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(user: &str) -> Entry<'_> {
        Entry { what: "log-in", user, from: [127, 0, 0, 1].into() }
    }

    #[test]
    fn entries_are_appended_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::new(dir.path().into());
        assert_eq!(audit.newest().unwrap(), "");
        audit.write(&entry("anna")).unwrap();
        audit.write(&entry("b\n\"x")).unwrap();
        let lines: Vec<serde_json::Value> =
            audit.newest().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["user"], &lines[1]["user"]), (&"anna".into(), &"b\n\"x".into()));
        assert_eq!((&lines[0]["what"], &lines[0]["from"]), (&"log-in".into(), &"127.0.0.1".into()));
    }

    #[test]
    fn the_newest_are_shown_and_the_file_stays_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::new(dir.path().into());
        std::fs::write(dir.path().join(FILE), format!("{}\n", "x".repeat(99)).repeat(1000)).unwrap();
        audit.write(&entry("anna")).unwrap();
        let newest = audit.newest().unwrap();
        assert!(newest.len() <= SHOWN as usize && newest.ends_with("\"from\":\"127.0.0.1\"}\n"), "{}", newest.len());
        assert!(newest.lines().next().unwrap() == "x".repeat(99));
        File::create(dir.path().join(FILE)).unwrap().set_len(MOST).unwrap();
        audit.write(&entry("anna")).unwrap();
        assert_eq!(std::fs::metadata(dir.path().join(BEFORE)).unwrap().len(), MOST);
        assert_eq!(audit.newest().unwrap().lines().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        assert!(Audit::new("/nonexistent".into()).write(&entry("anna")).is_err());
    }
}
