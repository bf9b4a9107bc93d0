#!/bin/sh
# ONNX's Resize, linear with antialias=1 (opset 18), to make a picture smaller inside the network: ONNX Runtime 1.32.0, OpenVINO 2026.4.1, OpenCV 5.0.0, beside Pillow 13.0.0's BILINEAR.
# The guess: the option was made to agree with Pillow, and a runtime either has it or refuses it. Seen: ONNX Runtime agrees within, but is up to 15 levels off along the border,
# unless exclude_outside=1, with which it agrees everywhere; OpenVINO and OpenCV compute it without any filter and say nothing (more than 100 levels off). Source: the operator's text;
# by running them on a picture with fine structure.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 opencv-python-headless==5.0.0.93 pillow==13.0.0
"$place/venv/bin/python" - <<'PYTHON'
import sys

import cv2
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

LARGE, SMALL, BORDER = 64, 20, 2
picture = np.clip(np.add.outer(np.arange(LARGE) * 3, np.arange(LARGE)), 0, 255).astype(np.float32)
picture[::2, ::3] = 255 - picture[::2, ::3]
by_pillow = np.asarray(Image.fromarray(picture).resize((SMALL, SMALL), Image.Resampling.BILINEAR))
x = picture[None, None]


def network(exclude_outside: int) -> bytes:
    size = numpy_helper.from_array(np.int64([1, 1, SMALL, SMALL]), "size")
    settings = {"mode": "linear", "antialias": 1, "coordinate_transformation_mode": "half_pixel", "exclude_outside": exclude_outside}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, side, side]) for name, side in (("x", LARGE), ("y", SMALL))]
    graph = helper.make_graph([helper.make_node("Resize", ["x", "", "", "size"], ["y"], **settings)], "finding", ends[:1], ends[1:], [size])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def by_onnxruntime(model: bytes) -> np.ndarray:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def by_openvino(model: bytes) -> np.ndarray:
    core = openvino.Core()
    return core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]


def by_opencv(model: bytes) -> np.ndarray:
    net = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
    net.setInput(x)
    return net.forward()


def off(run: object, exclude_outside: int) -> tuple[float, float]:
    """The largest difference from Pillow, everywhere and without the border."""
    difference = np.abs(run(network(exclude_outside))[0, 0] - by_pillow)
    return float(difference.max()), float(difference[BORDER:-BORDER, BORDER:-BORDER].max())


seen = {}
for name, run in (("ONNX Runtime", by_onnxruntime), ("OpenVINO", by_openvino), ("OpenCV", by_opencv)):
    for exclude_outside in (0, 1):
        seen[name, exclude_outside] = off(run, exclude_outside)
        everywhere, within = seen[name, exclude_outside]
        print(f"{name}, exclude_outside={exclude_outside}: {everywhere:.1f} levels from Pillow, {within:.1f} without a border of {BORDER}")
right = 10 < seen["ONNX Runtime", 0][0] < 20 and seen["ONNX Runtime", 0][1] < 0.1 and seen["ONNX Runtime", 1][0] < 0.1
right = right and all(seen[name, exclude][1] > 50 for name in ("OpenVINO", "OpenCV") for exclude in (0, 1))
sys.exit(0 if right else "it is not as it was")
PYTHON
