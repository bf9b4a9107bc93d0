//! The outputs' timing against a model that computes every part's interval at once, and the sink with its thread on
//! lines that remember.

#[allow(dead_code)]
#[path = "gpio/lines.rs"]
mod lines;
#[allow(dead_code)]
#[path = "gpio/program.rs"]
mod program;
#[path = "gpio/thread.rs"]
mod thread;
#[path = "gpio/timing.rs"]
mod timing;
