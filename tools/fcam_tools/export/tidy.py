"""A float graph, tidied: what every runtime that reads a bundle takes. In: a float ONNX file. Out: the model with
shapes inferred, constants and BatchNorm folded, pads and resizes in one form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process

from fcam_tools.common.disk import scratch
from fcam_tools.model.onnx_graph import Wiring

IR_VERSION = 8  # the one of opset 17: older parsers refuse newer files


def prepare(float_onnx: Path) -> ModelProto:
    """A float file with shapes inferred, constants and BatchNorm folded, and only the operators the runtimes share."""
    with scratch("fcam-prepare-", 3 * float_onnx.stat().st_size) as folder:  # libraries make copies of their own
        folded = folder / "folded.onnx"
        quant_pre_process(float_onnx, folded, skip_symbolic_shape=True)
        model = onnx.load(folded)
    for tidy in (hoist_constants, fold_pads, resize_by_scales, divide_by_multiplying, drop_leftovers):
        tidy(model)
    return model


def hoist_constants(model: ModelProto) -> None:
    """Constant nodes become initialisers."""
    for node in [n for n in model.graph.node if n.op_type == "Constant"]:
        value = Wiring(model).constant(node.output[0])
        if value is not None:
            model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
            model.graph.node.remove(node)


def fold_pads(model: ModelProto) -> None:
    """A Pad with zeros in front of Convs alone becomes their own padding."""
    wiring = Wiring(model)
    for pad in [n for n in wiring.nodes if n.op_type == "Pad"]:
        amounts = wiring.constant(pad.input[1])
        readers = wiring.readers[pad.output[0]]
        if amounts is None or not pads_zeros(wiring, pad) or any(n.op_type != "Conv" for n in readers):
            continue
        begin, end = np.split(amounts, 2)
        if begin[:2].any() or end[:2].any():
            continue
        for conv in readers:
            widen(conv, [*begin[2:].tolist(), *end[2:].tolist()])
            conv.input[0] = pad.input[0]
        model.graph.node.remove(pad)


def pads_zeros(wiring: Wiring, pad: NodeProto) -> bool:
    if any(a.name == "mode" and a.s != b"constant" for a in pad.attribute):
        return False
    value = wiring.constant(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(())
    return value is not None and not value.any()


def widen(conv: NodeProto, extra: Sequence[int]) -> None:
    old = next((list(a.ints) for a in conv.attribute if a.name == "pads"), [0] * len(extra))
    kept = [a for a in conv.attribute if a.name not in ("pads", "auto_pad")]
    del conv.attribute[:]
    conv.attribute.extend(kept)
    conv.attribute.append(onnx.helper.make_attribute("pads", [a + b for a, b in zip(old, extra, strict=True)]))


def resize_by_scales(model: ModelProto) -> None:
    """Resize to a constant size becomes Resize by constant scales; attributes of other modes go."""
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info}
    wiring = Wiring(model)
    for node in (n for n in wiring.nodes if n.op_type == "Resize"):
        if len(node.input) == 4 and node.input[3]:
            scales = np.array(wiring.constant(node.input[3]), np.float32) / np.array(shapes[node.input[0]], np.float32)
            name = f"{node.name}_scales"
            model.graph.initializer.append(numpy_helper.from_array(scales, name))
            node.input[:] = [node.input[0], "", name]
        foreign = {"cubic_coeff_a"} | (set() if is_nearest(node) else {"nearest_mode"})
        kept = [a for a in node.attribute if a.name not in foreign]
        del node.attribute[:]
        node.attribute.extend(kept)


def divide_by_multiplying(model: ModelProto) -> None:
    """x / constant becomes x * (1 / constant): one operator less for every runtime."""
    wiring = Wiring(model)
    for node in (n for n in wiring.nodes if n.op_type == "Div"):
        divisor = wiring.constant(node.input[1])
        if divisor is not None:
            name = f"{node.name}_reciprocal"
            model.graph.initializer.append(numpy_helper.from_array((1 / divisor).astype(divisor.dtype), name))
            node.op_type, node.input[1] = "Mul", name


def drop_leftovers(model: ModelProto) -> None:
    """Unread initialisers, foreign domains and an IR version that the opset does not need."""
    read = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
    keep(model.graph.initializer, lambda tensor: tensor.name in read)
    keep(model.opset_import, lambda opset: opset.domain in ("", "ai.onnx"))
    model.ir_version = min(model.ir_version, IR_VERSION)


def keep(field: Any, wanted: Callable[[Any], bool]) -> None:
    kept = [item for item in field if wanted(item)]
    del field[:]
    field.extend(kept)


def is_nearest(node: NodeProto) -> bool:
    return all(a.s == b"nearest" for a in node.attribute if a.name == "mode")
