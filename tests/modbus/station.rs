//! A station without a camera: the line, the sink, and parts whose every number follows from their own.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use fcam::handshake::{self, Condition, Ticket};
use fcam::mask::{Mask, Region, Run, Stored};
use fcam::modbus::WordOrder;
use fcam::outcome::{Opened, Outcome};
use fcam::plc_link::PlcLink;
use fcam::preprocess::Roi;
use fcam::sink::modbus::{ModbusOptions, Rtu, Tcp};
use fcam::sink::serial::Parity;
use fcam::sink::{Modbus, Sink};
use fcam::verdict::{Findings, Verdict};

pub struct Station {
    pub plc_link: PlcLink,
    pub sink: Modbus,
    pub address: SocketAddr,
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn tcp(listen: SocketAddr) -> Tcp {
    let idle = Duration::from_secs(60);
    Tcp { listen, write: true, masters: vec![], connections: 4, idle }
}

fn start(tcp: Option<Tcp>, rtu: Option<Rtu>) -> Station {
    let plc_link = PlcLink::new(handshake::HandshakeOptions { queue: 200, ..handshake::HandshakeOptions::default() });
    plc_link.update(|handshake| handshake.set(Condition::Starting, false));
    let address = tcp.as_ref().map_or(free_port(), |tcp| tcp.listen);
    let options =
        ModbusOptions { tcp, rtu, order: WordOrder::Big, delay: Duration::from_millis(30), config: 0xaabb_ccdd };
    let sink = Modbus::start(options, plc_link.clone()).unwrap();
    Station { plc_link, sink, address }
}

impl Station {
    pub fn on_tcp(change: impl FnOnce(&mut Tcp)) -> Self {
        let mut options = tcp(free_port());
        change(&mut options);
        start(Some(options), None)
    }

    pub fn on_line(port: &Path, baud: u32) -> Self {
        let (port, parity) = (port.into(), Parity::None);
        start(None, Some(Rtu { port, baud, parity, rs485: false, unit: 7 }))
    }

    /// The next trigger that was taken or missed.
    pub fn ticket(&self) -> Option<Ticket> {
        self.plc_link.next_ticket(|_, _| Some(())).map(|(ticket, _)| ticket)
    }

    /// Tells part `sequence`, and draws its mask.
    pub fn tell(&mut self, sequence: u64) {
        let outcome = outcome(sequence);
        self.plc_link.update(|handshake| handshake.told(&outcome, Duration::from_micros(sequence % 100 * 100)));
        self.sink.apply(&outcome).unwrap();
        if matches!(outcome.verdict, Verdict::Reject(_)) {
            self.sink.draw(&outcome, Some(&mask(sequence).view()));
        }
    }
}

/// Every third part is rejected, with as many regions as its number modulo 9 says.
pub fn outcome(sequence: u64) -> Outcome {
    let verdict = match sequence % 3 {
        0 => Verdict::Reject(Findings {
            class: (sequence % 7) as usize,
            score: 0.9,
            regions: regions(sequence).iter().copied().collect(),
        }),
        _ => Verdict::Pass,
    };
    let score = Some((sequence % 10_000) as f32 / 10_000.0);
    let part = Opened { sequence, part_id: !(sequence as u32), at: Duration::ZERO };
    crate::outcome::outcome(part, verdict, score, !(sequence as u16), crate::outcome::AT_ONCE)
}

pub fn regions(sequence: u64) -> Vec<Region> {
    let side = sequence as u32 % 1000 + 1;
    let region = Region {
        x: side,
        y: side * 2,
        width: side,
        height: 3,
        area_px: side as f32 * 100.0,
        centroid: [side as f32, 4.0],
        peak: 0.5,
    };
    (0..sequence % 9).map(|_| region).collect()
}

/// A mask whose size follows from the part's number, three pages at least.
pub fn mask(sequence: u64) -> Stored {
    let rows = 200 + sequence as u32 % 100;
    let runs: Vec<Run> =
        (0..rows).flat_map(|row| [Run { row, start: 1, end: 3 }, Run { row, start: 9, end: 20 }]).collect();
    let mut stored = Stored::default();
    let roi = Roi { x: 1, y: 2, width: 320, height: rows * 10 };
    stored.set(&Mask { width: 32, height: rows, roi, runs: &runs, regions: &[], region_count: 0 });
    stored
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
