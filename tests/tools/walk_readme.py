"""Walks tools/README.md as a new user does, from two folders of pictures to a bundle that judges: `./dev readme`.

The commands are those of the page: the lines of each fenced block under `MARK`, in their order and as they stand. Two
of them get what `FEWER` names, so that they end in minutes. They run in a folder of links to the checkout, where
PICTURES, NEW_PICTURES and STATION.toml, which the page leaves to the user, are made here; `./dev` and `cargo` run in
the checkout itself, because cargo would build a linked one anew. In the end the pictures that no training has seen must
be judged, and most of them right.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "tools/README.md"
MARK = "<!-- ./dev readme runs these commands -->"
FEWER = {
    "train": "--window 64 --windows 12 --outline-steps 60 --label-steps 40",
    "pilot": "--folds 2 --window 64 --windows 12 --outline-steps 40 --label-steps 30",
}
SIDE, COUNT, NEW = 128, 50, 8  # pixels; pictures of each side, to learn from and afterwards


class WalkError(Exception):
    """A command of the page that does not work, or what the last one left."""


def commands(page: str) -> list[str]:
    """Each command of the marked blocks; one that goes on behind a backslash is one."""
    found: list[str] = []
    for after in page.split(MARK)[1:]:
        block = re.match(r"\s*```[a-z]*\n(.*?)\n```", after, re.DOTALL)
        if not block:
            raise WalkError(f"no fenced block follows a mark: {after[:60]!r}")
        found += filter(str.strip, block[1].replace("\\\n", " ").splitlines())
    return found


def shortened(command: str) -> str:
    """With fewer steps, where a verb of the host tool takes long."""
    words = shlex.split(command, comments=True)
    verb = words[1] if len(words) > 1 and words[0].endswith("fcam-tools") else ""
    return f"{shlex.join(words)} {FEWER[verb]}" if verb in FEWER else command


def picture(rng: np.random.Generator, defective: bool) -> Image.Image:
    """A part: a ring on a grey, grained plate. Its defect: a dark blob somewhere on the plate."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    ring = np.exp(-((np.hypot(x - SIDE / 2, y - SIDE / 2) - SIDE / 4) ** 2) / 8)
    light = 140 + 40 * ring + rng.uniform(-6, 6)
    if defective:
        at = rng.uniform(SIDE / 6, SIDE - SIDE / 6, 2)
        light -= 90 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * rng.uniform(4, 7) ** 2))
    grain = rng.normal(0, 4, (SIDE, SIDE, 1))
    return Image.fromarray((light[..., None] + grain + np.zeros(3)).clip(0, 255).astype(np.uint8))


def make_pictures(folder: Path, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name in ("ok", "ng"):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            picture(rng, name == "ng").save(folder / name / f"{name}_{index:03}.png")


def prepare(place: Path) -> None:
    """The checkout by links, and what the page leaves to the user."""
    place.mkdir(exist_ok=True)
    own = {"out", "PICTURES", "NEW_PICTURES", "STATION.toml"}
    for name in {entry.name for entry in ROOT.iterdir()} - own | {".venv", "target"}:  # these two may be made yet
        (place / name).symlink_to(ROOT / name)
    make_pictures(place / "PICTURES", COUNT, seed=1)
    make_pictures(place / "NEW_PICTURES", NEW, seed=2)
    shutil.copy(ROOT / "board/station.example.toml", place / "STATION.toml")


def run(command: str, place: Path) -> str:
    """One command, told and timed; returns its standard output."""
    print(f"\n$ {command}", flush=True)
    began = time.monotonic()
    where = ROOT if command.startswith(("./dev ", "cargo ")) else place
    done = subprocess.run(["sh", "-c", command], cwd=where, stdout=subprocess.PIPE, text=True)
    print(done.stdout[-2000:] + f"({time.monotonic() - began:.0f} s)", flush=True)
    if done.returncode:
        raise WalkError(f"exit code {done.returncode} of: {command}")
    return done.stdout


def judged_right(lines: str) -> dict[str, int]:
    """Of the JSON lines of `fcam replay`: how many pictures of each side have the verdict that they should."""
    right = {"ok": 0, "ng": 0}
    for line in filter(lambda line: line.startswith("{"), lines.splitlines()):
        told = json.loads(line)
        side = Path(told["picture"]).parent.name
        right[side] += told["verdict"] == {"ok": "pass", "ng": "reject"}[side]
    return right


def walk(page: str, place: Path) -> None:
    prepare(place)
    replayed = ""
    for command in commands(page):
        said = run(shortened(command), place)
        replayed = said if " replay " in command else replayed
    right = judged_right(replayed)
    print(f"\nof {NEW} new good parts {right['ok']} are judged right, of {NEW} bad ones {right['ng']}")
    if min(right.values()) <= NEW // 2:
        raise WalkError("the bundle does not judge")


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fcam-readme-") as folder:
        try:
            walk(PAGE.read_text(), Path(folder))
        except WalkError as why:
            print(f"tools/README.md: {why}", file=sys.stderr)
            return 1
    print(f"the commands of tools/README.md work ({time.monotonic() - began:.0f} s, {os.cpu_count()} cores)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
