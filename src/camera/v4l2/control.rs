//! In: the controls that a driver describes, as plain data, and what a station file sets. Out: the values to write, in
//! an order that works, and what is wrong with what came back.
//!
//! A control is named as the driver names it. In a station file that is written as `v4l2-ctl` writes it too: in small
//! letters and with `_` for what is neither letter nor digit. "Exposure Time, Absolute" is `exposure_time_absolute`.

use std::collections::BTreeMap;

use crate::camera::setting::Setting;

/// What kind of value a control has; V4L2_CTRL_TYPE_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Integer,
    /// On or off.
    Boolean,
    /// One of a few names.
    Menu,
    /// Something to trigger: it has no value.
    Button,
    /// A number of 64 bits.
    Integer64,
    /// A number made of bits; the maximum has every bit that there is.
    Bitmask,
    /// One of a few numbers, which are meant by themselves and not by their place.
    IntegerMenu,
    /// Texts, arrays and structures: not for a station file.
    Other,
}

impl Kind {
    /// By the kernel's number.
    pub(super) fn of(number: u32) -> Self {
        match number {
            1 => Self::Integer,
            2 => Self::Boolean,
            3 => Self::Menu,
            4 => Self::Button,
            5 => Self::Integer64,
            8 => Self::Bitmask,
            9 => Self::IntegerMenu,
            _ => Self::Other,
        }
    }

    /// Switches come first, because the automatics decide which numbers can be set; buttons start something with all
    /// the rest.
    fn turn(self) -> u8 {
        match self {
            Self::Boolean | Self::Menu | Self::IntegerMenu => 0,
            Self::Integer | Self::Integer64 | Self::Bitmask | Self::Other => 1,
            Self::Button => 2,
        }
    }
}

const DISABLED: u32 = 0x01;
const GRABBED: u32 = 0x02;
const READ_ONLY: u32 = 0x04;
const INACTIVE: u32 = 0x10;
const WRITE_ONLY: u32 = 0x40;

/// A control as the driver describes it.
///
/// ```
/// use fcam::camera::{Setting, v4l2::{Control, Kind}};
///
/// let items = vec![(0, "Auto".into()), (1, "Manual".into())];
/// let name = "Auto Exposure".into();
/// let control = Control { id: 1, name, kind: Kind::Menu, min: 0, max: 1, step: 1, default: 0, flags: 0, items };
/// assert_eq!((control.key(), control.allowed()), ("auto_exposure".into(), "\"Auto\", \"Manual\"".into()));
/// assert_eq!(control.setting(1), Setting::Item("Manual".into()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The kernel's number.
    pub id: u32,
    /// The driver's name.
    pub name: String,
    /// What kind of value it has.
    pub kind: Kind,
    /// The smallest value.
    pub min: i64,
    /// The largest value.
    pub max: i64,
    /// From value to value.
    pub step: u64,
    /// The value after power-on.
    pub default: i64,
    /// V4L2_CTRL_FLAG_*.
    pub flags: u32,
    /// The items of a menu: index and name.
    pub items: Vec<(i64, String)>,
}

impl Control {
    /// The name in a station file.
    pub fn key(&self) -> String {
        key(&self.name)
    }

    /// The values that can be set, in words.
    pub fn allowed(&self) -> String {
        let Self { min, max, step, .. } = self;
        match self.kind {
            Kind::Integer | Kind::Integer64 if *step > 1 => format!("{min} to {max} in steps of {step}"),
            Kind::Integer | Kind::Integer64 => format!("{min} to {max}"),
            Kind::Boolean => "true or false".into(),
            Kind::Menu | Kind::IntegerMenu => {
                let items: Vec<String> = self.items.iter().map(|(index, _)| self.setting(*index).to_string()).collect();
                items.join(", ")
            }
            Kind::Button => "true".into(),
            Kind::Bitmask => format!("bits of {:#x}", *max),
            Kind::Other => "nothing".into(),
        }
    }

    /// A value as a station file has it.
    pub fn setting(&self, value: i64) -> Setting {
        match self.kind {
            Kind::Boolean => Setting::Switch(value != 0),
            Kind::Menu | Kind::IntegerMenu => match self.items.iter().find(|(index, _)| *index == value) {
                Some((_, name)) if self.kind == Kind::Menu => Setting::Item(name.clone()),
                Some((_, number)) => number.parse().map_or(Setting::Item(number.clone()), Setting::Number),
                None => Setting::Number(value),
            },
            _ => Setting::Number(value),
        }
    }

    /// True if the driver gives its value.
    pub fn is_readable(&self) -> bool {
        self.kind != Kind::Button && self.kind != Kind::Other && self.flags & (WRITE_ONLY | DISABLED) == 0
    }

    /// True if another control, an automatic for example, makes it of no effect.
    pub fn is_inactive(&self) -> bool {
        self.flags & INACTIVE != 0
    }

    /// Why it cannot be set at all.
    pub fn obstacle(&self) -> Option<&'static str> {
        let flag = |bit| self.flags & bit != 0;
        match self.kind {
            Kind::Other => Some("is a text or a table, which a station file cannot set"),
            _ if flag(DISABLED) => Some("is disabled by the driver"),
            _ if flag(READ_ONLY) => Some("can only be read"),
            _ if flag(GRABBED) => Some("is held by another program"),
            _ => None,
        }
    }

    /// The number to write for a setting; none if it is not allowed.
    fn value(&self, setting: &Setting) -> Option<i64> {
        match (self.kind, setting) {
            (Kind::Boolean, Setting::Switch(on)) => Some((*on).into()),
            (Kind::Boolean, Setting::Number(number @ 0..=1)) => Some(*number),
            (Kind::Button, Setting::Switch(true)) => Some(1),
            (Kind::Integer | Kind::Integer64, Setting::Number(number)) => {
                let from_min = number.abs_diff(self.min);
                ((self.min..=self.max).contains(number) && from_min.is_multiple_of(self.step.max(1))).then_some(*number)
            }
            (Kind::Bitmask, Setting::Number(bits)) => (bits & !self.max == 0).then_some(*bits),
            (Kind::Menu, Setting::Number(number)) => self.item(|index, _| index == *number),
            (Kind::IntegerMenu, Setting::Number(number)) => self.item(|_, name| name.parse() == Ok(*number)),
            (Kind::Menu | Kind::IntegerMenu, Setting::Item(wanted)) => {
                self.item(|_, name| name.eq_ignore_ascii_case(wanted))
            }
            _ => None,
        }
    }

    /// The index of the first item that is meant.
    fn item(&self, meant: impl Fn(i64, &str) -> bool) -> Option<i64> {
        self.items.iter().find(|(index, name)| meant(*index, name)).map(|(index, _)| *index)
    }
}

fn key(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_")
}

/// The values to write, in this order, or everything that is wrong with them.
pub(super) fn resolve<'a>(
    controls: &'a [Control],
    wanted: &BTreeMap<String, Setting>,
) -> Result<Vec<(&'a Control, i64)>, String> {
    let (mut values, mut problems) = (vec![], vec![]);
    for (name, setting) in wanted {
        match resolve_one(controls, name, setting) {
            Ok(found) => values.push(found),
            Err(problem) => problems.push(problem),
        }
    }
    values.sort_by_key(|(control, _)| control.kind.turn());
    if problems.is_empty() { Ok(values) } else { Err(problems.join("; ")) }
}

fn resolve_one<'a>(controls: &'a [Control], name: &str, setting: &Setting) -> Result<(&'a Control, i64), String> {
    let Some(control) = controls.iter().find(|control| control.key() == key(name)) else {
        let known: Vec<String> = controls.iter().filter(|one| one.obstacle().is_none()).map(Control::key).collect();
        return Err(format!("there is no control {name}; there are {}", known.join(", ")));
    };
    if let Some(obstacle) = control.obstacle() {
        return Err(format!("{name} {obstacle}"));
    }
    match control.value(setting) {
        Some(value) => Ok((control, value)),
        None => Err(format!("{name} = {setting} is not allowed: {}", control.allowed())),
    }
}

/// What is wrong with a control that was set to `wanted`, by its description and value now.
pub(super) fn difference(now: &Control, wanted: i64, got: i64) -> Option<String> {
    if now.is_inactive() {
        return Some(format!("{} is inactive: an automatic, or another mode, decides it; switch that off", now.key()));
    }
    let (wanted, got) = (now.setting(wanted), if wanted == got { return None } else { now.setting(got) });
    Some(format!("{} was set to {wanted} and is {got}; allowed is {}", now.key(), now.allowed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(name: &str, kind: Kind, (min, max, step): (i64, i64, u64)) -> Control {
        Control { id: 1, name: name.into(), kind, min, max, step, default: 0, flags: 0, items: vec![] }
    }

    fn webcam() -> Vec<Control> {
        let auto = control("Exposure, Auto", Kind::Menu, (0, 3, 1));
        vec![
            control("Brightness", Kind::Integer, (-64, 64, 1)),
            control("White Balance Temperature", Kind::Integer, (2800, 6500, 10)),
            control("White Balance, Automatic", Kind::Boolean, (0, 1, 1)),
            Control { items: vec![(1, "Manual Mode".into()), (3, "Aperture Priority Mode".into())], ..auto },
            control("Do White Balance", Kind::Button, (0, 0, 0)),
            Control { flags: READ_ONLY, ..control("Iris", Kind::Integer, (0, 9, 1)) },
            control("Bits", Kind::Bitmask, (0, 0x80_002a, 0)),
            control("A Table", Kind::Other, (0, 0, 0)),
        ]
    }

    fn resolved(wanted: &[(&str, Setting)]) -> Result<Vec<(String, i64)>, String> {
        let wanted = wanted.iter().map(|(name, setting)| ((*name).into(), setting.clone())).collect();
        let values = resolve(&webcam(), &wanted)?.into_iter().map(|(control, value)| (control.key(), value)).collect();
        Ok(values)
    }

    fn item(name: &str) -> Setting {
        Setting::Item(name.into())
    }

    #[test]
    fn switches_come_before_numbers_and_buttons_last() {
        let wanted = [
            ("do_white_balance", Setting::Switch(true)),
            ("White Balance Temperature", Setting::Number(4000)),
            ("white_balance_automatic", Setting::Switch(false)),
            ("exposure_auto", item("manual mode")),
            ("bits", Setting::Number(0x22)),
        ];
        let order: Vec<(String, i64)> = resolved(&wanted).unwrap();
        let order: Vec<(&str, i64)> = order.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let expected = [
            ("exposure_auto", 1),
            ("white_balance_automatic", 0),
            ("white_balance_temperature", 4000),
            ("bits", 0x22),
            ("do_white_balance", 1),
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn what_is_not_allowed_is_told_with_what_is() {
        let cases = [
            ("brightness", Setting::Number(65), "brightness = 65 is not allowed: -64 to 64"),
            ("brightness", Setting::Switch(true), "brightness = true is not allowed: -64 to 64"),
            (
                "white_balance_temperature",
                Setting::Number(4005),
                "white_balance_temperature = 4005 is not allowed: 2800 to 6500 in steps of 10",
            ),
            (
                "white_balance_automatic",
                Setting::Number(2),
                "white_balance_automatic = 2 is not allowed: true or false",
            ),
            (
                "exposure_auto",
                item("Auto"),
                "exposure_auto = \"Auto\" is not allowed: \"Manual Mode\", \"Aperture Priority Mode\"",
            ),
            (
                "exposure_auto",
                Setting::Number(2),
                "exposure_auto = 2 is not allowed: \"Manual Mode\", \"Aperture Priority Mode\"",
            ),
            ("do_white_balance", Setting::Switch(false), "do_white_balance = false is not allowed: true"),
            ("iris", Setting::Number(1), "iris can only be read"),
            ("bits", Setting::Number(1), "bits = 1 is not allowed: bits of 0x80002a"),
            ("a_table", Setting::Number(1), "a_table is a text or a table, which a station file cannot set"),
        ];
        for (name, setting, words) in cases {
            assert_eq!(resolved(&[(name, setting)]).unwrap_err(), words);
        }
        let both = resolved(&[("gain", Setting::Number(1)), ("iris", Setting::Number(1))]).unwrap_err();
        assert!(
            both.starts_with("there is no control gain; there are brightness, white_balance_temperature"),
            "{both}"
        );
        assert!(both.ends_with("; iris can only be read"), "every problem is told: {both}");
    }

    #[test]
    fn a_menu_of_numbers_goes_by_the_numbers() {
        let items = vec![(0, "5".into()), (1, "13".into())];
        let menu = Control { items, ..control("Link Frequency", Kind::IntegerMenu, (0, 1, 1)) };
        assert_eq!(menu.value(&Setting::Number(13)), Some(1));
        assert_eq!(menu.value(&Setting::Number(1)), None);
        assert_eq!((menu.setting(1), menu.allowed()), (Setting::Number(13), "5, 13".into()));
    }

    #[test]
    fn extreme_ranges_do_not_overflow() {
        let wide = control("wide", Kind::Integer64, (i64::MIN, i64::MAX, 1));
        for number in [i64::MIN, -1, 0, i64::MAX] {
            assert_eq!(wide.value(&Setting::Number(number)), Some(number));
        }
    }

    #[test]
    fn what_came_back_is_compared() {
        let brightness = &webcam()[0];
        assert_eq!(difference(brightness, 5, 5), None);
        assert_eq!(difference(brightness, 5, 4).unwrap(), "brightness was set to 5 and is 4; allowed is -64 to 64");
        let auto = &webcam()[3];
        let words = difference(auto, 1, 3).unwrap();
        assert!(
            words.starts_with("exposure_auto was set to \"Manual Mode\" and is \"Aperture Priority Mode\""),
            "{words}"
        );
        let inactive = Control { flags: INACTIVE, ..brightness.clone() };
        assert!(difference(&inactive, 5, 5).unwrap().contains("is inactive"));
    }
}
