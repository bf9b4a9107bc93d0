#!/bin/sh
# pyserial 3.5 on Linux: a port that one program reads is opened by a second one. The guess: it is refused as busy, as on Windows. Seen: it opens, and the bytes are divided between the two:
# what one reads never comes to the other, so that both see broken telegrams. exclusive=True helps only if both ask for it. Source: the documentation of the parameter
# exclusive; by running it on a pseudo-terminal.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check pyserial==3.5
"$place/venv/bin/python" - <<'PYTHON'
import os
import pty
import sys

import serial

ours, theirs = pty.openpty()
name = os.ttyname(theirs)


def second(exclusive_first: bool | None, exclusive_second: bool | None) -> str:
    """What becomes of the second one, and of a telegram of six bytes."""
    with serial.Serial(name, timeout=0.2, exclusive=exclusive_first) as first:
        try:
            with serial.Serial(name, timeout=0.2, exclusive=exclusive_second) as other:
                os.write(ours, b"abcdef")
                return f"opens; they read {first.read(3)!r}, {other.read(3)!r} and no more: {first.read(6)!r}"
        except serial.SerialException:
            return "is refused"


cases = {(None, None): "", (True, None): "", (None, True): "", (True, True): ""}
for case in cases:
    cases[case] = second(*case)
    print(f"pyserial {serial.__version__}, exclusive={case[0]} and {case[1]}: the second {cases[case]}")
shared = "opens; they read b'abc', b'def' and no more: b''"
wanted = dict.fromkeys(cases, shared) | {(True, True): "is refused"}
sys.exit(0 if cases == wanted else "it is not as it was")
PYTHON
