#!/bin/sh
# GStreamer 1.22.0 (Debian 12): videoconvert on a white picture of a camera's limited range (luma 235). The guess: RGB and gray come out at 255. Seen: every 8-bit RGB is 253; gray is
# a copy of BT.601's luma, 235, and 253 of BT.709's, so that the caps' colorimetry, which cameras set by size, moves gray by 18 levels. jpegenc encodes the luma as it is
# under a JFIF header, which means full range: its white is 235 for every reader. Source: by running it; JFIF (ITU-T T.871) has 0 to 255.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# shellcheck source=findings/lib/debian.sh
. "$(dirname "$0")/lib/debian.sh"
debian gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
version gstreamer1.0-plugins-good 1.22.0
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check pillow==13.0.0
white() { gst-launch-1.0 -q videotestsrc num-buffers=1 pattern=white ! "video/x-raw,width=32,height=16,$1" ! "$2" ! "$3" ! filesink location="$place/white"; }
level() { od -An -tu1 -N1 "$place/white" | tr -d ' '; }
seen=$(
    for source in I420 NV12 YUY2; do
        for colours in bt601 bt709; do
            for to in RGB GRAY8; do
                white "format=$source,colorimetry=$colours" videoconvert "video/x-raw,format=$to"
                echo "$source $colours to $to: $(level)"
            done
        done
    done
    white format=I420 jpegenc image/jpeg
    "$place/venv/bin/python" -c 'import sys; from PIL import Image; print("jpegenc, read by Pillow:", Image.open(sys.argv[1]).getpixel((0, 0)))' "$place/white"
)
echo "white (235):"
echo "$seen"
wanted=$(
    for source in I420 NV12 YUY2; do
        printf '%s\n' "$source bt601 to RGB: 253" "$source bt601 to GRAY8: 235" "$source bt709 to RGB: 253" "$source bt709 to GRAY8: 253"
    done
    echo "jpegenc, read by Pillow: (235, 235, 235)"
)
[ "$seen" = "$wanted" ] || { echo "it is not as it was" && exit 1; }
