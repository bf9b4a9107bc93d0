"""Class activation maps, and the seeds drawn from them. In: a classifier, labelled pictures. Out: pixels to learn from.

The maps come from torchcam. `cam` (Zhou 2016) is coarse and sure, one cell a stride-16 feature; `layercam` (Jiang 2021)
reads the gradients of a shallow layer and is fine but noisy; `product` multiplies the two: LayerCAM's edges where CAM
agrees. Maps belong to the TRUE label, so they exist for defective pictures alone: on a good picture, every pixel is
background.

Seeds are drawn anew every step (F-CAM, Belharbi 2021, section 3; a fresh draw is worth 7 to 10 points over a fixed one
in NEGEV, Belharbi 2022). The draw is by probability and not from an eroded Otsu region: erosion removes a scratch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchcam.methods import CAM, LayerCAM
from tqdm import tqdm

from fcam_tools.model import Net

METHODS = ("cam", "layercam", "product")

# Side of the stored maps relative to the picture's: LayerCAM reads the features at this stride.
FINE_STRIDE = 4


class Evidence(nn.Module):
    """The classifier alone, as torchcam wants it: pictures in, logits out."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.classify(x)


def activation_maps(
    net: Net, pictures: np.ndarray, labels: Sequence[int], method: str, batch: int = 32, progress: bool = True
) -> np.ndarray:
    """Maps of the given classes, min-max scaled to 0..1 a picture: float16 [N, H/4, W/4], bilinear where coarser."""
    if method not in METHODS:
        raise ValueError(f"unknown map {method}: choose one of {METHODS}")
    height, width = pictures.shape[1] // FINE_STRIDE, pictures.shape[2] // FINE_STRIDE
    out = np.zeros((len(pictures), height, width), np.float16)
    for start in tqdm(range(0, len(pictures), batch), f"{method} maps", unit="batch", disable=not progress):
        chosen = slice(start, start + batch)
        x = to_input(torch.from_numpy(pictures[chosen]))
        maps = batch_maps(net, x, list(labels[chosen]), method)
        maps = F.interpolate(maps[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]
        out[chosen] = scale(maps).numpy()
    return out


def batch_maps(net: Net, x: Tensor, labels: list[int], method: str) -> Tensor:
    if method == "product":
        coarse, fine = batch_maps(net, x, labels, "cam"), batch_maps(net, x, labels, "layercam")
        coarse = F.interpolate(coarse[:, None], size=fine.shape[1:], mode="bilinear", align_corners=False)[:, 0]
        return scale(coarse) * scale(fine)
    model = Evidence(net).eval()
    shape = tuple(x.shape[1:])
    if method == "cam":
        with CAM(model, "net.classifier.neck", fc_layer="net.classifier.fc", input_shape=shape) as extractor:
            with torch.no_grad():
                scores = model(x)
            return extractor(labels, scores)[0].float()
    with LayerCAM(model, fine_layer(net), input_shape=shape) as extractor, torch.enable_grad():
        scores = model(x.requires_grad_(True))
        return extractor(labels, scores)[0].detach().float()


def fine_layer(net: Net) -> str:
    """Name of the module that makes the features at stride 4."""
    stages = net.features.info.get_dicts()
    return "net.features.net." + next(entry["module"] for entry in stages if entry["reduction"] == FINE_STRIDE)


def scale(maps: Tensor) -> Tensor:
    """Min-max a picture; a constant map becomes zero."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return torch.nan_to_num((maps - low) / (high - low).clamp_min(1e-12), nan=0.0)


def to_input(pictures: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] to the network's input: float [N, 3, H, W], (pixel - 128) / 128."""
    return (pictures.permute(0, 3, 1, 2).float() - 128.0) / 128.0


@dataclass(frozen=True)
class Draw:
    """How seeds are drawn from a picture's maps."""

    foreground: int = 16  # pixels
    background: int = 128  # pixels, half of them far from the defect and half around it
    sharpness: float = 3.0  # foreground is drawn with probability map ** sharpness
    support: float = 0.2  # the coarse map's share above which a pixel may belong to the defect
    top: float = 0.1  # share of the fine map that is never background

    def __call__(self, coarse: Tensor, fine: Tensor, generator: torch.Generator) -> Tensor:
        """Seeds of one step from maps [N, h, w]: int8, 1 foreground, 0 background, -1 unknown.

        Background comes half from outside the coarse map's support, half from inside where the fine map is low: without
        the latter nothing tells the surface around a defect from the defect. A pixel drawn as both is unknown.
        """
        coarse_flat, flat = coarse.flatten(1), fine.flatten(1)
        foreground = torch.multinomial(
            flat.clamp_min(1e-6) ** self.sharpness, self.foreground, True, generator=generator
        )
        far = (coarse_flat < self.support).float()
        # Where most of the map has one lowest value, zero, the quantile is that value and nothing is below it.
        low = (flat < torch.quantile(flat, 1 - self.top, dim=1, keepdim=True)) | (flat == flat.amin(1, keepdim=True))
        around = ((coarse_flat >= self.support) & low).float()
        weight = far / far.sum(1, keepdim=True).clamp_min(1) + around / around.sum(1, keepdim=True).clamp_min(1)
        background = torch.multinomial(weight + 1e-9, self.background, True, generator=generator)
        seeds = torch.full_like(flat, -1, dtype=torch.int8)
        seeds.scatter_(1, background, 0)
        clash = seeds.gather(1, foreground) == 0
        seeds.scatter_(1, foreground, torch.where(clash, -1, 1).to(torch.int8))
        return seeds.reshape(fine.shape)
