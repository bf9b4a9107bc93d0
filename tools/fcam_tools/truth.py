"""Ground truth. In: a data set's masks. Out: boolean masks at the network's size.

The masks `DATA/ground_truth/<split>/<class>/<stem>_mask.png` are read here and nowhere else: by what scores a network,
and by what was told to choose with pixel labels. Training cannot reach them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fcam_tools import data

# What a pixel of the network's input must be covered by a defect to count as one: less than half, because a scratch of
# one pixel in the picture is half a pixel here and would vanish.
COVERED = 0.25


@dataclass(frozen=True)
class Truth:
    """Labels and masks of one split, at the network's size."""

    pictures: tuple[data.Picture, ...]
    masks: Path
    classes: tuple[str, ...]
    size: tuple[int, int]

    def mask(self, picture: data.Picture) -> np.ndarray | None:
        if picture.label == 0:
            return None
        path = self.masks / self.classes[picture.label] / f"{picture.path.stem}_mask.png"
        if not path.is_file():
            return None
        with Image.open(path) as mask:
            covered = cv2.resize(
                np.asarray(mask.convert("L"), np.float32) / 255, self.size, interpolation=cv2.INTER_AREA
            )
        found = covered >= COVERED
        return found if found.any() else covered >= covered.max()

    @property
    def has_masks(self) -> bool:
        return any(self.mask(picture) is not None for picture in self.pictures)


def truth_of(
    dataset: data.Dataset, split: str, size: tuple[int, int], pictures: tuple[data.Picture, ...] | None = None
) -> Truth:
    """Of a whole split, or of some of its pictures."""
    chosen = dataset.splits[split] if pictures is None else pictures
    return Truth(chosen, dataset.root / "ground_truth" / split, dataset.classes, size)
