"""Makes `fcam_tools` importable from a checkout that has not been installed, and finds the camera's binary."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))


# What was skipped, and why.
skipped: set[str] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        note(report)


def note(report: pytest.TestReport | pytest.CollectReport) -> None:
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    skipped.add(f"{report.nodeid.removeprefix('tests/tools/').partition('[')[0]} ({why.removeprefix('Skipped: ')})")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A lane tells at its end what was skipped (tools/dev/lanes.sh). Where CI is set everything runs."""
    if (to := os.environ.get("FCAM_NOT_RUN")) and skipped:
        with open(to, "a") as file:
            file.writelines(f"{what}\n" for what in sorted(skipped))
    if os.environ.get("CI") and skipped and exitstatus == 0:
        print("\nin CI everything runs, and this was skipped:", *sorted(skipped), sep="\n  ")
        session.exitstatus = 1


@pytest.fixture(scope="session")
def fcam() -> Path:
    """The fcam binary, as `verify` finds it; the test is skipped where there is none that can answer."""
    from fcam_tools.export import verify  # after the path is set

    binary = verify.find_fcam()
    if binary is None or not os.access(binary, os.X_OK):
        pytest.skip("no fcam binary: build it with cargo")
    asked = subprocess.run([binary, "check", "--help"], capture_output=True, text=True, timeout=20, check=False)
    if "--json" not in asked.stdout:
        pytest.skip(f"{binary} has no `check --json`")
    return binary
