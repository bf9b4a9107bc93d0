//! In: the bytes of a JPEG picture. Out: its samples: planes of luma and chroma as they are in it, or gray, or RGB.
//!
//! Baseline, extended sequential and progressive Huffman pictures of 8 bits (ITU-T T.81), with the tables of Motion
//! JPEG where there are none; gray, YCbCr and RGB in any whole sampling factors, in one scan or several. The samples,
//! and the pixels that `planes` makes of them, are those of libjpeg-turbo's default decoding to the bit (accurate
//! integer transform, triangle upsampling), which Pillow and so the training has.
//!
//! A picture is whole or an error: each scan has exactly its MCUs and restart markers, each code is in its table, each
//! coefficient is one that 8-bit samples make, the scans complete every coefficient, and the end marker is there. What
//! follows the end marker is not looked at.
//!
//! What this cannot see: JPEG has no checksum, and most bits make codes. A scan of which the end is missing, and a
//! restart interval that is lost, doubled or emptied are always seen. Other damage is seen if the number of MCUs or of
//! bits comes out wrong, or a code or a coefficient is impossible: damage within a few blocks can leave all of them
//! right, and so can an exchange of as many bytes. tests/jpeg.rs holds the shares.
//!
//! Cost, expected before it was written: half of decoding to RGB with zune-jpeg and resizing that. Measured by `./dev
//! bench mjpeg`, 1280 x 720 at quality 85 and 90 to 256 x 256, on two shared cores of an Intel Xeon VM (AVX2): 0.44 to
//! 0.50 of it (4:2:2 at quality 85: 1.57 ms against 3.24 ms), 1.0 ms of it decoding. Codes take 0.6 of the time of
//! decoding, a mispredicted branch a block of it. Finding the end of a block together with its last coefficient gained
//! nothing; two coefficients at once gained 4 to 12 %, with 10 bits as with 11. A check that no run of zeros ends a
//! block was tried, and found no damage that the others do not.

use super::{Colors, Geometry, Picture, PixelFormat};

mod bits;
mod encode;
mod error;
mod frame;
mod huffman;
mod idct;
pub(crate) mod planes;
mod progressive;
mod scan;
mod sequential;

pub use encode::encode;
pub use error::{Error, Flaw};

use frame::{COMPONENTS, Component, Frame, Hints, Process, Quantisation, Scan, Segment};
use heapless::Vec as Few;
use huffman::{Class, Spec, Table};
use idct::{Kernel, Steps};
use planes::{Plane, Sampling};
use progressive::Progress;
use scan::Walk;

/// A picture's samples and coefficients take at most this much memory together, in bytes.
const MAX_ALLOC: usize = 512 << 20;

/// Decodes pictures, one after the other; what it needs is kept from one to the next.
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::camera::{Picture, jpeg::Decoder};
///
/// let bundle = Bundle::embedded()?;
/// let (_, jpeg) = bundle.samples().next().ok_or("no samples")?;
/// let (mut decoder, mut picture) = (Decoder::default(), Picture::EMPTY);
/// decoder.decode(jpeg, &mut picture)?;
/// assert_eq!(picture.bytes.len(), picture.geometry.frame_bytes()); // in the format that is in the file
/// assert!(decoder.decode(&jpeg[..jpeg.len() / 2], &mut picture).is_err()); // half a picture is none
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    kernel: Kernel,
    dc: Tables,
    ac: Tables,
    /// Entropy-coded bytes of one restart interval.
    data: Vec<u8>,
    /// Of a progressive picture, component by component.
    coefficients: Vec<i16>,
    /// Of a picture whose planes are no pixel format.
    samples: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        let (dc, ac) = (Tables::new(Class::Dc), Tables::new(Class::Ac));
        Self { kernel: Kernel::detect(), dc, ac, data: vec![], coefficients: vec![], samples: vec![] }
    }
}

/// Huffman tables of a class.
#[derive(Debug)]
struct Tables {
    class: Class,
    tables: Box<[Table; 4]>,
    /// Which of them this picture may use.
    set: [bool; 4],
}

impl Tables {
    fn new(class: Class) -> Self {
        Self { class, tables: Box::new(std::array::from_fn(|_| Table::new(class))), set: [false; 4] }
    }

    /// A picture begins: its tables are its own.
    fn forget(&mut self) {
        self.set = [false; 4];
    }

    /// False if there is no such table, or it has too many codes.
    fn set(&mut self, number: usize, spec: &Spec) -> bool {
        let (Some(table), Some(set)) = (self.tables.get_mut(number), self.set.get_mut(number)) else { return false };
        *set = table.set(spec);
        *set
    }

    /// Motion JPEG leaves its tables out: then they are the standard's.
    fn need(&mut self, number: usize) -> Result<(), Error> {
        if self.set.get(number).copied().unwrap_or(false) {
            return Ok(());
        }
        let spec = huffman::standard(self.class, number).ok_or(Error::NoTable("a Huffman table"))?;
        self.set(number, &spec);
        Ok(())
    }

    fn get(&self, number: usize) -> Result<&Table, Error> {
        self.tables.get(number).ok_or(Error::NoTable("a Huffman table"))
    }
}

/// What the segments up to here have said.
struct State {
    quantisation: Quantisation,
    hints: Hints,
    restart: usize,
    progress: Progress,
    /// The steps of each component, as its first scan found them.
    steps: [Option<Steps>; COMPONENTS],
}

impl Decoder {
    /// Decodes a picture into `picture`, whose memory is used again. Its format is a planar one of JPEG, `Gray8`, or
    /// `Rgb8` where the picture has other planes. After an error, what is in it is no picture.
    pub fn decode(&mut self, bytes: &[u8], picture: &mut Picture) -> Result<(), Error> {
        self.dc.forget();
        self.ac.forget();
        let mut state = State {
            quantisation: Quantisation::default(),
            hints: Hints::default(),
            restart: 0,
            progress: Progress::new(),
            steps: [None; COMPONENTS],
        };
        let [0xFF, 0xD8, ..] = bytes else { return Err(Error::NotJpeg) };
        let (mut at, mut frame) = (2, None);
        loop {
            let (code, after) = marker(bytes, at)?;
            match code {
                0xD9 => break,
                0xD8 => return Err(Error::Restarted(after - 2)),
                0x01 | 0xD0..=0xD7 => return Err(Error::NoMarker(at)),
                _ => {}
            }
            let (content, end) = segment(bytes, after)?;
            at = end;
            let named = |name| Segment::new(name, content);
            match code {
                0xC4 => {
                    let (dc, ac) = (&mut self.dc, &mut self.ac);
                    frame::huffman(named("DHT"), |class, number, spec| match class {
                        Class::Dc => dc.set(number, spec),
                        Class::Ac => ac.set(number, spec),
                    })?;
                }
                0xCC => return Err(Error::Kind("arithmetic-coded JPEG")),
                0xDE | 0xDF => return Err(Error::Kind("hierarchical JPEG")),
                0xDC => return Err(Error::Kind("JPEG whose height comes behind its pixels (DNL)")),
                0xC0..=0xCF if frame.is_some() => return Err(Error::Scans("belong to more than one frame")),
                0xC0..=0xCF => {
                    let read = Frame::read(Process::of(code)?, named("SOF"))?;
                    read.check_sampling()?;
                    self.allocate(&read, &mut picture.bytes, bytes.len())?;
                    frame = Some(read);
                }
                0xDA => {
                    let frame = frame.as_ref().ok_or(Error::Scans("come before their frame"))?;
                    at = self.scan(frame, &mut state, named("SOS"), bytes, end, &mut picture.bytes)?;
                }
                0xDB => state.quantisation.read(named("DQT"))?,
                0xDD => state.restart = named("DRI").word()?.into(),
                0xE0 => state.hints.app0(content),
                0xEE => state.hints.app14(content),
                _ => {}
            }
        }
        let frame = frame.ok_or(Error::Scans("are none"))?;
        state.progress.complete(&frame)?;
        if frame.process == Process::Progressive {
            self.transform(&frame, &state, &mut picture.bytes)?;
        }
        self.finish(&frame, state.hints.colors(&frame)?, picture)
    }

    /// Makes room for what the header tells of.
    fn allocate(&mut self, frame: &Frame, planes: &mut Vec<u8>, length: usize) -> Result<(), Error> {
        let samples = frame.plane_bytes();
        let coefficients = if frame.process == Process::Progressive { frame.blocks() * 64 } else { 0 };
        if samples + coefficients * 2 > MAX_ALLOC {
            let (width, height) = (frame.width, frame.height);
            return Err(Error::Size { width, height, why: "over the limit of 512 MiB" });
        }
        planes.resize(samples, 0);
        self.coefficients.clear();
        self.coefficients.resize(coefficients, 0);
        // A stream's pictures differ in length: none of them will need more than the first has room for.
        self.data.clear();
        self.data.reserve(length.max(samples.min(1 << 24)));
        Ok(())
    }

    /// Decodes a scan; returns where the marker after it stands.
    fn scan(
        &mut self,
        frame: &Frame,
        state: &mut State,
        header: Segment,
        bytes: &[u8],
        at: usize,
        planes: &mut [u8],
    ) -> Result<usize, Error> {
        let scan = Scan::read(frame, header)?;
        state.progress.scan(&scan)?;
        for member in &scan.members {
            if scan.first == 0 && scan.high == 0 {
                self.dc.need(member.dc)?;
            }
            if scan.last > 0 {
                self.ac.need(member.ac)?;
            }
            if let (Some(component), Some(steps)) =
                (frame.components.get(member.index), state.steps.get_mut(member.index))
                && steps.is_none()
            {
                *steps = Some(state.quantisation.of(component)?);
            }
        }
        let walk = Walk { bytes, at, restart: state.restart };
        let Self { kernel, dc, ac, data, coefficients, .. } = self;
        let missing = Error::NoTable("a table");
        match frame.process {
            Process::Sequential => {
                let mut parts = split(frame, planes, Component::bytes);
                let mut units: Few<sequential::Unit, COMPONENTS> = Few::new();
                for member in &scan.members {
                    let (component, steps) = state.component(frame, member.index).ok_or(missing.clone())?;
                    let (dc, ac) = (dc.get(member.dc)?, ac.get(member.ac)?);
                    let plane = parts.get_mut(member.index).map(std::mem::take).unwrap_or_default();
                    // There are as many as members.
                    let _ = units.push(sequential::Unit { component, dc, ac, steps, plane, mean: 0 });
                }
                walk.run(&scan, data, |bits, mcus| sequential::decode(*kernel, &scan, &mut units, bits, mcus))
            }
            Process::Progressive => {
                let mut parts = split(frame, coefficients, |component| component.blocks() * 64);
                let mut units: Few<progressive::Unit, COMPONENTS> = Few::new();
                for member in &scan.members {
                    let (component, _) = state.component(frame, member.index).ok_or(missing.clone())?;
                    let (dc, ac) = (dc.get(member.dc)?, ac.get(member.ac)?);
                    let coefficients = parts.get_mut(member.index).map(std::mem::take).unwrap_or_default();
                    let _ = units.push(progressive::Unit { component, dc, ac, coefficients, mean: 0 });
                }
                walk.run(&scan, data, |bits, mcus| progressive::decode(&scan, &mut units, bits, mcus))
            }
        }
    }

    /// The samples of a progressive picture.
    fn transform(&self, frame: &Frame, state: &State, planes: &mut [u8]) -> Result<(), Error> {
        let mut coefficients = self.coefficients.as_chunks::<64>().0.iter();
        for (index, plane) in
            split(frame, planes, Component::bytes).into_iter().enumerate().take(frame.components.len())
        {
            let (component, steps) = state.component(frame, index).ok_or(Error::NoTable("a table"))?;
            for (number, coefficients) in coefficients.by_ref().take(component.blocks()).enumerate() {
                let mut block = [0; 64];
                let mut last = 0;
                for (index, &value) in coefficients.iter().enumerate().filter(|(_, value)| **value != 0) {
                    last = index;
                    sequential::put(&mut block, index, value);
                }
                let at = (number / component.blocks_across, number % component.blocks_across);
                if !sequential::store(self.kernel, component, steps, plane, (&block, last), at) {
                    return Err(Error::Data { mcu: number, count: component.blocks(), flaw: Flaw::Range });
                }
            }
        }
        Ok(())
    }

    /// Says what the planes are, or makes RGB of what has no format of its own.
    fn finish(&mut self, frame: &Frame, colors: frame::Colors, picture: &mut Picture) -> Result<(), Error> {
        let (width, height) = (frame.width, frame.height);
        let stride = frame.components.first().map_or(0, Component::stride);
        let geometry = |format, stride| Geometry { width, height, stride, format, colors: Colors::default() };
        if let Some(format) = format(frame, colors) {
            picture.geometry = geometry(format, stride);
            return Ok(());
        }
        std::mem::swap(&mut self.samples, &mut picture.bytes);
        let mut rest = self.samples.as_slice();
        let mut parts: Few<Plane, 3> = Few::new();
        for component in &frame.components {
            let (samples, after) = rest.split_at_checked(component.bytes()).unwrap_or_default();
            rest = after;
            let sampling = Sampling { across: frame.across / component.across, down: frame.down / component.down };
            let stride = component.stride();
            let plane = Plane { samples, stride, width: component.width, height: component.height, sampling };
            parts.push(plane).map_err(|_| Error::Components("are more than 3"))?;
        }
        let parts = parts.into_array().map_err(|_| Error::Components("are not 3"))?;
        let planes = planes::Planes { parts, luma: colors == frame::Colors::YCbCr };
        let format = PixelFormat::Rgb8;
        picture.geometry = geometry(format, format.row_bytes(width));
        picture.bytes.resize(picture.geometry.frame_bytes(), 0);
        for (row, out) in picture.bytes.chunks_exact_mut(format.row_bytes(width)).enumerate() {
            planes.rgb(0, row, out);
        }
        Ok(())
    }
}

impl State {
    fn component<'a>(&'a self, frame: &'a Frame, index: usize) -> Option<(&'a Component, &'a Steps)> {
        frame.components.get(index).zip(self.steps.get(index)?.as_ref())
    }
}

/// The pixel format that planes like these have.
fn format(frame: &Frame, colors: frame::Colors) -> Option<PixelFormat> {
    let factors = |component: &Component| (frame.across / component.across, frame.down / component.down);
    match (colors, frame.components.as_slice()) {
        (frame::Colors::Gray, _) => Some(PixelFormat::Gray8),
        (frame::Colors::YCbCr, [luma, u, v]) if factors(luma) == (1, 1) && factors(u) == factors(v) => match factors(u)
        {
            (1, 1) => Some(PixelFormat::Yuvj444),
            (2, 1) => Some(PixelFormat::Yuvj422),
            (1, 2) => Some(PixelFormat::Yuvj440),
            (2, 2) => Some(PixelFormat::Yuvj420),
            _ => None,
        },
        _ => None,
    }
}

/// Cuts what belongs to each component from the whole.
fn split<'a, T>(frame: &Frame, whole: &'a mut [T], length: impl Fn(&Component) -> usize) -> [&'a mut [T]; COMPONENTS] {
    let mut parts = std::array::from_fn(|_| Default::default());
    let mut rest = whole;
    for (part, component) in parts.iter_mut().zip(&frame.components) {
        let Some((own, after)) = rest.split_at_mut_checked(length(component)) else { break };
        (*part, rest) = (own, after);
    }
    parts
}

/// The code of the marker at `at`, and where it ends. FF may stand before it any number of times (T.81, B.1.1.2).
fn marker(bytes: &[u8], at: usize) -> Result<(u8, usize), Error> {
    let rest = bytes.get(at..).unwrap_or_default();
    let fill = rest.iter().take_while(|&&byte| byte == 0xFF).count();
    match (fill, rest.get(fill)) {
        (_, None) => Err(Error::Truncated),
        (0, _) | (_, Some(0)) => Err(Error::NoMarker(at)),
        (_, Some(&code)) => Ok((code, at + fill + 1)),
    }
}

/// What a segment has behind its length, and where it ends.
fn segment(bytes: &[u8], at: usize) -> Result<(&[u8], usize), Error> {
    let length = bytes.get(at..).and_then(<[u8]>::first_chunk).map(|length| usize::from(u16::from_be_bytes(*length)));
    let end = at + length.ok_or(Error::Truncated)?;
    match bytes.get(at + 2..end) {
        Some(content) => Ok((content, end)),
        None if end < at + 2 => Err(Error::NoMarker(at)),
        None => Err(Error::Truncated),
    }
}
