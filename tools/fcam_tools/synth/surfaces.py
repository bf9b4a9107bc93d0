"""Procedural surfaces. In: a random generator and a side in pixels. Out: reflectance, float32 [side, side, 3], 0..1.

Each has its own structure at defect scale (grooves, threads, grain, traces), varied in colour, scale and direction from
picture to picture, so that neither a threshold nor one template finds defects. Every surface carries one printed mark.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Image = np.ndarray
Rng = np.random.Generator


def field(rng: Rng, side: int, scale: float, stretch: float = 1.0) -> Image:
    """Smooth noise of unit deviation; features of about `scale` pixels, `stretch` times longer along x."""
    rows, columns = max(2, round(side / scale)), max(2, round(side / (scale * stretch)))
    noise = rng.standard_normal((rows + 2, columns + 2), dtype=np.float32)
    big = cv2.resize(noise, (side + side // 4, side + side // 4), interpolation=cv2.INTER_CUBIC)
    y, x = rng.integers(0, side // 4 + 1, 2)
    out = big[y : y + side, x : x + side]
    return (out - out.mean()) / (out.std() + 1e-6)


def turned(image: Image, angle: float) -> Image:
    """Turned about the centre; what comes in from outside is mirrored."""
    side = image.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1.0)
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def tinted(gray: Image, color: tuple[float, float, float]) -> Image:
    return (gray[..., None] * np.asarray(color, np.float32)).astype(np.float32)


def brushed_metal(rng: Rng, side: int) -> Image:
    grooves = 0.6 * field(rng, side, 1.2, 60) + 0.4 * field(rng, side, 3.0, 90)
    gray = rng.uniform(0.45, 0.65) + rng.uniform(0.025, 0.05) * grooves + 0.03 * field(rng, side, 120)
    return tinted(
        turned(gray, rng.choice([0, 90]) + rng.uniform(-12, 12)), (1.0, rng.uniform(0.96, 1.0), rng.uniform(0.92, 1.02))
    )


def cast_metal(rng: Rng, side: int) -> Image:
    """A cast or machined face: grain in relief, lit from one side, with arcs of the tool on some."""
    height = field(rng, side, rng.uniform(3, 7)) + 0.5 * field(rng, side, 14)
    light = rng.uniform(0, 2 * np.pi)
    dy, dx = np.gradient(height)
    gray = rng.uniform(0.35, 0.55) + rng.uniform(0.03, 0.06) * (np.cos(light) * dx + np.sin(light) * dy)
    if rng.random() < 0.5:
        cy, cx = rng.uniform(-0.5, 1.5, 2) * side
        y, x = np.mgrid[:side, :side].astype(np.float32)
        gray = gray + 0.025 * np.sin(np.hypot(y - cy, x - cx) * 2 * np.pi / rng.uniform(6, 14))
    return tinted(gray.astype(np.float32), (1.0, 0.99, rng.uniform(0.93, 1.0)))


def woven_fabric(rng: Rng, side: int) -> Image:
    pitch = rng.uniform(6, 11)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    x, y = x + 1.2 * field(rng, side, 40), y + 1.2 * field(rng, side, 40)
    warp, weft = np.sin(np.pi * x / pitch), np.sin(np.pi * y / pitch)
    over = (np.floor(x / pitch) + np.floor(y / pitch)) % 2
    threads = np.where(over > 0, np.abs(warp) ** 0.7, np.abs(weft) ** 0.7) + 0.15 * field(rng, side, 2.5)
    gray = rng.uniform(0.3, 0.5) + rng.uniform(0.10, 0.18) * (threads - 0.5)
    color = tuple(rng.uniform(0.6, 1.1, 3))
    return tinted(turned(gray.astype(np.float32), rng.uniform(-20, 20)), color)


def wood_grain(rng: Rng, side: int) -> Image:
    y, x = np.mgrid[:side, :side].astype(np.float32)
    rings = (y + 14 * field(rng, side, 90, 3) + 0.08 * x) / rng.uniform(9, 22)
    fibres = field(rng, side, 1.3, 25)
    gray = 0.55 + rng.uniform(0.05, 0.10) * np.sin(2 * np.pi * rings) + 0.03 * fibres + 0.04 * field(rng, side, 150)
    return tinted(
        turned(gray.astype(np.float32), rng.choice([0, 90]) + rng.uniform(-8, 8)),
        (1.05, rng.uniform(0.72, 0.85), rng.uniform(0.45, 0.62)),
    )


def printed_circuit(rng: Rng, side: int) -> Image:
    """Solder mask with traces at right angles and 45 degrees, pads and vias, on a grid."""
    base = tinted(np.full((side, side), 1.0, np.float32) + 0.03 * field(rng, side, 3), pcb_color(rng))
    copper = np.zeros((side, side), np.float32)
    grid = int(rng.integers(18, 30))
    for _ in range(int(rng.integers(14, 24))):
        draw_trace(rng, copper, grid, thickness=int(rng.integers(2, 6)))
    out = base * (1 + 0.55 * copper[..., None])
    pads = np.zeros((side, side), np.float32)
    for _ in range(int(rng.integers(10, 26))):
        draw_pad(rng, pads, grid)
    gold = np.asarray((0.78, 0.72, 0.55), np.float32) * (1 + 0.04 * field(rng, side, 4)[..., None])
    return np.clip(out * (1 - pads[..., None]) + gold * pads[..., None], 0, 1).astype(np.float32)


def pcb_color(rng: Rng) -> tuple[float, float, float]:
    colors = [(0.10, 0.32, 0.18), (0.10, 0.18, 0.36), (0.30, 0.10, 0.12), (0.14, 0.14, 0.15)]
    return colors[int(rng.integers(len(colors)))]


def draw_trace(rng: Rng, copper: Image, grid: int, thickness: int) -> None:
    cells = copper.shape[0] // grid
    point = rng.integers(0, cells + 1, 2) * grid
    direction = int(rng.integers(8))
    for _ in range(int(rng.integers(2, 6))):
        direction = (direction + int(rng.integers(-1, 2))) % 8
        step = np.array([(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)][direction])
        following = point + step * grid * int(rng.integers(1, 6))
        cv2.line(copper, point.tolist(), following.tolist(), 1.0, thickness, cv2.LINE_AA)
        point = following


def draw_pad(rng: Rng, pads: Image, grid: int) -> None:
    cells = pads.shape[0] // grid
    x, y = (rng.integers(0, cells + 1, 2) * grid).tolist()
    radius = int(rng.integers(4, 9))
    if rng.random() < 0.5:
        cv2.circle(pads, (x, y), radius, 1.0, -1, cv2.LINE_AA)
        cv2.circle(pads, (x, y), radius // 2, 0.0, -1, cv2.LINE_AA)
    else:
        cv2.rectangle(pads, (x - radius, y - radius // 2), (x + radius, y + radius // 2), 1.0, -1)


def painted_plastic(rng: Rng, side: int) -> Image:
    orange_peel = field(rng, side, rng.uniform(4, 9))
    gray = rng.uniform(0.35, 0.8) + 0.012 * orange_peel + 0.02 * field(rng, side, 200)
    return tinted(gray, tuple(rng.uniform(0.55, 1.05, 3)))


SURFACES: dict[str, Callable[[Rng, int], Image]] = {
    "brushed": brushed_metal,
    "cast": cast_metal,
    "fabric": woven_fabric,
    "wood": wood_grain,
    "circuit": printed_circuit,
    "plastic": painted_plastic,
}


def printed_mark(rng: Rng, side: int) -> Image:
    """Ink of one printed mark, 0..1: a frame or a ring around a code and a bar pattern, at any place and angle."""
    ink = np.zeros((side, side), np.uint8)
    center, radius = side // 2, int(side * rng.uniform(0.10, 0.17))
    line = int(rng.integers(3, 6))
    if rng.random() < 0.5:
        cv2.circle(ink, (center, center), radius, 255, line, cv2.LINE_AA)
    else:
        corner = (center - radius, center - int(radius * 0.7)), (center + radius, center + int(radius * 0.7))
        cv2.rectangle(ink, *corner, 255, line, cv2.LINE_AA)
    code = "".join(rng.choice(list("ABCEFHKLMNPRTUX0123456789"), 4))
    origin = (center - int(radius * 0.62), center)
    cv2.putText(ink, code, origin, cv2.FONT_HERSHEY_DUPLEX, radius / 62, 255, max(2, line - 1), cv2.LINE_AA)
    for bar in range(9):
        x = center - int(radius * 0.6) + bar * int(radius * 0.14)
        cv2.rectangle(
            ink, (x, center + int(radius * 0.2)), (x + int(radius * 0.08), center + int(radius * 0.48)), 255, -1
        )
    margin = 0.5 - 1.5 * radius / side
    shift = rng.uniform(-margin, margin, 2) * side
    matrix: Image = cv2.getRotationMatrix2D((center, center), rng.uniform(0, 360), 1.0)
    matrix[:, 2] += shift
    return cv2.warpAffine(ink.astype(np.float32) / 255, matrix, (side, side), flags=cv2.INTER_LINEAR)


def ink_color(rng: Rng, surface: Image, ink: Image) -> Image:
    """A colour that differs from the surface below by 0.15 to 0.5 in brightness."""
    below = float(surface[ink > 0.5].mean()) if (ink > 0.5).any() else float(surface.mean())
    step = rng.uniform(0.18, 0.5)
    level = below + step if below + step < 0.98 and (rng.random() < 0.5 or below < step + 0.03) else below - step
    return np.clip(level * rng.uniform(0.9, 1.1, 3), 0.02, 0.98).astype(np.float32)
