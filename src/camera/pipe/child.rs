//! A supervised child process. In: a command line. Out: its standard output, read until a deadline, and how it ended.
//!
//! The child leads a process group of its own, and the whole group ends with it: a shell's or a wrapper's children too.
//! Its standard error is drained by a thread, so that a talkative child never blocks; only the last line is kept.

use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::clock::{self, Timestamp};

/// From the polite signal to the one that cannot be ignored.
const TERM_GRACE: Duration = Duration::from_millis(500);
/// How long a child may take to exit once its output has ended.
const EXIT_GRACE: Duration = Duration::from_millis(500);
/// A killed process is gone in microseconds, unless a driver holds it; then it is left to the system.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// For the last words to arrive after the child has ended.
const WORDS_GRACE: Duration = Duration::from_millis(100);
/// What the pipe is asked to hold, instead of 64 KiB: fewer wake-ups a frame. The kernel's limit for users is 1 MiB.
const PIPE_BYTES: usize = 1 << 20;
/// Of the last line of standard error.
const MAX_LINE: usize = 300;

pub(super) struct Child {
    process: std::process::Child,
    stdout: ChildStdout,
    last_line: Arc<Mutex<LastLine>>,
    drain: Option<JoinHandle<()>>,
    output_ended: Option<Timestamp>,
    /// Then its number may belong to someone else, and is not signalled any more.
    reaped: bool,
}

/// What a read came to.
pub(super) enum Got {
    Bytes(usize),
    /// The deadline came first.
    Nothing,
    /// The child has closed its output and exited, with this status.
    End(Status),
}

/// How a child ended.
pub(super) struct Status {
    pub(super) clean: bool,
    pub(super) last_line: String,
}

impl Child {
    pub(super) fn spawn(command: &[String]) -> std::io::Result<Self> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| std::io::Error::other("the command is empty"))?;
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (Some(stdout), Some(stderr)) = (process.stdout.take(), process.stderr.take()) else {
            return Err(std::io::Error::other("the command has no output")); // both were asked for above
        };
        let last_line = Arc::new(Mutex::new(LastLine::default()));
        let mut child =
            Self { process, stdout, last_line: last_line.clone(), drain: None, output_ended: None, reaped: false };
        fcntl_setfl(&child.stdout, fcntl_getfl(&child.stdout)? | OFlags::NONBLOCK)?;
        let _ = rustix::pipe::fcntl_setpipe_size(&child.stdout, PIPE_BYTES); // a wish: a smaller pipe works as well
        let drain =
            std::thread::Builder::new().name("camera-stderr".into()).spawn(move || drain(stderr, &last_line))?;
        child.drain = Some(drain);
        Ok(child)
    }

    /// Reads what there is, up to the length of `into`, and waits for it until the deadline.
    pub(super) fn read(&mut self, into: &mut [u8], deadline: Timestamp) -> std::io::Result<Got> {
        loop {
            match self.stdout.read(into) {
                Ok(0) => return Ok(self.end(deadline)),
                Ok(count) => return Ok(Got::Bytes(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let left = deadline.saturating_sub(clock::now());
            if left.is_zero() {
                return Ok(Got::Nothing);
            }
            self.wait_readable(left)?;
        }
    }

    fn wait_readable(&self, time: Duration) -> std::io::Result<()> {
        let timeout = Timespec::try_from(time).ok(); // a time too long for the kernel is forever
        match poll(&mut [PollFd::new(&self.stdout, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The output is at its end: lets the child exit by itself for a while, then kills it.
    fn end(&mut self, deadline: Timestamp) -> Got {
        let grace_over = *self.output_ended.get_or_insert_with(clock::now) + EXIT_GRACE;
        let exited = self.wait_exit(grace_over.min(deadline));
        if !exited && clock::now() < grace_over {
            return Got::Nothing;
        }
        Got::End(self.stop(Duration::ZERO))
    }

    /// Ends the whole group, reaps the child and says how it ended.
    fn stop(&mut self, grace: Duration) -> Status {
        if !grace.is_zero() {
            self.signal(Signal::TERM);
            self.wait_exit(clock::now() + grace);
        }
        // Sent even if the child has exited: it is not reaped yet, so the group's number still belongs to it.
        self.signal(Signal::KILL);
        if !self.wait_exit(clock::now() + KILL_GRACE) {
            log::warn!("camera process {} does not end: its driver holds it", self.process.id());
            return Status { clean: false, last_line: "it does not end".into() };
        }
        self.reaped = true;
        match self.process.wait() {
            Ok(status) => Status { clean: status.success(), last_line: status.to_string() },
            Err(error) => Status { clean: false, last_line: error.to_string() },
        }
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(Pid::from_child(&self.process), signal); // fails only if nobody is left
    }

    /// Waits for the child's exit without reaping it; false if it still runs at `until`.
    fn wait_exit(&self, until: Timestamp) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            match waitid(WaitId::Pid(Pid::from_child(&self.process)), options) {
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Ok(Some(_)) | Err(_) => return true, // an error is that there is no such child: it was reaped before
            }
            let left = until.saturating_sub(clock::now());
            if left.is_zero() {
                return false;
            }
            sleep(left.min(Duration::from_millis(2)));
        }
    }

    /// The last line of its standard error, or a word that there was none.
    pub(super) fn last_words(&self) -> String {
        let until = clock::now() + WORDS_GRACE;
        while self.drain.as_ref().is_some_and(|thread| !thread.is_finished()) && clock::now() < until {
            sleep(Duration::from_millis(1));
        }
        self.last_line.lock().map_or_else(|_| String::new(), |last_line| last_line.text())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.stop(TERM_GRACE);
        }
    }
}

/// Reads standard error to its end.
fn drain(mut stderr: ChildStderr, last_line: &Mutex<LastLine>) {
    let mut chunk = [0; 4096];
    loop {
        match stderr.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                if let Ok(mut last_line) = last_line.lock() {
                    last_line.push(chunk.get(..count).unwrap_or_default());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// The last line of a stream that has words in it; carriage returns end lines too (progress displays).
#[derive(Default)]
struct LastLine {
    /// The last full line.
    last: Vec<u8>,
    /// The line being written.
    line: Vec<u8>,
}

impl LastLine {
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                if !self.line.trim_ascii().is_empty() {
                    std::mem::swap(&mut self.last, &mut self.line);
                }
                self.line.clear();
            } else if self.line.len() < MAX_LINE {
                self.line.push(byte);
            }
        }
    }

    fn text(&self) -> String {
        let line = [&self.line, &self.last].into_iter().find(|line| !line.trim_ascii().is_empty());
        let text = line.map_or_else(|| "none".into(), |line| String::from_utf8_lossy(line.trim_ascii()).into_owned());
        text.chars().filter(|character| !character.is_control()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_last_line_with_words() {
        for (stream, expected) in [
            ("", "none"),
            ("\n \n", "none"),
            ("one\ntwo\n\n", "two"),
            ("one\rtwo\rthree", "three"),
            ("error: \u{1b}[31mno camera\u{1b}[0m\r\n", "error: [31mno camera[0m"),
        ] {
            let mut last_line = LastLine::default();
            stream.as_bytes().chunks(3).for_each(|chunk| last_line.push(chunk));
            assert_eq!(last_line.text(), expected, "{stream:?}");
        }
        let mut last_line = LastLine::default();
        (0..1000).for_each(|_| last_line.push(&[b'x'; 4096]));
        assert_eq!(last_line.text().len(), MAX_LINE);
    }
}
