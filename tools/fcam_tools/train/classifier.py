"""Stage 1: the classifier, on image labels. In: a trainer. Out: the epoch with the best image AUROC on the val split,
in the trainer's network.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from fcam_tools.train.feed import Part
from fcam_tools.train.labels import accuracy, classification_loss, defective
from fcam_tools.train.trainer import Stage, Terms, Trainer, optimise_stage


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
