//! The program where there are no lines: what it says, and that it does not start as if there were.

use std::process::{Command, Output};

fn fcam(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fcam")).args(words).output().unwrap()
}

fn refused(words: &[&str], why: &str) {
    let output = fcam(words);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words:?}: {told}");
    assert!(told.contains(why), "{words:?}: {told}");
}

#[test]
fn without_a_chip_nothing_starts_that_needs_one() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let lines = "[gpio.lines]\nok = \"OK\"\nng = \"NG\"\nvalid = \"VALID\"\n[plc]\nsimulated = true\n";
    let (wired, bare) = (write("wired.toml", lines), write("bare.toml", ""));
    refused(&["io", "get"], "say which lines: --config FILE, or --chip CHIP --line LINE");
    refused(&["io", "set", "ok", "1", "--config", &bare], "names no GPIO lines");
    refused(&["io", "set", "ok", "1", "--for", "2h", "--config", &wired], "is no time from 1ms to 60s");
    refused(&["io", "set", "ok", "2", "--config", &wired], "2 is not in 0..=1");
    refused(&["io", "set", "1", "--line", "OK"], "--chip");
    if gpiocdev::chip::chips().is_ok_and(|chips| !chips.is_empty()) {
        return; // a machine with lines: what follows is for those without
    }
    for words in [
        &["io"][..],
        &["io", "list", "--json"],
        &["io", "get", "--config", &wired],
        &["io", "set", "ok", "1", "--config", &wired],
    ] {
        refused(words, "there is no GPIO chip here");
    }
    refused(&["run", "--config", &wired], "cannot start gpio: there is no GPIO chip here");
}
