//! `fcam page`: users from the command line, and a page that cannot start.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fcam::page::users::{Role, Users};

fn fcam(dir: &Path, args: &[&str], typed: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fcam"));
    command.args(args).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn users_are_made_listed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("station.toml"), "[page]\ndir = \"page\"").unwrap();
    let run = |args: &[&str], typed: &str| {
        said(&fcam(dir.path(), &[&["page"], args, &["--config", "station.toml"]].concat(), typed))
    };
    let made = run(&["user", "anna", "--role", "setup"], "correct horse\n");
    assert_eq!(made, (Some(0), "anna may setup\n".into()));
    std::fs::write(dir.path().join("password"), "battery staple\n").unwrap();
    assert_eq!(run(&["user", "bert", "--password-file", "password"], "").0, Some(0));
    assert_eq!(run(&["users"], ""), (Some(0), "anna\tsetup\nbert\tsee\n".into()));
    let users = Users::load(&dir.path().join("page")).unwrap();
    assert_eq!(users.check("bert", "battery staple").map(|user| user.role), Some(Role::See));
    assert_eq!(run(&["remove", "bert"], "").0, Some(0));
    assert_eq!(run(&["users"], "").1, "anna\tsetup\n");

    for (args, typed, word) in [
        (&["remove", "bert"][..], "", "fcam page users"),
        (&["user", "carl"], "short\n", "10 to 128"),
        (&["user", "a/b"], "correct horse\n", "letters, digits"),
        (&["user", "carl", "--password-file", "none"], "", "none"),
    ] {
        let (code, text) = run(args, typed);
        assert!(code == Some(2) && text.contains(word), "{args:?}: {text}");
    }
    let (code, text) = run(&["user", "carl", "--role", "king"], "");
    assert!(code == Some(2) && text.contains("see, label, setup and administer"), "{text}");
    let (code, text) = said(&fcam(dir.path(), &["page", "users", "--config", "none.toml"], ""));
    assert!(code == Some(2) && text.contains("--dir"), "{text}");
}

#[test]
fn a_page_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let at = |more: &str| format!("[page]\nlisten = \"{address}\"\ndir = \"page\"\n{more}");
    std::fs::write(dir.path().join("file"), "").unwrap();
    for (text, word) in [
        (at(""), "does another program serve there?"),
        ("[page]\nlisten = \"8080\"".into(), "no address with a port"),
        (at("certificate = \"mine.pem\""), "go together"),
        (at("certificate = \"mine.pem\"\nkey = \"mine.key\""), "mine.pem"),
        ("[page]\nlisten = \"127.0.0.1:0\"\ndir = \"file\"".into(), "page.dir"),
        ("[page]\nlisten = \"127.0.0.1:0\"\ndir = \"\"".into(), "page.dir is empty"),
        ("[page]\nlisen = \"127.0.0.1:0\"".into(), "did you mean `listen`"),
    ] {
        std::fs::write(dir.path().join("station.toml"), &text).unwrap();
        let (code, said) = said(&fcam(dir.path(), &["run", "--config", "station.toml", "--frames", "1"], ""));
        assert!(code == Some(2) && said.contains(word), "{text}: {said}");
    }
}
