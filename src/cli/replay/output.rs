//! The files of a replay: overlays and maps, named like the pictures they are of, and a contact sheet of the overlays.
//!
//! Names are relative to the folder that all given paths have in common (the folder itself, if one is given), so that
//! pictures of the same name in two folders stay apart. Refuses names that would collide all the same, and to write
//! over one of the pictures.

use std::collections::{HashMap, HashSet};
use std::fs::{File, create_dir_all};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageResult};

use crate::camera::Frame;
use crate::engine::Prediction;
use crate::overlay::{self, Overlay, Sheet};
use crate::pipeline::Inspection;
use crate::preprocess::Layout;

/// Beside the overlays.
const SHEET: &str = "contact-sheet.jpg";

/// High enough that scratches of one pixel survive.
const JPEG_QUALITY: u8 = 92;

/// Writes what is wanted of each picture.
pub(super) struct Outputs {
    overlays: Option<PathBuf>,
    maps: Option<PathBuf>,
    overlay: Overlay,
    sheet: Sheet,
}

impl Outputs {
    /// Makes the directories and checks every name before the first picture is judged.
    pub(super) fn new(
        overlays: Option<&Path>,
        maps: Option<&Path>,
        layout: Layout,
        names: &[PathBuf],
        pictures: &[PathBuf],
    ) -> anyhow::Result<Self> {
        for (directory, extension) in [(overlays, "jpg"), (maps, "png")] {
            if let Some(directory) = directory {
                create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
                check(directory, extension, names, pictures)?;
            }
        }
        Ok(Self {
            overlays: overlays.map(Into::into),
            maps: maps.map(Into::into),
            overlay: Overlay::of(layout),
            sheet: Sheet::default(),
        })
    }

    /// Writes the files of one picture.
    pub(super) fn write(
        &mut self,
        name: &Path,
        frame: &Frame,
        inspection: &Inspection,
        classes: &[String],
    ) -> anyhow::Result<()> {
        if let Some(directory) = &self.overlays {
            let pixels = self.overlay.draw(frame, &inspection.mask, &inspection.outcome, classes);
            let size = [frame.geometry().width, frame.geometry().height];
            save(&directory.join(name.with_extension("jpg")), |file| write_jpeg(file, pixels, size))?;
            let lines = [name.to_string_lossy().into_owned(), overlay::label(&inspection.outcome, classes)];
            self.sheet.add(lines, inspection.outcome.score.unwrap_or(1.0), pixels, size);
        }
        if let (Some(directory), Some(prediction)) = (&self.maps, &inspection.prediction) {
            save(&directory.join(name.with_extension("png")), |file| write_map(file, prediction))?;
        }
        Ok(())
    }

    /// Writes the contact sheet of two overlays and more; says where it is.
    pub(super) fn finish(&self) -> anyhow::Result<Option<String>> {
        let (Some(directory), Some((pixels, size))) = (&self.overlays, self.sheet.draw()) else { return Ok(None) };
        let path = directory.join(SHEET);
        save(&path, |file| write_jpeg(file, &pixels, size))?;
        let (shown, of) = self.sheet.count();
        let which =
            if shown < of { format!("the {shown} highest scores of {of}") } else { format!("all {of} pictures") };
        Ok(Some(format!("contact sheet: {} ({which}; one picture each beside it)", path.display())))
    }
}

fn write_jpeg(file: &mut impl Write, pixels: &[u8], [width, height]: [u32; 2]) -> ImageResult<()> {
    JpegEncoder::new_with_quality(file, JPEG_QUALITY).encode(pixels, width, height, ExtendedColorType::Rgb8)
}

fn write_map(file: &mut impl Write, prediction: &Prediction) -> ImageResult<()> {
    let to_u16 = |value: &f32| (value.clamp(0.0, 1.0) * 65535.0).round() as u16;
    // The encoder takes 16-bit values in the byte order of this machine.
    let bytes: Vec<u8> = prediction.map.iter().flat_map(|value| to_u16(value).to_ne_bytes()).collect();
    let (width, height) = (prediction.width as u32, prediction.height as u32);
    PngEncoder::new(file).write_image(&bytes, width, height, ExtendedColorType::L16)
}

fn save(path: &Path, encode: impl FnOnce(&mut BufWriter<File>) -> ImageResult<()>) -> anyhow::Result<()> {
    let write = || {
        create_dir_all(path.parent().unwrap_or(Path::new("")))?;
        let mut file = BufWriter::new(File::create(path)?);
        encode(&mut file)?;
        anyhow::Ok(file.flush()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Each picture's path, relative to the folder that all `roots` (the paths given) have in common.
pub(super) fn names(roots: &[PathBuf], pictures: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let folders = roots.iter().map(|root| real_folder(root)).collect::<anyhow::Result<Vec<_>>>()?;
    let common = folders.iter().cloned().reduce(|a, b| common_folder(&a, &b)).unwrap_or_default();
    let name = |picture: &PathBuf| {
        let within = |(root, folder): (&PathBuf, &PathBuf)| match picture.strip_prefix(root).ok()? {
            rest if rest.as_os_str().is_empty() => Some(folder.join(picture.file_name()?)),
            rest => Some(folder.join(rest)),
        };
        let full = roots.iter().zip(&folders).find_map(within).unwrap_or_else(|| picture.clone());
        full.strip_prefix(&common).map_or_else(|_| picture.clone(), Path::to_path_buf)
    };
    Ok(pictures.iter().map(name).collect())
}

/// The folder that a path is, or that a file lies in, without links and dots.
fn real_folder(root: &Path) -> anyhow::Result<PathBuf> {
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = if root.is_dir() { root } else { parent };
    folder.canonicalize().with_context(|| format!("cannot open {}", folder.display()))
}

fn common_folder(a: &Path, b: &Path) -> PathBuf {
    a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(component, _)| component).collect()
}

/// No two pictures may write one file, and no file may be one of the pictures.
fn check(directory: &Path, extension: &str, names: &[PathBuf], pictures: &[PathBuf]) -> anyhow::Result<()> {
    let directory = directory.canonicalize().with_context(|| format!("cannot open {}", directory.display()))?;
    let read: HashSet<PathBuf> = pictures.iter().filter_map(|picture| picture.canonicalize().ok()).collect();
    let is_read = |target: &Path| target.canonicalize().is_ok_and(|target| read.contains(&target));
    let sheet = directory.join(SHEET);
    if extension == "jpg" && is_read(&sheet) {
        bail!("{} would be overwritten: write to another directory", sheet.display());
    }
    let mut writers: HashMap<PathBuf, &Path> = HashMap::new();
    for (name, picture) in names.iter().zip(pictures) {
        let target = directory.join(name.with_extension(extension));
        if target == sheet && extension == "jpg" {
            bail!("the overlay of {} would have the contact sheet's name: rename the picture", picture.display());
        }
        if is_read(&target) {
            bail!("{} would be overwritten: write to another directory", target.display());
        }
        if let Some(other) = writers.insert(target, picture).filter(|other| *other != picture) {
            bail!("{} and {} would write the same file: rename one", other.display(), picture.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_pictures_apart() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["a/x", "b"] {
            create_dir_all(at(folder)).unwrap();
        }
        let pictures = [at("a/0.png"), at("a/x/0.png"), at("b/0.png")];
        pictures.iter().for_each(|picture| drop(File::create(picture).unwrap()));
        let of = |roots: &[PathBuf], pictures: &[PathBuf]| -> Vec<String> {
            let names = names(roots, pictures).unwrap();
            names.iter().map(|name| name.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(of(&[at("a")], &pictures[..2]), ["0.png", "x/0.png"]);
        assert_eq!(of(&[at("a"), at("b")], &pictures), ["a/0.png", "a/x/0.png", "b/0.png"]);
        assert_eq!(of(&[at("b/0.png")], &pictures[2..]), ["0.png"]);
        let roots = [at("b/../a"), at("b/0.png")];
        assert_eq!(of(&roots, &[at("b/../a/0.png"), at("b/0.png")]), ["a/0.png", "b/0.png"]);
    }

    #[test]
    fn refuses_to_overwrite() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let pictures = [at("0.png"), at("0.bmp"), at("1.bmp")];
        pictures.iter().for_each(|picture| drop(File::create(picture).unwrap()));
        let outputs = |to: &str, pictures: &[PathBuf]| {
            let names = names(&[root.path().into()], pictures).unwrap();
            Outputs::new(None, Some(&at(to)), Layout::default(), &names, pictures)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        assert!(outputs("", &pictures[..1]).unwrap_err().contains("overwritten"));
        assert!(outputs("maps", &pictures[..2]).unwrap_err().contains("same file"));
        assert_eq!(outputs("", &pictures[2..]), Ok(()));
        let sheet = [at("contact-sheet.png")];
        drop(File::create(&sheet[0]).unwrap());
        let names = names(&[root.path().into()], &sheet).unwrap();
        let taken = Outputs::new(Some(&at("drawn")), None, Layout::default(), &names, &sheet);
        assert!(taken.map(drop).unwrap_err().to_string().contains("contact sheet's name"));
        assert_eq!(outputs("maps", &[pictures[0].clone(), pictures[0].clone()]), Ok(()));
    }
}
