"""What a network answers, and how a camera judges it. In: a picture as the network's input. Out: logits and map, by
PyTorch or ONNX Runtime; the score, the verdict, the overlap of two maps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from fcam_tools.model.network import Net
from fcam_tools.model.onnx_graph import INPUT, OUTPUTS

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


def session(model: Path | bytes, optimised: bool = True) -> ort.InferenceSession:
    """ONNX Runtime on one CPU thread, so that sums come in one order on every machine."""
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    settings.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, settings, providers=["CPUExecutionProvider"])


def tensor(pixels: Pixels) -> Floats:
    """Pixels [H, W, 3] as the network's input [1, 3, H, W], (pixel - 128) / 128."""
    return np.ascontiguousarray((pixels.astype(np.float32) - 128).transpose(2, 0, 1)[None] / 128)


def defect_score(logits: Floats, ok: int) -> float:
    """1 - softmax(logits)[ok], logits [K]."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return float(1 - powers[ok] / powers.sum())


def verdict(score: float, threshold: float) -> str:
    return "reject" if score >= threshold else "pass"


def iou(a: Floats, b: Floats, threshold: float) -> float:
    """Intersection over union of two maps at a threshold; two empty maps agree."""
    x, y = a >= threshold, b >= threshold
    union = np.count_nonzero(x | y)
    return np.count_nonzero(x & y) / union if union else 1.0


def run_onnx(runner: ort.InferenceSession, picture: Floats) -> tuple[Floats, Floats]:
    """Logits [K] and map [H, W] of one picture."""
    logits, found = runner.run(OUTPUTS, {INPUT: picture})
    return logits[0], found[0, 0]


def run_net(net: Net, picture: Floats) -> tuple[Floats, Floats]:
    """Logits [K] and map [H, W] from PyTorch."""
    with torch.inference_mode():
        logits, found = net(torch.from_numpy(picture))
    return logits[0].numpy(), found[0, 0].numpy()
