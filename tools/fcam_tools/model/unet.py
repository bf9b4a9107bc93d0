"""F-CAM's own decoder: a U-Net of plain convolutions from the backbone's features to one foreground logit a pixel.

In: features, shallowest first, [N, C_i, H / r_i, W / r_i]. Out: [N, 1, H', W'], H' twice the shallowest features' side.
Source: Belharbi et al., arXiv 2109.07069, section 3, after Ronneberger et al., "U-Net", MICCAI 2015. Its head has two
channels, background and foreground, and softmax over them: that is the sigmoid of their difference, so the difference
is what comes out, and the camera computes one channel. Parameters: 23.12, 5.70 and 9.01 million on the three backbones
of paper_backbones.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (256, 128, 64, 32, 16)


class UNet(nn.Module):
    """As many blocks as there are features; the last one has no skip. `center` puts two convolutions at the bottom."""

    def __init__(self, channels: Sequence[int], center: bool = False) -> None:
        super().__init__()
        *skips, deepest = channels
        widths = WIDTHS[: len(channels)]
        self.center = pair(deepest, deepest) if center else nn.Identity()
        inputs = [deepest, *widths[:-1]]
        steps = zip(inputs, [*reversed(skips), 0], widths, strict=True)
        self.blocks = nn.ModuleList(pair(below + skip, out) for below, skip, out in steps)
        self.head = nn.Conv2d(widths[-1], 2, kernel_size=3, padding=1)
        for module in (*self.center.modules(), *self.blocks.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, mode="fan_in", nonlinearity="relu")
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(cast(Tensor, self.head.bias))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        *skips, deepest = features
        x = self.center(deepest)
        for block, skip in zip_longest(self.blocks, reversed(skips)):
            x = block(joined(F.interpolate(x, scale_factor=2, mode="nearest"), skip))
        weight, bias = self.head.weight, cast(Tensor, self.head.bias)
        return F.conv2d(x, weight[1:] - weight[:1], bias[1:] - bias[:1], padding=1)


def joined(x: Tensor, skip: Tensor | None) -> Tensor:
    """With the skip behind it, in the skip's size: where the backbone does not halve, doubling is taken back."""
    if skip is None:
        return x
    if x.shape[2:] != skip.shape[2:]:
        x = F.interpolate(x, size=[int(side) for side in skip.shape[2:]], mode="bilinear", align_corners=True)
    return torch.cat([x, skip], dim=1)


def pair(channels: int, out: int) -> nn.Sequential:
    """Twice convolution, BatchNorm, ReLU."""
    layers: list[nn.Module] = []
    for inputs in (channels, out):
        layers += [nn.Conv2d(inputs, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)
