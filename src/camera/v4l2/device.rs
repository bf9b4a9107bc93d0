//! In: a path, or the name of a camera or of the socket it is plugged in. Out: the node that delivers its pictures.
//!
//! A node's number changes when a USB camera is plugged in again, and another camera may get the old one. So the camera
//! that was found first is looked for by its name and socket, and no other is taken for it, unless the path itself
//! stays with the camera.

use std::io;
use std::path::{Path, PathBuf};

use super::node::{Card, Node};
use crate::camera::Error;

/// Where udev makes links that stay the same: the first names the camera, the second its socket.
const STABLE: [&str; 2] = ["/dev/v4l/by-id", "/dev/v4l/by-path"];

/// Opens the camera that is `wanted`; once one is `known`, only that one.
pub(super) fn find(wanted: &str, known: Option<&Card>) -> Result<Node, Error> {
    if !wanted.starts_with('/') {
        return by_name(wanted, known);
    }
    let path = Path::new(wanted);
    let opened = open(path);
    let Some(known) = known else { return opened };
    match opened {
        Ok(node) if is_same(known, node.card(), is_numbered(path)) => Ok(node),
        Ok(other) => moved(known).ok_or_else(|| Error::OtherCamera {
            path: path.into(),
            known: known.to_string(),
            found: other.card().to_string(),
        }),
        Err(error) => moved(known).ok_or(error),
    }
}

/// The known camera under another number.
fn moved(known: &Card) -> Option<Node> {
    let found = nodes().into_iter().filter_map(|path| open(&path).ok()).find(|node| node.card() == known)?;
    log::info!("{known} is {} now", found.path().display());
    Some(found)
}

/// True if what is at the path now may be the known camera. A link keeps to its camera, wherever that is plugged in; a
/// number does not.
fn is_same(known: &Card, now: &Card, numbered: bool) -> bool {
    if numbered { known == now } else { (&known.driver, &known.card) == (&now.driver, &now.card) }
}

fn is_numbered(path: &Path) -> bool {
    number(path).is_some()
}

/// The number of a node such as /dev/video7.
fn number(path: &Path) -> Option<u32> {
    path.to_str()?.strip_prefix("/dev/video")?.parse().ok()
}

/// Every node of the system, by number.
pub(super) fn nodes() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut nodes: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_numbered(path)).collect();
    nodes.sort_by_key(|path| number(path));
    nodes
}

/// The links that stay with a node's camera or socket.
pub(super) fn stable_paths(node: &Path) -> Vec<PathBuf> {
    let links = STABLE.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let mut paths: Vec<PathBuf> = links
        .map(|link| link.path())
        .filter(|link| std::fs::canonicalize(link).is_ok_and(|target| target == node))
        .collect();
    paths.sort();
    paths
}

/// Opens a node that delivers pictures.
pub(super) fn open(path: &Path) -> Result<Node, Error> {
    let failed = |source: io::Error| {
        // ENOTTY: it does not know the first question that every node answers.
        if source.raw_os_error() == Some(rustix::io::Errno::NOTTY.raw_os_error()) {
            return Error::NoCapture { path: path.into(), is: "no camera at all".into() };
        }
        Error::Device { path: path.into(), hint: hint(&source), source }
    };
    let node = Node::open(path).map_err(failed)?;
    match node.captures() {
        true => Ok(node),
        false => Err(Error::NoCapture { path: path.into(), is: format!("another node of {}", node.card()) }),
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => ": is the user in group video?",
        io::ErrorKind::NotFound => ": is the camera plugged in? (`fcam cameras` lists what is there)",
        io::ErrorKind::ResourceBusy => ": is another program using it?",
        _ => "",
    }
}

fn by_name(wanted: &str, known: Option<&Card>) -> Result<Node, Error> {
    let mut nodes: Vec<Node> = nodes().into_iter().filter_map(|path| open(&path).ok()).collect();
    let cards: Vec<&Card> = nodes.iter().map(Node::card).collect();
    let found = choose(&cards, wanted, known);
    let found = found.map_err(|found| Error::NoCamera { wanted: wanted.into(), found })?;
    Ok(nodes.swap_remove(found))
}

/// Which of the cameras is the one that is wanted, or what there is in its place.
fn choose(cards: &[&Card], wanted: &str, known: Option<&Card>) -> Result<usize, String> {
    let named = cards.iter().enumerate().filter(|(_, card)| card.card == wanted || card.bus == wanted);
    let named: Vec<(usize, &&Card)> = named.collect();
    let again = named.iter().find(|(_, card)| known == Some(**card));
    match (again, &named[..]) {
        (Some((index, _)), _) | (None, [(index, _)]) => Ok(*index),
        (None, []) => Err(format!("there is {}", words(cards.iter().copied()))),
        (None, several) => Err(format!("several have that name: {}", words(several.iter().map(|(_, card)| **card)))),
    }
}

fn words<'a>(cards: impl Iterator<Item = &'a Card>) -> String {
    let words: Vec<String> = cards.map(|card| format!("{:?} at {:?}", card.card, card.bus)).collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(card: &str, bus: &str) -> Card {
        Card { driver: "uvcvideo".into(), card: card.into(), bus: bus.into() }
    }

    #[test]
    fn cameras_go_by_name_or_socket() {
        let (top, side, other) = (card("C920", "usb-1"), card("C920", "usb-2"), card("Mono", "usb-3"));
        let cards = [&top, &side, &other];
        assert_eq!(choose(&cards, "Mono", None), Ok(2));
        assert_eq!(choose(&cards, "usb-2", None), Ok(1));
        assert_eq!(
            choose(&cards, "C920", None).unwrap_err(),
            "several have that name: \"C920\" at \"usb-1\", \"C920\" at \"usb-2\""
        );
        assert_eq!(choose(&cards, "C920", Some(&side)), Ok(1), "the one that was known");
        assert_eq!(choose(&cards[1..], "C920", Some(&top)), Ok(0), "plugged in elsewhere, and there is no doubt");
        assert_eq!(choose(&[&other], "C920", None).unwrap_err(), "there is \"Mono\" at \"usb-3\"");
        assert_eq!(choose(&[], "C920", None).unwrap_err(), "there is none");
    }

    #[test]
    fn a_number_may_lead_to_another_camera_and_a_link_to_another_socket() {
        let (known, elsewhere, other) = (card("C920", "usb-1"), card("C920", "usb-2"), card("Mono", "usb-1"));
        assert!(is_same(&known, &known, true) && !is_same(&known, &elsewhere, true));
        assert!(is_same(&known, &elsewhere, false) && !is_same(&known, &other, false));
    }

    #[test]
    fn only_numbered_nodes_are_looked_at() {
        for (path, expected) in
            [("/dev/video0", Some(0)), ("/dev/video12", Some(12)), ("/dev/video", None), ("/dev/v4l/by-id/x", None)]
        {
            assert_eq!(number(Path::new(path)), expected);
        }
    }

    #[test]
    fn errors_name_the_path_and_the_cure() {
        let error = find("/dev/video4242", None).unwrap_err().to_string();
        assert!(error.starts_with("cannot open camera /dev/video4242: ") && error.contains("plugged in"), "{error}");
        let error = find("/dev/null", None).unwrap_err().to_string();
        assert!(error.starts_with("/dev/null is no camera at all"), "{error}");
        let error = find("No Such Camera", None).unwrap_err().to_string();
        assert!(error.starts_with("no camera named \"No Such Camera\": there is "), "{error}");
        assert!(hint(&io::ErrorKind::PermissionDenied.into()).contains("group video"));
    }
}
