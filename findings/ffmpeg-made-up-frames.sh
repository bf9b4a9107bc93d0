#!/bin/sh
# ffmpeg 9.0.2 (the program of imageio-ffmpeg 0.8.1) passes on a camera whose frames come unevenly, as those of a triggered one do. The guess: raw video and Motion JPEG have no times,
# so that as many frames leave as came. Seen: it makes up frames to fill the gaps at the input's nominal rate: of six frames at 10 a second with a pause of two seconds, 26 are
# written to a pipe of raw video, of Motion JPEG, and to numbered pictures. With -fps_mode passthrough (-vsync passthrough before version 5.1) six are. Source:
# the documentation of -fps_mode auto, which goes by the container; by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check imageio-ffmpeg==0.8.1
ffmpeg=$("$place/venv/bin/python" -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')
"$ffmpeg" -version | head -n 1
# Six frames; the fourth comes two seconds late.
camera() { "$ffmpeg" -v error -f lavfi -i color=gray:size=16x16:rate=10:duration=0.6 -vf "setpts='if(gte(N,3),N+20,N)/(10*TB)'" "$@"; }
raw() { echo $(($(camera "$@" -pix_fmt gray -f rawvideo - | wc -c) / 256)); }
jpegs() { camera "$@" -c:v mjpeg -f mjpeg - | grep -a -o Lavc | wc -l | tr -d ' '; }
pictures() {
    mkdir "$place/pictures"
    camera "$@" "$place/pictures/%d.png"
    echo "$place"/pictures/* | wc -w | tr -d ' '
    rm -r "$place/pictures"
}
for mode in "" "-fps_mode passthrough"; do
    # shellcheck disable=SC2086
    echo "six frames ${mode:-by default}: raw $(raw $mode), Motion JPEG $(jpegs $mode), pictures $(pictures $mode)"
done >"$place/seen"
cat "$place/seen"
[ "$(cat "$place/seen")" = "six frames by default: raw 26, Motion JPEG 26, pictures 26
six frames -fps_mode passthrough: raw 6, Motion JPEG 6, pictures 6" ] || { echo "it is not as it was" && exit 1; }
