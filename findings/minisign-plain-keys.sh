#!/bin/sh
# A secret key without a password (minisign -G -W of minisign 0.11, Debian 12) in the minisign crate 0.10.0 (Rust). The guess: the crate reads what the program makes, since their
# formats are the same. Seen: "Corrupted key": the program leaves the checksum of such a key empty, and the crate asks for it; a key that the crate makes without a password
# is read by both. Source: by running both; the key's fields by minisign's description of its format.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# shellcheck source=findings/lib/debian.sh
. "$(dirname "$0")/lib/debian.sh"
debian minisign
version minisign 0.11
mkdir "$place/src"
cat >"$place/Cargo.toml" <<'TOML'
[package]
name = "reads"
version = "0.1.0"
edition = "2021"

[dependencies]
minisign = "=0.10.0"
TOML
cat >"$place/src/main.rs" <<'RUST'
use minisign::{KeyPair, SecretKeyBox};

fn main() {
    let path = std::env::args().nth(1).expect("a key");
    if path == "made.key" {
        let key = KeyPair::generate_unencrypted_keypair().expect("a key").sk.to_box(None).expect("a box");
        std::fs::write(&path, key.to_string()).expect("a file");
    }
    let text = std::fs::read_to_string(&path).expect("a file");
    let read = SecretKeyBox::from_string(&text).and_then(SecretKeyBox::into_unencrypted_secret_key);
    println!("{}", read.map_or_else(|error| error.to_string(), |_| "read".into()));
}
RUST
cargo build --quiet --manifest-path "$place/Cargo.toml"
cd "$place"
minisign -G -W -p program.pub -s program.key >/dev/null
echo part >file
for key in program made; do
    crate=$(target/debug/reads $key.key)
    program=$(minisign -S -s $key.key -m file </dev/null >/dev/null 2>&1 && echo signs || echo refuses)
    checksum=$(tail -n 1 $key.key | base64 -d | tail -c 32 | od -An -v -tx1 | tr -d ' \n' | grep -q '^0*$' && echo empty || echo set)
    echo "$key.key, checksum $checksum: the crate \"$crate\", the program $program"
done | tee seen
[ "$(cat seen)" = 'program.key, checksum empty: the crate "Corrupted key", the program signs
made.key, checksum set: the crate "read", the program signs' ] || { echo "it is not as it was" && exit 1; }
