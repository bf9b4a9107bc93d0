#!/bin/sh
# A coarse map of scores brought to the picture's size: scipy 1.17.1 ndimage.zoom, OpenCV 5.0.0 resize, both linear. The guess: both lay cell beside cell, so that a peak stays over
# the pixels that it came from. Seen: zoom lays the centres of the corner cells onto the corner pixels and stretches in between; of 8 cells on 64 pixels the first cell's centre
# is at pixel 0 instead of 3.5, the last at 63 instead of 59.5, and only the middle agrees. grid_mode=True with mode="nearest" makes zoom agree. Source: the function's
# documentation of grid_mode; by running them.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check scipy==1.17.1 opencv-python-headless==5.0.0.93
"$place/venv/bin/python" - <<'PYTHON'
import sys

import cv2
import numpy as np
from scipy import ndimage

CELLS, SIDE = 8, 64


def centre(line: np.ndarray) -> float:
    """The middle of a peak's highest pixels."""
    return float(np.flatnonzero(line >= line.max() - 1e-6).mean())


seen = {}
for cell in (1, 4, 6):
    scores = np.zeros((CELLS, CELLS), np.float32)
    scores[:, cell] = 1
    zoomed = ndimage.zoom(scores, SIDE / CELLS, order=1)[0]
    in_cells = ndimage.zoom(scores, SIDE / CELLS, order=1, grid_mode=True, mode="nearest")[0]
    resized = cv2.resize(scores, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)[0]
    seen[cell] = tuple(centre(line) for line in (zoomed, in_cells, resized))
    true = (cell + 0.5) * SIDE / CELLS - 0.5
    print(f"cell {cell}, over pixel {true}: zoom {seen[cell][0]}, zoom with grid_mode {seen[cell][1]}, OpenCV {seen[cell][2]}")
wanted = {1: (9.0, 11.5, 11.5), 4: (36.0, 35.5, 35.5), 6: (54.0, 51.5, 51.5)}
sys.exit(0 if seen == wanted else "it is not as it was")
PYTHON
