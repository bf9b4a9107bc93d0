#!/bin/sh
# GStreamer 1.22.0 (Debian 12): a queue in front of something slow, to be kept short by dropping frames. The guess: leaky=upstream drops what waits and keeps the newest, or
# leaky=downstream refuses what comes. Seen: upstream means that the newcomer is dropped, so that the reader gets the oldest frames and the last of 30 never comes; downstream means
# that what has waited longest is dropped, and the newest come through. Source: the property's values in gst-inspect-1.0 queue; by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# shellcheck source=findings/lib/debian.sh
. "$(dirname "$0")/lib/debian.sh"
debian gstreamer1.0-tools gstreamer1.0-plugins-base
version gstreamer1.0-tools 1.22.0
frames=30
python3 -c 'import sys; [sys.stdout.buffer.write(bytes([frame]) * 256) for frame in range(int(sys.argv[1]))]' $frames >"$place/frames"
# The numbers of the frames that a slow reader gets.
through() {
    gst-launch-1.0 -q filesrc location="$place/frames" ! rawvideoparse format=gray8 width=16 height=16 framerate=30/1 ! \
        queue "leaky=$1" max-size-buffers=3 max-size-time=0 max-size-bytes=0 ! identity sleep-time=100000 ! fdsink | od -An -v -tu1 -w256 | awk '{ printf "%s ", $1 }'
}
upstream=$(through upstream)
downstream=$(through downstream)
echo "of frames 0 to 29, three at a time: leaky=upstream passes $upstream; leaky=downstream passes $downstream"
case $upstream in *" 29 "*) right=no ;; "0 1 2 "*) right=yes ;; *) right=no ;; esac
case $downstream in *"27 28 29 ") ;; *) right=no ;; esac
[ $right = yes ] || { echo "it is not as it was" && exit 1; }
