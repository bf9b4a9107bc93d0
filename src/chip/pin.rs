//! One line as the station file names it: `"GPIO17"`, or `{ name = "GPIO17", active_low = true, drive = "open-drain"
//! }`.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How an output drives its wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drive {
    /// Both levels.
    #[default]
    PushPull,
    /// The low level only: something outside pulls it up.
    OpenDrain,
}

/// A line by its name, and its electrical sense.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use fcam::chip::{Drive, Pin};
///
/// let text = "ok = 'GPIO17'\nng = { name = 'GPIO27', active_low = true, drive = 'open-drain' }";
/// let lines: BTreeMap<String, Pin> = toml::from_str(text)?;
/// assert_eq!(lines["ok"], Pin::from("GPIO17")); // active high, driven both ways
/// assert_eq!((lines["ng"].active_low, lines["ng"].drive), (true, Drive::OpenDrain));
/// assert!(!Pin::default().is_set()); // without a name there is no line
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pin {
    /// As the kernel names it; empty: there is none.
    pub name: String,
    /// The active level is the low one.
    pub active_low: bool,
    /// How it is driven, if it is an output.
    pub drive: Drive,
}

impl Pin {
    /// True if it has a name.
    pub fn is_set(&self) -> bool {
        !self.name.is_empty()
    }
}

impl From<&str> for Pin {
    fn from(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// The long form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    #[serde(default)]
    active_low: bool,
    #[serde(default)]
    drive: Drive,
}

impl Serialize for Pin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { name, active_low, drive } = self.clone();
        match (active_low, drive) {
            (false, Drive::PushPull) => name.serialize(serializer),
            _ => Table { name, active_low, drive }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

/// Takes a name or a table.
struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = Pin;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a line's name, or { name, active_low, drive }")
    }

    fn visit_str<E>(self, name: &str) -> Result<Pin, E> {
        Ok(name.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pin, A::Error> {
        let Table { name, active_low, drive } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Pin { name, active_low, drive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        pin: Pin,
    }

    #[test]
    fn both_forms_are_read_and_written_back() {
        for (text, name, active_low, drive) in [
            ("pin = \"GPIO17\"\n", "GPIO17", false, Drive::PushPull),
            ("pin = { name = \"X\", active_low = true }", "X", true, Drive::PushPull),
            ("pin = { name = \"X\", drive = \"open-drain\" }", "X", false, Drive::OpenDrain),
        ] {
            let file: File = toml::from_str(text).unwrap();
            assert_eq!(file.pin, Pin { name: name.into(), active_low, drive });
            assert_eq!(toml::from_str::<File>(&toml::to_string(&file).unwrap()).unwrap(), file);
        }
        let wrong = |text| toml::from_str::<File>(text).unwrap_err().message().to_string();
        assert!(wrong("pin = 17").contains("expected a line's name, or { name"), "{}", wrong("pin = 17"));
        assert!(wrong("pin = { name = \"X\", activelow = true }").contains("unknown field `activelow`"));
    }
}
