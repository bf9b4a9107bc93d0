"""A Modbus master on pymodbus: the PLC's program of board/plc/modbus.md, one part at a time.

In: where the station is. Out: nothing, or a ValueError that says what was not as it should be.
"""

import time
import zlib
from types import TracebackType
from typing import Any

from pymodbus import FramerType
from pymodbus.client import ModbusTcpClient

from telegram import runs

# This machine's time, of which a busy one gives the guest little: only an answer that never comes takes as long.
PATIENCE_S, ANSWER_S = 120, 30
READY, VALID, TRIGGER_ACK, OK, NG = (1 << bit for bit in (0, 2, 4, 7, 8))
ENABLE, TRIGGER, ACK = 1, 2, 4
# Input registers: status and result, then the mask's own.
HEAD_WORDS, REASON, MASK, MASK_WORDS, WINDOW, WINDOW_WORDS = 88, 84, 88, 8, 96, 125
REJECT = 1
CONTROL, PAGE = 0, 4


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


class Master:
    """A connection to the station; over RTU it is the emulated UART, behind a socket."""

    def __init__(self, way: str, port: int) -> None:
        framer = FramerType.RTU if way == "rtu" else FramerType.SOCKET
        self.client = ModbusTcpClient("127.0.0.1", port=port, framer=framer, timeout=ANSWER_S, retries=1)

    def __enter__(self) -> "Master":
        expect(self.client.connect(), "nobody listens")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.client.close()

    def read(self, address: int, count: int) -> list[int]:
        answer = self.client.read_input_registers(address, count=count)
        expect(not answer.isError(), f"reading {count} registers from {address}: {answer}")
        return list(answer.registers)

    def write(self, address: int, *values: int) -> None:
        answer = self.client.write_registers(address, list(values))
        expect(not answer.isError(), f"writing {values} to {address}: {answer}")

    def wait(self, what: str, mask: int, level: bool = True) -> list[int]:
        """The first registers, once a status bit has this level."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            head = self.read(0, HEAD_WORDS)
            if bool(head[0] & mask) == level:
                return head
            time.sleep(0.02)
        raise ValueError(f"{what} is not {level} within {PATIENCE_S} s; the registers are {head[:20]}")

    def part(self, part_id: int) -> None:
        """Trigger, result under its own number, mask of a rejected part, acknowledgement."""
        self.write(CONTROL, ENABLE)
        self.wait("TRIGGER_ACK", TRIGGER_ACK, level=False)
        self.wait("READY", READY)
        self.write(CONTROL, ENABLE | TRIGGER, 0, part_id >> 16, part_id & 0xFFFF)
        number = self.wait("TRIGGER_ACK", TRIGGER_ACK)[3]
        self.write(CONTROL, ENABLE)
        head = self.wait("VALID", VALID)
        expect(head[2] == number, f"result {head[2]} came for trigger {number}")
        expect(head[10] << 16 | head[11] == part_id, f"part {part_id} came back as {head[10:12]}")
        expect(bool(head[0] & OK) != bool(head[0] & NG), f"OK and NG are {head[0]:#06x}")
        if head[REASON] == REJECT:
            self.mask(number)
        self.write(CONTROL, ENABLE | ACK)
        self.wait("VALID", VALID, level=False)
        self.write(CONTROL, ENABLE)

    def mask(self, number: int) -> None:
        """Page by page; its CRC-32 and its pixels add up."""
        end = time.monotonic() + PATIENCE_S
        while (about := self.keep())["id"] != number:
            expect(time.monotonic() < end, f"the mask is of part {about['id']} instead of {number}")
        data = b""
        for page in range((about["bytes"] + 2 * WINDOW_WORDS - 1) // (2 * WINDOW_WORDS)):
            if page:
                self.write(PAGE, page)
            data += b"".join(word.to_bytes(2, "big") for word in self.read(WINDOW, WINDOW_WORDS))
        data = data[: about["bytes"]]
        expect(zlib.crc32(data) == about["crc"], f"the CRC-32 of {len(data)} mask bytes is not {about['crc']:#x}")
        lengths = runs(data)
        expect(sum(lengths) == about["width"] * about["height"], f"{sum(lengths)} pixels of {about}")
        expect(sum(lengths[1::2]) > 0, "the mask of a rejected part is empty")

    def keep(self) -> dict[str, Any]:
        """The newest mask, which stays this connection's until page 0 is asked for again."""
        self.write(PAGE, 0)
        bytes_high, bytes_low, _, width, height, number, crc_high, crc_low = self.read(MASK, MASK_WORDS)
        size = {"bytes": bytes_high << 16 | bytes_low, "width": width, "height": height}
        return size | {"id": number, "crc": crc_high << 16 | crc_low}
