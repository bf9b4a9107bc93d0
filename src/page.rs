//! The page: the station in a browser. In: outcomes, and parts through a [`window`](crate::window). Out: HTTP.
//!
//! It is a guest. Its threads have the lowest priority; nothing that judges or tells waits for it: outcomes come through
//! an [`Outbox`], parts in exchange for room that it gives while somebody looks. What it takes from whoever connects has
//! limits (`server`), and a panic in it is a restart of it.
//!
//! ```text
//! outbox ─Outcome→ books ─→ live ─events→ every viewer
//! window ─Seen───→ pictures ─┘  drawn and encoded once
//! ```

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use crate::outcome::Outcome;
use crate::plc_link::PlcLink;
use crate::preprocess::Layout;
use crate::priority;
use crate::sink::{self, Outbox, Sink};
use crate::window::Viewer;

mod album;
mod answer;
mod assets;
mod audit;
mod books;
mod health;
mod live;
mod login;
mod metrics;
mod patience;
mod pictures;
mod random;
mod route;
mod server;
mod sessions;
mod shared;
mod throttle;
mod tls;
pub mod users;

pub use route::{ROUTES, Route};

/// Where the page is, and what it knows of the station.
#[derive(Debug, Clone)]
pub struct PageOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The folder of its users, audit trail and certificate.
    pub dir: PathBuf,
    /// A certificate and its key, PEM, in place of those that it makes itself.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Who may read `/metrics` without logging in, besides this machine.
    pub scrapers: Vec<std::net::IpAddr>,
    /// What is inspected.
    pub layout: Layout,
    /// How many zones there are.
    pub zones: usize,
    /// The camera, in words.
    pub camera: String,
}

/// A page that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody can connect.
    #[error(transparent)]
    Serve(#[from] sink::Error),
    /// The folder of the page.
    #[error("page.dir: cannot {verb} {}: {source}", path.display())]
    Dir {
        /// What was tried.
        verb: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Certificate or key.
    #[error("{0}")]
    Certificate(String),
    /// The file of the users.
    #[error(transparent)]
    Users(#[from] users::Error),
}

/// The page of a running station.
pub struct Page {
    outbox: Outbox,
    server: server::Server,
}

impl Page {
    /// Binds the address and starts the threads.
    pub fn start(options: PageOptions, plc_link: &PlcLink, viewer: Viewer) -> Result<Self, Error> {
        let what = format!("the page at {}", options.listen);
        let failed = |source| sink::Error::Serve { sink: what.clone(), source };
        let shared = Arc::new(shared::Shared::new(options, plc_link.clone())?);
        let server = server::Server::start(shared.clone(), viewer, plc_link)?;
        let mut lowered = false;
        let outbox = Outbox::start("page-books", what.clone(), plc_link, move |outcome| {
            if !std::mem::replace(&mut lowered, true) {
                priority::lower("the page's books");
            }
            let told = catch_unwind(AssertUnwindSafe(|| shared.told(outcome)));
            told.map_err(|_| std::io::Error::other("its books panicked: please report this"))
        });
        Ok(Self { outbox: outbox.map_err(failed)?, server })
    }
}

impl Sink for Page {
    fn apply(&mut self, outcome: &Outcome) -> Result<(), sink::Error> {
        self.outbox.apply(outcome)
    }

    fn untold(&mut self) -> u64 {
        self.outbox.untold()
    }

    fn fail_safe(&mut self) {
        self.server.stop();
        self.outbox.fail_safe();
    }
}

#[cfg(test)]
mod tests;
