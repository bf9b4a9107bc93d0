"""A run's folder: what a training run leaves behind. In: a folder. Out: the run, to write into or to read.

    run.json          command, data set and its hash, recipe, versions of everything, device, processes, state
    metrics.json      validation and (after `evaluate --record`) test metrics, thresholds, pictures a second
    history.jsonl     one line an epoch
    train.log         what was printed
    events.*          the same curves for TensorBoard
    snapshot.pt       what an unfinished run goes on from; gone when it is done
    checkpoint.pt     the network; checkpoint.classifier.pt and checkpoint.decoders.pt as `train` says
    bundle/           after `export`

A finished run makes room for a new one of the same place: it stays beside it, as FOLDER.before, until that one is done.
Every file is written whole (disk.py): a run that is killed leaves the old file or the new one, never half.
A lock held by the process tells a running run from a killed one.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import io
import json
import logging
import platform
import secrets
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tensorboardX import SummaryWriter

from fcam_tools import __version__
from fcam_tools.common.disk import sync, write, writing
from fcam_tools.common.errors import ToolError

log = logging.getLogger(__name__)
PACKAGES = (
    "torch", "torchvision", "timm", "torchcam", "numpy", "scikit-learn", "opencv-python-headless", "pillow", "onnx",
    "onnxruntime",
)  # fmt: skip
CHECKPOINT, SNAPSHOT, LOCK, BUNDLE = "checkpoint.pt", "snapshot.pt", "lock", "bundle"
BEFORE = ".before"


def save(path: Path, content: object) -> None:
    """A torch file, written whole."""
    made = io.BytesIO()
    torch.save(content, made)
    write(path, made.getvalue())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write(path, (json.dumps(content, indent=1, default=str) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ToolError(f"cannot read {path}: {error}; is its folder a run that `fcam-tools train` made?") from error


def tool() -> str:
    """Version and hash of this package's source: what made a run, whether it came from git or not."""
    total = hashlib.sha256()
    own = Path(__file__).parents[1]
    for path in sorted(own.rglob("*.py")):
        total.update(path.relative_to(own).as_posix().encode() + path.read_bytes())
    return f"{__version__}+{total.hexdigest()[:12]}"


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


class Run:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock: io.TextIOWrapper | None = None
        self.events: SummaryWriter | None = None
        self.handler: logging.Handler | None = None

    @property
    def config(self) -> dict[str, Any]:
        return read_json(self.folder / "run.json")

    @property
    def metrics(self) -> dict[str, Any]:
        path = self.folder / "metrics.json"
        return read_json(path) if path.is_file() else {}

    @property
    def snapshot(self) -> Path:
        return self.folder / SNAPSHOT

    def update(self, **changes: Any) -> None:
        write_json(self.folder / "run.json", self.config | changes)

    def add_metrics(self, **found: Any) -> None:
        write_json(self.folder / "metrics.json", self.metrics | found)

    def open(self) -> None:
        """Take the lock and write logs; refused while another process trains here."""
        self.lock = open(self.folder / LOCK, "w")  # noqa: SIM115 the run holds it until it ends
        if not taken(self.lock):
            raise ToolError(f"{self.folder} is being trained by another process: wait for it, or stop it")
        try:
            self.start_logs()
        except OSError as error:
            raise ToolError(
                f"cannot write logs into {self.folder}: {error.strerror}; make room, or choose another place"
            ) from error

    def start_logs(self) -> None:
        self.handler = logging.FileHandler(self.folder / "train.log")
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logging.getLogger("fcam_tools").addHandler(self.handler)
        self.events = SummaryWriter(str(self.folder))

    def epoch(self, stage: str, epoch: int, values: Mapping[str, float]) -> None:
        """One epoch into the history and TensorBoard; an epoch that a killed run repeats replaces its first line."""
        path = self.folder / "history.jsonl"
        told = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        told = [entry for entry in told if (entry["stage"], entry["epoch"]) != (stage, epoch)]
        told.append({"stage": stage, "epoch": epoch, **values})
        write(path, "".join(json.dumps(entry) + "\n" for entry in told).encode())
        if self.events:
            for name, value in values.items():
                self.events.add_scalar(f"{stage}/{name}", value, epoch)
            self.events.flush()

    def note_bug(self) -> None:
        """Writes the exception that is being handled, with its traceback, into the run's log."""
        if self.handler:
            what = ("training ended by a bug", (), sys.exc_info())
            self.handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, *what))

    def finish(self) -> None:
        """Marks the run as done, and removes its snapshot and the finished run that it replaces."""
        self.update(state="done", finished=time.strftime("%Y-%m-%d %H:%M:%S"))
        self.snapshot.unlink(missing_ok=True)
        shutil.rmtree(before(self.folder), ignore_errors=True)

    def close(self) -> None:
        if self.events:
            self.events.close()
        if self.handler:
            logging.getLogger("fcam_tools").removeHandler(self.handler)
            self.handler.close()
        if self.lock:
            self.lock.close()

    def state(self) -> str:
        """done, running, or stopped (killed or failed: `train --resume` goes on)."""
        if self.config.get("state") == "done":
            return "done"
        with open(self.folder / LOCK, "a") as lock:
            return "stopped" if taken(lock) else "running"


def taken(lock: io.TextIOWrapper) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def create(folder: Path, config: Mapping[str, Any]) -> Run:
    """A new run folder; one with an unfinished run is refused, a finished one is set aside until this one is done."""
    if (folder / "run.json").is_file():
        old = Run(folder)
        if old.state() != "done":
            raise ToolError(
                f"{folder} holds an unfinished run ({old.state()}): go on with `train --resume {folder}`, or remove it"
            )
        set_aside(folder)
    elif folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ToolError(f"{folder} exists and is no run: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    made = {"id": secrets.token_hex(3), "created": time.strftime("%Y-%m-%d %H:%M:%S"), "state": "started"}
    write_json(folder / "run.json", made | dict(config) | {"tool": tool(), "versions": versions()})
    return Run(folder)


def before(folder: Path) -> Path:
    """Where the finished run lies that a new one in this folder replaces."""
    return folder.with_name(folder.name + BEFORE)


def set_aside(folder: Path) -> None:
    """Renames a finished run to its place aside; an older one there is removed."""
    place = before(folder)
    if place.exists() and not (place / "run.json").is_file():
        raise ToolError(f"{place} is in the way and is no run: move it, or choose another --out")
    try:
        if place.exists():
            shutil.rmtree(place)
        folder.rename(place)
        sync(folder.parent)
    except OSError as error:
        raise ToolError(f"cannot rename {folder} to {place}: {error.strerror}; choose another --out") from error


def new_folder(root: Path, name: str) -> Path:
    return root / f"{time.strftime('%Y%m%d-%H%M')}-{name}-{secrets.token_hex(3)}"


def beside(out: Path) -> Path:
    """The run folder of a checkpoint that `train --out X.pt` writes."""
    return out.with_suffix(".run")


def run_of(checkpoint: Path) -> Run | None:
    """The run that a checkpoint belongs to, if its folder is there. While another one trains in its place, a checkpoint
    is still that of the run before."""
    for folder in (checkpoint, checkpoint.parent, beside(checkpoint)):
        found = [Run(place) for place in (folder, before(folder)) if (place / "run.json").is_file()]
        if found:
            return next((run for run in found if run.config.get("state") == "done"), found[0])
    return None


def checkpoint_in(path: Path) -> Path:
    """A checkpoint file, given itself or its run folder."""
    return path / CHECKPOINT if path.is_dir() and (path / CHECKPOINT).is_file() else path


def keep_bundle(checkpoint: Path, bundle: Path) -> None:
    """A copy of an exported bundle in the run folder of its checkpoint, if there is one."""
    run = run_of(checkpoint)
    if run is None or bundle.resolve() == (run.folder / BUNDLE).resolve():
        return
    shutil.rmtree(run.folder / BUNDLE, ignore_errors=True)
    with writing(run.folder / BUNDLE, f"make room, and copy {bundle} there"):
        shutil.copytree(bundle, run.folder / BUNDLE)
