"""The Structured Text of board/plc, run on a desk: translated into Python, fed with damaged streams and masks.

The handshake's block runs against the station's own state machine in tests/plc.rs.
"""

import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/common"))

from structured_text import PLC, Block  # noqa: E402

import telegram  # noqa: E402 (the path is set above)

# Where a compiler of the language may be, with its library of standard blocks: matiec, which few package lists have.
COMPILER = os.environ.get("IEC2C", shutil.which("iec2c") or "")
LIBRARY = os.environ.get("IEC2C_LIB", str(Path(COMPILER).parent / "lib"))


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


needs_compiler = pytest.mark.skipif(not COMPILER, reason="no iec2c; name one in IEC2C")


def compile_block(source: Path, out: Path) -> subprocess.CompletedProcess:
    command = [COMPILER, "-l", "-p", "-I", LIBRARY, "-T", str(out), str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@needs_compiler
@pytest.mark.parametrize("block", sorted(path.name for path in PLC.glob("*.st")))
def test_a_compiler_takes_the_block(block: str, tmp_path: Path) -> None:
    done = compile_block(PLC / block, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / block
    broken.write_text((PLC / block).read_text().replace("END_IF;", "", 1))
    assert compile_block(broken, tmp_path).returncode != 0, "it takes anything"


HARNESS = """
#include <stdio.h>
#include "iec_std_lib.h"
#include "accessor.h"
TIME __CURRENT_TIME;
BOOL __DEBUG;
#include "POUS.h"
#include "POUS.c"
int main(void) {{
  static FB_VIS_HS block;
  long ms, value;
  FB_VIS_HS_init__(&block, 0);
  while (scanf("%ld", &ms) == 1) {{
    long all = __CURRENT_TIME.tv_nsec + ms * 1000000;
    __CURRENT_TIME.tv_sec += all / 1000000000;
    __CURRENT_TIME.tv_nsec = all % 1000000000;
{inputs}
    FB_VIS_HS_body__(&block);
{outputs}
    printf("\\n");
  }}
  return 0;
}}
"""


def harness(block: Block) -> str:
    """A C program around the compiled block: a scan a line, inputs in, outputs out."""
    inputs = []
    for name in block.inputs:
        value = "__time_to_timespec(1, value, 0, 0, 0, 0)" if block.types[name] == "TIME" else "value"
        inputs.append(f'    scanf("%ld", &value); __SET_VAR(block., {name.upper()},, {value});')
    outputs = [f'    printf("%ld ", (long)__GET_VAR(block.{name.upper()},));' for name in block.outputs]
    return HARNESS.format(inputs="\n".join(inputs), outputs="\n".join(outputs))


def walk(scans: int, seed: int) -> list[dict[str, int]]:
    """Inputs that change now and then, from so few values that numbers meet."""
    rng = random.Random(seed)
    scan = {"tanswer": 60, "tresult": 300, "tdead": 200, "tjob": 250, "enable": 1, "ir0": 1}
    out = []
    for _ in range(scans):
        scan["fresh"], scan["sent"] = int(rng.random() < 0.8), int(rng.random() < 0.8)
        for bit in (0, 2, 4, 7, 8, 11, 12, 13, 15):
            scan["ir0"] ^= (rng.random() < 0.1) << bit
        for name in ("ir2", "ir3", "ir8", "ir10", "ir11", "jobno"):
            if rng.random() < 0.1:
                scan[name] = rng.randrange(2)
        scan["partno"] = scan.get("ir11", 0) + 65536 * scan.get("ir10", 0)
        for name, share in (("partgo", 0.3), ("jobgo", 0.05), ("enable", 0.01), ("offline", 0.02), ("clearit", 0.05)):
            scan[name] = scan.get(name, 0) ^ (rng.random() < share)
        out.append(dict(scan))
    return out


@needs_compiler
def test_the_compiled_block_does_what_the_translated_one_does(tmp_path: Path) -> None:
    assert compile_block(PLC / "vis_hs.st", tmp_path).returncode == 0
    block = Block("vis_hs.st")
    (tmp_path / "harness.c").write_text(harness(block))
    binary = tmp_path / "harness"
    include = [f"-I{LIBRARY}/C", f"-I{tmp_path}"]
    subprocess.run(["cc", "-w", *include, "-o", binary, tmp_path / "harness.c"], check=True)
    scans, seen = walk(10_000, 5), set()
    lines = ("10 " + " ".join(str(int(scan.get(name, 0))) for name in block.inputs) for scan in scans)
    done = subprocess.run([binary], input="\n".join(lines), capture_output=True, text=True, check=True)
    for number, (scan, line) in enumerate(zip(scans, done.stdout.splitlines(), strict=True)):
        block.wait(10)
        out = block(**scan)
        assert [int(out[name]) for name in block.outputs] == [int(word) for word in line.split()], f"scan {number}"
        seen |= {name for name in block.outputs if out[name]}
    assert seen == set(block.outputs), "some output never rose"
