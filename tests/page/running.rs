//! A station with a page, that of the program.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fcam::page::users::{Role, Users};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::http;
use crate::common;

pub const PASSWORD: &str = "correct horse";

/// A station that judges fifty parts a second, of which each has its verdict in JSON.
pub struct Running {
    pub address: SocketAddr,
    pub dir: TempDir,
    child: Child,
}

impl Running {
    /// With the users `see` and `admin`.
    pub fn start() -> Self {
        Self::with("", "127.0.0.1")
    }

    /// `more` is more of the station file, from [page] on.
    pub fn with(more: &str, ip: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut users = Users::default();
        users.set("see", Role::See, PASSWORD).unwrap();
        users.set("admin", Role::Administer, PASSWORD).unwrap();
        std::fs::create_dir(dir.path().join("page")).unwrap();
        users.save(&dir.path().join("page")).unwrap();
        let address = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
        let text = format!(
            "[bundle]\npath = {:?}\n[camera]\nkind = \"pattern\"\nfps = 50\nwidth = 320\nheight = 240\n\
             [trigger]\nmode = \"every-frame\"\nqueue = 256\n[page]\nlisten = \"{address}\"\ndir = \"page\"\n{more}",
            common::tiny()
        );
        std::fs::write(dir.path().join("station.toml"), text).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fcam"));
        command.args(["run", "--config", "station.toml", "--json", "out.jsonl"]);
        let child = command.current_dir(dir.path()).env("RUST_LOG", "info").stdout(Stdio::null()).stderr(log);
        let running = Self { address, child: child.spawn().unwrap(), dir };
        running.wait_for(1);
        running
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    pub fn parts(&self) -> usize {
        std::fs::read_to_string(self.path("out.jsonl")).unwrap_or_default().matches('\n').count()
    }

    /// Waits until so many parts were told.
    pub fn wait_for(&self, parts: usize) {
        let start = Instant::now();
        while self.parts() < parts {
            assert!(start.elapsed() < Duration::from_secs(60), "no parts: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The cookie of a user who has logged in.
    pub fn cookie(&self, user: &str) -> String {
        let answer = http::log_in(self.address, user, PASSWORD);
        assert_eq!(answer.status, 204, "{}", answer.text());
        answer.cookie().unwrap()
    }

    pub fn get(&self, path: &str, cookie: &str) -> http::Answer {
        http::get(self.address, path, cookie)
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Parts came all the time, each was judged, and the station ends well.
    pub fn end(mut self) -> Self {
        self.wait_for(self.parts() + 10);
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let start = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(start.elapsed() < Duration::from_secs(20), "the station hangs: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        };
        let log = self.log();
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("panicked") && !log.contains("stands still"), "{log}");
        let text = std::fs::read_to_string(self.path("out.jsonl")).unwrap();
        for (index, line) in text.lines().enumerate() {
            let part: Value = serde_json::from_str(line).unwrap();
            assert_eq!(part["sequence"], index, "{line}");
            assert!(part["verdict"] == "pass" || part["verdict"]["reject"].is_object(), "{line}");
        }
        self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
