"""The Structured Text of board/plc through a compiler, matiec: it takes each block, and the compiled block does what
the translated one does.

No package list has matiec, so that no lane runs this: `./dev matiec` does, and fails where there is none.
"""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/common"))

from structured_text import PLC, Block  # noqa: E402

# The compiler, and its library of standard blocks.
COMPILER = os.environ.get("IEC2C", shutil.which("iec2c") or "")
LIBRARY = os.environ.get("IEC2C_LIB", str(Path(COMPILER).parent / "lib"))


@pytest.fixture(autouse=True)
def compiler() -> None:
    if not os.access(COMPILER, os.X_OK):
        pytest.fail("no iec2c: build matiec, and name its iec2c in IEC2C", pytrace=False)


def compile_block(source: Path, out: Path) -> subprocess.CompletedProcess:
    command = [COMPILER, "-l", "-p", "-I", LIBRARY, "-T", str(out), str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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
