"""Shuffled, augmented batches. In: one split in memory. Out: the parts of each step that this process computes.

What a step holds is a function of (seed, stage, epoch, step) alone: no random state is carried from step to step. So a
run that was killed goes on with exactly the batches it would have had, and every process of a team draws the same ones
and takes its own parts.

Pictures lie on the device where they fit into half of its free memory, and are turned and lit there; else threads
prepare batches ahead of the device, in pinned memory, as they do where defects are pasted.
"""

from __future__ import annotations

import math
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fcam_tools.common.parallel import Team
from fcam_tools.data import pasted
from fcam_tools.train import methods, seeds, window
from fcam_tools.train.labels import defective

AHEAD = 4  # batches that are ready before they are asked for
WORKERS = min(8, os.cpu_count() or 1)  # threads that make defects


@dataclass
class Pictures:
    """One split in memory."""

    pixels: np.ndarray  # uint8 [N, H, W, 3]
    labels: np.ndarray  # int64 [N], 0 = OK; or multi-hot float32 [N, K] (labels.py)
    kinds: np.ndarray | None = None  # the same by folders, where some are learnt as one class

    def defective(self) -> np.ndarray:
        return np.flatnonzero(defective(self.labels))


@dataclass
class Part:
    """One part of a step: `share` is its share of the step's pictures, `key` seeds whatever is drawn on it."""

    x: Tensor  # float [n, 3, H, W], (pixel - 128) / 128
    labels: Tensor  # int64 [n], or float32 [n, K]
    maps: Tensor | None  # float [n, H/4, W/4, 2]
    share: float
    key: int
    masks: Tensor | None = None  # bool [n, H, W] of the defects pasted on good pictures; none: no picture may have one
    normal: list[Tensor] | None = None  # what good pictures have at these places (model/place.py)


def key_of(*names: object) -> int:
    """A seed made of names and numbers; the same on every machine."""
    return zlib.crc32("/".join(map(str, names)).encode())


class Feed:
    """Batches of `pictures`, each in `parts` parts that the processes of a team take in turns."""

    def __init__(
        self,
        pictures: Pictures,
        team: Team,
        batch: int,
        parts: int,
        seed: int,
        crop: int = 0,
        paste: pasted.Paste | None = None,
        window: int = 0,
    ) -> None:
        self.crop = crop  # side of the windows that a recipe trains on; 0: whole pictures, turned and lit
        self.paste = paste  # on good pictures, where there are maps: when the decoder learns
        self.window = window  # side of what the decoder learns from at a time; 0: whole pictures
        self.team, self.batch, self.parts, self.seed = team, batch, max(1, min(parts, batch)), seed
        self.labels = pictures.labels
        # Defects are made by the CPU: pictures that get some do not go to and fro.
        self.on_device = team.device.type != "cuda" or (not paste and fits(pictures.pixels.nbytes, team.device))
        self.pixels = self.hold(pictures.pixels)

    def hold(self, values: np.ndarray) -> Tensor:
        """Values of every picture, where batches are made of them."""
        return torch.from_numpy(values).to(self.team.device) if self.on_device else torch.from_numpy(values)

    def steps(self) -> int:
        """Steps of an epoch; a last batch of one picture, of which BatchNorm could learn nothing, is left out."""
        return math.ceil((len(self.labels) - 1) / self.batch)

    def epoch(self, stage: str, epoch: int, first: int = 0, maps: Tensor | None = None) -> Iterator[list[Part]]:
        """The steps of an epoch from the step `first` on."""
        steps = range(first, self.steps())
        if self.on_device:
            return (self.step(stage, epoch, step, maps) for step in steps)
        return ahead(lambda step: self.step(stage, epoch, step, maps), steps, WORKERS if self.paste else 1)

    def step(self, stage: str, epoch: int, step: int, maps: Tensor | None) -> list[Part]:
        order = np.random.default_rng(key_of(self.seed, stage, epoch)).permutation(len(self.labels))
        chosen = order[step * self.batch : (step + 1) * self.batch]
        rng = np.random.default_rng(key_of(self.seed, stage, epoch, step))
        look = Look.draw(rng, len(chosen))
        parts = np.array_split(np.arange(len(chosen)), self.parts)
        own = range(self.team.rank, len(parts), self.team.world)
        return [
            self.part(
                chosen[parts[i]], look.rows(parts[i]), maps, len(chosen), key_of(self.seed, stage, epoch, step, i)
            )
            for i in own
            if len(parts[i])
        ]

    def part(self, chosen: np.ndarray, look: Look, maps: Tensor | None, of: int, key: int) -> Part:
        rows = torch.from_numpy(chosen)
        there = rows.to(self.pixels.device)
        pixels, m = self.pixels[there], maps[there] if maps is not None else None
        if self.crop:
            pixels, m = methods.random_crop(pixels, m, self.crop, torch.Generator().manual_seed(key))
            m = m.float() if m is not None else None
        else:
            pixels, m = augment(pixels, m, look)
        good = np.flatnonzero(~defective(self.labels[chosen]))
        masks = pasted.onto(pixels, good, self.pixels, key, self.paste) if self.paste and m is not None else None
        if self.window and m is not None:
            pixels, m, masks = window.cut(pixels, m, masks, self.window, key)
        x, labels = seeds.to_input(pixels), torch.from_numpy(self.labels[chosen])
        sent = [None if value is None else self.send(value) for value in (m, masks)]
        return Part(self.send(x), self.send(labels), sent[0], len(rows) / of, key, sent[1])

    def send(self, value: Tensor) -> Tensor:
        device = self.team.device
        if value.device.type == "cpu" and device.type == "cuda":
            value = value.pin_memory()
        form = torch.channels_last if value.dim() == 4 and value.shape[1] == 3 else torch.preserve_format
        return value.to(device, memory_format=form, non_blocking=True)

    def speed(self, seconds: float = 2.0, maps: Tensor | None = None) -> float:
        """Pictures a second of this path alone, over at most an epoch and about `seconds`; with maps, the decoder's."""
        count, started = 0, time.perf_counter()
        for parts in self.epoch("speed", 0, maps=maps):
            count += sum(len(part.labels) for part in parts)
            if time.perf_counter() - started > seconds:
                break
        if self.team.device.type == "cuda":
            torch.cuda.synchronize(self.team.device)
        return count / max(1e-9, time.perf_counter() - started)


def fits(size: int, device: torch.device) -> bool:
    return size <= torch.cuda.mem_get_info(device)[0] // 2


def ahead(make: Callable[[int], list[Part]], steps: range, workers: int) -> Iterator[list[Part]]:
    """The same steps in order, prepared by threads while the device works; an error there is raised here."""
    waiting: deque[Future[list[Part]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for step in steps:
            waiting.append(pool.submit(make, step))
            if len(waiting) >= AHEAD + workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


# How a training picture may look: any of its eight turns and flips, a little lighter or darker.


@dataclass
class Look:
    """What is drawn for each picture of a batch."""

    turn: np.ndarray  # quarter turns, 0..3
    flip: np.ndarray  # bool
    gain: np.ndarray  # 0.9 to 1.1
    offset: np.ndarray  # -12 to 12 grey levels

    @staticmethod
    def draw(rng: np.random.Generator, count: int) -> Look:
        turn, flip = rng.integers(0, 4, count), rng.random(count) < 0.5
        return Look(turn, flip, rng.uniform(0.9, 1.1, count), rng.uniform(-12, 12, count))

    def rows(self, rows: np.ndarray) -> Look:
        return Look(self.turn[rows], self.flip[rows], self.gain[rows], self.offset[rows])


def augment(pixels: Tensor, maps: Tensor | None, look: Look) -> tuple[Tensor, Tensor | None]:
    """Flips and quarter turns (half turns of pictures that are not square), brightness and contrast.
    uint8 [n, H, W, 3] to float, clipped to 0..255; the maps [n, h, w, k] turn with their pictures."""
    square = pixels.shape[1] == pixels.shape[2]
    turns = look.turn if square else look.turn // 2 * 2
    out = light(dihedral(pixels, turns, look.flip), look.gain, look.offset)
    return out, dihedral(maps, turns, look.flip).float() if maps is not None else None


def dihedral(x: Tensor, turn: np.ndarray, flip: np.ndarray) -> Tensor:
    """Each picture of [n, H, W, ...] turned and flipped as its entry says, all of one kind at once."""
    out = torch.empty_like(x)
    for kind in np.unique(2 * turn + flip):
        rows = torch.from_numpy(np.flatnonzero(2 * turn + flip == kind)).to(x.device)
        turned = torch.rot90(x[rows], int(kind) // 2, (1, 2))
        out[rows] = torch.flip(turned, (2,)) if kind % 2 else turned
    return out


def light(pixels: Tensor, gain: np.ndarray, offset: np.ndarray) -> Tensor:
    def each(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).float().view(-1, 1, 1, 1).to(pixels.device)

    return (pixels * each(gain) + each(offset)).clamp_(0, 255)
