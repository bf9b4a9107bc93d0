#!/bin/sh
# OpenCV 4.11.0 and 5.0.0 (opencv-python-headless) turn a camera's YUV (YUYV, NV12, I420) gray in two ways. The guess: COLOR_YUV2GRAY_* is the short way to what COLOR_YUV2BGR_*
# and COLOR_BGR2GRAY give. Seen: the colour conversions take the luma for limited range and stretch it, the gray ones copy it, so that white (235) is 255 by one way and 235 by the
# other, black (16) is 0 and 16, and the same camera gives pictures of less contrast. Source: the documentation's formulas of cvtColor name no range; by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
for version in 4.11.0.86 5.0.0.93; do
    python3 -m venv "$place/$version"
    "$place/$version/bin/python" -m pip install -q --disable-pip-version-check opencv-python-headless==$version
    "$place/$version/bin/python" - <<'PYTHON'
import sys

import cv2
import numpy as np


def yuyv(luma: int) -> np.ndarray:
    picture = np.full((4, 4, 2), 128, np.uint8)
    picture[..., 0] = luma
    return picture


def planes(luma: int) -> np.ndarray:
    """I420 and NV12 alike: four rows of luma, then colours of no colour."""
    picture = np.full((6, 4), 128, np.uint8)
    picture[:4] = luma
    return picture


seen = {}
for name, make in (("YUY2", yuyv), ("NV12", planes), ("I420", planes)):
    for luma in (16, 128, 235):
        copied = cv2.cvtColor(make(luma), getattr(cv2, f"COLOR_YUV2GRAY_{name}"))
        colour = cv2.cvtColor(make(luma), getattr(cv2, f"COLOR_YUV2BGR_{name}"))
        seen[name, luma] = (int(copied[0, 0]), int(cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)[0, 0]))
    levels = ", ".join(f"{luma}: {seen[name, luma][0]} and {seen[name, luma][1]}" for luma in (16, 128, 235))
    print(f"OpenCV {cv2.__version__}, {name}, straight to gray and by way of BGR: {levels}")
wanted = {16: (16, 0), 128: (128, 130), 235: (235, 255)}
sys.exit(0 if all(seen[key] == wanted[key[1]] for key in seen) else "it is not as it was")
PYTHON
done
