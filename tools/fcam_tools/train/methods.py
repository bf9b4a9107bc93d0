"""The training recipes: our own, F-CAM's as published, NEGEV's. In: a recipe's name. Out: its numbers and terms.

- `native`: for few pictures and small defects: everything learns together at the camera's resolution (native.py).
- `inspection`: for small defects and good pictures in plenty; every number is `trainer.Recipe`'s default.
- `pasted`: the same classifier; the decoder learns outlines from defects made up on good pictures (pasted.py), in
  windows (window.py), and real ones from its own map, where the activation map says that there is one (losses.own).
- `joint`: `pasted` in whole pictures, and features and classifier go on learning beside the decoder, on the labels as
  before: the made-up defects teach the backbone what outlines need. Several times the work: for a GPU.
- `fcam-paper`: F-CAM (Belharbi et al., arXiv 2109.07069): large feature maps and a plain U-Net, one seed of each kind
  from Otsu's eroded region and from the lowest tenth, dense CRF, both areas pushed up by an extended log-barrier, SGD.
- `negev`: NEGEV (Belharbi et al., MIDL 2022): the same decoder, seeds by probability, neither CRF nor size, and every
  pixel of a good picture as background.
Two things differ from F-CAM, which knows no good pictures and looks at validation boxes: good pictures teach the
classifier and are left out of the decoder's loss, and epochs are chosen by what image labels can say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fcam_tools.common.errors import ToolError
from fcam_tools.train import crf, losses
from fcam_tools.train.labels import defective
from fcam_tools.train.sampling import OtsuDraw, ProbabilityDraw
from fcam_tools.train.seeds import Draw

Draws = Draw | OtsuDraw | ProbabilityDraw
Terms = dict[str, Tensor]
TERMS = ("seeds", "negative", "size", "peak", "crf", "own", "pasted")
OPTIMIZERS = ("adamw", "sgd")
MIN_LR = 1e-7
DEFAULT = "native"
STEPS = ("outline_steps", "label_steps", "windows", "pictures", "label_rate")  # numbers of `native` alone
EPOCHS = ("epochs", "decoder_epochs", "seeds", "lr", "batch")  # numbers that it has no use for

PAPER: dict[str, Any] = {
    "backbone": "resnet50_wide",
    "stride": 8,
    "decoder": "unet",
    "neck": 0,
    "pool": "avg",
    "size": 224,
    "crop_from": 256,
    "batch": 32,
    "optimizer": "sgd",
    "weight_decay": 1e-4,
    "average": 0.0,
    "epochs": 50,
    "lr": 0.017,  # of the classifier's layer: ten times the backbone's
    "backbone_lr_share": 0.1,
    "lr_step": 15,
    "frozen_stride": 0,
    "train_depthwise": True,
    "seeds": "cam",
}
PASTED: dict[str, Any] = {
    "paste": 0.5,
    "window": 128,
    "decoder_epochs": 12,
    # F1 is the same from 0.2 to 0.5 (README): the lower, the fewer rejects are left without a region.
    "map_threshold": 0.25,
    "map_threshold_low": 0.15,
    "seeds": "cam",
    "weights": losses.Weights(seeds=0.0, size=0.0, peak=0.0, crf=0.0, own=1.0),
}
RECIPES: dict[str, dict[str, Any]] = {
    "inspection": {},
    "pasted": PASTED,
    "joint": PASTED | {"window": 0, "joint": 0.1, "decoder_epochs": 20},
    "native": {
        "objective": "native",
        "verdict": "decoder",
        "stride": 8,  # nothing reads deeper features
        "size": 512,
        "neck": 0,  # each class's evidence is a weighted sum of the map's: nothing else that could be memorised
        "window": 128,
        "windows": 24,
        "pictures": 6,
        "outline_steps": 600,
        "label_steps": 500,
        "paste": 0.7,
        "place": "auto",
        "joint": 0.2,
        "average": 0.98,
        "map_threshold": 0.25,
        "map_threshold_low": 0.15,
        "weights": losses.Weights(label=0.5, negative=1.0, peak=0.5, own=0.5, smallest=0.00005, largest=0.03),
    },
    "fcam-paper": PAPER
    | {
        "objective": "fcam",
        "decoder_epochs": 50,
        "decoder_lr": 0.01,
        "decoder_lr_step": 1000,
        "barrier_growth": 1.01,
        "draw": OtsuDraw(),
        "weights": losses.Weights(seeds=1.0, negative=0.0, size=0.1, crf=2e-9, peak=0.0),
    },
    "negev": PAPER
    | {
        "objective": "negev",
        "decoder_epochs": 1000,
        "decoder_lr": 0.1,
        "decoder_lr_step": 250,
        "draw": ProbabilityDraw(),
        "weights": losses.Weights(seeds=1.0, negative=1.0, size=0.0, crf=0.0, peak=0.0),
    },
}


def named(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """A recipe's numbers with some given instead; a size of one's own keeps the recipe's share to cut from."""
    base = RECIPES[name]
    if "size" in given and base.get("crop_from") and "crop_from" not in given:
        given = given | {"crop_from": 4 * round(given["size"] * base["crop_from"] / base["size"] / 4)}
    numbers = base | given
    if numbers.get("crop_from") and numbers["crop_from"] < numbers["size"]:
        raise ToolError(f"--crop-from {numbers['crop_from']} is smaller than --size {numbers['size']}")
    return numbers | {"recipe": name}


class Settings(Protocol):
    """What the terms ask of a recipe."""

    objective: str
    draw: Draws
    weights: losses.Weights


def terms(
    recipe: Settings,
    logits: Tensor,
    x: Tensor,
    labels: Tensor,
    maps: Tensor,
    t: float,
    generator: torch.Generator,
    masks: Tensor | None = None,
) -> Terms:
    """The decoder's terms, each with its weight applied; a term that a recipe lacks is zero.

    `logits` [N, 1, H, W], `x` [N, 3, H, W] in -1..1, `maps` [N, h, w, 2] coarse and fine, `t` the log-barrier's.
    `masks` [N, H, W], bool: the outlines of the defects that were pasted on good pictures.
    """
    zero = logits.sum() * 0
    marked = masks.flatten(1).any(1) if masks is not None else torch.zeros(len(logits), dtype=torch.bool)
    plain = ~marked
    found = OBJECTIVES[recipe.objective](recipe, logits[plain], x[plain], labels[plain], maps[plain], t, generator)
    if masks is not None and marked.any():
        found["pasted"] = recipe.weights.pasted * losses.outlined(logits[marked], masks[marked][:, None])
    return {name: found.get(name, zero) for name in TERMS}


def inspection_terms(
    recipe: Settings, logits: Tensor, x: Tensor, labels: Tensor, maps: Tensor, t: float, generator: torch.Generator
) -> Terms:
    weights, bad = recipe.weights, defective(labels)
    found: Terms = {}
    if bad.any():
        coarse, fine = maps[bad, ..., 0], maps[bad, ..., 1]
        support, own = coarse >= recipe.draw.support, logits[bad]
        wanted: dict[str, Callable[[], Tensor]] = {
            "seeds": lambda: losses.partial_cross_entropy(own, recipe.draw(coarse, fine, generator)),
            "size": lambda: losses.size_bounds(own, weights.smallest, weights.largest, t),
            "peak": lambda: losses.peak(own, support, weights.smallest),
            "crf": lambda: losses.gated_crf(own, x[bad]),
            "own": lambda: losses.own(own, support),
        }
        weighed = ((name, getattr(weights, name), term) for name, term in wanted.items())
        found |= {name: weight * term() for name, weight, term in weighed if weight}
    if (~bad).any():
        found["negative"] = weights.negative * losses.fully_negative(logits[~bad])
    return found


def fcam_terms(
    recipe: Settings, logits: Tensor, x: Tensor, labels: Tensor, maps: Tensor, t: float, generator: torch.Generator
) -> Terms:
    weights, bad = recipe.weights, defective(labels)
    if not bad.any():
        return {}
    found = {"seeds": weights.seeds * seeded(recipe, logits[bad], maps[bad], generator)}
    if weights.size:
        found["size"] = weights.size * losses.absolute_size(logits[bad], t)
    if weights.crf:
        found["crf"] = weights.crf * crf.dense_crf(logits[bad], x[bad])
    return found


def negev_terms(
    recipe: Settings, logits: Tensor, x: Tensor, labels: Tensor, maps: Tensor, t: float, generator: torch.Generator
) -> Terms:
    weights, bad = recipe.weights, defective(labels)
    found: Terms = {}
    if bad.any():
        found["seeds"] = weights.seeds * seeded(recipe, logits[bad], maps[bad], generator)
    if (~bad).any():
        found["negative"] = weights.negative * F.softplus(logits[~bad]).mean()
    return found


def seeded(recipe: Settings, logits: Tensor, maps: Tensor, generator: torch.Generator) -> Tensor:
    """Cross-entropy on seeds drawn at the picture's own resolution."""
    size = (int(logits.shape[2]), int(logits.shape[3]))
    full = F.interpolate(maps.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False).clamp(0, 1)
    return losses.seed_cross_entropy(logits, recipe.draw(full[:, 0], full[:, 1], generator))


OBJECTIVES: dict[str, Callable[..., Terms]] = {
    "inspection": inspection_terms,
    "fcam": fcam_terms,
    "negev": negev_terms,
}


def optimizer_of(name: str, groups: list[dict], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW, or the papers' SGD: momentum 0.9, Nesterov's."""
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)


def step_decay(epoch: int, every: int, lr: float) -> float:
    """A tenth of the rate after every so many epochs, as a factor; the rate stays above 1e-7."""
    return max(0.1 ** (epoch // every), MIN_LR / lr)


def random_crop(
    pixels: Tensor, maps: Tensor | None, size: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor | None]:
    """One window of `size` from each picture [N, H, W, 3], mirrored every other time; float, its colours as they are.

    The papers' augmentation: pictures are read larger than the network's input. The window lies on the maps' grid, so
    that a map [N, H/4, W/4, 2] is cut at the same place.
    """
    stride = 4
    count = (len(pixels),)
    room = [(side - size) // stride + 1 for side in pixels.shape[1:3]]
    tops, lefts = (torch.randint(0, places, count, generator=generator) for places in room)
    mirrored = torch.rand(count, generator=generator) < 0.5

    def cut(values: Tensor, index: int, unit: int) -> Tensor:
        top, left, side = int(tops[index]) * stride // unit, int(lefts[index]) * stride // unit, size // unit
        window = values[index, top : top + side, left : left + side]
        return window.flip(1) if mirrored[index] else window

    out = torch.stack([cut(pixels, index, 1) for index in range(len(pixels))]).float()
    if maps is None:
        return out, None
    return out, torch.stack([cut(maps, index, stride) for index in range(len(maps))])
