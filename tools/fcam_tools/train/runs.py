"""A list of the runs that training left. In: a folder with runs in it. Out: a table, or JSON.

With `--spread`, each metric's mean, standard deviation (of a sample) and range over the finished runs follow:
so that several seeds of one recipe can be told as one figure.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fcam_tools.common import tables
from fcam_tools.common.errors import ToolError
from fcam_tools.common.run_folder import BUNDLE, Run

log = logging.getLogger(__name__)
SHOWN = (
    "val_auroc",
    "image_auroc",
    "image_ap",
    "pxap",
    "aupro_030",
    "shipped_escape_rate",
    "shipped_false_reject_rate",
)


def found_in(root: Path) -> Iterator[Run]:
    for path in sorted(root.rglob("run.json")):
        yield Run(path.parent)


def row(run: Run) -> dict[str, Any]:
    config, metrics = run.config, run.metrics
    if missing := [name for name in ("id", "created") if name not in config]:
        raise ToolError(f"its run.json has no {' and no '.join(missing)}")
    measured = metrics | metrics.get("validation", {}) | metrics.get("test", {})
    return {
        "run": str(run.folder),
        "id": config["id"],
        "created": config["created"],
        "state": run.state(),
        "data": config.get("dataset"),
        "bundle": (run.folder / BUNDLE).is_dir(),
        "seconds": metrics.get("seconds"),
        **{name: measured.get(name) for name in SHOWN},
    }


def table(rows: list[dict[str, Any]]) -> str:
    columns = ("id", "created", "state", "data", "seconds", *SHOWN, "run")
    short = {"shipped_escape_rate": "escapes", "shipped_false_reject_rate": "rejects"}
    head = [short.get(name, name) for name in columns]
    return tables.table(head, ([entry[name] for name in columns] for entry in rows))


def spread(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each metric that all finished runs have: mean, standard deviation, range. Refuses fewer than two runs."""
    done = [entry for entry in rows if entry["state"] == "done"]
    if len(done) < 2:
        raise ToolError(
            f"{len(done)} finished runs have no spread: train two or more (`train --seed 0`, `--seed 1` ...)"
        )
    out = {}
    for name in SHOWN:
        values = [entry[name] for entry in done if entry[name] is not None]
        if len(values) == len(done):
            out[name] = {"runs": len(values), "mean": statistics.mean(values), "deviation": statistics.stdev(values)}
            out[name] |= {"lowest": min(values), "highest": max(values)}
    return out


def told_spread(found: Mapping[str, Mapping[str, float]]) -> str:
    return "\n".join(
        "{name}: {mean:.4f} ± {deviation:.4f} ({lowest:.4f} to {highest:.4f}, {runs} runs)".format(name=name, **values)
        for name, values in found.items()
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", type=Path, nargs="?", default=Path("runs"), help="where to look (default: %(default)s)")
    parser.add_argument("--spread", action="store_true", help="also each metric's mean and deviation over all of them")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def run(args: argparse.Namespace) -> int:
    if not args.root.is_dir():
        raise ToolError(f"there is no folder {args.root}: train something first, or say where the runs are")
    rows = []
    for found in found_in(args.root):
        try:
            rows.append(row(found))
        except ToolError as error:  # one broken folder must not hide the others
            log.warning("%s is left out: %s", found.folder, error)
    rows.sort(key=lambda entry: entry["created"])
    told = spread(rows) if args.spread else {}
    if args.json:
        print(json.dumps({"runs": rows, "spread": told} if args.spread else rows))
    else:
        print("\n\n".join([table(rows) if rows else f"no runs in {args.root}", *([told_spread(told)] if told else [])]))
    return 0
