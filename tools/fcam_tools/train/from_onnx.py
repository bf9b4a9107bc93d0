"""A bundle's network as one that can learn again. In: a bundle, a network of its shape. Out: its float weights.

A QDQ file keeps its weights in float (rule 3 of models/README.md), BatchNorm folded into them. `weights` finds them by
the names that the export gave its nodes; `restore_statistics` puts BatchNorm back, with the statistics that it has on
the given pictures and the scale and shift that undo them, so that the network answers as before and can be trained.
What stays is the shift of rounding that quantisation took out of each bias: a few thousandths of a unit.

It refuses a file of another maker, or of another network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import NodeProto
from torch import Tensor, nn

from fcam_tools.common.errors import ToolError
from fcam_tools.model.network import LogSumExpPool, Net
from fcam_tools.model.onnx_graph import Wiring
from fcam_tools.train import seeds

SCALED = "ConvMulFusion"  # how ONNX Runtime names weights that a product behind them was folded into


def weights(bundle: Path, net: Net) -> dict[str, Tensor]:
    """Entries of `net`'s state: those of each convolution in the bundle, and of the BatchNorm behind it."""
    try:
        wiring = Wiring(onnx.load(bundle / "model.onnx"))
    except Exception as error:  # protobuf's errors have no common type
        raise ToolError(f"cannot read {bundle / 'model.onnx'}: {error}") from error
    norms = norms_of(net)
    found: dict[str, Tensor] = {}
    for node in (n for n in wiring.nodes if n.op_type == "Conv"):
        name = module_of(node)
        kernel, bias = (constant_behind(wiring, node.input[index]) for index in (1, 2))
        if kernel is None or bias is None:
            raise ToolError(f"{bundle}: {node.name} keeps no float weights and bias: export it with fcam-tools")
        if SCALED in node.input[1] and isinstance(net.classifier.pool, LogSumExpPool):
            kernel, bias = kernel / net.classifier.pool.sharpness, bias / net.classifier.pool.sharpness
        found[f"{name}.weight"] = torch.from_numpy(kernel)
        found |= folded(norms[name], bias) if name in norms else {f"{name}.bias": torch.from_numpy(bias)}
    return found | places(wiring, net)


def places(wiring: Wiring, net: Net) -> dict[str, Tensor]:
    """What is normal at each place (model/place.py), of a network that knows it: what its features are less of."""
    found: dict[str, Tensor] = {}
    for name, own in net.place.named_buffers() if net.place else ():
        values = (constant_behind(wiring, node.input[1]) for node in wiring.nodes if node.op_type == "Sub")
        fits = [value for value in values if value is not None and value.shape == own.shape]
        if len(fits) == 1:
            found[f"place.{name}"] = torch.from_numpy(fits[0])
    return found


def module_of(node: NodeProto) -> str:
    """The module that a node was made of: `/a/a.0/b/Conv` of `a.0.b`."""
    parts: list[str] = []
    for part in node.name.strip("/").split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def constant_behind(wiring: Wiring, name: str) -> np.ndarray | None:
    """A constant, or the one that a pair of QuantizeLinear and DequantizeLinear stands behind; writable."""
    while wiring.constant(name) is None and name in wiring.producer:
        name = wiring.producer[name].input[0]
    value = wiring.constant(name)
    return None if value is None else value.copy()


def norms_of(net: nn.Module) -> dict[str, tuple[str, nn.BatchNorm2d]]:
    """The BatchNorm behind each convolution, by the convolution's name."""
    found: dict[str, tuple[str, nn.BatchNorm2d]] = {}
    last = ""
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            last = name
        elif isinstance(module, nn.BatchNorm2d) and last:
            found[last], last = (name, module), ""
    return found


def folded(norm: tuple[str, nn.BatchNorm2d], bias: np.ndarray) -> dict[str, Tensor]:
    """A BatchNorm that adds a bias and changes nothing else."""
    name, module = norm
    shift = torch.from_numpy(bias)
    plain = {"weight": torch.ones_like(shift), "bias": shift, "running_mean": torch.zeros_like(shift)}
    plain["running_var"] = torch.full_like(shift, 1 - module.eps)
    return {f"{name}.{part}": value for part, value in plain.items()}


@torch.no_grad()
def restore_statistics(net: Net, pictures: np.ndarray, batch: int = 32) -> None:
    """BatchNorms that are folded get the statistics of uint8 pictures [N, H, W, 3], layer by layer in one pass each
    over the same picture batch; the network's answers stay as they are."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    sums: dict[nn.BatchNorm2d, list[Tensor]] = {norm: [] for norm in norms}

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        sums[norm].append(torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))]))  # type: ignore[index]

    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    was, device = net.training, next(net.parameters()).device
    net.eval()
    for start in range(0, len(pictures), batch):
        net(seeds.to_input(torch.from_numpy(pictures[start : start + batch])).to(device))
    for hook in hooks:
        hook.remove()
    for norm, seen in sums.items():
        mean, square = torch.stack(seen).mean(0)
        unfold(norm, mean, (square - mean.square()).clamp_min(0))
    net.train(was)


def unfold(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor) -> None:
    """Statistics put into a BatchNorm, its scale and shift changed so that it computes what it did."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    norm.bias.add_(scale * (mean - norm.running_mean))
    norm.weight.copy_(scale * (var + norm.eps).sqrt())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
