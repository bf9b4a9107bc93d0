//! From the edge of a trigger to the edges of the lines, through the whole station: a simulated sensor that the trigger
//! fires, and lines that remember. `./dev latency` runs it long on the default bundle and prints the times.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[allow(dead_code)]
#[path = "page/http.rs"]
mod http;
#[allow(dead_code)]
#[path = "gpio/lines.rs"]
mod lines;
#[path = "page/viewers.rs"]
mod viewers;

use std::io::{PipeReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use fcam::bundle::Bundle;
use fcam::camera::{Camera, Error, Frame, Geometry, Pattern, PixelFormat};
use fcam::clock::{self, Timestamp};
use fcam::handshake;
use fcam::modbus::WordOrder;
use fcam::outcome::Outcome;
use fcam::pipeline::PipelineOptions;
use fcam::plc_link::PlcLink;
use fcam::record;
use fcam::signal::{SETUP, Signaller};
use fcam::sink::gpio::{self, Gpio, Role};
use fcam::sink::{self, JsonLines, Modbus, Serial, Sink, modbus, serial};
use fcam::station::{Latency, Matching, Report, Rule, Station, Stop, Trigger};
use fcam::telegram::budget::SerialLine;
use fcam::zone::Zones;
use serial2::SerialPort;

use lines::Lines;

const MS: Duration = Duration::from_millis(1);
const HOLD: Duration = Duration::from_millis(20);
const SIZE: (u32, u32) = (640, 480);

/// Delivers the next of its pictures at the moment of each trigger: no exposure, no transfer.
struct Sensor {
    fired: Receiver<Timestamp>,
    pictures: Vec<Vec<u8>>,
    sequence: usize,
}

impl Camera for Sensor {
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, Error> {
        let waited = deadline.saturating_sub(clock::now());
        let at = self.fired.recv_timeout(waited).map_err(|error| match error {
            RecvTimeoutError::Timeout => Error::Timeout { camera: self.describe(), waited },
            RecvTimeoutError::Disconnected => Error::Ended,
        })?;
        let geometry = Geometry::packed(SIZE.0, SIZE.1, PixelFormat::Yuyv)?;
        self.sequence += 1;
        let picture = &self.pictures[(self.sequence - 1) % self.pictures.len()];
        Frame::new(self.sequence as u64 - 1, at, geometry, picture)
    }

    fn describe(&self) -> String {
        "a simulated sensor".into()
    }
}

/// Remembers each part, and when the outputs had been told of it.
struct Memory(Sender<(Outcome, Timestamp)>);

impl Sink for Memory {
    fn apply(&mut self, outcome: &Outcome) -> Result<(), sink::Error> {
        self.0.send((outcome.clone(), clock::now())).unwrap();
        Ok(())
    }

    fn fail_safe(&mut self) {}
}

struct Ran {
    triggers: Vec<Timestamp>,
    told: Vec<(Outcome, Timestamp)>,
    lines: Lines,
    report: Report,
}

/// Triggers so many parts, each when the one before is over and `pause` later.
fn run(bundle: Bundle, pictures: Vec<Vec<u8>>, parts: usize, pause: Duration) -> Ran {
    run_beside(|_| {}, bundle, pictures, parts, pause)
}

/// The same with what else `joins` the station.
fn run_beside(
    joins: impl FnOnce(&mut Station),
    bundle: Bundle,
    pictures: Vec<Vec<u8>>,
    parts: usize,
    pause: Duration,
) -> Ran {
    let plc_link = PlcLink::new(handshake::HandshakeOptions { external: true, queue: 4, ..Default::default() });
    let lines = Lines::default();
    let gpio = Gpio::with_lines(lines.open(), gpio::GpioOptions::default(), &plc_link).unwrap();
    let (fire, fired) = channel();
    let (sender, told) = channel();
    let matching = Matching { rule: Rule::Next, delay: Duration::ZERO, window: 100 * MS };
    let mut station = Station {
        bundle,
        camera: Box::new(Sensor { fired, pictures, sequence: 0 }),
        geometry: Some(Geometry::packed(SIZE.0, SIZE.1, PixelFormat::Yuyv).unwrap()),
        options: PipelineOptions {
            engine: Default::default(),
            layout: Default::default(),
            score_threshold: None,
            locate: None,
            vote: None,
            drift: None,
            zones: Zones::Grid { columns: 4, rows: 2 },
            signaller: Signaller { delay: Duration::ZERO, hold: HOLD },
        },
        trigger: Trigger::External { queue: 4, matching },
        timeout: Duration::from_secs(10),
        frames: None,
        plc_link: plc_link.clone(),
        sinks: vec![Box::new(gpio), Box::new(Memory(sender))],
        recorder: None,
        summary: Duration::from_secs(3600),
        releases: None,
        window: None,
    };
    joins(&mut station);
    let running = std::thread::spawn(move || station.run(&Stop::default()).unwrap());
    let mut triggers = vec![];
    while triggers.len() < parts {
        lines.until(|levels| levels.get(Role::Ready));
        std::thread::sleep(pause);
        let at = clock::now();
        assert!(plc_link.trigger(at, triggers.len() as u32).is_some_and(|ticket| ticket.taken));
        fire.send(at).unwrap();
        triggers.push(at);
        lines.until_fallen(Role::Valid, triggers.len());
    }
    drop(fire);
    let report = running.join().unwrap();
    Ran { triggers, told: told.try_iter().collect(), lines, report }
}

/// Every channel beside GPIO: telegrams that are read, registers that a master polls, records of all parts, and JSON
/// lines that nobody reads.
struct Others {
    dir: tempfile::TempDir,
    _nobody_reads: Option<PipeReader>,
}

impl Others {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), _nobody_reads: None }
    }

    fn join(&mut self, station: &mut Station) {
        let (port, other) = SerialPort::pair().unwrap();
        let path = std::fs::read_link(format!("/proc/self/fd/{}", other.as_raw_fd())).unwrap();
        std::thread::spawn(move || {
            let (_other, mut bytes) = (other, [0; 4096]);
            loop {
                let _ = port.read(&mut bytes);
            }
        });
        let wire = SerialLine {
            baud: 921_600,
            bits: 10,
            parts_per_minute: 3000,
            head_of_line_ms: 2,
            frame_bytes: 240,
            masks: true,
        };
        let telegrams = serial::SerialOptions {
            port: path,
            line: wire,
            parity: serial::Parity::None,
            rs485: false,
            profile: serial::Profile::Binary,
            config: 0,
            external: true,
            delay: Duration::ZERO,
        };
        station.sinks.push(Box::new(Serial::start(telegrams, station.plc_link.clone()).unwrap()));
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let tcp = modbus::Tcp { listen, write: false, masters: vec![], connections: 4, idle: 60_000 * MS };
        let registers = modbus::ModbusOptions {
            tcp: Some(tcp),
            rtu: None,
            order: WordOrder::Big,
            delay: Duration::ZERO,
            config: 0,
        };
        station.sinks.push(Box::new(Modbus::start(registers, station.plc_link.clone()).unwrap()));
        std::thread::spawn(move || {
            let mut master = TcpStream::connect(listen).unwrap();
            let mut answer = [0; 9 + 250];
            while master.write_all(&[0, 1, 0, 0, 0, 6, 255, 4, 0, 0, 0, 125]).is_ok()
                && master.read_exact(&mut answer).is_ok()
            {
                std::thread::sleep(10 * MS);
            }
        });
        let (reader, writer) = std::io::pipe().unwrap();
        self._nobody_reads = Some(reader);
        station.sinks.push(Box::new(JsonLines::start("a pipe", writer, &station.plc_link).unwrap()));
        station.sinks.push(Box::new(sink::Log));
        let records = record::RecorderOptions {
            dir: self.dir.path().into(),
            keep: record::Keep::All,
            picture: record::PictureFormat::Jpg,
            max_files: 100,
            max_mb: 100,
            free_mb: 0,
        };
        station.recorder = Some(record::Recorder::open(records));
    }
}

/// Gray in columns of these levels, which are luma; as wide as the frame together.
fn columns(levels: &[u8]) -> Vec<u8> {
    let row: Vec<u8> = (0..SIZE.0 as usize).flat_map(|x| [levels[x * levels.len() / SIZE.0 as usize], 128]).collect();
    row.repeat(SIZE.1 as usize)
}

#[test]
fn a_trigger_ends_in_one_pulse_and_in_the_zones_of_its_defect() {
    // The tests' bundle calls dark pictures defective. Cells of the upper row are bits 0 to 3, of the lower one 4 to 7.
    // Its map is coarse: the dark ends in the middle of a cell.
    let left = columns(&[30, 30, 30, 30, 30, 200, 200, 200]);
    let right = columns(&[200, 200, 200, 30, 30, 30, 30, 30]);
    let pictures = vec![columns(&[200]), left, right, columns(&[30])];
    let zones = [0, 0b0111_0111, 0b1110_1110, 0b1111_1111];
    let Ran { triggers, told, lines, report } = run(common::tiny_bundle(), pictures, 8, 2 * MS);
    assert!(report.clean() && report.counts.balanced(), "{report}");
    let pulses = lines.pulses(Role::Valid);
    assert_eq!((pulses.len(), told.len()), (8, 8), "one pulse for each trigger");
    let edges = lines.edges();
    for (index, (rose, fell)) in pulses.into_iter().enumerate() {
        let fell = fell.expect("VALID falls");
        assert!(rose > triggers[index] && triggers.get(index + 1).is_none_or(|next| fell < *next), "part {index}");
        // A busy machine may hold it for longer, never shorter.
        assert!((HOLD..HOLD + 200 * MS).contains(&(fell - rose)), "part {index}: {:?}", fell - rose);
        let shown = edges.iter().filter(|(at, _)| (rose..fell).contains(at)).map(|(_, levels)| levels);
        let expected = zones[index % zones.len()];
        let good = expected == 0;
        for levels in shown {
            assert_eq!((levels.get(Role::Ok), levels.get(Role::Ng)), (good, !good), "part {index}");
            assert_eq!(levels.zones(), expected, "part {index}: {:08b}", levels.zones());
        }
        let before = edges.iter().rfind(|(at, _)| *at + SETUP <= rose).unwrap().1;
        assert_eq!((before.get(Role::Ok), before.zones()), (good, expected), "part {index} is set up before VALID");
        assert_eq!(told[index].0.zones, u16::from(expected), "part {index}");
    }
}

fn row(name: &str, times: impl Iterator<Item = Duration>) {
    let mut latency = Latency::default();
    times.for_each(|time| latency.add(time));
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| ms(latency.quantile(q)));
    println!("{name:16}{p50:>9.3}{p99:>9.3}{p999:>9.3}{:>9.3}", ms(latency.max()));
}

/// FCAM_LATENCY_PARTS parts of the default bundle's sample pictures, 640 x 480 YUYV. With FCAM_LATENCY_CHANNELS every
/// channel is on, one of which hangs.
#[test]
#[ignore = "a measurement: ./dev latency"]
fn table() {
    let parts = std::env::var("FCAM_LATENCY_PARTS").map_or(100, |parts| parts.parse().unwrap());
    let bundle = Bundle::load(None, &[]).unwrap();
    let mut samples = Pattern::open(bundle.samples(), Some(SIZE)).unwrap().encode(PixelFormat::Yuyv).unwrap();
    let pictures = (0..4).map(|_| samples.next(clock::now() + 10_000 * MS).unwrap().bytes().to_vec()).collect();
    let mut others = std::env::var_os("FCAM_LATENCY_CHANNELS").map(|_| Others::new());
    let joins = |station: &mut Station| others.iter_mut().for_each(|others| others.join(station));
    let Ran { triggers, told, lines, report } = run_beside(joins, bundle, pictures, parts, 10 * MS);
    let pulses = lines.pulses(Role::Valid);
    assert_eq!((told.len(), pulses.len()), (parts, parts));
    println!("{report}\n{}", report.stages);
    let rises = || pulses.iter().map(|(rose, _)| *rose);
    // OK and NG stand for SETUP before VALID, on purpose.
    row("told to VALID", rises().zip(&told).map(|(rose, (_, told))| rose.saturating_sub(*told)));
    row("  without SETUP", rises().zip(&told).map(|(rose, (_, told))| rose.saturating_sub(*told + SETUP)));
    row("trigger to VALID", rises().zip(&triggers).map(|(rose, trigger)| rose.saturating_sub(*trigger)));
}

/// From trigger to VALID without the page, with the page that nobody looks at, and with five who do, in turn: what the
/// machine does besides is the same for each. The viewers stand for other machines: their threads have the lowest
/// priority.
#[test]
#[ignore = "a measurement: ./dev latency"]
fn viewers() {
    let parts = std::env::var("FCAM_LATENCY_PARTS").map_or(100, |parts| parts.parse().unwrap());
    let bundle = Bundle::load(None, &[]).unwrap();
    let mut samples = Pattern::open(bundle.samples(), Some(SIZE)).unwrap().encode(PixelFormat::Yuyv).unwrap();
    let pictures: Vec<_> = (0..4).map(|_| samples.next(clock::now() + 10_000 * MS).unwrap().bytes().to_vec()).collect();
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (kind, times) in times.iter_mut().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let mut looking = None;
            let joins = |station: &mut Station| {
                if kind > 0 {
                    let (page, window, address) = viewers::page(dir.path(), &station.plc_link);
                    station.sinks.push(Box::new(page));
                    station.window = Some(window);
                    looking = (kind > 1).then(|| viewers::Viewers::look(address));
                }
            };
            let bundle = Bundle::load(None, &[]).unwrap();
            let ran = run_beside(joins, bundle, pictures.clone(), parts / ROUNDS, 10 * MS);
            assert!(looking.is_none_or(|looking| looking.end() > 0), "the viewers saw nothing");
            let pulses = ran.lines.pulses(Role::Valid);
            times.extend(pulses.iter().zip(&ran.triggers).map(|((rose, _), trigger)| rose.saturating_sub(*trigger)));
        }
    }
    println!("trigger to VALID{:>9}{:>9}{:>9}{:>9}  ms", "p50", "p99", "p99.9", "max");
    for (name, times) in ["no page", "nobody looks", "five look"].iter().zip(times) {
        row(name, times.into_iter());
    }
}

/// Turns of each.
const ROUNDS: usize = 10;

/// A station of the program: the default bundle, ten pictures a second of 640 x 480.
struct Program {
    process: Child,
    _dir: tempfile::TempDir,
}

impl Program {
    fn start(page: Option<SocketAddr>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        viewers::make_user(dir.path());
        let mut text = "[camera]\nkind = \"pattern\"\nwidth = 640\nheight = 480\n".to_owned();
        if let Some(address) = page {
            text += &format!("[page]\nlisten = \"{address}\"\ndir = {:?}\n", dir.path());
        }
        let file = dir.path().join("station.toml");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fcam"));
        let process = command.args(["run", "--config"]).arg(file).stderr(Stdio::null()).spawn().unwrap();
        Self { process, _dir: dir }
    }

    /// Resident, and of that the part that is in no file, MiB.
    fn memory(&self) -> [f64; 2] {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let kib = |key: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim_start_matches(':').trim_end_matches("kB").trim().parse().unwrap()
        };
        ["VmRSS", "RssAnon"].map(|key| kib(key) / 1024.0)
    }

    /// Processor time of the page's threads.
    fn worked(&self) -> Duration {
        let ticks = |task: std::fs::DirEntry| -> Option<u64> {
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
            let times = rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
            name.starts_with("page").then(|| times.sum())
        };
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        Duration::from_millis(10 * tasks.filter_map(|task| ticks(task.unwrap())).sum::<u64>())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the page costs a station of its memory, and of a core.
#[test]
#[ignore = "a measurement: ./dev latency"]
fn memory() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    println!("{:14}{:>9}{:>9}{:>9}", "", "RSS MiB", "anon MiB", "core %");
    for (name, page, look) in
        [("no page", None, false), ("nobody looks", Some(address), false), ("five look", Some(address), true)]
    {
        let program = Program::start(page);
        std::thread::sleep(SETTLED);
        let viewers = look.then(|| viewers::Viewers::look(address));
        std::thread::sleep(SETTLED / 2);
        let (before, start) = (program.worked(), clock::now());
        std::thread::sleep(SETTLED);
        let core = 100.0 * (program.worked() - before).as_secs_f64() / (clock::now() - start).as_secs_f64();
        let [resident, anonymous] = program.memory();
        println!("{name:14}{resident:>9.1}{anonymous:>9.1}{core:>9.1}");
        assert_ne!(viewers.map(viewers::Viewers::end), Some(0), "the viewers saw nothing");
    }
}

/// Long enough for every buffer to have been used.
const SETTLED: Duration = Duration::from_secs(10);
