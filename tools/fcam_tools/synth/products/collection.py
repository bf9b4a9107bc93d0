"""A product's data set. In: a product's name, counts, a seed. Out: good and defective pictures by class, exact masks.

Layout: `OUT/{train,test}/<class>/<number>.jpg`, `OUT/ground_truth/<split>/<defect>/<number>_mask.png`, `OUT/index.csv`
and `OUT/dataset.json`, as of the other sets of `synth`. Every picture depends on (product, seed, split, class, number)
alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from PIL.Image import fromarray

from fcam_tools.common import contact, disk, tables
from fcam_tools.common.errors import ToolError
from fcam_tools.synth import sets
from fcam_tools.synth.products import CHOOSING, GOOD, PRODUCTS, picture
from fcam_tools.synth.products.part import HEIGHT, WIDTH
from fcam_tools.synth.products.picture import SPLITS, Item

VERSION = 1
COLUMNS = 4  # pictures of a class on a contact sheet


def check_known(product: str) -> None:
    if product not in PRODUCTS:
        raise ToolError(f"no product is called {product}: choose one of {', '.join(PRODUCTS)} (`--product list`)")


def plan(product: str, seed: int, counts: dict[str, tuple[int, int]]) -> list[Item]:
    """Of each split the good pictures, then the defective ones, evenly over the kinds."""
    items, kinds = [], PRODUCTS[product].kinds
    for split, (good, bad) in counts.items():
        per_kind = {GOOD: good} | {kind: (bad + n) // len(kinds) for n, kind in enumerate(kinds)}
        items += [Item(seed, split, kind, i, product) for kind, count in per_kind.items() for i in range(count)]
    return items


def generate(
    out: Path,
    product: str,
    *,
    seed: int = 0,
    good: int = 120,
    bad: int = 90,
    test_good: int = 40,
    test_bad: int = 60,
    workers: int | None = None,
    force: bool = False,
    progress: bool = True,
) -> dict:
    """Writes the data set and returns its summary, which is also `OUT/dataset.json`."""
    check_known(product)
    items = plan(product, seed, {"train": (good, bad), "test": (test_good, test_bad)})
    if not items:
        raise ToolError("no picture was asked for: give --good or another count above 0")
    folders = {f"{item.split}/{item.kind}": None for item in items}
    masks = {f"ground_truth/{folder}": None for folder in folders if not folder.endswith(f"/{GOOD}")}
    head = {"generator": VERSION, "seed": seed, "size": [WIDTH, HEIGHT], "product": product}
    return sets.publish(
        out, [*folders, *masks], items, picture.write, head, workers=workers, force=force, progress=progress
    )


def sheet(path: Path, product: str, seed: int, side: int = 320) -> None:
    """A contact sheet: a row a class, the defects outlined on every second picture."""
    check_known(product)
    tiles = []
    for kind in (GOOD, *PRODUCTS[product].kinds):
        for number in range(COLUMNS):
            shot = picture.shot(Item(seed, SPLITS[-1], kind, 90_000 + number // 2, product))
            pixels = outlined(shot.picture, shot.mask) if number % 2 else shot.picture
            tiles.append(contact.Tile(fromarray(pixels), ((kind, "black"),)))
    disk.write(path, disk.png(contact.sheet(tiles, COLUMNS, side, 1)))


def outlined(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A line around the defect that leaves it visible."""
    near = cv2.dilate(mask.astype(np.uint8), np.ones((13, 13), np.uint8))
    edges = cv2.findContours(near, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    return cv2.drawContours(pixels.copy(), edges, -1, (255, 0, 255), 1)


def half(product: str) -> str:
    return "choosing" if product in CHOOSING else "reporting"


def listed(as_json: bool) -> str:
    """All products: name, half, what it is, kinds of defect."""
    rows = [
        {"product": name, "half": half(name), "about": product.about, "defects": list(product.kinds)}
        for name, product in PRODUCTS.items()
    ]
    if as_json:
        return json.dumps(rows)
    lines = ([row["product"], row["half"], f"{row['about']}: {', '.join(row['defects'])}"] for row in rows)
    return tables.table(("product", "half", "what it is, and its defects"), lines)
