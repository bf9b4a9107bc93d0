#!/bin/sh
# A gray TIFF of 12 bits a pixel, packed, as recorders of inspection cameras write it: OpenCV 5.0.0, Pillow 13.0.0, tifffile 2026.3.3. The guess: whoever reads it gives the numbers that
# are stored, 0 to 4095. Seen: Pillow and tifffile do; OpenCV with IMREAD_UNCHANGED multiplies by 16 (65520 is its white), and with IMREAD_GRAYSCALE it reads nothing: None, and a
# line on the error output, so that a threshold of the one is a sixteenth in the other. Source: TIFF 6.0, section 4 (BitsPerSample); by running them.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check opencv-python-headless==5.0.0.93 pillow==13.0.0 tifffile==2026.3.3 imagecodecs==2026.3.6
"$place/venv/bin/python" - "$place/gray.tif" 2>"$place/log" <<'PYTHON' || { cat "$place/log" && exit 1; }
import struct
import sys
from pathlib import Path

import cv2
import tifffile
from PIL import Image

VALUES = [0, 1, 15, 16, 255, 256, 2048, 4095]
ENTRY_BYTES = 12


def tiff() -> bytes:
    """One row of VALUES, the highest bit first; TIFF 6.0, sections 2 to 4."""
    pixels = int("".join(f"{value:012b}" for value in VALUES), 2).to_bytes(len(VALUES) * 12 // 8, "big")
    entries = [(256, 4, len(VALUES)), (257, 4, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 0), (277, 3, 1), (278, 4, 1)]
    entries.append((279, 4, len(pixels)))
    after = 8 + 2 + ENTRY_BYTES * len(entries) + 4
    folder = b"".join(struct.pack("<HHII", tag, kind, 1, after if tag == 273 else value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + folder + bytes(4) + pixels


path = Path(sys.argv[1])
path.write_bytes(tiff())
unchanged, gray = (cv2.imread(str(path), how) for how in (cv2.IMREAD_UNCHANGED, cv2.IMREAD_GRAYSCALE))
with Image.open(path) as picture:
    by_pillow = [picture.getpixel((x, 0)) for x in range(picture.width)]
seen = {"Pillow": by_pillow, "tifffile": tifffile.imread(path).ravel().tolist(), "OpenCV": unchanged.ravel().tolist()}
for name, values in seen.items():
    print(f"{name}: {values}")
print(f"OpenCV, IMREAD_GRAYSCALE: {gray}")
wanted = {"Pillow": VALUES, "tifffile": VALUES, "OpenCV": [16 * value for value in VALUES]}
sys.exit(0 if seen == wanted and gray is None else "it is not as it was")
PYTHON
