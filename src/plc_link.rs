//! Where everything that talks to the PLC meets the station. In: triggers and controls, from any thread. Out:
//! tickets in order for capture, the status for whoever shows it, and a bell for those who must not be late with it.
//!
//! One lock around the [`Handshake`], held for a few field accesses; no input waits for a camera, an engine or a slow
//! output.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::clock::{self, Timestamp};
use crate::handshake::{Controls, Glance, Handshake, HandshakeOptions, MAX_OPEN, Status, Ticket};
use crate::watchdog::{Duty, Trouble, Watchdog, Watchdogs};

/// A shared handshake.
///
/// ```
/// use fcam::clock;
/// use fcam::handshake::{Condition, HandshakeOptions};
/// use fcam::plc_link::PlcLink;
///
/// let plc_link = PlcLink::new(HandshakeOptions::default());
/// let bell = plc_link.bell();
/// plc_link.update(|handshake| handshake.set(Condition::Starting, false));
/// assert!(bell.try_recv().is_ok() && plc_link.status().ready); // READY rose: whoever shows it is woken
/// // A trigger's thread opens the part, and the thread of the camera finds a frame for it.
/// plc_link.trigger(clock::now(), 4711);
/// let (ticket, ()) = plc_link.next_ticket(|_, _| Some(())).ok_or("no part")?;
/// assert_eq!((ticket.sequence, ticket.part_id, ticket.taken), (0, 4711, true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct PlcLink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    bells: Mutex<Vec<Sender<()>>>,
    watchdogs: Watchdogs,
}

#[derive(Debug)]
struct State {
    handshake: Handshake,
    tickets: VecDeque<Ticket>,
}

impl Default for PlcLink {
    fn default() -> Self {
        Self::new(HandshakeOptions::default())
    }
}

impl PlcLink {
    /// The link of a station that starts.
    pub fn new(options: HandshakeOptions) -> Self {
        let state = State { handshake: Handshake::new(options), tickets: VecDeque::with_capacity(MAX_OPEN) };
        Self(Arc::new(Shared { state: Mutex::new(state), bells: Mutex::default(), watchdogs: Watchdogs::default() }))
    }

    /// The watchdogs of the threads that work for this link.
    pub fn watchdogs(&self) -> &Watchdogs {
        &self.0.watchdogs
    }

    /// The watchdog of a thread that begins.
    pub fn watchdog(&self, name: &'static str, duty: Duty) -> Watchdog {
        self.0.watchdogs.add(name, duty, clock::now())
    }

    /// A part is there: it has its number from now on. None if it takes none: see [`Handshake::trigger`].
    pub fn trigger(&self, at: Timestamp, part_id: u32) -> Option<Ticket> {
        self.change(|state| {
            // A station that hangs takes no part.
            state.handshake.tick(clock::now(), self.trouble());
            let ticket = state.handshake.trigger(at, part_id);
            state.tickets.extend(ticket);
            ticket
        })
    }

    /// A part was there whose trigger was lost on its way: it is missed, and has its number if a result will close it.
    pub fn lost(&self, at: Timestamp) {
        self.change(|state| {
            let ticket = state.handshake.lost(at);
            state.tickets.extend(ticket);
        });
    }

    /// The PLC's control bits and words; returns the status after them, so that both are one moment.
    pub fn control(&self, controls: Controls, now: Timestamp) -> Status {
        self.change(|state| {
            let ticket = state.handshake.control(controls, now);
            state.tickets.extend(ticket);
            state.handshake.tick(clock::now(), self.trouble());
            state.handshake.status()
        })
    }

    /// The state of the station now. Each reader finds out on its own thread which threads hang.
    pub fn status(&self) -> Status {
        self.change(|state| {
            state.handshake.tick(clock::now(), self.trouble());
            state.handshake.status()
        })
    }

    /// The same with what the PLC's own bits were last.
    pub fn both(&self) -> (Status, Controls) {
        self.change(|state| {
            state.handshake.tick(clock::now(), self.trouble());
            (state.handshake.status(), state.handshake.controls())
        })
    }

    /// The part of it that lines and lamps show.
    pub fn glance(&self) -> Glance {
        self.change(|state| {
            state.handshake.tick(clock::now(), self.trouble());
            state.handshake.glance()
        })
    }

    /// Changes the handshake, and rings if the outputs have something new to show.
    pub fn update<T>(&self, change: impl FnOnce(&mut Handshake) -> T) -> T {
        self.change(|state| change(&mut state.handshake))
    }

    fn trouble(&self) -> Trouble {
        self.0.watchdogs.trouble(clock::now())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = state.handshake.glance();
        let changed = change(&mut state);
        let rings = state.handshake.glance() != before;
        drop(state);
        if rings {
            self.ring();
        }
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

    /// The oldest ticket and what `turn` makes of it, if anything. It is shown the time of the next one too, if there
    /// is one already.
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

    /// Every thread that judges or tells is alive: HEARTBEAT goes on.
    pub fn turn_heartbeat(&self, now: Timestamp) {
        self.update(|handshake| handshake.turn_heartbeat(now));
    }

    /// A bell for one listener: it rings when there is something new for lines and lamps to show.
    pub fn bell(&self) -> Receiver<()> {
        let (ring, bell) = bounded(1);
        self.0.bells.lock().unwrap_or_else(PoisonError::into_inner).push(ring);
        bell
    }

    fn ring(&self) {
        let bells = self.0.bells.lock().unwrap_or_else(PoisonError::into_inner);
        for bell in bells.iter() {
            let _ = bell.try_send(()); // it rings already
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
