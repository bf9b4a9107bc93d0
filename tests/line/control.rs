//! Whoever talks to the control socket badly holds neither the PLC's jobs nor the operator.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use fcam::clock;
use fcam::station::control::Request;

use crate::installed::{Installed, id};
use crate::swap::{ask, words};
use crate::trial::{Judging, STRICT, with_jobs};

/// Clients at once: more than are heard at a time.
const CLIENTS: usize = 40;

/// One byte after the other for as long as it is let; returns what it was told and after how long.
fn dribble(installed: &Installed, over: &AtomicBool) -> (String, Duration) {
    let mut stream = UnixStream::connect(installed.socket()).unwrap();
    let began = clock::now();
    while !over.load(Relaxed) && stream.write_all(b" ").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut said = String::new();
    let _ = stream.read_to_string(&mut said);
    (said, clock::now() - began)
}

#[test]
fn clients_that_dribble_hold_no_job_and_no_operator() {
    let (installed, shelf) = with_jobs(STRICT);
    let judging = Judging::new(shelf);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let dribbling: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| dribble(&installed, &over))).collect();
        std::thread::sleep(Duration::from_millis(200)); // some of them are being heard
        for job in [2, 1, 2, 1] {
            judging.change_job(job);
        }
        let silent: Vec<UnixStream> = (0..4).map(|_| UnixStream::connect(installed.socket()).unwrap()).collect();
        assert_eq!(words(&ask(&installed, &Request::Activate(id("tiny.1")))), ["passed"]);
        drop(silent);
        for client in dribbling {
            let (said, after) = client.join().unwrap();
            assert!(said.contains("not whole after 1s"), "{said}");
            assert!(after < Duration::from_secs(30), "held for {after:?}");
        }
        over.store(true, Relaxed);
    });
    judging.end();
}

#[test]
fn what_is_no_request_is_refused_in_words() {
    let installed = Installed::new();
    let judging = Judging::new(installed.shelf(STRICT));
    let endless = [b'x'; 5000];
    for (sent, why) in
        [(&b"hello\n"[..], "cannot be read"), (&endless, "longer than 4096 bytes"), (b"\n", "cannot be read")]
    {
        let mut stream = UnixStream::connect(installed.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = stream.write_all(sent); // it may be turned away in the middle
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        assert!(said.contains("refused") && said.contains(why), "{said}");
    }
    judging.end();
}
