"""Pictures and masks from files. In: paths. Out: uint8 RGB pixels at the asked size, marked pixels, or an error that
names the file.

Pixels are where they are in the file: an orientation in EXIF or TIFF tags is not applied, because the camera does not
apply it either. It refuses what a camera could never send, and what would be converted in silence: files that are no
pictures, cut ones, more than 8 bits a channel, CMYK.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image
from tqdm import tqdm

from fcam_tools.common.errors import ToolError
from fcam_tools.data.dataset import Picture

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
PNG_SIGNATURE, PNG_DEPTH_AT = b"\x89PNG\r\n\x1a\n", 24  # IHDR's bit depth
TIFF_SIGNATURES, TIFF_DEPTH = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), 258  # BitsPerSample


ORIENTATION, ON_THEIR_SIDE = ExifTags.Base.Orientation, (5, 6, 7, 8)
COLOURED = ("RGB", "RGBA", "RGBX", "LA", "PA", "RGBa", "La")


def opened(path: Path) -> Image.Image:
    """A picture that is not decoded yet, and will not be turned. Pillow turns TIFF files alone, by their tag; those
    that it maps into memory come out scrambled then (13.0.0)."""
    picture = Image.open(path)
    if picture.format == "TIFF":
        if picture.tag_v2.get(ORIENTATION) in ON_THEIR_SIDE:  # type: ignore[attr-defined]
            picture._size = picture.size[::-1]  # its sides were swapped when it was opened
        picture.getexif()[ORIENTATION] = 1
    return picture


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of the stored picture."""
    try:
        with opened(path) as picture:
            return picture.size
    except Exception as error:  # Pillow's plugins raise whatever a broken file makes them
        raise unreadable(path, error) from error


def stored(path: Path, what: str = "") -> Image.Image:
    """A whole picture, decoded, with its pixels where they are in the file. `what` names it in errors."""
    try:
        with opened(path) as picture:
            picture.load()
            return picture
    except Exception as error:  # as above
        raise unreadable(path, error, what) from error


def unreadable(path: Path, error: Exception, what: str = "") -> ToolError:
    if path.is_symlink() and not path.exists():
        return ToolError(f"cannot read {what}{path}: it is a link to {path.readlink()}, which is not there; remove it")
    return ToolError(f"cannot read {what}{path}: {error}; remove or replace it")


def is_deep(path: Path) -> bool:
    """True for more than 8 bits a channel, of which Pillow may keep the upper halves alone."""
    with path.open("rb") as file:
        head = file.read(PNG_DEPTH_AT + 1)
    if head.startswith(TIFF_SIGNATURES):
        with Image.open(path) as picture:
            return int(np.max(picture.tag_v2.get(TIFF_DEPTH, 8))) > 8  # type: ignore[attr-defined]
    return head.startswith(PNG_SIGNATURE) and head[PNG_DEPTH_AT] == 16


def refuse_mode(picture: Image.Image, path: Path) -> None:
    if picture.mode.startswith(("I", "F")) or is_deep(path):
        raise ToolError(f"{path} has more than 8 bits a channel: convert it to 8")
    if picture.mode in ("CMYK", "LAB"):
        raise ToolError(f"{path} is {picture.mode}, made for print: convert it to RGB, as the camera sends it")


def open_rgb(path: Path) -> Image.Image:
    """A whole picture, decoded, as RGB."""
    picture = stored(path)
    refuse_mode(picture, path)
    return picture.convert("RGB")


def marks_in(path: Path) -> np.ndarray:
    """The marks of a mask, bool [height, width]: whatever is neither black nor transparent, at any depth; in a palette,
    whatever is not its first colour, or not its black one where the first is none."""
    mask = stored(path, "the mask ")
    if mask.mode == "P":
        return marked_indices(mask)
    values = np.asarray(mask if mask.mode not in ("CMYK", "LAB", "HSV") else mask.convert("RGB"))
    if mask.mode in COLOURED and is_deep(path):
        values = deep_colours(path)
    if values.ndim == 2:
        return np.asarray(values != 0)
    has_alpha = values.shape[2] in (2, 4) and mask.mode != "RGBX"
    colours = values[..., :-1] if has_alpha or mask.mode == "RGBX" else values
    marked = colours.any(axis=2)
    return np.asarray(marked & (values[..., -1] > 0) if has_alpha else marked)


def deep_colours(path: Path) -> np.ndarray:
    """The values of a PNG of 16 bits, [height, width, channels]; other formats are refused."""
    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or path.suffix.lower() != ".png":
        raise ToolError(f"{path} has colours of more than 8 bits: convert it to 8, or to grey")
    return values


def marked_indices(mask: Image.Image) -> np.ndarray:
    indices = np.asarray(mask)
    palette = np.zeros((256, 3), np.uint8)
    colours = np.asarray(mask.getpalette("RGB"), np.uint8).reshape(-1, 3)[:256]
    palette[: len(colours)] = colours
    black = np.logical_not(palette.any(axis=1))
    if black[0] or not black[indices].any():
        return np.asarray(indices != 0)
    return np.asarray(~black[indices])


def read_picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    """One picture as the camera would see it: uint8 [height, width, 3], resized by anti-aliased bilinear filter."""
    return np.array(open_rgb(path).resize(size, Image.Resampling.BILINEAR))


def read_pictures(pictures: Sequence[Picture], size: tuple[int, int], progress: bool = True) -> np.ndarray:
    """Pictures in memory: uint8 [N, height, width, 3]."""
    out = np.empty((len(pictures), size[1], size[0], 3), np.uint8)

    def read(index: int) -> None:
        out[index] = read_picture(pictures[index].path, size)

    with ThreadPoolExecutor() as pool:
        bar = tqdm(pool.map(read, range(len(pictures))), "reading", len(pictures), unit="picture", disable=not progress)
        for _ in bar:
            pass
    return out


def pictures_in(folder: Path) -> list[Path]:
    """Picture files right in a folder, sorted."""
    return sorted(path for path in folder.iterdir() if is_picture(path))


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
