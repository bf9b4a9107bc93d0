"""A camera's program: endless gray frames of 64 x 64 at so many a second, on standard output.

Bright ones are good parts for the tests' bundle, dark ones are rejects, with a darker rectangle that is another one
each time.
"""

import contextlib
import sys
import time

SIDE = 64


def dark(number: int) -> bytes:
    left, top = number * 7 % 40, number * 11 % 40
    width, height = 8 + number % 16, 8 + number * 3 % 16
    rows = []
    for y in range(SIDE):
        row = bytearray([50] * SIDE)
        if top <= y < top + height:
            row[left : left + width] = bytes([10] * width)
        rows.append(bytes(row))
    return b"".join(rows)


def main() -> None:
    interval = 1 / float(sys.argv[1])
    bright, darks = bytes([200] * SIDE * SIDE), [dark(number) for number in range(97)]
    due, number = time.monotonic(), 0
    while True:
        sys.stdout.buffer.write(darks[number // 2 % len(darks)] if number % 2 else bright)
        sys.stdout.buffer.flush()
        number += 1
        due = max(due + interval, time.monotonic() - interval)
        time.sleep(max(0.0, due - time.monotonic()))


with contextlib.suppress(BrokenPipeError):
    main()
