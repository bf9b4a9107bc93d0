"""What happens to pictures on a line. In: uint8 [H, W, 3] and a severity of 1 to 3. Out: the same, spoilt.

Severities are set so that 1 is a normal week, 2 a bad day and 3 a fault that somebody should notice. Geometry moves the
mask along. The idea is Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (ICLR 2019); the list is a camera's on a line.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

Pixels = np.ndarray
Spoil = Callable[[Pixels, float, np.random.Generator], Pixels]


def light(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """An older lamp, or a new one: gain below or above one."""
    return clipped(pixels * (1 + level * rng.choice((-1, 1))))


def temperature(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Warmer or colder light: red and blue in opposite directions."""
    turn = level * rng.choice((-1, 1))
    return clipped(pixels * np.array([1 + turn, 1.0, 1 - turn]))


def blur(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Out of focus: a Gaussian, sigma in pixels of the network's input."""
    return cv2.GaussianBlur(pixels, (0, 0), level)


def noise(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Sensor noise, sigma in grey levels."""
    return clipped(pixels + rng.normal(0, level, pixels.shape))


def rotation(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """A part that lies askew, degrees; what comes in at the border is mirrored."""
    height, width = pixels.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), level * rng.choice((-1, 1)), 1.0)
    return cv2.warpAffine(pixels, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)


def shift(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """A late trigger: a share of the width; what comes in is mirrored."""
    height, width = pixels.shape[:2]
    move = np.array([[1, 0, level * width * rng.choice((-1, 1))], [0, 1, 0]], np.float64)
    return cv2.warpAffine(pixels, move, (width, height), borderMode=cv2.BORDER_REFLECT_101)


def jpeg(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """A camera that compresses: quality."""
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "JPEG", quality=int(level))
    with Image.open(made) as again:
        return np.array(again.convert("RGB"))


def dirt(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Dust on the lens: so many soft dark spots, out of focus, a twelfth of the width wide."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width]
    shade = np.ones((height, width))
    for _ in range(int(level)):
        centre, radius = rng.uniform(0, 1, 2) * (height, width), width / 24 * rng.uniform(0.5, 1.5)
        shade *= 1 - 0.5 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * radius**2))
    return clipped(pixels * shade[..., None])


CORRUPTIONS: dict[str, tuple[Spoil, tuple[float, float, float]]] = {
    "light level": (light, (0.1, 0.25, 0.5)),
    "colour temperature": (temperature, (0.05, 0.15, 0.3)),
    "blur": (blur, (0.6, 1.2, 2.5)),
    "noise": (noise, (4, 12, 30)),
    "rotation": (rotation, (2, 8, 20)),
    "shift": (shift, (0.02, 0.06, 0.15)),
    "JPEG": (jpeg, (80, 40, 15)),
    "dirt on the lens": (dirt, (1, 3, 8)),
}


POSES = ("rotation", "shift")


def clipped(values: np.ndarray) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def spoil(pixels: Pixels, name: str, severity: int, seed: int = 0) -> Pixels:
    """One picture; what is drawn depends on the seed, the name and the picture's own bytes."""
    change, levels = CORRUPTIONS[name]
    rng = np.random.default_rng((seed, zlib.crc32(name.encode()), zlib.crc32(pixels.tobytes())))
    return change(pixels, levels[severity - 1], rng)
