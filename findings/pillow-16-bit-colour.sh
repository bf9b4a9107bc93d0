#!/bin/sh
# Pillow 13.0.0 and pictures of 16 bits a channel, which inspection cameras write. The guess: gray and colour are alike, either both keep 16 bits or colour is
# refused. Seen: gray opens as I;16 with every bit; colour (PNG and TIFF) opens as RGB of 8 bits, in silence, by leaving the lower bytes away: 0x01ff becomes 1,
# where rounding would give 2, and a picture that is dark in its lower byte alone becomes black. Source: the raw modes of PngImagePlugin and
# TiffImagePlugin for 16-bit colour, by running them.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check pillow==13.0.0
"$place/venv/bin/python" - "$place" <<'PYTHON'
import struct
import sys
import zlib
from pathlib import Path

from PIL import Image

VALUES = (0x0000, 0x0001, 0x00FF, 0x0180, 0x01FF, 0x7F80, 0xFFFF)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(path: Path, channels: int) -> Path:
    """One row of VALUES, each in every channel; PNG specification, third edition, 11.2."""
    header = struct.pack(">IIBBBBB", len(VALUES), 1, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    row = b"\0" + b"".join(struct.pack(">H", value) * channels for value in VALUES)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def tiff(path: Path, channels: int) -> Path:
    """The same, little-endian, without compression; TIFF 6.0, sections 2 and 6."""
    pixels = b"".join(struct.pack("<H", value) * channels for value in VALUES)
    entries = [(256, 4, 1, len(VALUES)), (257, 4, 1, 1), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 2 if channels == 3 else 1)]
    after = 8 + 2 + 12 * 9 + 4
    bits = struct.pack("<HHH", 16, 16, 16)
    if channels == 3:
        entries[2] = (258, 3, 3, after)
    entries += [(273, 4, 1, after + len(bits)), (277, 3, 1, channels), (278, 4, 1, 1), (279, 4, 1, len(pixels))]
    folder = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + folder + bytes(4) + bits + pixels)
    return path


place, seen = Path(sys.argv[1]), {}
for write, suffix in ((png, "png"), (tiff, "tif")):
    for channels in (1, 3):
        with Image.open(write(place / f"{channels}.{suffix}", channels)) as picture:
            levels = [picture.getpixel((x, 0)) for x in range(picture.width)]
            found = tuple(level if isinstance(level, int) else level[0] for level in levels)
            print(f"{suffix}, {channels} channel(s) of 16 bits: {picture.mode}, {[hex(level) for level in found]}")
            seen[suffix, channels] = (picture.mode, found)
upper = tuple(value >> 8 for value in VALUES)
expected = {key: ("I;16", VALUES) if key[1] == 1 else ("RGB", upper) for key in seen}
sys.exit(0 if seen == expected else "it is not as it was")
PYTHON
