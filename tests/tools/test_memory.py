"""Freed memory stays with the process: the next tensor of the size takes no page from the kernel."""

import subprocess
import sys

import pytest

CHILD = """
import ctypes, resource
from fcam_tools.common import malloc

kept = malloc.keep_freed()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(48 << 20)
    ctypes.memset(block, 1, 48 << 20)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(kept, faults(), faults())
"""


def test_freed_memory_is_kept() -> None:
    told = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True).stdout.split()
    if told[0] == "False":
        pytest.skip("the C library is not glibc")
    first, second = int(told[1]), int(told[2])
    assert first > 20, "the first block is new to the process"
    assert second < first / 10, f"{second} faults where the first block had {first}"
