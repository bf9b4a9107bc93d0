//! Files that are whole at every moment. In: a path and bytes. Out: the file has all of them, or what it had before,
//! whenever the power fails.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The extension of a file that is not whole yet. What a power cut leaves with it can be removed.
pub const PARTIAL: &str = "part";

/// Writes these bytes, one slice after the other, and puts them in the file's place. Once this returns, they are on the
/// disk and under their name.
pub fn write(path: &Path, bytes: &[&[u8]]) -> io::Result<()> {
    write_as(path, bytes, 0o666)
}

/// The same for a secret: nobody but its owner can read the file, at no moment.
#[cfg(feature = "page")]
pub fn write_private(path: &Path, bytes: &[&[u8]]) -> io::Result<()> {
    write_as(path, bytes, 0o600)
}

fn write_as(path: &Path, bytes: &[&[u8]], mode: u32) -> io::Result<()> {
    let partial = partial(path);
    let written = write_synced(&partial, bytes, mode).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        let _ = fs::remove_file(&partial); // on a full disk, half a file is worth its space
    }
    written?;
    sync_folder(path.parent().unwrap_or(Path::new("")))
}

/// Names that were changed in a folder stay changed.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match File::open(folder)?.sync_all() {
        // Some network file systems cannot do it.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// Beside the file, and of this process: two that write the same file do not write into each other's half.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.{PARTIAL}", std::process::id()));
    name.into()
}

fn write_synced(path: &Path, bytes: &[&[u8]], mode: u32) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(path)?;
    bytes.iter().try_for_each(|slice| file.write_all(slice))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write(&path, &[b"old"]).unwrap();
        write(&path, &[b"ne", b"w"]).unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"new".to_vec(), vec!["state.json".to_owned()]));
    }

    #[test]
    fn what_cannot_be_put_in_its_place_leaves_the_old_and_no_half() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(write(&taken, &[b"new"]).is_err(), "a folder has that name");
        assert_eq!(names(folder.path()), ["taken"]);
        assert!(write(&folder.path().join("away/file"), &[b"new"]).is_err(), "there is no such folder");
    }

    #[test]
    fn halves_are_known_by_their_extension() {
        let half = partial(Path::new("/records/000000009-pass.mask.png"));
        assert_eq!((half.extension().unwrap(), half.parent()), (PARTIAL.as_ref(), Some(Path::new("/records"))));
        assert_ne!(half, partial(Path::new("/records/000000009-pass.png")));
    }
}
