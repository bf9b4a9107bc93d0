"""Pictures with image labels. In: a folder of pictures, or the name of a packaged set. Out: a `Dataset`.

Layouts:
- `ROOT/{train,val,test}/<class>/...` (MVTec-like; the good class is `good` or `ok`; what `fcam-tools synth` writes),
- `ROOT/ok/...` with one or more `ROOT/<defect>/...` folders (`ng`, say): split 70/15/15 by a hash of the file's bytes,
  so that a picture keeps its split when others come and go, and a copy lands where its original is,
- `elpv`: the solar cells of the package `elpv-dataset` (CC BY-NC-SA 4.0: non-commercial; install it first).

It refuses: fewer than two classes, no OK class or two, unreadable pictures (named), a class without pictures in train
or val. No mask is ever read here (a folder `ground_truth` is no class): training cannot reach the pixels' truth.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from fcam_tools.errors import ToolError

SPLITS = ("train", "val", "test")
OK_NAMES = ("good", "ok")
MASKS = "ground_truth"
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}

# Defect probability at which a cell counts as defective: its four grades are 0, 1/3, 2/3 and 1 (Deitsch et al. 2019).
ELPV_DEFECTIVE = 0.5


@dataclass(frozen=True)
class Picture:
    """A file and its label, an index into the data set's classes."""

    path: Path
    label: int


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures by split. `classes[0]` is the OK class."""

    name: str
    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[Picture, ...]]

    @property
    def ok(self) -> str:
        return self.classes[0]

    def fingerprint(self) -> str:
        """SHA-256 over the sorted relative paths, labels and bytes of all pictures."""
        total = hashlib.sha256()
        for split in SPLITS:
            for picture in sorted(self.splits[split], key=lambda p: p.path):
                total.update(f"{split}/{self.classes[picture.label]}/{picture.path.name}".encode())
                total.update(hashlib.sha256(picture.path.read_bytes()).digest())
        return total.hexdigest()


def load(source: str) -> Dataset:
    """A data set by folder or by name."""
    if source == "elpv":
        return load_elpv()
    root = Path(source)
    if not root.is_dir():
        raise ToolError(f"{source} is neither a folder nor a known data set (elpv): give a folder of pictures")
    return load_splits(root) if (root / "train").is_dir() else load_folders(root)


def load_splits(root: Path) -> Dataset:
    names = {name for split in SPLITS if (root / split).is_dir() for name in folders_of(root / split)}
    classes = order_classes(sorted(names), root)
    splits = {split: tuple(labelled(root / split, classes)) for split in SPLITS}
    if not splits["val"]:
        splits |= without_val(splits["train"])
    return checked(Dataset(root.name, root, classes, splits))


def load_folders(root: Path) -> Dataset:
    classes = order_classes(sorted(folders_of(root)), root)
    splits: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    for picture in labelled(root, classes):
        splits[split_of(picture.path.read_bytes())].append(picture)
    return checked(Dataset(root.name, root, classes, {split: tuple(found) for split, found in splits.items()}))


def load_elpv() -> Dataset:
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise ToolError(
            "elpv is not installed: `pip install --no-deps elpv-dataset` (CC BY-NC-SA 4.0: non-commercial use)"
        )
    root = Path(next(iter(spec.submodule_search_locations))) / "data"
    splits: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    # Columns: path, defect probability, mono or poly; blanks between them vary.
    for row in csv.reader((root / "labels.csv").read_text().splitlines(), delimiter=" ", skipinitialspace=True):
        name, probability = row[0], float(row[1])
        picture = Picture(root / name, int(probability > ELPV_DEFECTIVE))
        splits[split_of(name.encode())].append(picture)
    return checked(Dataset("elpv", root, ("ok", "ng"), {split: tuple(found) for split, found in splits.items()}))


def split_of(key: bytes) -> str:
    """70 % train, 15 % val, 15 % test, by hash."""
    bucket = int.from_bytes(hashlib.sha256(key).digest()[:4], "big") % 100
    return "train" if bucket < 70 else "val" if bucket < 85 else "test"


def folders_of(root: Path) -> list[str]:
    """Names of the folders that can be classes: not the masks, nothing hidden."""
    return [p.name for p in root.iterdir() if p.is_dir() and p.name != MASKS and not p.name.startswith(".")]


def order_classes(names: Sequence[str], root: Path) -> tuple[str, ...]:
    good = [name for name in names if name in OK_NAMES]
    if len(good) != 1 or len(names) < 2:
        raise ToolError(
            f"{root} needs one folder called `ok` or `good` and one or more for defects; it has: {list(names)}"
        )
    return (good[0], *(name for name in names if name not in OK_NAMES))


def labelled(folder: Path, classes: Sequence[str]) -> list[Picture]:
    return [
        Picture(path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]


def without_val(pictures: Sequence[Picture]) -> dict[str, tuple[Picture, ...]]:
    """Training pictures, 15 % of them taken for validation by hash of their bytes."""
    taken = {p.path for p in pictures if split_of(p.path.read_bytes()) == "val"}
    return {
        "train": tuple(p for p in pictures if p.path not in taken),
        "val": tuple(p for p in pictures if p.path in taken),
    }


def checked(dataset: Dataset) -> Dataset:
    for split in ("train", "val"):
        missing = [
            name for label, name in enumerate(dataset.classes) if label not in {p.label for p in dataset.splits[split]}
        ]
        if missing:
            raise ToolError(
                f"split `{split}` of {dataset.root} has no pictures of {missing}: add some, or remove the class"
            )
    return dataset


def read_picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    """One picture as the camera would see it: uint8 [height, width, 3], resized by anti-aliased bilinear filter."""
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(("I", "F")):  # Pillow's own conversion would clip it to white
                raise ToolError(f"{path} has more than 8 bits a channel: convert it to 8")
            return np.array(picture.convert("RGB").resize(size, Image.Resampling.BILINEAR))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ToolError(f"cannot read {path}: {error}; remove or replace it") from error


def read_pictures(pictures: Sequence[Picture], size: tuple[int, int], progress: bool = True) -> np.ndarray:
    """Pictures in memory: uint8 [N, height, width, 3]."""
    out = np.empty((len(pictures), size[1], size[0], 3), np.uint8)

    def read(index: int) -> None:
        out[index] = read_picture(pictures[index].path, size)

    with ThreadPoolExecutor() as pool:
        bar = tqdm(pool.map(read, range(len(pictures))), "reading", len(pictures), unit="picture", disable=not progress)
        for _ in bar:
            pass
    return out
