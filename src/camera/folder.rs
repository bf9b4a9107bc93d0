//! folder

/// folder
#[derive(Debug)]
pub struct Folder;
