"""Class activation maps, and the seeds drawn from them. In: a classifier, labelled pictures. Out: pixels to learn from.

A map reads one layer's features A [C, h, w], and all but the first method its gradients G = dY/dA of the class's logit:
- `cam` (Zhou et al., CVPR 2016): sum of w_k A_k, w the class's own weights; before pooling, with its negative part;
- `gradcam` (Selvaraju et al., ICCV 2017): w_k is the mean of G_k;
- `gradcampp` (Chattopadhay et al., WACV 2018): w_k is the sum of alpha relu(G_k), alpha = G² / (2 G² + G³ sum A_k);
- `smoothgradcampp` (Omeiza et al., 2019): the same with G, G², G³ averaged over noisy copies of the picture;
- `xgradcam` (Fu et al., BMVC 2020): w_k is the mean of G_k, weighted by A_k;
- `layercam-deep` (Jiang et al., TIP 2021): relu(G) A, position by position;
- `layercam`: the same at a shallow layer, fine but noisy;
- `product`: `cam` times `layercam`: LayerCAM's edges where CAM agrees.
The first six are F-CAM's sources (Belharbi et al., arXiv 2109.07069), read from the classifier's last features. A relu
stands behind all but `cam`. They are written here and not taken from torchcam, to which the tests hold four of them:
its Grad-CAM++ (0.5.0) divides a copy, so that alpha stays G², and its smooth one keeps the last sample's G alone.

Maps belong to the TRUE label, so they exist for defective pictures alone: on a good picture, every pixel is
background. A picture with several labels has the maximum of their maps.

Seeds are drawn anew every step (F-CAM, section 3; a fresh draw is worth 7 to 10 points over a fixed one in NEGEV,
Belharbi 2022). The draw here is by probability and not from an eroded Otsu region: erosion removes a scratch. The
papers' own draws are in sampling.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fcam_tools.common.errors import ArgumentError
from fcam_tools.model.network import Net

# Side of the stored maps relative to the picture's: LayerCAM reads the features at this stride.
FINE_STRIDE = 4

# Smooth-GradCAM++ as F-CAM has it: 4 copies, noise of 0.3 times the standard deviation of ImageNet's colours.
NOISY_COPIES = 4
NOISE = 0.3 * 0.226 * 255 / 128

Labels = Sequence[int | Sequence[int]] | Sequence[int] | Sequence[list[int]]
Weighting = Callable[[Tensor, Tensor], Tensor]


def activation_maps(
    net: Net, pictures: np.ndarray, labels: Labels, method: str, batch: int = 32, progress: bool = True
) -> np.ndarray:
    """Maps of the given classes, min-max scaled to 0..1 a picture: float16 [N, H/4, W/4], bilinear where coarser.

    `pictures` is uint8 [N, H, W, 3]; `labels` has one class a picture, or a list of them. It runs where the net is.
    """
    if method not in METHODS:
        raise ArgumentError(f"unknown map {method}: choose one of {METHODS}")
    size = (pictures.shape[1] // FINE_STRIDE, pictures.shape[2] // FINE_STRIDE)
    out = np.zeros((len(pictures), *size), np.float16)
    index, classes = flat_labels(labels)
    for start in tqdm(range(0, len(index), batch), f"{method} maps", unit="batch", disable=not progress):
        chosen = index[start : start + batch]
        x = to_input(torch.from_numpy(pictures[chosen])).to(next(net.parameters()).device)
        maps = batch_maps(net, x, classes[start : start + batch], method)
        maps = F.interpolate(scale(maps)[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        np.maximum.at(out, chosen, scale(maps).cpu().numpy().astype(np.float16))
    return out


def flat_labels(labels: Labels) -> tuple[np.ndarray, list[int]]:
    """One entry a picture and class: the pictures' numbers [M], and the classes [M]."""
    pairs = [(i, int(k)) for i, found in enumerate(labels) for k in several(found)]
    return np.array([i for i, _ in pairs], np.int64), [k for _, k in pairs]


def several(found: int | Sequence[int]) -> Sequence[int]:
    return found if isinstance(found, Sequence) else [found]


def batch_maps(net: Net, x: Tensor, labels: list[int], method: str) -> Tensor:
    """One class's map a picture, as coarse as the layer it reads, not scaled: float [N, h, w]."""
    net.eval()
    if method == "product":
        coarse, fine = batch_maps(net, x, labels, "cam"), batch_maps(net, x, labels, "layercam")
        coarse = F.interpolate(coarse[:, None], size=fine.shape[1:], mode="bilinear", align_corners=False)[:, 0]
        return scale(coarse) * scale(fine)
    if method == "cam":
        return own_maps(net, x, labels)
    if method == "smoothgradcampp":
        return smooth(net, x, labels)
    weighting, layer = WEIGHTINGS[method]
    features, gradients = features_and_gradients(net, x, labels, layer)
    return (weighting(features, gradients) * features).sum(1).relu()


@torch.no_grad()
def own_maps(net: Net, x: Tensor, labels: list[int]) -> Tensor:
    weights = net.classifier.fc.weight[labels, :, 0, 0]
    return torch.einsum("nc,nchw->nhw", weights, net.classifier.neck(net.read(net.features(x)))).float()


def features_and_gradients(net: Net, x: Tensor, labels: list[int], layer: str) -> tuple[Tensor, Tensor]:
    """Features [N, C, h, w] of the `deep` or the `fine` layer, and the gradients of each picture's logit there."""
    with torch.enable_grad():
        features = net.features(x.detach().requires_grad_(True))
        deep = net.classifier.neck(net.read(features))
        chosen = deep if layer == "deep" else features[fine_index(net)]
        logits = net.classifier.judge(deep)
        (gradients,) = torch.autograd.grad(logits[range(len(labels)), labels].sum(), chosen)
    return chosen.detach().float(), gradients.float()


def fine_index(net: Net) -> int:
    """Index of the features that fine maps are read from: stride 4, or the first coarser one."""
    return next(i for i, stride in enumerate(net.features.reductions) if stride >= FINE_STRIDE)


def smooth(net: Net, x: Tensor, labels: list[int]) -> Tensor:
    """Smooth-GradCAM++: derivatives averaged over noisy copies, the same noise each time; features without noise."""
    source = torch.Generator().manual_seed(0)
    powers = []
    for _ in range(NOISY_COPIES):
        noise = torch.randn(x.shape, generator=source).to(x.device) * NOISE
        gradients = features_and_gradients(net, x + noise, labels, "deep")[1]
        powers.append(torch.stack([gradients, gradients**2, gradients**3]))
    first, second, third = torch.stack(powers).mean(0)
    with torch.no_grad():
        features = net.classifier.neck(net.read(net.features(x))).float()
    return (plus_plus(features, first, second, third) * features).sum(1).relu()


def mean_gradient(_: Tensor, gradients: Tensor) -> Tensor:
    return gradients.mean((2, 3), keepdim=True)


def plus_plus(features: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """Grad-CAM++'s weights [N, C, 1, 1] from the gradients' first three powers; no gradient, no weight."""
    below = 2 * second + third * features.sum((2, 3), keepdim=True)
    alpha = torch.where(below != 0, second / torch.where(below != 0, below, 1.0), 0.0)
    return (alpha * first.relu()).sum((2, 3), keepdim=True)


def gradcam_plus_plus(features: Tensor, gradients: Tensor) -> Tensor:
    gradients = gradients.double()  # the cube of a small gradient is lost in float32
    return plus_plus(features.double(), gradients, gradients**2, gradients**3).float()


def feature_weighted(features: Tensor, gradients: Tensor) -> Tensor:
    """XGrad-CAM's weights; a channel without features has none."""
    total = features.sum((2, 3), keepdim=True)
    weighted = (gradients * features).sum((2, 3), keepdim=True)
    return torch.where(total != 0, weighted / torch.where(total != 0, total, 1.0), 0.0)


def positive_gradient(_: Tensor, gradients: Tensor) -> Tensor:
    return gradients.relu()


WEIGHTINGS: dict[str, tuple[Weighting, str]] = {
    "gradcam": (mean_gradient, "deep"),
    "gradcampp": (gradcam_plus_plus, "deep"),
    "xgradcam": (feature_weighted, "deep"),
    "layercam-deep": (positive_gradient, "deep"),
    "layercam": (positive_gradient, "fine"),
}
PAPER_METHODS = ("cam", "gradcam", "gradcampp", "smoothgradcampp", "xgradcam", "layercam-deep")
METHODS = (*PAPER_METHODS, "layercam", "product")


def scale(maps: Tensor) -> Tensor:
    """Min-max a picture; a constant map becomes zero."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    span = high - low
    return torch.nan_to_num(torch.where(span > 0, (maps - low) / torch.where(span > 0, span, 1.0), 0.0), nan=0.0)


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
