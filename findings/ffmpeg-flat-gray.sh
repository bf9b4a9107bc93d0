#!/bin/sh
# ffmpeg 9.0.2 (the program of imageio-ffmpeg 0.8.1) brings gray of 10, 12 or 16 bits down to 8. The guess: each level is rounded, so that a flat picture stays flat. Seen: it is dithered:
# level 1234 of 4095 becomes a fixed pattern of 76 and 77, 40000 of 65535 one of 155 and 156; with -sws_dither none every picture stays flat. Source: the documentation of
# swscale's sws_dither (auto); by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check imageio-ffmpeg==0.8.1
ffmpeg=$("$place/venv/bin/python" -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')
"$ffmpeg" -version | head -n 1
# levels FORMAT LEVEL [OPTION...]: the levels of a flat picture after it, and their count of pixels.
levels() {
    format=$1
    python3 -c 'import struct, sys; sys.stdout.buffer.write(64 * 64 * struct.pack("<H", int(sys.argv[1])))' "$2" >"$place/flat"
    shift 2
    "$ffmpeg" -v error -f rawvideo -pix_fmt "$format" -s 64x64 -i "$place/flat" "$@" -f rawvideo -pix_fmt gray - |
        od -An -v -tu1 -w1 | sort -n | uniq -c | awk '{ printf "%s%s (%s)", (NR > 1 ? ", " : ""), $2, $1 }'
}
for picture in "gray10le 207" "gray12le 1234" "gray16le 640" "gray16le 40000"; do
    # shellcheck disable=SC2086
    echo "$picture: $(levels $picture); with -sws_dither none: $(levels $picture -sws_dither none)"
done >"$place/seen"
cat "$place/seen"
[ "$(cat "$place/seen")" = "gray10le 207: 51 (1024), 52 (3072); with -sws_dither none: 52 (4096)
gray12le 1234: 76 (512), 77 (3584); with -sws_dither none: 77 (4096)
gray16le 640: 2 (4096); with -sws_dither none: 3 (4096)
gray16le 40000: 155 (2944), 156 (1152); with -sws_dither none: 156 (4096)" ] || { echo "it is not as it was" && exit 1; }
