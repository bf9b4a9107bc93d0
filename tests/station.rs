//! The station: every captured part ends in exactly one verdict, in order, whatever happens around it.

#[path = "station/fake.rs"]
mod fake;
#[path = "station/frozen.rs"]
mod frozen;
#[path = "station/program.rs"]
mod program;
#[path = "station/threads.rs"]
mod threads;
