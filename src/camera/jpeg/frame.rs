//! In: the segments of a JPEG picture. Out: its frame, tables and scans as plain values.
//!
//! Refuses what is not decoded (arithmetic coding, lossless, hierarchical, 12 bits) and sizes beyond the limits, before
//! anything is allocated.

use heapless::Vec as Few;

use super::error::Error;
use super::huffman::{Class, Spec};
use super::idct::Steps;
use crate::camera::Geometry;

/// Bytes, taken from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'a> {
    name: &'static str,
    bytes: &'a [u8],
}

impl<'a> Segment<'a> {
    pub(super) fn new(name: &'static str, bytes: &'a [u8]) -> Self {
        Self { name, bytes }
    }

    pub(super) fn bad(&self, why: &'static str) -> Error {
        Error::Segment { name: self.name, why }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(self.bad("is too short"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N)?.first_chunk().copied().ok_or(self.bad("is too short"))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn word(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    fn end(&self) -> Result<(), Error> {
        if self.is_empty() { Ok(()) } else { Err(self.bad("is too long")) }
    }
}

/// Which process coded the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Process {
    /// Each block once: baseline and extended sequential.
    Sequential,
    /// Coefficients in several scans.
    Progressive,
}

impl Process {
    /// By the code of a start-of-frame marker (T.81, table B.1).
    pub(super) fn of(code: u8) -> Result<Self, Error> {
        match code {
            0xC0 | 0xC1 => Ok(Self::Sequential),
            0xC2 => Ok(Self::Progressive),
            0xC3 => Err(Error::Kind("lossless JPEG")),
            0xC5..=0xC7 => Err(Error::Kind("hierarchical JPEG")),
            _ => Err(Error::Kind("arithmetic-coded JPEG")),
        }
    }
}

/// The most components of a frame.
pub(super) const COMPONENTS: usize = 4;

/// One of the planes of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Sampling factors across and down, 1 to 4.
    pub(super) across: usize,
    pub(super) down: usize,
    /// The number of its quantisation table.
    table: u8,
    /// Samples across and down.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks that whole MCUs have, across and down.
    pub(super) blocks_across: usize,
    pub(super) blocks_down: usize,
}

impl Component {
    /// Bytes from row to row of its plane: blocks are written whole.
    pub(super) fn stride(&self) -> usize {
        self.blocks_across * 8
    }

    /// Bytes of its plane.
    pub(super) fn bytes(&self) -> usize {
        self.stride() * self.height
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks_across * self.blocks_down
    }
}

/// Size and components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) process: Process,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) components: Few<Component, COMPONENTS>,
    /// The largest sampling factors.
    pub(super) across: usize,
    pub(super) down: usize,
    pub(super) mcus_across: usize,
    pub(super) mcus_down: usize,
}

impl Frame {
    /// From a frame header (T.81, B.2.2).
    pub(super) fn read(process: Process, mut segment: Segment) -> Result<Self, Error> {
        if segment.byte()? != 8 {
            return Err(Error::Kind("JPEG with other than 8 bits a sample"));
        }
        let (height, width) = (u32::from(segment.word()?), u32::from(segment.word()?));
        let count = segment.byte()?;
        if height == 0 {
            return Err(Error::Kind("JPEG whose height comes behind its pixels (DNL)"));
        }
        let size = |why| Error::Size { width, height, why };
        if width == 0 {
            return Err(size("there are no pixels"));
        }
        if width > Geometry::MAX_SIDE || height > Geometry::MAX_SIDE {
            return Err(size("more than 16384 a side"));
        }
        let mut components: Few<Component, COMPONENTS> = Few::new();
        for _ in 0..count {
            let [id, factors, table] = segment.array()?;
            let (across, down) = (usize::from(factors >> 4), usize::from(factors & 15));
            if !(1..=4).contains(&across) || !(1..=4).contains(&down) || table > 3 {
                return Err(segment.bad("has a sampling factor or table that there is not"));
            }
            if components.iter().any(|other| other.id == id) {
                return Err(segment.bad("names a component twice"));
            }
            let component =
                Component { id, across, down, table, width: 0, height: 0, blocks_across: 0, blocks_down: 0 };
            components.push(component).map_err(|_| Error::Components("are more than 4"))?;
        }
        segment.end()?;
        // A component alone has no neighbours to be sampled against: its factors mean nothing (T.81, A.2.2).
        if let [only] = components.as_mut_slice() {
            (only.across, only.down) = (1, 1);
        }
        Self::lay_out(process, width, height, components)
    }

    fn lay_out(
        process: Process,
        width: u32,
        height: u32,
        mut components: Few<Component, COMPONENTS>,
    ) -> Result<Self, Error> {
        let most = |factor: fn(&Component) -> usize| components.iter().map(factor).max();
        let (Some(across), Some(down)) = (most(|component| component.across), most(|component| component.down)) else {
            return Err(Error::Components("are none"));
        };
        let (wide, high) = (width as usize, height as usize);
        let (mcus_across, mcus_down) = (wide.div_ceil(8 * across), high.div_ceil(8 * down));
        for component in &mut components {
            component.width = (wide * component.across).div_ceil(across);
            component.height = (high * component.down).div_ceil(down);
            component.blocks_across = mcus_across * component.across;
            component.blocks_down = mcus_down * component.down;
        }
        Ok(Self { process, width, height, components, across, down, mcus_across, mcus_down })
    }

    /// Samples must be shared by whole numbers of pixels.
    pub(super) fn check_sampling(&self) -> Result<(), Error> {
        let whole = |component: &Component| {
            self.across.is_multiple_of(component.across) && self.down.is_multiple_of(component.down)
        };
        if self.components.iter().all(whole) {
            return Ok(());
        }
        Err(Error::Components("are sampled at fractions of each other"))
    }

    /// Bytes of all planes.
    pub(super) fn plane_bytes(&self) -> usize {
        self.components.iter().map(Component::bytes).sum()
    }

    /// Blocks of all components.
    pub(super) fn blocks(&self) -> usize {
        self.components.iter().map(Component::blocks).sum()
    }
}

/// A component in a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    /// Which component of the frame.
    pub(super) index: usize,
    /// Numbers of its Huffman tables, 0 to 3.
    pub(super) dc: usize,
    pub(super) ac: usize,
}

/// What a scan codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) members: Few<Member, COMPONENTS>,
    /// The first and the last coefficient, in zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// The bit that a scan before has got to, and the one that this one gets to; the former is 0 if this is the first.
    pub(super) high: u8,
    pub(super) low: u8,
    /// MCUs across and down.
    pub(super) across: usize,
    pub(super) down: usize,
}

/// Blocks that an MCU of several components may have (T.81, B.2.3).
pub(super) const MCU_BLOCKS: usize = 10;

impl Scan {
    /// From a scan header (T.81, B.2.3).
    pub(super) fn read(frame: &Frame, mut segment: Segment) -> Result<Self, Error> {
        let count = segment.byte()?;
        let mut members: Few<Member, COMPONENTS> = Few::new();
        for _ in 0..count {
            let [id, tables] = segment.array()?;
            let index = frame.components.iter().position(|component| component.id == id);
            let index = index.ok_or(segment.bad("names a component that the frame does not have"))?;
            let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
            if dc > 3 || ac > 3 || members.last().is_some_and(|member| member.index >= index) {
                return Err(segment.bad("has a table that there is not, or components out of order"));
            }
            members.push(Member { index, dc, ac }).map_err(|_| segment.bad("has more than 4 components"))?;
        }
        let [first, last, bits] = segment.array()?;
        segment.end()?;
        let scan = Self {
            first: first.into(),
            last: last.into(),
            high: bits >> 4,
            low: bits & 15,
            across: 0,
            down: 0,
            members,
        };
        scan.check(frame, &segment)?.lay_out(frame)
    }

    fn check(self, frame: &Frame, segment: &Segment) -> Result<Self, Error> {
        let Self { first, last, high, low, .. } = self;
        let possible = match frame.process {
            Process::Sequential => (first, last, high, low) == (0, 63, 0, 0),
            // T.81, G.1.1.1.1: means apart from all else, the latter of one component at a time; refinement is bit by
            // bit.
            Process::Progressive => {
                let apart = if first == 0 { last == 0 } else { last >= first && last < 64 && self.members.len() == 1 };
                apart && low <= 13 && (high == 0 || high == low + 1)
            }
        };
        if possible { Ok(self) } else { Err(segment.bad("has coefficients or bits that its kind of JPEG does not")) }
    }

    fn lay_out(mut self, frame: &Frame) -> Result<Self, Error> {
        let component = |member: &Member| frame.components.get(member.index);
        match self.members.as_slice() {
            [] => return Err(Error::Scans("have no components")),
            // One component alone is coded without the blocks that only fill MCUs (T.81, A.2.2).
            [only] => {
                let component = component(only).ok_or(Error::Scans("have no components"))?;
                (self.across, self.down) = (component.width.div_ceil(8), component.height.div_ceil(8));
            }
            several => {
                let blocks = several.iter().filter_map(component).map(|one| one.across * one.down).sum::<usize>();
                if blocks > MCU_BLOCKS {
                    return Err(Error::Components("make MCUs of more than 10 blocks"));
                }
                (self.across, self.down) = (frame.mcus_across, frame.mcus_down);
            }
        }
        Ok(self)
    }

    /// Blocks of a member in an MCU, across and down.
    pub(super) fn blocks(&self, component: &Component) -> (usize, usize) {
        if self.members.len() == 1 { (1, 1) } else { (component.across, component.down) }
    }
}

/// The quantisation tables.
#[derive(Debug, Clone, Default)]
pub(super) struct Quantisation([Option<Steps>; 4]);

impl Quantisation {
    /// Takes over the tables of a DQT segment (T.81, B.2.4.1).
    pub(super) fn read(&mut self, mut segment: Segment) -> Result<(), Error> {
        while !segment.is_empty() {
            let head = segment.byte()?;
            let wide = match head >> 4 {
                0 => false,
                1 => true,
                _ => return Err(segment.bad("has steps of other than 8 or 16 bits")),
            };
            let mut steps = [0; 64];
            for step in &mut steps {
                *step = if wide { segment.word()? } else { segment.byte()?.into() };
            }
            if steps.contains(&0) {
                return Err(segment.bad("has a step of 0"));
            }
            let table =
                self.0.get_mut(usize::from(head & 15)).ok_or(segment.bad("is for a table that there is not"))?;
            *table = Some(Steps::new(&steps));
        }
        Ok(())
    }

    /// Those of a component.
    pub(super) fn of(&self, component: &Component) -> Result<Steps, Error> {
        self.0.get(usize::from(component.table)).copied().flatten().ok_or(Error::NoTable("a quantisation table"))
    }
}

/// Hands the tables of a DHT segment (T.81, B.2.4.2) to `take`, each with its class and number; that says whether it
/// can be used.
pub(super) fn huffman(mut segment: Segment, mut take: impl FnMut(Class, usize, &Spec) -> bool) -> Result<(), Error> {
    while !segment.is_empty() {
        let head = segment.byte()?;
        let class = match head >> 4 {
            0 => Class::Dc,
            1 => Class::Ac,
            _ => return Err(segment.bad("is of a class that there is not")),
        };
        let counts: [u8; 16] = segment.array()?;
        let total = counts.iter().map(|&count| usize::from(count)).sum();
        let spec = Spec::new(counts, segment.take(total)?).ok_or(segment.bad("has more than 256 codes"))?;
        let number = usize::from(head & 15);
        if number > 3 || !take(class, number, &spec) {
            return Err(segment.bad("is for a table that there is not, or has more codes of a length than there are"));
        }
    }
    Ok(())
}

/// How the components make colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colors {
    /// One component.
    Gray,
    /// Luma and two of chroma.
    YCbCr,
    /// Red, green, blue.
    Rgb,
}

/// What application segments say about colours.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hints {
    jfif: bool,
    /// The transform of Adobe's segment.
    adobe: Option<u8>,
}

impl Hints {
    pub(super) fn app0(&mut self, bytes: &[u8]) {
        self.jfif |= bytes.starts_with(b"JFIF\0");
    }

    pub(super) fn app14(&mut self, bytes: &[u8]) {
        if let Some(&transform) = bytes.get(11).filter(|_| bytes.starts_with(b"Adobe")) {
            self.adobe = Some(transform);
        }
    }

    /// By these, or by what the components are called (as libjpeg does).
    pub(super) fn colors(self, frame: &Frame) -> Result<Colors, Error> {
        let mut ids: Few<u8, COMPONENTS> = Few::new();
        ids.extend(frame.components.iter().map(|component| component.id));
        match (ids.as_slice(), self.jfif, self.adobe) {
            ([_], ..) => Ok(Colors::Gray),
            ([_, _, _], true, _) | ([_, _, _], _, Some(1..)) => Ok(Colors::YCbCr),
            ([_, _, _], _, Some(0)) | ([b'R', b'G', b'B'], ..) => Ok(Colors::Rgb),
            ([_, _, _], ..) => Ok(Colors::YCbCr),
            ([_, _, _, _], ..) => Err(Error::Kind("a CMYK picture")),
            _ => Err(Error::Components("are neither gray nor three colours")),
        }
    }
}
