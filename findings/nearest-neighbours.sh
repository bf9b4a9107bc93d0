#!/bin/sh
# Masks are made smaller without mixing their levels: OpenCV 5.0.0 INTER_NEAREST, Pillow 13.0.0 NEAREST. The guess: nearest is nearest, both keep the same pixels. Seen: OpenCV takes
# the first pixel of each block, Pillow the one at its middle: of 8 pixels halved 0 2 4 6 against 1 3 5 7, so that
# the same mask, halved by each, lies a pixel apart. OpenCV's INTER_NEAREST_EXACT keeps Pillow's pixels. Source: the documentation of InterpolationFlags names the exact
# one's likeness to Pillow; by running them.
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

row = np.arange(8, dtype=np.uint8)[None].repeat(8, 0)  # each pixel's level is its column


def kept(side: int) -> tuple[list[int], ...]:
    nearest, exact = (cv2.resize(row, (side, side), interpolation=how)[0] for how in (cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT))
    return nearest.tolist(), exact.tolist(), np.asarray(Image.fromarray(row).resize((side, side), Image.Resampling.NEAREST))[0].tolist()


seen = {side: kept(side) for side in (4, 3, 2)}
for side, (nearest, exact, pillow) in seen.items():
    print(f"8 to {side}: OpenCV INTER_NEAREST {nearest}, INTER_NEAREST_EXACT {exact}, Pillow {pillow}")
mask = np.zeros((16, 16), np.uint8)
mask[5:11, 5:11] = 1
shrunk = {
    "OpenCV": cv2.resize(mask, (8, 8), interpolation=cv2.INTER_NEAREST),
    "Pillow": np.asarray(Image.fromarray(mask).resize((8, 8), Image.Resampling.NEAREST)),
}
places = {name: np.argwhere(small).min(0).tolist() for name, small in shrunk.items()}
print(f"a square from pixel 5 to 10, halved, begins at {places}")
wanted = {4: ([0, 2, 4, 6], [1, 3, 5, 7]), 3: ([0, 2, 5], [1, 4, 6]), 2: ([0, 4], [2, 6])}
right = all(seen[side] == (wanted[side][0], wanted[side][1], wanted[side][1]) for side in seen)
sys.exit(0 if right and places == {"OpenCV": [3, 3], "Pillow": [2, 2]} else "it is not as it was")
PYTHON
