//! Triggers from outside. In: edges of an input, as the kernel counts and stamps them. Out: parts at the [`PlcLink`],
//! each with a number, those whose edges were lost included; and the moments at which a lamp is to flash.

use std::time::Duration;

use crossbeam_channel::Sender;

use crate::clock::Timestamp;
use crate::plc_link::PlcLink;

pub mod gpio;

pub use gpio::Gpio;

/// A larger gap in the kernel's numbers means that they began anew.
const LOST: u32 = 1024;

/// Turns the edges of one input into parts.
///
/// ```
/// use std::time::Duration;
///
/// use fcam::handshake::HandshakeOptions;
/// use fcam::plc_link::PlcLink;
/// use fcam::trigger::Edges;
///
/// let plc_link = PlcLink::new(HandshakeOptions::default());
/// let mut edges = Edges::new(plc_link.clone(), Duration::ZERO, None);
/// edges.edge(Duration::from_secs(1), 8);
/// edges.edge(Duration::from_secs(2), 10); // 9 was lost in the kernel
/// assert_eq!(edges.lost(), 1);
/// assert_eq!(plc_link.status().trigger_id, Some(2)); // and took a number nevertheless
/// ```
#[derive(Debug)]
pub struct Edges {
    plc_link: PlcLink,
    /// How late the kernel's time of an edge is: it stamps the end of its debouncing.
    debounce: Duration,
    flash: Option<Sender<Timestamp>>,
    next: Option<u32>,
    lost: u64,
}

impl Edges {
    /// Parts go to `plc_link`, and the moment of each edge to `flash`, if there is a lamp.
    pub fn new(plc_link: PlcLink, debounce: Duration, flash: Option<Sender<Timestamp>>) -> Self {
        Self { plc_link, debounce, flash, next: None, lost: 0 }
    }

    /// An edge, stamped `at` (monotonic), with its number among those of this input. Numbers that are missing are edges
    /// that the kernel had no room for: they are parts that nobody can judge, and each takes its number at the station.
    pub fn edge(&mut self, at: Timestamp, number: u32) {
        let at = at.saturating_sub(self.debounce);
        if let Some(flash) = &self.flash {
            let _ = flash.try_send(at); // the lamp cannot make more flashes than that
        }
        let lost = self.next.map_or(0, |next| number.wrapping_sub(next));
        self.next = Some(number.wrapping_add(1));
        if (1..=LOST).contains(&lost) {
            self.lost += u64::from(lost);
            log::error!("{lost} triggers were lost before the one at {at:?}: they come faster than they can be read");
            (0..lost).for_each(|_| self.plc_link.lost(at));
        }
        self.plc_link.trigger(at, 0);
    }

    /// The input was opened again, and the kernel counts anew.
    pub fn restart(&mut self) {
        self.next = None;
    }

    /// Edges lost so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{Condition, HandshakeOptions, Ticket};

    const MS: Duration = Duration::from_millis(1);

    fn tickets(plc_link: &PlcLink) -> Vec<(u64, Timestamp, bool)> {
        let next = || plc_link.next_ticket(|ticket: &Ticket, _| Some(*ticket)).map(|(ticket, _)| ticket);
        std::iter::from_fn(next).map(|ticket| (ticket.sequence, ticket.at, ticket.taken)).collect()
    }

    fn plc_link() -> PlcLink {
        let plc_link = PlcLink::new(HandshakeOptions { queue: 16, external: true, ..HandshakeOptions::default() });
        plc_link.update(|handshake| handshake.set(Condition::Starting, false));
        plc_link
    }

    #[test]
    fn a_gap_in_the_numbers_takes_as_many_numbers_of_parts() {
        let (plc_link, (flash, flashes)) = (plc_link(), crossbeam_channel::bounded(8));
        let mut edges = Edges::new(plc_link.clone(), 2 * MS, Some(flash));
        edges.edge(10 * MS, u32::MAX - 1);
        edges.edge(20 * MS, u32::MAX);
        edges.edge(50 * MS, 2); // 0 and 1 are missing
        assert_eq!(
            tickets(&plc_link),
            [(0, 8 * MS, true), (1, 18 * MS, true), (2, 48 * MS, false), (3, 48 * MS, false), (4, 48 * MS, true)]
        );
        assert_eq!(edges.lost(), 2);
        assert_eq!(flashes.try_iter().collect::<Vec<_>>(), [8 * MS, 18 * MS, 48 * MS]);
    }

    #[test]
    fn numbers_that_begin_anew_are_no_loss() {
        let plc_link = plc_link();
        let mut edges = Edges::new(plc_link.clone(), Duration::ZERO, None);
        edges.edge(MS, 70_000);
        edges.edge(2 * MS, 1);
        edges.restart();
        edges.edge(3 * MS, 9);
        assert_eq!((tickets(&plc_link).len(), edges.lost()), (3, 0));
    }
}
