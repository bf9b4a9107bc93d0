//! In: judged parts. Out: a picture, a mask where one was drawn, and a JSON line for each, in a folder a day, oldest
//! removed first.
//!
//! A part is there as a whole or not at all: each file is whole under its name (`durable`), the JSON comes last, and
//! what a kill or a power cut left without it is cleared away at the next start. It refuses to take more than its share
//! of the disk, and to fill it; every failure is an error of this one part: the next is tried again.

use std::collections::{BTreeMap, VecDeque};
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageFormat};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::camera::{self, Frame, PixelFormat};
use crate::durable::{self, PARTIAL};
use crate::mask::Mask;
use crate::outcome::{Entry, Outcome};
use crate::preprocess::{self, Roi};
use crate::verdict::Verdict;

/// Which parts are kept.
///
/// ```
/// use fcam::record::Keep;
/// use fcam::verdict::{Fault, Verdict};
///
/// assert!(Keep::Rejects.wants(&Verdict::Fault(Fault::Late))); // it drives the same outputs
/// assert!(!Keep::Rejects.wants(&Verdict::Pass));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// No parts.
    #[default]
    None,
    /// Faults that have a picture.
    Faults,
    /// Rejects, and faults, which drive the same outcome.
    Rejects,
    /// Every part.
    All,
}

impl Keep {
    /// True if a part with this verdict is kept.
    pub fn wants(self, verdict: &Verdict) -> bool {
        match self {
            Self::None => false,
            Self::Faults => matches!(verdict, Verdict::Fault(_)),
            Self::Rejects => !matches!(verdict, Verdict::Pass),
            Self::All => true,
        }
    }
}

/// How pictures are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PictureFormat {
    /// Every pixel as it was.
    #[default]
    Png,
    /// A tenth of the size, with losses.
    Jpg,
}

impl PictureFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpg => "jpg",
        }
    }

    fn format(self) -> ImageFormat {
        match self {
            Self::Png => ImageFormat::Png,
            Self::Jpg => ImageFormat::Jpeg,
        }
    }
}

/// Where parts are kept, which, and how many.
#[derive(Debug, Clone)]
pub struct RecorderOptions {
    /// The folder that holds a folder for each day.
    pub dir: PathBuf,
    /// Which parts are kept.
    pub keep: Keep,
    /// How pictures are stored.
    pub picture: PictureFormat,
    /// Parts on disk at most, at least 1.
    pub max_files: usize,
    /// Mebibytes that they take at most; the newest part stays in any case.
    pub max_mb: u64,
    /// Mebibytes that stay free on the disk.
    pub free_mb: u64,
}

/// A part that was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is as full as it may get.
    #[error("{} has {free} MiB free, record.free_mb keeps {keep}, and older parts do not take as much as is missing: clear the disk", dir.display())]
    Full {
        /// The folder.
        dir: PathBuf,
        /// Mebibytes free.
        free: u64,
        /// Mebibytes that stay free.
        keep: u64,
    },
    /// The disk refuses.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The picture cannot be stored in this format.
    #[error("cannot store the picture as {extension}: {source}")]
    Picture {
        /// The format.
        extension: &'static str,
        /// What the encoder said.
        source: image::ImageError,
    },
    /// The frame is broken.
    #[error(transparent)]
    Frame(#[from] camera::Error),
}

/// Writes parts, and removes the oldest.
///
/// ```
/// use fcam::camera::{Frame, Geometry, PixelFormat};
/// use fcam::outcome::{Opened, Outcome};
/// use fcam::record::{Keep, PictureFormat, Recorder, RecorderOptions};
/// # use fcam::{signal::Signaller, verdict::Fault};
/// # let signaller = Signaller { delay: std::time::Duration::ZERO, hold: std::time::Duration::ZERO };
/// # let geometry = Geometry::packed(8, 4, PixelFormat::Gray8)?;
/// # let bytes = [128; 32];
/// # let frame = Frame::new(6, fcam::clock::now(), geometry, &bytes)?;
/// # let outcome = Outcome::fault(Opened::of(&frame), Fault::Late, &signaller, &Default::default());
///
/// let dir = tempfile::tempdir()?;
/// let options = RecorderOptions {
///     dir: dir.path().into(), keep: Keep::Rejects, picture: PictureFormat::Png, max_files: 1000, max_mb: 500, free_mb: 0,
/// };
/// Recorder::open(options).write(&frame, &outcome, None)?;
/// let day = std::fs::read_dir(dir.path())?.next().ok_or("no day")??.path();
/// assert!(day.join("000000006-fault.png").exists() && day.join("000000006-fault.json").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Recorder {
    options: RecorderOptions,
    /// The JSON file of each part on disk and what the part takes of it, oldest first.
    parts: VecDeque<(PathBuf, u64)>,
    /// What all of them take, bytes.
    bytes: u64,
    /// Files are numbered on from those that were there: sequence numbers start again with the station.
    first: u64,
    pixels: Vec<u8>,
    file: Vec<u8>,
}

impl Recorder {
    /// Goes on after what is in the folder, and clears away what a power cut left half written. A folder that cannot be
    /// read counts as empty: whether it can be written shows with the first part.
    pub fn open(options: RecorderOptions) -> Self {
        let mut found = list(&options.dir);
        found.sort();
        let first = found.iter().map(|part| part.number + 1).max().unwrap_or(0);
        let parts: VecDeque<_> = found.into_iter().map(|part| (part.json, part.bytes)).collect();
        let bytes = parts.iter().map(|(_, bytes)| bytes).sum();
        let mut new = Self { options, parts, bytes, first, pixels: vec![], file: vec![] };
        new.prune(); // the budget may have been lowered
        new
    }

    /// Which parts this one wants.
    pub fn keep(&self) -> Keep {
        self.options.keep
    }

    /// Writes one part: the picture as the camera gave it, its mask, and its outcome.
    pub fn write(&mut self, frame: &Frame, outcome: &Outcome, mask: Option<&Mask>) -> Result<(), Error> {
        let now = Timestamp::now();
        let day = self.options.dir.join(day_of(now));
        std::fs::create_dir_all(&day).map_err(|source| Error::Write { path: day.clone(), source })?;
        self.room(&day)?;
        let name = format!("{:09}-{}", self.first + outcome.sequence, outcome.verdict.word());
        let json = day.join(name).with_extension("json");
        let picture = self.picture(frame, &json.with_extension(self.options.picture.extension()));
        let drawn = picture.and_then(|bytes| Ok(bytes + self.mask(mask, &json.with_extension(MASK))?));
        let written = drawn.and_then(|bytes| {
            self.file = describe(now, outcome, mask);
            Ok(bytes + store(&json, &self.file)?)
        });
        match written {
            Ok(bytes) => {
                self.parts.push_back((json, bytes));
                self.bytes += bytes;
                self.prune();
                Ok(())
            }
            Err(error) => {
                remove(&json); // an incomplete part is worth less than its space
                Err(error)
            }
        }
    }

    fn room(&mut self, day: &Path) -> Result<(), Error> {
        let disk = rustix::fs::statvfs(day).map_err(|error| Error::Write { path: day.into(), source: error.into() })?;
        self.make_room(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// The oldest parts make room for new ones, as many as their sizes say: what a disk says of itself may come
    /// later. If all of them were not enough, something else fills the disk, and none is removed.
    fn make_room(&mut self, free: u64) -> Result<(), Error> {
        let keep = self.options.free_mb;
        let missing = keep.saturating_mul(1 << 20).saturating_sub(free);
        if missing > self.bytes {
            return Err(Error::Full { dir: self.options.dir.clone(), free: free >> 20, keep });
        }
        let least = self.bytes - missing;
        while self.bytes > least && self.remove_oldest() {}
        Ok(())
    }

    fn picture(&mut self, frame: &Frame, path: &Path) -> Result<u64, Error> {
        preprocess::unpack(frame, &mut self.pixels);
        let geometry = frame.geometry();
        let color = if geometry.format == PixelFormat::Gray8 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        self.encode(path, (geometry.width, geometry.height), color, self.options.picture)
    }

    /// White where it is set, at its own resolution.
    fn mask(&mut self, mask: Option<&Mask>, path: &Path) -> Result<u64, Error> {
        let Some(mask) = mask else { return Ok(0) };
        self.pixels.clear();
        let mut level = 0;
        for run in mask.run_lengths() {
            self.pixels.resize(self.pixels.len() + run as usize, level);
            level = !level;
        }
        self.encode(path, (mask.width, mask.height), ExtendedColorType::L8, PictureFormat::Png)
    }

    /// Stores what is in `pixels`; returns what it takes of the disk.
    fn encode(
        &mut self,
        path: &Path,
        size: (u32, u32),
        color: ExtendedColorType,
        picture: PictureFormat,
    ) -> Result<u64, Error> {
        self.file.clear();
        let (mut out, format) = (Cursor::new(&mut self.file), picture.format());
        image::write_buffer_with_format(&mut out, &self.pixels, size.0, size.1, color, format)
            .map_err(|source| Error::Picture { extension: picture.extension(), source })?;
        store(path, &self.file)
    }

    /// Removes the oldest parts until the others keep to their share.
    fn prune(&mut self) {
        let budget = self.options.max_mb << 20;
        while self.parts.len() > 1 && (self.parts.len() > self.options.max_files || self.bytes > budget) {
            self.remove_oldest();
        }
    }

    /// With the folder of its day, if that has none left; false if there is no part.
    fn remove_oldest(&mut self) -> bool {
        let Some((json, bytes)) = self.parts.pop_front() else { return false };
        self.bytes -= bytes;
        remove(&json);
        if let Some(day) = json.parent() {
            let _ = std::fs::remove_dir(day); // refuses while there is something in it
        }
        true
    }
}

/// The name of a day's folder, UTC.
fn day_of(now: Timestamp) -> String {
    TimeZone::UTC.to_datetime(now).date().to_string()
}

/// The ending of a mask.
const MASK: &str = "mask.png";

/// Every ending that a part's files have, the JSON first: without it they are no part.
const ENDINGS: [&str; 4] = ["json", MASK, "png", "jpg"];

/// Removes a part's files. One that is gone already is as good.
fn remove(json: &Path) {
    for ending in ENDINGS {
        let _ = std::fs::remove_file(json.with_extension(ending));
    }
}

/// What stands beside a recorded picture: the outcome as in `sinks.json`, and what only a record has.
#[derive(Serialize)]
struct Description<'a> {
    /// When it was written, by the clock of the day.
    unix_ms: i64,
    #[serde(flatten)]
    outcome: Entry<'a>,
    /// The rectangle of the frame that the mask covers; null without a mask.
    mask_covers: Option<Roi>,
}

/// The JSON file of a part, one line.
fn describe(now: Timestamp, outcome: &Outcome, mask: Option<&Mask>) -> Vec<u8> {
    let description =
        Description { unix_ms: now.as_millisecond(), outcome: outcome.entry(), mask_covers: mask.map(|mask| mask.roi) };
    let mut line = serde_json::to_vec(&description).unwrap_or_default(); // strings and numbers alone: it cannot fail
    line.push(b'\n');
    line
}

/// The file is under its name only when it is whole. Returns what it takes of the disk.
fn store(path: &Path, bytes: &[u8]) -> Result<u64, Error> {
    let written = durable::write(path, &[bytes]);
    written.map(|()| takes(bytes.len() as u64)).map_err(|source| Error::Write { path: path.into(), source })
}

/// What a file takes of a disk that gives out blocks.
fn takes(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}

/// A part on disk, by its number: they rise from start to start, and days do not where the clock is wrong.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    number: u64,
    json: PathBuf,
    /// What its files take.
    bytes: u64,
}

/// The parts in a folder. What is left of others, without a JSON file or with an empty file, is removed.
fn list(dir: &Path) -> Vec<Found> {
    let days = entries(dir).filter(|path| path.is_dir());
    let mut found = vec![];
    for day in days {
        // Its files by the part's name: what they take, if the JSON is there, and if all of them have something in
        // them.
        let mut parts: BTreeMap<PathBuf, (u64, bool, bool)> = BTreeMap::new();
        for path in entries(&day) {
            let Some(ending) = ENDINGS.into_iter().chain([PARTIAL]).find(|ending| ends(&path, ending)) else {
                continue;
            };
            if ending == PARTIAL {
                let _ = std::fs::remove_file(&path);
                continue;
            }
            let bytes = std::fs::metadata(&path).map_or(0, |file| file.len());
            let json = if ending == MASK {
                path.with_extension("").with_extension("json")
            } else {
                path.with_extension("json")
            };
            let part = parts.entry(json).or_insert((0, false, true));
            part.0 += takes(bytes);
            part.1 |= ending == "json";
            part.2 &= bytes > 0;
        }
        for (json, (bytes, told, filled)) in parts {
            match number(&json) {
                Some(number) if told && filled => found.push(Found { number, json, bytes }),
                Some(_) => remove(&json),
                None => {} // of somebody else
            }
        }
    }
    found
}

fn ends(path: &Path, ending: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_suffix(ending)).is_some_and(|stem| stem.ends_with('.'))
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::Geometry;
    use crate::outcome::{JudgedBy, Opened};
    use crate::signal::Signaller;
    use crate::verdict::Fault;
    use std::sync::Arc;
    use std::time::Duration;

    fn options(dir: &Path) -> RecorderOptions {
        RecorderOptions {
            dir: dir.into(),
            keep: Keep::All,
            picture: PictureFormat::Png,
            max_files: 3,
            max_mb: 100,
            free_mb: 0,
        }
    }

    fn fault(sequence: u64) -> Outcome {
        let signaller = Signaller { delay: Duration::ZERO, hold: Duration::from_millis(50) };
        let part = Opened { sequence, ..Opened::default() };
        let judged_by = Arc::new(JudgedBy { name: "a bundle".into(), ..JudgedBy::default() });
        Outcome::fault(part, Fault::Engine, &signaller, &judged_by)
    }

    fn write(recorder: &mut Recorder, sequence: u64) -> Result<(), Error> {
        let geometry = Geometry::packed(4, 2, PixelFormat::Yuyv).unwrap();
        let frame = Frame::new(sequence, Duration::ZERO, geometry, &[128; 16]).unwrap();
        let runs = [crate::mask::Run { row: 1, start: 1, end: 3 }];
        let roi = Roi { x: 0, y: 0, width: 4, height: 2 };
        let mask = Mask { width: 4, height: 2, roi, runs: &runs, regions: &[], region_count: 0 };
        recorder.write(&frame, &fault(sequence), Some(&mask))
    }

    /// What a camera of Motion JPEG sends is recorded as the pixels that were judged.
    #[test]
    fn a_day_is_that_of_greenwich() {
        for (seconds, day) in [(951_868_799, "2000-02-29"), (951_868_800, "2000-03-01"), (1_735_689_599, "2024-12-31")]
        {
            assert_eq!(day_of(Timestamp::from_second(seconds).unwrap()), day);
        }
    }

    #[test]
    fn planes_of_a_jpeg_picture_are_recorded_as_its_pixels() {
        let jpeg = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/jpeg/one_scan_420.jpg")).unwrap();
        let mut picture = camera::picture::Picture::EMPTY;
        camera::jpeg::Decoder::default().decode(&jpeg, &mut picture).unwrap();
        assert_eq!(picture.geometry.format, PixelFormat::Yuvj420);
        let root = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::open(options(root.path()));
        let frame = Frame::new(0, Duration::ZERO, picture.geometry, &picture.bytes).unwrap();
        recorder.write(&frame, &fault(0), None).unwrap();
        let day = entries(root.path()).next().unwrap();
        let recorded = image::open(day.join("000000000-fault.png")).unwrap().into_rgb8().into_raw();
        assert_eq!(recorded, camera::picture::decode(&jpeg, "it").unwrap().bytes);
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = entries(dir)
            .flat_map(|day| entries(&day).collect::<Vec<_>>())
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn keeps_the_newest_and_goes_on_after_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::open(options(dir.path()));
        (0..4).for_each(|sequence| write(&mut recorder, sequence).unwrap());
        let day = entries(dir.path()).next().unwrap();
        // What a kill leaves at its worst moments, and what is of somebody else.
        for left in
            ["000000009-pass.png.7.part", "000000010-pass.png", "000000011-reject.mask.png", "000000012-pass.json"]
        {
            std::fs::write(day.join(left), if left.ends_with("json") { "" } else { "half" }).unwrap();
        }
        // What a power cut leaves of a picture that was named and not on the disk yet.
        std::fs::write(day.join("000000013-pass.png"), "").unwrap();
        std::fs::write(day.join("000000013-pass.json"), "{}").unwrap();

        let mut recorder = Recorder::open(options(dir.path()));
        write(&mut recorder, 0).unwrap();
        let stems = ["000000002-fault", "000000003-fault", "000000004-fault"];
        let expected: Vec<String> = stems
            .iter()
            .flat_map(|stem| ["json", "mask.png", "png"].map(|ending| format!("{stem}.{ending}")))
            .collect();
        assert_eq!(names(dir.path()), expected);

        let text = std::fs::read_to_string(day.join("000000004-fault.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["verdict"]["fault"], "engine");
        assert!(json["timings_us"]["engine"].is_u64() && text.matches('\n').count() == 1);
        assert_eq!((&json["release"]["name"], &json["mask_covers"]["width"]), (&"a bundle".into(), &4.into()));
        let mask = image::open(day.join("000000004-fault.mask.png")).unwrap().into_luma8();
        assert_eq!(mask.into_raw(), [0, 0, 0, 0, 0, 255, 255, 0]);
        let picture = image::open(day.join("000000004-fault.png")).unwrap();
        assert_eq!((picture.width(), picture.height()), (4, 2));
    }

    #[test]
    fn an_old_day_goes_with_its_last_part() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("2020-01-01");
        std::fs::create_dir(&old).unwrap();
        std::fs::write(old.join("000000007-pass.json"), "{}").unwrap();
        let mut recorder = Recorder::open(options(dir.path()));
        (0..3).for_each(|sequence| write(&mut recorder, sequence).unwrap());
        assert!(!old.exists());
        assert!(names(dir.path()).iter().any(|name| name == "000000010-fault.json"));
    }

    #[test]
    fn takes_no_more_of_the_disk_than_it_may() {
        let dir = tempfile::tempdir().unwrap();
        // Three files of a block each: a mebibyte holds 85 parts.
        let budget = RecorderOptions { max_files: 10_000, max_mb: 1, ..options(dir.path()) };
        let mut recorder = Recorder::open(budget.clone());
        (0..100).for_each(|sequence| write(&mut recorder, sequence).unwrap());
        assert_eq!((recorder.parts.len(), recorder.bytes), (85, 85 * 3 * 4096));
        assert_eq!(names(dir.path()).len(), 3 * 85);
        let again = Recorder::open(budget);
        assert_eq!((again.parts.len(), again.bytes, again.first), (85, 85 * 3 * 4096, 100));
    }

    #[test]
    fn the_oldest_make_room_for_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let tight = RecorderOptions { max_files: 100, free_mb: 10, ..options(dir.path()) };
        let mut recorder = Recorder::open(RecorderOptions { free_mb: 0, ..tight.clone() });
        (0..10).for_each(|sequence| write(&mut recorder, sequence).unwrap());
        recorder.options = tight;
        let (free, each) = (10 << 20, 3 * 4096);
        recorder.make_room(free).unwrap();
        assert_eq!(recorder.parts.len(), 10);
        recorder.make_room(free - 1).unwrap();
        assert_eq!(recorder.parts.len(), 9);
        recorder.make_room(free - 3 * each).unwrap();
        assert_eq!((recorder.parts.len(), names(dir.path()).len()), (6, 3 * 6));
        assert!(names(dir.path())[0].starts_with("000000004-"));
        // Something else fills the disk: the evidence stays.
        assert!(matches!(recorder.make_room(free - 7 * each), Err(Error::Full { .. })));
        assert_eq!(recorder.parts.len(), 6);
    }

    #[test]
    fn a_lower_budget_holds_from_the_start_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::open(RecorderOptions { max_files: 100, ..options(dir.path()) });
        (0..10).for_each(|sequence| write(&mut recorder, sequence).unwrap());
        assert_eq!(Recorder::open(options(dir.path())).parts.len(), 3);
        assert_eq!(names(dir.path()).len(), 3 * 3);
    }

    /// A clock that was wrong: the days of the newest parts are long ago.
    #[test]
    fn the_oldest_are_those_with_the_lowest_numbers() {
        let dir = tempfile::tempdir().unwrap();
        for (day, number) in [("2099-01-01", 1), ("2099-01-01", 2), ("2020-01-01", 3), ("2020-01-01", 4)] {
            std::fs::create_dir_all(dir.path().join(day)).unwrap();
            std::fs::write(dir.path().join(day).join(format!("{number:09}-pass.json")), "{}").unwrap();
        }
        drop(Recorder::open(options(dir.path())));
        assert_eq!(names(dir.path()), ["000000002-pass.json", "000000003-pass.json", "000000004-pass.json"]);
    }

    #[test]
    fn a_folder_that_vanishes_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("record");
        let mut recorder = Recorder::open(options(&inside));
        (0..3).for_each(|sequence| write(&mut recorder, sequence).unwrap());
        std::fs::remove_dir_all(&inside).unwrap();
        (3..9).for_each(|sequence| write(&mut recorder, sequence).unwrap());
        assert_eq!(names(&inside).len(), 3 * 3);
    }

    #[test]
    fn refuses_to_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::open(RecorderOptions { free_mb: u64::MAX, ..options(dir.path()) });
        assert!(matches!(write(&mut recorder, 0), Err(Error::Full { .. })));
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_of_each_part() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut recorder = Recorder::open(options(&file));
        assert!(matches!(write(&mut recorder, 0), Err(Error::Write { .. })));
        assert!(matches!(write(&mut recorder, 1), Err(Error::Write { .. })));
    }

    #[test]
    fn keep_is_by_verdict() {
        let fault = Verdict::Fault(Fault::Late);
        assert!(Keep::Rejects.wants(&fault) && Keep::Faults.wants(&fault) && !Keep::None.wants(&fault));
        assert!(Keep::All.wants(&Verdict::Pass) && !Keep::Rejects.wants(&Verdict::Pass));
    }
}
