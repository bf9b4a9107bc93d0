#!/bin/sh
# GStreamer 1.22.0 (Debian 12) writes raw video with rows padded to a multiple of 4 bytes. The guess: a picture whose width is a multiple of 4 has no padding, so that I420 of 300 x 200
# is 300 x 200 x 3 / 2 = 90,000 bytes. Seen: each plane is padded on its own, and a row of chroma (150 bytes) becomes 152: 90,400 bytes; 5 x 5 is 72 in I420 and NV12. ffmpeg packs
# tightly, by its own rounding of odd sides. Source: GStreamer's documentation of raw video layouts; by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# shellcheck source=findings/lib/debian.sh
. "$(dirname "$0")/lib/debian.sh"
debian gstreamer1.0-tools gstreamer1.0-plugins-base
version gstreamer1.0-tools 1.22.0
bytes() {
    count=$(gst-launch-1.0 -q videotestsrc num-buffers=1 ! "video/x-raw,format=$1,width=$2,height=$3" ! fdsink | wc -c)
    echo "$1 $2 x $3: $count"
}
seen=$(
    for format in I420 NV12 YUY2 RGB GRAY8; do bytes $format 300 200; done
    for format in I420 NV12; do bytes $format 5 5; done
    for format in RGB GRAY8; do bytes $format 333 10; done
)
echo "$seen"
[ "$seen" = "I420 300 x 200: 90400
NV12 300 x 200: 90000
YUY2 300 x 200: 120000
RGB 300 x 200: 180000
GRAY8 300 x 200: 60000
I420 5 x 5: 72
NV12 5 x 5: 72
RGB 333 x 10: 10000
GRAY8 333 x 10: 3360" ] || { echo "it is not as it was" && exit 1; }
