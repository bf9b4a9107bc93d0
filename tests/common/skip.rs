//! A test that cannot run on this machine says so, and why.

use std::io::Write;

/// Where CI is set everything runs, so that this fails the test. Elsewhere the lane tells it at its end
/// (`tools/dev/lanes.sh`).
pub fn skip(what: &str) {
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!in_ci, "skipped, and in CI everything runs: {what}");
    println!("skipped: {what}");
    if let Some(list) = std::env::var_os("FCAM_NOT_RUN") {
        let list = std::fs::OpenOptions::new().append(true).create(true).open(list);
        list.and_then(|mut list| list.write_all(format!("{what}\n").as_bytes())).unwrap();
    }
}
