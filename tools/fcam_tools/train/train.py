"""Training. In: labelled pictures. Out: one checkpoint file with a classifier, a decoder and their thresholds.

Stage 1 trains the classifier on image labels. Stage 2 freezes it (BatchNorm in eval, no gradient), computes class
activation maps of the defective training pictures once, and trains the decoder on seeds drawn from them anew every step
(seeds.py), with the terms of losses.py. With `joint` nothing is frozen, and the labels' loss goes on beside.

No pixel label is read: the classifier's epoch is chosen by image AUROC on the validation split, the decoder's by the
weak loss there (seeds and negatives, fixed draws), the score threshold by the false-reject rate on validation pictures
that are OK. Every epoch's decoder is kept beside the checkpoint (`NAME.decoders.pt`), so that `evaluate --oracle` can
tell what a choice with pixel labels would have given.

A run leaves a folder (run_folder.py). Killed at any moment, it goes on from its last snapshot with `--resume` and ends
as if nothing had happened: whatever is drawn is a function of the seed and the step (feed.py), and the snapshot holds
the rest. A step is made of `parts` parts, each with its own BatchNorm statistics, whose gradients and statistics are
averaged; how many processes share them out (parallel.py) does not change the result but for the order of that sum.
Tolerances, tested on a CPU with as many threads: a resumed run equals an uninterrupted one to the bit, two runs of one
seed too, and two processes one process to 1e-5 of a weight's size.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from fcam_tools import data
from fcam_tools.common import parallel, run_folder
from fcam_tools.common.disk import write
from fcam_tools.common.errors import ToolError
from fcam_tools.common.parallel import Team
from fcam_tools.common.run_folder import Run, save
from fcam_tools.data import kinds, made_up, pasted, shape
from fcam_tools.data.copies import add_leak_argument, refuse_leaks
from fcam_tools.measure import held_out, judgement
from fcam_tools.measure.metrics import image_auroc
from fcam_tools.model.network import DECODERS, VERDICTS, Joint
from fcam_tools.train import losses, methods, native, seeds
from fcam_tools.train.feed import Part, Pictures, key_of
from fcam_tools.train.labels import accuracy, classification_loss, defect_classes, defective, label_array
from fcam_tools.train.sampling import OtsuDraw, ProbabilityDraw
from fcam_tools.train.seeds import Draw
from fcam_tools.train.trainer import CHUNK, PRECISIONS, Recipe, Stage, Terms, Trainer, optimise_stage

log = logging.getLogger(__name__)

KINDS_TOLD = 0.6  # share of rejects whose kind must be right before a class is worth reading
ASKED = 512  # training pictures that are judged too where the held-out ones show nothing


def freeze_depthwise(module: nn.Module) -> None:
    """Keep pretrained depthwise filters: they are generic, and their gradients take a third of a step on a CPU."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1:
            part.weight.requires_grad_(False)


def train_classifier(t: Trainer, state: dict[str, Any] | None = None) -> dict[str, float]:
    """Stage 1: cross-entropy on image labels; leaves the best epoch's averaged weights in the net."""
    recipe, net = t.recipe, t.net
    if recipe.pretrained:
        net.features.freeze(recipe.frozen_stride)
        if not recipe.train_depthwise:
            freeze_depthwise(net.features)
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p in net.features.parameters() if p.requires_grad],
            "lr": recipe.lr * recipe.backbone_lr_share,
        },
        {"params": net.classifier.parameters()},
    ]
    module = nn.ModuleList([net.features, net.classifier])
    stage = Stage("classifier", module, groups, recipe.lr, recipe, recipe.epochs, t.feed.steps(), recipe.lr_step)
    stage.best = {"val_auroc": validate(t)[0] if recipe.start and state is None else -1.0}
    if state is not None:
        stage.load(state)

    def loss(part: Part) -> Terms:
        with t.autocast:
            logits = net.classify(part.x)
        return {"loss": classification_loss(logits.float(), part.labels)}

    def judge(stage: Stage) -> dict[str, float]:
        own = copy.deepcopy(module.state_dict())
        module.load_state_dict(stage.average.module.state_dict())
        auroc, right = validate(t)
        if auroc >= stage.best["val_auroc"]:
            stage.best = {"val_auroc": auroc, "val_accuracy": right, "epoch": stage.epoch + 1}
            stage.kept = copy.deepcopy(module.state_dict())
        module.load_state_dict(own)
        return {"val_auroc": auroc, "val_accuracy": right}

    optimise_stage(t, stage, ("loss",), loss, judge)
    module.load_state_dict(stage.kept)
    return stage.best


def train_native(t: Trainer, left: dict[str, Any] | None) -> dict[str, float]:
    """Both stages of native.py; leaves the averaged weights of the last step in the net."""
    told: dict[str, float] = {}
    for how in native.courses(t):
        if left and left["stage"] == "labels" and how.name == "outlines":
            continue
        stage = native.stage_of(t, how)
        if left and left["stage"] == how.name:
            stage.load(left["state"])

        def judge(stage: Stage) -> dict[str, float]:
            own = copy.deepcopy(stage.module.state_dict())
            stage.kept = copy.deepcopy(stage.average.module.state_dict())
            stage.module.load_state_dict(stage.kept)
            auroc, right = validate(t)
            stage.best = {"val_auroc": auroc, "val_accuracy": right, "decoder_epoch": stage.epoch + 1}
            stage.module.load_state_dict(own)
            return {"val_auroc": auroc, "val_accuracy": right}

        optimise_stage(t, stage, native.TERMS, lambda part: native.loss_of(t, part), judge, feed=native.Pieces(t, how))
        stage.module.load_state_dict(stage.kept)
        told |= stage.best
    scores = probabilities(t, t.val.pixels)
    right, count = native.kinds_told(scores, t.val.labels)
    if scores.shape[1] > 2 and right < KINDS_TOLD * count:
        log.warning(
            "the kind of a defect is told right for %d of %d rejects (val split): trust OK and NG, and not the class; "
            "more pictures of each kind help",
            right,
            count,
        )
    return told


@torch.no_grad()
def probabilities(t: Trainer, pixels: np.ndarray) -> np.ndarray:
    """Softmax of the classifier: [N, classes]."""
    t.net.eval()

    def work(chunk: slice) -> np.ndarray:
        return t.net.classify(t.input(torch.from_numpy(pixels[chunk]))).float().softmax(1).cpu().numpy()

    return np.concatenate(t.chunked(len(pixels), work))


def validate(t: Trainer) -> tuple[float, float]:
    scores = probabilities(t, t.val.pixels)
    bad, right = defective(t.val.labels), accuracy(scores, t.val.labels)
    # A set of the paper's kind has no good pictures, and no ROC curve: its classes are all there is to be right about.
    return (right if bad.all() else float(roc_auc_score(bad, 1 - scores[:, 0]))), right


def defect_maps(t: Trainer, pictures: Pictures) -> np.ndarray:
    """Activation maps of the defective pictures, coarse and fine: float16 [N, H/4, W/4, 2]; zeros for the good ones."""
    chosen = pictures.defective()
    height, width = (side // seeds.FINE_STRIDE for side in pictures.pixels.shape[1:3])
    maps = np.zeros((len(pictures.labels), height, width, 2), np.float16)
    coarse = "cam" if t.recipe.seeds == "product" else t.recipe.seeds
    for index, method in enumerate((coarse, t.recipe.seeds)):
        same = index == 1 and method == coarse
        maps[chosen, ..., index] = maps[chosen, ..., 0] if same else activation_maps(t, pictures, chosen, method)
    return maps


def activation_maps(t: Trainer, pictures: Pictures, chosen: np.ndarray, method: str) -> np.ndarray:
    def work(chunk: slice) -> np.ndarray:
        rows = chosen[chunk]
        labels = defect_classes(pictures.labels[rows])
        return seeds.activation_maps(t.net, pictures.pixels[rows], labels, method, batch=CHUNK, progress=False)

    return np.concatenate(t.chunked(len(chosen), work))


def weak_loss(
    recipe: Recipe,
    logits: Tensor,
    x: Tensor,
    labels: Tensor,
    maps: Tensor,
    t: float,
    generator: torch.Generator,
    masks: Tensor | None = None,
) -> dict[str, Tensor]:
    """The decoder's terms, each with its weight applied."""
    return methods.terms(recipe, logits, x, labels, maps, t, generator, masks)


def decoder_stage(t: Trainer) -> Stage:
    """The decoder alone; or with `joint` everything, features and classifier at a share of the decoder's rate."""
    recipe, net = t.recipe, t.net
    deep = [*net.features.parameters(), *net.classifier.parameters()]
    for parameter in deep:
        parameter.requires_grad_(recipe.joint > 0)
    groups: list[dict[str, Any]] = [{"params": list(net.decoder.parameters())}]
    if recipe.joint:
        groups.append({"params": deep, "lr": recipe.decoder_lr * recipe.joint})
    module = Joint(net) if recipe.joint else net.decoder
    lr, epochs = recipe.decoder_lr, recipe.decoder_epochs
    start = copy.deepcopy(net.state_dict()) if recipe.joint or recipe.blend else {}
    stage = Stage("decoder", module, groups, lr, recipe, epochs, t.feed.steps(), recipe.decoder_lr_step, start)
    stage.best = {"val_weak_loss": math.inf}
    return stage


def train_decoder(t: Trainer, state: dict[str, Any] | None = None) -> tuple[dict[str, float], list[dict]]:
    """Stage 2: leaves the epoch with the lowest weak loss on val, returns every epoch's weights.

    The activation maps are those of stage 1's classifier, also where it goes on learning (`joint`).
    """
    recipe, net = t.recipe, t.net
    net.eval()
    stage = decoder_stage(t)
    if state is not None:
        stage.load(state)
    now = copy.deepcopy(net.state_dict())
    net.load_state_dict(stage.start, strict=False)  # a resumed stage is past it
    maps, val_maps = t.feed.hold(defect_maps(t, t.train)), defect_maps(t, t.val)
    net.load_state_dict(now)

    def loss(part: Part) -> Terms:
        with torch.set_grad_enabled(recipe.joint > 0), t.autocast:
            features = net.features(part.x)
        with t.autocast:
            logits = net.map_logits(features, (part.x.shape[2], part.x.shape[3])).float()
        assert part.maps is not None
        barrier_t = min(10.0, recipe.barrier_growth**stage.epoch)
        generator = t.generator(part.key)
        found = weak_loss(recipe, logits, part.x, part.labels, part.maps, barrier_t, generator, part.masks)
        if recipe.joint:
            with t.autocast:
                found["label"] = recipe.weights.label * label_loss(net.classifier(net.read(features)).float(), part)
        return found

    def judge(stage: Stage) -> dict[str, float]:
        own = copy.deepcopy(stage.module.state_dict())
        found = copy.deepcopy(stage.average.module.state_dict())
        stage.every.append(found)
        stage.module.load_state_dict(found)
        seen = {"val_weak_loss": validate_decoder(t, val_maps)}
        if recipe.joint:
            seen["val_auroc"] = validate(t)[0]
        stage.module.load_state_dict(own)
        if seen["val_weak_loss"] < stage.best["val_weak_loss"]:
            stage.best, stage.kept = seen | {"decoder_epoch": stage.epoch + 1}, found
        return seen

    optimise_stage(t, stage, (*methods.TERMS, *(("label",) if recipe.joint else ())), loss, judge, maps)
    stage.module.load_state_dict(blended(stage, recipe.blend, "" if recipe.joint else "decoder."))
    return stage.best, stage.every


def blended(stage: Stage, share: float, prefix: str) -> dict[str, Tensor]:
    """The weights that are kept, with a share of those that the stage began with.

    Between the two lie networks that are better than both where the second learnt something new at the price of
    something old. Source: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
    """
    if not share:
        return stage.kept
    pairs = {name: (value, stage.start[prefix + name].to(value.device)) for name, value in stage.kept.items()}
    return {
        name: torch.lerp(now, then, share) if now.is_floating_point() else now for name, (now, then) in pairs.items()
    }


def label_loss(logits: Tensor, part: Part) -> Tensor:
    """The classifier's own loss, on pictures as they are: with a pasted defect a good one's label is no longer true."""
    plain = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    if part.masks is not None:
        plain = ~part.masks.flatten(1).any(1)
    return classification_loss(logits[plain], part.labels[plain]) if plain.any() else logits.sum() * 0


@torch.no_grad()
def validate_decoder(t: Trainer, maps: np.ndarray) -> float:
    """Seeds, negatives and pasted defects, on fixed draws: what training optimises, without the terms that shape it."""
    recipe = replace(t.recipe, weights=replace(t.recipe.weights, size=0, crf=0, peak=0))
    t.net.eval()

    def work(chunk: slice) -> float:
        key = key_of("validation", chunk.start)
        pixels, masks = torch.from_numpy(t.val.pixels[chunk]).float(), None
        if t.feed.paste:
            good = np.flatnonzero(~defective(t.val.labels[chunk]))
            masks = pasted.onto(pixels, good, torch.from_numpy(t.val.pixels), key, t.feed.paste).to(t.device)
        x, labels = t.input(pixels), torch.from_numpy(t.val.labels[chunk]).to(t.device)
        m = torch.from_numpy(maps[chunk]).float().to(t.device)
        logits = t.net.map_logits(t.net.features(x), (x.shape[2], x.shape[3])).float()
        return float(sum(weak_loss(recipe, logits, x, labels, m, 1.0, t.generator(key), masks).values()))

    found = t.chunked(len(t.val.labels), work)
    return sum(found) / max(1, len(found))


def score_threshold(scores: np.ndarray, ok: np.ndarray, false_reject: float) -> float:
    """The score that at most `false_reject` of the OK pictures reach: half-way to the next higher one of any picture.

    Where rejects score little above the best good pictures, half-way to the next good one, or to 1, would pass them.
    """
    good = np.sort(scores[ok])[::-1]
    if not len(good):
        return 0.5
    lower = good[min(math.floor(false_reject * len(good)), len(good) - 1)]  # the first that must stay below
    upper = scores[scores > lower].min(initial=1.0)
    return float(np.clip((upper + lower) / 2, 0.001, 0.999))


def known_good(t: Trainer, held_out: np.ndarray) -> np.ndarray:
    """Scores of the good training pictures as held-out ones would have them; `held_out` [n] are those of the val split.

    Twenty held-out pictures tell where good ones lie, and not what one in a hundred reaches. A hundred training
    pictures tell that, but for what the network knows by heart of them: where their mean log-odds lie below the
    held-out ones', all of them are moved up by as much.
    """
    known = 1 - probabilities(t, t.train.pixels[~defective(t.train.labels)])[:, 0]
    return moved_up(known, held_out)


def moved_up(known: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Scores whose mean log-odds are at least those of the held-out ones."""
    if not (len(known) and len(held_out)):
        return known
    odds, wanted = (logit(np.clip(some.astype(np.float64), 1e-6, 1 - 1e-6)) for some in (known, held_out))
    return expit(odds + max(0.0, float(wanted.mean() - odds.mean())))


def read_split(pictures: Sequence[data.Picture], size: tuple[int, int], classes: int, progress: bool) -> Pictures:
    pixels = data.read_pictures(pictures, size, progress)
    return Pictures(pixels, label_array([p.labels for p in pictures], classes))


def fit(
    recipe: Recipe,
    dataset: data.Dataset,
    progress: bool,
    aside: Path | None = None,
    team: Team | None = None,
    run: Run | None = None,
    snapshot_s: float = 60.0,
) -> tuple[dict, list[dict]]:
    """Both stages; returns the checkpoint and every epoch's decoder. Goes on from the run's snapshot if it has one.

    `aside` gets the state after stage 1, from which another decoder can be trained with `--start ASIDE --epochs 0`.
    """
    seen = kinds.seen(dataset)
    classes = len(seen.classes)
    splits = {
        split: read_split(seen.splits[split], recipe.read_at(split), classes, progress) for split in ("train", "val")
    }
    splits["train"].kinds = label_array([p.labels for p in dataset.splits["train"]], len(dataset.classes))
    t = Trainer(recipe, splits["train"], splits["val"], classes, progress, team, run, snapshot_s)
    counts = f"{len(splits['train'].labels)} training and {len(splits['val'].labels)} validation pictures"
    where = f"{t.team.world} x {t.device}, {'bfloat16' if t.low else 'float32'}"
    log.info("%s, classes %s; %s weights; on %s", counts, ", ".join(seen.classes), t.origin, where)
    left = t.snapshot()
    if recipe.objective == "native":
        t.told |= train_native(t, left)
        return describe(t, dataset, t.told | {"seconds": round(time.time() - t.started)}), []
    state = left["state"] if left else None
    if not left or left["stage"] == "classifier":
        t.told, state = train_classifier(t, state), None
        if aside:
            classifier = describe(t, dataset, t.told)
            if t.team.leads:
                save(aside, classifier)
    found, every = train_decoder(t, state) if recipe.decoder_epochs else ({}, [])  # 0: verdicts without maps
    t.speed["data_path"] = round(t.feed.speed(), 1)
    if t.feed.paste:
        count, height, width = t.feed.pixels.shape[:3]
        maps = np.zeros((count, height // seeds.FINE_STRIDE, width // seeds.FINE_STRIDE, 2), np.float16)
        t.speed["pasted_data_path"] = round(t.feed.speed(maps=t.feed.hold(maps)), 1)
    return describe(t, dataset, t.told | found | {"seconds": round(time.time() - t.started)}), every


def describe(t: Trainer, dataset: data.Dataset, told: dict[str, float]) -> dict:
    """The checkpoint: weights, what they mean, thresholds, and where they come from."""
    recipe = t.recipe
    scores = 1 - probabilities(t, t.val.pixels)[:, 0]
    good = ~defective(t.val.labels)
    alone = dataset.good_alone
    more = known_good(t, scores[good]) if recipe.objective == "native" and not alone else np.zeros(0)
    if alone:
        threshold = made_up.good_threshold(scores[good], recipe.false_reject)
    else:
        every, ok = np.concatenate([scores, more]), np.concatenate([good, np.ones(len(more), bool)])
        threshold = score_threshold(every, ok, recipe.false_reject)
    found = judged(t, dataset, scores, threshold)
    return {
        "settings": t.net.settings,
        "state_dict": {name: value.cpu() for name, value in t.net.state_dict().items()},
        "classes": list(kinds.classes_of(dataset.classes, dataset.joined)),
        "ok": dataset.ok,
        "size": recipe.size if recipe.shape == (recipe.size, recipe.size) else recipe.shape,
        "thresholds": {
            "score": threshold,
            "map": recipe.map_threshold,
            "map_low": recipe.map_threshold_low,
            "min_area_px": recipe.min_area_px,
        },
        "provenance": {
            "tool": f"fcam-tools {run_folder.tool()}",
            "dataset": dataset.name,
            "dataset_sha256": dataset.fingerprint(),
            **({"dataset_licence": licence} if (licence := data.licence_of(dataset)) else {}),
            "backbone": f"{recipe.backbone} to stride {recipe.stride}",
            "weights": t.origin,
            **({"defects": judgement.MADE_UP} if alone else {}),
            **({"threshold": f"{good.sum()} held-out and {len(more)} known good pictures"} if len(more) else {}),
            **kinds.written(dataset.joined),
            "seed": str(recipe.seed),
            "trained_on": f"{t.team.world} x {t.device.type}, torch {torch.__version__}",
        },
        "metrics": {},
        "judgement": found,
        "recipe": asdict(recipe),
        "history": t.history,
        "training": told | {f"pictures_per_second_{name}": value for name, value in t.speed.items()},
    }


def judged(t: Trainer, dataset: data.Dataset, scores: np.ndarray, threshold: float) -> dict[str, Any]:
    """What the validation pictures show (judgement.py), for `leave`; empty for a set of things, which has no good
    pictures to tell defects from."""
    bad = defective(t.val.labels)
    if bad.all() and defective(t.train.labels).all():
        return {}
    unit = held_out.unit_in(dataset.splits["val"])
    figures = judgement.figures(scores, bad.astype(int), threshold, "val", unit, dataset.good_alone)
    out: dict[str, Any] = {"figures": asdict(figures), "doubt": judgement.doubt(figures)}
    if out["doubt"]:
        some = slice(None, None, max(1, len(t.train.labels) // ASKED))
        known = 1 - probabilities(t, t.train.pixels[some])[:, 0]
        out["train_auroc"] = image_auroc(known, defective(t.train.labels[some]).astype(int))
    return out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="?", help=data.HELP)
    parser.add_argument("--out", type=Path, help="checkpoint to write (X.pt, with X.run beside it), or a run folder")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go without --out")
    parser.add_argument("--name", help="name of the run (default: the data set's)")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with a run that was stopped (with DATA: its pictures are there now)",
    )
    parser.add_argument("--snapshot-seconds", type=float, default=60.0, help="between two snapshots (default 60)")
    recipes = f"where the numbers start (default {methods.DEFAULT})"
    parser.add_argument("--recipe", choices=list(methods.RECIPES), default=methods.DEFAULT, help=recipes)
    plain = Recipe()
    choices = {
        "seeds": seeds.METHODS,
        "objective": (*methods.OBJECTIVES, "native"),
        "decoder": DECODERS,
        "verdict": VERDICTS,
        "optimizer": methods.OPTIMIZERS,
        "precision": PRECISIONS,
    }
    # No defaults here: what is not given is the recipe's. The height is that of the pictures' shape.
    for name, value in vars(plain).items():
        flag, unset, told = "--" + name.replace("_", "-"), argparse.SUPPRESS, f"inspection: {value}"
        if isinstance(value, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=unset, help=told)
        elif isinstance(value, (int, float, str)) and name not in ("recipe", "height"):
            parser.add_argument(flag, type=type(value), choices=choices.get(name), default=unset, help=told)
    for prefix, groups in (("weight", [plain.weights]), ("draw", [Draw(), OtsuDraw(), ProbabilityDraw()])):
        for name, value in {name: value for group in reversed(groups) for name, value in vars(group).items()}.items():
            parser.add_argument(
                f"--{prefix}-{name}", type=type(value), default=argparse.SUPPRESS, help=f"inspection: {value}"
            )
    parser.add_argument("--kinds", choices=kinds.CHOICES, help=kinds.HELP)
    add_leak_argument(parser)
    judgement.add_accept_argument(parser, "goes into the checkpoint and the bundle")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The named recipe with what the command line gives instead; refuses what the recipe has no use for."""
    given = {name: getattr(args, name) for name in vars(Recipe()) if hasattr(args, name) and name != "recipe"}
    base = Recipe(**methods.named(args.recipe, given))
    foreign = [name for name in given if name in methods.EPOCHS and base.objective == "native"]
    foreign += [name for name in given if name in methods.STEPS and base.objective != "native"]
    if foreign:
        flags, own = (
            ", ".join("--" + name.replace("_", "-") for name in names)
            for names in (foreign, methods.STEPS if base.objective == "native" else methods.EPOCHS)
        )
        raise ToolError(f"the recipe {args.recipe} has no {flags}: it has {own}; another is chosen by --recipe")
    weights = {name: getattr(args, f"weight_{name}") for name in vars(base.weights) if hasattr(args, f"weight_{name}")}
    draw = {name.removeprefix("draw_"): value for name, value in vars(args).items() if name.startswith("draw_")}
    foreign = [name for name in draw if name not in vars(base.draw)]
    if foreign:
        own = ", ".join(f"--draw-{name}" for name in vars(base.draw))
        raise ToolError(f"the recipe {args.recipe} has no --draw-{foreign[0]}: it has {own}")
    return replace(base, weights=replace(base.weights, **weights), draw=replace(base.draw, **draw))


def recipe_from(plain: dict[str, Any]) -> Recipe:
    """A recipe as a run's folder holds it."""
    given = {name: plain.get(name, own) for name, own in vars(Recipe()).items()}
    named = Recipe(**methods.named(given["recipe"], {}))
    weights, draw = losses.Weights(**plain["weights"]), replace(named.draw, **plain["draw"])
    return Recipe(**given | {"widths": tuple(given["widths"]), "weights": weights, "draw": draw})


@dataclass
class Plan:
    """What to train, and where it goes."""

    recipe: Recipe
    source: str
    dataset: data.Dataset
    checkpoint: Path  # beside it lie NAME.classifier.pt and NAME.decoders.pt
    folder: Path


def plan_new(args: argparse.Namespace, team: Team) -> Plan:
    if not args.data:
        raise ToolError("say what to train on: a folder of pictures, or --resume RUN")
    recipe, out = recipe_of(args), args.out
    dataset = made_up.load(args.data, ok_needed=recipe.objective != "fcam")  # the paper's sets have no good pictures
    refuse_good_alone(dataset, recipe)
    dataset = replace(dataset, joined=joined_kinds(dataset, recipe, args.kinds))
    if dataset.good_alone and not hasattr(args, "false_reject"):
        recipe.false_reject = made_up.FALSE_REJECT
    pictures = held_out.common_size(dataset.splits["train"])
    if recipe.objective == "native":
        recipe.size, recipe.height = shape.input_of(pictures, getattr(args, "size", 0))
    if out is not None and out.suffix not in ("", ".pt"):
        raise ToolError(f"--out {out} must end in .pt, or be a run folder without a suffix")
    name = args.name or dataset.name
    folder = run_folder.new_folder(args.runs, name) if out is None else run_folder.beside(out) if out.suffix else out
    if team.leads:
        refuse_leaks(dataset, args.allow_leaks, sys.stderr.isatty() and not args.json)
        lost = shape.shrunk if recipe.objective == "native" else shape.squashed
        if warning := lost(pictures, recipe.shape):
            log.warning("%s", warning)
        if dataset.joined:
            log.warning("%s", kinds.told(dataset))
    recipe.parts = recipe.parts or team.world
    checkpoint = out if out is not None and out.suffix else folder / run_folder.CHECKPOINT
    return Plan(recipe, args.data, dataset, checkpoint, folder)


def joined_kinds(dataset: data.Dataset, recipe: Recipe, how: str | None) -> tuple[str, ...]:
    """The kinds that are learnt as one: as told, else as what training goes on from, else by the recipe."""
    if how is None and recipe.start:
        found = kinds.joined_in(provenance_of(Path(recipe.start)))
        return found if set(found) & set(dataset.classes) else ()
    return kinds.joined(dataset, how or ("auto" if recipe.objective == "native" else "all"))


def provenance_of(start: Path) -> dict[str, str]:
    """That of a bundle or a checkpoint; empty where it says nothing."""
    if (start / "manifest.toml").is_file():
        return tomllib.loads((start / "manifest.toml").read_text()).get("provenance", {})
    return torch.load(start, map_location="cpu", weights_only=True).get("provenance", {})


def refuse_good_alone(dataset: data.Dataset, recipe: Recipe) -> None:
    """Where only good pictures are there, and the recipe learns from rejects."""
    if not dataset.good_alone:
        return
    told = f"{dataset.root} has good pictures alone"
    if recipe.objective != "native":
        raise ToolError(
            f"{told}, and the recipe {recipe.recipe} learns its classifier from rejects: leave out --recipe "
            "(`native` learns from defects made up on good pictures), or add a folder of rejects"
        )
    if not (recipe.outline_steps and recipe.paste):
        raise ToolError(f"{told}: all there is to learn from are made-up defects, give --outline-steps and --paste")


def start_run(plan: Plan, team: Team, args: argparse.Namespace) -> Run:
    """A new run's folder, made by the process that leads."""
    if team.leads:
        plan.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "name": args.name or plan.dataset.name,
            "command": sys.argv,
            "data": place_of(plan.source),
            "dataset": plan.dataset.name,
            "dataset_sha256": plan.dataset.fingerprint(),
            "joined": list(plan.dataset.joined),
            "dataset_licence": data.licence_of(plan.dataset),
            "checkpoint": str(plan.checkpoint.resolve()),
            "device": str(team.device),
            "processes": team.world,
            "threads": torch.get_num_threads(),
            "recipe": asdict(plan.recipe),
            "accept_unproven": args.accept_unproven,
        }
        run_folder.create(plan.folder, told)
    team.wait()
    return Run(plan.folder)


def plan_resumed(folder: Path, moved: str = "") -> Plan:
    """`moved`: where the pictures are now, if they are no longer where the run began with them."""
    config = Run(folder).config
    if config.get("state") == "done":
        raise ToolError(f"{folder} is done: its checkpoint is {config['checkpoint']}")
    source = moved or config["data"]
    try:
        dataset = made_up.load(source)
    except ToolError as error:
        hint = f"if the pictures have moved, `fcam-tools train NEWPATH --resume {folder}` takes them from there"
        raise ToolError(f"{error}; {hint}") from error
    if dataset.fingerprint() != config["dataset_sha256"]:
        raise ToolError(
            f"the pictures in {source} are not those that {folder} began with: put them back, or give the place where "
            f"they are (`fcam-tools train NEWPATH --resume {folder}`), or start a new run"
        )
    dataset = replace(dataset, joined=tuple(config.get("joined", ())))
    return Plan(recipe_from(config["recipe"]), source, dataset, Path(config["checkpoint"]), folder)


def place_of(source: str) -> str:
    """A source of pictures that is valid from any folder."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source


def run(args: argparse.Namespace) -> int:
    team = parallel.start()
    if not team.leads:
        logging.getLogger("fcam_tools").setLevel(logging.WARNING)
    try:
        if args.resume and args.out:
            raise ToolError("--resume takes recipe and place from the run: give no --out")
        plan = plan_resumed(args.resume, args.data or "") if args.resume else plan_new(args, team)
        run = Run(plan.folder) if args.resume else start_run(plan, team, args)
        return train_run(plan, run, team, args)
    finally:
        parallel.stop()


def train_run(plan: Plan, run: Run, team: Team, args: argparse.Namespace) -> int:
    try:
        if team.leads:
            run.open()
            if args.resume and args.data:
                run.update(data=place_of(args.data))
        progress = sys.stderr.isatty() and not args.json and team.leads
        aside = plan.checkpoint.with_suffix(".classifier.pt")
        checkpoint, every = fit(plan.recipe, plan.dataset, progress, aside, team, run, args.snapshot_seconds)
        unproven, accepted = "", args.accept_unproven or run.config.get("accept_unproven", False)
        if team.leads:
            unproven = refusal(plan, checkpoint)
            if unproven and accepted:
                checkpoint["provenance"]["unproven"] = checkpoint["judgement"]["doubt"]
            summary = leave(plan, run, checkpoint, every)
            print(json.dumps(summary) if args.json else shown(summary))
        team.wait()
        if unproven:
            return judgement.end("train", unproven, accepted)
    except ToolError as error:
        raise ToolError(f"{error}; then go on with `fcam-tools train --resume {run.folder}`") from error
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"stopped; go on with `fcam-tools train --resume {run.folder}`") from stop
    except Exception:
        run.note_bug()
        raise
    finally:
        run.close()
    return 0


def refusal(plan: Plan, checkpoint: dict) -> str:
    """Why the validation pictures do not show that anything was learnt, and what to do; empty if they do."""
    found = checkpoint["judgement"]
    if not found.get("doubt"):
        return ""
    setting = held_out.setting_of(plan.dataset, "val", plan.recipe.shape, checkpoint)
    told = judgement.told(judgement.Figures(**found["figures"]), setting, plan.source)
    return f"{told}\n  the network is in {plan.checkpoint}"


def shown(summary: dict[str, Any]) -> str:
    """The summary for people: what the network does first, then where it is."""
    first, rest = summary.get("held_out"), {name: v for name, v in summary.items() if name != "held_out"}
    lines = [first["sentence"], judgement.quality(judgement.Figures(**first["figures"]))] if first else []
    last = [judgement.ALONE] if first and first["figures"]["made_up"] else []
    return "\n".join([*lines, *(f"{name}: {v}" for name, v in rest.items()), *last])


def leave(plan: Plan, run: Run, checkpoint: dict, every: list[dict]) -> dict[str, Any]:
    """The results' files; the snapshot goes last, so that a run killed here can still be resumed."""
    save(plan.checkpoint.with_suffix(".decoders.pt"), every)
    save(plan.checkpoint, checkpoint)
    own = run.folder / run_folder.CHECKPOINT
    if own.resolve() != plan.checkpoint.resolve():
        save(own, checkpoint)
        save(own.with_suffix(".decoders.pt"), every)
        aside = plan.checkpoint.with_suffix(".classifier.pt")
        if aside.is_file():  # the next training in this place writes its own over it long before it is done
            write(own.with_suffix(".classifier.pt"), aside.read_bytes())
    told = checkpoint["training"]
    speeds = {name: value for name, value in told.items() if name.startswith("pictures_per_second")}
    measured = {name: value for name, value in told.items() if name not in speeds and name != "seconds"}
    held = {}
    if found := checkpoint["judgement"]:
        figures = judgement.Figures(**found["figures"])
        held = {"held_out": found | {"sentence": judgement.sentence(figures), "auroc_interval": figures.auroc_interval}}
    thresholds = checkpoint["thresholds"]
    run.add_metrics(validation=measured, thresholds=thresholds, seconds=told["seconds"], **held, **speeds)
    run.finish()
    return {**held, "checkpoint": str(plan.checkpoint), "run": str(run.folder), "thresholds": thresholds, **told}
