//! On a serial line: silence, units, damage, pieces, echoes, and a cable that is cut.

use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fcam::telegram::crc16;
use serial2::SerialPort;

use super::station::Station;

/// The master's end of a line.
struct Master {
    port: SerialPort,
    path: PathBuf,
    _other: SerialPort,
}

/// Longer than any silence within a frame that is put together.
const SILENCE: Duration = Duration::from_millis(60);

fn frame(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = [&[unit], pdu].concat();
    let crc = crc16(&frame);
    frame.extend_from_slice(&crc.to_le_bytes());
    frame
}

impl Master {
    fn new() -> Self {
        let (mut port, other) = SerialPort::pair().unwrap();
        port.set_read_timeout(Duration::from_millis(5)).unwrap();
        let path = std::fs::read_link(format!("/proc/self/fd/{}", other.as_raw_fd())).unwrap();
        Self { port, path, _other: other }
    }

    fn send(&self, bytes: &[u8]) {
        self.port.write_all(bytes).unwrap();
    }

    /// What comes until it has been silent for a while.
    fn hear(&self) -> Vec<u8> {
        let (mut heard, mut room, mut last) = (vec![], [0; 512], Instant::now());
        while last.elapsed() < SILENCE * 3 {
            if let Ok(count) = self.port.read(&mut room) {
                heard.extend_from_slice(&room[..count]);
                last = Instant::now();
            }
        }
        heard
    }

    fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.hear()
    }
}

#[test]
fn its_own_unit_is_answered_and_no_other() {
    let master = Master::new();
    let station = Station::on_line(&master.path, 115_200);
    let answer = master.ask(&frame(7, &[4, 0, 0, 0, 20]));
    assert_eq!((answer.len(), &answer[..3], crc16(&answer)), (45, &[7, 4, 40][..], 0));
    assert_eq!(master.ask(&frame(8, &[4, 0, 0, 0, 20])), [0; 0]);
    assert_eq!(master.ask(&frame(7, &[6, 0, 4, 0, 9])), frame(7, &[6, 0, 4, 0, 9]));
    assert_eq!(master.ask(&frame(7, &[2, 0, 0, 0, 1])), frame(7, &[0x82, 1]));
    assert_eq!(master.ask(&frame(7, &[43, 14, 4, 0])), frame(7, b"\x2b\x0e\x04\x82\0\0\x01\0\x04fcam"));
    // A broadcast is done in silence; one that asks is nothing.
    assert_eq!(master.ask(&frame(0, &[16, 0, 0, 0, 4, 8, 0, 3, 0, 0, 0, 0, 0, 5])), [0; 0]);
    assert_eq!(station.ticket().unwrap().part_id, 5);
    assert_eq!(master.ask(&frame(0, &[4, 0, 0, 0, 1])), [0; 0]);
    assert_eq!(master.ask(&frame(7, &[3, 0, 0, 0, 4])), frame(7, &[3, 8, 0, 3, 0, 0, 0, 0, 0, 5]));
}

#[test]
fn damage_is_dropped_and_the_next_frame_is_answered() {
    let master = Master::new();
    let _station = Station::on_line(&master.path, 9600);
    let good = frame(7, &[4, 0, 0, 0, 1]);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert_eq!(master.ask(&bad), [0; 0], "byte {at}");
    }
    for garbage in [&[0xff; 3][..], &[7], &[7, 4, 0], &[0x55; 700], &good[1..]] {
        assert_eq!(master.ask(garbage), [0; 0], "{garbage:02x?}");
    }
    // Two frames without a silence between them are none.
    assert_eq!(master.ask(&[&good[..], &good[..]].concat()), [0; 0]);
    assert_eq!(master.ask(&good).len(), 7);
}

/// As USB adapters deliver them.
#[test]
fn a_request_in_pieces_is_put_together() {
    let master = Master::new();
    let _station = Station::on_line(&master.path, 115_200);
    for request in [&[4, 0, 0, 0, 1][..], &[16, 0, 1, 0, 2, 4, 0, 0, 0, 0], &[43, 14, 4, 0]] {
        for piece in frame(7, request).chunks(4) {
            master.send(piece);
            std::thread::sleep(Duration::from_millis(6));
        }
        assert_eq!(master.hear()[..2], [7, request[0]]);
    }
}

/// The answer to a write of one register is its request again.
#[test]
fn its_own_echo_is_not_answered() {
    let master = Master::new();
    let _station = Station::on_line(&master.path, 1200);
    let write = frame(7, &[6, 0, 5, 0, 1]);
    master.send(&write);
    let start = Instant::now();
    let mut heard = vec![];
    let mut room = [0; 64];
    while heard.len() < write.len() {
        let came = master.port.read(&mut room).unwrap_or(0);
        heard.extend_from_slice(&room[..came]);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(master.ask(&heard), [0; 0], "an echo");
    assert_eq!(master.ask(&write), write, "the same again, later");
}

#[test]
fn a_device_that_comes_back_is_opened_again() {
    use fcam::sink::Sink;
    let dir = tempfile::tempdir().unwrap();
    let stable = dir.path().join("line");
    let first = Master::new();
    std::os::unix::fs::symlink(&first.path, &stable).unwrap();
    let mut station = Station::on_line(&stable, 19_200);
    let read = frame(7, &[4, 0, 0, 0, 1]);
    assert_eq!(first.ask(&read).len(), 7);
    std::fs::remove_file(&stable).unwrap();
    drop(first);
    std::thread::sleep(Duration::from_millis(300));
    let outcome = super::station::outcome(1);
    assert!(station.sink.apply(&outcome).is_err(), "nobody is told, and the station knows");
    let second = Master::new();
    std::os::unix::fs::symlink(&second.path, &stable).unwrap();
    std::thread::sleep(Duration::from_millis(800));
    assert!(station.sink.apply(&outcome).is_ok());
    assert_eq!(second.ask(&read).len(), 7);
}

/// Not before the silence that ends the request, which the line's other units listen for too.
#[test]
fn an_answer_comes_after_the_silence() {
    let master = Master::new();
    let _station = Station::on_line(&master.path, 115_200);
    let request = frame(7, &[4, 0, 0, 0, 20]);
    let mut times: Vec<Duration> = (0..300).map(|_| first_byte(&master, &request)).collect();
    times.sort();
    let (shortest, [p50, p99]) = (times[0], [150, 297].map(|at| times[at]));
    println!(
        "request's last byte to answer's first, 115200 baud: {shortest:.2?} at least, p50 {p50:.2?}, p99 {p99:.2?}"
    );
    assert!(shortest >= Duration::from_micros(1750), "{shortest:?}");
    assert!(p50 < Duration::from_millis(20), "{p50:?}");
}

/// From a request to the first byte of its answer; the rest is taken too.
fn first_byte(master: &Master, request: &[u8]) -> Duration {
    let (start, mut room, mut heard, mut first) = (Instant::now(), [0; 64], 0, None);
    master.send(request);
    while heard < 45 {
        heard += master.port.read(&mut room).unwrap_or(0);
        if heard > 0 {
            first.get_or_insert(start.elapsed());
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{heard} bytes");
    }
    first.unwrap()
}
