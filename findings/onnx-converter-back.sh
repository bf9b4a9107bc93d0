#!/bin/sh
# onnx 1.23.2's version_converter brings a network of a new exporter down to an older opset. The guess: the further back the harder, and new operators are the trouble. Seen: from 18 to 26
# down to 17 a quantized Conv with Relu comes back and computes the same bits; down to 13 every one fails on Relu, the plainest operator of all, since nobody wrote the step from 14 to 13
# in which it gained integers. Source: the converter's message ("No Adapter From Version $14 for Relu"); by running it with ONNX Runtime 1.32.0.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
"$place/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, version_converter

CHANNELS, NEWER = 4, range(18, 27)
x = np.random.default_rng(1).random((1, CHANNELS, 8, 8), np.float32)


def network() -> onnx.ModelProto:
    weights = np.random.default_rng(0).integers(-127, 128, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8)
    constants = {"scale": np.float32(0.02), "zero": np.uint8(3), "weights": weights, "weight_zeros": np.zeros(CHANNELS, np.int8)}
    constants["weight_scales"] = np.float32([0.01, 0.02, 0.03, 0.04])
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["weights", "weight_scales", "weight_zeros"], ["w"], axis=0),
        helper.make_node("Conv", ["xd", "w"], ["sum"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["sum"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, 8, 8]) for name in "xy"]
    graph = helper.make_graph(nodes, "finding", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def computed(model: onnx.ModelProto) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def back(newer: int, older: int) -> str:
    """There and back again."""
    model = version_converter.convert_version(network(), newer)
    try:
        model = version_converter.convert_version(model, older)
    except RuntimeError as error:
        return str(error).rpartition(": ")[2].strip()
    return "the same bits" if (computed(model) == computed(network())).all() else "other bits"


seen = {older: {back(newer, older) for newer in NEWER} for older in (17, 13)}
for older, what in seen.items():
    print(f"from opset {NEWER[0]} to {NEWER[-1]} down to {older}: {what}")
wanted = {17: {"the same bits"}, 13: {"No Adapter From Version $14 for Relu"}}
sys.exit(0 if seen == wanted else "it is not as it was")
PYTHON
