# shellcheck shell=sh
# The tests, in lanes that each run alone; `./dev test` is their sum. What a lane cannot run on a machine it says at its end, and a
# test that skips itself is heard as well: tests write to the file that FCAM_NOT_RUN names. With CI set, nothing may be left out.

LANES="lint unit arm board py docs"
ELSEWHERE="bench, findings, fresh, fuzz, image test, jetson, latency, line, matiec, package test, readme, sanitize"

# not_run WHAT WHY
not_run() {
    say "NOT run: $1 ($2)"
    echo "$1 ($2)" >>"$FCAM_NOT_RUN"
}

left_out() { sort -u "$FCAM_NOT_RUN" | paste -sd';' | sed 's/;/; /g'; }

# lane NAME: its last line says what was left out, and whether it passed.
lane() {
    FCAM_NOT_RUN=$(mktemp)
    export FCAM_NOT_RUN
    trap 'lane_ends '"$1"' $?' EXIT
    "lane_$1"
}

lane_ends() {
    trap - EXIT
    left=$(left_out)
    [ -z "${FCAM_ALL_NOT_RUN:-}" ] || sed "s/^/$1: /" "$FCAM_NOT_RUN" >>"$FCAM_ALL_NOT_RUN"
    rm -f "$FCAM_NOT_RUN"
    if [ "$2" != 0 ]; then
        say "$1: FAILED${left:+, NOT run: $left}"
    elif [ -n "$left" ] && [ -n "${CI:-}" ]; then
        say "$1: FAILED: in CI everything runs. NOT run: $left"
        exit 1
    else
        say "$1: passed${left:+, NOT run: $left}"
    fi
    exit "$2"
}

test_all() {
    [ $# = 0 ] || { echo "./dev test runs every lane: $LANES; one alone is \"./dev $1\"" >&2 && exit 2; }
    FCAM_ALL_NOT_RUN=$(mktemp)
    export FCAM_ALL_NOT_RUN
    after=" $LANES"
    for lane in $LANES; do
        after=${after#" $lane"}
        if ! ./dev "$lane"; then
            rm -f "$FCAM_ALL_NOT_RUN"
            say "FAILED: $lane${after:+. NOT run after it:$after}"
            exit 1
        fi
    done
    left=$(FCAM_NOT_RUN=$FCAM_ALL_NOT_RUN left_out)
    rm -f "$FCAM_ALL_NOT_RUN"
    echo "In no lane, each a verb of its own: $ELSEWHERE"
    if [ -n "$left" ]; then say "passed, NOT run: $left"; else say "all tests passed"; fi
}

# ready [LANE...]: all that they need, without a test being run.
ready() {
    # shellcheck disable=SC2048 # no lane has a space
    for lane in ${*:-$LANES}; do
        case " $LANES " in
            *" $lane "*) "ready_$lane" || die "not ready: $lane${WHY:+ ($WHY)}" ;;
            *) die "no lane $lane; there are $LANES" ;;
        esac
    done
    say "ready"
}

# --- lint -----------------------------------------------------------------------------------------------------------

ready_lint() {
    need_rust
    packages shellcheck systemd
    need_deny
}

lane_lint() {
    ready_lint
    say "format"
    cargo fmt --check
    say "clippy"
    cargo clippy --locked --all-targets -- -D warnings
    lint_features
    lint_arm
    say "licences, bans, sources"
    cargo deny --locked check bans licenses sources
    lint_shell
    lint_service
}

# Each feature alone, and none: what is behind one may not need another.
lint_features() {
    for feature in "" $(features); do
        say "clippy, ${feature:-no} feature alone"
        cargo clippy --locked --no-default-features --features "$feature" --lib --bins -- -D warnings
    done
}

features() { sed -n '/^\[features\]/,/^\[/s/^\([a-z0-9_-]*\) = .*/\1/p' Cargo.toml | grep -v '^default$'; }

# What cameras run: the kernels of 64-bit ARM are compiled nowhere else.
lint_arm() {
    if ! need_arm; then
        not_run "clippy for $ARM" "$WHY"
        return 0
    fi
    say "clippy for $ARM, alone and with rpi"
    cargo clippy --locked --target "$ARM" --lib --bins -- -D warnings
    cargo clippy --locked --target "$ARM" --lib --bins --features rpi -- -D warnings
}

# What git knows and does not ignore; where git does not answer (a copy without .git, a clone of another user), all but what is made here.
own_files() {
    git ls-files --cached --others --exclude-standard 2>/dev/null ||
        find . \( -path ./target -o -path ./out -o -path ./data -o -path ./runs -o -name .git -o -name .venv -o -name '.*_cache' \) -prune \
            -o -type f -print | sed 's|^\./||'
}

# Every shell script of the repository: by its ending, or by its first line.
scripts() {
    own_files | while read -r file; do
        [ -f "$file" ] || continue
        first=
        case ${file##*/} in
            *.sh) first='#!sh' ;;
            *.*) ;;
            *) read -r first <"$file" || true ;;
        esac
        case $first in
            '#!'*sh | '#!'*sh' '*) echo "$file" ;;
        esac
    done
}

lint_shell() {
    if ! command -v shellcheck >/dev/null; then
        not_run "shellcheck" "it is not here"
        return 0
    fi
    found=$(scripts)
    say "shellcheck, $(echo "$found" | wc -l) scripts"
    # All of them run in dash or busybox. Left out: files of another machine that are sourced (SC1091), and other programs' dollars (SC2016).
    # shellcheck disable=SC2086
    shellcheck -x -s dash -e SC1091,SC2016 $found
}

# What the service could do to the board if somebody took it over: 0 nothing, 10 everything.
lint_service() {
    if ! systemd-analyze security --help 2>/dev/null | grep -q -e --threshold; then
        not_run "the service's exposure" "that needs systemd-analyze of systemd 250 or later"
        return 0
    fi
    say "the service's exposure, less than 2.0"
    report=$(systemd-analyze security --offline=true --no-pager --threshold=20 board/systemd/fcam.service) ||
        { echo "$report" && return 1; }
    echo "$report" | tail -n 1
}

# --- unit -----------------------------------------------------------------------------------------------------------

ready_unit() {
    need_rust
    packages ffmpeg libjpeg-turbo-progs mbpoll minisign procps python3 strace
}

lane_unit() {
    ready_unit
    say "Rust tests"
    cargo build --locked
    cargo test --locked
}

# --- arm ------------------------------------------------------------------------------------------------------------

ready_arm() {
    need_rust
    need_arm
}

# The kernels of 64-bit ARM, and the default bundle's proof, on emulated CPUs.
lane_arm() {
    if ! ready_arm; then
        not_run "all of it" "$WHY"
        return 0
    fi
    for cpu in $ARM_CPUS; do
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $cpu -L $ARM_LIBC"
        say "the int8 engine, JPEG, resizing and the conversion of colours on an emulated $cpu"
        cargo test --locked --target "$ARM" --lib -- engine::int8 preprocess::color camera::jpeg resize
        say "its layers beside ONNX Runtime's on an emulated $cpu"
        cargo test --locked --target "$ARM" --test engine
    done
    cargo build --locked --target "$ARM"
    for cpu in $ARM_CPUS; do
        say "the default bundle on an emulated $cpu"
        arm_run "$cpu" "target/$ARM/debug/fcam" check models/default
    done
}

# --- board ----------------------------------------------------------------------------------------------------------

ready_board() {
    need_rust
    need_board
}

lane_board() {
    if ! ready_board; then
        not_run "the station on an emulated board" "$WHY"
        return 0
    fi
    build_board
    run_board
}

# --- py -------------------------------------------------------------------------------------------------------------

ready_py() {
    need_rust
    packages binutils ffmpeg libjpeg-turbo-progs mbpoll openssl
    [ "$(uname -m)" != x86_64 ] || packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    # Elsewhere Chromium is no package of apt: the tests of the page in a browser skip themselves without it.
    ! grep -qx 'ID=debian' /etc/os-release 2>/dev/null || packages chromium fonts-ipafont-gothic
    # Tests leave no ssh server on somebody's machine: without one, `deploy` is tested with a stand-in for ssh, and the real one is left out.
    [ -z "${CI:-}" ] || packages openssh-client openssh-server
    need_python
}

lane_py() {
    ready_py
    say "Python lints"
    "$VENV/bin/ruff" check --config tools/pyproject.toml tools tests board
    "$VENV/bin/ruff" format --config tools/pyproject.toml --check tools tests board
    "$VENV/bin/mypy" --config-file tools/pyproject.toml
    cargo build --locked
    say "Python tests"
    python_tests tests/tools
}

python_tests() { FCAM="$PWD/target/debug/fcam" "$VENV/bin/pytest" -q -c tools/pyproject.toml --rootdir . "$@"; }

# The commands of tools/README.md, from two folders of pictures to a bundle that judges.
readme() {
    ready_py
    "$VENV/bin/python" tests/tools/walk_readme.py
}

# The function blocks of board/plc through a compiler that no package list has; it is named in IEC2C.
matiec() {
    need_python
    python_tests tests/tools/needs_matiec.py
}

# --- docs -----------------------------------------------------------------------------------------------------------

ready_docs() { need_rust; }

lane_docs() {
    ready_docs
    say "documentation"
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet
    say "the examples in it"
    cargo test --locked --quiet --doc
}
