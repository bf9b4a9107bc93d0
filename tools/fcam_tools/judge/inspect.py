"""What is in a data set, and what is wrong with it. In: a folder or a set's name. Out: a table, verdicts, suspects.

It counts pictures by class and split, their sizes and modes, the groups that names tell, marked defects, broken files
and marks, exact and near copies (data/copies.py), and, with `--sheet`, `--html` or `--checkpoint`, labels that look
wrong (suspect.py).

Exit code 1 if there is something that must be mended before training, 0 otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from fcam_tools import data
from fcam_tools.common import tables
from fcam_tools.common.disk import png, write
from fcam_tools.common.errors import ToolError
from fcam_tools.data import shape
from fcam_tools.data.copies import NAMED, Pair, across, copies, prints_of, told_leaks
from fcam_tools.judge.page import Inline, render
from fcam_tools.judge.suspect import sheet, suspects
from fcam_tools.judge.truth import PixelTruth
from fcam_tools.measure.judgement import FEW

LOPSIDED = 20  # times that the most frequent class may outnumber another in train
SURE = 0.9  # probability of the other side from which a label is called suspect


@dataclass(frozen=True)
class Verdict:
    """`level`: error (mend it before training), warning, or ok; `text` says what and what to do."""

    level: str
    text: str


def report(dataset: data.Dataset, progress: bool) -> dict:
    """Everything but the suspects, as plain data."""
    pictures = dataset.pictures()
    prints, broken = prints_of([picture.path for picture in pictures], progress)
    pairs = copies(prints)
    leaks = set(across(dataset, pairs))
    return {
        "data": dataset.name,
        "layout": dataset.layout,
        "licence": data.KNOWN[dataset.layout].licence if dataset.layout in data.KNOWN else None,
        "classes": list(dataset.classes),
        "counts": dataset.counts(),
        "several_labels": sum(len(picture.labels) > 1 for picture in pictures),
        "sizes": tally(f"{p.size[0]}x{p.size[1]}" for p in prints),
        "modes": tally(mode_of(p.path) for p in prints),
        "groups": groups_of(dataset),
        "truth": marks_of(dataset, set(broken)),
        "broken": {str(path): why for path, why in broken.items()},
        "copies": {
            "exact_within": told(p for p in pairs if p.exact and p not in leaks),
            "near_within": told(p for p in pairs if not p.exact and p not in leaks),
            "exact_across": told(p for p in pairs if p.exact and p in leaks),
            "near_across": told(p for p in pairs if not p.exact and p in leaks),
            "exact_of_two_labels": told(p for p in of_two_labels(dataset, pairs) if p.exact),
            "near_of_two_labels": told(p for p in of_two_labels(dataset, pairs) if not p.exact),
        },
    }


def tally(values: object) -> dict[str, int]:
    return dict(Counter(values).most_common())  # type: ignore[call-overload]


def told(pairs: object) -> list[list[str]]:
    return [[str(pair.first), str(pair.second)] for pair in pairs]  # type: ignore[attr-defined]


def mode_of(path: Path) -> str:
    with Image.open(path) as picture:
        return picture.mode


def of_two_labels(dataset: data.Dataset, pairs: Sequence[Pair]) -> list[Pair]:
    """Copies that carry two labels: of exact ones, one is wrong."""
    labels = {picture.path: picture.labels for picture in dataset.pictures()}
    return [pair for pair in pairs if labels[pair.first] != labels[pair.second]]


def groups_of(dataset: data.Dataset) -> dict:
    """How many groups names tell, of which kind, and those with pictures in more than one split."""
    found: dict[str, set[str]] = {}
    for split in data.SPLITS:
        for picture in dataset.splits[split]:
            if picture.group:
                found.setdefault(picture.group, set()).add(split)
    kinds = tally(key.partition(":")[0] for key in found)
    return {"kinds": kinds, "divided": sorted(key for key, splits in found.items() if len(splits) > 1)}


def marks_of(dataset: data.Dataset, broken: set[Path]) -> dict:
    """How many defective pictures have their pixels marked, of what kind, and the marks that are refused."""
    truth, wrong, marked, bare = PixelTruth(dataset), [], 0, 0
    for picture in dataset.pictures():
        if picture.label == 0 or picture.path in broken:
            continue
        try:
            found = truth.marks(picture) is not None
        except ToolError as error:
            wrong.append(str(error))
            continue
        marked, bare = marked + found, bare + (not found)
    return {"kind": truth.kind, "marked": marked, "unmarked": bare, "wrong": wrong}


# Verdicts.


def verdicts(told: dict, dataset: data.Dataset) -> list[Verdict]:
    out = [*wrong_files(told), *wrong_counts(told["counts"], dataset), *wrong_groups(told)]
    if not any(one.level == "error" for one in out):
        out.append(Verdict("ok", "nothing stands against training on it"))
    return out


def wrong_files(told: dict) -> list[Verdict]:
    out = [Verdict("error", why) for why in (*told["broken"].values(), *told["truth"]["wrong"])]
    leaks = told["copies"]["exact_across"] + told["copies"]["near_across"]
    if leaks:
        exact = len(told["copies"]["exact_across"])
        pairs = [Pair(Path(a), Path(b), place < exact) for place, (a, b) in enumerate(leaks)]
        cure = "keep one of each, or put both in one split by naming them after their part (part_0001_a, part_0001_b)"
        out.append(Verdict("error", f"{told_leaks(pairs)}: {cure}"))
    for first, second in told["copies"]["exact_of_two_labels"]:
        out.append(Verdict("error", f"{first} and {second} are one picture with two labels: correct one of them"))
    for first, second in told["copies"]["near_of_two_labels"][:NAMED]:
        out.append(Verdict("warning", f"{first} and {second} look the same and have two labels: look at both"))
    within = len(told["copies"]["exact_within"]) + len(told["copies"]["near_within"])
    if within:
        out.append(
            Verdict("warning", f"{within} pairs of copies within a split: they count twice, and teach nothing new")
        )
    return out


def wrong_counts(counts: dict[str, dict[str, int]], dataset: data.Dataset) -> list[Verdict]:
    out = []
    train = {name: count for name, count in counts["train"].items() if count}
    for name, count in train.items():
        if count < FEW:
            out.append(Verdict("warning", f"class {name} has {count} training pictures: take more ({FEW} are a start)"))
        elif max(train.values()) > LOPSIDED * count:
            most = max(train, key=lambda name: train[name])
            out.append(
                Verdict(
                    "warning", f"class {most} outnumbers {name} {max(train.values()) / count:.0f} times: balance them"
                )
            )
    if dataset.good_alone:
        out.append(
            Verdict("warning", "good pictures alone: nothing can be said of what escapes; add rejects as they come")
        )
    missing = [name for name in dataset.classes if not counts["test"][name] and any(counts[s][name] for s in counts)]
    if missing:
        out.append(
            Verdict("warning", f"split test has no pictures of {', '.join(missing)}: nothing can be said of them")
        )
    return out


def wrong_groups(told: dict) -> list[Verdict]:
    out = []
    divided = told["groups"]["divided"]
    if divided:
        text = f"{len(divided)} groups are in more than one split ({', '.join(divided[:3])} ...): "
        out.append(Verdict("warning", text + "if the names mean one part or day, put all of each in one split"))
    if len(told["sizes"]) > 1:
        sizes = ", ".join(list(told["sizes"])[:4])
        out.append(
            Verdict(
                "warning", f"pictures have {len(told['sizes'])} sizes ({sizes} ...): one camera has one; crop alike"
            )
        )
    for size in told["sizes"]:
        width, height = map(int, size.split("x"))
        if warning := shape.shrunk((width, height), shape.input_of((width, height))):
            out.append(Verdict("warning", warning))
            break
    if len(told["modes"]) > 1:
        modes = ", ".join(told["modes"])
        out.append(
            Verdict("warning", f"pictures have {len(told['modes'])} modes ({modes}): a class must not be told by it")
        )
    return out


# Writing.


def page(text: str, picture: Image.Image | None) -> str:
    """The report as one HTML file."""
    return render("data_set.html", text=text, sheet=Inline(png(picture)) if picture else None)


def table(told: dict) -> str:
    """The report as text: counts, what else was found, verdicts."""
    names = [name for name in told["classes"] if any(told["counts"][split][name] for split in data.SPLITS)]
    counts = ([name, *(told["counts"][split][name] for split in data.SPLITS)] for name in names)
    lines = [tables.table(["pictures", *data.SPLITS], counts)]
    for name in ("sizes", "modes"):
        lines.append(f"{name}: " + ", ".join(f"{key} ({count})" for key, count in list(told[name].items())[:6]))
    groups = ", ".join(f"{count} by {kind}" for kind, count in told["groups"]["kinds"].items())
    lines.append(f"groups: {groups or 'none that names tell'}")
    told_marks = "{marked} defective pictures have {kind}, {unmarked} have none".format(**told["truth"])
    lines.append("marked pixels: " + ("this set has none" if told["truth"]["kind"] == "none" else told_marks))
    lines.append(
        "copies: " + ", ".join(f"{len(pairs)} {name.replace('_', ' ')}" for name, pairs in told["copies"].items())
    )
    for one in told.get("suspects", []):
        lines.append(f"suspect: {one['path']} is {one['label']}, looks like {one['guess']} ({one['probability']:.2f})")
    lines += [f"{one['level']}: {one['text']}" for one in told["verdicts"]]
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help=data.HELP)
    parser.add_argument("--sheet", type=Path, help="write the pictures with suspect labels as a contact sheet (.png)")
    parser.add_argument("--html", type=Path, help="write the report with that sheet as one page (.html)")
    parser.add_argument("--checkpoint", type=Path, help="suspect labels by this checkpoint of the same data")
    parser.add_argument("--suspects", type=int, default=24, help="how many of them to show (default 24)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def check_places(args: argparse.Namespace) -> None:
    for name, suffix in (("sheet", ".png"), ("html", ".html")):
        path = getattr(args, name)
        if path and path.suffix.lower() != suffix:
            raise ToolError(f"--{name} {path} must end in {suffix}")


def run(args: argparse.Namespace) -> int:
    check_places(args)
    progress = sys.stderr.isatty() and not args.json
    dataset = data.load(args.data, good_alone=True)
    told = report(dataset, progress)
    found = verdicts(told, dataset)
    contact = None
    if dataset.good_alone and (args.sheet or args.checkpoint):
        raise ToolError(f"{args.data} has good pictures alone, none of which can be suspect: give no --sheet")
    if not dataset.good_alone and (args.sheet or args.html or args.checkpoint):
        readable = [picture for picture in dataset.pictures() if str(picture.path) not in told["broken"]]
        shown = suspects(dataset, readable, args.checkpoint, progress)
        sure = sum(one.probability >= SURE for one in shown)
        told["suspects"] = [asdict(one) for one in shown[: args.suspects]]
        if sure:
            found.append(
                Verdict("warning", f"{sure} labels are suspect ({SURE:.0%} sure of the other side): look at each")
            )
        contact = sheet(shown[: args.suspects])
    told["verdicts"] = [asdict(one) for one in found]
    if args.sheet and contact:
        write(args.sheet, png(contact))
    if args.html:
        write(args.html, page(table(told), contact).encode())
    print(json.dumps(told) if args.json else table(told))
    return int(any(one.level == "error" for one in found))
