"""The memory bank: what is like the good pictures is near, what is not is far, and that is where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fcam_tools.common.errors import ToolError
from fcam_tools.judge.memory_bank import Bank
from PIL import Image

SIZE = (96, 64)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def picture(path: Path, seed: int, spoilt: bool = False) -> Path:
    pixels = np.clip(np.random.default_rng(seed).normal(120, 12, (64, 96, 3)), 0, 255)
    if spoilt:
        pixels[8:24, 64:80] = 250
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_what_good_pictures_do_not_show_is_far(tmp_path: Path) -> None:
    bank = Bank("efficientnet_lite0", [picture(tmp_path / f"{n}.png", n) for n in range(6)], SIZE)
    good, _ = bank.answer(picture(tmp_path / "good.png", 100))
    bad, found = bank.answer(picture(tmp_path / "bad.png", 101, spoilt=True))
    assert found.shape == (64, 96) and 0 <= good < bad <= 1
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert 4 <= row <= 28 and 60 <= column <= 84
    assert bank.answer(tmp_path / "0.png")[0] < good, "what it has seen is nearer than what is like it"


def test_without_good_pictures_there_is_no_bank() -> None:
    with pytest.raises(ToolError, match="needs good pictures"):
        Bank("efficientnet_lite0", [], SIZE)


def test_one_seed_is_one_bank(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{n}.png", n) for n in range(2)]
    one, other = (Bank("efficientnet_lite0", paths, SIZE, seed=3).answer(paths[0])[0] for _ in range(2))
    assert one == other
