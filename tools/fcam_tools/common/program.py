"""The camera's own program on this machine, `fcam`. In: nothing, or pictures. Out: where it is; what it says of them.

A picture that no camera would judge is refused here too, by the camera's own rules: `fcam pictures` decodes it as a
station does.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from fcam_tools.common.errors import ToolError

log = logging.getLogger(__name__)

TARGET = Path(__file__).resolve().parents[3] / "target"
BUILT = tuple(TARGET / profile / "fcam" for profile in ("debug", "release"))
BATCH = 32  # pictures that one process decodes: far more than its start costs, few enough to see how far it is
BATCH_S = 600.0  # seconds that a batch may take


def find_fcam() -> Path | None:
    """$FCAM, else the build of this checkout, else the one on PATH."""
    if os.environ.get("FCAM"):
        return Path(os.environ["FCAM"])
    on_path = shutil.which("fcam")
    built = next((program for program in BUILT if program.is_file()), None)
    return built or (Path(on_path) if on_path else None)


@functools.cache
def decoder(fcam: Path | None) -> Path | None:
    """The program, if it has the verb `pictures`; if not, None, and one warning that says what is not checked then."""
    why = "there is no fcam here (cargo build, or FCAM=/path/to/fcam)" if fcam is None else lacks_pictures(fcam)
    if why:
        log.warning("%s: pictures are read by Pillow alone, which takes some damaged ones for whole", why)
    return None if why else fcam


def lacks_pictures(fcam: Path) -> str:
    """Why a program cannot be asked, empty if it can."""
    try:
        asked = subprocess.run([fcam, "pictures", "--help"], capture_output=True, timeout=BATCH_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{fcam} does not run ({error})"
    return f"{fcam} is too old, it has no `pictures`" if asked.returncode else ""


def refused(paths: Sequence[Path], progress: bool) -> dict[Path, str]:
    """The pictures that the camera's decoder refuses, each with its reason."""
    fcam = decoder(find_fcam())
    if fcam is None:
        return {}
    found: dict[Path, str] = {}
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(desc="decoding", total=len(paths), unit="picture", disable=not progress) as bar,
    ):
        batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
        for batch, problems in zip(batches, pool.map(functools.partial(ask, fcam), batches), strict=True):
            found |= {path: problem for path, problem in zip(batch, problems, strict=True) if problem}
            bar.update(len(batch))
    return found


def refuse_damaged(paths: Sequence[Path], progress: bool) -> None:
    """Refuses the first picture that the camera would refuse."""
    for problem in refused(paths, progress).values():
        raise ToolError(f"the camera {problem}; remove or replace it")


def ask(fcam: Path, paths: Sequence[Path]) -> list[str]:
    """The problem of each picture, empty for one that is whole."""
    command = [str(fcam), "pictures", "--json", "--", *map(str, paths)]
    shown = f"`{fcam} pictures` on {paths[0]} and {len(paths) - 1} more"
    try:
        done = subprocess.run(command, capture_output=True, timeout=BATCH_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"cannot run {shown}: {error}") from error
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    if done.returncode not in (0, 1) or len(lines) != len(paths):
        said = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise ToolError(f"{shown} ended with {done.returncode} after {len(lines)} lines: {said or 'no word'}")
    return [json.loads(line)["problem"] or "" for line in lines]
