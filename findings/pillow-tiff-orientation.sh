#!/bin/sh
# Pillow 13.0.0 turns a TIFF as its orientation tag (274) says while it loads it. The guess: so it does whatever the compression. Seen: a gray picture that is
# stored without compression is read in place under its turned size, so that with tags 5 to 8 (a quarter turn) its rows run into each other: the pixels are no
# turn of the stored ones. With LZW all eight tags come out right. Source: TiffImagePlugin's load and the mapping of uncompressed tiles, by running them.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check pillow==13.0.0
"$place/venv/bin/python" - "$place/picture.tif" <<'PYTHON'
import sys

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

WIDTH, HEIGHT, ORIENTATION = 5, 3, 274
TURNS = (None, 0, 3, 1, 5, 4, 6, 2)  # Image.Transpose of the tags 1 to 8
stored = Image.frombytes("L", (WIDTH, HEIGHT), bytes(range(WIDTH * HEIGHT)))
seen = {}
for compression in ("raw", "tiff_lzw"):
    for tag, turn in enumerate(TURNS, 1):
        tags = ImageFileDirectory_v2()
        tags[ORIENTATION] = tag
        stored.save(sys.argv[1], tiffinfo=tags, compression=compression)
        wanted = stored if turn is None else stored.transpose(turn)
        with Image.open(sys.argv[1]) as loaded:
            right = loaded.size == wanted.size and loaded.tobytes() == wanted.tobytes()
        print(f"{compression:9} tag {tag}: {'right' if right else 'scrambled'}")
        seen[compression, tag] = right
expected = {(compression, tag): compression == "tiff_lzw" or tag < 5 for compression, tag in seen}
sys.exit(0 if seen == expected else "it is not as it was")
PYTHON
