#!/bin/sh
# A picture made smaller by the mean of what each new pixel covers: OpenCV 5.0.0 INTER_AREA, Pillow 13.0.0 BOX. The guess: the two are the same filter, within a level. Seen: so they
# are where the sides divide (64 to 32 or 16); from 64 to 20 they are more than 20 levels apart on fine texture: OpenCV counts a pixel that is cut by the border in part,
# Pillow takes each wholly or not at all. Source: the documentation of both filters; by running them beside the exact mean.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check opencv-python-headless==5.0.0.93 pillow==13.0.0
"$place/venv/bin/python" - <<'PYTHON'
import sys

import cv2
import numpy as np
from PIL import Image

SIDE = 64
picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)


def mean(small: int) -> np.ndarray:
    """Every pixel by the part of it that is covered."""
    edges = np.arange(small + 1) * SIDE / small
    begins, ends = edges[:-1, None], edges[1:, None]
    weights = np.clip(np.minimum(ends, np.arange(SIDE) + 1) - np.maximum(begins, np.arange(SIDE)), 0, None) * small / SIDE
    return weights @ picture @ weights.T


seen = {}
for small in (32, 16, 20):
    area = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
    box = np.asarray(Image.fromarray(picture).resize((small, small), Image.Resampling.BOX))
    seen[small] = tuple(int(np.ceil(np.abs(pixels - mean(small)).max())) for pixels in (area, box))
    print(f"{SIDE} to {small}: OpenCV INTER_AREA is {seen[small][0]} level(s) from the exact mean at most, Pillow BOX {seen[small][1]}")
right = all(max(seen[small]) <= 1 for small in (32, 16)) and seen[20][0] <= 1 and seen[20][1] > 20
sys.exit(0 if right else "it is not as it was")
PYTHON
