"""Coverings, whose face is a texture: a woven strap with a seam, a glazed tile."""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from fcam_tools.synth.products import shapes
from fcam_tools.synth.products.marks import blob, edge, some
from fcam_tools.synth.products.part import Fault, Part, Product, of
from fcam_tools.synth.surfaces import Image, Rng

NAVY = np.array([0.045, 0.065, 0.15], np.float32)
THREAD = np.array([0.50, 0.40, 0.12], np.float32)
TOP, BOTTOM = 62.0, 322.0
SEAM = ((150, 92), (362, 92), (362, 292), (150, 292))  # a box with a cross in it


def strap(rng: Rng, fault: Fault | None) -> Part:
    """A herringbone webbing across the picture, sewn with a box and a cross."""
    x, y = shapes.places()
    pulled = snag(of(fault, "snag"))
    slack = 0.8 * shapes.noise(rng, 45) + 0.35 * shapes.noise(rng, 9)
    weave, shade = herringbone(x + 0.6 * shapes.noise(rng, 60), y + slack + pulled)
    torn = cut(of(fault, "cut"))
    body = np.clip(np.minimum(y - TOP, BOTTOM - y) + 0.5 + 0.4 * shapes.noise(rng, 5), 0, 1)
    selvedge = np.exp(-np.square((np.minimum(y - TOP, BOTTOM - y) - 5) / 4.0))
    height = (4 + 1.5 * weave + 1.6 * selvedge - 2.4 * torn) * body
    color = NAVY * (0.75 + 0.45 * shade + 0.10 * shapes.noise(rng, 1.3))[..., None] * (1 + 0.5 * torn)[..., None]
    albedo = shapes.painted(shapes.ground(rng, (0.33, 0.32, 0.30), 0.04), body, color)
    part = Part(height.astype(np.float32), albedo, 0.02 + 0.05 * body * shade, 6 + 2 * body, body)
    sewn(rng, part, of(fault, "missing_stitch"), of(fault, "loose_thread"))
    return part


def herringbone(x: Image, y: Image) -> tuple[Image, Image]:
    """Relief and shade of yarns: bands of 52 pixels whose twill runs up and down in turn."""
    band = np.floor((y - TOP) / 52)
    lean = np.where(band % 2 == 0, 1.0, -1.0)
    phase = (x + lean * (y - TOP) * 0.9) / 7.5
    yarn = np.abs(np.sin(np.pi * phase)) ** 0.8
    ply = 0.5 + 0.5 * np.sin(2 * np.pi * (x * 0.9 - lean * y * 1.0) / 3.1)
    ditch = np.exp(-np.square((((y - TOP) % 52) - 26) / 26 * 3.2 - 3.2)) + np.exp(
        -np.square((((y - TOP) % 52) - 26) / 26 * 3.2 + 3.2)
    )
    return (yarn + 0.15 * ply - 0.5 * ditch).astype(np.float32), (yarn * (0.9 + 0.1 * ply)).astype(np.float32)


def snag(fault: Fault | None) -> Image | float:
    """How far yarns are pulled aside."""
    if fault is None:
        return 0.0
    at = np.array([fault.rng.uniform(30, 480), fault.rng.uniform(TOP + 20, BOTTOM - 20)])
    distance, _ = shapes.around(tuple(at))
    reach = fault.between(4, 20)
    return fault.deep(2.0, 7.0) * np.exp(-np.square(distance / reach))


def cut(fault: Fault | None) -> Image:
    """A slit through some yarns, frayed."""
    if fault is None:
        return np.zeros(shapes.SHAPE, np.float32)
    at = np.array([fault.rng.uniform(30, 480), fault.rng.uniform(TOP + 12, BOTTOM - 12)])
    turn, length = fault.rng.uniform(0, np.pi), fault.between(10, 60)
    ends = at + np.array([[-0.5], [0.5]]) * length * np.array([np.cos(turn), np.sin(turn)])
    drawn = shapes.blank()
    shapes.line(drawn, ends, fault.deep(1.0, 2.6))
    frayed = np.clip(1 + 0.7 * shapes.noise(fault.rng, 2.5), 0, 1.6)
    return shapes.share(drawn) * frayed


def stitches() -> list[tuple[Image, Image]]:
    """Both ends of each stitch, along the box and the cross."""
    path = [SEAM[0], SEAM[1], SEAM[2], SEAM[3], SEAM[0], SEAM[2]], [SEAM[1], SEAM[3]]
    out = []
    for points in path:
        for a, b in itertools.pairwise(points):
            start, end = np.array(a, float), np.array(b, float)
            count = round(np.hypot(*(end - start)) / 13)
            steps = np.linspace(start, end, count + 1)
            gap = (end - start) / count * 0.13
            out += [(p + gap, q - gap) for p, q in itertools.pairwise(steps)]
    return out


def sewn(rng: Rng, part: Part, missing: Fault | None, loose: Fault | None) -> None:
    seam = stitches()
    drawn, ditch = shapes.blank(), shapes.blank()
    gone: set[int] = set()
    if missing:
        first = int(missing.rng.integers(len(seam)))
        gone = set(range(first, first + 1 + int(3 * missing.size)))
    for number, (a, b) in enumerate(seam):
        a, b = a + rng.normal(0, 0.45, 2), b + rng.normal(0, 0.45, 2)
        level = int(rng.integers(215, 256))
        if number not in gone:
            shapes.line(drawn, [a, b], 3.2, level)
            shapes.line(ditch, [a, b], 6.5)
    if loose:
        hanging(drawn, loose, seam)
    thread = shapes.share(drawn)
    along = 0.85 + 0.15 * shapes.noise(rng, 1.4)
    part.height += 2.2 * shapes.soft(thread, 0.7) - 1.6 * shapes.soft(shapes.share(ditch), 1.5)
    part.albedo = shapes.painted(part.albedo, thread, THREAD * along[..., None])
    part.gloss = shapes.mixed(part.gloss, thread, 0.08).astype(np.float32)


def hanging(drawn: Image, fault: Fault, seam: list[tuple[Image, Image]]) -> None:
    """A thread that came off the seam and lies beside it."""
    start = seam[int(fault.rng.integers(len(seam)))][0]
    turn, length = fault.rng.uniform(0, 2 * np.pi), fault.between(12, 70)
    turns = turn + np.cumsum(fault.rng.normal(0, 0.25, 14))
    path = start + np.vstack([[0, 0], np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * length / 14, axis=0)])
    shapes.line(drawn, path, 1.0 + 1.4 * fault.strength, int(120 + 130 * fault.strength))


def tile(rng: Rng, fault: Fault | None) -> Part:
    """Four corners of a glazed tile's pattern around a star, on a cream ground, in a frame of grout."""
    face = shapes.blank()
    shapes.box(face, (256, 192), (468, 344), rounded=7)
    body = shapes.share(face)
    height = 7 * shapes.bevel(body, 9) + (0.16 * shapes.noise(rng, 26) + 0.05 * shapes.noise(rng, 6)) * body
    cream = np.array([0.56, 0.52, 0.42], np.float32) * (1 + 0.03 * shapes.noise(rng, 30))[..., None]
    albedo = shapes.painted(shapes.ground(rng, (0.22, 0.21, 0.20), 0.10), body, cream)
    wrong = of(fault, "misprint")
    for number, (ink, color) in enumerate(ornament()):
        ink = bled(rng, ink)
        if wrong:
            ink = wrong_print(ink, wrong, number)
        albedo = shapes.painted(albedo, 0.9 * ink, color)
    part = Part(height.astype(np.float32), albedo, 0.03 + 0.20 * body, 8 + 70 * body, body)
    for kind, spoil in (("bubble", bubble), ("pinhole", pinhole)):
        found = of(fault, kind)
        if found:
            spoil(part, found)
    return part


def ornament() -> list[tuple[Image, tuple[float, float, float]]]:
    """Masks and colours of the design, fixed: star, petals, frame, corner arcs, dots."""
    blue, rust, ochre = shapes.blank(), shapes.blank(), shapes.blank()
    middle = (256.0, 192.0)
    for turn in range(8):
        points = shapes.corners((78, 0), (70, 22), 0, 10) @ shapes.turning(45 * turn).T + middle
        shapes.polygon(blue, points)
    for turn in range(16):
        shapes.polygon(rust, np.array([[26, -5], [26, 5], [46, 0]]) @ shapes.turning(22.5 * turn).T + middle)
    for turn in range(8):
        at = np.array([104.0, 0]) @ shapes.turning(45 * turn + 22.5).T + middle
        shapes.disk(ochre, tuple(at), 8)
    ring_of(blue, middle, 126, 5)
    ring_of(rust, middle, 138, 3)
    for corner in ((40, 38), (472, 38), (40, 346), (472, 346)):
        for radius, ink, width in ((92, blue, 6), (76, ochre, 4), (60, rust, 7), (34, blue, 12)):
            ring_of(ink, corner, radius, width)
    clip = shapes.blank()
    shapes.box(clip, middle, (440, 316), rounded=4)
    inner = shapes.share(clip)
    colors = (0.035, 0.08, 0.26), (0.30, 0.07, 0.035), (0.46, 0.28, 0.05)
    return [(shapes.share(d) * inner, c) for d, c in zip((blue, rust, ochre), colors, strict=True)]


def ring_of(drawn: Image, center: shapes.Point, radius: float, width: float) -> None:
    at = shapes.fixed([center])[0].tolist()
    cv2.circle(drawn, at, round(radius * 16), 255, round(width), cv2.LINE_AA, shapes.FINE)


def bled(rng: Rng, ink: Image) -> Image:
    """Glaze runs a little: an uneven edge, uneven strength."""
    uneven = 0.08 * shapes.noise(rng, 4) + 0.05 * shapes.noise(rng, 1.5)
    sharp = np.clip((shapes.soft(ink, 1.2) - 0.5 + uneven) * 2.2 + 0.5, 0, 1)
    return sharp * np.clip(0.92 + 0.06 * shapes.noise(rng, 12), 0, 1) * (ink > 0.0)


def wrong_print(ink: Image, fault: Fault, number: int) -> Image:
    """Ink is missing in one place, or one colour sits off it."""
    draw = np.random.default_rng(int(fault.size * 1e6))
    chosen, missing = int(draw.integers(3)), draw.random() < 0.5
    if number != chosen:
        return ink
    ys, xs = np.nonzero(ink > 0.5)
    at = int(fault.rng.integers(len(ys)))
    near = edge(blob(fault.rng, np.array([xs[at], ys[at]]) - 24.0, fault.between(6, 34), 0.4), 2.5)
    if missing:
        return ink * (1 - near * fault.deep(0.25, 1.0))
    shift = np.round(shapes.turning(fault.rng.uniform(0, 360)) @ [fault.deep(2, 6), 0]).astype(int)
    return shapes.mixed(ink, near, np.roll(ink, tuple(shift), (0, 1)))


def bubble(part: Part, fault: Fault) -> None:
    """A blister in the glaze, or a drop that ran."""
    at = np.array([fault.rng.uniform(50, 460), fault.rng.uniform(45, 340)])
    radius = fault.between(2.5, 13)
    signed = blob(fault.rng, at, radius, 0.12, 1.8)
    dome = np.sqrt(np.clip(signed / radius, 0, 1) * (2 - np.clip(signed / radius, 0, 1)))
    part.height += fault.deep(0.12, 0.5) * radius * dome * part.body


def pinhole(part: Part, fault: Fault) -> None:
    """Small open holes down to the clay."""
    drawn = shapes.blank()
    at = np.array([fault.rng.uniform(50, 460), fault.rng.uniform(45, 340)])
    for _ in range(1 + int(4 * fault.size * fault.rng.random())):
        shapes.disk(drawn, tuple(at + fault.rng.normal(0, 9, 2)), fault.between(1.2, 3.0))
    pits = shapes.share(drawn) * part.body
    part.height -= fault.deep(0.6, 2.0) * shapes.soft(pits, 0.7)
    part.albedo = shapes.painted(part.albedo, pits * fault.deep(0.35, 1), (0.30, 0.17, 0.10))
    part.gloss *= 1 - 0.8 * pits


PRODUCTS = {
    "strap": Product(
        "woven strap with a sewn box",
        strap,
        ("cut", "loose_thread", "missing_stitch", "snag"),
        some("lint", "stain"),
        (230, 40),
    ),
    "tile": Product(
        "glazed tile with a printed pattern",
        tile,
        ("bubble", "misprint", "pinhole"),
        some("chip", "crack", "stain"),
        (220, 52),
    ),
}
