"""Outlines with smooth edges, and noise. In: places in the picture's pixels. Out: maps of part.py's SHAPE, 0..1."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from fcam_tools.synth.products.part import MARGIN, SHAPE
from fcam_tools.synth.surfaces import Image, Rng

FINE = 4  # bits of a pixel's fraction in OpenCV's drawing
Point = tuple[float, float]
Points = Sequence[Point] | Sequence[Image] | Image


def fixed(points: Points) -> Image:
    return np.round((np.asarray(points, np.float64) + MARGIN) * (1 << FINE)).astype(np.int32)


def blank() -> Image:
    return np.zeros(SHAPE, np.uint8)


def share(drawn: Image) -> Image:
    return drawn.astype(np.float32) / 255


@functools.lru_cache(maxsize=1)
def places() -> tuple[Image, Image]:
    """x and y of every pixel. Read only."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32) - MARGIN
    return x, y


def around(center: Point) -> tuple[Image, Image]:
    """Distance from a point, and angle around it in radians."""
    x, y = places()
    return np.hypot(x - center[0], y - center[1]), np.arctan2(y - center[1], x - center[0])


def disk(drawn: Image, center: Point, radius: float, value: int = 255) -> None:
    at = fixed([center])[0].tolist()
    cv2.circle(drawn, at, max(1, round(radius * (1 << FINE))), value, -1, cv2.LINE_AA, FINE)


def polygon(drawn: Image, points: Points, value: int = 255) -> None:
    cv2.fillPoly(drawn, [fixed(points)], value, cv2.LINE_AA, FINE)


def corners(center: Point, size: Point, angle: float = 0.0, rounded: float = 0.0) -> Image:
    """The outline of a box, turned by `angle` degrees, its corners rounded."""
    half = np.array(size) / 2 - rounded
    turns = np.linspace(0, np.pi / 2, 6 if rounded else 1)
    points = []
    for quarter, (sx, sy) in enumerate([(1, 1), (-1, 1), (-1, -1), (1, -1)]):
        arc = turns + quarter * np.pi / 2
        points.append(half * (sx, sy) + rounded * np.stack([np.cos(arc), np.sin(arc)], 1))
    return np.vstack(points) @ turning(angle).T + center


def turning(angle: float) -> Image:
    turn = np.deg2rad(angle)
    return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])


def box(drawn: Image, center: Point, size: Point, angle: float = 0.0, rounded: float = 0.0, value: int = 255) -> None:
    polygon(drawn, corners(center, size, angle, rounded), value)


def line(drawn: Image, points: Points, width: float, value: int = 255) -> None:
    """A line of any width from 1 pixel; round(width * 4) is drawn, a quarter of that is meant."""
    path = np.asarray(points, np.float64)
    low = np.floor(path.min(0) - width - 2).astype(int)
    high = np.ceil(path.max(0) + width + 2).astype(int)
    big = np.zeros(((high[1] - low[1]) * 4, (high[0] - low[0]) * 4), np.uint8)
    cv2.polylines(big, [np.round((path - low) * 4).astype(np.int32)], False, value, max(1, round(width * 4)))
    paste(drawn, cv2.resize(big, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), low + MARGIN)


def paste(drawn: Image, small: Image, corner: Image) -> None:
    """The brighter of both, where `small` lies in `drawn`."""
    x0, y0 = np.maximum(corner, 0)
    x1 = min(corner[0] + small.shape[1], drawn.shape[1])
    y1 = min(corner[1] + small.shape[0], drawn.shape[0])
    if x0 < x1 and y0 < y1:
        inner = small[y0 - corner[1] : y1 - corner[1], x0 - corner[0] : x1 - corner[0]]
        np.maximum(drawn[y0:y1, x0:x1], inner, out=drawn[y0:y1, x0:x1])


def text(drawn: Image, words: str, at: Point, scale: float, width: int = 1, value: int = 255) -> None:
    """Letters from their lower left corner, whose stroke is at least one pixel."""
    origin = (round(at[0] + MARGIN), round(at[1] + MARGIN))
    cv2.putText(drawn, words, origin, cv2.FONT_HERSHEY_DUPLEX, scale, value, width, cv2.LINE_AA)


def soft(mask: Image, sigma: float) -> Image:
    return cv2.GaussianBlur(mask, (0, 0), sigma)


def inside(mask: Image) -> Image:
    """Distance in pixels from the outline, inwards."""
    return cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 5)


def bevel(mask: Image, width: float) -> Image:
    """0 at the outline, 1 from `width` pixels inwards, round in between."""
    rise = np.clip(inside(mask) / width, 0, 1)
    return np.sqrt(np.clip(rise * (2 - rise), 0, 1))


def noise(rng: Rng, scale: float, stretch: float = 1.0, shape: tuple[int, int] = SHAPE) -> Image:
    """Smooth noise of unit deviation; features of about `scale` pixels, `stretch` times longer along x."""
    rows, columns = max(3, round(shape[0] / scale)), max(3, round(shape[1] / (scale * stretch)))
    drawn = rng.standard_normal((rows, columns), dtype=np.float32)
    out = cv2.resize(drawn, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return (out - out.mean()) / (out.std() + 1e-6)


def ring_noise(rng: Rng, radius: Image, scale: float) -> Image:
    """Noise that depends on the distance from a centre alone, as a tool leaves it on a lathe."""
    count = int(radius.max() / scale) + 2
    return np.interp(radius, np.arange(count) * scale, rng.standard_normal(count)).astype(np.float32)


def painted(albedo: Image, mask: Image, color: Sequence[float] | Image) -> Image:
    cover = mask[..., None]
    return albedo * (1 - cover) + np.asarray(color, np.float32) * cover


def mixed(under: Image, mask: Image, over: Image | float) -> Image:
    return under * (1 - mask) + over * mask


def ground(rng: Rng, color: Sequence[float], rough: float = 0.05) -> Image:
    """The colour of a matt belt or plate below the part."""
    shade = 1 + rough * noise(rng, 2.0) + rough * noise(rng, 40)
    return (np.asarray(color, np.float32) * shade[..., None]).astype(np.float32)
