"""A trained network on the disk. In: a torch file of `train`, or a run folder. Out: `Checkpoint`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fcam_tools.common.errors import ToolError
from fcam_tools.common.run_folder import checkpoint_in
from fcam_tools.data.sight import Sight, Template
from fcam_tools.model.network import Net, net_of

SETTINGS = ("settings", "state_dict", "classes", "ok", "size", "thresholds", "provenance", "metrics")
THRESHOLDS = ("score", "map", "map_low", "min_area_px")


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what belongs to it; classes in the order of the logits, size is (width, height)."""

    net: Net
    classes: list[str]
    ok: str
    size: tuple[int, int]
    thresholds: dict[str, float]
    provenance: dict[str, str]
    metrics: dict[str, float]
    template: Template | None = None  # where parts lie, for a network that compares places
    saved: Mapping[str, Any] = field(default_factory=dict)  # how it was trained, and what that showed

    @property
    def sight(self) -> Sight:
        """What the network sees of a picture."""
        return Sight(self.size, self.template)


def load_checkpoint(path: Path) -> Checkpoint:
    path = checkpoint_in(path)
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for each way in which a file can be no checkpoint
        raise ToolError(f"cannot read the checkpoint {path}: {error}") from error
    missing = [key for key in SETTINGS if key not in saved]
    if missing:
        raise ToolError(f"the checkpoint {path} lacks {', '.join(missing)}: write it with fcam-tools train")
    checkpoint = checkpoint_of(saved)
    check_checkpoint(checkpoint, int(saved["settings"]["classes"]))
    return checkpoint


def checkpoint_of(saved: dict[str, Any]) -> Checkpoint:
    """A checkpoint's content, with its network."""
    size = saved["size"]
    return Checkpoint(
        net=net_of(saved),
        classes=list(saved["classes"]),
        ok=saved["ok"],
        size=(size, size) if isinstance(size, int) else (int(size[0]), int(size[1])),
        thresholds=dict(saved["thresholds"]),
        provenance={key: str(value) for key, value in saved["provenance"].items()},
        metrics={key: float(value) for key, value in saved["metrics"].items()},
        template=template_of(saved),
        saved={key: saved[key] for key in ("recipe", "training", "judgement") if key in saved},
    )


def saved_template(template: Template | None) -> dict[str, Any] | None:
    """A template as a checkpoint keeps it."""
    return None if template is None else vars(template) | {"pixels": torch.from_numpy(template.pixels.copy())}


def template_of(saved: Mapping[str, Any]) -> Template | None:
    """That of a checkpoint's content; none of a network that judges parts wherever they lie."""
    kept = saved.get("template")
    return Template(**kept | {"pixels": kept["pixels"].numpy()}) if kept else None


def check_checkpoint(checkpoint: Checkpoint, logits: int) -> None:
    if len(checkpoint.classes) != logits or len(set(checkpoint.classes)) != logits:
        raise ToolError(f"the checkpoint names the classes {checkpoint.classes} for {logits} logits: name each once")
    if checkpoint.ok not in checkpoint.classes:
        raise ToolError(f"the ok class {checkpoint.ok} is none of the classes {checkpoint.classes}")
    if any(side % 16 or not 32 <= side <= 2048 for side in checkpoint.size):
        raise ToolError(f"the input size {checkpoint.size} is not made of multiples of 16 from 32 to 2048")
    missing = [name for name in THRESHOLDS if name not in checkpoint.thresholds]
    if missing:
        raise ToolError(f"the checkpoint has no threshold {', '.join(missing)}: write it with fcam-tools train")
