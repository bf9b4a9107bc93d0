//! The few ways in which the store touches its disk, so that what is there is whole at every moment.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, statvfs};

use super::Error;
use crate::{clock, durable};

/// How long to wait for another writer: longer than one takes on the slowest card. A writer that was stopped in the
/// middle holds nobody up for longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The pause between two tries to take the lock.
const RETRY: Duration = Duration::from_millis(10);

/// The store's folder, held against every other writer until this is dropped, or its process ends.
pub(super) struct Lock {
    dir: PathBuf,
    file: File,
}

impl Lock {
    /// Waits for other writers, but not forever; makes the folder if it is not there, and removes what one that was
    /// killed left half written.
    pub(super) fn new(dir: &Path) -> Result<Self, Error> {
        let lock = Self::within(dir, PATIENCE)?;
        lock.clear()?;
        Ok(lock)
    }

    fn within(dir: &Path, patience: Duration) -> Result<Self, Error> {
        if !dir.is_dir() {
            make(dir).map_err(failed("make", dir))?;
        }
        let file = File::open(dir).map_err(failed("open", dir))?;
        lock(&file, patience).map_err(failed("lock", dir))?;
        Ok(Self { dir: dir.into(), file })
    }

    fn clear(&self) -> Result<(), Error> {
        let entries = fs::read_dir(&self.dir).map_err(failed("list", &self.dir))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == durable::PARTIAL) {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    /// The file has all of these bytes or those it had before, whenever the power fails; and all of these once this
    /// returns.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        durable::write(path, &[bytes]).map_err(failed("write", path))
    }

    /// Removes a file; one that is gone already is as good.
    pub(super) fn remove(&self, path: &Path) -> Result<(), Error> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
            _ => self.sync(),
        }
    }

    /// Names that were changed stay changed.
    fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(failed("sync", &self.dir))
    }
}

fn lock(file: &File, patience: Duration) -> io::Result<()> {
    let until = clock::now() + patience;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(error) if error == rustix::io::Errno::WOULDBLOCK && clock::now() < until => std::thread::sleep(RETRY),
            Err(error) if error == rustix::io::Errno::INTR => {}
            locked => return Ok(locked?),
        }
    }
}

/// Makes a folder and those above it, and syncs its name to the disk.
fn make(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    durable::sync_folder(dir.parent().unwrap_or(Path::new("")))
}

/// Bytes that are free on a folder's disk for this user.
pub(super) fn free(dir: &Path) -> Result<u64, Error> {
    let disk = statvfs(dir).map_err(|error| failed("look at", dir)(error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Disk { action, path, source }
}

pub(super) fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::PermissionDenied => ": run it as root, or as the user of the station (sudo -u fcam ...)",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ": clear the disk; what was installed is as it was",
        ErrorKind::WouldBlock => ": another fcam writes there and does not end; nothing was changed, try again",
        ErrorKind::ReadOnlyFilesystem => ": the card may be worn out; look at `dmesg`",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_does_not_end_holds_nobody_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::new(dir.path()).unwrap();
        let refused = Lock::within(dir.path(), Duration::from_millis(50)).err().unwrap().to_string();
        assert!(refused.contains("cannot lock") && refused.contains("try again"), "{refused}");
        let dir = dir.path().to_owned();
        let second = std::thread::spawn(move || Lock::within(&dir, Duration::from_secs(60)).is_ok());
        std::thread::sleep(Duration::from_millis(30));
        drop(first);
        assert!(second.join().unwrap());
    }
}
