"""Parts of metal: a turned disc, a gear, a casting, a stamped bracket."""

from __future__ import annotations

import numpy as np

from fcam_tools.products import shapes
from fcam_tools.products.marks import some
from fcam_tools.products.part import Fault, Part, Product, of
from fcam_tools.surfaces import Image, Rng

STEEL = (0.20, 0.20, 0.21)
BELT = (0.055, 0.06, 0.065)


def metal(rng: Rng, height: Image, body: Image, color: tuple[float, float, float], gloss: float, sharp: float) -> Part:
    """A metal part on a dark belt: what is not body is the belt."""
    albedo = shapes.ground(rng, BELT)
    stained = 1 + 0.05 * shapes.noise(rng, 60) + 0.03 * shapes.noise(rng, 2)
    albedo = shapes.painted(albedo, body, (np.asarray(color, np.float32) * stained[..., None]).astype(np.float32))
    return Part(
        height=height.astype(np.float32),
        albedo=albedo,
        gloss=(0.04 + (gloss - 0.04) * body).astype(np.float32),
        sharp=(6 + (sharp - 6) * body).astype(np.float32),
        body=body,
    )


def circle_of(count: int, center: shapes.Point, radius: float, start: float = 0.0) -> list[shapes.Point]:
    turns = np.deg2rad(start + np.arange(count) * 360 / count)
    return [(center[0] + radius * np.cos(t), center[1] + radius * np.sin(t)) for t in turns]


def step(distance: Image, at: float, width: float = 2.0) -> Image:
    """0 within `at` pixels, 1 outside, a slope between."""
    return np.clip((distance - at) / width + 0.5, 0, 1)


DISC = (256.0, 192.0)


def disc(rng: Rng, fault: Fault | None) -> Part:
    """A flange off the lathe: hub, groove, four bolt holes, a stamped number."""
    radius, angle = shapes.around(DISC)
    holes = shapes.blank()
    blocked, skip = of(fault, "blocked_hole"), -1
    if blocked:
        skip = int(blocked.rng.integers(6))
    for number, at in enumerate(circle_of(6, DISC, 122, 15)):
        shapes.disk(holes, at, 9)
    open_ = shapes.share(holes)
    body = (1 - step(radius, 172)) * step(radius, 33, 1.5) * (1 - open_)
    height = (
        5 * (1 - step(radius, 82, 5))
        - 3 * (1 - step(radius, 96, 3)) * step(radius, 88, 3)
        + 3 * (1 - step(radius, 168, 7))
    )
    height = height * (1 - open_) - 6 * open_ - 9 * (1 - step(radius, 33)) + 4 * (1 - step(radius, 172, 3))
    marks = 0.10 * shapes.ring_noise(rng, radius, 1.0) + 0.05 * shapes.ring_noise(rng, radius, 2.5)
    height = height + marks * (0.8 + 0.25 * shapes.noise(rng, 50)) * body
    part = metal(rng, height, body, STEEL, 0.62, 7)
    part.grain = np.stack([-np.sin(angle), np.cos(angle)], -1).astype(np.float32) * body[..., None]
    stamp(part, rng)
    if blocked:
        plug(part, blocked, circle_of(6, DISC, 122, 15)[skip], 9)
    return part


def stamp(part: Part, rng: Rng) -> None:
    drawn = shapes.blank()
    shapes.text(drawn, "TF-204", (222, 134), 0.62)
    shapes.text(drawn, "16 H7", (226, 262), 0.62)
    part.height -= rng.uniform(0.9, 1.2) * shapes.share(drawn)
    part.albedo *= (1 - 0.3 * shapes.share(drawn))[..., None]


def plug(part: Part, fault: Fault, at: shapes.Point, radius: float) -> None:
    """Swarf or grease in a hole: it covers a part of it, or all."""
    drawn = shapes.blank()
    shift = fault.rng.uniform(-1, 1, 2) * radius * (1 - fault.size) * 0.8
    shapes.disk(drawn, (at[0] + shift[0], at[1] + shift[1]), radius * (0.45 + 0.55 * fault.size))
    cover = shapes.share(drawn) * (1 - part.body)
    part.height += cover * (fault.deep(1.5, 7) + 0.6 * shapes.noise(fault.rng, 3))
    part.albedo[:] = shapes.painted(part.albedo, cover * fault.deep(0.35, 1), [0.16, 0.15, 0.13])
    part.gloss += 0.2 * cover * fault.strength


PRODUCTS = {
    "disc": Product(
        "turned flange, bolt holes, lathe marks",
        disc,
        ("blocked_hole",),
        some("burr", "chip", "dent", "scratch", "stain"),
        (215, 50),
    ),
}
