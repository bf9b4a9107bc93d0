"""The reference of good parts that a bundle carries: which pictures make it, and that the program is asked."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from fcam_tools.common.errors import ToolError
from fcam_tools.common.program import find_fcam
from fcam_tools.data import made_up
from fcam_tools.export import drift
from PIL import Image

TINY = Path(__file__).resolve().parents[1] / "common/tiny"


@pytest.fixture
def program() -> Path:
    fcam = find_fcam()
    if fcam is None:
        pytest.skip("no fcam: `cargo build`, or FCAM=/path/to/fcam")
    return fcam


def pictures(root: Path, train: int, val: int) -> Path:
    """Bright parts with some texture, which the tiny bundle passes, and two dark ones."""
    rng = np.random.default_rng(7)
    shade = 200 + 25 * np.sin(np.arange(96) / 4)[None, :] * np.cos(np.arange(80) / 5)[:, None]
    for split, count in (("train", train), ("val", val), ("test", 2)):
        for kind, level, each in (("good", 1.0, count), ("dark", 0.2, 2)):
            folder = root / split / kind
            folder.mkdir(parents=True)
            for index in range(each):
                noisy = (shade * level * rng.normal(1, 0.01))[..., None] + rng.normal(0, 2, (80, 96, 3))
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{index:03}.png")
    return root


def test_the_bundle_carries_what_the_program_measured(tmp_path: Path, program: Path) -> None:
    bundle = shutil.copytree(TINY, tmp_path / "tiny")
    dataset = made_up.load(str(pictures(tmp_path / "set", 5, 25)))
    found = drift.drift(bundle, dataset)["drift"]
    assert found["parts"] == 25
    assert found["score"]["mean"] < 0
    assert np.exp(found["brightness"]["mean"]) == pytest.approx(204, abs=3)
    manifest = tomllib.loads((bundle / "manifest.toml").read_text()) | {"format": 3, "drift": found}
    (bundle / "manifest.toml").write_text(tomli_w.dumps(manifest))
    checked = subprocess.run([program, "check", bundle], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    assert "watched against 25 good parts" in checked.stdout


def test_scores_of_pictures_that_training_saw_say_nothing(tmp_path: Path, program: Path) -> None:
    found = drift.drift(TINY, made_up.load(str(pictures(tmp_path, 18, 4))))["drift"]
    assert found["parts"] == 22
    assert "score" not in found


def test_too_few_pictures_are_no_reference(tmp_path: Path, program: Path) -> None:
    assert drift.drift(TINY, made_up.load(str(pictures(tmp_path, 10, 4)))) == {}


def test_without_the_program_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drift, "find_fcam", lambda: None)
    assert drift.drift(TINY, made_up.load(str(pictures(tmp_path, 2, 25)))) == {}
    assert "the bundle tells no drift" in caplog.text


def test_a_program_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "fcam"
    old.write_text("#!/bin/sh\necho \"unrecognized subcommand 'drift'\" >&2\nexit 2\n")
    old.chmod(0o755)
    monkeypatch.setattr(drift, "find_fcam", lambda: old)
    with pytest.raises(
        ToolError, match=r"drift --teach.*ended with 2: unrecognized subcommand.*take the fcam of this release"
    ):
        drift.drift(TINY, made_up.load(str(pictures(tmp_path / "set", 2, 25))))
