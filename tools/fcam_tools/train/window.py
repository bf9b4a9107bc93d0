"""Windows of training pictures. In: pictures, their maps and masks. Out: the same, cut to where there is most to learn.

A defect of a thousandth of a picture leaves 999 pixels that say nothing new, and a decoder sees no farther than its
features do: a quarter of the picture costs a quarter of the time. A window lies on the grid of the deepest features:
there they are what they are in the whole picture, but for its border. It holds a pixel of the pasted defect, or one
that the activation maps show; of a plain good picture, any place.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

GRID = 16  # pixels; a multiple of the maps' stride
STRIDE = 4  # of the maps


def cut(
    pixels: Tensor, maps: Tensor, masks: Tensor | None, side: int, key: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Windows of `side` from pixels [n, H, W, 3], maps [n, H/4, W/4, 2] and masks [n, H, W]; drawn from `key` alone."""
    corners = []
    for row in range(len(pixels)):
        rng = np.random.default_rng([key, row, side])
        seen = chosen(rng, maps[row], None if masks is None else masks[row])
        corners.append([start(rng, length, side, at) for length, at in zip(pixels.shape[1:3], seen, strict=True)])

    def windows(values: Tensor, unit: int) -> Tensor:
        size = side // unit
        rows = zip(values, corners, strict=True)
        return torch.stack([v[top // unit :, left // unit :][:size, :size] for v, (top, left) in rows])

    return windows(pixels, 1), windows(maps, STRIDE), None if masks is None else windows(masks, 1)


def chosen(rng: np.random.Generator, maps: Tensor, mask: Tensor | None) -> tuple[int | None, int | None]:
    """Row and column of a pixel to look at; none where any place will do."""
    weights, unit = maps[..., 1].cpu().double().numpy() ** 2, STRIDE
    if mask is not None and mask.any():
        weights, unit = mask.cpu().double().numpy(), 1
    total = float(weights.sum())
    if total <= 0:
        return None, None
    at = int(rng.choice(weights.size, p=weights.ravel() / total))
    return at // weights.shape[1] * unit, at % weights.shape[1] * unit


def start(rng: np.random.Generator, length: int, side: int, at: int | None) -> int:
    """Where a window of `side` begins on a picture's side of `length`: on the grid, with the pixel `at` inside."""
    starts = range(0, max(0, length - side) + 1, GRID)
    near = [first for first in starts if at is None or first <= at < first + side]
    return int(rng.choice(near or starts[-1:]))  # a picture off the grid ends where no window reaches
