#!/bin/sh
# 32-bit numbers in two Modbus registers, as two common masters show them: mbpoll 1.4.11 (Debian 12) and pymodbus 3.16.1. The guess: without options both take the high word first,
# as the protocol sends the high byte of a register first. Seen: pymodbus does; mbpoll takes the low word first, so that 1 is shown as 65536 and 1.5 as 2.3e-41, until -B is
# given. Source: mbpoll's help on -B; by running both against one server of pymodbus.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# shellcheck source=findings/lib/debian.sh
. "$(dirname "$0")/lib/debian.sh"
debian mbpoll
version mbpoll 1.4.11+dfsg-2
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check pymodbus==3.16.1
"$place/venv/bin/python" -W ignore - <<'PYTHON'
import asyncio
import logging
import re
import socket
import sys

from pymodbus import datastore
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.server import ModbusTcpServer

logging.disable()
REGISTERS = [0, 1, 0x3FC0, 0]  # 1 as an integer and 1.5 as a float, each with its high word first
with socket.create_server(("127.0.0.1", 0)) as taken:
    PORT = taken.getsockname()[1]


async def by_mbpoll(kind: str, first: int, *options: str) -> float:
    words = ["-m", "tcp", "-p", str(PORT), "-0", "-1", "-r", str(first), "-t", f"4:{kind}", *options, "127.0.0.1"]
    program = await asyncio.create_subprocess_exec("mbpoll", *words, stdout=asyncio.subprocess.PIPE)
    shown = re.search(rb"^\[\d+\]:\s+(\S+)", (await program.communicate())[0], re.MULTILINE)
    assert shown, "mbpoll shows no register"
    return float(shown[1])


async def all_masters() -> dict[str, tuple[float, float]]:
    device = datastore.ModbusDeviceContext(hr=datastore.ModbusSequentialDataBlock(1, REGISTERS))
    server = ModbusTcpServer(datastore.ModbusServerContext(device, single=True), address=("127.0.0.1", PORT))
    await server.serve_forever(background=True)
    client = AsyncModbusTcpClient("127.0.0.1", port=PORT)
    await client.connect()
    read = (await client.read_holding_registers(0, count=len(REGISTERS))).registers
    client.close()
    kinds = client.DATATYPE
    seen = {
        "mbpoll": (await by_mbpoll("int", 0), await by_mbpoll("float", 2)),
        "mbpoll -B": (await by_mbpoll("int", 0, "-B"), await by_mbpoll("float", 2, "-B")),
        "pymodbus": tuple(float(client.convert_from_registers(read[at : at + 2], kind)) for at, kind in ((0, kinds.INT32), (2, kinds.FLOAT32))),
    }
    await server.shutdown()
    return seen


seen = asyncio.run(all_masters())
for master, (integer, real) in seen.items():
    print(f"{master}: {integer:g} and {real:g}")
right = seen["mbpoll -B"] == seen["pymodbus"] == (1, 1.5) and seen["mbpoll"][0] == 65536 and seen["mbpoll"][1] < 1e-40
sys.exit(0 if right else "it is not as it was")
PYTHON
