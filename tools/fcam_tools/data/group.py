"""Which pictures belong together. In: file names. Out: a key that pictures of one part, folder or day share.

Several views of one part, or shots of one day, are near copies for a classifier: all of a group fall in one split.
The rule, on a file's name without its suffix, in any case:

1. part: a word for a part with a number (`part_0123_a`, `sn17-top`, `kos05`), a number with a view (`0123_top`,
   `0123_b`, `0123_view2`), or a camera with a number (`cam1_0123_top`: all cameras' pictures of 0123),
2. folder: a folder inside the class's folder (`ok/shift3/0001.png`),
3. day: a date (`2024-05-01_0007`, `IMG_20240501_101500`).

A set is grouped by the first of the three that gives at least `FEWEST` groups: fewer could not fill three splits. A
picture whose name tells nothing is on its own.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fcam_tools.data.dataset import Picture

log = logging.getLogger(__name__)

FEWEST = 10

WORD = r"part|item|piece|unit|sample|specimen|serial|sn|board|panel|wafer|tile|cell|kos"
VIEW = r"[a-z]|(?:cam|camera|view|frame|shot|img|side|angle|pos)[-_ ]?\d*|top|bottom|left|right|front|back"
PART = (
    re.compile(rf"(?<![a-z0-9])(?:{WORD})[-_ ]?(\d+)(?!\d)"),
    re.compile(rf"^(\d+)[-_ ](?:{VIEW})$"),
    re.compile(r"^(?:cam|camera)[-_ ]?\d+[-_ ](\d+)(?![0-9])"),
)
DAY = re.compile(r"(?<!\d)(20\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?=\D|\d{6}(?!\d)|$)")
KINDS = ("part", "folder", "day")


def part(name: str) -> str:
    """The part's number in a file name, or nothing."""
    found = next((m for pattern in PART if (m := pattern.search(name.lower()))), None)
    return found.group(1) if found else ""


def day(name: str) -> str:
    """The day in a file name as YYYY-MM-DD, or nothing."""
    found = DAY.search(name)
    return "-".join(found.groups()) if found else ""


def keys(path: Path, folder: Path) -> dict[str, str]:
    """A picture's key of each kind; `folder` is its class's."""
    inside = path.parent.relative_to(folder).as_posix()
    return {"part": part(path.stem), "folder": "" if inside == "." else inside, "day": day(f"{inside}/{path.stem}")}


def grouped(pictures: Sequence[Picture], folders: Sequence[Path], splitting: bool = True) -> list[Picture]:
    """The pictures with their groups; `folders[i]` is the folder of picture i's class. `splitting`: groups that are too
    few are worth a warning."""
    found = [keys(picture.path, folder) for picture, folder in zip(pictures, folders, strict=True)]
    for kind in KINDS:
        distinct = {keys_[kind] for keys_ in found} - {""}
        if len(distinct) >= FEWEST:
            return [
                replace(picture, group=f"{kind}:{keys_[kind]}") if keys_[kind] else picture
                for picture, keys_ in zip(pictures, found, strict=True)
            ]
        if len(distinct) > 1 and splitting:
            log.warning("names tell of %d %ss, too few to split by (%d are needed)", len(distinct), kind, FEWEST)
    return list(pictures)
