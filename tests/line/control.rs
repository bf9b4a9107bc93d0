//! Whoever talks to the control socket badly holds neither the PLC's jobs nor the operator; and whatever holds a change
//! of bundles holds no part.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use fcam::camera::{Camera, Error, Frame, Geometry, PixelFormat};
use fcam::clock::{self, Timestamp};
use fcam::handshake;
use fcam::plc_link::PlcLink;
use fcam::station::control::{Client, Reply, Request};
use rustix::fs::{FlockOperation, flock};

use crate::conveyor::Fire;
use crate::installed::{Installed, id};
use crate::swap::{ask, words};
use crate::trial::{Judging, STRICT, with_jobs};
use crate::{FIRED, QUEUE, start, station};

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
    let (installed, releases) = with_jobs(STRICT);
    let judging = Judging::new(releases);
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
    let judging = Judging::new(installed.releases(STRICT));
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

/// A sensor whose pictures have another size each time: the inspect thread has something to say of each part.
struct Restless {
    fired: Receiver<Fire>,
    bytes: Vec<u8>,
    pictures: u64,
}

impl Camera for Restless {
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, Error> {
        let fire = self.fired.recv_timeout(deadline.saturating_sub(clock::now())).map_err(|error| match error {
            std::sync::mpsc::RecvTimeoutError::Disconnected => Error::Ended,
            std::sync::mpsc::RecvTimeoutError::Timeout => {
                Error::Timeout { camera: self.describe(), waited: Duration::ZERO }
            }
        })?;
        self.pictures += 1;
        let side = if self.pictures.is_multiple_of(2) { 64 } else { 80 };
        let geometry = Geometry::packed(side, side, PixelFormat::Rgb8).unwrap();
        self.bytes.resize(geometry.frame_bytes(), 200);
        Frame::new(self.pictures, fire.at + Duration::from_micros(300), geometry, &self.bytes)
    }

    fn describe(&self) -> String {
        "a restless sensor".into()
    }
}

/// Another program holds the store's lock, so that a bundle that is proven cannot be written down.
#[test]
fn a_change_that_is_held_holds_no_part() {
    let installed = Installed::new();
    let plc_link = PlcLink::new(handshake::HandshakeOptions { external: true, queue: QUEUE, ..Default::default() });
    let (fire, fired) = channel();
    let camera = Restless { fired, bytes: vec![], pictures: 0 };
    let (mut station, told) = station(Box::new(camera), FIRED, None, &plc_link);
    station.options.signaller.delay = Duration::ZERO;
    station.releases = Some(installed.releases(STRICT));
    let running = start(station, &plc_link);
    let folder = std::fs::File::open(installed.store.dir()).unwrap();
    flock(&folder, FlockOperation::LockExclusive).unwrap();
    let mut client = Client::connect(&installed.socket()).unwrap().unwrap();
    client.ask(&Request::Activate(id("tiny.2"))).unwrap();
    for part in 0..300 {
        let ticket = plc_link.trigger(clock::now(), part).unwrap();
        if ticket.taken {
            fire.send(Fire { at: ticket.at, good: true, trouble: None }).unwrap();
        }
        told.recv_timeout(Duration::from_secs(5)).expect("each trigger ends in one result");
    }
    assert_eq!(client.next(Duration::from_secs(5)).unwrap(), Some(Reply::Proving { bundle: id("tiny.2") }));
    assert_eq!(client.next(Duration::from_millis(1)).unwrap(), None, "it is held");
    drop(folder);
    let said = client.next(Duration::from_secs(60)).unwrap();
    assert_eq!(said, Some(Reply::Running { bundle: id("tiny.2"), watched: STRICT.parts }));
    drop(fire);
    let report = running.join().unwrap();
    assert!(report.counts.balanced() && report.panicked.is_empty(), "{report}");
}
