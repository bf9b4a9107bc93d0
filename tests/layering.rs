//! Rule B: a module imports only from those above it in `src/lib.rs`, and no files import each other in a circle; and
//! tract is known in `src/engine` alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "layering/graph.rs"]
mod graph;
#[path = "layering/python.rs"]
mod python;
#[path = "layering/rust.rs"]
mod rust;

use std::fs;
use std::path::{Path, PathBuf};

use graph::Graph;

fn modules() -> Vec<String> {
    let lib = fs::read_to_string("src/lib.rs").unwrap();
    lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).map(String::from).collect()
}

/// The files below a folder with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path, ending)),
            false if path.extension().is_some_and(|extension| extension == ending) => found.push(path),
            false => {}
        }
    }
    found
}

/// The files below a folder by their place in it, with their text.
fn texts(folder: &str, ending: &str) -> Vec<(String, String)> {
    let place = |path: &Path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    files(Path::new(folder), ending).iter().map(|path| (place(path), fs::read_to_string(path).unwrap())).collect()
}

/// The imports among the files of `src`.
fn program() -> Graph {
    rust::graph(&texts("src", "rs"))
}

#[test]
fn modules_import_only_from_their_left() {
    let modules = modules();
    assert!(modules.len() > 10, "src/lib.rs lists the modules in the order of the flow");
    let position = |name: &str| modules.iter().position(|module| module == name);
    let mut wrong = vec![];
    for (from, to) in program().arrows() {
        let (Some(own), Some(import)) = (from.first(), to.first()) else { continue };
        let Some(own_position) = position(own) else {
            assert!(own == "main", "{own} is not listed in src/lib.rs");
            continue;
        };
        if position(import).is_some_and(|position| position > own_position) {
            wrong.push(format!("{} imports {import}, which is to its right", from.join("::")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_of_the_program_import_each_other_in_a_circle() {
    let graph = program();
    assert!(graph.arrows().count() > 300, "the imports are not read any more");
    let circles = graph.circles();
    assert!(
        circles.is_empty(),
        "move what one takes from the other to where both can have it:\n{}",
        circles.join("\n")
    );
}

#[test]
fn no_files_of_the_host_tool_import_each_other_in_a_circle() {
    let graph = python::graph(&texts("tools/fcam_tools", "py"));
    assert!(graph.arrows().count() > 100, "the imports are not read any more");
    let circles = graph.circles();
    assert!(
        circles.is_empty(),
        "move what one takes from the other to where both can have it:\n{}",
        circles.join("\n")
    );
}

#[test]
fn tract_is_known_in_the_engine_alone() {
    for path in files(Path::new("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            path.starts_with("src/engine") || !(text.contains("tract_onnx") || text.contains("tract_core")),
            "{} names tract: only src/engine may",
            path.display()
        );
    }
}

/// Two traits, `Camera` and `Sink`: a third needs two shipping implementations chosen at run time, and a word in
/// ARCHITECTURE.md.
#[test]
fn there_are_two_traits() {
    let mut traits = vec![];
    for path in files(Path::new("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        traits.extend(text.lines().filter(|line| line.trim_start().starts_with("pub trait ")).map(String::from));
    }
    assert_eq!(traits.len(), 2, "{traits:?}");
}

/// Cargo looks for no tests by itself (`autotests = false`): a file that neither Cargo.toml nor tests/suite.rs names
/// would never run.
#[test]
fn every_file_of_tests_is_run() {
    let (manifest, suite) = (fs::read_to_string("Cargo.toml").unwrap(), fs::read_to_string("tests/suite.rs").unwrap());
    for entry in fs::read_dir("tests").unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".rs")) else { continue };
        let known =
            suite.contains(&format!("\nmod {name};")) || manifest.contains(&format!("[[test]]\nname = \"{name}\""));
        assert!(known, "{} is in neither tests/suite.rs nor Cargo.toml", path.display());
    }
}
