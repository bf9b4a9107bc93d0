"""The other side of the emulated station's lines: what a PLC would see, and what it would do.

In: what came over a UART, and a step that the guest asks for. Out: nothing, or a ValueError that says what is wrong.
Telegrams are decoded by the decoder that was written from board/plc/telegram.md alone.
"""

import select
import sys
import threading
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from socket import MSG_DONTWAIT, socket
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/common"))
from master import Master, expect  # noqa: E402

from telegram import messages  # noqa: E402


class Uart:
    """One end of an emulated UART; what comes is kept until it is taken."""

    def __init__(self, connection: socket) -> None:
        self.connection = connection
        self.bytes = bytearray()
        self.lock = threading.Lock()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        """Empties the socket as it fills, so that the guest never waits for room."""
        while select.select([self.connection], [], []):
            with self.lock:
                if not self.receive():
                    return

    def receive(self) -> bool:
        """Everything that waits in the socket; false once the guest's end is closed."""
        while True:
            try:
                data = self.connection.recv(4096, MSG_DONTWAIT)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.bytes += data

    def take(self) -> bytes:
        """Everything that the guest sent before it asked, even if this program was too busy to read it yet."""
        with self.lock:
            self.receive()
            taken = bytes(self.bytes)
            self.bytes.clear()
        return taken


class Peer:
    """Does the steps that the guest asks for by name."""

    def __init__(self, telegrams: socket, ports: dict[str, int]) -> None:
        self.line = Uart(telegrams)
        self.ports = ports

    def do(self, step: str, *words: str) -> None:
        steps: dict[str, Callable[..., None]] = {
            "forget": self.forget,
            "telegrams": self.telegrams,
            "modbus": self.modbus,
        }
        if step not in steps:
            raise ValueError(f"the host knows no step {step!r}")
        steps[step](*words)

    def forget(self) -> None:
        """What came so far is of another chapter."""
        self.line.take()

    def telegrams(self, parts: str, *expected: str) -> None:
        """So many parts, no telegram lost; if reasons are expected, these in turn, with a whole mask for a reject."""
        heard = list(messages(self.line.take()))
        expect(bool(heard) and heard[0]["type"] == "HELLO", f"the first telegram is no HELLO, of {len(heard)}")
        sequences = [message["sequence"] for message in heard]
        expect(sequences == list(range(len(heard))), f"telegrams were lost: {sequences}")
        verdicts = [message for message in heard if message["type"] == "VERDICT"]
        numbers = [message["result_id"] for message in verdicts]
        expect(numbers == list(range(int(parts))), f"verdicts of {parts} parts are numbered {numbers}")
        for message, reason in zip(verdicts, cycle(map(int, expected))):
            expect(message["reason"] == reason and message["ok"] == (reason == 0), f"{message} is not {reason}")
            if reason == 1:
                whole_mask(heard, message["result_id"])

    def modbus(self, way: str, parts: str) -> None:
        """So many parts through the whole handshake, as a master over RTU or TCP."""
        with Master(way, self.ports[way]) as master:
            for part_id in range(1001, 1001 + int(parts)):
                master.part(part_id)


def whole_mask(heard: list[dict[str, Any]], number: object) -> None:
    """A rejected part's regions and mask came, and the mask has pixels."""
    of_part = [message for message in heard if message.get("result_id") == number]
    kinds = [message["type"] for message in of_part]
    areas = [message["area"] for message in of_part if message.get("last")]
    expect("REGIONS" in kinds, f"part {number} came without regions: {kinds}")
    expect(len(areas) == 1 and areas[0] > 0, f"part {number} came without a whole mask: {kinds}")
