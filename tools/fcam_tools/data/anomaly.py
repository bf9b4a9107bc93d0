"""Sets made for training on good pictures: MVTec AD, MVTec AD 2, VisA, BTAD. Out: a `Dataset`, defects in train too.

Here training needs both classes. Where a train split holds good pictures only, 15 % of it becomes val, the good
pictures of the official test split stay test, and the defects of that split are divided 50/20/30 within each kind, in
the order of their paths' hashes (split.ranked). Figures are therefore no figures of the official split: say so.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from fcam_tools.common.errors import ToolError
from fcam_tools.data.dataset import Dataset, Picture, Splits
from fcam_tools.data.layout import choose, need_file, need_folder, need_pictures, read_table, refuse_option
from fcam_tools.data.split import DEFECTS_OF_TEST, VAL_OF_TRAIN, joined, ranked

MVTEC = "CATEGORY/{train/good,test/{good,DEFECT...},ground_truth/DEFECT}"
MVTEC2 = "CATEGORY/{train/good,validation/good,test_public/{good,bad,ground_truth/bad}}"
BTAD = "PRODUCT/{train/ok,test/{ok,ko},ground_truth/ko}"
VISA = "CATEGORY/Data/Images/{Normal,Anomaly} beside split_csv/, or CATEGORY/{train/good,test/{good,bad}}"

VISA_SPLITS = ("2cls_highshot", "2cls_fewshot", "1cls")


def load_mvtec(root: Path, option: str) -> Dataset:
    refuse_option(option, "mvtec")
    kinds = sorted(p.name for p in need_folder(root / "test", MVTEC).iterdir() if p.is_dir() and p.name != "good")
    return Dataset(root.name, root, ("good", *kinds), good_only(root, "good", kinds, MVTEC), "mvtec")


def load_btad(root: Path, option: str) -> Dataset:
    refuse_option(option, "btad")
    return Dataset(f"btad-{root.name}", root, ("ok", "ko"), good_only(root, "ok", ["ko"], BTAD), "btad")


def good_only(root: Path, good: str, kinds: list[str], layout: str) -> Splits:
    train = [Picture(path, 0) for path in need_pictures(root / "train" / good, layout)]
    test = tuple(Picture(path, 0) for path in need_pictures(root / "test" / good, layout))
    if not kinds:
        raise ToolError(f"{root / 'test'} has no folder of defects: expected is {layout}")
    defects = [Picture(p, n) for n, kind in enumerate(kinds, 1) for p in need_pictures(root / "test" / kind, layout)]
    return joined(ranked(train, root, VAL_OF_TRAIN), {"test": test}, ranked(defects, root, DEFECTS_OF_TEST))


def load_mvtec2(root: Path, option: str) -> Dataset:
    """Names are `NUMBER_LIGHT.png`: one object under several lights is a group."""
    refuse_option(option, "mvtec2")

    def pictures(folder: str, label: int) -> tuple[Picture, ...]:
        return tuple(same_object(Picture(path, label), root) for path in need_pictures(root / folder, MVTEC2))

    good: Splits = {
        "train": pictures("train/good", 0), "val": pictures("validation/good", 0),
        "test": pictures("test_public/good", 0),
    }  # fmt: skip
    defects = ranked(pictures("test_public/bad", 1), root, DEFECTS_OF_TEST)
    return Dataset(root.name, root, ("good", "bad"), joined(good, defects), "mvtec2")


def same_object(picture: Picture, root: Path) -> Picture:
    found = re.match(r"(\d+)_", picture.path.name)
    folder = picture.path.parent.relative_to(root).as_posix()
    return replace(picture, group=f"part:{folder}/{found.group(1)}") if found else picture


def load_visa(root: Path, option: str) -> Dataset:
    if (root / "Data").is_dir():
        return load_raw_visa(root, option)
    refuse_option(option, "visa in folders train/ and test/")
    need_folder(root / "train" / "good", VISA)
    if not (root / "train" / "bad").is_dir():
        splits = good_only(root, "good", ["bad"], VISA)
    else:
        train, test = (
            [Picture(p, n) for n, name in enumerate(("good", "bad")) for p in need_pictures(root / split / name, VISA)]
            for split in ("train", "test")
        )
        splits = joined(ranked(train, root, VAL_OF_TRAIN), {"test": tuple(test)})
    return Dataset(root.name, root, ("good", "bad"), splits, "visa")


def load_raw_visa(root: Path, option: str) -> Dataset:
    """By `../split_csv/OPTION.csv` (two classes in train, unless told `1cls`); without the file, by hash."""
    choice = choose(option, VISA_SPLITS, "visa")
    table = root.parent / "split_csv" / f"{choice}.csv"
    if option or table.is_file():
        splits = visa_by_table(root, need_file(table, VISA))
    else:
        normal = [Picture(path, 0) for path in need_pictures(root / "Data/Images/Normal", VISA)]
        anomaly = [Picture(path, 1) for path in need_pictures(root / "Data/Images/Anomaly", VISA)]
        splits = ranked(normal + anomaly, root)
    return Dataset(root.name, root, ("good", "bad"), splits, "visa", option)


def visa_by_table(root: Path, table: Path) -> Splits:
    found: dict[str, list[Picture]] = {"train": [], "test": []}
    for row in read_table(table, ("object", "split", "label", "image")):
        if row["object"] != root.name:
            continue
        if row["split"] not in found or row["label"] not in ("normal", "anomaly"):
            raise ToolError(f"{table}: {row['split']},{row['label']} is not train or test, normal or anomaly")
        path = need_file(root.parent / row["image"], f"what {table} names")
        found[row["split"]].append(Picture(path, int(row["label"] == "anomaly")))
    if not found["train"]:
        raise ToolError(f"{table} has no training pictures of {root.name}: is the folder's name the object's?")
    train, test = found["train"], found["test"]
    if any(p.label for p in train):
        return joined(ranked(train, root, VAL_OF_TRAIN), {"test": tuple(test)})
    good, defects = [p for p in test if not p.label], [p for p in test if p.label]
    return joined(ranked(train, root, VAL_OF_TRAIN), {"test": tuple(good)}, ranked(defects, root, DEFECTS_OF_TEST))
