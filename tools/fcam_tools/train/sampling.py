"""The papers' own draws of seeds. In: activation maps [N, H, W] at the picture's resolution, 0..1. Out: int8 [N, H, W].

1 is foreground, 0 background, -1 unknown. Both draws are made anew every step and grow each drawn pixel to a square; a
pixel in two squares of different kinds is unknown, and a constant map gives no seeds.
- `OtsuDraw`: F-CAM (Belharbi et al., arXiv 2109.07069, section 3). Foreground uniformly from the pixels above Otsu's
  threshold, eroded, or not eroded where nothing is left; background uniformly from the lowest tenth.
- `ProbabilityDraw`: NEGEV (Belharbi et al., MIDL 2022): in proportion to the map, and to one minus the map.
They have the interface of `seeds.Draw`; of its two maps they read the fine one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class OtsuDraw:
    """F-CAM's: one pixel of each kind, 3 x 3 around it, erosion by 11 x 11."""

    foreground: int = 1
    background: int = 1
    kernel: int = 3
    lowest: float = 0.1  # share of the pixels that background is drawn from
    erode: int = 11
    erosions: int = 1
    support: float = 0.2  # as in seeds.Draw: not used to draw

    def __call__(self, coarse: Tensor, fine: Tensor, generator: torch.Generator) -> Tensor:
        levels = (fine * 255).to(torch.uint8)
        high = foreground_region(levels.cpu().numpy(), self.erode, self.erosions)
        low = lowest_region(fine, self.lowest)
        foreground = draw(torch.from_numpy(high).to(fine), self.foreground, generator)
        background = draw(low.to(fine), self.background, generator)
        varied = levels.flatten(1).amax(1) > levels.flatten(1).amin(1)
        return grown(foreground, background, self.kernel, varied)


@dataclass(frozen=True)
class ProbabilityDraw:
    """NEGEV's: one pixel of each kind, by the map's values."""

    foreground: int = 1
    background: int = 1
    kernel: int = 3
    support: float = 0.2

    def __call__(self, coarse: Tensor, fine: Tensor, generator: torch.Generator) -> Tensor:
        flat = fine.flatten(1)
        varied = flat.amax(1) > flat.amin(1)
        foreground = draw(fine, self.foreground, generator)
        return grown(foreground, draw(1 - fine, self.background, generator), self.kernel, varied)


def foreground_region(levels: np.ndarray, erode: int, times: int) -> np.ndarray:
    """Bool [N, H, W]: the pixels of uint8 maps above Otsu's threshold, eroded by a square as long as some are left."""
    region = np.zeros(levels.shape, np.uint8)
    for index, level in enumerate(levels):
        threshold, _ = cv2.threshold(level, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        high = (level > np.clip(threshold, 1, 254)).astype(np.uint8)
        # Beyond the border counts as foreground: a region that the picture cuts off is not eroded from there.
        eroded = cv2.erode(high, np.ones((erode, erode), np.uint8), iterations=times)
        region[index] = eroded if eroded.any() else high
    return region.astype(bool)


def lowest_region(maps: Tensor, share: float) -> Tensor:
    """Bool [N, H, W]: the `share` of each map's pixels with the lowest values."""
    flat = maps.flatten(1)
    lowest = flat.topk(max(1, int(flat.shape[1] * share)), dim=1, largest=False).indices
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, lowest, True).reshape(maps.shape)


def draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Bool [N, H, W]: `count` pixels a picture without replacement, by weight; none of weight zero."""
    flat = weights.flatten(1).float()
    safe = torch.where(flat.sum(1, keepdim=True) > 0, flat, torch.ones_like(flat)) + 1e-12
    chosen = torch.multinomial(safe, count, generator=generator)
    drawn = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, chosen, True)
    return (drawn & (flat > 0)).reshape(weights.shape)


def grown(foreground: Tensor, background: Tensor, kernel: int, varied: Tensor) -> Tensor:
    """Seeds of drawn pixels, each grown to a square of `kernel`; none in pictures that are not `varied` (bool [N])."""
    squares = torch.stack([foreground, background], dim=1).float()
    high, low = F.max_pool2d(squares, kernel, stride=1, padding=kernel // 2).bool().unbind(1)
    seeds = torch.full(foreground.shape, -1, dtype=torch.int8, device=foreground.device)
    seeds[low & ~high] = 0
    seeds[high & ~low] = 1
    seeds[~varied] = -1
    return seeds
