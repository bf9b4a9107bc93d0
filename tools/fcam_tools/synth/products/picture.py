"""One picture of a product. In: a seed, a split, a kind and a number. Out: the picture, and the mask of its defect.

The part is drawn twice from the same chances, with the defect and without it, in the same light and pose. A pixel is in
the mask if the two differ there by more than the camera's noise; the mask is then grown by one pixel, for the rim that
blur and noise hide. A defect that nobody could see, or one of more than 4 % of the picture, is drawn anew.
"""

from __future__ import annotations

import copy
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fcam_tools.common import disk
from fcam_tools.synth.products import GOOD, PRODUCTS, relight, shapes
from fcam_tools.synth.products.part import MARGIN, Fault, Part, Product
from fcam_tools.synth.surfaces import Image, Rng

SPLITS = ("train", "test")
SMALLEST, LARGEST = 0.0001, 0.04  # shares of the picture
QUALITY = 95
LEAST_SEEN = 2.0  # how many times its surroundings' variation and the noise a defect's strongest pixels differ
TRIES = 8


@dataclass(frozen=True)
class Item:
    """One picture to make."""

    seed: int
    split: str
    kind: str
    index: int
    product: str

    @property
    def stem(self) -> str:
        """A number alone: words such as `board_0001` would be read as names of parts (data/group.py)."""
        return f"{self.index:04d}"

    def rng(self) -> Rng:
        name, kind = zlib.crc32(self.product.encode()), zlib.crc32(self.kind.encode())
        return np.random.default_rng([self.seed, name, SPLITS.index(self.split), kind, self.index])


@dataclass(frozen=True)
class Shot:
    """`seen` and `twin` (without the defect) before noise, 0..1; the picture itself; the defect's mask."""

    picture: Image
    seen: Image
    twin: Image
    mask: Image
    noise: float

    @property
    def contrast(self) -> float:
        return float(np.abs(self.seen - self.twin).mean(axis=2)[self.mask].mean()) if self.mask.any() else 0.0


def shot(item: Item) -> Shot:
    rng = item.rng()
    material, chances, marks = rng.spawn(3)
    product = PRODUCTS[item.product]
    at = relight.view(chances, product.lamp)
    grains = int(material.integers(2**62))
    clean = made(product, grains, None)
    twin = relight.seen(clean, at)
    seen, mask = twin, np.zeros(twin.shape[:2], bool)
    if item.kind != GOOD:
        seen, mask = defective(product, item.kind, clean, grains, marks, at, twin)
    return Shot(relight.exposed(chances, seen, at.noise), seen, twin, mask, at.noise)


def defective(
    product: Product, kind: str, clean: Part, grains: int, rng: Rng, at: relight.View, twin: Image
) -> tuple[Image, Image]:
    """The first of some tries that can be seen and is of legal size, else the one that shows most."""
    best: tuple[float, Image, Image] | None = None
    size, strength = rng.uniform(0, 1, 2)
    for attempt in range(TRIES):
        fault = Fault(kind, np.random.default_rng(rng.integers(2**62)), size, min(1.0, strength + 0.08 * attempt))
        seen = relight.seen(spoilt(product, clean, grains, fault), at)
        mask = changed(seen, twin, at.noise)
        shows = visibility(seen, twin, mask, at.noise)
        if shows >= LEAST_SEEN and SMALLEST <= mask.mean() <= LARGEST:
            return seen, mask
        shows = shows if SMALLEST <= mask.mean() <= LARGEST else 0.0
        if best is None or shows > best[0]:
            best = (shows, seen, mask)
        size = size * 0.8 if mask.mean() > LARGEST else min(1.0, size + 0.06)
    assert best is not None
    return best[1:]


def made(product: Product, grains: int, fault: Fault | None) -> Part:
    rng = np.random.default_rng(grains)
    part = product.build(rng, fault)
    dust(rng, part)
    return part


def spoilt(product: Product, clean: Part, grains: int, fault: Fault) -> Part:
    """The part with the defect: marked, or built anew."""
    if fault.kind not in product.marks:
        return made(product, grains, fault)
    part = copy.deepcopy(clean)
    product.marks[fault.kind](part, fault)
    return part


def dust(rng: Rng, part: Part) -> None:
    """Specks of two pixels and less, which are no defect."""
    for _ in range(int(rng.integers(2, 16))):
        drawn, (x, y) = shapes.blank(), rng.uniform(0, 1, 2) * part.body.shape[::-1] - MARGIN
        shapes.disk(drawn, (x, y), rng.uniform(0.5, 0.95))
        left, top = max(0, int(x + MARGIN) - 3), max(0, int(y + MARGIN) - 3)
        near = slice(top, top + 8), slice(left, left + 8)
        speck = shapes.share(drawn[near]) * rng.uniform(0.2, 0.7)
        part.albedo[near] = shapes.painted(part.albedo[near], speck, [rng.choice([0.08, 0.6])] * 3)


def changed(seen: Image, twin: Image, noise: float) -> Image:
    over = np.abs(seen - twin).max(axis=2) > noise
    return cv2.dilate(over.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def visibility(seen: Image, twin: Image, mask: Image, noise: float) -> float:
    """The change of the strongest fifth of the mask, beside noise and the surroundings' own detail."""
    if not mask.any():
        return 0.0
    grey = twin.mean(axis=2)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), 3)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    change = np.abs(seen - twin).mean(axis=2)[mask]
    strong = np.sort(change)[-max(8, len(change) // 5) :].mean()
    return float(strong / np.hypot(noise, 0.7 * np.median(np.abs(detail[near])) / 0.67))


def write(item: Item, out: Path) -> dict:
    """Makes one picture and writes it; returns its row of the index."""
    cv2.setNumThreads(1)
    made = shot(item)
    path = out / item.split / item.kind / f"{item.stem}.jpg"
    with disk.writing(path):
        path.write_bytes(encoded(".jpg", made.picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY]))
        if item.kind != GOOD:
            mask = out / "ground_truth" / item.split / item.kind / f"{item.stem}_mask.png"
            mask.write_bytes(encoded(".png", made.mask.astype(np.uint8) * 255))
    return {
        "path": str(path.relative_to(out)),
        "class": item.kind,
        "surface": item.product,
        "area": f"{made.mask.mean():.6f}",
        "contrast": f"{made.contrast:.4f}",
    }


def encoded(suffix: str, pixels: Image, options: tuple | list = ()) -> bytes:
    return cv2.imencode(suffix, pixels, options)[1].tobytes()
