//! The record thread: an outbox towards the disk. In: kept parts, in exchange for empty buffers. Out: files
//! ([`Recorder`]).
//!
//! A disk that fails is counted, told once, and tried again with the next part. One that hangs takes no more than the
//! buffers, and no end of the station waits for it longer than [`PATIENCE`] without a part written.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::Error;
use super::count::Counters;
use super::inspect::{Archive, Empty, Kept};
use crate::clock;
use crate::plc_link::PlcLink;
use crate::record::{Keep, Recorder};
use crate::watchdog::{Duty, SLOW, Watchdog};

/// Parts that may wait to be written to disk.
const RECORDS: usize = 8;

/// How long the disk may take for a part at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// The thread, and what there is to know of its end.
pub(super) struct Record {
    thread: JoinHandle<()>,
    /// Hangs up when the thread ends.
    ended: Receiver<()>,
    counters: Arc<Counters>,
}

/// Starts the thread. The archive has as many empty buffers as parts may wait in it.
pub(super) fn start(
    recorder: Option<Recorder>,
    plc_link: &PlcLink,
    counters: &Arc<Counters>,
) -> Result<(Archive, Record), Error> {
    let (parts, to_record) = bounded(RECORDS);
    let (emptied, empty) = bounded(RECORDS);
    for _ in 0..RECORDS {
        let _ = emptied.try_send(Empty::default()); // there is room for each
    }
    let keep = recorder.as_ref().map_or(Keep::None, Recorder::keep);
    let (end, ended) = bounded(0);
    let (watchdog, counting) = (plc_link.watchdog("record", Duty::Guest), counters.clone());
    let run = move || {
        let _end: Sender<()> = end; // dropped with the thread, by a panic too
        if let Some(recorder) = recorder {
            record(recorder, &to_record, &emptied, &counting, &watchdog);
        }
    };
    let thread = std::thread::Builder::new().name("record".into()).spawn(run);
    let thread = thread.map_err(|source| Error::Thread { name: "record", source })?;
    Ok((Archive { keep, parts, empty }, Record { thread, ended, counters: counters.clone() }))
}

impl Record {
    /// Waits until what is kept is written, unless the disk hangs. True if the thread panicked.
    pub(super) fn finish(self) -> bool {
        let done = || self.counters.recorded.get() + self.counters.record_drops.get();
        let mut before = done();
        while let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(PATIENCE) {
            if done() == std::mem::replace(&mut before, done()) {
                log::error!("the disk hangs: the parts that wait for it are not recorded");
                return false; // the thread ends with the process
            }
        }
        let panicked = self.thread.join().is_err();
        if panicked {
            log::error!("the record thread panicked: please report this");
        }
        panicked
    }
}

fn record(
    mut recorder: Recorder,
    parts: &Receiver<Kept>,
    emptied: &Sender<Empty>,
    counters: &Counters,
    watchdog: &Watchdog,
) {
    let mut failing = false;
    loop {
        watchdog.suspend();
        let Ok(Kept { part, outcome, mask, drawn }) = parts.recv() else { return };
        watchdog.feed(clock::now(), SLOW);
        let view = drawn.then(|| mask.view());
        let written =
            part.frame().map_err(Into::into).and_then(|frame| recorder.write(&frame, &outcome, view.as_ref()));
        match &written {
            Ok(()) if failing => log::warn!("parts are recorded again"),
            Ok(()) => {}
            Err(error) if failing => log::debug!("part {}: {error}", outcome.sequence),
            Err(error) => log::warn!("part {} and those after it are not recorded: {error}", outcome.sequence),
        }
        failing = written.is_err();
        let counter = if failing { &counters.record_drops } else { &counters.recorded };
        counter.add(1);
        let _ = emptied.try_send(Empty { buffer: part.buffer, mask }); // inspect may be gone
    }
}
