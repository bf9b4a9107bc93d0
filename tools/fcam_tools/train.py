"""Training. In: labelled pictures. Out: one checkpoint file with a classifier, a decoder and their thresholds.

Stage 1 trains the classifier on image labels. Stage 2 freezes it (BatchNorm in eval, no gradient), computes class
activation maps of the defective training pictures once, and trains the decoder on seeds drawn from them anew every step
(seeds.py), with the terms of losses.py. With `joint` nothing is frozen, and the labels' loss goes on beside.

No pixel label is read: the classifier's epoch is chosen by image AUROC on the validation split, the decoder's by the
weak loss there (seeds and negatives, fixed draws), the score threshold by the false-reject rate on validation pictures
that are OK. Every epoch's decoder is kept beside the checkpoint (`NAME.decoders.pt`), so that `evaluate --oracle` can
tell what a choice with pixel labels would have given.

A run leaves a folder (runs.py). Killed at any moment, it goes on from its last snapshot with `--resume` and ends as if
nothing had happened: whatever is drawn is a function of the seed and the step (feed.py), and the snapshot holds the
rest. A step is made of `parts` parts, each with its own BatchNorm statistics, whose gradients and statistics are
averaged; how many processes share them out (parallel.py) does not change the result but for the order of that sum.
Tolerances, tested on a CPU with as many threads: a resumed run equals an uninterrupted one to the bit, two runs of one
seed too, and two processes one process to 1e-5 of a weight's size.
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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from tqdm import tqdm

from fcam_tools import data, held_out, judgement, losses, made_up, methods, native, parallel, pasted, runs, seeds, thaw
from fcam_tools.data.copies import add_leak_argument, refuse_leaks
from fcam_tools.disk import write
from fcam_tools.errors import ToolError
from fcam_tools.feed import Feed, Part, Pictures, key_of
from fcam_tools.labels import accuracy, classification_loss, defect_classes, defective, label_array
from fcam_tools.metrics import image_auroc
from fcam_tools.model import DECODERS, DEFAULT_BACKBONE, VERDICTS, Joint, Net, load_pretrained
from fcam_tools.parallel import Team
from fcam_tools.runs import Run, save
from fcam_tools.sampling import OtsuDraw, ProbabilityDraw
from fcam_tools.seeds import Draw
from fcam_tools.window import GRID

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "bf16", "fp32")
CHUNK = 32  # pictures at once where nothing is learnt
ASKED = 512  # training pictures that are judged too where the held-out ones show nothing
STATISTICS = 128  # pictures that a bundle's BatchNorms take their statistics from


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
    precision: str = "auto"
    parts: int = 0
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
    paste: float = 0.0  # share of good pictures that get a made-up defect when the decoder learns
    window: int = 0  # side of what the decoder learns from at a time, a multiple of 16; 0: whole pictures
    blend: float = 0.0  # share of what `start` held in the last weights: the decoder's, with `joint` all
    joint: float = 0.0  # share of the decoder's rate at which features and classifier go on learning with it; 0: none
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
    # What learning at the camera's own resolution has otherwise (native.py).
    verdict: str = "features"
    outline_steps: int = 0
    label_steps: int = 0
    windows: int = 0  # of a step of outlines; half as many of a step of labels
    pictures: int = 0  # whole ones of a step of labels
    label_rate: float = 0.5  # of the decoder's rate, where labels are learnt
    barrier_growth: float = 1.2

    def side(self, split: str) -> int:
        """Side of a split's pictures in memory."""
        return self.crop_from if split == "train" and self.crop_from else self.size


class Trainer:
    """Holds what both stages share: pictures, network, device, precision, team, run folder."""

    def __init__(
        self,
        recipe: Recipe,
        train: Pictures,
        val: Pictures,
        classes: int,
        progress: bool,
        team: Team | None = None,
        run: Run | None = None,
        snapshot_s: float = 60.0,
    ) -> None:
        self.recipe, self.train, self.val, self.progress = recipe, train, val, progress
        self.team, self.run, self.snapshot_s = team or parallel.start(), run, snapshot_s
        self.device = self.team.device
        random.seed(recipe.seed)
        np.random.seed(recipe.seed)
        torch.manual_seed(recipe.seed)
        self.parts = recipe.parts or self.team.world
        self.low = gains(recipe.precision, self.device)
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.low)
        weights = recipe.weights
        paste = pasted.Paste(recipe.paste, weights.smallest, weights.largest) if recipe.paste else None
        crop = recipe.size if recipe.crop_from else 0
        if recipe.blend and not recipe.start:
            raise ToolError("--blend needs --start: the weights that a share is kept of")
        if recipe.window % GRID:
            raise ToolError(f"--window {recipe.window} is no multiple of {GRID}: windows lie on the features' grid")
        window = recipe.window if recipe.window < min(train.pixels.shape[1:3]) else 0
        self.feed = Feed(train, self.team, recipe.batch, self.parts, recipe.seed, crop, paste, window)
        self.net = Net(
            classes, recipe.backbone, recipe.stride, recipe.widths, recipe.pool, recipe.decoder_stride,
            decoder=recipe.decoder, neck=recipe.neck, verdict=recipe.verdict,
        )  # fmt: skip
        self.origin = load_pretrained(self.net) if recipe.pretrained else "from scratch"
        if recipe.start:
            self.origin += f", continued from {continue_from(self.net, Path(recipe.start), train.pixels)}"
        self.net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.watch: Callable[[Stage, dict[str, float]], None] | None = None  # sees each epoch; may raise to stop
        self.told: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []  # one entry an epoch, of both stages
        self.speed: dict[str, float] = {}
        self.started, self.saved = time.time(), time.monotonic()

    def input(self, pixels: Tensor) -> Tensor:
        return seeds.to_input(pixels).to(self.device, memory_format=torch.channels_last)

    def generator(self, key: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(key)

    def chunked(self, count: int, work: Callable[[slice], Any]) -> list[Any]:
        """Work that learns nothing, chunk by chunk, shared out in the team."""
        return self.team.collect(count, chunk(self.recipe.size), work)

    def keep(self, stage: Stage, now: bool = False) -> None:
        """A snapshot, if the last one is old enough."""
        if self.run is None or not self.team.leads or not (now or time.monotonic() - self.saved > self.snapshot_s):
            return
        content = {"stage": stage.name, "told": self.told, "net": self.net.state_dict(), "state": stage.state()}
        save(self.run.snapshot, content | {"history": self.history, "seconds": time.time() - self.started})
        self.saved = time.monotonic()

    def snapshot(self) -> dict[str, Any] | None:
        """What an unfinished run left, with its network put back."""
        if self.run is None or not self.run.snapshot.is_file():
            return None
        # On the CPU: the optimiser wants its step counts there, and moves everything else to the device itself.
        found = torch.load(self.run.snapshot, map_location="cpu", weights_only=True)
        self.net.load_state_dict(found["net"])
        self.told, self.history = found["told"], found.get("history", [])
        self.started = time.time() - found["seconds"]
        log.info(
            "going on in the %s's epoch %d, step %d",
            found["stage"],
            found["state"]["epoch"] + 1,
            found["state"]["step"],
        )
        return found


def chunk(size: int) -> int:
    """Pictures of a side that are judged at once: fewer of large ones, whose features do not fit a cache."""
    return max(1, min(CHUNK, CHUNK * 256**2 // size**2))


def gains(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: if told, else where it is quicker.

    On CPUs that is with AMX. With AVX-512's instructions alone a step took 1.5 times as long as in float32 (0.81 s for
    0.53 s, eight windows of 256 pixels on one thread of an Intel Xeon VM).
    """
    if precision not in PRECISIONS:
        raise ToolError(f"no precision {precision}: choose one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_amx_tile_supported())


def continue_from(net: Net, path: Path, pictures: np.ndarray) -> str:
    """Loads a checkpoint's weights, or a bundle's, to go on from; a decoder of another shape starts anew.
    Refuses another classifier. Returns the file's SHA-256, shortened."""
    bundle = path.is_dir() and (path / "model.onnx").is_file()
    state = thaw.weights(path, net) if bundle else torch.load(path, weights_only=True)["state_dict"]
    own = net.state_dict()
    fits = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    counters = ("num_batches_tracked",) if bundle else ()  # a bundle has none, and nothing reads them
    missing = [n for n in own if n not in fits and not n.startswith("decoder.") and not n.endswith(counters)]
    if missing:
        raise ToolError(f"{path} holds another classifier (no {missing[0]}): train with its settings, or from anew")
    whole = all(name in fits or name.endswith(counters) for name in own)
    net.load_state_dict(
        {name: value for name, value in fits.items() if whole or not name.startswith("decoder.")}, strict=False
    )
    if bundle:
        thaw.restore_statistics(net, pictures[:: max(1, len(pictures) // STATISTICS)])
    file = path / "model.onnx" if bundle else path
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"


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


class Stage:
    """One stage on its way: with the network, all that a killed run needs to go on to the same bit.

    `start` is what the network was when it began, where that is needed later.
    """

    PLAIN = ("epoch", "step", "sums", "best", "kept", "every", "start")

    def __init__(
        self,
        name: str,
        module: nn.Module,
        groups: list[dict],
        lr: float,
        recipe: Recipe,
        epochs: int,
        steps: int,
        lr_step: int,
        start: dict[str, Tensor] | None = None,
    ) -> None:
        self.name, self.module, self.epochs, self.steps = name, module, epochs, steps
        self.optimizer, self.rate = optimise(recipe, groups, lr, epochs, steps, lr_step)
        self.average = Average(module, recipe.average)
        self.epoch, self.step = 0, 0
        self.sums: Tensor | None = None
        self.best: dict[str, float] = {}
        self.kept: dict[str, Tensor] = copy.deepcopy(module.state_dict())
        self.every: list[dict[str, Tensor]] = []
        self.start: dict[str, Tensor] = start or {}

    def trained(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def state(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in Stage.PLAIN}
        average = {"steps": self.average.steps, "updated": self.average.updated}
        return plain | {
            "optimizer": self.optimizer.state_dict(),
            "rate": self.rate.state_dict(),
            "average": average | {"module": self.average.module.state_dict()},
        }

    def load(self, state: dict[str, Any]) -> None:
        for name in Stage.PLAIN:
            setattr(self, name, state[name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rate.load_state_dict(state["rate"])
        self.average.steps, self.average.updated = state["average"]["steps"], state["average"]["updated"]
        self.average.module.load_state_dict(state["average"]["module"])


Terms = dict[str, Tensor]


def statistics(module: nn.Module) -> list[Tensor]:
    """What a training step changes besides the weights: the running statistics of the BatchNorms that learn."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    return [b for norm in norms for b in (norm.running_mean, norm.running_var) if b is not None]


def one_step(
    t: Trainer, stage: Stage, parts: Sequence[Part], terms: Sequence[str], loss: Callable[[Part], Terms]
) -> Tensor:
    """One step of the optimiser on all parts of the team's; returns each term's mean."""
    stage.optimizer.zero_grad(set_to_none=True)
    norms = statistics(stage.module) if t.parts > 1 else []
    before = [norm.clone() for norm in norms]
    after = [torch.zeros_like(norm) for norm in norms]
    told = torch.zeros(len(terms), device=t.device)
    for part in parts:
        for norm, start in zip(norms, before, strict=True):
            norm.copy_(start)
        torch.manual_seed(part.key)  # dropout
        found = stacked(loss(part), terms)
        (found.sum() * part.share).backward()
        told += found.detach() * part.share
        for total, norm in zip(after, norms, strict=True):
            total.add_(norm, alpha=part.share)
    if t.team.world > 1:
        t.team.share([*gradients(stage.trained()), *after, told])
    for norm, total in zip(norms, after, strict=True):
        norm.copy_(total)
    stage.optimizer.step()
    stage.rate.step()
    stage.average.update(stage.module)
    return told


def stacked(found: Terms, terms: Sequence[str]) -> Tensor:
    return torch.stack([found[name].float() for name in terms])


def gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """All of them, zeros where this process had no part."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def optimise_stage(
    t: Trainer,
    stage: Stage,
    terms: Sequence[str],
    loss: Callable[[Part], Terms],
    judge: Callable[[Stage], dict[str, float]],
    maps: Tensor | None = None,
    feed: Feed | native.Pieces | None = None,
) -> None:
    """All epochs of a stage from where it stands; `judge` validates after each and keeps what is best."""
    feed = feed or t.feed
    total, pictures, busy = stage.epochs * stage.steps, 0, 0.0
    bar = tqdm(
        total=total, desc=stage.name, unit="step", initial=stage.epoch * stage.steps + stage.step,
        disable=not (t.progress and t.team.leads), leave=False,
    )  # fmt: skip
    with bar:
        while stage.epoch < stage.epochs:
            stage.module.train()
            started, first = time.perf_counter(), stage.step
            for parts in feed.epoch(stage.name, stage.epoch, stage.step, maps):
                told = one_step(t, stage, parts, terms, loss)
                stage.sums = told if stage.sums is None else stage.sums.to(told.device) + told
                stage.step += 1
                bar.update()
                if stage.step % 10 == 0:
                    bar.set_postfix(epoch=f"{stage.epoch + 1}/{stage.epochs}", loss=f"{float(told.sum()):.3f}")
                t.keep(stage)
            means = ((stage.sums if stage.sums is not None else torch.zeros(len(terms))) / max(1, stage.step)).tolist()
            busy += time.perf_counter() - started
            pictures += min(len(t.train.labels), stage.step * t.recipe.batch) - first * t.recipe.batch
            values = dict(zip(terms, means, strict=True)) | {"rate": stage.rate.get_last_lr()[0]} | judge(stage)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items() if name != "rate")
            if t.team.leads:
                log.info("%s %2d/%d: %s", stage.name, stage.epoch + 1, stage.epochs, shown)
            stage.epoch, stage.step, stage.sums = stage.epoch + 1, 0, None
            t.history.append({"stage": stage.name, "epoch": stage.epoch, **values})
            if t.watch:
                t.watch(stage, values)
            if t.run and t.team.leads:
                t.run.epoch(stage.name, stage.epoch, values)
            t.keep(stage, now=True)
    if busy:
        t.speed[stage.name] = round(pictures / busy, 1)


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
        stage = native.stage_of(t, Stage, how)
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
    """The score that at most `false_reject` of the OK pictures reach, half-way between two of them."""
    good = np.sort(scores[ok])[::-1]
    if not len(good):
        return 0.5
    lower = good[min(math.floor(false_reject * len(good)), len(good) - 1)]  # the first that must stay below
    upper = good[good > lower].min(initial=1.0)
    return float(np.clip((upper + lower) / 2, 0.001, 0.999))


def read_split(pictures: Sequence[data.Picture], size: int, classes: int, progress: bool) -> Pictures:
    pixels = data.read_pictures(pictures, (size, size), progress)
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
    classes = len(dataset.classes)
    splits = {
        split: read_split(dataset.splits[split], recipe.side(split), classes, progress) for split in ("train", "val")
    }
    t = Trainer(recipe, splits["train"], splits["val"], classes, progress, team, run, snapshot_s)
    counts = f"{len(splits['train'].labels)} training and {len(splits['val'].labels)} validation pictures"
    where = f"{t.team.world} x {t.device}, {'bfloat16' if t.low else 'float32'}"
    log.info("%s, classes %s; %s weights; on %s", counts, ", ".join(dataset.classes), t.origin, where)
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
    threshold = (
        made_up.good_threshold(scores[good], recipe.false_reject)
        if alone
        else score_threshold(scores, good, recipe.false_reject)
    )
    found = judged(t, dataset, scores, threshold)
    return {
        "settings": t.net.settings,
        "state_dict": {name: value.cpu() for name, value in t.net.state_dict().items()},
        "classes": list(dataset.classes),
        "ok": dataset.ok,
        "size": recipe.size,
        "thresholds": {
            "score": threshold,
            "map": recipe.map_threshold,
            "map_low": recipe.map_threshold_low,
            "min_area_px": recipe.min_area_px,
        },
        "provenance": {
            "tool": f"fcam-tools {runs.tool()}",
            "dataset": dataset.name,
            "dataset_sha256": dataset.fingerprint(),
            **({"dataset_licence": licence} if (licence := data.licence_of(dataset)) else {}),
            "backbone": f"{recipe.backbone} to stride {recipe.stride}",
            "weights": t.origin,
            **({"defects": judgement.MADE_UP} if alone else {}),
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
    if recipe.objective == "native" and not hasattr(args, "size"):
        recipe.size = native.side_of(held_out.common_size(dataset.splits["train"]))
    if out is not None and out.suffix not in ("", ".pt"):
        raise ToolError(f"--out {out} must end in .pt, or be a run folder without a suffix")
    name = args.name or dataset.name
    folder = runs.new_folder(args.runs, name) if out is None else runs.beside(out) if out.suffix else out
    if team.leads:
        refuse_leaks(dataset, args.allow_leaks, sys.stderr.isatty() and not args.json)
        if warning := held_out.shape_warning(dataset):
            log.warning("%s", warning)
    recipe.parts = recipe.parts or team.world
    checkpoint = out if out is not None and out.suffix else folder / runs.CHECKPOINT
    return Plan(recipe, args.data, dataset, checkpoint, folder)


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
            "dataset_licence": data.licence_of(plan.dataset),
            "checkpoint": str(plan.checkpoint.resolve()),
            "device": str(team.device),
            "processes": team.world,
            "threads": torch.get_num_threads(),
            "recipe": asdict(plan.recipe),
            "accept_unproven": args.accept_unproven,
        }
        runs.create(plan.folder, told)
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
    size = (plan.recipe.size, plan.recipe.size)
    setting = held_out.setting_of(plan.dataset, "val", size, checkpoint)
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
    own = run.folder / runs.CHECKPOINT
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
