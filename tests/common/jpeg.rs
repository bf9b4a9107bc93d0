//! What the tests of JPEG share: the programs of libjpeg-turbo, which make pictures of every kind and say what their
//! pixels are; a picture to draw; and damage.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::random::Random;
use super::skip::skip;

/// True if libjpeg-turbo's programs are there.
pub fn has_libjpeg() -> bool {
    let found = ["cjpeg", "djpeg", "jpegtran"].iter().all(|name| Command::new(name).arg("-version").output().is_ok());
    if !found {
        skip("JPEG beside libjpeg-turbo (Debian: libjpeg-turbo-progs is not installed)");
    }
    found
}

/// Runs a program on some bytes; what it writes, or nothing if it refuses them or has something to say about them.
fn run(program: &str, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(program);
    child.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input)); // it may end before it has read everything
        child.wait_with_output().unwrap()
    });
    (output.status.success() && output.stderr.is_empty()).then_some(output.stdout)
}

/// A picture, compressed.
pub fn cjpeg(args: &[&str], picture: &Pixels) -> Option<Vec<u8>> {
    run("cjpeg", args, &picture.netpbm())
}

/// A compressed picture, rearranged without loss.
pub fn jpegtran(args: &[&str], jpeg: &[u8]) -> Option<Vec<u8>> {
    run("jpegtran", args, jpeg)
}

/// The same with one scan a component.
pub fn one_scan_a_component(jpeg: &[u8], components: usize) -> Option<Vec<u8>> {
    let script = tempfile::NamedTempFile::new().unwrap();
    let scans: String = (0..components).map(|index| format!("{index};\n")).collect();
    std::fs::write(script.path(), scans).unwrap();
    jpegtran(&["-scans", script.path().to_str().unwrap()], jpeg)
}

/// The pixels of a compressed picture as libjpeg-turbo decodes it by default.
pub fn djpeg(jpeg: &[u8]) -> Option<Pixels> {
    Some(Pixels::parse(&run("djpeg", &["-dct", "int", "-pnm"], jpeg)?))
}

/// Pixels, gray or RGB.
#[derive(Clone, PartialEq, Eq)]
pub struct Pixels {
    pub width: usize,
    pub height: usize,
    /// Bytes a pixel, 1 or 3.
    pub channels: usize,
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {} x {}", self.width, self.height, self.channels)
    }
}

impl Pixels {
    fn netpbm(&self) -> Vec<u8> {
        let kind = if self.channels == 1 { 5 } else { 6 };
        [format!("P{kind}\n{} {}\n255\n", self.width, self.height).as_bytes(), &self.bytes].concat()
    }

    fn parse(bytes: &[u8]) -> Self {
        let mut parts = bytes.splitn(4, |byte| byte.is_ascii_whitespace());
        let number = |part: &[u8]| std::str::from_utf8(part).unwrap().parse().unwrap();
        let channels = if parts.next().unwrap() == b"P5" { 1 } else { 3 };
        let (width, height) = (number(parts.next().unwrap()), number(parts.next().unwrap()));
        let bytes = parts.next().unwrap().strip_prefix(b"255\n").unwrap().to_vec();
        assert_eq!(bytes.len(), width * height * channels);
        Self { width, height, channels, bytes }
    }

    /// A picture such as cameras see: soft shades, edges, a bright speck, and noise of so many levels.
    pub fn draw(width: usize, height: usize, channels: usize, noise: usize, random: &mut Random) -> Self {
        let (x0, y0) = (random.below(width) as f64, random.below(height) as f64);
        let (tilt, wave) = (random.below(100) as f64 / 50.0 - 1.0, random.below(40) as f64 + 4.0);
        let tint = [random.below(60) as f64, random.below(60) as f64, random.below(60) as f64];
        let mut bytes = Vec::with_capacity(width * height * channels);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| (y as f64, x as f64)) {
            let edge = if (x - x0) * tilt + (y - y0) > 0.0 { 70.0 } else { 0.0 };
            let speck = 120.0 * (-((x - x0).powi(2) + (y - y0).powi(2)) / 40.0).exp();
            let shade = 60.0 + edge + speck + 25.0 * (x / wave).sin() + 40.0 * y / height as f64;
            for tint in &tint[..channels] {
                let noise = random.below(noise + 1) as f64 - noise as f64 / 2.0;
                bytes.push((shade + tint + noise).clamp(0.0, 255.0) as u8);
            }
        }
        Self { width, height, channels, bytes }
    }
}

/// A file of tests/common/jpeg.
pub fn case(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/jpeg").join(name)).unwrap()
}

/// Ways in which bytes of scans are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// An interval is missing.
    Delete,
    /// An interval comes twice.
    Duplicate,
    /// An interval is zeros.
    Zero,
    /// Two intervals of one length have changed places.
    Swap,
    /// The rest is missing, and the end marker is there all the same.
    Truncate,
}

pub const DAMAGES: [Damage; 5] = [Damage::Delete, Damage::Duplicate, Damage::Zero, Damage::Swap, Damage::Truncate];

/// Where the entropy-coded bytes of the first scan begin.
pub fn first_scan(jpeg: &[u8]) -> usize {
    let mut at = 2;
    loop {
        let length = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        let code = jpeg[at + 1];
        at += 2 + length;
        if code == 0xDA {
            return at;
        }
    }
}

/// Damages the bytes between the first scan's header and the end marker, in intervals of up to `most` bytes.
pub fn damage(jpeg: &[u8], kind: Damage, most: usize, random: &mut Random) -> Vec<u8> {
    let (start, end) = (first_scan(jpeg), jpeg.len() - 2);
    let most = most.min((end - start) / 3).max(1);
    let length = 1 + random.below(most);
    let at = start + random.below((end - start).saturating_sub(length).max(1));
    let interval = at..(at + length).min(end);
    let mut bytes = jpeg.to_vec();
    match kind {
        Damage::Delete => drop(bytes.drain(interval)),
        Damage::Duplicate => {
            let copy = bytes[interval.clone()].to_vec();
            bytes.splice(interval.end..interval.end, copy);
        }
        Damage::Zero => bytes[interval].fill(0),
        Damage::Swap => {
            let other = start + random.below((end - start).saturating_sub(length).max(1));
            for offset in 0..interval.len() {
                if other + offset < end {
                    bytes.swap(interval.start + offset, other + offset);
                }
            }
        }
        Damage::Truncate => {
            bytes.truncate(at);
            bytes.extend([0xFF, 0xD9]);
        }
    }
    bytes
}
