"""Parts of metal: a turned disc, a gear, a casting, a stamped bracket."""

from __future__ import annotations

import cv2
import numpy as np

from fcam_tools.synth.products import shapes
from fcam_tools.synth.products.marks import blob, edge, some
from fcam_tools.synth.products.part import Fault, Part, Product, of
from fcam_tools.synth.surfaces import Image, Rng

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
    """A flange off the lathe: hub, groove, six bolt holes, a stamped number."""
    radius, angle = shapes.around(DISC)
    bolts = circle_of(6, DISC, 122, 15)
    holes = shapes.blank()
    for at in bolts:
        shapes.disk(holes, at, 9)
    open_ = shapes.share(holes)
    body = (1 - step(radius, 172)) * step(radius, 33, 1.5) * (1 - open_)
    height = 5 * (1 - step(radius, 82, 5)) + 3 * (1 - step(radius, 168, 7))
    height = height - 3 * (1 - step(radius, 96, 3)) * step(radius, 88, 3)
    height = height * (1 - open_) - 6 * open_ - 9 * (1 - step(radius, 33)) + 4 * (1 - step(radius, 172, 3))
    marks = 0.10 * shapes.ring_noise(rng, radius, 1.0) + 0.05 * shapes.ring_noise(rng, radius, 2.5)
    height = height + marks * (0.8 + 0.25 * shapes.noise(rng, 50)) * body
    part = metal(rng, height, body, STEEL, 0.62, 7)
    part.grain = np.stack([-np.sin(angle), np.cos(angle)], -1).astype(np.float32) * body[..., None]
    stamp(part, rng)
    blocked = of(fault, "blocked_hole")
    if blocked:
        plug(part, blocked, bolts[int(blocked.rng.integers(6))], 9)
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


GEAR, TEETH = (256.0, 192.0), 28


def gear(rng: Rng, fault: Fault | None) -> Part:
    """A blackened spur gear: teeth, web with six round windows, hub with a keyway."""
    radius, angle = shapes.around(GEAR)
    broken = of(fault, "broken_tooth")
    outline = teeth_of(angle, broken, 28)
    windows = shapes.blank()
    for at in circle_of(6, GEAR, 84, 30):
        shapes.disk(windows, at, 21)
    shapes.box(windows, (256, 158), (13, 20))
    open_ = np.maximum(shapes.share(windows), 1 - step(radius, 29, 1))
    missed = of(fault, "shallow_key")
    if missed:
        open_ = open_ * (1 - keyless(missed))
    body = np.clip((outline - radius) + 0.5, 0, 1) * (1 - open_)
    height = 5 - 4.5 * step(radius, 54, 3) * (1 - step(radius, 116, 4))
    height = height * body + 5 * shapes.bevel(body, 3.5)
    height = shapes.soft(height.astype(np.float32), 0.7)
    turned = 0.07 * shapes.ring_noise(rng, radius, 1.2) * (0.8 + 0.3 * shapes.noise(rng, 40))
    height = height + (turned + 0.05 * shapes.noise(rng, 1.5)) * body
    part = metal(rng, height, body, (0.075, 0.075, 0.08), 0.34, 9)
    part.albedo = shapes.painted(shapes.ground(rng, (0.34, 0.33, 0.31), 0.03), body, part.albedo)
    part.grain = 0.8 * np.stack([-np.sin(angle), np.cos(angle)], -1).astype(np.float32) * body[..., None]
    if broken:
        raw(part, radius, angle, broken)
    return part


def teeth_of(angle: Image, broken: Fault | None, count: int) -> Image:
    """Where the outline lies, by the angle; a broken tooth ends early and ragged."""
    wave = np.cos(angle * count)
    tip = np.clip(wave * 1.9, -1, 1)
    outline = 155 + 15 * tip
    if broken:
        near = tooth_near(angle, broken)
        stump = 170 - 30 * broken.between(0.12, 0.95) + 1.5 * shapes.noise(broken.rng, 4)
        outline = np.where(near, np.minimum(outline, stump), outline)
    return outline.astype(np.float32)


def tooth_near(angle: Image, broken: Fault) -> Image:
    which = int(broken.size * 1e6) % TEETH
    return np.abs(np.angle(np.exp(1j * (angle - which * 2 * np.pi / TEETH)))) < np.pi / TEETH


def raw(part: Part, radius: Image, angle: Image, broken: Fault) -> None:
    """The fracture is bright and grainy: a step below the face, at what is left of the tooth."""
    rim = np.exp(-np.square((shapes.inside(part.body) - 1.5) / 2.0)) * part.body
    fresh = rim * tooth_near(angle, broken) * (radius > 141) * broken.deep(0.3, 1)
    part.albedo = shapes.painted(part.albedo, 0.8 * fresh, (0.26, 0.26, 0.27))
    part.height += fresh * (0.9 * shapes.noise(broken.rng, 2) - 1.2)


def keyless(missed: Fault) -> Image:
    """How much of the keyway was not cut."""
    drawn = shapes.blank()
    depth = missed.between(2.5, 13)
    shapes.box(drawn, (256, 148 + depth / 2), (14, depth))
    return shapes.share(drawn)


HOUSING = ((38, 96), (92, 38), (300, 26), (430, 52), (482, 150), (474, 300), (396, 352), (180, 358), (60, 316))
BORES = ((170, 196, 62), (352, 190, 40))
SCREWS = ((82, 104), (96, 296), (258, 66), (262, 322), (424, 94), (430, 288), (262, 190))


def casting(rng: Rng, fault: Fault | None) -> Part:
    """A milled face of a cast housing: two bores, threaded holes, an oil groove; the cast skin shows around it."""
    drawn, face_of = shapes.blank(), shapes.blank()
    shapes.polygon(drawn, HOUSING)
    shapes.polygon(face_of, 0.93 * np.array(HOUSING) + np.multiply((258, 194), 0.07))
    whole, face = shapes.soft(shapes.share(drawn), 1.2), shapes.share(face_of)
    holes = shapes.blank()
    for x, y, r in BORES:
        shapes.disk(holes, (x, y), r)
    for at in SCREWS:
        shapes.disk(holes, at, 8)
    open_ = shapes.share(holes)
    skin = of(fault, "cast_skin")
    milled = face * (1 - unmilled(skin)) if skin else face
    skin_relief = 0.8 * shapes.noise(rng, 7) + 0.5 * shapes.noise(rng, 3)
    height = 9 * shapes.bevel(whole, 7) + 2.5 * milled + whole * (1 - milled) * skin_relief
    height = height + milled * (mill_marks(rng) + 0.03 * shapes.noise(rng, 1.3)) + groove() * milled
    body = whole * (1 - open_)
    depth = 1 - open_
    height = shapes.soft((height * depth - 8 * open_).astype(np.float32), 0.6) + thread(rng)
    part = metal(rng, height, body, (0.27, 0.27, 0.265), 0.16, 7)
    part.gloss = (part.gloss + 0.36 * milled * depth).astype(np.float32)
    part.albedo *= (1 + 0.25 * (1 - milled) * whole * skin_relief.clip(-1, 1) * 0.4)[..., None]
    blocked = of(fault, "blocked_hole")
    if blocked:
        plug(part, blocked, SCREWS[int(blocked.rng.integers(len(SCREWS)))], 8)
    part.body = (body * face).astype(np.float32)
    return part


def mill_marks(rng: Rng) -> Image:
    """Arcs that a cutter of large radius leaves, row by row."""
    x, y = shapes.places()
    center = (-260 + rng.uniform(-25, 25), 192 + rng.uniform(-60, 60))
    radius = np.hypot(x - center[0], y - center[1])
    feed = 0.14 * np.sin(2 * np.pi * radius / 5.3 + rng.uniform(0, 6.3))
    return (feed + 0.10 * shapes.ring_noise(rng, radius, 1.4)) * (0.8 + 0.3 * shapes.noise(rng, 70))


def groove() -> Image:
    drawn = shapes.blank()
    at = shapes.fixed([(170, 196)])[0].tolist()
    cv2.circle(drawn, at, 80 * 16, 255, 4, cv2.LINE_AA, shapes.FINE)
    at = shapes.fixed([(352, 190)])[0].tolist()
    cv2.circle(drawn, at, 55 * 16, 255, 4, cv2.LINE_AA, shapes.FINE)
    return -1.8 * shapes.soft(shapes.share(drawn), 0.7)


def thread(rng: Rng) -> Image:
    """The turns of the screw threads, seen from above; each starts at another angle."""
    out = np.zeros(shapes.SHAPE, np.float32)
    for at in SCREWS:
        distance, angle = shapes.around(at)
        near = (distance > 4) & (distance < 8)
        turns = np.sin(distance * 2.6 + angle + rng.uniform(0, 6.3))
        out += np.where(near, 1.1 * turns, 0).astype(np.float32)
    return out


def unmilled(fault: Fault) -> Image:
    """A low place that the cutter did not reach."""
    at = np.array([fault.rng.uniform(70, 450), fault.rng.uniform(70, 320)])
    signed = blob(fault.rng, at, fault.between(7, 34), 0.4)
    return edge(signed + 2.5 * shapes.noise(fault.rng, 6), 4.0) * fault.deep(0.4, 1.0)


BRACKET = ((40, 70), (330, 44), (474, 92), (474, 292), (330, 340), (40, 314))
BENDS = (136.0, 372.0)
SLOTS = (((80, 130), (16, 50)), ((80, 254), (16, 50)))
ROUND = ((200, 110), (200, 274), (310, 110), (310, 274), (424, 150), (424, 234))


def bracket(rng: Rng, fault: Fault | None) -> Part:
    """A stamped and bent bracket of zinc-plated sheet: two bends, slots, holes, a pressed bead, a stamped code."""
    x, y = shapes.places()
    drawn, holes = shapes.blank(), shapes.blank()
    shapes.polygon(drawn, BRACKET)
    missing = of(fault, "missing_hole")
    gone = int(missing.rng.integers(len(ROUND))) if missing else -1
    for at, size in SLOTS:
        shapes.box(holes, at, size, rounded=7.9)
    for number, at in enumerate(ROUND):
        if number != gone:
            shapes.disk(holes, at, 10)
        elif missing:  # punched off its place, or not through
            turn = missing.rng.uniform(0, 2 * np.pi)
            off = missing.between(2.5, 6) * np.array([np.cos(turn), np.sin(turn)])
            shapes.disk(holes, (at[0] + off[0], at[1] + off[1]), 10 if missing.strength < 0.6 else 4)
    open_ = shapes.share(holes)
    body = shapes.share(drawn) * (1 - open_)
    bead = shapes.blank()
    shapes.box(bead, (256, 192), (150, 36), rounded=17.9)
    rise = fold(x, BENDS[0], 0.34) * -1 - fold(-x, -BENDS[1], 0.42)
    height = 22 + rise + 5 * shapes.soft(shapes.share(bead), 5) + 3 * shapes.bevel(body, 2) * body
    height = height + 0.16 * shapes.noise(rng, 70) + 0.08 * shapes.noise(rng, 1.6, 3)
    height = shapes.soft((height * (body > 0.02)).astype(np.float32), 0.6)
    waves = of(fault, "wrinkle")
    if waves:
        height = height + wrinkle(waves, x, y) * body
    part = metal(rng, height, body, (0.25, 0.25, 0.24), 0.50, 8)
    spangle(rng, part)
    code = shapes.blank()
    shapes.text(code, "BR-77  2.0", (196, 300), 0.55)
    part.height -= 0.9 * shapes.share(code) * body
    return part


def fold(x: Image, at: float, slope: float) -> Image:
    """How far the sheet goes down beyond a bend, which is round."""
    beyond = np.clip(at - x, -6, None)
    return np.where(beyond < 6, slope * np.square(beyond + 6) / 24, slope * beyond)


def wrinkle(fault: Fault, x: Image, y: Image) -> Image:
    """Waves of the sheet beside a bend."""
    at, along = BENDS[int(fault.rng.integers(2))], fault.rng.uniform(90, 290)
    reach = fault.between(8, 30)
    near = np.exp(-np.square((x - at) / (0.8 * reach)) - np.square((y - along) / reach))
    return fault.deep(0.35, 1.5) * near * np.sin((y - along) / reach * 4.5 + fault.rng.uniform(0, 6.3))


def spangle(rng: Rng, part: Part) -> None:
    """Crystals of zinc: patches of a little different gloss and tint."""
    seeds = rng.uniform(0, 1, (260, 2)) * shapes.SHAPE[::-1]
    small = np.full((shapes.SHAPE[0] // 2, shapes.SHAPE[1] // 2), 255, np.uint8)
    for column, row in (seeds / 2).astype(int):
        small[row, column] = 0
    _, labels = cv2.distanceTransformWithLabels(small, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    tones = rng.uniform(-1, 1, labels.max() + 1).astype(np.float32)
    patches = cv2.resize(tones[labels], shapes.SHAPE[::-1], interpolation=cv2.INTER_LINEAR)
    part.gloss *= 1 + 0.10 * patches * part.body
    part.albedo *= (1 + 0.05 * patches * part.body)[..., None]


PRODUCTS = {
    "disc": Product(
        "turned flange, bolt holes, lathe marks",
        disc,
        ("blocked_hole",),
        some("burr", "chip", "dent", "scratch", "stain"),
        (215, 50),
    ),
    "gear": Product(
        "blackened gear, keyway, windows",
        gear,
        ("broken_tooth", "shallow_key"),
        some("burr", "corrosion", "crack", "dent"),
        (235, 47),
    ),
    "casting": Product(
        "milled face of a cast housing",
        casting,
        ("blocked_hole", "cast_skin"),
        some("chip", "crack", "pores", "scratch"),
        (205, 48),
    ),
    "bracket": Product(
        "stamped bracket of zinc-plated sheet",
        bracket,
        ("missing_hole", "wrinkle"),
        some("burr", "corrosion", "dent", "scratch"),
        (245, 50),
    ),
}
