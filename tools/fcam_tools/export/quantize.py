"""Post-training quantisation: a float ONNX file and pictures in, an int8 QDQ file that keeps models/README.md out.

ONNX Runtime's quantiser inserts the Q/DQ pairs; this module decides where and with which scales. Pairs stand at the
INPUTS of the int8 layers only: so none ever comes between a Conv and its activation, and the float tail (whatever no
Conv or Gemm follows) keeps its floats. Scales are symmetric, measured on pictures, and the input's is 1/128 exactly.
Biases stay float and take back the mean shift that rounding the weights causes.

It refuses an empty calibration set and methods that it does not know. `measure` says what the int8 file lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from fcam_tools.common.disk import scratch
from fcam_tools.common.errors import ToolError
from fcam_tools.export.qdq import INPUT, INPUT_SCALE, OUTPUTS, Wiring, attribute

Floats = NDArray[np.float32]

LEVELS = 127  # of a symmetric int8 scale: -128 is used by the network's input alone
BINS = 2048
PERCENTILE = 99.99
HOLDOUT = 0.25
IR_VERSION = 8  # the one of opset 17: older parsers refuse newer files
LAYERS = ("Conv", "ConvTranspose", "Gemm")
SCALE_KEEPERS = ("Resize", "MaxPool")  # they choose values and make none: one scale on both sides
JOINTS = ("Add", "Concat", "GlobalAveragePool", "AveragePool", *SCALE_KEEPERS)


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


# The float graph, tidied.


def prepare(float_onnx: Path) -> ModelProto:
    """A float file with shapes inferred, constants and BatchNorm folded, and only the operators the runtimes share."""
    with scratch("fcam-prepare-", 3 * float_onnx.stat().st_size) as folder:  # libraries make copies of their own
        folded = folder / "folded.onnx"
        quant_pre_process(float_onnx, folded, skip_symbolic_shape=True)
        model = onnx.load(folded)
    for tidy in (hoist_constants, fold_pads, resize_by_scales, divide_by_multiplying, drop_leftovers):
        tidy(model)
    return model


def hoist_constants(model: ModelProto) -> None:
    """Constant nodes become initialisers."""
    for node in [n for n in model.graph.node if n.op_type == "Constant"]:
        value = Wiring(model).constant(node.output[0])
        if value is not None:
            model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
            model.graph.node.remove(node)


def fold_pads(model: ModelProto) -> None:
    """A Pad with zeros in front of Convs alone becomes their own padding."""
    wiring = Wiring(model)
    for pad in [n for n in wiring.nodes if n.op_type == "Pad"]:
        amounts = wiring.constant(pad.input[1])
        readers = wiring.readers[pad.output[0]]
        if amounts is None or not pads_zeros(wiring, pad) or any(n.op_type != "Conv" for n in readers):
            continue
        begin, end = np.split(amounts, 2)
        if begin[:2].any() or end[:2].any():
            continue
        for conv in readers:
            widen(conv, [*begin[2:].tolist(), *end[2:].tolist()])
            conv.input[0] = pad.input[0]
        model.graph.node.remove(pad)


def pads_zeros(wiring: Wiring, pad: NodeProto) -> bool:
    if any(a.name == "mode" and a.s != b"constant" for a in pad.attribute):
        return False
    value = wiring.constant(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(())
    return value is not None and not value.any()


def widen(conv: NodeProto, extra: Sequence[int]) -> None:
    old = next((list(a.ints) for a in conv.attribute if a.name == "pads"), [0] * len(extra))
    kept = [a for a in conv.attribute if a.name not in ("pads", "auto_pad")]
    del conv.attribute[:]
    conv.attribute.extend(kept)
    conv.attribute.append(onnx.helper.make_attribute("pads", [a + b for a, b in zip(old, extra, strict=True)]))


def resize_by_scales(model: ModelProto) -> None:
    """Resize to a constant size becomes Resize by constant scales; attributes of other modes go."""
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info}
    wiring = Wiring(model)
    for node in (n for n in wiring.nodes if n.op_type == "Resize"):
        if len(node.input) == 4 and node.input[3]:
            scales = np.array(wiring.constant(node.input[3]), np.float32) / np.array(shapes[node.input[0]], np.float32)
            name = f"{node.name}_scales"
            model.graph.initializer.append(numpy_helper.from_array(scales, name))
            node.input[:] = [node.input[0], "", name]
        foreign = {"cubic_coeff_a"} | (set() if is_nearest(node) else {"nearest_mode"})
        kept = [a for a in node.attribute if a.name not in foreign]
        del node.attribute[:]
        node.attribute.extend(kept)


def divide_by_multiplying(model: ModelProto) -> None:
    """x / constant becomes x * (1 / constant): one operator less for every runtime."""
    wiring = Wiring(model)
    for node in (n for n in wiring.nodes if n.op_type == "Div"):
        divisor = wiring.constant(node.input[1])
        if divisor is not None:
            name = f"{node.name}_reciprocal"
            model.graph.initializer.append(numpy_helper.from_array((1 / divisor).astype(divisor.dtype), name))
            node.op_type, node.input[1] = "Mul", name


def drop_leftovers(model: ModelProto) -> None:
    """Unread initialisers, foreign domains and an IR version that the opset does not need."""
    read = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
    keep(model.graph.initializer, lambda tensor: tensor.name in read)
    keep(model.opset_import, lambda opset: opset.domain in ("", "ai.onnx"))
    model.ir_version = min(model.ir_version, IR_VERSION)


def keep(field: Any, wanted: Callable[[Any], bool]) -> None:
    kept = [item for item in field if wanted(item)]
    del field[:]
    field.extend(kept)


# Where the pairs stand.


def is_nearest(node: NodeProto) -> bool:
    return all(a.s == b"nearest" for a in node.attribute if a.name == "mode")


def int8_nodes(wiring: Wiring) -> list[NodeProto]:
    """The nodes whose inputs are quantised: every layer, and what joins feature maps between layers."""
    body = wiring.upstream_of(LAYERS)
    return [n for n in wiring.nodes if n.op_type in LAYERS or (n.output[0] in body and is_joint(wiring, n))]


def is_joint(wiring: Wiring, node: NodeProto) -> bool:
    if node.op_type not in JOINTS or (node.op_type == "Resize" and not is_nearest(node)):
        return False
    return not any(wiring.constant(name) is not None for name in activations(node))


def activations(node: NodeProto) -> list[str]:
    """The data inputs of a node, without weights, biases and scales."""
    return list(node.input) if node.op_type in ("Add", "Concat") else [node.input[0]]


# The ranges.


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
    """The histograms of all tensors to quantise: one pass for the largest magnitudes, one to count."""
    wiring = Wiring(onnx.load(model))
    names = sorted({name for node in int8_nodes(wiring) for name in activations(node)})
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


# The int8 file.


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


# The measurement.


def session(model: Path | bytes, optimised: bool = True) -> ort.InferenceSession:
    """ONNX Runtime on one CPU thread, so that sums come in one order on every machine."""
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    settings.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, settings, providers=["CPUExecutionProvider"])


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
