"""Made-up defects to judge by where nobody has seen a reject. In: a data set of good pictures alone. Out: the same,
with one defective picture for each good one of val and test.

Thresholds, golden pictures and figures need both sides. What is made up here is of the same kind as what the network
learns from (pasted.py), on parts that it has not seen: figures on it show that the network has learnt, and nothing of
what escapes on a line. Every report of such a figure says so (judgement.py).

A made-up picture is a function of the good one's bytes alone. It lies in the user's cache under their hash, with its
mask beside it, where truth.py looks: every verb that loads the data set finds it there, or makes it again.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit, logit

from fcam_tools import data
from fcam_tools.common import disk
from fcam_tools.common.errors import ToolError
from fcam_tools.data import Dataset, Picture, pasted
from fcam_tools.data.reading import open_rgb, unreadable

log = logging.getLogger(__name__)

VERSION = 1  # of what is drawn: another draws anew
SMALLEST, LARGEST = 0.0001, 0.01  # shares of the picture that a defect covers
TRIES = 16
FALSE_REJECT = 0.05  # unless told: a rarer one takes a margin that few held-out pictures make too wide to catch much
LEAST_GOOD_THRESHOLD = 0.1  # engines agree on a score to 0.05, and golden pictures lie beyond

Pixels = NDArray[np.uint8]


def load(source: str, ok_needed: bool = False) -> Dataset:
    """`data.load`, good pictures alone included: those get their made-up defects."""
    return with_defects(data.load(source, ok_needed, good_alone=True))


def with_defects(dataset: Dataset) -> Dataset:
    """The data set; one of good pictures alone with a made-up defective picture for each held-out one."""
    if not dataset.good_alone:
        return dataset
    held_out = {split: (*dataset.splits[split], *spoilt(dataset.splits[split])) for split in ("val", "test")}
    return replace(dataset, splits=dataset.splits | held_out)


def refuse_prices(dataset: Dataset) -> None:
    """Prices weigh escapes, which made-up defects do not tell."""
    if dataset.good_alone:
        raise ToolError(
            f"{dataset.root} has good pictures alone: nothing says what escapes, so no price can choose a threshold; "
            "leave out --escape-cost, --reject-cost and --ng-rate (`train --false-reject` sets the threshold)"
        )


def good_threshold(good: np.ndarray, false_reject: float) -> float:
    """The score that at most `false_reject` of good pictures reach, from the scores [n] of held-out good ones alone.

    With n pictures no rate below 1 / (n + 1) can be promised by counting. Where counting suffices, it is the score that
    `false_reject` x (n + 1) of them reach, by which a new picture's chance to reach it is `false_reject` at most
    (conformal prediction). Where it does not, it is the highest score and a margin: what lies above the median of the
    log-odds is taken to fall exponentially, so that it takes `spread` x ln(1 / ((n + 1) x `false_reject`)) more from
    the highest one to the wanted rate, `spread` being their mean excess over the median (Weissman, JASA 1978).
    """
    if not len(good):
        return 0.5
    odds = np.sort(logit(np.clip(good.astype(np.float64), 1e-6, 1 - 1e-6)))[::-1]
    allowed = max(false_reject, 1e-4) * (len(odds) + 1)
    if allowed >= 1:
        least = odds[min(math.floor(allowed), len(odds)) - 1] + 1e-6
    else:
        upper = odds[: max(1, len(odds) // 2)]
        least = odds[0] + float((upper - np.median(odds)).mean()) * math.log(1 / allowed)
    return float(np.clip(expit(least), LEAST_GOOD_THRESHOLD, 0.999))


def counted(good: int, false_reject: float) -> str:
    """How `good_threshold` comes to its threshold, for the manifest."""
    how = "by counting" if false_reject * (good + 1) >= 1 else "too few to count: their highest score and a margin"
    return f"for {false_reject:g} of good parts rejected, from {good} good val pictures alone, {how}"


def folder() -> Path:
    """Where made-up pictures lie; a bundle's samples are named after this folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "fcam-tools" / f"v{VERSION}" / "made-up"


def spoilt(pictures: Sequence[Picture]) -> Iterator[Picture]:
    """A made-up defective picture for each; none where no draw shows."""
    place, bare = folder(), 0
    for picture in pictures:
        key = key_of(picture.path)
        path = place / f"{key.hex()[:32]}.png"
        if not path.is_file() and not write(path, picture.path, key):
            bare += 1
            continue
        yield Picture(path, 1)
    if bare and bare == len(pictures):
        raise ToolError(
            f"no made-up defect shows on {pictures[0].path}, nor on any other held-out picture: give pictures that are "
            f"{2 * pasted.BORDER} pixels wide and high at least, and neither black nor white"
        )
    if bare:
        log.warning("on %d of %d held-out pictures no made-up defect shows: they get none", bare, len(pictures))


def key_of(picture: Path) -> bytes:
    try:
        return hashlib.sha256(picture.read_bytes()).digest()
    except OSError as error:
        raise unreadable(picture, error) from error


def write(path: Path, picture: Path, key: bytes) -> bool:
    """The picture with a defect and, first, its mask; false where there is nothing to show."""
    drawn = draw(np.asarray(open_rgb(picture)), key)
    if drawn is None:
        return False
    for content, out in ((drawn[1], path.with_name(f"{path.stem}_mask.png")), (drawn[0], path)):
        aside = out.with_name(f"{os.getpid()}-{out.name}")  # several processes of one training make the same
        disk.write(aside, disk.png(Image.fromarray(content)))
        aside.replace(out)
    return True


def draw(pixels: Pixels, key: bytes) -> tuple[Pixels, NDArray[np.bool_]] | None:
    """A picture [H, W, 3] with a defect, grey [H, W] if it was, and the defect's mask [H, W]; None if no draw shows."""
    if min(pixels.shape[:2]) < 2 * pasted.BORDER:
        return None
    rng, before = np.random.default_rng(list(key)), pixels.astype(np.float32)
    grey = bool((pixels == pixels[..., :1]).all())
    paste = pasted.Paste(1.0, SMALLEST, LARGEST)
    for _ in range(TRIES):
        after, mask = paste(rng, before, before)
        if grey:
            after = np.repeat(after.mean(axis=2, keepdims=True), 3, axis=2)
        out = np.rint(np.clip(after, 0, 255)).astype(np.uint8)
        step = np.abs(out - before).mean(axis=2)
        if mask.any() and step[mask].max() >= pasted.STRIKING:
            return out[..., 0] if grey else out, mask
    return None
