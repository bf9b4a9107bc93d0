//! board/faults.md has every number that a PLC can be shown, once, with a cure.

use std::collections::BTreeMap;

use fcam::handshake::Condition;
use fcam::station::FAULT_NAMES;
use fcam::verdict::Fault;

/// Rows of the manual: the number, then name, meaning and cure.
fn manual() -> BTreeMap<u8, Vec<String>> {
    let text = std::fs::read_to_string("board/faults.md").unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect();
        if let Ok(code) = cells[0].parse() {
            assert!(
                cells.len() == 4 && cells[1..].iter().all(|cell| !cell.is_empty()),
                "row {code} is not whole: {line}"
            );
            assert!(rows.insert(code, cells[1..].to_vec()).is_none(), "{code} is there twice");
        }
    }
    rows
}

/// A variant that is new does not compile here until it is listed in [`FAULT_NAMES`].
fn place(fault: Fault) -> usize {
    match fault {
        Fault::Camera => 0,
        Fault::Stalled => 1,
        Fault::Geometry => 2,
        Fault::Overflow => 3,
        Fault::Engine => 4,
        Fault::Late => 5,
        Fault::Stopped => 6,
        Fault::Missed => 7,
        Fault::NoFrame => 8,
        Fault::Frozen => 9,
        Fault::NotFound => 10,
        Fault::Blind => 11,
    }
}

#[test]
fn every_number_has_a_cure_and_no_other_has() {
    let rows = manual();
    let mut codes: Vec<u8> = vec![0, 1, fcam::telegram::message::SIMULATED];
    for (at, (fault, _)) in FAULT_NAMES.iter().enumerate() {
        assert_eq!(place(*fault), at);
        codes.push(fault.code());
    }
    let shared = [Condition::Camera, Condition::Stalled, Condition::Geometry, Condition::Frozen, Condition::Engine];
    for condition in Condition::ALL {
        let known = codes.contains(&condition.code());
        assert_eq!(known, shared.contains(&condition), "{condition:?} has number {}", condition.code());
        if !known {
            codes.push(condition.code());
        }
    }
    codes.sort_unstable();
    assert_eq!(codes, rows.keys().copied().collect::<Vec<u8>>());
}

/// The names are the ones of JSON lines and logs, so that a search finds the row.
#[test]
fn names_are_those_of_the_program() {
    let rows = manual();
    let name = |value: serde_json::Value| value.as_str().unwrap().to_string();
    for (fault, _) in FAULT_NAMES {
        assert_eq!(rows[&fault.code()][0], format!("`{}`", name(serde_json::to_value(fault).unwrap())));
    }
    for condition in Condition::ALL {
        assert_eq!(rows[&condition.code()][0], format!("`{}`", name(serde_json::to_value(condition).unwrap())));
    }
}
