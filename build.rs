//! Lists the files of models/default, which the program carries (src/bundle/embedded.rs), and tells it what it is built
//! for.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

const BUNDLE: &str = "models/default";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={BUNDLE}"); // and everything in it
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=FCAM_TARGET={}", env::var("TARGET").unwrap_or_default()); // for `fcam --version`
    println!("cargo::rustc-env=FCAM_PROFILE={}", env::var("PROFILE").unwrap_or_default()); // for `fcam bench`
    let mut files = vec![];
    list(&folder("CARGO_MANIFEST_DIR")?.join(BUNDLE), "", &mut files)?;
    files.sort();
    let entries = files.iter().map(|name| {
        format!("    ({name:?}, include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{BUNDLE}/{name}\"))),\n")
    });
    fs::write(folder("OUT_DIR")?.join("embedded.rs"), format!("&[\n{}]\n", entries.collect::<String>()))
}

/// A folder that cargo names.
fn folder(variable: &str) -> io::Result<PathBuf> {
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| io::Error::other(format!("{variable} is not set")))
}

/// Adds the files below `folder`, each with its name inside the bundle.
fn list(folder: &Path, prefix: &str, files: &mut Vec<String>) -> io::Result<()> {
    let failed = |error| io::Error::other(format!("cannot list {}: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().display());
        match entry.file_type()?.is_dir() {
            true => list(&entry.path(), &format!("{name}/"), files)?,
            false => files.push(name),
        }
    }
    Ok(())
}
