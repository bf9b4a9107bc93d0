"""The pixels' truth: every published set's marks, and that training has no way to them."""

from __future__ import annotations

import ast
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import fcam_tools
import numpy as np
import pytest
from fcam_tools import data
from fcam_tools.common.errors import ToolError
from fcam_tools.judge.truth import PixelTruth, truth_of
from PIL import Image
from trees import BOX, HEIGHT, TREES, WIDTH, Tree, mask, picture

PACKAGE = Path(fcam_tools.__file__).parent


@pytest.fixture(params=list(TREES))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return TREES[request.param](tmp_path)


def pixels_of(made: Tree) -> PixelTruth:
    return PixelTruth(data.load(made.source))


# The wall between training and truth.


def imports_of(path: Path) -> set[str]:
    """Full names that a file imports anywhere in it, `from a import b` as both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def file_of(module: str) -> Path | None:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def reached(module: str) -> set[str]:
    """Modules of this package that importing one brings along, at any depth."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        path = file_of(name) if name.startswith("fcam_tools") else None
        if path and name not in found:
            found.add(name)
            waiting += imports_of(path)
    return found


@pytest.mark.parametrize(
    "module", ["train.train", "train.tune", "train.seeds", "train.losses", "model.network", "data"]
)
def test_training_imports_no_truth(module: str) -> None:
    assert "fcam_tools.judge.truth" not in reached(f"fcam_tools.{module}")


def test_running_training_loads_no_truth() -> None:
    """What the walk over the text could miss: imports by name at run time."""
    code = "import sys, fcam_tools.train.train; print('fcam_tools.judge.truth' in sys.modules)"
    environment = {"PYTHONPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert ran.stdout.strip() == "False"


def test_the_walk_finds_truth_where_it_is() -> None:
    assert "fcam_tools.judge.truth" in reached("fcam_tools.judge.evaluate")
    assert {"fcam_tools.data.anomaly", "fcam_tools.train.seeds", "fcam_tools.train.losses"} <= reached(
        "fcam_tools.train.train"
    )


def test_dataset_carries_names_and_labels_alone() -> None:
    fields = {field.name for kind in (data.Dataset, data.Picture) for field in dataclasses.fields(kind)}
    assert fields == {"name", "root", "classes", "splits", "layout", "option", "path", "label", "labels", "group"} | {
        "good_alone",
        "joined",
    }


# Marks.


def test_marks_are_where_the_set_has_them(made: Tree) -> None:
    truth = pixels_of(made)
    defects = 0
    for one in truth.dataset.pictures():
        marks = truth.marks(one)
        if one.label == 0:
            assert marks is None and truth.mask(one, (WIDTH, HEIGHT)) is None
            continue
        defects += 1
        assert marks is not None
        if made.source.startswith("severstal"):
            assert not marks[~BOX].any() and marks[2:6, 3:11:2].all()
        elif made.source.startswith("openimages"):
            assert np.argwhere(marks).tolist() == [[y, x] for y in range(2, 6) for x in range(4, 10)]
        else:
            assert np.array_equal(marks, BOX)
    assert defects > 3


def test_kind_says_what_marks_are(made: Tree) -> None:
    expected = {"dagm": "ellipses", "neu": "boxes", "cub": "boxes"}
    assert pixels_of(made).kind == expected.get(made.source.partition(":")[0], "masks")


def test_runs_of_several_classes_are_one_mask(tmp_path: Path) -> None:
    truth = pixels_of(TREES["severstal"](tmp_path))
    both = next(one for one in truth.dataset.pictures() if one.labels == (1, 2))
    single = next(one for one in truth.dataset.pictures() if one.labels == (1,))
    for one in (both, single):
        marks = truth.marks(one)
        assert marks is not None and np.array_equal(marks, BOX)


def test_ignored_pixels_hold_no_defect(tmp_path: Path) -> None:
    truth = pixels_of(TREES["openimages"](tmp_path))
    one = truth.dataset.splits["test"][0]
    ignored, defect = truth.ignored(one, (WIDTH, HEIGHT)), truth.mask(one, (WIDTH, HEIGHT))
    assert ignored is not None and defect is not None and not (ignored & defect).any()
    assert np.argwhere(ignored.any(axis=0)).ravel().tolist() == [14, 15]


def test_thin_defects_are_kept(tmp_path: Path) -> None:
    """At half of the width and a quarter of the height: a row of one pixel covers a quarter, a speck less."""
    thin, speck = np.zeros((2, 64, 32), bool)
    thin[10], thin[32:36, 16:18], speck[5, 5] = True, True, True
    for name, marks in (("a", thin), ("b", speck)):
        picture(tmp_path / "test" / "dent" / f"{name}.png", (32, 64))
        mask(tmp_path / "ground_truth" / "test" / "dent" / f"{name}_mask.png", marks)
    truth = PixelTruth(data.Dataset("x", tmp_path, ("good", "dent"), {}))
    found = truth.mask(data.Picture(tmp_path / "test" / "dent" / "a.png", 1), (16, 16))
    assert found is not None and found.shape == (16, 16)
    assert found[2].all() and found[8, 8] and found.sum() == 17
    found = truth.mask(data.Picture(tmp_path / "test" / "dent" / "b.png", 1), (16, 16))
    assert found is not None and np.argwhere(found).tolist() == [[1, 2]]


def test_own_defect_without_mask_has_no_marks(tmp_path: Path) -> None:
    made = TREES["tree"](tmp_path)
    shutil.rmtree(tmp_path / "ground_truth")
    truth = pixels_of(made)
    assert all(truth.marks(one) is None for one in truth.dataset.pictures())


def test_picture_from_elsewhere_has_no_marks_either(tmp_path: Path) -> None:
    truth = pixels_of(TREES["tree"](tmp_path / "set"))
    assert truth.marks(data.Picture(picture(tmp_path / "other" / "000.png"), 1)) is None


def spoil(made: Tree, how: str) -> PixelTruth:
    """One mask of the set, spoilt after the labels were read."""
    truth = pixels_of(made)
    path = next(path for path in made.truth if path.suffix != ".txt" and path.suffix != ".xml")
    if how == "absent":
        path.unlink()
    elif how == "text":
        path.write_text("no picture")
    elif how == "empty":
        mask(path, BOX * False)
    else:
        mask(path, np.ones((HEIGHT, WIDTH + 1), bool))
    return truth


SPOILT = [(name, how) for name in ("mvtec", "visa", "btad", "dagm", "ksdd", "tiles", "openimages")
          for how in ("size", "absent", "text", "empty")]  # fmt: skip
SPOILT.remove(("openimages", "empty"))  # its other instance still marks the picture


@pytest.mark.parametrize(("name", "how"), SPOILT)
def test_spoilt_mask_is_named(name: str, how: str, tmp_path: Path) -> None:
    made = TREES[name](tmp_path)
    if name == "ksdd":  # its first masks are of OK pictures, which nobody asks for
        made = dataclasses.replace(made, truth=made.truth[1:])
    if name == "tiles":
        made = dataclasses.replace(made, truth=tuple(p for p in made.truth if "MT_Crack" in p.parts))
    truth = spoil(made, how)
    told = {
        "size": r"is 17x12|another shape",
        "absent": "is not there",
        "text": "cannot read the mask",
        "empty": "empty",
    }
    with pytest.raises(ToolError, match=told[how]):
        for one in truth.dataset.pictures():
            truth.mask(one, (WIDTH, HEIGHT))


def test_mask_of_another_size_names_both_files(tmp_path: Path) -> None:
    made = TREES["tree"](tmp_path)
    spoilt = mask(made.truth[0], np.ones((HEIGHT + 4, WIDTH), bool))
    truth = pixels_of(made)
    with pytest.raises(ToolError, match=r"000_mask\.png is 16x16, its picture .*000\.png 16x12: make them one size"):
        for one in truth.dataset.splits["train"]:
            truth.marks(one)
    assert spoilt.is_file()


@pytest.mark.parametrize(
    ("name", "file", "text", "told"),
    [
        ("severstal", "train.csv", "ImageId,ClassId,EncodedPixels\n{},1,190 4\n", "leaves its 16x12"),
        ("severstal", "train.csv", "ImageId,ClassId,EncodedPixels\n{},1,0 4\n", "leaves its 16x12"),
        ("severstal", "train.csv", "ImageId,ClassId,EncodedPixels\n{},1,5 4 9\n", "leaves its 16x12"),
        ("severstal", "train.csv", "ImageId,ClassId,EncodedPixels\n{},1,a b\n", "'a' is no whole number"),
        ("cub", "bounding_boxes.txt", "999 1 1 2 2\n", "'999' is no picture's number"),
        ("cub", "bounding_boxes.txt", "1 1 1\n", r"line 1: .* has 3 fields, not 5"),
        ("neu", "ANNOTATIONS/crazing_1.xml", "<annotation>", "expected is Pascal VOC"),
    ],
)
def test_wrong_marks_name_their_file(name: str, file: str, text: str, told: str, tmp_path: Path) -> None:
    truth = pixels_of(TREES[name](tmp_path))
    defect = next(
        one for one in truth.dataset.pictures() if one.label and (name != "neu" or one.path.stem == "crazing_1")
    )
    (tmp_path / file).write_text(text.format(defect.path.name))
    with pytest.raises(ToolError, match=told) as refused:
        truth.marks(defect)
    assert Path(file).name in str(refused.value)


def test_truth_of_a_split_is_at_the_networks_size(tmp_path: Path) -> None:
    dataset = data.load(TREES["openimages"](tmp_path).source)
    truth = truth_of(dataset, "test", (8, 6))
    assert truth.pictures == dataset.splits["test"] and truth.has_masks and truth.classes == dataset.classes
    found, ignored = truth.mask(truth.pictures[0]), truth.ignored(truth.pictures[0])
    assert found is not None and ignored is not None and found.shape == ignored.shape == (6, 8)
    assert np.argwhere(found).tolist() == [[y, x] for y in (1, 2) for x in (2, 3, 4)]
    assert truth_of(dataset, "test", (8, 6), truth.pictures[:1]).pictures == truth.pictures[:1]


def test_split_without_masks_says_so(tmp_path: Path) -> None:
    dataset = data.load(TREES["tree"](tmp_path).source)
    shutil.rmtree(tmp_path / "ground_truth" / "val")
    assert truth_of(dataset, "test", (8, 6)).has_masks and not truth_of(dataset, "val", (8, 6)).has_masks


def test_palette_and_deep_masks_count_whatever_is_not_zero(tmp_path: Path) -> None:
    made = TREES["mvtec"](tmp_path)
    palette = Image.fromarray(BOX.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 0, 0, 0])  # its first two colours are both black
    palette.save(made.truth[0])
    Image.fromarray(BOX.astype(np.uint16) * 40_000).save(made.truth[1])
    truth = pixels_of(made)
    for one in truth.dataset.pictures():
        marks = truth.marks(one)
        assert marks is None or np.array_equal(marks, BOX)
