//! Pictures with their masks, while somebody looks. In: parts through the window, and their outcomes. Out: each drawn and
//! encoded once, however many look.
//!
//! A part is drawn when it was told, and as what it was told. The pace is the page's own: a part is asked for when the
//! one before it is done.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

use super::album::Album;
use super::shared::{Shared, lock};
use crate::mask::Mask;
use crate::outcome::Outcome;
use crate::overlay::Overlay;
use crate::preprocess::Roi;
use crate::window::{Seen, Viewer};

/// From one picture to the next.
const PACE: Duration = Duration::from_millis(200);

/// How often it is looked whether somebody looks.
const GLANCE: Duration = Duration::from_secs(1);

const QUALITY: u8 = 85;

/// Draws while somebody looks.
pub(super) async fn paint(shared: Arc<Shared>, viewer: Arc<Viewer>) {
    let mut bell = shared.bell();
    loop {
        let Some((seen, outcome)) = next(&shared, &viewer, &mut bell).await else {
            viewer.close();
            *lock(&shared.album) = Album::default();
            let _ = timeout(GLANCE, bell.changed()).await;
            continue;
        };
        let began = Instant::now();
        let overlay = Overlay::of(shared.options.layout.clone()).bare();
        match spawn_blocking(move || draw(overlay, &seen, &outcome)).await {
            Ok(Some((sequence, jpeg))) => {
                lock(&shared.album).add(sequence, jpeg);
                let event = format!("event: picture\ndata: {{\"sequence\":{sequence}}}\n\n");
                let _ = shared.events.send(event.into()); // the last viewer may have gone
            }
            Ok(None) => {}
            Err(error) => log::error!("the page: a picture cannot be drawn: {error}"),
        }
        sleep_until(began + PACE).await;
    }
}

/// The next part that was both shown and told; none when nobody looks any more.
async fn next(shared: &Shared, viewer: &Viewer, bell: &mut watch::Receiver<u64>) -> Option<(Seen, Outcome)> {
    let mut seen = None;
    while shared.viewers() > 0 {
        while let Some(newer) = viewer.next() {
            seen = Some(newer);
        }
        let told = seen.as_ref().and_then(Seen::sequence).map(|sequence| {
            let books = lock(&shared.books);
            (books.outcome(sequence).cloned(), books.is_past(sequence))
        });
        match told {
            Some((Some(outcome), _)) => return seen.map(|seen| (seen, outcome)),
            Some((None, true)) => seen = None, // its outcome was lost
            Some((None, false)) => {}
            None => drop(viewer.ask()),
        }
        let _ = timeout(GLANCE, bell.changed()).await;
    }
    None
}

fn draw(mut overlay: Overlay, seen: &Seen, outcome: &Outcome) -> Option<(u64, Bytes)> {
    let frame = seen.frame()?.ok()?;
    let geometry = frame.geometry();
    let mask = seen.mask().unwrap_or_else(|| Mask::empty(Roi::whole(&geometry)));
    let pixels = overlay.draw(&frame, &mask, outcome, &outcome.judged_by.classes);
    let mut jpeg = vec![];
    let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, QUALITY);
    encoder.encode(pixels, geometry.width, geometry.height, ExtendedColorType::Rgb8).ok()?;
    Some((outcome.sequence, jpeg.into()))
}
