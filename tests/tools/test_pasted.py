"""Pasted defects: what the mask says is what changed, in size and place; the same draw gives the same picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fcam_tools.common import parallel
from fcam_tools.data import pasted
from fcam_tools.model.network import Net
from fcam_tools.train import feed, from_onnx

SIDE = 96


def surface(seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(120, 3, (*size, 3)), 0, 255).astype(np.float32)


@pytest.mark.parametrize("size", [(SIDE, SIDE), (64, 160)])
def test_the_mask_is_the_change(size: tuple[int, int]) -> None:
    picture, other, paste = surface(size=size), surface(1, size), pasted.Paste(1.0, 0.0005, 0.05)
    found = [paste(np.random.default_rng(seed), picture, other) for seed in range(60)]
    assert sum(mask.any() for _, mask in found) > 55
    for changed, mask in found:
        assert changed.min() >= 0 and changed.max() <= 255
        assert not mask.any() or 0.0005 <= mask.mean() <= 0.05
        change = np.abs(changed - picture).mean(axis=2)
        assert change[~mask].mean() < 0.2  # a soft edge, a lens: next to nothing elsewhere
        if mask.any():
            assert change[mask].mean() > 4


def test_where_nothing_fits_the_picture_stays() -> None:
    picture = surface()
    changed, mask = pasted.paste(np.random.default_rng(0), picture, picture, 0.9, 0.95)
    assert changed is picture and not mask.any()


@pytest.mark.parametrize("kind", [pasted.tone, pasted.texture, pasted.wiped, pasted.smeared, pasted.relief])
def test_each_kind_stays_inside_its_shape(kind) -> None:  # type: ignore[no-untyped-def]
    alpha = np.zeros((40, 40), np.float32)
    alpha[12:28, 12:28] = 1
    before, shape = surface(2, (40, 40)), pasted.Shape(0, 0, alpha, 8.0)
    change = np.abs(kind(np.random.default_rng(3), before, surface(3, (40, 40)), shape))
    assert change.shape == before.shape and change[12:28, 12:28].mean() > 1
    assert change[:2].max() < 0.5 and change[:, -2:].max() < 0.5


def pictures(count: int = 8) -> feed.Pictures:
    pixels = np.stack([surface(seed) for seed in range(count)]).astype(np.uint8)
    return feed.Pictures(pixels, np.arange(count) % 2)


def parts(share: float) -> list[feed.Part]:
    source = feed.Feed(pictures(), parallel.Team(), 4, 1, seed=1, paste=pasted.Paste(share, 0.0005, 0.05))
    return [part for step in source.epoch("decoder", 0, maps=torch.zeros(8, 24, 24, 2)) for part in step]


def test_good_pictures_alone_get_defects_and_all_draws_repeat() -> None:
    one, two = parts(1.0), parts(1.0)
    for a, b in zip(one, two, strict=True):
        assert a.masks is not None and b.masks is not None
        assert torch.equal(a.x, b.x) and torch.equal(a.masks, b.masks)
        assert torch.equal(a.masks.flatten(1).any(1), a.labels == 0)


def test_a_share_of_none_pastes_nothing_and_without_maps_nobody_does() -> None:
    assert not any(part.masks is not None and part.masks.any() for part in parts(0.0))
    source = feed.Feed(pictures(), parallel.Team(), 4, 1, seed=1, paste=pasted.Paste(1.0, 0.0005, 0.05))
    assert all(part.masks is None for step in source.epoch("classifier", 0) for part in step)


def test_statistics_come_back_and_the_answers_stay() -> None:
    torch.manual_seed(0)
    net = Net(3, "mobilenetv2_050", widths=(8, 8)).eval()
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before = net(x)
    from_onnx.restore_statistics(
        net, np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8), batch=4
    )
    with torch.no_grad():
        after = net(x)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(before, after, strict=True))
    norm = next(m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert norm.running_mean is not None and norm.running_mean.abs().max() > 0
