"""What a network sees of a picture. In: pictures. Out: their pixels at its input's size, moved to where a template lies
if it has one, and maps moved back.

The camera's program finds the part and moves it (`fcam locate`): training sees what the camera will see.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from fcam_tools.common.disk import scratch
from fcam_tools.common.errors import ToolError
from fcam_tools.common.program import find_fcam
from fcam_tools.data.dataset import Picture
from fcam_tools.data.reading import read_pictures, stored

log = logging.getLogger(__name__)

POSED = 0.5  # of half of the good pictures with their template: parts in a fixture have 0.7 to 0.97, surfaces 0.3
TAUGHT = 100  # good pictures that make a template, evenly taken
BATCH = 32  # pictures that one process finds the part in
BATCH_S = 600.0  # seconds that a batch may take
# The agreement below which a camera says that there is no part: below that of every known picture by these shares.
BELOW_GOOD, BELOW_ALL = 0.6, 0.8


class Pose(NamedTuple):
    """Shift in pixels of the input and turn in degrees of a part against the template; `agreement` is -1 to 1."""

    right: float
    down: float
    turn: float
    agreement: float


@dataclass(frozen=True)
class Template:
    """Where parts lie: uint8 [H, W, 3] of the input's size, and how far a part may lie from it (`fcam locate`)."""

    pixels: NDArray[np.uint8]
    shift: float
    turn: float
    agreement: float = 0.0


@dataclass(frozen=True)
class Sight:
    """`size` (width, height) of the network's input."""

    size: tuple[int, int]
    template: Template | None = None
    poses: dict[Path, Pose] = field(default_factory=dict, compare=False)  # of the pictures that were read

    def read(self, path: Path) -> np.ndarray:
        """uint8 [height, width, 3]."""
        return self.read_all([Picture(path, 0)], progress=False)[0]

    def read_all(self, pictures: Sequence[Picture], progress: bool = True) -> np.ndarray:
        """uint8 [N, height, width, 3]."""
        if self.template is None:
            return read_pictures(pictures, self.size, progress)
        out = np.empty((len(pictures), self.size[1], self.size[0], 3), np.uint8)
        with scratch("fcam-locate-") as folder:
            file = folder / "template.png"
            Image.fromarray(self.template.pixels).save(file)
            starts = range(0, len(pictures), BATCH)
            parts = [[picture.path for picture in pictures[start : start + BATCH]] for start in starts]
            ask = functools.partial(moved, self.template, file)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                found = pool.map(ask, parts, (folder / str(start) for start in starts))
                bar = tqdm(found, "locating", len(parts), unit="batch", disable=not progress)
                for start, part, batch in zip(starts, parts, bar, strict=True):
                    for index, (pixels, pose) in enumerate(batch):
                        out[start + index] = pixels
                        self.poses[part[index]] = pose
        return out

    def is_found(self, path: Path) -> bool:
        """False if the camera would say that there is no part in a picture that was read."""
        return self.template is None or self.poses[path].agreement >= self.template.agreement

    def back(self, path: Path, found: NDArray[Any]) -> NDArray[Any]:
        """A map [H, W] of the network as the picture, which was read, has it; zero where the template is not."""
        if self.template is None:
            return found
        how = matrix(self.size, self.poses[path])
        return cv2.warpAffine(found, how, self.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    def answer(self, path: Path, score: float, found: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        """What a camera makes of a network's score and map of a picture: without a part it rejects."""
        return (score if self.is_found(path) else 1.0), self.back(path, found)


def matrix(size: tuple[int, int], pose: Pose) -> NDArray[np.float64]:
    """From the template's pixels to the picture's: a turn about the middle, then a shift."""
    turn = math.radians(pose.turn)
    cos, sin, x, y = math.cos(turn), math.sin(turn), (size[0] - 1) / 2, (size[1] - 1) / 2
    rows = [[cos, -sin, x - cos * x + sin * y + pose.right], [sin, cos, y - sin * x - cos * y + pose.down]]
    return np.array(rows)


def moved(template: Template, file: Path, paths: Sequence[Path], out: Path) -> list[tuple[np.ndarray, Pose]]:
    """Each picture as the camera's network sees it, and where its part lies."""
    reach = ["--shift", str(template.shift), "--turn", str(template.turn), "--agreement", "0"]
    lines = asked(["--template", str(file), *reach, "--out", str(out)], paths)
    found = []
    for line in lines:
        if line["problem"]:
            raise ToolError(f"the camera {line['problem']}; remove or replace it")
        pose = Pose(line["right"], line["down"], line["turn"], line["agreement"])
        found.append((np.asarray(stored(Path(line["input"]))), pose))
        Path(line["input"]).unlink()
    return found


def asked(words: Sequence[str], paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The lines of `fcam locate`; an error where it cannot be asked."""
    fcam = find_fcam()
    if fcam is None:
        raise ToolError(
            "parts lie in one pose here, and only the camera's program finds it: build fcam (cargo build), or say "
            "where it is (FCAM=/path/to/fcam)"
        )
    command = [str(fcam), "locate", "--json", *words, "--", *map(str, paths)]
    shown = f"`{fcam} locate` on {paths[0]} and {len(paths) - 1} more"
    try:
        done = subprocess.run(command, capture_output=True, timeout=BATCH_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"cannot run {shown}: {error}") from error
    if done.returncode not in (0, 1):
        said = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise ToolError(f"{shown} ended with {done.returncode}: {said or 'no word'}; take the fcam of this release")
    return [json.loads(line) for line in done.stdout.decode("utf-8", "replace").splitlines()]


def sight_of(
    size: tuple[int, int], good: Sequence[Picture], rejects: Sequence[Picture], wanted: str, progress: bool
) -> Sight:
    """How to see parts of which these are known. `wanted`: auto, yes or no, whether places are to be compared."""
    if wanted == "no" or len(good) < 2:
        return Sight(size)
    if wanted == "auto" and find_fcam() is None:
        log.warning(
            "there is no fcam here (cargo build, or FCAM=/path/to/fcam): whether parts lie in one pose is not "
            "known, and missing or shifted pieces of them are told worse"
        )
        return Sight(size)
    some = good[:: max(1, len(good) // TAUGHT)]
    template, agreement = taught(size, some)
    if template is None or (wanted == "auto" and agreement < POSED):
        if wanted == "yes":
            raise ToolError("the good pictures show nothing that could be found again: leave out --place yes")
        return Sight(size)
    found = Sight(size, template)
    lowest = [lowest_of(found, part, progress) for part in (good, rejects)]
    least = min(lowest[0] * BELOW_GOOD, min(lowest) * BELOW_ALL)
    log.info(
        "parts lie in one pose: half of the good pictures agree with their mean by %.2f or more, the camera takes "
        "less than %.2f for no part",
        agreement,
        least,
    )
    return Sight(size, Template(template.pixels, template.shift, template.turn, max(0.0, least)))


def lowest_of(sight: Sight, pictures: Sequence[Picture], progress: bool) -> float:
    sight.read_all(pictures, progress)
    return min((sight.poses[picture.path].agreement for picture in pictures), default=1.0)


def taught(size: tuple[int, int], good: Iterable[Picture]) -> tuple[Template | None, float]:
    """The template of good pictures, none if they are plain; and by how much half of them agree with it."""
    with scratch("fcam-teach-") as folder:
        file = folder / "template.png"
        try:
            (line,) = asked(["--teach", str(file), "--size", f"{size[0]}x{size[1]}"], [p.path for p in good])
        except ToolError as error:
            if "too plain or too small" in str(error):
                return None, 0.0
            raise
        return Template(np.asarray(stored(file).convert("RGB")), line["shift"], line["turn"]), float(line["agreement"])
