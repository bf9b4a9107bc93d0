//! The messages and their payloads: fields at fixed places, so that a PLC reads them by index.

use super::MAX_PAYLOAD;

/// Message types.
pub mod kind {
    #![allow(missing_docs)] // the messages are explained at `Message`
    pub const HELLO: u8 = 0x01;
    pub const HEARTBEAT: u8 = 0x02;
    pub const VERDICT: u8 = 0x03;
    pub const REGIONS: u8 = 0x04;
    pub const MASK_CHUNK: u8 = 0x05;
    pub const MASK_ABORT: u8 = 0x06;
    pub const TRIGGER: u8 = 0x10;
    pub const JOB: u8 = 0x11;
    pub const ACK: u8 = 0x12;
    pub const NAK: u8 = 0x7f;
}

/// Minor version: which fields there are at the end of payloads.
pub const MINOR: u8 = 3;

/// The word for a good part; its complement is [`NG`].
pub const OK: u16 = 0x5aa5;
/// The word for a part that is not good, or was not judged.
pub const NG: u16 = 0xa55a;
/// `class` of a part without one, `temperature` where there is no sensor.
pub const NO_CLASS: u8 = 0xff;
/// `reason` of a good part in a picture that was not taken of a part: never OK.
pub const SIMULATED: u8 = 19;
/// No sensor.
pub const NO_TEMPERATURE: i16 = i16::MAX;
/// `codec` of run lengths as LEB128.
pub const CODEC_RUNS: u8 = 1;
/// Flag of the chunk that ends a mask and carries its CRC-32.
pub const LAST: u8 = 1;
/// Flag of a mask at half or quarter scale.
pub const REDUCED: u8 = 2;
/// Regions that a part's telegrams list at most.
pub const MAX_REGIONS: usize = 8;
/// Payload of REGIONS before its regions, and of each region.
pub const REGIONS_HEADER: usize = 16;
/// Bytes of a region.
pub const REGION: usize = 18;
/// Payload of MASK_CHUNK before its data.
pub const CHUNK_HEADER: usize = 19;
/// The CRC-32 behind the data of the last chunk.
pub const CHUNK_CRC: usize = 4;
/// Bytes of run lengths in a chunk at most.
pub const MAX_DATA: usize = MAX_PAYLOAD - CHUNK_HEADER - CHUNK_CRC;

/// What a station says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A part would be judged.
    Ready,
    /// It is about to end: expect nothing more.
    Stopping,
    /// Not now: parts are under way, or it was told so.
    NotReady,
    /// Not before what its code says is mended.
    Fault,
    /// A code that this version does not know.
    Other(u8),
}

impl State {
    /// The byte on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Ready => 1,
            Self::Stopping => 2,
            Self::NotReady => 3,
            Self::Fault => 4,
            Self::Other(code) => code,
        }
    }

    fn of(code: u8) -> Self {
        match code {
            1 => Self::Ready,
            2 => Self::Stopping,
            3 => Self::NotReady,
            4 => Self::Fault,
            other => Self::Other(other),
        }
    }
}

/// VERDICT: 30 bytes, so that the whole frame has 40.
///
/// ```
/// use fcam::telegram::{self, Message, Verdict, message::{NO_CLASS, kind}};
///
/// let good = Verdict {
///     result_id: 12, ok: true, reason: 0, class: NO_CLASS, score: 210, latency: 123, regions: 0, part_id: 4711, release: 0,
/// };
/// let frame = telegram::encode(1, &Message::Verdict(good));
/// assert_eq!(frame.len(), 40);
/// // OK is a word and its complement: no single changed bit makes a good part.
/// let mut payload = Message::Verdict(good).payload();
/// payload[5] ^= 1;
/// assert!(Message::parse(kind::VERDICT, &payload).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The part's number, modulo 2^32; twice in the payload.
    pub result_id: u32,
    /// OK; on the wire a word and its complement.
    pub ok: bool,
    /// 0 pass, 1 reject, from 2 on why it was not judged; see [`super::spec::REASONS`].
    pub reason: u8,
    /// The defect class by its position in the bundle's manifest; [`NO_CLASS`] if none.
    pub class: u8,
    /// Defect score, 1/10000.
    pub score: u16,
    /// From the part's capture to the telegram, 0.1 ms; 65535 is that or more.
    pub latency: u16,
    /// Regions that were found.
    pub regions: u8,
    /// The PLC's number of the part, from its TRIGGER; 0 if it gave none, or the sender is of minor version 0.
    pub part_id: u32,
    /// Counter of the signed release that judged; 0 if the bundle is no such release, or the sender is of minor version
    /// 1 or 0.
    pub release: u32,
}

/// One region, in frame pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WireRegion {
    /// Box: left edge.
    pub x: u16,
    /// Box: top edge.
    pub y: u16,
    /// Box: width.
    pub width: u16,
    /// Box: height.
    pub height: u16,
    /// Centre of mass.
    pub center_x: u16,
    /// Centre of mass.
    pub center_y: u16,
    /// Area in frame pixels.
    pub area: u32,
    /// The highest foreground probability in it, 1/10000.
    pub peak: u16,
}

/// REGIONS: some of a part's regions, and where its mask lies.
///
/// ```
/// use fcam::telegram::{Message, Regions, WireRegion};
///
/// let region = WireRegion { x: 110, y: 10, width: 20, height: 10, center_x: 120, center_y: 15, area: 200, peak: 9000 };
/// let mut regions = Regions { result_id: 12, found: 1, first: 0, roi: [0, 0, 640, 480], regions: Default::default() };
/// regions.regions.push(region).map_err(|_| "eight at most")?;
/// let message = Message::Regions(regions);
/// assert_eq!(message.payload().len(), 16 + 18);
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions {
    /// The part.
    pub result_id: u32,
    /// Regions that were found, as in VERDICT.
    pub found: u8,
    /// The number of the first region here, from 0: long lists are cut into several telegrams.
    pub first: u8,
    /// The inspected rectangle in frame pixels, of several the box around them, x, y, width, height: a mask covers
    /// exactly this.
    pub roi: [u16; 4],
    /// Largest first.
    pub regions: heapless::Vec<WireRegion, MAX_REGIONS>,
}

/// MASK_CHUNK: a piece of a mask's run lengths.
///
/// ```
/// use fcam::telegram::{Chunk, Message, message::CODEC_RUNS, runs};
///
/// // A mask of 4 x 2 in one chunk: two pixels of background, three of foreground, three of background.
/// let data: heapless::Vec<u8, _> = [2, 3, 3].into_iter().flat_map(runs::encode).collect();
/// let chunk = Chunk {
///     result_id: 12, offset: 0, total: 3, codec: CODEC_RUNS, scale: 1, width: 4, height: 2, reduced: false,
///     crc: Some(fcam::telegram::crc32(&data)), data,
/// };
/// let message = Message::MaskChunk(chunk);
/// assert_eq!(Message::parse(message.kind(), &message.payload()), Ok(message));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The part.
    pub result_id: u32,
    /// Where the data belongs, in bytes from the mask's first.
    pub offset: u32,
    /// Bytes of the whole mask.
    pub total: u32,
    /// [`CODEC_RUNS`].
    pub codec: u8,
    /// 1, 2 or 4: a pixel here stands for that many of the full mask, each way, and is set if any of them is.
    pub scale: u8,
    /// Pixels across the mask as sent.
    pub width: u16,
    /// Pixels down the mask as sent.
    pub height: u16,
    /// [`REDUCED`]; [`LAST`] goes with `crc`.
    pub reduced: bool,
    /// Run lengths; see [`super::runs`].
    pub data: heapless::Vec<u8, MAX_DATA>,
    /// In the last chunk: the CRC-32 of the whole mask's run lengths.
    pub crc: Option<u32>,
}

/// Why a mask ends, or does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// The next part's verdict came first.
    Superseded,
    /// Even at quarter scale it does not fit into its share of the line.
    Omitted,
    /// The station had no room for it.
    Overrun,
    /// The station stops.
    Stopping,
    /// A code that this version does not know.
    Other(u8),
}

impl Abort {
    /// The byte on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Superseded => 1,
            Self::Omitted => 2,
            Self::Overrun => 3,
            Self::Stopping => 4,
            Self::Other(code) => code,
        }
    }

    fn of(code: u8) -> Self {
        match code {
            1 => Self::Superseded,
            2 => Self::Omitted,
            3 => Self::Overrun,
            4 => Self::Stopping,
            other => Self::Other(other),
        }
    }
}

/// A message of either direction.
///
/// ```
/// use fcam::telegram::{Malformed, Message};
///
/// let job = Message::Job { job: 3 };
/// assert_eq!(*job.payload(), [0, 3]);
/// // A newer minor version has more fields at the end, and is understood.
/// assert_eq!(Message::parse(job.kind(), &[0, 3, 9, 9]), Ok(job));
/// assert_eq!(Message::parse(0x50, &[]), Err(Malformed::Unknown(0x50)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // there is no heap to put the chunk on
pub enum Message {
    /// First on every connection: what the sender is.
    Hello {
        /// Minor version of the format: what was added at the end of payloads.
        minor: u8,
        /// Bit 0: sends masks. Bit 1: follows TRIGGER.
        caps: u8,
        /// Bytes of the longest frame that will come.
        frame_bytes: u16,
        /// CRC-32 of the station's configuration: it changes when that does.
        config: u32,
    },
    /// When nothing else was sent for a while.
    Heartbeat {
        /// How it is.
        state: State,
        /// What holds, or why the last part was not judged; see [`super::spec::CODES`].
        code: u8,
        /// Seconds since its start.
        uptime_s: u32,
        /// 0.1 degrees Celsius, or [`NO_TEMPERATURE`].
        temperature: i16,
        /// Verdicts that this line was not told, since the start.
        missed: u32,
        /// Masks that were omitted or aborted, since the start.
        masks_lost: u32,
        /// What has changed in the pictures, a bit each; 0 nothing, or the sender is of a minor version before 3.
        drift: u16,
    },
    /// The judgement of a part.
    Verdict(Verdict),
    /// Where its defects are.
    Regions(Regions),
    /// A piece of its mask.
    MaskChunk(Chunk),
    /// Forget the mask of this part: no more will come.
    MaskAbort {
        /// The part.
        result_id: u32,
        /// Why.
        reason: Abort,
    },
    /// To the station: inspect, and call the part so.
    Trigger {
        /// The PLC's number of the part.
        part_id: u32,
    },
    /// To the station: change the job.
    Job {
        /// The job's number, as in `[bundle.jobs]`.
        job: u16,
    },
    /// The frame was taken: a trigger has its number, a job change is done, or a verdict was read.
    Ack {
        /// Its sequence number.
        sequence: u16,
    },
    /// The frame was understood and cannot be followed.
    Nak {
        /// Its sequence number.
        sequence: u16,
        /// Why; see [`super::spec::REFUSALS`].
        code: u8,
    },
}

/// A frame whose CRC holds and whose payload is still no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A type of a newer version: skip it.
    Unknown(u8),
    /// Shorter than its type says.
    Short(u8),
    /// Fields that contradict each other, such as a verdict word and its complement.
    Contradiction(u8),
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unknown(kind) => write!(f, "unknown type {kind:02x}"),
            Self::Short(kind) => write!(f, "type {kind:02x} is too short"),
            Self::Contradiction(kind) => write!(f, "type {kind:02x} contradicts itself"),
        }
    }
}

/// A payload's bytes.
pub type Payload = heapless::Vec<u8, MAX_PAYLOAD>;

/// Appends big-endian fields; every message is shorter than a payload may be.
#[derive(Default)]
struct Writer(Payload);

impl Writer {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> &mut Self {
        self.slice(&bytes)
    }

    fn slice(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.0.extend_from_slice(bytes);
        self
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.put([value])
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.put(value.to_be_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(value.to_be_bytes())
    }
}

/// Takes big-endian fields from the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
}

impl Message {
    /// Its type.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => kind::HELLO,
            Self::Heartbeat { .. } => kind::HEARTBEAT,
            Self::Verdict(_) => kind::VERDICT,
            Self::Regions(_) => kind::REGIONS,
            Self::MaskChunk(_) => kind::MASK_CHUNK,
            Self::MaskAbort { .. } => kind::MASK_ABORT,
            Self::Trigger { .. } => kind::TRIGGER,
            Self::Job { .. } => kind::JOB,
            Self::Ack { .. } => kind::ACK,
            Self::Nak { .. } => kind::NAK,
        }
    }

    /// Its payload.
    pub fn payload(&self) -> Payload {
        let mut out = Writer::default();
        match self {
            Self::Hello { minor, caps, frame_bytes, config } => {
                out.u8(*minor).u8(*caps).u16(*frame_bytes).u32(*config);
            }
            Self::Heartbeat { state, code, uptime_s, temperature, missed, masks_lost, drift } => {
                out.u8(state.code()).u8(*code).u32(*uptime_s).put(temperature.to_be_bytes());
                out.u32(*missed).u32(*masks_lost).u16(*drift);
            }
            Self::Verdict(verdict) => verdict.put(&mut out),
            Self::Regions(regions) => regions.put(&mut out),
            Self::MaskChunk(chunk) => chunk.put(&mut out),
            Self::MaskAbort { result_id, reason } => drop(out.u32(*result_id).u8(reason.code()).u8(0)),
            Self::Trigger { part_id } => drop(out.u32(*part_id)),
            Self::Job { job } => drop(out.u16(*job)),
            Self::Ack { sequence } => drop(out.u16(*sequence)),
            Self::Nak { sequence, code } => drop(out.u16(*sequence).u8(*code).u8(0)),
        }
        out.0
    }

    /// Reads a payload. Bytes behind the known fields belong to a newer minor version and are left alone.
    pub fn parse(kind: u8, payload: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(payload);
        let message = match kind {
            kind::HELLO => Self::hello(&mut from),
            kind::HEARTBEAT => Self::heartbeat(&mut from),
            kind::VERDICT => return Verdict::parse(&mut from).map(Self::Verdict),
            kind::REGIONS => return Regions::parse(&mut from).map(Self::Regions),
            kind::MASK_CHUNK => return Chunk::parse(&mut from).map(Self::MaskChunk),
            kind::MASK_ABORT => {
                let fields = from.u32().zip(from.u8());
                fields.map(|(result_id, code)| Self::MaskAbort { result_id, reason: Abort::of(code) })
            }
            kind::TRIGGER => from.u32().map(|part_id| Self::Trigger { part_id }),
            kind::JOB => from.u16().map(|job| Self::Job { job }),
            kind::ACK => from.u16().map(|sequence| Self::Ack { sequence }),
            kind::NAK => from.u16().zip(from.u8()).map(|(sequence, code)| Self::Nak { sequence, code }),
            other => return Err(Malformed::Unknown(other)),
        };
        message.ok_or(Malformed::Short(kind))
    }

    fn hello(from: &mut Reader) -> Option<Self> {
        let (minor, caps) = (from.u8()?, from.u8()?);
        Some(Self::Hello { minor, caps, frame_bytes: from.u16()?, config: from.u32()? })
    }

    fn heartbeat(from: &mut Reader) -> Option<Self> {
        let (state, code) = (State::of(from.u8()?), from.u8()?);
        let (uptime_s, temperature) = (from.u32()?, i16::from_be_bytes(from.take()?));
        let (missed, masks_lost) = (from.u32()?, from.u32()?);
        let drift = from.u16().unwrap_or(0);
        Some(Self::Heartbeat { state, code, uptime_s, temperature, missed, masks_lost, drift })
    }
}

impl Verdict {
    fn put(&self, out: &mut Writer) {
        let word = if self.ok { OK } else { NG };
        out.u32(self.result_id).u16(word).u16(!word).u8(self.reason).u8(self.class).u16(self.score);
        out.u16(self.latency).u8(self.regions).u8(0).u16(0).u32(self.result_id).u32(self.part_id).u32(self.release);
    }

    fn parse(from: &mut Reader) -> Result<Self, Malformed> {
        let short = Malformed::Short(kind::VERDICT);
        let (verdict, consistent) = Self::read(from).ok_or(short)?;
        if consistent { Ok(verdict) } else { Err(Malformed::Contradiction(kind::VERDICT)) }
    }

    fn read(from: &mut Reader) -> Option<(Self, bool)> {
        let (result_id, word, complement) = (from.u32()?, from.u16()?, from.u16()?);
        let (reason, class, score) = (from.u8()?, from.u8()?, from.u16()?);
        let (latency, regions, _, _, again) = (from.u16()?, from.u8()?, from.u8()?, from.u16()?, from.u32()?);
        let (part_id, release) = (from.u32().unwrap_or(0), from.u32().unwrap_or(0));
        let ok = word == OK;
        let consistent = (ok || word == NG) && complement == !word && again == result_id && ok == (reason == 0);
        Some((Self { result_id, ok, reason, class, score, latency, regions, part_id, release }, consistent))
    }
}

impl WireRegion {
    fn put(&self, out: &mut Writer) {
        let Self { x, y, width, height, center_x, center_y, area, peak } = *self;
        for side in [x, y, width, height, center_x, center_y] {
            out.u16(side);
        }
        out.u32(area).u16(peak);
    }

    fn read(from: &mut Reader) -> Option<Self> {
        let (x, y, width, height) = (from.u16()?, from.u16()?, from.u16()?, from.u16()?);
        let (center_x, center_y) = (from.u16()?, from.u16()?);
        Some(Self { x, y, width, height, center_x, center_y, area: from.u32()?, peak: from.u16()? })
    }
}

impl Regions {
    fn put(&self, out: &mut Writer) {
        out.u32(self.result_id).u8(self.found).u8(self.first).u8(self.regions.len() as u8).u8(0);
        for side in self.roi {
            out.u16(side);
        }
        self.regions.iter().for_each(|region| region.put(out));
    }

    fn parse(from: &mut Reader) -> Result<Self, Malformed> {
        let (mut telegram, listed) = Self::read(from).ok_or(Malformed::Short(kind::REGIONS))?;
        for _ in 0..listed {
            let region = WireRegion::read(from).ok_or(Malformed::Short(kind::REGIONS))?;
            telegram.regions.push(region).map_err(|_| Malformed::Contradiction(kind::REGIONS))?;
        }
        Ok(telegram)
    }

    fn read(from: &mut Reader) -> Option<(Self, u8)> {
        let (result_id, found, first, listed, _) = (from.u32()?, from.u8()?, from.u8()?, from.u8()?, from.u8()?);
        let roi = [from.u16()?, from.u16()?, from.u16()?, from.u16()?];
        Some((Self { result_id, found, first, roi, regions: heapless::Vec::new() }, listed))
    }
}

impl Chunk {
    fn put(&self, out: &mut Writer) {
        let flags = if self.crc.is_some() { LAST } else { 0 } | if self.reduced { REDUCED } else { 0 };
        out.u32(self.result_id).u32(self.offset).u32(self.total).u8(self.codec).u8(self.scale);
        out.u16(self.width).u16(self.height).u8(flags).slice(&self.data);
        if let Some(crc) = self.crc {
            out.u32(crc);
        }
    }

    fn parse(from: &mut Reader) -> Result<Self, Malformed> {
        let (mut chunk, flags) = Self::read(from).ok_or(Malformed::Short(kind::MASK_CHUNK))?;
        let mut data = from.0;
        if flags & LAST != 0 {
            let (rest, crc) = data.split_last_chunk::<CHUNK_CRC>().ok_or(Malformed::Short(kind::MASK_CHUNK))?;
            (data, chunk.crc) = (rest, Some(u32::from_be_bytes(*crc)));
        }
        let contradiction = Malformed::Contradiction(kind::MASK_CHUNK);
        chunk.data = heapless::Vec::from_slice(data).map_err(|_| contradiction)?;
        let end = u64::from(chunk.offset) + data.len() as u64;
        let ends = chunk.crc.is_some() == (end == u64::from(chunk.total));
        let whole = end <= u64::from(chunk.total) && matches!(chunk.scale, 1 | 2 | 4) && ends;
        if whole { Ok(chunk) } else { Err(contradiction) }
    }

    fn read(from: &mut Reader) -> Option<(Self, u8)> {
        let (result_id, offset, total) = (from.u32()?, from.u32()?, from.u32()?);
        let (codec, scale, width, height, flags) = (from.u8()?, from.u8()?, from.u16()?, from.u16()?, from.u8()?);
        let (reduced, data, crc) = (flags & REDUCED != 0, heapless::Vec::new(), None);
        Some((Self { result_id, offset, total, codec, scale, width, height, reduced, data, crc }, flags))
    }
}
