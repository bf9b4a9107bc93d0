"""`fcam-tools inspect` by the command line: what it counts, what it holds against a set, and what it cannot read."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fcam_tools import __main__, data
from fcam_tools.common import contact
from fcam_tools.common.errors import ToolError
from fcam_tools.data.dataset import Picture
from fcam_tools.judge import suspect
from fcam_tools.model import network, weights
from fcam_tools.train import train
from PIL import Image
from trees import HEIGHT, TREES, WIDTH, mask, picture


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three splits of two classes of three pictures, with masks."""
    TREES["tree"](tmp_path / "set")
    return tmp_path / "set"


Told = dict


def run(*command: object) -> int:
    return __main__.main(["inspect", *(str(part) for part in command)])


def told(capsys: pytest.CaptureFixture[str], *command: object, code: int = 0) -> Told:
    capsys.readouterr()
    assert run(*command, "--json") == code
    return json.loads(capsys.readouterr().out)


def texts(found: Told, level: str) -> list[str]:
    return [one["text"] for one in found["verdicts"] if one["level"] == level]


def test_sound_set_is_counted_and_passes(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, tree)
    assert found["counts"] == {split: {"good": 3, "dent": 3} for split in data.SPLITS}
    assert found["sizes"] == {"16x12": 18} and found["modes"] == {"RGB": 18} and found["broken"] == {}
    assert found["truth"] == {"kind": "masks", "marked": 9, "unmarked": 0, "wrong": []}
    assert all(pairs == [] for pairs in found["copies"].values())
    assert texts(found, "error") == [] and texts(found, "ok") == ["nothing stands against training on it"]
    assert any("class dent has 3 training pictures" in text for text in texts(found, "warning"))


def test_table_says_the_same(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["good", "3", "3", "3"] and lines[-1].startswith("ok: ")


def test_published_set_tells_its_licence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, TREES["ksdd"](tmp_path).source)
    assert found["licence"] == "CC BY-NC-SA 4.0" and found["groups"] == {"kinds": {"part": 12}, "divided": []}
    assert told(capsys, TREES["neu"](tmp_path / "neu").source)["truth"]["kind"] == "boxes"


def spoil(tree: Path, how: str) -> Path:
    path = tree / "val" / "good" / "001.png"
    if how == "text":
        path = path.with_suffix(".jpg")
        path.write_text("not a picture")
    elif how == "cut":
        path.write_bytes(picture(path, (64, 64)).read_bytes()[:900])
    elif how == "deep":
        Image.fromarray(np.full((HEIGHT, WIDTH), 40_000, np.uint16)).save(path)
    elif how == "deep colours":
        cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 40_000, np.uint16))
    else:
        path = path.with_suffix(".jpg")
        Image.new("CMYK", (WIDTH, HEIGHT)).save(path)
    return path


@pytest.mark.parametrize(
    ("how", "cure"),
    [
        ("text", "remove or replace it"), ("cut", "remove or replace it"), ("deep", "convert it to 8"),
        ("deep colours", "convert it to 8"), ("print", "convert it to RGB"),
    ],
)  # fmt: skip
def test_unreadable_picture_is_an_error_with_its_cure(
    how: str, cure: str, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spoil(tree, how)
    found = told(capsys, tree, code=1)
    assert list(found["broken"]) == [str(path)]
    (text,) = texts(found, "error")
    assert str(path) in text and cure in text and texts(found, "ok") == []


def test_mask_of_another_size_is_an_error_with_both_names(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = mask(tree / "ground_truth" / "test" / "dent" / "002_mask.png", np.ones((HEIGHT, WIDTH + 3), bool))
    (text,) = texts(told(capsys, tree, code=1), "error")
    assert str(path) in text and str(tree / "test" / "dent" / "002.png") in text and "make them one size" in text


def test_copies_are_counted_by_where_they_are(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tree / "train" / "good" / "000.png"
    shutil.copy(first, tree / "train" / "good" / "again.png")
    shutil.copy(tree / "val" / "good" / "000.png", tree / "test" / "good" / "leak.png")
    shutil.copy(tree / "test" / "dent" / "000.png", tree / "test" / "good" / "two.png")
    with Image.open(tree / "train" / "dent" / "001.png") as original:
        original.point(lambda v: min(255, int(v * 1.04))).save(tree / "val" / "dent" / "near.png")
    found = told(capsys, tree, code=1)
    names = {kind: [[Path(p).name for p in pair] for pair in pairs] for kind, pairs in found["copies"].items()}
    assert names["exact_within"] == [["000.png", "again.png"], ["two.png", "000.png"]]
    assert names["exact_across"] == [["000.png", "leak.png"]] and names["near_across"] == [["001.png", "near.png"]]
    assert names["exact_of_two_labels"] == [["two.png", "000.png"]] and names["near_within"] == []
    errors = texts(found, "error")
    assert "2 pairs of copies in two splits" in errors[0] and "near.png" in errors[0]
    assert "one picture with two labels" in errors[1] and len(errors) == 2


def test_near_copies_of_two_labels_are_only_warned_of(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A small defect on one of two like parts is no contradiction."""
    with Image.open(tree / "train" / "dent" / "001.png") as original:
        original.point(lambda v: min(255, int(v * 1.04))).save(tree / "train" / "good" / "near.png")
    found = told(capsys, tree)
    assert len(found["copies"]["near_of_two_labels"]) == 1
    assert any("near.png" in text and "look at both" in text for text in texts(found, "warning"))


def test_other_sizes_modes_and_divided_groups_are_warned_of(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture(tree / ("train" if number % 2 else "test") / "good" / f"part_{number // 2 + 10 * (number > 7)}_a.png")
    for number in range(12):
        picture(tree / "train" / "good" / f"part_{number}_b.png", (20, 10))
    Image.new("L", (WIDTH, HEIGHT), 7).save(tree / "train" / "dent" / "grey.png")
    found = told(capsys, tree)
    warned = " ".join(texts(found, "warning"))
    assert "2 sizes (16x12, 20x10" in warned and "2 modes (RGB, L)" in warned
    assert found["groups"]["divided"] and "groups are in more than one split" in warned


def test_pictures_that_lose_pixels_or_shape_are_warned_of(
    tree: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("a mark of" in text for text in texts(told(capsys, tree), "warning"))
    picture(tree / "train" / "good" / "wide.png", (1600, 80))
    (text,) = (text for text in texts(told(capsys, tree), "warning") if "a mark of" in text)
    assert (
        "pictures of 1600 x 80 are judged at 512 x 32, a mark of 4 pixels as one" in text and "crop to the ROI" in text
    )
    monkeypatch.setattr(train, "fit", lambda *_: (_ for _ in ()).throw(ToolError("enough")))
    for path in (tree / "train").rglob("*.png"):
        picture(path, (1600, 80))
    ask = ["train", str(tree), "--out", str(tree.parent / "net.pt"), "--allow-leaks"]
    assert __main__.main(ask) == 2
    assert "judged at 512 x 32, a mark of 4 pixels as one" in caplog.text
    caplog.clear()
    assert __main__.main([*ask, "--recipe", "inspection"]) == 2
    assert "pictures of 1600 x 80 are squashed to 256 x 256, 20 times narrower across" in caplog.text


@pytest.mark.parametrize("layout", ["splits", "folders"])
def test_a_link_to_nowhere_is_named_and_the_rest_looked_at(
    layout: str, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tree if layout == "splits" else tree / "train"
    link = root / "train" / "dent" / "gone.png" if layout == "splits" else root / "dent" / "gone.png"
    link.symlink_to("/nowhere/at/all.png")
    copied = next(path for path in sorted(link.parent.iterdir()) if path != link)
    shutil.copy(copied, link.with_name("again.png"))
    found = told(capsys, root, code=1)
    (text,) = texts(found, "error")
    assert text == f"cannot read {link}: it is a link to /nowhere/at/all.png, which is not there; remove it"
    assert found["copies"]["exact_within"] == [[str(copied), str(link.with_name("again.png"))]] or layout == "splits"
    assert __main__.main(["train", str(root), "--out", str(tree.parent / "net.pt")]) == 2
    assert str(link) in capsys.readouterr().err


def test_lopsided_classes_are_warned_of(tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    from fcam_tools.judge import inspect

    monkeypatch.setattr(inspect, "FEW", 2)
    monkeypatch.setattr(inspect, "LOPSIDED", 3)
    for number in range(12):
        picture(tree / "train" / "good" / f"more{number}.png")
    assert any("class good outnumbers dent 5 times" in text for text in texts(told(capsys, tree), "warning"))


@pytest.mark.parametrize(("ok", "ng", "message"), [(0, 5, "one or more for defects"), (2, 1, "has 2 pictures")])
def test_set_that_cannot_be_split_is_refused(
    ok: int, ng: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count in (("ok", ok), ("ng", ng)):
        for number in range(count):
            picture(tmp_path / name / f"{number}.png")
    assert run(tmp_path) == 2
    error = capsys.readouterr().err
    assert message in error and str(tmp_path) in error


# Suspects.


def separable(turned: set[int]) -> tuple[data.Dataset, list[Picture], np.ndarray]:
    """Sixty features in two clouds; the labels of some are turned."""
    labels = [int(number >= 30) for number in range(60)]
    features = np.random.default_rng(0).normal(0, 1, (60, 8)) + 4 * np.array(labels)[:, None]
    pictures = [Picture(Path(f"{n}.png"), 1 - label if n in turned else label) for n, label in enumerate(labels)]
    return data.Dataset("x", Path(), ("ok", "ng"), {}), pictures, features


def test_turned_labels_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = {3, 17, 40}
    dataset, pictures, features = separable(turned)
    monkeypatch.setattr(suspect, "frozen_features", lambda classes: None)
    monkeypatch.setattr(suspect, "over", lambda *_: features)
    found = suspect.suspects(dataset, pictures, None, progress=False)
    assert {int(Path(one.path).stem) for one in found[:3]} == turned
    assert all(one.label != one.guess for one in found)
    assert [one.loss for one in found] == sorted((one.loss for one in found), reverse=True)


def test_a_picture_is_judged_by_folds_without_it_and_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair of twins is far from all others, on an axis of its own: only its twin could tell a picture's label."""
    labels = [number // 2 % 2 for number in range(40)]
    monkeypatch.setattr(suspect, "frozen_features", lambda classes: None)
    monkeypatch.setattr(suspect, "over", lambda *_: np.repeat(np.eye(20), 2, axis=0))
    dataset = data.Dataset("x", Path(), ("ok", "ng"), {})

    def right(group: str) -> float:
        pictures = [Picture(Path(f"{n}"), label, group=group and f"{group}:{n // 2}") for n, label in enumerate(labels)]
        found = suspect.by_folds(dataset, pictures, progress=False)
        return float((found.argmax(1) == labels).mean())

    assert right("part") < 0.6 < 0.75 < right("")


def test_several_labels_and_things_are_judged_by_their_own() -> None:
    probabilities = np.array([[0.0, 0.5, 0.3, 0.2], [0.0, 0.1, 0.2, 0.7]])
    things = [Picture(Path("a"), 1, (1, 2)), Picture(Path("b"), 2)]
    assert suspect.of_label(probabilities, things).tolist() == pytest.approx([0.8, 0.2])
    with_ok = [Picture(Path("a"), 1), Picture(Path("b"), 0)]
    assert suspect.of_label(np.array([[0.9, 0.1], [0.6, 0.4]]), with_ok).tolist() == pytest.approx([0.1, 0.6])


@pytest.fixture
def two_looks(tmp_path: Path) -> Path:
    """Smooth OK pictures, striped NG ones, and one of each under the other's label."""
    rng = np.random.default_rng(2)
    for split, count in (("train", 12), ("val", 3), ("test", 3)):
        for label in ("ok", "ng"):
            for number in range(count):
                striped = (label == "ng") != (split == "train" and number == 0)
                grain = cv2.resize(rng.normal(0, 30, (16, 16)), (64, 64), interpolation=cv2.INTER_CUBIC)
                pixels = 120 + grain + (60 * (np.arange(64) // 4 % 2) if striped else 0)
                path = tmp_path / "looks" / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB").save(path)
    return tmp_path / "looks"


def test_sheet_and_page_show_wrong_labels(two_looks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec(weights.PACKAGED_WEIGHTS[network.DEFAULT_BACKBONE][0]) is None:
        pytest.skip("no packaged weights: install tools/requirements.lock")
    sheet, page = tmp_path / "out" / "sheet.png", tmp_path / "out" / "page.html"
    found = told(capsys, two_looks, "--sheet", sheet, "--html", page, "--suspects", 2)
    assert {one["path"] for one in found["suspects"]} == {str(two_looks / "train" / n / "0.png") for n in ("ok", "ng")}
    assert {(one["label"], one["guess"]) for one in found["suspects"]} == {("ok", "ng"), ("ng", "ok")}
    assert Image.open(sheet).size == (suspect.COLUMNS * suspect.CELL, suspect.CELL + suspect.LINES * contact.LINE)
    text = page.read_text()
    assert "suspect: " in text and "data:image/png;base64," in text


def test_neighbours_in_a_batch_do_not_change_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is often of one class: its own statistics would tell the label."""
    monkeypatch.setattr(suspect, "load_pretrained", lambda net: "no weights")
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        function = suspect.frozen_features(2)
        assert torch.allclose(function(x)[:1], function(x[:1]), atol=1e-4)


def test_few_pictures_of_a_class_cannot_be_suspected(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(tree / "test")
    for split in ("train", "val"):
        (tree / split / "dent" / "000.png").unlink()
    assert run(tree, "--sheet", tmp_path / "sheet.png") == 2
    assert "class dent has under 5 pictures" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "name"), [("--sheet", "a.jpg"), ("--html", "a.png")])
def test_places_must_end_as_what_they_are(flag: str, name: str, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree, flag, name) == 2
    assert "must end in" in capsys.readouterr().err
