#!/bin/sh
# ONNX Runtime 1.32.0 runs a network of quantize and dequantize nodes (QDQ): Conv, Relu, quantized. The guess: Conv and Relu become one integer kernel whatever the zero point, and
# symmetric int8, the simplest form, above all. Seen: only where the zero point is the lowest code (0 of uint8, -128 of int8), since Relu is dropped there before the integer
# convolution is chosen; with the zero point 0 of int8 or 128 of uint8 the two are fused as floats, between two conversions. Without Relu all four are integers.
# Source: the graph that the session saves after optimising (optimized_model_filepath); by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
"$place/venv/bin/python" - "$place/optimised.onnx" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 8


def network(kind: type, zero: int, relu: bool) -> bytes:
    weights = np.random.default_rng(0).integers(-127, 128, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8)
    constants = {"zero": kind(zero), "in_scale": np.float32(0.02), "out_scale": np.float32(0.5), "weights": weights}
    constants |= {"weight_scale": np.float32(0.01), "weight_zero": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "in_scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "in_scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["weights", "weight_scale", "weight_zero"], ["w"]),
        helper.make_node("Conv", ["xd", "w"], ["sum"], pads=[1, 1, 1, 1]),
        *([helper.make_node("Relu", ["sum"], ["cut"])] if relu else []),
        helper.make_node("QuantizeLinear", ["cut" if relu else "sum", "out_scale", "zero"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "out_scale", "zero"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, 32, 32]) for name in "xy"]
    graph = helper.make_graph(nodes, "finding", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def kernel(*what: object) -> str:
    """What the convolution became."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = sys.argv[1], 3
    onnxruntime.InferenceSession(network(*what), options, providers=["CPUExecutionProvider"])
    return next(node.op_type for node in onnx.load(sys.argv[1]).graph.node if "Conv" in node.op_type)


seen = {}
for kind, zero in ((np.uint8, 0), (np.int8, -128), (np.int8, 0), (np.uint8, 128)):
    seen[kind.__name__, zero] = (kernel(kind, zero, False), kernel(kind, zero, True))
    print(f"{kind.__name__}, zero point {zero}: {seen[kind.__name__, zero][0]}, with Relu {seen[kind.__name__, zero][1]}")
integer, mixed = ("QLinearConv", "QLinearConv"), ("QLinearConv", "FusedConv")
wanted = {("uint8", 0): integer, ("int8", -128): integer, ("int8", 0): mixed, ("uint8", 128): mixed}
sys.exit(0 if seen == wanted else "it is not as it was")
PYTHON
