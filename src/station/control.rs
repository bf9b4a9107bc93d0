//! How a running station is told to take another bundle: a socket in its runtime folder, a JSON object a line each way.
//!
//! In: requests of whoever may write to the socket, its user and its group. Out: what comes of each, in steps.
//!
//! Nothing waits for a client. Requests are heard on a thread of their own, all clients at once, each until its
//! deadline; whoever does not take an answer is let go. Where the system has no file descriptor for one more, nobody is
//! let in for a while.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::clock::{self, Timestamp};
pub use crate::trial::{Reply, Request};

/// Where a station on a camera listens.
pub const SOCKET: &str = "/run/fcam/control.sock";

/// Seconds that a proof takes at most, on the slowest board.
pub const PROVING_S: u64 = 600;

/// The longest request, bytes.
const MAX_REQUEST: usize = 4096;

/// From a connection to the end of its request.
const PATIENCE: Duration = Duration::from_secs(1);

/// Clients whose requests are not whole yet; one more waits until one of them is heard or turned away.
const MAX_CLIENTS: usize = 16;

/// How often a listening thread looks whether the station ends.
const TICK: Duration = Duration::from_millis(50);

/// Between two tries to take a connection where that fails.
const BACKOFF: Duration = Duration::from_millis(500);

/// A station's socket; gone with the station.
///
/// ```
/// use fcam::station::control::{Client, Socket};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("control.sock");
/// assert!(Client::connect(&path)?.is_none()); // no station runs there
/// let socket = Socket::open(&path)?;
/// assert!(Client::connect(&path)?.is_some());
/// assert!(Socket::open(&path).is_err()); // one station serves it
/// drop(socket);
/// assert!(!path.exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens. A socket left behind by a station that was killed is replaced; one that a station serves is not.
    pub fn open(path: &Path) -> io::Result<Self> {
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        if is_socket {
            match UnixStream::connect(path) {
                Ok(_) => return Err(ErrorKind::AddrInUse.into()),
                Err(_) => std::fs::remove_file(path)?,
            }
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o660))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path: path.into() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A client that asked, as long as it listens.
#[derive(Debug)]
pub(super) struct Connection(UnixStream);

impl Connection {
    /// False if the client does not take it: it went away, or reads nothing.
    pub(super) fn tell(&self, reply: &Reply) -> bool {
        (&self.0).write_all(reply.text(true).as_bytes()).is_ok()
    }

    /// False once the other end is closed.
    pub(super) fn is_there(&self) -> bool {
        let mut waiting = [PollFd::new(&self.0, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = poll(&mut waiting, Some(&now)); // it says nothing, or that the end is closed
        waiting.iter().all(|found| !found.revents().intersects(PollFlags::HUP | PollFlags::ERR))
    }
}

/// A client whose request is not whole yet.
struct Speaker {
    connection: Connection,
    request: Vec<u8>,
    until: Timestamp,
}

impl Speaker {
    /// The request once it is whole, or why there will be none.
    fn hear(&mut self, now: Timestamp) -> Option<Result<Request, String>> {
        let mut room = [0; MAX_REQUEST];
        let ended = loop {
            match (&self.connection.0).read(&mut room) {
                Ok(0) => break true,
                Ok(count) => self.request.extend_from_slice(room.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) => return Some(Err(error.to_string())),
            }
            if self.request.len() > MAX_REQUEST {
                return Some(Err(format!("it is longer than {MAX_REQUEST} bytes")));
            }
        };
        let line = self.request.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if ended || line.len() < self.request.len() {
            return Some(serde_json::from_slice(line).map_err(|error| error.to_string()));
        }
        (now >= self.until).then(|| Err(format!("it was not whole after {PATIENCE:?}")))
    }
}

/// Hears the clients of a socket.
pub(super) struct Reception<'a> {
    socket: &'a Socket,
    requests: Sender<(Request, Connection)>,
    speakers: Vec<Speaker>,
    /// No connection is accepted before this time.
    closed: Timestamp,
    /// The last connection could not be taken.
    failing: bool,
}

impl<'a> Reception<'a> {
    pub(super) fn new(socket: &'a Socket, requests: Sender<(Request, Connection)>) -> Self {
        Self { socket, requests, speakers: vec![], closed: Timestamp::ZERO, failing: false }
    }

    /// Until the station ends.
    pub(super) fn run(mut self, is_open: impl Fn() -> bool) {
        while is_open() {
            self.wait();
            let now = clock::now();
            self.admit(now);
            self.hear(now);
        }
    }

    fn is_open(&self, now: Timestamp) -> bool {
        now >= self.closed && self.speakers.len() < MAX_CLIENTS
    }

    /// Waits until a client connects or sends, for a tick at most.
    fn wait(&self) {
        let door = self.is_open(clock::now()).then(|| PollFd::new(&self.socket.listener, PollFlags::IN));
        let speakers = self.speakers.iter().map(|speaker| PollFd::new(&speaker.connection.0, PollFlags::IN));
        let mut waiting: Vec<PollFd> = door.into_iter().chain(speakers).collect();
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        if poll(&mut waiting, Some(&tick)).is_err() {
            std::thread::sleep(TICK);
        }
    }

    fn admit(&mut self, now: Timestamp) {
        while self.is_open(now) {
            match self.socket.listener.accept() {
                Ok((stream, _)) => self.welcome(stream, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => self.back_off(&error, now),
            }
        }
    }

    fn welcome(&mut self, stream: UnixStream, now: Timestamp) {
        if std::mem::take(&mut self.failing) {
            log::info!("{}: connections are taken again", self.socket.path.display());
        }
        if stream.set_nonblocking(true).is_ok() {
            let connection = Connection(stream);
            self.speakers.push(Speaker { connection, request: vec![], until: now + PATIENCE });
        }
    }

    /// There are no file descriptors left, most likely: asking again at once would keep a core busy until there are.
    fn back_off(&mut self, error: &io::Error, now: Timestamp) {
        self.closed = now + BACKOFF;
        if !std::mem::replace(&mut self.failing, true) {
            log::warn!(
                "{}: no connection can be taken, tried again every {BACKOFF:?}: {error}",
                self.socket.path.display()
            );
        }
    }

    fn hear(&mut self, now: Timestamp) {
        for mut speaker in std::mem::take(&mut self.speakers) {
            match speaker.hear(now) {
                None => self.speakers.push(speaker),
                Some(Ok(request)) => self.pass_on(request, speaker.connection),
                Some(Err(error)) => refuse(&speaker.connection, format!("the request cannot be read: {error}")),
            }
        }
    }

    fn pass_on(&self, request: Request, connection: Connection) {
        if let Err(TrySendError::Full((_, connection)) | TrySendError::Disconnected((_, connection))) =
            self.requests.try_send((request, connection))
        {
            refuse(&connection, "too many requests at once: ask again in a moment".into());
        }
    }
}

fn refuse(connection: &Connection, reason: String) {
    connection.tell(&Reply::Refused { reason }); // nobody asks again whether it was heard
}

/// The other end.
#[derive(Debug)]
pub struct Client(BufReader<UnixStream>);

impl Client {
    /// None if no station is running there.
    pub fn connect(path: &Path) -> io::Result<Option<Self>> {
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Some(Self(BufReader::new(stream)))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let advice =
                    format!("{error}: {}: run this as root, or as a member of the station's group", path.display());
                Err(io::Error::new(error.kind(), advice))
            }
            Err(error) => Err(error),
        }
    }

    /// Asks.
    pub fn ask(&mut self, request: &Request) -> io::Result<()> {
        self.0.get_mut().write_all(format!("{}\n", json!(request)).as_bytes())
    }

    /// The next step; none if none came within this time, or the station ended.
    pub fn next(&mut self, patience: Duration) -> io::Result<Option<Reply>> {
        self.0.get_ref().set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(serde_json::from_str(&line)?)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Connection(ours), theirs)
    }

    #[test]
    fn a_client_that_reads_nothing_is_let_go_at_once() {
        let (connection, theirs) = pair();
        let reply = Reply::Refused { reason: "x".repeat(1000) };
        let told = (0..100_000).take_while(|_| connection.tell(&reply)).count();
        assert!((1..100_000).contains(&told), "{told} answers");
        assert!(connection.is_there());
        drop(theirs);
        assert!(!connection.is_there());
    }

    #[test]
    fn a_request_is_whole_or_refused_at_its_deadline() {
        let hear = |pieces: &[&[u8]], ends: bool, now: Timestamp| {
            let (connection, mut theirs) = pair();
            let mut speaker = Speaker { connection, request: vec![], until: PATIENCE };
            let mut heard = None;
            for piece in pieces {
                theirs.write_all(piece).unwrap();
                heard = heard.or_else(|| speaker.hear(now));
            }
            if ends {
                drop(theirs);
                heard = heard.or_else(|| speaker.hear(now));
            }
            heard
        };
        let early = PATIENCE - Duration::from_millis(1);
        assert_eq!(hear(&[b"\"roll", b"back\"", b"\n"], false, early), Some(Ok(Request::Rollback)));
        assert_eq!(hear(&[b"\"rollback\""], false, early), None);
        assert_eq!(hear(&[b"\"rollback\""], true, early), Some(Ok(Request::Rollback)));
        let refused = |pieces: &[&[u8]], ends, now| hear(pieces, ends, now).unwrap().unwrap_err();
        assert!(refused(&[b"\"roll"], false, PATIENCE).contains("not whole"));
        assert!(refused(&[b"\"roll"], true, early).contains("EOF"));
        assert!(refused(&[b"hello\n"], false, early).contains("expected value"));
        assert!(refused(&[&[b' '; MAX_REQUEST + 1]], false, early).contains("longer"));
    }
}
