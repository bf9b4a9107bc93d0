#!/bin/sh
# GStreamer 1.22.0 (Debian 12): videoscale brings 640 x 480 to a square. The guess: the picture is stretched, as every resize of OpenCV or Pillow does. Seen: as long as the shape of
# pixels is free it is; with pixel-aspect-ratio=1/1 in the caps after it, which square-pixel readers ask for, the picture keeps its shape and black bars are added above and
# below (40 of 320 rows each), without a message. add-borders=false stretches again. Source: videoscale's add-borders in gst-inspect-1.0; by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# shellcheck source=findings/lib/debian.sh
. "$(dirname "$0")/lib/debian.sh"
debian gstreamer1.0-tools gstreamer1.0-plugins-base
version gstreamer1.0-plugins-base 1.22.0
# The runs of rows of one level in a white picture that is scaled; the element's properties may follow its name.
rows() {
    caps=$1
    shift
    gst-launch-1.0 -q videotestsrc num-buffers=1 pattern=white ! video/x-raw,format=GRAY8,width=640,height=480 ! "$@" ! "video/x-raw,width=320,height=320$caps" ! fdsink |
        od -An -v -tu1 -w320 | awk '{ print $160 }' | uniq -c | awk '{ printf "%s%s rows of %s", (NR > 1 ? ", " : ""), $1, $2 }'
}
seen=$(
    echo "square: $(rows "" videoscale)"
    echo "square of square pixels: $(rows ,pixel-aspect-ratio=1/1 videoscale)"
    echo "the same without borders: $(rows ,pixel-aspect-ratio=1/1 videoscale add-borders=false)"
)
echo "$seen"
[ "$seen" = "square: 320 rows of 235
square of square pixels: 40 rows of 0, 240 rows of 235, 40 rows of 0
the same without borders: 320 rows of 235" ] || { echo "it is not as it was" && exit 1; }
