//! How often somebody may try to log in. In: an address and a time. Out: go on, or wait so long.
//!
//! Each address has a few tries at once and then one in a while; all addresses together have a limit as well, because
//! each try takes the processor for a moment. One that succeeds counts as well: otherwise whoever knows one password could
//! guess another. Nothing is locked for longer: who has forgotten a password keeps nobody
//! else out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::clock::Timestamp;

/// Tries at once, and the time that brings another one: of one address, and of all together.
const ADDRESS: Rate = Rate { burst: 5, every: Duration::from_secs(12) };
const ALL: Rate = Rate { burst: 20, every: Duration::from_secs(2) };

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    every: Duration,
}

impl Rate {
    /// `full` is the time at which all tries are there again.
    fn wait(self, full: Timestamp, now: Timestamp) -> Option<Duration> {
        let debt = full.saturating_sub(now) + self.every;
        let wait = debt.saturating_sub(self.every * self.burst);
        (!wait.is_zero()).then_some(wait)
    }

    fn take(self, full: &mut Timestamp, now: Timestamp) {
        *full = (*full).max(now) + self.every;
    }
}

/// The tries so far.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    addresses: BTreeMap<IpAddr, Timestamp>,
    all: Timestamp,
}

impl Throttle {
    /// Takes a try, or says how long to wait for one.
    pub(super) fn take(&mut self, from: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let known = self.addresses.get(&from).copied().unwrap_or_default();
        if let Some(wait) = ADDRESS.wait(known, now).max(ALL.wait(self.all, now)) {
            return Err(wait);
        }
        self.addresses.retain(|_, full| *full > now);
        ADDRESS.take(self.addresses.entry(from).or_default(), now);
        ALL.take(&mut self.all, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1000);
    const SECOND: Duration = Duration::from_secs(1);

    fn address(last: u8) -> IpAddr {
        [192, 168, 1, last].into()
    }

    #[test]
    fn an_address_has_a_few_tries_and_then_one_in_a_while() {
        let mut throttle = Throttle::default();
        assert!((0..5).all(|_| throttle.take(address(1), NOW).is_ok()));
        assert_eq!(throttle.take(address(1), NOW), Err(12 * SECOND));
        assert_eq!(throttle.take(address(1), NOW + 11 * SECOND), Err(SECOND));
        assert!(throttle.take(address(2), NOW).is_ok(), "others log in");
        assert!(throttle.take(address(1), NOW + 12 * SECOND).is_ok());
        assert!(throttle.take(address(1), NOW + 12 * SECOND).is_err());
    }

    #[test]
    fn all_addresses_together_have_a_limit() {
        let mut throttle = Throttle::default();
        let taken = (0..200).filter(|&last| throttle.take(address(last), NOW).is_ok()).count();
        assert_eq!(taken, 20);
        assert_eq!(throttle.take(address(200), NOW), Err(2 * SECOND));
        assert!(throttle.take(address(200), NOW + 2 * SECOND).is_ok());
    }

    /// The limit of all together bounds what is remembered.
    #[test]
    fn addresses_are_forgotten_when_they_have_all_their_tries_again() {
        let mut throttle = Throttle::default();
        for index in 0..2000_u32 {
            assert!(throttle.take(IpAddr::from(index.to_be_bytes()), NOW + 2 * SECOND * index).is_ok());
            assert!(throttle.addresses.len() < 10, "{}", throttle.addresses.len());
        }
    }
}
