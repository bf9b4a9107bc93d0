"""The papers' parts: maps by hand and against torchcam, nets, losses, draws, labels, recipes; the int8 operators."""

from __future__ import annotations

import argparse
import math
from typing import cast

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
import torchcam.methods
from fcam_tools.common.errors import ToolError
from fcam_tools.export import operators
from fcam_tools.model import network, weights
from fcam_tools.model.network import Features, Net
from fcam_tools.model.unet import UNet
from fcam_tools.train import (
    classifier,
    crf,
    decoder,
    labels,
    losses,
    methods,
    options,
    sampling,
    seeds,
    threshold,
    train,
)
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

STAGED = [name for name in methods.RECIPES if name != "native"]  # a classifier, then a decoder


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


# Maps.


class Colours(nn.Module):
    """Features that can be told by hand: the three colours, averaged over 4 x 4 pixels, in 0..1."""

    channels, reductions = (3,), (4,)

    def cut(self) -> None: ...

    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.avg_pool2d((x + 1) / 2, 4)]


WEIGHTS = torch.tensor([[0.0, 0.0, 0.0], [1.0, -0.5, 0.0], [0.25, 2.0, -1.0]])


def toy() -> Net:
    """Averaged colours and one linear layer: every map is known."""
    net = Net(3, "toy", 4, pool="avg", features=cast(Features, Colours()), decoder="unet", neck=0).eval()
    net.classifier.fc.weight.data = WEIGHTS[:, :, None, None]
    return net


def pictures(count: int = 3, side: int = 32, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def expected(method: str, features: Tensor, label: int) -> Tensor:
    """The formulas of the papers for averaging and a linear layer, where G_k is w_k / (h w) everywhere."""
    cells = features.shape[2] * features.shape[3]
    gradients = (WEIGHTS[label] / cells)[None, :, None, None]
    total = features.sum((2, 3), keepdim=True)
    if method == "cam":
        return (WEIGHTS[label][None, :, None, None] * features).sum(1)
    weights = {
        "gradcam": gradients,
        "xgradcam": gradients,
        "layercam": gradients.relu(),
        "layercam-deep": gradients.relu(),
        "gradcampp": cells * gradients.relu() / (2 + gradients * total),
        "smoothgradcampp": cells * gradients.relu() / (2 + gradients * total),
    }[method]
    return (weights * features).sum(1).relu()


@pytest.mark.parametrize("method", [name for name in seeds.METHODS if name != "product"])
@pytest.mark.parametrize("label", [1, 2])
def test_map_of_the_toy_net_is_the_paper_s(method: str, label: int) -> None:
    x = seeds.to_input(torch.from_numpy(pictures()))
    features = F.avg_pool2d((x + 1) / 2, 4)
    found = seeds.batch_maps(toy(), x, [label] * 3, method)
    wanted = expected(method, features, label)
    assert found.shape == (3, 8, 8)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=float(wanted.abs().max()) * 1e-5)


def test_gradcam_is_cam_up_to_scale_where_pooling_averages() -> None:
    x = seeds.to_input(torch.from_numpy(pictures()))
    cam, grad = (seeds.batch_maps(toy(), x, [1, 2, 2], method) for method in ("cam", "gradcam"))
    assert torch.allclose(cam.relu() / 64, grad, atol=1e-6)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(3)
    made = Net(3, widths=(8, 8))
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return made.eval()


class Evidence(nn.Module):
    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.classify(x)


@pytest.mark.parametrize(
    ("method", "theirs", "layer"),
    [
        ("gradcam", "GradCAM", "net.classifier.neck"),
        ("xgradcam", "XGradCAM", "net.classifier.neck"),
        ("layercam-deep", "LayerCAM", "net.classifier.neck"),
        ("layercam", "LayerCAM", "net.features.net.blocks.1"),
    ],
)
def test_maps_of_a_real_net_are_torchcam_s(net: Net, method: str, theirs: str, layer: str) -> None:
    x = seeds.to_input(torch.from_numpy(pictures(side=64)))
    with getattr(torchcam.methods, theirs)(Evidence(net), layer, input_shape=(3, 64, 64)) as extractor:
        wanted = extractor([1, 2, 0], Evidence(net)(x.clone().requires_grad_(True)))[0].detach()
    found = seeds.scale(seeds.batch_maps(net, x, [1, 2, 0], method))
    assert torch.allclose(found, seeds.scale(wanted), atol=1e-4)


@pytest.mark.parametrize("method", seeds.METHODS)
def test_maps_have_their_shape_and_range(net: Net, method: str) -> None:
    found = seeds.activation_maps(net, pictures(side=64), [1, 2, 1], method, batch=2, progress=False)
    assert found.shape == (3, 16, 16) and found.dtype == np.float16
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
    again = seeds.activation_maps(net, pictures(side=64), [1, 2, 1], method, batch=2, progress=False)
    assert np.array_equal(found, again)
    assert not any(parameter.grad is not None for parameter in net.parameters())


def test_map_of_several_labels_is_the_maximum_of_theirs() -> None:
    one, other, both = (
        seeds.activation_maps(toy(), pictures(1), found, "cam", progress=False) for found in ([[1]], [[2]], [[1, 2]])
    )
    assert np.array_equal(both, np.maximum(one, other)) and not np.array_equal(both, one)


# Backbones and decoders. On the meta device a net has shapes and no numbers: nothing is computed.


def paper_net(backbone: str) -> Net:
    with torch.device("meta"):
        return Net(200, backbone, 8, decoder="unet", neck=0, pool="avg").eval()


@pytest.mark.parametrize(
    ("backbone", "decoder", "classifier"),
    [
        ("vgg16_wide", "23.12", "19.6"),
        ("inception_v3_wide", "5.70", "25.7"),
        ("resnet50_wide", "9.01", "23.9"),
    ],
)
def test_paper_nets_have_the_paper_s_parameters_and_sizes(backbone: str, decoder: str, classifier: str) -> None:
    net = paper_net(backbone)
    counts = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in net.named_children()}
    assert f"{counts['decoder']:.2f}" == decoder
    assert f"{counts['features'] + counts['classifier']:.1f}" == classifier
    x = torch.zeros(1, 3, 224, 224, device="meta")
    assert net.features(x)[-1].shape[2:] == (28, 28)
    logits, found = net(x)
    assert logits.shape == (1, 200) and found.shape == (1, 1, 224, 224)


def test_resnet50_costs_what_the_paper_s_does() -> None:
    net, x = paper_net("resnet50_wide"), torch.zeros(1, 3, 224, 224, device="meta")
    with FlopCounterMode(display=False) as encoder:
        features = net.features(x)
    with FlopCounterMode(display=False) as decoder:
        net.decoder(features)
    assert f"{encoder.get_total_flops() / 2e9:.1f}" == "19.1"
    assert f"{decoder.get_total_flops() / 2e9:.1f}" == "8.6"


def test_head_of_two_channels_is_a_softmax() -> None:
    decoder = UNet([4, 8, 8]).eval()
    features = [torch.randn(2, 4, 16, 16), torch.randn(2, 8, 8, 8), torch.randn(2, 8, 8, 8)]
    inside: list[Tensor] = []
    decoder.blocks[-1].register_forward_hook(lambda _, __, out: inside.append(out))
    found = decoder(features)
    both = decoder.head(inside[0])
    assert found.shape == (2, 1, 32, 32)
    assert torch.allclose(torch.sigmoid(found)[:, 0], both.softmax(1)[:, 1], atol=1e-6)


@pytest.mark.parametrize("backbone", [*network.EDGE_BACKBONES, "vgg16_bn", "lcnet_050"])
@pytest.mark.parametrize("decoder", network.DECODERS)
def test_edge_backbones_give_a_map_as_large_as_the_picture(backbone: str, decoder: str) -> None:
    with torch.device("meta"):
        net = Net(3, backbone, decoder=decoder).eval()
    logits, found = net(torch.zeros(1, 3, 64, 96, device="meta"))
    assert logits.shape == (1, 3) and found.shape == (1, 1, 64, 96)


def test_unknown_backbones_and_strides_are_refused_by_name() -> None:
    with pytest.raises(ToolError, match=r"no backbone magicnet.*resnet50_wide"):
        Net(2, "magicnet")
    with pytest.raises(ToolError, match="resnet18 has no features at stride 12"):
        Net(2, "resnet18", 12)
    with pytest.raises(ToolError, match="no decoder magic: choose one of light, unet"):
        Net(2, "resnet18", decoder="magic")


def test_wide_backbones_keep_what_is_frozen() -> None:
    features = network.make_features("resnet50_wide", 8)
    features.freeze(4)
    features.train()
    trained = [name for name, p in features.named_parameters() if p.requires_grad]
    assert trained and all(name.startswith(("net.2.", "net.3.", "net.4.")) for name in trained)
    norms = {name: m.training for name, m in features.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert not any(value for name, value in norms.items() if name.startswith(("net.0.", "net.1.")))
    assert all(value for name, value in norms.items() if name.startswith(("net.2.", "net.3.", "net.4.")))


def test_rescaling_moves_the_bias_of_a_net_without_batchnorm() -> None:
    plain, rescaled = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()) for _ in range(2))
    rescaled.load_state_dict(plain.state_dict())
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    weights.rescale_input(rescaled, mean, std)
    values = torch.randint(0, 256, (1, 3, 8, 8)).float()
    own = (values / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    assert torch.allclose(plain(own), rescaled((values - 128) / 128), atol=1e-4)


# Losses.


def test_absolute_size_by_hand() -> None:
    # 4 x 4 pixels at probability 1/2: both areas are 8, and the barrier of -8 is -log 8.
    assert float(losses.absolute_size(torch.zeros(1, 1, 4, 4), 1.0)) == pytest.approx(-math.log(8), rel=1e-5)
    assert float(losses.absolute_size(torch.zeros(1, 1, 4, 4), 2.0)) == pytest.approx(-math.log(8) / 2, rel=1e-5)
    # No foreground: its barrier stands at its straight part, t * 0 - log(1 / t²) / t + 1 / t; background is 16.
    none = torch.full((1, 1, 4, 4), -200.0)
    assert float(losses.absolute_size(none, 1.0)) == pytest.approx(0.5 * (1 - math.log(16)), rel=1e-5)
    assert float(losses.absolute_size(none, 2.0)) == pytest.approx(
        0.5 * ((math.log(4) + 1) / 2 - math.log(16) / 2), rel=1e-5
    )


def test_absolute_size_pushes_a_small_foreground_up() -> None:
    logits = torch.full((1, 1, 8, 8), -3.0, requires_grad=True)
    losses.absolute_size(logits, 1.0).backward()
    assert logits.grad is not None and (logits.grad < 0).all()


def test_seed_cross_entropy_is_the_mean_over_all_seeds() -> None:
    logits, drawn = torch.randn(2, 1, 4, 4), torch.full((2, 4, 4), -1, dtype=torch.int8)
    drawn[0, 0, :3], drawn[1, 2, 1] = 1, 0
    both = torch.cat([torch.zeros_like(logits), logits], 1)
    wanted = F.cross_entropy(both, drawn.long(), ignore_index=-1)
    assert float(losses.seed_cross_entropy(logits, drawn)) == pytest.approx(float(wanted), rel=1e-5)
    drawn.fill_(-1)
    assert float(losses.seed_cross_entropy(logits, drawn)) == 0


def brute_crf(logits: Tensor, picture: Tensor, sigma_rgb: float, sigma_xy: float) -> Tensor:
    """The quadratic form, pair by pair."""
    _, _, height, width = logits.shape
    maps = torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], 1).double()
    colour, total = picture.double() * 128, torch.zeros((), dtype=torch.float64)
    cells = [(y, x) for y in range(height) for x in range(width)]
    for n in range(len(logits)):
        for a, b in cells:
            for c, d in cells:
                apart = ((a - c) ** 2 + (b - d) ** 2) / sigma_xy**2
                apart += float((colour[n, :, a, b] - colour[n, :, c, d]).square().sum()) / sigma_rgb**2
                total = total + math.exp(-apart / 2) * (maps[n, :, a, b] * maps[n, :, c, d]).sum()
    return -total / len(logits)


def test_dense_crf_is_the_quadratic_form_and_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crf, "BLOCK", 64)  # several blocks of rows
    torch.manual_seed(0)
    picture = torch.rand(2, 3, 5, 6) * 0.6 - 0.3
    first = torch.randn(2, 1, 5, 6, requires_grad=True)
    second = first.detach().clone().requires_grad_(True)
    found, wanted = crf.dense_crf(first, picture, 15.0, 3.0), brute_crf(second, picture, 15.0, 3.0)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    found.backward()
    wanted.backward()
    assert first.grad is not None and second.grad is not None
    assert torch.allclose(first.grad, second.grad, rtol=1e-3, atol=1e-5)


def test_dense_crf_on_a_coarse_grid_is_nearly_the_exact_one() -> None:
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 32:] = 0.5
    across = torch.linspace(-3, 3, 64).expand(1, 1, 64, 64)
    exact, coarse = (float(crf.dense_crf(across, picture, 15.0, 20.0, cells)) for cells in (64, 16))
    assert coarse == pytest.approx(exact, rel=0.02)
    along, against = (float(crf.dense_crf(m, picture, 15.0, 20.0, 32)) for m in (across, across.transpose(2, 3)))
    assert along < against  # an edge of the map on the picture's edge is cheaper


# Draws.


def blob(side: int = 64) -> Tensor:
    """Two maps: a bright square of 30 in the middle of a dark ramp, and a constant one."""
    maps = torch.linspace(0, 0.2, side * side).reshape(1, side, side).repeat(2, 1, 1)
    maps[0, 17:47, 17:47] = 0.9
    maps[1] = 0.5
    return maps


def test_otsu_draw_takes_the_eroded_inside_and_the_lowest_tenth() -> None:
    source, maps = torch.Generator().manual_seed(0), blob()
    tenth = maps[0].flatten().kthvalue(int(64 * 64 * 0.1)).values
    places = set()
    for _ in range(50):
        drawn = sampling.OtsuDraw(kernel=1)(maps, maps, source)
        assert int((drawn[0] == 1).sum()) == 1 and int((drawn[0] == 0).sum()) == 1
        y, x = (drawn[0] == 1).nonzero()[0].tolist()
        assert 22 <= y <= 41 and 22 <= x <= 41  # five pixels from the square's border: erosion by 11 x 11
        assert maps[0][drawn[0] == 0] <= tenth
        assert (drawn[1] == -1).all()
        places.add((y, x))
    assert len(places) > 20


def test_otsu_draw_grows_each_pixel_to_a_square() -> None:
    drawn = sampling.OtsuDraw()(blob(), blob(), torch.Generator().manual_seed(1))[0]
    assert int((drawn == 1).sum()) == 9 and int((drawn == 0).sum()) in (4, 6, 9)


def test_erosion_that_leaves_nothing_is_not_made() -> None:
    levels = np.zeros((1, 32, 32), np.uint8)
    levels[0, 10:14, 10:14] = 200
    assert np.array_equal(sampling.foreground_region(levels, 11, 1)[0], levels[0] > 0)


def test_a_pixel_of_both_squares_is_unknown() -> None:
    one, other = torch.zeros(1, 5, 5, dtype=torch.bool), torch.zeros(1, 5, 5, dtype=torch.bool)
    one[0, 2, 1], other[0, 2, 3] = True, True
    drawn = sampling.grown(one, other, 3, torch.ones(1, dtype=torch.bool))[0]
    assert drawn[1:4].tolist() == [[1, 1, -1, 0, 0]] * 3
    assert (drawn[[0, 4]] == -1).all()


def test_probability_draw_follows_the_map() -> None:
    maps = torch.zeros(1, 8, 8)
    maps[0, :, :4] = 1.0
    source = torch.Generator().manual_seed(0)
    for _ in range(20):
        drawn = sampling.ProbabilityDraw(kernel=1)(maps, maps, source)[0]
        assert (drawn[:, 4:] != 1).all() and (drawn[:, :4] != 0).all()
        assert int((drawn == 1).sum()) == 1 and int((drawn == 0).sum()) == 1


def test_random_crop_cuts_the_map_where_it_cuts_the_picture() -> None:
    torch.manual_seed(0)
    coarse = torch.rand(6, 16, 16, 2)
    pixels = coarse[..., :1].repeat_interleave(4, 1).repeat_interleave(4, 2).repeat(1, 1, 1, 3)
    out, maps = methods.random_crop(pixels, coarse, 32)
    assert maps is not None and out.shape == (6, 32, 32, 3) and maps.shape == (6, 8, 8, 2)
    assert torch.equal(out[:, ::4, ::4, 0], maps[..., 0])
    assert methods.random_crop(pixels, None, 32)[1] is None


# Labels.


def test_labels_are_classes_or_multi_hot() -> None:
    plain = labels.label_array([(0,), (2,)], 3)
    hot = labels.label_array([(0,), (1, 2), (2,)], 3)
    assert plain.tolist() == [0, 2] and plain.dtype == np.int64
    assert hot.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]] and hot.dtype == np.float32
    assert labels.defective(plain).tolist() == [False, True]
    assert labels.defective(torch.from_numpy(hot)).tolist() == [False, True, True]
    assert labels.defect_classes(hot) == [[0], [1, 2], [2]] and labels.defect_classes(plain) == [[0], [2]]
    with pytest.raises(ValueError, match="no class"):
        labels.label_array([()], 3)


def test_several_labels_are_learnt_class_by_class() -> None:
    logits, hot = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[0.0, 1.0, 1.0]])
    wanted = (math.log(1 + math.exp(1)) + math.log(1 + math.exp(2)) + math.log(1 + math.exp(-0.5))) / 3
    assert float(labels.classification_loss(logits, hot)) == pytest.approx(wanted, rel=1e-5)
    single = labels.classification_loss(logits, torch.tensor([1]))
    assert float(single) == pytest.approx(float(-logits.log_softmax(1)[0, 1]), rel=1e-5)
    scores = np.array([[0.1, 0.7, 0.2], [0.8, 0.1, 0.1]])
    assert labels.accuracy(scores, np.array([1, 1])) == 0.5
    assert labels.accuracy(scores, np.array([[0, 1, 1], [0, 0, 1]], np.float32)) == 0.5


# Recipes.


def parsed(*words: str) -> train.Recipe:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return options.recipe_of(parser.parse_args(["data", "--out", "x.pt", *words]))


def test_the_paper_s_recipe_has_the_published_numbers() -> None:
    recipe = parsed("--recipe", "fcam-paper")
    assert (recipe.backbone, recipe.decoder, recipe.size, recipe.crop_from) == ("resnet50_wide", "unet", 224, 256)
    assert (recipe.batch, recipe.decoder_lr, recipe.decoder_epochs, recipe.optimizer) == (32, 0.01, 50, "sgd")
    assert recipe.lr * recipe.backbone_lr_share == pytest.approx(0.0017)
    assert recipe.draw == sampling.OtsuDraw(1, 1, 3, 0.1, 11, 1)
    assert (recipe.weights.seeds, recipe.weights.size, recipe.weights.crf) == (1.0, 0.1, 2e-9)
    assert recipe.barrier_growth**50 == pytest.approx(1.64, abs=0.01)


def test_the_command_line_changes_a_recipe_s_numbers() -> None:
    assert parsed() == train.Recipe(**methods.named("native", {}))
    assert parsed("--recipe", "inspection") == train.Recipe()
    with pytest.raises(ToolError, match="native has no --epochs: it has --outline-steps"):
        parsed("--epochs", "3")
    with pytest.raises(ToolError, match="pasted has no --label-steps: it has --epochs"):
        parsed("--recipe", "pasted", "--label-steps", "3")
    recipe = parsed("--recipe", "fcam-paper", "--backbone", "vgg16_wide", "--draw-erode", "5", "--weight-crf", "0")
    assert (recipe.backbone, recipe.draw.erode, recipe.weights.crf) == ("vgg16_wide", 5, 0)  # type: ignore[union-attr]
    assert recipe.weights.size == 0.1 and recipe.recipe == "fcam-paper"
    assert parsed("--recipe", "fcam-paper", "--size", "112").crop_from == 128
    with pytest.raises(ToolError, match="crop-from 64 is smaller than --size 112"):
        parsed("--recipe", "fcam-paper", "--size", "112", "--crop-from", "64")
    with pytest.raises(ToolError, match="native has no --draw-erode: it has --draw-foreground"):
        parsed("--draw-erode", "5")


def test_rate_falls_in_steps() -> None:
    rates = [methods.step_decay(epoch, 15, 0.01) for epoch in (0, 14, 15, 30, 1000)]
    assert rates == pytest.approx([1, 1, 0.1, 0.01, 1e-5])


@pytest.mark.parametrize("hot", [False, True])
@pytest.mark.parametrize("name", STAGED)
def test_every_recipe_trains_its_decoder(name: str, hot: bool) -> None:
    small = {
        "backbone": "lcnet_035", "stride": 16, "widths": (8, 8), "size": 64, "pretrained": False, "batch": 3,
        "epochs": 1, "decoder_epochs": 1,
    }  # fmt: skip
    recipe = train.Recipe(
        recipe=name, **methods.RECIPES[name] | small | {"crop_from": 72 if name != "inspection" else 0}
    )
    found = labels.label_array([(0,), (1, 2) if hot else (1,), (2,)] * 2, 3)
    own, val = (train.Pictures(pictures(6, recipe.read_at(split)[0], 1), found) for split in ("train", "val"))
    t = train.Trainer(recipe, own, val, 3, progress=False)
    classifier.train_classifier(t)
    before = {key: value.clone() for key, value in t.net.state_dict().items()}
    told, every = decoder.train_decoder(t)
    moved = {key for key, value in t.net.state_dict().items() if not torch.equal(value, before[key])}
    parts = {key.split(".")[0] for key in moved}
    assert parts == ({"features", "classifier", "decoder"} if name == "joint" else {"decoder"})
    # Made-up defects do not bend what the classifier reads.
    assert not any("running" in key and not key.startswith("decoder.") for key in moved)
    assert math.isfinite(told["val_weak_loss"]) and len(every) == 1


def test_f_cam_trains_on_a_set_without_good_pictures() -> None:
    small = {"backbone": "lcnet_035", "stride": 16, "size": 64, "crop_from": 72, "batch": 3, "pretrained": False}
    recipe = train.Recipe(**methods.named("fcam-paper", small | {"epochs": 1, "decoder_epochs": 1}))
    found = np.array([1, 2, 1, 2])
    own, val = (train.Pictures(pictures(4, recipe.read_at(split)[0], 1), found) for split in ("train", "val"))
    t = train.Trainer(recipe, own, val, 3, progress=False)
    told = classifier.train_classifier(t)
    assert told["val_auroc"] == told["val_accuracy"]
    assert math.isfinite(decoder.train_decoder(t)[0]["val_weak_loss"])
    assert threshold.score_threshold(np.array([0.9, 0.8]), np.zeros(2, bool), 0.01) == 0.5


def weighted(name: str, bad: list[int]) -> dict[str, float]:
    recipe = train.Recipe(recipe=name, **methods.RECIPES[name])
    torch.manual_seed(0)
    logits, x, maps = torch.randn(2, 1, 32, 32), torch.rand(2, 3, 32, 32), torch.rand(2, 8, 8, 2)
    source = torch.Generator().manual_seed(0)
    found = methods.terms(recipe, logits, x, torch.tensor(bad), maps, 1.0, source)
    return {key: float(value) for key, value in found.items()}


def test_good_pictures_are_background_to_negev_and_nothing_to_f_cam() -> None:
    paper, negev = weighted("fcam-paper", [0, 0]), weighted("negev", [0, 0])
    assert not any(paper.values())
    assert negev["negative"] > 0 and not any(value for key, value in negev.items() if key != "negative")


def test_each_recipe_has_its_own_terms() -> None:
    present = {name: {key for key, value in weighted(name, [0, 1]).items() if value} for name in STAGED}
    assert present == {
        "inspection": {"seeds", "negative", "size", "peak", "crf"},
        "pasted": {"negative", "own"},
        "joint": {"negative", "own"},
        "fcam-paper": {"seeds", "size", "crf"},
        "negev": {"seeds", "negative"},
    }


def test_a_pasted_defect_is_no_background() -> None:
    recipe = train.Recipe(recipe="pasted", **methods.RECIPES["pasted"])
    logits, x, maps = torch.zeros(2, 1, 32, 32), torch.zeros(2, 3, 32, 32), torch.zeros(2, 8, 8, 2)
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[1, 4:8, 4:8] = True
    logits.requires_grad_(True)
    found = methods.terms(recipe, logits, x, torch.tensor([0, 0]), maps, 1.0, torch.Generator(), masks)
    assert {name for name, value in found.items() if value} == {"negative", "pasted"}
    torch.stack(list(found.values())).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0].gt(0).all() and torch.equal(logits.grad[1, 0].lt(0), masks[1])


# Operators.


def graph(node: onnx.NodeProto, constants: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8])

    stored = [onnx.numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    made = helper.make_graph([node], "g", [value("x"), value("y")], [value("z")], stored)
    made.value_info.extend([value("x"), value("y")])
    return helper.make_model(made)


def resize(mode: str, transform: str, factor: float, nearest: str = "floor") -> onnx.ModelProto:
    node = helper.make_node(
        "Resize", ["x", "", "scales"], ["z"], mode=mode, coordinate_transformation_mode=transform, nearest_mode=nearest
    )
    return graph(node, {"scales": np.array([1, 1, factor, factor], np.float32)})


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (graph(helper.make_node("HardSigmoid", ["x"], ["z"])), "not known"),
        (graph(helper.make_node("Mul", ["x", "y"], ["z"])), "of two tensors"),
        (graph(helper.make_node("Mul", ["x", "c"], ["z"]), {"c": np.ones(4, np.float32)}), "more than one number"),
        (
            graph(helper.make_node("Sub", ["x", "c"], ["z"]), {"c": np.ones((1, 4, 1, 1), np.float32)}),
            "not a map of its",
        ),
        (graph(helper.make_node("Add", ["c", "x"], ["z"]), {"c": np.ones((4, 8, 8), np.float32)}), "not a map of its"),
        (graph(helper.make_node("Div", ["x", "c"], ["z"]), {"c": np.ones((1, 4, 8, 8), np.float32)}), "more than one"),
        (graph(helper.make_node("Div", ["c", "x"], ["z"]), {"c": np.ones(1, np.float32)}), "number in front"),
        (graph(helper.make_node("Concat", ["x", "y"], ["z"], axis=2)), "not along the channels"),
        (graph(helper.make_node("MaxPool", ["x"], ["z"], kernel_shape=[3, 3], ceil_mode=1)), "rounds its size up"),
        (graph(helper.make_node("ReduceMean", ["x"], ["z"], axes=[1])), "not over height and width"),
        (graph(helper.make_node("Flatten", ["x"], ["z"])), "more than one pixel"),
        (resize("linear", "align_corners", 2), "neither nearest"),
        (resize("linear", "half_pixel", 0.5), "neither nearest"),
        (resize("nearest", "asymmetric", 1.5), "one whole factor"),
    ],
)
def test_operators_that_the_int8_engine_refuses(made: onnx.ModelProto, reason: str) -> None:
    (refusal,) = operators.refusals(made)
    assert reason in refusal.reason and refusal.operator in operators.told([refusal])


@pytest.mark.parametrize(
    "made",
    [
        graph(helper.make_node("Add", ["x", "y"], ["z"])),
        graph(helper.make_node("Sub", ["x", "y"], ["z"])),
        graph(helper.make_node("Add", ["x", "c"], ["z"]), {"c": np.ones((1, 4, 8, 8), np.float32)}),
        graph(helper.make_node("Sub", ["c", "x"], ["z"]), {"c": np.ones((1, 4, 8, 8), np.float32)}),
        graph(helper.make_node("Mul", ["x", "c"], ["z"]), {"c": np.ones(1, np.float32)}),
        graph(helper.make_node("Concat", ["x", "y"], ["z"], axis=1)),
        graph(helper.make_node("Concat", ["x", "y"], ["z"], axis=-3)),
        graph(helper.make_node("MaxPool", ["x"], ["z"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
        resize("linear", "half_pixel", 2),
        resize("nearest", "asymmetric", 2),
    ],
)
def test_operators_that_the_int8_engine_takes(made: onnx.ModelProto) -> None:
    assert operators.refusals(made) == []
