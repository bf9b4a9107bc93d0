"""Surface defects with both classes in train: DAGM 2007, KolektorSDD, KolektorSDD2, Severstal, NEU-DET, magnetic tiles.

An image label comes from a file's or folder's name where there is one. KolektorSDD and KolektorSDD2 publish masks only:
whether anything is marked is the one bit taken from them, here, and the mask goes no further. Where a set has no split
of its own, `split.ranked` makes one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

from fcam_tools.common.errors import ToolError
from fcam_tools.data.dataset import SPLITS, Dataset, Picture, Splits
from fcam_tools.data.layout import choose, need_file, need_folder, need_pictures, number, read_table, refuse_option
from fcam_tools.data.reading import is_picture, marks_in, pictures_in
from fcam_tools.data.split import VAL_OF_TRAIN, joined, ranked

DAGM = "ClassN/{Train,Test}/{NNNN.PNG,Label/NNNN_label.PNG}"
KSDD = "kosNN/{PartN.jpg,PartN_label.bmp}"
KSDD2 = "{train,test}/{N.png,N_GT.png}"
SEVERSTAL = "train_images/*.jpg and train.csv"
NEU = "IMAGES/CLASS_N.jpg, or {train,validation}/images/CLASS/CLASS_N.jpg"
TILES = "MT_{Free,Blowhole,...}/Imgs/*.jpg"

KSDD_FOLDS = ("0", "1", "2")


def marked(mask: Path, layout: str) -> bool:
    """Whether a mask marks anything: all that training may know of it."""
    return bool(marks_in(need_file(mask, layout)).any())


def load_dagm(root: Path, option: str) -> Dataset:
    """A picture is defective if it has a file in Label/."""
    refuse_option(option, "dagm")

    def pictures(split: str) -> list[Picture]:
        folder = root / split
        found = need_pictures(folder, DAGM)
        labels = {path.stem.removesuffix("_label") for path in pictures_in(need_folder(folder / "Label", DAGM))}
        return [Picture(path, int(path.stem in labels)) for path in found]

    splits = joined(ranked(pictures("Train"), root, VAL_OF_TRAIN), {"test": tuple(pictures("Test"))})
    return Dataset(f"dagm-{root.name.lower()}", root, ("ok", "ng"), splits, "dagm")


def load_ksdd(root: Path, option: str) -> Dataset:
    """Three folds by item, `#0` (unless told) to `#2`: the item's place in the order of the names' hashes, modulo 3.
    Fold k is test; of the other items 15 % are val. No item is ever in two splits."""
    fold = int(choose(option, KSDD_FOLDS, "ksdd"))
    items = [path for path in sorted(need_folder(root, KSDD).glob("kos*")) if path.is_dir()]
    if len(items) < 3:
        raise ToolError(f"{root} has {len(items)} folders kosNN, three folds need three: expected is {KSDD}")
    items.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
    rest = [item for place, item in enumerate(items) if place % 3 != fold]
    of_val = max(1, round(len(rest) * VAL_OF_TRAIN[1]))
    chosen = {"train": rest[of_val:], "val": rest[:of_val], "test": items[fold::3]}
    splits = {split: tuple(p for item in sorted(chosen[split]) for p in item_pictures(item)) for split in SPLITS}
    return Dataset(f"ksdd-fold{fold}", root, ("ok", "ng"), splits, "ksdd", option)


def item_pictures(item: Path) -> list[Picture]:
    found = [path for path in need_pictures(item, KSDD) if not path.stem.endswith("_label")]
    return [
        Picture(path, int(marked(path.with_name(f"{path.stem}_label.bmp"), KSDD)), group=f"part:{item.name}")
        for path in found
    ]


def load_ksdd2(root: Path, option: str) -> Dataset:
    refuse_option(option, "ksdd2")

    def pictures(split: str) -> list[Picture]:
        found = [path for path in need_pictures(root / split, KSDD2) if not path.stem.endswith("_GT")]
        return [Picture(path, int(marked(path.with_name(f"{path.stem}_GT.png"), KSDD2))) for path in found]

    splits = joined(ranked(pictures("train"), root, VAL_OF_TRAIN), {"test": tuple(pictures("test"))})
    return Dataset("ksdd2", root, ("ok", "ng"), splits, "ksdd2")


def load_severstal(root: Path, option: str) -> Dataset:
    """The published test pictures have no labels: those of train are split. A picture may have several classes."""
    refuse_option(option, "severstal")
    found = need_pictures(root / "train_images", SEVERSTAL)
    table = need_file(root / "train.csv", SEVERSTAL)
    labels: dict[str, set[int]] = {path.name: set() for path in found}
    for row in read_table(table, ("ImageId", "ClassId", "EncodedPixels")):
        if row["ImageId"] not in labels:
            raise ToolError(f"{table} names {row['ImageId']}, which is not in {root / 'train_images'}")
        if row["EncodedPixels"]:
            labels[row["ImageId"]].add(number(row["ClassId"], table))
    kinds = sorted(set().union(*labels.values()))
    if not kinds:
        raise ToolError(f"{table} marks no defect: is it the competition's train.csv?")
    index = {kind: place for place, kind in enumerate(kinds, 1)}
    pictures = [several(path, [index[kind] for kind in labels[path.name]]) for path in found]
    classes = ("ok", *(f"defect_{kind}" for kind in kinds))
    return Dataset("severstal", root, classes, ranked(pictures, root), "severstal")


def several(path: Path, labels: list[int]) -> Picture:
    return Picture(path, min(labels), tuple(sorted(labels))) if labels else Picture(path, 0)


def load_neu(root: Path, option: str) -> Dataset:
    """Six kinds of defect by the file's name, and no OK class. `validation`, where there is one, is test."""
    refuse_option(option, "neu")
    places = {"train": root / "train" / "images", "test": root / "validation" / "images"}
    if not places["train"].is_dir():
        places = {"train": need_folder(root / "IMAGES", NEU)}
    found = {
        split: [p for p in sorted(need_folder(place, NEU).rglob("*")) if is_picture(p)]
        for split, place in places.items()
    }
    names = {path: re.sub(r"_\d+$", "", path.stem) for paths in found.values() for path in paths}
    strange = next((path for path, name in names.items() if name == path.stem), None)
    if strange or not names:
        raise ToolError(f"{strange or places['train']}: a picture's name must be CLASS_N; expected is {NEU}")
    classes = ("ok", *sorted(set(names.values())))
    pictures = {split: [Picture(p, classes.index(names[p])) for p in paths] for split, paths in found.items()}
    if "test" not in pictures:
        return Dataset("neu", root, classes, ranked(pictures["train"], root), "neu")
    splits: Splits = joined(ranked(pictures["train"], root, VAL_OF_TRAIN), {"test": tuple(pictures["test"])})
    return Dataset("neu", root, classes, splits, "neu")


def load_tiles(root: Path, option: str) -> Dataset:
    """Names are `expE_num_N`: exposures of one tile are a group."""
    refuse_option(option, "tiles")
    need_folder(root / "MT_Free" / "Imgs", TILES)
    kinds = sorted(p.name for p in root.glob("MT_*") if p.is_dir() and p.name != "MT_Free")
    folders = ["MT_Free", *kinds]
    pictures = [
        same_tile(Picture(path, label))
        for label, name in enumerate(folders)
        for path in need_pictures(root / name / "Imgs", TILES)
        if path.suffix.lower() == ".jpg"
    ]
    classes = ("ok", *(name.removeprefix("MT_").lower() for name in kinds))
    return Dataset("tiles", root, classes, ranked(pictures, root), "tiles")


def same_tile(picture: Picture) -> Picture:
    found = re.search(r"num_(\d+)", picture.path.stem)
    return replace(picture, group=f"part:{found.group(1)}") if found else picture
