"""Training. In: labelled pictures. Out: one checkpoint file with a classifier, a decoder and their thresholds.

Stage 1 trains the classifier on image labels. Stage 2 freezes it (BatchNorm in eval, no gradient), computes class
activation maps of the defective training pictures once, and trains the decoder on seeds drawn from them anew every step
(seeds.py), with the terms of losses.py.

No pixel label is read: the classifier's epoch is chosen by image AUROC on the validation split, the decoder's by the
weak loss there (seeds and negatives, fixed draws), the score threshold by the false-reject rate on validation pictures
that are OK. Every epoch's decoder is kept beside the checkpoint (`NAME.decoders.pt`), so that `evaluate --oracle` can
tell what a choice with pixel labels would have given.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import logging
import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from tqdm import tqdm

from fcam_tools import __version__, data, losses, methods, seeds
from fcam_tools.data.copies import refuse_leaks
from fcam_tools.errors import ToolError
from fcam_tools.labels import accuracy, classification_loss, defect_classes, defective, label_array
from fcam_tools.model import DECODERS, DEFAULT_BACKBONE, Net, load_pretrained
from fcam_tools.sampling import OtsuDraw, ProbabilityDraw
from fcam_tools.seeds import Draw

log = logging.getLogger(__name__)


@dataclass
class Recipe:
    """Every number of a training run; written into the checkpoint."""

    backbone: str = DEFAULT_BACKBONE
    stride: int = 16
    decoder_stride: int = 8
    widths: tuple[int, ...] = (32, 16)
    pool: str = "lse"
    size: int = 256
    pretrained: bool = True
    start: str = ""
    seed: int = 0
    batch: int = 16
    epochs: int = 10
    lr: float = 1e-3
    backbone_lr_share: float = 0.4
    train_depthwise: bool = False
    frozen_stride: int = 4
    weight_decay: float = 1e-4
    decoder_epochs: int = 4
    decoder_lr: float = 4e-3
    seeds: str = "product"
    draw: methods.Draws = field(default_factory=Draw)
    false_reject: float = 0.01
    map_threshold: float = 0.5
    map_threshold_low: float = 0.3
    min_area_px: int = 6
    weights: losses.Weights = field(default_factory=losses.Weights)
    # What the papers' recipes have otherwise (methods.py).
    recipe: str = "inspection"
    objective: str = "inspection"
    decoder: str = "light"
    neck: int = 256
    crop_from: int = 0  # side that training pictures are read at, to cut windows of `size` from; 0: read at `size`
    optimizer: str = "adamw"
    lr_step: int = 0  # epochs after which SGD's rate falls to a tenth
    decoder_lr_step: int = 0
    average: float = 0.99
    barrier_growth: float = 1.2

    def side(self, split: str) -> int:
        """Side of a split's pictures in memory."""
        return self.crop_from if split == "train" and self.crop_from else self.size


@dataclass
class Pictures:
    """One split in memory."""

    pixels: np.ndarray  # uint8 [N, H, W, 3]
    labels: np.ndarray  # int64 [N], 0 = OK; or multi-hot float32 [N, K] (labels.py)

    def defective(self) -> np.ndarray:
        return np.flatnonzero(defective(self.labels))


class Trainer:
    """Holds what both stages share: data, device, precision, progress."""

    def __init__(self, recipe: Recipe, train: Pictures, val: Pictures, classes: int, progress: bool) -> None:
        self.recipe, self.train, self.val, self.progress = recipe, train, val, progress
        random.seed(recipe.seed)
        np.random.seed(recipe.seed)
        torch.manual_seed(recipe.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        bf16 = self.device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)
        self.net = Net(
            classes, recipe.backbone, recipe.stride, recipe.widths, recipe.pool, recipe.decoder_stride,
            decoder=recipe.decoder, neck=recipe.neck,
        )  # fmt: skip
        self.origin = load_pretrained(self.net) if recipe.pretrained else "from scratch"
        if recipe.start:
            self.origin += f", continued from {continue_from(self.net, Path(recipe.start))}"
        self.net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def batches(self, maps: np.ndarray | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """One shuffled, augmented epoch: input, labels, and the maps that go with the pictures."""
        order = np.random.permutation(len(self.train.labels))
        for start in range(0, len(order) - 1, self.recipe.batch):
            chosen = order[start : start + self.recipe.batch]
            x = torch.from_numpy(self.train.pixels[chosen])
            m = torch.from_numpy(maps[chosen]).float() if maps is not None else None
            x, m = methods.random_crop(x, m, self.recipe.size) if self.recipe.crop_from else augment(x, m)
            labels = torch.from_numpy(self.train.labels[chosen]).to(self.device)
            yield self.input(x), labels, m.to(self.device) if m is not None else None

    def input(self, pixels: Tensor) -> Tensor:
        return seeds.to_input(pixels).to(self.device, memory_format=torch.channels_last)

    def bar(self, epoch: int, epochs: int, stage: str, maps: np.ndarray | None = None) -> tqdm:
        steps = math.ceil((len(self.train.labels) - 1) / self.recipe.batch)
        return tqdm(
            self.batches(maps),
            f"{stage} {epoch + 1}/{epochs}",
            steps,
            unit="step",
            disable=not self.progress,
            leave=False,
        )


def continue_from(net: Net, path: Path) -> str:
    """Loads a checkpoint's weights to go on from; a decoder of another shape starts anew.
    Refuses another classifier. Returns the file's SHA-256, shortened."""
    saved = torch.load(path, weights_only=True)
    own = net.state_dict()
    fits = {
        name: value for name, value in saved["state_dict"].items() if name in own and own[name].shape == value.shape
    }
    missing = [name for name in own if name not in fits and not name.startswith("decoder.")]
    if missing:
        raise ToolError(f"{path} holds another classifier (no {missing[0]}): train with its settings, or from anew")
    whole = all(name in fits for name in own)
    net.load_state_dict(
        {name: value for name, value in fits.items() if whole or not name.startswith("decoder.")}, strict=False
    )
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def augment(pixels: Tensor, maps: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Flips and quarter turns (square pictures), brightness and contrast; the maps turn with their pictures."""
    square = pixels.shape[1] == pixels.shape[2]
    out = torch.empty_like(pixels)
    out_maps = torch.empty_like(maps) if maps is not None else None
    for index in range(len(pixels)):
        turn = random.randrange(4) if square else 2 * random.randrange(2)
        flip = random.random() < 0.5
        out[index] = dihedral(pixels[index], turn, flip)
        if maps is not None and out_maps is not None:
            out_maps[index] = dihedral(maps[index], turn, flip)
    return jitter(out), out_maps


def dihedral(x: Tensor, turn: int, flip: bool) -> Tensor:
    x = torch.rot90(x, turn, (0, 1)) if turn else x
    return torch.flip(x, (1,)) if flip else x


def jitter(pixels: Tensor) -> Tensor:
    """Gain 0.9 to 1.1 and offset -12 to 12 grey levels, one of each a picture; float, clipped to 0..255."""
    shape = (len(pixels), 1, 1, 1)
    return (pixels * torch.empty(shape).uniform_(0.9, 1.1) + torch.empty(shape).uniform_(-12, 12)).clamp_(0, 255)


def schedule(step: int, steps: int) -> float:
    """Linear warm-up over the first tenth, then cosine to zero."""
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class Average:
    """Exponential moving average of a module's parameters and buffers: what is validated and kept."""

    EVERY = 4  # steps between two updates: an update costs a tenth of a step; the first few steps have one each

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.steps, self.updated = copy.deepcopy(module).eval(), decay, 0, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.steps += 1
        if self.decay and self.steps > self.EVERY and self.steps % self.EVERY:
            return
        decay = min(self.decay, self.steps / (self.steps + 10)) ** (self.steps - self.updated)
        self.updated = self.steps
        pairs = list(zip(self.module.state_dict().values(), module.state_dict().values(), strict=True))
        floats = [pair for pair in pairs if pair[0].dtype.is_floating_point]
        torch._foreach_lerp_([average for average, _ in floats], [now for _, now in floats], 1 - decay)


def optimise(
    recipe: Recipe, parameters: list[dict], lr: float, epochs: int, steps: int, lr_step: int = 0
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """For `epochs` of `steps` each; with `lr_step` the rate falls in steps, else it warms up and follows a cosine."""
    optimizer = methods.optimizer_of(recipe.optimizer, parameters, lr, recipe.weight_decay)

    def factor(step: int) -> float:
        return methods.step_decay(step // steps, lr_step, lr) if lr_step else schedule(step, epochs * steps)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def freeze_depthwise(module: nn.Module) -> None:
    """Keep pretrained depthwise filters: they are generic, and their gradients take a third of a step on a CPU."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1:
            part.weight.requires_grad_(False)


def train_classifier(t: Trainer) -> dict[str, float]:
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
    steps = math.ceil((len(t.train.labels) - 1) / recipe.batch)
    optimizer, rate = optimise(recipe, groups, recipe.lr, recipe.epochs, steps, recipe.lr_step)
    stage = nn.ModuleList([net.features, net.classifier])
    average = Average(stage, recipe.average)
    best = {"val_auroc": validate(t)[0] if recipe.start else -1.0}
    kept = copy.deepcopy(stage.state_dict())
    for epoch in range(recipe.epochs):
        stage.train()
        total = 0.0
        for x, labels, _ in (bar := t.bar(epoch, recipe.epochs, "classifier")):
            with t.autocast:
                logits = net.classify(x)
            loss = classification_loss(logits.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rate.step()
            average.update(stage)
            total += float(loss.detach())
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}")
        state = copy.deepcopy(stage.state_dict())
        stage.load_state_dict(average.module.state_dict())
        auroc, accuracy = validate(t)
        log.info("classifier %2d/%d: loss %.3f, val AUROC %.4f, class accuracy %.3f", epoch + 1, recipe.epochs,
                 total / max(1, len(bar)), auroc, accuracy)  # fmt: skip
        if auroc >= best["val_auroc"]:
            best = {"val_auroc": auroc, "val_accuracy": accuracy, "epoch": epoch + 1}
            kept = copy.deepcopy(stage.state_dict())
        stage.load_state_dict(state)
    stage.load_state_dict(kept)
    return best


@torch.no_grad()
def probabilities(t: Trainer, pixels: np.ndarray) -> np.ndarray:
    """Softmax of the classifier: [N, classes]."""
    t.net.eval()
    out = [
        t.net.classify(t.input(torch.from_numpy(chunk))).float().softmax(1).cpu().numpy() for chunk in chunks(pixels)
    ]
    return np.concatenate(out)


def chunks(pixels: np.ndarray, size: int = 32) -> Iterator[np.ndarray]:
    for start in range(0, len(pixels), size):
        yield pixels[start : start + size]


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
    labels = defect_classes(pictures.labels[chosen])
    coarse = "cam" if t.recipe.seeds == "product" else t.recipe.seeds
    for index, method in enumerate((coarse, t.recipe.seeds)):
        same = index == 1 and method == coarse
        maps[chosen, ..., index] = (
            maps[chosen, ..., 0] if same else activation_maps(t, pictures.pixels[chosen], labels, method)
        )
    return maps


def activation_maps(t: Trainer, pixels: np.ndarray, labels: list[list[int]], method: str) -> np.ndarray:
    return seeds.activation_maps(t.net, pixels, labels, method, progress=t.progress)


def weak_loss(
    recipe: Recipe, logits: Tensor, x: Tensor, labels: Tensor, maps: Tensor, t: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """The decoder's terms, each with its weight applied."""
    return methods.terms(recipe, logits, x, labels, maps, t, generator)


def train_decoder(t: Trainer) -> tuple[dict[str, float], list[dict]]:
    """Stage 2: the decoder alone; leaves the epoch with the lowest weak loss on val, returns every epoch's weights."""
    recipe, net = t.recipe, t.net
    for parameter in [*net.features.parameters(), *net.classifier.parameters()]:
        parameter.requires_grad_(False)
    net.eval()
    maps, val_maps = defect_maps(t, t.train), defect_maps(t, t.val)
    steps = math.ceil((len(t.train.labels) - 1) / recipe.batch)
    groups = [{"params": net.decoder.parameters()}]
    optimizer, rate = optimise(
        recipe, groups, recipe.decoder_lr, recipe.decoder_epochs, steps, recipe.decoder_lr_step
    )  # fmt: skip
    generator = torch.Generator(t.device).manual_seed(recipe.seed)
    average = Average(net.decoder, recipe.average)
    best, kept, every = {"val_weak_loss": math.inf}, net.decoder.state_dict(), []
    for epoch in range(recipe.decoder_epochs):
        barrier_t = min(10.0, recipe.barrier_growth**epoch)
        net.decoder.train()
        sums: dict[str, float] = {}
        for x, labels, m in (bar := t.bar(epoch, recipe.decoder_epochs, "decoder", maps)):
            with torch.no_grad(), t.autocast:
                features = net.features(x)
            with t.autocast:
                logits = net.map_logits(features, (x.shape[2], x.shape[3]))
            terms = weak_loss(recipe, logits.float(), x, labels, m, barrier_t, generator)
            loss = torch.stack(list(terms.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rate.step()
            average.update(net.decoder)
            sums = {name: sums.get(name, 0.0) + float(value.detach()) for name, value in terms.items()}
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}")
        state = copy.deepcopy(average.module.state_dict())
        every.append(state)
        val = validate_decoder(t, average.module, val_maps)
        told = ", ".join(f"{name} {value / max(1, len(bar)):.3f}" for name, value in sums.items())
        log.info("decoder %2d/%d: %s; weak val loss %.4f", epoch + 1, recipe.decoder_epochs, told, val)
        if val < best["val_weak_loss"]:
            best, kept = {"val_weak_loss": val, "decoder_epoch": epoch + 1}, state
    net.decoder.load_state_dict(kept)
    return best, every


@torch.no_grad()
def validate_decoder(t: Trainer, decoder: nn.Module, maps: np.ndarray) -> float:
    """Seeds and negatives only, on fixed draws: what training optimises, without the terms that shape it."""
    generator = torch.Generator(t.device).manual_seed(0)
    recipe = replace(t.recipe, weights=replace(t.recipe.weights, size=0, crf=0, peak=0))
    own, t.net.decoder = t.net.decoder, decoder
    total, count = 0.0, 0
    for start in range(0, len(t.val.labels), 32):
        x = t.input(torch.from_numpy(t.val.pixels[start : start + 32]))
        labels = torch.from_numpy(t.val.labels[start : start + 32]).to(t.device)
        m = torch.from_numpy(maps[start : start + 32]).float().to(t.device)
        logits = t.net.map_logits(t.net.features(x), (x.shape[2], x.shape[3])).float()
        total += float(sum(weak_loss(recipe, logits, x, labels, m, 1.0, generator).values()))
        count += 1
    t.net.decoder = own
    return total / max(1, count)


def score_threshold(scores: np.ndarray, ok: np.ndarray, false_reject: float) -> float:
    """The score that at most `false_reject` of the OK pictures reach, half-way between two of them; 0.5 without any."""
    good = np.sort(scores[ok])[::-1]
    if not len(good):
        return 0.5
    lower = good[min(math.floor(false_reject * len(good)), len(good) - 1)]  # the first that must stay below
    upper = good[good > lower].min(initial=1.0)
    return float(np.clip((upper + lower) / 2, 0.001, 0.999))


def fit(recipe: Recipe, dataset: data.Dataset, progress: bool, aside: Path | None = None) -> tuple[dict, list[dict]]:
    """Both stages; returns the checkpoint and every epoch's decoder.

    `aside` gets the state after stage 1: an interrupted run goes on from it with `--start ASIDE --epochs 0`.
    """
    started = time.time()
    splits = {}
    for split in ("train", "val"):
        pictures = dataset.splits[split]
        pixels = data.read_pictures(pictures, (recipe.side(split), recipe.side(split)), progress)
        labels = [p.labels for p in pictures]
        splits[split] = Pictures(pixels, label_array(labels, len(dataset.classes)))
    t = Trainer(recipe, splits["train"], splits["val"], len(dataset.classes), progress)
    counts = f"{len(splits['train'].labels)} training and {len(splits['val'].labels)} validation pictures"
    log.info("%s, classes %s; %s weights; on %s", counts, ", ".join(dataset.classes), t.origin, t.device)
    told = train_classifier(t)
    if aside:
        save(aside, describe(t, dataset, told))
    decoder_told, every = train_decoder(t)
    return describe(t, dataset, {**told, **decoder_told, "seconds": round(time.time() - started)}), every


def describe(t: Trainer, dataset: data.Dataset, told: dict[str, float]) -> dict:
    """The checkpoint: weights, what they mean, thresholds, and where they come from."""
    recipe = t.recipe
    scores = 1 - probabilities(t, t.val.pixels)[:, 0]
    return {
        "settings": t.net.settings,
        "state_dict": {name: value.cpu() for name, value in t.net.state_dict().items()},
        "classes": list(dataset.classes),
        "ok": dataset.ok,
        "size": recipe.size,
        "thresholds": {
            "score": score_threshold(scores, ~defective(t.val.labels), recipe.false_reject),
            "map": recipe.map_threshold,
            "map_low": recipe.map_threshold_low,
            "min_area_px": recipe.min_area_px,
        },
        "provenance": {
            "tool": f"fcam-tools {__version__}",
            "dataset": dataset.name,
            "dataset_sha256": dataset.fingerprint(),
            "backbone": f"{recipe.backbone} to stride {t.net.features.reductions[-1]}",
            "weights": t.origin,
            "seed": str(recipe.seed),
            "trained_on": f"{t.device.type}, torch {torch.__version__}",
        },
        "metrics": {},
        "recipe": asdict(recipe),
        "training": told,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help=data.HELP)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint file to write (.pt)")
    parser.add_argument("--recipe", choices=list(methods.RECIPES), default="inspection", help="where the numbers start")
    plain = Recipe()
    choices = {
        "seeds": seeds.METHODS,
        "objective": tuple(methods.OBJECTIVES),
        "decoder": DECODERS,
        "optimizer": methods.OPTIMIZERS,
    }
    # No defaults here: what is not given is the recipe's.
    for name, value in vars(plain).items():
        flag, unset, told = "--" + name.replace("_", "-"), argparse.SUPPRESS, f"inspection: {value}"
        if isinstance(value, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=unset, help=told)
        elif isinstance(value, (int, float, str)) and name != "recipe":
            parser.add_argument(flag, type=type(value), choices=choices.get(name), default=unset, help=told)
    for prefix, groups in (("weight", [plain.weights]), ("draw", [Draw(), OtsuDraw(), ProbabilityDraw()])):
        for name, value in {name: value for group in reversed(groups) for name, value in vars(group).items()}.items():
            parser.add_argument(
                f"--{prefix}-{name}", type=type(value), default=argparse.SUPPRESS, help=f"inspection: {value}"
            )
    parser.add_argument("--allow-leaks", action="store_true", help="train though pictures in two splits are copies")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The named recipe with what the command line gives instead."""
    given = {name: getattr(args, name) for name in vars(Recipe()) if hasattr(args, name) and name != "recipe"}
    base = Recipe(**methods.named(args.recipe, given))
    weights = {name: getattr(args, f"weight_{name}") for name in vars(base.weights) if hasattr(args, f"weight_{name}")}
    draw = {name.removeprefix("draw_"): value for name, value in vars(args).items() if name.startswith("draw_")}
    foreign = [name for name in draw if name not in vars(base.draw)]
    if foreign:
        own = ", ".join(f"--draw-{name}" for name in vars(base.draw))
        raise ToolError(f"the recipe {args.recipe} has no --draw-{foreign[0]}: it has {own}")
    return replace(base, weights=replace(base.weights, **weights), draw=replace(base.draw, **draw))


def run(args: argparse.Namespace) -> int:
    if args.out.suffix != ".pt":
        raise ToolError(f"--out {args.out} must end in .pt")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    progress = sys.stderr.isatty() and not args.json
    recipe = recipe_of(args)
    dataset = data.load(args.data)
    refuse_leaks(dataset, args.allow_leaks, progress)
    checkpoint, every = fit(recipe, dataset, progress, args.out.with_suffix(".classifier.pt"))
    save(args.out, checkpoint)
    save(args.out.with_suffix(".decoders.pt"), every)
    summary = {"checkpoint": str(args.out), "thresholds": checkpoint["thresholds"], **checkpoint["training"]}
    print(json.dumps(summary) if args.json else "\n".join(f"{name}: {value}" for name, value in summary.items()))
    return 0


def save(path: Path, content: object) -> None:
    """Write aside, then rename: an interrupted run leaves the old file."""
    aside = path.with_suffix(".tmp")
    torch.save(content, aside)
    aside.replace(path)
