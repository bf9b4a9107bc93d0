//! A device node of V4L2. In: requests. Out: what the driver answers, as plain data. Nothing is decided here.
//!
//! The kernel's structures and request numbers come from the v4l crate, its types do not: they panic at values that it
//! does not know, and drivers have such values (compound controls, for example). Reference: the kernel's media/v4l
//! userspace API.

use std::ffi::c_ulong;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use v4l::v4l_sys as sys;
use v4l::v4l2::{self, vidioc};

use super::control::{Control, Kind};
use super::format::{self, Extent, Fourcc, Interval, Offer, Rates};
use crate::camera::Colors;

/// More entries than this in one list are a driver that does not end it.
const MOST: u32 = 1024;

/// A node's own words for what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The driver, such as `uvcvideo`.
    pub driver: String,
    /// The camera, such as `HD Pro Webcam C920`.
    pub card: String,
    /// Where it is plugged in, such as `usb-0000:00:14.0-1`.
    pub bus: String,
}

impl std::fmt::Display for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {} (driver {})", self.card, self.bus, self.driver)
    }
}

/// The format that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pixels {
    pub(super) fourcc: Fourcc,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bytes from row to row of the first plane; 0 if it has no rows.
    pub(super) stride: u32,
    /// Bytes of a frame.
    pub(super) bytes: u32,
    /// True if a frame is a whole picture, and not one of two fields.
    pub(super) progressive: bool,
    /// Buffers that make one frame.
    pub(super) planes: u8,
    /// What the values of a YUV format mean.
    pub(super) colors: Colors,
}

/// An open node.
#[derive(Debug)]
pub(super) struct Node {
    file: File,
    path: PathBuf,
    card: Card,
    capabilities: u32,
}

impl Node {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
        let mut answer: sys::v4l2_capability = zeroed();
        request(file.as_fd(), vidioc::VIDIOC_QUERYCAP, &mut answer)?;
        let card = Card { driver: text(&answer.driver), card: text(&answer.card), bus: text(&answer.bus_info) };
        // A driver of several nodes tells of this one apart.
        let own = answer.capabilities & sys::V4L2_CAP_DEVICE_CAPS != 0;
        let capabilities = if own { answer.device_caps } else { answer.capabilities };
        Ok(Self { file, path: path.into(), card, capabilities })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn card(&self) -> &Card {
        &self.card
    }

    /// True if it delivers pictures into mapped buffers.
    pub(super) fn captures(&self) -> bool {
        let kinds = sys::V4L2_CAP_VIDEO_CAPTURE | sys::V4L2_CAP_VIDEO_CAPTURE_MPLANE;
        self.capabilities & kinds != 0 && self.capabilities & sys::V4L2_CAP_STREAMING != 0
    }

    /// True if its formats may have several buffers a frame; the requests differ.
    pub(super) fn is_multiplanar(&self) -> bool {
        self.capabilities & sys::V4L2_CAP_VIDEO_CAPTURE == 0
    }

    /// V4L2_BUF_TYPE_* of its frames.
    pub(super) fn queue(&self) -> u32 {
        match self.is_multiplanar() {
            true => sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE,
            false => sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE,
        }
    }

    /// What it offers: everything, or what matters for frames of one `size`. A driver can have thousands of
    /// combinations.
    pub(super) fn offers(&self, size: Option<(u32, u32)>) -> Vec<Offer> {
        let formats = list(|index| {
            let mut entry = sys::v4l2_fmtdesc { index, type_: self.queue(), ..zeroed() };
            self.request(vidioc::VIDIOC_ENUM_FMT, &mut entry)?;
            Ok((Fourcc(entry.pixelformat), text(&entry.description)))
        });
        let matters = |fourcc| size.is_none() || format::KNOWN.iter().any(|(known, _)| *known == fourcc);
        let offer = |(fourcc, description)| {
            let sizes = if matters(fourcc) { self.sizes(fourcc, size) } else { vec![] };
            Offer { fourcc, description, sizes }
        };
        formats.into_iter().map(offer).collect()
    }

    fn sizes(&self, fourcc: Fourcc, size: Option<(u32, u32)>) -> Vec<(Extent, Rates)> {
        let extents = list(|index| {
            let mut entry = sys::v4l2_frmsizeenum { index, pixel_format: fourcc.0, ..zeroed() };
            self.request(vidioc::VIDIOC_ENUM_FRAMESIZES, &mut entry)?;
            Ok(extent(&entry))
        });
        let of = |extent: Extent| {
            let rates = match (size, extent) {
                (Some((width, height)), _) if extent.has(width, height) => self.rates(fourcc, width, height),
                (Some(_), _) => Rates::Unknown,
                (None, Extent::Exact(width, height)) => self.rates(fourcc, width, height),
                (None, Extent::Range(_, (width, height), _)) => self.rates(fourcc, width, height),
            };
            (extent, rates)
        };
        extents.into_iter().map(of).collect()
    }

    fn rates(&self, fourcc: Fourcc, width: u32, height: u32) -> Rates {
        let mut between = None;
        let each = list(|index| {
            let mut entry = sys::v4l2_frmivalenum { index, pixel_format: fourcc.0, width, height, ..zeroed() };
            self.request(vidioc::VIDIOC_ENUM_FRAMEINTERVALS, &mut entry)?;
            if entry.type_ != sys::v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_DISCRETE {
                // SAFETY: the kernel fills this member of the union for every type but the discrete one.
                let range = unsafe { entry.__bindgen_anon_1.stepwise };
                between = Some(Rates::Between(interval(range.min), interval(range.max)));
                return Err(io::ErrorKind::InvalidInput.into()); // there is one such entry
            }
            // SAFETY: the kernel fills this member of the union for the discrete type.
            Ok(interval(unsafe { entry.__bindgen_anon_1.discrete }))
        });
        match between {
            Some(between) => between,
            None if each.is_empty() => Rates::Unknown,
            None => Rates::Each(each),
        }
    }

    /// Sets a format, and returns what the driver made of it.
    pub(super) fn set_format(&self, fourcc: Fourcc, width: u32, height: u32) -> io::Result<Pixels> {
        let mut format = sys::v4l2_format { type_: self.queue(), ..zeroed() };
        let (pixelformat, field) = (fourcc.0, sys::v4l2_field_V4L2_FIELD_NONE);
        if self.is_multiplanar() {
            format.fmt.pix_mp =
                sys::v4l2_pix_format_mplane { width, height, pixelformat, field, num_planes: 1, ..zeroed() };
        } else {
            // Without this mark the kernel leaves the fields about colours out.
            let priv_ = sys::V4L2_PIX_FMT_PRIV_MAGIC;
            format.fmt.pix = sys::v4l2_pix_format { width, height, pixelformat, field, priv_, ..zeroed() };
        }
        self.request(vidioc::VIDIOC_S_FMT, &mut format)?;
        let whole = |field| field <= sys::v4l2_field_V4L2_FIELD_NONE; // ANY is what some drivers leave there
        if self.is_multiplanar() {
            // SAFETY: the kernel fills this member of the union for the multi-planar type of queue.
            let pix = unsafe { format.fmt.pix_mp };
            let [plane, ..] = pix.plane_fmt;
            let (stride, bytes) = (plane.bytesperline, plane.sizeimage);
            let (fourcc, progressive, planes) = (Fourcc(pix.pixelformat), whole(pix.field), pix.num_planes);
            // SAFETY: both members of the union are one byte.
            let encoding = unsafe { pix.__bindgen_anon_1.ycbcr_enc };
            let colors = format::colors(pix.colorspace, encoding.into(), pix.quantization.into());
            Ok(Pixels { fourcc, width: pix.width, height: pix.height, stride, bytes, progressive, planes, colors })
        } else {
            // SAFETY: the kernel fills this member of the union for the single-planar type of queue.
            let pix = unsafe { format.fmt.pix };
            let (fourcc, stride, bytes) = (Fourcc(pix.pixelformat), pix.bytesperline, pix.sizeimage);
            let (width, height, progressive) = (pix.width, pix.height, whole(pix.field));
            // SAFETY: both members of the union are 32 bits.
            let encoding = unsafe { pix.__bindgen_anon_1.ycbcr_enc };
            let colors = format::colors(pix.colorspace, encoding, pix.quantization);
            Ok(Pixels { fourcc, width, height, stride, bytes, progressive, planes: 1, colors })
        }
    }

    /// Sets the time from frame to frame, and returns what the driver made of it.
    pub(super) fn set_interval(&self, interval: Interval) -> io::Result<Interval> {
        let Interval { numerator, denominator } = interval;
        let mut parameters = sys::v4l2_streamparm { type_: self.queue(), ..zeroed() };
        let timeperframe = sys::v4l2_fract { numerator, denominator };
        parameters.parm.capture = sys::v4l2_captureparm { timeperframe, ..zeroed() };
        self.request(vidioc::VIDIOC_S_PARM, &mut parameters)?;
        // SAFETY: the kernel fills this member of the union for both types of capture queue.
        let capture = unsafe { parameters.parm.capture };
        match capture.capability & sys::V4L2_CAP_TIMEPERFRAME {
            0 => Err(io::ErrorKind::Unsupported.into()),
            _ => Ok(self::interval(capture.timeperframe)),
        }
    }

    /// Its controls, without the headings between them.
    pub(super) fn controls(&self) -> Vec<Control> {
        let mut id = 0;
        let all = list(|_| {
            let next = sys::V4L2_CTRL_FLAG_NEXT_CTRL | sys::V4L2_CTRL_FLAG_NEXT_COMPOUND;
            let entry = self.query(id | next)?;
            id = entry.id;
            Ok(entry)
        });
        let headings = sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_CTRL_CLASS;
        all.iter().filter(|entry| entry.type_ != headings).map(|entry| self.describe(entry)).collect()
    }

    /// One control as it is now: its flags and bounds change with others.
    pub(super) fn control(&self, id: u32) -> io::Result<Control> {
        Ok(self.describe(&self.query(id)?))
    }

    fn query(&self, id: u32) -> io::Result<sys::v4l2_query_ext_ctrl> {
        let mut entry = sys::v4l2_query_ext_ctrl { id, ..zeroed() };
        self.request(vidioc::VIDIOC_QUERY_EXT_CTRL, &mut entry)?;
        Ok(entry)
    }

    #[allow(clippy::unnecessary_cast, reason = "a letter of C is signed on x86 and unsigned on ARM")]
    fn describe(&self, entry: &sys::v4l2_query_ext_ctrl) -> Control {
        let kind = Kind::of(entry.type_);
        let menu = matches!(kind, Kind::Menu | Kind::IntegerMenu);
        Control {
            id: entry.id,
            name: text(&entry.name.map(|letter| letter as u8)),
            kind: if entry.nr_of_dims == 0 { kind } else { Kind::Other },
            min: entry.minimum,
            max: entry.maximum,
            step: entry.step,
            default: entry.default_value,
            flags: entry.flags,
            items: if menu { self.items(entry, kind) } else { vec![] },
        }
    }

    /// The items of a menu; not every index between the bounds needs to have one.
    fn items(&self, control: &sys::v4l2_query_ext_ctrl, kind: Kind) -> Vec<(i64, String)> {
        let indices = (control.minimum..=control.maximum).take(MOST as usize);
        let item = |number: i64| {
            let index = u32::try_from(number).ok()?;
            let mut entry = sys::v4l2_querymenu { id: control.id, index, ..zeroed() };
            self.request(vidioc::VIDIOC_QUERYMENU, &mut entry).ok()?;
            // SAFETY: the kernel fills the member of the union that belongs to the kind of menu; all bytes of both are
            // plain.
            let name = unsafe {
                match kind {
                    Kind::IntegerMenu => { entry.__bindgen_anon_1.value }.to_string(),
                    _ => text(&{ entry.__bindgen_anon_1.name }),
                }
            };
            Some((number, name))
        };
        indices.filter_map(item).collect()
    }

    /// A control's value.
    pub(super) fn value(&self, control: &Control) -> io::Result<i64> {
        let mut entry = sys::v4l2_ext_control { id: control.id, ..zeroed() };
        self.exchange(vidioc::VIDIOC_G_EXT_CTRLS, &mut entry)?;
        // SAFETY: the kernel fills the member of the union that belongs to the kind of control.
        Ok(unsafe {
            match control.kind {
                Kind::Integer64 => entry.__bindgen_anon_1.value64,
                Kind::Bitmask => i64::from(entry.__bindgen_anon_1.value.cast_unsigned()),
                _ => entry.__bindgen_anon_1.value.into(),
            }
        })
    }

    /// Sets a control's value.
    pub(super) fn set_value(&self, control: &Control, value: i64) -> io::Result<()> {
        let mut entry = sys::v4l2_ext_control { id: control.id, ..zeroed() };
        match control.kind {
            Kind::Integer64 => entry.__bindgen_anon_1.value64 = value,
            // It was checked against the control's bounds, which have 32 bits; a bit mask fills them.
            _ => entry.__bindgen_anon_1.value = value as i32,
        }
        self.exchange(vidioc::VIDIOC_S_EXT_CTRLS, &mut entry)
    }

    fn exchange(&self, number: c_ulong, control: &mut sys::v4l2_ext_control) -> io::Result<()> {
        let mut one = sys::v4l2_ext_controls { count: 1, controls: control, ..zeroed() };
        self.request(number, &mut one)
    }

    /// One request to the driver; its answer is in `argument`.
    pub(super) fn request<T>(&self, number: c_ulong, argument: &mut T) -> io::Result<()> {
        request(self.file.as_fd(), number, argument)
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn request<T>(file: BorrowedFd, number: c_ulong, argument: &mut T) -> io::Result<()> {
    debug_assert_eq!((number >> 16) as usize & 0x3fff, size_of::<T>(), "request {number:#x} takes another structure");
    loop {
        // SAFETY: the argument is the structure that the request takes, as its number tells (checked above). The
        // pointers in it, to a control or to planes, are of values that live in the callers' frames until this returns,
        // with their counts beside them.
        match unsafe { v4l2::ioctl(file.as_raw_fd(), number, (&raw mut *argument).cast()) } {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// One of the kernel's structures, all zero, as the API wants it where nothing is said.
pub(super) fn zeroed<T>() -> T {
    // SAFETY: used for the structures of videodev2.h alone: integers, arrays, unions and pointers, for which all zeros
    // are valid.
    unsafe { std::mem::zeroed() }
}

/// The entries of one of the kernel's lists, up to the error that ends it.
fn list<T>(mut entry: impl FnMut(u32) -> io::Result<T>) -> Vec<T> {
    (0..MOST).map_while(|index| entry(index).ok()).collect()
}

fn extent(entry: &sys::v4l2_frmsizeenum) -> Extent {
    if entry.type_ == sys::v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_DISCRETE {
        // SAFETY: the kernel fills this member of the union for the discrete type.
        let size = unsafe { entry.__bindgen_anon_1.discrete };
        return Extent::Exact(size.width, size.height);
    }
    // SAFETY: the kernel fills this member of the union for every type but the discrete one.
    let range = unsafe { entry.__bindgen_anon_1.stepwise };
    let (min, max) = ((range.min_width, range.min_height), (range.max_width, range.max_height));
    Extent::Range(min, max, (range.step_width, range.step_height))
}

fn interval(fraction: sys::v4l2_fract) -> Interval {
    Interval { numerator: fraction.numerator, denominator: fraction.denominator }
}

/// A text of fixed length, up to its first zero.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_requests_say() {
        let length = |number: c_ulong| (number >> 16) as usize & 0x3fff;
        assert_eq!(length(vidioc::VIDIOC_S_EXT_CTRLS), size_of::<sys::v4l2_ext_controls>());
        assert_eq!(length(vidioc::VIDIOC_DQBUF), size_of::<sys::v4l2_buffer>());
        assert_eq!(length(vidioc::VIDIOC_S_FMT), size_of::<sys::v4l2_format>());
    }

    #[test]
    fn what_is_no_camera_is_an_error() {
        assert_eq!(Node::open(Path::new("/dev/null")).unwrap_err().raw_os_error(), Some(25), "ENOTTY");
        assert_eq!(Node::open(Path::new("/nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn texts_end_at_their_first_zero() {
        assert_eq!(text(b"vivid\0garbage"), "vivid");
        assert_eq!(text(b"\xff 12345"), "\u{fffd} 12345");
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn endless_lists_are_cut() {
        assert_eq!(list(Ok).len(), MOST as usize);
        assert_eq!(
            list(|index| if index < 3 { Ok(index) } else { Err(io::ErrorKind::InvalidInput.into()) }),
            [0, 1, 2]
        );
    }
}
