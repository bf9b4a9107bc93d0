"""Contact sheets. In: small pictures, each with captions. Out: one picture, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

LINE = 14  # height of a caption's line


@dataclass(frozen=True)
class Tile:
    """A picture and the lines under it, each with its colour."""

    picture: Image.Image
    lines: tuple[tuple[str, str], ...] = ()


def sheet(tiles: Sequence[Tile], columns: int, side: int, lines: int) -> Image.Image:
    """Tiles of `side` pixels and `lines` lines of caption each, `columns` in a row; larger pictures are shrunk."""
    height = side + lines * LINE
    out = Image.new("RGB", (columns * side, -(-len(tiles) // columns) * height), "white")
    draw = ImageDraw.Draw(out)
    for place, tile in enumerate(tiles):
        left, top = place % columns * side, place // columns * height
        small = tile.picture.convert("RGB")
        small.thumbnail((side, side))
        out.paste(small, (left, top))
        for index, (text, colour) in enumerate(tile.lines):
            draw.text((left + 2, top + side + index * LINE), text[: side // 6], fill=colour)  # 6 pixels a letter
    return out
