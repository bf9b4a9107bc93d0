#!/bin/sh
# JPEG files that three writers make of one colour picture without being told how: Pillow 13.0.0, OpenCV 5.0.0, the image crate 0.25.10 (Rust). The guess: all halve the colours both ways
# (4:2:0) at usual qualities, and all keep them (4:4:4) at 100; the crate's documentation says 4:2:2. Seen: Pillow and OpenCV halve them at every quality, 100 too;
# the crate keeps every colour at every quality. Source: the sampling factors in the files' frame headers (ITU-T T.81, B.2.2); by running them.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check opencv-python-headless==5.0.0.93 pillow==13.0.0
mkdir "$place/src"
cat >"$place/Cargo.toml" <<'TOML'
[package]
name = "writes"
version = "0.1.0"
edition = "2021"

[dependencies]
image = { version = "=0.25.10", default-features = false, features = ["jpeg"] }
TOML
cat >"$place/src/main.rs" <<'RUST'
use image::codecs::jpeg::JpegEncoder;

fn main() {
    let picture = image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x * 4) as u8, (y * 4) as u8, 99]));
    for quality in [75, 100] {
        let file = std::fs::File::create(format!("image-{quality}.jpg")).expect("a file");
        JpegEncoder::new_with_quality(file, quality).encode_image(&picture).expect("a picture");
    }
}
RUST
cargo build --quiet --manifest-path "$place/Cargo.toml"
cd "$place"
target/debug/writes
venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

rows, columns = np.mgrid[:64, :64].astype(np.uint8)
picture = np.dstack([columns * 4, rows * 4, np.full_like(rows, 99)])


def sampling(file: str) -> str:
    """How many samples of luma, across and down, there are for one of colour."""
    content = Path(file).read_bytes()
    at = 2
    while content[at + 1] not in (0xC0, 0xC2):
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    factors = [(content[at + 11 + 3 * part] >> 4, content[at + 11 + 3 * part] & 15) for part in range(3)]
    return f"{factors[0][0] // factors[1][0]} x {factors[0][1] // factors[1][1]}"


for quality in (75, 100):
    Image.fromarray(picture).save(f"Pillow-{quality}.jpg", quality=quality)
    cv2.imwrite(f"OpenCV-{quality}.jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
seen = {name: [sampling(f"{name}-{quality}.jpg") for quality in (75, 100)] for name in ("Pillow", "OpenCV", "image")}
for name, found in seen.items():
    print(f"{name}, quality 75 and 100: one sample of colour for {found[0]} and {found[1]} pixels")
sys.exit(0 if seen == {"Pillow": ["2 x 2"] * 2, "OpenCV": ["2 x 2"] * 2, "image": ["1 x 1"] * 2} else "it is not as it was")
PYTHON
