"""Copies across splits: found when encoded anew, resized or brightened, not found between pictures that look alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fcam_tools import __main__, data
from fcam_tools.common.errors import ToolError
from fcam_tools.data import copies
from fcam_tools.synth import synth
from PIL import Image


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty distinct pictures of 128 pixels, in splits."""
    out = tmp_path_factory.mktemp("copies") / "set"
    synth.generate(out, seed=3, size=128, train=40, val=8, test=12, defects=["dent"], workers=1, progress=False)
    return out


def paths_of(root: Path) -> list[Path]:
    return [picture.path for picture in data.load(str(root)).pictures()]


def noisy(picture: Image.Image) -> Image.Image:
    pixels = np.asarray(picture, np.float32) + np.random.default_rng(0).normal(0, 4, (*picture.size[::-1], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


GROUPS = ("part:a", "part:a", "")
NEEDED = {"table": ("--seeds", "cam", "--backbones", "resnet18")}
CHANGES = {
    "same": lambda picture, path: picture.save(path.with_suffix(".png")) or path.with_suffix(".png"),
    "jpeg": lambda picture, path: picture.save(path.with_suffix(".jpg"), quality=50) or path.with_suffix(".jpg"),
    "half": lambda picture, path: picture.reduce(2).save(path.with_suffix(".png")) or path.with_suffix(".png"),
    "brighter": lambda picture, path: (
        picture.point(lambda v: min(255, int(v * 1.08 + 6))).save(path.with_suffix(".png")) or path.with_suffix(".png")
    ),
    "noisy": lambda picture, path: noisy(picture).save(path.with_suffix(".png")) or path.with_suffix(".png"),
}


def test_distinct_pictures_are_no_copies(surfaces: Path) -> None:
    prints, broken = copies.prints_of(paths_of(surfaces), progress=False)
    assert len(prints) == 60 and not broken and copies.copies(prints) == []


@pytest.mark.parametrize("change", list(CHANGES))
def test_changed_picture_is_found_with_its_original_alone(change: str, surfaces: Path, tmp_path: Path) -> None:
    originals = paths_of(surfaces)
    made = {}
    for number, path in enumerate(originals[::6]):
        with Image.open(path) as picture:
            made[CHANGES[change](picture.convert("RGB"), tmp_path / str(number))] = path
    prints, _ = copies.prints_of([*originals, *made], progress=False)
    found = {(pair.second, pair.first) for pair in copies.copies(prints)}
    assert found <= set(made.items()) and len(found) >= len(made) - 1


def fixed_camera(folder: Path, count: int) -> list[Path]:
    """One part after another at one place: the same outlines, faint marks of their own."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:128, :128]
    part = np.where((x - 64) ** 2 + (y - 64) ** 2 < 50**2, 150, 40) + 20 * (x // 16 % 2) + 15 * (y // 24 % 2)
    made = []
    for number in range(count):
        grain = np.asarray(Image.fromarray(rng.normal(0, 3, (32, 32)).astype(np.float32)).resize((128, 128)))
        pixels = (part + grain + rng.normal(0, 2, part.shape)).clip(0, 255).astype(np.uint8)
        made.append(folder / f"{number:03}.png")
        Image.fromarray(pixels).save(made[-1])
    return made


def test_parts_at_one_place_are_no_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prints, _ = copies.prints_of(fixed_camera(tmp_path, 120), progress=False)
    assert copies.copies(prints) == []
    monkeypatch.setattr(copies, "COMPONENTS", 0)  # what all have in common, left in: every pair looks the same
    assert len(copies.copies(prints)) > 1000


def test_hashes_are_compared_across_blocks() -> None:
    bits = np.random.default_rng(0).integers(0, 2**63, (10, 4), dtype=np.uint64)
    bits[7] = bits[1] ^ np.array([0xFFFFFF, 0, 0, 0], np.uint64)  # 24 bits apart
    bits[9] = bits[2] ^ np.array([0x1FFFFFF, 0, 0, 0], np.uint64)  # 25
    for block in (2, 3, 100):
        assert copies.near_hashes(bits, block).tolist() == [[1, 7]]


def test_flat_pictures_are_compared_by_bytes_alone(tmp_path: Path) -> None:
    for number, colour in enumerate(((9, 9, 9), (200, 0, 0), (9, 9, 9))):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{number}.png")
    prints, _ = copies.prints_of(sorted(tmp_path.iterdir()), progress=False)
    assert copies.copies(prints) == [copies.Pair(tmp_path / "0.png", tmp_path / "2.png", exact=True)]


def leaky(root: Path, surfaces: Path) -> Path:
    """The surfaces with a training picture encoded anew among those of test, and one with the same bytes in val."""
    for path in surfaces.rglob("*.jpg"):
        target = root / path.relative_to(surfaces)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    first, second = sorted((root / "train" / "good").iterdir())[:2]
    with Image.open(first) as picture:
        picture.save(root / "test" / "good" / "again.jpg", quality=60)
    (root / "val" / "good" / "copied.jpg").write_bytes(second.read_bytes())
    return root


def test_leaks_are_refused_by_name_unless_allowed(
    surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = data.load(str(leaky(tmp_path / "set", surfaces)))
    with pytest.raises(ToolError, match=r"2 pairs of copies in two splits.*--allow-leaks") as refused:
        copies.refuse_leaks(dataset, allow=False, progress=False)
    told = str(refused.value)
    assert "again.jpg" in told and "copied.jpg (same bytes)" in told and str(tmp_path / "set" / "train") in told
    with caplog.at_level("WARNING"):
        copies.refuse_leaks(dataset, allow=True, progress=False)
    assert "WARNING, --allow-leaks: 2 pairs" in caplog.text
    copies.refuse_leaks(data.load(str(surfaces)), allow=False, progress=False)


def test_copies_within_a_split_are_no_leak(surfaces: Path, tmp_path: Path) -> None:
    root = leaky(tmp_path / "set", surfaces)
    (root / "test" / "good" / "again.jpg").rename(root / "train" / "good" / "again.jpg")
    (root / "val" / "good" / "copied.jpg").unlink()
    copies.refuse_leaks(data.load(str(root)), allow=False, progress=False)


def test_copies_share_a_group_with_what_shared_theirs(surfaces: Path, tmp_path: Path) -> None:
    """Pictures 0 and 3 are copies, 0 and 1 are of one part, 2 is on its own."""
    originals = paths_of(surfaces)[:3]
    again = CHANGES["jpeg"](Image.open(originals[0]).convert("RGB"), tmp_path / "again")
    pictures = [data.Picture(path, 0, group=group) for path, group in zip(originals, GROUPS, strict=True)]
    found = copies.tied([*pictures, data.Picture(again, 1)], progress=False)
    assert [p.path for p in found] == [*originals, again] and [p.label for p in found] == [0, 0, 0, 1]
    assert found[0].group == found[1].group == found[3].group != found[2].group == ""
    assert copies.tied(pictures, progress=False) == pictures


@pytest.mark.parametrize("verb", ["tune", "table"])
def test_no_verb_that_trains_takes_leaks(
    verb: str, surfaces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--out", str(tmp_path / "out.csv")]
    assert __main__.main([verb, str(leaky(tmp_path / "set", surfaces)), *place, *NEEDED.get(verb, ())]) == 2
    assert "copies in two splits" in capsys.readouterr().err


def test_unreadable_picture_is_named(surfaces: Path, tmp_path: Path) -> None:
    root = leaky(tmp_path / "set", surfaces)
    (root / "test" / "good" / "again.jpg").write_text("text")
    with pytest.raises(ToolError, match=r"cannot read .*again\.jpg"):
        copies.refuse_leaks(data.load(str(root)), allow=True, progress=False)


def test_training_on_leaks_is_refused_before_it_begins(
    surfaces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.pt"
    assert __main__.main(["train", str(leaky(tmp_path / "set", surfaces)), "--out", str(out)]) == 2
    assert "again.jpg" in capsys.readouterr().err and not out.exists()
