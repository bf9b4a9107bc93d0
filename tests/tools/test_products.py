"""Products, one a set: the same bytes anywhere, masks of what the defect changed, halves that share nothing."""

from __future__ import annotations

import csv
import functools
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from fcam_tools import __main__
from fcam_tools.data import tree
from fcam_tools.judge import truth
from fcam_tools.synth import sets
from fcam_tools.synth.products import CHOOSING, GOOD, PRODUCTS, REPORTING, collection, picture, relight
from fcam_tools.synth.products.part import HEIGHT, WIDTH
from fcam_tools.synth.surfaces import SURFACES
from PIL import Image


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A small data set of the quickest product, by one worker."""
    out = tmp_path_factory.mktemp("products") / "set"
    return out, collection.generate(
        out, "disc", seed=7, good=2, bad=6, test_good=1, test_bad=1, workers=1, progress=False
    )


@functools.cache
def one_of(product: str) -> tuple[picture.Item, picture.Shot]:
    """A defective part of a product: another kind from product to product."""
    kinds = PRODUCTS[product].kinds
    item = picture.Item(3, "test", kinds[list(PRODUCTS).index(product) % len(kinds)], 0, product)
    return item, picture.shot(item)


# The designs.


def test_halves_are_all_products_and_share_none() -> None:
    assert sorted([*CHOOSING, *REPORTING]) == sorted(PRODUCTS)
    assert len(PRODUCTS) >= 10 and len(CHOOSING) == len(REPORTING)
    assert not set(PRODUCTS) & set(SURFACES)


def test_each_has_five_or_six_kinds() -> None:
    assert all(len(product.kinds) in (5, 6) for product in PRODUCTS.values())


# The files.


def test_the_loader_takes_it(made: tuple[Path, dict]) -> None:
    found = tree.load_tree(made[0], "")
    assert found.classes == (GOOD, *PRODUCTS["disc"].kinds)
    pictures = [p for split in found.splits.values() for p in split]
    assert len(pictures) == 10 and not any(p.group for p in pictures)
    pixels = truth.PixelTruth(found)
    marks = [pixels.marks(p) for p in pictures if p.label]
    assert len(marks) == 7 and all(m is not None and m.any() and m.shape == (HEIGHT, WIDTH) for m in marks)


def test_layout(made: tuple[Path, dict]) -> None:
    root, summary = made
    assert json.loads((root / "dataset.json").read_text()) == summary and sets.is_data_set(root)
    assert summary["product"] == "disc" and summary["size"] == [WIDTH, HEIGHT]
    rows = list(csv.DictReader((root / "index.csv").open()))
    assert sorted(row["path"] for row in rows) == sorted(str(p.relative_to(root)) for p in root.rglob("*.jpg"))
    for row in rows:
        path = Path(row["path"])
        assert Image.open(root / path).size == (WIDTH, HEIGHT)
        if row["class"] != GOOD:
            mask = np.asarray(Image.open(root / "ground_truth" / path.parent / f"{path.stem}_mask.png"))
            assert set(np.unique(mask)) == {0, 255}
            assert float(row["area"]) == pytest.approx((mask > 0).mean(), abs=1e-6)


def test_picture_depends_on_its_own_key_alone(made: tuple[Path, dict], tmp_path: Path) -> None:
    collection.generate(tmp_path / "set", "disc", seed=7, good=1, bad=1, test_good=0, test_bad=0, workers=2)
    pictures = [p.relative_to(tmp_path / "set") for p in (tmp_path / "set").rglob("*.??g")]
    assert len(pictures) == 1 + 1 + 1
    assert all((made[0] / p).read_bytes() == (tmp_path / "set" / p).read_bytes() for p in pictures)


def test_other_seed_is_another_part(made: tuple[Path, dict]) -> None:
    first = cv2.imread(str(made[0] / "train/good/0000.jpg")).astype(float)
    other = picture.shot(picture.Item(8, "train", GOOD, 0, "disc")).picture[..., ::-1]
    assert np.abs(first - other).mean() > 1


# What is in the pictures.


@pytest.mark.parametrize("product", PRODUCTS)
def test_mask_is_what_the_defect_changed(product: str) -> None:
    item, shot = one_of(product)
    change = np.abs(shot.seen - shot.twin).max(axis=2)
    assert (change[~shot.mask] <= shot.noise).all()
    eroded = cv2.erode(shot.mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert (change[eroded] > shot.noise).mean() > 0.5
    assert picture.SMALLEST <= shot.mask.mean() <= picture.LARGEST, item
    assert (change[~cv2.dilate(shot.mask.astype(np.uint8), np.ones((25, 25), np.uint8)).astype(bool)] < 0.004).all()


@pytest.mark.parametrize("product", PRODUCTS)
def test_pictures_are_neither_black_nor_burnt(product: str) -> None:
    pixels = one_of(product)[1].picture
    assert 30 < pixels.mean() < 225 and (pixels == 255).mean() < 0.03 and pixels.std() > 8


def test_good_picture_has_no_mask_and_is_its_own_twin() -> None:
    shot = picture.shot(picture.Item(3, "test", GOOD, 0, "gear"))
    assert not shot.mask.any() and (shot.seen == shot.twin).all()


def test_pose_moves_a_little() -> None:
    for seed in range(20):
        matrix = relight.pose(np.random.default_rng(seed))
        middle = matrix @ [WIDTH / 2 + 24, HEIGHT / 2 + 24, 1]
        assert np.abs(middle - (WIDTH / 2, HEIGHT / 2)).max() <= 6.001
        assert abs(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0]))) <= 2.001


# The command line.


def test_command_writes_a_set_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--good", "1", "--bad", "1", "--test-good", "0", "--test-bad", "0"]
    command = ["synth", str(tmp_path / "set"), "--product", "disc", *few, "--workers", "1", "--json"]
    assert __main__.main(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert sum(summary["counts"]["train"].values()) == 2
    assert __main__.main(command) == 2
    assert "--force" in capsys.readouterr().err


def test_list_tells_the_halves(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["synth", "--product", "list", "--json"]) == 0
    rows = {row["product"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name for name, row in rows.items() if row["half"] == "choosing"} == set(CHOOSING)
    assert __main__.main(["synth", "--product", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(PRODUCTS) and all(name in "\n".join(lines) for name in PRODUCTS)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["OUT", "--product", "spoon"], r"no product is called spoon.*disc.*--product list"),
        (["OUT", "--product", "disc", "--train", "9"], r"--train is not for a product"),
        (["OUT", "--good", "9"], r"--good needs --product NAME"),
        (["OUT", "--product", "disc", "--bad", "-1"], r"--bad is below 0"),
        (
            ["OUT", "--product", "disc", "--good", "0", "--bad", "0", "--test-good", "0", "--test-bad", "0"],
            "no picture",
        ),
        (["--product", "disc"], r"which folder"),
    ],
)
def test_wrong_words_are_refused(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    assert __main__.main(["synth", *(str(out) if word == "OUT" else word for word in words)]) == 2
    assert re.search(told, capsys.readouterr().err)
    assert not out.exists()


def test_contact_sheet_has_a_row_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection.picture, "shot", lambda item: one_of("disc")[1])
    collection.sheet(tmp_path / "sheet.png", "disc", seed=0, side=64)
    wide, high = Image.open(tmp_path / "sheet.png").size
    assert wide == collection.COLUMNS * 64 and high == (64 + 14) * (1 + len(PRODUCTS["disc"].kinds))
