"""Electronics: a populated board, a pin header in its housing."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from fcam_tools.synth.products import shapes
from fcam_tools.synth.products.marks import blob, edge, some, stroke, walk
from fcam_tools.synth.products.part import Fault, Part, Product, of
from fcam_tools.synth.surfaces import Image, Rng

MASK_GREEN = np.array([0.025, 0.13, 0.055], np.float32)
TIN = (0.42, 0.43, 0.44)
CERAMIC, BLACK = (0.40, 0.30, 0.19), (0.035, 0.036, 0.038)


@dataclass(frozen=True)
class Chip:
    """A component: where it sits, its body, how high, its kind: two pads, or rows of leads."""

    at: tuple[float, float]
    size: tuple[float, float]
    high: float
    kind: str  # resistor, capacitor, soic, qfp, can
    name: str = ""
    turned: bool = False


CHIPS = (
    Chip((330, 150), (76, 76), 5, "qfp", "MC32F"),
    Chip((130, 110), (78, 34), 5, "soic", "74HC595"),
    Chip((130, 200), (78, 34), 5, "soic", "LM2903"),
    Chip((430, 290), (44, 44), 14, "can", "100"),
    Chip((430, 80), (34, 34), 12, "can", "47"),
    *(Chip((60 + 26 * n, 290), (14, 8), 3, "resistor", "103") for n in range(6)),
    *(Chip((62 + 26 * n, 330), (13, 8), 4, "capacitor") for n in range(6)),
    *(Chip((240, 60 + 22 * n), (13, 8), 4, "capacitor") for n in range(3)),
    *(Chip((264 + 24 * n, 262), (8, 14), 3, "resistor", turned=True) for n in range(5)),
    *(Chip((266 + 24 * n, 320), (8, 13), 4, "capacitor", turned=True) for n in range(4)),
)
SMALL = [n for n, chip in enumerate(CHIPS) if chip.kind in ("resistor", "capacitor")]


def leads(chip: Chip) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Centre and size of each lead with its pad, as the design has them."""
    (x, y), (w, h) = chip.at, chip.size
    if chip.kind == "soic":
        return [((x - w / 2 + 6 + 9.4 * n, y + side * (h / 2 + 5)), (4.4, 12)) for n in range(8) for side in (-1, 1)]
    if chip.kind == "qfp":
        flat = [((x - 30 + 6.7 * n, y + s * (h / 2 + 4)), (3.4, 10)) for n in range(10) for s in (-1, 1)]
        return flat + [((x + s * (w / 2 + 4), y - 30 + 6.7 * n), (10, 3.4)) for n in range(10) for s in (-1, 1)]
    if chip.kind == "can":
        return [((x + s * (w / 2 + 2), y), (9, 8)) for s in (-1, 1)]
    if chip.turned:
        return [((x, y + s * (h / 2 - 0.5)), (10, 6)) for s in (-1, 1)]
    return [((x + s * (w / 2 - 0.5), y), (6, 10)) for s in (-1, 1)]


@functools.lru_cache(maxsize=1)
def bare() -> tuple[Image, Image, Image, Image]:
    """Traces, pads, silk print and holes of the bare board: the design alone."""
    draw = np.random.default_rng(417)
    traces, pads, silk, holes = (shapes.blank() for _ in range(4))
    for chip in CHIPS:
        for center, size in leads(chip):
            shapes.box(pads, center, (size[0] + 2, size[1] + 2), rounded=0.8)
            route(draw, traces, pads, center)
        x, y = chip.at
        w, h = chip.size
        if chip.kind in ("soic", "qfp"):
            shapes.disk(silk, (x - w / 2 - 9, y + h / 2 + 7), 2.2)
        if chip.kind == "can":
            ring = shapes.fixed([chip.at])[0].tolist()
            cv2.circle(silk, ring, round((w / 2 + 5) * 16), 255, 1, cv2.LINE_AA, shapes.FINE)
    for number in range(6):
        shapes.text(silk, f"R{number + 1}", (52 + 26 * number, 278), 0.3)
        shapes.text(silk, f"C{number + 1}", (54 + 26 * number, 347), 0.3)
    shapes.text(silk, "IOX-2  REV C", (28, 48), 0.45)
    shapes.text(silk, "U1", (318, 92), 0.4)
    for at in ((28, 22), (484, 22), (28, 362), (484, 362)):
        shapes.disk(pads, at, 12)
        shapes.disk(holes, at, 7)
    return shapes.share(traces), shapes.share(pads), shapes.share(silk), shapes.share(holes)


def route(draw: Rng, traces: Image, pads: Image, start: tuple[float, float]) -> None:
    """A trace at right angles and 45 degrees, with a via at its end."""
    point, heading = np.array(start), int(draw.integers(8))
    for _ in range(int(draw.integers(1, 4))):
        heading = (heading + int(draw.integers(-1, 2))) % 8
        turn = heading * np.pi / 4
        following = point + np.array([np.cos(turn), np.sin(turn)]) * draw.uniform(12, 46)
        shapes.line(traces, [point, following], 2.2)
        point = following
    shapes.disk(traces, tuple(point), 3.2)
    shapes.disk(pads, tuple(point), 1.6)


def board(rng: Rng, fault: Fault | None) -> Part:
    """Solder mask with traces, chips, small parts and cans; each sits a little off its place, as machines place it."""
    traces, pads, silk, holes = bare()
    edge = shapes.blank()
    shapes.box(edge, (256, 192), (500, 372), rounded=6)
    body = shapes.share(edge) * (1 - holes)
    green = MASK_GREEN * (1 + 0.05 * shapes.noise(rng, 40) + 0.03 * shapes.noise(rng, 1.5))[..., None]
    albedo = shapes.painted(shapes.ground(rng, (0.10, 0.10, 0.105)), body, green)
    albedo = albedo * (1 + 0.9 * (traces * body)[..., None])
    albedo = shapes.painted(albedo, 0.9 * silk * np.clip(0.9 + 0.08 * shapes.noise(rng, 2), 0, 1), (0.6, 0.6, 0.57))
    part = Part(
        height=((3 + 0.5 * traces + 0.06 * shapes.noise(rng, 3)) * body).astype(np.float32),
        albedo=albedo.astype(np.float32),
        gloss=(0.04 + 0.10 * body).astype(np.float32),
        sharp=(10 + 20 * body).astype(np.float32),
        body=body,
    )
    solder(rng, part, pads * (1 - holes), of(fault, "dull_joint"))
    placed(rng, part, fault)
    bridge = of(fault, "bridge")
    if bridge:
        bridged(part, bridge)
    return part


def solder(rng: Rng, part: Part, pads: Image, dull: Fault | None) -> None:
    """Domes of tin on the pads; a dull joint is grey, flat and rough."""
    dome = shapes.bevel(pads, 2.5) * (1 + 0.12 * shapes.noise(rng, 6))
    rough, matt = np.zeros_like(pads), np.zeros_like(pads)
    if dull:
        chip = CHIPS[int(dull.rng.integers(len(CHIPS)))]
        spots = leads(chip)
        drawn, first = shapes.blank(), int(dull.rng.integers(len(spots)))
        for center, size in spots[first : first + 1 + int(3 * dull.size)]:
            shapes.box(drawn, center, (size[0] + 4, size[1] + 4))
        matt = shapes.share(drawn) * pads * dull.deep(0.35, 1)
        rough = 0.5 * matt * shapes.noise(dull.rng, 1.8)
    part.height += 1.8 * dome * (1 - 0.6 * matt) + rough
    part.albedo = shapes.painted(part.albedo, pads, TIN) * (1 - 0.45 * matt)[..., None]
    part.gloss = shapes.mixed(part.gloss, pads, 0.5 * (1 - 0.85 * matt)).astype(np.float32)
    part.sharp = shapes.mixed(part.sharp, pads, 14).astype(np.float32)


def placed(rng: Rng, part: Part, fault: Fault | None) -> None:
    """Puts the components on, one of them wrong if the fault says so."""
    wrong, kinds = -1, ("missing", "shifted", "rotated")
    if fault is not None and fault.kind in kinds:
        wrong = int(fault.rng.choice(SMALL)) if fault.rng.random() < 0.8 else int(fault.rng.integers(len(CHIPS)))
        wrong = int(fault.rng.choice(SMALL)) if fault.kind == "missing" and CHIPS[wrong].kind == "qfp" else wrong
    for number, chip in enumerate(CHIPS):
        shift, angle, tint = rng.normal(0, 0.35, 2), rng.normal(0, 0.6), rng.uniform(0.93, 1.07)
        if number == wrong and fault is not None:
            if fault.kind == "missing":
                continue
            if fault.kind == "shifted":
                turn = fault.rng.uniform(0, 2 * np.pi)
                shift = shift + fault.deep(1.8, 6) * np.array([np.cos(turn), np.sin(turn)])
            else:
                angle += fault.deep(6, 60) * fault.rng.choice([-1, 1]) * (0.35 if chip.kind in ("qfp", "soic") else 1)
        put(part, chip, shift, angle, tint)


def put(part: Part, chip: Chip, shift: Image, angle: float, tint: float) -> None:
    """One component with its leads, in a window around it."""
    reach = int(max(chip.size) * 0.75 + 24)
    left, top = int(chip.at[0]) + 24 - reach, int(chip.at[1]) + 24 - reach
    window = slice(max(0, top), top + 2 * reach), slice(max(0, left), left + 2 * reach)
    center = np.array(chip.at) + shift

    def drawn(boxes: list, rounded: float = 0.6) -> Image:
        out = shapes.blank()
        for at, size in boxes:
            moved = shapes.turning(angle) @ (np.array(at) - chip.at) + center
            shapes.box(out, tuple(moved), size, angle, rounded)
        return shapes.share(out[window])

    if chip.kind in ("soic", "qfp"):
        pins = drawn(leads(chip), 0.3)
        lay(part, window, pins, 5 + 0.5 * shapes.soft(pins, 1), (0.45, 0.45, 0.45), 0.5, 20)
    if chip.kind == "can":
        can(part, window, chip, center, tint)
        return
    body = drawn([(chip.at, chip.size)])
    color = CERAMIC if chip.kind == "capacitor" else BLACK
    top_of = 3 + chip.high * shapes.bevel(body, 1.6)
    lay(part, window, body, top_of, np.array(color) * tint, 0.06, 12)
    if chip.kind in ("resistor", "capacitor"):
        ends = drawn([(at, (3.2, chip.size[1]) if not chip.turned else (chip.size[0], 3.2)) for at, _ in ends_of(chip)])
        lay(part, window, ends, top_of, TIN, 0.45, 14)
    letters(part, window, chip, center, angle)


def ends_of(chip: Chip) -> list:
    (x, y), (w, h) = chip.at, chip.size
    if chip.turned:
        return [((x, y + s * (h / 2 - 1.5)), None) for s in (-1, 1)]
    return [((x + s * (w / 2 - 1.5), y), None) for s in (-1, 1)]


def lay(
    part: Part, window: tuple, cover: Image, height: Image | float, color: Image | tuple, gloss: float, sharp: float
) -> None:
    """Puts a material over what is there."""
    part.height[window] = shapes.mixed(part.height[window], cover, height)
    part.albedo[window] = shapes.painted(part.albedo[window], cover, color)
    part.gloss[window] = shapes.mixed(part.gloss[window], cover, gloss)
    part.sharp[window] = shapes.mixed(part.sharp[window], cover, sharp)


def can(part: Part, window: tuple, chip: Chip, center: Image, tint: float) -> None:
    """An electrolytic capacitor from above: aluminium top, black segment, plastic foot."""
    distance, angle = (m[window] for m in shapes.around(tuple(center)))
    radius = chip.size[0] / 2
    foot = np.clip(radius + 1.5 - np.maximum(np.abs(distance * np.cos(angle)), np.abs(distance * np.sin(angle))), 0, 1)
    lay(part, window, foot, 6.0 + 0 * foot, BLACK, 0.06, 12)
    top = np.clip(radius - 1 - distance + 0.5, 0, 1)
    rise = chip.high * np.clip((radius - distance) / 3, 0, 1) ** 0.5 + 4
    lay(part, window, top, rise, np.array([0.33, 0.33, 0.34]) * tint, 0.42, 10)
    segment = top * (distance * np.cos(angle) < -0.45 * radius)
    part.albedo[window] = shapes.painted(part.albedo[window], 0.9 * segment, BLACK)
    part.gloss[window] = shapes.mixed(part.gloss[window], segment, 0.12)
    drawn = shapes.blank()
    shapes.text(drawn, chip.name, (center[0] - radius * 0.35, center[1] + 4), 0.34)
    part.albedo[window] = shapes.painted(part.albedo[window], 0.8 * shapes.share(drawn[window]) * top, BLACK)


def letters(part: Part, window: tuple, chip: Chip, center: Image, angle: float) -> None:
    """Laser marking, and the dot at pin 1."""
    if chip.kind not in ("soic", "qfp"):
        return
    drawn = shapes.blank()
    wide = 0.33 if chip.kind == "soic" else 0.42
    shapes.text(drawn, chip.name, (center[0] - chip.size[0] * 0.38, center[1] + 3), wide)
    if chip.kind == "qfp":
        shapes.text(drawn, "2614A", (center[0] - 24, center[1] + 18), 0.36)
    dot = shapes.turning(angle) @ np.array([-chip.size[0] / 2 + 7, chip.size[1] / 2 - 6]) + center
    shapes.disk(drawn, tuple(dot), 2.6)
    middle = (float(center[0]) + 24, float(center[1]) + 24)
    turned = cv2.warpAffine(drawn, cv2.getRotationMatrix2D(middle, -angle, 1), drawn.shape[::-1])
    part.albedo[window] = shapes.painted(part.albedo[window], 0.75 * shapes.share(turned[window]), (0.30, 0.30, 0.29))


def bridged(part: Part, fault: Fault) -> None:
    """Solder between neighbouring leads."""
    chip = CHIPS[int(fault.rng.integers(3))]
    spots = leads(chip)
    first = int(fault.rng.integers(len(spots) - 2))
    a, b = (np.array(spots[n][0]) for n in (first, first + 2))
    if np.hypot(*(a - b)) > 12:  # the last of one row and the first of the next are no neighbours
        first -= 4
        a, b = (np.array(spots[n][0]) for n in (first, first + 2))
    outwards = np.sign(a - chip.at) * (np.abs(a - chip.at) > 15) * fault.rng.uniform(0, 4)
    drawn = shapes.blank()
    shapes.line(drawn, [a + outwards, b + outwards], fault.between(1.4, 7))
    cover = shapes.share(drawn) * fault.deep(0.45, 1)
    everywhere = (slice(None), slice(None))
    lay(part, everywhere, cover, part.height + 1.6 * shapes.soft(cover, 1.2), TIN, 0.5, 14)


ROWS, PINS = (150.0, 234.0), 14


def connector(rng: Rng, fault: Fault | None) -> Part:
    """A housing of glass-filled plastic with two rows of gold pins in chambers, a key, latches at both ends."""
    outer, well, ears = shapes.blank(), shapes.blank(), shapes.blank()
    shapes.box(outer, (256, 192), (420, 236), rounded=10)
    shapes.box(well, (256, 192), (376, 190), rounded=5)
    for x in (34, 478):
        shapes.box(ears, (x, 192), (30, 110), rounded=5)
    shapes.box(well, (256, 292), (46, 24), rounded=2)
    whole, inner = np.maximum(shapes.share(outer), shapes.share(ears)), shapes.share(well)
    body = whole * (1 - chipped_wall(of(fault, "broken_wall"), inner, whole))
    height = 14 * shapes.bevel(body, 4) * (1 - inner) + body * (2 + 3 * comb())
    swirl = 0.07 * shapes.noise(rng, 1.5) + 0.05 * shapes.noise(rng, 4, 5)
    height = shapes.soft(height.astype(np.float32), 0.8) + swirl * body
    grey = (
        np.array([0.045, 0.047, 0.052]) * (1 + 0.10 * shapes.noise(rng, 3, 6) + 0.04 * shapes.noise(rng, 60))[..., None]
    )
    albedo = shapes.painted(shapes.ground(rng, (0.30, 0.31, 0.33), 0.03), body, grey)
    part = Part(height.astype(np.float32), albedo.astype(np.float32), 0.03 + 0.07 * body, 8 + 10 * body, body)
    moulded_letters(part)
    pins(rng, part, fault)
    swarf = of(fault, "swarf")
    if swarf:
        sliver(part, swarf)
    return part


def comb() -> Image:
    """Walls between the chambers of the pins."""
    drawn = shapes.blank()
    for y in ROWS:
        for n in range(PINS + 1):
            shapes.box(drawn, (256 + 25.5 * (n - PINS / 2), y), (4, 56))
        for side in (-1, 1):
            shapes.box(drawn, (256, y + side * 28), (25.5 * PINS + 4, 4))
    return shapes.share(drawn)


def pin_places() -> list[tuple[float, float]]:
    return [(256 + 25.5 * (n + 0.5 - PINS / 2), y) for y in ROWS for n in range(PINS)]


def moulded_letters(part: Part) -> None:
    drawn = shapes.blank()
    shapes.text(drawn, "1", (58, 156), 0.5)
    shapes.text(drawn, "28", (438, 240), 0.45)
    shapes.text(drawn, "KX-28", (230, 92), 0.42)
    part.height += 1.0 * shapes.share(drawn)


def pins(rng: Rng, part: Part, fault: Fault | None) -> None:
    """Square pins with tapered tips, seen from above; bent, short or missing where the fault says so."""
    kinds = ("bent_pin", "missing_pin", "short_pin")
    wrong = int(fault.rng.integers(2 * PINS)) if fault is not None and fault.kind in kinds else -1
    for number, at in enumerate(pin_places()):
        lean, high = rng.normal(0, 0.6, 2), 10.0 + rng.normal(0, 0.3)
        tint = rng.uniform(0.95, 1.05)
        if number == wrong and fault is not None:
            if fault.kind == "missing_pin":
                high, tint = 0.6, 0.12
            if fault.kind == "short_pin":
                high -= fault.deep(2.5, 8)
            if fault.kind == "bent_pin":
                turn = fault.rng.uniform(0, 2 * np.pi)
                lean = lean + fault.deep(2.0, 8) * np.array([np.cos(turn), np.sin(turn)])
        pin(part, at, lean, high, tint)


def pin(part: Part, at: tuple[float, float], lean: Image, high: float, tint: float) -> None:
    """A shaft from its foot to its tip, in a window."""
    left, top = int(at[0]) + 24 - 24, int(at[1]) + 24 - 24
    window = slice(top, top + 48), slice(left, left + 48)
    foot, tip = np.array(at), np.array(at) + lean
    for share in np.linspace(0, 1, 5):
        drawn = shapes.blank()
        wide = 10.5 - 4.5 * max(0.0, share - 0.5) * 2
        shapes.box(drawn, tuple(foot + share * (tip - foot)), (wide, wide), rounded=1)
        cover = shapes.share(drawn[window])
        lay(
            part,
            window,
            cover,
            4 + share * high,
            np.array([0.40, 0.27, 0.08]) * tint,
            0.42,
            12,
        )
    part.height[window] = shapes.soft(part.height[window], 0.7)


def chipped_wall(fault: Fault | None, inner: Image, whole: Image) -> Image:
    """Where a piece of the wall is gone."""
    if fault is None:
        return np.zeros(shapes.SHAPE, np.float32)
    depth = shapes.inside(whole)
    ys, xs = np.nonzero((depth > 0) & (depth < 1.6))
    at = int(fault.rng.integers(len(ys)))
    signed = blob(fault.rng, np.array([xs[at], ys[at]]) - 24.0, fault.between(3.5, 17), 0.5, 2.5)
    return edge(signed + 0.8 * shapes.noise(fault.rng, 3), 1.2) * (1 - inner)


def sliver(part: Part, fault: Fault) -> None:
    """A bright chip of metal that lies between two pins."""
    places = pin_places()
    first = int(fault.rng.integers(PINS - 1)) + PINS * int(fault.rng.integers(2))
    middle = (np.array(places[first]) + places[first + 1]) / 2 + fault.rng.normal(0, 6, 2)
    path = walk(fault.rng, middle, fault.between(7, 40), 0.25)
    cover = stroke(path, fault.rng.uniform(1.0, 2.4)) * fault.deep(0.4, 1.0)
    everywhere = (slice(None), slice(None))
    lay(part, everywhere, cover, part.height + 2.5, (0.40, 0.40, 0.41), 0.5, 10)


PRODUCTS = {
    "board": Product(
        "populated circuit board",
        board,
        ("bridge", "dull_joint", "missing", "rotated", "shifted"),
        some("scratch"),
        (228, 52),
    ),
    "connector": Product(
        "two rows of gold pins in a housing",
        connector,
        ("bent_pin", "broken_wall", "missing_pin", "short_pin", "swarf"),
        some("scratch"),
        (218, 54),
    ),
}
