//! What a station file asks of a control of a camera.

use serde::{Deserialize, Serialize};

/// The value that a control is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected true, false, a whole number or the name of a menu item")]
pub enum Setting {
    /// Of a switch.
    Switch(bool),
    /// A number, one of a menu of numbers, or the place of an item in a menu of names.
    Number(i64),
    /// The name of a menu item.
    Item(String),
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Switch(on) => write!(f, "{on}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Item(name) => write!(f, "{name:?}"),
        }
    }
}
