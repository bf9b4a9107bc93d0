//! The station's log: an outbox towards standard error, so that no thread waits for whoever reads it (a journal that
//! hangs, a terminal that is stopped). In: formatted lines. Out: the same, on a thread of its own.
//!
//! A queue that is full drops lines; how many is said once it takes lines again.

use std::io::{IsTerminal, Result, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Lines that may wait.
const QUEUE: usize = 1024;

/// How long the program waits at its end for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// Something for the thread.
enum Post {
    Line(Vec<u8>),
    /// Says when everything before it is written.
    Flush(Sender<()>),
}

static POSTS: OnceLock<Sender<Post>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);

/// Logs to standard error through the outbox; what `builder` formats is taken. Panics are logged too: their own way out
/// would wait.
pub(super) fn init(mut builder: env_logger::Builder) -> Result<()> {
    let (posts, inbox) = bounded(QUEUE);
    std::thread::Builder::new().name("log".into()).spawn(move || run(&inbox, &mut std::io::stderr()))?;
    let _ = POSTS.set(posts.clone()); // once a process
    let plain = ["NO_COLOR", "RUST_LOG_STYLE"].iter().any(|name| std::env::var_os(name).is_some());
    if std::io::stderr().is_terminal() && !plain {
        builder.write_style(env_logger::WriteStyle::Always); // it cannot see through the pipe
    }
    builder.target(env_logger::Target::Pipe(Box::new(Outbox { posts, line: vec![] }))).init();
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    }
    Ok(())
}

/// Waits until what was logged is written, unless nobody takes it.
pub(super) fn flush() {
    let Some(posts) = POSTS.get() else { return };
    let (done, written) = bounded(1);
    if posts.send_timeout(Post::Flush(done), PATIENCE).is_ok() {
        let _ = written.recv_timeout(PATIENCE); // nobody reads any more
    }
}

/// Where the logger writes.
struct Outbox {
    posts: Sender<Post>,
    line: Vec<u8>,
}

impl Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") && self.posts.try_send(Post::Line(std::mem::take(&mut self.line))).is_err() {
            LOST.fetch_add(1, Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn run(inbox: &Receiver<Post>, out: &mut impl Write) {
    for post in inbox {
        // Nobody can be told of a standard error that is closed.
        match post {
            Post::Line(line) => drop(out.write_all(&line)),
            Post::Flush(done) => drop(done.send(())),
        }
        let lost = LOST.swap(0, Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "... {lost} lines of the log are missing here: nobody took them");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_nobody_reads_keeps_nobody_waiting() {
        let (posts, inbox) = bounded(2);
        let mut outbox = Outbox { posts, line: vec![] };
        for word in ["a\n", "b", "c\n", "d\n", "e\n"] {
            outbox.write_all(word.as_bytes()).unwrap();
        }
        drop(outbox);
        let mut out = vec![];
        run(&inbox, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "a\n... 2 lines of the log are missing here: nobody took them\nbc\n");
    }
}
