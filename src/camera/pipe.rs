//! pipe

/// pipe
#[derive(Debug)]
pub struct Pipe;
