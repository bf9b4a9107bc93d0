# shellcheck shell=sh
# What verbs need, each made ready once. Whatever cannot be had ends with one line that says what to do.

# The toolchain of rust-toolchain.toml. One that is older, such as a distribution's, stays; rustup's comes before it in the PATH.
need_rust() {
    [ -n "${HOME:-}" ] || die "HOME is not set: set it to a folder that can be written"
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    writable "$cargo_home" || die "$cargo_home cannot be written, and cargo keeps its downloads there: set CARGO_HOME to a folder that can"
    command -v cc >/dev/null || packages gcc libc6-dev
    [ -d "$cargo_home/bin" ] && PATH="$cargo_home/bin:$PATH"
    export PATH
    wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    if ! command -v rustup >/dev/null; then
        new_rust || install_rust
    elif ! rustup toolchain list | grep -q "^$wanted"; then
        say "the Rust toolchain $wanted"
        rustup toolchain install "$wanted" --profile minimal --component rustfmt --component clippy ||
            die "rustup could not install Rust $wanted: see its message above"
    fi
}

# True if there is a compiler that is new enough, by itself.
new_rust() {
    oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    command -v cargo >/dev/null && command -v rustc >/dev/null && at_least "$oldest" "$(rustc --version | cut -d' ' -f2)"
}

install_rust() {
    command -v rustc >/dev/null && say "$(rustc --version | cut -d' ' -f1,2) is older than Rust $oldest"
    rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
    writable "$rustup_home" || die "$rustup_home cannot be written: set RUSTUP_HOME to a folder that can, for the Rust toolchain"
    say "the Rust toolchain $wanted"
    command -v curl >/dev/null || packages ca-certificates curl
    script=$(mktemp)
    if curl --proto '=https' --tlsv1.2 -sSf -o "$script" https://sh.rustup.rs &&
        sh "$script" -y -q --no-modify-path --profile minimal --component rustfmt --component clippy --default-toolchain "$wanted"; then
        PATH="$cargo_home/bin:$PATH"
    fi
    rm -f "$script"
    command -v rustup >/dev/null || die "Rust $wanted could not be installed: install rustup (https://rustup.rs), then this again"
}

# A Python that is new enough, with venv.
need_python3() {
    command -v "$PYTHON" >/dev/null || packages python3
    command -v "$PYTHON" >/dev/null || die "there is no $PYTHON: name Python 3.11 or a newer one in PYTHON"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$PYTHON is $("$PYTHON" --version 2>&1), and Python 3.11 is the oldest that works: install a newer one and name it, as in \"PYTHON=python3.12 ./dev test\""
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || packages python3-venv
}

# venv FOLDER LOCK: a virtual environment with exactly the packages of a lock file; quick if it has them already.
venv() {
    locked=$(sha256sum "$2" | cut -d' ' -f1)
    [ "$(cat "$1/locked.sha256" 2>/dev/null)" = "$locked" ] && return 0
    say "Python packages of $2 into $1"
    [ -x "$1/bin/python" ] || "$PYTHON" -m venv "$1" || return 1
    "$1/bin/python" -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r "$2" || return 1
    echo "$locked" >"$1/locked.sha256"
}

# What `import torch` and training on a CPU do without: 1.4 GB of 6.3. To all else of CUDA PyTorch's libraries are linked, and without
# one of those it cannot be imported (tests/tools/test_dev.py asks them).
GPU_ALONE="triton nvidia-cusolver nvidia-nvjitlink nvidia-nvtx nvidia-cuda-cccl cuda-bindings cuda-pathfinder cuda-toolkit"

# FCAM_GPU=yes or no decides; otherwise whether there is an NVIDIA device (/dev/dxg is that of WSL). Left out on x86-64 alone: nothing else was tried.
wants_gpu() {
    case ${FCAM_GPU:-} in
        yes) return 0 ;;
        no) return 1 ;;
        "") [ -e /dev/nvidiactl ] || [ -e /dev/dxg ] || [ "$(uname -m)" != x86_64 ] ;;
        *) die "FCAM_GPU=$FCAM_GPU is neither yes nor no" ;;
    esac
}

# without_gpu LOCK: the same without what only a GPU uses. A package is a line and those of its hashes, each but the last with a backslash at its end.
without_gpu() { sed -E "/^($(echo "$GPU_ALONE" | sed 's/ /|/g'))==/,/[^\\]\$/d" "$1"; }

need_python() {
    need_python3
    lock=tools/requirements.lock
    if ! wants_gpu; then
        mkdir -p target
        without_gpu $lock >target/requirements.lock
        lock=target/requirements.lock
        say "no GPU here, and no packages for one (FCAM_GPU=yes brings them)"
    fi
    venv "$VENV" $lock || die "not installed: $lock. See pip's message above"
    [ -x "$VENV/bin/fcam-tools" ] || "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e tools
}

need_fcam() {
    say "fcam (the first build takes minutes)"
    cargo build --locked
}

# What building for 64-bit ARM and running it on this machine needs; fails with a reason where that cannot be had.
need_arm() {
    if [ "$(uname -m)" != x86_64 ] || ! command -v apt-get >/dev/null; then
        cannot "cross-building for ARM is set up for Debian on x86-64" || return
    fi
    packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user || return 1
    arm_library || return 1
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
}

arm_library() {
    rustlib=$(rustc --print sysroot)/lib/rustlib
    has_library && return 0
    say "Rust's standard library for $ARM"
    command -v rustup >/dev/null && rustup target add "$ARM" && return 0
    if [ -f "${FCAM_AARCH64_STD:-}" ]; then
        # An archive of rustlib/aarch64-unknown-linux-gnu of exactly this toolchain.
        packages zstd && tar -C "$rustlib" --zstd -xf "$FCAM_AARCH64_STD" && return 0
    fi
    arm_std && return 0
    cannot "neither rustup nor rust-src provide the standard library (\"rustup target add $ARM\")"
}

has_library() {
    for library in "$rustlib/$ARM/lib"/libstd-*.rlib; do
        [ -f "$library" ] && return 0
    done
    return 1
}

# The source of the toolchain's own standard library.
need_rust_src() {
    [ -f "$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ] && return 0
    command -v rustup >/dev/null && rustup component add rust-src
}

# Builds the standard library once from the toolchain's own source.
arm_std() {
    need_rust_src || return 1
    mkdir -p target/std/src && echo 'fn main() {}' >target/std/src/main.rs || return 1
    printf '[package]\nname = "empty"\nedition = "2024"\n[workspace]\n' >target/std/Cargo.toml || return 1
    RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=target/std/target cargo build -q --release --manifest-path target/std/Cargo.toml \
        --target "$ARM" -Z build-std=std,panic_unwind,test || return 1
    mkdir -p "$rustlib/$ARM/lib" && cp "target/std/target/$ARM/release/deps/"*.rlib "$rustlib/$ARM/lib/"
}

# arm_run CPU PROGRAM ...: never without a CPU, since the default has what no such board has.
arm_run() {
    cpu=$1 && shift
    qemu-aarch64 -cpu "$cpu" -L "$ARM_LIBC" "$@"
}

# Zig's linker and libc stubs, as tools/cross.lock pins them, in a folder of their own.
need_zig() {
    need_python3
    venv target/zig-venv tools/cross.lock
}

# Writes what a program was built from into it.
need_auditable() { cargo_tool cargo-auditable "$AUDITABLE_VERSION"; }

need_deny() { cargo_tool cargo-deny "$DENY_VERSION"; }

# cargo_tool NAME VERSION: built without optimisation, since it runs for a second.
cargo_tool() {
    command -v "$1" >/dev/null && return 0
    say "$1 $2 (built once)"
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install -q --locked "$1@$2"
}
