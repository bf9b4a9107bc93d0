//! In: what a camera offers, as plain data, and what a station wants. Out: the formats to try, the cheapest first.
//!
//! Refuses what the camera does not offer, and says what it does.

use std::fmt;

use v4l::v4l_sys as sys;

use crate::camera::{Colors, PixelFormat};

/// A pixel format in the kernel's words: V4L2_PIX_FMT_*.
///
/// ```
/// use fcam::camera::v4l2::Fourcc;
///
/// assert_eq!(Fourcc(u32::from_le_bytes(*b"MJPG")).to_string(), "MJPG");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fourcc(pub u32);

impl Fourcc {
    const fn new(letters: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(letters))
    }
}

impl fmt::Display for Fourcc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The highest bit marks big-endian variants.
        const BIG_ENDIAN: u32 = 1 << 31;
        let letters = (self.0 & !BIG_ENDIAN).to_le_bytes();
        let suffix = if self.0 & BIG_ENDIAN == 0 { "" } else { "-BE" };
        write!(f, "{}{suffix}", String::from_utf8_lossy(&letters).trim_end().escape_debug())
    }
}

/// What YUV values mean, by a driver's `colorspace`, `ycbcr_enc` and `quantization`; their defaults are those of the
/// kernel's V4L2_MAP_YCBCR_ENC_DEFAULT and V4L2_MAP_QUANTIZATION_DEFAULT. What is neither BT.601 nor BT.709 (UHD, and
/// television of the past) is taken for BT.601.
pub(super) fn colors(colorspace: u32, encoding: u32, quantization: u32) -> Colors {
    let wide = [sys::v4l2_colorspace_V4L2_COLORSPACE_REC709, sys::v4l2_colorspace_V4L2_COLORSPACE_DCI_P3]
        .contains(&colorspace);
    let bt709 = match encoding {
        sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_DEFAULT => wide,
        sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_709 | sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_XV709 => true,
        _ => false,
    };
    let full = match quantization {
        sys::v4l2_quantization_V4L2_QUANTIZATION_DEFAULT => colorspace == sys::v4l2_colorspace_V4L2_COLORSPACE_JPEG,
        other => other == sys::v4l2_quantization_V4L2_QUANTIZATION_FULL_RANGE,
    };
    match (bt709, full) {
        (false, false) => Colors::Bt601,
        (false, true) => Colors::Bt601Full,
        (true, false) => Colors::Bt709,
        (true, true) => Colors::Bt709Full,
    }
}

/// How the bytes of a buffer make a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The bytes are the frame.
    Raw(PixelFormat),
    /// By decoding a JPEG picture.
    Mjpeg,
}

/// What can be read, in the order of preference: by the bytes that have to be moved for a pixel, then what has to be
/// decoded. Gray is last although it is cheapest: where a camera has colours too, they are not to be lost
/// unasked.
pub(super) const KNOWN: [(Fourcc, Layout); 7] = [
    (Fourcc::new(*b"NV12"), Layout::Raw(PixelFormat::Nv12)),
    (Fourcc::new(*b"YU12"), Layout::Raw(PixelFormat::I420)),
    (Fourcc::new(*b"YUYV"), Layout::Raw(PixelFormat::Yuyv)),
    (Fourcc::new(*b"RGB3"), Layout::Raw(PixelFormat::Rgb8)),
    (Fourcc::new(*b"MJPG"), Layout::Mjpeg),
    (Fourcc::new(*b"JPEG"), Layout::Mjpeg),
    (Fourcc::new(*b"GREY"), Layout::Raw(PixelFormat::Gray8)),
];

/// The time from frame to frame, in seconds, as a fraction.
///
/// ```
/// use fcam::camera::v4l2::Interval;
///
/// assert_eq!(Interval { numerator: 1, denominator: 25 }.fps(), 25.0);
/// assert_eq!(Interval { numerator: 0, denominator: 25 }.fps(), 0.0); // none, and not infinity
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Seconds ...
    pub numerator: u32,
    /// ... divided by this.
    pub denominator: u32,
}

impl Interval {
    /// Frames a second; 0 if there is no such interval.
    pub fn fps(self) -> f64 {
        if self.numerator == 0 { 0.0 } else { f64::from(self.denominator) / f64::from(self.numerator) }
    }

    /// True if this is `fps` but for rounding: 29.97 is 30000/1001.
    pub(super) fn is(self, fps: f64) -> bool {
        (self.fps() - fps).abs() <= fps * 0.001
    }

    fn of(fps: f64) -> Self {
        Self { numerator: 1000, denominator: (fps * 1000.0).round() as u32 }
    }
}

/// The frame rates of a size.
#[derive(Debug, Clone, PartialEq)]
pub enum Rates {
    /// The driver does not tell.
    Unknown,
    /// These rates.
    Each(Vec<Interval>),
    /// Every rate between two intervals.
    Between(Interval, Interval),
}

impl Rates {
    /// The interval to ask for: none if the driver has to be asked for it blindly, an error if it does not have the
    /// rate.
    fn find(&self, fps: f64) -> Result<Interval, ()> {
        match self {
            Self::Unknown => Ok(Interval::of(fps)),
            Self::Each(intervals) => intervals.iter().find(|interval| interval.is(fps)).copied().ok_or(()),
            Self::Between(shortest, longest) => {
                let within = fps <= shortest.fps() * 1.001 && fps >= longest.fps() * 0.999;
                within.then_some(Interval::of(fps)).ok_or(())
            }
        }
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let round = |interval: &Interval| (interval.fps() * 100.0).round() / 100.0;
        match self {
            Self::Unknown => write!(f, "? fps"),
            Self::Each(intervals) => {
                let words: Vec<String> = intervals.iter().map(|interval| round(interval).to_string()).collect();
                write!(f, "{} fps", words.join(", "))
            }
            Self::Between(shortest, longest) => write!(f, "{} to {} fps", round(longest), round(shortest)),
        }
    }
}

/// Sizes in pixels, width and height.
///
/// ```
/// use fcam::camera::v4l2::Extent;
///
/// let sizes = Extent::Range((16, 16), (1920, 1080), (8, 8));
/// assert_eq!(sizes.to_string(), "16x16 to 1920x1080 in steps of 8x8");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// One size.
    Exact(u32, u32),
    /// From the first size to the second, in steps of the third.
    Range((u32, u32), (u32, u32), (u32, u32)),
}

impl Extent {
    pub(super) fn has(self, width: u32, height: u32) -> bool {
        match self {
            Self::Exact(across, down) => (across, down) == (width, height),
            Self::Range(min, max, step) => fits(width, min.0, max.0, step.0) && fits(height, min.1, max.1, step.1),
        }
    }
}

fn fits(length: u32, min: u32, max: u32, step: u32) -> bool {
    (min..=max).contains(&length) && (length - min).is_multiple_of(step.max(1))
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(width, height) => write!(f, "{width}x{height}"),
            Self::Range(min, max, step) => {
                write!(f, "{}x{} to {}x{} in steps of {}x{}", min.0, min.1, max.0, max.1, step.0, step.1)
            }
        }
    }
}

/// A format that a camera offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Its code.
    pub fourcc: Fourcc,
    /// Its name, by the driver.
    pub description: String,
    /// Its sizes with their rates; none if the driver does not tell.
    pub sizes: Vec<(Extent, Rates)>,
}

/// What a station wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// The layout; the cheapest if none.
    pub layout: Option<Layout>,
    /// What the values of YUV formats mean; what the driver says if none.
    pub colors: Option<Colors>,
    /// Frames a second; the driver's own rate if 0.
    pub fps: f64,
}

/// A format to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) fourcc: Fourcc,
    pub(super) layout: Layout,
    /// To ask for, unless the driver's own is taken.
    pub(super) interval: Option<Interval>,
}

/// The formats to try, in this order, or why there are none.
pub(super) fn negotiate(offers: &[Offer], wanted: &Wanted) -> Result<Vec<Candidate>, String> {
    let Wanted { width, height, layout, fps, .. } = *wanted;
    let known = KNOWN.iter().filter(|(_, known)| layout.is_none_or(|layout| layout == *known));
    let readable: Vec<(&Offer, Layout)> = known
        .flat_map(|(fourcc, layout)| {
            offers.iter().filter(|offer| offer.fourcc == *fourcc).map(|offer| (offer, *layout))
        })
        .collect();
    if readable.is_empty() {
        return Err(unreadable(offers, layout.is_some()));
    }
    let mut sized = vec![];
    for (offer, layout) in &readable {
        match offer.sizes.iter().find(|(extent, _)| extent.has(width, height)) {
            Some((_, rates)) => sized.push((offer.fourcc, *layout, rates)),
            None if offer.sizes.is_empty() => sized.push((offer.fourcc, *layout, &Rates::Unknown)),
            None => {}
        }
    }
    if sized.is_empty() {
        return Err(format!("has no {width} x {height} pixels; it has {}", sizes(&readable)));
    }
    let rated = sized.iter().filter_map(|(fourcc, layout, rates)| {
        let interval = if fps > 0.0 { Some(rates.find(fps).ok()?) } else { None };
        Some(Candidate { fourcc: *fourcc, layout: *layout, interval })
    });
    let candidates: Vec<Candidate> = rated.collect();
    if candidates.is_empty() {
        let rates = rates(&sized);
        return Err(format!(
            "does not run at {fps} fps with {width} x {height} pixels; it has {rates} (0 leaves the rate to the driver)"
        ));
    }
    Ok(candidates)
}

fn unreadable(offers: &[Offer], named: bool) -> String {
    let offered: Vec<String> = offers.iter().map(|offer| offer.fourcc.to_string()).collect();
    let offered = offered.join(", ");
    match named {
        true => format!("does not have that format; it has {offered}"),
        false => format!("has no format that can be read here; it has {offered} (see the pipe camera)"),
    }
}

/// Rates in words, each once, with the formats that have them.
fn rates(sized: &[(Fourcc, Layout, &Rates)]) -> String {
    let mut words: Vec<(String, String)> = vec![];
    for (fourcc, _, rates) in sized {
        let rates = rates.to_string();
        match words.iter_mut().find(|(_, known)| *known == rates) {
            Some((formats, _)) => *formats += &format!(", {fourcc}"),
            None => words.push((fourcc.to_string(), rates)),
        }
    }
    let words: Vec<String> = words.into_iter().map(|(formats, rates)| format!("{formats}: {rates}")).collect();
    words.join("; ")
}

/// Sizes in words, each once.
fn sizes(readable: &[(&Offer, Layout)]) -> String {
    let mut words: Vec<String> = vec![];
    for (extent, _) in readable.iter().flat_map(|(offer, _)| &offer.sizes) {
        let word = extent.to_string();
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(rates: &[u32]) -> Rates {
        Rates::Each(rates.iter().map(|rate| Interval { numerator: 1, denominator: *rate }).collect())
    }

    fn offer(letters: &[u8; 4], sizes: Vec<(Extent, Rates)>) -> Offer {
        Offer { fourcc: Fourcc::new(*letters), description: String::new(), sizes }
    }

    /// A USB camera as there are many: little raw, much compressed.
    fn usb() -> Vec<Offer> {
        let (small, large) = (Extent::Exact(640, 480), Extent::Exact(1280, 720));
        vec![
            offer(b"MJPG", vec![(small, each(&[30, 15])), (large, each(&[30, 15]))]),
            offer(b"YUYV", vec![(small, each(&[30, 15])), (large, each(&[10, 5]))]),
            offer(b"H264", vec![(small, each(&[30]))]),
        ]
    }

    fn wanted(width: u32, height: u32, fps: f64) -> Wanted {
        Wanted { width, height, layout: None, colors: None, fps }
    }

    fn names(candidates: Result<Vec<Candidate>, String>) -> Vec<String> {
        candidates.unwrap().iter().map(|candidate| candidate.fourcc.to_string()).collect()
    }

    #[test]
    fn the_cheapest_that_has_size_and_rate() {
        assert_eq!(names(negotiate(&usb(), &wanted(640, 480, 30.0))), ["YUYV", "MJPG"]);
        assert_eq!(names(negotiate(&usb(), &wanted(1280, 720, 30.0))), ["MJPG"]);
        assert_eq!(names(negotiate(&usb(), &wanted(1280, 720, 0.0))), ["YUYV", "MJPG"]);
        let vivid: Vec<Offer> =
            [b"GREY", b"RGB3", b"YUYV", b"NV12", b"YU12", b"BA81"].map(|letters| offer(letters, vec![])).into();
        assert_eq!(names(negotiate(&vivid, &wanted(640, 480, 30.0))), ["NV12", "YU12", "YUYV", "RGB3", "GREY"]);
    }

    #[test]
    fn a_named_format_is_the_only_one() {
        let layout = Some(Layout::Mjpeg);
        assert_eq!(names(negotiate(&usb(), &Wanted { layout, ..wanted(640, 480, 15.0) })), ["MJPG"]);
        let layout = Some(Layout::Raw(PixelFormat::Nv12));
        let refused = negotiate(&usb(), &Wanted { layout, ..wanted(640, 480, 15.0) }).unwrap_err();
        assert_eq!(refused, "does not have that format; it has MJPG, YUYV, H264");
    }

    #[test]
    fn refusals_say_what_there_is() {
        let refused = |offers: &[Offer], wanted| negotiate(offers, &wanted).unwrap_err();
        assert_eq!(refused(&usb(), wanted(800, 600, 30.0)), "has no 800 x 600 pixels; it has 640x480, 1280x720");
        assert_eq!(
            refused(&usb(), wanted(1280, 720, 7.5)),
            "does not run at 7.5 fps with 1280 x 720 pixels; it has YUYV: 10, 5 fps; MJPG: 30, 15 fps (0 leaves the rate to the driver)"
        );
        assert_eq!(
            refused(&[offer(b"H264", vec![])], wanted(640, 480, 30.0)),
            "has no format that can be read here; it has H264 (see the pipe camera)"
        );
        assert_eq!(
            refused(&[], wanted(1, 1, 1.0)),
            "has no format that can be read here; it has  (see the pipe camera)"
        );
    }

    #[test]
    fn ranges_have_their_steps_and_rates_their_bounds() {
        let range = Extent::Range((48, 48), (4096, 2160), (2, 2));
        let (fast, slow) = (Interval { numerator: 1, denominator: 60 }, Interval { numerator: 1, denominator: 5 });
        let offers = [offer(b"NV12", vec![(range, Rates::Between(fast, slow))])];
        let found = negotiate(&offers, &wanted(642, 480, 29.97)).unwrap();
        assert_eq!(found.first().unwrap().interval, Some(Interval { numerator: 1000, denominator: 29_970 }));
        for (width, height, fps) in
            [(641, 480, 30.0), (46, 480, 30.0), (642, 2162, 30.0), (642, 480, 61.0), (642, 480, 4.0)]
        {
            assert!(negotiate(&offers, &wanted(width, height, fps)).is_err(), "{width} {height} {fps}");
        }
        assert_eq!(range.to_string(), "48x48 to 4096x2160 in steps of 2x2");
        assert!(!Extent::Range((1, 1), (9, 9), (0, 0)).has(10, 1), "a step of nothing divides by nothing");
    }

    #[test]
    fn the_same_rates_are_told_once() {
        let size = vec![(Extent::Exact(8, 8), each(&[30, 15]))];
        let offers = [offer(b"NV12", size.clone()), offer(b"YUYV", size)];
        let refused = negotiate(&offers, &wanted(8, 8, 20.0)).unwrap_err();
        assert!(refused.contains("it has NV12, YUYV: 30, 15 fps ("), "{refused}");
    }

    #[test]
    fn colors_are_what_the_driver_says_or_the_kernel_takes_for_granted() {
        // colorspace: 0 default, 3 BT.709, 7 JPEG, 8 sRGB. ycbcr_enc: 0 default, 1 BT.601, 2 BT.709, 6 BT.2020.
        // quantization: 0 default, 1 full, 2 limited.
        for (colorspace, encoding, quantization, expected) in [
            (0, 0, 0, Colors::Bt601),
            (8, 0, 0, Colors::Bt601),
            (8, 0, 1, Colors::Bt601Full),
            (7, 0, 0, Colors::Bt601Full),
            (7, 0, 2, Colors::Bt601),
            (3, 0, 0, Colors::Bt709),
            (3, 1, 0, Colors::Bt601),
            (8, 2, 1, Colors::Bt709Full),
            (10, 6, 2, Colors::Bt601),
        ] {
            assert_eq!(colors(colorspace, encoding, quantization), expected, "{colorspace} {encoding} {quantization}");
        }
    }

    #[test]
    fn codes_are_printable() {
        assert_eq!(Fourcc::new(*b"Y10 ").to_string(), "Y10");
        assert_eq!(Fourcc(Fourcc::new(*b"Y16 ").0 | 1 << 31).to_string(), "Y16-BE");
        assert_eq!(Fourcc(7).to_string(), "\\u{7}\\0\\0\\0");
    }

    #[test]
    fn a_rate_is_the_same_but_for_rounding() {
        let ntsc = Interval { numerator: 1001, denominator: 30_000 };
        assert!(ntsc.is(29.97) && ntsc.is(30.0) && !ntsc.is(25.0));
        assert_eq!(Interval { numerator: 0, denominator: 5 }.fps(), 0.0);
    }
}
