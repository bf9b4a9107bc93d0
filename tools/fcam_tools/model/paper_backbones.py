"""F-CAM's own backbones: VGG16, InceptionV3 and ResNet50 with large feature maps, 28 x 28 at 224.

In: a name of `BACKBONES`. Out: `Wide`, with the interface of `network.Features`, and timm's ImageNet weights if asked.
Source of the shapes: Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right" (CVPR 2020), whose
nets these are; F-CAM (Belharbi et al., arXiv 2109.07069) decodes them. All keep stride 8 to the end: ResNet50's last
two stages do not halve; VGG16's last two poolings do not, and a convolution of 1024 follows; InceptionV3 ends behind
`Mixed_6e` with two convolutions of 1024. Where InceptionV3 does not pad, this one does: sizes are whole at any multiple
of 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIMM_NAMES = {"vgg16_wide": "vgg16", "inception_v3_wide": "inception_v3", "resnet50_wide": "resnet50"}
VGG_STAGES = ((64, 64, "half", 128, 128), ("half", 256, 256, 256),
              ("half", 512, 512, 512, "keep", 512, 512, 512, "keep", 1024))  # fmt: skip


class Wide(nn.Module):
    """Stages one behind the other, and each one's features: a list of [N, C_i, H / r_i, W / r_i], shallowest first."""

    def __init__(self, backbone: str, pretrained: bool = False) -> None:
        super().__init__()
        self.frozen: list[nn.Module] = []
        self.mean, self.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        build, self.channels, self.reductions = BACKBONES[backbone]
        net = timm.create_model(TIMM_NAMES[backbone], pretrained=pretrained, features_only=True)
        if pretrained:
            config = cast(dict, net.pretrained_cfg)
            self.mean, self.std = config["mean"], config["std"]
        self.net = nn.ModuleList(build(net))

    def cut(self) -> None:
        """Nothing lies behind the last feature."""

    def freeze(self, stride: int) -> None:
        """Keep the stages up to `stride` as they are, BatchNorm statistics included; below the first stride, none."""
        shallow = [stage for stage, reduction in zip(self.net, self.reductions, strict=True) if reduction <= stride]
        # Stride 8 begins long before the end: what is behind its first stage goes on learning.
        shallow = shallow[: self.reductions.index(8) + 1]
        self.frozen = [module for stage in shallow for module in stage.modules()]
        for stage in shallow:
            stage.requires_grad_(False)

    def train(self, mode: bool = True) -> Wide:
        super().train(mode)
        for module in self.frozen:
            module.training = False
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in self.net:
            x = stage(x)
            features.append(x)
        return features


def resnet50(net: Any) -> list[nn.Module]:
    for stage in (net.layer3, net.layer4):
        stage[0].conv2.stride = stage[0].downsample[0].stride = (1, 1)
    stem = nn.Sequential(net.conv1, net.bn1, net.act1)
    return [stem, nn.Sequential(net.maxpool, net.layer1), net.layer2, net.layer3, net.layer4]


def vgg16(net: Any) -> list[nn.Module]:
    """The thirteen convolutions of a VGG16 and one of 1024 more; no decoder reads its features of full resolution."""
    convs = iter([layer for layer in net.modules() if isinstance(layer, nn.Conv2d)])
    return [nn.Sequential(*vgg_layers(stage, convs)) for stage in VGG_STAGES]


def vgg_layers(stage: Sequence[int | str], convs: Any) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for entry in stage:
        if entry == "half":
            layers.append(nn.MaxPool2d(2))
        elif entry == "keep":
            layers.append(nn.MaxPool2d(3, stride=1, padding=1))
        else:
            layers += [next(convs, None) or nn.Conv2d(512, int(entry), 3, padding=1), nn.ReLU()]
    return layers


def inception_v3(net: Any) -> list[nn.Module]:
    net.Conv2d_1a_3x3.conv.padding = net.Conv2d_2a_3x3.conv.padding = net.Conv2d_4a_3x3.conv.padding = (1, 1)
    pools = [nn.MaxPool2d(3, stride=2, padding=1) for _ in range(2)]
    deep = nn.Sequential(
        nn.Conv2d(768, 1024, 3, padding=1), nn.ReLU(), nn.Conv2d(1024, 1024, 3, padding=1), nn.ReLU()
    )  # fmt: skip
    return [
        nn.Sequential(net.Conv2d_1a_3x3, net.Conv2d_2a_3x3, net.Conv2d_2b_3x3),
        nn.Sequential(pools[0], net.Conv2d_3b_1x1),
        nn.Sequential(net.Conv2d_4a_3x3, pools[1], net.Mixed_5b, net.Mixed_5c, net.Mixed_5d),
        nn.Sequential(Unhalved(net.Mixed_6a), net.Mixed_6b, net.Mixed_6c, net.Mixed_6d, net.Mixed_6e),
        deep,
    ]


class Unhalved(nn.Module):
    """Inception's `Mixed_6a` without its stride: three branches side by side, 288 channels to 768."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.branch3x3, self.branch3x3dbl_1 = block.branch3x3, block.branch3x3dbl_1
        self.branch3x3dbl_2, self.branch3x3dbl_3 = block.branch3x3dbl_2, block.branch3x3dbl_3
        for last in (self.branch3x3, self.branch3x3dbl_3):
            last.conv.stride, last.conv.padding = (1, 1), (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=1, padding=1)], dim=1)


# Stages from timm's net, and each stage's channels and stride.
BACKBONES: dict[str, tuple[Callable[[Any], list[nn.Module]], list[int], list[int]]] = {
    "vgg16_wide": (vgg16, [128, 256, 1024], [2, 4, 8]),
    "inception_v3_wide": (inception_v3, [64, 80, 288, 768, 1024], [2, 4, 8, 8, 8]),
    "resnet50_wide": (resnet50, [64, 256, 512, 1024, 2048], [2, 4, 8, 8, 8]),
}
