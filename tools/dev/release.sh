# shellcheck shell=sh
# Programs and packages for boards.

boards() {
    for file in board/*.toml; do
        [ "$file" = board/station.example.toml ] || basename "$file" .toml
    done
}

# The CPU that stands in for a board's; qemu-user of Debian 12 knows no Cortex-A78AE.
board_cpu() {
    case "$1" in
        rpi4) echo cortex-a72 ;;
        *) echo cortex-a76 ;;
    esac
}

cross() {
    [ $# -gt 0 ] || { echo "./dev cross BOARD...: $(boards | paste -sd' ')" >&2 && exit 2; }
    for board in "$@"; do
        [ -f "board/$board.toml" ] || { echo "no board $board; there are $(boards | paste -sd' ')" >&2 && exit 2; }
    done
    cross_build
    for board in "$@"; do
        cpu=$(board_cpu "$board")
        say "$board: the station file and the default bundle on an emulated $cpu"
        arm_run "$cpu" "$BOARDS/fcam" check "board/$board.toml" models/default
        say "$BOARDS/fcam and board/$board.toml are for $board"
    done
}

# One program for all boards: the kernels for newer processors are in it, and chosen where it runs.
cross_build() {
    need_rust
    need_arm || die "$WHY"
    need_zig
    need_auditable
    say "fcam for $ARM and glibc $BOARD_LIBC (the first build takes minutes)"
    mkdir -p "$BOARDS"
    FCAM_COMMIT=$(git rev-parse --short=12 HEAD 2>/dev/null || true) # for `fcam --version`
    export FCAM_COMMIT
    # A target folder of its own: another linker has everything built again.
    (
        unset CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER CC_aarch64_unknown_linux_gnu
        PATH="$PWD/target/zig-venv/bin:$PATH" CARGO_TARGET_DIR=target/zig \
            cargo auditable zigbuild --locked --no-default-features --features "$FCAM_FEATURES" --profile board --target "$ARM.$BOARD_LIBC"
    )
    python3 board/size.py "target/zig/$ARM/board/fcam" "$BOARDS/fcam" "$BOARD_LIBC"
}

package() {
    case "${1:-}" in
        test) package_test ;;
        '') package_make ;;
        *) echo "./dev package [test]" >&2 && exit 2 ;;
    esac
}

package_make() {
    cross_build
    packages debhelper dpkg-dev python3
    board/package.sh "$BOARDS/fcam" "$BOARDS"
}

# Debian for 64-bit ARM takes minutes, once.
package_test() {
    cross_build
    packages arch-test debhelper dpkg-dev mmdebstrap python3 qemu-user-static
    board/package.sh "$BOARDS/fcam" "$BOARDS/old" 0.0.1
    board/package.sh "$BOARDS/fcam" "$BOARDS"
    say "Debian for 64-bit ARM in $IMAGE/minimal.tar (some minutes, once)"
    as_root python3 board/image/foreign.py board/image/root.sh arm64 "$IMAGE/minimal.tar"
    say "the package in it"
    as_root python3 board/image/foreign.py board/package_test.sh "$IMAGE/minimal.tar" "$BOARDS/old/fcam_0.0.1_arm64.deb" "$(newest_package)"
}

newest_package() { echo "$BOARDS/fcam_$(fcam_version)_arm64.deb"; }
