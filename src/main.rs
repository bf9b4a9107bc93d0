//! The `fcam` program; see `fcam help`.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts allocations (two atomic adds each), so that `fcam bench` can say how many a frame costs: in steady state only
/// those of the engine.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> std::process::ExitCode {
    fcam::cli::main()
}
