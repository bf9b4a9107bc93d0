"""The operating point that costs least. In: scores and labels, and the prices of an escape and of a false reject.
Out: thresholds for the image score and for the map, their rates, and how sure all of that is.

The expected cost of a part at a threshold is

    ng_rate * escape_rate * escape_cost + (1 - ng_rate) * false_reject_rate * reject_cost

with rates from the pictures and `ng_rate`, the share of bad parts on the line, from the user: a validation set is half
bad and a line is not. The threshold lies half-way between the two scores around the minimum.

Three kinds of interval, all of 95 %:
- threshold and cost: percentile bootstrap over pictures, OK and defective ones drawn apart (Efron and Tibshirani 1993);
- rates at the threshold: Clopper and Pearson (1934), exact, because a bootstrap of no escape in ten is no escape;
- `unseen`: rates on the pictures that a bootstrap draw left out, at that draw's own threshold: what the choice promises
  for pictures it was not made on.

The map's threshold. From image labels alone, a picture's map is summed up by the value that `min_area_px` of its pixels
reach, and the same cost chooses: marks on good parts against defective parts without any. With masks (asked for with
`--masks`, and said in the result), an escape is a region's share that stays unmarked, and every region weighs the same
(PRO): a scratch of ten pixels is worth as much as a stain of a thousand, and cannot be ignored. Where no threshold
saves a tenth of what marking everything or nothing costs, the map's threshold stays.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from fcam_tools.common.errors import ToolError
from fcam_tools.data import Picture
from fcam_tools.measure.metrics import check_labels, check_map, confusion

Floats = NDArray[np.float64]
Interval = tuple[float, float]

DRAWS = 1000
LEVEL = 0.95
USEFUL = 0.9  # a map threshold must save a tenth of what marking all or nothing costs, or the shipped one stays
MAP_STEPS = 1000  # map thresholds tried: 0.001, 0.002, ...


@dataclass(frozen=True)
class Prices:
    """What a mistake costs, in any one currency, and the share of defective parts on the line."""

    escape: float
    reject: float
    ng_rate: float

    def __post_init__(self) -> None:
        if not (self.escape > 0 and self.reject > 0 and math.isfinite(self.escape + self.reject)):
            raise ToolError(f"the prices are {self.escape} and {self.reject}: both must be above zero")
        if not 0 < self.ng_rate < 1:
            raise ToolError(f"--ng-rate {self.ng_rate} is no share between 0 and 1: pass 0.01 for one bad part in 100")

    def blind(self) -> float:
        """What a part costs where nothing is rejected, or everything, whichever is cheaper."""
        return min(self.ng_rate * self.escape, (1 - self.ng_rate) * self.reject)

    def cost(self, escape_rate: ArrayLike, false_reject_rate: ArrayLike) -> Floats:
        bad = self.ng_rate * self.escape * np.asarray(escape_rate, np.float64)
        return np.asarray(bad + (1 - self.ng_rate) * self.reject * np.asarray(false_reject_rate, np.float64))


@dataclass(frozen=True)
class Point:
    """A chosen threshold (reject at score >= threshold) and what it does on the pictures that chose it."""

    threshold: float
    threshold_interval: Interval
    escape_rate: float
    escape_interval: Interval
    false_reject_rate: float
    false_reject_interval: Interval
    cost: float
    cost_interval: Interval
    unseen_escape_rate: float
    unseen_false_reject_rate: float
    defects: int
    good: int


def exact_interval(count: int, of: int) -> Interval:
    """Clopper and Pearson's interval of a rate `count` / `of`."""
    if of == 0:
        return 0.0, 1.0
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, count, of - count + 1)) if count else 0.0
    return low, float(beta.ppf(1 - tail, count + 1, of - count)) if count < of else 1.0


def percentiles(values: ArrayLike) -> Interval:
    low, high = np.percentile(np.asarray(values), [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


class Sweep:
    """Rates at every threshold that scores of 0..1 can tell apart: `edges[i]` rejects the scores >= edges[i]."""

    def __init__(self, scores: Floats, truth: NDArray[np.bool_]) -> None:
        levels, self.level = np.unique(scores, return_inverse=True)
        between = (levels[1:] + levels[:-1]) / 2
        self.edges = np.concatenate([[levels[0] / 2], between, [(levels[-1] + max(1.0, levels[-1])) / 2]])
        self.truth = truth

    def rates(self, weights: ArrayLike) -> tuple[Floats, Floats]:
        """Escape and false-reject rates at each edge, pictures counted `weights` times."""
        counted = np.asarray(weights, np.float64)
        size = len(self.edges) - 1
        bad = np.bincount(self.level, counted * self.truth, size)
        good = np.bincount(self.level, counted * ~self.truth, size)
        missed = np.concatenate([[0.0], np.cumsum(bad)])
        rejected = good.sum() - np.concatenate([[0.0], np.cumsum(good)])
        return missed / max(1e-12, bad.sum()), rejected / max(1e-12, good.sum())

    def best(self, weights: ArrayLike, prices: Prices) -> tuple[int, float]:
        """The edge that costs least (amid equal ones the middle), and its cost."""
        costs = prices.cost(*self.rates(weights))
        least = np.flatnonzero(costs <= costs.min() + 1e-12)
        return int(least[len(least) // 2]), float(costs.min())


def draws(truth: NDArray[np.bool_], count: int, seed: int) -> Iterable[NDArray[np.int64]]:
    """How often each picture is in a bootstrap draw; defective and OK ones are drawn apart."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    for _ in range(count):
        times = np.zeros(len(truth), np.int64)
        for group in groups:
            times += np.bincount(rng.choice(group, len(group)), minlength=len(truth)) if len(group) else 0
        yield times


def choose(scores: ArrayLike, labels: ArrayLike, prices: Prices, count: int = DRAWS, seed: int = 0) -> Point:
    """The cheapest threshold on scores of 0..1; needs pictures of both labels."""
    values, truth = check_labels(scores, labels)
    if truth.all() or not truth.any():
        raise ToolError("an operating point needs OK and defective pictures: add what is missing")
    sweep = Sweep(values, truth)
    best, _ = sweep.best(np.ones(len(values)), prices)
    threshold = float(np.clip(np.float32(sweep.edges[best]), 0.001, 0.999))
    thresholds, costs, unseen = [], [], []
    for times in draws(truth, count, seed):
        edge, _ = sweep.best(times, prices)
        thresholds.append(sweep.edges[edge])
        left = times == 0
        if (left & truth).any() and (left & ~truth).any():
            escape, reject = sweep.rates(left)
            unseen.append((escape[edge], reject[edge]))
        here_escape, here_reject = sweep.rates(times)
        costs.append(float(prices.cost(here_escape[best], here_reject[best])))
    counts = confusion(values, truth, threshold)
    bad, good = int(truth.sum()), int((~truth).sum())
    escape_rate, reject_rate = float(counts["escape_rate"] or 0), float(counts["false_reject_rate"] or 0)
    later = np.mean(unseen, axis=0) if unseen else np.array([math.nan, math.nan])
    return Point(
        threshold=threshold,
        threshold_interval=percentiles(thresholds),
        escape_rate=escape_rate,
        escape_interval=exact_interval(int(counts["defects_accepted"] or 0), bad),
        false_reject_rate=reject_rate,
        false_reject_interval=exact_interval(int(counts["ok_rejected"] or 0), good),
        cost=float(prices.cost(escape_rate, reject_rate)),
        cost_interval=percentiles(costs),
        unseen_escape_rate=float(later[0]),
        unseen_false_reject_rate=float(later[1]),
        defects=bad,
        good=good,
    )


def at(scores: ArrayLike, labels: ArrayLike, threshold: float, prices: Prices) -> dict[str, Any]:
    """Rates with their exact intervals, and the cost, of a threshold that was chosen elsewhere."""
    counts = {name: float(value or 0) for name, value in confusion(scores, labels, threshold).items()}
    bad = counts["defects_rejected"] + counts["defects_accepted"]
    good = counts["ok_rejected"] + counts["ok_accepted"]
    return {
        "escape_rate": counts["escape_rate"],
        "escape_interval": exact_interval(int(counts["defects_accepted"]), int(bad)),
        "false_reject_rate": counts["false_reject_rate"],
        "false_reject_interval": exact_interval(int(counts["ok_rejected"]), int(good)),
        "cost": float(prices.cost(counts["escape_rate"], counts["false_reject_rate"])),
    }


# The map's threshold.


def peak_of(score_map: ArrayLike, min_area_px: int) -> float:
    """The value that `min_area_px` pixels of the map reach: above it, too little is marked to be drawn."""
    flat = check_map(score_map).ravel()
    area = min(max(1, min_area_px), flat.size)
    return float(np.partition(flat, flat.size - area)[flat.size - area])


class Regions:
    """Recall of each defect region at each map threshold, one picture after another."""

    def __init__(self) -> None:
        self.edges = np.arange(1, MAP_STEPS) / MAP_STEPS
        self.recalls: list[Floats] = []

    def update(self, score_map: ArrayLike, mask: ArrayLike) -> None:
        scores, truth = check_map(score_map), np.asarray(mask, bool)
        count, regions = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
        for region in range(1, count):
            inside = np.sort(scores[regions == region].astype(np.float64))
            self.recalls.append(1 - np.searchsorted(inside, self.edges, side="left") / len(inside))


def choose_map(
    peaks: ArrayLike, labels: ArrayLike, prices: Prices, regions: Regions | None, count: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """The map's threshold: from image labels (`peaks`, see `peak_of`), or per region where there are masks."""
    values, truth = check_labels(peaks, labels)
    if regions is None or not regions.recalls:
        return {"chosen_by": "image labels"} | asdict(choose(values, truth, prices, count, seed))
    recall = np.array(regions.recalls)
    good = np.sort(values[~truth])
    rng = np.random.default_rng(seed)

    def at(rows: Floats, marks: Floats) -> tuple[int, Floats, Floats, Floats]:
        missed = 1 - rows.mean(axis=0)
        marked = 1 - np.searchsorted(np.sort(marks), regions.edges, side="left") / max(1, len(marks))
        costs = prices.cost(missed, marked)
        least = np.flatnonzero(costs <= costs.min() + 1e-12)
        return int(least[len(least) // 2]), missed, marked, costs

    best, missed, marked, costs = at(recall, good)
    found = []
    for _ in range(count):
        rows, marks = rng.integers(0, len(recall), len(recall)), rng.integers(0, max(1, len(good)), len(good))
        edge, again, remarked, _ = at(recall[rows], good[marks])
        found.append((regions.edges[edge], again[best], remarked[best]))
    thresholds, escapes, rejects = np.array(found).T
    return {
        "chosen_by": "masks, every region alike",
        "threshold": float(regions.edges[best]),
        "threshold_interval": percentiles(thresholds),
        "pro": float(1 - missed[best]),
        "pro_interval": percentiles(1 - escapes),
        "ok_marked_rate": float(marked[best]),
        "ok_marked_interval": percentiles(rejects),
        "cost": float(costs[best]),
        "regions": len(recall),
        "good": len(good),
    }


# From pictures to thresholds.


@dataclass
class Measured:
    """What a source of answers made of a split."""

    scores: list[float]
    labels: list[int]
    peaks: list[float]
    regions: Regions | None

    def points(self, prices: Prices) -> dict[str, Any]:
        """The operating point of the score and of the map, as plain values."""
        score = asdict(choose(self.scores, self.labels, prices))
        found = choose_map(self.peaks, self.labels, prices, self.regions)
        found["useful"] = found["cost"] < USEFUL * prices.blind()
        return {"prices": asdict(prices), "score": score, "map": found}


def measure(
    pictures: Iterable[Picture],
    source: Callable[[Path], tuple[float, Floats]],
    min_area_px: int,
    mask: Callable[[Picture], np.ndarray | None] | None = None,
) -> Measured:
    """Scores, labels and maps' peaks of a split; `mask` only where pixel labels may choose the map's threshold."""
    out = Measured([], [], [], Regions() if mask else None)
    for picture in pictures:
        score, found = source(picture.path)
        out.scores.append(min(max(score, 0.0), 1.0))
        out.labels.append(int(picture.label != 0))
        out.peaks.append(peak_of(found, min_area_px))
        truth = mask(picture) if mask else None
        if truth is not None and out.regions:
            out.regions.update(found, truth)
    return out


def shipped(limits: dict[str, float], points: dict[str, Any]) -> dict[str, float]:
    """A bundle's thresholds at an operating point; the low map threshold keeps its proportion to the high one."""
    chosen = limits | {"score": float(points["score"]["threshold"])}
    if not points["map"]["useful"]:
        return chosen
    high = float(points["map"]["threshold"])
    return chosen | {"map": high, "map_low": high * limits["map_low"] / limits["map"]}


# The command line's part, for every verb that can take an operating point.


def add_price_arguments(parser: argparse.ArgumentParser, masks: bool = True) -> None:
    group = parser.add_argument_group("operating point", "choose the thresholds by cost, on the val split")
    group.add_argument("--escape-cost", type=float, help="price of a defective part that passes")
    group.add_argument("--reject-cost", type=float, help="price of a good part that is rejected")
    group.add_argument("--ng-rate", type=float, help="share of defective parts on the line (default: the val split's)")
    if masks:
        told = "choose the map's threshold with masks, region by region"
        group.add_argument("--masks", action="store_true", help=told)


def prices_of(args: argparse.Namespace, labels: ArrayLike) -> Prices | None:
    """The prices that were given; without --ng-rate the pictures' own share, which is said."""
    if args.escape_cost is None and args.reject_cost is None:
        if args.ng_rate is not None or getattr(args, "masks", False):
            raise ToolError("--ng-rate and --masks belong to --escape-cost and --reject-cost: give the prices")
        return None
    if args.escape_cost is None or args.reject_cost is None:
        raise ToolError("--escape-cost and --reject-cost go together: give both")
    share = float(np.mean(np.asarray(labels) != 0)) if args.ng_rate is None else args.ng_rate
    return Prices(args.escape_cost, args.reject_cost, share)


def extreme_of(point: dict[str, Any]) -> str:
    """`accept` or `reject` where a score's threshold does so with every picture that chose it; else nothing."""
    if point.get("escape_rate") == 1:
        return "accept"
    return "reject" if point.get("false_reject_rate") == 1 else ""


def shown(point: dict[str, Any]) -> str:
    """One line for people."""
    low, high = point["threshold_interval"]
    line = f"threshold {point['threshold']:.4f} ({low:.4f} to {high:.4f})"
    for name in ("escape", "false_reject"):
        if f"{name}_rate" in point:
            low, high = point[f"{name}_interval"]
            line += f", {name.replace('_', ' ')}s {point[f'{name}_rate']:.4f} ({low:.4f} to {high:.4f}"
            line += f"; unseen {point[f'unseen_{name}_rate']:.4f})"
    if "pro" in point:
        line += f", PRO {point['pro']:.4f}, good parts marked {point['ok_marked_rate']:.4f}"
    line += f", cost a part {point['cost']:.4g}"
    line += f": THE CHEAPEST IS TO {extreme.upper()} EVERYTHING" if (extreme := extreme_of(point)) else ""
    return line if point.get("useful", True) else f"{line}: no better than marking all or nothing, so not used"
