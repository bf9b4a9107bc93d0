"""Moulded parts of plastic: a cover with ribs and screw bosses, a bottle cap."""

from __future__ import annotations

import numpy as np

from fcam_tools.synth.products import shapes
from fcam_tools.synth.products.marks import blob, edge, some
from fcam_tools.synth.products.part import Fault, Part, Product, of
from fcam_tools.synth.surfaces import Image, Rng

TRAY = (0.30, 0.30, 0.29)
BLACK = (0.055, 0.057, 0.06)
GREEN = (0.06, 0.26, 0.12)
COVER = (256.0, 192.0)
BOSSES = ((112, 92), (400, 92), (112, 292), (400, 292))
RIBS = (
    ((180, 62), (180, 322)),
    ((256, 62), (256, 146)),
    ((256, 238), (256, 322)),
    ((332, 62), (332, 322)),
    ((66, 146), (446, 146)),
    ((66, 238), (446, 238)),
)
HOOKS = ((150, 43), (362, 43), (150, 341), (362, 341))


def plastic(rng: Rng, height: Image, body: Image, color: tuple[float, float, float], tray: tuple) -> Part:
    """Eroded mould texture on the body, a plain tray below."""
    albedo = shapes.ground(rng, tray, 0.03)
    shade = 1 + 0.03 * shapes.noise(rng, 50) + 0.02 * shapes.noise(rng, 1.5)
    albedo = shapes.painted(albedo, body, (np.asarray(color, np.float32) * shade[..., None]).astype(np.float32))
    height = height + (0.07 * shapes.noise(rng, 1.6) + 0.10 * shapes.noise(rng, 60)) * body
    return Part(
        height=height.astype(np.float32),
        albedo=albedo,
        gloss=0.03 + 0.10 * body,
        sharp=8 + 12 * body,
        body=body,
    )


def cover(rng: Rng, fault: Fault | None) -> Part:
    """The inside of a housing's cover: wall, ribs, four bosses, four snap hooks, the mark of the gate."""
    whole = mask_of_box(COVER, (408, 308), 26)
    floor = mask_of_box(COVER, (384, 284), 16)
    hooks = snap_hooks(of(fault, "broken_hook"))
    body = np.maximum(whole, hooks)
    height = 6 * whole + 7 * shapes.bevel(whole, 4) * (1 - floor) + 4 * shapes.soft(hooks, 0.8) * (1 - whole)
    height = height + rib_work(of(fault, "short_shot")) * floor
    height, body = bosses(height, body)
    height = gate_and_letters(height)
    height = shapes.soft(height.astype(np.float32), 0.7)
    film = of(fault, "flash")
    if film:
        height, body = flash(height, body, film)
    return plastic(rng, height, body, BLACK, TRAY)


def mask_of_box(center: shapes.Point, size: shapes.Point, rounded: float) -> Image:
    drawn = shapes.blank()
    shapes.box(drawn, center, size, rounded=rounded)
    return shapes.share(drawn)


def snap_hooks(broken: Fault | None) -> Image:
    """Four hooks outside the wall; of a broken one a ragged stump is left."""
    drawn, which = shapes.blank(), int(broken.rng.integers(4)) if broken else -1
    for number, (x, y) in enumerate(HOOKS):
        out = -1 if y < 192 else 1
        reach = 16.0
        if broken and number == which:
            reach *= 1 - broken.between(0.25, 0.85)
        lean = broken.rng.uniform(-3, 3) if broken and number == which else 0.0
        points = [(x - 13, y), (x + 13, y), (x + 11, y + out * (reach + lean)), (x - 11, y + out * (reach - lean))]
        shapes.polygon(drawn, points)
    return shapes.share(drawn)


def rib_work(short: Fault | None) -> Image:
    """Ribs stand on the floor; where the melt did not reach, one ends early, rounded."""
    drawn = shapes.blank()
    for a, b in RIBS:
        shapes.line(drawn, [a, b], 6.0)
    for at in BOSSES:
        for reach in ((28, 0), (0, 28)):
            shapes.line(drawn, [(at[0] - reach[0], at[1] - reach[1]), (at[0] + reach[0], at[1] + reach[1])], 3)
    ribs = 5.5 * shapes.share(drawn)
    if short:
        one, other = (np.array(p, float) for p in RIBS[int(short.rng.integers(len(RIBS)))])
        middle = one + (other - one) * short.rng.uniform(0.1, 0.9)
        gone = edge(blob(short.rng, middle, short.between(4, 26), 0.3), 4.0)
        ribs = ribs * (1 - gone * short.deep(0.25, 1.0))
    return ribs


def bosses(height: Image, body: Image) -> tuple[Image, Image]:
    for at in BOSSES:
        distance, _ = shapes.around(at)
        height = np.maximum(height, 6 + 8 * (1 - np.clip((distance - 14) / 2 + 0.5, 0, 1)))
        hole = 1 - np.clip(distance - 6.5 + 0.5, 0, 1)
        height = height * (1 - hole) - 2 * hole
        body = body * (1 - hole)
    return height, body


def gate_and_letters(height: Image) -> Image:
    distance, _ = shapes.around((218, 192))
    height = height + 1.2 * np.exp(-np.square(distance / 4)) - 0.5 * np.exp(-np.square((distance - 9) / 1.5))
    drawn = shapes.blank()
    shapes.text(drawn, ">ABS<", (272, 182), 0.6, 2)
    shapes.text(drawn, "C-0417", (268, 212), 0.6, 2)
    clock, _ = shapes.around((290, 108))
    dial = np.exp(-np.square((clock - 16) / 1.2)) + np.exp(-np.square((clock - 6) / 1.2))
    return height + 1.1 * shapes.share(drawn) + 0.9 * dial


def flash(height: Image, body: Image, film: Fault) -> tuple[Image, Image]:
    """A thin film of plastic pressed out between the halves of the mould, at the outline or into a hole."""
    depth = shapes.inside(1 - body)
    m = 40
    edge_of = np.zeros_like(depth, bool)
    edge_of[m:-m, m:-m] = ((depth > 0) & (depth < 1.6))[m:-m, m:-m]
    ys, xs = np.nonzero(edge_of)
    at = int(film.rng.integers(len(ys)))
    signed = blob(film.rng, np.array([xs[at], ys[at]]) - 24.0, film.between(4, 20), 0.5, 3.0)
    cover_ = edge(signed, 1.5) * (1 - body) * film.deep(0.35, 1.0)
    return height * (1 - cover_) + 3.0 * cover_, np.maximum(body, cover_)


CAP = (256.0, 192.0)


def cap(rng: Rng, fault: Fault | None) -> Part:
    """A bottle cap from above: knurled skirt, stepped rim, a printed sign in the middle."""
    radius, angle = shapes.around(CAP)
    teeth = knurl(angle, of(fault, "worn_knurl"), radius)
    outline = 168 + 3.0 * teeth
    body = np.clip(outline - radius + 0.5, 0, 1)
    dome = 10 * (1 - np.clip((radius - 146) / 14, 0, 1) ** 2) - 0.00016 * np.square(np.minimum(radius, 146))
    skirt = np.clip((radius - 150) / 6, 0, 1) * np.clip((outline - radius) / 3, 0, 1)
    height = (dome + 1.6 * skirt * teeth) * body + 1.5 * body
    height = height + 1.4 * np.exp(-np.square((radius - 118) / 2.2)) - 1.0 * np.exp(-np.square((radius - 140) / 1.5))
    film = of(fault, "flash")
    if film:
        height, body = flash(height, body, film)
    part = plastic(rng, shapes.soft(height.astype(np.float32), 0.7), body, GREEN, (0.42, 0.42, 0.41))
    part.gloss = 0.03 + 0.16 * body
    part.sharp = 8 + 22 * body
    ink = cap_print(rng, of(fault, "misprint"))
    part.albedo = shapes.painted(part.albedo, 0.93 * ink, (0.72, 0.70, 0.60))
    return part


def knurl(angle: Image, worn: Fault | None, radius: Image) -> Image:
    teeth = np.clip(1.4 * np.cos(angle * 90), -1, 1)
    if worn:
        at, reach = worn.rng.uniform(-np.pi, np.pi), worn.between(0.05, 0.35)
        off = np.abs(np.angle(np.exp(1j * (angle - at)))) - reach
        teeth = np.where(off < 0, teeth * (1 - worn.deep(0.3, 1.0)) - worn.deep(0.1, 0.5), teeth)
    return teeth.astype(np.float32)


def cap_print(rng: Rng, fault: Fault | None) -> Image:
    """A leaf between two lines of text; misprinted: a piece without ink, or printed twice."""
    drawn = shapes.blank()
    shapes.text(drawn, "QUELLA", (192, 154), 1.0, 2)
    shapes.text(drawn, "NATURAL WATER", (184, 256), 0.55)
    turns = np.linspace(0, np.pi, 20)
    upper = np.stack([200 + 112 * turns / np.pi, 200 - 26 * np.sin(turns)], 1)
    lower = np.stack([312 - 112 * turns / np.pi, 200 + 26 * np.sin(turns)], 1)
    shapes.polygon(drawn, np.vstack([upper, lower]))
    shapes.line(drawn, [(200, 200), (312, 200)], 2.0, 255)
    ink = shapes.share(drawn)
    vein, _ = shapes.around((256, 200))
    ink = ink * (1 - 0.8 * np.exp(-np.square((vein - 14) / 1.4)))
    ink = ink * np.clip(1 + 0.06 * shapes.noise(rng, 2), 0, 1)
    return misprinted(ink, fault) if fault else ink


def misprinted(ink: Image, fault: Fault) -> Image:
    ys, xs = np.nonzero(ink > 0.7)
    at = int(fault.rng.integers(len(ys)))
    radius = fault.between(5, 30)
    near = edge(blob(fault.rng, np.array([xs[at], ys[at]]) - 24.0, radius, 0.5), 2.5)
    if fault.rng.random() < 0.6:
        return ink * (1 - near * fault.deep(0.3, 1.0))
    shift = np.round(fault.rng.uniform(-1, 1, 2) * 5).astype(int)
    ghost = np.roll(ink, tuple(shift), (0, 1)) * fault.deep(0.4, 0.9)
    return np.maximum(ink, near * ghost)


PRODUCTS = {
    "cover": Product(
        "moulded cover, ribs, screw bosses, snap hooks",
        cover,
        ("broken_hook", "flash", "short_shot"),
        some("scratch", "sink", "stain"),
        (238, 46),
    ),
    "cap": Product(
        "bottle cap, knurled, printed",
        cap,
        ("flash", "misprint", "worn_knurl"),
        some("dent", "scratch", "scuff"),
        (210, 50),
    ),
}
