#!/bin/sh
# The rumqttc crate 0.25.1 (Rust) publishes masks of parts: 5,000 bytes and 20,000. The guess: a message may be as large as the broker allows, and publish() fails if it may not. Seen:
# publish() is Ok for both; then the connection ends with an error that speaks of the broker's maximum, 10240, though this broker (Mosquitto 2.0.11, Debian 12) named none: it
# is the client's own default. The larger message never comes; with set_max_packet_size both do. Source: the documentation of MqttOptions; by running it.
set -eu
place=$(mktemp -d)
broker=
# shellcheck disable=SC2329
clean() {
    [ -z "$broker" ] || kill "$broker"
    rm -rf "$place"
}
trap clean EXIT
# shellcheck source=findings/lib/debian.sh
. "$(dirname "$0")/lib/debian.sh"
debian mosquitto mosquitto-clients
version mosquitto 2.0.11
mkdir "$place/src"
cat >"$place/Cargo.toml" <<'TOML'
[package]
name = "publishes"
version = "0.1.0"
edition = "2021"

[dependencies]
rumqttc = { version = "=0.25.1", default-features = false }
TOML
cat >"$place/src/main.rs" <<'RUST'
use std::time::{Duration, Instant};

use rumqttc::{Client, MqttOptions, QoS};

/// publishes PORT [LARGEST]
fn main() {
    let mut words = std::env::args().skip(1).map(|word| word.parse().expect("a number"));
    let mut options = MqttOptions::new("station", "127.0.0.1", words.next().expect("a port") as u16);
    if let Some(largest) = words.next() {
        options.set_max_packet_size(largest, largest);
    }
    let (client, mut connection) = Client::new(options, 10);
    for bytes in [5_000, 20_000] {
        let published = client.publish("mask", QoS::AtLeastOnce, false, vec![0; bytes]);
        println!("publish of {bytes}: {}", if published.is_ok() { "Ok" } else { "an error" });
    }
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        if let Ok(Err(error)) = connection.recv_timeout(Duration::from_millis(100)) {
            println!("then: {error}");
        }
    }
}
RUST
cargo build --quiet --manifest-path "$place/Cargo.toml"
port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$port" >"$place/conf"
mosquitto -c "$place/conf" 2>"$place/log" &
broker=$!
sleep 1
# The program's words, then the sizes of what came.
through() {
    mosquitto_sub -p "$port" -t mask -q 1 -F %l -W 6 >"$place/came" 2>/dev/null &
    reader=$!
    sleep 1
    "$place/target/debug/publishes" "$port" "$@"
    wait $reader || true
    echo "came: $(paste -sd ' ' "$place/came")"
}
seen=$(through && echo "with a limit of 100000:" && through 100000)
echo "$seen"
[ "$seen" = "publish of 5000: Ok
publish of 20000: Ok
then: Mqtt state: Mqtt serialization/deserialization error: Cannot send packet of size '20012'. It's greater than the broker's maximum packet size of: '10240'
came: 5000
with a limit of 100000:
publish of 5000: Ok
publish of 20000: Ok
came: 5000 20000" ] || { echo "it is not as it was" && exit 1; }
