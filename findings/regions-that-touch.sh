#!/bin/sh
# Regions of a mask counted by three libraries: scipy 1.17.1 ndimage.label, scikit-image 0.26.0 measure.label, OpenCV 5.0.0 connectedComponents. The guess: by default all of them join
# pixels that touch at a corner, as people do. Seen: scikit-image and OpenCV do, scipy joins along sides alone, so that a diagonal scratch of six pixels is one defect or six, and
# whatever is counted or weighed by region (PRO, regions a picture) changes. structure=np.ones((3, 3)) makes scipy agree. Source: the documentation of each; by running them.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check scipy==1.17.1 scikit-image==0.26.0 opencv-python-headless==5.0.0.93
"$place/venv/bin/python" - <<'PYTHON'
import sys

import cv2
import numpy as np
from scipy import ndimage
from skimage import measure

scratch = np.eye(6, dtype=np.uint8)
seen = {
    "scipy": ndimage.label(scratch)[1],
    "scipy with a full structure": ndimage.label(scratch, np.ones((3, 3)))[1],
    "scikit-image": int(measure.label(scratch).max()),
    "OpenCV": cv2.connectedComponents(scratch)[0] - 1,
}
print(f"regions in a diagonal scratch of six pixels: {seen}")
sys.exit(0 if list(seen.values()) == [6, 1, 1, 1] else "it is not as it was")
PYTHON
