//! board/plc/modbus.md is what the code says.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use fcam::handshake::{Status, Told};
use fcam::modbus::adu::{rtu_answer, tcp_answer};
use fcam::modbus::identity::OBJECTS;
use fcam::modbus::map::{CONTROL, INPUTS, REGION, STATUS, TABLE, WRITTEN};
use fcam::modbus::{self, Access, ControlRegisters, Exception, Image, MaskPages, Moment, WordOrder};
use fcam::outcome::Opened;
use fcam::verdict::{Findings, Verdict};

fn addresses(first: usize, words: usize) -> String {
    if words == 1 { first.to_string() } else { format!("{first}-{}", first + words - 1) }
}

fn tables() -> String {
    let mut out = String::from(
        "## Input registers\n\nAgain as holding registers from 1000 on.\n\n| address | name | type | meaning |\n|---|---|---|---|\n",
    );
    for row in &TABLE {
        let at = addresses(row.address, row.value.words());
        let _ = writeln!(out, "| {at} | {} | {} | {} |", row.name, row.value.form(), row.meaning);
    }
    out += "\nOf numbers of 32 bits (u32) the high word comes first, unless `modbus.word_order` says otherwise.\n\n### STATUS\n\n| bit | name | meaning |\n|---|---|---|\n";
    for (bit, (name, _, meaning)) in STATUS.iter().enumerate() {
        let _ = writeln!(out, "| {bit} | {name} | {meaning} |");
    }
    out += "\n### REGION\n\nRegion n, from 0, begins at 20 + 8 n.\n\n| offset | name | meaning |\n|---|---|---|\n";
    for (offset, name, meaning) in REGION {
        let _ = writeln!(out, "| {offset} | {name} | {meaning} |");
    }
    out += "\n## Holding registers\n\n| address | name | type | meaning |\n|---|---|---|---|\n";
    for (first, words, name, form, meaning) in WRITTEN {
        let _ = writeln!(out, "| {} | {name} | {form} | {meaning} |", addresses(first, words));
    }
    out += "\n### CONTROL\n\n| bit | name | meaning |\n|---|---|---|\n";
    for (bit, name, meaning) in CONTROL {
        let _ = writeln!(out, "| {bit} | {name} | {meaning} |");
    }
    out += "\n## Device identification\n\n| object | text |\n|---|---|\n";
    for (object, text) in OBJECTS {
        let text = if text == env!("CARGO_PKG_VERSION") { "the version" } else { text };
        let _ = writeln!(out, "| {object} | {text} |");
    }
    out + &examples()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" ")
}

/// A station that is ready, and whose last part, number 12 with the PLC's number 7, was rejected as class 3.
fn image() -> Image {
    let part = Opened { sequence: 11, part_id: 7, at: Duration::ZERO };
    let reject = Verdict::Reject(Findings { class: 3, score: 0.9876, regions: Default::default() });
    let outcome = crate::outcome::outcome(part, reject, Some(0.9876), 0, crate::outcome::AT_ONCE);
    let told = Told::new(&outcome, Duration::from_micros(12_300));
    let status =
        Status { ready: true, valid: true, run: true, result: Some(told), trigger_id: Some(11), ..Status::default() };
    Image::new(
        &Moment { status: &status, mask: &MaskPages::default(), page: 0, deadline: 0, config: 0 },
        WordOrder::Big,
    )
}

fn access(access: Access) -> Result<(), Exception> {
    match access {
        Access::Inputs { address, into } | Access::Holdings { address, into } => {
            let words = image().get(address.into(), into.len() / 2).ok_or(Exception::Address)?.to_vec();
            into.chunks_exact_mut(2).zip(words).for_each(|(pair, word)| pair.copy_from_slice(&word.to_be_bytes()));
            Ok(())
        }
        Access::Write { address, from } => {
            let values = from.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            ControlRegisters::default().with(address, values).map(drop)
        }
    }
}

fn examples() -> String {
    let cases: [(&str, &[u8]); 5] = [
        (
            "Read 0 to 6. The station is ready (STATUS 0505: RUN, NG, VALID, READY); part 12, class 3, score 0.9876, 12.3 ms",
            &[4, 0, 0, 0, 7],
        ),
        (
            "Trigger part 7: CONTROL 3 (TRIGGER_ENABLE, TRIGGER), JOB 0, PART_ID 7, in one request",
            &[16, 0, 0, 0, 4, 8, 0, 3, 0, 0, 0, 0, 0, 7],
        ),
        ("Acknowledge: CONTROL 5 (TRIGGER_ENABLE, RESULT_ACK)", &[6, 0, 0, 0, 5]),
        ("A register that is not there: exception 02", &[4, 0, INPUTS as u8, 0, 1]),
        ("Vendor (43/14, object 0)", &[43, 14, 4, 0]),
    ];
    let mut out = String::from("\n## Examples\n\nTransaction 1 and unit 255 on TCP, unit 1 on a serial line.\n");
    for (title, pdu) in cases {
        let answer = modbus::answer(pdu, access).to_vec();
        let _ = writeln!(out, "\n{title}:\n\n```");
        let (mut tcp, mut rtu) = (heapless::Vec::new(), heapless::Vec::new());
        for (way, bytes) in [(">", pdu), ("<", &answer)] {
            tcp_answer(&[0, 1, 0, 0, 0, 0, 255], bytes, &mut tcp);
            rtu_answer(1, bytes, &mut rtu);
            let _ = writeln!(out, "TCP {way} {}\nRTU {way} {}", hex(&tcp), hex(&rtu));
        }
        out += "```\n";
    }
    out
}

#[test]
fn the_page_has_the_tables_of_the_code() {
    let (begin, end) = ("<!-- tables: generated -->\n", "<!-- tables: end -->");
    let page = fs::read_to_string("board/plc/modbus.md").unwrap();
    let (before, rest) = page.split_once(begin).unwrap();
    let (held, after) = rest.split_once(end).unwrap();
    if std::env::var_os("FCAM_WRITE_SPEC").is_some() {
        return fs::write("board/plc/modbus.md", format!("{before}{begin}{}{end}{after}", tables())).unwrap();
    }
    assert!(held == tables(), "board/plc/modbus.md is not what the code says: run this test with FCAM_WRITE_SPEC=1");
}
