//! A page in this process that panics when it is told to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::*;
use crate::outcome::Opened;
use crate::signal::Signaller;
use crate::verdict::Fault;
use crate::window::window;

static BREAK: AtomicBool = AtomicBool::new(false);

/// Panics if a test says so, once.
pub(super) fn sabotage() {
    assert!(!BREAK.swap(false, Relaxed), "as it is meant to");
}

fn ask(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

#[test]
fn a_panic_is_a_restart_of_the_page_and_of_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = PageOptions {
        listen,
        dir: dir.path().into(),
        certificate: None,
        scrapers: vec![],
        layout: Layout::default(),
        zones: 0,
        camera: String::new(),
    };
    let (plc_link, (station, viewer)) = (PlcLink::default(), window());
    let mut page = Page::start(options, &plc_link, viewer).unwrap();
    assert!(ask(listen).is_some_and(|answer| answer.contains("starting")));
    BREAK.store(true, Relaxed);
    let start = Instant::now();
    while BREAK.load(Relaxed) {
        assert!(start.elapsed() < Duration::from_secs(10), "it did not break");
        std::thread::sleep(Duration::from_millis(10));
    }
    let signaller = Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) };
    let outcome = Outcome::fault(Opened::default(), Fault::Frozen, &signaller, &Arc::default());
    assert!(page.apply(&outcome).is_ok() && station.room().is_none());
    while ask(listen).is_none() {
        assert!(start.elapsed() < Duration::from_secs(20), "it does not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(plc_link.watchdogs().hung(crate::clock::now()).is_empty());
    page.fail_safe();
    assert_eq!((page.untold(), ask(listen)), (0, None));
}
