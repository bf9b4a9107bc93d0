"""Which pixels are defective, for evaluation alone. In: a `Dataset`. Out: masks and ignored pixels.

`train`, `seeds` and `losses` must not import this module, nor anything that does: a test walks their imports. Any mark
that is not zero is defect. One's own masks are `PATH/ground_truth/<the picture's path under PATH>_mask.png` and may be
missing (the picture then counts for image metrics only); a published set's may not, and a mask of another size than its
picture is refused. `kind` says what the marks are: boxes and ellipses are no outlines, so pixel metrics on them lie.

Sources: the sets' own descriptions (data/known.py). Severstal's run lengths are pairs of start (from 1, down the
columns) and length; one picture's rows are merged. OpenImages' masks may be smaller than their pictures, in the same
shape: they are enlarged (nearest), and its ignore masks are kept apart.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from fcam_tools.common.errors import ToolError
from fcam_tools.data.dataset import SPLITS, Dataset, Picture
from fcam_tools.data.layout import need_file, number, read_fields, read_table
from fcam_tools.data.reading import marks_in, size_of

# What a pixel of the network's input must be covered by a defect to count as one: less than half, because a scratch of
# one pixel in the picture is half a pixel here and would vanish.
COVERED = 0.25
SAME_SHAPE = 0.02  # how far the sides' ratios of an OpenImages mask and its picture may differ

Size = tuple[int, int]  # width, height
Finder = Callable[[Dataset, Picture, Size], np.ndarray | None]


@dataclass(frozen=True)
class PixelTruth:
    """The pixels' truth of one data set."""

    dataset: Dataset

    @property
    def kind(self) -> str:
        """`masks`, `ellipses`, `boxes` or `none`."""
        return FINDERS[self.dataset.layout][1]

    def marks(self, picture: Picture) -> np.ndarray | None:
        """Bool [height, width] at the picture's size; None for an OK picture, and where the defect is not marked.
        Refuses a mask without a marked pixel."""
        if picture.label == 0:
            return None
        marks = FINDERS[self.dataset.layout][0](self.dataset, picture, size_of(picture.path))
        if marks is not None and not marks.any():
            raise ToolError(f"the mask of {picture.path} is empty, its label says defect: correct one of them")
        return marks

    def mask(self, picture: Picture, size: Size) -> np.ndarray | None:
        """`marks` at the network's size (width, height): never empty if a defect is marked at all."""
        marks = self.marks(picture)
        if marks is None:
            return None
        covered = cv2.resize(marks.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        found = covered >= COVERED
        return found if found.any() else covered >= covered.max()

    def ignored(self, picture: Picture, size: Size) -> np.ndarray | None:
        """Pixels to leave out, bool at the network's size; only OpenImages has them."""
        if self.dataset.layout != "openimages":
            return None
        name = picture.path.relative_to(self.dataset.root).as_posix()
        paths = [self.dataset.root / row[2] for row in wsol_rows(self.dataset.option).get(name, []) if row[2:] > [""]]
        marks = [wsol_mask(path, picture.path, size_of(picture.path)) for path in paths]
        if not marks:
            return None
        small = cv2.resize(np.logical_or.reduce(marks).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        defect = self.mask(picture, size)
        return small if defect is None else small & ~defect


@dataclass(frozen=True)
class Truth:
    """Labels and masks of some pictures of a split, at the network's size (width, height)."""

    pictures: tuple[Picture, ...]
    pixels: PixelTruth
    size: Size

    @property
    def classes(self) -> tuple[str, ...]:
        return self.pixels.dataset.classes

    @property
    def kind(self) -> str:
        return self.pixels.kind

    @property
    def masks(self) -> Path:
        """Where one's own masks lie."""
        return self.pixels.dataset.root / "ground_truth"

    @property
    def has_masks(self) -> bool:
        return any(self.pixels.marks(picture) is not None for picture in self.pictures)

    def mask(self, picture: Picture) -> np.ndarray | None:
        return self.pixels.mask(picture, self.size)

    def ignored(self, picture: Picture) -> np.ndarray | None:
        return self.pixels.ignored(picture, self.size)


def truth_of(dataset: Dataset, split: str, size: Size, pictures: tuple[Picture, ...] | None = None) -> Truth:
    """Of a whole split, or of some of its pictures."""
    return Truth(dataset.splits[split] if pictures is None else pictures, PixelTruth(dataset), size)


def same_size(mask: np.ndarray, path: Path, picture: Path, size: Size) -> np.ndarray:
    if mask.shape[::-1] != size:
        raise ToolError(
            f"the mask {path} is {mask.shape[1]}x{mask.shape[0]}, its picture {picture} {size[0]}x{size[1]}: "
            "make them one size"
        )
    return mask


def by_path(place: Callable[[Dataset, Picture], Path], optional: bool = False) -> Finder:
    """A finder for sets with a mask file a picture; `place` says where."""

    def find(dataset: Dataset, picture: Picture, size: Size) -> np.ndarray | None:
        path = place(dataset, picture)
        if optional and not path.is_file():
            return None
        need_file(path, f"the mask of {picture.path}")
        return same_size(marks_in(path), path, picture.path, size)

    return find


def beside(folder: Path, stem: str) -> Path:
    """The mask of this stem, whatever its suffix."""
    return next(iter(sorted(folder.glob(f"{stem}.*"))), folder / f"{stem}.png")


def own_mask(dataset: Dataset, picture: Picture) -> Path:
    """A picture from elsewhere has its mask beside it, if anywhere."""
    inside = picture.path.is_relative_to(dataset.root)
    path = dataset.root / "ground_truth" / picture.path.relative_to(dataset.root) if inside else picture.path
    return path.with_name(f"{path.stem}_mask.png")


def mvtec_mask(dataset: Dataset, picture: Picture) -> Path:
    return dataset.root / "ground_truth" / picture.path.parent.name / f"{picture.path.stem}_mask.png"


def mvtec2_mask(dataset: Dataset, picture: Picture) -> Path:
    return dataset.root / "test_public" / "ground_truth" / "bad" / f"{picture.path.stem}_mask.png"


def btad_mask(dataset: Dataset, picture: Picture) -> Path:
    return beside(dataset.root / "ground_truth" / "ko", picture.path.stem)


def visa_mask(dataset: Dataset, picture: Picture) -> Path:
    if (dataset.root / "Data").is_dir():
        return beside(dataset.root / "Data" / "Masks" / "Anomaly", picture.path.stem)
    split, truth = picture.path.parts[-3], dataset.root / "ground_truth"
    return beside(truth / split / "bad" if (truth / split).is_dir() else truth / "bad", picture.path.stem)


def dagm_mask(dataset: Dataset, picture: Picture) -> Path:
    return beside(picture.path.parent / "Label", f"{picture.path.stem}_label")


def run_lengths(dataset: Dataset, picture: Picture, size: Size) -> np.ndarray:
    """Severstal: all classes' run lengths of one picture, as one mask."""
    table = dataset.root / "train.csv"
    flat = np.zeros(size[0] * size[1], bool)
    for text in severstal_rows(table)[picture.path.name]:
        values = [number(value, table) for value in text.split()]
        for start, length in zip(values[::2], values[1::2], strict=False):
            if len(values) % 2 or start < 1 or length < 1 or start - 1 + length > flat.size:
                raise ToolError(f"{table}: run {start} {length} of {picture.path.name} leaves its {size[0]}x{size[1]}")
            flat[start - 1 : start - 1 + length] = True
    return flat.reshape(size).T  # down the columns: [width, height], turned


@functools.cache
def severstal_rows(table: Path) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for row in read_table(table, ("ImageId", "ClassId", "EncodedPixels")):
        rows.setdefault(row["ImageId"], []).append(row["EncodedPixels"])
    return rows


def filled(boxes: list[list[int]], source: Path, picture: Path, size: Size) -> np.ndarray:
    """A mask of boxes (x0, y0, x1, y1 in pixels, the last ones excluded)."""
    mask = np.zeros(size[::-1], bool)
    for x0, y0, x1, y1 in boxes:
        if not (0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]):
            raise ToolError(f"{source}: box {x0},{y0},{x1},{y1} leaves {picture}, which is {size[0]}x{size[1]}")
        mask[y0:y1, x0:x1] = True
    return mask


def voc_boxes(dataset: Dataset, picture: Picture, size: Size) -> np.ndarray:
    """NEU-DET: Pascal VOC, corners counted from 1 and included."""
    train = dataset.root / "ANNOTATIONS"
    folder = train if train.is_dir() else dataset.root / picture.path.relative_to(dataset.root).parts[0] / "annotations"
    path = need_file(folder / f"{picture.path.stem}.xml", f"the boxes of {picture.path}")
    try:
        corners = [
            [int(box.findtext(name, "")) for name in ("xmin", "ymin", "xmax", "ymax")]
            for box in ElementTree.parse(path).iter("bndbox")
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise ToolError(f"cannot read {path}: {error}; expected is Pascal VOC's XML") from error
    return filled([[max(x0 - 1, 0), max(y0 - 1, 0), x1, y1] for x0, y0, x1, y1 in corners], path, picture.path, size)


def cub_boxes(dataset: Dataset, picture: Picture, size: Size) -> np.ndarray:
    """Of wsolevaluation's localization.txt (x0, y0, x1, y1), or CUB's own bounding_boxes.txt (x, y, width, height)."""
    if dataset.option:
        name = picture.path.relative_to(dataset.root).as_posix()
        rows, source = wsol_rows(dataset.option).get(name, []), Path(dataset.option)
        boxes = [[number(value, source) for value in row[1:5]] for row in rows]
    else:
        source = dataset.root / "bounding_boxes.txt"
        name = picture.path.relative_to(dataset.root / "images").as_posix()
        x, y, width, height = cub_rows(dataset.root).get(name, (0, 0, 0, 0))
        boxes = [[x, y, x + width, y + height]] if width else []
    if not boxes:
        raise ToolError(f"{source} has no box of {name}")
    clipped = [[max(x0, 0), max(y0, 0), min(x1, size[0]), min(y1, size[1])] for x0, y0, x1, y1 in boxes]
    return filled(clipped, source, picture.path, size)


@functools.cache
def cub_rows(root: Path) -> dict[str, tuple[int, ...]]:
    """x, y, width and height by picture name, rounded from CUB's fractions."""
    path = need_file(root / "bounding_boxes.txt", "CUB's boxes")
    names = {row[0]: row[1] for row in read_fields(root / "images.txt", 2)}
    try:
        return {names[row[0]]: tuple(round(float(value)) for value in row[1:5]) for row in read_fields(path, 5)}
    except (KeyError, ValueError) as error:
        raise ToolError(f"{path}: {error} is no picture's number, or no size") from error


@functools.cache
def wsol_rows(folder: str) -> dict[str, list[list[str]]]:
    """Lines of localization.txt by picture, all splits."""
    rows: dict[str, list[list[str]]] = {}
    for split in SPLITS:
        path = Path(folder) / split / "localization.txt"
        for row in read_fields(path, 3, ",") if path.is_file() else []:
            rows.setdefault(row[0], []).append(row)
    return rows


def wsol_mask(path: Path, picture: Path, size: Size) -> np.ndarray:
    mask = marks_in(need_file(path, f"a mask of {picture}"))
    height, width = mask.shape
    if abs(width * size[1] / (height * size[0]) - 1) > SAME_SHAPE:
        raise ToolError(
            f"the mask {path} is {width}x{height}, another shape than its picture {picture}, {size[0]}x{size[1]}"
        )
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


def instances(dataset: Dataset, picture: Picture, size: Size) -> np.ndarray | None:
    """OpenImages: the union of a picture's instance masks; None for training pictures, which have none."""
    name = picture.path.relative_to(dataset.root).as_posix()
    rows = wsol_rows(dataset.option).get(name, [])
    masks = [wsol_mask(dataset.root / row[1], picture.path, size) for row in rows]
    return np.logical_or.reduce(masks) if masks else None


def no_marks(dataset: Dataset, picture: Picture, size: Size) -> None:
    return None


FINDERS: dict[str, tuple[Finder, str]] = {
    "tree": (by_path(own_mask, optional=True), "masks"),
    "mvtec": (by_path(mvtec_mask), "masks"),
    "mvtec2": (by_path(mvtec2_mask), "masks"),
    "btad": (by_path(btad_mask), "masks"),
    "visa": (by_path(visa_mask), "masks"),
    "dagm": (by_path(dagm_mask), "ellipses"),
    "ksdd": (by_path(lambda _, p: p.path.with_name(f"{p.path.stem}_label.bmp")), "masks"),
    "ksdd2": (by_path(lambda _, p: p.path.with_name(f"{p.path.stem}_GT.png")), "masks"),
    "tiles": (by_path(lambda _, p: p.path.with_suffix(".png")), "masks"),
    "severstal": (run_lengths, "masks"),
    "neu": (voc_boxes, "boxes"),
    "cub": (cub_boxes, "boxes"),
    "openimages": (instances, "masks"),
    "elpv": (no_marks, "none"),
}
