#!/bin/sh
# Gray of a colour JPEG: OpenCV 5.0.0 with IMREAD_GRAYSCALE, or read in colour and turned gray after; Pillow 13.0.0 with draft("L") and without. The guess: both ways weigh by BT.601,
# so that they agree within a level of rounding. Seen: the first way takes the luma that is in the file, the second comes from RGB that was cut off at 0 and 255 and whose colours
# were blown up: 16 levels apart at an edge of strong colours, for OpenCV and Pillow alike. Source: the documentation of imread's flags and of Image.draft; by running them.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check opencv-python-headless==5.0.0.93 pillow==13.0.0
"$place/venv/bin/python" - "$place/picture.jpg" <<'PYTHON'
import sys

import cv2
import numpy as np
from PIL import Image

path = sys.argv[1]
picture = np.full((64, 64, 3), (200, 30, 30), np.uint8)
picture[20:40, 20:41] = (30, 30, 200)
picture[10] = (250, 250, 0)
Image.fromarray(picture).save(path, quality=90)
with Image.open(path) as file:
    file.draft("L", file.size)
    drafted = np.asarray(file.convert("L"))
ways = {
    "OpenCV, IMREAD_GRAYSCALE": cv2.imread(path, cv2.IMREAD_GRAYSCALE),
    "Pillow, draft": drafted,
    "OpenCV, colour first": cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2GRAY),
    "Pillow, colour first": np.asarray(Image.open(path).convert("L")),
}
luma = ways["OpenCV, IMREAD_GRAYSCALE"].astype(int)
seen = [int(np.abs(gray - luma).max()) for gray in ways.values()]
print("levels from the luma at most:", ", ".join(f"{way} {most}" for way, most in zip(ways, seen, strict=True)))
right = seen[:2] == [0, 0] and min(seen[2:]) > 10
sys.exit(0 if right else "it is not as it was")
PYTHON
