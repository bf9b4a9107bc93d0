"""One table of a data set: seeds x backbones x {interpolated, decoder}. In: a data set. Out: CSV, Markdown, plot.

The classifier of a backbone is trained once and shared by all seeds; each kind of seed is scored as it is,
interpolated, and through the decoder that it taught. A row is written as soon as it is known, by a rename: killed at
any moment, the same command goes on with the first row that is missing. A row belongs to its settings (pictures,
recipe, sizes), whose hash it carries; rows of other settings stay in the CSV and out of the Markdown and the plot.

Beside OUT.csv come OUT.md, OUT.png and a folder OUT/ with classifiers, decoders and IoU curves.
`seconds` and `macs` are those of one picture's map on this machine's CPU and thread count: forward, and backward where
the map needs gradients. Thresholds: `f1` and `iou` at 0.5, fixed beforehand; `f1_best` and `iou_best` by an oracle.
`flat` is the share of the thresholds from 0.1 to 0.9 at which the IoU is at least 0.9 of its best.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before pyplot: there may be no display
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fcam_tools import data
from fcam_tools.common import spread
from fcam_tools.common.disk import write
from fcam_tools.common.errors import ToolError
from fcam_tools.common.run_folder import save
from fcam_tools.data.copies import add_leak_argument, refuse_leaks
from fcam_tools.data.layout import TEXT
from fcam_tools.judge import evaluate
from fcam_tools.judge.truth import truth_of
from fcam_tools.model.checkpoint import Checkpoint, load_checkpoint
from fcam_tools.model.network import DEFAULT_BACKBONE, multiply_adds
from fcam_tools.train import methods, seeds, train
from fcam_tools.train.options import TOLD

log = logging.getLogger(__name__)

MAPS = ("interpolated", "decoder")
KEY = ("settings", "dataset", "seed", "backbone", "map")
# The CSV's column, and where it comes from in Scorer.compute.
METRICS = {
    "pxap": "pxap", "auroc": "image_auroc", "pixel_auroc": "pixel_auroc", "aupro": "aupro_030",
    "maxboxacc": "max_box_acc_v1", "maxboxacc_v2": "max_box_acc_v2", "f1": "f1_fixed", "f1_best": "f1_max",
    "iou": "iou_fixed",
}  # fmt: skip
COSTS = ("seconds", "macs", "params", "train_seconds")
COLUMNS = ("dataset", "seed", "backbone", "map", *METRICS, "iou_best", "flat", *COSTS, "test_pictures", "settings")
SHOWN = tuple(name for name in COLUMNS if name not in ("dataset", "test_pictures", "settings"))
FIXED = 0.5
FEWEST_STEPS = 200  # below, a decoder's figures tell of its steps
TIMED = 5  # runs of which the median is told

Row = dict[str, str]


@dataclass(frozen=True)
class Plan:
    """What the table has, and the settings of all its rows."""

    dataset: data.Dataset
    recipe: train.Recipe
    seeds: tuple[str, ...]
    backbones: tuple[str, ...]
    out: Path
    settings: str

    @property
    def folder(self) -> Path:
        return self.out.with_suffix("")

    def file(self, kind: str, name: str) -> Path:
        folder = self.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}-{self.settings}{'.json' if kind == 'curves' else '.pt'}"

    def wanted(self) -> list[tuple[str, ...]]:
        """The rows wanted, in order."""
        return [
            (self.settings, self.dataset.name, seed, backbone, found)
            for backbone in self.backbones
            for seed in self.seeds
            for found in MAPS
        ]


def settings_of(dataset: data.Dataset, recipe: train.Recipe) -> str:
    """Short hash of whatever a number in the table depends on, but the seed and the backbone."""
    numbers = asdict(replace(recipe, seeds="", backbone=""))
    content = json.dumps([dataset.fingerprint(), numbers], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def thin(dataset: data.Dataset, per_class: int | None) -> data.Dataset:
    """At most so many pictures of each class in each split, evenly taken."""
    if per_class is None:
        return dataset
    splits = {}
    for split, pictures in dataset.splits.items():
        groups = [[p for p in pictures if p.label == label] for label in range(len(dataset.classes))]
        splits[split] = tuple(p for group in groups for p in evaluate.thinned(group, per_class))
    return replace(dataset, splits=splits)


# The rows on disk.


def read_rows(path: Path) -> dict[tuple[str, ...], Row]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding=TEXT) as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ToolError(f"{path} has other columns than this version writes: give another --out")
        return {tuple(row[name] for name in KEY): row for row in reader}


def write_rows(path: Path, rows: Mapping[tuple[str, ...], Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    write(path, text.getvalue().encode())


# What a row takes.


def classifier_of(plan: Plan, backbone: str, progress: bool) -> Path:
    """The backbone's classifier, trained now if it is not there."""
    path = plan.file("classifiers", backbone)
    if not path.is_file():
        recipe = replace(plan.recipe, backbone=backbone, seeds="cam", decoder_epochs=0)
        checkpoint, _ = train.fit(recipe, plan.dataset, progress)
        save(path, checkpoint)
    return path


def decoder_of(plan: Plan, backbone: str, seed: str, progress: bool) -> Path:
    """The decoder that a kind of seed teaches on the backbone's classifier, trained now if it is not there."""
    path = plan.file("decoders", f"{backbone}-{seed}")
    if not path.is_file():
        start = str(classifier_of(plan, backbone, progress))
        recipe = replace(plan.recipe, backbone=backbone, seeds=seed, start=start, epochs=0, pretrained=False)
        checkpoint, _ = train.fit(recipe, plan.dataset, progress)
        save(path, checkpoint)
    return path


def make_row(plan: Plan, key: tuple[str, ...], progress: bool) -> Row:
    """Train what is missing, score, time and count; leaves the IoU curve beside."""
    _, name, seed, backbone, found = key
    decoded = found == "decoder"
    path = decoder_of(plan, backbone, seed, progress) if decoded else classifier_of(plan, backbone, progress)
    checkpoint = load_checkpoint(path)
    ok = checkpoint.classes.index(checkpoint.ok)
    source = (
        evaluate.decoder_source(checkpoint, ok)
        if decoded
        else evaluate.cam_source(checkpoint.net, checkpoint.sight, ok, seed)
    )
    title = f"{backbone} {seed} {found}"
    truth = truth_of(plan.dataset, "test", checkpoint.size)
    scorer = evaluate.scored(truth, source, checkpoint.thresholds, title, progress)
    curve, measured = scorer.iou_curve() or [], scorer.compute()
    write(plan.file("curves", f"{backbone}-{seed}-{found}"), json.dumps(curve).encode())
    seconds, macs = cost(checkpoint, None if decoded else seed)
    values: dict[str, Any] = {column: measured[metric] for column, metric in METRICS.items()}
    values |= {"iou_best": max(curve, default=None), "flat": flatness(curve), "seconds": seconds, "macs": macs}
    values |= {"params": parameters(checkpoint, decoded), "train_seconds": trained(path)}
    values |= {"dataset": name, "seed": seed, "backbone": backbone, "map": found, "settings": plan.settings}
    values["test_pictures"] = len(truth.pictures)
    return {column: cell(values[column]) for column in COLUMNS}


def flatness(curve: Sequence[float]) -> float | None:
    """Share of the thresholds from 0.1 to 0.9 at which the IoU is at least 0.9 of its best."""
    middle = curve[100:901]
    return sum(value >= 0.9 * max(curve) for value in middle) / len(middle) if middle else None


def cost(checkpoint: Checkpoint, method: str | None) -> tuple[float, int]:
    """Median seconds and multiply-adds of one picture's map at full size: of the decoder, or of a method."""
    width, height = checkpoint.size
    net, x = checkpoint.net.eval().cpu(), torch.rand(1, 3, height, width) * 2 - 1

    @torch.no_grad()
    def through_decoder() -> Tensor:
        return net(x)[1]

    def interpolated() -> Tensor:
        coarse = seeds.scale(seeds.batch_maps(net, x, [1], method or ""))
        return F.interpolate(coarse[:, None], size=(height, width), mode="bilinear", align_corners=False)

    work = interpolated if method else through_decoder
    macs = multiply_adds(work)
    return statistics.median(timed(work) for _ in range(TIMED)), macs


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def parameters(checkpoint: Checkpoint, decoded: bool) -> int:
    net = checkpoint.net
    parts = (net.features, net.classifier, *([net.decoder] if decoded else []))
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def trained(path: Path) -> float:
    """Seconds that training this file took: a decoder's are without its classifier's."""
    return float(torch.load(path, map_location="cpu", weights_only=True)["training"]["seconds"])


def cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


# The whole.


def make(plan: Plan, progress: bool, jobs: int = 1) -> list[Row]:
    """All rows of a plan, those that are there already as they are; the Markdown and the plot follow each new one."""
    rows = read_rows(plan.out)
    missing = [key for key in plan.wanted() if key not in rows]
    steps = plan.recipe.decoder_epochs * -(-len(plan.dataset.splits["train"]) // plan.recipe.batch)
    if steps < FEWEST_STEPS:
        log.warning("%d steps are too few for a decoder: give more --decoder-epochs to compare maps by", steps)
    log.info("%d rows wanted, %d of them there", len(plan.wanted()), len(plan.wanted()) - len(missing))
    found = made(plan, missing, progress) if jobs == 1 else made_by_several(plan, missing, jobs)
    for key, row in tqdm(found, "rows", total=len(missing), unit="row", disable=not progress):
        rows[key] = row
        rows = {known: rows[known] for known in [*plan.wanted(), *rows] if known in rows}
        write_rows(plan.out, rows)
        log.info("%s", " ".join((*key[2:], "pxap", row["pxap"] or "-", "iou", row["iou"] or "-")))
        publish(plan, rows)
    publish(plan, rows)
    return [rows[key] for key in plan.wanted()]


def made(plan: Plan, keys: Sequence[tuple[str, ...]], progress: bool) -> Iterator[tuple[tuple[str, ...], Row]]:
    for key in keys:
        yield key, make_row(plan, key, progress)


def made_by_several(plan: Plan, keys: Sequence[tuple[str, ...]], jobs: int) -> Iterator[tuple[tuple[str, ...], Row]]:
    """Rows in the order in which they are done, by so many processes of one thread each; classifiers come first.

    Rows are trained and scored side by side, so their seconds are those of a busy machine.
    """
    with spread.pool(jobs) as pool:
        backbones = dict.fromkeys(key[3] for key in keys)
        wait_for([pool.submit(classifier_of, plan, backbone, False) for backbone in backbones])
        # A decoder takes longest: those begin first.
        order = sorted(keys, key=lambda key: key[4] != "decoder")
        asked = {pool.submit(make_row, plan, key, False): key for key in order}
        for done in as_completed(asked):
            yield asked[done], done.result()


def wait_for(asked: Sequence[Future[Any]]) -> None:
    for done in as_completed(asked):
        done.result()


def publish(plan: Plan, rows: Mapping[tuple[str, ...], Row]) -> None:
    done = [rows[key] for key in plan.wanted() if key in rows]
    write(plan.out.with_suffix(".md"), markdown(plan, done).encode())
    if done:
        plot(plan, done)


def markdown(plan: Plan, rows: Sequence[Row]) -> str:
    recipe = plan.recipe
    counts = ", ".join(f"{len(found)} {split}" for split, found in plan.dataset.splits.items())
    lines = [
        f"# {plan.dataset.name}",
        "",
        f"Recipe `{recipe.recipe}`, {recipe.size} x {recipe.size} pixels, {recipe.epochs} epochs of classifier and "
        f"{recipe.decoder_epochs} of decoder; pictures: {counts}. Settings {plan.settings}. PxAP and MaxBoxAcc are 0 "
        "to 100. `f1` and `iou`: map threshold 0.5, fixed beforehand; `_best`: by an oracle. `seconds` and `macs`: one "
        "picture's map, batch 1.",
        "",
        "| " + " | ".join(SHOWN) + " |",
        "|" + "---|" * len(SHOWN),
        *("| " + " | ".join(short(name, row[name]) for name in SHOWN) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def short(name: str, value: str) -> str:
    """A cell as people read it."""
    if not value:
        return "-"
    if name in ("seed", "backbone", "map"):
        return value
    if name in ("macs", "params"):
        return f"{float(value) / 1e6:.1f} M"
    return f"{float(value):.2f}" if name in ("pxap", "maxboxacc", "maxboxacc_v2") else f"{float(value):.3f}"


def curves(plan: Plan, rows: Sequence[Row]) -> Iterator[tuple[Row, list[float]]]:
    for row in rows:
        path = plan.file("curves", "-".join(row[name] for name in ("backbone", "seed", "map")))
        if path.is_file():
            yield row, json.loads(path.read_text())


def plot(plan: Plan, rows: Sequence[Row]) -> None:
    """A column a backbone: IoU over the map's threshold above, PxAP of each seed below."""
    shown = [name for name in plan.backbones if any(row["backbone"] == name for row in rows)]
    figure, axes = plt.subplots(2, len(shown), figsize=(4.5 * len(shown) + 1.5, 7), squeeze=False, sharey="row")
    colours = dict(zip(plan.seeds, plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
    for column, backbone in enumerate(shown):
        own = [row for row in rows if row["backbone"] == backbone]
        axes[0, column].set_title(backbone)
        draw_curves(axes[0, column], list(curves(plan, own)), colours)
        draw_bars(axes[1, column], own, plan.seeds, colours)
    axes[0, 0].set_ylabel("IoU of all test pixels")
    axes[0, 0].set_ylim(bottom=0)  # after all curves: it ends the automatic range
    axes[1, 0].set_ylabel("PxAP")
    figure.suptitle(f"{plan.dataset.name}: solid = decoder, dashed = interpolated")
    handles = [plt.Line2D([], [], color=colours[seed], label=seed) for seed in plan.seeds]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    plt.close(figure)
    write(plan.out.with_suffix(".png"), drawn.getvalue())


def draw_curves(axis: Any, found: Sequence[tuple[Row, list[float]]], colours: Mapping[str, Any]) -> None:
    for row, curve in found:
        style = "-" if row["map"] == "decoder" else "--"
        axis.plot([i / 1000 for i in range(len(curve))], curve, style, color=colours[row["seed"]])
    axis.axvline(FIXED, color="grey", linewidth=0.5)
    axis.set(xlim=(0, 1), xlabel="map threshold")


def draw_bars(axis: Any, rows: Sequence[Row], names: Sequence[str], colours: Mapping[str, Any]) -> None:
    for row in rows:
        if row["pxap"]:
            decoded = row["map"] == "decoder"
            look = {"color": colours[row["seed"]]} if decoded else {"fill": False, "edgecolor": colours[row["seed"]]}
            axis.bar(names.index(row["seed"]) + (0.2 if decoded else -0.2), float(row["pxap"]), 0.38, **look)
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right")


# The command line.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="the data set, as for `train`")
    parser.add_argument(
        "--seeds",
        nargs="+",
        choices=seeds.METHODS,
        default=["cam", "layercam", "product"],
        help="activation maps to compare",
    )
    parser.add_argument("--backbones", nargs="+", default=[DEFAULT_BACKBONE], help="see README; any of timm's")
    parser.add_argument("--out", type=Path, required=True, help="the CSV; Markdown, plot and folder lie beside it")
    parser.add_argument(
        "--recipe", choices=list(methods.RECIPES), default="inspection", help="by which the networks learn"
    )
    parser.add_argument("--per-class", type=int, help="at most so many pictures of each class in each split")
    for name in ("size", "epochs", "decoder-epochs", "batch", "stride", "seed"):
        parser.add_argument(f"--{name}", type=int, help=f"{TOLD[name.replace('-', '_')]}; in place of the recipe's")
    parser.add_argument("--pretrained", action=argparse.BooleanOptionalAction, default=True, help=TOLD["pretrained"])
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each (default 1, of all threads)")
    add_leak_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")


def plan_of(args: argparse.Namespace) -> Plan:
    if args.out.suffix != ".csv":
        raise ToolError(f"--out {args.out} must end in .csv")
    if args.per_class is not None and args.per_class < 1:
        raise ToolError(f"--per-class {args.per_class} leaves no pictures: give 1 or more")
    spread.checked(args.jobs)
    names = ("size", "epochs", "decoder_epochs", "batch", "stride", "seed")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    recipe = train.Recipe(**methods.named(args.recipe, given | {"pretrained": args.pretrained}))
    dataset = thin(data.load(args.data, ok_needed=recipe.objective != "fcam"), args.per_class)
    refuse_leaks(dataset, args.allow_leaks, sys.stderr.isatty() and not args.json)
    chosen, backbones = tuple(dict.fromkeys(args.seeds)), tuple(dict.fromkeys(args.backbones))
    return Plan(dataset, recipe, chosen, backbones, args.out, settings_of(dataset, recipe))


def run(args: argparse.Namespace) -> int:
    plan = plan_of(args)
    rows = make(plan, sys.stderr.isatty() and not args.json, args.jobs)
    print(json.dumps(rows) if args.json else markdown(plan, rows))
    return 0
