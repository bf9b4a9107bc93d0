"""Work side by side: answers in order, errors as they are, and nothing left behind by a killed tool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fcam_tools.common import spread
from fcam_tools.common.errors import ToolError

PROGRAM = """
import os, sys, time
from pathlib import Path
from fcam_tools.common import spread

def sleep(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    list(spread.spread(sleep, [(sys.argv[1],)] * 2, 2))
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_answers_come_in_order(jobs: int) -> None:
    assert list(spread.spread(divmod, [(7, 2), (9, 4), (1, 1)], jobs)) == [(3, 1), (2, 1), (1, 0)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_is_that_of_the_work(jobs: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(spread.spread(divmod, [(7, 2), (9, 0), (1, 1)], jobs))


def test_no_jobs_are_refused() -> None:
    assert spread.checked(3) == 3
    with pytest.raises(ToolError, match="--jobs 0 does no work: give 1 or more"):
        spread.checked(0)


def test_processes_end_with_a_tool_that_is_killed(tmp_path: Path) -> None:
    program, folder = tmp_path / "program.py", tmp_path / "own"
    program.write_text(PROGRAM)
    folder.mkdir()
    tool = subprocess.Popen([sys.executable, str(program), str(folder)])
    until(lambda: len(list(folder.iterdir())) == 2)
    own = [int(path.name) for path in folder.iterdir()]
    assert all(map(runs, own))
    tool.send_signal(signal.SIGKILL)
    tool.wait()
    until(lambda: not any(map(runs, own)))


def runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "zombie" not in Path(f"/proc/{process}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def until(done: object, seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.1)
