"""The network's input has the pictures' shape and pixels, and what is lost is told."""

from __future__ import annotations

import argparse

import pytest
from fcam_tools.data import shape
from fcam_tools.train import train


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((512, 384), (512, 384)),
        ((384, 512), (384, 512)),
        ((500, 375), (512, 384)),
        ((300, 200), (320, 224)),
        ((64, 48), (128, 96)),
        ((2000, 1500), (512, 384)),
        ((1920, 1080), (512, 288)),
        ((4000, 200), (512, 32)),
        ((0, 0), (512, 512)),
    ],
)
def test_no_pixel_and_no_shape_is_lost_up_to_the_largest_input(picture: shape.Size, size: shape.Size) -> None:
    assert shape.input_of(picture) == size
    assert not shape.squashed((picture[0], picture[1]), size)
    told = shape.shrunk(picture, size)
    assert (f"{picture[0]} x {picture[1]} are judged at {size[0]} x {size[1]}" in told) == (picture[0] > 512)


def test_a_side_of_one_s_own_keeps_the_shape() -> None:
    assert shape.input_of((1600, 1200), 768) == (768, 576)
    assert "a mark of 3 pixels as one" in shape.shrunk((1600, 1200), (768, 576))
    assert shape.input_of((0, 0), 96) == (96, 96)


def test_squashed_pictures_are_told() -> None:
    assert "squashed to 256 x 256, 20 times narrower across" in shape.squashed((4000, 200), (256, 256))
    assert "narrower down" in shape.squashed((200, 4000), (256, 256))
    assert shape.squashed((1920, 1080), (256, 256)) == shape.squashed((0, 0), (256, 256)) == ""


def test_nobody_gives_a_height_that_is_not_the_pictures() -> None:
    """The recipes of two stages turn pictures by a quarter, which takes squares; `native` has the pictures'."""
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    assert "--size" in flags and "--height" not in flags
