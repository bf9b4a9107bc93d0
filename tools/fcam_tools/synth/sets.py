"""A made data set on the disk. In: items to make, and what makes one. Out: the folder, whole or not at all.

It refuses to write into a folder that has something in it, replaces none but a data set of its own, and leaves nothing
behind when it is interrupted.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from fcam_tools.common.errors import ToolError

SUMMARY = {"generator", "seed", "size", "counts", "sha256"}  # what dataset.json tells, and `product` of a product's


def publish(
    out: Path,
    folders: Iterable[str],
    items: Sequence,
    write: Callable[..., dict],
    head: dict,
    *,
    workers: int | None = None,
    force: bool = False,
    progress: bool = True,
) -> dict:
    """Has `write` make every item, in processes; returns the summary, which is also `OUT/dataset.json`: `head`, counts
    and a hash."""
    check_place(out, force)
    aside = out.with_name(f".{out.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for folder in folders:
            (aside / folder).mkdir(parents=True)
        rows = write_all(items, write, aside, workers or os.cpu_count() or 1, progress)
        summary = describe(aside, rows, head)
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
    return isinstance(found, dict) and found.keys() - {"product"} == SUMMARY


def write_all(items: Sequence, write: Callable, out: Path, workers: int, progress: bool) -> list[dict]:
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        done = pool.imap(functools.partial(write, out=out), items, chunksize=8)
        return list(tqdm(done, "synth", len(items), unit="picture", disable=not progress))


def describe(out: Path, rows: list[dict], head: dict) -> dict:
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
    summary = head | {"counts": counts, "sha256": total.hexdigest()}
    (out / "dataset.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary
