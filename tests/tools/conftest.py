"""Makes `fcam_tools` importable from a checkout that has not been installed, and finds the camera's binary."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))


@pytest.fixture(scope="session")
def fcam() -> Path:
    """The fcam binary, as `verify` finds it; the test is skipped where there is none that can answer."""
    from fcam_tools import verify  # after the path is set

    binary = verify.find_fcam()
    if binary is None or not os.access(binary, os.X_OK):
        pytest.skip("no fcam binary: build it with cargo")
    asked = subprocess.run([binary, "check", "--help"], capture_output=True, text=True, timeout=20, check=False)
    if "--json" not in asked.stdout:
        pytest.skip(f"{binary} has no `check --json`")
    return binary
