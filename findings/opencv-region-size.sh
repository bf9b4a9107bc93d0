#!/bin/sh
# OpenCV 4.11.0 and 5.0.0 (opencv-python-headless): the size of a defect in a mask, by the functions that tell sizes. The guess: a square of 10 x 10 pixels has the sides 10 and the
# area 100 in all of them. Seen: boundingRect and connectedComponentsWithStats count pixels (10 x 10, 100), while minAreaRect and contourArea measure from centre to centre of the
# outermost pixels (9 x 9, 81), so that a scratch of 20 pixels in a row has the area 0, and a filter "contourArea > 0" drops it. Source: findContours gives the
# centres of border pixels; the documentation of contourArea says that it may differ from the count of pixels; by running them.
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

seen = []
for name, height, width in (("square", 10, 10), ("scratch", 1, 20)):
    mask = np.zeros((30, 40), np.uint8)
    mask[5 : 5 + height, 8 : 8 + width] = 255
    (contour,), _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    upright = tuple(sorted(cv2.boundingRect(contour)[2:]))
    turned = tuple(sorted(round(side, 3) for side in cv2.minAreaRect(contour)[1]))
    counted = int(cv2.connectedComponentsWithStats(mask)[2][1][cv2.CC_STAT_AREA])
    seen.append((upright, turned, counted, cv2.contourArea(contour)))
    print(f"OpenCV {cv2.__version__}, {name}: boundingRect {upright}, minAreaRect {turned}; pixels {counted}, contourArea {seen[-1][3]}")
wanted = [((10, 10), (9.0, 9.0), 100, 81.0), ((1, 20), (0.0, 19.0), 20, 0.0)]
sys.exit(0 if seen == wanted else "it is not as it was")
PYTHON
done
