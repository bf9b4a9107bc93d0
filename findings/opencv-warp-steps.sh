#!/bin/sh
# OpenCV 4.11.0 and 5.0.0 (opencv-python-headless): warpAffine with INTER_LINEAR on float32 pictures, as used to bring parts into one place before they are compared. The guess: it
# moves by the fraction of a pixel that the matrix names. Seen: 4.11.0 rounds places to 1/32 pixel, so that a shift of 0.01 changes nothing and one of 0.05 is 0.0625;
# 5.0.0 moves by the fraction itself. Source: the fixed-point tables of its remapping (5 bits), which version 5 left; by running both.
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

ramp = np.tile(np.arange(64, dtype=np.float32), (64, 1))  # a shift by s lowers every level by s


def moved(shift: float) -> float:
    matrix = np.float32([[1, 0, shift], [0, 1, 0]])
    return round(float(ramp[30, 30] - cv2.warpAffine(ramp, matrix, (64, 64), flags=cv2.INTER_LINEAR)[30, 30]), 4)


shifts = (0.01, 0.02, 0.05, 0.1, 0.5)
seen = tuple(moved(shift) for shift in shifts)
print(f"OpenCV {cv2.__version__}: shifts of {shifts} move by {seen}")
wanted = shifts if cv2.__version__ == "5.0.0" else (0.0, 0.0312, 0.0625, 0.0938, 0.5)
sys.exit(0 if seen == wanted else "it is not as it was")
PYTHON
done
