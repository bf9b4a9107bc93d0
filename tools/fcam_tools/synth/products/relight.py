"""Light and camera. In: a part's maps, chances. Out: the picture of it, without noise, and with it.

Light comes from one lamp, whose place, strength and colour vary a little, and from all around. The relief throws
shadows, hollows are darker, highlights follow the relief and the grain. The part lies a little shifted and turned.
Brightness is stored as its square root, as cameras do about: the noise of light is then the same at any brightness.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fcam_tools.synth.products.part import HEIGHT, MARGIN, WIDTH, Part
from fcam_tools.synth.surfaces import Image, Rng

SHADOW_STEPS = 8
HOLLOWS = ((2.0, 0.10), (7.0, 0.05))  # blur in pixels, darkness a pixel of depth


@dataclass(frozen=True)
class View:
    """Lamp, pose and camera of one picture."""

    lamp: Image  # unit vector towards the lamp
    color: Image
    around: float  # light from everywhere
    slope: Image  # how much brighter the right and the lower edge are
    corner: float  # how much darker the corners are
    pose: Image  # affine, from the part's maps to the picture
    blur: float
    noise: float


def view(rng: Rng, lamp: tuple[float, float]) -> View:
    turn, rise = np.deg2rad([lamp[0] + rng.uniform(-9, 9), lamp[1] + rng.uniform(-3, 3)])
    direction = np.array([np.cos(turn) * np.cos(rise), -np.sin(turn) * np.cos(rise), np.sin(rise)], np.float32)
    return View(
        lamp=direction,
        color=(rng.uniform(0.92, 1.08) * (1 + rng.uniform(-0.02, 0.02, 3))).astype(np.float32),
        around=rng.uniform(0.32, 0.40),
        slope=rng.uniform(-0.08, 0.08, 2).astype(np.float32),
        corner=rng.uniform(0.12, 0.22),
        pose=pose(rng),
        blur=rng.uniform(0.45, 1.0),
        noise=rng.uniform(0.006, 0.011),
    )


def pose(rng: Rng) -> Image:
    """Up to 6 pixels of shift and 2 degrees of turn about the middle of the picture."""
    middle = (WIDTH / 2 + MARGIN, HEIGHT / 2 + MARGIN)
    matrix: Image = cv2.getRotationMatrix2D(middle, rng.uniform(-2, 2), rng.uniform(0.995, 1.005))
    matrix[:, 2] += rng.uniform(-6, 6, 2) - MARGIN
    return matrix


def posed(part: Part, matrix: Image) -> Part:
    def moved(map_: Image) -> Image:
        return cv2.warpAffine(map_, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)

    grain = None if part.grain is None else moved(part.grain)
    return Part(
        height=moved(part.height),
        albedo=moved(part.albedo),
        gloss=moved(part.gloss),
        sharp=moved(part.sharp),
        body=moved(part.body),
        grain=grain,
    )


def seen(part: Part, at: View) -> Image:
    """The picture [HEIGHT, WIDTH, 3], 0..1, without noise."""
    part = posed(part, at.pose)
    slant = [cv2.filter2D(part.height, -1, kernel) for kernel in SLOPES]
    upright = 1 / np.sqrt(1 + slant[0] ** 2 + slant[1] ** 2)
    normal = (-slant[0] * upright, -slant[1] * upright, upright)
    direct = np.clip(sum(n * lamp for n, lamp in zip(normal, at.lamp, strict=True)), 0, None)
    free = unshadowed(part.height, at.lamp)
    open_ = hollows(part.height)
    matt = at.around * open_ + 0.75 * direct * free
    mirror = part.gloss * (1.1 * highlight(part, normal, at.lamp) * free + 0.30 * sky(normal) * open_)
    light = falloff(at)[..., None] * at.color
    linear = (part.albedo * matt[..., None] + mirror[..., None]) * light
    return cv2.GaussianBlur(np.sqrt(np.clip(linear, 0, 1)), (0, 0), at.blur)


SLOPES = (np.array([[-0.5, 0, 0.5]], np.float32), np.array([[-0.5], [0], [0.5]], np.float32))


def unshadowed(height: Image, lamp: Image) -> Image:
    """1 in the light, 0 where something between here and the lamp stands higher."""
    above = np.zeros_like(height)
    step = 1.5
    for count in range(1, SHADOW_STEPS + 1):
        dx, dy = lamp[:2] / np.hypot(*lamp[:2]) * step * count
        ray = np.array([[1, 0, -dx], [0, 1, -dy]], np.float32)
        there = cv2.warpAffine(height, ray, height.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        rise = step * count * lamp[2] / np.hypot(*lamp[:2])
        np.maximum(above, there - height - rise, out=above)
    return 1 - cv2.GaussianBlur(np.clip(above / 1.5, 0, 1), (0, 0), 0.8)


def hollows(height: Image) -> Image:
    """How much of the light from around reaches a place: less in what lies deeper than its surroundings."""
    out = np.ones_like(height)
    for sigma, dark in HOLLOWS:
        out *= np.clip(1 - dark * (cv2.GaussianBlur(height, (0, 0), sigma) - height), 0.25, 1.15)
    return out


def highlight(part: Part, normal: tuple[Image, ...], lamp: Image) -> Image:
    half = lamp + np.array([0, 0, 1], np.float32)
    half = half / np.linalg.norm(half)
    shine = np.power(np.clip(sum(n * h for n, h in zip(normal, half, strict=True)), 0, 1), part.sharp)
    if part.grain is None:
        return shine
    along = part.grain[..., 0] * half[0] + part.grain[..., 1] * half[1]
    return shine * np.power(1 - np.clip(along * along, 0, 0.999), 24)


def sky(normal: tuple[Image, ...]) -> Image:
    """What a mirror sees around it: a bright panel at the top, a dark floor."""
    return 0.55 - 0.5 * np.tanh(2.2 * normal[1] + 0.8 * normal[0])


def falloff(at: View) -> Image:
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    x, y = x / WIDTH * 2 - 1, y / HEIGHT * 2 - 1
    return (1 + at.slope[0] * x + at.slope[1] * y) * (1 - at.corner * (x * x + y * y) / 2)


def exposed(rng: Rng, picture: Image, deviation: float) -> Image:
    noisy = picture + deviation * rng.standard_normal(picture.shape, dtype=np.float32)
    return (np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8)
