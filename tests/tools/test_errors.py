"""What the command line says of an error: a refusal in one line, a bug in one line with the place of its traceback."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fcam_tools import __main__
from fcam_tools.common import run_folder
from fcam_tools.common.errors import ArgumentError, ToolError
from fcam_tools.judge import inspect
from fcam_tools.measure import metrics
from fcam_tools.train import train


def raise_numpy() -> None:
    np.stack([np.zeros(2), np.zeros(3)])


def raise_tool() -> None:
    raise ToolError("this is wrong: do that")


def raise_argument() -> None:
    metrics.operating_point([], [], 0.1)


def raise_file() -> None:
    Path("nowhere/at/all").read_bytes()


def raise_bare_os() -> None:
    raise OSError(5, "input/output error")


def raise_pipe() -> None:
    raise BrokenPipeError(32, "broken pipe")


@pytest.fixture
def verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `inspect`, which does nothing but fail in a way; logs go to a place of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(fail: Callable[[], None], *words: str) -> int:
        monkeypatch.setattr(inspect, "run", lambda _: fail())
        return __main__.main([*words, "data"])

    return run


REFUSALS = [
    (raise_tool, "this is wrong: do that"),
    (raise_argument, "no pictures: there is nothing to score"),
    (raise_file, "No such file or directory: 'nowhere/at/all'"),
    (raise_pipe, "broken pipe"),
]


@pytest.mark.parametrize(("fail", "said"), REFUSALS)
def test_what_a_user_can_mend_is_one_line(
    fail: Callable[[], None], said: str, verb: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(fail, "inspect") == 2
    error = capsys.readouterr().err
    assert error.startswith("fcam-tools inspect: ") and error.count("\n") == 1 and said in error
    assert not (tmp_path / "state").exists()


def test_ctrl_c_is_one_line_and_130(verb: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(lambda: (_ for _ in ()).throw(KeyboardInterrupt), "inspect") == 130
    assert capsys.readouterr().err == "fcam-tools inspect: stopped\n"


@pytest.mark.parametrize("fail", [raise_numpy, raise_bare_os])
def test_a_bug_says_that_it_is_one_and_where_its_traceback_is(
    fail: Callable[[], None], verb: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for count in (1, 2):  # each has a file of its own
        assert verb(fail, "inspect") == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "this is a bug of fcam-tools: please report it with" in error
        place = Path(error.strip().rpartition(" ")[2])
        assert place.parent == tmp_path / "state" / "fcam-tools" and len(list(place.parent.iterdir())) == count
        told = place.read_text()
        assert re.search(r"^Traceback", told, re.MULTILINE) and fail.__name__ in told and "fcam-tools" in told


@pytest.mark.parametrize("words", [("--debug", "inspect"), ("inspect", "--debug")])
@pytest.mark.parametrize("fail", [raise_numpy, raise_tool])
def test_debug_prints_the_traceback(
    fail: Callable[[], None], words: tuple[str, ...], verb: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(fail, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback") and fail.__name__ in error and "fcam-tools inspect: " in error


def test_a_bug_is_told_where_no_file_can_be_written(
    verb: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("fcam_tools.common.errors.tempfile.gettempdir", lambda: str(tmp_path / "file"))
    assert verb(raise_numpy, "inspect") == 2
    assert "please report it with what --debug prints" in capsys.readouterr().err


def test_a_bug_of_training_is_in_the_log_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trees import TREES

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(train, "fit", lambda *_: raise_numpy())
    source = TREES["tree"](tmp_path / "set").source
    assert __main__.main(["train", source, "--out", str(tmp_path / "run"), "--allow-leaks"]) == 2
    assert "this is a bug of fcam-tools" in capsys.readouterr().err
    log = (tmp_path / "run" / "train.log").read_text()
    assert "training ended by a bug" in log and "raise_numpy" in log
    assert run_folder.Run(tmp_path / "run").state() == "stopped"


def test_metrics_refuse_their_arguments_as_python_does() -> None:
    assert issubclass(ArgumentError, ValueError) and issubclass(ArgumentError, ToolError)
