#!/bin/sh
# ONNX Runtime 1.32.0 calibrates a network for int8 by MinMax, Entropy, Percentile or Distribution. The guess: Entropy cuts an outlier off, Distribution has a range that fits a tensor
# that is never negative, and CalibMaxIntermediateOutputs only saves memory. Seen: Entropy searches 128 levels in a histogram of 128 bins, so that its range is MinMax's, outlier and all;
# Distribution is symmetric after a Relu, so that half of the codes are never used; and with CalibMaxIntermediateOutputs=3 of ten pictures only the last, incomplete group of
# three counts: extremes of the other nine are forgotten, and where the groups come out even it ends in "No data is collected". Source: the package's calibrate.py, by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
cd "$place"
venv/bin/python - <<'PYTHON'
import contextlib
import io
import logging
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator

logging.disable()
OUTLIER, PICTURES = 100.0, 10
pictures = np.random.default_rng(0).normal(0, 1, (PICTURES, 1, 1, 32, 32)).astype(np.float32)
pictures[0, 0, 0, 0, 0] = OUTLIER  # in the first of ten


class Reader(CalibrationDataReader):
    def __init__(self) -> None:
        self.left = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        picture = next(self.left, None)
        return None if picture is None else {"x": picture}


nodes = [helper.make_node("Relu", ["x"], ["cut"]), helper.make_node("Conv", ["cut", "w"], ["y"])]
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 32, 32]) for name in "xy"]
one = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
graph = helper.make_graph(nodes, "finding", ends[:1], ends[1:], [one])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "float.onnx")


def by(method: CalibrationMethod) -> tuple[float, float]:
    """The range of what Relu gives."""
    with contextlib.redirect_stdout(io.StringIO()):
        calibrator = create_calibrator("float.onnx", None, calibrate_method=method)
        calibrator.set_execution_providers(["CPUExecutionProvider"])
        calibrator.collect_data(Reader())
        low, high = calibrator.compute_data()["cut"].range_value
    return float(np.squeeze(low)), float(np.squeeze(high))


def in_groups(of: int) -> float | str:
    """The largest level that the quantized network has for it, in groups of so many pictures."""
    try:
        quantize_static("float.onnx", "int8.onnx", Reader(), extra_options={"CalibMaxIntermediateOutputs": of})
    except ValueError as error:
        return str(error)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load("int8.onnx").graph.initializer}
    return round(float(constants["cut_scale"]) * 255, 2)


ranges = {method.name: by(method) for method in (CalibrationMethod.MinMax, CalibrationMethod.Entropy, CalibrationMethod.Distribution)}
groups = {of: in_groups(of) for of in (20, 3, 5)}
last = round(float(pictures[9].max()), 2)
print(f"after Relu, one of {pictures.size} values is {OUTLIER}: ranges {ranges}")
print(f"largest level by groups of so many of {PICTURES} pictures: {groups}; the last picture's own is {last}")
right = ranges == {"MinMax": (0, OUTLIER), "Entropy": (0, OUTLIER), "Distribution": (-OUTLIER, OUTLIER)}
sys.exit(0 if right and groups == {20: OUTLIER, 3: last, 5: "No data is collected."} else "it is not as it was")
PYTHON
