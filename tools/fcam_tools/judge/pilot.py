"""Is it worth it? In: labelled pictures of a part. Out: one HTML file that says go, more data, or no, and why.

Cross-validated: each picture is judged by a network that never saw it, trained on the other folds with a small recipe;
pictures of one part, folder or day (data/group.py) and copies of each other share a fold.
Everything is chosen with image labels alone (the classifier's epoch, the decoder's, the thresholds); where masks exist,
the map of that choice is scored beside the oracle's (the decoder's epoch that masks would have chosen), and both are
named as what they are.

Where the pictures do not show that anything was learnt (judgement.py), the verdict says so: then nothing is said of the
parts, and no reason is given that the network could not know. Else the verdict compares what the cheapest operating
point does to pictures that did not choose it with two goals, an escape rate and a false-reject rate:
- go: both reached, and enough pictures were seen to be sure of it (upper end of the exact 95 % interval);
- more data: reached but not sure (how many more OK and defective pictures would show it), or not reached but the
  learning curve, a power law, gets there with at most eight times the pictures;
- no: neither.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from fcam_tools import data
from fcam_tools.common import disk, parallel, spread
from fcam_tools.common.errors import ToolError
from fcam_tools.data import Dataset, Picture, Sight, kinds, shape
from fcam_tools.data.copies import tied
from fcam_tools.judge import corruptions, report
from fcam_tools.judge.folds import dataset_for, folds_of, least, least_each, thinned
from fcam_tools.judge.found import Goals, Judged, Pilot
from fcam_tools.judge.truth import Truth, truth_of
from fcam_tools.measure import held_out, judgement, operating
from fcam_tools.measure.metrics import PixelCurve, Scorer, image_ap, image_auroc
from fcam_tools.measure.operating import Prices
from fcam_tools.model.checkpoint import Checkpoint, checkpoint_of
from fcam_tools.model.network import Net, multiply_adds
from fcam_tools.train import methods, seeds, train, trainer
from fcam_tools.train.options import CHOICES, NETWORK, TOLD, recipe_of
from fcam_tools.train.trainer import Recipe

log = logging.getLogger(__name__)

DEFAULT = "(default: %(default)s)"
# What a pilot trains with: fewer steps than `train`. The other recipes take too long for one.
QUICK: dict[str, dict[str, Any]] = {
    "native": {"outline_steps": 150, "label_steps": 120},
    "inspection": {"size": 192, "epochs": 5, "decoder_epochs": 2},
}
NUMBERS = (
    "size", "outline_steps", "label_steps", "window", "windows", "pictures", "place",
    "epochs", "decoder_epochs", "batch", "lr", "seed", "backbone", "precision",
)  # fmt: skip
SHARES = (0.25, 0.5)  # of the training pictures, for the learning curve; the whole is there already
CORRUPTED = 80  # pictures for each corruption
FARTHEST = 8.0  # how much more data is still worth talking about
EQUAL = Prices(1.0, 1.0, 0.5)  # without prices: the sum of the two rates

# Multiply-adds a second of fcam's int8 engine. x86: the default bundle's 373.6 M in 3.19 ms, measured. ARM: counted
# instructions of the same network (105.1 M on a Cortex-A72, 58.2 M on a Cortex-A76), at the boards' clocks and one to
# two instructions a cycle: an estimate, no measurement. src/engine/int8/PERFORMANCE.md has both. The Jetson's cores are
# Cortex-A78AE, with the A76's instructions; its GPU is not estimated.
BOARDS: dict[str, tuple[tuple[float, float], str]] = {
    "x86-64 with AVX512-VNNI, one core": ((117e9, 117e9), "measured on an AMD EPYC"),
    "Raspberry Pi 5, one core": ((15.4e9, 30.8e9), "counted instructions at 1 to 2 a cycle, 2.4 GHz"),
    "Raspberry Pi 4, one core": ((5.3e9, 10.7e9), "counted instructions at 1 to 2 a cycle, 1.5 GHz"),
    "Jetson Orin Nano, one core, without its GPU": (
        (9.6e9, 19.3e9),
        "instructions counted on a Cortex-A76 at 1 to 2 a cycle, 1.5 GHz",
    ),
}

# Judging.


def learn(whole: Dataset, pictures: Sequence[Picture], recipe: Recipe, progress: bool) -> tuple[bytes, list[dict]]:
    """A checkpoint's file, learnt from some pictures of a set, and every epoch's decoder."""
    checkpoint, every = train.fit(recipe, dataset_for(whole, pictures, recipe.seed), progress, team=parallel.Team())
    file = io.BytesIO()
    torch.save(checkpoint, file)
    return file.getvalue(), every


def loaded(file: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(file), weights_only=True)


def judge_pictures(
    network: Checkpoint, pictures: Sequence[Picture], pixels: np.ndarray, sight: Sight
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`judge`, as a camera would tell it: maps [N, H, W] lie as the pictures do, and without a part it rejects."""
    scores, classes, maps = judge(network.net, pixels)
    for row, picture in enumerate(pictures):
        scores[row], maps[row] = sight.answer(picture.path, scores[row], maps[row])
    return scores, classes, maps


@torch.no_grad()
def judge(net: Net, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Defect scores, most probable classes and maps (uint8) of pictures [N, H, W, 3]."""
    scores, classes, maps = [], [], []
    size = trainer.chunk(pixels.shape[2], pixels.shape[1])
    for start in range(0, len(pixels), size):
        logits, found = net(seeds.to_input(torch.from_numpy(pixels[start : start + size])))
        probable = logits.float().softmax(1)
        scores.append((1 - probable[:, 0]).clamp(0, 1).numpy())
        classes.append(probable.argmax(1).numpy())
        maps.append((found[:, 0].clamp(0, 1) * 255).round().byte().numpy())
    return np.concatenate(scores).astype(np.float64), np.concatenate(classes), np.concatenate(maps)


class Masks:
    """The mask of any picture of a data set, whatever its split. Refuses a wrong one at once: training takes long."""

    def __init__(self, dataset: Dataset, size: tuple[int, int]) -> None:
        self.of: dict[Path, Truth] = {}
        self.any = False
        for split in data.SPLITS:
            truth = truth_of(dataset, split, size)
            self.of |= dict.fromkeys((picture.path for picture in truth.pictures), truth)
            for picture in truth.pictures:
                self.any |= truth.mask(picture) is not None

    def __call__(self, picture: Picture) -> np.ndarray | None:
        return self.of[picture.path].mask(picture)


def pixel_ap(maps: np.ndarray, pictures: Sequence[Picture], masks: Masks) -> float | None:
    curve = PixelCurve()
    for found, picture in zip(maps, pictures, strict=True):
        mask = masks(picture)
        if mask is None and picture.label:
            continue
        curve.update(found / np.float32(255), np.zeros(found.shape, bool) if mask is None else mask)
    return curve.compute()["pxap"]


def oracle_gap(
    net: Net, every: Sequence[dict], chosen: np.ndarray, pixels: np.ndarray, pictures: Sequence[Picture], masks: Masks
) -> tuple[float, float]:
    """PxAP of the decoder that the weak loss chose, and of the one that the masks would have chosen."""
    own: nn.Module = net.decoder
    before = {name: value.clone() for name, value in own.state_dict().items()}
    found = [pixel_ap(chosen, pictures, masks) or 0.0]
    weak = found[0]
    for states in every:
        own.load_state_dict(states)
        found.append(pixel_ap(judge(net, pixels)[2], pictures, masks) or 0.0)
    own.load_state_dict(before)
    return weak, max(found)


# The parts of a pilot.


def cross_validate(
    whole: Dataset, folds: list[list[Picture]], recipe: Recipe, masks: Masks, out: Pilot, jobs: int, progress: bool
) -> tuple[Judged, Checkpoint]:
    """All pictures judged out of fold, and the first fold's network."""
    parts, gaps, first = [], [], None
    out.still_learning = True
    rests = [[picture for other in folds if other is not fold for picture in other] for fold in folds]
    asked = [(whole, rest, recipe, progress and jobs == 1) for rest in rests]
    bar = tqdm(spread.spread(learn, asked, jobs), "folds", len(folds), unit="network", disable=not progress)
    for fold, (file, every) in zip(folds, bar, strict=True):
        saved = loaded(file)
        network = checkpoint_of(saved)
        sight = network.sight
        pixels = sight.read_all(fold, False)
        found = judge_pictures(network, fold, pixels, sight)
        parts.append((fold, *found))
        out.curves.append(saved["history"])
        out.still_learning &= still_gained(saved, recipe)
        if masks.any and every:
            gaps.append(oracle_gap(network.net, every, found[2], pixels, fold, masks))
        first = first or network
    if gaps:
        weak, best = np.mean(gaps, axis=0)
        out.oracle = {"pxap_chosen_by_labels": float(weak), "pxap_oracle": float(best)}
    pictures = [picture for part in parts for picture in part[0]]
    scores, classes, maps = (np.concatenate([part[i] for part in parts]) for i in (1, 2, 3))
    assert first is not None
    return Judged(pictures, np.array([p.label for p in pictures]), scores, classes, maps), first


def still_gained(saved: dict[str, Any], recipe: Recipe) -> bool:
    """Whether a training was best where it ended."""
    if recipe.objective != "native":
        return saved["training"].get("epoch") == recipe.epochs
    found = [entry["val_auroc"] for entry in saved["history"]]
    return len(found) > 1 and found[-1] > max(found[:-1])


def measured(judged: Judged, masks: Masks, threshold: float, map_threshold: float) -> dict[str, Any]:
    """Image metrics with intervals, and pixel metrics where masks exist."""
    out: dict[str, Any] = {}
    for name, metric in (("image_auroc", image_auroc), ("image_ap", image_ap)):
        draws = operating.draws(judged.bad.astype(bool), 300, 0)
        values = [metric(np.repeat(judged.scores, times), np.repeat(judged.bad, times)) for times in draws]
        out[name] = metric(judged.scores, judged.bad)
        out[f"{name}_interval"] = operating.percentiles([value for value in values if value is not None])
    if masks.any:
        scorer = Scorer(score_threshold=threshold, taus=100)
        for picture, score, found in zip(judged.pictures, judged.scores, judged.maps, strict=True):
            scorer.update(float(score), int(picture.label != 0), found / np.float32(255), masks(picture), map_threshold)
        named = scorer.compute()
        out |= {name: named[name] for name in ("pxap", "pixel_auroc", "aupro_030", "max_box_acc_v2", "iou_fixed")}
    return out


def confused(
    judged: Judged, kinds_: Sequence[str], classes: Sequence[str], threshold: float
) -> dict[str, dict[str, int]]:
    """Of each kind (folder): how many pass and are rejected, and as which of the network's classes they were seen."""
    table = {}
    for label, name in enumerate(kinds_):
        own = judged.labels == label
        rejected = int((judged.scores[own] >= threshold).sum())
        seen = {f"seen as {other}": int((judged.classes[own] == i).sum()) for i, other in enumerate(classes)}
        table[name] = {"passed": int(own.sum()) - rejected, "rejected": rejected} | seen
    return table


def learning_curve(
    whole: Dataset,
    folds: list[list[Picture]],
    recipe: Recipe,
    judged: Judged,
    prices: Prices,
    jobs: int,
    progress: bool,
) -> Iterator[dict[str, Any]]:
    """The first fold's errors after learning from a part of the rest: `error` is the mean of the two rates."""
    fold, rest = folds[0], [picture for other in folds[1:] for picture in other]
    bad = np.array([int(p.label != 0) for p in fold])
    parts = [(thinned(rest, share, recipe.seed), share) for share in SHARES]
    asked = [
        (whole, some, as_many_steps(recipe, share), progress and jobs == 1)
        for some, share in parts
        if least(kinds.seen(replace(whole, splits={"train": tuple(some)})).splits["train"]) >= 4
    ]
    bar = tqdm(spread.spread(learn, asked, jobs), "curve", len(asked), unit="network", disable=not progress)
    for (_, some, *_), (file, _) in zip(asked, bar, strict=True):
        network = checkpoint_of(loaded(file))
        sight = network.sight
        scores = judge_pictures(network, fold, sight.read_all(fold, False), sight)[0]
        yield curve_point(len(some), some, scores, bad, prices)
    yield curve_point(len(rest), rest, judged.scores[: len(fold)], bad, prices)


def as_many_steps(recipe: Recipe, share: float) -> Recipe:
    """For a share of the pictures as many steps as for all of them; `native` counts steps."""
    if recipe.objective == "native":
        return recipe
    return replace(recipe, decoder_epochs=0, epochs=round(recipe.epochs / share))


def curve_point(
    count: int, learnt: Sequence[Picture], scores: np.ndarray, bad: np.ndarray, prices: Prices
) -> dict[str, Any]:
    point = operating.choose(scores, bad, prices, 100)
    return {
        "pictures": count,
        "defects": sum(picture.label != 0 for picture in learnt),
        "image_auroc": image_auroc(scores, bad),
        "escape_rate": point.unseen_escape_rate,
        "false_reject_rate": point.unseen_false_reject_rate,
        "error": (point.unseen_escape_rate + point.unseen_false_reject_rate) / 2,
    }


def power_law(learning: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Fits error = a * pictures ** -b by least squares in logarithms; returns a, b. b <= 0 is no fall at all."""
    counts = np.log([point["pictures"] for point in learning])
    errors = np.log([max(point["error"], 1e-3) for point in learning])
    if len(learning) < 2:
        return float(np.exp(errors[0])), 0.0
    slope, start = np.polyfit(counts, errors, 1)
    return float(np.exp(start)), float(-slope)


def spoilt(network: Checkpoint, fold: Sequence[Picture], threshold: float) -> Iterator[dict[str, Any]]:
    """Rates and AUROC of the first fold's network on spoilt pictures, undisturbed ones first. Where parts are found
    before they are judged, how they lie spoils nothing, and is left out."""
    chosen = [fold[i] for i in np.linspace(0, len(fold) - 1, min(CORRUPTED, len(fold))).astype(int)]
    sight, bad = network.sight, np.array([int(p.label != 0) for p in chosen])
    pixels = sight.read_all(chosen, False)

    def row(name: str, severity: int, values: np.ndarray) -> dict[str, Any]:
        scores = judge_pictures(network, chosen, values, sight)[0]
        rates = operating.at(scores, bad, threshold, EQUAL)
        told = {"corruption": name, "severity": severity, "image_auroc": image_auroc(scores, bad)}
        return told | {"escape_rate": rates["escape_rate"], "false_reject_rate": rates["false_reject_rate"]}

    yield row("none", 0, pixels)
    for name in spoiling(sight):
        for severity in (1, 2, 3):
            yield row(name, severity, np.stack([corruptions.spoil(each, name, severity) for each in pixels]))


def spoiling(sight: Sight) -> list[str]:
    return [name for name in corruptions.CORRUPTIONS if sight.template is None or name not in corruptions.POSES]


def latency(net: Net, size: tuple[int, int]) -> dict[str, Any]:
    """`size` is (width, height)."""
    with torch.no_grad():
        macs = multiply_adds(lambda: net(torch.zeros(1, 3, size[1], size[0])))
    boards = {
        name: {"ms": [1000 * macs / fast, 1000 * macs / slow], "source": source}
        for name, ((slow, fast), source) in BOARDS.items()
    }
    return {"multiply_adds": macs, "boards": boards}


# The verdict.


def pictures_to_be_sure(rate: float, goal: float) -> int | None:
    """How many pictures show that a rate is below the goal, if it is what it seems; None where that cannot be."""
    if rate >= goal:
        return None
    return next((n for n in range(10, 20_000, 10) if operating.exact_interval(round(rate * n), n)[1] <= goal), None)


def decide(out: Pilot, counts: dict[str, int], ok: str) -> dict[str, Any]:
    """Learnt nothing, go, more data or no; a sentence, and how many of what."""
    if doubted := unproven(out):
        return doubted
    point, goals = out.point, out.goals
    rates = {"escape": point["unseen_escape_rate"], "false_reject": point["unseen_false_reject_rate"]}
    wanted = {"escape": goals.escape, "false_reject": goals.reject}
    reached = all(rates[name] <= wanted[name] for name in rates)
    if reached and all(point[f"{name}_interval"][1] <= wanted[name] for name in rates):
        return {"verdict": "go", "why": "both goals are reached, and enough pictures show it"}
    if reached:
        missing = {}
        for name, label, have in (("escape", "defective", point["defects"]), ("false_reject", ok, point["good"])):
            needed = pictures_to_be_sure(point[f"{name}_rate"], wanted[name])
            if needed is None:
                missing[label] = have
            elif needed > have:
                missing[label] = needed - have
        told = " and ".join(f"{count} {name}" for name, count in missing.items())
        why = f"both goals are reached, but too few pictures show it: add {told} pictures"
        return {"verdict": "more data", "why": why, "add": missing}
    weakest = hardest(out.confusion, ok)
    start, slope = power_law(out.learning)
    now, goal = out.learning[-1], (goals.escape + goals.reject) / 2
    if slope > 0.05:
        needed = math.ceil((start / goal) ** (1 / slope)) if goal < start else now["pictures"]
        if needed <= FARTHEST * now["pictures"]:
            more = max(needed - now["pictures"], counts[ok] // 4)
            why = f"not reached yet, but errors fall with pictures: about {more} more should do"
            why += f", above all of {weakest}" if weakest else ""
            return {"verdict": "more data", "why": why, "add": {"pictures": more} | above_all(weakest)}
    why = "the goals are not reached, and the learning curve does not get there: "
    if weakest:
        why += (
            f"the class {weakest} escapes most; a better view of it (light, lens, resolution) helps more than pictures"
        )
    else:
        why += "a better view (light, lens, resolution) helps more than pictures"
    if out.recipe.get("objective") == "native":
        why += "; but a pilot takes fewer steps than `train`: see what that and `evaluate` say before giving up"
    elif out.still_learning:
        why += "; but every fold was still learning in its last epoch: try again with more --epochs before giving up"
    return {"verdict": "no", "why": why}


def unproven(out: Pilot) -> dict[str, Any]:
    """The verdict where pictures do not show that anything was learnt; empty where they do."""
    if out.held_out is None or not (doubt := judgement.doubt(out.held_out)):
        return {}
    causes = judgement.causes(out.held_out, out.setting or judgement.Setting(0, 0, 1.0))
    more = min(out.held_out.good, out.held_out.defective) < judgement.LEAST_EACH
    learnt = not more and doubt == judgement.blind(out.held_out)
    verdict = "more data" if more else "no" if learnt else doubt.partition(";")[0]
    return {"verdict": verdict, "why": doubt, "perhaps": causes}


def setting_of(pictures: Sequence[Picture], recipe: Recipe, still_learning: bool) -> judgement.Setting:
    """All pictures: each is held out once, and learnt from in the other folds."""
    size = held_out.common_size(pictures)
    return judgement.Setting(
        *held_out.sides(pictures),
        1.0,
        size,
        recipe.shape,
        still_learning=still_learning,
        more="--label-steps" if recipe.objective == "native" else "--epochs",
    )


def above_all(weakest: str) -> dict[str, str]:
    return {"above all": weakest} if weakest else {}


def hardest(confusion: dict[str, dict[str, int]], ok: str) -> str:
    """The defect class that surely escapes more than the others together; empty where these pictures show none."""
    defects = {name: row for name, row in confusion.items() if name != ok}

    def passed(names: Iterable[str]) -> tuple[int, int]:
        rows = [defects[name] for name in names]
        missed = sum(row["passed"] for row in rows)
        return missed, missed + sum(row["rejected"] for row in rows)

    top = max(defects, key=lambda name: passed([name])[0] / max(1, passed([name])[1]))
    missed, of = passed(defects.keys() - {top})
    surely = operating.exact_interval(*passed([top]))[0]
    return top if of and surely > missed / of else ""


def pilot(
    dataset: Dataset,
    recipe: Recipe,
    folds: int,
    prices: Prices | None,
    goals: Goals,
    jobs: int = 1,
    progress: bool = False,
) -> tuple[Pilot, Judged]:
    """Everything that the report shows; a few minutes to an hour."""
    pictures, masks = tied(dataset.pictures(), progress), Masks(dataset, recipe.shape)
    labels = [picture.label for picture in pictures]
    counts = {name: labels.count(label) for label, name in enumerate(dataset.classes)}
    chosen = prices or EQUAL
    out = Pilot(dataset.name, counts, chosen, prices is None, goals, folds, asdict(recipe))
    parts = folds_of(pictures, folds, recipe.seed, least_each(dataset))
    judged, network = cross_validate(dataset, parts, recipe, masks, out, jobs, progress)
    out.point = asdict(operating.choose(judged.scores, judged.bad, chosen))
    threshold = out.point["threshold"]
    out.metrics = measured(judged, masks, threshold, recipe.map_threshold)
    out.confusion = confused(judged, dataset.classes, kinds.classes_of(dataset.classes, dataset.joined), threshold)
    out.learning = list(learning_curve(dataset, parts, recipe, judged, chosen, jobs, progress))
    rows = spoilt(network, parts[0], threshold)
    out.robustness = list(tqdm(rows, "corruptions", 25, disable=not progress))
    out.latency = latency(network.net, recipe.shape)
    out.marked = sum(masks(picture) is not None for picture in judged.pictures if picture.label)
    unit = held_out.unit_in(judged.pictures)
    out.held_out = judgement.figures(judged.scores, judged.bad, threshold, judgement.CROSS, unit)
    out.setting = setting_of(pictures, recipe, out.still_learning)
    out.verdict = decide(out, counts, dataset.ok)
    return out, judged


# The verb.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="the data set, as for `train`")
    parser.add_argument("--out", type=Path, default=Path("pilot.html"), help="the report (default: %(default)s)")
    parser.add_argument(
        "--folds",
        type=int,
        default=3,
        help="parts of the cross-validation, each judged by a network of the others (default: %(default)s)",
    )
    parser.add_argument(
        "--goal-escape", type=float, default=Goals.escape, help=f"escapes that the line allows {DEFAULT}"
    )
    parser.add_argument(
        "--goal-reject", type=float, default=Goals.reject, help=f"false rejects that it allows {DEFAULT}"
    )
    parser.add_argument(
        "--recipe", choices=list(QUICK), default=methods.DEFAULT, help=f"how the networks learn {DEFAULT}"
    )
    for name in NUMBERS:
        plain = of_recipe(methods.DEFAULT if name not in methods.EPOCHS else "inspection")
        flag, value = "--" + name.replace("_", "-"), plain[name]
        told = f"{(NETWORK | TOLD if name == 'size' else TOLD)[name]} (default: {value})"
        parser.add_argument(flag, type=type(value), default=argparse.SUPPRESS, choices=CHOICES.get(name), help=told)
    parser.add_argument("--pretrained", action=argparse.BooleanOptionalAction, default=True, help=TOLD["pretrained"])
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="networks trained side by side, with a thread and some 3 GB each (default: one, with all threads)",
    )
    operating.add_price_arguments(parser, masks=False)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def of_recipe(name: str) -> dict[str, Any]:
    """A recipe's numbers in a pilot."""
    return vars(Recipe(**methods.named(name, QUICK[name])))


def recipe_for(args: argparse.Namespace, dataset: Dataset) -> Recipe:
    """What was asked for, with a pilot's steps where nothing else was; the input's size as `train` would have it."""
    asked = getattr(args, "size", 0)
    for name, value in QUICK[args.recipe].items():
        if not hasattr(args, name):
            setattr(args, name, value)
    recipe = recipe_of(args)
    if recipe.objective == "native":
        recipe.size, recipe.height = shape.input_of(held_out.common_size(dataset.pictures()), asked)
    return recipe


def run(args: argparse.Namespace) -> int:
    if args.folds < 2:
        raise ToolError(f"--folds {args.folds}: two at least")
    spread.checked(args.jobs)
    disk.prepare(args.out)
    dataset = data.load(args.data, ok_needed=True)
    recipe = recipe_for(args, dataset)
    if recipe.objective == "native":
        dataset = replace(dataset, joined=kinds.joined(dataset, "auto"))
    prices = operating.prices_of(args, [picture.label for picture in dataset.pictures()])
    goals, progress = Goals(args.goal_escape, args.goal_reject), sys.stderr.isatty() and not args.json
    found, judged = pilot(dataset, recipe, args.folds, prices, goals, args.jobs, progress)
    plain = asdict(found) | {"held_out": found.held_out and found.held_out.plain(), "report": str(args.out)}
    lines = [*found.first, found.headline, *(f"  perhaps {cause}" for cause in found.verdict.get("perhaps", []))]
    # Before the report: a disk that has filled up meanwhile must not take the verdict along.
    print(json.dumps(plain) if args.json else "\n".join([*lines, f"the report is {args.out}"]))
    disk.write(args.out, report.page(found, judged).encode())
    return 0
