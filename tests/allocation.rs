//! Rule F: a frame allocates nothing in steady state. The one exception is tract, when it is asked for: it allocates
//! its tensors, and what it does is counted here, so that nothing hides among them.
//!
//! A program without the test harness, whose own thread allocates when it likes: the counter is the process's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[cfg(feature = "tensorrt")]
#[path = "common/tensorrt/shim.rs"]
mod shim;

use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use fcam::camera::jpeg::Decoder;
use fcam::camera::picture::Picture;
use fcam::camera::{Frame, Geometry, PixelFormat};
use fcam::drift::DriftOptions;
#[cfg(feature = "tensorrt")]
use fcam::engine::tensorrt;
use fcam::engine::{Backend, Prediction, Settings};
use fcam::locate::{Reach, Template};
use fcam::mask::{Masker, Thresholds};
use fcam::outcome::{Judged, Opened, Outcome, Timings};
use fcam::pipeline::{Pipeline, PipelineOptions};
use fcam::preprocess::{Layout, Preprocessor, Roi, Tensor, Tiles};
use fcam::signal::Signaller;
use fcam::verdict::{Fault, Judge, Verdict};
use fcam::vote::Vote;
use fcam::zone::Zones;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations and reallocations of a call, on whichever thread of the process.
fn allocations<T>(run: impl FnOnce() -> T) -> usize {
    let region = stats_alloc::Region::new(&INSTRUMENTED_SYSTEM);
    black_box(run());
    let change = region.change();
    change.allocations + change.reallocations
}

fn signaller() -> Signaller {
    Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) }
}

fn main() {
    for format in [
        PixelFormat::Gray8,
        PixelFormat::Rgb8,
        PixelFormat::Yuyv,
        PixelFormat::Nv12,
        PixelFormat::I420,
        PixelFormat::Yuvj420,
        PixelFormat::Yuvj422,
        PixelFormat::Yuvj440,
        PixelFormat::Yuvj444,
    ] {
        preprocess_allocates_nothing(format);
    }
    decoding_allocates_nothing();
    the_stages_after_the_engine_allocate_nothing();
    for threads in [1, 2, 4] {
        an_inspection_allocates_what_its_engine_does(Settings { threads, ..on(Backend::Cpu) }, Some(0));
    }
    #[cfg(feature = "tract")]
    an_inspection_allocates_what_its_engine_does(on(Backend::Tract), None);
    #[cfg(feature = "tensorrt")]
    an_inspection_on_tensorrt_allocates_nothing();
    an_inspection_of_tiles_allocates_nothing();
    an_inspection_of_a_part_that_is_looked_for_allocates_nothing();
    watching_for_drift_allocates_nothing();
    println!("nothing is allocated from frame to outcome");
}

fn preprocess_allocates_nothing(format: PixelFormat) {
    let geometry = Geometry::packed(1280, 720, format).unwrap();
    let bytes = vec![90; geometry.frame_bytes()];
    let frame = Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap();
    for roi in [Roi::whole(&geometry), Roi { x: 101, y: 51, width: 900, height: 600 }] {
        let mut preprocessor = Preprocessor::new(geometry, roi, 256, 256).unwrap();
        // The very first one: there is nothing that would only settle in.
        let count = allocations(|| preprocessor.run(&frame).values.len());
        assert_eq!(count, 0, "{format:?} {roi:?}");
    }
}

/// Once a picture was decoded, those after it find everything in place, other ones too.
fn decoding_allocates_nothing() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/jpeg");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let mut decoder = Decoder::default();
    let mut picture = Picture::EMPTY;
    decoder.decode(&read("whole.jpg"), &mut picture).unwrap();
    for name in ["rst_whole.jpg", "whole.jpg", "no_huffman_tables.jpg", "dent_whole.jpg"] {
        let jpeg = read(name);
        assert_eq!(allocations(|| decoder.decode(&jpeg, &mut picture).unwrap()), 0, "{name}");
    }
}

/// A map with hundreds of regions, the worst case for the mask, and with one.
fn the_stages_after_the_engine_allocate_nothing() {
    let roi = Roi { x: 0, y: 0, width: 1280, height: 720 };
    let mut masker = Masker::new(Thresholds { high: 0.5, low: 0.3, min_area_px: 1 }, roi, 256, 256);
    let judge = Judge::new(0, 0.5);
    let specks: Vec<f32> = (0..256 * 256).map(|i| if i % 3 == 0 && (i / 256) % 2 == 0 { 0.9 } else { 0.1 }).collect();
    let bar: Vec<f32> = (0..256 * 256).map(|i| if (i / 256) == 128 { 0.9 } else { 0.1 }).collect();
    let half = vec![[0, 0], [640, 0], [640, 720], [0, 720]];
    let judged_by = Arc::default();
    let zones = [Zones::Grid { columns: 4, rows: 4 }, Zones::Polygons(vec![half; 8])];
    for map in [specks, bar] {
        let scores = [0.1, 0.9];
        let prediction = Prediction { logits: &scores, scores: &scores, map: &map, width: 256, height: 256 };
        let count = allocations(|| {
            let mask = masker.run(&prediction);
            let verdict = judge.run(&prediction, &mask);
            assert!(matches!(verdict, Verdict::Reject(_)));
            assert!(zones.iter().all(|zones| zones.run(&mask) != 0));
            let judged = Judged { verdict, score: Some(0.9), zones: 1, drift: None };
            let outputs = signaller().run(Duration::ZERO, false);
            Outcome::new(Opened::default(), judged, outputs, &judged_by, Timings::default())
        });
        assert_eq!(count, 0);
    }
}

fn on(backend: Backend) -> Settings {
    Settings { backend, ..Settings::default() }
}

/// On our side of the shim, that is: what is behind it has an allocator of its own.
#[cfg(feature = "tensorrt")]
fn an_inspection_on_tensorrt_allocates_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let options = tensorrt::TensorRtOptions {
        shim: shim::shims().0.clone(),
        cache: cache.path().into(),
        ..tensorrt::TensorRtOptions::default()
    };
    let engine = Settings { tensorrt: options, ..on(Backend::Tensorrt) };
    an_inspection_allocates_what_its_engine_does(engine, Some(0));
}

fn an_inspection_allocates_what_its_engine_does(engine: Settings, known: Option<usize>) {
    let backend = engine.backend;
    let options = PipelineOptions {
        engine,
        layout: Default::default(),
        score_threshold: None,
        locate: None,
        vote: None,
        drift: None,
        zones: Default::default(),
        signaller: signaller(),
    };
    let geometry = common::geometry();
    let mut pipeline = Pipeline::new(&common::tiny_bundle(), geometry, options).unwrap();
    let bytes = common::plain(50);
    let frame = Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap();
    for _ in 0..3 {
        pipeline.inspect(&frame);
    }
    let whole = allocations(|| pipeline.inspect(&frame).outcome.timings);
    let values = pipeline.preprocess(&frame).values.to_vec();
    let tensor = Tensor { width: 64, height: 64, values: &values };
    let engine = allocations(|| pipeline.predict(&tensor).unwrap().map.len());
    assert_eq!(whole, engine, "the inspection allocates beyond its engine, {backend:?}");
    assert_eq!(whole, known.unwrap_or(whole), "{backend:?}");
}

/// A part that is found, moved, and its map moved back; and one that is not there.
fn an_inspection_of_a_part_that_is_looked_for_allocates_nothing() {
    let geometry = common::geometry();
    let blocks = |right: usize| -> Vec<u8> {
        let pixel = |index: usize| {
            let (x, y) = (index / 3 % 96 + 96 - right, index / 3 / 96);
            let dark = x * x / 70 % 3 == 0 && y * y / 90 % 2 == 0;
            if dark { 120 } else { 230 }
        };
        (0..geometry.frame_bytes()).map(pixel).collect()
    };
    let picture = Picture { geometry, bytes: blocks(0) };
    let reach = Reach { shift: 0.1, turn: 5.0, agreement: 0.5 };
    let options = PipelineOptions { locate: Some(Template { picture, reach }), ..PipelineOptions::default() };
    let mut pipeline = Pipeline::new(&common::tiny_bundle(), geometry, options).unwrap();
    for (bytes, verdict) in
        [(blocks(0), "pass"), (blocks(0), "pass"), (blocks(3), "pass"), (common::plain(200), "fault")]
    {
        let frame = Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap();
        let mut told = "";
        let count = allocations(|| told = pipeline.inspect(&frame).outcome.verdict.word());
        assert_eq!((count, told), (0, verdict));
    }
}

/// Learning what is usual, watching, and telling that it has changed; then a part of which nothing is seen.
fn watching_for_drift_allocates_nothing() {
    let geometry = common::geometry();
    let bytes = |part: usize, light: usize| -> Vec<u8> {
        (0..geometry.frame_bytes()).map(|at| ((150 + at * 7 % 60 + part % 3) * light / 100) as u8).collect()
    };
    let drift = Some(DriftOptions { learn: 20, ..DriftOptions::default() });
    let mut pipeline =
        Pipeline::new(&common::tiny_bundle(), geometry, PipelineOptions { drift, ..PipelineOptions::default() })
            .unwrap();
    let mut told = 0;
    for (part, light) in (0..80).map(|part| (part, if part < 40 { 100 } else { 85 })) {
        let bytes = bytes(part, light);
        let frame = Frame::new(part as u64, Duration::ZERO, geometry, &bytes).unwrap();
        let count = allocations(|| told += usize::from(pipeline.inspect(&frame).outcome.drift.is_some()));
        assert!(count == 0 || part == 0, "part {part}: {count}");
    }
    assert!((20..40).contains(&told), "{told} parts were told with a drift");
    let dark = vec![0; geometry.frame_bytes()];
    let frame = Frame::new(80, Duration::ZERO, geometry, &dark).unwrap();
    let mut verdict = Verdict::Pass;
    assert_eq!(allocations(|| verdict = pipeline.inspect(&frame).outcome.verdict.clone()), 0);
    assert_eq!(verdict, Verdict::Fault(Fault::Blind));
    assert_eq!(allocations(|| pipeline.clear_drift()), 0);
}

/// Several looks at a frame, put together, and a vote on what comes out: rejects with regions, passes, and one told for
/// the other.
fn an_inspection_of_tiles_allocates_nothing() {
    let tiles = Tiles { columns: 3, rows: 2, overlap: 0.2 };
    let areas =
        vec![Roi { x: 0, y: 0, width: 60, height: 80 }.into(), Roi { x: 50, y: 8, width: 46, height: 72 }.into()];
    for format in [PixelFormat::Rgb8, PixelFormat::Nv12] {
        let options = PipelineOptions {
            engine: Settings::default(),
            layout: Layout { areas: areas.clone(), tiles },
            score_threshold: None,
            locate: None,
            vote: Some(Vote { of: 3, need: 2 }),
            drift: None,
            zones: Zones::Grid { columns: 4, rows: 4 },
            signaller: signaller(),
        };
        let geometry = Geometry::packed(96, 80, format).unwrap();
        let mut pipeline = Pipeline::new(&common::tiny_bundle(), geometry, options).unwrap();
        assert_eq!(pipeline.tiles(), 12);
        let frames = [(200, "pass"), (200, "pass"), (20, "pass"), (20, "reject"), (200, "reject"), (200, "pass")];
        for (level, verdict) in frames {
            let mut bytes = vec![level; geometry.frame_bytes()];
            if format == PixelFormat::Nv12 {
                bytes[96 * 80..].fill(128); // no colour
            }
            let frame = Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap();
            let mut word = "";
            let count = allocations(|| word = pipeline.inspect(&frame).outcome.verdict.word());
            assert_eq!((word, count), (verdict, 0), "{format:?} {level}");
        }
    }
}
