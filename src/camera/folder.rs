//! Pictures from files. In: any mix of files and folders. Out: their pictures in the order of their paths.
//!
//! Folders are listed once, when the camera is opened: recursively, by name, hidden files and other kinds of files left
//! out. A file that is named directly is always taken. Refuses paths that cannot be listed and paths without a picture;
//! a picture that cannot be read or decoded is an error of its own, and the call after it goes on with the next.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::pace::Pace;
use super::picture::{self, Picture};
use super::{Camera, Error, Frame};
use crate::clock::{self, Timestamp};

/// Larger files are not read: no picture within [`super::Geometry::MAX_SIDE`] that this camera takes needs so much.
const MAX_FILE_BYTES: u64 = 512 << 20;

const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff"];

/// A camera that reads pictures from files.
///
/// ```
/// use fcam::camera::{Camera, Error, Folder};
/// use fcam::clock;
///
/// let mut folder = Folder::open(&["models/default/samples"])?;
/// let mut frames = 0;
/// loop {
///     match folder.next(clock::now()) {
///         Ok(frame) => frames += usize::from(frame.geometry().width > 0),
///         Err(Error::Ended) => break,
///         Err(error) => return Err(error.into()),
///     }
/// }
/// assert_eq!(frames, folder.pictures().len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Folder {
    source: String,
    pictures: Vec<PathBuf>,
    /// The picture to read next.
    at: usize,
    repeat: bool,
    pace: Pace,
    current: PathBuf,
    picture: Option<Picture>,
    sequence: u64,
}

impl Folder {
    /// Lists the pictures. They come once and as fast as they are asked for; see [`Folder::repeat`] and
    /// [`Folder::pace`].
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self, Error> {
        let mut pictures = vec![];
        for path in paths {
            list(path.as_ref(), &mut pictures)?;
        }
        let source = paths.iter().map(|path| path.as_ref().display().to_string()).collect::<Vec<_>>().join(", ");
        if pictures.is_empty() {
            return Err(Error::NoPictures(source));
        }
        let (pace, current) = (Pace::new(None), PathBuf::new());
        Ok(Self { source, pictures, at: 0, repeat: false, pace, current, picture: None, sequence: 0 })
    }

    /// Starts again after the last picture, forever.
    pub fn repeat(mut self, repeat: bool) -> Self {
        self.repeat = repeat;
        self
    }

    /// Delivers at most this many frames a second; a rate that is not positive sets no limit.
    pub fn pace(mut self, frames_per_second: f64) -> Self {
        self.pace = Pace::new(Some(frames_per_second));
        self
    }

    /// Every picture, in the order in which they come.
    pub fn pictures(&self) -> &[PathBuf] {
        &self.pictures
    }

    /// The picture that the last call to [`Camera::next`] delivered, or failed to; empty before the first.
    pub fn current(&self) -> &Path {
        &self.current
    }

    fn advance(&mut self) -> Result<(), Error> {
        if self.at >= self.pictures.len() && self.repeat {
            self.at = 0;
        }
        self.current = self.pictures.get(self.at).ok_or(Error::Ended)?.clone();
        self.at += 1;
        Ok(())
    }
}

impl Camera for Folder {
    fn next(&mut self, deadline: Timestamp) -> Result<Frame<'_>, Error> {
        let asked = clock::now();
        if !self.pace.wait(deadline) {
            return Err(Error::Timeout { camera: self.describe(), waited: clock::now().saturating_sub(asked) });
        }
        self.advance()?;
        let bytes = read(&self.current)?;
        let captured = clock::now();
        let decoded = picture::decode(&bytes, &self.current.display().to_string())?;
        let sequence = self.sequence;
        self.sequence += 1;
        let picture = self.picture.insert(decoded);
        Frame::new(sequence, captured, picture.geometry, &picture.bytes)
    }

    fn describe(&self) -> String {
        format!("folder {} ({} pictures)", self.source, self.pictures.len())
    }
}

/// Adds a file, or the pictures of a folder.
fn list(path: &Path, pictures: &mut Vec<PathBuf>) -> Result<(), Error> {
    let meta = std::fs::metadata(path).map_err(|source| open_error(path, source))?;
    if meta.is_dir() {
        return list_folder(path, &mut vec![], pictures);
    }
    pictures.push(path.into());
    Ok(())
}

/// `above` holds the folders that this one lies in: a symbolic link back to one of them is not followed again.
fn list_folder(folder: &Path, above: &mut Vec<PathBuf>, pictures: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |source| open_error(folder, source);
    let real = folder.canonicalize().map_err(failed)?;
    if above.contains(&real) {
        return Ok(());
    }
    above.push(real);
    let entries: Result<Vec<_>, _> = std::fs::read_dir(folder).map_err(failed)?.collect();
    let mut paths: Vec<PathBuf> = entries.map_err(failed)?.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    for path in paths.iter().filter(|path| !is_hidden(path)) {
        if path.is_dir() {
            list_folder(path, above, pictures)?;
        } else if is_picture(path) {
            pictures.push(path.clone());
        }
    }
    above.pop();
    Ok(())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// Reads a whole file; refuses what is not one (a device or a pipe may never end) and what is absurdly large.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| open_error(path, source);
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err(failed(std::io::Error::other("it is neither a file nor a folder")));
    }
    let too_large = |size: u64| {
        let reason = format!("the file has {} MiB, and no picture may have more than 512", size >> 20);
        Error::Decode { what: path.display().to_string(), reason }
    };
    if meta.len() > MAX_FILE_BYTES {
        return Err(too_large(meta.len()));
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    let mut file = std::fs::File::open(path).map_err(failed)?.take(MAX_FILE_BYTES + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large(bytes.len() as u64)); // it grew while it was read
    }
    Ok(bytes)
}

fn open_error(path: &Path, source: std::io::Error) -> Error {
    Error::Open { path: path.into(), source }
}
