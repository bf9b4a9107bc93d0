//! The program before any verb: which one it is, and what to do with it.

use crate::common;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn version_says_what_was_built_and_what_this_cpu_can_do() {
    let output = common::fcam(&["--version"]);
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert!(output.status.success());
    assert_eq!(lines[0], concat!("fcam ", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].starts_with("commit: "), "{said}");
    assert!(lines[2].starts_with("target: ") && lines[2].contains(std::env::consts::ARCH), "{said}");
    assert_eq!(lines[3].contains("tract"), cfg!(feature = "tract"), "{said}");
    assert!(lines[4].starts_with("kernels: portable"), "{said}");
    assert_eq!(text(&common::fcam(&["-V"]).stdout).trim(), lines[0]);
}

#[test]
fn alone_it_says_what_to_do_first() {
    let output = common::fcam(&[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    for step in
        ["First steps:", "fcam replay  ", "--out DIR", "fcam check STATION.toml", "fcam run --config STATION.toml"]
    {
        assert!(said.contains(step), "{step}: {said}");
    }
}
