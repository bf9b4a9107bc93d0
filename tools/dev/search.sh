# shellcheck shell=sh
# What looks for faults for as long as it is told to: mutated input, long lines, sanitizers.

# Stock tract, which mutated networks are compared with, takes most of the time: optimised, it judges seven times as many of them.
OPTIMISED='profile.dev.package."*".opt-level=3'

fuzz() {
    need_rust
    if [ "${1:-}" = line ]; then
        say "mutated telegrams, requests and station files for ${2:-3600} seconds each"
        FCAM_FUZZ_SECONDS="${2:-3600}" cargo test --locked --test suite -- fuzz_line:: fuzz_modbus:: mutated_requests --nocapture
        return
    fi
    say "mutated networks for ${1:-3600} seconds"
    FCAM_FUZZ_SECONDS="${1:-3600}" cargo test --locked --config "$OPTIMISED" --test fuzz -- --nocapture
}

# A line in real time, then as many parts as a day has at two a second.
line() {
    need_rust
    say "a simulated line of ${1:-100000} parts"
    FCAM_LINE_TRIGGERS="${1:-100000}" cargo test --locked --test line each_trigger -- --nocapture
    FCAM_LINE_TRIGGERS="${1:-100000}" cargo test --locked --test line a_camera -- --nocapture
    say "channels that hang, each alone and all together"
    FCAM_LINE_TRIGGERS="${1:-100000}" cargo test --locked --test line hung -- --nocapture
    say "the parts of a day"
    FCAM_SOAK_PARTS=172800 cargo test --locked --test line memory -- --nocapture
}

# The unsafe code of the int8 engine under AddressSanitizer, its arena fenced step by step (src/engine/int8/fence.rs), then its threads, then under Miri.
sanitize() {
    need_rust
    host=$(rustc -vV | sed -n 's/^host: //p')
    # fcam alone is instrumented, so that no dependency is built for it. A released compiler has the sanitizer, and hides the flag.
    mkdir -p target/sanitize
    printf '#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec "$@" -Zsanitizer=address --cfg fenced\n' >target/sanitize/rustc
    chmod +x target/sanitize/rustc
    asan() {
        # Leaks are not what this looks for.
        RUSTC_WORKSPACE_WRAPPER="$PWD/target/sanitize/rustc" ASAN_OPTIONS=detect_leaks=0 cargo test --locked "$@"
    }
    say "the int8 engine under AddressSanitizer"
    asan --lib engine::int8
    asan --test engine
    say "mutated networks under AddressSanitizer for ${1:-60} seconds"
    FCAM_FUZZ_SECONDS="${1:-60}" asan --config "$OPTIMISED" --test fuzz -- --nocapture
    left=
    races
    miri
    say "nothing found${left:+, NOT run: ${left#; }}"
}

# The threads of the int8 engine under ThreadSanitizer. It takes for a race what it sees no order for, so that the standard library is instrumented too and
# everything is built again, in a folder of its own. A released compiler can do that, and hides the flags.
races() {
    if ! need_rust_src; then
        left="$left; ThreadSanitizer (it needs the source of the standard library: \"rustup component add rust-src\")"
        return 0
    fi
    tsan() {
        RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread --cfg raced" CARGO_TARGET_DIR=target/races cargo test --locked \
            -Zbuild-std=std,panic_unwind,test --target "$host" --config 'profile.test.opt-level=1' --config 'profile.test.package."*".opt-level=0' "$@"
    }
    say "ThreadSanitizer finds a race that is there (the first build takes minutes)"
    tsan --lib --no-run
    found=target/races/planted
    if tsan --lib a_planted_race -- --ignored >"$found" 2>&1 || ! grep -q 'ThreadSanitizer: data race' "$found"; then
        cat "$found" && say "it does not" && return 1
    fi
    say "the int8 engine's threads under ThreadSanitizer"
    tsan --lib -- engine::int8 random_faults_in_the_engine
    tsan --test engine threads_change_nothing
}

# Packing, plan, pool and the portable kernels, interpreted: what the sanitizer cannot see (alignment, uninitialised bytes, pointers out of their allocation).
miri() {
    nightly=nightly-$host
    if ! command -v rustup >/dev/null || ! rustup component add miri rust-src --toolchain "$nightly"; then
        left="$left; Miri (it needs rustup's nightly toolchain: \"rustup toolchain install nightly\")"
        return 0
    fi
    say "the int8 engine under Miri (the first build takes minutes)"
    MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4 CARGO_TARGET_DIR=target/miri \
        cargo "+$nightly" miri test --locked --lib -- engine::int8::arena engine::int8::pool one_of_each_step
}
