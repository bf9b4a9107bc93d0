"""How large the network's input is. In: the size of most pictures. Out: the input's, and what a person should know.

Sizes are (width, height) in pixels; (0, 0) where no picture could be read.
"""

from __future__ import annotations

import math

LARGEST, SMALLEST, GRID = 512, 128, 32  # the longer side's bounds, and what both sides are multiples of
WIDE = 3.0  # times that pictures may get narrower one way than the other before it is worth a word

Size = tuple[int, int]


def input_of(picture: Size, longest: int = 0) -> Size:
    """The input that shows pictures of this size as they are: no pixel is lost up to `LARGEST`, and no shape.

    `longest`: the longer side, if not the one that follows from the pictures; 0: that one.
    """
    if not all(picture):
        return (longest or LARGEST,) * 2
    side = longest or min(LARGEST, max(SMALLEST, on_grid(max(picture))))
    width, height = (side if length == max(picture) else on_grid(length * side / max(picture)) for length in picture)
    return width, height


def on_grid(length: float) -> int:
    return math.ceil(length / GRID - 1e-6) * GRID


def shrunk(picture: Size, size: Size) -> str:
    """A warning about pictures that lose pixels in an input of this size; or nothing."""
    times = max((length / own for length, own in zip(picture, size, strict=True)), default=0)
    if times <= 1:
        return ""
    return (
        f"pictures of {picture[0]} x {picture[1]} are judged at {size[0]} x {size[1]}, a mark of {math.ceil(times)} "
        "pixels as one: crop to the ROI, or cut it into tiles, or say --size, if smaller ones matter"
    )


def squashed(picture: Size, size: Size) -> str:
    """A warning about pictures that lose their shape in an input of this size; or nothing."""
    if not all(picture):
        return ""
    ratio = (picture[0] / size[0]) / (picture[1] / size[1])
    if max(ratio, 1 / ratio) < WIDE:
        return ""
    times, way = f"{max(ratio, 1 / ratio):.0f}", "across" if ratio > 1 else "down"
    return (
        f"pictures of {picture[0]} x {picture[1]} are squashed to {size[0]} x {size[1]}, {times} times narrower {way} "
        "than they are: crop them to the ROI, or cut them into pieces that are nearly square, as a station's tiles"
    )
