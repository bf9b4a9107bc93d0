"""Pictures that an export needs: to calibrate with, to prove with, to look at. In: a data set. Out: paths and files."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcam_tools.common.errors import ToolError
from fcam_tools.data import SUFFIXES, Dataset, Sight
from fcam_tools.data.reading import stored
from fcam_tools.model.answers import tensor

Floats = NDArray[np.float32]
Tree = dict[str, list[Path]]
JPEG: dict[str, Any] = {"quality": 92, "subsampling": 0}  # 4:4:4: thin coloured defects survive


def pictures_of(dataset: Dataset, split: str) -> Tree:
    """The pictures of each class in one split."""
    tree: Tree = {name: [] for name in dataset.classes}
    for picture in dataset.splits[split]:
        tree[dataset.classes[picture.label]].append(picture.path)
    return tree


def shuffled(tree: Tree, rng: random.Random) -> Tree:
    return {name: rng.sample(paths, len(paths)) for name, paths in tree.items()}


def spread(tree: Mapping[str, Sequence[Path]], ok: str, count: int) -> list[Path]:
    """Up to `count` pictures, first ones first: half of them OK, the rest in turn from the other classes."""
    defects = [list(paths) for name, paths in sorted(tree.items()) if name != ok]
    rounds = range(max((len(paths) for paths in defects), default=0))
    bad = [paths[i] for i in rounds for paths in defects if i < len(paths)]
    good = list(tree.get(ok, []))[: max(count // 2, count - len(bad))]
    return good + bad[: count - len(good)]


def calibration_pictures(dataset: Dataset, count: int, seed: int, sight: Sight) -> list[Floats]:
    """Random pictures of the train and val splits; the test split stays unseen."""
    paths = [p.path for split in ("train", "val") for p in dataset.splits[split]]
    chosen = random.Random(seed).sample(paths, min(count, len(paths)))
    return [tensor(sight.read(path)) for path in chosen]


def write_as_camera(source: Path, out: Path) -> None:
    """A PNG without alpha, palette or metadata: Gray8 or RGB8."""
    picture = stored(source)
    plain = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
    Image.fromarray(np.asarray(plain)).save(out)


def write_samples(paths: Sequence[Path], bundle: Path) -> None:
    """JPEGs named by their number and class, good and bad mixed."""
    (bundle / "samples").mkdir()
    for index, path in enumerate(paths):
        label = re.sub(r"[^a-z0-9]+", "-", path.parent.name.lower()).strip("-")
        stored(path).convert("RGB").save(bundle / "samples" / f"{index:02}-{label}.jpg", **JPEG)


def choose_samples(dataset: Dataset, folder: Path | None, ok: str, count: int, rng: random.Random) -> list[Path]:
    """Pictures of a folder, else of the test split (of the val split where there is none)."""
    if folder is not None:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise ToolError(f"no pictures in {folder}: give --samples a folder of pictures")
    else:
        tree = pictures_of(dataset, "test" if dataset.splits["test"] else "val")
        paths = spread(shuffled(tree, rng), ok, count)
    return rng.sample(paths, min(count, len(paths)))
