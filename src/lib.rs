//! fcam: an inspection camera in software.
//!
//! A frame goes in, a verdict and a full-resolution mask come out, and the line's PLC is told in time. The program
//! `fcam` is one use of this library; whoever builds another camera, another channel or another machine around the same
//! engine starts here.
//!
//! # A part is judged
//!
//! ```
//! use fcam::bundle::Bundle;
//! use fcam::camera::{Frame, Geometry, PixelFormat};
//! use fcam::clock;
//! use fcam::pipeline::{Pipeline, PipelineOptions};
//! use fcam::verdict::Verdict;
//!
//! // The default bundle, which the program carries; every byte is verified.
//! let bundle = Bundle::embedded()?;
//! let geometry = Geometry::packed(640, 480, PixelFormat::Gray8)?;
//! let mut pipeline = Pipeline::new(&bundle, geometry, PipelineOptions::default())?;
//!
//! let bytes = vec![128; geometry.frame_bytes()]; // from a sensor, in place of this gray sheet
//! let frame = Frame::new(0, clock::now(), geometry, &bytes)?;
//! let inspection = pipeline.inspect(&frame);
//! match &inspection.outcome.verdict {
//!     Verdict::Pass => println!("good"),
//!     Verdict::Reject(findings) => println!("class {}, {} regions", findings.class, findings.regions.len()),
//!     Verdict::Fault(fault) => println!("not judged: {fault:?}"),
//! }
//! // The mask covers the frame, in cells of the network's resolution.
//! assert_eq!((inspection.mask.roi.width, inspection.mask.roi.height), (640, 480));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The flow
//!
//! ```text
//! Camera ─Frame→ preprocess ─Tensor→ Engine ─Prediction→ mask ─Mask→ verdict ─Verdict→ outcome ─Outcome→ PlcLink, Sink
//!  edge            pure               may fail             pure        pure             pure               edge
//! ```
//!
//! [`pipeline::Pipeline::inspect`] is the middle of that line in one call; the station, replay, bench and the proof of
//! a bundle all go through it. Nothing in it fails: shapes, rectangles, thresholds and names are checked when the
//! pipeline is built, and what goes wrong with a part becomes a [`verdict::Fault`], which no channel tells as good.
//! Nothing in it allocates from the second frame on.
//!
//! # Where to read on
//!
//! | for | modules |
//! |---|---|
//! | pictures, from a device, a program, files, or your own [`camera::Camera`] | [`camera`], [`trigger`], [`chip`] |
//! | what becomes of a frame | [`preprocess`], [`resize`], [`locate`], [`engine`], [`mask`], [`zone`], [`verdict`], [`vote`], [`drift`], [`signal`], [`outcome`], [`pipeline`] |
//! | the int8 engine alone, on anybody's QDQ network | [`engine::int8`] |
//! | the dialogue with a PLC | [`handshake`], [`plc_link`], [`telegram`], [`modbus`] |
//! | channels, or your own [`sink::Sink`] | [`sink`] |
//! | models: reading, verifying, keeping, changing while parts go on | [`bundle`], [`proof`], [`store`], [`trial`] |
//! | a whole station from one file | [`config`], [`station`], [`record`], [`watchdog`] |
//! | pictures for people, and the page in a browser | [`overlay`], [`window`], `page` |
//!
//! Three examples are programs of their own, in tests/examples: `judge_picture`, `own_camera` and `own_network`.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `v4l2` (default) | cameras of the kernel |
//! | `page` (default) | the page: a server for browsers |
//! | `tensorrt` (default) | TensorRT on a Jetson, through a shim that is opened at run time |
//! | `tract` (default) | float networks, and int8 ones in float for comparison; half of the program |
//! | `board` | what runs on boards: all but tract |
//! | `rpi` | GPIO and hardware PWM of a Raspberry Pi through memory-mapped registers; its library is no longer kept up |
//!
//! The modules are listed in the order of the flow, and each imports only from those above it. ARCHITECTURE.md has the
//! rules, and why.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod clock;

mod spelling;

mod durable;

mod priority;

pub mod chip;

pub mod resize;

pub mod camera;

pub mod preprocess;

pub mod locate;

pub mod engine;

pub mod mask;

pub mod zone;

pub mod verdict;

pub mod vote;

pub mod drift;

pub mod signal;

pub mod outcome;

pub mod watchdog;

pub mod handshake;

pub mod plc_link;

pub mod window;

pub mod trigger;

pub mod telegram;

pub mod modbus;

pub mod sink;

pub mod bundle;

pub mod store;

pub mod trial;

pub mod pipeline;

pub mod overlay;

pub mod proof;

pub mod record;

#[cfg(feature = "page")]
pub mod page;

pub mod station;

pub mod config;

#[doc(hidden)] // the program, not the library
pub mod cli;
