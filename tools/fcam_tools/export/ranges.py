"""Where the pairs of an int8 file stand, and with which ranges. In: a float file and pictures. Out: the clip of each
tensor, by one of several methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto
from tqdm import tqdm

from fcam_tools.export.tidy import is_nearest
from fcam_tools.model.answers import session
from fcam_tools.model.onnx_graph import INPUT, INPUT_SCALE, Wiring

Floats = NDArray[np.float32]
LEVELS = 127  # of a symmetric int8 scale: -128 is used by the network's input alone
BINS = 2048
PERCENTILE = 99.99
LAYERS = ("Conv", "ConvTranspose", "Gemm")
SCALE_KEEPERS = ("Resize", "MaxPool")  # they choose values and make none: one scale on both sides
SUMS = ("Add", "Sub")  # one side may be a constant map
JOINTS = (*SUMS, "Concat", "GlobalAveragePool", "AveragePool", *SCALE_KEEPERS)


def int8_nodes(wiring: Wiring) -> list[NodeProto]:
    """The nodes whose inputs are quantised: every layer, and what joins feature maps between layers."""
    body = wiring.upstream_of(LAYERS)
    return [n for n in wiring.nodes if n.op_type in LAYERS or (n.output[0] in body and is_joint(wiring, n))]


def is_joint(wiring: Wiring, node: NodeProto) -> bool:
    if node.op_type not in JOINTS or (node.op_type == "Resize" and not is_nearest(node)):
        return False
    constants = (wiring.constant(name) for name in activations(node))
    return all(value is None or (node.op_type in SUMS and value.size > 1) for value in constants)


def activations(node: NodeProto) -> list[str]:
    """The data inputs of a node, without weights, biases and scales."""
    return list(node.input) if node.op_type in (*SUMS, "Concat") else [node.input[0]]


@dataclass
class Histogram:
    """How often each magnitude occurs in one tensor, exact zeros left out (all scales keep them); channel means."""

    top: float = 0.0
    sums: NDArray[np.floating] | float = 0.0
    seen: int = 0
    counts: NDArray[np.int64] | None = None

    def widen(self, values: Floats) -> None:
        self.top = max(self.top, float(np.abs(values).max(initial=0)))
        self.sums = self.sums + values.mean(axis=(0, *range(2, values.ndim)))
        self.seen += 1

    def count(self, values: Floats) -> None:
        magnitudes = np.abs(values[values != 0])
        bins = np.minimum((magnitudes * (BINS / (self.top or 1.0))).astype(np.int32), BINS - 1)
        fresh = np.bincount(bins, minlength=BINS)
        self.counts = fresh if self.counts is None else self.counts + fresh

    @property
    def means(self) -> NDArray[np.floating]:
        """The mean of each channel."""
        return np.asarray(self.sums) / max(self.seen, 1)

    @property
    def weights(self) -> NDArray[np.int64]:
        return np.zeros(BINS, np.int64) if self.counts is None else self.counts


def observe(model: Path, pictures: Sequence[Floats], progress: bool = False) -> dict[str, Histogram]:
    """The histograms of all tensors to quantise: one pass for the largest magnitudes, one to count.

    Constants need none: their range is known.
    """
    wiring = Wiring(onnx.load(model))
    read = {name for node in int8_nodes(wiring) for name in activations(node)}
    names = sorted(name for name in read if wiring.constant(name) is None)
    histograms = {name: Histogram() for name in names}
    tapped = session(with_outputs(model, names))
    for step, label in ((Histogram.widen, "ranges"), (Histogram.count, "histograms")):
        for picture in tqdm(pictures, desc=f"calibrate: {label}", disable=not progress):
            for name, value in zip(names, tapped.run(names, {INPUT: picture}), strict=True):
                step(histograms[name], value)
    return histograms


def with_outputs(path: Path, names: Sequence[str]) -> bytes:
    model = onnx.load(path)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return model.SerializeToString()


def clip_minmax(histogram: Histogram) -> float:
    """The largest magnitude seen."""
    return histogram.top


def clip_percentile(histogram: Histogram) -> float:
    """The magnitude that PERCENTILE % of the values do not exceed."""
    cumulative = np.cumsum(histogram.weights)
    found = int(np.searchsorted(cumulative, cumulative[-1] * PERCENTILE / 100))
    return histogram.top * min(found + 1, BINS) / BINS


def clip_entropy(histogram: Histogram) -> float:
    """The clip that loses least information. Source: Migacz, "8-bit inference with TensorRT", GTC 2017."""
    candidates = range(LEVELS + 1, BINS + 1, 8)
    best = min(candidates, key=lambda bins: divergence(histogram.weights, bins))
    return histogram.top * best / BINS


def divergence(weights: NDArray[np.int64], bins: int) -> float:
    """Kullback-Leibler divergence of the first bins, the rest clipped into the last, from their int8 rendering."""
    inside = weights[:bins].astype(np.float64)
    level = np.arange(bins) * (LEVELS + 1) // bins
    filled = np.maximum(np.bincount(level, inside > 0), 1)
    rendered = np.where(inside > 0, (np.bincount(level, inside) / filled)[level], 0)
    reference = inside.copy()
    reference[-1] += weights[bins:].sum()
    p, q = (values / max(values.sum(), 1) for values in (reference, rendered))
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))))


def clip_mse(histogram: Histogram) -> float:
    """The clip with the smallest mean squared error of rounding and clipping together."""
    centres = (np.arange(BINS, dtype=np.float64) + 0.5) * (histogram.top / BINS)
    candidates = [float(clip) for clip in np.linspace(0.2, 1.0, 81) * histogram.top]
    return min(candidates, key=lambda clip: squared_error(centres, histogram.weights, clip))


def squared_error(centres: NDArray[np.float64], weights: NDArray[np.int64], clip: float) -> float:
    step = clip / LEVELS
    rendered = np.minimum(np.round(centres / step), LEVELS) * step
    return float(np.sum(weights * (centres - rendered) ** 2))


METHODS: dict[str, Callable[[Histogram], float]] = {
    "minmax": clip_minmax,
    "percentile": clip_percentile,
    "entropy": clip_entropy,
    "mse": clip_mse,
}


def clips(wiring: Wiring, histograms: dict[str, Histogram], method: Callable[[Histogram], float]) -> dict[str, float]:
    """The clip of each tensor, shared where an int8 engine would only move bytes."""
    found = {name: method(histogram) if histogram.top > 0 else 1.0 for name, histogram in histograms.items()}
    found[INPUT] = float(INPUT_SCALE) * LEVELS
    for node in int8_nodes(wiring):
        if node.op_type in SCALE_KEEPERS:
            found[node.output[0]] = found[node.input[0]]
        elif node.op_type == "Concat":
            share_with_concat(wiring, node, found)
    return found


def share_with_concat(wiring: Wiring, concat: NodeProto, found: dict[str, float]) -> None:
    """A Concat has the widest scale of its inputs; inputs that serve it alone take that scale too (finer would be lost
    at the Concat anyway), a skip that the backbone also reads keeps its own."""
    widest = max(found[name] for name in concat.input)
    found[concat.output[0]] = widest
    for name in concat.input:
        for tensor in private_chain(wiring, name):
            found[tensor] = widest


def private_chain(wiring: Wiring, name: str) -> Iterator[str]:
    """A tensor, and those that it was copied from, as long as nothing else reads them."""
    while name != INPUT and len(wiring.readers[name]) == 1:
        yield name
        source = wiring.producer[name]
        if source.op_type not in SCALE_KEEPERS:
            return
        name = source.input[0]
