//! What the black-box tests share: the tiny bundle (made by `make_tiny.py`) and pictures that it passes and rejects.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fcam::bundle::Bundle;
use fcam::camera::{Geometry, PixelFormat};

/// The directory of the tiny bundle: 64 x 64 input, classes good and dark; dark pictures are rejects.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/tiny")
}

/// The tiny bundle, opened.
pub fn tiny_bundle() -> Bundle {
    Bundle::open(&tiny()).unwrap()
}

/// A copy of the tiny bundle to damage, at `into` (created).
pub fn copy_tiny(into: &Path) {
    for name in files(&tiny()) {
        let target = into.join(&name);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(tiny().join(&name), target).unwrap();
    }
}

/// The paths of all files under a directory, relative to it, sorted.
pub fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The program itself, run to its end.
pub fn fcam(args: &[&str]) -> Output {
    fcam_in(Path::new(env!("CARGO_MANIFEST_DIR")), args)
}

/// The program in another working directory.
pub fn fcam_in(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fcam")).current_dir(directory).args(args).output().unwrap()
}

/// The geometry of [`plain`] pictures.
pub fn geometry() -> Geometry {
    Geometry::packed(96, 80, PixelFormat::Rgb8).unwrap()
}

/// The bytes of an even RGB picture of [`geometry`]: the tiny bundle passes 200 and rejects 50, with the whole of it
/// drawn as the defect at 10.
pub fn plain(level: u8) -> Vec<u8> {
    vec![level; geometry().frame_bytes()]
}
