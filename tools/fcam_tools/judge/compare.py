"""Two networks side by side on the same pictures. In: two bundles or checkpoints, a data set. Out: a table, a sheet.

Each is judged as it would run: bundles in ONNX Runtime, checkpoints in PyTorch, at their own input size and their own
thresholds. A metric's difference (B - A) has a 95 % percentile interval from a paired bootstrap: both networks see the
same drawn pictures, OK and defective ones drawn apart, so what is hard for both cancels out. An interval that holds
zero is no difference that these pictures can show.

Pixels are drawn with their pictures. For that each picture keeps histograms: the values of PxAP as they are, those of
AUPRO through the logit (AUPRO knows only their order, and trained maps crowd at 0 and 1).

The sheet shows the pictures on which the verdicts differ, the surest first: the picture, what A marks, what B marks.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from fcam_tools import data
from fcam_tools.common import contact, disk, run_folder, tables
from fcam_tools.common.contact import Tile
from fcam_tools.common.errors import ToolError
from fcam_tools.common.program import refuse_damaged
from fcam_tools.data import made_up
from fcam_tools.judge.evaluate import Source, decoder_source, onnx_source, thinned
from fcam_tools.judge.truth import Truth, truth_of
from fcam_tools.measure import held_out, judgement, operating
from fcam_tools.measure.metrics import PXAP_BINS, image_ap, image_auroc, pxap_bins
from fcam_tools.model.bundle import read_manifest
from fcam_tools.model.checkpoint import load_checkpoint

Floats = NDArray[np.float64]

AUPRO_LIMIT = 0.3
LOGIT_BINS = 2000
LOGIT_SPAN = 20.0
TILE = 160  # side of a picture on the sheet
TINT = {"A": (255, 140, 0), "B": (0, 160, 255)}


@dataclass(frozen=True)
class Network:
    """A network that can be asked about pictures, whatever file it came in."""

    name: str
    classes: tuple[str, ...]
    size: tuple[int, int]
    thresholds: dict[str, float]
    source: Source
    provenance: dict[str, str] = field(default_factory=dict)


def open_network(path: Path) -> Network:
    """A bundle's directory, a checkpoint's file, or a run's folder."""
    if (path / "manifest.toml").is_file():
        manifest = read_manifest(path)
        classes = tuple(entry["name"] for entry in manifest["classes"])
        ok = next(index for index, entry in enumerate(manifest["classes"]) if entry.get("ok"))
        size = (manifest["input"]["width"], manifest["input"]["height"])
        return Network(
            str(path),
            classes,
            size,
            manifest["thresholds"],
            onnx_source(path, ok),
            manifest.get("provenance", {}),
        )
    if not run_folder.checkpoint_in(path).is_file():
        raise ToolError(f"{path} is neither a bundle nor a checkpoint nor a run with one")
    checkpoint = load_checkpoint(path)
    ok = checkpoint.classes.index(checkpoint.ok)
    source = decoder_source(checkpoint, ok)
    classes, provenance = tuple(checkpoint.classes), checkpoint.provenance
    return Network(str(path), classes, checkpoint.size, checkpoint.thresholds, source, provenance)


@dataclass
class Answers:
    """What one network made of a split: scores, verdicts, and each picture's histograms where masks exist."""

    scores: Floats
    rejected: NDArray[np.bool_]
    pixels: NDArray[np.int64] | None = None  # [N, 2, PxAP bins]: OK and defect pixels
    background: NDArray[np.int64] | None = None  # [N, logit bins]
    recalls: Floats | None = None  # [N, logit bins]: sum over a picture's regions of the share that lies in the bin
    regions: NDArray[np.int64] | None = None  # [N]


def ask(network: Network, truth: Truth, with_masks: bool, progress: bool) -> Answers:
    count = len(truth.pictures)
    scores = np.zeros(count)
    pixels, background = np.zeros((count, 2, PXAP_BINS), np.int64), np.zeros((count, LOGIT_BINS), np.int64)
    recalls, regions = np.zeros((count, LOGIT_BINS)), np.zeros(count, np.int64)
    for index, picture in enumerate(tqdm(truth.pictures, network.name, unit="picture", disable=not progress)):
        found, score_map = network.source(picture.path)
        scores[index] = min(max(found, 0.0), 1.0)
        if not with_masks:
            continue
        mask = truth.mask(picture)
        if mask is None and picture.label:
            continue
        inside = np.zeros(score_map.shape, bool) if mask is None else mask
        pixels[index] = np.bincount(pxap_bins(score_map.ravel()) + PXAP_BINS * inside.ravel(), minlength=2 * PXAP_BINS
                                    ).reshape(2, PXAP_BINS)  # fmt: skip
        bins = logit_bins(score_map)
        background[index] = np.bincount(bins[~inside], minlength=LOGIT_BINS)
        recalls[index], regions[index] = region_bins(bins, inside)
    rejected = scores >= network.thresholds["score"]
    return Answers(scores, rejected, pixels, background, recalls, regions) if with_masks else Answers(scores, rejected)


def logit_bins(score_map: np.ndarray) -> NDArray[np.int64]:
    """Equal steps of log(p / (1 - p)) from -20 to 20."""
    p = np.clip(score_map.astype(np.float64), 1e-12, 1 - 1e-12)
    share = (np.log(p / (1 - p)) + LOGIT_SPAN) / (2 * LOGIT_SPAN)
    return np.clip((share * LOGIT_BINS).astype(np.int64), 0, LOGIT_BINS - 1)


def region_bins(bins: NDArray[np.int64], mask: NDArray[np.bool_]) -> tuple[Floats, int]:
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    region = labels[mask]
    weights = 1.0 / np.bincount(region, minlength=count)[region]
    return np.bincount(bins[mask], weights=weights, minlength=LOGIT_BINS).astype(np.float64), count - 1


# Metrics of pictures that count `times` times.


def pxap(answers: Answers, times: NDArray[np.int64]) -> float:
    """0..100, as metrics.PixelCurve."""
    assert answers.pixels is not None
    false_positive, true_positive = np.tensordot(times, answers.pixels, 1)[:, ::-1].cumsum(axis=1)
    found = np.maximum(true_positive + false_positive, 1)
    return 100 * float((true_positive / found) @ np.diff(true_positive, prepend=0) / max(1, true_positive[-1]))


def aupro(answers: Answers, times: NDArray[np.int64]) -> float:
    assert answers.background is not None and answers.recalls is not None and answers.regions is not None
    background = (times @ answers.background)[::-1].cumsum()
    recall = np.append(0.0, (times @ answers.recalls)[::-1].cumsum() / max(1, int(times @ answers.regions)))
    rate = np.append(0.0, background / max(1, background[-1]))
    ends = np.append(rate[rate < AUPRO_LIMIT], AUPRO_LIMIT)
    # Of several recalls at one rate the last counts: the curve steps up before it goes on.
    unique, first = np.unique(rate[::-1], return_index=True)
    values = np.interp(ends, unique, recall[::-1][first])
    values[: len(ends) - 1] = recall[: len(ends) - 1]
    return float(np.trapezoid(values, ends)) / AUPRO_LIMIT


def repeated(metric: Callable[..., float | None], answers: Answers, labels: np.ndarray, times: np.ndarray) -> float:
    chosen = np.repeat(np.arange(len(times)), times)
    value = metric(answers.scores[chosen], labels[chosen])
    return np.nan if value is None else value


def share(answers: Answers, labels: np.ndarray, times: np.ndarray, bad: bool) -> float:
    """Escape rate (`bad`) or false-reject rate at the network's own threshold."""
    counted = times * (labels == bad)
    wrong = answers.rejected != bad
    return float(counted @ wrong / counted.sum()) if counted.sum() else np.nan


def metrics_of(answers: Answers, labels: np.ndarray, times: np.ndarray) -> dict[str, float]:
    out = {
        "image_auroc": repeated(image_auroc, answers, labels, times),
        "image_ap": repeated(image_ap, answers, labels, times),
        "escape_rate": share(answers, labels, times, True),
        "false_reject_rate": share(answers, labels, times, False),
    }
    if answers.pixels is not None:
        out |= {"pxap": pxap(answers, times), "aupro_030": aupro(answers, times)}
    return out


def differences(a: Answers, b: Answers, labels: np.ndarray, count: int, seed: int) -> dict[str, dict[str, Any]]:
    """Each metric of both, their difference B - A, and its interval."""
    ones = np.ones(len(labels), np.int64)
    first, second = metrics_of(a, labels, ones), metrics_of(b, labels, ones)
    drawn: dict[str, list[float]] = {name: [] for name in first}
    for times in operating.draws(labels.astype(bool), count, seed):
        one, other = metrics_of(a, labels, times), metrics_of(b, labels, times)
        for name in drawn:
            drawn[name].append(other[name] - one[name])
    out = {}
    for name, values in drawn.items():
        low, high = operating.percentiles(values)
        told = {"a": first[name], "b": second[name], "difference": second[name] - first[name]}
        out[name] = told | {"interval": (low, high), "differs": not low <= 0 <= high}
    return out


# Where they disagree.


def disagreements(a: Answers, b: Answers, truth: Truth) -> list[dict[str, Any]]:
    """Pictures with two verdicts, those first whose scores are farthest apart."""
    differ = np.flatnonzero(a.rejected != b.rejected)
    order = differ[np.argsort(-np.abs(a.scores - b.scores)[differ], kind="stable")]
    return [
        {
            "picture": str(truth.pictures[i].path),
            "class": truth.classes[truth.pictures[i].label],
            "a": {"score": float(a.scores[i]), "verdict": verdict(a, i)},
            "b": {"score": float(b.scores[i]), "verdict": verdict(b, i)},
            "right": "a" if a.rejected[i] == bool(truth.pictures[i].label) else "b",
        }
        for i in order
    ]


def verdict(answers: Answers, index: int) -> str:
    return "reject" if answers.rejected[index] else "pass"


def overlay(pixels: np.ndarray, score_map: np.ndarray, threshold: float, colour: tuple[int, int, int]) -> np.ndarray:
    """The picture with what is marked tinted and outlined; uint8 [H, W, 3]."""
    side = pixels.shape[1], pixels.shape[0]
    marked = cv2.resize(score_map.astype(np.float32), side, interpolation=cv2.INTER_LINEAR) >= threshold
    out = pixels.copy()
    out[marked] = (0.6 * out[marked] + 0.4 * np.array(colour)).astype(np.uint8)
    outlines, _ = cv2.findContours(marked.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(out, outlines, -1, colour, 1)


def sheet(entries: list[dict[str, Any]], networks: dict[str, Network], out: Path) -> None:
    """A row a picture: as it is, what A marks, what B marks."""
    tiles = []
    for entry in entries:
        path = Path(entry["picture"])
        pixels = data.read_picture(path, (TILE, TILE))
        tiles.append(Tile(Image.fromarray(pixels), ((f"{entry['class']}: {path.name}", "black"),)))
        for name, network in networks.items():
            marked = overlay(pixels, network.source(path)[1], network.thresholds["map"], TINT[name])
            told, right = entry[name.lower()], " (right)" if entry["right"] == name.lower() else ""
            text = f"{name}: {told['verdict']} {told['score']:.3f}{right}"
            tiles.append(Tile(Image.fromarray(marked), ((text, "black"),)))
    disk.write(out, disk.png(contact.sheet(tiles, 1 + len(networks), TILE, 1)))


def compare(
    a: Network, b: Network, dataset: data.Dataset, split: str, limit: int | None, count: int, seed: int, progress: bool
) -> dict[str, Any]:
    for network in (a, b):
        judgement.refuse_unknown(network.name, network.classes, network.provenance, dataset.classes)
    pictures = thinned(dataset.splits[split], limit)
    if not pictures:
        raise ToolError(f"split `{split}` of {dataset.root} is empty: choose another with --split")
    refuse_damaged([picture.path for picture in pictures], progress)
    labels = np.array([int(picture.label != 0) for picture in pictures])
    truths = [truth_of(dataset, split, network.size, pictures) for network in (a, b)]
    with_masks = truths[0].has_masks
    first, second = ask(a, truths[0], with_masks, progress), ask(b, truths[1], with_masks, progress)
    unit, alone = held_out.unit_in(pictures), dataset.good_alone
    networks = {"a": (a, first), "b": (b, second)}
    figures = {
        name: judgement.figures(answers.scores, labels, network.thresholds["score"], split, unit, alone).plain()
        for name, (network, answers) in networks.items()
    }
    return {
        "a": a.name,
        "b": b.name,
        "held_out": figures,
        "data": dataset.name,
        "split": split,
        "pictures": len(pictures),
        "defects": int(labels.sum()),
        "metrics": differences(first, second, labels, count, seed),
        "disagreements": disagreements(first, second, truths[0]),
    }


def table(found: dict[str, Any]) -> str:
    lines = [f"A {found['a']}\nB {found['b']}\n{found['pictures']} pictures of {found['data']}/{found['split']}\n"]
    lines += [f"{name}: {found['held_out'][name.lower()]['sentence']}" for name in ("A", "B")]
    rows = []
    for name, told in found["metrics"].items():
        number = f"{{:.{2 if name == 'pxap' else 4}f}}".format
        low, high = map(number, told["interval"])
        mark = "" if told["differs"] else "   (no difference shown)"
        rows.append([name, *(number(told[key]) for key in ("a", "b", "difference")), f"{low} to {high}{mark}"])
    lines.append("\n" + tables.table(["", "A", "B", "B - A", "95 % interval"], rows))
    differ = found["disagreements"]
    right = sum(entry["right"] == "b" for entry in differ)
    last = [judgement.ALONE] if found["held_out"]["a"]["made_up"] else []
    verdicts = f"\n{len(differ)} verdicts differ: A is right in {len(differ) - right}, B in {right}"
    return "\n".join([*lines, *last, verdicts])


# The verb.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, help="a bundle, a checkpoint or a run folder")
    parser.add_argument("b", type=Path, help="another of them, to compare it with")
    parser.add_argument("data", help="the data set, as for `train`")
    parser.add_argument("--split", choices=data.SPLITS, default="test", help="pictures to score (default: %(default)s)")
    parser.add_argument("--sheet", type=Path, default=Path("compare.png"), help="PNG of the pictures with two verdicts")
    parser.add_argument("--most", type=int, default=24, help="pictures on the sheet (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="only so many pictures, evenly taken")
    parser.add_argument("--draws", type=int, default=500, help="bootstrap draws (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    networks = {"A": open_network(args.a), "B": open_network(args.b)}
    progress = sys.stderr.isatty() and not args.json
    dataset = made_up.load(args.data)
    a, b = networks.values()
    found = compare(a, b, dataset, args.split, args.limit, args.draws, args.seed, progress)
    if entries := found["disagreements"][: args.most]:
        sheet(entries, networks, args.sheet)
        found["sheet"] = str(args.sheet)
    print(json.dumps(found) if args.json else table(found) + (f"; see {args.sheet}" if entries else ""))
    return 0
