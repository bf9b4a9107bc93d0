//! The camera of the kernel, as a station file describes it.

use std::time::Duration;

use super::raw::{Camera, Format};
use crate::camera::Error;
use crate::camera::v4l2::{Layout, V4l2, V4l2Options, Wanted};

/// Opens and sets it; size and device were checked before. A sensor that is `fired` from outside may be silent for
/// any time.
pub(super) fn open(camera: &Camera, fired: bool) -> Result<V4l2, Error> {
    let (width, height) = camera.width.zip(camera.height).unwrap_or_default();
    let Camera { format, colors, fps, .. } = *camera;
    let wanted = Wanted { width, height, layout: layout(format), colors, fps };
    let stall = (!fired).then_some(Duration::from_millis(camera.timeout_ms));
    V4l2::open(V4l2Options { device: camera.device.clone(), wanted, controls: camera.controls.clone(), stall })
}

/// The layout that is asked for; none if the cheapest is taken.
fn layout(format: Format) -> Option<Layout> {
    match format {
        Format::Auto => None,
        Format::Mjpeg => Some(Layout::Mjpeg),
        raw => raw.pixels().map(Layout::Raw),
    }
}
