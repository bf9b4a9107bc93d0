"""The network as one ONNX file. In: a checkpoint, and pictures to calibrate with. Out: the file, float or int8; a
refusal where it breaks a rule or holds what the camera's engine cannot compute.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch

from fcam_tools.common import disk
from fcam_tools.common.errors import ToolError
from fcam_tools.data import Dataset
from fcam_tools.export import operators, qdq, tidy
from fcam_tools.export import quantize as quantization
from fcam_tools.export.options import Options
from fcam_tools.export.pictures import calibration_pictures
from fcam_tools.export.qdq import lint
from fcam_tools.model.checkpoint import Checkpoint
from fcam_tools.model.onnx_graph import INPUT, OUTPUTS

OPSET = 17


def write_float(checkpoint: Checkpoint, out: Path) -> None:
    """The network as a float ONNX file, static shape, batch 1, tidied."""
    width, height = checkpoint.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns about the static sizes that we want, and of its own age
        torch.onnx.export(
            checkpoint.net,
            (torch.zeros(1, 3, height, width),),
            str(out),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.save(tidy.prepare(out), out)


def refuse_violations(model: Path, checkpoint: Checkpoint, precision: str) -> None:
    width, height = checkpoint.size
    classes = len(checkpoint.classes)
    found = lint(qdq.load(model), width=width, height=height, classes=classes, precision=precision)
    if found:
        raise ToolError("the exported network breaks the bundle's rules:\n  " + "\n  ".join(map(str, found)))


def refuse_operators(float_onnx: Path, checkpoint: Checkpoint) -> None:
    """Refuse a network that the camera's int8 engine cannot compute, before an hour goes into its scales."""
    found = operators.refusals(onnx.load(float_onnx))
    if found:
        raise ToolError(
            f"the camera's int8 engine does not take all of {checkpoint.net.settings['backbone']} with its decoder:\n"
            f"{operators.told(found)}\nexport it with --precision f32, or train another backbone or decoder"
        )


def write_network(
    checkpoint: Checkpoint, dataset: Dataset, out: Path, options: Options
) -> quantization.Quantization | None:
    if options.precision == "f32":
        write_float(checkpoint, out)
        return None
    pictures = calibration_pictures(dataset, options.calibration, options.seed, checkpoint.sight)
    with disk.scratch("fcam-export-") as folder:
        float_onnx, int8_onnx = folder / "float.onnx", folder / "int8.onnx"
        write_float(checkpoint, float_onnx)
        refuse_operators(float_onnx, checkpoint)
        found = quantization.quantize(float_onnx, pictures, int8_onnx, options.method, options.progress)
        content = int8_onnx.read_bytes()
    out.write_bytes(content)  # outside: a full disk is told with the place that is full
    return found


def describe(quantised: quantization.Quantization) -> str:
    return f"{quantised.method} over {quantised.pictures} pictures; held out: {quantised.agreement}"
