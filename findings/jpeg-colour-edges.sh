#!/bin/sh
# One JPEG picture with halved colours (4:2:0), decoded by Pillow 13.0.0, OpenCV 5.0.0, the image crate 0.25.10 (Rust) and PyAV 18.1.0 (ffmpeg's decoder and scaler). The guess: a
# decoder is a decoder, within a level or two. Seen: Pillow and OpenCV (libjpeg-turbo) agree to the bit, the crate within 5 levels; PyAV is off by more than 50 at edges of colour,
# since it blows the colours up by its own scaler. Source: ITU-T T.81 leaves that to the decoder; by running them.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check opencv-python-headless==5.0.0.93 pillow==13.0.0 av==18.1.0 numpy==2.4.6
mkdir "$place/src"
cat >"$place/Cargo.toml" <<'TOML'
[package]
name = "decodes"
version = "0.1.0"
edition = "2021"

[dependencies]
image = { version = "=0.25.10", default-features = false, features = ["jpeg"] }
TOML
cat >"$place/src/main.rs" <<'RUST'
fn main() {
    let picture = image::open("picture.jpg").expect("a picture").into_rgb8();
    std::fs::write("decoded", picture.as_raw()).expect("a file");
}
RUST
cargo build --quiet --manifest-path "$place/Cargo.toml"
cd "$place"
venv/bin/python - <<'PYTHON'
import subprocess
import sys

import av
import cv2
import numpy as np
from PIL import Image

SIDE = 64
edges = np.full((SIDE, SIDE, 3), (200, 30, 30), np.uint8)
edges[20:40, 20:41] = (30, 30, 200)
edges[10] = (250, 250, 0)
ramp = np.arange(SIDE, dtype=np.uint8) * 4
smooth = np.dstack([np.tile(ramp, (SIDE, 1)), np.tile(ramp[:, None], (1, SIDE)), np.full((SIDE, SIDE), 99, np.uint8)])
noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def others() -> dict[str, np.ndarray]:
    subprocess.run(["target/debug/decodes"], check=True)
    with av.open("picture.jpg") as file:
        by_av = next(file.decode(video=0)).to_ndarray(format="rgb24")
    by_image = np.fromfile("decoded", np.uint8).reshape(SIDE, SIDE, 3)
    return {"OpenCV": cv2.imread("picture.jpg")[..., ::-1], "image": by_image, "PyAV": by_av}


most = {"OpenCV": 0, "image": 0, "PyAV": 0}
for name, picture in {"edges of colour": edges, "smooth": smooth, "noise": noise}.items():
    Image.fromarray(picture).save("picture.jpg", quality=90)
    by_pillow = np.asarray(Image.open("picture.jpg").convert("RGB")).astype(int)
    off = {decoder: int(np.abs(by_pillow - pixels).max()) for decoder, pixels in others().items()}
    print(f"{name}: levels from Pillow at most {off}")
    most = {decoder: max(most[decoder], off[decoder]) for decoder in most}
right = most["OpenCV"] == 0 and 0 < most["image"] < 10 and most["PyAV"] > 50
sys.exit(0 if right else "it is not as it was")
PYTHON
