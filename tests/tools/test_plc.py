"""The Structured Text of board/plc, run on a desk: translated into Python, fed with damaged streams and masks.

The handshake's block runs against the station's own state machine in tests/plc.rs; a compiler has all of them in
needs_matiec.py.
"""

import random
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/common"))

from structured_text import Block  # noqa: E402

import telegram  # noqa: E402 (the path is set above)


def frame(sequence: int, kind: int, payload: bytes) -> bytes:
    body = struct.pack(">HBBH", len(payload) + 6, 1, kind, sequence) + payload
    return b"\xa5\x5a" + body + struct.pack("<H", telegram.crc16(body))


def leb(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def encode(mask: np.ndarray) -> bytes:
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0))
    return b"".join(leb(int(length)) for length in np.diff([0, *edges, flat.size]))


def test_receiver_takes_no_damaged_frame_and_most_others() -> None:
    rng, block, clean, taken = random.Random(3), Block("vis_rx.st"), set(), []
    for sequence in range(2000):
        sent = frame(sequence, rng.choice([2, 3, 4, 5]), rng.randbytes(rng.randrange(60)))
        if hurt := rng.random() < 0.1:
            sent = telegram.damage(sent, rng)
        else:
            clean.add(sequence)
        for byte in sent:
            got = block(fresh=True, inb=byte)
            if got["rdy"]:
                taken.append(got["seqno"])
        if hurt or rng.random() < 0.3:  # silence now and then: the end of a broken frame is noticed
            for _ in range(4):
                block.wait(10)
                block(fresh=False)
    assert set(taken) <= clean
    assert len(taken) >= 0.99 * len(clean)


@pytest.mark.parametrize("seed", range(8))
def test_runs_give_area_and_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((30 + seed, 41), bool)
    for _ in range(seed):
        top, left = rng.integers(0, 28), rng.integers(0, 38)
        mask[top : top + rng.integers(1, 12), left : left + rng.integers(1, 45)] = True
    block = Block("vis_runs.st")
    block(restart=True, mwidth=mask.shape[1], mheight=mask.shape[0])
    for byte in encode(mask):
        got = block(restart=False, inb=byte)
    assert got["complete"] and not got["bad"] and got["area"] == mask.sum()
    if mask.any():
        rows, columns = np.nonzero(mask)
        box = (columns.min(), columns.max(), rows.min(), rows.max())
        assert (got["xmin"], got["xmax"], got["ymin"], got["ymax"]) == box


def test_too_long_runs_are_refused() -> None:
    block = Block("vis_runs.st")
    block(restart=True, mwidth=4, mheight=2)
    assert block(restart=False, inb=9)["bad"]
    block(restart=True)
    assert not any(block(restart=False, inb=0xFF)["bad"] for _ in range(4))
    assert block(restart=False, inb=0xFF)["bad"]


def test_decoder_reads_what_the_page_says() -> None:
    mask = np.zeros((6, 7), bool)
    mask[2:4, 3:] = True
    data = encode(mask)
    first = struct.pack(">IIIBBHHB", 5, 0, len(data), 1, 1, 7, 6, 0) + data[:2]
    crc = struct.pack(">I", telegram.zlib.crc32(data))
    second = struct.pack(">IIIBBHHB", 5, 2, len(data), 1, 1, 7, 6, 1) + data[2:] + crc
    stream = b"\xa5\x5a\x00" + frame(0, 5, first) + b"noise" + frame(1, 5, second)
    found = list(telegram.messages(stream))
    assert [message["sequence"] for message in found] == [0, 1]
    assert found[1]["area"] == mask.sum()
