//! Rule F: our stages allocate nothing for a frame in steady state. What is left is inside two libraries: tract's tensors, and the
//! weight tables that fast_image_resize computes anew in each call. Both are counted here, so that nothing hides among them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::alloc::System;
use std::hint::black_box;
use std::time::Duration;

use fast_image_resize::images::TypedImage;
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use fcam::camera::{Frame, Geometry, PixelFormat};
use fcam::engine::{Prediction, Settings};
use fcam::mask::{Masker, Thresholds};
use fcam::pipeline::{Options, Pipeline};
use fcam::preprocess::{Preprocessor, Roi, Tensor};
use fcam::signal::Signaller;
use fcam::verdict::{Judge, Verdict};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations and reallocations of a call. The counter is the process's, so this file has one test function only: another
/// test's thread would be counted too.
fn allocations<T>(run: impl FnOnce() -> T) -> usize {
    let region = Region::new(&INSTRUMENTED_SYSTEM);
    black_box(run());
    let change = region.change();
    change.allocations + change.reallocations
}

fn signaller() -> Signaller {
    Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) }
}

#[test]
fn our_stages_allocate_nothing() {
    for format in [PixelFormat::Gray8, PixelFormat::Rgb8, PixelFormat::Yuyv, PixelFormat::Nv12, PixelFormat::I420] {
        preprocess_allocates_what_its_resizer_does(format);
    }
    the_stages_after_the_engine_allocate_nothing();
    an_inspection_allocates_what_its_engine_and_resizer_do();
}

/// Allocations of a bare resize by the library, with everything it can reuse reused.
fn resize_allocations<P: PixelTrait + Default + Clone>(width: u32, height: u32, side: u32) -> usize {
    let source = TypedImage::<P>::new(width, height);
    let mut target = TypedImage::<P>::new(side, side);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let mut resizer = Resizer::new();
    resizer.resize_typed(&source, &mut target, &options).unwrap();
    allocations(|| resizer.resize_typed(&source, &mut target, &options))
}

fn preprocess_allocates_what_its_resizer_does(format: PixelFormat) {
    let geometry = Geometry::packed(1280, 720, format).unwrap();
    let bytes = vec![90; geometry.frame_bytes()];
    let frame = Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap();
    for roi in [Roi::whole(&geometry), Roi { x: 101, y: 51, width: 900, height: 600 }] {
        let mut preprocessor = Preprocessor::new(geometry, roi, 256, 256).unwrap();
        preprocessor.run(&frame);
        let count = allocations(|| preprocessor.run(&frame).values.len());
        let library = match format {
            PixelFormat::Gray8 => resize_allocations::<U8>(roi.width, roi.height, 256),
            _ => resize_allocations::<U8x3>(roi.width, roi.height, 256),
        };
        assert_eq!(count, library, "{format:?} {roi:?}: more than the resize itself allocates");
    }
}

/// A map with hundreds of regions, the worst case for the mask, and with one.
fn the_stages_after_the_engine_allocate_nothing() {
    let roi = Roi { x: 0, y: 0, width: 1280, height: 720 };
    let mut masker = Masker::new(Thresholds { high: 0.5, low: 0.3, min_area_px: 1 }, roi, 256, 256);
    let judge = Judge::new(0, 0.5);
    let specks: Vec<f32> = (0..256 * 256).map(|i| if i % 3 == 0 && (i / 256) % 2 == 0 { 0.9 } else { 0.1 }).collect();
    let bar: Vec<f32> = (0..256 * 256).map(|i| if (i / 256) == 128 { 0.9 } else { 0.1 }).collect();
    for map in [specks, bar] {
        let scores = [0.1, 0.9];
        let prediction = Prediction { logits: &scores, scores: &scores, map: &map, width: 256, height: 256 };
        let count = allocations(|| {
            let mask = masker.run(&prediction);
            let verdict = judge.run(&prediction, &mask);
            assert!(matches!(verdict, Verdict::Reject(_)));
            signaller().run(0, Duration::ZERO, Some(0.9), verdict)
        });
        assert_eq!(count, 0);
    }
}

fn an_inspection_allocates_what_its_engine_and_resizer_do() {
    let options = Options { engine: Settings::default(), roi: None, score_threshold: None, signaller: signaller() };
    let geometry = common::geometry();
    let mut pipeline = Pipeline::new(&common::tiny_bundle(), geometry, options).unwrap();
    let bytes = common::plain(50);
    let frame = Frame::new(0, Duration::ZERO, geometry, &bytes).unwrap();
    for _ in 0..3 {
        pipeline.inspect(&frame);
    }
    let whole = allocations(|| pipeline.inspect(&frame).timings);
    let values = pipeline.preprocess(&frame).values.to_vec();
    let tensor = Tensor { width: 64, height: 64, values: &values };
    let engine = allocations(|| pipeline.predict(&tensor).unwrap().map.len());
    let resize = resize_allocations::<U8x3>(geometry.width, geometry.height, 64);
    assert_eq!(whole, engine + resize, "the inspection allocates beyond its engine and its resizer");
}
