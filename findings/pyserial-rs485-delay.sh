#!/bin/sh
# pyserial 3.5, RS-485 by the kernel: RS485Settings has delays in seconds before and after sending. The guess: they are rounded to what the kernel takes, milliseconds, and 0.5 ms
# becomes 1. Seen: what is left of a millisecond is cut off without a word, so that 0.0005 sets no delay at all, and 0.0019 sets 1 ms; None leaves the driver's own.
# Source: the kernel's struct serial_rs485 (milliseconds); serialposix.py, by running it with the ioctl recorded, since no port here has the mode.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check pyserial==3.5
"$place/venv/bin/python" - <<'PYTHON'
import os
import pty
import sys
from types import SimpleNamespace

import serial
import serial.rs485
from serial import serialposix

DRIVER_MS = 7  # what a port of this kind tells as its own
asked = []


def recorded(_port: int, request: int, settings: list[int]) -> None:
    """In the place of a driver: flags, delay before, delay after."""
    if request == serialposix.TIOCGRS485:
        settings[1] = settings[2] = DRIVER_MS
    elif request == serialposix.TIOCSRS485:
        asked.append((settings[1], settings[2]))


port = serial.Serial(os.ttyname(pty.openpty()[1]), 115200)
serialposix.fcntl = SimpleNamespace(ioctl=recorded)
delays = (0.0005, 0.00099, 0.001, 0.0019, 0.005, None)
for delay in delays:
    port.rs485_mode = serial.rs485.RS485Settings(delay_before_tx=delay, delay_before_rx=delay)
    print(f"pyserial {serial.__version__}, delays of {delay} s: the kernel is asked for {asked[-1]} ms")
sys.exit(0 if asked == [(0, 0), (0, 0), (1, 1), (1, 1), (5, 5), (7, 7)] else "it is not as it was")
PYTHON
