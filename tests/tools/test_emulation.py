"""What ends an emulated machine, and what does not: its own processor time counts, not the host's."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from socket import socket, socketpair
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "board/emulation"))

import emulate
import peer

HANGS = "the machine ends by itself"


class Emulator:
    """Uses so much processor time each time that it is asked; its guest is at the other end of `checks`."""

    def __init__(self, step: float) -> None:
        self.step, self.time = step, 0.0
        self.guest, host = socketpair()
        self.lines = {"checks": host}

    def used(self) -> float:
        self.time += self.step
        return self.time


def followed(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, **limits: float
) -> tuple[emulate.Report, threading.Thread]:
    for name, limit in {"LOOK_S": 0.005, "SILENCE_CPU_S": 100, "LIMIT_CPU_S": 400, "STUCK_S": 600, **limits}.items():
        monkeypatch.setattr(emulate, name, limit)
    report = emulate.Report("A", ["good"])
    thread = threading.Thread(target=emulate.follow, args=(emulator, SimpleNamespace(), report), daemon=True)
    thread.start()
    return report, thread


def test_a_guest_that_burns_time_in_silence_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    report, thread = followed(Emulator(step=2), monkeypatch)
    thread.join(10)
    assert report.bad == [HANGS] and not report.close([])


def test_an_emulator_that_stands_still_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    report, thread = followed(Emulator(step=0), monkeypatch, STUCK_S=0.1)
    thread.join(10)
    assert report.bad == [HANGS]


def test_a_busy_host_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = Emulator(step=0.01)
    report, thread = followed(emulator, monkeypatch)
    time.sleep(0.3)
    emulator.guest.sendall(b"ok - good\n")
    emulator.guest.close()
    thread.join(10)
    assert not thread.is_alive() and report.close([])


def test_a_guest_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = Emulator(step=2)
    report, thread = followed(emulator, monkeypatch)
    while thread.is_alive():
        emulator.guest.sendall(b"# still here\n")
        time.sleep(0.02)
    assert report.bad == [HANGS] and emulator.time > 400


def quiet(connection: socket) -> peer.Uart:
    """Its listener is too busy to read anything."""
    line = peer.Uart.__new__(peer.Uart)
    line.connection, line.bytes, line.lock = connection, bytearray(), threading.Lock()
    return line


def test_what_was_sent_before_is_taken_however_busy_the_listener_is() -> None:
    guest, host = socketpair()
    guest.sendall(bytes(range(200)) * 100)
    assert quiet(host).take() == bytes(range(200)) * 100
    assert peer.Uart(host).take() == b""
