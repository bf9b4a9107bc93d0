"""Thresholds of the network as it ships. In: the network file, the val split, prices if there are any. Out: the
checkpoint with other thresholds, and the sentence that says why.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fcam_tools.common.errors import ToolError
from fcam_tools.data import Dataset, made_up
from fcam_tools.export.figures import onnx_answers
from fcam_tools.export.options import Options
from fcam_tools.judge.truth import truth_of
from fcam_tools.measure import judgement, operating
from fcam_tools.model.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def refuse_extreme(point: Mapping[str, Any], prices: str, accept: bool) -> None:
    """Refuses prices that make the camera accept or reject everything; with `accept` it says so and goes on."""
    extreme = operating.extreme_of(dict(point))
    if not extreme:
        return
    told = (
        f"at these prices ({prices}) the cheapest is to {extreme} everything: the camera would {extreme} each part; "
        "correct --escape-cost, --reject-cost or --ng-rate, or train a network that tells good from bad more surely"
    )
    if not accept:
        raise ToolError(f"do not publish this bundle: {told}; {judgement.ACCEPT} makes it all the same")
    log.warning("WARNING, %s: %s", judgement.ACCEPT, told)


def set_operating_point(loaded: Checkpoint, dataset: Dataset, model: Path, options: Options) -> None:
    """The cheapest thresholds of the network as it ships, on the val split, in place of the checkpoint's."""
    assert options.prices is not None
    truth = truth_of(dataset, "val", loaded.size)
    if options.masks and not truth.has_masks:
        raise ToolError(f"--masks: {truth.masks} has no mask of a val picture")
    source = onnx_answers(loaded, model)
    bar = tqdm(truth.pictures, "operating point", unit="picture", disable=not options.progress)
    area = int(loaded.thresholds["min_area_px"])
    points = operating.measure(bar, source, area, truth.mask if options.masks else None).points(options.prices)
    loaded.thresholds.update(operating.shipped(loaded.thresholds, points))
    prices = f"escape {options.prices.escape:g}, reject {options.prices.reject:g}, ng rate {options.prices.ng_rate:.4g}"
    refuse_extreme(points["score"], prices, options.accept_unproven)
    told = f"{prices}: {operating.shown(points['score'])}; map by {points['map']['chosen_by']}"
    told += "" if points["map"]["useful"] else ", of no use: the old threshold stays"
    loaded.provenance.update({"operating_point": told})


def set_good_threshold(loaded: Checkpoint, dataset: Dataset, model: Path) -> None:
    """The score's threshold of the network as it ships, by the val split's good pictures, in place of the float
    network's: without rejects the threshold lies just above what good ones reach, and rounding moves that."""
    source = onnx_answers(loaded, model)
    scores = np.array([source(picture.path)[0] for picture in dataset.splits["val"] if picture.label == 0])
    wanted = float(loaded.saved.get("recipe", {}).get("false_reject", 0.01))
    loaded.thresholds["score"] = made_up.good_threshold(scores, wanted)
    loaded.provenance["operating_point"] = made_up.counted(len(scores), wanted)
