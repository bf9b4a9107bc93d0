"""Stage 2: the decoder, on seeds from activation maps. In: a trainer whose classifier has learnt. Out: the epoch with
the lowest weak loss on the val split, in the trainer's network, and every epoch's weights.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcam_tools.data import pasted
from fcam_tools.model.network import Joint
from fcam_tools.train import methods, seeds
from fcam_tools.train.classifier import validate
from fcam_tools.train.feed import Part, Pictures, key_of
from fcam_tools.train.labels import classification_loss, defect_classes, defective
from fcam_tools.train.trainer import CHUNK, Stage, Terms, Trainer, optimise_stage


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
        found = methods.terms(recipe, logits, part.x, part.labels, part.maps, barrier_t, generator, part.masks)
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
        return float(sum(methods.terms(recipe, logits, x, labels, m, 1.0, t.generator(key), masks).values()))

    found = t.chunked(len(t.val.labels), work)
    return sum(found) / max(1, len(found))
