"""The committed bindings of the kernel's camera interface say what this machine's headers say, by the C compiler."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BINDINGS = Path(__file__).parents[2] / "board/v4l2-sys-mit/src/bindings.rs"
COMPILERS = ("cc", "aarch64-linux-gnu-gcc")

SIZE = re.compile(r'\["Size of (\w+)"\]\[.*? - (\d+)usize\]', re.S)
OFFSET = re.compile(r'\["Offset of field: (\w+)::(\w+)"\]\[.*? - (\d+)usize\]', re.S)
CONSTANT = re.compile(r"^pub const (\w+): (\w+) = (-?\d+);", re.M)


def claims(bindings: str) -> list[str]:
    """Each size, offset and number of the bindings in C. What bindgen alone has a name for is left out."""
    sizes = [(f"sizeof(struct {kind})", size) for kind, size in SIZE.findall(bindings)]
    offsets = [
        (f"offsetof(struct {kind}, {field.removesuffix('_')})", offset)
        for kind, field, offset in OFFSET.findall(bindings)
    ]
    constants = [(name.removeprefix(f"{kind}_"), value) for name, kind, value in CONSTANT.findall(bindings)]
    return [f"{what} == {value}" for what, value in sizes + offsets + constants if "__bindgen" not in what]


def compiled(compiler: str, claims: list[str]) -> subprocess.CompletedProcess[str]:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    code = "#include <stddef.h>\n#include <linux/videodev2.h>\n"
    code += "".join(f'_Static_assert({claim}, "{claim}");\n' for claim in claims)
    command = [compiler, "-std=gnu11", "-fsyntax-only", "-x", "c", "-"]
    return subprocess.run(command, input=code, capture_output=True, text=True)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_bindings_are_the_headers(compiler: str) -> None:
    all_claims = claims(BINDINGS.read_text())
    for kind in ("sizeof(struct v4l2_buffer)", "offsetof(struct v4l2_buffer, m)", "V4L2_MEMORY_MMAP"):
        assert any(claim.startswith(kind) for claim in all_claims), kind
    done = compiled(compiler, all_claims)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("was", "wrong"),
    [
        ('["Size of v4l2_buffer"][::core::mem::size_of::<v4l2_buffer>() - 88usize]', "80usize]"),
        ("v4l2_buffer, m) - 64usize]", "56usize]"),
        ("V4L2_MEMORY_MMAP: v4l2_memory = 1;", "2;"),
    ],
)
def test_a_wrong_number_is_found(was: str, wrong: str) -> None:
    bindings = BINDINGS.read_text()
    assert was in bindings
    changed = bindings.replace(was, was.rsplit(" ", 1)[0] + " " + wrong)
    assert compiled("cc", claims(changed)).stderr.count("error:") == 1
