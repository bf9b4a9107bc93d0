"""What a training leaves in its checkpoint. In: a trainer that has learnt, its data set. Out: weights, thresholds,
provenance, and what the validation pictures show.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from fcam_tools import data
from fcam_tools.common import run_folder
from fcam_tools.data import kinds, made_up
from fcam_tools.measure import held_out, judgement
from fcam_tools.measure.metrics import image_auroc
from fcam_tools.model.checkpoint import saved_template
from fcam_tools.train.classifier import probabilities
from fcam_tools.train.labels import defective
from fcam_tools.train.threshold import known_good, score_threshold
from fcam_tools.train.trainer import Trainer

ASKED = 512  # training pictures that are judged too where the held-out ones show nothing


def describe(t: Trainer, dataset: data.Dataset, told: dict[str, float]) -> dict:
    """The checkpoint: weights, what they mean, thresholds, and where they come from."""
    recipe = t.recipe
    scores = 1 - probabilities(t, t.val.pixels)[:, 0]
    threshold, chosen_by = threshold_of(t, dataset, scores)
    found = judged(t, dataset, scores, threshold)
    return {
        "settings": t.net.settings,
        "state_dict": {name: value.cpu() for name, value in t.net.state_dict().items()},
        "classes": list(kinds.classes_of(dataset.classes, dataset.joined)),
        "ok": dataset.ok,
        "size": recipe.size if recipe.shape == (recipe.size, recipe.size) else recipe.shape,
        "template": saved_template(t.template),
        "thresholds": {
            "score": threshold,
            "map": recipe.map_threshold,
            "map_low": recipe.map_threshold_low,
            "min_area_px": recipe.min_area_px,
        },
        "provenance": provenance(t, dataset) | chosen_by,
        "metrics": {},
        "judgement": found,
        "recipe": asdict(recipe),
        "history": t.history,
        "training": told | {f"pictures_per_second_{name}": value for name, value in t.speed.items()},
    }


def threshold_of(t: Trainer, dataset: data.Dataset, scores: np.ndarray) -> tuple[float, dict[str, str]]:
    """The score's threshold, from the scores of the val split; and which pictures chose it, for the provenance."""
    good, rate = ~defective(t.val.labels), t.recipe.false_reject
    if dataset.good_alone:
        return made_up.good_threshold(scores[good], rate), {}
    if t.recipe.objective != "native":
        return score_threshold(scores, good, rate), {}
    more = known_good(t, scores[good])
    every, ok = np.concatenate([scores, more]), np.concatenate([good, np.ones(len(more), bool)])
    told = {"threshold": f"{good.sum()} held-out and {len(more)} known good pictures"} if len(more) else {}
    return score_threshold(every, ok, rate), told


def provenance(t: Trainer, dataset: data.Dataset) -> dict[str, str]:
    """Where a network comes from: the tool, its pictures, what it began with, and where it was trained."""
    licence = data.licence_of(dataset)
    return {
        "tool": f"fcam-tools {run_folder.tool()}",
        "dataset": dataset.name,
        "dataset_sha256": dataset.fingerprint(),
        **({"dataset_licence": licence} if licence else {}),
        "backbone": f"{t.recipe.backbone} to stride {t.recipe.stride}",
        "weights": t.origin,
        **({"defects": judgement.MADE_UP} if dataset.good_alone else {}),
        **kinds.written(dataset.joined),
        "seed": str(t.recipe.seed),
        "trained_on": f"{t.team.world} x {t.device.type}, torch {torch.__version__}",
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
