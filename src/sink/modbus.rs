//! Modbus registers, on a serial line and on TCP. In: requests of masters, masks of rejected parts. Out: answers
//! (board/plc/modbus.md).
//!
//! Nothing is pushed: a master asks, and each request is answered from one image of one moment (`registers`). Verdicts
//! are told to the [`PlcLink`] before any sink, so that telling them here takes no time; a master that hammers, stalls
//! or sends garbage never makes one wait.
//!
//! [`Sink::fail_safe`] lowers READY, VALID, OK, NG and RUN in every answer at once; when the sink is dropped, masters
//! have a moment to see that, then connections are closed and the line is silent. A PLC must take silence for NG, since
//! a process that is killed tells nobody.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Error, Sink};
use crate::clock;
use crate::mask::Mask;
use crate::modbus::{MaskPages, WordOrder};
use crate::outcome::Outcome;
use crate::plc_link::PlcLink;
use crate::watchdog::{Duty, Watchdog};

mod registers;
mod rtu;
mod tcp;

use registers::Registers;

/// How long masters can see the safe state before their connections are closed: a few of their cycles.
const FAREWELL: Duration = Duration::from_millis(200);

/// Where masters ask, and what they are told that does not change.
///
/// ```no_run
/// use std::time::Duration;
///
/// use fcam::modbus::WordOrder;
/// use fcam::plc_link::PlcLink;
/// use fcam::sink::Modbus;
/// use fcam::sink::modbus::{ModbusOptions, Tcp};
///
/// let tcp = Tcp {
///     listen: "192.168.1.10:502".parse()?,
///     write: false, // masters read the results, and control nothing
///     masters: vec!["192.168.1.20".parse()?],
///     connections: 4,
///     idle: Duration::from_secs(60),
/// };
/// let delay = Duration::from_millis(120);
/// let options = ModbusOptions { tcp: Some(tcp), rtu: None, order: WordOrder::Big, delay, config: 0 };
/// let sink = Modbus::start(options, PlcLink::default())?; // an error if the address cannot be had
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ModbusOptions {
    /// The TCP server, if there is one.
    pub tcp: Option<Tcp>,
    /// The unit on a serial line, if there is one.
    pub rtu: Option<Rtu>,
    /// The order of the words of a 32-bit number.
    pub order: WordOrder,
    /// From a trigger to its outputs.
    pub delay: Duration,
    /// CRC-32 of the station's configuration.
    pub config: u32,
}

/// A server on TCP.
#[derive(Debug, Clone)]
pub struct Tcp {
    /// The address to listen at, and nowhere else.
    pub listen: std::net::SocketAddr,
    /// Masters may write controls.
    pub write: bool,
    /// Addresses that may connect; all if empty.
    pub masters: Vec<std::net::IpAddr>,
    /// Connections at once at most.
    pub connections: usize,
    /// A connection that asks nothing for this long is closed.
    pub idle: Duration,
}

/// A unit on a serial line.
#[derive(Debug, Clone)]
pub struct Rtu {
    /// The device, by a path that stays the same when it comes back: /dev/serial/by-id/...
    pub port: PathBuf,
    /// Bits a second.
    pub baud: u32,
    /// How bytes are checked.
    pub parity: super::serial::Parity,
    /// The kernel switches the transmitter of an RS-485 transceiver.
    pub rs485: bool,
    /// Its address on the line, 1 to 247.
    pub unit: u8,
}

/// The sink; dropping it stops its threads.
pub struct Modbus {
    registers: Arc<Registers>,
    /// Masks are encoded here and then exchanged with the one that is read.
    spare: MaskPages,
    /// The serial line, whose loss is an error of this sink: its master knows nothing then.
    line: Option<String>,
    threads: Vec<JoinHandle<()>>,
}

impl Modbus {
    /// Binds the address and opens the device; what is not there yet is tried again and again.
    pub fn start(options: ModbusOptions, plc_link: PlcLink) -> Result<Self, Error> {
        let ModbusOptions { tcp, rtu, order, delay, config } = options;
        let deadline = (delay.as_micros() / 100).try_into().unwrap_or(u16::MAX);
        let registers = Arc::new(Registers::new(plc_link.clone(), order, deadline, config));
        let mut sink = Self { registers, spare: MaskPages::default(), line: None, threads: vec![] };
        if let Some(options) = tcp {
            let name = format!("Modbus on {}", options.listen);
            let server = tcp::Server::bind(options, sink.registers.clone()).map_err(failed(&name))?;
            sink.spawn("modbus-tcp", name, &plc_link, move |watchdog| server.run(&watchdog))?;
        }
        if let Some(options) = rtu {
            let name = format!("Modbus on {}", options.port.display());
            sink.line = Some(name.clone());
            let mut unit = rtu::Unit::new(options, sink.registers.clone());
            unit.connect();
            sink.spawn("modbus-rtu", name, &plc_link, move |watchdog| unit.run(&watchdog))?;
        }
        Ok(sink)
    }

    fn spawn(
        &mut self,
        thread: &'static str,
        name: String,
        plc_link: &PlcLink,
        run: impl FnOnce(Watchdog) + Send + 'static,
    ) -> Result<(), Error> {
        let watchdog = plc_link.watchdog(thread, Duty::Vital);
        let started = std::thread::Builder::new().name(thread.into()).spawn(move || run(watchdog));
        let started = started.map_err(failed(&name))?;
        self.threads.push(started);
        Ok(())
    }
}

fn failed(name: &str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Serve { sink: name.into(), source }
}

impl Sink for Modbus {
    fn apply(&mut self, _outcome: &Outcome) -> Result<(), Error> {
        match &self.line {
            Some(name) if !self.registers.line_is_up() => {
                Err(Error::Serve { sink: name.clone(), source: std::io::ErrorKind::NotConnected.into() })
            }
            _ => Ok(()),
        }
    }

    fn draw(&mut self, outcome: &Outcome, mask: Option<&Mask>) {
        self.spare.set(outcome.sequence, mask);
        self.registers.publish(&mut self.spare);
    }

    fn fail_safe(&mut self) {
        self.registers.make_safe();
    }
}

impl Drop for Modbus {
    fn drop(&mut self) {
        self.fail_safe();
        if !self.threads.is_empty() {
            let began = clock::now();
            while self.registers.is_asked() && clock::now().saturating_sub(began) < FAREWELL {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.registers.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a Modbus thread panicked: please report this");
            }
        }
        log::info!("Modbus: {}", self.registers.books());
    }
}
