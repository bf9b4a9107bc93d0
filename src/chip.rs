//! The kernel's GPIO chips. In: the name of a line, as the board's device tree gives it. Out: where it is, or why it
//! cannot be had, with the names that were probably meant. Nothing is driven here.
//!
//! Lines are found by name and never by number: the header of a Raspberry Pi 5 was on chip 4 with one kernel and is on
//! chip 0 with another.

use std::fs::File;
use std::path::{Path, PathBuf};

use gpiocdev::Chip;
use gpiocdev::line::Info;

use crate::spelling::nearest;

mod pin;

pub use pin::{Drive, Pin};

/// Names that an error tells of at most.
const NEAR: usize = 5;

/// The owner that the kernel's list of lines shows.
pub const CONSUMER: &str = "fcam";

/// What goes wrong with lines.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has none.
    #[error("there is no GPIO chip here: no /dev/gpiochip is there (on a board, look at `dmesg | grep gpio`)")]
    NoChips,
    /// A device that we may not open.
    #[error("cannot open {path}: {source}; is the user in group gpio?", path = path.display())]
    Open {
        /// The chip's device.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No chip is called that.
    #[error("there is no GPIO chip {wanted}; there are {known}")]
    NoChip {
        /// The name in the station file.
        wanted: String,
        /// Names and labels.
        known: String,
    },
    /// No line is called that.
    #[error(
        "there is no GPIO line {name}{on}; the nearest names are {near} (`fcam io` lists all; is the user in group gpio?)"
    )]
    NoLine {
        /// The name in the station file.
        name: String,
        /// Where it was looked for.
        on: String,
        /// Names there are.
        near: String,
    },
    /// Several lines are called that.
    #[error("GPIO line {name} is on {first} and on {second}: name the chip too")]
    Ambiguous {
        /// The name in the station file.
        name: String,
        /// A chip with a line of that name.
        first: PathBuf,
        /// Another chip.
        second: PathBuf,
    },
    /// Another program, or the kernel, has it.
    #[error(
        "GPIO line {name} is held by \"{consumer}\": it has one owner at a time; stop that program, or choose another line"
    )]
    Busy {
        /// The line's name.
        name: String,
        /// As the owner calls itself.
        consumer: String,
    },
    /// The kernel refuses something.
    #[error("cannot {action} GPIO line {name}: {source}")]
    Line {
        /// What was tried.
        action: &'static str,
        /// The line's name.
        name: String,
        /// What the system said.
        source: gpiocdev::Error,
    },
    /// The kernel does not tell about a chip.
    #[error("cannot read {path}: {source}", path = path.display())]
    Chip {
        /// The chip's device.
        path: PathBuf,
        /// What the system said.
        source: gpiocdev::Error,
    },
}

/// Where a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its chip's device.
    pub path: PathBuf,
    /// Its number there.
    pub offset: u32,
    /// Its name.
    pub name: String,
}

/// A chip and its lines.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its device.
    pub path: PathBuf,
    /// As the kernel calls it, "gpiochip0".
    pub name: String,
    /// What it is, "pinctrl-bcm2711".
    pub label: String,
    /// Its lines, in the order of their numbers.
    pub lines: Vec<Info>,
}

impl Listed {
    /// One chip, or why it cannot be read.
    fn open(path: &Path) -> Result<Self, Error> {
        // gpiocdev's own error does not tell "no permission" from the rest in words.
        File::open(path).map_err(|source| Error::Open { path: path.into(), source })?;
        let failed = |source| Error::Chip { path: path.into(), source };
        let chip = Chip::from_path(path).map_err(failed)?;
        let info = chip.info().map_err(failed)?;
        let lines = chip.line_info_iter().map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
        Ok(Self { path: path.into(), name: info.name, label: info.label, lines })
    }

    /// True if this is its name, label or path.
    fn is(&self, wanted: &str) -> bool {
        self.name == wanted || self.label == wanted || self.path == Path::new(wanted)
    }
}

/// Every chip, or why one of them cannot be read.
pub fn list() -> Result<Vec<Listed>, Error> {
    let paths = gpiocdev::chip::chips().unwrap_or_default();
    match paths.is_empty() {
        true => Err(Error::NoChips),
        false => paths.iter().map(|path| Listed::open(path)).collect(),
    }
}

/// The chips that a name, label or path means; all if it is empty.
fn chosen(wanted: &str) -> Result<Vec<Listed>, Error> {
    // A link to the device may stand for its name.
    let real = wanted.starts_with('/').then(|| std::fs::canonicalize(wanted).ok()).flatten();
    let wanted = real.as_ref().and_then(|path| path.to_str()).unwrap_or(wanted);
    let (chips, others): (Vec<_>, Vec<_>) = list()?.into_iter().partition(|chip| wanted.is_empty() || chip.is(wanted));
    if chips.is_empty() {
        let known: Vec<_> = others.iter().map(|chip| format!("{} ({})", chip.name, chip.label)).collect();
        return Err(Error::NoChip { wanted: wanted.into(), known: known.join(", ") });
    }
    Ok(chips)
}

/// The one line of this name, on the chip of this name, label or path, or on any if that is empty.
pub fn find(chip: &str, name: &str) -> Result<Found, Error> {
    pick(&chosen(chip)?, chip, name)
}

/// The same for a line that may be named by its number, which counts only where the chip is named.
pub fn find_or_number(chip: &str, line: &str) -> Result<Found, Error> {
    let chips = chosen(chip)?;
    match (line.parse::<u32>(), chips.as_slice()) {
        (Ok(offset), [only]) if !chip.is_empty() && (offset as usize) < only.lines.len() => {
            Ok(Found { path: only.path.clone(), offset, name: format!("{line} of {}", only.name) })
        }
        _ => pick(&chips, chip, line),
    }
}

fn pick(chips: &[Listed], chip: &str, name: &str) -> Result<Found, Error> {
    let lines = || chips.iter().flat_map(|chip| chip.lines.iter().map(move |line| (chip, line)));
    let mut named = lines().filter(|(_, line)| line.name == name);
    let Some((first, line)) = named.next() else {
        let names = lines().map(|(_, line)| line.name.as_str()).filter(|name| !name.is_empty());
        let near = nearest(name, names, NEAR).join(", ");
        let near = if near.is_empty() { "none: its lines have no names".into() } else { near };
        let on = if chip.is_empty() { String::new() } else { format!(" on {chip}") };
        return Err(Error::NoLine { name: name.into(), on, near });
    };
    if let Some((second, _)) = named.next() {
        let [first, second] = [first, second].map(|chip| chip.path.clone());
        return Err(Error::Ambiguous { name: name.into(), first, second });
    }
    Ok(Found { path: first.path.clone(), offset: line.offset, name: name.into() })
}

/// Why a line cannot be requested: who holds it, where that is the reason.
pub fn refused(found: &Found, source: gpiocdev::Error) -> Error {
    let name = found.name.clone();
    match Chip::from_path(&found.path).and_then(|chip| chip.line_info(found.offset)) {
        Ok(info) if info.used => Error::Busy { name, consumer: info.consumer },
        _ => Error::Line { action: "request", name, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chip(name: &str, lines: &[&str]) -> Listed {
        let path = Path::new("/dev").join(name);
        let info =
            |(offset, name): (usize, &&str)| Info { offset: offset as u32, name: (*name).into(), ..Default::default() };
        Listed { path, name: name.into(), label: "test".into(), lines: lines.iter().enumerate().map(info).collect() }
    }

    #[test]
    fn a_line_is_found_by_its_name_alone() {
        let chips = [chip("gpiochip0", &["", "GPIO17"]), chip("gpiochip1", &["PQ.05", "GPIO22", "BOTH"])];
        let found = pick(&chips, "", "GPIO22").unwrap();
        assert_eq!((found.path.to_str(), found.offset), (Some("/dev/gpiochip1"), 1));
        let error = pick(&chips, "", "gpio_17").unwrap_err().to_string();
        assert!(error.starts_with("there is no GPIO line gpio_17; the nearest names are GPIO17, "), "{error}");
        assert!(error.ends_with("is the user in group gpio?)"), "{error}");
    }

    #[test]
    fn a_name_that_two_chips_have_needs_the_chip() {
        let chips = [chip("gpiochip0", &["OK"]), chip("gpiochip1", &["OK"])];
        let error = pick(&chips, "", "OK").unwrap_err().to_string();
        assert_eq!(error, "GPIO line OK is on /dev/gpiochip0 and on /dev/gpiochip1: name the chip too");
    }
}
