#!/bin/sh
# pyserial 3.5 on Linux: inter_byte_timeout, to read a telegram whose end is a pause. The guess: read(10) returns as soon as the line was silent for that long after a byte. Seen: it
# does nothing: with three bytes on the line, timeout=1 and inter_byte_timeout=0.05 the call returns after the whole second, as without it. Source: the documentation of the
# port's parameters; serialposix.py gives it to the terminal driver and then waits by select with the other time; by running it on a pseudo-terminal.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check pyserial==3.5
"$place/venv/bin/python" - <<'PYTHON'
import os
import pty
import sys
import time

import serial

TIMEOUT_S, GAP_S = 1.0, 0.05


def read(gap: float | None) -> tuple[bytes, float]:
    ours, theirs = pty.openpty()
    with serial.Serial(os.ttyname(theirs), 115200, timeout=TIMEOUT_S, inter_byte_timeout=gap) as port:
        os.write(ours, b"abc")
        began = time.monotonic()
        return port.read(10), time.monotonic() - began


seen = {gap: read(gap) for gap in (None, GAP_S)}
for gap, (content, seconds) in seen.items():
    print(f"pyserial {serial.__version__}, inter_byte_timeout={gap}: {content} after {seconds:.2f} s")
right = all(content == b"abc" and seconds > TIMEOUT_S * 0.95 for content, seconds in seen.values())
sys.exit(0 if right else "it is not as it was")
PYTHON
