"""The network: a timm backbone, a classifier on its features, and a light decoder up to full resolution.

In: float pictures [N, 3, H, W], (pixel - 128) / 128, H and W multiples of the head's stride.
Out: logits [N, classes] and a class-agnostic foreground map [N, 1, H, W] in 0..1, in one forward pass.

The method is F-CAM (Belharbi et al., arXiv 2109.07069). Two things differ for small defects on a small computer: the
backbone is cut at stride 16 (a defect of 0.02 % of a 256 x 256 picture is four pixels wide: deeper features no longer
see it, and half of the multiply-adds are saved), and the decoder's convolutions are depthwise-separable (the paper's
U-Net costs seven times a mobile backbone). The paper's own backbones are in paper_backbones.py, its decoder in unet.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from timm.models import FeatureInfo
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fcam_tools.common.errors import ToolError
from fcam_tools.model.paper_backbones import BACKBONES, Wide
from fcam_tools.model.place import STRIDES, Place
from fcam_tools.model.unet import UNet

DEFAULT_BACKBONE = "efficientnet_lite0"
# Backbones that are known to fit; every other net of timm that gives features at the strides in between does, too.
EDGE_BACKBONES = (
    "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2",
    "mobilenetv2_050", "mobilenetv2_100", "mobilenetv3_small_100", "tf_mobilenetv3_small_minimal_100", "resnet18",
)  # fmt: skip
DECODERS = ("light", "unet")
VERDICTS = ("features", "decoder")  # what the classifier reads
BOUND = 6.0  # of the logits of a map that a verdict is pooled from; that of ReLU6, whose features lie beside them
RARE = -4.0  # a map's logits before it learns, where places are compared: one pixel in fifty is a defect
READ_CELL = 8  # pixels, the side of what a verdict from the decoder tells apart
# BatchNorm's epsilon where timm's own differs from the one that the packaged weights were trained with (TensorFlow's).
# It belongs to the net and not to its weights, which do not carry it: a checkpoint must load with the one it had.
BATCH_NORM_EPS = {"efficientnet_lite0": 1e-3, "efficientnet_lite1": 1e-3, "efficientnet_lite2": 1e-3}


class Features(nn.Module):
    """Backbone features at strides 2, 4, ... up to `stride`, shallowest first: a list of [N, C_i, H/2^i, W/2^i]."""

    def __init__(self, backbone: str, stride: int) -> None:
        super().__init__()
        self.frozen: list[nn.Module] = []
        probe = timm.create_model(backbone, pretrained=False, features_only=True)
        reductions = feature_info(probe).reduction()
        if stride not in reductions:
            raise ToolError(f"{backbone} has no features at stride {stride}: choose one of {reductions}")
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
        for module in self.shallow(stride):
            self.frozen.append(module)
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)

    def shallow(self, stride: int) -> list[nn.Module]:
        """The layers up to the features at `stride`; none for 0 or 1."""
        names = [entry["module"] for entry in self.info.get_dicts() if entry["reduction"] <= stride]
        last, passed = (names[-1], False) if names else ("", True)
        found: list[nn.Module] = []
        for name, module in self.net.named_modules():  # in order of the forward pass, a stage's parts right after it
            if passed and not (last and name.startswith(f"{last}.")):
                break
            passed = passed or name == last
            found.append(module)
        return found

    def train(self, mode: bool = True) -> Features:
        super().train(mode)
        for module in self.frozen:
            module.training = False  # not eval(), which would take a container's later stages along
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.net(x)


def make_features(backbone: str, stride: int) -> Features | Wide:
    """A backbone without its weights; the wide ones have one stride only, 8."""
    if backbone in BACKBONES:
        return Wide(backbone)
    if not timm.is_model(backbone):
        near = ", ".join((*EDGE_BACKBONES, *BACKBONES))
        raise ToolError(f"no backbone {backbone}: choose one of {near}, or another of timm's names")
    return Features(backbone, stride)


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
    """1 x 1 convolutions to one evidence map a class, then pooling: the evidence maps ARE the class activation maps.

    `width` 0 and `pool` "avg" is the classifier of CAM and F-CAM: one linear layer on averaged features.
    """

    def __init__(self, channels: int, classes: int, width: int = 256, pool: str = "lse") -> None:
        super().__init__()
        self.neck: nn.Module = conv_bn_relu(channels, width, kernel=1) if width else nn.Identity()
        self.drop = nn.Dropout2d(0.1 if width else 0.0)
        self.fc = nn.Conv2d(width or channels, classes, kernel_size=1)
        self.pool: nn.Module = (
            LogSumExpPool() if pool == "lse" else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        )

    @torch.no_grad()
    def trust_map(self) -> None:
        """Start as what pools the first channel, the map's logits, for every class but the first, the OK one."""
        self.fc.weight.zero_()
        self.fc.weight[1:, 0] = 1
        if self.fc.bias is not None:
            self.fc.bias.zero_()

    def judge(self, deep: Tensor) -> Tensor:
        """Logits [N, K] from what the neck made."""
        return self.pool(self.fc(self.drop(deep)))

    def forward(self, deepest: Tensor) -> Tensor:
        return self.judge(self.neck(deepest))


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
    """Light U-Net from the features to one foreground logit a pixel: [N, 1, H/2, W/2], coarser with fewer widths.

    It starts from stride 8, not from the classifier's own 16. Given the latter, it learns to paint the activation
    map's blob around a defect; given local features alone, a clean surface beside a defect looks like one without, and
    the good pictures call that background.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        *skips, deepest = channels
        if len(widths) > len(skips):
            raise ToolError(
                f"the decoder takes {len(skips)} widths at most, one a step up, and was given {len(widths)}"
            )
        skips = skips[len(skips) - len(widths) :]
        self.reduce = conv_bn_relu(deepest, 48, kernel=1)
        steps = zip([48, *widths[:-1]], reversed(skips), widths, strict=True)
        self.blocks = nn.ModuleList(UpBlock(below, skip, out) for below, skip, out in steps)
        self.head = nn.Conv2d(widths[-1], 1, kernel_size=3, padding=1)

    @torch.no_grad()
    def expect_little(self) -> None:
        """Start with every pixel background (Lin et al., "Focal loss for dense object detection", ICCV 2017, 4.1).

        From even odds the head learns to take away wherever it sees background, and what it says of a defect ends where
        nothing is taken away: at even odds, so that all rejects score alike. On surfaces that is of use: a few bright
        spots of a good one do not outshine a reject (leather after the first stage: image AUROC on the val split 0.36
        with this start, 0.77 without).
        """
        if self.head.bias is not None:
            self.head.bias.fill_(RARE)

    def trunk(self, features: Sequence[Tensor]) -> Tensor:
        """What the head reads: [N, widths[-1], H/2, W/2], coarser with fewer widths."""
        x = self.reduce(features[-1])
        for block, skip in zip(self.blocks, reversed(features[:-1]), strict=False):
            x = block(x, skip)
        return x

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return self.head(self.trunk(features))


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
        decoder: str = "light",
        neck: int = 256,
        verdict: str = "features",
        place: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if verdict not in VERDICTS or (verdict == "decoder" and decoder != "light"):
            raise ToolError(f"no verdict from {verdict} with decoder {decoder}: choose one of {', '.join(VERDICTS)}")
        self.settings = {
            "classes": classes,
            "backbone": backbone,
            "stride": stride,
            "widths": tuple(widths),
            "pool": pool,
            "decoder_stride": decoder_stride,
            "decoder": decoder,
            "neck": neck,
            "verdict": verdict,
            "place": tuple(place),
        }
        self.features = features or make_features(backbone, stride)
        self.features.cut()
        self.classifier = Classifier(self.features.channels[-1], classes, neck, pool)
        if verdict == "decoder":
            self.classifier = Classifier(1 + widths[-1], classes, 0, pool)
            self.classifier.trust_map()
        self.inputs = decoder_inputs(self.features.reductions, decoder, decoder_stride)
        channels = [self.features.channels[index] for index in self.inputs]
        self.place: Place | None = None
        if place:
            shallow = len(STRIDES)
            self.place = Place(channels[:shallow], (place[0], place[1]))
            channels[:shallow] = [2 * count for count in channels[:shallow]]
        self.decoder: nn.Module = (
            UNet(channels, center="vgg" in backbone) if decoder == "unet" else Decoder(channels, widths)
        )
        if place:
            cast(Decoder, self.decoder).expect_little()

    def classify(self, x: Tensor) -> Tensor:
        """The verdict alone: logits [N, K]."""
        return self.classifier(self.read(self.features(x)))

    def read(self, features: Sequence[Tensor]) -> Tensor:
        """What the classifier reads: the deepest features; or the map's logits, and the features that they are made of.

        The latter makes verdict and map of the same evidence, at the resolution that small defects need.
        """
        if self.settings["verdict"] == "features":
            return features[-1]
        decoder = cast(Decoder, self.decoder)
        trunk = decoder.trunk(self.chosen(features))
        return evidence(self.bounded(decoder.head(trunk)), trunk)

    def chosen(self, features: Sequence[Tensor], normal: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The features that the decoder reads; with `place` also how far they are from what is `normal` there."""
        found = [features[index] for index in self.inputs]
        return self.place(found, normal) if self.place else found

    def map_logits(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Foreground logits at full resolution: [N, 1, H, W]."""
        return enlarged(self.decoder(self.chosen(features)), size)

    def both(self, features: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Logits [N, K] and foreground logits [N, 1, H, W], each layer computed once."""
        if self.settings["verdict"] == "features":
            return self.classifier(features[-1]), self.map_logits(features, size)
        decoder = cast(Decoder, self.decoder)
        trunk = decoder.trunk(self.chosen(features))
        found = self.bounded(decoder.head(trunk))
        return self.classifier(evidence(found, trunk)), enlarged(found, size)

    def bounded(self, found: Tensor) -> Tensor:
        """The map's logits as they ship, within `BOUND`, so that the 127 steps of int8 tell apart what matters.

        While it learns nothing is cut off: no gradient would lead back from a wrong answer.
        """
        return found if self.training else found.clamp(-BOUND, BOUND)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, found = self.both(self.features(x), (int(x.shape[2]), int(x.shape[3])))
        return logits, torch.sigmoid(found)


def evidence(logits: Tensor, trunk: Tensor) -> Tensor:
    """Of each cell of `READ_CELL` pixels the largest of the map's logits [N, 1, h, w] and of each of the features
    [N, C, h, w] at stride 2 that they are made of: [N, 1 + C, h / 4, w / 4]."""
    return F.max_pool2d(torch.cat([logits, trunk], 1), READ_CELL // 2)


def enlarged(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if logits.shape[2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


class Joint(nn.ModuleDict):
    """Features, classifier and decoder that learn together; the first two's BatchNorms keep their statistics.

    Those are of whole natural pictures: made-up defects would bend what the classifier reads.
    """

    def __init__(self, net: Net) -> None:
        super().__init__({"features": net.features, "classifier": net.classifier, "decoder": net.decoder})

    def train(self, mode: bool = True) -> Joint:
        super().train(mode)
        for part in (self["features"], self["classifier"]):
            for module in part.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


def decoder_inputs(reductions: Sequence[int], decoder: str, stride: int) -> list[int]:
    """The features that a decoder reads: the light one those up to its stride, the U-Net all but full resolution."""
    if decoder not in DECODERS:
        raise ToolError(f"no decoder {decoder}: choose one of {', '.join(DECODERS)}")
    if decoder == "unet":
        return [index for index, reduction in enumerate(reductions) if reduction > 1]
    if stride not in reductions:
        raise ToolError(f"there are no features at the decoder's stride {stride}: choose one of {reductions}")
    return list(range(list(reductions).index(stride) + 1))


def feature_info(net: nn.Module) -> FeatureInfo:
    """What timm tells about a net that it made with `features_only`."""
    return cast(FeatureInfo, net.feature_info)


def conv_bn_relu(channels: int, out: int, kernel: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6())


def separable(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(conv_bn_relu(channels, channels, 3, groups=channels), conv_bn_relu(channels, out, 1))


def net_of(saved: dict[str, Any]) -> Net:
    """The network of a checkpoint's content, for inference."""
    net = Net(**saved["settings"])
    net.load_state_dict(saved["state_dict"])
    return net.eval()


def multiply_adds(work: Callable[[], object]) -> int:
    """Multiply-adds of the convolutions and matrix products that `work` runs; all else is a few per cent."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() // 2
