#!/bin/sh
# ONNX's QuantizeLinear divides by the scale and rounds ties to even: ONNX Runtime 1.32.0 and OpenVINO 2026.4.1 on values that lie between two codes. The guess: both give the same
# codes, bit by bit, for a single node without any sum. Seen: OpenVINO multiplies by the scale's reciprocal, so that of the 127 values (k + 1/2) x scale 3 differ for 1/127, 24 for
# 6/127, 18 for 0.0235 and none for 0.1 and 1/128. Source: the operator's text; by running them beside both formulas in float32.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1
"$place/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

VALUES = 127


def network(scale: np.float32) -> bytes:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (("scale", scale), ("zero", np.int8(0)))]
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])
    ends = [helper.make_tensor_value_info(name, kind, [1, VALUES]) for name, kind in (("x", TensorProto.FLOAT), ("y", TensorProto.INT8))]
    graph = helper.make_graph([node], "finding", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def differing(scale: np.float32) -> tuple[int, int, int]:
    """Codes of ONNX Runtime's that are not the quotient's, of OpenVINO's not the product's, and between the two."""
    x = ((np.arange(VALUES) + np.float32(0.5)) * scale).astype(np.float32)[None]
    core, model = openvino.Core(), network(scale)
    divided = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    other = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]
    quotient, product = (np.clip(np.rint(exact), -128, 127) for exact in (x / scale, x * (np.float32(1) / scale)))
    return int((divided != quotient).sum()), int((other != product).sum()), int((divided != other).sum())


SCALES = {"1/127": 1 / 127, "6/127": 6 / 127, "0.0235": 0.0235, "0.1": 0.1, "1/128": 1 / 128}
seen = {name: differing(np.float32(scale)) for name, scale in SCALES.items()}
for name, (runtime, openvinos, between) in seen.items():
    print(f"scale {name}: {runtime} of ONNX Runtime's are not x / scale, {openvinos} of OpenVINO's not x * (1 / scale); {between} differ")
wanted = {name: (0, 0, between) for name, between in zip(SCALES, (3, 24, 18, 0, 0), strict=True)}
sys.exit(0 if seen == wanted else "it is not as it was")
PYTHON
