# shellcheck shell=sh
# shellcheck disable=SC2034 # the files beside this one read them
# Names and small helpers that every verb shares.

DENY_VERSION=0.20.2
AUDITABLE_VERSION=0.7.7
PYTHON=${PYTHON:-python3}
VENV=.venv
DATA=data/synth
ARM=aarch64-unknown-linux-gnu
ARM_LIBC=/usr/aarch64-linux-gnu
BOARD=target/emulation
JETSON=target/jetson
TRTX_VERSION=0.9.1 # carries the headers of TensorRT 11.4
ARM_CPUS="cortex-a72 cortex-a76" # Raspberry Pi 4 and 5
BOARDS=target/boards
IMAGE=target/image
FINDINGS=target/findings
# What the program for boards is built with; "board tract" computes float networks too, and is half as large again.
export FCAM_FEATURES="${FCAM_FEATURES:-board}"
BOARD_LIBC=2.31 # JetPack 5, Raspberry Pi OS 11; all that came after has a newer one

say() { printf '\033[1m== %s\033[0m\n' "$*"; }

die() {
    echo "dev: $*" >&2
    exit 1
}

# Says why something cannot be had here, for the caller to tell; fails.
cannot() {
    WHY=$*
    return 1
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Installs those of the Debian packages that are not there. Where there is no apt, it says which to have, and goes on.
packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        say "no apt-get here: have what Debian calls$missing"
        return 0
    fi
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        die "no sudo here. As root: \"apt-get update && apt-get install --no-install-recommends$missing\"; then this again"
    fi
    say "system packages:$missing"
    if ! as_root apt-get update -qq; then
        command -v find >/dev/null || die "there is no find, without which Debian 12's apt trusts no package list: bring findutils back, then this again"
        die "the package lists could not be read: see apt's message above"
    fi
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
        die "not installed:$missing. See apt's message above"
}

# True if the folder, or what would hold it, can be written.
writable() {
    folder=$1
    until [ -e "$folder" ]; do folder=$(dirname "$folder"); done
    [ -d "$folder" ] && [ -w "$folder" ]
}

# at_least WANTED VERSION
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

fcam_version() { sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1; }
