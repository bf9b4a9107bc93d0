"""What the network as it ships does to held-out pictures. In: the network file, a data set. Out: figures, or a refusal
to publish.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fcam_tools.common.errors import ToolError
from fcam_tools.data import Dataset
from fcam_tools.export.options import Options
from fcam_tools.measure import held_out, judgement
from fcam_tools.model import answers
from fcam_tools.model.answers import defect_score, run_onnx, tensor
from fcam_tools.model.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def judged(loaded: Checkpoint, dataset: Dataset, model: Path, options: Options) -> judgement.Figures:
    """What the network as it ships does to held-out pictures, written into metrics and provenance; refuses one that
    they do not show to have learnt."""
    split = held_out.split_for(dataset)
    source, pictures = onnx_answers(loaded, model), dataset.splits[split]
    bar = tqdm(pictures, f"judging on {split}", unit="picture", disable=not options.progress)
    scores = [source(picture.path)[0] for picture in bar]
    bad = [int(picture.label != 0) for picture in pictures]
    unit = held_out.unit_in(pictures)
    found = judgement.figures(scores, bad, loaded.thresholds["score"], split, unit, dataset.good_alone)
    loaded.metrics.update(found.metrics())
    loaded.provenance.pop("defects", None)  # of the pictures that it learned from; what is said is of those here
    loaded.provenance.update(found.provenance())
    accepted = options.accept_unproven or "unproven" in loaded.provenance  # by `train` already
    loaded.provenance.pop("unproven", None)
    if doubt := judgement.doubt(found):
        setting = held_out.setting_of(dataset, split, loaded.size, loaded.saved)
        told = judgement.told(found, setting, held_out.source_of(dataset))
        if not accepted:
            raise ToolError(
                f"do not publish this bundle: {told}\n  {judgement.ACCEPT} makes it all the same, and says so in it"
            )
        log.warning("WARNING, %s: %s", judgement.ACCEPT, told)
        loaded.provenance["unproven"] = doubt
    return found


def onnx_answers(loaded: Checkpoint, model: Path) -> Callable[[Path], tuple[float, Any]]:
    """Defect score and map [H, W] of a picture by a network file."""
    runner, ok, sight = answers.session(model), loaded.classes.index(loaded.ok), loaded.sight

    def answer(path: Path) -> tuple[float, Any]:
        logits, found = run_onnx(runner, tensor(sight.read(path)))
        return sight.answer(path, defect_score(logits, ok), np.clip(found, 0, 1))

    return answer
