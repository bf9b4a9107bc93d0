"""What is normally at each place, for parts that lie in one pose. In: shallow features. Out: the same, and how far each
is from the mean of the good pictures at its place.

A missing, shifted or wrong component looks like a good one of another place: nothing local tells it apart. Only
features that no longer learn have a mean that stays; those are the shallow ones, whose cells are small enough, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (2, 4)


class Place(nn.Module):
    """`channels` of the features at `STRIDES`; `size` (width, height) of the picture."""

    def __init__(self, channels: Sequence[int], size: tuple[int, int]) -> None:
        super().__init__()
        for stride, count in zip(STRIDES, channels, strict=True):
            self.register_buffer(f"normal{stride}", torch.zeros(1, count, size[1] // stride, size[0] // stride))

    def normal(self) -> list[Tensor]:
        return [self.get_buffer(f"normal{stride}") for stride in STRIDES]

    def forward(self, features: Sequence[Tensor], normal: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Features, shallowest first, those at `STRIDES` with their distances behind them; `normal` of other places."""
        known = self.normal() if normal is None else unknown_apart(features, normal)
        shallow = zip(features, known, strict=False)
        return [*(torch.cat([f, apart(f, r)], 1) for f, r in shallow), *features[len(STRIDES) :]]


def unknown_apart(features: Sequence[Tensor], normal: Sequence[Tensor]) -> list[Tensor]:
    """What is normal; where nobody knows (not a number), the features themselves: nowhere apart."""
    return [torch.where(r.isnan(), f, r) for f, r in zip(features, normal, strict=False)]


def apart(features: Tensor, normal: Tensor) -> Tensor:
    """|f - r|, of what the camera's int8 engine knows."""
    return F.relu(features - normal) + F.relu(normal - features)
