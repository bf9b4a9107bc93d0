"""The Structured Text of board/plc, run on a desk: translated into Python, fed with damaged streams and masks.

The translation knows just the statements that these blocks use. It is no compiler: types and widths are not checked.
"""

import random
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/common"))

import telegram  # noqa: E402 (the path is set above)

PLC = ROOT / "board/plc"
STATEMENT = re.compile(
    r"\s*(IF\b.*?\bTHEN\b|ELSIF\b.*?\bTHEN\b|ELSE\b|END_IF;|FOR\b.*?\bDO\b|END_FOR;|[^;]+;)", re.DOTALL
)
# Names that compilers keep for themselves.
RESERVED = {
    "st",
    "n",
    "len",
    "mul",
    "add",
    "sub",
    "div",
    "mod",
    "r",
    "s",
    "ld",
    "cal",
    "ret",
    "jmp",
    "left",
    "right",
    "mid",
    "min",
    "max",
    "any",
}
WORDS = [
    (r"16#", "0x"),
    (r"T#(\d+)ms", r"\1"),
    (r"<>", "!="),
    (r"\bAND(?= 0x)", "&"),
    (r"\bXOR\b", "^"),
    (r"\bAND\b", "and"),
]
WORDS += [
    (r"\bOR\b", "or"),
    (r"\bNOT\b", "not"),
    (r"\bMOD\b", "%"),
    (r"\bFALSE\b", "False"),
    (r"\bTRUE\b", "True"),
    (r"/", "//"),
]


def expression(text: str) -> str:
    for pattern, word in WORDS:
        text = re.sub(pattern, word, text)
    return " ".join(re.sub(r"(?<![:<>!=])=(?!=)", "==", text).split())


def statement(text: str) -> tuple[str, int, int]:
    """Python, the change of depth before it, and after it."""
    text = text.strip()
    if match := re.fullmatch(r"(IF|ELSIF)\b(.*)THEN", text, re.DOTALL):
        word, before = ("if", 0) if match[1] == "IF" else ("elif", -1)
        return f"{word} {expression(match[2])}:", before, 1
    if text == "ELSE":
        return "else:", -1, 1
    if text in ("END_IF;", "END_FOR;"):
        return "pass", 0, -1
    if match := re.fullmatch(r"FOR (\w+) := (\d+) TO (\d+) DO", text):
        return f"for {match[1]} in range({match[2]}, {match[3]} + 1):", 0, 1
    if match := re.fullmatch(r"silence\(IN := (.*), PT := (.*)\);", text):
        return f"silence({expression(match[1])}, {expression(match[2])})", 0, 0
    target, value = text.removesuffix(";").split(":=", 1)
    return f"{target.strip()} = {expression(value)}", 0, 0


class Timer:
    """TON on a clock that the test moves, in milliseconds."""

    def __init__(self) -> None:
        self.now, self.since, self.Q = 0, 0, False

    def __call__(self, running: bool, preset: int) -> None:
        self.since = self.since if running else self.now
        self.Q = running and self.now - self.since >= preset


class Block:
    """A function block: its variables are `vars`."""

    def __init__(self, name: str) -> None:
        text = re.sub(r"\(\*.*?\*\)", "", (PLC / name).read_text(), flags=re.DOTALL)
        text = re.search(r"FUNCTION_BLOCK \w+(.*)END_FUNCTION_BLOCK", text, re.DOTALL)[1]
        *declared, body = text.split("END_VAR")
        names = {found for part in declared for found in re.findall(r"(\w+) :", part)}
        assert not {found.lower() for found in names} & RESERVED
        self.vars: dict = dict.fromkeys(names, 0) | {"silence": Timer(), "SHR": lambda value, by: value >> by}
        self.vars |= {name: int for name in ("BYTE_TO_WORD", "BYTE_TO_UINT", "BYTE_TO_UDINT")} | {"rxbuf": [0] * 1024}
        lines, depth = [], 0
        for match in STATEMENT.finditer(body):
            line, before, after = statement(match[1])
            depth += before
            lines.append("    " * depth + line)
            depth += after
        assert depth == 0
        self.code = compile("\n".join(lines), name, "exec")

    def __call__(self, **inputs: object) -> dict:
        self.vars |= inputs
        exec(self.code, self.vars)
        return self.vars


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
                block.vars["silence"].now += 10
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
