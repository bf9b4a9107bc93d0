"""Tiny trees in the published sets' exact layouts, written by the tests themselves: random pictures of 16 x 12 pixels.
And `squares`, a set from which something can be learnt.

Each maker fills a folder and returns its `Tree`. Every defect is marked in the same box, wider than high and off
centre, so that a turned or shifted mask shows.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 16, 12
X0, Y0, X1, Y1 = 3, 2, 11, 6
BOX = np.zeros((HEIGHT, WIDTH), bool)
BOX[Y0:Y1, X0:X1] = True

counter = itertools.count()


@dataclass(frozen=True)
class Tree:
    """What to load, what each picture is, which file is needed, and which files hold pixels' truth."""

    source: str
    labels: dict[Path, str]
    needed: Path
    truth: tuple[Path, ...]
    resplit: bool = False  # whether train had good pictures only


def picture(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(next(counter)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def mask(path: Path, box: np.ndarray = BOX, value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((box * value).astype(np.uint8)).save(path)
    return path


def lines(path: Path, rows: Sequence[Sequence[object]], separator: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows))
    return path


def fill(folder: Path, count: int, suffix: str, label: str, labels: dict[Path, str], start: int = 0) -> list[Path]:
    made = [picture(folder / f"{number:03}{suffix}") for number in range(start, start + count)]
    labels.update(dict.fromkeys(made, label))
    return made


def squares(root: Path, **counts: int) -> Path:
    """A set that is learnt in an epoch: so many good and so many bad pictures a split, 32 x 32; bright squares on noise
    are defects."""
    rng = np.random.default_rng(3)
    for split, count in counts.items():
        for name in ("ok", "ng"):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(60, 120, (32, 32, 3), dtype=np.uint8)
                if name == "ng":
                    top, left = rng.integers(0, 24, 2)
                    pixels[top : top + 8, left : left + 8] = 220
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
    return root


def tree(root: Path) -> Tree:
    labels: dict[Path, str] = {}
    for split, label in itertools.product(("train", "val", "test"), ("good", "dent")):
        fill(root / split / label, 3, ".png", label, labels)
    truth = [
        mask(root / "ground_truth" / split / "dent" / f"{n:03}_mask.png")
        for split, n in itertools.product(("train", "val", "test"), range(3))
    ]
    return Tree(str(root), labels, root / "train" / "good", tuple(truth))


def mvtec(root: Path) -> Tree:
    category, labels, truth = root / "bottle", {}, []
    fill(category / "train" / "good", 12, ".png", "good", labels)
    fill(category / "test" / "good", 4, ".png", "good", labels)
    for kind in ("broken_large", "contamination"):
        for path in fill(category / "test" / kind, 6, ".png", kind, labels):
            truth.append(mask(category / "ground_truth" / kind / f"{path.stem}_mask.png"))
    return Tree(f"mvtec:{category}", labels, category / "train" / "good", tuple(truth), True)


def mvtec2(root: Path) -> Tree:
    category, labels, truth = root / "can", {}, []
    for folder, count in (("train", 6), ("validation", 3), ("test_public", 3)):
        for number, light in itertools.product(range(count), ("regular", "overexposed")):
            labels[picture(category / folder / "good" / f"{number:03}_{light}.png")] = "good"
    for number, light in itertools.product(range(8), ("regular", "shift_1")):
        path = picture(category / "test_public" / "bad" / f"{number:03}_{light}.png")
        labels[path] = "bad"
        truth.append(mask(category / "test_public" / "ground_truth" / "bad" / f"{path.stem}_mask.png"))
    return Tree(f"mvtec2:{category}", labels, category / "validation" / "good", tuple(truth), True)


def btad(root: Path) -> Tree:
    product, labels = root / "01", {}
    fill(product / "train" / "ok", 12, ".bmp", "ok", labels)
    fill(product / "test" / "ok", 3, ".bmp", "ok", labels)
    found = fill(product / "test" / "ko", 8, ".bmp", "ko", labels)
    truth = [mask(product / "ground_truth" / "ko" / f"{path.stem}.png") for path in found]
    return Tree(f"btad:{product}", labels, product / "test" / "ko", tuple(truth), True)


def raw_visa(root: Path, option: str) -> Tree:
    """Masks hold the kind of defect, 1 and up; the tables also name another object."""
    category, labels = root / "candle", {}
    normal = fill(category / "Data" / "Images" / "Normal", 12, ".JPG", "good", labels)
    anomaly = fill(category / "Data" / "Images" / "Anomaly", 9, ".JPG", "bad", labels)
    truth = [mask(category / "Data" / "Masks" / "Anomaly" / f"{path.stem}.png", value=3) for path in anomaly]
    for name, of_train in (("1cls", 0), ("2cls_highshot", 6)):
        rows: list[Sequence[object]] = [
            ("object", "split", "label", "image", "mask"),
            ("pcb1", "train", "normal", "x", ""),
        ]
        for count, kind, paths in ((9, "normal", normal), (of_train, "anomaly", anomaly)):
            for number, path in enumerate(paths):
                split = "train" if number < count else "test"
                rows.append(("candle", split, kind, path.relative_to(root).as_posix(), ""))
        lines(root / "split_csv" / f"{name}.csv", rows)
    return Tree(f"visa:{category}{option and '#'}{option}", labels, normal[0], tuple(truth), option == "1cls")


def visa_in_folders(root: Path) -> Tree:
    category, labels = root / "candle", {}
    fill(category / "train" / "good", 12, ".JPG", "good", labels)
    fill(category / "test" / "good", 3, ".JPG", "good", labels)
    found = fill(category / "test" / "bad", 8, ".JPG", "bad", labels)
    truth = [mask(category / "ground_truth" / "bad" / f"{path.stem}.png") for path in found]
    return Tree(f"visa:{category}", labels, category / "test" / "good", tuple(truth), True)


def visa_in_two_classes(root: Path) -> Tree:
    category, labels, truth = root / "pcb1", {}, []
    for split in ("train", "test"):
        fill(category / split / "good", 8, ".JPG", "good", labels)
        for path in fill(category / split / "bad", 4, ".JPG", "bad", labels, 50):
            truth.append(mask(category / "ground_truth" / split / "bad" / f"{path.stem}.png"))
    return Tree(f"visa:{category}", labels, category / "test" / "bad", tuple(truth))


def dagm(root: Path) -> Tree:
    product, labels, truth = root / "Class1", {}, []
    for split, start in (("Train", 1), ("Test", 100)):
        fill(product / split, 8, ".PNG", "ok", labels, start)
        for path in fill(product / split, 4, ".PNG", "ng", labels, start + 50):
            truth.append(mask(product / split / "Label" / f"{path.stem}_label.PNG"))
        lines(product / split / "Label" / "Labels.txt", [(1, 0, "0001.PNG", 0, "0")], "\t")
    return Tree(f"dagm:{product}", labels, product / "Test" / "Label", tuple(truth))


def ksdd(root: Path) -> Tree:
    """Twelve items of three pictures, the second of each defective."""
    labels, truth = {}, []
    for item, part in itertools.product(range(1, 13), range(3)):
        path = picture(root / f"kos{item:02}" / f"Part{part}.jpg")
        labels[path] = "ng" if part == 1 else "ok"
        truth.append(mask(path.with_name(f"Part{part}_label.bmp"), BOX * (part == 1)))
    return Tree(f"ksdd:{root}", labels, root / "kos05" / "Part2_label.bmp", tuple(truth))


def ksdd2(root: Path) -> Tree:
    labels, truth = {}, []
    for split, number in itertools.product(("train", "test"), range(12)):
        path = picture(root / split / f"{10000 + number + 500 * (split == 'test')}.png")
        labels[path] = "ng" if number % 3 == 0 else "ok"
        truth.append(mask(path.with_name(f"{path.stem}_GT.png"), BOX * (number % 3 == 0)))
    return Tree(f"ksdd2:{root}", labels, root / "train" / "10004_GT.png", tuple(truth))


def severstal(root: Path) -> Tree:
    """A defect's box is given in runs of one column, from 1; in pictures of two classes each has half of them."""
    labels, rows = {}, [("ImageId", "ClassId", "EncodedPixels")]
    runs = [(x * HEIGHT + Y0 + 1, Y1 - Y0) for x in range(X0, X1)]
    for number in range(24):
        path = picture(root / "train_images" / f"{number:08x}.jpg")
        kinds = ((), (1,), (3,), (1, 3))[number % 4]
        labels[path] = f"defect_{kinds[0]}" if kinds else "ok"
        for place, kind in enumerate(kinds):
            own = runs[place :: len(kinds)]
            rows.append((path.name, str(kind), " ".join(f"{start} {length}" for start, length in own)))
    with (root / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return Tree(f"severstal:{root}", labels, root / "train.csv", ())


def boxes_xml(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    corners = f"<xmin>{X0 + 1}</xmin><ymin>{Y0 + 1}</ymin><xmax>{X1}</xmax><ymax>{Y1}</ymax>"
    path.write_text(f"<annotation><object><bndbox>{corners}</bndbox></object></annotation>")
    return path


def neu(root: Path) -> Tree:
    labels, truth = {}, []
    for kind, number in itertools.product(("crazing", "rolled-in_scale"), range(1, 9)):
        labels[picture(root / "IMAGES" / f"{kind}_{number}.jpg")] = kind
        truth.append(boxes_xml(root / "ANNOTATIONS" / f"{kind}_{number}.xml"))
    return Tree(f"neu:{root}", labels, root / "IMAGES", tuple(truth))


def neu_in_two(root: Path) -> Tree:
    labels, truth = {}, []
    for split, kind, number in itertools.product(("train", "validation"), ("crazing", "patches"), range(1, 6)):
        name = f"{kind}_{number + 240 * (split == 'validation')}"
        labels[picture(root / split / "images" / kind / f"{name}.jpg")] = kind
        truth.append(boxes_xml(root / split / "annotations" / f"{name}.xml"))
    return Tree(f"neu:{root}", labels, root / "validation" / "images", tuple(truth))


def tiles(root: Path) -> Tree:
    """Six exposures each of a few tiles."""
    labels, truth = {}, []
    for kind, tile, exposure in itertools.product(("Free", "Blowhole", "Crack"), range(6), range(1, 4)):
        number = 1000 * len(kind) + tile
        path = picture(root / f"MT_{kind}" / "Imgs" / f"exp{exposure}_num_{number}.jpg")
        labels[path] = "ok" if kind == "Free" else kind.lower()
        truth.append(mask(path.with_suffix(".png"), BOX * (kind != "Free")))
    return Tree(f"tiles:{root}", labels, root / "MT_Free" / "Imgs", tuple(truth))


def cub(root: Path) -> Tree:
    labels: dict[Path, str] = {}
    tables: dict[str, list[Sequence[object]]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    boxes = []
    kinds = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    for key, (number, kind) in enumerate(itertools.product(range(10), kinds), 1):
        name = f"{kind}/Bird_{number:04}_{key}.jpg"
        labels[picture(root / "images" / name)] = kind
        tables["images"].append((key, name))
        tables["image_class_labels"].append((key, kinds.index(kind) + 1))
        tables["train_test_split"].append((key, int(number < 6)))
        boxes.append((key, float(X0), float(Y0), float(X1 - X0), float(Y1 - Y0)))
    for table, rows in tables.items():
        lines(root / f"{table}.txt", rows, " ")
    lines(root / "classes.txt", list(enumerate(kinds, 1)), " ")
    truth = lines(root / "bounding_boxes.txt", boxes, " ")
    return Tree(f"cub:{root}", labels, root / "train_test_split.txt", (truth,))


def wsol(root: Path, name: str, kinds: Sequence[str], marks: Callable[[Path, Path], list[Sequence[object]]]) -> Tree:
    """`marks` writes the truth of one picture and returns its lines of localization.txt."""
    pictures, folder, labels, truth = root / name, root / "metadata" / name, {}, []
    for split in ("train", "val", "test"):
        paths = [pictures / split / kind / f"{n:016x}.jpg" for kind, n in itertools.product(kinds, range(3))]
        labels.update({picture(path): path.parent.name for path in paths})
        ids = [path.relative_to(pictures).as_posix() for path in paths]
        lines(folder / split / "image_ids.txt", [(i,) for i in ids])
        lines(folder / split / "class_labels.txt", [(i, kinds.index(i.split("/")[1])) for i in ids])
        lines(folder / split / "image_sizes.txt", [(i, WIDTH, HEIGHT) for i in ids])
        rows = [row for path in paths for row in marks(pictures, path)]
        truth += [pictures / str(row[1]) for row in rows if str(row[1]).endswith(".png")]
        truth.append(lines(folder / split / "localization.txt", rows))
    return Tree(f"{name.lower()}:{pictures}#{folder}", labels, folder / "val" / "class_labels.txt", tuple(truth))


def cub_wsol(root: Path) -> Tree:
    def marks(pictures: Path, path: Path) -> list[Sequence[object]]:
        return [(path.relative_to(pictures).as_posix(), X0, Y0, X1, Y1)]

    return wsol(root, "CUB", ("001.Black_footed_Albatross", "002.Laysan_Albatross"), marks)


def openimages(root: Path) -> Tree:
    """Two instances a picture, their masks at half of its size, and pixels to ignore in the last column."""

    def marks(pictures: Path, path: Path) -> list[Sequence[object]]:
        name = path.relative_to(pictures).with_suffix("").as_posix()
        left, right, ignore = np.zeros((HEIGHT, WIDTH), bool), np.zeros((HEIGHT, WIDTH), bool), BOX * False
        left[2:6, 4:8], right[2:6, 8:10], ignore[:, -2:] = True, True, True
        masks = [mask(pictures / f"{name}_m{n}.png", part[::2, ::2]) for n, part in enumerate((left, right))]
        mask(pictures / f"{name}_ignore.png", ignore[::2, ::2])
        first, second = (path.relative_to(pictures).as_posix() for path in masks)
        return [(f"{name}.jpg", first, f"{name}_ignore.png"), (f"{name}.jpg", second, "")]

    return wsol(root, "OpenImages", ("0bt_c3", "0by6g"), marks)


TREES: dict[str, Callable[[Path], Tree]] = {
    "tree": tree,
    "mvtec": mvtec,
    "mvtec2": mvtec2,
    "btad": btad,
    "visa": lambda root: raw_visa(root, ""),
    "visa 1cls": lambda root: raw_visa(root, "1cls"),
    "visa folders": visa_in_folders,
    "visa two classes": visa_in_two_classes,
    "dagm": dagm,
    "ksdd": ksdd,
    "ksdd2": ksdd2,
    "severstal": severstal,
    "neu": neu,
    "neu in two": neu_in_two,
    "tiles": tiles,
    "cub": cub,
    "cub wsol": cub_wsol,
    "openimages": openimages,
}
