#!/bin/sh
# How far a part has moved between two pictures: OpenCV 5.0.0 phaseCorrelate, scikit-image 0.26.0 phase_cross_correlation. The guess: both tell the second picture's shift against the
# first, one as x, y and one as rows, columns. Seen: OpenCV tells how far the second has moved, scikit-image how far it must be moved back: the signs are opposed too.
# Source: the documentation of both (the shift "required to register"); by running them.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check opencv-python-headless==5.0.0.93 scikit-image==0.26.0
"$place/venv/bin/python" - <<'PYTHON'
import sys

import cv2
import numpy as np
from skimage.registration import phase_cross_correlation

first = cv2.GaussianBlur(np.random.default_rng(0).random((128, 128)).astype(np.float32), (0, 0), 2)
seen = {}
for down, right in ((3, 5), (-4, 7)):
    second = np.roll(first, (down, right), (0, 1))
    by_opencv = tuple(round(number) for number in cv2.phaseCorrelate(first, second)[0])
    by_skimage = tuple(round(number) for number in phase_cross_correlation(first, second)[0])
    seen[down, right] = (by_opencv, by_skimage)
    print(f"moved {down} down and {right} right: OpenCV {by_opencv}, scikit-image {by_skimage}")
wanted = {(down, right): ((right, down), (-down, -right)) for down, right in seen}
sys.exit(0 if seen == wanted else "it is not as it was")
PYTHON
