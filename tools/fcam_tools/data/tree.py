"""One's own pictures in folders, and the packaged solar cells. In: a folder. Out: a `Dataset`.

- `ROOT/{train,val,test}/<class>/...` (what `fcam-tools synth` writes): split already; without `val`, 15 % of train,
- `ROOT/ok/...` with one or more `ROOT/<defect>/...`: split 70/15/15 by group (group.py) or by the file's bytes,
- `ROOT/ok/...` or `ROOT/train/good/...` alone, where that is asked for: split 70/15/15 too,
- `elpv`: the cells of the package `elpv-dataset`.

The OK class is called `ok` or `good`, in any case. It refuses fewer than two classes, no OK class or two, names that
differ in case alone, and too few pictures. A folder `ground_truth` is no class.
"""

from __future__ import annotations

import csv
import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fcam_tools.common.errors import ToolError
from fcam_tools.data.dataset import SPLITS, Dataset, Picture
from fcam_tools.data.group import grouped
from fcam_tools.data.layout import read_text
from fcam_tools.data.reading import is_picture
from fcam_tools.data.split import by_hash, filled, ranked, without_val

OK_NAMES = ("good", "ok")
MASKS = "ground_truth"
FEWEST = 3  # pictures of a class: one a split
DEFECT = "defect"  # the second class where there are good pictures alone
TAKE_GOOD_ALONE = "inspect, train, evaluate, export, redeploy and compare"

# Defect probability at which a cell counts as defective: its four grades are 0, 1/3, 2/3 and 1 (Deitsch et al. 2019).
ELPV_DEFECTIVE = 0.5
# Cells are numbered module after module, about so many each. Neighbours are often wafers of one crystal, alike to the
# last grain: blocks of that many numbers are groups, and blocks that share such wafers (copies.py finds them) are one.
ELPV_MODULE = 60
ELPV_ONE = {38: 29, 39: 29, 33: 32, 34: 32, 35: 32}


def load_tree(root: Path, option: str, good_alone: bool = False) -> Dataset:
    """`good_alone`: a folder without rejects will do."""
    if option:
        raise ToolError(f"a folder of one's own takes no `#{option}`: remove it")
    return load_splits(root, good_alone) if (root / "train").is_dir() else load_folders(root, good_alone)


def load_splits(root: Path, good_alone: bool = False) -> Dataset:
    names = {name for split in SPLITS if (root / split).is_dir() for name in folders_of(root / split)}
    classes, alone = order_classes(sorted(names), root, good_alone), len(names) == 1
    found = [(split, *pair) for split in SPLITS for pair in labelled(root / split, classes)]
    splitting = all(own != "val" for own, *_ in found)
    pictures = grouped([picture for _, picture, _ in found], [folder for *_, folder in found], splitting)
    splits = {
        split: tuple(picture for picture, (own, *_) in zip(pictures, found, strict=True) if own == split)
        for split in SPLITS
    }
    if alone and splits["train"] == tuple(pictures):  # what sets the threshold must not be all that judges it
        splits = filled(by_hash(pictures))
    elif splitting:
        splits |= filled(without_val(splits["train"]))
    return Dataset(root.name, root, classes, splits, good_alone=alone)


def load_folders(root: Path, good_alone: bool = False) -> Dataset:
    names = sorted(folders_of(root))
    classes, alone = order_classes(names, root, good_alone), len(names) == 1
    found = labelled(root, classes)
    for label, name in enumerate(classes[:1] if alone else classes):
        count = sum(picture.label == label for picture, _ in found)
        if count < FEWEST:
            raise ToolError(
                f"{root / name} has {count} picture{'s' * (count != 1)} of its own: a class needs {FEWEST} at least "
                f"(training, validation, test), and fifty to be of use{until(label, count)}"
            )
    pictures = grouped([picture for picture, _ in found], [folder for _, folder in found])
    return Dataset(root.name, root, classes, filled(by_hash(pictures)), good_alone=alone)


def until(label: int, count: int) -> str:
    """What to do with rejects that are too few to be a class."""
    if not label:
        return ""
    there = "remove the empty folder" if not count else "keep them elsewhere until there are more"
    return f"; {there}: good pictures alone can be trained"


def load_elpv(root: Path, option: str) -> Dataset:
    """`root` is not looked at: the package brings its pictures."""
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise ToolError(
            "elpv is not installed: `pip install --no-deps elpv-dataset` (CC BY-NC-SA 4.0: non-commercial use)"
        )
    root = Path(next(iter(spec.submodule_search_locations))) / "data"
    pictures = []
    # Columns: path, defect probability, mono or poly; blanks between them vary.
    for row in csv.reader(read_text(root / "labels.csv").splitlines(), delimiter=" ", skipinitialspace=True):
        block = int(Path(row[0]).stem.removeprefix("cell")) // ELPV_MODULE
        defective = int(float(row[1]) > ELPV_DEFECTIVE)
        pictures.append(Picture(root / row[0], defective, group=f"part:{ELPV_ONE.get(block, block)}"))
    return Dataset("elpv", root, ("ok", "ng"), ranked(pictures, root), "elpv")


def folders_of(root: Path) -> list[str]:
    """Names of the folders that can be classes: not the masks, nothing hidden."""
    return [p.name for p in root.iterdir() if p.is_dir() and p.name != MASKS and not p.name.startswith(".")]


def order_classes(names: Sequence[str], root: Path, good_alone: bool = False) -> tuple[str, ...]:
    alike = Counter(name.lower() for name in names)
    for pair in ([name for name in names if name.lower() == key] for key, count in alike.items() if count > 1):
        raise ToolError(f"{root} has folders whose names differ in case alone, {' and '.join(pair)}: call them alike")
    good = [name for name in names if is_ok(name)]
    if good_alone and len(good) == len(names) == 1:
        return (good[0], DEFECT)
    if len(good) != 1 or len(names) < 2:
        hint = f": good pictures alone will do for {TAKE_GOOD_ALONE}" if len(good) == len(names) == 1 else ""
        raise ToolError(
            f"{root} needs one folder called `ok` or `good` and one or more for defects; it has: {list(names)}{hint}"
        )
    return (good[0], *(name for name in names if name != good[0]))


def is_ok(name: str) -> bool:
    """Whether a folder of this name holds good pictures; `OK` and `Good` do too."""
    return name.lower() in OK_NAMES


def labelled(folder: Path, classes: Sequence[str]) -> list[tuple[Picture, Path]]:
    """Pictures at any depth below their classes' folders, each with that folder."""
    return [
        (Picture(path, label), folder / name)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if is_picture(path)
    ]
