"""Bundles of well-known backbones with the light decoder and random weights: what engines are tested and timed on.

In: nothing but a seed; pictures to calibrate on are made on the spot. Out: for each net a bundle, and beside it the
float network (NAME.float.onnx) that runtimes with a format of their own start from. The weights are PyTorch's random
ones; BatchNorm statistics are measured, and the heads scaled, so that scores, maps and verdicts differ from picture
to picture as those of a trained net do.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from fcam_tools import data
from fcam_tools.common.disk import scratch
from fcam_tools.common.errors import ToolError
from fcam_tools.export.export import write_bundle
from fcam_tools.export.network_file import write_float
from fcam_tools.export.options import Options
from fcam_tools.model.answers import defect_score, run_net, tensor
from fcam_tools.model.checkpoint import Checkpoint
from fcam_tools.model.network import Features, Net, conv_bn_relu
from fcam_tools.synth import synth

CLASSES = ("good", "scratch", "stain", "hole")
MEAN = 2.5  # of the weights: so many times as strong in a layer's sum as what is random in them
SPREAD = 2.0  # standard deviation of evidence and of map logits


@dataclass(frozen=True)
class Recipe:
    """A net: timm's name for the backbone (or `inception`, which is here), and where it is cut and decoded from."""

    backbone: str
    stride: int = 32
    decoder_stride: int = 32
    widths: tuple[int, ...] = (32, 24, 16, 16)
    size: int = 224


NETS = {
    "lite0": Recipe("efficientnet_lite0"),
    "mobilenetv2": Recipe("mobilenetv2_100"),
    "resnet18": Recipe("resnet18"),
    "resnet50": Recipe("resnet50"),
    # As wide as VGG16 is, on a picture a tenth as large: 15 G multiply-adds time nothing that 1.3 G do not.
    "vgg16": Recipe("vgg16_bn", widths=(32, 24, 16, 16, 16), size=64),
    "inception": Recipe("inception", stride=16, decoder_stride=16, widths=(32, 16, 16)),
}


class InceptionBlock(nn.Module):
    """Four branches side by side: 1 x 1, 1 x 7 then 7 x 1, dilated 3 x 3, averages; [N, C, ...] -> [N, 4 * width, ...].

    Source of the shapes: Szegedy et al., "Rethinking the Inception architecture", CVPR 2016, figure 6.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.point = conv_bn_relu(channels, width, 1)
        self.long = nn.Sequential(
            conv_bn_relu(channels, width, 1), uneven(width, width, (1, 7)), uneven(width, width, (7, 1))
        )
        self.dilated = nn.Sequential(conv_bn_relu(channels, width, 1), uneven(width, width, (3, 3), dilation=2))
        self.pool = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), conv_bn_relu(channels, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.point(x), self.long(x), self.dilated(x), self.pool(x)], dim=1)


def uneven(channels: int, out: int, kernel: tuple[int, int], dilation: int = 1) -> nn.Sequential:
    padding = (kernel[0] // 2 * dilation, kernel[1] // 2 * dilation)
    conv = nn.Conv2d(channels, out, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


class Inception(nn.Module):
    """Features of a small Inception net at strides 2, 4, 8 and 16, with the interface of `network.Features`."""

    channels: Sequence[int] = (32, 64, 128, 192)
    reductions: Sequence[int] = (2, 4, 8, 16)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.down = nn.ModuleList([conv_bn_relu(32, 64, 3), nn.Identity(), nn.Identity()])
        self.blocks = nn.ModuleList([nn.Identity(), InceptionBlock(64, 32), InceptionBlock(128, 48)])

    def cut(self) -> None:
        """Nothing lies behind the last feature."""

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stem(x)]
        for down, block in zip(self.down, self.blocks, strict=True):
            features.append(block(F.max_pool2d(down(features[-1]), 2)))
        return features


def build(recipe: Recipe) -> Net:
    """The net of a recipe with random weights, their means moved from zero.

    Around zero, a deep net with measured BatchNorm statistics is chaotic: one grey level in one pixel changes half of
    the map, and so does the order of two additions in a runtime. With a mean, neighbours add up and rounding averages
    out.
    """
    features = cast(Features, Inception()) if recipe.backbone == "inception" else None
    net = Net(
        len(CLASSES), recipe.backbone, recipe.stride, recipe.widths,
        decoder_stride=recipe.decoder_stride, features=features,
    )  # fmt: skip
    for conv in (module for module in net.modules() if isinstance(module, nn.Conv2d)):
        if conv not in (net.classifier.fc, net.decoder.head):
            conv.weight.data.add_(MEAN * conv.weight.data.std() / conv.weight[0].numel() ** 0.5)
    return net


@torch.no_grad()
def settle(net: Net, pictures: Tensor) -> None:
    """Measure BatchNorm's statistics on pictures [N, 3, H, W]; give evidence and map logits mean 0, spread `SPREAD`."""
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = None  # a plain average over all batches
        nn.init.ones_(norm.weight)  # timm starts the last one of a residual branch with zeros: a branch of nothing
    net.train()
    net(pictures)
    net.eval()
    features = net.features(pictures)
    evidence = net.classifier.fc(net.classifier.neck(features[-1]))
    for head, found in ((net.classifier.fc, evidence), (net.decoder.head, net.decoder(features))):
        layer, values = cast(nn.Conv2d, head), found.transpose(0, 1).flatten(1)
        factor = SPREAD / values.std(dim=1)
        layer.weight.mul_(factor.view(-1, 1, 1, 1))
        cast(Tensor, layer.bias).sub_(values.mean(dim=1)).mul_(factor)


def checkpoint(name: str, net: Net, size: int, pictures: Sequence[np.ndarray], seed: int) -> Checkpoint:
    """A checkpoint whose thresholds divide these pictures' scores and map values into halves."""
    found = [run_net(net, picture) for picture in pictures]
    scores = [defect_score(logits, 0) for logits, _ in found]
    middle = float(np.median(np.stack([heat for _, heat in found])))
    return Checkpoint(
        net=net,
        classes=list(CLASSES),
        ok=CLASSES[0],
        size=(size, size),
        thresholds={"score": float(np.median(scores)), "map": middle, "map_low": middle, "min_area_px": 1},
        provenance={"backbone": name, "weights": f"random, seed {seed}"},
        metrics={},
    )


def write(name: str, dataset: data.Dataset, out: Path, seed: int = 0) -> Path:
    """Write the bundle `out/NAME` and the float network `out/NAME.float.onnx`."""
    recipe = NETS[name]
    torch.manual_seed(seed)
    pictures = [tensor(data.read_picture(p.path, (recipe.size, recipe.size))) for p in dataset.splits["val"]]
    net = build(recipe)
    settle(net, torch.from_numpy(np.concatenate(pictures)))
    made = checkpoint(recipe.backbone, net, recipe.size, pictures, seed)
    write_float(made, out / f"{name}.float.onnx")
    options = Options(name=name, method="minmax", calibration=16, golden=4, samples=2, seed=seed, judge=False)
    return write_bundle(made, dataset, out / name, options).bundle


def write_all(out: Path, names: Sequence[str], seed: int = 0, progress: bool = True) -> list[Path]:
    """Writes the nets that are not there yet; returns the folders of all bundles."""
    out.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not (out / name / "manifest.toml").exists()]
    with scratch("fcam-nets-") as folder:
        for name in tqdm(missing, desc="nets", disable=not progress):
            write(name, pictures_of(NETS[name].size, folder, seed), out, seed)
    return [out / name for name in names]


def pictures_of(size: int, folder: Path, seed: int) -> data.Dataset:
    """A small data set whose pictures have the net's own size: no resize, which engines do differently, takes part."""
    out = folder / str(size)
    if not out.exists():
        synth.generate(out, seed=seed, size=size, train=16, val=16, test=8, defects=list(CLASSES[1:]), progress=False)
    return data.load(str(out))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="folder to write the bundles into")
    parser.add_argument("--only", nargs="+", choices=list(NETS), help="only these (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the paths as JSON")


def run(args: argparse.Namespace) -> int:
    if args.out.is_file():
        raise ToolError(f"{args.out} is a file: name a folder")
    progress = sys.stderr.isatty() and not args.json
    written = write_all(args.out, args.only or list(NETS), args.seed, progress)
    print(json.dumps([str(path) for path in written]) if args.json else "\n".join(map(str, written)))
    return 0
