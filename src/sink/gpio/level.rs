//! The lines of a station and their levels at one moment, one bit each.

/// A line's meaning. Its number is its bit in [`Levels`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A trigger would be judged.
    Ready,
    /// A part is under way.
    Busy,
    /// The part is good.
    Ok,
    /// The part is not good, or was not judged, or nothing can be judged.
    Ng,
    /// OK and NG and the zones may be read.
    Valid,
    /// Toggles while the station is fit to judge.
    Healthy,
    /// Something is wrong.
    Fault,
    /// The lamp.
    Strobe,
    /// A byte of the zones may be read.
    ZoneStrobe,
    /// A zone, 0 to 7.
    Zone(u8),
    /// Pictures have changed against the reference.
    Drift,
}

/// Zone lines at most.
pub const ZONE_LINES: usize = 8;

impl Role {
    fn bit(self) -> u32 {
        match self {
            Self::Ready => 0,
            Self::Busy => 1,
            Self::Ok => 2,
            Self::Ng => 3,
            Self::Valid => 4,
            Self::Healthy => 5,
            Self::Fault => 6,
            Self::Strobe => 7,
            Self::ZoneStrobe => 8,
            Self::Zone(zone) => 9 + u32::from(zone).min(ZONE_LINES as u32 - 1),
            Self::Drift => 9 + ZONE_LINES as u32,
        }
    }
}

/// Active or not, of every line.
///
/// ```
/// use fcam::sink::gpio::{Levels, Role};
///
/// let levels = Levels::SAFE.with(Role::Healthy, true).with_zones(0b101);
/// assert!(levels.get(Role::Ng) && !levels.get(Role::Ready) && levels.get(Role::Zone(2)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Levels(u32);

impl Levels {
    /// The levels that a dead station leaves: not good, not ready.
    pub const SAFE: Self = Self(1 << 3 | 1 << 6);

    /// True if a line is active.
    pub fn get(self, role: Role) -> bool {
        self.0 >> role.bit() & 1 == 1
    }

    /// The same with one line at this level.
    #[must_use]
    pub fn with(self, role: Role, active: bool) -> Self {
        let bit = 1 << role.bit();
        Self(if active { self.0 | bit } else { self.0 & !bit })
    }

    /// The same with the zone lines showing a byte.
    #[must_use]
    pub fn with_zones(self, byte: u8) -> Self {
        (0..ZONE_LINES as u8).fold(self, |levels, zone| levels.with(Role::Zone(zone), byte >> zone & 1 == 1))
    }

    /// The byte on the zone lines.
    pub fn zones(self) -> u8 {
        (self.0 >> Role::Zone(0).bit()) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_a_bit_of_its_own() {
        use Role::{Busy, Drift, Fault, Healthy, Ng, Ok, Ready, Strobe, Valid, Zone, ZoneStrobe};
        let roles: Vec<Role> = [Ready, Busy, Ok, Ng, Valid, Healthy, Fault, Strobe, ZoneStrobe, Drift]
            .into_iter()
            .chain((0..8).map(Zone))
            .collect();
        let all = roles.iter().fold(Levels::default(), |levels, role| {
            assert!(!levels.get(*role), "{role:?}");
            levels.with(*role, true)
        });
        assert_eq!((all.0.count_ones() as usize, all.zones()), (roles.len(), 0xFF));
        assert_eq!(Levels::SAFE, Levels::default().with(Role::Ng, true).with(Role::Fault, true));
        assert_eq!(Levels::default().with_zones(0xA5).zones(), 0xA5);
    }
}
