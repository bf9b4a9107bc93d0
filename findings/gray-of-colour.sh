#!/bin/sh
# Gray of a colour picture in four libraries of the field: Pillow 13.0.0, OpenCV 5.0.0, scikit-image 0.26.0 and the image crate 0.25.10 (Rust). The guess: all weigh red, green and
# blue by BT.601, as JPEG does. Seen: Pillow and OpenCV do; scikit-image's rgb2gray and the crate's to_luma8 weigh by BT.709, so that pure red is 76 or 54, pure green 150 or 182:
# 32 levels for the same picture. Source: the documentation of rgb2gray and of Pillow's convert; the crate, by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check opencv-python-headless==5.0.0.93 scikit-image==0.26.0 pillow==13.0.0
mkdir "$place/src"
cat >"$place/Cargo.toml" <<'TOML'
[package]
name = "gray"
version = "0.1.0"
edition = "2021"

[dependencies]
image = { version = "=0.25.10", default-features = false }
TOML
cat >"$place/src/main.rs" <<'RUST'
fn main() {
    let levels = [[255, 0, 0], [0, 255, 0], [0, 0, 255]].map(|colour| {
        let picture = image::RgbImage::from_pixel(1, 1, image::Rgb(colour));
        image::DynamicImage::from(picture).to_luma8().get_pixel(0, 0).0[0]
    });
    println!("image: {levels:?}");
}
RUST
seen=$(
    "$place/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np
from PIL import Image
from skimage.color import rgb2gray

colours = np.uint8([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]])
print("Pillow:", np.asarray(Image.fromarray(colours).convert("L"))[0].tolist())
print("OpenCV:", cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)[0].tolist())
print("scikit-image:", np.rint(255 * rgb2gray(colours))[0].astype(int).tolist())
PYTHON
    cargo run --quiet --manifest-path "$place/Cargo.toml"
)
echo "gray of pure red, green and blue"
echo "$seen"
[ "$seen" = "Pillow: [76, 150, 29]
OpenCV: [76, 150, 29]
scikit-image: [54, 182, 18]
image: [54, 182, 18]" ] || { echo "it is not as it was" && exit 1; }
