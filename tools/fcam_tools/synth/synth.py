"""A procedural inspection data set. In: a seed and counts. Out: pictures by class, exact masks for evaluation alone.

Layout: `OUT/{train,val,test}/<class>/<surface>_<index>.jpg`, `OUT/ground_truth/<split>/<defect>/<stem>_mask.png` (0 or
255), `OUT/index.csv` (path, class, surface, area share, contrast) and `OUT/dataset.json`. Every picture depends on
(seed, split, class, index) alone, so any number of workers gives the same bytes. Good and defective pictures go through
the same marks that are NO defects (dust, rubbing, smudges, shadows) and the same camera (light, blur, noise, JPEG), so
nothing but the defect tells them apart.

With `--product` it makes one product a set in place of all surfaces mixed (products/collection.py). How a set is
written, and what is refused: sets.py.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL.Image import fromarray

from fcam_tools.common import contact, disk
from fcam_tools.common.errors import ToolError
from fcam_tools.synth import sets
from fcam_tools.synth.defects import DEFECTS, Marked, Scene, add
from fcam_tools.synth.products import collection
from fcam_tools.synth.surfaces import SURFACES, Image, Rng, field, ink_color, printed_mark

GOOD = "good"
VERSION = 2  # 2: masks are drawn from the change itself
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Item:
    """One picture to make."""

    seed: int
    split: str
    kind: str
    index: int
    surface: str
    size: int

    @property
    def stem(self) -> str:
        return f"{self.surface}_{self.index:05d}"

    def rng(self) -> Rng:
        key = [self.seed, SPLITS.index(self.split), [GOOD, *DEFECTS].index(self.kind), self.index]
        return np.random.default_rng(np.random.SeedSequence(key))


def scene(rng: Rng, surface: str, size: int) -> Scene:
    reflectance = np.clip(SURFACES[surface](rng, size), 0.02, 0.98)
    ink = printed_mark(rng, size)
    return Scene(reflectance, ink, ink_color(rng, reflectance, ink))


def nuisances(rng: Rng, picture: Image) -> Image:
    """Marks within tolerance: dust below the smallest particle, rubbing, smudges fainter than stains, colour shift."""
    side = picture.shape[0]
    change = np.zeros((side, side), np.float32)
    for _ in range(int(rng.integers(0, 14))):
        x, y = rng.uniform(0, side, 2)
        center = (int(x * 16), int(y * 16))
        cv2.circle(change, center, int(rng.uniform(0.5, 1.2) * 16), float(rng.uniform(-0.10, 0.10)), -1, cv2.LINE_AA, 4)
    for _ in range(int(rng.integers(0, 3))):
        change += rubbing(rng, side)
    if rng.random() < 0.4:
        change += rng.uniform(-0.025, 0.025) * np.clip(field(rng, side, side / 5) - 0.6, 0, 1)
    shift = 1 + rng.uniform(-0.03, 0.03, 3)
    return (picture + change[..., None]) * shift.astype(np.float32)


def rubbing(rng: Rng, side: int) -> Image:
    """A broad faint streak, as packaging leaves it."""
    line = np.zeros((side, side), np.float32)
    a, b = rng.uniform(0, side, 2), rng.uniform(0, side, 2)
    cv2.line(line, a.astype(int).tolist(), b.astype(int).tolist(), 1.0, int(rng.integers(6, 22)), cv2.LINE_AA)
    return cv2.GaussianBlur(line, (0, 0), rng.uniform(5, 10)) * np.float32(rng.uniform(-0.022, 0.022))


def lit(rng: Rng, picture: Image) -> Image:
    """Light gradient, vignetting, a soft shadow on some, a specular highlight on some."""
    side = picture.shape[0]
    y, x = (np.mgrid[:side, :side].astype(np.float32) / side) - 0.5
    turn = rng.uniform(0, 2 * np.pi)
    light = (
        1 + rng.uniform(0.05, 0.25) * (np.cos(turn) * x + np.sin(turn) * y) - rng.uniform(0.1, 0.5) * (x * x + y * y)
    )
    if rng.random() < 0.35:
        edge = np.cos(turn + 1) * x + np.sin(turn + 1) * y - rng.uniform(-0.3, 0.3)
        light = light * (1 - rng.uniform(0.08, 0.2) / (1 + np.exp(-edge / rng.uniform(0.02, 0.06))))
    picture = picture * light[..., None].astype(np.float32)
    if rng.random() < 0.35:
        cy, cx = rng.uniform(-0.5, 0.5, 2)
        spot = np.exp(-((x - cx) ** 2 / rng.uniform(0.01, 0.06) + (y - cy) ** 2 / rng.uniform(0.01, 0.06)))
        picture = picture + (rng.uniform(0.03, 0.14) * spot)[..., None].astype(np.float32)
    return picture


def exposed(rng: Rng, picture: Image) -> tuple[Image, int]:
    """Defocus or motion blur, shot and read noise, 8 bits; and the quality of the JPEG that follows."""
    if rng.random() < 0.25:
        reach = int(rng.integers(2, 4))
        kernel = np.ones((1, reach), np.float32) / reach
        picture = cv2.filter2D(picture, -1, kernel if rng.random() < 0.5 else kernel.T)
    else:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 0.9))
    picture = np.clip(picture * rng.uniform(0.85, 1.1), 0, 1)
    deviation = np.sqrt(rng.uniform(0.004, 0.012) ** 2 + rng.uniform(0.0001, 0.0005) * picture)
    noisy = picture + deviation * rng.standard_normal(picture.shape, dtype=np.float32)
    return (np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8), int(rng.integers(70, 96))


def render(item: Item) -> tuple[Image, int, Marked | None, Image]:
    """The picture (uint8 RGB), its JPEG quality, the defect with its mask, and the picture without the defect."""
    part, marked, camera = stage(item)
    clean = photograph(copy.deepcopy(camera), part.flat())[0]
    return *photograph(camera, seen(part, marked)), marked, clean


def stage(item: Item) -> tuple[Scene, Marked | None, Rng]:
    """The part, its defect, and the generator of the camera's chances."""
    rng = item.rng()
    part = scene(rng, item.surface, item.size)
    marked = add(rng, part, item.kind) if item.kind != GOOD else None
    return part, marked, rng.spawn(1)[0]


def seen(part: Scene, marked: Marked | None) -> Image:
    return marked.picture if marked else part.flat()


def photograph(rng: Rng, picture: Image) -> tuple[Image, int]:
    return exposed(rng, lit(rng, nuisances(rng, picture)))


def write(item: Item, out: Path) -> dict:
    """Makes one picture and writes it; returns its row of the index."""
    cv2.setNumThreads(1)
    part, marked, camera = stage(item)
    picture, quality = photograph(camera, seen(part, marked))
    path = out / item.split / item.kind / f"{item.stem}.jpg"
    save(path, picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if marked:
        mask = out / "ground_truth" / item.split / item.kind / f"{item.stem}_mask.png"
        save(mask, marked.mask.astype(np.uint8) * 255)
    return {
        "path": str(path.relative_to(out)),
        "class": item.kind,
        "surface": item.surface,
        "area": f"{marked.mask.mean():.6f}" if marked else "0",
        "contrast": f"{marked.contrast:.4f}" if marked else "0",
    }


def save(path: Path, pixels: Image, options: Sequence[int] = ()) -> None:
    if not cv2.imwrite(str(path), pixels, options):
        raise OSError(f"cannot write {path}: is the disk full?")


def plan(
    seed: int, size: int, counts: dict[str, int], ok_share: float, surfaces: Sequence[str], kinds: Sequence[str]
) -> list[Item]:
    """The pictures to make: the good share, the rest evenly over defects, surfaces in rotation."""
    items = []
    for split, total in counts.items():
        good = round(total * ok_share)
        per_kind = {GOOD: good} | {kind: (total - good + n) // len(kinds) for n, kind in enumerate(kinds)}
        for kind, count in per_kind.items():
            items += [Item(seed, split, kind, i, surfaces[i % len(surfaces)], size) for i in range(count)]
    return items


def generate(
    out: Path,
    *,
    seed: int = 0,
    size: int = 512,
    train: int = 3200,
    val: int = 480,
    test: int = 960,
    ok_share: float = 0.5,
    workers: int | None = None,
    surfaces: Sequence[str] | None = None,
    defects: Sequence[str] | None = None,
    force: bool = False,
    progress: bool = True,
) -> dict:
    """Writes the data set and returns its summary, which is also `OUT/dataset.json`."""
    surfaces, kinds = list(surfaces or SURFACES), list(defects or DEFECTS)
    items = plan(seed, size, {"train": train, "val": val, "test": test}, ok_share, surfaces, kinds)
    folders = [f"{split}/{kind}" for split in SPLITS for kind in (GOOD, *kinds)]
    masks = [f"ground_truth/{split}/{kind}" for split in SPLITS for kind in kinds]
    head = {"generator": VERSION, "seed": seed, "size": size}
    return sets.publish(out, [*folders, *masks], items, write, head, workers=workers, force=force, progress=progress)


def sheet(path: Path, seed: int, size: int = 256) -> None:
    """A contact sheet: a row a class, two pictures a surface, the second with its mask outlined."""
    tiles = []
    for kind in [GOOD, *DEFECTS]:
        for number, surface in enumerate(SURFACES):
            picture, _, marked, _ = render(Item(seed, "test", kind, 90_000 + number, surface, size * 2))
            outlined = picture.copy()
            if marked:
                edges = cv2.findContours(marked.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
                cv2.drawContours(outlined, edges, -1, (255, 0, 255), 2)
            small = (cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA) for p in (picture, outlined))
            tiles += [contact.Tile(fromarray(pixels)) for pixels in small]
    disk.write(path, disk.png(contact.sheet(tiles, 2 * len(SURFACES), size, 0)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, nargs="?", help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="one seed gives the same pictures (default: %(default)s)")
    parser.add_argument("--size", type=int, help="side of the pictures in pixels (default 512)")
    for split, count in (("train", 3200), ("val", 480), ("test", 960)):
        parser.add_argument(f"--{split}", type=int, help=f"pictures in this split (default {count})")
    parser.add_argument("--ok-share", type=float, help="share of good pictures (default 0.5)")
    parser.add_argument("--surfaces", nargs="+", choices=list(SURFACES), help="only these (default: all)")
    parser.add_argument("--defects", nargs="+", choices=list(DEFECTS), help="only these (default: all)")
    one = parser.add_argument_group(
        "one product", "one design, as a plant has it, 512 x 384; not with the counts above"
    )
    one.add_argument("--product", metavar="NAME", help="one of them, or `list` to see them all")
    for name, count in (("good", 120), ("bad", 90), ("test-good", 40), ("test-bad", 60)):
        split = "test" if "test" in name else "training"
        kind = "good" if "good" in name else "defective"
        one.add_argument(f"--{name}", type=int, help=f"{kind} pictures for {split} (default {count})")
    parser.add_argument("--workers", type=int, help="processes that draw (default: one a core)")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet (.png)")
    parser.add_argument("--force", action="store_true", help="replace the data set in the folder")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


OF_SURFACES = ("size", "train", "val", "test", "ok_share", "surfaces", "defects")
OF_PRODUCTS = ("good", "bad", "test_good", "test_bad")


def run(args: argparse.Namespace) -> int:
    if args.product == "list":
        print(collection.listed(args.json))
        return 0
    if args.out is None:
        raise ToolError("which folder shall it write? say `fcam-tools synth OUT`")
    common = {"workers": args.workers, "force": args.force, "progress": sys.stderr.isatty() and not args.json}
    if args.product:
        options = options_of(args, OF_PRODUCTS, OF_SURFACES, "is not for a product")
        summary = collection.generate(args.out, args.product, seed=args.seed, **options, **common)
    else:
        options = options_of(args, OF_SURFACES, OF_PRODUCTS, "needs --product NAME")
        summary = generate(args.out, seed=args.seed, **options, **common)
    if args.sheet:
        collection.sheet(args.sheet, args.product, args.seed) if args.product else sheet(args.sheet, args.seed)
    print(json.dumps(summary) if args.json else f"wrote {args.out}: {summary['counts']}, sha256 {summary['sha256']}")
    return 0


def options_of(args: argparse.Namespace, own: Sequence[str], others: Sequence[str], why: str) -> dict:
    """What the user gave of `own`; refuses what is given of `others`, and counts below 0."""
    wrong = [f"--{name.replace('_', '-')}" for name in others if getattr(args, name) is not None]
    if wrong:
        raise ToolError(f"{wrong[0]} {why}: leave it out, or see `fcam-tools synth --help`")
    given = {name: getattr(args, name) for name in own if getattr(args, name) is not None}
    below = [name for name, value in given.items() if isinstance(value, int | float) and value < 0]
    if below:
        raise ToolError(f"--{below[0].replace('_', '-')} is below 0: give 0 or more")
    return given
