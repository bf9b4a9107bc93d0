"""Writes tests/common/resize: what Pillow's BILINEAR makes of the picture that tests/preprocess.rs draws."""

from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).parent / "resize"
CASES = [
    (1280, 720, (256, 256)),
    (640, 480, (224, 224)),
    (300, 300, (256, 256)),
    (512, 512, (64, 96)),
    (100, 60, (256, 256)),
]


def picture(width: int, height: int) -> np.ndarray:
    """As in tests/preprocess.rs, to the bit."""
    noise = np.empty(width * height, np.uint64)
    state = 1
    for index in range(len(noise)):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        noise[index] = state >> 27
    y, x = np.mgrid[:height, :width].astype(np.uint64)
    red = x * 200 // width + noise.reshape(height, width)
    green = y * 150 // height + (x // 7 + y // 5) % 2 * 90
    return np.stack([red, green, x * y % 251], axis=-1).astype(np.uint8)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    for width, height, side in CASES:
        resized = Image.fromarray(picture(width, height)).resize(side, Image.Resampling.BILINEAR)
        resized.save(OUT / f"{width}x{height}-{side[0]}x{side[1]}.png", optimize=True)
