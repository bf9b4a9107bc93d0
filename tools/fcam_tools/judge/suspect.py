"""Labels that look wrong. In: labelled pictures. Out: those whose label costs the most, and a contact sheet of them.

The cost is -log of the probability of the label's side, OK or defect, by a classifier that has not learnt from the
picture: a logistic regression on frozen pretrained features, in five folds that divide no group (Northcutt et al.,
Confident Learning, JAIR 2021: out-of-sample probabilities). A given checkpoint's classifier does too, but knows its own
training pictures too well. Measured with 5 % of the labels turned between OK and defect: of the most costly 5 %, 48 %
were turned ones on 900 ELPV cells, 15 % on 660 pictures of `synth`, whose defects are small. It is a list to look
through, no verdict; on small defects a checkpoint sees more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from tqdm import tqdm

from fcam_tools import data
from fcam_tools.common import contact
from fcam_tools.common.contact import Tile
from fcam_tools.common.errors import ToolError
from fcam_tools.data import kinds
from fcam_tools.data.dataset import Picture
from fcam_tools.data.reading import stored
from fcam_tools.model.checkpoint import load_checkpoint
from fcam_tools.model.network import Net
from fcam_tools.model.weights import load_pretrained
from fcam_tools.train import seeds

log = logging.getLogger(__name__)

FOLDS = 5
BATCH = 16
COLUMNS, CELL, LINES = 6, 192, 2  # of the contact sheet: cells a row, pixels, lines of caption


@dataclass(frozen=True)
class Suspect:
    """A picture whose label the others contradict; `probability` of the other side (defect for an OK picture, OK for a
    defective one), `loss` = -log of its own side's."""

    path: str
    label: str
    guess: str
    probability: float
    loss: float


def suspects(
    dataset: data.Dataset, pictures: Sequence[Picture], checkpoint: Path | None, progress: bool
) -> list[Suspect]:
    """The pictures that look more like the other side than like their label, most costly label first."""
    if checkpoint is None:
        classes, probabilities = dataset.classes, by_folds(dataset, pictures, progress)
    else:
        classes, probabilities = by_checkpoint(checkpoint, dataset, pictures, progress)
    own, has_ok = of_label(probabilities, pictures), any(picture.label == 0 for picture in pictures)
    out = []
    for place in np.argsort(own, kind="stable"):
        if own[place] >= 0.5:
            break
        labels = pictures[place].labels
        others = {0} if labels != (0,) and has_ok else set(range(len(classes))) - set(labels)
        guess = max(others, key=lambda index: probabilities[place, index])
        name = "+".join(dataset.classes[index] for index in labels)
        loss = -float(np.log(max(own[place], 1e-12)))
        sure = round(1 - float(own[place]), 4)
        out.append(Suspect(str(pictures[place].path), name, classes[guess], sure, round(loss, 4)))
    return out


def of_label(probabilities: np.ndarray, pictures: Sequence[Picture]) -> np.ndarray:
    """The probability [N] of each picture's side: OK or not; in a set without OK pictures, of its labels."""
    if any(picture.label == 0 for picture in pictures):
        ok = probabilities[:, 0]
        return np.where([picture.label == 0 for picture in pictures], ok, 1 - ok)
    return np.array([row[list(p.labels)].sum() for row, p in zip(probabilities, pictures, strict=True)])


def by_checkpoint(
    path: Path, dataset: data.Dataset, pictures: Sequence[Picture], progress: bool
) -> tuple[tuple[str, ...], np.ndarray]:
    """The checkpoint's classes, which may join kinds of the data set, and their probabilities [N, classes]."""
    told = load_checkpoint(path)
    joined = kinds.joined_in(told.provenance)
    if kinds.classes_of(dataset.classes, joined) != tuple(told.classes):
        known = kinds.shown(told.classes, joined)
        raise ToolError(
            f"{path} knows {known}; the data has {', '.join(dataset.classes)}: take a checkpoint of this data"
        )
    net = told.net.eval()
    return tuple(told.classes), over(pictures, told.size, lambda x: net.classify(x).softmax(1), progress)


def by_folds(dataset: data.Dataset, pictures: Sequence[Picture], progress: bool) -> np.ndarray:
    """Out-of-fold probabilities [N, classes] of a logistic regression on pretrained features."""
    labels = np.array([picture.label for picture in pictures])
    rare = [name for index, name in enumerate(dataset.classes) if 0 < (labels == index).sum() < FOLDS]
    if rare:
        raise ToolError(
            f"class {', '.join(rare)} has under {FOLDS} pictures, too few to suspect labels: give --checkpoint"
        )
    features = over(pictures, (256, 256), frozen_features(len(dataset.classes)), progress)
    groups = [picture.group or str(picture.path) for picture in pictures]
    out = np.zeros((len(pictures), len(dataset.classes)))
    for learnt, judged in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(features, labels, groups):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        model.fit(features[learnt], labels[learnt])
        out[np.ix_(judged, model.classes_)] = model.predict_proba(features[judged])
    return out


def frozen_features(classes: int) -> Callable[[Tensor], Tensor]:
    """A function from the network's input [N, 3, H, W] to pretrained features [N, C]."""
    net = Net(classes).eval()
    log.info("suspects by features of %s", load_pretrained(net))
    return partial(pooled, net)


def pooled(net: Net, x: Tensor) -> Tensor:
    """Mean, maximum and deviation over the places of the three deepest features: a small defect moves the last two."""
    parts = [(part.mean((2, 3)), part.amax((2, 3)), part.std((2, 3))) for part in net.features(x)[-3:]]
    return torch.cat([value for part in parts for value in part], 1)


@torch.no_grad()
def over(
    pictures: Sequence[Picture], size: tuple[int, int], function: Callable[[Tensor], Tensor], progress: bool
) -> np.ndarray:
    """A function of the network's input, over all pictures: [N, ...]."""
    out = []
    for start in tqdm(range(0, len(pictures), BATCH), "suspecting", unit="batch", disable=not progress):
        pixels = data.read_pictures(pictures[start : start + BATCH], size, progress=False)
        out.append(function(seeds.to_input(torch.from_numpy(pixels))).float().numpy())
    return np.concatenate(out)


def sheet(found: Sequence[Suspect]) -> Image.Image:
    """A contact sheet: each picture with its name, its label, and what it looks like."""
    tiles = []
    for one in found:
        small = stored(Path(one.path)).convert("RGB")
        told = f"{one.label}, or {one.guess} {one.probability:.2f}?"
        tiles.append(Tile(small, ((Path(one.path).name[-30:], "black"), (told, "red"))))
    none = Tile(Image.new("RGB", (CELL, CELL), "white"), (("no label is suspect", "black"),))
    return contact.sheet(tiles or [none], COLUMNS, CELL, LINES)
