//! In: the text of a station file. Out: [`Raw`] data, and every problem of spelling and type in it, not the first one.
//!
//! The known keys are those of the structs, asked of serde, so that there is no second list to forget.

use serde::Serialize;
use serde::de::DeserializeOwned;
use strsim::levenshtein;
use toml::{Table, Value};

use super::raw::Raw;

/// Reads what can be read; what cannot is a problem, and has its default in the result.
pub(super) fn read(text: &str, problems: &mut Vec<String>) -> Raw {
    let mut table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let error: toml::de::Error = error;
            problems.push(format!("not TOML: {}", error.to_string().trim_end()));
            return Raw::default();
        }
    };
    let known = keys(&Raw::default());
    for name in table.keys().filter(|name| !known.contains(name)) {
        problems.push(format!("unknown section [{name}]{}", hint(name, &known)));
    }
    Raw {
        bundle: section(&mut table, "bundle", problems),
        camera: section(&mut table, "camera", problems),
        inspect: section(&mut table, "inspect", problems),
        locate: section(&mut table, "locate", problems),
        drift: section(&mut table, "drift", problems),
        engine: section(&mut table, "engine", problems),
        trigger: section(&mut table, "trigger", problems),
        signals: section(&mut table, "signals", problems),
        zones: section(&mut table, "zones", problems),
        sinks: section(&mut table, "sinks", problems),
        serial: section(&mut table, "serial", problems),
        modbus: section(&mut table, "modbus", problems),
        gpio: section(&mut table, "gpio", problems),
        record: section(&mut table, "record", problems),
        page: section(&mut table, "page", problems),
        log: section(&mut table, "log", problems),
        plc: section(&mut table, "plc", problems),
    }
}

/// A section whose keys are tried one by one, so that one mistake does not hide the next.
fn section<T: Default + Serialize + DeserializeOwned>(root: &mut Table, name: &str, problems: &mut Vec<String>) -> T {
    let table = match root.remove(name) {
        Some(Value::Table(table)) => table,
        Some(other) => {
            problems.push(no_section(name, &other));
            return T::default();
        }
        None => return T::default(),
    };
    let defaults = serde_json::to_value(T::default()).unwrap_or_default();
    let fits = |table: Table| table.try_into::<T>().map(drop);
    // Every key is taken alone; together they are taken too.
    sift(table, name, &defaults, &fits, problems).try_into().unwrap_or_default()
}

/// The keys of a table that are known and fit, each tried alone; likewise those of a table in it that may be empty,
/// which makes it a section. One that may not is a value, and needs all of its keys at once.
fn sift(
    table: Table,
    name: &str,
    defaults: &serde_json::Value,
    fits: &dyn Fn(Table) -> Result<(), toml::de::Error>,
    problems: &mut Vec<String>,
) -> Table {
    let known = names(defaults);
    let mut good = Table::new();
    for (key, value) in table {
        let path = format!("{name}.{key}");
        let alone = |value: Value| Table::from_iter([(key.clone(), value)]);
        let is_section = |within| !names(within).is_empty() && fits(alone(Table::new().into())).is_ok();
        match (value, defaults.get(&key)) {
            (_, None) => problems.push(format!("unknown key `{key}` in [{name}]{}", hint(&key, &known))),
            (Value::Table(inner), Some(within)) if is_section(within) => {
                let fits = |inner: Table| fits(alone(inner.into()));
                let inner = sift(inner, &path, within, &fits, problems);
                good.insert(key, inner.into());
            }
            (other, Some(within)) if is_section(within) => problems.push(no_section(&path, &other)),
            (value, Some(_)) => match fits(alone(value.clone())) {
                Ok(()) => drop(good.insert(key, value)),
                Err(error) => problems.push(format!("{path}: {}", error.message())),
            },
        }
    }
    good
}

/// The names of a struct's fields, those that are none by default included.
pub(super) fn keys<T: Serialize>(default: &T) -> Vec<String> {
    names(&serde_json::to_value(default).unwrap_or_default())
}

fn names(default: &serde_json::Value) -> Vec<String> {
    default.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
}

fn hint(wrong: &str, known: &[String]) -> String {
    let nearest = known.iter().min_by_key(|key| levenshtein(wrong, key));
    // Half of the letters wrong is another word and no slip.
    match nearest.filter(|key| levenshtein(wrong, key) * 2 <= key.len().max(wrong.len())) {
        Some(key) => format!(": did you mean `{key}`?"),
        None => format!(": known are {}", known.join(", ")),
    }
}

fn no_section(name: &str, value: &Value) -> String {
    format!("[{name}] is a section with keys, not {}", article(value.type_str()))
}

fn article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut problems = vec![];
        read(text, &mut problems);
        problems
    }

    #[test]
    fn names_the_nearest_key_and_every_problem() {
        let text =
            "[signals]\nhodl_ms = 5\ndelay_ms = \"soon\"\n[camra]\nfps = 1\n[inspect]\nroi = { x = 1 }\nzzz = 1\n";
        assert_eq!(
            problems(text),
            [
                "unknown section [camra]: did you mean `camera`?",
                "inspect.roi: missing field `y`",
                "unknown key `zzz` in [inspect]: known are roi, rois, score, tiles, vote",
                "signals.delay_ms: invalid type: string \"soon\", expected u64",
                "unknown key `hodl_ms` in [signals]: did you mean `hold_ms`?",
            ]
        );
    }

    #[test]
    fn sections_in_sections_are_read_the_same_way() {
        let text = "[gpio]\nchip = 5\n[gpio.lines]\nok = \"A\"\nvlaid = \"B\"\nng = 3\n[gpio.triger]\nline = \"C\"\n";
        assert_eq!(
            problems(text),
            [
                "gpio.chip: invalid type: integer `5`, expected a string",
                "gpio.lines.ng: invalid type: integer `3`, expected a line's name, or { name, active_low, drive }",
                "unknown key `vlaid` in [gpio.lines]: did you mean `valid`?",
                "unknown key `triger` in [gpio]: did you mean `trigger`?",
            ]
        );
        assert_eq!(read(text, &mut vec![]).gpio.lines.ok.name, "A");
    }

    #[test]
    fn what_is_wrong_keeps_its_default_and_the_rest_counts() {
        let mut problems = vec![];
        let raw = read("[signals]\nhold_ms = -1\ndelay_ms = 7\n[log]\nsummary_s = 5", &mut problems);
        assert_eq!((raw.signals.hold_ms, raw.signals.delay_ms, raw.log.summary_s), (50, 7, 5));
        assert_eq!(problems.len(), 1, "{problems:?}");
    }

    #[test]
    fn sections_and_files_of_another_kind() {
        assert_eq!(problems("camera = 5"), ["[camera] is a section with keys, not an integer"]);
        let broken = problems("[camera");
        assert!(broken.len() == 1 && broken[0].starts_with("not TOML: "), "{broken:?}");
        assert_eq!(problems(""), Vec::<String>::new());
    }
}
