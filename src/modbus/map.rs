//! The register map as data: what stands where, what it means, and how it is taken from a [`Moment`]. Addresses are as
//! on the wire, from 0.

use super::control::Control;
use super::moment::Moment;
use crate::handshake::{MAX_REGIONS, Status, short_id};

/// Changes when a register changes its meaning.
pub const VERSION: u16 = 1;
/// Input registers.
pub const INPUTS: usize = 233;
/// The input registers can be read as holding registers too, from here on, by masters that have function 3 alone.
pub const MIRROR: u16 = 1000;
/// Registers of one region.
pub const REGION_WORDS: usize = 8;
/// First register of the mask's head; a master that reads it keeps this mask until it reads it again.
pub const HEAD: usize = 88;
/// Registers of the mask window, the most that one request reads.
pub const WINDOW_WORDS: usize = 125;
/// `CLASS` where there is none.
pub const NO_CLASS: u16 = 0xffff;
/// `TEMPERATURE` where there is no sensor.
pub const NO_TEMPERATURE: i16 = i16::MAX;

/// How a register's content is made.
///
/// ```
/// use fcam::modbus::map::{INPUTS, TABLE};
///
/// let score = TABLE.iter().find(|row| row.name == "SCORE").ok_or("no such register")?;
/// assert_eq!((score.address, score.value.form(), score.value.words()), (5, "u16", 1));
/// assert_eq!(TABLE.iter().map(|row| row.value.words()).sum::<usize>(), INPUTS);
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy)]
pub enum Value {
    /// Bits of [`STATUS`].
    Bits(fn(&Moment) -> u16),
    /// A number.
    Word(fn(&Moment) -> u16),
    /// A number that may be negative, in two's complement.
    Signed(fn(&Moment) -> i16),
    /// A number in two registers.
    Long(fn(&Moment) -> u32),
    /// [`MAX_REGIONS`] times [`REGION`].
    Regions,
    /// A page of the mask's bytes, two a register, the first one high.
    Window,
}

impl Value {
    /// Registers that it takes.
    pub fn words(&self) -> usize {
        match self {
            Self::Bits(_) | Self::Word(_) | Self::Signed(_) => 1,
            Self::Long(_) => 2,
            Self::Regions => MAX_REGIONS * REGION_WORDS,
            Self::Window => WINDOW_WORDS,
        }
    }

    /// Its type's name.
    pub fn form(&self) -> &'static str {
        match self {
            Self::Bits(_) => "bits",
            Self::Word(_) => "u16",
            Self::Signed(_) => "i16",
            Self::Long(_) => "u32",
            Self::Regions => "8 x 8 u16",
            Self::Window => "250 bytes",
        }
    }
}

/// One row of the map.
#[derive(Clone, Copy)]
pub struct Input {
    /// Its first register.
    pub address: usize,
    /// What programmers call it.
    pub name: &'static str,
    /// What stands there.
    pub value: Value,
    /// What it means.
    pub meaning: &'static str,
}

const fn row(address: usize, name: &'static str, value: Value, meaning: &'static str) -> Input {
    Input { address, name, value, meaning }
}

use Value::{Bits, Long, Regions, Signed, Window, Word};

/// Every input register, without a gap.
pub const TABLE: [Input; 38] = [
    row(0, "STATUS", Bits(|moment| status_bits(moment.status)), "bits, below"),
    row(
        1,
        "FAULT",
        Word(|moment| moment.status.code.into()),
        "0 none; what holds now, else why the last part was not judged",
    ),
    row(
        2,
        "RESULT_ID",
        Word(|moment| moment.status.result.as_ref().map_or(0, |result| result.id())),
        "the result's part, 1 to 65535 and again 1; 0 none yet",
    ),
    row(
        3,
        "TRIGGER_ID",
        Word(|moment| moment.status.trigger_id.map_or(0, short_id)),
        "the number that the last trigger got; its result will have it",
    ),
    row(
        4,
        "CLASS",
        Word(|moment| moment.result(|result| result.outcome.plc.class.map(u16::from)).unwrap_or(NO_CLASS)),
        "defect class, position in the manifest; 65535 none",
    ),
    row(
        5,
        "SCORE",
        Word(|moment| moment.result(|result| Some(result.outcome.plc.score)).unwrap_or(0)),
        "defect score, 1/10000",
    ),
    row(
        6,
        "LATENCY",
        Word(|moment| moment.result(|result| Some(result.latency)).unwrap_or(0)),
        "trigger to result, 0.1 ms; 65535: that or more",
    ),
    row(
        7,
        "DEADLINE",
        Word(|moment| moment.deadline),
        "when results are due after the trigger, 0.1 ms; 0: as soon as they are known",
    ),
    row(8, "JOB", Word(|moment| moment.status.job), "the job that runs"),
    row(
        9,
        "CONFIG",
        Word(|moment| moment.config as u16),
        "CRC-32 of the station's configuration, its lower 16 bits: another value is another configuration",
    ),
    row(
        10,
        "PART_ID",
        Long(|moment| moment.result(|result| Some(result.outcome.part_id)).unwrap_or(0)),
        "the PLC's own number of the result's part; 0 if it gave none",
    ),
    row(12, "OK_COUNT", Long(|moment| moment.status.counts.ok), "OK results since the start"),
    row(
        14,
        "NG_COUNT",
        Long(|moment| moment.status.counts.ng),
        "NG results since the start, parts that were not judged included",
    ),
    row(16, "MISSED_COUNT", Long(|moment| moment.status.counts.missed), "triggers while READY was low"),
    row(
        18,
        "ZONES",
        Word(|moment| moment.result(|result| Some(result.outcome.zones)).unwrap_or(0)),
        "zones of the frame with a mask pixel in them, one bit each",
    ),
    row(
        19,
        "REGION_COUNT",
        Word(|moment| moment.result(|result| Some(result.regions().len() as u16)).unwrap_or(0)),
        "regions below, 0 to 8",
    ),
    row(20, "REGION", Regions, "eight regions, largest first, below; 0 where there is none"),
    row(
        84,
        "REASON",
        Word(|moment| moment.result(|result| Some(result.outcome.plc.reason.into())).unwrap_or(0)),
        "of the result: 0 pass, 1 reject, others as FAULT",
    ),
    row(
        85,
        "WAITING",
        Word(|moment| moment.status.waiting.into()),
        "results that were not acknowledged, the valid one included",
    ),
    row(
        86,
        "TEMPERATURE",
        Signed(|moment| moment.status.temperature.unwrap_or(NO_TEMPERATURE)),
        "processor, 0.1 degrees Celsius; 32767: no sensor",
    ),
    row(87, "MAP_VERSION", Word(|_| VERSION), "1"),
    row(
        HEAD,
        "MASK_BYTES",
        Long(|moment| moment.mask.byte_count() as u32),
        "bytes of the whole mask; 0 none. Read it first: this connection keeps the mask until it reads this register again",
    ),
    row(90, "MASK_CODEC", Word(|moment| moment.mask.codec), "0 none, 1 run lengths as LEB128 (telegram.md, \"Mask\")"),
    row(91, "MASK_WIDTH", Word(|moment| moment.mask.width), "pixels across the mask"),
    row(92, "MASK_HEIGHT", Word(|moment| moment.mask.height), "pixels down the mask"),
    row(93, "MASK_ID", Word(|moment| moment.mask.id), "the part that the mask is of, as RESULT_ID; 0 none yet"),
    row(94, "MASK_CRC", Long(|moment| moment.mask.crc), "CRC-32 (IEEE 802.3) of the mask's bytes"),
    row(
        96,
        "MASK_WINDOW",
        Window,
        "page MASK_PAGE of the mask's bytes, the first byte of each register high; 0 behind the end",
    ),
    row(
        221,
        "MASK_X",
        Word(|moment| moment.mask.roi[0]),
        "the rectangle of the frame that the mask covers, frame pixels",
    ),
    row(222, "MASK_Y", Word(|moment| moment.mask.roi[1]), ""),
    row(223, "MASK_ACROSS", Word(|moment| moment.mask.roi[2]), "its width"),
    row(224, "MASK_DOWN", Word(|moment| moment.mask.roi[3]), "its height"),
    row(
        225,
        "RELEASE",
        Long(|moment| moment.status.release),
        "counter of the signed bundle that judges from the next part on; 0: the bundle is not signed",
    ),
    row(
        227,
        "RESULT_RELEASE",
        Long(|moment| moment.result(|result| Some(result.outcome.judged_by.number())).unwrap_or(0)),
        "counter of the signed bundle that judged the part of RELEASE_ID; 0: the bundle is not signed",
    ),
    row(
        229,
        "RELEASE_ID",
        Word(|moment| moment.status.result.as_ref().map_or(0, |result| result.id())),
        "RESULT_ID once more, so that one request reads it and RESULT_RELEASE together",
    ),
    row(
        230,
        "DRIFT",
        Word(|moment| moment.status.drift.map_or(0, |drift| drift.all.into())),
        "what has changed in the pictures, until CLEAR_FAULT; 0 nothing. Bit 0 brightness, 1 contrast, 2 sharpness, 3 warmth, 4 tint, 5 noise, 6 clipped, 7 score",
    ),
    row(
        231,
        "DRIFT_BY",
        Signed(|moment| moment.status.drift.map_or(0, |drift| (drift.by * 1000.0).round() as i16)),
        "by how much the first of them is more or less than usual, 0.1 %",
    ),
    row(
        232,
        "DRIFT_SINCE",
        Word(|moment| moment.status.drift.map_or(0, |drift| short_id(drift.part))),
        "the part with which that began, as RESULT_ID; 0 none",
    ),
];

/// Offset in a region, name, meaning.
pub const REGION: [(usize, &str, &str); 7] = [
    (0, "X", "box, frame pixels"),
    (1, "Y", ""),
    (2, "WIDTH", "at least 1"),
    (3, "HEIGHT", ""),
    (4, "CENTER_X", "centre of mass"),
    (5, "CENTER_Y", ""),
    (6, "AREA", "frame pixels, u32"),
];

/// A bit of `STATUS`.
pub type Bit = (&'static str, fn(&Status) -> bool, &'static str);

/// `STATUS`, from bit 0 on.
pub const STATUS: [Bit; 16] = [
    ("READY", |status| status.ready, "a trigger would be judged"),
    ("BUSY", |status| status.busy, "a part is under way; never wait for its edge"),
    ("VALID", |status| status.valid, "there is a result that was not acknowledged"),
    ("TOGGLE", |status| status.toggle, "changes with each result"),
    ("TRIGGER_ACK", |status| status.trigger_ack, "follows TRIGGER"),
    ("MISSED", |status| status.missed, "a trigger came while READY was low; latched"),
    ("OVERRUN", |status| status.overrun, "a result found no room; latched"),
    ("OK", Status::ok, "the valid result is good"),
    ("NG", Status::ng, "the valid result is not good, or was not judged"),
    ("FAULT", |status| status.fault, "something is wrong: FAULT (1) says what"),
    ("RUN", |status| status.run, "parts are taken"),
    ("SIMULATED", |status| status.simulated, "the pictures are not of parts on a line"),
    ("JOB_BUSY", |status| status.job_busy, "a job change is under way"),
    ("JOB_FAILED", |status| status.job_failed, "the last job change failed, the old job runs"),
    ("LATE", |status| status.late, "a result was not told in time; latched"),
    ("HEARTBEAT", |status| status.heartbeat, "changes every 250 ms while every thread that judges or tells is alive"),
];

fn status_bits(status: &Status) -> u16 {
    STATUS.iter().enumerate().map(|(bit, (_, holds, _))| u16::from(holds(status)) << bit).fold(0, |all, bit| all | bit)
}

/// Bit of `CONTROL`, name, meaning. What is no bit here is refused.
pub const CONTROL: [(u16, &str, &str); 7] = [
    (Control::TRIGGER_ENABLE, "TRIGGER_ENABLE", "TRIGGER is looked at; a rising TRIGGER without it is a missed part"),
    (Control::TRIGGER, "TRIGGER", "rising: a part is there. Lower it when TRIGGER_ACK is high"),
    (
        Control::RESULT_ACK,
        "RESULT_ACK",
        "rising: the result was read, VALID falls. Falling: the next one is shown, if results are buffered",
    ),
    (
        Control::BUFFER_RESULTS,
        "BUFFER_RESULTS",
        "results wait for RESULT_ACK, up to 8; else a new one replaces the old",
    ),
    (Control::JOB_EXECUTE, "JOB_EXECUTE", "rising: change to JOB"),
    (
        Control::CLEAR_FAULT,
        "CLEAR_FAULT",
        "rising: MISSED, OVERRUN, LATE, JOB_FAILED, DRIFT and the last part's FAULT are forgotten",
    ),
    (Control::SET_OFFLINE, "SET_OFFLINE", "high: no parts are taken, READY is low"),
];

/// Address, registers, name, type, meaning of what the PLC writes.
pub type Written = (usize, usize, &'static str, &'static str, &'static str);

/// The holding registers that the PLC writes, and reads back.
pub const WRITTEN: [Written; 6] = [
    (0, 1, "CONTROL", "bits", "below"),
    (1, 1, "JOB", "u16", "the job that JOB_EXECUTE changes to"),
    (
        2,
        2,
        "PART_ID",
        "u32",
        "the PLC's number of the next part: written before TRIGGER rises, or with it in one request",
    ),
    (4, 1, "MASK_PAGE", "u16", "which 250 bytes of the mask MASK_WINDOW shows, from 0. Each connection has its own"),
    (5, 1, "PLC_HEARTBEAT", "u16", "changes while the PLC is alive (`plc.heartbeat_ms`)"),
    (6, 10, "-", "-", "0; another value is refused"),
];
