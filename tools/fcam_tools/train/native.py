"""Training at the camera's own resolution: few pictures, small defects. In: a trainer's pictures. Out: its network.

A defect of twenty pixels is lost in the mean of a picture and in an activation map of 32 x 32 cells: so features,
decoder and verdict learn together from the pixels as the camera judges them.

1. `outlines`: windows of good pictures, defects made up on most of them (pasted.py). What a change looks like on this
   surface needs no reject; without any, this stage is all there is.
2. `labels`: the same windows, and whole pictures, as many rejects as good ones and each kind of reject as often as the
   others, also where kinds are learnt as one class. A reject's label says that its brightest pixels are a defect
   (multiple-instance learning), and the verdict is pooled from the map itself; every pixel of a good picture is
   background.

Steps are counted, not epochs: how much is learnt does not depend on how many pictures there are. The last weights'
average is kept: a validation split of ten rejects cannot choose between epochs. What a step holds is a function of
seed, stage and step alone, as in feed.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fcam_tools.data import pasted
from fcam_tools.model.network import Decoder, Joint, Net, evidence
from fcam_tools.model.place import STRIDES
from fcam_tools.train import losses, seeds
from fcam_tools.train.feed import Look, Part, ahead, augment, dihedral, key_of
from fcam_tools.train.labels import classification_loss, defective
from fcam_tools.train.trainer import Recipe, Stage, Terms, Trainer

TERMS = ("pasted", "negative", "label", "peak", "own")
EPOCH = 100  # steps from one look at the validation pictures to the next
GRID, RIM = 4, 16  # pixels: places lie on the grid of the shallow features, which differ in so wide a rim
NORMAL = 200  # good pictures that say what is normal
AROUND = 2  # sides of a window that a defect is made up in, so that it can reach beyond the window
WINDOWS_SHARE = 0.5  # of a step's gradient, where there are whole pictures too


@dataclass(frozen=True)
class Course:
    """A stage: its steps, and what each holds."""

    name: str
    epochs: int
    steps: int  # of an epoch
    windows: int
    pictures: int

    @staticmethod
    def of(name: str, steps: int, windows: int, pictures: int) -> Course:
        """So many steps, or a few more that fill the last epoch."""
        epochs = math.ceil(steps / EPOCH)
        return Course(name, epochs, math.ceil(steps / max(1, epochs)), windows, pictures)


class Pieces:
    """The steps of a stage: windows with made-up defects, then whole pictures."""

    def __init__(self, t: Trainer, how: Course, normal: Normal | None = None) -> None:
        self.t, self.recipe, self.how, self.normal = t, t.recipe, how, normal
        bad = defective(t.train.labels)
        self.good = np.flatnonzero(~bad)
        self.kinds = kinds_of(t.train.labels if t.train.kinds is None else t.train.kinds)

    def epoch(self, stage: str, epoch: int, first: int = 0, maps: Tensor | None = None) -> Iterator[list[Part]]:
        return ahead(lambda step: self.step(stage, epoch, step), range(first, self.how.steps), 1)

    def step(self, stage: str, epoch: int, step: int) -> list[Part]:
        key = key_of(self.recipe.seed, stage, epoch, step)
        rng = np.random.default_rng(key)
        share = WINDOWS_SHARE if self.how.pictures else 1.0
        parts = [self.windows(rng, key, share)]
        if self.how.pictures:
            parts.append(self.pictures(rng, key + 1, 1 - share))
        return parts[self.t.team.rank :: self.t.team.world]

    def windows(self, rng: np.random.Generator, key: int, share: float) -> Part:
        found = [self.window(rng) for _ in range(self.how.windows)]
        pieces, marks, spots = zip(*found, strict=True)
        pixels, masks = torch.from_numpy(np.stack(pieces)), torch.from_numpy(np.stack(marks))
        normal = self.normal.windows(list(spots), (masks.shape[1], masks.shape[2])) if self.normal else None
        send = self.t.feed.send
        # Beside whole pictures these have no label: the pooled evidence of a small window stands for more of it.
        labels = torch.full((len(masks),), -1) if self.how.pictures else masks.flatten(1).any(1).long()
        return Part(send(seeds.to_input(pixels)), send(labels), None, share, key, send(masks), self.sent(normal))

    def sent(self, normal: list[Tensor] | None) -> list[Tensor] | None:
        return [self.t.feed.send(each) for each in normal] if normal else None

    def window(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Spot]:
        """Pixels float32 [side, side, 3] of a good picture, the mask of what was made up on it, and where it lies."""
        side, recipe = self.recipe.window, self.recipe
        (around, spot), (source, _) = self.piece(rng, AROUND * side), self.piece(rng, AROUND * side)
        mask = np.zeros(around.shape[:2], bool)
        if rng.random() < recipe.paste:
            grown = float(np.prod(self.t.train.pixels.shape[1:3])) / mask.size
            smallest, largest = (share * grown for share in (recipe.weights.smallest, recipe.weights.largest))
            paste = pasted.Paste(1.0, smallest, min(0.3, largest), self.normal is not None)
            around, mask = paste(rng, around, source)
        row, column = pixel_of(rng, mask)
        height, width = around.shape[:2]
        top, left = start(rng, height, side, row), start(rng, width, side, column)
        if self.normal:
            top, left = on_grid(top, height - side, row, side), on_grid(left, width - side, column, side)
        cut = np.s_[top : top + side, left : left + side]
        spot = Spot(spot.look, spot.top + top, spot.left + left)
        return np.ascontiguousarray(around[cut], np.float32), np.ascontiguousarray(mask[cut]), spot

    def piece(self, rng: np.random.Generator, side: int) -> tuple[np.ndarray, Spot]:
        """Any place of any good picture, turned and lit: float32 [h, w, 3], smaller where the picture is; and where."""
        picture = self.t.train.pixels[self.good[int(rng.integers(len(self.good)))]]
        top, left = (int(rng.integers(max(0, length - side) + 1)) for length in picture.shape[:2])
        if self.normal:
            top, left = top // GRID * GRID, left // GRID * GRID
        piece, look = picture[top : top + side, left : left + side], half_turns(Look.draw(rng, 1))
        spot = Spot.of(look, (top, left), piece.shape[:2], picture.shape[:2])
        return augment(torch.from_numpy(piece[None]), None, look)[0][0].numpy(), spot

    def pictures(self, rng: np.random.Generator, key: int, share: float) -> Part:
        """Whole pictures: half of them rejects, each kind as often as the others."""
        count = self.how.pictures
        kinds = rng.permutation(len(self.kinds))
        bad = [int(rng.choice(self.kinds[kinds[index % len(kinds)]])) for index in range(count // 2)]
        chosen = np.array([*bad, *rng.choice(self.good, count - len(bad))])
        look = half_turns(Look.draw(rng, count))
        pixels = augment(torch.from_numpy(self.t.train.pixels[chosen]), None, look)[0]
        send, labels = self.t.feed.send, torch.from_numpy(self.t.train.labels[chosen])
        normal = self.sent(self.normal.whole(look) if self.normal else None)
        return Part(send(seeds.to_input(pixels)), send(labels), None, share, key, normal=normal)


@dataclass(frozen=True)
class Spot:
    """A place of a picture that was turned: where it begins, in pixels."""

    look: int
    top: int
    left: int

    @staticmethod
    def of(look: Look, corner: tuple[int, int], piece: tuple[int, ...], picture: tuple[int, ...]) -> Spot:
        (top, left), kind = corner, look_of(look)[0]
        if kind >= 2:
            top, left = picture[0] - top - piece[0], picture[1] - left - piece[1]
        return Spot(kind, top, picture[1] - left - piece[1] if kind % 2 else left)


def look_of(look: Look) -> list[int]:
    """0 to 3: 1 is mirrored, 2 turned by half, 3 both in turn."""
    return [int(turn // 2 * 2 + flip) for turn, flip in zip(look.turn, look.flip, strict=True)]


class Normal:
    """Shallow features of good pictures, their mean at each place, for each way that pictures are turned."""

    def __init__(self, t: Trainer) -> None:
        good = np.flatnonzero(~defective(t.train.labels))[:NORMAL]
        t.net.eval()
        self.means = [self.mean(t, good, kind) for kind in range(4)]
        assert t.net.place
        for own, found in zip(t.net.place.normal(), self.means[0], strict=True):
            own.copy_(found)

    @torch.no_grad()
    def mean(self, t: Trainer, good: np.ndarray, kind: int) -> list[Tensor]:
        total: list[Tensor] = []
        for row in good:
            turned = dihedral(
                torch.from_numpy(t.train.pixels[row : row + 1]), np.array([kind // 2 * 2]), np.array([kind % 2 == 1])
            )
            found = t.net.features(t.input(turned))[: len(STRIDES)]
            total = [a + b for a, b in zip(total, found, strict=True)] if total else found
        return [each / len(good) for each in total]

    def whole(self, look: Look) -> list[Tensor]:
        kinds = look_of(look)
        return [torch.cat([self.means[kind][index] for kind in kinds]) for index in range(len(STRIDES))]

    def windows(self, spots: list[Spot], size: tuple[int, int]) -> list[Tensor]:
        """Not a number at the rim, where a window's features are not the whole picture's."""
        out = []
        for index, stride in enumerate(STRIDES):
            height, width, rim = size[0] // stride, size[1] // stride, RIM // stride
            cut = [
                self.means[s.look][index][:, :, s.top // stride :, s.left // stride :][:, :, :height, :width]
                for s in spots
            ]
            whole = torch.cat(cut).clone()
            inside = torch.zeros(height, width, dtype=torch.bool)
            inside[rim:-rim, rim:-rim] = True
            whole[:, :, ~inside] = torch.nan
            out.append(whole)
        return out


def learn_places(t: Trainer) -> Normal | None:
    return Normal(t) if t.net.place else None


def on_grid(first: int, most: int, at: int | None, side: int) -> int:
    """The nearest start on the shallow features' grid, with the pixel `at` inside."""
    first = min(first, most) // GRID * GRID
    return first if at is None or at < first + side else min(first + GRID, most)


def kinds_of(labels: np.ndarray) -> list[np.ndarray]:
    """The rows of each class of rejects that has any."""
    hot = labels[:, None] == np.arange(1, labels.max(initial=0) + 1) if labels.ndim == 1 else labels[:, 1:] > 0
    return [np.flatnonzero(column) for column in hot.T if column.any()]


def kinds_told(scores: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """Of how many rejects the likeliest kind of defect is theirs, and how many rejects there are; `scores` [N, K]."""
    bad = defective(labels)
    likeliest = scores[bad][:, 1:].argmax(1) + 1
    own = labels[bad]
    right = likeliest == own if own.ndim == 1 else own[np.arange(len(own)), likeliest] > 0
    return int(right.sum()), len(own)


def half_turns(look: Look) -> Look:
    """Parts are made in one pose, and pictures that were not square are squeezed: a quarter turn shows none of them."""
    return Look(look.turn // 2 * 2, look.flip, look.gain, look.offset)


def pixel_of(rng: np.random.Generator, mask: np.ndarray) -> tuple[int | None, int | None]:
    """Row and column of any pixel of a mask; none of an empty one."""
    marked = np.argwhere(mask)
    if not len(marked):
        return None, None
    row, column = marked[int(rng.integers(len(marked)))]
    return int(row), int(column)


def start(rng: np.random.Generator, length: int, side: int, at: int | None) -> int:
    """Where a window of `side` begins on a side of `length`, with the pixel `at` inside if there is one."""
    low, high = (0, length - side) if at is None else (max(0, at - side + 1), min(at, length - side))
    return int(rng.integers(max(0, min(low, high)), max(0, high) + 1))


def courses(t: Trainer) -> list[Course]:
    """The stages; without rejects there are no labels to learn."""
    recipe = t.recipe
    found = [Course.of("outlines", recipe.outline_steps, recipe.windows, 0)]
    if defective(t.train.labels).any():
        found.append(Course.of("labels", recipe.label_steps, recipe.windows // 2, recipe.pictures))
    return [course for course in found if course.epochs]


def loss_of(t: Trainer, part: Part) -> Terms:
    """A part's terms: of windows those of outlines, of whole pictures those of labels.

    The verdict teaches the map that it is pooled from, and no other feature: whatever else sees whole pictures learns a
    few hundred labels by heart.
    """
    net, weights = t.net, t.recipe.weights
    decoder = cast(Decoder, net.decoder)
    with t.autocast:
        trunk = decoder.trunk(net.chosen(net.features(part.x), part.normal))
        found = decoder.head(trunk)
        logits = net.classifier(evidence(found, trunk.detach()))
    logits, found = logits.float(), found.float()
    terms = {name: found.sum() * 0 for name in TERMS}
    if part.masks is not None:
        marked = part.masks.flatten(1).any(1)
        if marked.any():
            full = F.interpolate(found[marked], size=part.masks.shape[1:], mode="bilinear", align_corners=False)
            terms["pasted"] = weights.pasted * losses.outlined(full, part.masks[marked][:, None])
        if not marked.all():
            terms["negative"] = weights.negative * losses.fully_negative(found[~marked])
        if (part.labels >= 0).all():
            terms["label"] = weights.label * side_loss(logits, part.labels)
        return terms
    bad = defective(part.labels)
    terms["label"] = weights.label * classification_loss(logits, part.labels)
    if (~bad).any():
        terms["negative"] = weights.negative * losses.fully_negative(found[~bad])
    if bad.any():
        everywhere = torch.ones_like(found[bad][:, 0], dtype=torch.bool)
        terms["peak"] = weights.peak * losses.peak(found[bad], everywhere, weights.brightest)
        terms["own"] = weights.own * losses.own(found[bad], everywhere)
    return terms


def side_loss(logits: Tensor, sides: Tensor) -> Tensor:
    """Cross-entropy of OK or defect alone: a made-up defect is of no class. `sides` [N] is 1 where there is one."""
    defect = logits[:, 1:].logsumexp(1) - logits[:, 0]
    return F.binary_cross_entropy_with_logits(defect, sides.float())


def groups_of(net: Net, recipe: Recipe) -> list[dict[str, Any]]:
    """Features learn at a share of the rate; the shallow ones, generic and the largest in pixels, not at all."""
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    net.features.freeze(recipe.frozen_stride)
    deep = [p for p in net.features.parameters() if p.requires_grad]
    own = [*net.decoder.parameters(), *net.classifier.parameters()]
    return [{"params": deep, "lr": recipe.decoder_lr * recipe.joint}, {"params": own}]


def stage_of(t: Trainer, how: Course) -> Stage:
    rate = t.recipe.decoder_lr * (1.0 if how.name == "outlines" else t.recipe.label_rate)
    return Stage(how.name, Joint(t.net), groups_of(t.net, t.recipe), rate, t.recipe, how.epochs, how.steps, 0)
