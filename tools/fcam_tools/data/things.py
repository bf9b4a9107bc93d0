"""Sets of things, not of defects, to compare localisation with the literature: CUB-200-2011 and OpenImages30k.

They have no OK class: `classes[0]` is `ok` and has no pictures. Splits and labels come from the folder
{train,val,test}/{image_ids,class_labels}.txt of wsolevaluation (Choe et al., CVPR 2020), `NAME:PICTURES#FOLDER`; CUB
without it from its own images.txt, image_class_labels.txt and train_test_split.txt. Boxes and masks are not read here.
"""

from __future__ import annotations

from pathlib import Path

from fcam_tools.common.errors import ToolError
from fcam_tools.data.dataset import SPLITS, Dataset, Picture
from fcam_tools.data.layout import need_file, need_folder, number, read_fields
from fcam_tools.data.split import VAL_OF_TRAIN, joined, ranked

WSOL = "FOLDER/{train,val,test}/{image_ids.txt,class_labels.txt}, given as NAME:PICTURES#FOLDER"
CUB = "CUB_200_2011/{images/,images.txt,classes.txt,image_class_labels.txt,train_test_split.txt,bounding_boxes.txt}"


def load_cub(root: Path, option: str) -> Dataset:
    if option:
        return load_wsol("cub", root, option)
    tables = {}
    for name in ("images", "classes", "image_class_labels", "train_test_split"):
        path = need_file(root / f"{name}.txt", CUB)
        tables[name] = {number(fields[0], path): fields[1] for fields in read_fields(path, 2)}
    classes = ("ok", *(tables["classes"][key] for key in sorted(tables["classes"])))
    found: dict[str, list[Picture]] = {"1": [], "0": []}
    for key, name in tables["images"].items():
        path = need_file(root / "images" / name, f"what {root / 'images.txt'} names")
        label, train = (tables[table].get(key) for table in ("image_class_labels", "train_test_split"))
        if label is None or train not in found or not 1 <= number(label, path) < len(classes):
            raise ToolError(f"{root}: picture {key}, {name}, has no class, or no split: are all its .txt files whole?")
        found[train].append(Picture(path, number(label, path)))
    splits = joined(ranked(found["1"], root, VAL_OF_TRAIN), {"test": tuple(found["0"])})
    return Dataset("cub", root, classes, splits, "cub")


def load_openimages(root: Path, option: str) -> Dataset:
    if not option:
        raise ToolError(f"openimages needs wsolevaluation's folder metadata/OpenImages: expected is {WSOL}")
    return load_wsol("openimages", root, option)


def load_wsol(name: str, root: Path, folder: str) -> Dataset:
    """Classes are named after their pictures' folders; numbers in class_labels.txt count from 0."""
    rows = {split: wsol_split(root, need_folder(Path(folder) / split, WSOL)) for split in SPLITS}
    names: dict[int, str] = {}
    for path, label in (row for found in rows.values() for row in found):
        if names.setdefault(label, path.parent.name) != path.parent.name:
            raise ToolError(f"{path} has the class {label}, which is {names[label]}: one folder is one class")
    order = sorted(names)
    place = {label: index for index, label in enumerate(order, 1)}
    splits = {split: tuple(Picture(path, place[label]) for path, label in found) for split, found in rows.items()}
    return Dataset(name, root, ("ok", *(names[label] for label in order)), splits, name, folder)


def wsol_split(root: Path, folder: Path) -> list[tuple[Path, int]]:
    labels_file = need_file(folder / "class_labels.txt", WSOL)
    labels = {fields[0]: number(fields[1], labels_file) for fields in read_fields(labels_file, 2, ",")}
    ids_file = need_file(folder / "image_ids.txt", WSOL)
    out = []
    for name, *_ in read_fields(ids_file, 1, ","):
        if name not in labels:
            raise ToolError(f"{labels_file} has no class of {name}, which {ids_file} names")
        out.append((need_file(root / name, f"what {ids_file} names"), labels[name]))
    return out
