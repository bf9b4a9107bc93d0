"""Procedural defects. In: a random generator, a scene, an area and a contrast. Out: the changed picture, an exact mask.

A defect is drawn as an alpha (how much of each pixel it takes) and a change of reflectance. The mask is the change
itself: where the scene with the defect differs from the scene without it by more than `VISIBLE`, before light, blur and
noise; so it holds shadows, rims and the soft edge too. Areas are shares of the picture, drawn log-uniform in each
class's own range; the mask has 0.02 % to 5 % of it. Contrast has a floor above the surface's own variation around the
defect, so that a careful person can see every one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from fcam_tools.synth.surfaces import Image, Rng, field

SMALLEST, LARGEST = 0.0002, 0.05
VISIBLE = 6 / 255  # change of reflectance, mean of the channels, from which a pixel belongs to the mask


@dataclass
class Scene:
    """A surface with its ink, before light and camera."""

    surface: Image  # [H, W, 3]
    ink: Image  # [H, W]
    color: Image  # [3]

    def flat(self, ink: Image | None = None) -> Image:
        ink = (self.ink if ink is None else ink)[..., None] * 0.92
        return self.surface * (1 - ink) + self.color * ink


@dataclass
class Marked:
    """A defect on its scene."""

    picture: Image  # [H, W, 3]
    mask: np.ndarray  # bool [H, W]
    contrast: float  # mean absolute change inside the mask


def place(rng: Rng, side: int, margin: float = 0.06) -> np.ndarray:
    return rng.uniform(margin, 1 - margin, 2) * side


def amplitude(rng: Rng, picture: Image, alpha: Image, contrast: float, area: float) -> float:
    """The contrast, or what it takes to stand out from the surface here: small defects need more than large ones."""
    gray = picture.mean(axis=2)
    detail = gray - cv2.GaussianBlur(gray, (0, 0), 6)
    near = cv2.dilate(alpha, np.ones((9, 9), np.uint8)) > 0.3
    variation = float(detail[near].std()) if near.any() else float(detail.std())
    factor = np.interp(np.log10(area), [-3.7, -1.3], [2.6, 1.3])
    return max(contrast, factor * variation + 0.02)


def sign(rng: Rng, picture: Image, alpha: Image, step: float) -> float:
    """Brighter or darker: at random, where there is room for it."""
    level = float(picture[alpha > 0.5].mean()) if (alpha > 0.5).any() else 0.5
    if level + step > 0.95:
        return -1.0
    if level - step < 0.03:
        return 1.0
    return float(rng.choice([-1.0, 1.0]))


def finish(before: Image, after: Image) -> Marked:
    after = np.clip(after, 0, 1).astype(np.float32)
    change = np.abs(after - before).mean(axis=2)
    mask = change > VISIBLE
    return Marked(after, mask, float(change[mask].mean()) if mask.any() else 0.0)


def blob(rng: Rng, side: int, area: float, roughness: float, aspect: float = 1.6) -> Image:
    """Signed distance-like field of an irregular blob of about `area`: positive inside, pixels."""
    radius = np.sqrt(area * side * side / np.pi)
    cy, cx = place(rng, side, max(0.06, min(0.3, 1.2 * radius / side)))
    y, x = np.mgrid[:side, :side].astype(np.float32)
    turn, squeeze = rng.uniform(0, np.pi), rng.uniform(1, aspect)
    u = ((x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)) / np.sqrt(squeeze)
    v = ((y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)) * np.sqrt(squeeze)
    angle, distance = np.arctan2(v, u), np.hypot(u, v)
    outline = 1 + sum(roughness / k * rng.uniform(-1, 1) * np.sin(k * angle + rng.uniform(0, 6.3)) for k in range(2, 8))
    return (radius * outline - distance).astype(np.float32)


def soft(signed: Image, edge: float) -> Image:
    return np.clip(signed / edge + 0.5, 0, 1)


def stroke(points: np.ndarray, side: int, width: float) -> Image:
    """A polyline with anti-aliased edges of any width from 1 pixel."""
    line = np.zeros((side * 2, side * 2), np.float32)
    cv2.polylines(
        line, [np.round(points * 2 * 16).astype(np.int32)], False, 1.0, max(1, round(width * 2)), cv2.LINE_AA, 4
    )
    return cv2.resize(line, (side, side), interpolation=cv2.INTER_AREA)


def shifted(image: Image, dy: int, dx: int) -> Image:
    """Moved by whole pixels; zeros come in at the border."""
    height, width = image.shape
    reach = max(abs(dy), abs(dx))
    padded = np.pad(image, reach)
    return padded[reach - dy : reach - dy + height, reach - dx : reach - dx + width]


def scratch(rng: Rng, scene: Scene, area: float, contrast: float) -> Marked:
    before = scene.flat()
    side = before.shape[0]
    width = float(np.clip(rng.uniform(1.2, 3.5), 1, max(1.3, np.sqrt(area) * side / 4)))
    length = min(area * side * side / width, 1.1 * side)
    start, turn = place(rng, side, 0.15), rng.uniform(0, 2 * np.pi)
    t = np.linspace(-0.5, 0.5, 24)[:, None]
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    points = start + t * length * along + (t**2 - 0.1) * length * rng.uniform(-0.35, 0.35) * across
    alpha = stroke(points, side, width)
    step = amplitude(rng, before, alpha, contrast, area)
    tone = sign(rng, before, alpha, step)
    edge = shifted(alpha, 1, 1) * (1 - alpha)
    return finish(before, before + (tone * step * alpha - 0.4 * tone * step * edge)[..., None])


def crack(rng: Rng, scene: Scene, area: float, contrast: float) -> Marked:
    before = scene.flat()
    side = before.shape[0]
    width = rng.uniform(1.2, 2.4)
    length = min(area * side * side / width, 1.6 * side)
    alpha = np.zeros((side, side), np.float32)
    branches = 1 + int(rng.integers(0, 3)) * (length > 60)
    point, turn = place(rng, side, 0.2), rng.uniform(0, 2 * np.pi)
    for branch in range(branches):
        share = length * (0.6 if branch == 0 and branches > 1 else 1.0 if branches == 1 else 0.4 / (branches - 1))
        points = walk(rng, point, turn, share)
        alpha = np.maximum(alpha, stroke(points, side, width if branch == 0 else width * 0.7))
        point, turn = (
            points[int(rng.integers(len(points) // 3, len(points)))],
            turn + rng.choice([-1, 1]) * rng.uniform(0.4, 1.0),
        )
    step = amplitude(rng, before, alpha, contrast * 1.2, area)
    return finish(before, before * (1 - alpha[..., None] * min(0.95, step / 0.45)))


def walk(rng: Rng, start: np.ndarray, turn: float, length: float) -> np.ndarray:
    steps = max(4, int(length / 6))
    turns = turn + np.cumsum(rng.normal(0, 0.12, steps)) + rng.normal(0, 0.5, steps)
    return start + np.vstack([[0, 0], np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * length / steps, axis=0)])


def dent(rng: Rng, scene: Scene, area: float, contrast: float) -> Marked:
    before = scene.flat()
    side = before.shape[0]
    signed = blob(rng, side, area, 0.08)
    radius = np.sqrt(area * side * side / np.pi)
    depth = np.exp(-np.square(np.clip(1 - signed / radius, 0, None)) * 2.2)
    dy, dx = np.gradient(depth.astype(np.float32))
    light = rng.uniform(0, 2 * np.pi)
    shade = np.cos(light) * dx + np.sin(light) * dy
    shade /= np.abs(shade).max() + 1e-6
    alpha = soft(signed, 2.0)
    step = amplitude(rng, before, alpha, contrast * 1.3, area)
    return finish(before, before + (step * 1.4 * shade - 0.15 * step * depth)[..., None])


def stain(rng: Rng, scene: Scene, area: float, contrast: float) -> Marked:
    before = scene.flat()
    side = before.shape[0]
    signed = blob(rng, side, area, 0.45)
    radius = np.sqrt(area * side * side / np.pi)
    alpha = soft(
        signed + radius * 0.12 * field(rng, side, max(4, radius / 3)), max(3.0, radius * rng.uniform(0.15, 0.4))
    )
    step = amplitude(rng, before, alpha, contrast, area)
    tint = rng.uniform(0.5, 1.3, 3).astype(np.float32)
    tone = sign(rng, before, alpha, step)
    rim = 1 + 0.5 * np.exp(-np.square(signed / (0.15 * radius + 1)))
    return finish(before, before + tone * step * (alpha * rim)[..., None] * tint)


def hole(rng: Rng, scene: Scene, area: float, contrast: float) -> Marked:
    before = scene.flat()
    side = before.shape[0]
    signed = blob(rng, side, area, 0.25)
    alpha = soft(signed, 1.5)
    step = amplitude(rng, before, alpha, contrast * 1.3, area)
    bottom = before * 0.25 + 0.03 + 0.02 * field(rng, side, 3)[..., None]
    depth = min(1.0, step / (float((before - bottom)[alpha > 0.5].mean()) + 1e-3)) if (alpha > 0.5).any() else 1.0
    rim = np.exp(-np.square((signed + 1.5) / 1.2)) * rng.uniform(0.2, 0.6) * step
    return finish(before, before * (1 - depth * alpha[..., None]) + bottom * depth * alpha[..., None] + rim[..., None])


def particle(rng: Rng, scene: Scene, area: float, contrast: float) -> Marked:
    before = scene.flat()
    side = before.shape[0]
    if rng.random() < 0.35:
        length = np.sqrt(area) * side * rng.uniform(2.5, 4)
        width = max(1.3, area * side * side / length)
        alpha = stroke(walk(rng, place(rng, side), rng.uniform(0, 6.3), length), side, width)
    else:
        alpha = soft(blob(rng, side, area, 0.3), 1.3)
    step = amplitude(rng, before, alpha, contrast * 1.4, area)
    tone = sign(rng, before, alpha, step)
    tint = rng.uniform(0.6, 1.4, 3).astype(np.float32)
    dy, dx = rng.integers(-3, 4, 2)
    shadow = shifted(cv2.GaussianBlur(alpha, (0, 0), 1.2), dy, dx) * (1 - alpha)
    return finish(before, before + tone * step * alpha[..., None] * tint - 0.35 * step * shadow[..., None])


def missing_print(rng: Rng, scene: Scene, area: float, contrast: float) -> Marked:
    """A part of the printed mark is gone, or smeared: more than a stroke, which could be another letter's shape."""
    before = scene.flat()
    side = before.shape[0]
    ys, xs = np.nonzero(scene.ink > 0.8)
    at = int(rng.integers(len(ys)))
    radius = np.sqrt(area * side * side / np.pi) * rng.uniform(1.3, 2.0)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    near = np.clip((radius - np.hypot(y - ys[at], x - xs[at])) / 2 + 0.5, 0, 1)
    if rng.random() < 0.6:
        ink = scene.ink * (1 - near * rng.uniform(0.85, 1.0))
    else:
        reach = max(7, int(radius * 1.2)) | 1
        kernel: Image = np.zeros((reach, reach), np.float32)
        cv2.line(kernel, (0, reach // 2), (reach - 1, reach // 2), 1.0, 1)
        matrix = cv2.getRotationMatrix2D((reach / 2, reach / 2), rng.uniform(0, 180), 1.0)
        kernel = cv2.warpAffine(kernel, matrix, (reach, reach))
        smeared = cv2.filter2D(scene.ink, -1, kernel / (kernel.sum() + 1e-6))
        ink = scene.ink * (1 - near) + smeared * near
    return finish(before, scene.flat(ink))


DEFECTS: dict[str, tuple[Callable[[Rng, Scene, float, float], Marked], float, float]] = {
    "crack": (crack, 0.0006, 0.010),
    "dent": (dent, 0.002, 0.05),
    "hole": (hole, 0.0003, 0.02),
    "particle": (particle, 0.0002, 0.004),
    "print": (missing_print, 0.003, 0.02),
    "scratch": (scratch, 0.0004, 0.012),
    "stain": (stain, 0.003, 0.05),
}


def add(rng: Rng, scene: Scene, kind: str, tries: int = 20) -> Marked:
    """Draws one defect, anew until its mask's area is in bounds.

    A mask below a third of the class's range is drawn anew too: the ink under a wiped patch covers only a part of it.
    """
    draw, smallest, largest = DEFECTS[kind]
    best: Marked | None = None
    for _ in range(tries):
        area = float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
        contrast = float(np.exp(rng.uniform(np.log(0.05), np.log(0.35))))
        marked = draw(rng, scene, area, contrast)
        share = float(marked.mask.mean())
        if max(SMALLEST, smallest / 3) <= share <= LARGEST:
            return marked
        if best is None or (share > 0 and marked.contrast > best.contrast):
            best = marked
    assert best is not None
    return best
