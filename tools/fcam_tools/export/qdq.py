"""The linter of the bundle's network file: models/README.md, section model.onnx, as code.

In: an ONNX model, the input size and the number of classes. Out: every violation, with the number of its rule (1 to 8;
0 is the file itself: inputs, outputs, opset, domains, values). It refuses nothing: the exporter and the verifier do.
The camera has the same rules in src/engine/qdq.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from fcam_tools.model.onnx_graph import (
    INPUT,
    INPUT_SCALE,
    Wiring,
    attribute,
    input_of,
    name_of,
    output_of,
    storage_problem,
)

FILE_RULE = 0
OPSETS = range(13, 18)
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
WEIGHTED = ("Conv", "ConvTranspose", "Gemm")
INTEGER_OPS = {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"}
CONTROL_FLOW = ("If", "Loop", "Scan")
GROWING = {"ConstantOfShape", "Expand", "OneHot", "Pad", "Range", "Resize", "Tile"}
MAX_GROWTH = 16 * 2048 * 2048  # values that one operator may ask for


@dataclass(frozen=True)
class Violation:
    """One broken rule at one node (or at the whole file, where the node is "")."""

    rule: int
    node: str
    message: str

    def __str__(self) -> str:
        where = f"rule {self.rule}" if self.rule else "file"
        return f"{where}: {self.node}: {self.message}" if self.node else f"{where}: {self.message}"


def lint(model: ModelProto, *, width: int, height: int, classes: int, precision: str = "int8") -> list[Violation]:
    """Every violation of the bundle's contract, in the order of the rules; an empty list is a legal file."""
    wiring = Wiring(model)
    found = list(check_file(model, width, height, classes))
    if precision == "int8":
        found += check_input_quantised(wiring)
        for check in RULES:
            found += check(wiring)
    return sorted(found, key=lambda violation: violation.rule)


def load(path: Path) -> ModelProto:
    """A model without the values that it keeps in other files: `lint` is to see that it does."""
    return onnx.load(path, load_external_data=False)


def check_file(model: ModelProto, width: int, height: int, classes: int) -> Iterator[Violation]:
    expected = {INPUT: [1, 3, height, width]}
    yield from check_ports("inputs", inputs_of(model), expected)
    expected = {"logits": [1, classes], "map": [1, 1, height, width]}
    yield from check_ports("outputs", model.graph.output, expected)
    yield from check_outputs_made(model)
    yield from check_domains(model)
    yield from check_values(model)
    yield from check_control_flow(model)
    yield from check_growth(model)


def inputs_of(model: ModelProto) -> list[ValueInfoProto]:
    """The inputs that a caller feeds (old files list their initialisers among the inputs)."""
    initialised = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in initialised]


def check_ports(side: str, ports: Iterable[ValueInfoProto], expected: dict[str, list[int]]) -> Iterator[Violation]:
    ports = list(ports)
    names, shapes = sorted(port.name for port in ports), {port.name: shape_of(port) for port in ports}
    if names != sorted(expected):
        yield Violation(FILE_RULE, "", f"{side} are {names}, not {sorted(expected)}")
    for name in shapes.keys() & expected.keys():
        if shapes[name] != expected[name]:
            yield Violation(FILE_RULE, name, f"is {shapes[name]}, not float32 {expected[name]}")


def shape_of(port: ValueInfoProto) -> list[int | str] | str:
    """The static shape of a float32 tensor, in words where it is something else."""
    tensor = port.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        return f"of type {TensorProto.DataType.Name(tensor.elem_type)}"
    return [d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in tensor.shape.dim]


def check_outputs_made(model: ModelProto) -> Iterator[Violation]:
    made = {name for node in model.graph.node for name in node.output}
    for port in model.graph.output:
        if port.name not in made:
            yield Violation(FILE_RULE, port.name, "is an output that no node makes")


def check_domains(model: ModelProto) -> Iterator[Violation]:
    own = [opset for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    if len(own) != 1:
        yield Violation(FILE_RULE, "", f"names {len(own)} opsets of ONNX's own domain, not one")
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            yield Violation(FILE_RULE, "", f"imports the operator domain {opset.domain}")
        elif opset.version not in OPSETS:
            yield Violation(FILE_RULE, "", f"opset {opset.version} is not one of {OPSETS.start} to {OPSETS.stop - 1}")
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield Violation(FILE_RULE, name_of(node), f"{node.op_type} is of the domain {node.domain}")


def check_values(model: ModelProto) -> Iterator[Violation]:
    """Stored tensors, among the initialisers and the attributes, that are not what they claim."""
    graph = model.graph
    stored = [(tensor.name, tensor) for tensor in graph.initializer]
    attributes = [(name_of(node), a) for node in graph.node for a in node.attribute]
    for name, a in attributes:
        stored += [(name, tensor) for tensor in ([a.t] if a.HasField("t") else []) + list(a.tensors)]
    for name, tensor in stored:
        problem = value_problem(tensor)
        if problem:
            yield Violation(FILE_RULE, name, problem)
    if graph.sparse_initializer or any(a.HasField("sparse_tensor") for _, a in attributes):
        yield Violation(FILE_RULE, "", "has sparse tensors")


def value_problem(tensor: TensorProto) -> str | None:
    """Why a stored tensor cannot be loaded or computed with."""
    problem = storage_problem(tensor)
    if problem or tensor.data_type != TensorProto.FLOAT or np.isfinite(numpy_helper.to_array(tensor)).all():
        return problem
    return "holds values that are not finite numbers"


def check_control_flow(model: ModelProto) -> Iterator[Violation]:
    if model.functions:
        yield Violation(FILE_RULE, "", f"defines {len(model.functions)} functions of its own")
    for node in model.graph.node:
        if node.op_type in CONTROL_FLOW or any(a.HasField("g") or a.graphs for a in node.attribute):
            yield Violation(FILE_RULE, name_of(node), f"{node.op_type} is control flow")


def check_growth(model: ModelProto) -> Iterator[Violation]:
    """Operators that are told by a constant to make a tensor of absurd size."""
    wiring = Wiring(model)
    for node in model.graph.node:
        # The first input of the others is what grows.
        parameters = node.input[0 if node.op_type in ("ConstantOfShape", "Range") else 1 :]
        if node.op_type in GROWING and any(growth(wiring, name) > MAX_GROWTH for name in parameters):
            yield Violation(FILE_RULE, name_of(node), f"{node.op_type} asks for a tensor of absurd size")


def growth(wiring: Wiring, name: str) -> float:
    """The product of a shape, of pads, repeats or scales: about how many values an operator is asked to make."""
    value = wiring.constant(name)
    if value is None or value.dtype not in (np.int64, np.float32):
        return 1.0
    with np.errstate(over="ignore"):
        return float(np.prod(np.maximum(np.abs(value.astype(np.float64)), 1.0)))


def check_input_quantised(wiring: Wiring) -> Iterator[Violation]:
    readers = wiring.readers[INPUT]
    if not readers or any(node.op_type != QUANTIZE for node in readers):
        yield Violation(FILE_RULE, INPUT, "is not followed at once by QuantizeLinear alone")
    for node in (n for n in readers if n.op_type == QUANTIZE):
        scale = wiring.constant(input_of(node, 1))
        if scale is None or scale.size != 1 or scale.item() != INPUT_SCALE:
            yield Violation(FILE_RULE, name_of(node), f"quantises the input with scale {scale}, not 1/128")


def check_parameters(wiring: Wiring) -> Iterator[Violation]:
    """Rule 1: three inputs, a constant finite positive scale, a number or a list, and int8 zeros of its shape."""
    for node in wiring.nodes:
        if node.op_type in (QUANTIZE, DEQUANTIZE):
            problem = parameter_problem(wiring, node)
            if problem:
                yield Violation(1, name_of(node), problem)


def parameter_problem(wiring: Wiring, node: NodeProto) -> str | None:
    if len(node.input) != 3 or not all(node.input):
        return f"{node.op_type} has {len(list(filter(None, node.input)))} inputs, not 3"
    scale, zero = (wiring.constant(name) for name in node.input[1:])
    if scale is None or zero is None:
        return "scale or zero point is not constant"
    if scale.dtype != np.float32 or not (np.isfinite(scale).all() and (scale > 0).all()):
        return "scale is not a finite float32 above zero"
    if scale.ndim > 1:
        return f"scale has {scale.ndim} dimensions: it is a number or a list"
    if zero.dtype != np.int8 or zero.any():
        return f"zero point is not int8 zeros but {zero.dtype}"
    return None if zero.shape == scale.shape else f"zero point has the shape {zero.shape} and scale {scale.shape}"


def check_granularity(wiring: Wiring) -> Iterator[Violation]:
    """Rule 2: activations per tensor, weights per tensor or per output channel."""
    for node in wiring.nodes:
        if node.op_type not in (QUANTIZE, DEQUANTIZE):
            continue
        scale = wiring.constant(input_of(node, 1))
        if scale is None or scale.size == 1:
            continue  # not constant: rule 1 says so
        problem = channel_problem(wiring, node, scale.size)
        if problem:
            yield Violation(2, name_of(node), problem)


def channel_problem(wiring: Wiring, node: NodeProto, scales: int) -> str | None:
    """What is wrong with a Q or DQ node that has several scales."""
    uses = list(weight_uses(wiring, node))
    source = wiring.stored(quantised_source(wiring, node))
    if not uses or source is None:
        return f"an activation has {scales} scales, not one"
    axis = attribute(node, "axis", 1)
    axis += len(source.dims) if axis < 0 else 0
    for layer in uses:
        if axis != output_axis(layer):
            return f"the weights of {name_of(layer)} are quantised along axis {axis}, not along their output channels"
    channels = source.dims[axis] if axis < len(source.dims) else 0
    return None if scales == channels else f"{scales} scales for {channels} output channels"


def output_axis(layer: NodeProto) -> int | None:
    """The axis of output channels in a layer's weights; None where the contract knows none."""
    if layer.op_type == "Gemm":
        return 0 if attribute(layer, "transB", 0) else None
    return 1 if layer.op_type == "ConvTranspose" else 0


def quantised_source(wiring: Wiring, node: NodeProto) -> str:
    """The float tensor behind a Q node or behind a DQ node's Q."""
    before = wiring.producer.get(input_of(node, 0))
    return input_of(before, 0) if node.op_type == DEQUANTIZE and before is not None else input_of(node, 0)


def weight_uses(wiring: Wiring, node: NodeProto) -> Iterator[NodeProto]:
    """The layers whose weight input a Q or DQ node leads to."""
    ends = [node] if node.op_type == DEQUANTIZE else [n for n in wiring.followers(node) if n.op_type == DEQUANTIZE]
    for end in ends:
        yield from (n for n in wiring.followers(end) if n.op_type in WEIGHTED and input_of(n, 1) == output_of(end))


def check_weights(wiring: Wiring) -> Iterator[Violation]:
    """Rule 3: float32 initialiser, QuantizeLinear, DequantizeLinear."""
    for node in wiring.nodes:
        dequantise = wiring.producer.get(input_of(node, 1)) if node.op_type in WEIGHTED else None
        if dequantise is None or dequantise.op_type != DEQUANTIZE:
            continue  # a float layer: rule 5 says whether it may be one
        quantise = wiring.producer.get(input_of(dequantise, 0))
        if quantise is None or quantise.op_type != QUANTIZE:
            yield Violation(3, name_of(node), "weights are stored as integers, not as float32 behind QuantizeLinear")
        elif not is_float_initializer(wiring, input_of(quantise, 0)):
            yield Violation(3, name_of(node), "weights are not a float32 initialiser")


def is_float_initializer(wiring: Wiring, name: str) -> bool:
    return name in wiring.initializers and wiring.initializers[name].data_type == TensorProto.FLOAT


def check_biases(wiring: Wiring) -> Iterator[Violation]:
    """Rule 4: no DequantizeLinear of an int32."""
    for node in wiring.nodes:
        if node.op_type != DEQUANTIZE:
            continue
        value = wiring.constant(input_of(node, 0))
        if value is not None and value.dtype == np.int32:
            yield Violation(4, name_of(node), "dequantises an int32: biases stay float32")


def check_layers(wiring: Wiring) -> Iterator[Violation]:
    """Rule 5: data and weights of every Conv and Gemm come from DequantizeLinear, the float tail excepted."""
    body = wiring.upstream_of((QUANTIZE, DEQUANTIZE))
    for node in wiring.nodes:
        if node.op_type not in ("Conv", "Gemm") or output_of(node) not in body:
            continue
        for index, role in enumerate(("data", "weights")):
            source = wiring.producer.get(input_of(node, index))
            if source is None or source.op_type != DEQUANTIZE:
                yield Violation(5, name_of(node), f"{role} do not come from DequantizeLinear, and int8 layers follow")


def check_integer_ops(wiring: Wiring) -> Iterator[Violation]:
    """Rule 6: no integer operators."""
    for node in wiring.nodes:
        if node.op_type in INTEGER_OPS:
            yield Violation(6, name_of(node), f"{node.op_type} is not legal in a QDQ file")


def check_norms(wiring: Wiring) -> Iterator[Violation]:
    """Rule 7: BatchNormalization is folded."""
    for node in wiring.nodes:
        if node.op_type == "BatchNormalization":
            yield Violation(7, name_of(node), "BatchNormalization is not folded into its Conv")


def check_activations(wiring: Wiring) -> Iterator[Violation]:
    """Rule 8: no QuantizeLinear between a Conv and its Relu or Clip."""
    for conv in (n for n in wiring.nodes if n.op_type == "Conv"):
        for quantise in (n for n in wiring.followers(conv) if n.op_type == QUANTIZE):
            behind = [n for dequantise in wiring.followers(quantise) for n in wiring.followers(dequantise)]
            if any(n.op_type in ("Relu", "Clip") for n in behind):
                yield Violation(8, name_of(quantise), f"stands between {name_of(conv)} and its activation")


RULES = (
    check_parameters,
    check_granularity,
    check_weights,
    check_biases,
    check_layers,
    check_integer_ops,
    check_norms,
    check_activations,
)
