"""What good parts look like, for a camera that tells when its pictures change. In: a bundle and its pictures. Out: the
manifest's `[drift]`.

The camera's program measures them (`fcam drift --teach`), on the bundle's own network and input: what is taught is what
it compares.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fcam_tools.common.errors import ToolError
from fcam_tools.common.program import find_fcam
from fcam_tools.data import Dataset

log = logging.getLogger(__name__)

LEAST = 20  # pictures that a reference needs, as the program has it
MOST = 400  # more say nothing new
TEACH_S = 1800.0  # seconds that the program may take


def drift(bundle: Path, dataset: Dataset) -> dict[str, Any]:
    """The reference of the good pictures, under its name in the manifest; nothing where there can be none."""
    fcam = find_fcam()
    if fcam is None:
        log.warning("there is no fcam here (cargo build, or FCAM=/path/to/fcam): the bundle tells no drift")
        return {}
    paths, unseen = good_pictures(dataset)
    if len(paths) < LEAST:
        log.info("%d good pictures are too few to tell drift by, %d would do", len(paths), LEAST)
        return {}
    return {"drift": taught(fcam, bundle, paths, unseen)}


def good_pictures(dataset: Dataset) -> tuple[list[Path], bool]:
    """Held out from training if there are enough, whose scores count too; else all but those of the test split."""
    good = dataset.classes.index(dataset.ok)
    of = {split: [p.path for p in dataset.splits[split] if p.label == good] for split in ("train", "val")}
    unseen = len(of["val"]) >= LEAST
    paths = of["val"] if unseen else of["train"] + of["val"]
    return paths[:: -(-len(paths) // MOST) or 1], unseen


def taught(fcam: Path, bundle: Path, paths: Sequence[Path], unseen: bool) -> dict[str, Any]:
    words = ["--teach", "--json", "--bundle", str(bundle), *([] if unseen else ["--no-score"])]
    command = [str(fcam), "drift", *words, "--", *map(str, paths)]
    shown = f"`{fcam} drift --teach` on {paths[0]} and {len(paths) - 1} more"
    try:
        done = subprocess.run(command, capture_output=True, timeout=TEACH_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"cannot run {shown}: {error}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise ToolError(f"{shown} ended with {done.returncode}: {said or 'no word'}; take the fcam of this release")
    return json.loads(done.stdout)
