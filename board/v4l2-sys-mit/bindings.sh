#!/bin/sh
# Makes src/bindings.rs from the kernel's headers for x86-64 and for 64-bit ARM; they must come out the same.
# Needs (Debian) libclang-dev, linux-libc-dev, libc6-dev, libc6-dev-arm64-cross, and bindgen: cargo install --locked bindgen-cli@0.73.2
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The structures of the requests that `v4l` has, and their members; then what src/camera/v4l2 has beside them.
REQUESTS="audio audioout buffer capability control crop cropcap edid enc_idx encoder_cmd exportbuffer ext_controls fmtdesc format framebuffer frequency
    frmivalenum frmsizeenum input jpegcompression modulator output outputparm query_ext_ctrl queryctrl querymenu requestbuffers sliced_vbi_cap standard
    std_id streamparm tuner"
ENUMS="buf_type colorspace ctrl_type field frmivaltypes frmsizetypes memory quantization ycbcr_encoding"
# What a control of a video codec points to: used by nobody, and newer headers name more of its bytes.
OPAQUE="v4l2_ctrl_(fwht|h264|hdr10|hevc|mpeg2|vp8|vp9)_.*"
CONSTANTS="V4L2_BUF_FLAG_.* V4L2_CAP_.* V4L2_CTRL_FLAG_.* V4L2_PIX_FMT_PRIV_MAGIC"

list() { echo "$*" | tr -s ' \n' '|'; }

# bindings OUT CLANG_ARGUMENT...
bindings() {
    out=$1 && shift
    bindgen --rust-target 1.85 --rust-edition 2024 --use-core --no-doc-comments --allowlist-type "v4l2_($(list "$REQUESTS $ENUMS"))|time_t" \
        --opaque-type "$OPAQUE" \
        --allowlist-var "$(list "$CONSTANTS")" --raw-line "// Made by bindings.sh of linux/videodev2.h: GPL-2.0 with the syscall note, or BSD-3-Clause." \
        -o "$out" "$work/wrapper.h" -- "$@"
}

echo '#include <linux/videodev2.h>' >"$work/wrapper.h"
bindings "$work/x86_64.rs" --target=x86_64-linux-gnu
bindings "$work/aarch64.rs" --target=aarch64-linux-gnu -I/usr/aarch64-linux-gnu/include
cmp "$work/x86_64.rs" "$work/aarch64.rs"
cp "$work/x86_64.rs" src/bindings.rs
