from __future__ import annotations

import numpy as np
import pytest
import torch
from fcam_tools.data.sight import Template
from fcam_tools.model.network import Net
from fcam_tools.model.place import apart
from fcam_tools.train import feed, methods, native
from fcam_tools.train.feed import Look, Pictures
from fcam_tools.train.trainer import Recipe, Trainer


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """Of one good picture, whose mean is the picture itself; pictures are turned, and not lit."""
    draw = Look.draw

    def unlit(rng: np.random.Generator, count: int) -> Look:
        look = draw(rng, count)
        return Look(look.turn, look.flip, np.ones(count), np.zeros(count))

    monkeypatch.setattr(feed.Look, "draw", staticmethod(unlit))
    picture = np.random.default_rng(0).integers(0, 255, (1, 128, 192, 3)).astype(np.uint8)
    pictures = Pictures(np.concatenate([picture, picture]), np.array([0, 1]))
    given = {"paste": 0.0, "size": 192, "height": 128, "window": 64, "windows": 8, "pretrained": False}
    template = Template(picture[0], 0.03, 3.0)
    return Trainer(Recipe(**methods.named("native", given)), pictures, pictures, 2, False, template=template)


def test_what_is_normal_lies_where_the_pixels_lie(trainer: Trainer) -> None:
    """Windows and whole pictures, turned or not, are nowhere apart from the picture that they are cut from."""
    normal = native.learn_places(trainer)
    pieces = native.Pieces(trainer, native.courses(trainer)[1], normal)
    assert normal
    for step in range(3):
        for part in pieces.step("labels", 0, step):
            assert part.normal
            with torch.no_grad():
                found = trainer.net.features(part.x)
            for own, there in zip(found, part.normal, strict=False):
                known = ~there.isnan()
                assert known.any() and apart(own, there)[known].max() < 1e-4 * own.abs().max()
                elsewhere = there.roll(4, 3)
                assert apart(own, elsewhere)[~elsewhere.isnan()].mean() > 0.01 * own.abs().mean()


def test_the_network_keeps_what_is_normal(trainer: Trainer) -> None:
    native.learn_places(trainer)
    net = trainer.net.eval()
    again = Net(**net.settings).eval()
    again.load_state_dict(net.state_dict())
    x = trainer.input(torch.from_numpy(trainer.train.pixels[:1]))
    with torch.no_grad():
        features = net.features(x)
        assert all(torch.equal(a, b) for a, b in zip(net(x), again(x), strict=True))
        own = net.chosen(features)
    for before, after in zip(features[:2], own, strict=False):
        assert after.shape[1] == 2 * before.shape[1]
        assert after[:, before.shape[1] :].max() < 1e-4 * before.abs().max(), "the picture is what is normal"
