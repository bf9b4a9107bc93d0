//! In: a bundle's directory. Out: its files in memory, by path inside the bundle, with `/` between the parts.
//!
//! It follows no symlink, opens nothing but regular files, and reads nothing before it has seen that all of it is small
//! enough.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::{MAX_TOTAL, size_problems};

/// Entries looked at in one bundle: the walk ends on any tree.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// What a directory holds; no files when they could not be read or are too large.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub files: BTreeMap<String, Vec<u8>>,
    pub problems: Vec<String>,
}

pub(super) fn read(root: &Path) -> Contents {
    let mut listing = Listing::default();
    listing.walk(root);
    let Listing { sizes, mut problems, .. } = listing;
    if sizes.is_empty() && problems.is_empty() {
        problems.push("the directory is empty".into());
    }
    let too_large = size_problems(sizes.iter().map(|(path, size)| (path.as_str(), *size)));
    if !too_large.is_empty() {
        problems.extend(too_large);
        return Contents { problems, ..Contents::default() };
    }
    let mut files = BTreeMap::new();
    for (path, size) in sizes {
        match read_file(&root.join(&path), size) {
            Ok(bytes) => drop(files.insert(path, bytes)),
            Err(error) => problems.push(format!("cannot read {path}: {error}")),
        }
    }
    Contents { files, problems }
}

/// One byte more than was announced is enough to see that the file has grown, and its hash will differ.
fn read_file(path: &Path, size: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(size.min(MAX_TOTAL) + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[derive(Debug, Default)]
struct Listing {
    sizes: BTreeMap<String, u64>,
    problems: Vec<String>,
    entries: usize,
}

impl Listing {
    fn walk(&mut self, root: &Path) {
        let mut waiting = vec![String::new()];
        while let Some(prefix) = waiting.pop() {
            match fs::read_dir(root.join(&prefix)) {
                Ok(entries) => self.list(&prefix, entries, &mut waiting),
                Err(error) if prefix.is_empty() => {
                    self.problems.push(format!("cannot read {}: {error}", root.display()))
                }
                Err(error) => self.problems.push(format!("cannot read {}: {error}", root.join(&prefix).display())),
            }
        }
    }

    fn list(&mut self, prefix: &str, entries: fs::ReadDir, waiting: &mut Vec<String>) {
        for entry in entries {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                self.problems.push(format!("there are more than {MAX_ENTRIES} files: is this a bundle?"));
                return waiting.clear();
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.problems.push(format!("cannot list {prefix}: {error}")),
            };
            let Ok(name) = entry.file_name().into_string() else {
                self.problems.push(format!("{prefix}{} is not UTF-8", entry.file_name().display()));
                continue;
            };
            let path = format!("{prefix}{name}");
            // The metadata of an entry does not follow symlinks.
            match entry.metadata() {
                Ok(found) if found.is_dir() => waiting.push(path + "/"),
                Ok(found) if found.is_file() => drop(self.sizes.insert(path, found.len())),
                Ok(found) if found.is_symlink() => {
                    self.problems.push(format!("{path} is a symlink: copy the file itself"))
                }
                Ok(_) => self.problems.push(format!("{path} is not a regular file")),
                Err(error) => self.problems.push(format!("cannot look at {path}: {error}")),
            }
        }
    }
}
