"""Pictures with image labels. In: a folder of pictures, or a published set's name and place. Out: a `Dataset`.

A source is
- `PATH`: one's own pictures, `PATH/{train,val,test}/<class>/...` or `PATH/ok/...` with `PATH/<defect>/...` (tree.py),
- `NAME:PATH` or `NAME:PATH#OPTION`: a published set (known.py has names, layouts and licences); plain `elpv` too.

A layout is never guessed. The licence of a published set is printed to stderr each time it is loaded. No mask and no
box is handed out here (`fcam_tools.judge.truth` does, to `evaluate`): training cannot reach the pixels' truth.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fcam_tools.common.errors import ToolError
from fcam_tools.data.dataset import SPLITS, Dataset, Picture, checked
from fcam_tools.data.known import KNOWN
from fcam_tools.data.reading import SUFFIXES, read_picture, read_pictures
from fcam_tools.data.sight import Sight
from fcam_tools.data.split import split_of
from fcam_tools.data.tree import MASKS, OK_NAMES, is_ok, load_tree

__all__ = [
    "KNOWN",
    "MASKS",
    "OK_NAMES",
    "SPLITS",
    "SUFFIXES",
    "Dataset",
    "Picture",
    "Sight",
    "is_ok",
    "licence_of",
    "load",
    "read_picture",
    "read_pictures",
    "split_of",
]

HELP = "folder of pictures, or NAME:PATH of a published set: " + ", ".join(KNOWN)


def load(source: str, ok_needed: bool = False, good_alone: bool = False) -> Dataset:
    """A data set by folder or by name. `ok_needed`: refuse one without OK pictures (sets of things have none).
    `good_alone`: take a folder of good pictures without any reject (made_up.py adds defects to what is held out)."""
    name, root, option = parse(source)
    if name:
        print(KNOWN[name].notice(), file=sys.stderr)
    dataset = KNOWN[name].load(root, option) if name else load_tree(root, option, good_alone)
    return checked(dataset, ok_needed)


def licence_of(dataset: Dataset) -> str:
    """A published set's terms and whom to cite, in one line; empty for one's own pictures."""
    return KNOWN[dataset.layout].notice() if dataset.layout in KNOWN else ""


def parse(source: str) -> tuple[str, Path, str]:
    """Name (empty for one's own pictures), folder and option of a source."""
    if source == "elpv":
        return "elpv", Path(), ""
    if Path(source).is_dir():
        return "", Path(source), ""
    name, colon, rest = source.partition(":")
    if not colon or name not in KNOWN:
        raise ToolError(
            f"{source} is neither a folder nor a known data set: give a folder of pictures, elpv, or NAME:PATH with "
            f"one of {', '.join(KNOWN)}"
        )
    path, _, option = rest.partition("#")
    if not path or not Path(path).is_dir():
        raise ToolError(f"{path or source} is no folder: {name} expects {KNOWN[name].layout}")
    return name, Path(path), option
