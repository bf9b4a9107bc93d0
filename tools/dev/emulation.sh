# shellcheck shell=sh
# The station on an emulated board: a machine of QEMU with Debian's kernel (board/emulation).

# Everything that an emulated board needs; fails with a reason where that cannot be had.
need_board() {
    need_arm || return 1
    packages cpio kmod qemu-system-arm xz-utils || return 1
    need_python3
    [ -d "$BOARD/root" ] || say "Debian's kernel and systemd for the emulated board (110 MB, once)"
    { board/emulation/debian.sh "$BOARD" && modbus_master; } || cannot "what the emulated board is made of could not be had: see above"
}

# The one Python package that the board's peer needs, as tools/requirements.lock pins it.
modbus_master() {
    sed -n '/^pymodbus==/,/[^\\]$/p' tools/requirements.lock >"$BOARD/requirements.lock"
    venv "$BOARD/venv" "$BOARD/requirements.lock"
}

build_board() {
    cargo build --locked --target "$ARM"
    board/emulation/initramfs.sh "$BOARD" "target/$ARM/debug/fcam"
}

run_board() {
    say "the station on an emulated board"
    "$BOARD/venv/bin/python" board/emulation/emulate.py "$BOARD" "$@"
}

emulate() {
    need_rust
    need_board || die "no emulated board here: $WHY"
    build_board
    run_board "$@"
}
