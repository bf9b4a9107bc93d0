//! The station: every captured part ends in exactly one verdict, in order, whatever happens around it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[path = "station/fake.rs"]
mod fake;
#[path = "station/frozen.rs"]
mod frozen;
#[path = "station/program.rs"]
mod program;
#[path = "common/skip.rs"]
mod skip;
#[path = "station/threads.rs"]
mod threads;
