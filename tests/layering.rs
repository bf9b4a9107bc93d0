//! Rule B: a module imports only from those above it in `src/lib.rs`; and tract is known in `src/engine` alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

fn modules() -> Vec<String> {
    let lib = fs::read_to_string("src/lib.rs").unwrap();
    lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).map(String::from).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(rust_files(&path)),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
    found
}

/// The top-level module that a file belongs to, by its path below `src`.
fn module_of(path: &Path) -> String {
    let first = path.strip_prefix("src").unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_string()
}

/// Every `crate::name` in code (comments and strings aside), groups like `crate::{a, b::c}` included.
fn imports(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut names = vec![];
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for character in group.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                    _ if depth == 0 => name.push(character),
                    _ => {}
                }
            }
            names.push(name);
        } else {
            names.push(rest.to_string());
        }
    }
    let word =
        |name: String| -> String { name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    names.into_iter().map(word).filter(|name| !name.is_empty()).collect()
}

#[test]
fn imports_are_read_in_every_form() {
    let text = "use crate::camera::Frame;\n// crate::hidden\nuse crate::{clock, mask::{Mask, Run}, verdict};\nlet x = crate::cli::main();";
    assert_eq!(imports(text), ["camera", "clock", "mask", "verdict", "cli"]);
}

#[test]
fn modules_import_only_from_their_left() {
    let modules = modules();
    assert!(modules.len() > 10, "src/lib.rs lists the modules in the order of the flow");
    let position = |name: &str| modules.iter().position(|module| module == name);
    let mut wrong = vec![];
    for path in rust_files(Path::new("src")) {
        let own = module_of(&path);
        let Some(own_position) = position(&own) else {
            assert!(own == "lib" || own == "main", "{} is not listed in src/lib.rs", path.display());
            continue;
        };
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            if position(&import).is_some_and(|position| position > own_position) {
                wrong.push(format!("{} imports {import}, which is to its right", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tract_is_known_in_the_engine_alone() {
    for path in rust_files(Path::new("src")) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            path.starts_with("src/engine") || !(text.contains("tract_onnx") || text.contains("tract_core")),
            "{} names tract: only src/engine may",
            path.display()
        );
    }
}

/// Two traits, `Camera` and `Sink`: a third needs two shipping implementations chosen at run time, and a word in ARCHITECTURE.md.
#[test]
fn there_are_two_traits() {
    let mut traits = vec![];
    for path in rust_files(Path::new("src")) {
        let text = fs::read_to_string(&path).unwrap();
        traits.extend(text.lines().filter(|line| line.trim_start().starts_with("pub trait ")).map(String::from));
    }
    assert_eq!(traits.len(), 2, "{traits:?}");
}
