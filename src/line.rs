//! The place where everybody who talks to the PLC meets the station. In: triggers and controls, from any thread. Out: tickets in order for
//! capture, and a bell that tells actuate to show the new status.
//!
//! One lock around the [`Handshake`], held for a few field accesses; no input waits for a camera, an engine or a slow output.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::clock::Timestamp;
use crate::handshake::{Controls, Handshake, MAX_OPEN, Options, Status, Ticket};

/// A shared handshake.
#[derive(Debug, Clone)]
pub struct Line(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    bell: (Sender<()>, Receiver<()>),
}

#[derive(Debug)]
struct State {
    handshake: Handshake,
    tickets: VecDeque<Ticket>,
}

impl Default for Line {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Line {
    /// A line of a station that starts.
    pub fn new(options: Options) -> Self {
        let state = State { handshake: Handshake::new(options), tickets: VecDeque::with_capacity(MAX_OPEN) };
        Self(Arc::new(Shared { state: Mutex::new(state), bell: bounded(1) }))
    }

    /// A part is there: it has its number from now on. None if it takes none: see [`Handshake::trigger`].
    pub fn trigger(&self, at: Timestamp, part_id: u32) -> Option<Ticket> {
        let mut state = self.lock();
        let ticket = state.handshake.trigger(at, part_id);
        state.tickets.extend(ticket);
        drop(state);
        self.ring();
        ticket
    }

    /// A part was there whose trigger was lost on its way: it is missed, and has its number if a result will close it.
    pub fn lost(&self, at: Timestamp) {
        let mut state = self.lock();
        let ticket = state.handshake.lost(at);
        state.tickets.extend(ticket);
        drop(state);
        self.ring();
    }

    /// The PLC's control bits and words; returns the status after them, so that both are one moment.
    pub fn control(&self, controls: Controls, now: Timestamp) -> Status {
        let mut state = self.lock();
        let ticket = state.handshake.control(controls, now);
        state.tickets.extend(ticket);
        let status = state.handshake.status();
        drop(state);
        self.ring();
        status
    }

    /// The state of the station now.
    pub fn status(&self) -> Status {
        self.lock().handshake.status()
    }

    /// Changes the handshake, and has the outputs show what became of it.
    pub fn update<T>(&self, change: impl FnOnce(&mut Handshake) -> T) -> T {
        let changed = change(&mut self.lock().handshake);
        self.ring();
        changed
    }

    /// The job to change to now, if one was asked for: each change is given out once.
    pub fn take_job(&self) -> Option<u16> {
        self.lock().handshake.take_job()
    }

    /// Triggers that found no place to wait: see [`Handshake::crowded`].
    pub fn crowded(&self) -> u64 {
        self.lock().handshake.crowded()
    }

    /// The oldest ticket and what `turn` makes of it, if anything. It is shown the time of the next one too, if there is one already.
    pub fn next_ticket<T>(&self, turn: impl FnOnce(&Ticket, Option<Timestamp>) -> Option<T>) -> Option<(Ticket, T)> {
        let mut state = self.lock();
        let following = state.tickets.get(1).map(|ticket| ticket.at);
        let turn = state.tickets.front().and_then(|ticket| turn(ticket, following))?;
        Some((state.tickets.pop_front()?, turn))
    }

    /// The next number, for a part that the camera itself brings.
    pub fn number(&self) -> u64 {
        self.lock().handshake.number()
    }

    /// The inspection loop is alive.
    pub fn beat(&self, now: Timestamp) {
        if self.lock().handshake.beat(now) {
            self.ring();
        }
    }

    /// Rings when the status may have changed.
    pub fn bell(&self) -> &Receiver<()> {
        &self.0.bell.1
    }

    fn ring(&self) {
        let _ = self.0.bell.0.try_send(()); // it rings already
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
