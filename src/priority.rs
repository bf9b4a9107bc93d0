//! The priority of threads that may be late: what they do is done when nobody else wants the processor.

/// The lowest priority that a thread can have (setpriority(2)).
const LOWEST: i32 = 19;

/// This thread, and those that it starts, have the lowest priority from now on.
pub fn lower(name: &str) {
    if let Err(error) = rustix::process::setpriority_process(None, LOWEST) {
        log::debug!("{name} has the usual priority: {error}");
    }
}
