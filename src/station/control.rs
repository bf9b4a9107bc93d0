//! How a running station is told to take another bundle: a socket in its runtime folder, a JSON object a line each way.
//!
//! In: requests of whoever may write to the socket, its user and its group. Out: what comes of each, in steps.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::store::Id;

/// Where a station on a camera listens.
pub const SOCKET: &str = "/run/fcam/control.sock";

/// A proof takes no longer than so many seconds, on the slowest board.
pub const PROVING_S: u64 = 600;

/// Why a bundle is given up that was rolled back.
pub const ROLLED_BACK: &str = "rolled back by the operator";

/// The longest request.
const MAX_REQUEST: u64 = 4096;

/// Whoever connects says what he wants within this time.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a station is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Take this bundle.
    Activate(Id),
    /// Give the active bundle up and take the one before it.
    Rollback,
}

/// What comes of it, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Reply {
    /// It is loaded and proven, while the other one goes on.
    Proving {
        /// Which.
        bundle: Id,
    },
    /// It judges now; its first parts are watched.
    Running {
        /// Which.
        bundle: Id,
        /// How many.
        watched: u64,
    },
    /// Its first parts are through.
    Passed {
        /// Which.
        bundle: Id,
    },
    /// It is proven and active, and another job of the PLC is in force: it judges when the PLC asks for its own, and after a start.
    Waiting {
        /// Which.
        bundle: Id,
        /// Its job.
        job: u16,
    },
    /// It was given up; what ran before goes on.
    Failed {
        /// Which.
        bundle: Id,
        /// Why.
        reason: String,
    },
    /// Nothing was done.
    Refused {
        /// Why.
        reason: String,
    },
}

impl Reply {
    /// For people, or as JSON.
    pub fn words(&self, as_json: bool) -> String {
        if as_json {
            return format!("{}\n", json!(self));
        }
        match self {
            Self::Proving { bundle } => format!("{bundle} is being proven on this machine\n"),
            Self::Running { bundle, watched } => {
                format!("{bundle} runs, on trial: its first {watched} parts are watched and not all of them came yet\n")
            }
            Self::Passed { bundle } => format!("{bundle} runs\n"),
            Self::Waiting { bundle, job } => {
                format!("{bundle} is active, and another job is in force: it judges when the PLC asks for job {job}\n")
            }
            Self::Failed { bundle, reason } => format!("{bundle} was given up: {reason}\n"),
            Self::Refused { reason } => format!("refused: {reason}\n"),
        }
    }
}

/// A station's socket; gone with the station.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens. A socket that a station left behind which was killed is replaced; one that somebody serves is not.
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

    /// The next request, waited for as long as that, and who is to hear what comes of it.
    pub(super) fn next(&self, patience: Duration) -> Option<(Request, Asker)> {
        let mut waiting = [rustix::event::PollFd::new(&self.listener, rustix::event::PollFlags::IN)];
        let patience = rustix::event::Timespec::try_from(patience).ok()?;
        if !rustix::event::poll(&mut waiting, Some(&patience)).is_ok_and(|ready| ready > 0) {
            return None;
        }
        let (stream, _) = self.listener.accept().ok()?;
        let mut asker = Asker(Some(stream));
        match asker.hear() {
            Ok(request) => Some((request, asker)),
            Err(error) => {
                asker.tell(&Reply::Refused { reason: format!("the request cannot be read: {error}") });
                None
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whoever asked, as long as he listens. Nothing ever waits for him.
#[derive(Debug)]
pub(super) struct Asker(Option<UnixStream>);

impl Asker {
    fn hear(&mut self) -> io::Result<Request> {
        let Some(stream) = &self.0 else { return Err(ErrorKind::NotConnected.into()) };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(stream.take(MAX_REQUEST)).read_line(&mut line)?;
        serde_json::from_str(&line).map_err(io::Error::from)
    }

    pub(super) fn tell(&mut self, reply: &Reply) {
        let Some(stream) = &mut self.0 else { return };
        if stream.write_all(reply.words(true).as_bytes()).is_err() {
            self.0 = None; // he went away
        }
    }
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

    /// The next step; none if there was none for so long, or the station ended.
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
