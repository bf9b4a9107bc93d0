//! What a station file asks of a control of a camera.

use serde::{Deserialize, Serialize};

/// The value that a control is to have.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use fcam::camera::Setting;
///
/// let text = "gain = 40\nauto_exposure = 'Manual Mode'\nwhite_balance_automatic = false";
/// let controls: BTreeMap<String, Setting> = toml::from_str(text)?;
/// assert_eq!(controls["gain"], Setting::Number(40));
/// assert_eq!(controls["auto_exposure"], Setting::Item("Manual Mode".into()));
/// assert!(toml::from_str::<BTreeMap<String, Setting>>("gain = 40.5").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
