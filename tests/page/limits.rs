//! What nobody gets from the page, however they ask, and what the station does meanwhile: it judges.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::http::{self, JSON};
use super::running::Running;
use crate::random::Random;

#[test]
fn what_is_too_large_is_refused() {
    let station = Running::start();
    let large = format!("{{\"user\":\"{}\",\"password\":\"\"}}", "x".repeat(5000));
    assert_eq!(http::post(station.address, "/api/login", "", JSON, &large).status, 413);
    let chunked = format!(
        "POST /api/login HTTP/1.1\r\nHost: x\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n1388\r\n{}\r\n0\r\n\r\n",
        "x".repeat(5000)
    );
    assert_eq!(http::raw(station.address, chunked.as_bytes()).unwrap().status, 413);
    let header = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "x".repeat(1 << 20));
    assert!(http::raw(station.address, header.as_bytes()).is_none_or(|answer| answer.status == 431));
    let many = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: 1\r\n".repeat(200));
    assert!(http::raw(station.address, many.as_bytes()).is_none_or(|answer| answer.status == 431));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1 << 20));
    assert!(http::raw(station.address, long.as_bytes()).is_none_or(|answer| matches!(answer.status, 414 | 431)));
    for bytes in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}hello\r\n\r\n"] {
        assert!(http::raw(station.address, bytes.as_bytes()).is_none_or(|answer| answer.status == 400), "{bytes:?}");
    }
    for body in
        ["", "{}", "[]", "null", "{\"user\":1,\"password\":2}", "{\"user\":\"a\",\"password\":\"b\",\"role\":\"c\"}"]
    {
        assert_eq!(http::post(station.address, "/api/login", "", JSON, body).status, 400, "{body}");
    }
    assert_eq!(station.get("/healthz", "").status, 200);
    station.end();
}

/// How long a connection stays open that begins like this and then says nothing.
fn until_cut(station: &Running, bytes: &[u8]) -> (Duration, String) {
    let mut stream = http::connect(station.address);
    stream.write_all(bytes).unwrap();
    let start = Instant::now();
    let mut rest = vec![];
    let _ = stream.read_to_end(&mut rest);
    (start.elapsed(), String::from_utf8_lossy(&rest).into_owned())
}

#[test]
fn who_is_slow_is_cut() {
    let station = Running::start();
    let before = station.parts();
    let begun = format!("POST /api/login HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: 100\r\n\r\n{{");
    let cases: [&[u8]; 4] = [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", begun.as_bytes()];
    let results = std::thread::scope(|scope| {
        let cut = cases.map(|bytes| scope.spawn(|| until_cut(&station, bytes)));
        cut.map(|thread| thread.join().unwrap())
    });
    for (bytes, (open, answer)) in cases.iter().zip(&results) {
        let case = String::from_utf8_lossy(bytes);
        assert!((3..15).contains(&open.as_secs()), "{case:?} was open for {open:?}: {answer}");
    }
    assert!(results[2].1.starts_with("HTTP/1.1 200"), "an answer is given before");
    assert!(results[3].1.starts_with("HTTP/1.1 408"), "{}", results[3].1);
    assert!(station.parts() > before + 50, "parts went on");
    station.end();
}

#[test]
fn a_thousand_connections_are_not_served_and_change_nothing() {
    let station = Running::start();
    let before = station.parts();
    let held: Vec<TcpStream> = (0..1000).filter_map(|_| TcpStream::connect(station.address).ok()).collect();
    assert!(held.len() > 500, "{}", held.len());
    let open = std::fs::read_dir(format!("/proc/{}/fd", station.process())).unwrap().count();
    assert!(open < 150, "the station has {open} files open");
    station.wait_for(before + 20);
    drop(held);
    // The places come back when the connections go.
    let start = Instant::now();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", station.address);
    while http::raw(station.address, request.as_bytes()).is_none_or(|answer| answer.status != 200) {
        assert!(start.elapsed() < Duration::from_secs(20), "the page does not come back: {}", station.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    station.end();
}

#[test]
fn its_threads_have_the_lowest_priority_and_no_others_have() {
    let station = Running::start();
    station.cookie("see"); // a thread for its password
    let tasks = std::fs::read_dir(format!("/proc/{}/task", station.process())).unwrap();
    let mut low = vec![];
    for task in tasks {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
        let nice: i32 = rest.split_whitespace().nth(16).unwrap().parse().unwrap();
        assert_eq!(nice == 19, name.starts_with("page"), "{name} has {nice}");
        low.extend((nice == 19).then(|| name.to_owned()));
    }
    low.sort();
    low.dedup();
    assert_eq!(low, ["page", "page-books", "page-work"]);
    station.end();
}

/// Requests that are cut, doubled and changed at random. FCAM_FUZZ_SECONDS says for how long.
#[test]
fn mutated_requests_change_nothing() {
    let seconds = std::env::var("FCAM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let station = Running::start();
    let cookie = station.cookie("see");
    let host = station.address;
    let seeds = [
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n"),
        format!("GET /api/picture?part=7 HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n"),
        format!(
            "POST /api/login HTTP/1.1\r\nHost: {host}\r\n{JSON}Content-Length: 30\r\n\r\n{{\"user\":\"x\",\"password\":\"y\"}}"
        ),
        format!(
            "POST /api/logout HTTP/1.1\r\nHost: {host}\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
        ),
    ];
    let (start, mut random, mut answered) = (Instant::now(), Random(7), 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        let mut bytes = seeds[random.below(4)].clone().into_bytes();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.below(256) as u8,
                1 => bytes.truncate(at + 1),
                2 => bytes.extend_from_within(at..),
                _ => bytes.insert(at, b"\r\n:;%=\0 "[random.below(8)]),
            }
        }
        let mut stream = http::connect(host);
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let _ = stream.write_all(&bytes); // it may hang up before all is sent
        answered += u32::from(http::answer(stream).is_some());
    }
    assert!(answered > 5, "{answered}");
    assert_eq!(station.get("/healthz", "").status, 200);
    station.end();
}
