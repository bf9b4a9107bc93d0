//! The registers that all masters share. In: what a request wants, masks. Out: words of one moment, and the PLC's
//! controls for the line.
//!
//! One lock around the controls and the newest mask, held for a few copies; the line's own lock is taken inside of it,
//! never the other way.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::handshake::{Condition, Status};
use crate::modbus::control::{CONTROLS, PAGE};
use crate::modbus::map::{HEAD, MIRROR};
use crate::modbus::pdu::is_refusal;
use crate::modbus::{Access, ControlRegisters, Exception, Image, MaskPages, Moment, WordOrder};
use crate::plc_link::PlcLink;

/// What a connection sees of the mask: its own page, and the mask whose head it has read, until it reads a head again.
#[derive(Debug, Default)]
pub(super) struct Window {
    page: u16,
    kept: Option<MaskPages>,
}

/// The registers.
#[derive(Debug)]
pub(super) struct Registers {
    plc_link: PlcLink,
    order: WordOrder,
    deadline: u16,
    config: u32,
    state: Mutex<State>,
    safe: AtomicBool,
    closed: AtomicBool,
    up: AtomicBool,
    /// Connections and lines with a master that has asked.
    pub(super) masters: AtomicUsize,
    pub(super) counters: Counters,
}

#[derive(Debug, Default)]
struct State {
    controls: ControlRegisters,
    mask: MaskPages,
}

/// What masters sent, counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) refused: AtomicU64,
    /// Damaged frames and garbage.
    pub(super) damaged: AtomicU64,
    /// Connections that were not taken.
    pub(super) turned_away: AtomicU64,
}

impl Registers {
    pub(super) fn new(plc_link: PlcLink, order: WordOrder, deadline: u16, config: u32) -> Self {
        Self {
            plc_link,
            order,
            deadline,
            config,
            state: Mutex::default(),
            safe: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            up: AtomicBool::new(false),
            masters: AtomicUsize::new(0),
            counters: Counters::default(),
        }
    }

    /// Does what a request wants. `write`: the master may change controls; the page of its own window it always may.
    pub(super) fn serve(
        &self,
        access: Access,
        window: &mut Window,
        write: bool,
        now: Timestamp,
    ) -> Result<(), Exception> {
        match access {
            Access::Inputs { address, into } => self.inputs(address.into(), window, into),
            Access::Holdings { address, into } if address >= MIRROR => {
                self.inputs((address - MIRROR).into(), window, into)
            }
            Access::Holdings { address, into } => self.holdings(address.into(), window, into),
            Access::Write { address, from } => self.write(address, from, window, write, now),
        }
    }

    /// A request was answered.
    pub(super) fn count(&self, answer: &[u8]) {
        self.counters.requests.fetch_add(1, Relaxed);
        self.counters.refused.fetch_add(u64::from(is_refusal(answer)), Relaxed);
    }

    fn inputs(&self, address: usize, window: &mut Window, into: &mut [u8]) -> Result<(), Exception> {
        let state = self.lock();
        if (address..address + into.len() / 2).contains(&HEAD) {
            window.kept.get_or_insert_default().copy(&state.mask);
        }
        let status = self.status();
        let mask = window.kept.as_ref().unwrap_or(&state.mask);
        let Self { deadline, config, order, .. } = *self;
        let image = Image::new(&Moment { status: &status, mask, page: window.page, deadline, config }, order);
        drop(state);
        fill(into, image.get(address, into.len() / 2))
    }

    fn holdings(&self, address: usize, window: &Window, into: &mut [u8]) -> Result<(), Exception> {
        let controls = self.lock().controls.paged(window.page);
        fill(into, controls.all().get(address..address + into.len() / 2))
    }

    fn write(
        &self,
        address: u16,
        from: &[u8],
        window: &mut Window,
        allowed: bool,
        now: Timestamp,
    ) -> Result<(), Exception> {
        let count = from.len() / 2;
        let turns = usize::from(address)..usize::from(address) + count;
        if !allowed && (turns.len() != 1 || !turns.contains(&PAGE)) {
            return Err(Exception::Function);
        }
        let values = from.chunks_exact(2).map(|pair| pair.iter().fold(0, |word, byte| word << 8 | u16::from(*byte)));
        let mut state = self.lock();
        let controls = state.controls.with(address, values)?;
        if turns.contains(&PAGE) {
            window.page = controls.page();
        }
        state.controls = controls.paged(0);
        // Under the lock, so that the line hears of writes in the order in which they were taken.
        if turns.len() > usize::from(turns.contains(&PAGE)) {
            self.plc_link.control(controls.controls(self.order), now);
        }
        Ok(())
    }

    /// What is shown of the station; once it is safe, nothing that a part could pass by.
    fn status(&self) -> Status {
        let status = self.plc_link.status();
        if !self.safe.load(Relaxed) {
            return status;
        }
        let code = if status.code == 0 { Condition::Stopping.code() } else { status.code };
        Status { ready: false, busy: false, valid: false, run: false, code, ..status }
    }

    /// A new mask is there; its place gets the room of the one before.
    pub(super) fn publish(&self, mask: &mut MaskPages) {
        std::mem::swap(&mut self.lock().mask, mask);
    }

    pub(super) fn make_safe(&self) {
        self.safe.store(true, Relaxed);
    }

    /// True while a master might look.
    pub(super) fn is_asked(&self) -> bool {
        self.masters.load(Relaxed) > 0
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    pub(super) fn line_is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    pub(super) fn set_line(&self, up: bool) {
        self.up.store(up, Relaxed);
    }

    /// The counters in one line, for the log.
    pub(super) fn books(&self) -> String {
        let Counters { requests, refused, damaged, turned_away } = &self.counters;
        let [requests, refused, damaged, away] = [requests, refused, damaged, turned_away].map(|one| one.load(Relaxed));
        format!("{requests} requests, {refused} refused, {damaged} damaged frames, {away} connections turned away")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fill(into: &mut [u8], words: Option<&[u16]>) -> Result<(), Exception> {
    let words = words.ok_or(Exception::Address)?;
    into.chunks_exact_mut(2).zip(words).for_each(|(pair, word)| pair.copy_from_slice(&word.to_be_bytes()));
    Ok(())
}

const _: () = assert!(CONTROLS < MIRROR as usize);
