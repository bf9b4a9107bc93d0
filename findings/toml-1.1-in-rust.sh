#!/bin/sh
# The toml crate 1.2.1 (Rust) reads TOML 1.1, without a switch to turn it off; Python's tomllib (3.11 to 3.13) reads TOML 1.0. The guess: a file that one of them takes, the
# other takes. Seen: an inline table over several lines, a time without seconds, and the escapes \e and \xHH are read by the crate and refused by tomllib. Source: the
# crate's version carries "+spec-1.1.0"; tomllib's documentation names TOML 1.0; both by running them.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir "$place/src"
cat >"$place/Cargo.toml" <<'TOML'
[package]
name = "reads"
version = "0.1.0"
edition = "2021"

[dependencies]
toml = "=1.2.1"
TOML
cat >"$place/src/main.rs" <<'RUST'
fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(path).expect("a file");
        println!("{}", if text.parse::<toml::Table>().is_ok() { "read" } else { "refused" });
    }
}
RUST
printf 'roi = {\n  x = 1,\n  y = 2,\n}\n' >"$place/inline-table.toml"
printf 'shift = 06:00\n' >"$place/time.toml"
printf 'end = "\\x04"\n' >"$place/escape-x.toml"
printf 'red = "\\e[31m"\n' >"$place/escape-e.toml"
printf 'roi = { x = 1, y = 2 }\nshift = 06:00:00\n' >"$place/as-in-1.0.toml"
cargo build --quiet --manifest-path "$place/Cargo.toml"
python3 -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), "for Python 3.11 to 3.13"'
cd "$place"
seen=$(for file in as-in-1.0 escape-e escape-x inline-table time; do
    python=$(python3 -c 'import sys, tomllib; tomllib.load(open(sys.argv[1], "rb"))' $file.toml 2>/dev/null && echo read || echo refused)
    echo "$file: toml $(target/debug/reads $file.toml), tomllib $python"
done)
echo "$seen"
[ "$seen" = "as-in-1.0: toml read, tomllib read
escape-e: toml read, tomllib refused
escape-x: toml read, tomllib refused
inline-table: toml read, tomllib refused
time: toml read, tomllib refused" ] || { echo "it is not as it was" && exit 1; }
