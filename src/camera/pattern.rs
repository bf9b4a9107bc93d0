//! pattern

/// pattern
#[derive(Debug)]
pub struct Pattern;
