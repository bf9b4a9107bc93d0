#!/bin/sh
# pymodbus as the simulated device (3.8.6, 3.16.1): a block of registers that begins at address 0. The guess: a client that reads address 0 gets the block's first value. Seen: the
# store counts from 1 beneath clients that count from 0: in 3.8.6 reading address 0 gives the block's second value; 3.16.1 refuses a block at 0 with a TypeError when
# the device is put together, and one at 1 is what clients read at 0. Source: the documentation of the 3.x data store (zero_mode, gone since); by running them.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
for version in 3.8.6 3.16.1; do
    python3 -m venv "$place/$version"
    "$place/$version/bin/python" -m pip install -q --disable-pip-version-check pymodbus==$version
    "$place/$version/bin/python" -W ignore - $version <<'PYTHON'
import asyncio
import logging
import socket
import sys

import pymodbus.datastore as stores
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.server import ModbusTcpServer

logging.disable()
OLD = sys.argv[1] == "3.8.6"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


async def read_at_0(first: int) -> list[int] | str:
    """What a client reads at address 0 of a block 10, 11, 12... that begins at `first`."""
    device = getattr(stores, "ModbusSlaveContext" if OLD else "ModbusDeviceContext")
    port = free_port()
    try:
        block = stores.ModbusSequentialDataBlock(first, list(range(10, 20)))
        context = stores.ModbusServerContext(device(hr=block), single=True)
        server = ModbusTcpServer(context, address=("127.0.0.1", port))
    except TypeError:
        return "TypeError"
    serving = asyncio.create_task(server.serve_forever(background=True) if not OLD else server.serve_forever())
    await asyncio.sleep(1)
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    await client.connect()
    answer = (await client.read_holding_registers(0, count=3)).registers
    client.close()
    await server.shutdown()
    serving.cancel()
    return answer


seen = {first: asyncio.run(read_at_0(first)) for first in (0, 1)}
for first, read in seen.items():
    print(f"pymodbus {sys.argv[1]}: 10, 11, 12... from {first} on, read at 0: {read}")
wanted = {0: [11, 12, 13] if OLD else "TypeError", 1: [10, 11, 12]}
sys.exit(0 if seen == wanted else "it is not as it was")
PYTHON
done
