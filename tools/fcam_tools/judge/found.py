"""What a pilot finds, as data. In: `pilot` fills it. Out: `report` shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcam_tools.data import Picture
from fcam_tools.measure import judgement
from fcam_tools.measure.judgement import Figures, Setting
from fcam_tools.measure.operating import Prices


@dataclass(frozen=True)
class Goals:
    """What the line asks for."""

    escape: float = 0.05
    reject: float = 0.05


@dataclass
class Judged:
    """Every picture, judged by a network that did not see it."""

    pictures: list[Picture]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]  # the most probable one
    maps: NDArray[np.uint8]  # [N, H, W], 255 = 1

    @property
    def bad(self) -> NDArray[np.int64]:
        return (self.labels != 0).astype(np.int64)


@dataclass
class Pilot:
    """All that the report shows."""

    data: str
    counts: dict[str, int]
    prices: Prices
    assumed: bool
    goals: Goals
    folds: int
    recipe: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    oracle: dict[str, float] = field(default_factory=dict)
    point: dict[str, Any] = field(default_factory=dict)
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)
    curves: list[list[dict[str, Any]]] = field(default_factory=list)  # a fold's epochs, of both stages
    learning: list[dict[str, Any]] = field(default_factory=list)
    robustness: list[dict[str, Any]] = field(default_factory=list)
    latency: dict[str, Any] = field(default_factory=dict)
    still_learning: bool = False  # every fold's classifier was best in its last epoch
    verdict: dict[str, Any] = field(default_factory=dict)
    held_out: Figures | None = None  # every picture, judged out of fold at the operating point
    setting: Setting | None = None
    marked: int = 0  # defective pictures with a mask

    @property
    def headline(self) -> str:
        """The verdict and why, in one sentence."""
        verdict, why = self.verdict["verdict"], self.verdict["why"]
        return why if why.startswith(verdict) else f"{verdict}: {why}"

    @property
    def first(self) -> list[str]:
        """What a person wants to know before anything else."""
        if self.held_out is None:
            return []
        pictures, defects = self.held_out.good + self.held_out.defective, self.held_out.defective
        row = {"pxap": self.metrics.get("pxap"), "pictures": pictures, "defects": defects}
        marks = judgement.marks(row | {"defects_with_mask": self.marked})
        return [judgement.sentence(self.held_out), f"{judgement.quality(self.held_out)}; {marks}"]
