#!/bin/sh
# Makes a Jetson ready for fcam's TensorRT engine, on the Jetson itself: compiles the shim against this JetPack, builds the engine, checks the bundle.
#
#     sudo board/jetson/install.sh [STATION.toml]
#
# Needs fcam in the PATH (or FCAM=/path/to/fcam) and JetPack's own packages; asks nobody else for anything. Run it again after each update of JetPack.
set -eu
# No cd: STATION.toml, FCAM= and the folders below may be relative, to where the caller is.
here=$(cd "$(dirname "$0")" && pwd)

FCAM=${FCAM:-fcam}
CUDA=${CUDA:-/usr/local/cuda}
PLACE=${PLACE:-/usr/lib/fcam}
DEFAULT_CACHE=/var/cache/fcam/engines
CACHE=${CACHE:-$DEFAULT_CACHE}

say() { printf '== %s\n' "$*"; }
give_up() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 2
}

# The folder of the headers: a Jetson has them in Debian's place, other installations where INCLUDE says.
headers() {
    for folder in ${INCLUDE:-} "/usr/include/$(uname -m)-linux-gnu" /usr/include; do
        [ -f "$folder/NvInfer.h" ] && [ -f "$folder/NvOnnxParser.h" ] && echo "$folder" && return 0
    done
    return 1
}

[ $# -eq 0 ] || [ -f "$1" ] || give_up "there is no station file $1"
command -v "$FCAM" >/dev/null || give_up "there is no $FCAM: install fcam first, or name it by FCAM="
command -v g++ >/dev/null || give_up "there is no g++: apt-get install g++"
[ -f "$CUDA/include/cuda_runtime_api.h" ] || give_up "there is no CUDA at $CUDA: apt-get install nvidia-cuda-dev (or nvidia-jetpack), or name it by CUDA="
include=$(headers) || give_up "there are no TensorRT headers: apt-get install nvidia-tensorrt-dev (or libnvinfer-dev libnvonnxparsers-dev), or name their folder by INCLUDE="
libraries=$CUDA/lib64
[ -f "$libraries/libcudart_static.a" ] || give_up "there is no libcudart_static.a in $libraries: apt-get install nvidia-cuda-dev"

version=$(sed -n 's/^#define \(NV_TENSORRT\|TRT\)_\(MAJOR\|MINOR\|PATCH\)\(_ENTERPRISE\)\{0,1\} \([0-9][0-9]*\).*/\4/p' "$include/NvInferVersion.h" | paste -sd.)
say "the shim for TensorRT $version ($include) and CUDA in $CUDA"
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
g++ -std=c++14 -O2 -Wall -Wextra -Wno-deprecated-declarations -fPIC -shared -isystem "$include" -isystem "$CUDA/include" \
    "$here/trt_shim.cc" -o "$made/libfcam_trt.so" -L"$libraries" -lcudart_static -ldl -lrt -lpthread
mkdir -p "$PLACE"
# Renamed and not overwritten: a station that runs keeps the one that it has opened.
install -m 0644 "$made/libfcam_trt.so" "$PLACE/libfcam_trt.so.new"
mv "$PLACE/libfcam_trt.so.new" "$PLACE/libfcam_trt.so"
say "$PLACE/libfcam_trt.so"

mkdir -p "$CACHE"
say "the engine: this takes minutes"
if [ $# -gt 0 ]; then
    "$FCAM" engine build --config "$1" --shim "$PLACE/libfcam_trt.so" --engine-cache "$CACHE"
    say "the station file"
    "$FCAM" check "$1"
else
    "$FCAM" engine build --shim "$PLACE/libfcam_trt.so" --engine-cache "$CACHE"
    say "the bundle, on TensorRT"
    "$FCAM" check --backend tensorrt --shim "$PLACE/libfcam_trt.so" --engine-cache "$CACHE"
fi
if systemctl cat fcam.service >/dev/null 2>&1; then
    say "the service may use the GPU: /etc/systemd/system/fcam.service.d/jetson.conf"
    install -D -m 0644 "$here/fcam.conf" /etc/systemd/system/fcam.service.d/jetson.conf
    systemctl daemon-reload
fi
# The station's user builds a missing engine itself and removes old ones: the folder and its engines are that user's, and nothing above it, which may
# hold what is somebody else's. -h: who owns the folder could have put a link there, to a file that is not to be given away.
if id fcam >/dev/null 2>&1; then
    [ "$CACHE" != "$DEFAULT_CACHE" ] || chown -h fcam: "$(dirname "$CACHE")"
    chown -h fcam: "$CACHE"
    find "$CACHE" -maxdepth 1 -type f -name '*.engine' -exec chown -h fcam: {} +
fi
say "ready; nvpmodel and clocks as on the line? An engine is timed at the power mode that it is built in"
