//! Most of the black-box tests in one program: each program of tests links all of fcam. A file here is a test of its
//! subject; what must be alone, for its allocator, its timing or the sanitizers, is a program of its own in Cargo.toml.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod board;
mod bundle;
mod camera;
mod common;
mod drift;
mod examples;
mod faults;
mod fuzz_line;
mod fuzz_modbus;
mod gpio;
mod handshake;
mod jpeg;
#[path = "common/jpeg.rs"]
mod libjpeg;
mod locate;
mod mask;
mod mjpeg_speed;
mod modbus;
#[path = "common/outcome.rs"]
mod outcome;
#[cfg(feature = "page")]
mod page;
mod parcel;
mod plc;
mod preprocess;
mod program;
#[path = "common/random.rs"]
mod random;
#[path = "common/release.rs"]
mod release;
mod replay;
mod serial;
#[path = "common/skip.rs"]
mod skip;
mod station;
mod store;
mod telegram;
mod tensorrt;
mod tiles;
mod trial;
mod vote;
mod zone;
