//! On TCP: garbage, pieces, hammering.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fcam::modbus::map;
use fcam::telegram::{crc32, runs};

use super::random::Random;
use super::station::{Station, address, mask, outcome, regions};

/// A master of a few lines.
struct Master(TcpStream, u16);

impl Master {
    fn new(station: &Station) -> Self {
        let stream = TcpStream::connect(station.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self(stream, 0)
    }

    fn frame(&mut self, pdu: &[u8]) -> Vec<u8> {
        self.1 = self.1.wrapping_add(1);
        let mut frame = self.1.to_be_bytes().to_vec();
        frame.extend_from_slice(&[0, 0]);
        frame.extend_from_slice(&(pdu.len() as u16 + 1).to_be_bytes());
        frame.push(255);
        frame.extend_from_slice(pdu);
        frame
    }

    fn answer(&mut self) -> (u16, Vec<u8>) {
        let mut header = [0; 7];
        self.0.read_exact(&mut header).unwrap();
        assert_eq!((&header[2..4], header[6]), (&[0, 0][..], 255));
        let mut pdu = vec![0; usize::from(u16::from_be_bytes([header[4], header[5]])) - 1];
        self.0.read_exact(&mut pdu).unwrap();
        (u16::from_be_bytes([header[0], header[1]]), pdu)
    }

    fn ask(&mut self, pdu: &[u8]) -> Vec<u8> {
        let frame = self.frame(pdu);
        self.0.write_all(&frame).unwrap();
        let (transaction, answer) = self.answer();
        assert_eq!(transaction, self.1);
        answer
    }

    fn read(&mut self, function: u8, address: u16, count: u16) -> Vec<u16> {
        let [a, b] = address.to_be_bytes();
        let answer = self.ask(&[function, a, b, 0, count as u8]);
        assert_eq!(answer[..2], [function, count as u8 * 2], "{answer:02x?}");
        answer[2..].chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    fn write(&mut self, address: u16, value: u16) -> Vec<u8> {
        let ([a, b], [c, d]) = (address.to_be_bytes(), value.to_be_bytes());
        self.ask(&[6, a, b, c, d])
    }

    /// True if the other side closes within so long, whatever it says before.
    fn is_closed(&mut self, within: Duration) -> bool {
        let start = Instant::now();
        self.0.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut room = [0; 512];
        while start.elapsed() < within {
            match self.0.read(&mut room) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return true,
            }
        }
        false
    }
}

fn long(words: &[u16], address: usize) -> u32 {
    u32::from(words[address]) << 16 | u32::from(words[address + 1])
}

/// Registers 0 to 87 of a part that was told, against its number.
fn belongs_together(words: &[u16]) -> bool {
    let (bits, id) = (words[0], words[2]);
    if id == 0 {
        return false;
    }
    let sequence = u64::from(!long(words, 10));
    let told = outcome(sequence);
    let rejected = sequence % 3 == 0;
    assert_eq!(u64::from(id), sequence % 65535 + 1);
    assert_eq!((bits >> 2 & 1, bits >> 3 & 1), (1, (sequence as u16 + 1) & 1), "VALID, TOGGLE");
    assert_eq!((bits >> 7 & 1, bits >> 8 & 1), (u16::from(!rejected), u16::from(rejected)), "OK, NG");
    assert_eq!(words[4], if rejected { (sequence % 7) as u16 } else { map::NO_CLASS });
    assert_eq!(words[5], (told.score.unwrap() * 10_000.0).round() as u16);
    assert_eq!((words[6], words[18]), ((sequence % 100) as u16, !(sequence as u16)));
    let (ok, ng) = (long(words, 12), long(words, 14));
    assert_eq!(u64::from(ok + ng), sequence + 1);
    assert_eq!(u64::from(ng), sequence / 3 + 1);
    let listed = if rejected { regions(sequence) } else { Default::default() };
    assert_eq!(usize::from(words[19]), listed.len());
    for (index, region) in listed.iter().enumerate() {
        let at = 20 + index * 8;
        assert_eq!(words[at..at + 2], [region.x as u16, region.y as u16]);
        assert_eq!(long(words, at + 6), region.area_px as u32);
    }
    true
}

/// A result a millisecond, and three masters that read as fast as they can: one the registers, one their mirror, one
/// masks.
#[test]
fn one_answer_is_one_moment() {
    let mut station = Station::on_tcp(|_| {});
    let stop = Arc::new(AtomicBool::new(false));
    let reader = |function: u8, base: u16| {
        let (mut master, stop) = (Master::new(&station), stop.clone());
        std::thread::spawn(move || {
            let mut compared = 0;
            while !stop.load(Relaxed) {
                compared += u32::from(belongs_together(&master.read(function, base, 88)));
            }
            compared
        })
    };
    let readers = [reader(4, 0), reader(3, map::MIRROR)];
    let (mut master, stopped) = (Master::new(&station), stop.clone());
    let masks = std::thread::spawn(move || {
        let mut whole = 0;
        while !stopped.load(Relaxed) {
            whole += u32::from(mask_is_whole(&mut master));
        }
        whole
    });
    let began = Instant::now();
    for sequence in 0..3000 {
        station.tell(sequence);
        std::thread::sleep((began + Duration::from_millis(sequence + 1)).saturating_duration_since(Instant::now()));
    }
    stop.store(true, Relaxed);
    let compared = readers.map(|reader| reader.join().unwrap());
    let whole = masks.join().unwrap();
    println!("compared {compared:?} answers, {whole} masks of 3000 results in {:.1?}", began.elapsed());
    assert!(compared.iter().all(|count| *count > 200) && whole > 20);
}

fn mask_is_whole(master: &mut Master) -> bool {
    let head = master.read(4, 88, 8);
    let (total, id) = (long(&head, 0), head[5]);
    if id == 0 {
        return false;
    }
    let mut bytes = vec![];
    for page in 0..total.div_ceil(250) {
        assert_eq!(master.write(4, page as u16), [6, 0, 4, 0, page as u8]);
        bytes.extend(master.read(4, 96, 125).iter().flat_map(|word| word.to_be_bytes()));
    }
    bytes.truncate(total as usize);
    assert!(total > 500, "no page is turned");
    assert_eq!(crc32(&bytes), long(&head, 6), "the pages are not of one mask");
    let mut area = 0;
    runs::decode(&bytes, u32::from(head[3]) * u32::from(head[4]), |start, end| area += end - start).unwrap();
    assert_eq!(area, mask(u64::from(id) - 1).view().area());
    assert_eq!(master.read(3, 4, 1), [(total.div_ceil(250) - 1) as u16], "MASK_PAGE is read back");
    true
}

#[test]
fn what_is_written_is_done() {
    let station = Station::on_tcp(|_| {});
    let mut master = Master::new(&station);
    assert_eq!(master.read(4, 0, 1)[0] & 1, 1, "READY");
    // Enabled trigger, no job, part 0x00010002.
    assert_eq!(master.ask(&[16, 0, 0, 0, 4, 8, 0, 3, 0, 0, 0, 1, 0, 2]), [16, 0, 0, 0, 4]);
    let words = master.read(4, 0, 20);
    assert_eq!((words[0] >> 4 & 1, words[3], words[7], words[9]), (1, 1, 300, 0xccdd), "{words:?}");
    let ticket = station.ticket().unwrap();
    assert_eq!((ticket.sequence, ticket.part_id, ticket.taken), (0, 0x0001_0002, true));
    // The same again is no second part; the mirror and the inputs cannot be written, nor can anything in part.
    master.write(0, 3);
    assert_eq!(station.ticket(), None);
    assert_eq!(master.write(1000, 1), [0x86, 2]);
    assert_eq!(master.write(16, 1), [0x86, 2]);
    assert_eq!(master.ask(&[16, 0, 15, 0, 2, 4, 0, 0, 0, 0]), [0x90, 2]);
    assert_eq!(master.write(0, 0x80), [0x86, 3]);
    assert_eq!(master.read(3, 0, 6), [3, 0, 1, 2, 0, 0]);
    master.write(0, 1 << 6);
    assert_eq!(master.read(4, 0, 2), [2, 32], "BUSY, offline");
}

#[test]
fn a_reader_writes_nothing() {
    let station = Station::on_tcp(|tcp| tcp.write = false);
    let mut master = Master::new(&station);
    assert_eq!(master.write(0, 3), [0x86, 1]);
    assert_eq!(master.ask(&[16, 0, 4, 0, 2, 4, 0, 0, 0, 0]), [0x90, 1]);
    assert_eq!(master.write(4, 2), [6, 0, 4, 0, 2]);
    assert_eq!(master.read(3, 0, 5), [0, 0, 0, 0, 2]);
    assert_eq!(Master::new(&station).read(3, 4, 1), [0], "each connection has its own page");
    assert_eq!(station.ticket(), None);
}

#[test]
fn pieces_and_heaps_of_requests() {
    let station = Station::on_tcp(|_| {});
    let mut master = Master::new(&station);
    for byte in master.frame(&[4, 0, 0, 0, 20]) {
        master.0.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(master.answer().1.len(), 42);
    let heap: Vec<u8> = (0..50).flat_map(|_| master.frame(&[4, 0, 0, 0, 125])).collect();
    master.0.write_all(&heap).unwrap();
    for transaction in 2..52 {
        let (found, answer) = master.answer();
        assert_eq!((found, answer.len()), (transaction, 252));
    }
}

#[test]
fn what_is_no_modbus_is_closed() {
    let station = Station::on_tcp(|_| {});
    let bad: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 1, 0, 1, 0, 6, 1, 4, 0, 0, 0, 1],
        &[0, 1, 0, 0, 0xff, 0xff, 1, 4],
        &[0, 1, 0, 0, 0, 255, 1, 4],
        &[0, 1, 0, 0, 0, 1, 1],
    ];
    for bytes in bad {
        let mut master = Master::new(&station);
        master.0.write_all(bytes).unwrap();
        assert!(master.is_closed(Duration::from_secs(2)), "{bytes:02x?}");
    }
    // Random bytes, from many connections: whatever is answered or closed, the next master is served.
    let mut random = Random(7);
    for round in 0..200 {
        let mut master = Master::new(&station);
        let bytes: Vec<u8> = (0..random.below(256)).map(|_| random.next() as u8).collect();
        // Half of them with a sensible header.
        let length = bytes.len().clamp(1, 253);
        let framed = [&[0, 1, 0, 0, 0, length as u8 + 1, 1][..], &bytes[..length.min(bytes.len())]].concat();
        let _ = master.0.write_all(if round % 2 == 0 { &bytes } else { &framed });
    }
    std::thread::sleep(Duration::from_millis(200)); // the last of them are closed
    assert_eq!(Master::new(&station).read(4, 0, 1)[0] & 1, 1);
}

#[test]
fn who_dawdles_idles_or_comes_too_many_is_closed() {
    let station = Station::on_tcp(|tcp| {
        tcp.connections = 2;
        tcp.idle = Duration::from_millis(1500);
    });
    let (mut slow, mut idle) = (Master::new(&station), Master::new(&station));
    idle.read(4, 0, 1);
    assert!(Master::new(&station).is_closed(Duration::from_secs(2)), "a third connection");
    // A byte now and then, of a request that never ends.
    let start = Instant::now();
    let frame = slow.frame(&[4, 0, 0, 0, 1]);
    let mut sent = 0;
    while !slow.is_closed(Duration::from_millis(300)) {
        let _ = slow.0.write_all(&frame[sent..sent + 1]);
        sent = (sent + 1).min(frame.len() - 2);
        assert!(start.elapsed() < Duration::from_secs(4), "a slow master holds its place");
    }
    assert!(idle.is_closed(Duration::from_secs(4)), "an idle master holds its place");
    assert_eq!(Master::new(&station).read(4, 0, 1)[0] & 1, 1);
}

#[test]
fn only_those_on_the_list() {
    let station = Station::on_tcp(|tcp| tcp.masters = vec![address("127.0.0.2")]);
    assert!(Master::new(&station).is_closed(Duration::from_secs(2)));
    let station = Station::on_tcp(|tcp| tcp.masters = vec![address("127.0.0.2"), address("127.0.0.1")]);
    assert_eq!(Master::new(&station).read(4, 0, 1)[0] & 1, 1);
}

/// A master that never reads its answers stops itself and nobody else.
#[test]
fn a_master_that_takes_nothing_blocks_nothing() {
    let mut station = Station::on_tcp(|_| {});
    let mut deaf = Master::new(&station);
    let flood = std::thread::spawn(move || {
        let heap: Vec<u8> = (0..200).flat_map(|_| deaf.frame(&[4, 0, 0, 0, 125])).collect();
        while deaf.0.write_all(&heap).is_ok() {}
    });
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    (0..100).for_each(|sequence| station.tell(sequence));
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(Master::new(&station).read(4, 2, 1), [100]);
    flood.join().unwrap(); // it is closed in the end
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_station_that_stops_says_so_and_lets_go() {
    use fcam::sink::Sink;
    let mut station = Station::on_tcp(|_| {});
    let mut master = Master::new(&station);
    station.tell(1);
    assert_eq!(master.read(4, 0, 1)[0] & 0x0585, 0x0485, "RUN, OK, VALID, READY");
    station.sink.fail_safe();
    let words = master.read(4, 0, 3);
    assert_eq!((words[0] & 0x0587, words[1], words[2]), (0, 31, 2));
    let Station { sink, .. } = station;
    let start = Instant::now();
    drop(sink);
    assert!(start.elapsed() < Duration::from_millis(600), "{:?}", start.elapsed());
    assert!(master.is_closed(Duration::from_secs(1)));
}
