#!/bin/sh
# paho-mqtt 2.2.0: publish() before there is a connection returns MQTT_ERR_NO_CONN. The guess: the message is lost, and a program that wants it sent calls again. Seen: that is so for
# QoS 0 alone; with QoS 1 and 2 the same return code stands on a message that is kept and sent after the connection, so that a program that calls again until the code is
# 0 sends it more than once. Source: the client's documentation of publish() and its queue; by running it with Mosquitto 2.0.11 (Debian 12).
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
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$port" >"$place/conf"
mosquitto -c "$place/conf" 2>"$place/log" &
broker=$!
"$place/venv/bin/python" - "$port" <<'PYTHON'
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

PORT = int(sys.argv[1])
came: list[str] = []
reader = mqtt.Client(CallbackAPIVersion.VERSION2)
reader.on_message = lambda _client, _data, message: came.append(message.payload.decode())
for _ in range(50):
    try:
        reader.connect("127.0.0.1", PORT)
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
reader.loop_start()
reader.subscribe("part", 2)
publisher = mqtt.Client(CallbackAPIVersion.VERSION2)
returned = [publisher.publish("part", f"QoS {quality}", quality).rc.name for quality in (0, 1, 1, 2)]
publisher.connect("127.0.0.1", PORT)
publisher.loop_start()
time.sleep(2)
print(f"published without a connection with QoS 0, 1, 1 (again), 2: returned {sorted(set(returned))}, sent after it {came}")
right = set(returned) == {"MQTT_ERR_NO_CONN"} and sorted(came) == ["QoS 1", "QoS 1", "QoS 2"]
sys.exit(0 if right else "it is not as it was")
PYTHON
