"""Pictures that are copies of others. In: pictures. Out: exact and near copies, and the refusal of those across splits.

A picture learnt from and judged on is a leak: every figure after it is too good. Exact copies have the same bytes. Near
copies (encoded anew, resized, brightened, shot twice) pass two tests, both on the grey picture:

1. dHash, the signs of neighbours' differences in a 17 x 16 thumbnail (256 bits): at most `FAR` bits apart,
2. the detail of a 64 x 64 thumbnail (less its blur, clipped) correlates by `ALIKE` or more. A camera at a fixed place
   sees the same outlines in every picture, so what the set shares is taken out first: its mean and its first principal
   components, one for every `PER_COMPONENT` pictures and `COMPONENTS` at most.

Crops and shifts are not found.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from fcam_tools.common import program
from fcam_tools.common.errors import ToolError
from fcam_tools.data.dataset import SPLITS, Dataset, Picture
from fcam_tools.data.reading import open_rgb

log = logging.getLogger(__name__)

FAR = 24  # bits of 256
ALIKE = 0.96
COMPONENTS, PER_COMPONENT = 8, 50
LEARNT_FROM = 500  # pictures that the components are computed on, evenly taken
SIDE, BLUR, CLIP = 64, 3.0, 24.0
FLAT = 0.5  # grey levels of detail under which a picture has none to compare
NAMED = 5  # pairs in an error message


@dataclass(frozen=True)
class Print:
    """What two pictures are compared by: the bytes' hash, the dHash, the thumbnail."""

    path: Path
    digest: bytes
    bits: np.ndarray  # uint64 [4], the dHash
    detail: np.ndarray  # float16 [SIDE * SIDE]
    size: tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """Two pictures that are one; `exact` if their bytes are the same."""

    first: Path
    second: Path
    exact: bool


def print_of(path: Path) -> Print:
    picture = open_rgb(path)
    grey = picture.convert("F")
    small = np.asarray(grey.resize((17, 16), Image.Resampling.BILINEAR))
    bits = np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)
    thumbnail = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    detail = np.clip(thumbnail - cv2.GaussianBlur(thumbnail, (0, 0), BLUR), -CLIP, CLIP)
    digest = hashlib.sha256(path.read_bytes()).digest()
    return Print(path, digest, bits, (detail - detail.mean()).astype(np.float16).ravel(), picture.size)


def prints_of(paths: Sequence[Path], progress: bool) -> tuple[list[Print], dict[Path, str]]:
    """Prints of the pictures that can be read, here and by the camera, and why the others cannot."""
    prints, broken = [], {}

    def attempt(path: Path) -> Print | ToolError:
        try:
            return print_of(path)
        except ToolError as error:
            return error

    with ThreadPoolExecutor() as pool:
        bar = tqdm(pool.map(attempt, paths), "comparing", len(paths), unit="picture", disable=not progress)
        for path, found in zip(paths, bar, strict=True):
            if isinstance(found, Print):
                prints.append(found)
            else:
                broken[path] = str(found)
    damaged = program.refused([one.path for one in prints], progress)
    broken |= {path: f"the camera {problem}; remove or replace it" for path, problem in damaged.items()}
    return [one for one in prints if one.path not in damaged], broken


def copies(prints: Sequence[Print]) -> list[Pair]:
    """All pairs of exact and near copies, in the order of the pictures."""
    if len(prints) < 2:
        return []
    rows = near_hashes(np.stack([p.bits for p in prints]))
    detail = uncommon(np.stack([p.detail for p in prints]).astype(np.float32)) if len(rows) else None
    out = []
    for first, second in rows:
        exact = prints[first].digest == prints[second].digest
        if exact or (detail is not None and float(detail[first] @ detail[second]) >= ALIKE):
            out.append(Pair(prints[first].path, prints[second].path, exact))
    return out


def near_hashes(bits: np.ndarray, block: int = 256) -> np.ndarray:
    """Indices [N, 2] of hashes at most `FAR` bits apart, the lower first. `bits` is uint64 [N, 4]."""
    found = []
    for start in range(0, len(bits), block):
        apart = np.bitwise_count(bits[start : start + block, None] ^ bits[None, start:]).sum(axis=2, dtype=np.uint16)
        rows, columns = np.nonzero(apart <= FAR)
        found.append(np.stack([rows, columns], axis=1)[columns > rows] + start)
    return np.concatenate(found)


def uncommon(detail: np.ndarray) -> np.ndarray:
    """Unit vectors [N, pixels] of what is a picture's own; zeros for one without any detail."""
    flat = detail.std(axis=1) < FLAT
    count = min(COMPONENTS, len(detail) // PER_COMPONENT)
    if count:
        sample = detail[:: -(-len(detail) // LEARNT_FROM)]
        mean = sample.mean(axis=0)
        axes = np.linalg.svd(sample - mean, full_matrices=False)[2][:count]
        detail = detail - mean
        detail = detail - (detail @ axes.T) @ axes
    length = np.linalg.norm(detail, axis=1, keepdims=True)
    return np.where(flat[:, None] | (length == 0), 0, detail / np.maximum(length, 1e-6))


def across(dataset: Dataset, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs whose pictures are in two splits."""
    split = {picture.path: name for name in SPLITS for picture in dataset.splits[name]}
    return [pair for pair in pairs if split[pair.first] != split[pair.second]]


def readable(pictures: Sequence[Picture], progress: bool) -> list[Print]:
    """Prints of all the pictures; refuses one that cannot be read."""
    prints, broken = prints_of([picture.path for picture in pictures], progress)
    if broken:
        raise ToolError(next(iter(broken.values())))
    return prints


def tied(pictures: Sequence[Picture], progress: bool) -> list[Picture]:
    """The pictures, copies of each other in one group, with whatever shared a group with them: a split that divides no
    group has no leak."""
    found = copies(readable(pictures, progress))
    own = {picture.path: picture.group or str(picture.path) for picture in pictures}
    above: dict[str, str] = {}

    def top(key: str) -> str:
        while key in above:
            key = above[key]
        return key

    for pair in found:
        first, second = sorted((top(own[pair.first]), top(own[pair.second])))
        if first != second:
            above[second] = first
    joined = {top(own[path]) for pair in found for path in (pair.first, pair.second)}
    if joined:
        log.warning("%d pairs of pictures are copies: each pair is kept together", len(found))
    return [
        replace(picture, group=f"copies:{top(own[picture.path])}") if top(own[picture.path]) in joined else picture
        for picture in pictures
    ]


def add_leak_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--allow-leaks", action="store_true", help="go on though pictures in two splits are copies")


def refuse_leaks(dataset: Dataset, allow: bool, progress: bool) -> None:
    """Refuses a set with copies across its splits, naming them; with `allow` it says so and goes on."""
    prints = readable(dataset.pictures(), progress)
    leaks = across(dataset, copies(prints))
    if not leaks:
        return
    told = told_leaks(leaks)
    if not allow:
        raise ToolError(
            f"{told}; keep one of each pair, or put both in one split (name them after their part: part_0001_a, "
            "part_0001_b), or say --allow-leaks if they are different parts that merely look alike"
        )
    log.warning("WARNING, --allow-leaks: %s; whatever is measured on this set is too good to be true", told)


def told_leaks(leaks: Sequence[Pair]) -> str:
    names = "; ".join(f"{p.first} and {p.second}{' (same bytes)' * p.exact}" for p in leaks[:NAMED])
    more = f", and {len(leaks) - NAMED} more pairs" if len(leaks) > NAMED else ""
    return f"{len(leaks)} pair{'s' * (len(leaks) > 1)} of copies in two splits: {names}{more}"
