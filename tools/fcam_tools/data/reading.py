"""Pictures from files. In: paths. Out: uint8 RGB pixels at the asked size, or an error that names the file.

It refuses what a camera could never send, and what would be converted in silence: files that are no pictures, cut ones,
more than 8 bits a channel, CMYK.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from fcam_tools.data.dataset import Picture
from fcam_tools.errors import ToolError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
PNG_SIGNATURE, PNG_DEPTH_AT = b"\x89PNG\r\n\x1a\n", 24  # IHDR's bit depth: Pillow halves 16-bit colours unasked


def refuse_mode(picture: Image.Image, path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(PNG_DEPTH_AT + 1)
    deep_png = head.startswith(PNG_SIGNATURE) and head[PNG_DEPTH_AT] == 16
    if picture.mode.startswith(("I", "F")) or deep_png:
        raise ToolError(f"{path} has more than 8 bits a channel: convert it to 8")
    if picture.mode in ("CMYK", "LAB"):
        raise ToolError(f"{path} is {picture.mode}, made for print: convert it to RGB, as the camera sends it")


def open_rgb(path: Path) -> Image.Image:
    """A whole picture, decoded, as RGB."""
    try:
        with Image.open(path) as picture:
            refuse_mode(picture, path)
            return picture.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ToolError(f"cannot read {path}: {error}; remove or replace it") from error


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
