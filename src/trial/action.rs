//! What the state machine has done: by the thread that has bundles ready, and by the inspect thread between two parts.
//! Plain data.

use super::{Entry, Reply};
use crate::store::{Id, State};

/// Whoever asked, as the thread that answers numbers them.
pub type Asker = u64;

/// What is written down and installed, as it is when a change begins.
#[derive(Debug, Clone)]
pub struct Book {
    /// What is active, on trial and withdrawn; or why that cannot be read.
    pub state: Result<State, String>,
    /// What is installed; or why that cannot be read.
    pub installed: Result<Vec<Id>, String>,
}

/// What the thread that has bundles ready is to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Load it and replay its proof, then say [`Trials::proven`](super::Trials::proven).
    Prove(Id),
    /// Write this down, then say [`Trials::written`](super::Trials::written): it does not judge before, so that a start
    /// in between has it too.
    Commit(Entry),
    /// Write this down. If that fails the station goes on.
    Enter(Entry),
    /// Take back what was committed and never judged ([`Entry::undo`]); with what stood there before.
    Undo(Entry, Box<State>),
    /// Answer.
    Tell(Asker, Reply),
    /// The PLC's change of jobs is over: done, or refused.
    Job(bool),
    /// For the log.
    Say(log::Level, String),
}

/// What the inspect thread is to do between two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Nothing.
    Stay,
    /// Fit the candidate to the frames, then say [`Trials::installed`](super::Trials::installed) or
    /// [`Trials::misfit`](super::Trials::misfit).
    Install,
    /// Drop the candidate: it does not judge now.
    Decline,
    /// Drop what stands by: it is not needed any more.
    Release,
    /// What stands by judges again, a release of this number; what judged is dropped.
    Back(u32),
}

/// A candidate that judges now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed {
    /// What stands by, to go on at once if it fails.
    pub behind: Behind,
    /// The number of its release, for the PLC.
    pub release: u32,
    /// Its job, if the PLC did not ask for it; none if it did, and its change of jobs is done.
    pub job: Option<u16>,
}

/// What stands by behind a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// What judged until now.
    Judged,
    /// What stood by until now.
    Kept,
    /// Nothing.
    Nothing,
}
