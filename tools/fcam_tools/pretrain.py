"""`pretrain`: what `train` starts from. In: rendered sets (`synth`), whose outlines are exact. Out: rendered.py's file.

Nobody outlines defects on real parts, and whoever renders parts knows every pixel. So features and decoder learn what a
defect is on many rendered surfaces at once, window by window, before they see a plant's: half of the windows around a
defect, others of good parts, others with made-up defects (pasted.py). Everything about a surface that does not matter
changes from window to window: size, turn, light, colour, blur, noise. The plant's own masks, if there are any, are not
read: only sets that say that they were rendered are taken.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from fcam_tools import data, losses, methods, native, pasted, rendered, seeds
from fcam_tools.errors import ToolError
from fcam_tools.feed import Part, ahead, key_of
from fcam_tools.model import Joint, Net, load_pretrained
from fcam_tools.runs import save
from fcam_tools.trainer import Recipe, Stage
from fcam_tools.truth import PixelTruth

log = logging.getLogger(__name__)

AROUND, MADE_UP = 0.6, 0.2  # shares of the windows: around a rendered defect, with a made-up one; the rest shows none
ZOOM = 1.4  # times that a window may be larger or smaller than the network sees it
SMALLEST, LARGEST = 0.0006, 0.25  # shares of a window that a made-up defect covers
TOLD = 100  # steps between two lines about the loss

Rng = np.random.Generator
Pixels = np.ndarray  # [h, w, 3], grey levels
Mask = np.ndarray  # bool [h, w]


@dataclass(frozen=True)
class Rendered:
    """A rendered set in memory: pictures uint8, and which pixels are defects."""

    name: str
    pictures: list[Pixels]
    masks: list[Mask]

    @property
    def good(self) -> list[int]:
        return [index for index, mask in enumerate(self.masks) if not mask.any()]

    @property
    def bad(self) -> list[int]:
        return [index for index, mask in enumerate(self.masks) if mask.any()]


def read(folder: str, progress: bool) -> Rendered:
    """A set that `synth` wrote; refuses any other, and one without good or without defective pictures."""
    try:
        ours = "generator" in json.loads((Path(folder) / "dataset.json").read_bytes())
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise ToolError(
            f"{folder} is no set that `fcam-tools synth` wrote: outlines are known of rendered pictures alone"
        )
    dataset = data.load(folder)
    truth, pictures, masks = PixelTruth(dataset), [], []
    learnt = [*dataset.splits["train"], *dataset.splits["val"]]
    for picture in tqdm(learnt, dataset.name, unit="picture", disable=not progress):
        pictures.append(np.asarray(data.reading.open_rgb(picture.path)))
        found = truth.marks(picture)
        masks.append(np.zeros(pictures[-1].shape[:2], bool) if found is None else found)
    out = Rendered(dataset.name, pictures, masks)
    if not (out.good and out.bad):
        raise ToolError(
            f"{folder} has {len(out.good)} good and {len(out.bad)} defective training pictures: both are needed"
        )
    return out


@dataclass(frozen=True)
class Windows:
    """The steps: a function of seed and step alone."""

    sets: Sequence[Rendered]
    side: int
    count: int
    seed: int

    def step(self, step: int) -> list[Part]:
        key = key_of(self.seed, "pretrain", step)
        rng = np.random.default_rng(key)
        pairs = [self.window(rng) for _ in range(self.count)]
        pixels, masks = (torch.from_numpy(np.stack(found)) for found in zip(*pairs, strict=True))
        labels = masks.flatten(1).any(1).long()
        return [Part(seeds.to_input(pixels), labels, None, 1.0, key, masks)]

    def window(self, rng: Rng) -> tuple[Pixels, Mask]:
        """Pixels float32 [side, side, 3] and mask."""
        source, kind = self.sets[int(rng.integers(len(self.sets)))], rng.random()
        side = round(self.side * float(np.exp(rng.uniform(-1, 1) * np.log(ZOOM))))
        if kind < AROUND:
            pixels, mask = cut(rng, source, source.bad, side)
        else:
            pixels, mask = cut(rng, source, source.good, side)
            other, _ = cut(rng, source, source.good, side)
            if kind < AROUND + MADE_UP and other.shape == pixels.shape:
                pixels, mask = pasted.Paste(1.0, SMALLEST, LARGEST)(rng, pixels, other)
        return varied(rng, *scaled(pixels, mask, self.side))


def cut(rng: Rng, source: Rendered, chosen: Sequence[int], side: int) -> tuple[Pixels, Mask]:
    """A square of any of the chosen pictures, float32, around a marked pixel if it has any."""
    index = chosen[int(rng.integers(len(chosen)))]
    pixels, mask = source.pictures[index], source.masks[index]
    side = min(side, *mask.shape)
    row, column = native.pixel_of(rng, mask)
    top, left = native.start(rng, mask.shape[0], side, row), native.start(rng, mask.shape[1], side, column)
    place = np.s_[top : top + side, left : left + side]
    return pixels[place].astype(np.float32), mask[place]


def scaled(pixels: Pixels, mask: Mask, side: int) -> tuple[Pixels, Mask]:
    if mask.shape[0] == side:
        return pixels, mask
    how = cv2.INTER_AREA if mask.shape[0] > side else cv2.INTER_LINEAR
    covered = cv2.resize(mask.astype(np.float32), (side, side), interpolation=how)
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=how)), covered >= 0.5


def varied(rng: Rng, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
    """Another turn, light, colour, sharpness and noise of the same surface."""
    quarters, flipped = int(rng.integers(4)), rng.random() < 0.5
    pixels, mask = np.rot90(pixels, quarters), np.rot90(mask, quarters)
    if flipped:
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
    draw = rng.random(5)
    if draw[0] < 0.3:
        pixels = pixels[..., rng.permutation(3)]
    if draw[1] < 0.2:
        pixels = np.repeat(pixels.mean(2, keepdims=True), 3, 2)
    if draw[2] < 0.15:
        pixels = 255 - pixels
    pixels = np.ascontiguousarray(pixels * rng.uniform(0.6, 1.4) + rng.uniform(-30, 30), np.float32)
    if draw[3] < 0.2:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 0.9)))
    if draw[4] < 0.3:
        pixels = pixels + rng.normal(0, rng.uniform(1, 5), pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.float32), np.ascontiguousarray(mask)


def loss_of(net: Net, part: Part) -> torch.Tensor:
    found = net.decoder(net.chosen(net.features(part.x.contiguous(memory_format=torch.channels_last))))
    assert part.masks is not None
    marked = part.masks.flatten(1).any(1)
    total = found.sum() * 0
    if marked.any():
        full = F.interpolate(found[marked], size=part.masks.shape[1:], mode="bilinear", align_corners=False)
        total = total + losses.outlined(full, part.masks[marked][:, None])
    if not marked.all():
        total = total + losses.fully_negative(found[~marked])
    return total


def learn(sets: Sequence[Rendered], steps: int, seed: int, progress: bool, pretrained: bool = True) -> Net:
    """The network after so many steps: the average of its last weights."""
    recipe = Recipe(**methods.named("native", {"seed": seed}))
    torch.manual_seed(seed)
    net = Net(
        2, recipe.backbone, recipe.stride, recipe.widths, recipe.pool, recipe.decoder_stride, neck=recipe.neck,
        verdict=recipe.verdict,
    )  # fmt: skip
    if pretrained:
        load_pretrained(net)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stage = Stage("pretrain", Joint(net), native.groups_of(net, recipe), recipe.decoder_lr, recipe, 1, steps, 0)
    windows, told, started = Windows(sets, recipe.window, recipe.windows, seed), 0.0, time.monotonic()
    stage.module.train()
    every = ahead(windows.step, range(steps), 1)
    for step, (part,) in enumerate(tqdm(every, "pretrain", total=steps, unit="step", disable=not progress), 1):
        stage.optimizer.zero_grad(set_to_none=True)
        loss = loss_of(net, part)
        loss.backward()
        stage.optimizer.step()
        stage.rate.step()
        stage.average.update(stage.module)
        told += float(loss.detach())
        if step % TOLD == 0:
            log.info("%d of %d steps: loss %.3f, %.0f s", step, steps, told / TOLD, time.monotonic() - started)
            told = 0.0
    stage.module.load_state_dict(stage.average.module.state_dict())
    return net.eval()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sets", nargs="+", metavar="SET", help="folder that `fcam-tools synth` wrote")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--steps", type=int, default=4000, help="of 24 windows (default 4000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    progress = sys.stderr.isatty() and not args.json
    sets = [read(folder, progress) for folder in args.sets]
    began = time.monotonic()
    net = learn(sets, args.steps, args.seed, progress)
    names = ", ".join(f"{one.name} ({len(one.good)} good, {len(one.bad)} defective)" for one in sets)
    save(args.out, rendered.content_of(net, {"sets": names, "steps": str(args.steps), "seed": str(args.seed)}))
    summary = {"out": str(args.out), "sets": names, "steps": args.steps, "seconds": round(time.monotonic() - began)}
    print(json.dumps(summary) if args.json else "\n".join(f"{name}: {value}" for name, value in summary.items()))
    return 0
