#!/bin/sh
# pymodbus 3.16.1 and 3.8.6, a client over TCP, and a device that takes a write and does not answer in time. The guess: TCP loses nothing, so that a request is sent once and the call
# fails after its timeout. Seen: the same write is sent four times (retries=3 is the default for TCP as for serial lines), and the call fails after four timeouts. A device that
# is merely slow carries out all four. Source: the documentation of the client's retries; by running it against a silent server.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
for version in 3.16.1 3.8.6; do
    python3 -m venv "$place/$version"
    "$place/$version/bin/python" -m pip install -q --disable-pip-version-check pymodbus==$version
    "$place/$version/bin/python" - $version <<'PYTHON'
import logging
import socket
import sys
import threading

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

logging.disable()
REQUEST_BYTES = 12  # MBAP header and a write of one register
TIMEOUT_S = 0.2
received = bytearray()


def take_all(server: socket.socket) -> None:
    """Receives and says nothing, on one connection after the other."""
    while True:
        connection, _ = server.accept()
        while data := connection.recv(1000):
            received.extend(data)


def sent(**settings: int) -> int:
    received.clear()
    client = ModbusTcpClient("127.0.0.1", port=server.getsockname()[1], timeout=TIMEOUT_S, **settings)
    client.connect()
    try:
        client.write_register(0, 1)
    except ModbusException as error:
        print(f"pymodbus {sys.argv[1]}, {settings or 'defaults'}: {error}")
    client.close()
    return len(received) // REQUEST_BYTES


server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=take_all, args=(server,), daemon=True).start()
seen = (sent(), sent(retries=0))
print(f"pymodbus {sys.argv[1]}: one write is sent {seen[0]} times, with retries=0 {seen[1]} time(s)")
sys.exit(0 if seen == (4, 1) else "it is not as it was")
PYTHON
done
