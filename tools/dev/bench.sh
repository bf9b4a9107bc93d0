# shellcheck shell=sh
# Times and counts.

bench() {
    case "${1:-}" in
        arm | mjpeg | peers)
            verb=bench_$1
            shift
            $verb "$@"
            return
            ;;
    esac
    need_rust
    say "fcam, optimised (six minutes the first time)"
    cargo build --release --locked
    target/release/fcam bench "$@"
}

# Executed instructions of one inference: the difference of two runs with and without layer times, so that only the engine's are left.
bench_arm() {
    need_rust
    need_arm || die "$WHY"
    if [ "${1:-}" = mjpeg ]; then
        bench_arm_mjpeg
        return
    fi
    bundle=${1:-models/default}
    cargo build --locked --target "$ARM"
    counts=target/icount
    mkdir -p "$counts"
    cc -O2 -Wall -Wextra -shared -fPIC -o "$counts/icount.so" tools/icount/icount.c
    for cpu in $ARM_CPUS; do
        say "$bundle on an emulated $cpu: M instructions of an inference"
        for frames in 1 3; do
            for layers in "" --layers; do
                # shellcheck disable=SC2086
                arm_run "$cpu" -plugin "$counts/icount.so" -d plugin -D "$counts/$frames$layers" "target/$ARM/debug/fcam" \
                    bench --bundle "$bundle" --frames "$frames" --no-float --json $layers >"$counts/report$layers.json"
            done
        done
        macs=$(grep -o '"macs":[0-9]*' "$counts/report--layers.json" | awk -F: '{ sum += $2 } END { print sum }')
        paste -d ' ' "$counts/3--layers" "$counts/1--layers" "$counts/3" "$counts/1" | awk -v macs="$macs" -v cpu="$cpu" '
            { count = ($2 - $4 - $6 + $8) / 2e6; total += count; printf "%-10s%8.2f\n", $1, count }
            END {
                each = cpu == "cortex-a72" ? 8 : 16
                printf "%-10s%8.2f\n", "total", total
                printf "%-10s%8.2f  (%.1f M multiply-adds, %d an instruction)\n", "floor", macs / each / 1e6, macs / 1e6, each
            }'
    done
}

# Executed instructions from Motion JPEG to the network's input: the difference of two runs with another number of frames.
bench_arm_mjpeg() {
    counts=target/icount
    mkdir -p "$counts"
    cc -O2 -Wall -Wextra -shared -fPIC -o "$counts/icount.so" tools/icount/icount.c
    cargo test --locked --profile dev --target "$ARM" --test suite --no-run
    # The newest of those that builds left there.
    # shellcheck disable=SC2010
    program=$(ls -t "target/$ARM/debug/deps/"suite-* | grep -v '\.d$' | head -n 1)
    for cpu in $ARM_CPUS; do
        say "1280 x 720 to 256 x 256 on an emulated $cpu: M instructions a frame"
        for format in 422 420; do
            for way in planes rgb; do
                for frames in 1 3; do
                    FCAM_MJPEG=$way$format FCAM_FRAMES=$frames arm_run "$cpu" -plugin "$counts/icount.so" -d plugin \
                        -D "$counts/$way$frames" "$program" --ignored --exact mjpeg_speed::one_way --test-threads 1 >/dev/null
                done
            done
            paste -d ' ' "$counts/planes3" "$counts/planes1" "$counts/rgb3" "$counts/rgb1" | awk -v format="$format" '
                { planes += $2 - $4; rgb += $6 - $8 }
                END { printf "%s: planes %.1f, RGB picture %.1f: ratio %.2f\n", format, planes / 2e6, rgb / 2e6, planes / rgb }'
        done
    done
}

# Of the dev profile: optimised, and without the checks of tests.
bench_mjpeg() {
    need_rust
    packages libjpeg-turbo-progs
    cargo test --locked --profile dev --test suite -- --ignored --exact mjpeg_speed::side_by_side --nocapture
}

# fcam beside other runtimes, on the same networks in one go.
bench_peers() {
    need_rust
    need_python
    say "the peers of tools/peers.lock into $VENV"
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r tools/peers.lock
    say "fcam, optimised (six minutes the first time)"
    cargo build --release --locked
    "$VENV/bin/fcam-tools" peers "$@"
}

# Of the dev profile: optimised, and without the checks of tests.
latency() {
    need_rust
    say "${1:-3000} triggers, the default bundle"
    FCAM_LATENCY_PARTS="${1:-3000}" cargo test --locked --profile dev --test latency -- --ignored --nocapture table
    say "the same with every channel on: telegrams, registers, records, and JSON lines that nobody reads"
    FCAM_LATENCY_CHANNELS=1 FCAM_LATENCY_PARTS="${1:-3000}" cargo test --locked --profile dev --test latency -- --ignored --nocapture table
    say "without the page, with it, and with five who look at it"
    FCAM_LATENCY_PARTS="${1:-3000}" cargo test --locked --profile dev --test latency -- --ignored --nocapture viewers
    cargo test --locked --profile dev --test latency -- --ignored --nocapture memory
}
