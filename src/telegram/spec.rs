//! The tables of board/plc/telegram.md, as data beside the code. A test writes frames by these tables alone and reads
//! them with the codec.

use super::message::kind;

/// Type, name, who sends it, what it says.
pub type Kind = (u8, &'static str, &'static str, &'static str);

/// Every message type.
pub const KINDS: [Kind; 10] = [
    (kind::HELLO, "HELLO", "camera", "first on every connection: what the station is"),
    (
        kind::HEARTBEAT,
        "HEARTBEAT",
        "camera",
        "every 250 ms when nothing else was sent, and when the code or the drift changes",
    ),
    (kind::VERDICT, "VERDICT", "camera", "the judgement of a part"),
    (kind::REGIONS, "REGIONS", "camera", "boxes of a part's defects, and where its mask lies"),
    (kind::MASK_CHUNK, "MASK_CHUNK", "camera", "a piece of a part's mask"),
    (kind::MASK_ABORT, "MASK_ABORT", "camera", "no (more) mask of this part"),
    (kind::TRIGGER, "TRIGGER", "PLC", "a part is there; answered by ACK when it has its number, else by NAK"),
    (kind::JOB, "JOB", "PLC", "change the job; answered by ACK when it is done, by NAK when it is refused"),
    (kind::ACK, "ACK", "both", "a telegram was followed; from the PLC: the VERDICT of this SEQ was read (optional)"),
    (kind::NAK, "NAK", "both", "a telegram was understood and cannot be followed"),
];

/// Payload offset, field, type, meaning.
pub type Field = (usize, &'static str, &'static str, &'static str);

/// The payload's fields of each type.
pub const FIELDS: [(u8, &[Field]); 10] = [
    (
        kind::HELLO,
        &[
            (0, "minor", "u8", "minor version: fields were added at the end of payloads"),
            (1, "caps", "u8", "bit 0: regions and masks are sent; bit 1: TRIGGER is followed"),
            (2, "frame_bytes", "u16", "bytes of the longest frame that will come"),
            (4, "config", "u32", "CRC-32 of the station's configuration"),
        ],
    ),
    (
        kind::HEARTBEAT,
        &[
            (0, "state", "u8", "1 ready, 2 stopping, 3 not ready, 4 fault"),
            (1, "code", "u8", "what holds, else why the last part was not judged, below; 0 nothing"),
            (2, "uptime_s", "u32", "seconds since the start"),
            (6, "temperature", "i16", "0.1 degrees Celsius; 7FFF: no sensor"),
            (8, "missed", "u32", "verdicts that this line was not told"),
            (12, "masks_lost", "u32", "masks omitted or aborted"),
            (
                16,
                "drift",
                "u16",
                "what has changed in the pictures, bits as the register DRIFT of modbus.md; 0 nothing. From minor version 3 on",
            ),
        ],
    ),
    (
        kind::VERDICT,
        &[
            (0, "result_id", "u32", "the part's number"),
            (4, "verdict", "u16", "5AA5 OK, A55A NG; anything else: NG"),
            (6, "complement", "u16", "every bit of verdict inverted"),
            (8, "reason", "u8", "0 pass, 1 reject, others below"),
            (9, "class", "u8", "defect class, position in the manifest; FF none"),
            (10, "score", "u16", "defect score, 1/10000"),
            (12, "latency", "u16", "capture to telegram, 0.1 ms; FFFF: that or more"),
            (14, "regions", "u8", "regions found"),
            (15, "-", "u8", "0"),
            (16, "-", "u16", "0"),
            (18, "result_id", "u32", "again"),
            (22, "part_id", "u32", "the PLC's number of the part, from its TRIGGER; 0 none. From minor version 1 on"),
            (
                26,
                "release",
                "u32",
                "counter of the signed release that judged; 0: no such release. From minor version 2 on",
            ),
        ],
    ),
    (
        kind::REGIONS,
        &[
            (0, "result_id", "u32", "the part's number"),
            (4, "found", "u8", "regions found, as in VERDICT"),
            (5, "first", "u8", "number of the first region here, from 0"),
            (6, "listed", "u8", "regions here, at most 8"),
            (7, "-", "u8", "0"),
            (
                8,
                "roi_x",
                "u16",
                "the inspected rectangle in frame pixels, of several the box around them: the mask covers exactly this",
            ),
            (10, "roi_y", "u16", ""),
            (12, "roi_width", "u16", ""),
            (14, "roi_height", "u16", ""),
            (16, "x", "u16", "first region: box, frame pixels; the next region follows 18 bytes on"),
            (18, "y", "u16", ""),
            (20, "width", "u16", ""),
            (22, "height", "u16", ""),
            (24, "center_x", "u16", "centre of mass"),
            (26, "center_y", "u16", ""),
            (28, "area", "u32", "frame pixels"),
            (32, "peak", "u16", "highest probability in it, 1/10000"),
        ],
    ),
    (
        kind::MASK_CHUNK,
        &[
            (0, "result_id", "u32", "the part's number"),
            (4, "offset", "u32", "where the data belongs in the mask's bytes"),
            (8, "total", "u32", "bytes of the whole mask, without its CRC-32"),
            (12, "codec", "u8", "1: run lengths as LEB128"),
            (13, "scale", "u8", "1, 2 or 4: a pixel is set if any of scale x scale full pixels is"),
            (14, "width", "u16", "pixels across the mask as sent"),
            (16, "height", "u16", "pixels down the mask as sent"),
            (18, "flags", "u8", "bit 0: last chunk; bit 1: reduced, scale is not 1"),
            (19, "data", "bytes", "run lengths; in the last chunk followed by the mask's CRC-32, u32"),
        ],
    ),
    (
        kind::MASK_ABORT,
        &[
            (0, "result_id", "u32", "the part's number"),
            (4, "reason", "u8", "1 next part came, 2 too large for the line, 3 station too busy, 4 stopping"),
            (5, "-", "u8", "0"),
        ],
    ),
    (kind::TRIGGER, &[(0, "part_id", "u32", "the PLC's number of the part")]),
    (kind::JOB, &[(0, "job", "u16", "which")]),
    (kind::ACK, &[(0, "sequence", "u16", "SEQ of the telegram")]),
    (kind::NAK, &[(0, "sequence", "u16", "SEQ of the telegram"), (2, "code", "u8", "why, below"), (3, "-", "u8", "0")]),
];

/// `reason` of VERDICT.
pub const REASONS: [(u8, &str); 15] = [
    (0, "pass"),
    (1, "reject"),
    (2, "not judged: camera gone"),
    (3, "not judged: no frame in time"),
    (4, "not judged: frame of another size"),
    (5, "not judged: more parts than the station can hold"),
    (6, "not judged: the engine failed"),
    (7, "not judged in time"),
    (8, "not judged: the station was stopped"),
    (9, "not judged: triggered while the station was not ready"),
    (10, "not judged: no frame near enough to the trigger"),
    (11, "not judged: the camera sends the same picture again and again"),
    (12, "not judged: the part was not found where it must lie"),
    (13, "not judged: the camera sees nothing of the part"),
    (19, "not of a part: the pictures are simulated"),
];

/// `code` of NAK.
pub const REFUSALS: [(u8, &str); 6] = [
    (refusal::UNSUPPORTED, "the station does not do this: TRIGGER without `trigger.mode = \"external\"`"),
    (refusal::MALFORMED, "malformed payload or line"),
    (refusal::UNKNOWN, "unknown type"),
    (refusal::JOB, "the job was refused or its change failed: the old one runs"),
    (refusal::JOB_BUSY, "another job change is under way"),
    (
        refusal::NO_NUMBER,
        "no number was given and no VERDICT will come: the station ends, or 1024 triggers have none yet",
    ),
];

/// Codes of [`REFUSALS`].
pub mod refusal {
    #![allow(missing_docs)] // the table above says what they mean
    pub const UNSUPPORTED: u8 = 1;
    pub const MALFORMED: u8 = 2;
    pub const UNKNOWN: u8 = 3;
    pub const JOB: u8 = 4;
    pub const JOB_BUSY: u8 = 5;
    pub const NO_NUMBER: u8 = 6;
}

/// `code` of HEARTBEAT beside those of [`REASONS`]; what holds comes before the last part's reason.
pub const CODES: [(u8, &str); 10] = [
    (20, "a thread of the station panicked"),
    (21, "the processor is too hot"),
    (22, "the PLC's heartbeat stopped"),
    (23, "a thread that judges or tells stands still, or results do not come"),
    (24, "a GPIO output cannot be driven"),
    (25, "the trigger's GPIO input cannot be read"),
    (26, "a channel that tells the PLC is cut, full or hung"),
    (30, "starting: the bundle is being proven"),
    (31, "about to end"),
    (32, "offline, as the PLC asked"),
];

/// What a code of [`REASONS`] means.
///
/// ```
/// use fcam::telegram::spec;
/// use fcam::verdict::Fault;
///
/// assert_eq!(spec::reason(Fault::Stalled.code()), "not judged: no frame in time");
/// assert_eq!(spec::reason(200), "not judged"); // of a newer version
/// ```
pub fn reason(code: u8) -> &'static str {
    REASONS.iter().find(|(known, _)| *known == code).map_or("not judged", |(_, text)| text)
}
