from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from fcam_tools.common.errors import ToolError
from fcam_tools.data import Sight, sight
from fcam_tools.data.dataset import Picture
from fcam_tools.data.sight import Pose, matrix, sight_of
from PIL import Image

SIZE = (256, 192)
pytestmark = pytest.mark.usefixtures("fcam")


def part(seed: int = 0) -> np.ndarray:
    """Rectangles at fixed places: uint8 [192, 256, 3]."""
    rng, out = np.random.default_rng(seed), np.full((192, 256, 3), 90, np.uint8)
    for _ in range(30):
        x, y, w, h = (int(v) for v in (rng.integers(20, 220), rng.integers(20, 160), *rng.integers(6, 30, 2)))
        cv2.rectangle(out, (x, y), (x + w, y + h), rng.integers(0, 255, 3).tolist(), -1)
    return out


def seen(clean: np.ndarray, rng: np.random.Generator, pose: Pose) -> np.ndarray:
    """Where a fixture lets it lie, in another light, with noise."""
    found = cv2.warpAffine(clean, matrix(SIZE, pose), SIZE, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    return np.clip(found * rng.uniform(0.85, 1.1) + rng.normal(0, 3, found.shape), 0, 255).astype(np.uint8)


def written(folder: Path, pictures: list[np.ndarray], label: int = 0) -> list[Picture]:
    folder.mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index}.png")
    return [Picture(folder / f"{index}.png", label) for index in range(len(pictures))]


def fixture(rng: np.random.Generator, count: int) -> list[Pose]:
    return [Pose(*rng.uniform(-4, 4, 2), rng.uniform(-1.5, 1.5), 1.0) for _ in range(count)]


def test_parts_in_a_fixture_lie_still(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    poses = fixture(rng, 12)
    good = written(tmp_path / "good", [seen(part(), rng, pose) for pose in poses])
    found = sight_of(SIZE, good, [], "auto", False)
    assert found.template is not None and 0.3 < found.template.agreement < 0.9
    pixels = found.read_all(good, False).astype(float)
    before = np.stack([np.asarray(Image.open(picture.path), float) for picture in good])

    def spread(some: np.ndarray) -> float:
        return float((some / some.mean((1, 2, 3), keepdims=True)).std(0).mean())

    assert spread(pixels) < 0.5 * spread(before)
    assert all(found.is_found(picture.path) for picture in good)
    # Poses against the first one's are those of the truth.
    for picture, pose in zip(good, poses, strict=True):
        told = found.poses[picture.path]
        assert told.turn - found.poses[good[0].path].turn == pytest.approx(pose.turn - poses[0].turn, abs=0.15)


def test_a_map_goes_back_to_where_the_part_lies(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    poses = [Pose(0, 0, 0, 1), *fixture(rng, 9), Pose(4, -3, 1.5, 1)]
    good = written(tmp_path / "good", [seen(part(), rng, pose) for pose in poses])
    found = sight_of(SIZE, good, [], "yes", False)
    marked = np.zeros((192, 256), np.float32)
    marked[92:98, 118:126] = 1
    found.read_all(good, False)
    back = [found.back(picture.path, marked) for picture in (good[0], good[-1])]
    centres = [np.array(np.nonzero(each > 0.5)).mean(1)[::-1] for each in back]
    wanted = matrix(SIZE, poses[-1]) @ [121.5, 94.5, 1] - [121.5, 94.5]
    assert centres[1] - centres[0] == pytest.approx(wanted, abs=0.7)


def test_surfaces_and_other_parts_have_no_pose(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    others = written(tmp_path / "others", [part(seed) for seed in range(8)])
    noise = written(tmp_path / "noise", [rng.integers(0, 255, (192, 256, 3)).astype(np.uint8) for _ in range(6)])
    plain = written(tmp_path / "plain", [np.full((192, 256, 3), 80, np.uint8)] * 4)
    for pictures in (others, noise, plain, noise[:1]):
        assert sight_of(SIZE, pictures, [], "auto", False).template is None
    with pytest.raises(ToolError, match="leave out --place yes"):
        sight_of(SIZE, plain, [], "yes", False)


def test_a_part_that_is_not_there_is_rejected(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    good = written(tmp_path / "good", [seen(part(), rng, pose) for pose in fixture(rng, 8)])
    (other,) = written(tmp_path / "other", [part(9)], 1)
    found = sight_of(SIZE, good, [], "auto", False)
    found.read(other.path)
    score, _ = found.answer(other.path, 0.1, np.zeros((192, 256), np.float32))
    assert score == 1.0 and not found.is_found(other.path)


def test_without_the_program_nothing_is_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    good = written(tmp_path / "good", [part()] * 3)
    monkeypatch.setattr(sight, "find_fcam", lambda: None)
    assert sight_of(SIZE, good, [], "auto", False) == Sight(SIZE)
    assert "whether parts lie in one pose is not known" in caplog.text
    with pytest.raises(ToolError, match="build fcam"):
        sight_of(SIZE, good, [], "yes", False)
    old = tmp_path / "fcam"
    old.write_text("#!/bin/sh\necho 'unrecognized subcommand' >&2; exit 2\n")
    old.chmod(0o755)
    monkeypatch.setattr(sight, "find_fcam", lambda: old)
    with pytest.raises(ToolError, match="take the fcam of this release"):
        sight_of(SIZE, good, [], "auto", False)
