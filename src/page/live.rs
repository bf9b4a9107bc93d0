//! The live page. In: the station's status, the books. Out: events, made once for all who look.
//!
//! Each viewer has a task and a short queue. One who does not read is behind by that queue, gets everything anew when
//! there is room again, and is cut when the connection takes nothing for too long.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{Answer, events, refuse};
use super::books::{Line, Totals};
use super::shared::{Shared, lock};
use crate::clock;
use crate::drift::{Drift, Measure};
use crate::handshake::{Controls, Status};
use crate::watchdog::{SLOW, Watchdog};

/// The pace of events: at most one in this time, and one at least in the other.
const PACE: Duration = Duration::from_millis(50);
const LEAST: Duration = Duration::from_secs(1);

/// How often the status is looked at without a part.
const GLANCE: Duration = Duration::from_millis(200);

/// Viewers at most.
const VIEWERS: usize = 16;

/// Events that wait for one viewer.
const QUEUE: usize = 2;

/// How often it is asked whether a viewer may still look.
const RECHECK: Duration = Duration::from_secs(10);

/// Everything that the live page shows.
#[derive(Serialize)]
pub(super) struct Snapshot {
    camera: String,
    zones: usize,
    /// What the PLC sees of the station.
    outputs: Outputs,
    /// What the station sees of the PLC.
    inputs: Controls,
    condition: Option<crate::handshake::Condition>,
    temperature: Option<f32>,
    job: u16,
    release: u32,
    waiting: u8,
    missed: u32,
    totals: Totals,
    shift: Totals,
    /// What has changed in the pictures, if something has.
    drift: Option<Changed>,
    /// Threads that stand still.
    hung: Vec<&'static str>,
    /// The parts that are new, or the last ones; the oldest first.
    parts: Vec<Line>,
    /// The parts whose pictures there are.
    pictures: Vec<u64>,
}

/// A drift as the page tells it.
#[derive(Serialize)]
struct Changed {
    what: Measure,
    /// Less of it; more otherwise.
    less: bool,
    /// Of what is usual; of clipped pixels, of the picture.
    percent: f32,
    /// The part with which it began.
    part: u64,
}

impl From<Drift> for Changed {
    fn from(drift: Drift) -> Self {
        let Drift { what, by, part, .. } = drift;
        Self { what, less: by < 0.0, percent: (by.abs() * 100.0).round(), part }
    }
}

/// The station's bits, by the names of PLC programmers.
#[derive(Serialize)]
struct Outputs {
    ready: bool,
    run: bool,
    busy: bool,
    valid: bool,
    ok: bool,
    ng: bool,
    fault: bool,
    code: u8,
    missed: bool,
    overrun: bool,
    late: bool,
    simulated: bool,
    job_busy: bool,
    job_failed: bool,
    trigger_ack: bool,
    toggle: bool,
    heartbeat: bool,
}

impl From<&Status> for Outputs {
    fn from(status: &Status) -> Self {
        Self {
            ready: status.ready,
            run: status.run,
            busy: status.busy,
            valid: status.valid,
            ok: status.ok(),
            ng: status.ng(),
            fault: status.fault,
            code: status.code,
            missed: status.missed,
            overrun: status.overrun,
            late: status.late,
            simulated: status.simulated,
            job_busy: status.job_busy,
            job_failed: status.job_failed,
            trigger_ack: status.trigger_ack,
            toggle: status.toggle,
            heartbeat: status.heartbeat,
        }
    }
}

/// The station now, with the parts after this one, or the last ones.
pub(super) fn snapshot(shared: &Shared, after: Option<u64>) -> Snapshot {
    let now = clock::now();
    let (status, inputs) = shared.plc_link.both();
    let (totals, shift, parts) = {
        let mut books = lock(&shared.books);
        (books.totals().clone(), books.shift(now), books.after(after))
    };
    Snapshot {
        camera: shared.options.camera.clone(),
        zones: shared.options.zones,
        outputs: Outputs::from(&status),
        inputs,
        condition: status.condition(),
        temperature: status.temperature.map(|tenths| f32::from(tenths) / 10.0),
        job: status.job,
        release: status.release,
        waiting: status.waiting,
        missed: status.counts.missed,
        totals,
        shift,
        drift: status.drift.map(Changed::from),
        hung: shared.plc_link.watchdogs().hung(now),
        parts,
        pictures: lock(&shared.album).numbers(),
    }
}

fn event(snapshot: &Snapshot) -> Option<Bytes> {
    let mut text = b"event: live\ndata: ".to_vec();
    serde_json::to_writer(&mut text, snapshot).ok()?;
    text.extend_from_slice(b"\n\n");
    Some(text.into())
}

/// Tells everybody who looks what is new; feeds the page's watchdog in any case.
pub(super) async fn tell(shared: Arc<Shared>, watchdog: Arc<Watchdog>) {
    let mut bell = shared.bell();
    let (mut last, mut before, mut sent) = (None, Bytes::new(), Instant::now());
    loop {
        watchdog.feed(clock::now(), SLOW);
        #[cfg(test)]
        super::tests::sabotage();
        let watched = shared.viewers() > 0;
        let _ = timeout(if watched { GLANCE } else { LEAST }, bell.changed()).await;
        if !watched {
            last = lock(&shared.books).newest();
            continue;
        }
        let snapshot = snapshot(&shared, last);
        last = snapshot.parts.last().map(|line| line.sequence).or(last);
        let Some(event) = event(&snapshot) else { continue };
        if event != before || sent.elapsed() >= LEAST {
            (before, sent) = (event.clone(), Instant::now());
            let _ = shared.events.send(event); // the last viewer may have gone
        }
        sleep(PACE).await;
    }
}

/// Somebody looks, until the end of this.
struct Look(Arc<Shared>);

impl Look {
    fn new(shared: Arc<Shared>) -> Self {
        shared.look(true);
        Self(shared)
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        self.0.look(false);
    }
}

/// Begins a stream of events for a viewer; it ends when `may` says so.
pub(super) fn look(shared: Arc<Shared>, may: impl FnMut() -> bool + Send + 'static) -> Answer {
    if shared.viewers() >= VIEWERS {
        return refuse(hyper::StatusCode::SERVICE_UNAVAILABLE, "as many look as may: close another window");
    }
    let (give, take) = mpsc::channel(QUEUE);
    let look = Look::new(shared);
    tokio::spawn(async move { forward(&look.0, &give, may).await });
    events(take)
}

async fn forward(shared: &Shared, give: &mpsc::Sender<Bytes>, mut may: impl FnMut() -> bool) {
    let mut events = shared.events.subscribe();
    let all = || event(&snapshot(shared, None));
    let mut next = all();
    let mut checked = Instant::now();
    while !give.is_closed() {
        if let Some(event) = next.take()
            && give.send(event).await.is_err()
        {
            return;
        }
        if checked.elapsed() >= RECHECK {
            checked = Instant::now();
            if !may() {
                return;
            }
        }
        next = match timeout(LEAST, events.recv()).await {
            Ok(Ok(event)) => Some(event),
            Ok(Err(RecvError::Lagged(_))) => all(),
            Ok(Err(RecvError::Closed)) => return,
            Err(_) => None,
        };
    }
}
