"""What people give by mistake, to each verb that reads pictures: an error that names the file and says what to do, at
once, and nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fcam_tools import __main__
from fcam_tools.common import disk, run_folder
from fcam_tools.common.errors import ToolError
from fcam_tools.judge import pilot, report
from fcam_tools.model.network import Net
from fcam_tools.train import train
from PIL import Image
from trees import BOX, HEIGHT, TREES, WIDTH, mask

VERBS = ("inspect", "train", "pilot", "evaluate")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that nobody trained, of the trees' two classes."""
    torch.set_num_threads(1)
    path, made = tmp_path_factory.mktemp("net") / "net.pt", Net(2, widths=(8, 8))
    thresholds = {"score": 0.5, "map": 0.5, "map_low": 0.3, "min_area_px": 6}
    told = {"classes": ["good", "dent"], "ok": "good", "size": 32, "thresholds": thresholds}
    more = {"settings": made.settings, "state_dict": made.state_dict(), "provenance": {}, "metrics": {}}
    torch.save(told | more, path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    TREES["tree"](tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture(autouse=True)
def nothing_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong is found before the first step."""
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("training began on bad input"))
    monkeypatch.setattr(pilot, "cross_validate", lambda *_, **__: pytest.fail("training began on bad input"))


def refused(verb: str, tree: Path, net: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the verb says; it must have failed."""
    out = tree.parent / "out"
    more = {"train": ["--out", f"{out}.pt"], "pilot": ["--out", f"{out}.html"]}.get(verb, [])
    command = ["evaluate", str(net), "--data", str(tree)] if verb == "evaluate" else [verb, str(tree), *more]
    code = __main__.main(command)
    told = capsys.readouterr()
    assert code == (1 if verb == "inspect" and told.out else 2)
    assert not list(tree.parent.glob("out.*")), "something was written"
    return told.out + told.err


def spoil(tree: Path, how: str) -> Path:
    """Puts the mistake into the test split, which all four verbs read; returns the file that must be named."""
    picture = tree / "test" / "dent" / "001.png"
    truth = tree / "ground_truth" / "test" / "dent" / "001_mask.png"
    if how == "text":
        picture = picture.with_name("note.jpg")
        picture.write_text("not a picture")
    elif how == "cut":
        picture.write_bytes(picture.read_bytes()[:200])
    elif how == "deep":
        Image.fromarray(np.full((HEIGHT, WIDTH), 40_000, np.uint16)).save(picture)
    elif how == "print":
        picture = picture.with_name("print.jpg")
        Image.new("CMYK", (WIDTH, HEIGHT)).save(picture)
    elif how == "mask of another size":
        return mask(truth, np.ones((HEIGHT + 2, WIDTH), bool))
    elif how == "empty mask":
        mask(truth, BOX * False)
    elif how == "mask that is text":
        truth.write_text("not a mask")
        return truth
    return picture


CURES = {
    "text": "remove or replace it", "cut": "remove or replace it", "deep": "convert it to 8",
    "print": "convert it to RGB", "mask of another size": "make them one size", "empty mask": "correct one of them",
    "mask that is text": "remove or replace it",
}  # fmt: skip
# Training cannot reach the masks.
SEEN = [(how, verb) for how in CURES for verb in VERBS if verb != "train" or "mask" not in how]


@pytest.mark.parametrize(("how", "verb"), SEEN)
def test_file_is_named_with_its_cure(
    how: str, verb: str, tree: Path, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spoil(tree, how)
    said = refused(verb, tree, net, capsys)
    assert str(path) in said and CURES[how] in said and "Traceback" not in said


@pytest.mark.parametrize("verb", VERBS)
def test_rejects_alone_are_refused(verb: str, tree: Path, net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val", "test"):
        shutil.rmtree(tree / split / "good")
    said = refused(verb, tree, net, capsys)
    assert "needs one folder called `ok` or `good` and one or more for defects" in said and "['dent']" in said


@pytest.mark.parametrize("verb", VERBS)
def test_three_pictures_are_refused(verb: str, tree: Path, net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = tree.parent / "few"
    for name, count in (("good", 2), ("dent", 1)):
        shutil.copytree(tree / "train" / name, few / name)
        for path in sorted((few / name).iterdir())[count:]:
            path.unlink()
    said = refused(verb, few, net, capsys)
    assert f"{few / 'good'} has 2 pictures" in said and "a class needs 3 at least" in said


# A full disk: test_runs.py has training's.


def test_pilot_tells_its_verdict_though_the_disk_is_full(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = pilot.Pilot("set", {}, pilot.EQUAL, True, pilot.Goals(), 2, {}, verdict={"verdict": "go", "why": "so good"})
    monkeypatch.setattr(pilot, "pilot", lambda *_: (found, None))
    monkeypatch.setattr(report, "page", lambda *_: "the page")
    monkeypatch.setattr(disk.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space left on device")))
    assert __main__.main(["pilot", str(tree), "--out", str(tree.parent / "pilot.html")]) == 2
    told = capsys.readouterr()
    assert "go: so good" in told.out
    assert "pilot.html (8 bytes): no space left on device; make room" in told.err
    assert not list(tree.parent.glob("*pilot.html*"))


def test_training_without_room_for_its_log_says_so(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: str) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(run_folder, "SummaryWriter", full)
    assert __main__.main(["train", str(tree), "--out", str(tree.parent / "net.pt")]) == 2
    run = tree.parent / "net.run"
    assert f"cannot write logs into {run}: no space left on device; make room" in capsys.readouterr().err
    assert run_folder.Run(run).state() == "stopped"  # the lock is free again


def test_place_of_a_late_file_is_refused_early(tmp_path: Path) -> None:
    disk.prepare(tmp_path / "new" / "file.html")
    assert (tmp_path / "new").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolError, match=r"cannot make .*file/below: .*choose another place"):
        disk.prepare(tmp_path / "file" / "below" / "page.html")
    with pytest.raises(ToolError, match="new is a folder: give the name of a file"):
        disk.prepare(tmp_path / "new")
