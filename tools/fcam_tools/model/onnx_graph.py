"""The graph of a network file, to walk and to read. In: an ONNX model. Out: who makes and who reads each tensor, and
the values of those that are constant.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

INPUT, OUTPUTS = "input", ("logits", "map")
INPUT_SCALE = np.float32(1 / 128)
# Bytes of a stored value, of the types that a network here may have.
BYTES: dict[int, int] = {
    TensorProto.BOOL: 1, TensorProto.UINT8: 1, TensorProto.INT8: 1,
    TensorProto.UINT16: 2, TensorProto.INT16: 2, TensorProto.FLOAT16: 2,
    TensorProto.FLOAT: 4, TensorProto.INT32: 4, TensorProto.UINT32: 4,
    TensorProto.DOUBLE: 8, TensorProto.INT64: 8, TensorProto.UINT64: 8,
}  # fmt: skip
MAX_ELEMENTS = 1 << 28  # values in one stored tensor at most


class Wiring:
    """Who makes and who reads each tensor of a graph, and which tensors are constant."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.nodes: list[NodeProto] = list(graph.node)
        self.initializers: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in filter(None, node.input):
                self.readers[name].append(node)

    def constant(self, name: str) -> np.ndarray | None:
        """The value of an initialiser or of a Constant node; None for everything else, and if it cannot be read."""
        tensor = self.stored(name)
        return None if tensor is None or storage_problem(tensor) else numpy_helper.to_array(tensor)

    def stored(self, name: str) -> TensorProto | None:
        """The same as it is stored: its shape is there even where its values cannot be read."""
        return self.initializers.get(name) or self.constant_node(name)

    def constant_node(self, name: str) -> TensorProto | None:
        node = self.producer.get(name)
        if node is None or node.op_type != "Constant":
            return None
        return next((a.t for a in node.attribute if a.name == "value"), None)

    def followers(self, node: NodeProto) -> Iterator[NodeProto]:
        """The nodes that read what this node makes."""
        for name in node.output:
            yield from self.readers[name]

    def upstream_of(self, op_types: Iterable[str]) -> set[str]:
        """Outputs of the nodes from which a node of one of these types is reached by at least one step."""
        wanted, above = set(op_types), set[str]()
        waiting = [name for node in self.nodes if node.op_type in wanted for name in node.input]
        while waiting:
            name = waiting.pop()
            if name not in above:
                above.add(name)
                waiting += self.producer[name].input if name in self.producer else []
        return above


def name_of(node: NodeProto) -> str:
    """What to call a node: nodes need not have names."""
    return node.name or output_of(node)


def input_of(node: NodeProto, index: int) -> str:
    """The name of an input, empty if the node has none of that position."""
    return node.input[index] if index < len(node.input) else ""


def output_of(node: NodeProto) -> str:
    return node.output[0] if node.output else ""


def attribute(node: NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)


def storage_problem(tensor: TensorProto) -> str | None:
    """Why a stored tensor cannot be loaded: the bytes must be there for the size that it claims."""
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        return "keeps its values outside of the file"
    width = BYTES.get(tensor.data_type)
    if width is None:
        return f"has the type {tensor.data_type}, which no network here needs"
    claimed, raw = math.prod(tensor.dims), len(tensor.raw_data)
    if any(side < 0 for side in tensor.dims) or claimed > MAX_ELEMENTS:
        return f"claims the impossible size {list(tensor.dims)}"
    if raw % width:
        return f"has {raw} bytes, which is no whole number of values"
    lists = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    held = raw // width if raw else sum(map(len, lists))
    return None if held == claimed else f"holds {held} values and claims {claimed}"
