#!/bin/sh
# Pools with ceil_mode in ONNX (opset 17): ONNX Runtime 1.32.0, onnx 1.23.2 (shape inference, reference), OpenVINO 2026.4.1, OpenCV 5.0.0. The guess: one standard, one answer. Seen:
# where the last window would lie wholly in the padding, ONNX Runtime and the reference leave it out; OpenVINO and OpenCV have a row and a column more, of -3.4e38, and so has onnx's own shape
# inference. An average that counts its padding (count_include_pad) is divided by the cells inside the padded picture in ONNX Runtime, by the whole window in OpenVINO.
# Source: the operators' text, which opset 22 made plain; by running them.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 opencv-python-headless==5.0.0.93
"$place/venv/bin/python" - <<'PYTHON'
import sys

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

x = np.arange(1, 37, dtype=np.float32).reshape(1, 1, 6, 6)


def pool(kind: str, side: int, **settings: object) -> bytes:
    """`side`: of the output as it is declared, which OpenCV needs."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, size, size]) for name, size in (("x", 6), ("y", side))]
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"], ceil_mode=1, **settings)], "finding", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def by_onnxruntime(model: bytes) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def by_reference(model: bytes) -> np.ndarray:
    return ReferenceEvaluator(onnx.load_from_string(model)).run(None, {"x": x})[0]


def by_openvino(model: bytes) -> np.ndarray:
    core = openvino.Core()
    return core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]


def by_opencv(model: bytes) -> np.ndarray:
    net = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
    net.setInput(x)
    return net.forward()


RUNTIMES = {"ONNX Runtime": by_onnxruntime, "reference": by_reference, "OpenVINO": by_openvino, "OpenCV": by_opencv}
outside = pool("MaxPool", 3, kernel_shape=[2, 2], strides=[3, 3], pads=[0, 0, 1, 1])
corners = {name: (run(outside).shape[2:], float(run(outside)[0, 0, 0, -1])) for name, run in RUNTIMES.items()}
for name, (shape, corner) in corners.items():
    print(f"largest of 2 x 2 at steps of 3 over 6 + 1: {name} has {shape[0]} x {shape[1]}, the upper right one {corner:.3g}")
counted = pool("AveragePool", 4, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
means = {name: float(RUNTIMES[name](counted)[0, 0, -1, 1]) for name in ("ONNX Runtime", "reference", "OpenVINO")}
print(f"mean of the padded 3 x 3 at steps of 2, last row: {means}")
short, long = ((2, 2), 11.0), ((3, 3), float(np.finfo(np.float32).min))
wanted = {"ONNX Runtime": short, "reference": short, "OpenVINO": long, "OpenCV": long}
right = corners == wanted and means == {"ONNX Runtime": 16.5, "reference": 16.5, "OpenVINO": 11.0}
sys.exit(0 if right else "it is not as it was")
PYTHON
