#!/bin/sh
# The hdrhistogram crate 7.6.0 (Rust) keeps no extreme: max() is the upper edge of the bucket of the largest value, min() the lower edge of the smallest one's. The guess: percentiles
# are rounded to the precision asked for, and the extremes are those recorded. Seen with three digits: of 1,000,003 to 5,000,011 it tells 999,936 and 5,001,215, so that a
# latency that keeps its limit of 5,001,000 is told to break it. Source: the crate's documentation of max and min; by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir "$place/src"
cat >"$place/Cargo.toml" <<'TOML'
[package]
name = "extremes"
version = "0.1.0"
edition = "2021"

[dependencies]
hdrhistogram = { version = "=7.6.0", default-features = false }
TOML
cat >"$place/src/main.rs" <<'RUST'
fn main() {
    let mut times = hdrhistogram::Histogram::<u64>::new(3).expect("three digits");
    for nanoseconds in [1_000_003, 2_000_007, 5_000_011] {
        times.record(nanoseconds).expect("in range");
    }
    println!("min {} max {} p100 {}", times.min(), times.max(), times.value_at_quantile(1.0));
}
RUST
seen=$(cargo run --quiet --manifest-path "$place/Cargo.toml")
echo "recorded 1000003 to 5000011, told: $seen"
[ "$seen" = "min 999936 max 5001215 p100 5001215" ] || { echo "it is not as it was" && exit 1; }
