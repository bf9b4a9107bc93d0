"""The terms that teach the decoder. In: foreground logits [N, 1, H, W], and seeds, pictures, labels. Out: scalars.

F-CAM (Belharbi et al., arXiv 2109.07069): partial cross-entropy on seeds, a colour and position CRF, a size constraint
by extended log-barriers. NEGEV (Belharbi et al., MIDL 2022): every pixel of a good picture is background. What differs
for small defects: the size constraint bounds the defect's area from both sides, as a share of the picture, instead of
pushing both areas up; and the background term looks at its worst pixels too, because a false spot of ten pixels
vanishes in a mean. As F-CAM has them: `seed_cross_entropy` and `absolute_size` here, the CRF over all pairs in
crf.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """Weights of the terms, and their constants."""

    seeds: float = 0.5
    negative: float = 1.0
    size: float = 0.1
    crf: float = 0.5
    peak: float = 1.0
    pasted: float = 1.0
    own: float = 0.0
    label: float = 1.0  # the classifier's own, where it learns with the decoder
    smallest: float = 0.0002  # share of the picture that a defect covers at least
    largest: float = 0.10  # and at most
    brightest: float = 0.0005  # share of a reject's pixels that its label makes a defect, where nothing says where


def partial_cross_entropy(logits: Tensor, seeds: Tensor) -> Tensor:
    """Mean over foreground seeds plus mean over background seeds; `seeds` [N, h, w] may be coarser than the logits.

    The two means are taken apart so that neither side's number of seeds decides the balance.
    """
    seeds = F.interpolate(seeds[:, None].float(), size=logits.shape[2:], mode="nearest")
    loss = F.binary_cross_entropy_with_logits(logits, (seeds > 0).float(), reduction="none")
    foreground, background = seeds == 1, seeds == 0
    return masked_mean(loss, foreground) + masked_mean(loss, background)


def seed_cross_entropy(logits: Tensor, seeds: Tensor) -> Tensor:
    """F-CAM's: the mean over all seed pixels of the batch, foreground and background together; `seeds` [N, H, W]."""
    loss = F.binary_cross_entropy_with_logits(logits[:, 0], (seeds > 0).float(), reduction="none")
    return masked_mean(loss, seeds >= 0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp_min(1)


def fully_negative(logits: Tensor, worst_share: float = 0.005) -> Tensor:
    """All pixels of good pictures are background: mean over all, plus mean over the worst share of them."""
    loss = F.softplus(logits).flatten(1)
    worst = loss.topk(max(1, int(loss.shape[1] * worst_share)), dim=1).values
    return loss.mean() + worst.mean()


def outlined(logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
    """Pictures whose outlines are known: cross-entropy, and Dice's overlap a picture; bool masks [N, 1, H, W].

    Cross-entropy keeps the answers probabilities, which a threshold for all pictures needs; a defect of ten pixels
    vanishes in it, and counts as much as a large one in the overlap. Pixels outside `known` do not count.
    """
    counted = torch.ones_like(logits) if known is None else known.float()
    truth = masks.float() * counted
    entropy = (F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * counted).mean()
    found, truth = (torch.sigmoid(logits) * counted).flatten(1), truth.flatten(1)
    overlap = (2 * (found * truth).sum(1) + 1) / (found.sum(1) + truth.sum(1) + 1)
    return 5 * entropy + 0.5 * (1 - overlap).mean()


def peak(logits: Tensor, where: Tensor, share: float) -> Tensor:
    """The brightest `share` of a defective picture's pixels is foreground, inside `where` (bool [N, h, w]).

    `where` is the activation map's support: the classifier says that a defect is there, and local features say which
    pixels (multiple-instance view). A picture without support adds nothing: there is no pixel to ask.
    """
    inside = (F.interpolate(where[:, None].float(), size=logits.shape[2:], mode="nearest") > 0).flatten(1)
    flat = logits.flatten(1)
    brightest = flat.masked_fill(~inside, -math.inf).topk(max(1, int(flat.shape[1] * share)), dim=1).indices
    return masked_mean(F.softplus(-flat.gather(1, brightest)), inside.gather(1, brightest))


def own(logits: Tensor, where: Tensor, least: float = 0.02) -> Tensor:
    """A defective picture's map is its own label, relative to its brightest pixels inside `where` (bool [N, h, w]).

    The label says that there is a defect and the activation map says where: so the brightest pixels there are
    foreground, however faint they are (from `least` on, or there is nothing to believe), and with them whatever is half
    as bright. What is far fainter, or outside, is background; the rest is left open. Self-training, with the picture's
    label as the yardstick.
    """
    inside = F.interpolate(where[:, None].float(), size=logits.shape[2:], mode="nearest") > 0
    with torch.no_grad():
        found = torch.sigmoid(logits)
        top = (found * inside).flatten(1).topk(min(8, inside[0].numel()), dim=1).values.mean(1).view(-1, 1, 1, 1)
        foreground = inside & (found > 0.5 * top) & (found > least)
        known = foreground | ~inside | (found < 0.2 * top)
    return outlined(logits, foreground, known)


def log_barrier(excess: Tensor, t: float) -> Tensor:
    """Extended log-barrier of the constraint excess <= 0 (Kervadec et al., 2019, eq. 5): smooth, defined everywhere."""
    inside = excess <= -1.0 / t**2
    log_part = -torch.log(-torch.where(inside, excess, torch.full_like(excess, -1.0))) / t
    line_part = t * excess - math.log(1.0 / t**2) / t + 1.0 / t
    return torch.where(inside, log_part, line_part)


def absolute_size(logits: Tensor, t: float) -> Tensor:
    """F-CAM's size constraint: both areas, in pixels, at least zero; the mean of both barriers and of the pictures.

    The barrier of -area falls as the area grows: each side pushes itself up, and neither can vanish. Areas are sums and
    not shares, so the term depends on the resolution; the published weight, 0.1, is for 224 x 224.
    """
    foreground = torch.sigmoid(logits).sum(dim=(1, 2, 3))
    background = torch.sigmoid(-logits).sum(dim=(1, 2, 3))
    return 0.5 * (log_barrier(-foreground, t) + log_barrier(-background, t)).mean()


def size_bounds(logits: Tensor, smallest: float, largest: float, t: float) -> Tensor:
    """The defect's area lies between `smallest` and `largest` of the picture; both bounds in units of themselves."""
    area = torch.sigmoid(logits).mean(dim=(1, 2, 3))
    below = log_barrier(1.0 - area / smallest, t)
    above = log_barrier(area / largest - 1.0, t)
    return (below + above).mean()


def gated_crf(
    logits: Tensor, pictures: Tensor, radius: int = 4, sigma_xy: float = 4.0, sigma_rgb: float = 0.1, side: int = 128
) -> Tensor:
    """Neighbours of like colour have like labels: the Potts energy of a CRF inside a window, 0 (agreement) to 1.

    Source: Obukhov et al., "Gated CRF Loss for Weakly Supervised Semantic Image Segmentation", 2019; no gate is needed
    here, as every pixel counts. `pictures` is the network's input, -1..1; sigma_rgb is on that scale.
    """
    scale = side / logits.shape[-1]
    if scale < 1:
        logits = F.interpolate(logits, scale_factor=scale, mode="bilinear", align_corners=False)
        pictures = F.interpolate(pictures, size=logits.shape[2:], mode="area")
    foreground = torch.sigmoid(logits)
    total = logits.new_zeros(())
    weight = logits.new_zeros(())
    for dy in range(radius + 1):
        for dx in range(-radius, radius + 1):
            if (dy, dx) <= (0, 0):  # each pair of neighbours once
                continue
            a, b = shifted(foreground, dy, dx)
            with torch.no_grad():
                c, d = shifted(pictures, dy, dx)
                color = (c - d).square().sum(dim=1, keepdim=True) / (2 * sigma_rgb**2)
                kernel = torch.exp(-color - (dx * dx + dy * dy) / (2 * sigma_xy**2))
            total = total + (kernel * (a * (1 - b) + b * (1 - a))).sum()
            weight = weight + kernel.sum()
    return total / weight.clamp_min(1.0)


def shifted(x: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """The part of `x` that has a neighbour at (dy, dx), and those neighbours."""
    height, width = x.shape[2] - dy, x.shape[3] - abs(dx)
    left, right = max(0, -dx), max(0, dx)
    return x[:, :, :height, left : left + width], x[:, :, dy:, right : right + width]
