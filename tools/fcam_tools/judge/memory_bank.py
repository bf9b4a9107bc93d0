"""A memory bank of good parts: what labels have to beat. In: good pictures. Out: how far any picture is from them.

Features of the pretrained backbone at strides 8 and 16, each averaged over its 3 x 3 neighbours and scaled to unit
variance; the distance of each cell to its nearest ones among those of the good training pictures, any place of any of
them. Nothing is trained, no defect is needed, and it runs on a workstation alone. After PatchCore (Roth et al.,
"Towards total recall in industrial anomaly detection", CVPR 2022) with a random subset in place of its coreset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fcam_tools import data
from fcam_tools.common import parallel
from fcam_tools.common.errors import ToolError
from fcam_tools.model.network import Net
from fcam_tools.model.weights import load_pretrained
from fcam_tools.train import seeds

CELLS = 20_000  # that are remembered
NEAREST = 3  # cells that a distance is the mean of
WORST = 5  # cells of a picture that its score is the mean of
STRIDES = (8, 16)


class Bank:
    """Cells of good pictures; `answer` says how far another picture is from them."""

    def __init__(
        self, backbone: str, good: Sequence[Path], size: tuple[int, int], seed: int = 0, progress: bool = False
    ) -> None:
        """Of all `good` pictures, brought to `size` (width, height); refuses none."""
        if not good:
            raise ToolError("a memory bank needs good pictures in the train split, and there are none")
        net = Net(2, backbone, max(STRIDES))
        load_pretrained(net)
        self.size, self.device = size, parallel.device()
        self.features = net.features.eval().to(self.device)
        draw, each = torch.Generator().manual_seed(seed), math.ceil(CELLS / len(good))
        chosen = []
        for path in tqdm(good, "memory bank", unit="picture", disable=not progress):
            cells = self.cells(path).flatten(0, 1)
            chosen.append(cells[torch.randperm(len(cells), generator=draw)[:each].to(self.device)])
        whole = torch.cat(chosen)
        self.mean, self.std = whole.mean(0), whole.std(0) + 1e-3
        self.known = (whole - self.mean) / self.std
        self.unit = math.sqrt(whole.shape[1])  # what two cells that have nothing in common are apart, about

    @torch.no_grad()
    def cells(self, path: Path) -> Tensor:
        """Features [H / 8, W / 8, C] of a picture."""
        x = seeds.to_input(torch.from_numpy(data.read_picture(path, self.size))[None]).to(self.device)
        found = dict(zip(self.features.reductions, self.features(x), strict=True))
        maps = [F.avg_pool2d(found[stride], 3, 1, 1) for stride in STRIDES]
        finest = maps[0].shape[2:]
        maps = [F.interpolate(each, size=finest, mode="bilinear", align_corners=False) for each in maps]
        return torch.cat(maps, 1)[0].permute(1, 2, 0)

    @torch.no_grad()
    def answer(self, path: Path) -> tuple[float, np.ndarray]:
        """Score and map [H, W], both 0 (known) to 1 (far from anything known)."""
        cells = (self.cells(path) - self.mean) / self.std
        apart = torch.cdist(cells.flatten(0, 1), self.known).topk(NEAREST, largest=False).values.mean(1)
        far = (apart / (apart + self.unit)).view(1, 1, *cells.shape[:2])
        full = F.interpolate(far, size=self.size[::-1], mode="bilinear", align_corners=False)[0, 0]
        return float(far.flatten().topk(WORST).values.mean()), full.cpu().numpy()
