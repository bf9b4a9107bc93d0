"""Packed and printed goods: a blister of tablets, a label on a carton."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from fcam_tools.synth.products import shapes
from fcam_tools.synth.products.marks import blob, edge, some
from fcam_tools.synth.products.part import Fault, Part, Product, of
from fcam_tools.synth.surfaces import Image, Rng

POCKETS = [(76.0 + 90 * column, 76.0 + 116 * row) for row in range(3) for column in range(5)]
POCKET, TABLET = 37.0, 28.0


def blister(rng: Rng, fault: Fault | None) -> Part:
    """Fifteen tablets with a score line under clear pockets, on embossed foil."""
    x, y = shapes.places()
    edge_of = shapes.blank()
    shapes.box(edge_of, (256, 192), (484, 360), rounded=18)
    body = shapes.share(edge_of)
    knurl = np.sin((x + y) * 2 * np.pi / 7.5) + np.sin((x - y) * 2 * np.pi / 7.5)
    height = (2 + 0.22 * knurl + 0.35 * shapes.noise(rng, 35) + 0.06 * shapes.noise(rng, 2)) * body
    albedo = shapes.painted(shapes.ground(rng, (0.09, 0.11, 0.13)), body, (0.22, 0.22, 0.225))
    part = Part(height.astype(np.float32), albedo, 0.03 + 0.40 * body, 8 + 2 * body, body)
    embossed(part)
    torn = of(fault, "crushed_pocket")
    crushed = int(torn.rng.integers(len(POCKETS))) if torn else -1
    missing, broken = of(fault, "missing_tablet"), of(fault, "broken_tablet")
    wrong = next((f for f in (missing, broken, of(fault, "spot")) if f), None)
    bad = int(wrong.rng.integers(len(POCKETS))) if wrong else -1
    for number, at in enumerate(POCKETS):
        turn, shift, tint = rng.uniform(0, 180), rng.normal(0, 1.5, 2), rng.uniform(0.97, 1.03)
        center = (at[0] + shift[0], at[1] + shift[1])
        own = wrong if number == bad else None
        tablet(rng, part, at, center, turn, tint, own)
        pocket(part, at, torn if number == crushed else None)
    part.body = body
    return part


def embossed(part: Part) -> None:
    drawn = shapes.blank()
    shapes.text(drawn, "LOT 4471", (180, 139), 0.45)
    shapes.text(drawn, "EXP 2028 06", (176, 255), 0.45)
    part.height -= 0.9 * shapes.share(drawn)


def tablet(
    rng: Rng, part: Part, at: shapes.Point, center: shapes.Point, turn: float, tint: float, wrong: Fault | None
) -> None:
    """One tablet in its window: missing, broken, or with a spot if it is the wrong one."""
    window = window_of(at, POCKET + 6)
    distance, angle = (m[window] for m in shapes.around(center))
    grain = shapes.noise(rng, 1.5, shape=distance.shape)
    cover = np.clip(TABLET - distance + 0.5, 0, 1)
    if wrong is not None and wrong.kind == "missing_tablet":
        cover = cover * 0
    if wrong is not None and wrong.kind == "broken_tablet":
        cover = cover * (1 - broken_off(wrong, center)[window])
    across = distance * np.sin(angle - np.deg2rad(turn))
    dome = 5 * np.sqrt(np.clip(1 - np.square(distance / (TABLET + 6)), 0, 1)) - 1.1 * np.exp(-np.square(across / 1.5))
    relief = 3 + dome + 0.10 * grain
    color = np.array([0.62, 0.60, 0.54]) * tint * (1 + 0.015 * grain)[..., None]
    if wrong is not None and wrong.kind == "spot":
        color = color * (1 - spot(wrong, center)[window])[..., None]
    part.height[window] = shapes.mixed(part.height[window], cover, relief)
    part.albedo[window] = shapes.painted(part.albedo[window], cover, color)
    part.gloss[window] = shapes.mixed(part.gloss[window], cover, 0.03)


def window_of(at: shapes.Point, reach: float) -> tuple[slice, slice]:
    x, y, r = int(at[0]) + 24, int(at[1]) + 24, int(reach)
    return slice(y - r, y + r + 1), slice(x - r, x + r + 1)


def broken_off(fault: Fault, center: shapes.Point) -> Image:
    """A piece out of the rim, with a rough edge."""
    turn = fault.rng.uniform(0, 2 * np.pi)
    at = np.array(center) + TABLET * np.array([np.cos(turn), np.sin(turn)])
    signed = blob(fault.rng, at, fault.between(3.5, 24), 0.5)
    return edge(signed + shapes.noise(fault.rng, 3), 1.5)


def spot(fault: Fault, center: shapes.Point) -> Image:
    turn, far = fault.rng.uniform(0, 2 * np.pi), fault.rng.uniform(0, TABLET - 5)
    at = np.array(center) + far * np.array([np.cos(turn), np.sin(turn)])
    return fault.deep(0.10, 0.6) * edge(blob(fault.rng, at, fault.between(1.8, 9), 0.5), 2.0)


def pocket(part: Part, at: shapes.Point, crushed: Fault | None) -> None:
    """The clear dome: a ridge where it is sealed, a wall that mirrors, a flat top; dented if crushed."""
    window = window_of(at, POCKET + 6)
    distance, _ = (m[window] for m in shapes.around(at))
    wall = np.exp(-np.square((distance - POCKET) / 2.2))
    part.height[window] += 2.2 * wall
    if crushed is not None:
        turn = crushed.rng.uniform(0, 2 * np.pi)
        place = np.array(at) + (POCKET - 6) * np.array([np.cos(turn), np.sin(turn)]) * crushed.rng.uniform(0.4, 1)
        signed = blob(crushed.rng, place, crushed.between(5, 22), 0.5, 2.5)[window]
        inside = edge(signed, 3.0) * (distance < POCKET + 3)
        folds = shapes.noise(crushed.rng, 5, 2, shape=distance.shape)
        part.height[window] += crushed.deep(0.5, 2.2) * inside * folds
        part.gloss[window] += crushed.deep(0.04, 0.2) * inside
    part.gloss[window] += 0.05 * (distance < POCKET)


@functools.lru_cache(maxsize=1)
def artwork() -> tuple[Image, Image]:
    """Black and red ink of the label: a logo, lines of text, a table, a bar code."""
    black, red = shapes.blank(), shapes.blank()
    shapes.box(red, (256, 62), (448, 50), rounded=4)
    shapes.text(black, "ACETON 99.5 %", (44, 132), 0.95, 2)
    for row, words in enumerate(("Laboratory reagent, 2.5 l", "CAS 67-64-1   UN 1090", "Keep away from heat.")):
        shapes.text(black, words, (46, 160 + 22 * row), 0.5)
    for row, words in enumerate(("Net 1.98 kg", "Batch 7731", "Made in EU")):
        shapes.text(black, words, (46, 250 + 22 * row), 0.5)
    diamond = np.array([(0, -46), (46, 0), (0, 46), (-46, 0)])
    shapes.polygon(red, np.add(diamond, (416, 160)))
    shapes.polygon(red, np.add(0.80 * diamond, (416, 160)), 0)
    flame = np.array([(0, -26), (9, -8), (16, 8), (8, 20), (-8, 20), (-16, 6), (-8, -4)])
    shapes.polygon(black, np.add(flame, (416, 162)))
    draw, x = np.random.default_rng(67), 236.0
    while x < 452:
        wide = float(draw.choice([2.2, 4.4, 6.6]))
        shapes.box(black, (x + wide / 2, 282), (wide, 76))
        x += wide + float(draw.choice([2.2, 4.4]))
    shapes.text(black, "4 006381 333931", (258, 340), 0.55)
    for row in range(4):
        shapes.line(black, [(40, 232 + 22 * row), (216, 232 + 22 * row)], 1.0)
    knock = shapes.blank()
    shapes.text(knock, "LABOREX", (56, 72), 0.95, 2)
    return shapes.share(black), shapes.share(red) * (1 - shapes.share(knock))


def label(rng: Rng, fault: Fault | None) -> Part:
    """A paper label on corrugated board, printed in black and red, with its data."""
    x, _ = shapes.places()
    edge_of = shapes.blank()
    shapes.box(edge_of, (256, 192), (470, 346), rounded=9)
    body = shapes.share(edge_of)
    flutes = 0.35 * np.sin(x * 2 * np.pi / 17 + rng.uniform(0, 6.3))
    kraft = shapes.ground(rng, (0.33, 0.22, 0.12), 0.06) * (1 + 0.08 * shapes.noise(rng, 1.6, 6))[..., None]
    paper = np.array([0.62, 0.62, 0.60]) * (1 + 0.012 * shapes.noise(rng, 3))[..., None]
    albedo = shapes.painted(kraft, body, paper)
    black, red = printed(rng, fault)
    albedo = shapes.painted(albedo, 0.90 * red * body, (0.42, 0.05, 0.04))
    albedo = shapes.painted(albedo, 0.92 * black * body, (0.035, 0.035, 0.04))
    height = flutes * (1 - 0.55 * body) + 0.8 * body + 0.04 * shapes.noise(rng, 1.5) + 0.5 * shapes.noise(rng, 80)
    part = Part(height.astype(np.float32), albedo.astype(np.float32), 0.02 + 0.05 * body, 8 + 4 * body, body)
    for kind, spoil in (("crease", crease), ("tear", tear)):
        found = of(fault, kind)
        if found:
            spoil(part, found)
    return part


def printed(rng: Rng, fault: Fault | None) -> tuple[Image, Image]:
    """Both inks as they come out: red a little off black, as presses print; a fault takes some away or smears it."""
    black, red = artwork()
    off = np.array([[1, 0, rng.uniform(-0.7, 0.7)], [0, 1, rng.uniform(-0.7, 0.7)]], np.float32)
    red = cv2.warpAffine(red, off, red.shape[::-1])
    speckle = np.clip(0.95 + 0.05 * shapes.noise(rng, 1.5), 0, 1)
    black, red = black * speckle, red * speckle
    for kind, spoil in (("dropout", dropout), ("smear", smear), ("ink_spot", ink_spot)):
        found = of(fault, kind)
        if found:
            black, red = spoil(black, red, found)
    return black, red


def on_ink(ink: Image, fault: Fault) -> Image:
    ys, xs = np.nonzero(ink > 0.6)
    at = int(fault.rng.integers(len(ys)))
    return np.array([xs[at], ys[at]]) - 24.0


def dropout(black: Image, red: Image, fault: Fault) -> tuple[Image, Image]:
    """A streak or a patch without ink."""
    at = on_ink(black, fault)
    if fault.rng.random() < 0.4:
        _, y = shapes.places()
        x, _ = shapes.places()
        wide = fault.deep(1.0, 2.5)
        near = np.clip(wide - np.abs(y - at[1]), 0, 1) * (np.abs(x - at[0]) < fault.between(10, 90))
    else:
        near = edge(blob(fault.rng, at, fault.between(4, 26), 0.5, 3.0), 2.5)
    left = 1 - near * fault.deep(0.3, 1.0)
    return black * left, red * left


def smear(black: Image, red: Image, fault: Fault) -> tuple[Image, Image]:
    """Wet ink was dragged along."""
    near = edge(blob(fault.rng, on_ink(black, fault), fault.between(7, 30), 0.4, 2.5), 3.0)
    reach = int(fault.deep(7, 25)) | 1
    kernel: Image = np.zeros((reach, reach), np.float32)
    kernel[reach // 2, reach // 2 :] = 1
    turn = cv2.getRotationMatrix2D((reach / 2, reach / 2), fault.rng.uniform(0, 360), 1)
    kernel = cv2.warpAffine(kernel, turn, (reach, reach))
    dragged = cv2.filter2D(black, -1, kernel / (kernel.sum() + 1e-6)) * near
    return np.maximum(black, 0.8 * dragged), red


def ink_spot(black: Image, red: Image, fault: Fault) -> tuple[Image, Image]:
    """A drop where no ink belongs."""
    at = fault.rng.uniform((40, 40), (470, 345))
    drop = edge(blob(fault.rng, at, fault.between(2, 11), 0.35), 1.8) * fault.deep(0.15, 0.9)
    return np.maximum(black, drop), red


def crease(part: Part, fault: Fault) -> None:
    """A fold across the paper, or a bubble under it."""
    at, turn = fault.rng.uniform((60, 60), (450, 320)), fault.rng.uniform(0, np.pi)
    length = fault.between(22, 130)
    x, y = shapes.places()
    u = (x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn)
    v = (y - at[1]) * np.cos(turn) - (x - at[0]) * np.sin(turn) + 0.05 * length * np.sin(u / length * 2.5)
    ridge = np.exp(-np.square(v / 2.6) - np.square(u / length * 2.2) ** 2)
    part.height += fault.deep(0.5, 2.4) * ridge * part.body


def tear(part: Part, fault: Fault) -> None:
    """Paper torn away at the rim: the board shows, with a fibrous white border."""
    depth = shapes.inside(part.body)
    ys, xs = np.nonzero((depth > 0) & (depth < 1.6))
    at = int(fault.rng.integers(len(ys)))
    signed = blob(fault.rng, np.array([xs[at], ys[at]]) - 24.0, fault.between(4, 24), 0.5, 2.5)
    signed = signed + 1.2 * shapes.noise(fault.rng, 3)
    gone, border = edge(signed, 1.2) * part.body, np.exp(-np.square((signed + 1.5) / 1.6)) * part.body
    part.albedo = shapes.painted(part.albedo, 0.6 * border, (0.68, 0.67, 0.64))
    part.albedo = shapes.painted(part.albedo, gone * fault.deep(0.45, 1.0), (0.33, 0.22, 0.12))
    part.height += (0.4 * border - 0.9 * gone + 0.3 * gone * shapes.noise(fault.rng, 1.5)) * part.body


PRODUCTS = {
    "blister": Product(
        "blister pack of tablets",
        blister,
        ("broken_tablet", "crushed_pocket", "missing_tablet", "spot"),
        some("lint", "scratch"),
        (222, 50),
    ),
    "label": Product(
        "printed label with a bar code on a carton",
        label,
        ("crease", "dropout", "ink_spot", "smear", "tear"),
        some("scuff"),
        (240, 44),
    ),
}
