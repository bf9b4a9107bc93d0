"""What a product is. In: a design. Out: its maps before any light falls on them: relief, colour, gloss.

A design is fixed: the same holes, ribs and letters in every picture of a product. What differs from part to part is the
grain of its material and what tolerances allow; both come from the generator that `build` is given. A defect brings a
generator of its own, so that a part with it and the same part without it differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fcam_tools.synth.surfaces import Image, Rng

WIDTH, HEIGHT = 512, 384
MARGIN = 24  # around the picture: shift and turn bring in what lies there
SHAPE = (HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN)


@dataclass
class Part:
    """A part on its ground, seen from above, all maps [SHAPE]."""

    height: Image  # pixels
    albedo: Image  # [..., 3], 0..1
    gloss: Image  # share of light that is mirrored
    sharp: Image  # exponent of the highlight: a high one is a polished surface
    body: Image  # 0..1: where the part is, and no hole and no ground
    grain: Image | None = None  # [..., 2]: along fine grooves, length 0 to 1: highlights run across them


@dataclass(frozen=True)
class Fault:
    """One defect to be: `size` and `strength` from 0 (least) to 1."""

    kind: str
    rng: Rng
    size: float
    strength: float

    def between(self, least: float, most: float) -> float:
        """A length or an area by `size`, evenly on a logarithmic scale."""
        return float(np.exp(np.interp(self.size, [0, 1], np.log([least, most]))))

    def deep(self, least: float, most: float) -> float:
        """A depth or a contrast by `strength`, evenly on a logarithmic scale."""
        return float(np.exp(np.interp(self.strength, [0, 1], np.log([least, most]))))


Mark = Callable[[Part, Fault], None]
Build = Callable[[Rng, Fault | None], Part]


@dataclass(frozen=True)
class Product:
    """`build` draws a part, and those defects that are part of its shape; `marks` are left on the finished part."""

    about: str
    build: Build
    shaped: tuple[str, ...]  # kinds of defect that `build` draws
    marks: dict[str, Mark]
    lamp: tuple[float, float] = (225.0, 48.0)  # degrees: where the light comes from, and how high it stands

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(sorted([*self.shaped, *self.marks]))


def of(fault: Fault | None, kind: str) -> Fault | None:
    """The fault, if this kind is meant."""
    return fault if fault is not None and fault.kind == kind else None
