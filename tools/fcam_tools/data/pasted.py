"""Made-up defects on good pictures. In: a good picture, another one, a generator. Out: the changed picture, its mask.

The pixels that were changed are known, so that a decoder learns outlines although none was drawn by hand. The
shapes are as general as can be, lines of a random walk and blobs of smoothed noise, of every size that a defect may
have; what happens inside them too: another tone, another place's texture, detail wiped or smeared away, a bump lit from
the side. Sources: CutPaste (Li et al., CVPR 2021), DRAEM (Zavrtanik et al., ICCV 2021), NSA (Schlüter et al., ECCV
2022). Real defects need not look like these: the seeds of the real ones are the other half of the lesson (methods.py).

The mask is the change itself, where it is more than a camera's noise. It refuses nothing: where no draw gives a visible
change of an allowed size, the picture comes back as it was, with an empty mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.float32]
Rng = np.random.Generator

VISIBLE = 5.0  # grey levels, mean of the channels, from which a changed pixel belongs to the mask
STRIKING = 9.0  # that one pixel of a defect must reach
LINES = 0.4  # share of lines; the rest are blobs
MARKED = 0.25  # share of defects that lie where fine marks are, and wipe or smear them
SMALLEST_WIPED = 0.002  # share of the picture, the area around wiped marks: less could be another mark's shape
DISPLACED = 3  # of nine or so kinds of change, where parts lie in one pose
TRIES = 8
SUPERSAMPLED = 4
BORDER = 8  # pixels around a shape in which its soft edge, shadow and surroundings lie


@dataclass(frozen=True)
class Paste:
    """How good pictures get defects."""

    share: float  # of the good pictures
    smallest: float  # share of the picture that a defect covers at least
    largest: float  # and at most
    placed: bool = False  # parts lie in one pose: a piece that lies a little off is a defect

    def __call__(self, rng: Rng, picture: Image, other: np.ndarray) -> tuple[Image, NDArray[np.bool_]]:
        """One defect on a picture; its texture comes from another one or from itself, turned and moved."""
        source = picture if rng.random() < 0.5 else other
        quarters = int(rng.integers(4)) if picture.shape[0] == picture.shape[1] else 2 * int(rng.integers(2))
        moved = (int(rng.integers(side // 8, side - side // 8)) for side in picture.shape[:2])
        texture = np.roll(np.rot90(source, quarters), tuple(moved), (0, 1)).astype(np.float32)
        return paste(rng, picture, texture, self.smallest, self.largest, self.placed)


@dataclass(frozen=True)
class Shape:
    """How much of each pixel a defect takes, in a window of the picture."""

    top: int
    left: int
    alpha: Image  # [h, w], 0..1
    reach: float  # half of the shape's width, pixels

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def onto(pictures: Tensor, good: NDArray[np.int64], others: Tensor, key: int, how: Paste) -> Tensor:
    """Defects on a share of the `good` rows of float pictures [n, H, W, 3], which change; bool [n, H, W].

    Textures come from `others` [N, H, W, 3], also where those are larger or defective. The draw depends on `key` alone.
    """
    masks = torch.zeros(pictures.shape[:3], dtype=torch.bool)
    height, width = pictures.shape[1:3]
    for row in good.tolist():
        rng = np.random.default_rng([key, row])
        if rng.random() < how.share:
            other = others[int(rng.integers(len(others))), :height, :width].cpu().numpy()
            changed, mask = how(rng, pictures[row].cpu().numpy(), other)
            pictures[row], masks[row] = torch.from_numpy(changed), torch.from_numpy(mask)
    return masks


def paste(
    rng: Rng, picture: Image, other: Image, smallest: float, largest: float, placed: bool = False
) -> tuple[Image, NDArray[np.bool_]]:
    """One defect on a picture [H, W, 3] of grey levels 0..255; its mask covers `smallest` to `largest` of the picture.

    `other` is a picture of the same size that textures are taken from.
    """
    mask, size = np.zeros(picture.shape[:2], bool), (picture.shape[0], picture.shape[1])
    marks = fine_marks(picture) if rng.random() < MARKED else None
    for attempt in range(TRIES):
        if marks is None or attempt >= TRIES // 2:  # a plain surface has nothing to wipe away
            shape = draw(rng, size, smallest, largest)
            kinds = [*kinds_of(shape), *([displaced] * DISPLACED if placed and shape.reach >= 3 else ())]
        else:
            shape = blob(rng, size, max(smallest, SMALLEST_WIPED), largest, place(rng, marks))
            kinds = [wiped, smeared]
        before = picture[shape.window]
        change = kinds[int(rng.integers(len(kinds)))](rng, before, other[shape.window], shape)
        after = np.clip(before + change, 0, 255)
        step = np.abs(after - before).mean(axis=2)
        own = closed(step) > VISIBLE
        if smallest <= own.sum() / mask.size <= largest and step.max() >= STRIKING:
            out = picture.copy()
            out[shape.window] = before + cv2.GaussianBlur(after - before, (0, 0), rng.uniform(0.3, 0.8))
            mask[shape.window] = own
            return np.clip(out, 0, 255), mask
    return picture, mask


def closed(step: Image) -> Image:
    """A replaced texture may agree with the old one here and there: a pixel's change is its neighbours', too."""
    return np.asarray(cv2.GaussianBlur(step, (0, 0), 0.7), np.float32)


def fine_marks(picture: Image) -> Image:
    """How much each pixel [H, W] stands out from its neighbourhood: print, engraving, grain."""
    gray = np.clip(picture.mean(axis=2), 0, 255).astype(np.uint8)
    marks = cv2.absdiff(gray, cv2.medianBlur(gray, 21)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(marks, (0, 0), 2), np.float32)


def place(rng: Rng, marks: Image) -> NDArray[np.float64]:
    """Row and column of a pixel, the more likely the more it stands out."""
    weights = marks.astype(np.float64).ravel() ** 2 + 1e-9
    at = int(rng.choice(weights.size, p=weights / weights.sum()))
    return np.array(divmod(at, marks.shape[1]), np.float64)


# Shapes.


def draw(rng: Rng, size: tuple[int, int], smallest: float, largest: float) -> Shape:
    shape = line(rng, size) if rng.random() < LINES else blob(rng, size, smallest, largest)
    if rng.random() < 0.2:  # worn: not everywhere as strong
        worn = np.clip(0.5 + 0.8 * noise(rng, shape.alpha.shape, rng.uniform(3, 20)), 0, 1)
        return Shape(shape.top, shape.left, shape.alpha * worn, shape.reach)
    return shape


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(max(low, high)))))


def noise(rng: Rng, size: tuple[int, ...], cell: float) -> Image:
    """Smooth noise of standard deviation about one, its waves about two cells long."""
    rows, columns = (max(2, int(side / cell) + 2) for side in size)
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def line(rng: Rng, size: tuple[int, int]) -> Shape:
    """Straight, bent or jagged, from hair-thin to 4 pixels, from a stub to most of the picture."""
    side = min(size)
    width, length = log_uniform(rng, 0.8, 4.0), log_uniform(rng, 0.03, 0.9) * side
    steps = max(4, int(length / 4))
    jagged = rng.normal(0, rng.choice([0.0, 0.08, 0.35]), steps).cumsum()
    turn = rng.uniform(0, 2 * np.pi) + jagged + np.linspace(-1, 1, steps) * rng.uniform(-0.6, 0.6)
    points = np.stack([np.cos(turn), np.sin(turn)], axis=1).cumsum(axis=0) * (length / steps)
    points += rng.uniform(0.1, 0.9, 2) * size[::-1] - points.mean(axis=0)
    low, high = window(points.min(axis=0)[::-1], points.max(axis=0)[::-1], size)
    extent = high - low
    canvas = np.zeros(extent * SUPERSAMPLED, np.float32)
    dots = np.round((points - low[::-1]) * SUPERSAMPLED * 16).astype(np.int32)
    cv2.polylines(canvas, [dots], False, 1.0, max(1, round(width * SUPERSAMPLED)), cv2.LINE_AA, 4)
    alpha = cv2.resize(canvas, (int(extent[1]), int(extent[0])), interpolation=cv2.INTER_AREA)
    return Shape(int(low[0]), int(low[1]), np.asarray(alpha, np.float32), width / 2)


def blob(
    rng: Rng, size: tuple[int, int], smallest: float, largest: float, center: NDArray[np.float64] | None = None
) -> Shape:
    """An ellipse with a rough outline, its edge from sharp to soft; around a place, or anywhere."""
    area = log_uniform(rng, smallest, largest * 0.6)
    reach = float(np.sqrt(area * size[0] * size[1] / np.pi))
    stretch = np.sqrt(log_uniform(rng, 1.0, 2.5))
    center = rng.uniform(0.05, 0.95, 2) * size if center is None else center
    low, high = window(center - 1.6 * stretch * reach, center + 1.6 * stretch * reach, size)
    y, x = np.mgrid[low[0] : high[0], low[1] : high[1]].astype(np.float32) - center.astype(np.float32)[:, None, None]
    turn = rng.uniform(0, np.pi)
    along, across = (x * np.cos(turn) + y * np.sin(turn)) / stretch, (y * np.cos(turn) - x * np.sin(turn)) * stretch
    rough = rng.uniform(0, 0.5) * reach * noise(rng, x.shape, max(3.0, reach * rng.uniform(0.4, 1.2)))
    edge = log_uniform(rng, 0.8, 0.7 * reach)
    alpha = np.clip((reach - np.hypot(along, across) + rough) / edge + 0.5, 0, 1)
    return Shape(int(low[0]), int(low[1]), alpha.astype(np.float32), reach)


def window(low: NDArray, high: NDArray, size: tuple[int, int]) -> tuple[NDArray, NDArray]:
    """Whole rows and columns from `low` to `high` with a border, inside the picture: never empty."""
    first = np.clip(np.floor(low) - BORDER, 0, np.subtract(size, 2 * BORDER))
    last = np.clip(np.ceil(high) + BORDER, first + 2 * BORDER, size)
    return first.astype(int), last.astype(int)


# What happens inside them.


Change = Callable[[Rng, Image, Image, Shape], Image]  # of a window's pixels [h, w, 3], in grey levels


def kinds_of(shape: Shape) -> list[Change]:
    """What may happen inside a shape of this width; what is listed twice is twice as likely."""
    if shape.reach < 3:
        return [tone, tone, tone, tone, tone, texture]
    if shape.reach < 6:
        return [tone, tone, tone, texture, wiped, relief]
    return [tone, tone, texture, wiped, relief, smeared]


def contrast(rng: Rng, before: Image, shape: Shape) -> float:
    """A contrast that stands out from the surface's own variation beside the shape."""
    gray = before.mean(axis=2)
    detail = (gray - cv2.GaussianBlur(gray, (0, 0), 3))[cv2.dilate(shape.alpha, np.ones((9, 9), np.uint8)) > 0.3]
    variation = float(detail.std()) if detail.size else 8.0
    return max(log_uniform(rng, 8, 110), rng.uniform(1.0, 2.5) * variation + 4)


def tone(rng: Rng, before: Image, other: Image, shape: Shape) -> Image:
    """Lighter or darker, grey or tinted; some with a shadow or a lit edge beside."""
    step, alpha = contrast(rng, before, shape), shape.alpha
    level = float((before.mean(axis=2) * alpha).sum() / max(1e-3, float(alpha.sum())))
    sign = -1.0 if level + step > 250 else 1.0 if level - step < 5 else float(rng.choice([-1.0, 1.0]))
    tint = rng.uniform(0.5, 1.5, 3) if rng.random() < 0.5 else np.ones(3)
    change = alpha
    if rng.random() < 0.3:
        change = alpha - 0.4 * np.roll(alpha, tuple(rng.integers(-2, 3, 2)), (0, 1)) * (1 - alpha)
    return (sign * step * change[..., None] * (tint / tint.mean())).astype(np.float32)


def texture(rng: Rng, before: Image, other: Image, shape: Shape) -> Image:
    """Pixels of another place, or of another picture."""
    return shape.alpha[..., None] * (other - before)


def wiped(rng: Rng, before: Image, other: Image, shape: Shape) -> Image:
    """Fine marks gone: the median of a neighbourhood, with a camera's noise."""
    side = int(rng.integers(3, 10)) * 4 + 1
    plain = cv2.medianBlur(np.clip(before, 0, 255).astype(np.uint8), side).astype(np.float32)
    return shape.alpha[..., None] * (plain + rng.normal(0, 2.5, before.shape).astype(np.float32) - before)


def smeared(rng: Rng, before: Image, other: Image, shape: Shape) -> Image:
    """Detail drawn out in one direction."""
    side = int(rng.integers(5, 15))
    kernel: Image = np.zeros((side, side), np.float32)
    kernel[side // 2] = 1
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(0, 180), 1.0)
    kernel = np.asarray(cv2.warpAffine(kernel, matrix, (side, side)), np.float32)
    return shape.alpha[..., None] * (cv2.filter2D(before, -1, kernel / (kernel.sum() + 1e-6)) - before)


def displaced(rng: Rng, before: Image, other: Image, shape: Shape) -> Image:
    """The piece itself, a little off or turned: each pixel of it is a good one of another place."""
    height, width = shape.alpha.shape
    turn = float(rng.choice([90.0, 180.0, 270.0])) if rng.random() < 0.3 else rng.uniform(-40, 40)
    way, far = rng.uniform(0, 2 * np.pi), log_uniform(rng, 1.5, max(3.0, shape.reach))
    right, down = (far * np.cos(way), far * np.sin(way)) if rng.random() < 0.7 else (0.0, 0.0)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn if not right or rng.random() < 0.3 else 0.0, 1.0)
    matrix[:, 2] += np.array([right, down])
    moved = cv2.warpAffine(before, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(shape.alpha[..., None] * (moved - before), np.float32)


def relief(rng: Rng, before: Image, other: Image, shape: Shape) -> Image:
    """A bump or a hollow, lit from one side: light on one flank, shade on the other."""
    height = cv2.GaussianBlur(shape.alpha, (0, 0), max(1.0, 0.35 * shape.reach))
    down, right = np.gradient(height)
    turn = rng.uniform(0, 2 * np.pi)
    slope = np.cos(turn) * right + np.sin(turn) * down
    shade = contrast(rng, before, shape) * slope / (np.abs(slope).max() + 1e-6)
    return np.repeat(shade[..., None], 3, axis=2).astype(np.float32)
