//! In: files by path. Out: one ustar archive of them, always the same bytes; and back.
//!
//! It reads only what it would write itself: regular files, sorted by path, with the same owner, mode and time, two
//! empty blocks at the end and nothing after them. So there is no symlink to follow and no second meaning of an
//! archive: what differs in one bit is refused.

use std::collections::BTreeMap;

use tar::{EntryType, Header};

use super::directory::MAX_ENTRIES;
use super::manifest::check_path;

/// Bytes of a header; contents are padded to a multiple of it.
const BLOCK: usize = 512;

/// Two empty blocks.
const END: usize = 2 * BLOCK;

/// What a member adds to an archive at most, besides its contents.
pub(super) const OVERHEAD: u64 = 2 * BLOCK as u64;

/// The files of an archive by path.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// The archive of these files. Refuses paths that it would not read.
pub(super) fn pack(files: &Files) -> Result<Vec<u8>, String> {
    let padded: usize = files.values().map(|bytes| BLOCK + bytes.len().next_multiple_of(BLOCK)).sum();
    let mut out = Vec::with_capacity(padded + END);
    for (path, bytes) in files {
        check_path(path).map_err(|why| format!("`{}` {why}", path.escape_debug()))?;
        out.extend_from_slice(header(path, bytes.len() as u64)?.as_bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + END, 0);
    Ok(out)
}

fn header(path: &str, size: u64) -> Result<Header, String> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header
        .set_path(path)
        .map_err(|_| format!("`{path}` is too long for an archive: 100 bytes a name, 155 for the folders before it"))?;
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// The files of an archive. Nothing is read beyond what is there, and nothing is held twice.
pub(super) fn unpack(archive: &[u8]) -> Result<Files, String> {
    let mut files = Files::new();
    let mut rest = archive;
    loop {
        let (block, after) = rest.split_at_checked(BLOCK).ok_or("it is truncated: its end is missing")?;
        if block.iter().all(|byte| *byte == 0) {
            end(rest)?;
            return Ok(files);
        }
        if files.len() >= MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} members: is this a bundle?"));
        }
        let (path, size) = member(block)?;
        let last = files.last_key_value().map(|(last, _)| last.as_str());
        order(&path, last)?;
        let truncated = || format!("it is truncated in {path}");
        let (bytes, after) = after.split_at_checked(size).ok_or_else(truncated)?;
        let padding = size.next_multiple_of(BLOCK) - size;
        let (padding, after) = after.split_at_checked(padding).ok_or_else(truncated)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(format!("there is something between {path} and the next member"));
        }
        rest = after;
        files.insert(path, bytes.to_vec());
    }
}

/// The path and the size that a header announces.
fn member(block: &[u8]) -> Result<(String, usize), String> {
    let found = Header::from_byte_slice(block);
    let name = found.path_bytes();
    let shown = String::from_utf8_lossy(&name).escape_debug().to_string();
    let kind = match found.entry_type() {
        EntryType::Regular => None,
        EntryType::Symlink => Some("a symlink"),
        EntryType::Link => Some("a hard link"),
        EntryType::Directory => Some("a folder"),
        EntryType::Char | EntryType::Block | EntryType::Fifo => Some("a device"),
        _ => Some("no regular file"),
    };
    if let Some(kind) = kind {
        return Err(format!("`{shown}` is {kind}: only files may be in it"));
    }
    let path = std::str::from_utf8(&name).map_err(|_| format!("`{shown}` is not UTF-8"))?;
    check_path(path).map_err(|why| format!("`{shown}` {why}"))?;
    let damaged =
        || format!("the header of `{shown}` is damaged, or of another program: write it with `fcam bundle pack`");
    let size = found.entry_size().map_err(|_| damaged())?;
    if header(path, size)?.as_bytes() != found.as_bytes() {
        return Err(damaged());
    }
    let size = usize::try_from(size).map_err(|_| format!("`{shown}` announces {size} bytes"))?;
    Ok((path.to_owned(), size))
}

fn order(path: &str, last: Option<&str>) -> Result<(), String> {
    match last.map(|last| last.cmp(path)) {
        None | Some(std::cmp::Ordering::Less) => Ok(()),
        Some(std::cmp::Ordering::Equal) => Err(format!("{path} is in it twice")),
        Some(std::cmp::Ordering::Greater) => Err(format!("{path} is out of order, or in it twice")),
    }
}

fn end(rest: &[u8]) -> Result<(), String> {
    match rest.len() {
        ..END => Err("it is truncated: its end is missing".into()),
        END if rest.iter().all(|byte| *byte == 0) => Ok(()),
        _ => Err(format!("there are {} bytes after its end", rest.len() - END)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        [("a", 0), ("golden/000.png", 511), ("model.onnx", 512), ("samples/b", 1200)]
            .map(|(path, size)| (path.to_owned(), vec![7; size]))
            .into()
    }

    #[test]
    fn what_was_packed_comes_out_and_is_packed_to_the_same_bytes() {
        let archive = pack(&files()).unwrap();
        assert_eq!(unpack(&archive).unwrap(), files());
        assert_eq!(pack(&unpack(&archive).unwrap()).unwrap(), archive);
        assert_eq!(unpack(&pack(&Files::new()).unwrap()).unwrap(), Files::new());
    }

    #[test]
    fn every_cut_and_every_longer_end_is_refused() {
        let archive = pack(&files()).unwrap();
        for length in (0..archive.len()).step_by(7).chain([archive.len() - 1]) {
            assert!(unpack(&archive[..length]).is_err(), "{length}");
        }
        for more in [1, 511, 512, 1024, 5000] {
            let longer = [&archive[..], &vec![0; more]].concat();
            assert!(unpack(&longer).unwrap_err().contains("after its end"), "{more}");
        }
    }

    #[test]
    fn long_paths_are_refused_when_they_are_written() {
        let long = format!("{}/x", "y".repeat(160));
        assert!(pack(&[(long, vec![])].into()).unwrap_err().contains("too long"));
        let split = format!("{}/{}", "y".repeat(150), "z".repeat(90));
        let one: Files = [(split, vec![1])].into();
        assert_eq!(unpack(&pack(&one).unwrap()).unwrap(), one);
    }
}
