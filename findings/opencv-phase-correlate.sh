#!/bin/sh
# OpenCV 4.11.0 and 5.0.0 (opencv-python-headless): phaseCorrelate reads two pictures to tell the shift between them, and returns it. The guess: it changes neither picture. Seen:
# given a window, it multiplies both pictures by it in their own memory where no border has to be added, that is for float32 pictures whose sides are lengths that getOptimalDFTSize
# takes as they are (250, 256, 300); a second call with the same pictures gives another shift, and whatever is done with them later sees dark borders. With sides that are padded
# (257), or without a window, the pictures stay. Source: the package, by running it; its padding step hands on the picture itself where there is nothing to pad.
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


def changed(side: int, windowed: bool) -> tuple[bool, bool]:
    """Whether the first picture differs after a call, and whether a second call answers otherwise."""
    first = np.random.default_rng(0).random((side, side), np.float32)
    second, before = np.roll(first, (3, 5), (0, 1)), first.copy()
    window = (cv2.createHanningWindow((side, side), cv2.CV_32F),) if windowed else ()
    answers = [cv2.phaseCorrelate(first, second, *window)[0] for _ in range(2)]
    return bool((first != before).any()), answers[0] != answers[1]


seen = {side: (changed(side, True), changed(side, False)) for side in (250, 256, 257, 300)}
for side, (windowed, plain) in seen.items():
    told = f"padded to {cv2.getOptimalDFTSize(side)}"
    print(f"OpenCV {cv2.__version__}, side {side} ({told}): with a window picture changed, answer too: {windowed}; without: {plain}")
kept = (False, False)
wanted = {side: ((True, True) if side != 257 else kept, kept) for side in seen}
sys.exit(0 if seen == wanted else "it is not as it was")
PYTHON
done
