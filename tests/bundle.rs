//! What `fcam check` says of bundles, good and damaged, through the binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::time::Duration;

use fcam::camera::Frame;
use fcam::engine::Backend;
use fcam::pipeline::{Options, Pipeline};
use fcam::signal::Signaller;

#[test]
fn the_tiny_bundle_passes_bright_and_rejects_dark() {
    let signaller = Signaller { delay: Duration::from_millis(100), hold: Duration::from_millis(50) };
    let options = Options { backend: Backend::Cpu, threads: 1, roi: None, score_threshold: None, signaller };
    let mut pipeline = Pipeline::new(&common::tiny_bundle(), common::geometry(), options).unwrap();
    for (level, verdict, regions) in [(200, "pass", 0), (50, "reject", 0), (10, "reject", 1)] {
        let bytes = common::plain(level);
        let frame = Frame::new(0, Duration::ZERO, common::geometry(), &bytes).unwrap();
        let inspection = pipeline.inspect(&frame);
        assert_eq!(inspection.signals.verdict.word(), verdict, "level {level}");
        assert_eq!(inspection.mask.regions.len(), regions, "level {level}");
    }
}
