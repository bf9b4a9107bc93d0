//! Modbus on TCP. In: connections of masters that are allowed. Out: answers, each as soon as its request is whole.
//!
//! A thread a connection, and never more than the limit. A connection that sends no Modbus, dawdles within a request,
//! takes no answers or asks nothing for too long is closed; who is not on the list is turned away before a byte is
//! read.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Tcp;
use super::registers::{Registers, Window};
use crate::clock::{self, Timestamp};
use crate::modbus;
use crate::modbus::adu::{MAX_TCP, TCP_HEADER, Tcp as Found, tcp, tcp_answer};
use crate::watchdog::{SILENCE, Watchdog};

/// How often a thread that waits looks whether the station stops.
const SLICE: Duration = Duration::from_millis(50);
/// Between two tries to bind an address that is not there yet.
const RETRY: Duration = Duration::from_millis(500);
/// From a request's first byte to its last.
const DAWDLE: Duration = Duration::from_secs(1);
/// A master that does not take an answer within this time is gone.
const STUCK: Duration = Duration::from_secs(1);

/// The listener and its connections.
pub(super) struct Server {
    options: Arc<Tcp>,
    registers: Arc<Registers>,
    listener: Option<TcpListener>,
    connections: Vec<JoinHandle<()>>,
}

impl Server {
    /// Binds the address. One that this machine does not have yet is waited for; one that cannot be had is an error.
    pub(super) fn bind(options: Tcp, registers: Arc<Registers>) -> Result<Self> {
        let listener = match listen(options.listen) {
            Ok(listener) => Some(listener),
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                log::warn!("Modbus: this machine has no address {} yet; waiting for it", options.listen.ip());
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self { options: Arc::new(options), registers, listener, connections: vec![] })
    }

    pub(super) fn run(mut self, watchdog: &Watchdog) {
        let mut failing = false;
        while !self.registers.is_closed() {
            watchdog.feed(clock::now(), SILENCE);
            match &self.listener {
                Some(listener) => match accept(listener) {
                    Ok(Some((stream, from))) => {
                        failing = false;
                        self.admit(stream, from);
                    }
                    Ok(None) => {}
                    // Without file descriptors the connection waits on, and poll says so at once, again and again.
                    Err(error) => {
                        if !std::mem::replace(&mut failing, true) {
                            log::warn!("Modbus: a connection cannot be taken: {error}");
                        }
                        std::thread::sleep(SLICE);
                    }
                },
                None => {
                    std::thread::sleep(RETRY);
                    self.listener = listen(self.options.listen).ok();
                }
            }
        }
        drop(self.listener);
        for connection in self.connections {
            if connection.join().is_err() {
                log::error!("a Modbus connection panicked: please report this");
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, from: SocketAddr) {
        self.connections.retain(|connection| !connection.is_finished());
        let masters = &self.options.masters;
        let refusal = if !masters.is_empty() && !masters.contains(&plain(from.ip())) {
            "is not in modbus.tcp.masters"
        } else if self.connections.len() >= self.options.connections {
            "is one connection too many"
        } else {
            return self.serve(stream, from);
        };
        self.registers.counters.turned_away.fetch_add(1, Relaxed);
        log::debug!("Modbus: {from} {refusal}");
    }

    fn serve(&mut self, stream: TcpStream, from: SocketAddr) {
        let (options, registers) = (self.options.clone(), self.registers.clone());
        let serve = move || {
            let ended = Connection::new(stream, &options, &registers).and_then(Connection::run);
            log::debug!("Modbus: {from} {}", ended.map_or_else(|error| error.to_string(), |why| format!("{why:?}")));
        };
        match std::thread::Builder::new().name("modbus-master".into()).spawn(serve) {
            Ok(connection) => self.connections.push(connection),
            Err(error) => log::warn!("Modbus: no thread for {from}: {error}"),
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    log::info!("Modbus: listening at {}", listener.local_addr()?);
    Ok(listener)
}

/// The next connection, waited for a slice.
fn accept(listener: &TcpListener) -> Result<Option<(TcpStream, SocketAddr)>> {
    let slice = Timespec { tv_sec: 0, tv_nsec: i64::from(SLICE.subsec_nanos()) };
    match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&slice)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Ok(None),
        Ok(_) => match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            taken => taken.map(Some),
        },
        Err(error) => Err(error.into()),
    }
}

/// An IPv4 address in the form in which it is written, even where it came over IPv6.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Why a connection ended without an error.
#[derive(Debug)]
enum Ended {
    /// By the master.
    Left,
    /// It asked nothing for too long.
    Idle,
    /// It began a request and did not end it.
    Dawdled,
    /// It sent something other than Modbus.
    Garbage,
    /// The station stops.
    Stopped,
}

/// Bytes that may wait to be looked at: several requests that came together.
const ROOM: usize = 4 * MAX_TCP;

struct Connection<'a> {
    stream: TcpStream,
    options: &'a Tcp,
    registers: &'a Registers,
    window: Window,
    bytes: heapless::Vec<u8, ROOM>,
    /// When the last request was answered, or the connection began.
    quiet: Timestamp,
    /// When the first byte of the request came that is not whole.
    begun: Option<Timestamp>,
}

impl<'a> Connection<'a> {
    fn new(stream: TcpStream, options: &'a Tcp, registers: &'a Registers) -> Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        registers.masters.fetch_add(1, Relaxed);
        let (window, bytes) = (Window::default(), heapless::Vec::new());
        Ok(Self { stream, options, registers, window, bytes, quiet: clock::now(), begun: None })
    }

    fn run(mut self) -> Result<Ended> {
        let mut room = [0; MAX_TCP];
        loop {
            let came = match self.stream.read(&mut room) {
                Ok(0) => return Ok(Ended::Left),
                Ok(count) => count,
                Err(error) if waits(&error) => 0,
                Err(error) => return Err(error),
            };
            let now = clock::now();
            // There is room: what is whole was answered, and less than one frame is left.
            let _ = self.bytes.extend_from_slice(room.get(..came).unwrap_or_default());
            if let Some(why) = self.take(now)?.or_else(|| self.tired(now)) {
                return Ok(why);
            }
        }
    }

    /// Answers every request that is whole.
    fn take(&mut self, now: Timestamp) -> Result<Option<Ended>> {
        loop {
            match tcp(&self.bytes) {
                Found::Frame(length) => self.answer(length, now)?,
                Found::Partial => break,
                Found::Garbage => {
                    self.registers.counters.damaged.fetch_add(1, Relaxed);
                    return Ok(Some(Ended::Garbage));
                }
            }
        }
        self.begun = if self.bytes.is_empty() { None } else { self.begun.or(Some(now)) };
        Ok(None)
    }

    fn answer(&mut self, length: usize, now: Timestamp) -> Result<()> {
        let request = self.bytes.get(..length).unwrap_or_default();
        let pdu = request.get(TCP_HEADER + 1..).unwrap_or_default();
        let (registers, window, write) = (self.registers, &mut self.window, self.options.write);
        let answer = modbus::answer(pdu, |access| registers.serve(access, window, write, now));
        registers.count(&answer);
        let mut out = heapless::Vec::new();
        tcp_answer(request, &answer, &mut out);
        write_whole(&mut self.stream, &out)?;
        self.bytes.drain(..length);
        (self.quiet, self.begun) = (clock::now(), None);
        Ok(())
    }

    fn tired(&self, now: Timestamp) -> Option<Ended> {
        let dawdles = self.begun.is_some_and(|begun| now.saturating_sub(begun) > DAWDLE);
        let idle = now.saturating_sub(self.quiet) > self.options.idle;
        match (self.registers.is_closed(), dawdles, idle) {
            (true, _, _) => Some(Ended::Stopped),
            (_, true, _) => {
                self.registers.counters.damaged.fetch_add(1, Relaxed);
                Some(Ended::Dawdled)
            }
            (_, _, true) => Some(Ended::Idle),
            _ => None,
        }
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.registers.masters.fetch_sub(1, Relaxed);
    }
}

/// Writes an answer; a master that takes it byte by byte has [`STUCK`] for all of it.
fn write_whole(stream: &mut TcpStream, mut bytes: &[u8]) -> Result<()> {
    let end = clock::now() + STUCK;
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if waits(&error) => {}
            Err(error) => return Err(error),
        }
        if !bytes.is_empty() && clock::now() > end {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

fn waits(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
