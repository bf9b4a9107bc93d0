"""What the camera's int8 engine takes of a network. In: an ONNX model, float or QDQ. Out: what it would refuse.

The rules are those of src/engine/int8/layer_graph/read.rs, as far as the operators and their attributes go. A
bundle that no camera takes is better refused here, where it is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from fcam_tools.model.onnx_graph import Wiring, attribute

KNOWN = frozenset(
    {
        "Constant", "Identity", "Dropout", "QuantizeLinear", "DequantizeLinear", "Conv", "Gemm", "Relu", "Clip", "Add",
        "Mul", "Sub", "Div", "Concat", "Resize", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Reshape",
        "Squeeze", "Sigmoid", "Exp", "Log", "ReduceMean",
    }
)  # fmt: skip
WHOLE_FACTOR = (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))  # repeat each value of a whole factor


@dataclass(frozen=True)
class Refusal:
    """A node (or what it makes, where it has no name) that the int8 engine does not take, and why."""

    node: str
    operator: str
    reason: str


def counts(model: ModelProto) -> dict[str, int]:
    """How often each operator occurs, most frequent first."""
    found = Counter(node.op_type for node in model.graph.node)
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def refusals(model: ModelProto) -> list[Refusal]:
    """What the int8 engine would refuse, in the file's order; an empty list is a network for every camera."""
    wiring = Wiring(model)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info}
    reasons = ((node, reason_against(wiring, shapes, node)) for node in wiring.nodes)
    return [Refusal(node.name or node.output[0], node.op_type, reason) for node, reason in reasons if reason]


def told(found: Sequence[Refusal]) -> str:
    """A line for each operator and reason: how often, and the first node's name."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for refusal in found:
        kinds.setdefault((refusal.operator, refusal.reason), []).append(refusal.node)
    return "\n".join(
        f"  {operator} {reason} ({len(nodes)} x, first {nodes[0]})" for (operator, reason), nodes in kinds.items()
    )


def reason_against(wiring: Wiring, shapes: dict[str, list[int]], node: NodeProto) -> str | None:
    if node.op_type not in KNOWN:
        return "is not known to it"
    if node.op_type in ("Add", "Mul", "Sub", "Div"):
        return against_pair(wiring, shapes, node)
    if node.op_type == "Concat" and attribute(node, "axis", 0) not in (1, -3):
        return "is not along the channels"
    if node.op_type == "Resize":
        return against_resize(wiring, shapes, node)
    if node.op_type in ("MaxPool", "AveragePool"):
        return against_pool(node)
    if node.op_type == "ReduceMean":
        axes = integers(node, "axes") or constant_list(wiring, node, 1)
        return None if sorted(axis % 4 for axis in axes) == [2, 3] else "is not over height and width"
    if node.op_type in ("Flatten", "Reshape", "Squeeze"):
        shape = shapes.get(node.input[0], [])
        return "is of more than one pixel" if len(shape) == 4 and shape[2:] != [1, 1] else None
    return None


def against_pair(wiring: Wiring, shapes: dict[str, list[int]], node: NodeProto) -> str | None:
    constants = [wiring.constant(name) for name in node.input]
    sums = node.op_type in ("Add", "Sub")
    if all(constant is None for constant in constants):
        if not sums:
            return "is of two tensors: only sums and differences are"
        one, other = (shapes.get(name) for name in node.input)
        return "is of tensors of different shapes" if one and other and one != other else None
    if any(constant is not None and constant.size == 1 for constant in constants):
        first = constants[0] is not None
        return "has its number in front" if first and node.op_type in ("Sub", "Div") else None
    return against_map(shapes, node, constants) if sums else "is of a tensor and more than one number"


def against_map(
    shapes: dict[str, list[int]], node: NodeProto, constants: Sequence[NDArray[np.generic] | None]
) -> str | None:
    """A constant beside a tensor is a map of the tensor's own shape."""
    shape = next((list(constant.shape) for constant in constants if constant is not None), [])
    other = next((shapes.get(name) for name, c in zip(node.input, constants, strict=True) if c is None), None)
    is_map = len(shape) == 4 and shape[0] == 1 and shape[2:] != [1, 1]
    return None if is_map and other in (None, shape) else "has a constant that is not a map of its tensor's shape"


def against_resize(wiring: Wiring, shapes: dict[str, list[int]], node: NodeProto) -> str | None:
    transform = text(node, "coordinate_transformation_mode", "half_pixel")
    down, right = factors(wiring, shapes, node)
    if text(node, "mode", "nearest") == "nearest":
        exact = (transform, text(node, "nearest_mode", "round_prefer_floor")) in WHOLE_FACTOR
        return None if exact and down == right and down >= 1 and down % 1 == 0 else "is not nearest by one whole factor"
    linear = text(node, "mode", "nearest") == "linear" and transform == "half_pixel"
    return None if linear and min(down, right) >= 1 else "is neither nearest nor an enlarging linear half_pixel"


def factors(wiring: Wiring, shapes: dict[str, list[int]], node: NodeProto) -> tuple[float, float]:
    """Factors down and right, from the scales or from the sizes; zero where neither is constant."""
    scales = constant_list(wiring, node, 2)
    if len(scales) == 4:
        return scales[2], scales[3]
    sizes, before = constant_list(wiring, node, 3), shapes.get(node.input[0], [])
    return (sizes[2] / before[2], sizes[3] / before[3]) if len(sizes) == len(before) == 4 else (0.0, 0.0)


def against_pool(node: NodeProto) -> str | None:
    pads, kernel = integers(node, "pads"), integers(node, "kernel_shape")
    if attribute(node, "ceil_mode", 0) or any(step != 1 for step in integers(node, "dilations")):
        return "rounds its size up or is dilated"
    return "pads a whole window" if any(pad >= side for pad, side in zip(pads, kernel * 2, strict=False)) else None


def text(node: NodeProto, name: str, default: str) -> str:
    return next((a.s.decode() for a in node.attribute if a.name == name), default)


def integers(node: NodeProto, name: str) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == name), [])


def constant_list(wiring: Wiring, node: NodeProto, index: int) -> list[float]:
    value = wiring.constant(node.input[index]) if len(node.input) > index and node.input[index] else None
    return [] if value is None else value.ravel().tolist()
