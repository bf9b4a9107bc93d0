//! The server. In: connections. Out: each served within its limits, on one thread of the lowest priority.
//!
//! What a connection may take is fixed: there are never more than [`CONNECTIONS`], and never more than
//! [`FROM_ONE`] of one address; a head that is long or slow, a body that is long or slow, and a reader who takes nothing
//! are cut. A panic in a request costs that connection; one in anything else ends all of them, and the server begins
//! again.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::patience::Patient;
use super::shared::{Shared, lock};
use super::{Error, live, pictures, route, tls};
use crate::clock;
use crate::plc_link::PlcLink;
use crate::priority;
use crate::sink;
use crate::watchdog::{Duty, SLOW, Watchdog};
use crate::window::Viewer;

/// Connections at once at most, and those of one address.
const CONNECTIONS: usize = 64;
const FROM_ONE: usize = 32;

/// Time for a request's head, an idle connection included, and for the beginning of TLS.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// Bytes of a head at most (hyper takes no less), and headers in it.
const HEAD: usize = 8192;
const HEADERS: usize = 48;

/// How long a reader may take nothing.
const STUCK: Duration = Duration::from_secs(10);

/// What the kernel keeps for a reader who is slow, in bytes.
const SEND_BUFFER: usize = 256 << 10;

/// Between two tries: to bind an address that is not there yet, to take a connection, to begin again after a panic.
const RETRY: Duration = Duration::from_millis(500);

/// How long the end of the station waits for the server, and the server for what it does in the background.
const END: Duration = Duration::from_millis(500);
const BACKGROUND: Duration = Duration::from_millis(100);

/// The server's thread.
pub(super) struct Server {
    stop: watch::Sender<bool>,
    /// Hangs up when the thread ends.
    ended: Receiver<()>,
}

impl Server {
    /// Binds the address. One that this machine does not have yet is waited for; one that cannot be had is an error.
    pub(super) fn start(shared: Arc<Shared>, viewer: Viewer, plc_link: &PlcLink) -> Result<Self, Error> {
        let tls = tls::acceptor(&shared.options)?;
        let address = shared.options.listen;
        let what = format!("the page at {address}");
        let failed = |source| sink::Error::Serve { sink: what.clone(), source };
        let listener = match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                log::warn!("the page: this machine has no address {} yet; waiting for it", address.ip());
                None
            }
            bound => Some(bound.map_err(failed)?),
        };
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = bounded::<()>(0);
        let watchdog = Arc::new(plc_link.watchdog("page", Duty::Guest));
        let scheme = if tls.is_some() { "https" } else { "http" };
        log::info!("the page is at {scheme}://{address}");
        if lock(&shared.users).now().is_empty() {
            let dir = shared.options.dir.display();
            log::warn!("nobody can log in to the page: make a user with `fcam page user NAME --dir {dir}`");
        }
        let host = Host { shared, viewer: Arc::new(viewer), listener, tls, watchdog };
        let run = move || {
            let _end = end; // dropped with the thread
            priority::lower("the page");
            host.run(&stopped);
        };
        std::thread::Builder::new().name("page".into()).spawn(run).map_err(failed)?;
        Ok(Self { stop, ended })
    }

    /// Ends it, or leaves it to the end of the process.
    pub(super) fn stop(&mut self) {
        self.stop.send_replace(true);
        let _ = self.ended.recv_timeout(END);
    }
}

/// Everything that the thread owns, from one beginning to the next.
struct Host {
    shared: Arc<Shared>,
    viewer: Arc<Viewer>,
    listener: Option<TcpListener>,
    tls: Option<TlsAcceptor>,
    watchdog: Arc<Watchdog>,
}

type Running<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

impl Host {
    fn run(mut self, stopped: &watch::Receiver<bool>) {
        while !*stopped.borrow() {
            let served = catch_unwind(AssertUnwindSafe(|| self.serve(stopped.clone())));
            match served {
                Ok(Ok(())) if *stopped.borrow() => return,
                Ok(Err(error)) => log::error!("the page cannot be served: {error}"),
                _ => log::error!("the page panicked, and begins again: please report this"),
            }
            self.watchdog.feed(clock::now(), SLOW);
            std::thread::sleep(RETRY);
        }
    }

    /// Until it is stopped, or a part of it has ended, which none does by itself.
    fn serve(&mut self, mut stopped: watch::Receiver<bool>) -> std::io::Result<()> {
        let mut build = tokio::runtime::Builder::new_current_thread();
        let runtime = build.enable_all().max_blocking_threads(2).thread_name("page-work").build()?;
        let (shared, viewer, watchdog) = (self.shared.clone(), self.viewer.clone(), self.watchdog.clone());
        let (tls, listener) = (self.tls.clone(), &mut self.listener);
        runtime.block_on(async {
            let teller = tokio::spawn(live::tell(shared.clone(), watchdog));
            let painter = tokio::spawn(pictures::paint(shared.clone(), viewer));
            let mut all: [Running; 4] = [
                Box::pin(async move { drop(stopped.wait_for(|stop| *stop).await) }),
                Box::pin(async move { drop(teller.await) }),
                Box::pin(async move { drop(painter.await) }),
                Box::pin(accept(shared, listener, tls)),
            ];
            poll_fn(|context| {
                let ended = all.iter_mut().any(|running| running.as_mut().poll(context).is_ready());
                if ended { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
        runtime.shutdown_timeout(BACKGROUND);
        Ok(())
    }
}

/// Takes connections, for ever.
async fn accept(shared: Arc<Shared>, listener: &mut Option<TcpListener>, tls: Option<TlsAcceptor>) {
    let places = Places::default();
    loop {
        let taken = listener.as_ref().and_then(|listener| listener.try_clone().ok()).and_then(|listener| {
            listener.set_nonblocking(true).ok()?;
            tokio::net::TcpListener::from_std(listener).ok()
        });
        let Some(taken) = taken else {
            sleep(RETRY).await;
            *listener = TcpListener::bind(shared.options.listen).ok();
            continue;
        };
        loop {
            match taken.accept().await {
                Ok((stream, from)) => admit(&shared, &places, tls.clone(), stream, from),
                // Without file descriptors the connection waits on, and is reported again and again.
                Err(error) => {
                    log::debug!("the page: a connection cannot be taken: {error}");
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// How many connections each address has.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One of them, until it is dropped.
struct Place {
    places: Places,
    from: IpAddr,
}

impl Places {
    /// A place for a connection; none if all are taken, or all that one address may have.
    fn take(&self, from: IpAddr) -> Option<Place> {
        let mut places = lock(&self.0);
        let all: usize = places.values().sum();
        let own = places.entry(from).or_default();
        if all >= CONNECTIONS || *own >= FROM_ONE {
            return None;
        }
        *own += 1;
        Some(Place { places: self.clone(), from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = lock(&self.places.0);
        if let Some(own) = places.get_mut(&self.from) {
            *own -= 1;
        }
        places.retain(|_, own| *own > 0);
    }
}

/// Serves a connection, or closes it at once if there are too many.
fn admit(shared: &Arc<Shared>, places: &Places, tls: Option<TlsAcceptor>, stream: TcpStream, from: SocketAddr) {
    let Some(place) = places.take(from.ip()) else { return };
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER);
    let _ = sockopt::set_tcp_user_timeout(&stream, STUCK.as_millis() as u32);
    let shared = shared.clone();
    tokio::spawn(async move {
        let _place = place;
        let stream = Patient::new(stream, STUCK);
        match tls {
            None => talk(shared, stream, from, false).await,
            Some(tls) => {
                if let Ok(Ok(stream)) = timeout(HEAD_TIME, tls.accept(stream)).await {
                    talk(shared, stream, from, true).await;
                }
            }
        }
    });
}

async fn talk(
    shared: Arc<Shared>,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    from: SocketAddr,
    secure: bool,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD).max_headers(HEADERS);
    let service = service_fn(move |request| route::serve(shared.clone(), from, secure, request));
    // What is wrong with a connection is its owner's matter.
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        log::debug!("the page: {from}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let places = Places::default();
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let first: Vec<Place> = (0..100).filter_map(|_| places.take(address(1))).collect();
        assert_eq!(first.len(), FROM_ONE);
        let others: Vec<Place> = (2..200).filter_map(|last| places.take(address(last))).collect();
        assert_eq!(first.len() + others.len(), CONNECTIONS);
        drop(first);
        assert!(places.take(address(1)).is_some());
        drop(others);
        assert!(lock(&places.0).is_empty());
    }
}
