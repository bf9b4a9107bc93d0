"""A procedural inspection data set. In: a seed and counts. Out: pictures by class, exact masks for evaluation alone.

Layout: `OUT/{train,val,test}/<class>/<surface>_<index>.jpg`, `OUT/ground_truth/<split>/<defect>/<stem>_mask.png` (0 or
255), `OUT/index.csv` (path, class, surface, area share, contrast) and `OUT/dataset.json`. Every picture depends on
(seed, split, class, index) alone, so any number of workers gives the same bytes. Good and defective pictures go through
the same marks that are NO defects (dust, rubbing, smudges, shadows) and the same camera (light, blur, noise, JPEG), so
nothing but the defect tells them apart.

It refuses to write into a folder that has something in it, replaces (`--force`) none but a data set of its own, and
leaves nothing behind when it is interrupted.
"""

from __future__ import annotations

import argparse
import copy
import csv
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL.Image import fromarray
from tqdm import tqdm

from fcam_tools import contact, disk
from fcam_tools.defects import DEFECTS, Marked, Scene, add
from fcam_tools.errors import ToolError
from fcam_tools.surfaces import SURFACES, Image, Rng, field, ink_color, printed_mark

GOOD = "good"
VERSION = 2  # 2: masks are drawn from the change itself
SPLITS = ("train", "val", "test")
SUMMARY = {"generator", "seed", "size", "counts", "sha256"}  # what dataset.json tells


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
    """Which pictures there will be: the good share, the rest evenly over defects, surfaces in rotation."""
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
    check_place(out, force)
    surfaces, kinds = list(surfaces or SURFACES), list(defects or DEFECTS)
    items = plan(seed, size, {"train": train, "val": val, "test": test}, ok_share, surfaces, kinds)
    aside = out.with_name(f".{out.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for split in SPLITS:
            for kind in [GOOD, *kinds]:
                (aside / split / kind).mkdir(parents=True)
            for kind in kinds:
                (aside / "ground_truth" / split / kind).mkdir(parents=True)
        rows = write_all(items, aside, workers or os.cpu_count() or 1, progress)
        summary = describe(aside, rows, seed, size)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(out, ignore_errors=True)
    aside.rename(out)
    return summary


def check_place(out: Path, force: bool) -> None:
    """Refuses a folder with something in it, unless it is a data set of this tool and may be replaced."""
    if out.exists() and not out.is_dir():
        raise ToolError(f"{out} is no folder: choose another name")
    if not out.exists() or not any(out.iterdir()):
        return
    if not is_data_set(out):
        raise ToolError(f"{out} is not empty and no data set of `synth`: choose another folder, or remove it yourself")
    if not force:
        raise ToolError(f"{out} is not empty: choose another folder, or --force to replace the data set in it")


def is_data_set(folder: Path) -> bool:
    """Whether `describe` wrote this folder's dataset.json."""
    try:
        found = json.loads((folder / "dataset.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.keys() == SUMMARY


def write_all(items: list[Item], out: Path, workers: int, progress: bool) -> list[dict]:
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        done = pool.imap(functools.partial(write, out=out), items, chunksize=8)
        return list(tqdm(done, "synth", len(items), unit="picture", disable=not progress))


def describe(out: Path, rows: list[dict], seed: int, size: int) -> dict:
    with (out / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    total = hashlib.sha256()
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(out)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        split, kind = row["path"].split("/")[:2]
        counts.setdefault(split, {}).setdefault(kind, 0)
        counts[split][kind] += 1
    summary = {"generator": VERSION, "seed": seed, "size": size, "counts": counts, "sha256": total.hexdigest()}
    (out / "dataset.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


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
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=512, help="side of the pictures in pixels (default 512)")
    for split, count in (("train", 3200), ("val", 480), ("test", 960)):
        parser.add_argument(f"--{split}", type=int, default=count, help=f"pictures in this split (default {count})")
    parser.add_argument("--ok-share", type=float, default=0.5, help="share of good pictures (default 0.5)")
    parser.add_argument("--surfaces", nargs="+", choices=list(SURFACES), help="only these (default: all)")
    parser.add_argument("--defects", nargs="+", choices=list(DEFECTS), help="only these (default: all)")
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet (.png)")
    parser.add_argument("--force", action="store_true", help="replace the data set in the folder")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    if args.sheet:
        sheet(args.sheet, args.seed)
    names = ("seed", "size", "train", "val", "test", "ok_share", "surfaces", "defects", "workers", "force")
    options = {name: getattr(args, name) for name in names}
    summary = generate(args.out, **options, progress=sys.stderr.isatty() and not args.json)
    print(json.dumps(summary) if args.json else f"wrote {args.out}: {summary['counts']}, sha256 {summary['sha256']}")
    return 0
