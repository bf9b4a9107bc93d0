# shellcheck shell=sh
# The TensorRT shim on a machine without a GPU.

# The real shim without a GPU. What it is compiled against is downloaded once, and is no part of fcam: TensorRT's headers from a crate, CUDA's and
# TensorRT's lean runtime from Python packages.
jetson() {
    need_rust
    packages g++ libc6-dev
    need_python3
    if [ "$(uname -m)" != x86_64 ]; then
        die "the TensorRT shim is not tried here: its wheels are pinned for x86-64"
    fi
    mkdir -p "$JETSON/headers"
    if [ ! -d "$JETSON/vendor/trtx-sys" ]; then
        say "the headers of TensorRT 11.4"
        : >"$JETSON/headers/lib.rs"
        printf '[package]\nname = "headers"\nedition = "2024"\n[lib]\npath = "lib.rs"\n[dependencies]\ntrtx-sys = "=%s"\n[workspace]\n' \
            "$TRTX_VERSION" >"$JETSON/headers/Cargo.toml"
        cargo vendor -q --manifest-path "$JETSON/headers/Cargo.toml" "$JETSON/vendor" >/dev/null
    fi
    if [ ! -d "$JETSON/tensorrt_lean_libs" ]; then
        say "CUDA's headers and TensorRT's lean runtime (50 MB, once)"
        [ -x "$JETSON/venv/bin/python" ] || "$PYTHON" -m venv "$JETSON/venv"
        "$JETSON/venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps --require-hashes \
            -r tests/common/tensorrt/wheels.lock -d "$JETSON/wheels"
        for wheel in "$JETSON"/wheels/*.whl; do
            "$PYTHON" -m zipfile -e "$wheel" "$JETSON"
        done
    fi
    need_fcam
    say "the real shim"
    "$PYTHON" tests/common/tensorrt/real.py "$JETSON" target/debug/fcam
}
