"""What every training shares. In: a recipe, pictures. Out: stages that learn step by step, and that no kill loses.

`Recipe` holds every number, `Trainer` the network, pictures, device, team and run folder, `Stage` one stage on its way;
`optimise_stage` takes its steps. train.py and native.py say what is learnt.

A step is made of `parts` parts, each with its own BatchNorm statistics, whose gradients and statistics are averaged;
how many processes share them out (parallel.py) does not change the result but for the order of that sum.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fcam_tools.common import parallel
from fcam_tools.common.errors import ToolError
from fcam_tools.common.parallel import Team
from fcam_tools.common.run_folder import Run, save
from fcam_tools.data import pasted
from fcam_tools.data.sight import Template
from fcam_tools.model.network import DEFAULT_BACKBONE, Net
from fcam_tools.model.weights import load_pretrained
from fcam_tools.train import from_onnx, losses, methods, seeds
from fcam_tools.train.feed import Feed, Part, Pictures
from fcam_tools.train.seeds import Draw
from fcam_tools.train.window import GRID

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "bf16", "fp32")
CHUNK = 32  # pictures at once where nothing is learnt
STATISTICS = 128  # pictures that a bundle's BatchNorms take their statistics from

Terms = dict[str, Tensor]


class Steps(Protocol):
    """Where a stage's steps come from: of an epoch those from `first` on, each in parts."""

    def epoch(self, stage: str, epoch: int, first: int = 0, maps: Tensor | None = None) -> Iterator[list[Part]]: ...


@dataclass
class Recipe:
    """Every number of a training run; written into the checkpoint."""

    backbone: str = DEFAULT_BACKBONE
    stride: int = 16
    decoder_stride: int = 8
    widths: tuple[int, ...] = (32, 16)
    pool: str = "lse"
    size: int = 256  # side of the square input, or its width
    height: int = 0  # of an input that is not square
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
    place: str = "no"  # are places compared with what good pictures have there: auto, if parts lie in one pose; yes; no
    label_rate: float = 0.5  # of the decoder's rate, where labels are learnt
    barrier_growth: float = 1.2

    @property
    def shape(self) -> tuple[int, int]:
        """Width and height of the network's input."""
        return self.size, self.height or self.size

    def read_at(self, split: str) -> tuple[int, int]:
        """Width and height of a split's pictures in memory."""
        return (self.crop_from,) * 2 if split == "train" and self.crop_from else self.shape


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
        template: Template | None = None,
    ) -> None:
        self.template = template  # where parts lie in these pictures; none: anywhere
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
            place=recipe.shape if template else (),
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
        return self.team.collect(count, chunk(*self.recipe.shape), work)

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


def chunk(width: int, height: int) -> int:
    """Pictures that are judged at once: fewer of large ones, whose features do not fit a cache."""
    return max(1, min(CHUNK, CHUNK * 256**2 // (width * height)))


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
    state = from_onnx.weights(path, net) if bundle else torch.load(path, weights_only=True)["state_dict"]
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
        from_onnx.restore_statistics(net, pictures[:: max(1, len(pictures) // STATISTICS)])
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
    feed: Steps | None = None,
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
