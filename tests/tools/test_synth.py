"""The synthetic data set: the same bytes anywhere, masks that hold the defect, and no other trace of the label."""

from __future__ import annotations

import csv
import json
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from fcam_tools import __main__
from fcam_tools.common.errors import ToolError
from fcam_tools.synth import defects, sets, synth
from fcam_tools.synth.defects import DEFECTS, LARGEST, SMALLEST, VISIBLE
from fcam_tools.synth.surfaces import SURFACES
from PIL import Image
from sklearn.metrics import roc_auc_score

COUNTS = {"train": 112, "val": 14, "test": 14}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A data set of all surfaces and defects, by one worker."""
    out = tmp_path_factory.mktemp("synth") / "set"
    return out, synth.generate(out, seed=7, size=128, **COUNTS, workers=1, progress=False)


def files_of(root: Path, pattern: str = "*") -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob(pattern) if p.is_file())


# The files.


def test_workers_do_not_change_the_bytes(made: tuple[Path, dict], tmp_path: Path) -> None:
    summary = synth.generate(tmp_path / "set", seed=7, size=128, **COUNTS, workers=2, progress=False)
    assert summary == made[1]


def test_picture_depends_on_its_own_key_alone(made: tuple[Path, dict], tmp_path: Path) -> None:
    few = tmp_path / "few"
    summary = synth.generate(few, seed=7, size=128, train=14, val=0, test=2, workers=1, progress=False)
    assert summary["sha256"] != made[1]["sha256"]
    pictures = files_of(few, "*.jpg") + files_of(few, "*.png")
    assert all((few / name).read_bytes() == (made[0] / name).read_bytes() for name in pictures)


def test_render_is_what_is_written(made: tuple[Path, dict]) -> None:
    for kind, surface in (("good", "brushed"), ("dent", "brushed")):
        picture, quality, marked, _ = synth.render(synth.Item(7, "train", kind, 0, surface, 128))
        encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        assert (made[0] / "train" / kind / f"{surface}_00000.jpg").read_bytes() == encoded.tobytes()
        assert (marked is None) == (kind == "good")


def test_layout(made: tuple[Path, dict]) -> None:
    root, summary = made
    assert json.loads((root / "dataset.json").read_text()) == summary and summary.keys() == sets.SUMMARY
    rows = list(csv.DictReader((root / "index.csv").open()))
    assert sorted(row["path"] for row in rows) == files_of(root, "*.jpg")
    for split, total in COUNTS.items():
        counts = summary["counts"][split]
        assert counts["good"] == total // 2 and sum(counts.values()) == total
        assert counts.keys() == {"good", *DEFECTS}
    bad = [Path(row["path"]) for row in rows if row["class"] != "good"]
    masks = [f"{path.parent.as_posix()}/{path.stem}_mask.png" for path in bad]
    assert files_of(root / "ground_truth") == sorted(masks)
    assert {row["surface"] for row in rows} == set(SURFACES)


def test_masks_are_black_and_white_and_of_legal_area(made: tuple[Path, dict]) -> None:
    root, _ = made
    for row in csv.DictReader((root / "index.csv").open()):
        picture = Image.open(root / row["path"])
        assert picture.size == (128, 128) and picture.mode == "RGB"
        if row["class"] == "good":
            assert float(row["area"]) == 0
            continue
        path = Path(row["path"])
        mask = np.asarray(Image.open(root / "ground_truth" / path.parent / f"{path.stem}_mask.png"))
        assert mask.shape == (128, 128) and set(np.unique(mask)) == {0, 255}
        assert SMALLEST <= (mask > 0).mean() <= LARGEST
        assert float(row["area"]) == pytest.approx((mask > 0).mean(), abs=1e-6)
        assert float(row["contrast"]) > 0.02


# What is in the pictures.


@pytest.mark.parametrize(("kind", "surface"), list(product(DEFECTS, SURFACES)))
def test_defect_changes_its_mask_and_hardly_anything_else(kind: str, surface: str) -> None:
    item = synth.Item(3, "test", kind, list(SURFACES).index(surface), surface, 192)
    picture, _, marked, twin = synth.render(item)
    assert marked is not None
    assert SMALLEST <= marked.mask.mean() <= LARGEST
    change = np.abs(picture.astype(np.float64) - twin).mean(axis=2)
    inside, outside = change[marked.mask].mean(), change[~marked.mask].mean()
    assert inside > 8  # grey levels
    assert outside < 0.03 * inside
    # Shadows and highlights lie beside a defect, within its own radius and a few pixels.
    reach = 6 + int(np.sqrt(marked.mask.sum() / np.pi))
    near = cv2.dilate(marked.mask.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    assert (change[~near] > 2).mean() < 0.002


@pytest.mark.parametrize(("kind", "surface"), list(product(DEFECTS, SURFACES)))
def test_mask_is_where_the_defect_changed_the_scene(kind: str, surface: str) -> None:
    part, marked, _ = synth.stage(synth.Item(3, "test", kind, list(SURFACES).index(surface), surface, 192))
    assert marked is not None
    change = np.abs(synth.seen(part, marked) - synth.seen(part, None)).mean(axis=2)
    assert (marked.mask == (change > VISIBLE)).all()
    assert marked.contrast == pytest.approx(change[marked.mask].mean(), rel=1e-4)


def test_shift_does_not_wrap() -> None:
    image = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    assert defects.shifted(image, 1, -2).tolist() == [[0, 0, 0, 0], [3, 4, 0, 0], [7, 8, 0, 0]]
    assert defects.shifted(image, -2, 1).tolist() == [[0, 9, 10, 11], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert defects.shifted(image, 0, 0).tolist() == image.tolist()


@pytest.mark.parametrize("kind", ["scratch", "particle"])
def test_defect_at_the_border_leaves_the_opposite_one_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    side = 64
    outline = np.zeros((side, side), np.float32)
    outline[20:40, -3:] = 1  # all that is drawn lies at the right
    monkeypatch.setattr(defects, "stroke", lambda *_: outline)
    monkeypatch.setattr(defects, "blob", lambda *_: outline * 9 - 5)
    scene = defects.Scene(np.full((side, side, 3), 0.5, np.float32), outline * 0, np.zeros(3, np.float32))
    for seed in range(8):
        marked = defects.DEFECTS[kind][0](np.random.default_rng(seed), scene, 0.01, 0.2)
        assert marked.mask[20:40, -3:].any() and not marked.mask[:, : side // 2].any()
        assert (marked.picture[:, : side // 2] == 0.5).all()


@pytest.mark.parametrize("surface", SURFACES)
def test_good_picture_is_its_own_twin(surface: str) -> None:
    picture, _, marked, twin = synth.render(synth.Item(3, "test", "good", 0, surface, 96))
    assert marked is None and (picture == twin).all()


def test_file_size_does_not_tell_the_label(made: tuple[Path, dict]) -> None:
    paths = sorted(made[0].glob("*/*/*.jpg"))
    sizes = [path.stat().st_size for path in paths]
    bad = [path.parent.name != "good" for path in paths]
    assert 0.35 < roc_auc_score(bad, sizes) < 0.65


# Refusals and interruptions.


def test_command_writes_a_set_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    few = ["--size", "96", "--train", "2", "--val", "2", "--test", "2", "--surfaces", "wood", "--defects", "hole"]
    command = ["synth", str(out), *few, "--workers", "1", "--json"]
    assert __main__.main(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["counts"]["train"] == {"good": 1, "hole": 1}
    assert __main__.main(command) == 2
    assert "--force" in capsys.readouterr().err
    assert __main__.main([*command, "--force"]) == 0
    assert json.loads(capsys.readouterr().out) == summary


def test_contact_sheet_shows_every_class_on_every_surface(tmp_path: Path) -> None:
    synth.sheet(tmp_path / "sheet.png", seed=0, size=48)
    assert Image.open(tmp_path / "sheet.png").size == (2 * len(SURFACES) * 48, (1 + len(DEFECTS)) * 48)


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_interrupted_run_leaves_what_was_there(
    failure: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(items: list[synth.Item], write: object, out: Path, *_: object) -> None:
        synth.write(items[0], out)
        raise failure

    monkeypatch.setattr(sets, "write_all", fail)
    with pytest.raises(failure):
        synth.generate(tmp_path / "set", size=96, progress=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(dict.fromkeys(sets.SUMMARY)))
    with pytest.raises(failure):
        synth.generate(tmp_path / "set", size=96, progress=False, force=True)
    assert files_of(tmp_path) == ["set/dataset.json"]


@pytest.mark.parametrize("content", [None, "", "[]", '{"seed": 1, "size": 2}'])
@pytest.mark.parametrize("force", [False, True])
def test_folder_of_something_else_is_refused(content: str | None, force: bool, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    before = files_of(tmp_path)
    with pytest.raises(ToolError, match=r"no data set of `synth`.*remove it yourself"):
        synth.generate(tmp_path, size=96, train=1, val=0, test=0, workers=1, progress=False, force=force)
    assert files_of(tmp_path) == before


def test_file_in_the_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").touch()
    with pytest.raises(ToolError, match="no folder"):
        synth.generate(tmp_path / "set", progress=False, force=True)


def test_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"plastic_00000\.jpg"):
        synth.write(synth.Item(0, "train", "good", 0, "plastic", 96), tmp_path / "absent")
