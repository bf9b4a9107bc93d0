"""Windows of training pictures: on the grid, with what there is to learn inside, the same for the same key."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fcam_tools.common import parallel
from fcam_tools.train import feed, window


def numbered(count: int, height: int, width: int) -> torch.Tensor:
    """Pictures whose pixels tell where they are."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, rows * 0], dim=-1).float().expand(count, -1, -1, -1).clone()


@pytest.mark.parametrize("size", [(64, 64), (64, 128)])
def test_a_window_holds_a_pixel_of_the_mask_and_lies_on_the_grid(size: tuple[int, int]) -> None:
    count = 40
    pixels, maps = numbered(count, *size), torch.zeros(count, size[0] // 4, size[1] // 4, 2)
    masks = torch.zeros(count, *size, dtype=torch.bool)
    at = np.stack([np.random.default_rng(0).integers(0, side, count) for side in size], axis=1)
    for row, (y, x) in enumerate(at):
        masks[row, y, x] = True
    for key in range(3):
        cut, _, inside = window.cut(pixels, maps, masks, 32, key)
        assert inside is not None and cut.shape == (count, 32, 32, 3) and inside.flatten(1).sum(1).eq(1).all()
        assert bool((cut[:, 0, 0, :2] % window.GRID == 0).all())
        places = [cut[row][inside[row]][0, :2].tolist() for row in range(count)]
        assert places == at.tolist()


def test_a_window_follows_the_maps_and_they_are_cut_alike() -> None:
    pixels, maps = numbered(20, 64, 64), torch.zeros(20, 16, 16, 2)
    maps[:, 12, 3, 1] = 1
    maps[:, 12, 3, 0] = 0.5
    cut, cut_maps, masks = window.cut(pixels, maps, None, 32, 5)
    assert masks is None and cut_maps.shape == (20, 8, 8, 2)
    for picture, map_ in zip(cut, cut_maps, strict=True):
        (y, x), *more = map_[..., 1].nonzero().tolist()
        assert not more and picture[4 * y, 4 * x, :2].tolist() == [48, 12]


def test_a_plain_picture_may_be_cut_anywhere_and_draws_repeat() -> None:
    pixels, maps = numbered(60, 64, 64), torch.zeros(60, 16, 16, 2)
    one, two = (window.cut(pixels, maps, None, 32, 9)[0] for _ in range(2))
    assert torch.equal(one, two)
    assert len({tuple(corner) for corner in one[:, 0, 0, :2].tolist()}) == 9  # all of 0, 16, 32 down and right


def test_the_feed_cuts_where_the_decoder_learns() -> None:
    pictures = feed.Pictures(np.zeros((6, 64, 64, 3), np.uint8), np.arange(6) % 2)
    source = feed.Feed(pictures, parallel.Team(), 3, 1, seed=1, window=32)
    sizes = {part.x.shape[2] for step in source.epoch("decoder", 0, maps=torch.zeros(6, 16, 16, 2)) for part in step}
    assert sizes == {32}
    assert {part.x.shape[2] for step in source.epoch("classifier", 0) for part in step} == {64}
