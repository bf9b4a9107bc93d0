"""Defects that any part can have. In: a finished part, a fault. Out: the part, changed in place.

Each changes what is there: the relief, the colour of the material, its gloss; the light falls on it afterwards. Lengths
and widths are in pixels of a picture of 512 x 384.
"""

from __future__ import annotations

import cv2
import numpy as np

from fcam_tools.synth.products import shapes
from fcam_tools.synth.products.part import Fault, Mark, Part
from fcam_tools.synth.surfaces import Image, Rng


def somewhere(part: Part, fault: Fault, near_edge: bool = False, clear: float = 4.0) -> Image:
    """A place on the part, `clear` pixels from any edge of it; or one at an edge of a hole or an outline."""
    depth = shapes.inside(part.body)
    m = 10 + 24
    seen = np.zeros_like(depth, bool)
    seen[m:-m, m:-m] = True
    fits = seen & ((depth > 0) & (depth < 1.6) if near_edge else depth > clear)
    ys, xs = np.nonzero(fits)
    at = int(fault.rng.integers(len(ys)))
    return np.array([xs[at], ys[at]], np.float64) - 24


def walk(rng: Rng, start: Image, length: float, wander: float, jag: float = 0.0) -> Image:
    """A path that turns by `wander` radians a step of 4 pixels, each step off it by `jag` radians."""
    steps = max(4, int(length / 4))
    turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, wander, steps)) + rng.normal(0, jag, steps)
    moves = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * length / steps, axis=0)
    path = np.vstack([[0, 0], moves])
    return start + path - path[len(path) // 2]


def stroke(path: Image, width: float) -> Image:
    drawn = shapes.blank()
    shapes.line(drawn, path, max(1.0, width))
    return shapes.share(drawn) * min(1.0, width)


def blob(rng: Rng, center: Image, radius: float, rough: float = 0.3, aspect: float = 1.8) -> Image:
    """Signed distance, positive inside an irregular outline."""
    x, y = shapes.places()
    turn, squeeze = rng.uniform(0, np.pi), np.sqrt(rng.uniform(1, aspect))
    u = ((x - center[0]) * np.cos(turn) + (y - center[1]) * np.sin(turn)) / squeeze
    v = ((y - center[1]) * np.cos(turn) - (x - center[0]) * np.sin(turn)) * squeeze
    angle, outline = np.arctan2(v, u), np.float32(1)
    for k in range(2, 8):
        outline = outline + np.float32(rough / k * rng.uniform(-1, 1)) * np.sin(k * angle + rng.uniform(0, 6.3))
    return (radius * outline - np.hypot(u, v)).astype(np.float32)


def edge(signed: Image, width: float) -> Image:
    return np.clip(signed / width + 0.5, 0, 1)


def tone(rng: Rng, part: Part, cover: Image, contrast: float) -> float:
    """A factor of brightness: darker, or brighter where there is room for it."""
    level = float((part.albedo.mean(axis=2) * cover).sum() / (cover.sum() + 1e-6))
    return 1 + contrast * 1.6 if level < 0.45 and rng.random() < 0.5 else 1 - contrast


def scratch(part: Part, fault: Fault) -> None:
    """A groove with raised lips, its bottom bright on metal and dull on a glossy face."""
    rng = fault.rng
    width, length = rng.uniform(0.7, 1.8), fault.between(22, 190)
    path = walk(rng, somewhere(part, fault), length, rng.uniform(0.005, 0.05))
    groove = stroke(path, width) * part.body
    taper = groove * (0.7 + 0.3 * shapes.noise(rng, 14))
    depth = fault.deep(0.35, 1.8)
    part.height += depth * (0.45 * shapes.soft(taper, width + 0.6) - taper)
    part.gloss *= 1 - 0.35 * groove
    part.albedo *= (1 + rng.choice([-0.18, 0.25]) * min(1.0, depth) * groove)[..., None]


def dent(part: Part, fault: Fault) -> None:
    """Pressed in: smooth, without loss of material, a faint wall around it."""
    radius = fault.between(3.5, 26)
    signed = blob(fault.rng, somewhere(part, fault, clear=radius / 2), radius, 0.12, 1.5)
    reach = np.clip(1 + signed / radius, 0, None)
    bowl = np.clip(signed / radius, 0, 1)
    wall = np.exp(-np.square((reach - 0.95) / 0.18))
    part.height += fault.deep(0.09, 0.42) * radius * (0.15 * wall - bowl * (2 - bowl)) * part.body


def crack(part: Part, fault: Fault) -> None:
    """A jagged opening from an edge or across the face, dark at the bottom, some with a branch."""
    rng = fault.rng
    length, width = fault.between(18, 110), fault.deep(0.45, 1.5)
    path = walk(rng, somewhere(part, fault, near_edge=rng.random() < 0.5), length, 0.10, 0.45)
    gap = stroke(path, width)
    if length > 45:
        fork = path[len(path) // 3 : 2 * len(path) // 3]
        turned = (fork - fork[0]) @ shapes.turning(rng.choice([-38, 38])).T + fork[0]
        gap = np.maximum(gap, stroke(turned, width * 0.7))
    gap = gap * part.body
    part.height -= 1.6 * gap
    part.albedo *= (1 - 0.55 * gap)[..., None]
    part.gloss *= 1 - 0.7 * gap


def stain(part: Part, fault: Fault) -> None:
    """Something dried on it: a tint, a darker rim, less gloss."""
    rng = fault.rng
    radius = fault.between(4, 36)
    signed = blob(rng, somewhere(part, fault), radius, 0.55) + 0.12 * radius * shapes.noise(rng, max(4, radius / 3))
    cover = edge(signed, max(2.5, radius * rng.uniform(0.15, 0.5))) * part.body
    rim = np.exp(-np.square(signed / (0.12 * radius + 1))) * part.body
    contrast = fault.deep(0.09, 0.42)
    tint = 1 + (tone(rng, part, cover, contrast) - 1) * rng.uniform(0.6, 1.3, 3).astype(np.float32)
    part.albedo *= 1 + cover[..., None] * (tint - 1)
    part.albedo *= (1 - 0.4 * contrast * rim)[..., None]
    part.gloss *= 1 - contrast * cover


def scuff(part: Part, fault: Fault) -> None:
    """Rubbed: many fine grooves side by side, fading at the ends."""
    rng = fault.rng
    radius = fault.between(7, 34)
    cover = edge(blob(rng, somewhere(part, fault), radius, 0.4, 3.0), radius * 0.8) * part.body
    matrix = cv2.getRotationMatrix2D((280, 216), rng.uniform(0, 180), 1)
    lines = cv2.warpAffine(shapes.noise(rng, 1.3, 22), matrix, cover.shape[::-1], borderMode=cv2.BORDER_REFLECT_101)
    depth = fault.deep(0.16, 0.6)
    part.height += depth * cover * lines
    part.albedo *= (1 + 0.35 * depth * cover * (1 + 0.4 * lines))[..., None]
    part.gloss *= 1 - 0.5 * depth * cover


def lint(part: Part, fault: Fault) -> None:
    """A fibre that lies on it and throws a shadow."""
    rng = fault.rng
    path = walk(rng, somewhere(part, fault), fault.between(14, 75), 0.22)
    width = rng.uniform(0.8, 1.5)
    fibre = stroke(path, width) * fault.deep(0.4, 1.0)
    part.height += 1.3 * fibre
    color = rng.choice([0.75, 0.12]) * rng.uniform(0.8, 1.2, 3)
    part.albedo[:] = shapes.painted(part.albedo, fibre, color)
    part.gloss *= 1 - 0.6 * fibre


def particle(part: Part, fault: Fault) -> None:
    """A chip or a grain that fell on it: high, with its own colour and facets."""
    rng = fault.rng
    radius = fault.between(2.4, 9)
    signed = blob(rng, somewhere(part, fault), radius, 0.7, 2.2)
    cover = edge(signed, 1.2)
    part.height += cover * (0.5 * radius + 0.5 * shapes.noise(rng, 3)) * fault.deep(0.3, 0.9)
    grey = rng.uniform(0.1, 0.7) * rng.uniform(0.85, 1.15, 3)
    part.albedo[:] = shapes.painted(part.albedo, cover * fault.deep(0.35, 0.95), grey)
    part.gloss *= 1 - 0.5 * cover


def chip(part: Part, fault: Fault) -> None:
    """A piece broken out of an edge: rough, lower, the bare material showing."""
    rng = fault.rng
    radius = fault.between(3, 17)
    signed = blob(rng, somewhere(part, fault, near_edge=True), radius, 0.5, 2.0)
    cover = edge(signed, 1.2) * np.clip(part.body * 1.5, 0, 1)
    part.height -= cover * (fault.deep(0.8, 3.0) + 0.7 * shapes.noise(rng, 2.5))
    part.albedo *= (1 + fault.deep(0.08, 0.3) * cover * rng.choice([-1, 1]))[..., None]
    part.gloss *= 1 - 0.6 * cover


def burr(part: Part, fault: Fault) -> None:
    """A ragged lip of material that stands up along an edge."""
    rng = fault.rng
    along = edge(blob(rng, somewhere(part, fault, near_edge=True), fault.between(5, 26), 0.3, 3.0), 3.0)
    outline = np.exp(-np.square((shapes.inside(part.body) - 0.5) / 1.5)) * (part.body > 0.02)
    outside = np.exp(-np.square(shapes.inside(1 - part.body) / 1.6)) * (part.body <= 0.5)
    ragged = np.clip(0.55 + 0.6 * shapes.noise(rng, 2.6), 0, 1.5)
    lip = along * np.maximum(outline, outside) * ragged
    part.height += fault.deep(1.2, 3.6) * lip
    part.gloss += 0.25 * np.clip(lip, 0, 1) * fault.deep(0.4, 1)


def pores(part: Part, fault: Fault) -> None:
    """A cluster of small round pits, as gas leaves them in a casting."""
    rng = fault.rng
    center, reach = somewhere(part, fault), fault.between(1, 18)
    drawn = shapes.blank()
    for _ in range(1 + int(reach * rng.uniform(0.4, 0.9))):
        shapes.disk(drawn, tuple(center + rng.normal(0, reach / 2, 2)), rng.uniform(0.9, 2.6))
    pits = shapes.share(drawn) * part.body
    part.height -= fault.deep(0.8, 2.6) * shapes.soft(pits, 0.7)
    part.albedo *= (1 - fault.deep(0.1, 0.45) * pits)[..., None]
    part.gloss *= 1 - fault.deep(0.25, 0.9) * pits


def corrosion(part: Part, fault: Fault) -> None:
    """Speckled growth: rough, matt, coloured."""
    rng = fault.rng
    radius = fault.between(4, 30)
    signed = blob(rng, somewhere(part, fault), radius, 0.6)
    cover = edge(signed + 0.45 * radius * (shapes.noise(rng, 3.5) - 0.3), 3.0) * part.body
    contrast = fault.deep(0.25, 0.9)
    rust = np.array([0.34, 0.17, 0.08]) * rng.uniform(0.8, 1.3)
    part.albedo[:] = shapes.painted(part.albedo, contrast * cover, rust)
    part.height += 0.35 * contrast * cover * shapes.noise(rng, 1.6)
    part.gloss *= 1 - 0.7 * contrast * cover


def sink(part: Part, fault: Fault) -> None:
    """A broad shallow hollow, where plastic shrank behind a thick place."""
    radius = fault.between(9, 34)
    signed = blob(fault.rng, somewhere(part, fault), radius, 0.15, 2.0)
    part.height -= (
        fault.deep(0.06, 0.22) * radius * np.exp(-np.square(np.clip(1 - signed / radius, 0, None))) * part.body
    )


ANYWHERE: dict[str, Mark] = {
    "burr": burr,
    "chip": chip,
    "corrosion": corrosion,
    "crack": crack,
    "dent": dent,
    "lint": lint,
    "particle": particle,
    "pores": pores,
    "scratch": scratch,
    "scuff": scuff,
    "sink": sink,
    "stain": stain,
}


def some(*kinds: str) -> dict[str, Mark]:
    return {kind: ANYWHERE[kind] for kind in kinds}
