//! fcam: an inspection camera in software.
//!
//! A frame goes in, a verdict and a full-resolution mask come out, and the line's PLC is told in time. The modules are
//! listed in the order of that flow, and each imports only from those above it (`tests/layering.rs` holds them to it):
//!
//! ```text
//! Camera ─Frame→ preprocess ─Tensor→ Engine ─Prediction→ mask ─Mask→ verdict ─Verdict→ outcome ─Outcome→ PlcLink, Sink
//!  edge            pure               may fail             pure        pure             pure               edge
//! ```
//!
//! [`pipeline::Pipeline::inspect`] is the middle of that line in one call; the station, replay, bench and the proof of a
//! bundle all go through it. ARCHITECTURE.md has the rules.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod clock;

pub mod spelling;

pub mod durable;

pub mod chip;

pub mod resize;

pub mod camera;

pub mod preprocess;

pub mod engine;

pub mod mask;

pub mod zone;

pub mod verdict;

pub mod vote;

pub mod signal;

pub mod outcome;

pub mod watchdog;

pub mod handshake;

pub mod plc_link;

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

pub mod station;

pub mod config;

pub mod cli;
