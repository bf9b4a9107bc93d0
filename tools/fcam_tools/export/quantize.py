"""Post-training quantisation: a float ONNX file and pictures in, an int8 QDQ file that keeps models/README.md out.

ONNX Runtime's quantiser inserts the Q/DQ pairs; this module decides where and with which scales. Pairs stand at the
INPUTS of the int8 layers only: so none ever comes between a Conv and its activation, and the float tail (whatever no
Conv or Gemm follows) keeps its floats. Scales are symmetric, measured on pictures, and the input's is 1/128 exactly.
Biases stay float and take back the mean shift that rounding the weights causes.

It refuses an empty calibration set and methods that it does not know. `measure` says what the int8 file lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

from fcam_tools.common.disk import scratch
from fcam_tools.common.errors import ToolError
from fcam_tools.export.agreement import Agreement, measure
from fcam_tools.export.ranges import LEVELS, METHODS, Histogram, clips, int8_nodes, observe
from fcam_tools.export.tidy import drop_leftovers, prepare
from fcam_tools.model.onnx_graph import INPUT, INPUT_SCALE, Wiring, attribute

Floats = NDArray[np.float32]
HOLDOUT = 0.25


@dataclass(frozen=True)
class Quantization:
    """The method that was taken, and what each method that was tried measured on the held-out pictures."""

    method: str
    pictures: int
    agreements: dict[str, Agreement]

    @property
    def agreement(self) -> Agreement:
        return self.agreements[self.method]


def quantize(
    float_onnx: Path, calibration: Iterable[Floats], out: Path, method: str = "auto", progress: bool = False
) -> Quantization:
    """Write the int8 QDQ file of a float file; `auto` tries every method and keeps the closest on held-out pictures."""
    if method != "auto" and method not in METHODS:
        raise ToolError(f"no calibration method {method}: choose one of auto, {', '.join(METHODS)}")
    fitted, held_out = split(list(calibration))
    methods = tuple(METHODS) if method == "auto" else (method,)
    room = (len(methods) + 3) * float_onnx.stat().st_size  # one a method, the prepared one, two of the libraries' own
    with scratch("fcam-quantize-", room) as folder:
        prepared = folder / "float.onnx"
        onnx.save(prepare(float_onnx), prepared)
        histograms = observe(prepared, fitted, progress)
        files = {name: folder / f"{name}.onnx" for name in methods}
        for name, path in files.items():
            write_qdq(prepared, histograms, METHODS[name], path)
        agreements = {name: measure(prepared, path, held_out) for name, path in files.items()}
        best = min(methods, key=lambda name: agreements[name].loss)
        content = files[best].read_bytes()
    out.write_bytes(content)
    return Quantization(best, len(fitted), agreements)


def split(pictures: Sequence[Floats]) -> tuple[Sequence[Floats], Sequence[Floats]]:
    """The pictures to fit scales on, and those held out to choose by."""
    if len(pictures) < 2:
        raise ToolError(f"{len(pictures)} calibration pictures: give at least 2, better 100")
    held_out = max(1, round(len(pictures) * HOLDOUT))
    return pictures[:-held_out], pictures[-held_out:]


def write_qdq(
    prepared: Path, histograms: dict[str, Histogram], method: Callable[[Histogram], float], out: Path
) -> None:
    """Insert the pairs: weights per output channel, activations per tensor, biases and the tail left float."""
    wiring = Wiring(onnx.load(prepared))
    found = clips(wiring, histograms, method)
    nodes = int8_nodes(wiring)
    with scratch("fcam-ranges-") as folder:
        ranges = folder / "ranges.json"
        save_ranges(found, ranges)
        op_types = sorted({node.op_type for node in nodes})
        quantize_static(
            prepared,
            out,
            None,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=op_types,
            nodes_to_quantize=[node.name for node in nodes],
            calibration_cache_path=ranges,
            extra_options=options(op_types),
        )
    model = onnx.load(out)
    correct_biases(model, histograms)
    name_nodes(model)
    drop_leftovers(model)
    onnx.save(model, out)


def correct_biases(model: ModelProto, histograms: dict[str, Histogram]) -> None:
    """Take out of each bias the mean shift that rounding the weights causes on the layer's mean input.

    Source: Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, 4.2.
    """
    wiring = Wiring(model)
    for conv in (n for n in wiring.nodes if n.op_type == "Conv" and len(n.input) == 3):
        quantise, data_quantise = (wiring.producer[wiring.producer[name].input[0]] for name in conv.input[1::-1])
        weights, scales, bias = (wiring.constant(n) for n in (quantise.input[0], quantise.input[1], conv.input[2]))
        if weights is None or scales is None or bias is None:
            continue
        error = (rounded(weights, scales) - weights).sum(axis=tuple(range(2, weights.ndim)))
        means = histograms[data_quantise.input[0]].means.reshape(attribute(conv, "group", 1), 1, error.shape[1])
        shift = (error.reshape(means.shape[0], -1, error.shape[1]) * means).sum(axis=2).ravel()
        own = f"{conv.name}_bias"
        model.graph.initializer.append(numpy_helper.from_array((bias - shift).astype(np.float32), own))
        conv.input[2] = own


def rounded(weights: Floats, scales: Floats) -> Floats:
    """Weights as int8 renders them, per output channel."""
    steps = scales.reshape(-1, *[1] * (weights.ndim - 1))
    return np.clip(np.round(weights / steps), -LEVELS - 1, LEVELS) * steps


def options(op_types: Sequence[str]) -> dict[str, object]:
    return {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "AddQDQPairToWeight": True,
        "QuantizeBias": False,
        "ForceQuantizeNoInputCheck": True,
        "OpTypesToExcludeOutputQuantization": list(op_types),
        "TensorQuantOverrides": {INPUT: [{"scale": np.array(INPUT_SCALE), "zero_point": np.array(0, np.int8)}]},
    }


def save_ranges(found: dict[str, float], path: Path) -> None:
    ranges = {name: (np.array(-clip, np.float32), np.array(clip, np.float32)) for name, clip in found.items()}
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, ranges), path)


def name_nodes(model: ModelProto) -> None:
    """Every node gets a name: error messages of runtimes and of the linter point at names."""
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
