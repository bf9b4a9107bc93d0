//! What `fcam --version` says, for a report or a question: enough to know which program this is, and what it can do
//! here.

use std::sync::LazyLock;

use crate::engine::Isa;

const FEATURES: [(&str, bool); 5] = [
    ("page", cfg!(feature = "page")),
    ("rpi", cfg!(feature = "rpi")),
    ("tensorrt", cfg!(feature = "tensorrt")),
    ("tract", cfg!(feature = "tract")),
    ("v4l2", cfg!(feature = "v4l2")),
];

/// Version, commit where the build was told it (`FCAM_COMMIT`), target, features, and the int8 engine's kernels that
/// this CPU can execute, slowest first.
pub fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(text);
    &TEXT
}

fn text() -> String {
    let commit = option_env!("FCAM_COMMIT").filter(|commit| !commit.is_empty()).unwrap_or("not told");
    let features: Vec<&str> = FEATURES.iter().filter(|(_, built)| *built).map(|(name, _)| *name).collect();
    let kernels: Vec<&str> = Isa::ALL.into_iter().filter(|isa| isa.kernels().is_some()).map(Isa::name).collect();
    format!(
        "{}\ncommit: {commit}\ntarget: {}\nfeatures: {}\nkernels: {}",
        env!("CARGO_PKG_VERSION"),
        env!("FCAM_TARGET"),
        features.join(", "),
        kernels.join(", ")
    )
}
