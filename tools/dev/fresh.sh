# shellcheck shell=sh
# Both commands of README.md where nothing is installed: a bare Debian, made anew for each trial and removed after it.

fresh_help() {
    cat <<'TEXT'
./dev fresh [12|13] [--with-host-config] [TRIAL...]
    each TRIAL in a Debian of its own that has git and certificates and nothing else; all of them unless some are named:
      demo test              ./dev demo, ./dev test: as root
      demo-sudo test-sudo    the same as a user with sudo
      libclang-cpp           LLVM's C++ library without libclang: the camera's bindings are built
      old-rustc              the distribution's Rust
      old-python             a python3 that is 3.9
      no-sudo                a user without sudo
      no-find                no find
      closed-home            a home that cannot be written
    --with-host-config       the root gets this machine's certificates, its settings of apt, pip and cargo, and its Rust toolchain: for
                             machines that reach package registries through a mirror
TEXT
}

fresh() {
    release=12 host_config=no trials=
    for word in "$@"; do
        case $word in
            12 | 13) release=$word ;;
            --with-host-config) host_config=yes ;;
            -h | --help) fresh_help && return ;;
            *) trials="$trials $word" ;;
        esac
    done
    [ -n "$trials" ] || trials="demo demo-sudo libclang-cpp old-rustc old-python no-sudo no-find closed-home test test-sudo"
    command -v apt-get >/dev/null || die "fresh needs Debian: its package lists say where packages come from"
    packages git mmdebstrap
    # shellcheck disable=SC2086
    as_root env HOME="$HOME" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" \
        unshare --mount --pid --fork --kill-child tools/fresh.sh "$release" "$host_config" $trials
}
