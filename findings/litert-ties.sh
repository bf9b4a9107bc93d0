#!/bin/sh
# LiteRT 2.3.0 (ai-edge-litert), int8: how a result in the middle between two codes is rounded. The guess: one rule for all operators, half away from zero as in the published
# scheme, and the default kernels give what the reference kernels give. Seen: three rules (away from zero, to even, up), chosen by operator and by kernel set: Quantize from float and
# Conv go to even by default, Add and requantizing up, average pooling away from zero; the reference kernels have another rule for three of the five. Source: networks of
# one operator, made by the package's own schema and run by each of its sets of kernels.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check ai-edge-litert==2.3.0
"$place/venv/bin/python" - 2>"$place/log" <<'PYTHON' || { cat "$place/log" && exit 1; }
import sys
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

FLOAT, INT8, INT32 = schema.TensorType.FLOAT32, schema.TensorType.INT8, schema.TensorType.INT32
DOUBLED = np.int8([-7, -5, -3, -1, 1, 3, 5, 7])  # halved, each is in the middle between two codes
VALUES = len(DOUBLED)
RULES = {
    (-4, -3, -2, -1, 1, 2, 3, 4): "away from zero",
    (-4, -2, -2, 0, 0, 2, 2, 4): "to even",
    (-3, -2, -1, 0, 1, 2, 3, 4): "up",
}
KERNELS = {
    "default": OpResolverType.AUTO,
    "without XNNPACK": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}


def tensor(shape: list[int], kind: int, scale: float | None, buffer: int = 0) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.type, made.buffer = b"t", np.int32(shape), kind, buffer
    if scale:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = np.float32([scale]), np.int64([0])
    return made


def network(name: str, version: int, options: Any, tensors: list[Any], constants: tuple[np.ndarray, ...] = ()) -> bytes:
    """One operator: the last tensor is what it gives, those without a buffer before it are what it gets."""
    operator, code, graph, model = schema.OperatorT(), schema.OperatorCodeT(), schema.SubGraphT(), schema.ModelT()
    count = len(tensors) - 1
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, np.arange(count, dtype=np.int32), np.int32([count])
    operator.builtinOptions, operator.builtinOptionsType = options, getattr(schema.BuiltinOptions, type(options).__name__[:-1])
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = version
    graph.tensors, graph.operators, graph.outputs = tensors, [operator], np.int32([count])
    graph.inputs = np.int32([at for at in range(count) if tensors[at].buffer == 0])
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], []
    for constant in (None, *constants):
        buffer = schema.BufferT()
        buffer.data = None if constant is None else np.frombuffer(constant.tobytes(), np.uint8)
        model.buffers.append(buffer)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def rule(model: bytes, inputs: list[np.ndarray], kernels: OpResolverType) -> str:
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kernels, num_threads=1)
    interpreter.allocate_tensors()
    for place, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(place["index"], value)
    interpreter.invoke()
    codes = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return RULES.get(tuple(codes.ravel().tolist()), f"otherwise: {codes.ravel()}")


row, column = [1, VALUES], [1, 1, VALUES, 1]
pool, conv = schema.Pool2DOptionsT(), schema.Conv2DOptionsT()
pool.padding = conv.padding = schema.Padding.VALID
pool.strideW = pool.filterWidth = 2
pool.strideH = pool.filterHeight = conv.strideW = conv.strideH = conv.dilationWFactor = conv.dilationHFactor = 1
with_zeros = np.stack([DOUBLED, np.zeros_like(DOUBLED)], 1).reshape(1, 1, 2 * VALUES, 1)
weight_and_bias = (np.int8([1]), np.int32([0]))
of_conv = [tensor(column, INT8, 1), tensor([1, 1, 1, 1], INT8, 1, 1), tensor([1], INT32, 1, 2), tensor(column, INT8, 2)]
cases = {
    "Quantize": (
        network("QUANTIZE", 1, schema.QuantizeOptionsT(), [tensor(row, FLOAT, None), tensor(row, INT8, 1)]),
        [DOUBLED[None].astype(np.float32) / 2],
    ),
    "requantize": (
        network("QUANTIZE", 2, schema.QuantizeOptionsT(), [tensor(row, INT8, 1), tensor(row, INT8, 2)]),
        [DOUBLED[None]],
    ),
    "Add": (
        network("ADD", 2, schema.AddOptionsT(), [tensor(row, INT8, 1), tensor(row, INT8, 1), tensor(row, INT8, 2)]),
        [DOUBLED[None], np.zeros_like(DOUBLED[None])],
    ),
    "average pool": (
        network("AVERAGE_POOL_2D", 2, pool, [tensor([1, 1, 2 * VALUES, 1], INT8, 1), tensor(column, INT8, 1)]),
        [with_zeros],
    ),
    "Conv": (network("CONV_2D", 3, conv, of_conv, weight_and_bias), [DOUBLED.reshape(column)]),
}
seen = {name: tuple(rule(model, inputs, kernels) for kernels in KERNELS.values()) for name, (model, inputs) in cases.items()}
for name, rules in seen.items():
    print(f"{name}:", ", ".join(f"{kernels} {rule}" for kernels, rule in zip(KERNELS, rules, strict=True)))
away, even, up = RULES.values()
wanted = {
    "Quantize": (even, even, away),
    "requantize": (up, up, up),
    "Add": (up, away, away),
    "average pool": (away, away, away),
    "Conv": (even, up, up),
}
sys.exit(0 if seen == wanted else "it is not as it was")
PYTHON
