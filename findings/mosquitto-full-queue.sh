#!/bin/sh
# Mosquitto 2.0.11 (Debian 12) keeps messages of QoS 1 for a subscriber that is away, up to max_queued_messages (1000 by default). The guess: when they are too many the oldest make
# room, and a publisher by MQTT 5 is told. Seen: the first ones are kept and the newest dropped, and each publisher gets its acknowledgement with the reason Success. Source: the
# manual page mosquitto.conf tells the limit; by running it with a limit of 5, and paho-mqtt 2.2.0.
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
debian mosquitto
version mosquitto 2.0.11
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check paho-mqtt==2.2.0
port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
printf 'listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 5\n' "$port" >"$place/conf"
mosquitto -c "$place/conf" 2>"$place/log" &
broker=$!
"$place/venv/bin/python" - "$port" <<'PYTHON'
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

PORT, SENT = int(sys.argv[1]), 20


def connected(client: mqtt.Client) -> mqtt.Client:
    for _ in range(50):
        try:
            client.connect("127.0.0.1", PORT)
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    client.loop_start()
    return client


def reader() -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="reader", clean_session=False)
    client.on_message = lambda _client, _data, message: came.append(int(message.payload))
    return connected(client)


came: list[int] = []
reasons: set[str] = set()
first = reader()
time.sleep(0.5)
first.subscribe("part", 1)
time.sleep(0.5)
first.disconnect()
first.loop_stop()
publisher = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
publisher.on_publish = lambda _client, _data, _id, reason, _properties: reasons.add(str(reason))
connected(publisher)
for number in range(SENT):
    publisher.publish("part", str(number), 1).wait_for_publish(5)
second = reader()
time.sleep(2)
print(f"{SENT} messages while the reader was away, 5 may wait: it gets {came}; the publisher was told {reasons}")
sys.exit(0 if came == [0, 1, 2, 3, 4] and reasons == {"Success"} else "it is not as it was")
PYTHON
