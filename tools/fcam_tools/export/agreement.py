"""How far an int8 file is from its float original. In: two files and pictures. Out: `Agreement`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fcam_tools.model.answers import session
from fcam_tools.model.onnx_graph import INPUT, OUTPUTS

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """How far an int8 file is from its float original, over some pictures."""

    logits_cosine: float
    logits_max: float
    map_cosine: float
    map_max: float

    @property
    def loss(self) -> float:
        return (1 - self.logits_cosine) + (1 - self.map_cosine)

    def __str__(self) -> str:
        return (
            f"logits cosine {self.logits_cosine:.5f}, max difference {self.logits_max:.3f}; "
            f"map cosine {self.map_cosine:.5f}, max difference {self.map_max:.3f}"
        )


def run_all(model: Path, pictures: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Logits [N, K], centred over the classes (softmax sees no more), and maps [N, H * W] of some pictures."""
    runner = session(model, optimised=False)
    results = [runner.run(OUTPUTS, {INPUT: picture}) for picture in pictures]
    logits = np.concatenate([logits for logits, _ in results])
    return logits - logits.mean(axis=1, keepdims=True), np.stack([found.ravel() for _, found in results])


def measure(float_onnx: Path, int8_onnx: Path, pictures: Sequence[Floats]) -> Agreement:
    """Compare two files' outputs on pictures."""
    (logits, maps), (int8_logits, int8_maps) = run_all(float_onnx, pictures), run_all(int8_onnx, pictures)
    return Agreement(
        logits_cosine=cosine(logits, int8_logits),
        logits_max=float(np.abs(logits - int8_logits).max()),
        map_cosine=cosine(maps, int8_maps),
        map_max=float(np.abs(maps - int8_maps).max()),
    )


def cosine(a: Floats, b: Floats) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(x @ y) / max(float(np.linalg.norm(x)) * float(np.linalg.norm(y)), 1e-12)
