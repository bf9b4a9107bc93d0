//! Five who look at a page in this process: one never reads, one asks for everything, the others show each picture.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use fcam::page::users::{Role, Users};
use fcam::page::{Page, PageOptions};
use fcam::plc_link::PlcLink;
use fcam::window::{Window, window};

use super::http;

const PASSWORD: &str = "correct horse";

/// The user that viewers log in as.
pub fn make_user(dir: &Path) {
    let mut users = Users::default();
    users.set("anna", Role::See, PASSWORD).unwrap();
    users.save(dir).unwrap();
}

/// A page in this folder, with its window.
pub fn page(dir: &Path, plc_link: &PlcLink) -> (Page, Window, SocketAddr) {
    make_user(dir);
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (window, viewer) = window();
    let options = PageOptions {
        listen,
        dir: dir.into(),
        certificate: None,
        scrapers: vec![],
        layout: Default::default(),
        zones: 8,
        camera: "a simulated sensor".into(),
    };
    (Page::start(options, plc_link, viewer).unwrap(), window, listen)
}

/// They look until they are told to stop. They stand for other machines: their threads have the lowest priority.
pub struct Viewers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Viewers {
    pub fn look(address: SocketAddr) -> Self {
        let answer = http::log_in(address, "anna", PASSWORD);
        assert_eq!(answer.status, 204, "{}", answer.text());
        let cookie = answer.cookie().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let kinds: [fn(SocketAddr, &str, &AtomicBool) -> u64; 5] = [sleep, ask, show, show, show];
        let start = |kind: fn(SocketAddr, &str, &AtomicBool) -> u64| {
            let (cookie, stop) = (cookie.clone(), stop.clone());
            std::thread::spawn(move || {
                rustix::process::setpriority_process(None, 19).unwrap();
                kind(address, &cookie, &stop)
            })
        };
        Self { threads: kinds.map(start).into(), stop }
    }

    /// The pictures that were shown.
    pub fn end(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

fn open(address: SocketAddr, cookie: &str) -> std::net::TcpStream {
    let mut stream = http::connect(address);
    write!(stream, "GET /api/live HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\n\r\n").unwrap();
    stream
}

/// At the end the station may be gone before its viewers.
fn get(address: SocketAddr, path: &str, cookie: &str) -> Option<http::Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
    http::raw(address, request.as_bytes())
}

fn sleep(address: SocketAddr, cookie: &str, stop: &AtomicBool) -> u64 {
    let _stream = open(address, cookie);
    while !stop.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
    0
}

fn ask(address: SocketAddr, cookie: &str, stop: &AtomicBool) -> u64 {
    for path in ["/api/state", "/api/picture", "/metrics", "/", "/page.js", "/healthz"].iter().cycle() {
        if stop.load(Relaxed) {
            break;
        }
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
        let _ = http::raw(address, request.as_bytes());
        std::thread::sleep(Duration::from_millis(5));
    }
    0
}

fn show(address: SocketAddr, cookie: &str, stop: &AtomicBool) -> u64 {
    let stream = open(address, cookie);
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (mut events, mut line, mut shown) = (BufReader::new(stream), String::new(), 0);
    while !stop.load(Relaxed) {
        match events.read_line(&mut line) {
            Ok(0) => std::thread::sleep(Duration::from_millis(20)), // the station has ended
            Ok(_) => {}
            Err(_) => continue, // half a line stays
        }
        if line.starts_with("event: picture") {
            let picture = get(address, "/api/picture", cookie);
            shown += u64::from(picture.is_some_and(|picture| picture.status == 200));
        }
        line.clear();
    }
    shown
}
