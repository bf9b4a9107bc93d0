//! The default bundle, models/default, as it was when the program was built: it runs from anywhere, without a path.

use std::borrow::Cow;

/// What the embedded bundle is called where others have a path.
pub(super) const NAME: &str = "embedded";

/// Paths inside the bundle, and contents; build.rs lists them.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

pub(super) fn files() -> super::Contents {
    FILES.iter().map(|(path, bytes)| ((*path).to_owned(), Cow::Borrowed(*bytes))).collect()
}
