//! The kernel's lines. In: levels. Out: the same on the wires, for those lines that the station has.

use gpiocdev::Request;
use gpiocdev::line::{Value, Values};

use super::Wiring;
use super::level::{Levels, Role};
use crate::chip::{self, Drive, Error, Found, Pin};

/// The lines of one chip, which change in one call.
struct Group {
    request: Request,
    /// Where each is on the chip.
    roles: Vec<(u32, Role)>,
    values: Values,
    /// For messages.
    name: String,
}

/// All lines of a station, driven; whatever ends them leaves them safe before the kernel takes them back.
pub(super) struct Lines {
    groups: Vec<Group>,
    #[cfg(feature = "rpi")]
    lamp: Option<super::rpi::Lamp>,
}

impl Lines {
    /// Finds and takes every line, at its safe level from the first moment on.
    pub(super) fn open(wiring: &Wiring) -> Result<Self, Error> {
        let mut wanted: Vec<(Found, &Pin, Role)> = vec![];
        for (role, pin) in wiring.pins() {
            wanted.push((chip::find(&wiring.chip, &pin.name)?, pin, role));
        }
        wanted.sort_by(|(a, ..), (b, ..)| a.path.cmp(&b.path));
        let chips = wanted.chunk_by(|(a, ..), (b, ..)| a.path == b.path);
        let groups = chips.map(Group::open).collect::<Result<_, _>>()?;
        Ok(Self {
            groups,
            #[cfg(feature = "rpi")]
            lamp: wiring.lamp.map(super::rpi::Lamp::open).transpose()?,
        })
    }

    /// Sets all; when one fails, the others are set nevertheless.
    pub(super) fn write(&mut self, levels: Levels) -> Result<(), Error> {
        let mut worst = Ok(());
        for group in &mut self.groups {
            worst = group.write(levels).and(worst);
        }
        #[cfg(feature = "rpi")]
        if let Some(lamp) = &mut self.lamp {
            worst = lamp.write(levels.get(Role::Strobe)).and(worst);
        }
        worst
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Err(error) = self.write(Levels::SAFE) {
            log::error!("the outputs were not left safe: {error}");
        }
    }
}

impl Group {
    fn open(lines: &[(Found, &Pin, Role)]) -> Result<Self, Error> {
        let mut builder = Request::builder();
        builder.with_consumer(chip::CONSUMER);
        for (found, pin, role) in lines {
            builder.on_chip(&found.path).with_line(found.offset).as_output(value(Levels::SAFE.get(*role)));
            builder.with_drive(drive(pin.drive));
            if pin.active_low {
                builder.as_active_low();
            }
        }
        let request = builder.request().map_err(|error| {
            // Which line is the trouble is told by the first that somebody holds.
            let mut reasons = lines.iter().map(|(found, ..)| chip::refused(found, error.clone()));
            let busy = reasons.by_ref().find(|reason| matches!(reason, Error::Busy { .. }));
            busy.unwrap_or_else(|| Error::Line { action: "request", name: names(lines), source: error })
        })?;
        let offsets: Vec<u32> = lines.iter().map(|(found, ..)| found.offset).collect();
        let roles = lines.iter().map(|(found, _, role)| (found.offset, *role)).collect();
        Ok(Self { request, roles, values: Values::from_offsets(&offsets), name: names(lines) })
    }

    fn write(&mut self, levels: Levels) -> Result<(), Error> {
        for (offset, role) in &self.roles {
            self.values.set(*offset, value(levels.get(*role)));
        }
        let failed = |source| Error::Line { action: "drive", name: self.name.clone(), source };
        self.request.set_values(&self.values).map_err(failed)
    }
}

fn names(lines: &[(Found, &Pin, Role)]) -> String {
    lines.iter().map(|(found, ..)| found.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn value(active: bool) -> Value {
    if active { Value::Active } else { Value::Inactive }
}

fn drive(drive: Drive) -> gpiocdev::line::Drive {
    match drive {
        Drive::PushPull => gpiocdev::line::Drive::PushPull,
        Drive::OpenDrain => gpiocdev::line::Drive::OpenDrain,
    }
}
